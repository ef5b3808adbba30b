"""The journal is a fence: who creates the next segment owns the run, and nothing that an earlier owner still writes is ever read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from holdfast.errors import JournalDamaged, RunFenced, StoreFull
from holdfast.events import Event, Warned
from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.protocol import Disk, FileOnDisk, Folder
from holdfast.folders.threads import at_once, in_thread
from holdfast.journals.appending import create_segment
from holdfast.journals.frames import Header, segment_key
from holdfast.journals.owning import confirm, take_over
from holdfast.journals.reading import Read, read_journal
from holdfast.journals.writing import LINGER_SECONDS, Journal
from holdfast.testing import CrashDisk, FullDisk, SimulatedCrash, cut, flip_byte


def folder_on(disk: Disk) -> Folder:
    return LocalFolder(disk, "/run", "memory:", run=at_once)


def note(text: str) -> Event:
    return Warned(action="a", at=1.0, category="Note", text=text)


def texts(events: Sequence[Event] | Read) -> list[str]:
    found = events.events() if isinstance(events, Read) else events
    return [event.text for event in found if isinstance(event, Warned)]


async def own(folder: Folder, known: Read | None = None) -> tuple[Journal, Read]:
    return await take_over(folder, "r", known if known is not None else await read_journal(folder), sync=True)


async def read(folder: Folder) -> list[str]:
    return texts(await read_journal(folder))


class Acknowledged:
    """What a journal told its owner, in order."""

    def __init__(self, journal: Journal) -> None:
        self.texts: list[str] = []
        self.groups = 0
        self.lost: list[BaseException] = []
        journal.on_durable = self._durable
        journal.on_lost = self.lost.append

    def _durable(self, events: Sequence[Event]) -> None:
        self.texts += texts(events)
        self.groups += 1


def test_what_was_committed_is_read_by_the_next_owner_in_order() -> None:
    async def commit() -> list[str]:
        folder = folder_on(MemoryDisk())
        for owner in range(3):
            journal, _ = await own(folder)
            assert journal.epoch == owner + 1
            for n in range(3):
                await journal.commit(note(f"{owner}.{n}"))
            await journal.aclose()
        return await read(folder)

    assert asyncio.run(commit()) == [f"{owner}.{n}" for owner in range(3) for n in range(3)]


def test_commits_at_the_same_time_share_frames() -> None:
    async def commit() -> None:
        disk = CrashDisk(MemoryDisk())
        journal, _ = await own(folder_on(disk))
        acknowledged = Acknowledged(journal)
        await asyncio.gather(*(journal.commit(note(str(n))) for n in range(200)))
        await journal.aclose()
        assert acknowledged.texts == [str(n) for n in range(200)]
        assert acknowledged.groups <= 2
        assert sum(operation.startswith("append") for operation in disk.operations) == acknowledged.groups

    asyncio.run(commit())


def test_what_nobody_waits_for_is_written_after_a_while_or_with_what_somebody_waits_for() -> None:
    async def append() -> None:
        folder = folder_on(MemoryDisk())
        journal, _ = await own(folder)
        written = asyncio.Event()
        journal.on_durable = lambda events: written.set()
        journal.append(note("alone"))
        assert await read(folder) == []
        async with asyncio.timeout(LINGER_SECONDS * 50):
            await written.wait()
        assert await read(folder) == ["alone"]
        journal.append(note("first"))
        await journal.commit(note("second"))
        assert await read(folder) == ["alone", "first", "second"]
        journal.append(note("last"))
        await journal.aclose()
        assert await read(folder) == ["alone", "first", "second", "last"]

    asyncio.run(append())


def test_a_cancelled_committer_hears_of_it_when_its_event_is_durable() -> None:
    async def cancel() -> None:
        folder = folder_on(MemoryDisk())
        journal, _ = await own(folder)
        committing = asyncio.create_task(journal.commit(note("mine")))
        await asyncio.sleep(0)
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        assert await read(folder) == ["mine"]
        await journal.aclose()

    asyncio.run(cancel())


# take-over


def test_the_old_owner_is_fenced_and_what_it_writes_is_never_read() -> None:
    async def fence() -> None:
        folder = folder_on(MemoryDisk())
        old, _ = await own(folder)
        acknowledged = Acknowledged(old)
        await old.commit(note("before"))
        new, found = await own(folder)
        assert texts(found) == ["before"]
        with pytest.raises(RunFenced, match="segment 2"):
            await old.commit(note("late"))
        with pytest.raises(RunFenced):
            await old.commit(note("later"))
        assert (acknowledged.texts, len(acknowledged.lost)) == (["before"], 1)
        await new.commit(note("after"))
        assert await read(folder) == ["before", "after"]
        assert b"late" in await folder.get(segment_key(1)), "it is there, behind the recorded end"
        await new.aclose()
        old.abandon()

    asyncio.run(fence())


def test_an_idle_old_owner_learns_of_it_by_looking() -> None:
    async def look() -> None:
        folder = folder_on(MemoryDisk())
        old, _ = await own(folder)
        await old.look()
        new, _ = await own(folder)
        acknowledged = Acknowledged(old)
        await old.look()
        assert [type(error) for error in acknowledged.lost] == [RunFenced]
        with pytest.raises(RunFenced):
            old.append(note("late"))
        old.abandon()
        await new.aclose()

    asyncio.run(look())


class Paused(LocalFolder):
    """A folder whose owner is held up before it creates something, or after: until another one has done what it wants."""

    def __init__(self, disk: Disk, meanwhile: Callable[[], Awaitable[object]], *, after: bool) -> None:
        super().__init__(disk, "/run", "memory:", run=at_once)
        self._meanwhile, self._after = meanwhile, after

    async def create(self, key: str, data: bytes, *, sync: bool = True) -> None:
        if not self._after:
            await self._meanwhile()
        await super().create(key, data, sync=sync)
        if self._after:
            await self._meanwhile()


def test_what_the_old_owner_wrote_between_creation_and_reading_is_read_and_refused_to_it() -> None:
    """Its look sees the new segment; so nobody was told of it, and reading it harms nobody."""

    async def write_between() -> None:
        disk = MemoryDisk()
        old, _ = await own(folder_on(disk))
        acknowledged = Acknowledged(old)
        await old.commit(note("before"))

        async def meanwhile() -> None:
            with pytest.raises(RunFenced):
                await old.commit(note("between"))

        new, found = await own(Paused(disk, meanwhile, after=True))
        assert texts(found) == ["before", "between"]
        assert acknowledged.texts == ["before"]
        await new.commit(note("after"))
        assert await read(folder_on(disk)) == ["before", "between", "after"]
        await new.aclose()
        old.abandon()

    asyncio.run(write_between())


def test_of_two_contenders_one_wins() -> None:
    async def race() -> None:
        disk = MemoryDisk()
        winners: list[Journal] = []

        async def meanwhile() -> None:
            winners.append((await own(folder_on(disk)))[0])

        with pytest.raises(RunFenced, match="segment 1"):
            await own(Paused(disk, meanwhile, after=False))
        await winners[0].commit(note("mine"))
        assert await read(folder_on(disk)) == ["mine"]
        await winners[0].aclose()

    asyncio.run(race())


def test_a_creation_that_was_applied_and_answered_with_an_error_is_our_own() -> None:
    async def create_twice() -> None:
        folder = folder_on(MemoryDisk())
        header = Header(segment=1, epoch=1, owner="me", previous=0, host="h", pid=1, boot="b", started=0.0)
        (await create_segment(folder, "r", header)).close()
        (await create_segment(folder, "r", header)).close()
        other = Header(segment=1, epoch=1, owner="you", previous=0, host="h", pid=1, boot="b", started=0.0)
        with pytest.raises(RunFenced):
            await create_segment(folder, "r", other)

    asyncio.run(create_twice())


def test_a_recorded_end_never_changes() -> None:
    async def take_over_often() -> None:
        folder = folder_on(MemoryDisk())
        journals: list[Journal] = []
        ends: dict[int, object] = {}
        for owner in range(5):
            journal, _ = await own(folder)
            for late in journals:
                with pytest.raises(RunFenced):
                    await late.commit(note("late"))
            journals.append(journal)
            await journal.commit(note(str(owner)))
            seals = dict((await read_journal(folder)).seals)
            assert ends.items() <= seals.items()
            ends = dict(seals)
            assert sorted(seals) == list(range(1, owner + 1)), "the first frame records every older end"
        assert await read(folder) == [str(owner) for owner in range(5)]
        for journal in journals:
            journal.abandon()

    asyncio.run(take_over_often())


@pytest.mark.parametrize("frames", [0, 1])
def test_an_owner_that_died_before_its_first_frame_leaves_the_ends_to_the_next(frames: int) -> None:
    async def die_early() -> None:
        folder = folder_on(MemoryDisk())
        old, _ = await own(folder)
        await old.commit(note("old"))
        dead, _ = await own(folder)
        dead.abandon()
        assert not (await read_journal(folder)).is_settled
        if frames:
            with pytest.raises(RunFenced):
                await old.commit(note("unacknowledged, read by the next owner"))
        new, found = await own(folder)
        assert len(texts(found)) == 1 + frames
        assert not await confirm(folder, await read_journal(folder), sync=True)
        await new.commit(note("new"))
        assert sorted((await read_journal(folder)).seals) == [1, 2]
        assert len(await read(folder)) == 2 + frames
        assert await confirm(folder, await read_journal(folder), sync=True)
        old.abandon()
        await new.aclose()

    asyncio.run(die_early())


def test_an_owner_killed_at_any_point_of_its_take_over_harms_nothing() -> None:
    async def prepared() -> MemoryDisk:
        disk = MemoryDisk()
        journal, _ = await own(folder_on(disk))
        await journal.commit(note("old"))
        await journal.aclose()
        return disk

    async def die(disk: CrashDisk) -> bool:
        journal: Journal | None = None
        try:
            journal, _ = await own(folder_on(disk))
            await journal.commit(note("dead"))
        except SimulatedCrash:
            if journal is not None:
                journal.abandon()
            return True
        await journal.aclose()
        return False

    async def check(disk: MemoryDisk) -> None:
        journal, found = await own(folder_on(disk))
        assert texts(found) in (["old"], ["old", "dead"])
        await journal.commit(note("new"))
        await journal.aclose()
        assert await read(folder_on(disk)) == [*texts(found), "new"]

    for when in ("before", "after", "torn"):
        at = 1
        while True:
            disk = asyncio.run(prepared())
            if not asyncio.run(die(CrashDisk(disk, at=at, when=when))):  # type: ignore[arg-type]
                break
            asyncio.run(check(disk.copy()))
            at += 1
        assert at > 8


# failed writes


def test_a_group_that_could_not_be_written_goes_to_the_next_segment() -> None:
    """The disk refuses once, in the middle of a frame: the caller hears nothing of it."""

    async def fill() -> None:
        disk = Hiccup()
        journal, _ = await own(folder_on(disk))
        acknowledged = Acknowledged(journal)
        await journal.commit(note("one"))
        disk.refuse = 1
        await asyncio.gather(journal.commit(note("two")), journal.commit(note("three")))
        await journal.commit(note("four"))
        await journal.aclose()
        found = await read_journal(folder_on(disk))
        assert texts(found) == acknowledged.texts == ["one", "two", "three", "four"]
        assert [segment.header.segment for segment in found.segments] == [1, 2]
        assert {segment.header.owner for segment in found.segments} == {found.segments[0].header.owner}
        assert journal.epoch == 1

    asyncio.run(fill())


class Hiccup(MemoryDisk):
    """A disk that refuses the next `refuse` appends to segments, with half of each done."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse = 0

    def open_append(self, path: str) -> FileOnDisk:
        return HiccupFile(self, super().open_append(path))


