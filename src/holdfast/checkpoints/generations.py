"""Generations and their manifests: how saves are named, ordered and described. The manifest makes a save visible.

What is small rides in its manifest. What is large lies in the store's blobs, in chunks, which the manifest names: then its own name ends
in `.blobs.json`, so that who looks for what is still named reads only those. Who does so has to list a folder again where a listed
manifest is gone: a newer one that names the same chunks may have taken its place.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b, sha256
from typing import Any, Final, Literal, TypeAlias, cast

from holdfast.clocks import instant
from holdfast.codec import codec_for, from_json, to_json
from holdfast.errors import CheckpointCorrupt, CheckpointForeign, ObjectMissing
from holdfast.files import Stat
from holdfast.folders.protocol import Folder
from holdfast.folders.threads import in_thread
from holdfast.frozen import Frozen
from holdfast.progress import BarValues
from holdfast.retention import Generation3

Kind: TypeAlias = Literal["bytes", "data", "file", "directory"]

#: The manifests' own format. A newer minor version adds fields, which are skipped; another major one is refused.
FORMAT: Final = "2.1"

INLINE, NAMES_BLOBS = ".json", ".blobs.json"

#: Up to these, manifests are read and made where we are; larger ones in a thread.
_QUICK, _FEW = 128 * 1024, 200


@dataclass(frozen=True, slots=True, order=True)
class Generation:
    """One save. Greater is newer.

    Attributes:
        epoch: The owner that saved: grows with every takeover of the run.
        attempt: The attempt that saved.
        n: Which save of that attempt, from 0.
        size: Bytes of the payload.
        digest: sha256, hex: of a payload up to 64 KiB of its bytes, of a larger one or a file of the list of its chunks' digests and
            sizes, of a directory of the list of its entries (path, mode, size, link, and that of each file).
        created_at: When it was saved, aware, in UTC.
        metadata: What was given to `save`.
        sent: Bytes of the payload that were sent for it: the rest was in the store already. None, where that is not known.
    """

    epoch: int
    attempt: int
    n: int
    size: int
    digest: str
    created_at: datetime
    metadata: Mapping[str, Any]
    sent: int | None = None

    @property
    def order(self) -> Generation3:
        return (self.epoch, self.attempt, self.n)


class Chunk(Frozen):
    """A piece of a payload: sha256 and length of its bytes, and the name of the blob that holds them."""

    digest: str
    size: int
    name: str


class File(Frozen):
    """One entry of a saved directory, or the one file that a payload is.

    Attributes:
        path: Relative, POSIX; "." is the directory itself.
        mode: Permission bits; None where there was no file: bytes, or data.
        size: Bytes.
        mtime_ns: When its content was last written.
        link: Its target, for a symbolic link.
        is_folder: Whether it is a folder.
        chunks: Its content.
        stat: By what it can be known as unchanged; None where that could not be relied on.
    """

    path: str
    mode: int | None = None
    size: int = 0
    mtime_ns: int | None = None
    link: str | None = None
    is_folder: bool = False
    chunks: tuple[Chunk, ...] = ()
    stat: Stat | None = None


class Manifest(Frozen):
    """What makes a generation visible.

    Attributes:
        generation: What the user sees of it.
        kind: What was saved.
        version: Of the task that saved.
        ordinal: Its place in its line of saves.
        undelivered: Calls that were under way.
        is_synced: Whether it, and what it names, has to survive a power cut.
        inline: The payload, where it is small.
        files: The payload, where it is not: entries of a directory, or one file named `payload`.
        parts: Large binary leaves of data, by the digest that the payload has in their place.
        bars: What the attempt showed of its progress; None, where an older version saved.
    """

    generation: Generation
    kind: Kind
    version: str | None
    ordinal: int
    undelivered: tuple[str, ...]
    is_synced: bool
    inline: bytes | None = None
    files: tuple[File, ...] = ()
    parts: tuple[tuple[str, tuple[Chunk, ...]], ...] = ()
    bars: Mapping[str, BarValues] | None = None

    @property
    def key(self) -> str:
        """The name of its object."""
        return f"{name_of(self.generation.order)}{INLINE if self.inline is not None and not self.parts else NAMES_BLOBS}"

    def chunks(self) -> Iterable[Chunk]:
        for found in self.files:
            yield from found.chunks
        for _, chunks in self.parts:
            yield from chunks


# looking


async def newest_generation(folder: Folder, may_load: Callable[[Generation3], bool]) -> Generation3 | None:
    """The newest generation whose manifest is listed and may be loaded."""
    return max((order for order in await listed(folder) if may_load(order)), default=None)


async def newest_of_version(folder: Folder, version: str | None, may_load: Callable[[Generation3], bool]) -> Generation3 | None:
    """The newest generation that a task of this version may load: one whose manifest is damaged says so when it is loaded."""
    found = await listed(folder)
    for order in sorted(filter(may_load, found), reverse=True):
        try:
            if (await read_manifest(folder, order, found[order])).version == version:
                return order
        except CheckpointCorrupt:
            continue
    return None


async def listed(folder: Folder) -> dict[Generation3, str]:
    """The manifests in a folder: which generation, and its object's name."""
    return {order: entry.name for entry in await folder.list("") if (order := order_of(entry.name)) is not None}


