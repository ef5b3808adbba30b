"""A `Folder` over any `Disk`: what makes a write whole, exclusive and durable, in terms of POSIX primitives.

An object is written to a temporary file beside its place, synced, and then given its name in one step: by a link, which fails where
the name is taken, or by a rename, which replaces. Then the folder is synced, and each folder above it that this process does not yet
know to be durable. The rules for that are here, once; `disk` and `memory` decide nothing.

Each operation is one plain method (`*_sync`) and one hop into a thread around it. Foreign errors end here.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import posixpath
from collections.abc import Generator, Sequence
from urllib.parse import quote

from holdfast.errors import ObjectExists, StoreError, StoreUnfenced, translate_os_error
from holdfast.folders.names import TEMPORARY, check_key
from holdfast.folders.protocol import Disk, Entry, FileOnDisk, Hold, Logs
from holdfast.folders.threads import Runner, call, in_thread

#: A store with this name lies in somebody's project: it is born with a note to git that nothing in it is to be kept.
IGNORED_BY_GIT = ".holdfast"

_UNLINKABLE = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK})
_SWEEPS = 10


class LocalFolder:
    """The folder `root` of `disk`. It is created with its first object.

    `run` carries operations out: `threads.in_thread`, or `threads.at_once` over a disk that never blocks.
    """

    def __init__(self, disk: Disk, root: str, url: str, *, run: Runner = in_thread) -> None:
        self.url = url
        self._disk = disk
        self._root = root.rstrip("/") or "/"
        self._top = self._root
        self._durable: set[str] = set()  # folders whose names this process has synced
        self._run = run

    @property
    def logs(self) -> Logs | None:
        return self

    @property
    def unfenced(self) -> str | None:
        """None: a link fails where its name is taken. A file system without links is found when it refuses one."""
        return None

    def child(self, prefix: str) -> LocalFolder:
        seen = copy.copy(self)  # with the same memory of what is durable, and the same top
        seen._root, seen.url = self.path(prefix), f"{self.url.rstrip('/')}/{quote(prefix)}"
        return seen

    async def get(self, key: str) -> bytes:
        return await self._run(call(self.get_sync, key))

    async def put(self, key: str, data: bytes, *, sync: bool = True) -> None:
        await self._run(call(self.put_sync, key, data, sync=sync))

    async def create(self, key: str, data: bytes, *, sync: bool = True) -> None:
        await self._run(call(self.create_sync, key, data, sync=sync))

    async def delete(self, *keys: str) -> None:
        await self._run(call(self.delete_sync, *keys))

    async def delete_tree(self, prefix: str) -> None:
        await self._run(call(self.delete_tree_sync, prefix))

    async def list(self, prefix: str) -> Sequence[Entry]:
        return await self._run(call(self.list_sync, prefix))

    async def walk(self, prefix: str) -> Sequence[Entry]:
        return await self._run(call(self.walk_sync, prefix))

    async def stat(self, key: str) -> Entry | None:
        return await self._run(call(self.stat_sync, key))

    async def touch(self, key: str) -> None:
        await self._run(call(self.touch_sync, key))

    async def open_log(self, key: str) -> LocalLog:
        return await self._run(call(self.open_log_sync, key))

    async def hold(self, key: str, who: bytes) -> Hold | bytes:
        return await self._run(call(self.hold_sync, key, who))

    async def held(self, key: str) -> bytes | None:
        return await self._run(call(self.held_sync, key))

    async def discard_unfinished(self, before: float, *, dry_run: bool = False) -> int:
        return await self._run(call(self.discard_unfinished_sync, before, dry_run=dry_run))

    async def aclose(self) -> None:
        """Nothing is kept open between operations."""

    def get_sync(self, key: str) -> bytes:
        with _border(self.where(key)):
            return self._disk.read(self.path(key))

    def put_sync(self, key: str, data: bytes, *, sync: bool = True) -> None:
        path = self.path(key)
        with _border(self.where(key)), self._written_beside(path, data, sync) as temporary:
            self._replace(temporary, path, sync=sync)

    def create_sync(self, key: str, data: bytes, *, sync: bool = True) -> None:
        path = self.path(key)
        with _border(self.where(key)):
            if self._disk.exists(path):
                raise ObjectExists(where=self.where(key))
            with self._written_beside(path, data, sync) as temporary:
                self._link(key, temporary, path)
                self._disk.unlink(temporary)
            if sync:
                self._sync_names(posixpath.dirname(path))

    def delete_sync(self, *keys: str) -> None:
        for key in keys:
            with _border(self.where(key)), contextlib.suppress(FileNotFoundError):
                self._disk.unlink(self.path(key))

    def delete_tree_sync(self, prefix: str) -> None:
        with _border(self.where(prefix)):
            self._delete_folder(self.path(prefix, whole=True))

    def list_sync(self, prefix: str) -> Sequence[Entry]:
        with _border(self.where(prefix)):
            try:
                found = self._disk.scan(self.path(prefix, whole=True))
            except FileNotFoundError:
                return ()
        return tuple(sorted((each for each in found if not each.name.startswith(TEMPORARY)), key=lambda entry: entry.name))

    def walk_sync(self, prefix: str) -> Sequence[Entry]:
        found: list[Entry] = []
        waiting = [""]
        while waiting:
            below = waiting.pop()
            for entry in self.list_sync(f"{prefix}/{below}".strip("/")):
                path = f"{below}{entry.name}"
                if entry.is_folder:
                    waiting.append(f"{path}/")
                else:
                    found.append(Entry(path, False, entry.size, entry.modified))
        return tuple(sorted(found, key=lambda entry: entry.name))

    def stat_sync(self, key: str) -> Entry | None:
        with _border(self.where(key)):
            try:
                return self._disk.stat(self.path(key))
            except FileNotFoundError:
                return None

    def touch_sync(self, key: str) -> None:
        path = self.path(key)
        with _border(self.where(key)):
            self._disk.touch(path)
            with contextlib.closing(self._disk.open_append(path)) as file:  # whoever wrote it may not have synced it
                file.sync()
            self._sync_names(posixpath.dirname(path))

    def open_log_sync(self, key: str) -> LocalLog:
        with _border(self.where(key)):
            return LocalLog(self, self._disk, key, self._disk.open_append(self.path(key)))

    def hold_sync(self, key: str, who: bytes) -> Hold | bytes:
        path = self.path(key)
        with _border(self.where(key)):
            try:
                return self._disk.lock(path, who)
            except FileNotFoundError:
                self._make_folders(posixpath.dirname(path))
                return self._disk.lock(path, who)

    def held_sync(self, key: str) -> bytes | None:
        with _border(self.where(key)):
            return self._disk.lock_owner(self.path(key))

    def discard_unfinished_sync(self, before: float, *, dry_run: bool = False) -> int:
        freed, waiting = 0, [self._root]
        while waiting:
            folder = waiting.pop()
            with _border(folder), contextlib.suppress(FileNotFoundError):
                for entry in self._disk.scan(folder):
                    if entry.is_folder:
                        waiting.append(f"{folder}/{entry.name}")
                    elif entry.name.startswith(TEMPORARY) and entry.modified < before:
                        freed += entry.size
                        if not dry_run:
                            self._discard(f"{folder}/{entry.name}")
        return freed

    def path(self, key: str, *, whole: bool = False) -> str:
        """Where the disk has `key`; with `whole`, "" is this folder itself. Raises: InvalidName."""
        if whole and key == "":
            return self._root
        check_key(key)
        return f"{self._root.rstrip('/')}/{key}"

    def where(self, key: str) -> str:
        """What to call `key` in a message."""
        return f"{self.url.rstrip('/')}/{key}" if key else self.url

    # writing

    @contextlib.contextmanager
    def _written_beside(self, path: str, data: bytes, sync: bool) -> Generator[str]:
        """A temporary file with `data`, removed again if the block fails; that it could not be removed never hides the failure.

        It is closed before it gets its name: some network file systems report only then that they could not keep the data.
        """
        temporary = _beside(path)
        try:
            with contextlib.closing(self._write_new(temporary, data)) as file:
                if sync:
                    file.sync()
            yield temporary
        except BaseException:
            self._discard(temporary)
            raise

    def _write_new(self, temporary: str, data: bytes) -> FileOnDisk:
        try:
            return self._disk.write_new(temporary, data)
        except FileNotFoundError:
            self._make_folders(posixpath.dirname(temporary))
            return self._disk.write_new(temporary, data)

    def _link(self, key: str, temporary: str, path: str) -> None:
        try:
            self._disk.link(temporary, path)
        except OSError as error:
            with contextlib.closing(self._disk.open_append(temporary)) as file:
                if file.links() == 2:  # applied, and the answer was lost: NFS asks again, and hears that the name is taken
                    return
            if error.errno in _UNLINKABLE:
                reason = f"its file system has no hard links ({error.strerror}), and so no exclusive creation"
                raise StoreUnfenced(where=self.where(key), reason=reason) from error
            raise

    def _replace(self, temporary: str, path: str, *, sync: bool) -> None:
        self._disk.rename(temporary, path)
        if sync:
            self._sync_names(posixpath.dirname(path))

    def _discard(self, temporary: str) -> None:
        with contextlib.suppress(OSError):
            self._disk.unlink(temporary)

    # folders

    def _make_folders(self, folder: str) -> None:
        parent = posixpath.dirname(folder)
        try:
            self._disk.make_folder(folder)
        except FileExistsError:
            return
        except FileNotFoundError:
            if parent == folder:
                raise
            self._make_folders(parent)
            self._make_folders(folder)
            return
        self._durable.discard(folder)
        if folder == self._top and posixpath.basename(folder) == IGNORED_BY_GIT:
            self._disk.write_new(f"{folder}/.gitignore", b"*\n").close()
        if not folder.startswith(f"{self._top}/"):
            self._disk.sync_folder(parent)  # the store's own folder and those above it, at once: a later write may come without `sync`

    def _sync_names(self, folder: str) -> None:
        """Make the names in `folder` durable, and those of the folders on the way to it.

        A folder that was found may have been made a moment ago, by a process that has not synced it yet, or by a write without `sync`:
        so each is synced once by every process that relies on it.
        """
        self._disk.sync_folder(folder)
        while folder not in self._durable and (parent := posixpath.dirname(folder)) != folder:
            if folder.startswith(f"{self._top}/"):
                self._disk.sync_folder(parent)
            else:
                with contextlib.suppress(OSError):  # above the store we may not be allowed to look, and most of it is not ours
                    self._disk.sync_folder(parent)
            self._durable.add(folder)
            folder = parent

    def _delete_folder(self, folder: str) -> None:
        """Depth first, unfinished writes included. What others create there meanwhile is removed too, as long as they do not go on."""
        for sweep in range(_SWEEPS):
            try:
                for entry in self._disk.scan(folder):
                    self._delete_entry(f"{folder}/{entry.name}", entry.is_folder)
                self._disk.remove_folder(folder)
            except FileNotFoundError:
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or sweep == _SWEEPS - 1:
                    raise
            else:
                break
        self._durable.discard(folder)

    def _delete_entry(self, path: str, is_folder: bool) -> None:
        if is_folder:
            self._delete_folder(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                self._disk.unlink(path)


class LocalLog:
    """A journal segment, open for appending."""

    def __init__(self, folder: LocalFolder, disk: Disk, key: str, file: FileOnDisk) -> None:
        self._folder = folder
        self._disk = disk
        self._where = folder.where(key)
        self._file = file

    def append(self, data: bytes, *, sync: bool) -> None:
        with _border(self._where):
            self._file.append(data)
            if sync:
                self._file.sync()

    def is_fenced_by(self, key: str) -> bool:
        """Look for `key` first, then for our own name: segments go in ascending order, so a deleted `key` shows as our own lost name."""
        with _border(self._where):
            return self._disk.exists(self._folder.path(key)) or self._file.links() == 0

    def close(self) -> None:
        with _border(self._where):
            self._file.close()


@contextlib.contextmanager
def _border(where: str) -> Generator[None]:
    """Translate what the disk raises, once."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise translate_os_error(error, where) from error


def _beside(path: str) -> str:
    return f"{posixpath.dirname(path)}/{TEMPORARY}{os.urandom(8).hex()}"
