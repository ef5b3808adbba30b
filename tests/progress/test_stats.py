"""Statistics of a run: fresh is 0 %, all done is 100 %, and never above, whatever became of the rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Stats, Store, ctx, map, records, run, task
from holdfast.events import ActionAsked, ActionEnded, AttemptEnded, AttemptStarted, Event, RowsCounted, RowsSeen
from holdfast.folders.memory import MemoryDisk
from holdfast.states import Fold
from holdfast.status import Status
from holdfast.tallies import stats_of, tally
from holdfast.testing import Clock, crash_everywhere, memory_store
from holdfast.testing.places import On

# numbers

CASES: dict[str, tuple[dict[str, Any], tuple[float, float, float | None]]] = {
    "nothing known": ({"total": 0}, (0.0, 0.0, None)),
    "nothing to do, and done": ({"total": 0, "is_over": True}, (100.0, 0.0, 0.0)),
    "fresh": ({"total": 10}, (0.0, 0.0, None)),
    "one of one": ({"total": 1, "completed": 1}, (100.0, 0.1, 0.0)),
    "half": ({"total": 10, "completed": 5}, (50.0, 0.5, 10.0)),
    "all": ({"total": 10, "completed": 10}, (100.0, 1.0, 0.0)),
    "all, some skipped": ({"total": 10, "completed": 8, "skipped": 2}, (100.0, 1.0, 0.0)),
    "all but one, which failed": ({"total": 10, "completed": 8, "failed": 1}, (90.0, 0.9, 1 / 0.9)),
    "more than was known": ({"total": 3, "completed": 5}, (100.0, 0.5, 0.0)),
    "no time passed": ({"total": 10, "completed": 5, "elapsed_seconds": 0.0}, (50.0, 0.0, None)),
    "one is left": ({"total": 100_000, "completed": 99_999}, (99.999, 9999.9, 1 / 9999.9)),
    "a stream, some under way": ({"total": 10, "completed": 5, "is_open": True}, (50.0, 0.5, None)),
    "a stream, all so far": ({"total": 9, "completed": 9, "is_open": True}, (90.0, 0.9, None)),
    "a stream, none yet": ({"total": 0, "is_open": True}, (0.0, 0.0, None)),
    "over, with rows left undone": ({"total": 10, "completed": 5, "is_over": True}, (50.0, 0.5, None)),
}


@pytest.mark.parametrize("case", CASES)
def test_percent_rate_and_remaining_time_follow_from_counts(case: str) -> None:
    given, (percent, rate, remaining) = CASES[case]
    counts: Any = {"completed": 0, "failed": 0, "skipped": 0, "elapsed_seconds": 10.0, "is_over": False, **given}
    stats = stats_of(**counts)
    assert (stats.percent, stats.rows_per_second, stats.remaining_seconds) == pytest.approx((percent, rate, remaining))
    assert stats.processed == counts["completed"] + counts["failed"] + counts["skipped"]


counts = st.integers(0, 10**9)


@given(counts, counts, counts, counts, st.floats(-1, 1e9), st.booleans(), st.booleans())
def test_no_numbers_show_more_than_all_or_less_than_nothing(
    total: int, completed: int, failed: int, skipped: int, elapsed: float, is_over: bool, is_open: bool
) -> None:
    stats = stats_of(total, completed, failed, skipped, elapsed, is_over=is_over, is_open=is_open)
    assert 0.0 <= stats.percent <= 100.0
    assert (stats.percent == 100.0) == (stats.processed == stats.total and (stats.processed > 0 or is_over) and not is_open)
    assert stats.processed <= stats.total
    assert stats.rows_per_second >= 0
    assert stats.elapsed_seconds >= 0
    assert stats.remaining_seconds is None or stats.remaining_seconds >= 0
    assert (stats.remaining_seconds == 0.0) == (stats.percent == 100.0)


# folds


def row(name: str, *ends: Status, skips: bool = False) -> Iterable[Event]:
    yield ActionAsked(action=name, at=1.0, task="row", parent="r", skips=skips)
    for number, status in enumerate(ends):
        yield AttemptStarted(action=name, at=2.0, number=number, epoch=1)
        yield AttemptEnded(action=name, at=3.0, number=number, status=status, then=status)


ROOT: list[Event] = [ActionAsked(action="r", at=1.0, task="t"), AttemptStarted(action="r", at=1.0, number=0, epoch=1)]
OVER = AttemptEnded(action="r", at=9.0, number=0, status=Status.COMPLETED, then=Status.COMPLETED)
COMPLETED, FAILED, TIMED_OUT = Status.COMPLETED, Status.FAILED, Status.TIMED_OUT


def rows(total: int | None, task: str = "row", place: str = "row 0.0") -> Event:
    return RowsCounted(action="r", at=1.0, place=place, task=task, total=total)


def seen(total: int | None, place: str = "row 0.0") -> Event:
    return RowsSeen(action="r", at=1.0, place=place, total=total)


FOLDS: dict[str, tuple[list[Event], tuple[int, int, int, int]]] = {
    "nothing": ([], (0, 0, 0, 0)),
    "a root under way": (ROOT, (1, 0, 0, 0)),
    "a root that is done": ([*ROOT, OVER], (1, 1, 0, 0)),
    "no rows": ([*ROOT, *row("a", COMPLETED), *row("b")], (3, 1, 0, 0)),
    "what ctx records is no step": ([*ROOT, ActionAsked(action="n", at=1.0, task="holdfast:now", parent="r")], (1, 0, 0, 0)),
    "rows, none begun": ([*ROOT, rows(4)], (4, 0, 0, 0)),
    "rows": ([*ROOT, rows(4), *row("a", COMPLETED), *row("b")], (4, 1, 0, 0)),
    "rows and another call": ([*ROOT, rows(2), *row("a", COMPLETED), ActionAsked(action="x", at=1.0, task="x", parent="r")], (2, 1, 0, 0)),
    "rows that failed and were passed over": ([*ROOT, rows(3), *row("a", COMPLETED), *row("b", FAILED, skips=True)], (3, 2, 0, 1)),
    "rows that timed out": ([*ROOT, rows(3), *row("b", TIMED_OUT, skips=True), *row("c", TIMED_OUT)], (3, 2, 1, 1)),
    "a row that ended its map": ([*ROOT, rows(3), *row("a", COMPLETED), *row("b", FAILED)], (3, 2, 1, 0)),
    "rows that have no end": (
        [*ROOT, rows(5), *row("a", Status.CRASHED), *row("b", Status.STOPPED), *row("c", Status.CANCELLED)],
        (5, 0, 0, 0),
    ),
    "a row that crashed and then COMPLETED": ([*ROOT, rows(2), *row("a", Status.CRASHED, COMPLETED)], (2, 1, 0, 0)),
    "a row that is undone": (
        [*ROOT, rows(2), *row("a", COMPLETED), ActionEnded(action="a", at=4.0, then=Status.ROLLING_BACK)],
        (2, 0, 0, 0),
    ),
    "more rows than were counted": ([*ROOT, rows(1), *row("a", COMPLETED), *row("b", COMPLETED)], (2, 2, 0, 0)),
    "nobody knows how many": ([*ROOT, rows(None), *row("a", COMPLETED), *row("b")], (2, 1, 0, 0)),
    "known at the end": ([*ROOT, rows(None), seen(None), seen(7), *row("a", COMPLETED)], (7, 1, 0, 0)),
    "fewer than there were to be": ([*ROOT, rows(9), seen(2), *row("a", COMPLETED)], (2, 1, 0, 0)),
    "counted anew": ([*ROOT, rows(9), *row("a", COMPLETED), rows(1)], (1, 1, 0, 0)),
    "two maps of one task": ([*ROOT, rows(2), rows(3, place="row 0.1"), *row("a", COMPLETED)], (5, 1, 0, 0)),
    "two maps of two tasks": (
        [*ROOT, rows(2), rows(3, "x", "x 0.0"), *row("a", COMPLETED), ActionAsked(action="x", at=1.0, task="x", parent="r")],
        (5, 1, 0, 0),
    ),
}


@pytest.mark.parametrize("case", FOLDS)
def test_rows_are_counted_by_what_became_of_them(case: str) -> None:
    events, expected = FOLDS[case]
    stats = tally(Fold.of(events))
    assert (stats.total, stats.processed, stats.failed, stats.skipped) == expected


@pytest.mark.parametrize(
    ("events", "may_be_done"),
    [
        ([*ROOT, rows(None), *row("a", COMPLETED)], False),
        ([*ROOT, rows(None), *row("a", COMPLETED), seen(None)], False),
        ([*ROOT, rows(None), *row("a", COMPLETED), seen(1)], True),
        ([*ROOT, rows(None), *row("a", COMPLETED), OVER], True),
        ([*ROOT, rows(1), *row("a", COMPLETED), rows(None, "x", "x 0.0")], False),
    ],
    ids=["under way", "some seen", "at its end", "left for good", "beside one that is done"],
)
def test_a_stream_is_not_done_before_its_end_is_known(events: list[Event], may_be_done: bool) -> None:
    found = tally(Fold.of(events))
    assert (found.percent == 100.0, found.remaining_seconds == 0.0) == (may_be_done, may_be_done)
    assert may_be_done or found.remaining_seconds is None


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ((100, 101, 103), 3),
        ((100, 110, 50, 55), 15),
        ((100, 110, 0, 5, 120, 121), 131),
        ((100, 110, 109.8, 110.2, 109.9, 111), 11),
        ((100, 100), 0),
    ],
    ids=["forward", "set back", "back and forth", "a little out of order", "at one instant"],
)
def test_a_clock_that_is_set_back_takes_no_time_away(times: tuple[float, ...], seconds: float) -> None:
    events: list[Event] = [ActionAsked(action="r", at=1.0, task="t"), AttemptStarted(action="r", at=times[0], number=0, epoch=1)]
    for number, at in enumerate(times[1:]):
        name = f"row {number}"
        events += [ActionAsked(action=name, at=at, task="row", parent="r"), AttemptStarted(action=name, at=at, number=0, epoch=1)]
    found = tally(Fold.of(events))
    assert found.elapsed_seconds == pytest.approx(seconds)


# real runs


@task
async def work(n: int) -> int:
    if n % 5 == 3:
        raise ValueError(f"row {n}")
    return n


@task
async def passes_over(count: int) -> int:
    return len(await map(work, range(count), on_error="skip"))


@task
async def ends(count: int) -> int:
    return len(await map(work, range(count), concurrency=1))


@task
async def streams(count: int) -> int:
    async for _ in (found := records(work, feed(count))):
        pass
    return found.summary.success_count


async def feed(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


def stats(call: Any) -> Stats:
    store = memory_store(MemoryDisk())
    try:
        asyncio.run(run(call, run_name="it", store=store))
    except ValueError:
        pass
    return store.state_sync("it").stats


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (passes_over.call, (20, 20, 0, 4, 100.0)),
        (streams.call, (20, 20, 0, 4, 100.0)),
        (ends.call, (20, 4, 1, 0, 20.0)),
    ],
    ids=["map that skips", "records of a stream", "map that fails"],
)
def test_a_run_knows_its_rows(call: Any, expected: tuple[int, int, int, int, float]) -> None:
    found = stats(call(20))
    assert (found.total, found.processed, found.failed, found.skipped, found.percent) == expected


def test_a_run_that_is_under_way_shows_what_is_left() -> None:
    looked: list[Stats] = []

    @task(name="looks", key=str)
    async def looks(n: int) -> int:
        await ctx().sleep(1)
        if n == 5:
            looked.append((await store.state("it")).stats)
        return n

    @task(name="all of them", key=lambda: "all")
    async def every() -> int:
        return len(await map(looks, range(10), concurrency=1))

    store: Store = memory_store(MemoryDisk())
    with Clock().use():
        asyncio.run(run(every(), run_name="it", store=store))
    [found] = looked
    assert (found.total, found.processed) == (10, 5)
    assert found.percent == 50.0
    assert found.rows_per_second == pytest.approx(1.0, rel=0.3)
    assert found.remaining_seconds == pytest.approx(5.0, rel=0.3)
    last = store.state_sync("it").stats
    assert (last.percent, last.remaining_seconds) == (100.0, 0.0)


@task
async def streams_and_fails(until: str) -> int:
    found = records(work, feed(20))
    async for _ in found:
        pass
    if ends_well:
        return found.summary.success_count
    raise ValueError(until)


ends_well = False


def test_how_many_rows_a_stream_had_is_known_again_when_it_was_streamed_again() -> None:
    global ends_well
    ends_well = False
    store = memory_store(MemoryDisk())
    for _ in range(2):
        with pytest.raises(ValueError, match="the end"):
            asyncio.run(run(streams_and_fails("the end"), run_name="it", store=store))
        found = store.state_sync("it").stats
        assert (found.total, found.processed, found.percent, found.remaining_seconds) == (20, 20, 100.0, 0.0)
    ends_well = True
    assert asyncio.run(run(streams_and_fails("the end"), run_name="it", store=store)) == 16


@pytest.mark.parametrize("on", ["disk", "bucket"])
def test_killed_anywhere_no_more_is_shown_than_was_done_and_at_the_end_all(on: On) -> None:
    killed = 0
    for survival in crash_everywhere(lambda: passes_over(6), on=on, step=3):
        killed += bool(survival.crashes)
        assert survival.error is None, str(survival)
        for store in survival.earlier:
            try:
                found = store.state_sync("program").stats
            except LookupError:
                continue
            assert 0 <= found.processed <= found.total <= 6, str(survival)
        found = survival.store.state_sync("program").stats
        assert (found.total, found.processed, found.skipped, found.percent) == (6, 6, 1, 100.0), str(survival)
    assert killed > 10
