"""The journal in an object store: a group is an object, the next name is the fence, snapshots stand for what they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.codec import from_json
from holdfast.errors import JournalDamaged, RunFenced
from holdfast.events import (
    ActionAsked,
    AttemptEnded,
    AttemptStarted,
    CheckpointSaved,
    Event,
    Progressed,
    Warned,
    decode_event,
    encode_event,
)
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.protocol import Entry, Trouble
from holdfast.journals import creating
from holdfast.journals.creating import SNAPSHOT_SEGMENTS
from holdfast.journals.frames import segment_key
from holdfast.journals.owning import confirm, take_over
from holdfast.journals.reading import Read, read_journal
from holdfast.journals.snapshots import SEGMENT_GRACE, compacted, snapshot_key, snapshots
from holdfast.journals.writing import Flush, Journal
from holdfast.states import Fold
from holdfast.status import Status
from holdfast.sweeps import sweep
from holdfast.testing import Clock
from holdfast.testing.bucket_faults import Fault, FaultyBucket
from holdfast.testing.buckets import MemoryBucket, bucket_folder


def note(text: str) -> Event:
    return Warned(action="a", at=1.0, category="Note", text=text)


def texts(events: Sequence[Event] | Read) -> list[str]:
    found = events.events() if isinstance(events, Read) else events
    return [event.text for event in found if isinstance(event, Warned)]


async def own(folder: ObjectFolder, known: Read | None = None, flush: Flush | None = None) -> tuple[Journal, Read]:
    return await take_over(folder, "r", known if known is not None else await read_journal(folder), sync=True, flush=flush)


async def read(folder: ObjectFolder) -> list[str]:
    return texts(await read_journal(folder))


async def settle(turns: int = 200) -> None:
    """Let what is behind the work come to its end: nothing of it waits for anything but turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)


def law(body: Callable[[MemoryBucket, ObjectFolder], Awaitable[None]]) -> Callable[[], None]:
    def test() -> None:
        bucket = MemoryBucket()

        async def opened() -> None:
            await body(bucket, bucket_folder(bucket))

        asyncio.run(opened())

    test.__name__ = body.__name__
    return test


