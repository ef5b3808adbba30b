"""Whether a place can fence: whether creating a name there succeeds once. Found by trying, since some servers ignore the condition."""

from __future__ import annotations

from os import urandom
from typing import Final

from holdfast.errors import ObjectExists, ObjectMissing, StoreUnfenced
from holdfast.folders.encrypted import EncryptedFolder
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.protocol import Folder

#: How the object begins that is created twice, and then deleted.
PROBE: Final = ".holdfast-probe-"

#: Places that this process has found to fence.
_fenced: set[object] = set()


async def check_fence(folder: Folder) -> None:
    """Create one new name twice with different bytes, look which of them are there, and delete it.

    Raises:
        StoreUnfenced: Both creations were accepted, or the second one took effect; or it is known beforehand that they would be.
        StoreError: The place can't be used at all.
    """
    reason = folder.unfenced or await _tried(folder)
    if reason is not None:
        raise StoreUnfenced(where=folder.url, reason=reason)


async def check_fence_once(folder: Folder) -> None:
    """`check_fence`, tried once in a process for each place. A disk is not tried: what can't link there says so when it should.

    Raises: as `check_fence`.
    """
    if folder.unfenced is None and (folder.logs is not None or _place(folder) in _fenced):
        return
    await check_fence(folder)
    if (place := _place(folder)) is not None:
        _fenced.add(place)


async def _tried(folder: Folder) -> str | None:
    """Why the place does not fence, or None."""
    key, first, second = f"{PROBE}{urandom(8).hex()}", urandom(16), urandom(16)
    await folder.create(key, first)
    try:
        try:
            await folder.create(key, second)
        except ObjectExists:
            pass  # as it has to be
        else:
            return "it lets the same name be created twice, so two owners of a run could not be told apart"
        try:
            found = await folder.get(key)
        except ObjectMissing:
            return "what was created there can't be read back at once"
        return None if found == first else "it refuses to create the same name twice, and takes the second one's bytes all the same"
    finally:
        await folder.delete(key)


def _place(folder: Folder) -> object | None:
    """What is equal for folders of one place; None where that is not known."""
    while isinstance(folder, EncryptedFolder):
        folder = folder.inner
    return folder.place if isinstance(folder, ObjectFolder) else None
