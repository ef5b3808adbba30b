"""Whether a place can fence: found by trying."""

from __future__ import annotations

from weakref import WeakSet

from holdfast.folders.protocol import Folder


async def check_fence(folder: Folder) -> None:
    """Raises: StoreUnfenced."""


_fenced: WeakSet[Folder] = WeakSet()


async def check_fence_once(folder: Folder) -> None:
    """The same, once for each opening of a place; a disk says so itself, when it refuses a link. Raises: StoreUnfenced, StoreError."""
    if folder.logs is None and folder not in _fenced:
        await check_fence(folder)
        _fenced.add(folder)
