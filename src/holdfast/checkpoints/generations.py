"""Generations and their manifests: how saves are named, ordered and described. The manifest makes a save visible."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal, TypeAlias, cast

from holdfast.clocks import instant
from holdfast.codec import codec_for, from_json
from holdfast.errors import (
    ObjectMissing,
)
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen

Generation3: TypeAlias = tuple[int, int, int]
Kind: TypeAlias = Literal["bytes", "data", "file", "directory"]


@dataclass(frozen=True, slots=True, order=True)
class Generation:
    """One save. Greater is newer.

    Attributes:
        epoch: The owner that saved: grows with every takeover of the run.
        attempt: The attempt that saved.
        n: Which save of that attempt, from 0.
        size: Bytes of the payload.
        digest: sha256 of the payload, hex; of a directory, of its list of files.
        created_at: When it was saved, aware, in UTC.
        metadata: What was given to `save`.
    """

    epoch: int
    attempt: int
    n: int
    size: int
    digest: str
    created_at: datetime
    metadata: Mapping[str, Any]

    @property
    def order(self) -> Generation3:
        return (self.epoch, self.attempt, self.n)


class File(Frozen):
    """One entry of a saved directory: a file (its payload's number), a link (its target) or an empty directory."""

    path: str
    mode: int
    size: int = 0
    digest: str = ""
    link: str | None = None
    is_folder: bool = False


class Manifest(Frozen):
    """What makes a generation visible."""

    generation: Generation
    kind: Kind
    version: str | None
    ordinal: int
    undelivered: tuple[str, ...]
    inline: bytes | None
    parts: tuple[str, ...]
    files: tuple[File, ...]


async def newest_generation(folder: Folder, may_load: Callable[[Generation3], bool]) -> Generation3 | None:
    """The newest generation whose manifest is listed and may be loaded."""
    orders = [o for entry in await folder.list("") if (o := order_of(entry.name)) is not None and may_load(o)]
    return max(orders, default=None)


async def newest_of_version(folder: Folder, version: str | None, may_load: Callable[[Generation3], bool]) -> Generation3 | None:
    """The newest generation that a task of this version may load: one whose manifest can't be read says so when it is loaded."""
    orders = [o for entry in await folder.list("") if (o := order_of(entry.name)) is not None and may_load(o)]
    for order in sorted(orders, reverse=True):
        try:
            if understand(order, unsealed(await folder.get(f"{name_of(order)}.json"))).version == version:
                return order
        except (ObjectMissing, ValueError, KeyError, TypeError, IndexError):
            continue
    return None


def name_of(order: Generation3) -> str:
    return f"{order[0]:010}-{order[1]:06}-{order[2]:06}"


def order_of(name: str) -> Generation3 | None:
    stem, _, suffix = name.partition(".")
    parts = stem.split("-")
    if suffix != "json" or len(parts) != 3 or not all(part.isdigit() for part in parts):
        return None
    return (int(parts[0]), int(parts[1]), int(parts[2]))


def sealed(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).hexdigest().encode() + b"\n" + body


def unsealed(data: bytes) -> dict[str, Any]:
    check, _, body = data.partition(b"\n")
    if blake2b(body, digest_size=16).hexdigest().encode() != check:
        raise ValueError("the manifest does not match its digest")
    return cast("dict[str, Any]", from_json(body))


def understand(order: Generation3, record: dict[str, Any]) -> Manifest:
    metadata = codec_for(Any, task="metadata").decode(record["metadata"], {})
    created = instant(record["at"])
    return Manifest(
        generation=Generation(*order, size=record["size"], digest=record["digest"], created_at=created, metadata=metadata),
        kind=record["kind"],
        version=record["version"],
        ordinal=record["ordinal"],
        undelivered=tuple(record["undelivered"]),
        inline=b64decode(record["inline"]) if "inline" in record else None,
        parts=tuple(record.get("parts", ())),
        files=tuple(File(*found) for found in record.get("files", ())),
    )
