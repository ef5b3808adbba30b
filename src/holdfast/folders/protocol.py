"""What Holdfast asks of a place that keeps bytes.

A key is a relative POSIX path of validated parts. Every method of a `Folder` raises `errors.StoreError` and nothing foreign:
`ObjectMissing` for absence, `ObjectExists` for a lost exclusive creation, `StoreFull`, `StorePermission`, `StoreUnavailable`,
`StoreInvalid` otherwise. When `put` or `create` returns, the object is whole and, with `sync=True`, survives a power cut.

Two kinds of places are behind it: a `LocalFolder` over a `Disk`, which has files that grow and locks (`Folder.logs`), and an
`ObjectFolder` over a `Bucket`, which has neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from holdfast.frozen import Frozen


class Entry(Frozen):
    """An object, or a folder that holds some.

    Attributes:
        name: Relative to what was listed or walked.
        is_folder: Whether it stands for what lies below it.
        size: Bytes; 0 for a folder.
        modified: When it was written, in POSIX seconds by the clock of the place, which need not be ours; 0 for a folder.
    """

    name: str
    is_folder: bool
    size: int
    modified: float = 0.0


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


class Logs(Protocol):
    """What only a disk has: files that grow, and locks that end with the process."""

    async def open_log(self, key: str) -> Log:
        """Open an existing object for appending. Raises: ObjectMissing."""
        ...

    async def hold(self, key: str, who: bytes) -> Hold | bytes:
        """Take the hint `key`, leaving `who` to be read by others; where a live owner has it, return its `who` instead."""
        ...

    async def held(self, key: str) -> bytes | None:
        """Return the `who` of a live owner of the hint `key`, or None."""
        ...

    async def discard_unfinished(self, before: float, *, dry_run: bool = False) -> int:
        """Remove what is left of writes that were last heard of before this time of the place. Returns how many bytes that frees."""
        ...


class Folder(Protocol):
    """A folder in some store."""

    url: str

    @property
    def logs(self) -> Logs | None:
        """Files that grow and locks, in this folder; None in an object store."""
        ...

    @property
    def unfenced(self) -> str | None:
        """Why `create` can't be relied on to succeed once; None, where it can as far as is known without trying."""
        ...

    async def get(self, key: str) -> bytes:
        """Return the object's bytes. Raises: ObjectMissing."""
        ...

    async def put(self, key: str, data: bytes, *, sync: bool = True) -> None:
        """Write the object, replacing an older one whole."""
        ...

    async def create(self, key: str, data: bytes, *, sync: bool = True) -> None:
        """Write the object if there is none.

        In an object store an answer may be lost, and the same bytes found there then count as our own: who has to win alone puts a token
        of its own into `data`. Raises: ObjectExists.
        """
        ...

    async def delete(self, *keys: str) -> None:
        """Remove the objects; absence is no error."""
        ...

    async def delete_tree(self, prefix: str) -> None:
        """Remove every object below `prefix`; absence is no error."""
        ...

    async def stat(self, key: str) -> Entry | None:
        """What is known of an object without reading it, under its last name; None where there is none."""
        ...

    async def touch(self, key: str) -> None:
        """Make an object as if it was written now: its bytes stay and are durable, `modified` moves on. Raises: ObjectMissing."""
        ...

    async def list(self, prefix: str) -> Sequence[Entry]:
        """Names directly below `prefix`, sorted; empty where there is no such prefix. Unfinished writes are not listed."""
        ...

    async def walk(self, prefix: str) -> Sequence[Entry]:
        """Every object below `prefix`, however deep, sorted by its path below `prefix`. Unfinished writes are left out."""
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

    def stat(self, path: str) -> Entry:
        """The entry of one path, as `scan` of its folder would give it. Raises FileNotFoundError."""
        ...

    def touch(self, path: str) -> None:
        """Set the time of modification to now."""
        ...

    def lock(self, path: str, who: bytes) -> Hold | bytes:
        """As `Logs.hold`."""
        ...

    def lock_owner(self, path: str) -> bytes | None:
        """As `Logs.held`."""
        ...


class Trouble(Enum):
    """What an error of an object store's client means for what was asked."""

    MISSING = "there is no such object"
    EXISTS = "the object exists already"
    REFUSED = "we may not do that"
    NO_PLACE = "there is no such bucket or container"
    FULL = "a quota or the space is used up"
    THROTTLED = "we ask too often"
    PASSING = "it may have been done, or not, and may work if asked again"
    WRONG = "asking again will not help"


class Page(Frozen):
    """A part of a listing.

    Attributes:
        entries: What was found, in any order.
        more: What to ask on with, by any client of the place; None after the last part.
    """

    entries: Sequence[Entry]
    more: str | None = None


class Bucket(Protocol):
    """The primitive operations that an `ObjectFolder` is made of: whole objects under flat names, on one event loop.

    Nothing here retries, waits or decides: each operation is tried once, and raises what the client raises, which `trouble` explains.
    A name is a path without a leading slash; a prefix is empty or ends with a slash.
    """

    unfenced: str | None
    """Why `create` is not exclusive, where that is known beforehand."""

    async def get(self, name: str) -> bytes: ...

    async def put(self, name: str, data: bytes) -> None:
        """Write the object, in one step as far as the place can."""
        ...

    async def create(self, name: str, data: bytes) -> None:
        """Write the object by the strongest primitive for "only if there is none" that the place has."""
        ...

    async def delete(self, names: Sequence[str]) -> None:
        """Remove the objects, up to 1,000 of them. Absence may raise or not."""
        ...

    async def stat(self, name: str) -> Entry: ...

    async def touch(self, name: str) -> None:
        """Rewrite the object in the place itself, so that its time of modification moves on; get and put it where that can't be had."""
        ...

    async def list(self, prefix: str, more: str | None = None) -> Page:
        """Objects and folders one level below `prefix`, from the place itself and no cache. Absence is empty, or raises.

        A long listing comes in pages, each of them one try: `more` is what the page before told.
        """
        ...

    async def walk(self, prefix: str, more: str | None = None) -> Page:
        """All objects below `prefix`, named relative to it; in pages, as `list`."""
        ...

    def trouble(self, error: Exception) -> Trouble:
        """Explain an error that one of the operations raised."""
        ...

    async def aclose(self) -> None: ...
