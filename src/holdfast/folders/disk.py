"""The operating system's files as a `Disk`. Nothing here decides anything: what makes writes whole and durable stands in `local`.

Locks are `flock`s: they end with the process, however it ends. A forked child shares them with its parent and would keep them alive
behind it, so each child closes what it inherited.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import stat
import sys
import threading
import time
import weakref
from collections.abc import Sequence

from holdfast.folders.protocol import Entry, FileOnDisk, Hold

if sys.platform != "win32":
    import fcntl

_BINARY = getattr(os, "O_BINARY", 0)
_LOOKS = 100
#: Answers of file systems that have no `flock` at all (some Lustre and NFS mounts).
_LOCKLESS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})


class OsFile:
    """An open file, for appending."""

    def __init__(self, fd: int, *, fresh: bool) -> None:
        self._fd = fd
        self._fresh = fresh

    def append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def sync(self) -> None:
        if self._fresh:
            _sync_whole(self._fd)
            self._fresh = False
        else:
            _sync_data(self._fd)

    def links(self) -> int:
        return os.fstat(self._fd).st_nlink

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class OsDisk:
    """The machine's file systems. A symbolic link counts as a file, so that no tree is listed or removed through it."""

    def read(self, path: str) -> bytes:
        with open(path, "rb", buffering=0) as file:
            return file.readall()

    def write_new(self, path: str, data: bytes) -> FileOnDisk:
        file = OsFile(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _BINARY, 0o666), fresh=True)
        try:
            file.append(data)
        except BaseException:
            file.close()
            raise
        return file

    def open_append(self, path: str) -> FileOnDisk:
        return OsFile(os.open(path, os.O_WRONLY | os.O_APPEND | _BINARY), fresh=False)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def make_folder(self, path: str) -> None:
        os.mkdir(path)

    def remove_folder(self, path: str) -> None:
        os.rmdir(path)

    def sync_folder(self, path: str) -> None:
        if sys.platform != "win32":  # which opens no folders; NTFS journals its names
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                _sync_whole(fd)
            finally:
                os.close(fd)

    def scan(self, path: str) -> Sequence[Entry]:
        entries: list[Entry] = []
        with os.scandir(path) as found:
            for each in found:
                with contextlib.suppress(FileNotFoundError):  # gone between the listing and the look
                    if each.is_dir(follow_symlinks=False):
                        entries.append(Entry(each.name, True, 0))
                    else:
                        known = each.stat(follow_symlinks=False)
                        entries.append(Entry(each.name, False, known.st_size, known.st_mtime))
        return entries

    def exists(self, path: str) -> bool:
        try:
            os.stat(path)
        except FileNotFoundError:
            return False
        return True

    def stat(self, path: str) -> Entry:
        found = os.stat(path)
        is_folder = stat.S_ISDIR(found.st_mode)
        return Entry(os.path.basename(path), is_folder, 0 if is_folder else found.st_size, 0.0 if is_folder else found.st_mtime)

    def touch(self, path: str) -> None:
        os.utime(path)

    def lock(self, path: str, who: bytes) -> Hold | bytes:
        with _holding:
            hold = OsHold(os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o666))
        try:
            if _take(hold.fd):
                os.ftruncate(hold.fd, 0)
                os.write(hold.fd, who)
                return hold
            owner = _content(hold.fd)
        except BaseException:
            hold.release()
            raise
        hold.release()
        return owner

    def lock_owner(self, path: str) -> bytes | None:
        try:
            fd = os.open(path, os.O_RDONLY | _BINARY)
        except FileNotFoundError:
            return None
        try:
            return None if _flock(fd, _SHARED) else _content(fd)
        finally:
            os.close(fd)


class OsHold:
    """A locked file. One that nobody refers to any more is closed, and so released, by the garbage collector."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._close = weakref.finalize(self, os.close, fd)
        _held.add(self)

    def release(self) -> None:
        if self._close.alive:
            _flock(self.fd, _UNLOCK)  # at once, even if a process that we started shares the file
            self.drop()

    def drop(self) -> None:
        """Close our copy of the file. Where the parent has one too, it stays locked."""
        self._close()


_held: weakref.WeakSet[OsHold] = weakref.WeakSet()
_holding = threading.Lock()


def _drop_inherited() -> None:
    _holding.release()
    for hold in list(_held):
        hold.drop()


if hasattr(os, "register_at_fork"):  # the lock is held over the fork, so that no file is opened and not yet listed in `_held`
    os.register_at_fork(before=_holding.acquire, after_in_parent=_holding.release, after_in_child=_drop_inherited)


def _take(fd: int) -> bool:
    """Lock `fd` exclusively, unless an owner has it. A look (`lock_owner`) shares the file for an instant; only an owner never does."""
    for _ in range(_LOOKS):
        if _flock(fd, _EXCLUSIVE):
            return True
        if not _flock(fd, _SHARED):
            return False
        _flock(fd, _UNLOCK)
        time.sleep(random.random() / 1000)  # two that try this at once would go on disturbing each other in step
    return False


if sys.platform == "win32":  # no advisory locks: the hint is always free, and the journal's fence does without it
    _EXCLUSIVE = _SHARED = _UNLOCK = 0

    def _flock(fd: int, how: int) -> bool:
        return True

else:
    _EXCLUSIVE, _SHARED, _UNLOCK = fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_UN

    def _flock(fd: int, how: int) -> bool:
        """Whether the kernel did it at once; where it knows no such locks, the hint is always free."""
        try:
            fcntl.flock(fd, how)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _LOCKLESS:
                raise
        return True


def _content(fd: int) -> bytes:
    """What the owner wrote; nothing, if it took the lock in this instant."""
    os.lseek(fd, 0, os.SEEK_SET)
    parts: list[bytes] = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def _sync_whole(fd: int) -> None:
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):  # refused by some network file systems, for which fsync is all there is
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


_sync_data = getattr(os, "fdatasync", _sync_whole) if sys.platform != "darwin" else _sync_whole
