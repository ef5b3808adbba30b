"""What is read of a segment is what was written, or a beginning of it, or nothing: never something else."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.codec import to_json
from holdfast.errors import JournalDamaged, JournalTooNew
from holdfast.events import ActionAsked, AttemptEnded, Event, encode_event
from holdfast.journals.frames import (
    PIECE,
    Frame,
    Header,
    Seal,
    Segment,
    checked_line,
    events_of,
    events_with,
    frame,
    header_digest,
    parse,
    parse_header,
    parse_sealed,
)
from holdfast.journals.reading import Read
from holdfast.status import Status

WHERE = "memory:/journal/3"
HEADER = Header(segment=3, epoch=3, owner="a" * 32, previous=2, host="here", pid=7, boot="b", started=1.5)

texts = st.one_of(st.text(max_size=20), st.sampled_from(['{"frame":0', '\n{"frame":1,"length":0', "}", "\n", '"', "\\"]))
lines = st.lists(st.builds(lambda text, n: to_json({"e": "x", "text": text, "n": n, "at": {"frame": n}}), texts, st.integers()), max_size=4)
groups = st.lists(lines, min_size=0, max_size=5)
seals = st.lists(st.builds(Seal, st.integers(1, 9), st.integers(0, 10**6), st.just("d" * 32)), max_size=3)


def written(groups: list[list[bytes]], sealed: list[Seal]) -> tuple[bytes, list[int]]:
    """A segment, and where its frames end; the header's end is the first of these."""
    data = HEADER.to_line()
    digest, ends = header_digest(data), [len(data)]
    for index, group in enumerate(groups):
        made, digest = frame(index, digest, group, sealed if index == 0 else ())
        data += made
        ends.append(len(data))
    return data, ends


def payloads(segment: Segment) -> list[bytes]:
    return [bytes(found.payload) for found in segment.frames]


def whole(group: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in group)


@given(groups, seals)
def test_what_was_written_is_read(groups: list[list[bytes]], sealed: list[Seal]) -> None:
    data, _ = written(groups, sealed)
    segment = parse(data, WHERE, 3)
    assert (segment.header, segment.length) == (HEADER, len(data))
    assert payloads(segment) == [whole(group) for group in groups]
    assert [found.seals for found in segment.frames[:1]] == ([tuple(sealed)] if groups else [])
    assert parse_sealed(data + b"whatever", WHERE, segment.seal()) == segment


@given(groups, st.data())
def test_any_beginning_is_read_as_whole_frames_or_refused_within_the_header(groups: list[list[bytes]], draw: st.DataObject) -> None:
    data, ends = written(groups, [])
    size = draw.draw(st.integers(0, len(data)))
    if size < ends[0]:
        with pytest.raises(JournalDamaged, match="segment 3"):
            parse(data[:size], WHERE, 3)
        return
    segment = parse(data[:size], WHERE, 3)
    count = sum(end <= size for end in ends) - 1
    assert payloads(segment) == [whole(group) for group in groups[:count]]
    assert segment.length == ends[count]


@settings(max_examples=400)
@given(groups, seals, st.data())
def test_any_changed_byte_is_damage_with_its_place_or_drops_the_last_frame_alone(
    groups: list[list[bytes]], sealed: list[Seal], draw: st.DataObject
) -> None:
    data, ends = written(groups, sealed)
    borders = [end + side for end in ends for side in (-1, 0) if end + side < len(data)]
    offset, mask = draw.draw(st.integers(0, len(data) - 1) | st.sampled_from(borders)), draw.draw(st.integers(1, 255))
    changed = bytearray(data)
    changed[offset] ^= mask
    if groups and offset >= ends[-2]:
        assert payloads(parse(bytes(changed), WHERE, 3)) == [whole(group) for group in groups[:-1]]
        return
    with pytest.raises((JournalDamaged, JournalTooNew), match=WHERE) as caught:
        parse(bytes(changed), WHERE, 3)
    if isinstance(caught.value, JournalDamaged):
        assert (caught.value.segment, caught.value.offset) == (3, max([0, *(end for end in ends if end <= offset)]))


