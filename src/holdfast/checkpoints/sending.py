"""From what was given to `save` to a payload in its manifest: what is small inline, what is large as chunks in the store's blobs.

A chunk that the action's newest generation names is named again, without any request: that generation is deleted only when the new one is
durable. Equal chunks of one save are sent once. Few chunks are in memory at one time, however many files they come from.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from holdfast.blobs import Saving
from holdfast.checkpoints.directories import ITSELF, PAYLOAD, remove, scan
from holdfast.checkpoints.generations import Chunk, File, Kind, Manifest, digest_of
from holdfast.clocks import clock
from holdfast.codec import INLINE_LIMIT
from holdfast.errors import FileChanged
from holdfast.files import CHUNK, Changed, Opened, Stat, copy_stable, digest_aside, open_large, read_small
from holdfast.flow import room, side_by_side
from holdfast.folders.threads import call, in_thread
from holdfast.frozen import Frozen

T = TypeVar("T")

#: Seconds by which a file system's clock may lag behind ours, or tick slower: what was written in this time before a scan, or after it
#: began, may be written again without its times telling. Git's rule for its index, with a margin for coarse clocks.
RACY: Final = 2.0

#: How often what changes under the reader is read anew.
TRIES: Final = 3

#: Files that are read at one time. How much of them is in memory is bounded by `flow.room`.
WIDTH: Final = 32
#: Files that are copied at one time: each holds a thread for as long as it takes.
COPIES: Final = 4


_NONE: Final[Mapping[str, File]] = {}


class Payload(Frozen):
    """A payload as its manifest has it."""

    kind: Kind
    size: int
    digest: str
    inline: bytes | None = None
    files: tuple[File, ...] = ()
    parts: tuple[tuple[str, tuple[Chunk, ...]], ...] = ()


class Tree(Frozen):
    """A file or directory to be saved.

    Attributes:
        source: Where it is, as the user named it.
        trust_stat: Whether what has the same stat as in an older generation is taken from there.
        trusted: The files of that generation, by path.
        copies: Where copies lie that were taken at once; None: it is read where it is.
        copied: What was copied, with the facts of the originals.
        began: When the originals were scanned.
    """

    source: Path
    trust_stat: bool
    trusted: Mapping[str, File] = _NONE
    copies: Path | None = None
    copied: tuple[File, ...] = ()
    began: float = 0.0

    def over(self, base: Manifest | None) -> Tree:
        """The same, to be saved after an older generation."""
        return Tree(self.source, True, files_of(base)) if self.trust_stat and self.copies is None else self


def files_of(base: Manifest | None) -> Mapping[str, File]:
    return {found.path: found for found in base.files} if base is not None else _NONE


def inline(kind: Kind, data: bytes) -> Payload | None:
    """A payload that rides in its manifest, if it is small enough."""
    return Payload(kind, len(data), sha256(data).hexdigest(), inline=data) if len(data) <= INLINE_LIMIT else None


class Sender:
    """One save on its way into the blobs. `sent` counts the bytes that were not there already."""

    sent: int

    def __init__(self, saving: Saving, base: Manifest | None) -> None:
        self.sent = 0
        self._saving = saving
        self._known = {chunk.digest: chunk for chunk in base.chunks()} if base is not None else {}
        self._turns: dict[str, asyncio.Lock] = {}

    async def data(self, kind: Kind, data: bytes, parts: Mapping[str, bytes]) -> Payload:
        """Send a payload that is in memory, and the parts that its text names."""
        size = len(data) + sum(map(len, parts.values()))
        sent = tuple([(part, await self._pieces(content)) for part, content in parts.items()])
        small = inline(kind, data)
        if small is not None:
            return Payload(kind, size, small.digest, inline=data, parts=sent)
        files = (File(PAYLOAD, size=len(data), chunks=await self._pieces(data)),)
        return Payload(kind, size, digest_of(files, kind), files=files, parts=sent)

    async def tree(self, tree: Tree) -> Payload:
        """Send a file or directory. Raises: FileChanged; InvalidName; OSError."""
        return await of_one_listing(tree.source, lambda: self._tree(tree))

    async def _tree(self, tree: Tree) -> Payload:
        is_copied = tree.copies is not None
        began = tree.began if is_copied else clock().now()
        found = tree.copied if is_copied else await in_thread(call(scan, tree.source))
        kind: Kind = "directory" if any(entry.path == ITSELF for entry in found) else "file"
        root = tree.copies if tree.copies is not None else await place_of(tree.source)

        async def entry(listed: File) -> File:
            if listed.link is not None or listed.is_folder:
                return listed
            if (same := unchanged(listed, tree.trusted)) is not None:
                return same
            opened, chunks = await self._file(root if kind == "file" else root / listed.path, listed.size)
            if is_copied and listed.stat is not None:
                opened = Opened(listed.stat, listed.mode or 0)  # the original's facts
            stat = opened.stat if is_settled(opened.stat, began) else None
            return File(listed.path, opened.mode, opened.stat.size, opened.stat.mtime_ns, chunks=chunks, stat=stat)

        files = tuple(await side_by_side(entry, found, width=WIDTH))
        digest = await in_thread(call(digest_of, files, kind))
        return Payload(kind, sum(f.size for f in files), digest, files=files)

    async def _file(self, place: Path, size: int) -> tuple[Opened, tuple[Chunk, ...]]:
        path = os.fspath(place)

        async def read() -> tuple[Opened, tuple[Chunk, ...]]:
            small = await self._small_file(path, size) if size <= CHUNK else None
            return small if small is not None else await self._large_file(path)

        return await of_one_moment(path, read)

    async def _small_file(self, path: str, size: int) -> tuple[Opened, tuple[Chunk, ...]] | None:
        async with room().hold(size):
            found = await read_small(path)
            if found is None:
                return None
            data, digest, opened = found
            return opened, (await self._chunk(data, digest),) if data else ()

    async def _large_file(self, path: str) -> tuple[Opened, tuple[Chunk, ...]]:
        async with open_large(path) as source:

            async def piece(offset: int) -> Chunk:
                async with room().hold(CHUNK):
                    return await self._chunk(await source.read_at(offset), None)

            size = source.opened.stat.size
            return source.opened, tuple(await side_by_side(piece, range(0, size, CHUNK), width=WIDTH))

    async def _pieces(self, data: bytes) -> tuple[Chunk, ...]:
        view = memoryview(data)

        async def piece(offset: int) -> Chunk:
            async with room().hold(CHUNK):
                return await self._chunk(bytes(view[offset : offset + CHUNK]), None)

        return tuple(await side_by_side(piece, range(0, len(data), CHUNK), width=WIDTH))

    async def _chunk(self, data: bytes, digest: str | None) -> Chunk:
        """Name a chunk, and send it if the store may not have it."""
        if digest is None:
            digest = await digest_aside(data)
        async with self._turns.setdefault(digest, asyncio.Lock()):
            if (known := self._known.get(digest)) is None:
                name, was_sent = await self._saving.put(data, digest)
                self.sent += len(data) if was_sent else 0
                known = self._known[digest] = Chunk(digest, len(data), name)
        return known


async def copied(source: Path, base: Manifest | None, copies: Path) -> Tree:
    """Copy what is to be saved to the new place `copies`, all but what has the stat that it has in `base`.

    Raises: FileChanged; InvalidName; StoreError; OSError.
    """
    return await of_one_listing(source, lambda: _copied(source, files_of(base), copies))


async def _copied(source: Path, trusted: Mapping[str, File], copies: Path) -> Tree:
    began = clock().now()
    found = await in_thread(call(scan, source))
    is_directory = any(entry.path == ITSELF for entry in found)
    folders = [copies / entry.path for entry in found if entry.is_folder]
    root = await place_of(source)
    await in_thread(call(remove, copies))  # of an earlier listing
    await in_thread(call(_make, folders))

    async def entry(listed: File) -> File:
        if listed.link is not None or listed.is_folder or unchanged(listed, trusted) is not None:
            return listed
        path, copy = (os.fspath(top / listed.path if is_directory else top) for top in (root, copies))
        opened = await of_one_moment(path, lambda: in_thread(call(copy_stable, path, copy)))
        return File(listed.path, opened.mode, opened.stat.size, opened.stat.mtime_ns, stat=opened.stat)

    files = tuple(await side_by_side(entry, found, width=COPIES))
    return Tree(source, True, trusted, copies, files, began)


async def place_of(source: Path) -> Path:
    """Where a link leads that the user named; none is followed from there on."""
    return Path(await in_thread(call(os.path.realpath, source)))


def _make(folders: list[Path]) -> None:
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)


class _Vanished(Exception):
    """What was listed is not there any more, or is no file any more."""


async def of_one_listing(source: Path, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work, and again where something that it listed went away meanwhile. Raises: FileChanged."""
    for left in reversed(range(TRIES)):
        try:
            return await work()
        except (_Vanished, Changed) as gone:
            if not left:
                raise FileChanged(path=str(gone), tries=TRIES) from None
    raise AssertionError(source)


async def of_one_moment(path: str, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work, and again where the file changed under it. Raises: FileChanged; _Vanished."""
    for _ in range(TRIES):
        try:
            return await work()
        except Changed:
            if not await in_thread(call(_is_file, path)):
                raise _Vanished(path) from None
    raise FileChanged(path=path, tries=TRIES)


def _is_file(path: str) -> bool:
    return os.path.isfile(path) and not os.path.islink(path)


def unchanged(entry: File, older: Mapping[str, File]) -> File | None:
    """The entry of an older generation, where its recorded stat says that nothing was written since."""
    known = older.get(entry.path)
    if known is None or known.stat is None or known.stat != entry.stat or known.mode != entry.mode:
        return None
    return known


def is_settled(stat: Stat, began: float) -> bool:
    """Whether a later write must show in the file's times: it was last written clearly before the scan began that recorded them."""
    latest = max(stat.mtime_ns, stat.ctime_ns) / 1e9
    return latest < began - RACY
