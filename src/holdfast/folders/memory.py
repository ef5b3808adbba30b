"""A disk in memory that is honest about durability: it knows what was synced, and can come back from a power cut without the rest.

The model promises what POSIX does, and nothing more. A file's content is durable up to its last sync; a name is durable when its folder
was synced after the change. A rename is one change: old or new. Between those, everything that a real file system may do is possible.
"""

from __future__ import annotations

import copy
import errno
import os
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from holdfast.clocks import clock
from holdfast.folders.protocol import Entry, FileOnDisk, Hold


@dataclass(eq=False, slots=True)
class _File:
    content: bytearray = field(default_factory=bytearray)
    synced: int = 0
    unsynced: list[int] = field(default_factory=list[int])  # where each write since the last sync ended
    links: int = 0
    modified: float = 0.0


@dataclass(eq=False, slots=True)
class _Folder:
    names: dict[str, _Node] = field(default_factory=lambda: {})
    durable: dict[str, _Node] = field(default_factory=lambda: {})


_Node: TypeAlias = _File | _Folder


@dataclass(frozen=True, slots=True)
class _Edit:
    """One name that means another node than before, or nothing any more."""

    folder: _Folder
    name: str
    node: _Node | None


#: What becomes durable together, or not at all.
_Change: TypeAlias = tuple[_Edit, ...]


class MemoryDisk:
    """Files and folders of one process, from any thread."""

    def __init__(self) -> None:
        self._mutex = threading.RLock()
        self._root = _Folder()
        self._changes: list[_Change] = []  # not durable yet, in the order in which they were made
        self._locks: dict[str, MemoryHold] = {}

    # what becomes of it

    def copy(self) -> MemoryDisk:
        """The disk as the next process finds it when this one was killed: all that was written, and no locks."""
        twin = MemoryDisk()
        with self._mutex:
            twin._root, twin._changes = copy.deepcopy((self._root, self._changes))
        return twin

    def power_cut(self, rng: random.Random) -> MemoryDisk:
        """The disk as it may be found when the power comes back. What it then holds is durable."""
        found = self.copy()
        for change in found._changes:
            if rng.random() < 0.5:
                _apply(change, durable=True)
        found._changes.clear()
        for node in _reachable(found._root):
            if isinstance(node, _Folder):
                node.names = dict(node.durable)
            else:
                _survive(node, rng)
        _count_links(found._root)
        return found

    # the protocol

    def read(self, path: str) -> bytes:
        with self._mutex:
            return bytes(self._file(path).content)

    def write_new(self, path: str, data: bytes) -> FileOnDisk:
        with self._mutex:
            folder, name = self._place(path)
            if name in folder.names:
                raise _os_error(errno.EEXIST, path)
            node = _File(links=1)
            self._change(_Edit(folder, name, node))
            file = MemoryFile(self._mutex, node)
            file.append(data)
            return file

    def open_append(self, path: str) -> FileOnDisk:
        with self._mutex:
            return MemoryFile(self._mutex, self._file(path))

    def link(self, source: str, target: str) -> None:
        with self._mutex:
            node = self._find(source)
            if isinstance(node, _Folder):
                raise _os_error(errno.EPERM, source)
            folder, name = self._place(target)
            if name in folder.names:
                raise _os_error(errno.EEXIST, target)
            node.links += 1
            self._change(_Edit(folder, name, node))

    def rename(self, source: str, target: str) -> None:
        with self._mutex:
            node = self._find(source)
            folder, name = self._place(target)
            replaced = folder.names.get(name)
            if replaced is node:
                return  # two names of one file: POSIX leaves both
            if isinstance(replaced, _Folder):
                if isinstance(node, _File):
                    raise _os_error(errno.EISDIR, target)
                if replaced.names:
                    raise _os_error(errno.ENOTEMPTY, target)
            elif isinstance(replaced, _File):
                if isinstance(node, _Folder):
                    raise _os_error(errno.ENOTDIR, target)
                replaced.links -= 1
            self._change(_Edit(*self._place(source), None), _Edit(folder, name, node))

    def unlink(self, path: str) -> None:
        with self._mutex:
            self._file(path).links -= 1
            self._change(_Edit(*self._place(path), None))

    def make_folder(self, path: str) -> None:
        with self._mutex:
            if not _parts(path):
                raise _os_error(errno.EEXIST, path)
            folder, name = self._place(path)
            if name in folder.names:
                raise _os_error(errno.EEXIST, path)
            self._change(_Edit(folder, name, _Folder()))

    def remove_folder(self, path: str) -> None:
        with self._mutex:
            if self._folder(path).names:
                raise _os_error(errno.ENOTEMPTY, path)
            self._change(_Edit(*self._place(path), None))

    def sync_folder(self, path: str) -> None:
        """Make the names in `path` durable, and with a rename between two folders both of them."""
        with self._mutex:
            together, grown = {id(self._folder(path))}, True
            while grown:
                touched = {id(edit.folder) for change in self._changes if _touches(change, together) for edit in change}
                grown = not touched <= together
                together |= touched
            for change in self._changes:
                if _touches(change, together):
                    _apply(change, durable=True)
            self._changes = [change for change in self._changes if not _touches(change, together)]

    def scan(self, path: str) -> Sequence[Entry]:
        with self._mutex:
            return [_entry(name, node) for name, node in self._folder(path).names.items()]

    def exists(self, path: str) -> bool:
        with self._mutex:
            try:
                self._find(path)
            except FileNotFoundError:
                return False
            return True

    def stat(self, path: str) -> Entry:
        with self._mutex:
            return _entry(path.rpartition("/")[2], self._find(path))

    def touch(self, path: str) -> None:
        with self._mutex:
            self._file(path).modified = clock().now()

    def lock(self, path: str, who: bytes) -> Hold | bytes:
        with self._mutex:
            key = "/".join(_parts(path))
            owner = self._locks.get(key)
            if owner is not None:
                return owner.who
            if not self.exists(path):
                self.write_new(path, b"").close()
            self.overwrite(path, who)
            hold = self._locks[key] = MemoryHold(self._locks, key, who)
            return hold

    def lock_owner(self, path: str) -> bytes | None:
        with self._mutex:
            owner = self._locks.get("/".join(_parts(path)))
            return None if owner is None else owner.who

    def overwrite(self, path: str, content: bytes) -> None:
        """Change a file in place, durably: what damage does, and what no `Folder` ever asks for."""
        with self._mutex:
            node = self._file(path)
            node.content[:] = content
            node.modified = clock().now()
            node.synced, node.unsynced = len(content), []

    # names

    def _change(self, *edits: _Edit) -> None:
        _apply(edits, durable=False)
        self._changes.append(edits)

    def _find(self, path: str) -> _Node:
        node: _Node = self._root
        for part in _parts(path):
            if isinstance(node, _File):
                raise _os_error(errno.ENOTDIR, path)
            if part not in node.names:
                raise _os_error(errno.ENOENT, path)
            node = node.names[part]
        return node

    def _file(self, path: str) -> _File:
        node = self._find(path)
        if isinstance(node, _Folder):
            raise _os_error(errno.EISDIR, path)
        return node

    def _folder(self, path: str) -> _Folder:
        node = self._find(path)
        if isinstance(node, _File):
            raise _os_error(errno.ENOTDIR, path)
        return node

    def _place(self, path: str) -> tuple[_Folder, str]:
        *above, name = _parts(path)
        return self._folder("/".join(above)), name