@given(st.lists(lines, min_size=2, max_size=5), st.data())
def test_frames_can_be_neither_dropped_nor_moved_nor_written_twice(groups: list[list[bytes]], draw: st.DataObject) -> None:
    data, ends = written(groups, [])
    frames = [data[start:end] for start, end in pairwise(ends)]
    order = draw.draw(st.lists(st.integers(0, len(frames) - 1), min_size=1, max_size=len(frames) + 1))
    forged = data[: ends[0]] + b"".join(frames[index] for index in order)
    if order == list(range(len(order))):
        assert payloads(parse(forged, WHERE, 3)) == [whole(group) for group in groups[: len(order)]]
    else:
        with pytest.raises(JournalDamaged):
            parse(forged, WHERE, 3)


@given(groups, seals, st.data())
def test_a_segment_that_is_shorter_or_other_than_its_recorded_end_is_damaged(
    groups: list[list[bytes]], sealed: list[Seal], draw: st.DataObject
) -> None:
    data, _ = written(groups, sealed)
    seal = parse(data, WHERE, 3).seal()
    changed = bytearray(data)
    changed[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    for damaged in (bytes(changed), data[: draw.draw(st.integers(0, len(data) - 1))]):
        with pytest.raises((JournalDamaged, JournalTooNew)):
            parse_sealed(damaged, WHERE, seal)


@given(groups, st.binary(max_size=200))
def test_what_a_power_cut_leaves_at_the_end_is_dropped(groups: list[list[bytes]], rest: bytes) -> None:
    data, _ = written(groups, [])
    assert payloads(parse(data + rest, WHERE, 3)) == [whole(group) for group in groups]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"holdfast": "2.0"}, JournalTooNew),
        ({"holdfast": "1.9"}, None),
        ({"holdfast": "x"}, JournalDamaged),
        ({"segment": 4}, JournalDamaged),
        ({"epoch": None}, JournalDamaged),
        ({"more": 1}, None),
    ],
)
def test_a_header_of_a_newer_minor_version_is_read_and_of_a_major_one_refused(change: dict[str, object], error: type[Exception]) -> None:
    record = {key: value for key, value in json.loads(HEADER.to_line()).items() if key != "check"}
    line = checked_line({**record, **change})
    if error is None:
        assert parse_header(line, WHERE, 3) == HEADER
    else:
        with pytest.raises(error):
            parse_header(line, WHERE, 3)


def test_an_empty_group_is_a_frame_as_well() -> None:
    data, _ = written([[]], [Seal(2, 5, "d" * 32)])
    assert parse(data, WHERE, 3).frames == (
        Frame(index=0, end=len(data), digest=parse(data, WHERE, 3).digest, seals=(Seal(2, 5, "d" * 32),), payload=memoryview(b"")),
    )


def asked(count: int) -> list[Event]:
    return [ActionAsked(action=f"child{n}", at=float(n), parent="root", task="row") for n in range(count)]


def test_a_long_journal_is_in_memory_once_while_it_is_read() -> None:
    data, _ = written([[encode_event(event) for event in asked(100)]] * 200, [])
    tracemalloc.start()
    try:
        segment = parse(data, WHERE, 3)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(segment.frames) == 200
    assert most < len(data) / 4, f"{held} and at most {most} bytes beside the {len(data)} that were read"


@pytest.mark.parametrize("count", [0, 1, 2 * PIECE // 60])
def test_lines_are_read_in_pieces_and_none_is_left_out(count: int) -> None:
    events = asked(count)
    lines = whole([encode_event(event) for event in events])
    assert list(events_of(lines)) == events
    assert list(events_with(lines, b'"child1"')) == events[1:2]
    assert list(events_with(lines, b"root")) == events


def test_of_an_action_only_its_own_events_are_read_however_many_name_it() -> None:
    own: list[Event] = [
        ActionAsked(action="root", at=0.0, task="main"),
        AttemptEnded(action="root", at=9.0, number=0, status=Status.COMPLETED, then=Status.COMPLETED, value={"action": "child7"}),
    ]
    data, _ = written([[encode_event(event) for event in (own[0], *asked(10), own[1])]], [])
    read = Read(segments=(parse(data, WHERE, 3),), seals={}, sizes={})
    assert list(read.events_of("root")) == own
    assert list(read.events_of("child7")) == asked(8)[7:]
    assert len(list(read.events_naming("root"))) == 12
