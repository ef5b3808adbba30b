"""Reading a journal: the newest snapshot, if there is one, and all segments behind it, each up to its recorded end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from holdfast.errors import JournalDamaged, ObjectExists, ObjectMissing
from holdfast.events import Event
from holdfast.flow import side_by_side
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.journals.frames import Header, Seal, Segment, parse, parse_sealed, segment_key
from holdfast.journals.snapshots import Snapshot, newest_snapshot, snapshot_key, snapshots

#: Segments that are fetched at one time.
AT_ONCE: Final = 32

_SEGMENT = re.compile(r"(\d{20})\.jsonl")


class Read(Frozen):
    """A journal as read: a snapshot of its beginning, the segments behind that in order, the ends on record, how long each was listed."""

    segments: tuple[Segment, ...]
    seals: Mapping[int, Seal]
    sizes: Mapping[int, int]
    snapshot: Snapshot | None = None

    @classmethod
    def nothing(cls) -> Read:
        """The journal of a run that was begun a moment ago."""
        return cls(segments=(), seals={}, sizes={})

    @property
    def newest(self) -> Header | None:
        if self.segments:
            return self.segments[-1].header
        return self.snapshot.header if self.snapshot is not None else None

    @property
    def is_settled(self) -> bool:
        """Whether every end but the newest segment's is on record. Else somebody is taking over, and may not count all that was read."""
        return all(segment.header.segment in self.seals for segment in self.segments[:-1])

    def events(self) -> Iterator[Event]:
        if self.snapshot is not None:
            yield from self.snapshot.events()
        for segment in self.segments:
            for frame in segment.frames:
                yield from frame.events()

    def events_naming(self, action: str) -> Iterator[Event]:
        """The events whose line mentions `action`: quick where one of a million is asked for."""
        return self._events_with(action.encode())

    def events_of(self, action: str) -> Iterator[Event]:
        """The events of `action` itself: quick also where a million have it for their parent."""
        return (event for event in self._events_with(b'"action":"%b"' % action.encode()) if event.action == action)

    def _events_with(self, word: bytes) -> Iterator[Event]:
        if self.snapshot is not None:
            yield from self.snapshot.events_with(word)
        for segment in self.segments:
            for frame in segment.frames:
                yield from frame.events_with(word)

    @property
    def epochs(self) -> set[int]:
        """Of all owners that there were."""
        before = self.snapshot.epochs if self.snapshot is not None else ()
        return {*before, *(segment.header.epoch for segment in self.segments)}

    def lines(self) -> Iterator[bytes]:
        """What was read behind the snapshot, as lines."""
        for segment in self.segments:
            for frame in segment.frames:
                yield from frame.lines()


async def segment_sizes(folder: Folder) -> dict[int, int]:
    """The numbers of the segments that exist, ascending, and their sizes in bytes."""
    found = {int(match[1]): entry.size for entry in await folder.list("journal") if (match := _SEGMENT.fullmatch(entry.name))}
    return dict(sorted(found.items()))


async def read_journal(folder: Folder, *, below: int | None = None, known: Read | None = None) -> Read:
    """Read the segments (those below number `below`, where given) of the run in `folder`.

    `known` is an earlier reading: files only grow and objects never change, so one that is as long as it was then is not read again.

    Raises: JournalDamaged, JournalTooNew, StoreError; ObjectExists, where a snapshot stands for `below` itself: whoever holds that name
        was away for so long that it was deleted meanwhile, and is not the owner.
    """
    return await (_read_growing(folder, below, known) if folder.logs is not None else _read_objects(folder, below, known))