@law
async def test_what_was_committed_is_read_by_the_next_owner_in_order(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    expected: list[str] = []
    for owner in range(3):
        journal, found = await own(folder)
        assert texts(found) == expected
        for n in range(3):
            await journal.commit(note(f"{owner}.{n}"))
            expected.append(f"{owner}.{n}")
        await journal.aclose()
    assert await read(folder) == expected


@law
async def test_commits_at_the_same_time_share_one_object(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    journal, _ = await own(folder)
    bucket.requests.clear()
    await asyncio.gather(*(journal.commit(note(str(n))) for n in range(200)))
    assert bucket.requests["create"] <= 2
    assert await read(folder) == [str(n) for n in range(200)]
    await journal.aclose()


@law
async def test_a_group_grows_no_larger_than_it_may(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    journal, _ = await own(folder, flush=Flush(1.0, 2_000))
    await asyncio.gather(*(journal.commit(note("x" * 300 + str(n))) for n in range(50)))
    groups = [each.data for name, each in bucket.objects.items() if name.startswith("journal/")]
    assert max(map(len, groups)) < 3_000
    assert await read(folder) == ["x" * 300 + str(n) for n in range(50)]
    await journal.aclose()


@law
async def test_an_event_larger_than_a_group_is_a_group(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    journal, _ = await own(folder, flush=Flush(1.0, 100))
    journal.append(note("small"))
    await journal.commit(note("y" * 1_000))
    await journal.aclose()
    assert await read(folder) == ["small", "y" * 1_000]


@law
async def test_what_nobody_waits_for_is_written_when_the_journal_is_closed(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    journal, _ = await own(folder, flush=Flush(3600.0, 1 << 20))
    journal.append(note("1"))
    assert await read(folder) == []
    await journal.aclose()
    assert await read(folder) == ["1"]


@law
async def test_the_old_owner_is_fenced_and_nothing_that_it_writes_is_read(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    old, _ = await own(folder)
    await old.commit(note("before"))
    told: list[Event] = []
    old.on_durable = told.extend
    new, found = await own(folder)
    assert texts(found) == ["before"]
    with pytest.raises(RunFenced):
        await old.commit(note("late"))
    assert told == []
    await new.commit(note("after"))
    assert await read(folder) == ["before", "after"]
    await new.aclose()
    old.abandon()


@law
async def test_of_contenders_for_one_run_a_single_one_gets_it(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    dead, _ = await own(folder)
    await dead.commit(note("before"))
    dead.abandon()
    known = await read_journal(folder)
    ends = await asyncio.gather(*(own(folder, known) for _ in range(8)), return_exceptions=True)
    winners = [end for end in ends if isinstance(end, tuple)]
    assert len(winners) == 1
    assert sum(isinstance(end, RunFenced) for end in ends) == 7
    await winners[0][0].aclose()


class Racing(ObjectFolder):
    """The owner that is to be fenced writes a group before each of our first tries to take its next name."""

    def __init__(self, bucket: MemoryBucket, races: int, meanwhile: Callable[[], Awaitable[object]]) -> None:
        async def opened() -> MemoryBucket:
            return bucket

        super().__init__(opened, "", "bucket:")
        self._races, self._meanwhile = races, meanwhile

    async def create(self, key: str, data: bytes, *, sync: bool = True) -> None:
        if self._races:
            self._races -= 1
            await self._meanwhile()
        await super().create(key, data, sync=sync)


@law
async def test_an_owner_at_work_is_fenced_although_it_takes_the_next_names_first(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    old, _ = await own(folder)
    known = await read_journal(folder)
    new, found = await own(Racing(bucket, 3, lambda: old.commit(note("working"))), known)
    assert texts(found) == ["working"] * 3
    with pytest.raises(RunFenced):
        await old.commit(note("late"))
    await new.commit(note("after"))
    assert await read(folder) == ["working"] * 3 + ["after"]
    await new.aclose()
    old.abandon()


@law
async def test_a_finished_journal_is_confirmed_by_reading_it(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    assert not await confirm(folder, await read_journal(folder), sync=True)
    journal, _ = await own(folder)
    await journal.commit(note("1"))
    await journal.aclose()
    assert await confirm(folder, await read_journal(folder), sync=True)


# damage


async def three_groups(folder: ObjectFolder) -> None:
    journal, _ = await own(folder)
    for n in range(3):
        await journal.commit(note(str(n)))
    await journal.aclose()


@pytest.mark.parametrize("segment", [1, 2, 4])
def test_a_changed_or_missing_byte_anywhere_in_an_object_is_damage_of_that_segment(segment: int) -> None:
    async def damage() -> None:
        bucket = MemoryBucket()
        folder = bucket_folder(bucket)
        await three_groups(folder)
        whole = await folder.get(segment_key(segment))
        changed = [whole[:n] + bytes([whole[n] ^ 0xFF]) + whole[n + 1 :] for n in range(0, len(whole), 7)]
        for data in (*changed, whole[:-1], whole[: whole.index(b"\n") + 1] if segment > 1 else whole[:-2], b""):
            await folder.put(segment_key(segment), data)
            with pytest.raises(JournalDamaged) as caught:
                await read_journal(folder)
            assert caught.value.segment == segment
            assert segment_key(segment) in str(caught.value)

    asyncio.run(damage())


@law
async def test_a_segment_that_is_gone_is_damage(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    await three_groups(folder)
    await folder.delete(segment_key(2))
    with pytest.raises(JournalDamaged, match="gone"):
        await read_journal(folder)


# snapshots


async def snapped(folder: ObjectFolder, groups: int) -> list[str]:
    journal, _ = await own(folder)
    for n in range(groups):
        await journal.commit(note(str(n)))
    await settle()
    await journal.aclose()
    return [str(n) for n in range(groups)]


@law
async def test_a_long_journal_is_read_in_few_requests(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    expected = await snapped(folder, 4 * SNAPSHOT_SEGMENTS)
    bucket.requests.clear()
    assert await read(folder) == expected
    assert sum(bucket.requests.values()) <= SNAPSHOT_SEGMENTS + 4


def test_however_long_a_journal_is_no_more_than_so_many_objects_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creating, "SNAPSHOT_MOST", SNAPSHOT_SEGMENTS + 50)

    async def long() -> None:
        bucket = MemoryBucket()
        folder = bucket_folder(bucket)
        journal, _ = await own(folder)
        for n in range(8 * SNAPSHOT_SEGMENTS):
            await journal.commit(note(str(n)))
            if n % 25 == 0:
                assert n + 2 - max(await snapshots(folder), default=0) <= SNAPSHOT_SEGMENTS + 100
        await journal.aclose()
        assert await read(folder) == [str(n) for n in range(8 * SNAPSHOT_SEGMENTS)]

    asyncio.run(long())


@law
async def test_all_snapshots_together_are_little_more_than_the_journal(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    await snapped(folder, 12 * SNAPSHOT_SEGMENTS)
    sizes = {kind: sum(len(e.data) for n, e in bucket.objects.items() if n.startswith(kind)) for kind in ("journal/", "snap/")}
    assert sizes["snap/"] <= 2 * sizes["journal/"]


@law
async def test_an_owner_goes_on_from_a_snapshot_alone(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    expected = await snapped(folder, SNAPSHOT_SEGMENTS)
    newest = max(await snapshots(folder))
    rest = texts(await read_journal(folder))
    for entry in await folder.list("journal"):
        if int(entry.name[:20]) <= newest:
            await folder.delete(f"journal/{entry.name}")
    assert texts(await read_journal(folder)) == rest == expected
    journal, _ = await own(folder)
    await journal.commit(note("more"))
    await journal.aclose()
    assert await read(folder) == [*expected, "more"]


@law
async def test_a_damaged_snapshot_is_passed_over_while_its_segments_are_there(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    expected = await snapped(folder, 3 * SNAPSHOT_SEGMENTS)
    newest = max(await snapshots(folder))
    data = await folder.get(snapshot_key(newest))
    await folder.put(snapshot_key(newest), data[:-9] + b"?" + data[-8:])
    assert await read(folder) == expected
    await folder.delete(segment_key(newest - 1))
    with pytest.raises(JournalDamaged):
        await read_journal(folder)


class Sweeping(ObjectFolder):
    """Another process makes a snapshot and deletes what it stands for, between a reader's look at the names and its first read."""

    def __init__(self, bucket: MemoryBucket, meanwhile: Callable[[], Awaitable[object]]) -> None:
        async def opened() -> MemoryBucket:
            return bucket

        super().__init__(opened, "", "bucket:")
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

    async def get(self, key: str) -> bytes:
        if self._meanwhile is not None and key.startswith("journal/"):
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return await super().get(key)


@law
async def test_a_reader_whose_segments_are_swept_meanwhile_reads_on_from_the_snapshot(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    journal, _ = await own(folder)
    for n in range(SNAPSHOT_SEGMENTS - 2):
        await journal.commit(note(str(n)))

    async def sweep() -> None:
        for n in range(SNAPSHOT_SEGMENTS - 2, SNAPSHOT_SEGMENTS + 1):
            await journal.commit(note(str(n)))
        await settle()
        newest = max(await snapshots(folder))
        await folder.delete(*(segment_key(n) for n in range(1, newest + 1)))

    assert await read(Sweeping(bucket, sweep)) == [str(n) for n in range(SNAPSHOT_SEGMENTS + 1)]
    await journal.aclose()


def test_an_owner_that_was_away_for_long_is_fenced_by_the_snapshot_although_its_next_name_is_free() -> None:
    async def away(clock: Clock) -> None:
        bucket = MemoryBucket()
        folder = bucket_folder(bucket)
        old, _ = await own(folder)
        await old.commit(note("before"))
        told: list[Event] = []
        old.on_durable = told.extend
        await snapped(folder, SNAPSHOT_SEGMENTS)
        clock.advance(SEGMENT_GRACE)
        newest = max(await snapshots(folder))
        await folder.delete(*(segment_key(n) for n in range(1, newest + 1)))
        with pytest.raises(RunFenced):
            await old.commit(note("late"))
        assert told == []
        assert "late" not in await read(folder)
        old.abandon()

    clock = Clock(jumps=False)
    with clock.use():
        asyncio.run(away(clock))


def test_an_owner_that_was_away_unseen_by_any_clock_finds_its_next_name_taken_still() -> None:
    async def away() -> None:
        bucket = MemoryBucket()
        folder = bucket_folder(bucket)
        run = folder.child("runs/r/000000")
        old, _ = await own(run)
        await old.commit(note("before"))
        with elsewhere.use():  # time that passes for others, and for no clock that the owner has
            await snapped(run, 3 * SNAPSHOT_SEGMENTS)
            elsewhere.advance(2 * SEGMENT_GRACE)
            assert await sweep(folder) > 0
        assert segment_key(1) in {f"journal/{entry.name}" for entry in await run.list("journal")}
        assert len(await run.list("journal")) < 2 * SNAPSHOT_SEGMENTS
        with pytest.raises(RunFenced):
            await old.commit(note("late"))
        assert "late" not in await read(run)
        old.abandon()

    elsewhere = Clock(jumps=False)
    with Clock(jumps=False).use():
        asyncio.run(away())


def test_a_contender_that_was_away_for_long_does_not_get_a_name_that_was_deleted() -> None:
    async def away() -> None:
        bucket = MemoryBucket()
        folder = bucket_folder(bucket)
        first, _ = await own(folder)
        first.abandon()
        known = await read_journal(folder)
        await snapped(folder, SNAPSHOT_SEGMENTS)
        newest = max(await snapshots(folder))
        await folder.delete(*(segment_key(n) for n in range(1, newest + 1)))
        with pytest.raises(RunFenced):
            await own(folder, known)
        assert len(await read(folder)) == SNAPSHOT_SEGMENTS

    asyncio.run(away())


class Frozen(Clock):
    """Of a machine that is frozen by the one that it is in: when it goes on, the wall alone says how long that was."""

    frozen: float = 0.0

    def monotonic(self) -> float:
        return super().monotonic() - self.frozen


def test_an_owner_whose_machine_was_frozen_for_long_is_fenced_although_no_time_has_passed_for_it() -> None:
    async def away(clock: Frozen) -> None:
        folder = bucket_folder()
        old, _ = await own(folder)
        await old.commit(note("before"))
        await snapped(folder, SNAPSHOT_SEGMENTS)
        clock.frozen = SEGMENT_GRACE
        clock.advance(SEGMENT_GRACE)
        await folder.delete(*(segment_key(n) for n in range(1, max(await snapshots(folder)) + 1)))
        with pytest.raises(RunFenced):
            await old.commit(note("late"))
        old.abandon()

    clock = Frozen(jumps=False)
    with clock.use():
        asyncio.run(away(clock))


class Overtaken(ObjectFolder):
    """While a contender stands still that has its name, and has looked for snapshots, `meanwhile` happens."""

    def __init__(self, bucket: MemoryBucket, meanwhile: Callable[[], Awaitable[object]]) -> None:
        async def opened() -> MemoryBucket:
            return bucket

        super().__init__(opened, "", "bucket:")
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

    async def list(self, prefix: str) -> Sequence[Entry]:
        if prefix == "journal" and self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return await super().list(prefix)


@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_contender_that_stood_still_between_its_name_and_its_reading_is_fenced_by_the_snapshot_made_meanwhile(left: int) -> None:
    async def overtake() -> None:
        bucket = MemoryBucket()
        folder = bucket_folder(bucket)
        for n in range(150):
            journal, _ = await own(folder)
            if n == 0:
                await journal.commit(note("before"))
            journal.abandon()
        newest = (await read_journal(folder)).newest
        assert newest is not None

        async def meanwhile() -> None:
            await snapped(folder, SNAPSHOT_SEGMENTS)
            await folder.delete(*(segment_key(n) for n in range(1, newest.segment + 1 - left)))

        with pytest.raises(RunFenced):
            await asyncio.wait_for(own(Overtaken(bucket, meanwhile), await read_journal(folder)), 10)

    asyncio.run(overtake())


def test_a_group_under_way_when_the_loop_ends_is_written_to_its_end() -> None:
    bucket = FaultyBucket(MemoryBucket(), [Fault("create", "journal/*2.jsonl", slow=0.05)])
    folder = bucket_folder(bucket)

    async def end() -> None:
        journal, _ = await own(folder)
        writing = asyncio.create_task(journal.commit(note("last")))
        await asyncio.sleep(0.01)
        assert bucket.injected
        del writing

    asyncio.run(end())
    assert asyncio.run(read(folder)) == ["last"]


@law
async def test_a_place_that_takes_no_snapshots_is_not_asked_with_each_group(bucket: MemoryBucket, folder: ObjectFolder) -> None:
    faulty = FaultyBucket(bucket, [Fault("create", "snap/*", trouble=Trouble.REFUSED)])
    expected = await snapped(bucket_folder(faulty), 2 * SNAPSHOT_SEGMENTS)
    assert 1 <= len(faulty.injected) <= 8
    assert await read(folder) == expected


NAMES = st.sampled_from(["root", "a", "b"])
GENERATIONS = st.tuples(st.integers(1, 2), st.integers(0, 2), st.integers(0, 3))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(lambda a: ActionAsked(action=a, at=1.0, task="t", parent="" if a == "root" else "root"), NAMES),
    st.builds(lambda a, n, e: AttemptStarted(action=a, at=2.0, number=n, epoch=e), NAMES, st.integers(0, 3), st.integers(1, 2)),
    st.builds(
        lambda a, n, s: AttemptEnded(action=a, at=3.0, number=n, status=s, then=s),
        NAMES,
        st.integers(0, 3),
        st.sampled_from([Status.COMPLETED, Status.FAILED, Status.CRASHED, Status.STOPPED]),
    ),
    st.builds(lambda a, x: Progressed(action=a, at=5.0, bars={"default": (x, None, 0.0, 0.0)}), NAMES, st.floats(0, 9)),
    st.builds(lambda a: Warned(action=a, at=6.0, category="Note", text="it"), NAMES),
)


def lives(found: list[Event]) -> list[Event]:
    """With a save here and there, by whichever attempt is under way, as an owner notes it."""
    out: list[Event] = [ActionAsked(action="root", at=0.0, task="t")]  # nothing is asked for before what asks for it
    under_way: dict[str, AttemptStarted] = {}
    newest: dict[str, int] = {}
    is_next: dict[str, bool] = {}
    saves = 0
    for event in found:
        if event.action == "root" and isinstance(event, (ActionAsked, AttemptStarted)) and under_way.keys() - {"root"}:
            continue  # an attempt ends after its children, and nothing is asked anew before
        if isinstance(event, AttemptStarted):
            is_next[event.action] = event.number > newest.get(event.action, -1)
            newest[event.action] = max(newest.get(event.action, -1), event.number)
        if isinstance(event, Progressed) and not (event.action in under_way and is_next[event.action]):
            continue  # numbers grow, bars are those of the attempt under way, and its last values stand before its outcome
        out.append(event)
        if isinstance(event, AttemptStarted):
            under_way[event.action] = event
        elif isinstance(event, AttemptEnded):
            under_way.pop(event.action, None)
        elif isinstance(event, (Progressed, Warned)) and event.action in under_way:
            at = under_way[event.action]
            saves += 1
            out.append(CheckpointSaved(action=event.action, at=4.0, generation=(at.epoch, at.number, saves), size=1, digest=""))
    return out


def seen(events: Sequence[Event]) -> Any:
    fold = Fold()
    for event in events:
        fold.fold(event)
    return {
        name: {slot: repr(getattr(record, slot)) for slot in type(record).__slots__ if slot not in ("attempt", "earlier")}
        | {"attempts": [(a.number, a.epoch, a.status, a.ended_at) for a in record.attempts]}
        for name, record in fold.actions.items()
    }, [warned.text for warned in fold.warnings]


@given(st.lists(EVENTS, max_size=40).map(lives))
def test_folding_a_compacted_journal_gives_what_folding_all_of_it_gives(events: list[Event]) -> None:
    lines = [encode_event(event) for event in events]
    rest = compacted(lines).split(b"\n")[:-1]
    assert len(rest) <= len(lines)
    assert seen([decode_event(from_json(line)) for line in rest]) == seen([decode_event(from_json(line)) for line in lines])
