"""Disks that fail when they are told to: a process killed at any operation, no space left, bytes that changed.

They wrap any `Disk`. What a test proves over one of them holds for the real thing, because the rules of writing stand in `LocalFolder`,
above all of them.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence

from holdfast.folders.memory import MemoryDisk
from holdfast.folders.protocol import Disk, Entry, FileOnDisk, Hold
from holdfast.testing.lives import Life, Mortal, When
from holdfast.testing.lives import SimulatedCrash as SimulatedCrash  # found here, too, by those who look beside CrashDisk


class CrashDisk(Mortal):
    """Kills the process at its `at`-th operation that changes something; with `at=None`, only counts.

    Args:
        inner: where everything goes, and what the next process finds.
        at: which operation, counted from 1.
        when: `before` or `after` it, or `torn`: with half of the bytes written (before it, where it writes none).

    After the crash each operation raises `SimulatedCrash`, and no lock is held any more.
    """

    def __init__(self, inner: Disk, *, at: int | None = None, when: When = "before") -> None:
        super().__init__(Life(at, when))
        self._inner = inner

    def read(self, path: str) -> bytes:
        with self.life.alive():
            return self._inner.read(path)

    def write_new(self, path: str, data: bytes) -> FileOnDisk:
        with self.life.step("write_new", path, torn=lambda: self._inner.write_new(path, data[: len(data) // 2]).close()):
            return self._handle(path, self._inner.write_new(path, data))

    def open_append(self, path: str) -> FileOnDisk:
        with self.life.alive():
            return self._handle(path, self._inner.open_append(path))

    def link(self, source: str, target: str) -> None:
        with self.life.step("link", target):
            self._inner.link(source, target)

    def rename(self, source: str, target: str) -> None:
        with self.life.step("rename", target):
            self._inner.rename(source, target)

    def unlink(self, path: str) -> None:
        with self.life.step("unlink", path):
            self._inner.unlink(path)

    def make_folder(self, path: str) -> None:
        with self.life.step("make_folder", path):
            self._inner.make_folder(path)

    def remove_folder(self, path: str) -> None:
        with self.life.step("remove_folder", path):
            self._inner.remove_folder(path)

    def sync_folder(self, path: str) -> None:
        with self.life.step("sync_folder", path):
            self._inner.sync_folder(path)

    def scan(self, path: str) -> Sequence[Entry]:
        with self.life.alive():
            return self._inner.scan(path)

    def exists(self, path: str) -> bool:
        with self.life.alive():
            return self._inner.exists(path)

    def stat(self, path: str) -> Entry:
        with self.life.alive():
            return self._inner.stat(path)

    def touch(self, path: str) -> None:
        with self.life.step("touch", path):
            self._inner.touch(path)

    def lock(self, path: str, who: bytes) -> Hold | bytes:
        with self.life.alive():
            found = self._inner.lock(path, who)
            if isinstance(found, bytes):
                return found
            hold = _MortalHold(self.life)
            self.life.opened[hold] = found.release
            return hold

    def lock_owner(self, path: str) -> bytes | None:
        with self.life.alive():
            return self._inner.lock_owner(path)

    def _handle(self, path: str, file: FileOnDisk) -> FileOnDisk:
        mortal = _MortalFile(self.life, path, file)
        self.life.opened[mortal] = file.close
        return mortal


class _MortalFile:
    """An open file of a process that can be killed."""

    def __init__(self, life: Life, path: str, file: FileOnDisk) -> None:
        self._life = life
        self._path = path
        self._file = file

    def append(self, data: bytes) -> None:
        with self._life.step("append", self._path, torn=lambda: self._file.append(data[: len(data) // 2])):
            self._file.append(data)

    def sync(self) -> None:
        with self._life.step("sync", self._path):
            self._file.sync()

    def links(self) -> int:
        with self._life.alive():
            return self._file.links()

    def close(self) -> None:
        self._life.end(self)


class _MortalHold:
    """A lock of a process that can be killed."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def release(self) -> None:
        self._life.end(self)


class FullDisk:
    """Has room for `after_bytes` more; then each write keeps what still fits and raises `ENOSPC`, until `free` is called."""

    def __init__(self, inner: Disk, *, after_bytes: int) -> None:
        self._inner = inner
        self._room = _Room(after_bytes)

    def free(self) -> None:
        """Somebody made space: from here on all writes fit."""
        self._room.grow()

    def read(self, path: str) -> bytes:
        return self._inner.read(path)

    def write_new(self, path: str, data: bytes) -> FileOnDisk:
        file = _LimitedFile(self._room, path, self._inner.write_new(path, b""))
        try:
            file.append(data)
        except OSError:
            file.close()
            raise
        return file

    def open_append(self, path: str) -> FileOnDisk:
        return _LimitedFile(self._room, path, self._inner.open_append(path))

    def link(self, source: str, target: str) -> None:
        self._inner.link(source, target)

    def rename(self, source: str, target: str) -> None:
        self._inner.rename(source, target)

    def unlink(self, path: str) -> None:
        self._inner.unlink(path)

    def make_folder(self, path: str) -> None:
        self._inner.make_folder(path)

    def remove_folder(self, path: str) -> None:
        self._inner.remove_folder(path)

    def sync_folder(self, path: str) -> None:
        self._inner.sync_folder(path)

    def scan(self, path: str) -> Sequence[Entry]:
        return self._inner.scan(path)

    def exists(self, path: str) -> bool:
        return self._inner.exists(path)

    def stat(self, path: str) -> Entry:
        return self._inner.stat(path)

    def touch(self, path: str) -> None:
        self._inner.touch(path)

    def lock(self, path: str, who: bytes) -> Hold | bytes:
        return self._inner.lock(path, who)

    def lock_owner(self, path: str) -> bytes | None:
        return self._inner.lock_owner(path)


class _Room:
    """How much still fits; None: all."""

    def __init__(self, left: int) -> None:
        self._left: int | None = left
        self._one_at_a_time = threading.Lock()

    def take(self, size: int) -> int:
        """Use up to `size` of the room, and say how much of it there was."""
        with self._one_at_a_time:
            if self._left is None:
                return size
            fits = min(size, self._left)
            self._left -= fits
            return fits

    def grow(self) -> None:
        with self._one_at_a_time:
            self._left = None


class _LimitedFile:
    """An open file on a disk with limited room."""

    def __init__(self, room: _Room, path: str, file: FileOnDisk) -> None:
        self._room = room
        self._path = path
        self._file = file

    def append(self, data: bytes) -> None:
        fits = self._room.take(len(data))
        self._file.append(data[:fits])
        if fits < len(data):
            raise _no_space(self._path)

    def sync(self) -> None:
        self._file.sync()

    def links(self) -> int:
        return self._file.links()

    def close(self) -> None:
        self._file.close()


def flip_byte(disk: MemoryDisk, path: str, offset: int) -> None:
    """Change one byte of a file, durably. A negative `offset` counts from the end."""
    content = bytearray(disk.read(path))
    content[offset] ^= 0xFF
    disk.overwrite(path, bytes(content))


def cut(disk: MemoryDisk, path: str, size: int) -> None:
    """Cut a file to its first `size` bytes, durably."""
    disk.overwrite(path, disk.read(path)[:size])


def _no_space(path: str) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
