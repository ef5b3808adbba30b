"""Snapshots: all events up to a segment in one object, so that a long journal in an object store is read in few requests.

`snap/<seq>.jsonl` is one checked line, which names the segment's header, the length and the digest of what follows, and then the events'
own lines, without those that later ones make meaningless (the last note of progress counts, and the last note of a save): folding them
gives what folding the segments gives. Only an owner creates one, of groups that it acknowledged or read, so that it is true whoever owns
the run by then.

Segments at or below a snapshot are not read again, and may be deleted `SEGMENT_GRACE` later: all but those by which somebody took the run
over (`epochs`), each of which is the very name that the owner before would need next. So whoever was away, for however long and by whatever
clock, finds that name taken. As a second look, an owner that was away for more than half the grace asks for such a snapshot before it
believes that a name was free.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

from holdfast.codec import from_json
from holdfast.errors import JournalDamaged, ObjectMissing
from holdfast.events import Event
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.journals.frames import MAJOR, MINOR, Header, checked_line, checked_record, events_of, events_with

SEGMENT_GRACE: Final = 24 * 3600.0
"""Seconds from a snapshot to the deletion of the segments that it stands for."""

_NAME = re.compile(r"(\d{20})\.jsonl")
_SUPERSEDED: Final = {b'{"e":"progressed"': ("action",), b'{"e":"checkpoint_saved"': ("action", "generation")}
"""Kinds of which the last line counts for each of these fields; of a generation, its epoch and attempt."""


class Snapshot(Frozen):
    """All up to the segment of `header`. `epochs` are the segments, up to that, by which the run was taken over."""

    header: Header
    epochs: tuple[int, ...]
    body: bytes

    @property
    def segment(self) -> int:
        return self.header.segment

    def events(self) -> Iterator[Event]:
        return events_of(self.body)

    def events_with(self, word: bytes) -> Iterator[Event]:
        """The events whose line contains `word`."""
        return events_with(self.body, word)

    def to_bytes(self) -> bytes:
        line = {
            "holdfast": f"{MAJOR}.{MINOR}",
            "snapshot": self.header.to_record(),
            "epochs": list(self.epochs),
            "length": len(self.body),
            "digest": _digest(self.body),
        }
        return checked_line(line) + self.body


def snapshot_key(segment: int) -> str:
    return f"snap/{segment:020}.jsonl"


async def snapshots(folder: Folder) -> list[int]:
    """The segments of which there are snapshots, ascending."""
    return sorted(int(match[1]) for entry in await folder.list("snap") if (match := _NAME.fullmatch(entry.name)))


async def newest_snapshot(folder: Folder, segments: Sequence[int]) -> Snapshot | None:
    """The newest valid one of these snapshots, or None. One that is damaged is passed over for an older one.

    Whether that one still suffices shows when the segments behind it are read. Raises: JournalTooNew, StoreError.
    """
    for segment in sorted(segments, reverse=True):
        with contextlib.suppress(JournalDamaged, ObjectMissing):
            return parse_snapshot(await folder.get(snapshot_key(segment)), f"{folder.url}/{snapshot_key(segment)}", segment)
    return None


def parse_snapshot(data: bytes, where: str, segment: int) -> Snapshot:
    """Raises: JournalDamaged, JournalTooNew."""
    record, start = checked_record(data, where, segment)
    body = data[start:]
    try:
        header, epochs = Header.of(record["snapshot"]), tuple(int(epoch) for epoch in record["epochs"])
        length, digest = int(record["length"]), str(record["digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise JournalDamaged(where=where, segment=segment, offset=0, reason="its first line lacks a field") from error
    if (header.segment, length, digest) != (segment, len(body), _digest(body)):
        raise JournalDamaged(where=where, segment=segment, offset=start, reason="the snapshot does not match its digest")
    return Snapshot(header, epochs, body)


def compacted(lines: Iterable[bytes]) -> bytes:
    """The lines that count, each with its end. Pure: folding them gives what folding all of them gives."""
    kept: dict[Any, bytes] = {}
    for number, line in enumerate(lines):
        key = _what_it_supersedes(line)
        if key is None:
            kept[number] = line
        else:
            kept.pop(key, None)  # the later one stands where it was written
            kept[key] = line
    return b"".join(line + b"\n" for line in kept.values())


def _what_it_supersedes(line: bytes) -> tuple[Any, ...] | None:
    for start, fields in _SUPERSEDED.items():
        if line.startswith(start):
            record = from_json(line)
            values = [record.get(field) for field in fields]
            return (start, *(tuple(value[:2]) if isinstance(value, list) else value for value in values))
    return None


def _digest(body: bytes) -> str:
    return blake2b(body, digest_size=16).hexdigest()
