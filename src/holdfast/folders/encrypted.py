"""A `Folder` that keeps what it is given encrypted, in any other: names, sizes and times are seen by all, contents by who has a key.

An object is encrypted once for each `put` or `create`, before the folder below asks its store, as often as it has to: so it knows its
own bytes again where an answer was lost. Names stay what they are; a blob's is the digest of its plain content.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from holdfast.errors import JournalTooNew, NotEncrypted, ObjectMissing, WrongKey
from holdfast.folders.ciphers import DAMAGED, Keys, plain_size
from holdfast.folders.protocol import Entry, Folder, Hold, Log, Logs
from holdfast.folders.threads import in_thread

#: What is longer is encrypted in a thread: below, the way there takes longer than the work.
ON_THE_LOOP: Final = 1 << 20


class EncryptedFolder:
    """What lies in `inner`, for those who have the keys.

    Args:
        inner: The store's own folder, not a child of it: an object can be read only under the path that it was written to.
        keys: Of the whole store, as `Keys` takes them.

    Raises:
        InvalidOption: The keys are none.
        MissingExtra: `cryptography` is not installed.
    """

    url: str
    inner: Folder

    def __init__(self, inner: Folder, keys: Keys | bytes | str | Sequence[bytes | str]) -> None:
        self.url = inner.url
        self.inner = inner
        self._keys = keys if isinstance(keys, Keys) else Keys(keys)
        self._path = ""

    @property
    def logs(self) -> Logs | None:
        logs = self.inner.logs
        return None if logs is None else EncryptedLogs(logs, self)

    @property
    def unfenced(self) -> str | None:
        return self.inner.unfenced

    def child(self, prefix: str) -> EncryptedFolder:
        seen = copy.copy(self)  # with the same keys
        seen.inner = self.inner.child(prefix)
        seen._path, seen.url = f"{self._path}{prefix}/", seen.inner.url
        return seen

    async def get(self, key: str) -> bytes:
        data = await self.inner.get(key)
        return await _worked(len(data), partial(self.decrypted, key, data))

    async def put(self, key: str, data: bytes, *, sync: bool = True) -> None:
        await self.inner.put(key, await _worked(len(data), partial(self.encrypted, key, data)), sync=sync)

    async def create(self, key: str, data: bytes, *, sync: bool = True) -> None:
        await self.inner.create(key, await _worked(len(data), partial(self.encrypted, key, data)), sync=sync)

    async def delete(self, *keys: str) -> None:
        await self.inner.delete(*keys)

    async def delete_tree(self, prefix: str) -> None:
        await self.inner.delete_tree(prefix)

    async def stat(self, key: str) -> Entry | None:
        found = await self.inner.stat(key)
        return None if found is None else _plain(found)

    async def touch(self, key: str) -> None:
        await self.inner.touch(key)

    async def list(self, prefix: str) -> Sequence[Entry]:
        return tuple(_plain(entry) for entry in await self.inner.list(prefix))

    async def walk(self, prefix: str) -> Sequence[Entry]:
        return tuple(_plain(entry) for entry in await self.inner.walk(prefix))

    async def aclose(self) -> None:
        await self.inner.aclose()

    def encrypted(self, key: str, text: bytes, offset: int = 0) -> bytes:
        """What is written for `text` at byte `offset` of the object `key`."""
        return self._keys.encrypt(text, f"{self._path}{key}", offset)

    def decrypted(self, key: str, data: bytes) -> bytes:
        """What the bytes of the object `key` stand for. Raises: WrongKey, NotEncrypted, JournalTooNew."""
        return self._keys.decrypt(data, f"{self._path}{key}", self.where(key))

    def where(self, key: str) -> str:
        """What to call `key` in a message."""
        return f"{self.url.rstrip('/')}/{key}"

    async def length(self, key: str) -> int:
        """How long the object is as it lies there. Raises: ObjectMissing."""
        found = await self.inner.stat(key)
        if found is None:
            raise ObjectMissing(where=self.where(key))
        return found.size


class EncryptedLogs:
    """Logs of encrypted records, and holds that tell only who has the keys who has them."""

    def __init__(self, inner: Logs, folder: EncryptedFolder) -> None:
        self._inner = inner
        self._folder = folder

    async def open_log(self, key: str) -> Log:
        log = await self._inner.open_log(key)
        try:
            return EncryptedLog(log, self._folder, key, await self._folder.length(key))
        except BaseException:
            log.close()
            raise

    async def hold(self, key: str, who: bytes) -> Hold | bytes:
        held = await self._inner.hold(key, self._folder.encrypted(key, who))
        return self._who(key, held) if isinstance(held, bytes) else held

    async def held(self, key: str) -> bytes | None:
        held = await self._inner.held(key)
        return None if held is None else self._who(key, held)

    async def discard_unfinished(self, before: float, *, dry_run: bool = False) -> int:
        return await self._inner.discard_unfinished(before, dry_run=dry_run)

    def _who(self, key: str, held: bytes) -> bytes:
        """Who holds it; nothing, where that is still being written, or is not for us to read."""
        try:
            who = self._folder.decrypted(key, held)
        except (WrongKey, NotEncrypted, JournalTooNew):
            return b""
        return b"" if who == DAMAGED else who


class EncryptedLog:
    """A log, one record for each write. It goes on from where the object ended when it was opened: it has one writer at a time."""

    def __init__(self, inner: Log, folder: EncryptedFolder, key: str, length: int) -> None:
        self._inner = inner
        self._folder = folder
        self._key = key
        self._length = length

    def append(self, data: bytes, *, sync: bool) -> None:
        # without data it is a sync. After a write that failed, another one stands elsewhere than it says: a reader finds it damaged
        record = self._folder.encrypted(self._key, data, self._length) if data else b""
        self._inner.append(record, sync=sync)
        self._length += len(record)

    def is_fenced_by(self, key: str) -> bool:
        return self._inner.is_fenced_by(key)

    def close(self) -> None:
        self._inner.close()


async def _worked(size: int, work: Callable[[], bytes]) -> bytes:
    return await in_thread(work) if size > ON_THE_LOOP else work()


def _plain(found: Entry) -> Entry:
    return found if found.is_folder else Entry(found.name, False, plain_size(found.size), found.modified)