async def read_manifest(folder: Folder, order: Generation3, key: str) -> Manifest:
    """Raises: CheckpointCorrupt, where it is gone or damaged; CheckpointForeign; StoreError."""
    where = f"{folder.url}/{key}"
    try:
        data = await folder.get(key)
    except ObjectMissing as error:
        raise CheckpointCorrupt(where=where, reason=f"{key} is gone") from error
    try:
        if len(data) <= _QUICK:
            return understand(order, unsealed(data), where)
        return await in_thread(lambda: understand(order, unsealed(data), where))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CheckpointCorrupt(where=where, reason=f"{key} can't be read") from error


def name_of(order: Generation3) -> str:
    return f"{order[0]:010}-{order[1]:06}-{order[2]:06}"


def order_of(name: str) -> Generation3 | None:
    """Which generation an object is the manifest of; None, if it is none."""
    stem, dot, suffix = name.partition(".")
    parts = stem.split("-")
    if dot + suffix not in (INLINE, NAMES_BLOBS) or len(parts) != 3 or not all(part.isdigit() for part in parts):
        return None
    return (int(parts[0]), int(parts[1]), int(parts[2]))


# records


async def record_of(manifest: Manifest, metadata: Any) -> bytes:
    """A manifest's bytes, with its encoded metadata; made in a thread where it has many files."""
    if len(manifest.files) <= _FEW:
        return sealed(to_json(described(manifest, metadata)))
    return await in_thread(lambda: sealed(to_json(described(manifest, metadata))))


def sealed(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).hexdigest().encode() + b"\n" + body


def unsealed(data: bytes) -> dict[str, Any]:
    """The record in a manifest's bytes. Raises: ValueError."""
    check, _, body = data.partition(b"\n")
    if blake2b(body, digest_size=16).hexdigest().encode() != check:
        raise ValueError("the manifest does not match its digest")
    return cast("dict[str, Any]", from_json(body))


def blobs_named(record: Mapping[str, Any], where: str = "a manifest") -> set[str]:
    """The names of the blobs that a manifest's record (see `unsealed`) holds on to. Raises: CheckpointForeign."""
    _check_format(record, where)
    lists = [found[7] for found in record.get("files", ())] + [chunks for _, chunks in record.get("parts", ())]
    return {_chunk(each).name for chunks in lists for each in chunks}


