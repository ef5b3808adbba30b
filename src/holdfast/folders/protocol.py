"""What Holdfast asks of a place that keeps bytes.

A key is a relative POSIX path of validated parts. Every method raises `errors.StoreError` and nothing foreign: `ObjectMissing` for
absence, `ObjectExists` for a lost exclusive creation, `StoreFull`, `StorePermission`, `StoreUnavailable`, `StoreInvalid` otherwise.
When `put`, `create` or `put_file` returns, the object is whole and, with `sync=True`, survives a power cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from holdfast.frozen import Frozen


class Entry(Frozen):
    """One name directly below a listed prefix."""

    name: str
    is_folder: bool
    size: int


class Streamed(Frozen):
    """What a file was when it passed: bytes and sha256 (hex)."""

    size: int
    digest: str


class Log(Protocol):
    """The writing end of one local journal segment. Its methods block, and are called from the journal's writer thread alone."""

    def append(self, data: bytes, *, sync: bool) -> None:
        """Write `data` at the end, whole; with `sync`, make it durable."""
        ...

    def is_fenced_by(self, key: str) -> bool:
        """Say whether `key` exists, or this log itself is no longer linked: either means that another owner took over."""
        ...

    def close(self) -> None: ...


class Hold(Protocol):
    """A hint that its owner lives. It ends with the process, and is not inherited by forked children."""

    def release(self) -> None: ...


class Folder(Protocol):
    """A folder in some store."""

    url: str

    async def get(self, key: str) -> bytes:
        """Return the object's bytes. Raises: ObjectMissing."""
        ...

    async def put(self, key: str, data: bytes, *, sync: bool = True) -> None:
        """Write the object, replacing an older one whole."""
        ...

    async def create(self, key: str, data: bytes, *, sync: bool = True) -> None:
        """Write the object if there is none. Raises: ObjectExists."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object; absence is no error."""
        ...

    async def delete_tree(self, prefix: str) -> None:
        """Remove every object below `prefix`; absence is no error."""
        ...

    async def list(self, prefix: str) -> Sequence[Entry]:
        """Names directly below `prefix`, sorted; empty where there is no such prefix. Unfinished writes are not listed."""
        ...

    async def exists(self, key: str) -> bool: ...

    async def put_file(self, key: str, source: Path, *, sync: bool = True) -> Streamed:
        """Stream a local file in, never whole in memory."""
        ...

    async def get_file(self, key: str, target: Path) -> Streamed:
        """Stream the object to a new local file. Raises: ObjectMissing."""
        ...

    async def open_log(self, key: str) -> Log:
        """Open an existing object for appending. Raises: ObjectMissing."""
        ...

    async def hold(self, key: str, who: bytes) -> Hold | bytes:
        """Take the hint `key`, leaving `who` to be read by others; where a live owner has it, return its `who` instead."""
        ...

    async def held(self, key: str) -> bytes | None:
        """Return the `who` of a live owner of the hint `key`, or None."""
        ...

    def child(self, prefix: str) -> Folder:
        """The same place, seen from below `prefix`."""
        ...

    async def aclose(self) -> None: ...


class FileOnDisk(Protocol):
    """An open file of a `Disk`, for appending."""

    def append(self, data: bytes) -> None:
        """Write all of `data` at the end."""
        ...

    def sync(self) -> None: ...

    def links(self) -> int:
        """How many names the file has now; 0 when it was unlinked."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """The primitive operations that a `LocalFolder` is made of: POSIX semantics, blocking, raising OSError.

    A name or content is durable only after `sync` of the file and `sync_folder` of the folder that holds the name. Paths are absolute.
    """

    def read(self, path: str) -> bytes: ...

    def write_new(self, path: str, data: bytes) -> FileOnDisk:
        """Create `path` exclusively, write `data`, and leave it open (not synced)."""
        ...

    def open_append(self, path: str) -> FileOnDisk: ...

    def link(self, source: str, target: str) -> None:
        """Give the file a second name. Raises FileExistsError where `target` exists."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Rename, replacing `target`."""
        ...

    def unlink(self, path: str) -> None: ...

    def make_folder(self, path: str) -> None:
        """Create one folder. Raises FileExistsError, or FileNotFoundError without its parent."""
        ...

    def remove_folder(self, path: str) -> None: ...

    def sync_folder(self, path: str) -> None: ...

    def scan(self, path: str) -> Sequence[Entry]: ...

    def exists(self, path: str) -> bool: ...

    def size(self, path: str) -> int: ...

    def lock(self, path: str, who: bytes) -> Hold | bytes:
        """As `Folder.hold`."""
        ...

    def lock_owner(self, path: str) -> bytes | None:
        """As `Folder.held`."""
        ...

    async def copy_in(self, source: Path, path: str, *, sync: bool) -> Streamed:
        """Stream a local file of the machine to the new path `path` of this disk."""
        ...

    async def copy_out(self, path: str, target: Path) -> Streamed:
        """Stream `path` of this disk to a new local file of the machine."""
        ...