class MemoryFile:
    """An open file. It goes on when it has no name any more."""

    def __init__(self, mutex: threading.RLock, node: _File) -> None:  # type: ignore[valid-type,unused-ignore]
        self._mutex = mutex
        self._node: _File | None = node

    def append(self, data: bytes) -> None:
        with self._mutex:
            node = self._open()
            node.content += data
            node.modified = clock().now()
            node.unsynced.append(len(node.content))

    def sync(self) -> None:
        with self._mutex:
            node = self._open()
            node.synced, node.unsynced = len(node.content), []

    def links(self) -> int:
        with self._mutex:
            return self._open().links

    def close(self) -> None:
        self._node = None

    def _open(self) -> _File:
        if self._node is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._node


class MemoryHold:
    """A lock in its disk's table."""

    def __init__(self, locks: dict[str, MemoryHold], key: str, who: bytes) -> None:
        self._locks = locks
        self._key = key
        self.who = who

    def release(self) -> None:
        if self._locks.get(self._key) is self:
            del self._locks[self._key]


_named: dict[str, MemoryDisk] = {}
_naming = threading.Lock()


def named(name: str) -> MemoryDisk:
    """The disk with that name in this process, new when it is asked for first."""
    with _naming:
        return _named.setdefault(name, MemoryDisk())


def _entry(name: str, node: _Node) -> Entry:
    return Entry(name, True, 0) if isinstance(node, _Folder) else Entry(name, False, len(node.content), node.modified)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _os_error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)


def _touches(change: _Change, folders: set[int]) -> bool:
    return any(id(edit.folder) in folders for edit in change)


def _apply(change: _Change, *, durable: bool) -> None:
    for edit in change:
        names = edit.folder.durable if durable else edit.folder.names
        if edit.node is None:
            names.pop(edit.name, None)
        else:
            names[edit.name] = edit.node


def _reachable(folder: _Folder) -> Iterator[_Node]:
    """Each node that has a durable name, once, hard links or not."""
    seen: set[int] = set()
    waiting: list[_Node] = [folder]
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            if isinstance(node, _Folder):
                waiting.extend(node.durable.values())


def _count_links(root: _Folder) -> None:
    nodes = list(_reachable(root))
    for node in nodes:
        if isinstance(node, _File):
            node.links = sum(child is node for folder in nodes if isinstance(folder, _Folder) for child in folder.names.values())


def _survive(file: _File, rng: random.Random) -> None:
    """Do to what was not synced what file systems do: keep it, cut it, or keep its length and lose its bytes."""
    start = file.synced
    for end in file.unsynced:
        file.content[start:end] = _weathered(bytes(file.content[start:end]), rng)
        start = end
    keep = rng.choice((file.synced, len(file.content), rng.randint(file.synced, len(file.content))))
    del file.content[keep:]
    file.synced, file.unsynced = keep, []


def _weathered(written: bytes, rng: random.Random) -> bytes:
    cut = rng.randint(0, len(written))
    return rng.choice(
        (
            written,
            bytes(len(written)),
            rng.randbytes(len(written)),
            written[:cut] + bytes(len(written) - cut),
            bytes(cut) + written[cut:],
        )
    )
