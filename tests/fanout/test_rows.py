"""Rows: in order or as they end, a few at a time, over anything that gives items."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

import holdfast as hf
from holdfast import Rate, Record, RecordStatus, Retry, Status, ctx, records, run, task
from holdfast.errors import InvalidName, InvalidOption, TaskTimedOut, UnrecordableResult, UnstableInput
from holdfast.folders.memory import MemoryDisk
from holdfast.testing import Clock, run_shuffled
from holdfast.testing.stores import memory_store

Body = Callable[[], Coroutine[Any, Any, Any]]

ran: list[Any] = []
most: list[int] = [0, 0]
odd: list[Any] = [1, object(), 2]
closed: list[str] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    ran.clear()
    closed.clear()
    most[:] = [0, 0]


class Broken(Exception):
    pass


@task
async def double(n: int) -> int:
    ran.append(n)
    most[0] += 1
    most[1] = max(most)
    try:
        for _ in range(n % 5):
            await asyncio.sleep(0)
    finally:
        most[0] -= 1
    return 2 * n


@task
async def fragile(n: int) -> int:
    ran.append(n)
    await asyncio.sleep(0)
    if n % 3 == 2:
        raise Broken(n)
    return 2 * n


@task
def in_thread(n: int) -> int:
    return n + 1


async def numbers(count: int, broken_at: int | None = None) -> AsyncIterator[int]:
    try:
        for n in range(count):
            if n == broken_at:
                raise Broken("the items")
            yield n
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)
        closed.append("async generator")


def counting(pulled: list[int]) -> Iterator[int]:
    try:
        n = 0
        while True:
            pulled.append(n)
            yield n
            n += 1
    finally:
        closed.append("generator")


bodies: dict[str, Body] = {}
gave: list[Any] = []
seen = contextvars.ContextVar("seen", default="")


@task(name="body")
async def body(which: str) -> None:
    gave[:] = [await bodies[which]()]


def in_run(fn: Body) -> Any:
    """What a body gives in a durable run."""
    bodies[fn.__qualname__] = fn
    asyncio.run(run(body(fn.__qualname__), run_name="it", store=memory_store(MemoryDisk())))
    return gave[0]


def outside(fn: Body) -> Any:
    return asyncio.run(fn())


EVERYWHERE = pytest.mark.parametrize("where", [in_run, outside])


@EVERYWHERE
def test_results_come_in_the_order_of_the_items_whatever_ends_first(where: Callable[[Body], Any]) -> None:
    async def it() -> list[int]:
        return await hf.map(double, [9, 3, 0, 7])

    assert where(it) == [18, 6, 0, 14]


@EVERYWHERE
def test_async_iterables_are_items_too_and_async_generators_are_closed(where: Callable[[Body], Any]) -> None:
    async def it() -> list[int]:
        return await hf.map(double, numbers(10), concurrency=3)

    assert where(it) == [2 * n for n in range(10)]
    assert closed == ["async generator"]


@EVERYWHERE
def test_no_more_rows_are_under_way_than_was_said(where: Callable[[Body], Any]) -> None:
    async def it() -> list[int]:
        return await hf.map(double, range(50), concurrency=4)

    assert where(it) == [2 * n for n in range(50)]
    assert 2 <= most[1] <= 4


@EVERYWHERE
def test_an_endless_generator_is_pulled_as_there_is_room_and_closed_when_the_loop_is_left(where: Callable[[Body], Any]) -> None:
    pulled: list[int] = []

    async def it() -> int:
        total = 0
        async for row in records(double, counting(pulled), concurrency=4):
            total += row.value or 0
            if row.index == 20:
                break
        await asyncio.sleep(0.01)
        return total

    assert where(it) > 0
    assert len(pulled) <= 30
    assert closed == ["generator"]


@EVERYWHERE
def test_the_first_failure_cancels_the_rest_and_is_raised_as_itself(where: Callable[[Body], Any]) -> None:
    async def it() -> str:
        with pytest.raises(Broken) as caught:
            await hf.map(fragile, counting([]), concurrency=4)
        return f"{caught.value.args[0]} of {len(ran)}"

    assert where(it).startswith("2 of ")
    assert len(ran) <= 8
    assert closed == ["generator"]


@EVERYWHERE
def test_what_fails_is_left_out_or_stands_in_its_place(where: Callable[[Body], Any]) -> None:
    async def it() -> tuple[list[int], list[int | Exception]]:
        return await hf.map(fragile, range(5), on_error="skip"), await hf.map(fragile, range(5), on_error="collect")

    skipped, collected = where(it)
    assert skipped == [0, 2, 6, 8]
    assert [repr(found) for found in collected] == ["0", "2", "Broken(2)", "6", "8"]


@EVERYWHERE
def test_records_come_as_they_end_each_with_its_place_and_item(where: Callable[[Body], Any]) -> None:
    async def it() -> tuple[list[Record[int, int]], hf.SimpleRecordsResult]:
        rows = records(fragile, (n for n in range(6)), concurrency=2)
        return [row async for row in rows], rows.summary

    found, summary = where(it)
    assert sorted(row.index for row in found) == [0, 1, 2, 3, 4, 5]
    assert all(row.item == row.index for row in found)
    assert {row.index: row.value for row in found if row.status is RecordStatus.SUCCESS} == {0: 0, 1: 2, 3: 6, 4: 8}
    assert {row.index: repr(row.error) for row in found if row.status is RecordStatus.ERROR} == {2: "Broken(2)", 5: "Broken(5)"}
    assert summary == hf.SimpleRecordsResult(success_count=4, fail_count=2, total_count=6, message="2 rows failed: 2, 5")
    assert not summary.is_complete


class Streamed:
    """As the loader of a data set that streams."""

    def __len__(self) -> int:
        raise TypeError("nobody knows")

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


@EVERYWHERE
def test_items_may_refuse_to_say_how_many_they_are(where: Callable[[Body], Any]) -> None:
    async def it() -> tuple[list[int], int]:
        tracked = [item async for item in hf.track(Streamed())]
        return await hf.map(double, Streamed()), len(tracked)

    assert where(it) == ([0, 2, 4], 3)


@EVERYWHERE
def test_a_generator_that_is_iterated_through_something_else_is_let_go_too(where: Callable[[Body], Any]) -> None:
    async def it() -> int:
        async with records(waits, map(int, counting([])), concurrency=4) as rows:
            async for _ in rows:
                break
        return len(closed) + rows.summary.success_count

    assert where(it) == 2


@EVERYWHERE
def test_nothing_to_do_is_done_at_once(where: Callable[[Body], Any]) -> None:
    async def it() -> tuple[Any, ...]:
        rows = records(double, list[int]())
        return await hf.map(double, []), [row async for row in rows], rows.summary.is_complete, rows.summary.total_count

    assert where(it) == ([], [], True, 0)


def test_def_tasks_have_rows_too() -> None:
    async def it() -> list[int]:
        return await hf.map(in_thread, range(5))

    assert in_run(it) == outside(it) == [1, 2, 3, 4, 5]


@EVERYWHERE
def test_what_the_items_raise_is_raised_when_the_rows_before_have_been_given(where: Callable[[Body], Any]) -> None:
    async def it() -> list[int]:
        found: list[int] = []
        try:
            async for row in records(double, numbers(9, broken_at=5)):
                found.append(row.index)
        except Broken:
            found.append(100)
        with pytest.raises(Broken, match="the items"):
            await hf.map(double, numbers(9, broken_at=5), on_error="skip")
        return sorted(found)

    assert where(it) == [0, 1, 2, 3, 4, 100]


async def cut_off() -> AsyncIterator[int]:
    yield 1
    feed = asyncio.ensure_future(asyncio.Event().wait())
    feed.cancel()
    await feed
    yield 2


def cut_off_at_once() -> Iterator[int]:
    yield 1
    raise asyncio.CancelledError


@pytest.mark.parametrize("concurrency", [3, Rate(1000, per=0.001)], ids=["a width", "a rate"])
@pytest.mark.parametrize("items", [cut_off, cut_off_at_once])
@EVERYWHERE
def test_items_whose_source_was_cancelled_have_not_come_to_their_end(
    where: Callable[[Body], Any], items: Callable[[], Any], concurrency: int | Rate
) -> None:
    async def it() -> tuple[list[int], str]:
        found: list[int] = []
        for attempt in (hf.map(double, items(), concurrency=concurrency), stream()):
            try:
                found.extend(await attempt)
            except asyncio.CancelledError:
                continue
        return found, "cut off"

    async def stream() -> list[int]:
        return [row.index async for row in records(double, items(), concurrency=concurrency)]

    assert where(it) == ([], "cut off")


def test_each_row_that_was_taken_and_never_begun_is_named() -> None:
    async def it() -> list[str | None]:
        rows = records(double, odd)
        with pytest.raises(UnstableInput):
            [row async for row in rows]
        paced = records(double, range(9), concurrency=Rate(2, per=1000.0))
        async with paced:
            async for row in paced:
                if row.index == 1:
                    break
            for _ in range(20):
                await asyncio.sleep(0)
            waits = paced.summary.message
        return [rows.summary.message, waits, paced.summary.message]

    assert in_run(it) == ["2 rows were not processed: 1 to 2", *["7 rows were not processed: 2 to 8"] * 2]


def test_an_item_without_an_identity_is_no_failed_row() -> None:
    async def it() -> None:
        await hf.map(double, [1, object(), 2], on_error="skip")  # type: ignore[call-overload]

    with pytest.raises(UnstableInput):
        in_run(it)


def test_a_task_whose_results_cant_be_recorded_is_refused_for_all_rows_at_once() -> None:
    @task(name="of what can't be kept")
    async def strange(n: int) -> Iterator[int]:
        return iter([n])

    async def it() -> None:
        await hf.map(strange, [1, 2], on_error="skip")

    with pytest.raises(UnrecordableResult):
        in_run(it)


@EVERYWHERE
def test_a_row_that_is_cancelled_from_within_is_neither_done_nor_failed(where: Callable[[Body], Any]) -> None:
    @task(name="gives up")
    async def gives_up(n: int) -> int:
        if n == 1:
            raise asyncio.CancelledError
        return n

    async def it() -> tuple[dict[int, RecordStatus], hf.SimpleRecordsResult]:
        rows = records(gives_up, range(3))
        return {row.index: row.status async for row in rows}, rows.summary

    async def of_map() -> str:
        try:
            await hf.map(gives_up, range(3), on_error="skip")
        except asyncio.CancelledError as error:
            return str(error)
        return "nothing"

    found, summary = where(it)
    assert found == {0: RecordStatus.SUCCESS, 1: RecordStatus.UNPROCESSED, 2: RecordStatus.SUCCESS}
    assert (summary.unprocessed_count, summary.message) == (1, "1 row was not processed: 1")
    assert where(of_map) == "row 1 was cancelled from within"


class Unheard(BaseException):
    pass


def test_what_is_not_to_be_caught_goes_through_a_map_as_it_is() -> None:
    @task(name="goes through")
    async def goes_through(n: int) -> int:
        if n == 1:
            raise Unheard(n)
        return n

    async def it() -> None:
        await hf.map(goes_through, range(3), on_error="collect")

    with pytest.raises(Unheard):
        outside(it)


# leaving early


@EVERYWHERE
def test_a_loop_that_is_left_leaves_no_task_behind_and_counts_what_was_not_processed(where: Callable[[Body], Any]) -> None:
    async def it() -> hf.SimpleRecordsResult:
        before = asyncio.all_tasks()
        rows = records(slow, range(100), concurrency=8)
        async for row in rows:
            assert row.index == 0
            break
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert asyncio.all_tasks() <= before
        assert [row async for row in rows] == [], "it is over"
        return rows.summary

    @task(name="slow")
    async def slow(n: int) -> int:
        if n:
            await asyncio.Event().wait()
        return n

    summary = where(it)
    assert (summary.success_count, summary.unprocessed_count, summary.total_count) == (1, 99, 100)
    assert summary.message == "99 rows were not processed: 1 to 99"


@task(name="waits")
async def waits(n: int) -> int:
    if n:
        await asyncio.Event().wait()
    return n


@pytest.mark.filterwarnings("error")
def test_a_body_may_return_out_of_a_loop_without_a_warning_of_what_it_left() -> None:
    async def it() -> int:
        async for row in records(waits, range(10), concurrency=4):
            return row.index
        return -1

    assert in_run(it) == 0


async def within_a_scope(fails: bool) -> AsyncIterator[int]:
    with anyio.CancelScope():
        try:
            for n in range(100):
                yield n
        finally:
            await asyncio.sleep(0)
            closed.append("scope")
            if fails:
                raise Broken("at the end")


@EVERYWHERE
def test_an_async_generator_is_closed_in_the_task_that_ran_it_and_may_fail_there(where: Callable[[Body], Any]) -> None:
    async def it() -> int:
        await leave_early(False)
        with pytest.raises(Broken, match="at the end"):
            await leave_early(True)
        return len(closed)

    async def leave_early(fails: bool) -> None:
        async with records(waits, within_a_scope(fails), concurrency=2) as rows:
            async for _ in rows:
                break

    assert where(it) == 2


def test_a_block_around_records_ends_them() -> None:
    async def it() -> int:
        before = asyncio.all_tasks()
        async with records(waits, numbers(10), concurrency=4) as rows:
            async for row in rows:
                assert row.index == 0
                break
        await rows.aclose()
        assert asyncio.all_tasks() <= before
        return len(closed)

    assert in_run(it) == outside(it) - 1 == 1


@EVERYWHERE
def test_whoever_is_cancelled_while_it_maps_takes_all_rows_along(where: Callable[[Body], Any]) -> None:
    async def it() -> int:
        before = asyncio.all_tasks()
        work = asyncio.ensure_future(hf.map(waits, counting([]), concurrency=4))
        for _ in range(20):
            await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert asyncio.all_tasks() <= before
        return len(closed)

    assert where(it) == 1


def test_a_wait_for_the_next_record_may_be_cancelled_without_losing_it() -> None:
    async def it() -> list[int]:
        release = asyncio.Event()

        @task(name="released")
        async def released(n: int) -> int:
            await release.wait()
            return n

        rows = records(released, range(3))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(rows.__anext__(), 0.001)
        release.set()
        return sorted([row.index async for row in rows])

    assert outside(it) == [0, 1, 2]


# what the task says of its rows


@task(retries=Retry(max_attempts=3, initial_interval=0.001))
async def second_time(n: int) -> int:
    if ctx().attempt_number == 0:
        raise Broken(n)
    return n


@task(timeout=0.01)
async def too_slow(n: int) -> int:
    if n:
        await asyncio.Event().wait()
    return n


@EVERYWHERE
def test_retries_and_timeouts_are_the_tasks_own(where: Callable[[Body], Any]) -> None:
    async def it() -> tuple[list[int], list[int | Exception]]:
        return await hf.map(second_time, range(3)), await hf.map(too_slow, range(2), on_error="collect")

    again, timed = where(it)
    assert again == [0, 1, 2]
    assert timed[0] == 0
    assert isinstance(timed[1], TaskTimedOut)


class Busy(Exception):
    retry_after = 60.0


begun: list[tuple[int, float]] = []


@task(retries=1)
async def limited(n: int) -> int:
    begun.append((n, (datetime.now(UTC) if clock is None else clock).elapsed))  # type: ignore[union-attr]
    if n == 0 and ctx().attempt_number == 0:
        raise Busy
    return n


clock: Clock | None = None


def test_a_delay_that_an_exception_asks_for_holds_up_its_own_row_only() -> None:
    global clock
    clock = Clock()
    begun.clear()

    async def it() -> list[int]:
        return await hf.map(limited, range(5), concurrency=2)

    with clock.use():
        assert outside(it) == [0, 1, 2, 3, 4]
    assert sorted(begun) == [(0, 0.0), (0, 60.0), (1, 0.0), (2, 0.0), (3, 0.0), (4, 0.0)]


@EVERYWHERE
def test_a_rate_spreads_the_beginnings_of_rows(where: Callable[[Body], Any]) -> None:
    global clock
    clock = Clock()
    begun.clear()

    async def it() -> list[int]:
        return await hf.map(limited, range(1, 8), concurrency=Rate(2, per=10))

    with clock.use():
        assert where(it) == [1, 2, 3, 4, 5, 6, 7]
    assert [at for _, at in begun] == [0, 0, 10, 10, 20, 20, 30]


def test_a_rate_of_the_task_bounds_its_attempts_in_all_maps_of_a_run() -> None:
    global clock
    clock = Clock()
    begun.clear()
    paced = limited.with_options(concurrency=Rate(3, per=10))

    async def it() -> list[list[int]]:
        return list(await asyncio.gather(hf.map(paced, [1, 2, 3]), hf.map(paced, [4, 5, 6])))

    with clock.use():
        assert in_run(it) == [[1, 2, 3], [4, 5, 6]]
    assert sorted(at for _, at in begun) == [0, 0, 0, 10, 10, 10]


@EVERYWHERE
def test_rows_have_the_context_of_the_line_that_asked_for_them(where: Callable[[Body], Any]) -> None:
    @task(name="looks around")
    async def looks(n: int) -> str:
        return f"{dict(hf.get_custom_context())} {globals()['seen'].get()}"

    async def it() -> list[str | None]:
        seen.set("theirs")
        with hf.custom_context(tenant="a"):
            rows = records(looks, range(2))
        with hf.custom_context(tenant="b"):
            return [row.value async for row in rows]

    assert where(it) == ["{'tenant': 'a'} theirs"] * 2


def test_a_group_tells_equal_rows_of_two_maps_apart() -> None:
    @task(name="whose")
    async def whose(n: int) -> str:
        return ctx().action.name

    async def it() -> int:
        found = await asyncio.gather(*(hf.map(whose, [1, 2], group=name) for name in "ab"))
        return len({name for names in found for name in names})

    assert in_run(it) == 4


@pytest.mark.parametrize("seed", range(20))
def test_equal_items_are_told_apart_in_item_order_whatever_runs_first(seed: int) -> None:
    names: list[list[str]] = []

    @task(name="named")
    async def named(n: int) -> str:
        await asyncio.sleep(0)
        return ctx().action.name

    @task(name="names")
    async def main() -> list[str]:
        return await hf.map(named, [7, 7, 8, 7, 7], concurrency=3)

    for order in (seed, seed + 1000):
        names.append(run_shuffled(lambda: run(main(), run_name="it", store=memory_store(MemoryDisk())), order))
    assert names[0] == names[1]
    assert len(set(names[0])) == 5


def test_an_item_without_an_identity_is_no_failed_row_on_a_loop_of_its_own_either() -> None:
    @task(name="its own loop, and an object")
    def its_own() -> list[int]:
        return asyncio.run(hf.map(double, odd[:2], on_error="skip"))

    async def it() -> list[int]:
        return await its_own.call()

    with pytest.raises(UnstableInput):
        in_run(it)


def test_a_def_body_may_map_on_a_loop_of_its_own() -> None:
    @task(name="its own loop")
    def its_own(count: int) -> list[int]:
        return asyncio.run(hf.map(fragile, range(count), on_error="skip", concurrency=2))

    async def it() -> list[int]:
        return await its_own.call(5)

    assert in_run(it) == outside(it) == [0, 2, 6, 8]


# arguments


@pytest.mark.parametrize("concurrency", [0, -1, True, 1.5, "4"])
def test_a_width_is_a_whole_number_from_1_up_or_a_rate(concurrency: Any) -> None:
    async def it() -> None:
        await hf.map(double, [1], concurrency=concurrency)

    with pytest.raises(InvalidOption, match="concurrency"):
        outside(it)
    with pytest.raises(InvalidOption, match="concurrency"):
        records(double, [1], concurrency=concurrency)


def test_arguments_are_refused_with_their_names() -> None:
    async def other() -> None:
        await hf.map(double, [1], on_error="ignore")  # type: ignore[call-overload]

    async def nothing() -> None:
        await hf.map(double, 7)  # type: ignore[call-overload]

    async def unnamed() -> None:
        await hf.map(double, [1], group="")

    with pytest.raises(InvalidOption, match="on_error"):
        outside(other)
    with pytest.raises(InvalidOption, match="items"):
        outside(nothing)
    with pytest.raises(InvalidName, match="group"):
        outside(unnamed)


def test_what_is_recorded_of_rows_says_which_were_skipped() -> None:
    async def it() -> list[int]:
        return await hf.map(fragile, range(5), on_error="skip")

    disk = MemoryDisk()
    bodies["it"] = it
    asyncio.run(run(body("it"), run_name="it", store=memory_store(disk)))
    state = memory_store(disk).state_sync("it")
    found = [action.status for action in state.actions.values()]
    assert found == [Status.COMPLETED] * 3 + [Status.FAILED] + [Status.COMPLETED] * 2


def test_where_a_map_had_no_rows_the_steps_are_counted() -> None:
    async def it() -> int:
        await hf.map(double, [])
        return await double(1)

    disk = MemoryDisk()
    bodies["it"] = it
    asyncio.run(run(body("it"), run_name="it", store=memory_store(disk)))
    stats = memory_store(disk).state_sync("it").stats
    assert (stats.total, stats.processed) == (2, 2)