class HiccupFile:
    def __init__(self, disk: Hiccup, file: FileOnDisk) -> None:
        self._disk, self._file = disk, file

    def append(self, data: bytes) -> None:
        if data and self._disk.refuse:
            self._disk.refuse -= 1
            self._file.append(data[: len(data) // 2])
            raise OSError(5, "Input/output error")
        self._file.append(data)

    def sync(self) -> None:
        self._file.sync()

    def links(self) -> int:
        return self._file.links()

    def close(self) -> None:
        self._file.close()


def test_two_refusals_in_a_row_reach_the_callers_and_the_state_is_untouched() -> None:
    async def refuse() -> None:
        disk = Hiccup()
        journal, _ = await own(folder_on(disk))
        acknowledged = Acknowledged(journal)
        await journal.commit(note("one"))
        disk.refuse = 2
        ends = await asyncio.gather(journal.commit(note("two")), journal.commit(note("three")), return_exceptions=True)
        assert [type(end).__name__ for end in ends] == ["StoreUnavailable", "StoreUnavailable"]
        assert (acknowledged.texts, len(acknowledged.lost)) == (["one"], 1)
        journal.abandon()
        again, found = await own(folder_on(disk))
        assert texts(found) == ["one"]
        await again.commit(note("four"))
        await again.aclose()
        assert await read(folder_on(disk)) == ["one", "four"]

    asyncio.run(refuse())


@pytest.mark.parametrize("room", range(0, 1500, 60))
def test_a_full_disk_is_told_to_the_callers_and_space_makes_good(room: int) -> None:
    async def fill() -> None:
        disk = MemoryDisk()
        first, _ = await own(folder_on(disk))
        await first.commit(note("one"))
        await first.aclose()
        full = FullDisk(disk, after_bytes=room)
        known: list[str] = ["one"]
        journal: Journal | None = None
        try:
            journal, _ = await own(folder_on(full))
            for n in range(100):
                await journal.commit(note(f"more {n}"))
                known.append(f"more {n}")
        except StoreFull:
            if journal is not None:
                journal.abandon()
        assert len(known) < 50, "it was full"
        full.free()
        again, found = await own(folder_on(full))
        assert texts(found) == known
        await again.commit(note("last"))
        await again.aclose()
        assert await read(folder_on(disk)) == [*known, "last"]

    asyncio.run(fill())


# damage


async def three_segments(disk: MemoryDisk) -> None:
    for owner in range(3):
        journal, _ = await own(folder_on(disk))
        for n in range(3):
            await journal.commit(note(f"{owner}.{n}"))
        await journal.aclose()


@pytest.mark.parametrize("segment", [1, 2, 3])
def test_a_segment_that_is_gone_is_named(segment: int) -> None:
    async def lose() -> list[str]:
        disk = MemoryDisk()
        await three_segments(disk)
        disk.unlink(f"/run/{segment_key(segment)}")
        return await read(folder_on(disk))

    if segment == 3:  # nothing tells that there was a newest one
        assert len(asyncio.run(lose())) == 6
        return
    with pytest.raises(JournalDamaged, match=f"segment {segment}"):
        asyncio.run(lose())


@pytest.mark.parametrize("segment", [1, 2])
def test_an_older_segment_that_was_cut_or_changed_is_damaged(segment: int) -> None:
    async def damage(how: Callable[[MemoryDisk, str], None]) -> None:
        disk = MemoryDisk()
        await three_segments(disk)
        how(disk, f"/run/{segment_key(segment)}")
        with pytest.raises(JournalDamaged, match=f"of segment {segment}"):
            await read(folder_on(disk))
        with pytest.raises(JournalDamaged, match=f"of segment {segment}"):
            await own(folder_on(disk))

    for offset in (0, 50, 300, -1):
        asyncio.run(damage(lambda disk, path, offset=offset: flip_byte(disk, path, offset)))  # type: ignore[misc]
    for size in (0, 10, 400):
        asyncio.run(damage(lambda disk, path, size=size: cut(disk, path, size)))  # type: ignore[misc]


def test_the_last_frame_of_the_newest_segment_alone_may_be_torn() -> None:
    async def tear() -> None:
        disk = MemoryDisk()
        await three_segments(disk)
        path = f"/run/{segment_key(3)}"
        cut(disk, path, disk.stat(path).size - 1)
        assert (await read(folder_on(disk)))[-1] == "2.1"
        journal, _ = await own(folder_on(disk))
        await journal.commit(note("new"))
        await journal.aclose()
        assert (await read(folder_on(disk)))[-2:] == ["2.1", "new"]

    asyncio.run(tear())


# readers


class Interrupted(LocalFolder):
    """A folder whose reader is held up once, behind the first segment that it reads."""

    def __init__(self, disk: Disk, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(disk, "/run", "memory:", run=at_once)
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

    async def get(self, key: str) -> bytes:
        data = await super().get(key)
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return data


def test_a_reader_that_is_overtaken_by_a_take_over_reads_no_two_ends_of_one_segment() -> None:
    """The old owner's last bytes come, and their end is recorded, while it is between the two segments."""

    async def overtake() -> None:
        disk = MemoryDisk()
        created, go_on = asyncio.Event(), asyncio.Event()
        old, _ = await own(folder_on(disk))
        await old.commit(note("one"))

        async def wait() -> None:
            created.set()
            await go_on.wait()

        taking = asyncio.create_task(own(Paused(disk, wait, after=True)))
        await created.wait()

        async def overtaken() -> None:
            with pytest.raises(RunFenced):
                await old.commit(note("two"))
            go_on.set()
            new, _ = await taking
            await new.commit(note("three"))
            await new.aclose()

        assert await read(Interrupted(disk, overtaken)) in (["one", "two"], ["one", "two", "three"])
        assert await read(folder_on(disk)) == ["one", "two", "three"]
        old.abandon()

    asyncio.run(overtake())


def test_a_reader_beside_owners_that_come_and_go_reads_a_beginning_of_the_truth() -> None:
    """Owners in one thread, each fencing the one before; a reader in another: what it reads is never torn, and never taken back."""
    owners, disk, over = 12, MemoryDisk(), threading.Event()
    readings: list[list[str]] = []
    failures: list[BaseException] = []

    async def write() -> None:
        journals: list[Journal] = []
        for owner in range(owners):
            journal, _ = await own(LocalFolder(disk, "/run", "memory:", run=in_thread))
            journals.append(journal)
            for n in range(4):
                await asyncio.gather(*(journal.commit(note(f"{owner}.{n}.{part}")) for part in range(3)))
        for journal in journals:
            journal.abandon()

    async def keep_reading() -> None:
        while not over.is_set():
            readings.append(await read(folder_on(disk)))

    def reader() -> None:
        try:
            asyncio.run(keep_reading())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        asyncio.run(write())
    finally:
        over.set()
        thread.join()
    assert failures == []
    truth = asyncio.run(read(folder_on(disk)))
    assert len(truth) == owners * 4 * 3
    for reading in readings:
        assert reading == truth[: len(reading)]


def test_what_was_written_while_an_earlier_reading_went_on_is_read_by_who_takes_over_on_it() -> None:
    """A frame that lands behind a file's reading, and before the second look at the names, is in no reading, and in its length."""

    class Late(LocalFolder):
        def __init__(self, disk: Disk, meanwhile: Callable[[], Awaitable[object]]) -> None:
            super().__init__(disk, "/run", "memory:", run=at_once)
            self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

        async def get(self, key: str) -> bytes:
            data = await super().get(key)
            if self._meanwhile is not None:
                meanwhile, self._meanwhile = self._meanwhile, None
                await meanwhile()
            return data

    async def take() -> None:
        disk = MemoryDisk()
        old, _ = await own(folder_on(disk))
        await old.commit(note("before"))
        known = await read_journal(Late(disk, lambda: old.commit(note("late"))))
        assert texts(known) == ["before"]
        new, found = await own(folder_on(disk), known)
        assert texts(found) == ["before", "late"]
        await new.aclose()
        old.abandon()

    asyncio.run(take())
