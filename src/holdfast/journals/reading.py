"""Reading a journal: all segments, each up to its recorded end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from holdfast.errors import JournalDamaged, ObjectMissing
from holdfast.events import Event
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.journals.frames import Header, Seal, Segment, parse, parse_sealed, segment_key

_SEGMENT = re.compile(r"(\d{20})\.jsonl")


class Read(Frozen):
    """A journal as read: its segments in order, the ends on record, and how long each file was."""

    segments: tuple[Segment, ...]
    seals: Mapping[int, Seal]
    sizes: Mapping[int, int]

    @property
    def newest(self) -> Header | None:
        return self.segments[-1].header if self.segments else None

    @property
    def is_settled(self) -> bool:
        """Whether every end but the newest segment's is on record. Else somebody is taking over, and may not count all that was read."""
        return all(segment.header.segment in self.seals for segment in self.segments[:-1])

    def events(self) -> Iterator[Event]:
        for segment in self.segments:
            for frame in segment.frames:
                yield from frame.events()

    def events_naming(self, action: str) -> Iterator[Event]:
        """The events whose line mentions `action`: quick where one of a million is asked for."""
        word = action.encode()
        for segment in self.segments:
            for frame in segment.frames:
                if word in frame.payload:
                    yield from frame.events_with(word)


async def segment_sizes(folder: Folder) -> dict[int, int]:
    """The numbers of the segments that exist, ascending, and their sizes in bytes."""
    found = {int(match[1]): entry.size for entry in await folder.list("journal") if (match := _SEGMENT.fullmatch(entry.name))}
    return dict(sorted(found.items()))


async def read_journal(folder: Folder, *, below: int | None = None, known: Read | None = None) -> Read:
    """Read the segments (those below number `below`, where given) of the run in `folder`.

    A new segment that appears meanwhile may record an end for one just read, so the list is taken again until it stands still.
    `known` is an earlier reading: files only grow, so one that is as long as it was then need not be read again.

    Raises: JournalDamaged, JournalTooNew, StoreError.
    """
    data: dict[int, bytes] = {}
    kept = {s.header.segment: s for s in known.segments} if known is not None else {}
    sizes: dict[int, int] = {}
    while True:
        found = {n: size for n, size in (await segment_sizes(folder)).items() if below is None or n < below}
        if known is not None:
            kept = {n: s for n, s in kept.items() if found.get(n) == known.sizes[n]}
        fresh = [n for n in found if n not in data and n not in kept]
        sizes |= found
        if not fresh:
            understood = _understand(folder.url, data, kept, sizes)
            return understood if understood is not None else await read_journal(folder, below=below)
        for number in sorted(found, reverse=True):  # newest first: what it says of an older one's end is true of what is read afterwards
            if number not in kept:
                data[number] = await _segment(folder, number)
                sizes[number] = len(data[number])


async def _segment(folder: Folder, number: int) -> bytes:
    try:
        return await folder.get(segment_key(number))
    except ObjectMissing as error:
        where = f"{folder.url}/{segment_key(number)}"
        raise JournalDamaged(where=where, segment=number, offset=0, reason="the segment is gone") from error


def _understand(url: str, data: Mapping[int, bytes], kept: Mapping[int, Segment], sizes: Mapping[int, int]) -> Read | None:
    """Newest first: only a newer segment knows where an older one ends. None, where that contradicts a kept reading."""
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
    _check_sequence(url, segments, seals)
    return Read(segments=tuple(segments), seals=seals, sizes={n: len(data[n]) if n in data else sizes[n] for n in (*data, *kept)})


def _check_sequence(url: str, segments: list[Segment], seals: Mapping[int, Seal]) -> None:
    numbers = {segment.header.segment for segment in segments}
    expected = set(range(1, max(numbers, default=0) + 1)) | set(seals)
    for number in sorted(expected - numbers):
        where = f"{url}/{segment_key(number)}"
        raise JournalDamaged(where=where, segment=number, offset=0, reason="the segment is gone")