def described(manifest: Manifest, metadata: Any) -> dict[str, Any]:
    """The record of a manifest, with its encoded metadata: what `understand` reads."""
    generation = manifest.generation
    record: dict[str, Any] = {
        "holdfast": FORMAT,
        "kind": manifest.kind,
        "version": manifest.version,
        "metadata": metadata,
        "size": generation.size,
        "digest": generation.digest,
        "sent": generation.sent,
        "at": generation.created_at.timestamp(),
        "ordinal": manifest.ordinal,
        "undelivered": list(manifest.undelivered),
        "sync": manifest.is_synced,
    }
    if manifest.inline is not None:
        record["inline"] = b64encode(manifest.inline).decode()
    if manifest.files:
        record["files"] = [_file_row(found) for found in manifest.files]
    if manifest.parts:
        record["parts"] = [[part, [_chunk_row(chunk) for chunk in chunks]] for part, chunks in manifest.parts]
    if manifest.bars is not None:
        record["bars"] = {name: list(values) for name, values in manifest.bars.items()}
    return record


def understand(order: Generation3, record: dict[str, Any], where: str) -> Manifest:
    """Raises: CheckpointForeign; ValueError, KeyError, TypeError or IndexError, where it is damaged."""
    _check_format(record, where)
    generation = Generation(
        *order,
        size=record["size"],
        digest=record["digest"],
        created_at=instant(record["at"]),
        metadata=codec_for(Any, task="metadata").decode(record["metadata"], {}),
        sent=record["sent"],
    )
    return Manifest(
        generation=generation,
        kind=record["kind"],
        version=record["version"],
        ordinal=record["ordinal"],
        undelivered=tuple(record["undelivered"]),
        is_synced=record["sync"],
        inline=b64decode(record["inline"]) if "inline" in record else None,
        files=tuple(_file(row) for row in record.get("files", ())),
        parts=tuple((part, tuple(map(_chunk, chunks))) for part, chunks in record.get("parts", ())),
        bars={name: _bar(*values[:4]) for name, values in record["bars"].items()} if "bars" in record else None,
    )


def digest_of(manifest_files: Iterable[File], kind: Kind) -> str:
    """What `Generation.digest` says of a payload in chunks."""
    if kind != "directory":
        return "".join(digest_of_chunks(found.chunks) for found in manifest_files)
    rows = [[f.path, f.mode, f.size, f.link, f.is_folder, digest_of_chunks(f.chunks)] for f in manifest_files]
    return sha256(to_json(rows)).hexdigest()


def digest_of_chunks(chunks: Iterable[Chunk]) -> str:
    return sha256(to_json([[chunk.digest, chunk.size] for chunk in chunks])).hexdigest()


def _check_format(record: Mapping[str, Any], where: str) -> None:
    found = str(record.get("holdfast", "none"))
    if found.partition(".")[0] != FORMAT.partition(".")[0]:
        raise CheckpointForeign(where=where, found=found, known=FORMAT)


def _chunk_row(chunk: Chunk) -> list[Any]:
    """Names mostly begin with the digest: then only what follows is written, behind a plus."""
    follows = chunk.name.removeprefix(chunk.digest)
    return [chunk.digest, chunk.size, chunk.name if follows == chunk.name else f"+{follows}"]


def _chunk(row: list[Any]) -> Chunk:
    digest, size, name = row[:3]
    return Chunk(digest, size, f"{digest}{name[1:]}" if name[:1] == "+" else name)


def _bar(n: float, total: float | None, started_at: float, updated_at: float) -> BarValues:
    return n, total, started_at, updated_at


def _file_row(f: File) -> list[Any]:
    stat = [f.stat.ctime_ns, f.stat.inode, f.stat.device] if f.stat is not None else None
    return [f.path, f.mode, f.size, f.mtime_ns, f.link, f.is_folder, stat, [_chunk_row(chunk) for chunk in f.chunks]]


def _file(row: list[Any]) -> File:
    path, mode, size, mtime_ns, link, is_folder, stat, chunks = row[:8]
    known = Stat(size, mtime_ns, *stat) if stat is not None else None
    return File(path, mode, size, mtime_ns, link, is_folder, tuple(map(_chunk, chunks)), known)