async def _read_growing(folder: Folder, below: int | None, known: Read | None) -> Read:
    """A new segment that appears meanwhile may record an end for one just read, so the list is taken again until it stands still."""
    data: dict[int, bytes] = {}
    kept = {s.header.segment: s for s in known.segments} if known is not None else {}
    sizes: dict[int, int] = {}
    while True:
        found = {n: size for n, size in (await segment_sizes(folder)).items() if below is None or n < below}
        if known is not None:
            kept = {n: s for n, s in kept.items() if found.get(n) == known.sizes[n]}
            sizes |= {n: found[n] for n in kept}
        fresh = [n for n in found if n not in data and n not in kept]
        if not fresh:
            understood = _understand(folder.url, data, kept, sizes, None, 0)
            return understood if understood is not None else await _read_growing(folder, below, None)
        for number in sorted(found, reverse=True):  # newest first: what it says of an older one's end is true of what is read afterwards
            if number not in kept:
                data[number] = await _segment(folder, number)
                sizes[number] = found[number]  # as listed before it was read: where it grows from then on, it is read again


async def _read_objects(folder: Folder, below: int | None, known: Read | None) -> Read:
    """What a segment holds was there when its name was, so one look at the names is a state of the journal.

    A segment that is gone when it is fetched went because of a newer snapshot: then all is read again from that.
    """
    while True:
        names = await snapshots(folder)
        if below is not None and names and names[-1] >= below:
            raise ObjectExists(where=f"{folder.url}/{snapshot_key(names[-1])}")
        snapshot = await newest_snapshot(folder, names)
        start = snapshot.segment if snapshot is not None else 0
        sizes = {n: size for n, size in (await segment_sizes(folder)).items() if n > start and (below is None or n < below)}
        kept = {s.header.segment: s for s in known.segments if s.header.segment in sizes} if known is not None else {}
        try:
            data = await _segments(folder, [n for n in sizes if n not in kept])
            understood = _understand(folder.url, data, kept, sizes, snapshot, below or 0)
            assert understood is not None  # an object's end does not change
            return understood
        except JournalDamaged:
            if set(await snapshots(folder)) <= set(names):
                raise


async def _segments(folder: Folder, numbers: list[int]) -> dict[int, bytes]:
    return dict(zip(numbers, await side_by_side(partial(_segment, folder), numbers, width=min(AT_ONCE, len(numbers) or 1)), strict=True))


async def _segment(folder: Folder, number: int) -> bytes:
    try:
        return await folder.get(segment_key(number))
    except ObjectMissing as error:
        where = f"{folder.url}/{segment_key(number)}"
        raise JournalDamaged(where=where, segment=number, offset=0, reason="the segment is gone") from error


def _understand(
    url: str, data: Mapping[int, bytes], kept: Mapping[int, Segment], sizes: Mapping[int, int], snapshot: Snapshot | None, end: int
) -> Read | None:
    """Newest first: only a newer segment knows where an older one ends. None, where that contradicts a kept reading.

    All names below `end` have to be there.
    """
    seals: dict[int, Seal] = {}
    segments: list[Segment] = []
    for number in sorted({*data, *kept}, reverse=True):
        where = f"{url}/{segment_key(number)}"
        seal = seals.get(number)
        segment = kept.get(number)
        if segment is not None and seal is not None and segment.seal() != seal:
            return None
        if segment is None:
            segment = parse(data[number], where, number) if seal is None else parse_sealed(data[number], where, seal)
        segments.append(segment)
        for frame in segment.frames:
            for found in frame.seals:
                seals.setdefault(found.segment, found)
    segments.reverse()
    _check_sequence(url, segments, seals, snapshot.segment if snapshot is not None else 0, end)
    return Read(segments=tuple(segments), seals=seals, sizes={n: sizes[n] for n in (*data, *kept)}, snapshot=snapshot)


def _check_sequence(url: str, segments: list[Segment], seals: Mapping[int, Seal], start: int, end: int) -> None:
    numbers = {segment.header.segment for segment in segments}
    expected = set(range(start + 1, max(end, max(numbers, default=0) + 1))) | {number for number in seals if number > start}
    for number in sorted(expected - numbers):
        where = f"{url}/{segment_key(number)}"
        raise JournalDamaged(where=where, segment=number, offset=0, reason="the segment is gone")
