"""Retries: how often, after how long, and that a crash or stop in between changes neither."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from turns import until

from holdfast import NonRetryable, Retry, RunState, Status, ctx, run, start, task
from holdfast.errors import CrashLoop, InvalidOption, RunStopped, Unrebuildable
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.clocks import Clock, no_backoff
from holdfast.testing.stores import memory_store

disk = MemoryDisk()
image: MemoryDisk | None = None
did: list[object] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk, image
    disk, image = MemoryDisk(), None
    did.clear()


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    with clock.use():
        yield clock


def state_on(disk: MemoryDisk) -> RunState:
    return memory_store(disk).state_sync("it")


class Busy(Exception):
    def __init__(self, retry_after: object) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@task(retries=Retry(4, jitter=False))
async def fails_thrice() -> list[object]:
    did.append((ctx().attempt_number, ctx().retries_left, ctx().max_attempts))
    if ctx().attempt_number < 3:
        raise ConnectionError("not yet")
    return did


def test_the_wait_doubles_from_one_second(clock: Clock) -> None:
    asyncio.run(run(fails_thrice(), run_name="it", store=memory_store(disk)))
    assert did == [(0, 3, 4), (1, 2, 4), (2, 1, 4), (3, 0, 4)]
    assert clock.elapsed == pytest.approx(1 + 2 + 4)
    root = state_on(disk).root
    assert root is not None
    assert [a.status for a in root.attempts] == [Status.FAILED] * 3 + [Status.COMPLETED]
    assert [type(a.error) for a in root.attempts] == [ConnectionError] * 3 + [type(None)]


@task(retries=Retry(9, jitter=False, max_interval=8))
async def fails_eight_times() -> None:
    if ctx().attempt_number < 8:
        raise ConnectionError("not yet")


def test_the_wait_grows_no_longer_than_max_interval(clock: Clock) -> None:
    asyncio.run(run(fails_eight_times(), run_name="it", store=memory_store(disk)))
    assert clock.elapsed == pytest.approx(1 + 2 + 4 + 5 * 8)


@task(retries=Retry(2, initial_interval=100))
async def fails_once() -> None:
    if ctx().attempt_number == 0:
        raise ConnectionError("not yet")


def test_the_wait_is_jittered_below_its_interval(clock: Clock) -> None:
    waits = []
    for name in ("a", "b", "c"):
        before = clock.elapsed
        asyncio.run(run(fails_once(), run_name=name, store=memory_store(disk)))
        waits.append(clock.elapsed - before)
    assert len(set(waits)) == 3
    assert all(0 <= wait < 60 for wait in waits), "the longest interval is 60 s by default"


@task(retries=3)
async def is_told_when(after: float) -> None:
    if ctx().attempt_number == 0:
        raise Busy(after)


def test_an_errors_retry_after_is_the_wait(clock: Clock) -> None:
    asyncio.run(run(is_told_when(77.0), run_name="it", store=memory_store(disk)))
    assert clock.elapsed == pytest.approx(77.0)


def patient_with(error: Exception) -> bool | float:
    return 33.0 if isinstance(error, ConnectionError) else False


@task(retries=Retry(5, retry_on=patient_with))
async def fails_as(kind: str) -> None:
    did.append(ctx().attempt_number)
    if ctx().attempt_number == 0:
        raise ConnectionError("x") if kind == "connection" else ValueError("x")


def test_a_predicate_gives_the_wait_or_says_no(clock: Clock) -> None:
    asyncio.run(run(fails_as("connection"), run_name="it", store=memory_store(disk)))
    assert clock.elapsed == pytest.approx(33.0)
    assert did == [0, 1]
    with pytest.raises(ValueError, match="x"):
        asyncio.run(run(fails_as("value"), run_name="other", store=memory_store(disk)))
    assert did == [0, 1, 0]


class Declined(NonRetryable):
    pass


@task(retries=5)
async def declined() -> None:
    did.append("charged")
    raise Declined("no money")


@task(retries=Retry(5, give_up_on=(KeyError,)))
async def gives_up() -> None:
    did.append("charged")
    raise KeyError("no money")


@task(retries=2)
async def pays() -> str:
    did.append(("pays", ctx().attempt_number))
    for way in (declined, gives_up):
        try:
            await way()
        except (Declined, KeyError) as error:
            did.append(type(error))
    if ctx().attempt_number == 0:
        raise ConnectionError("after the payment")
    return "paid otherwise"


def test_a_final_failure_is_neither_retried_nor_tried_anew_by_a_later_try_of_its_parent() -> None:
    with no_backoff():
        assert asyncio.run(run(pays(), run_name="it", store=memory_store(disk))) == "paid otherwise"
    once = ["charged", Declined, "charged", KeyError]
    assert did == [("pays", 0), *once, ("pays", 1), Declined, KeyError]


@task(retries=Retry(2, initial_interval=50, jitter=False))
async def crashes_in_the_wait() -> int:
    if ctx().attempt_number == 0:
        raise ConnectionError("not yet")
    attempt: int = ctx().attempt_number
    return attempt


def test_the_time_of_the_next_attempt_outlasts_a_crash() -> None:
    clock = Clock(jumps=False)

    async def until_it_waits() -> MemoryDisk:
        handle = await start(crashes_in_the_wait(), run_name="it", store=memory_store(disk))
        await until(lambda: clock.sleepers > 0)
        killed = disk.copy()
        await handle.cancel()
        return killed

    with clock.use():
        found = asyncio.run(until_it_waits())
    root = state_on(found).root
    assert root is not None
    assert root.status is Status.RETRYING
    later = Clock()
    later.advance(20)
    with later.use():
        assert asyncio.run(run(crashes_in_the_wait(), run_name="it", store=memory_store(found))) == 1
    assert later.elapsed == pytest.approx(50), "30 of the 50 seconds were left"


def test_the_time_of_the_next_attempt_outlasts_a_stop() -> None:
    clock = Clock(jumps=False)

    async def stopped_in_the_wait() -> None:
        handle = await start(crashes_in_the_wait(), run_name="it", store=memory_store(disk))
        await until(lambda: clock.sleepers > 0)
        await handle.stop()
        with pytest.raises(RunStopped):
            await handle.result()

    with clock.use():
        asyncio.run(stopped_in_the_wait())
    assert state_on(disk).status is Status.STOPPED
    later = Clock()
    later.advance(49)
    with later.use():
        assert asyncio.run(run(crashes_in_the_wait(), run_name="it", store=memory_store(disk))) == 1
    assert later.elapsed == pytest.approx(50)


@task
async def step(number: int) -> int:
    did.append(("step", number))
    return number


@task(retries=Retry(2, initial_interval=0))
async def dies_twice() -> tuple[int, int, int]:
    """Attempt 0 and 1 are killed, 2 fails, 3 is killed, 4 returns."""
    global image
    number = ctx().attempt_number
    did.append((number, ctx().retries_left))
    await step(number)
    if number in (0, 1, 3):
        image = disk.copy()
    if number == 2:
        raise ConnectionError("the only failure")
    return number, ctx().retries_left, ctx().max_attempts


def test_crashes_use_up_no_retries_and_numbers_go_on() -> None:
    global disk
    for _ in range(3):
        asyncio.run(run(dies_twice(), run_name="it", store=memory_store(disk)))
        if image is None or disk is image:
            break
        disk = image
    assert asyncio.run(run(dies_twice(), run_name="it", store=memory_store(disk))) == (4, 0, 2)
    root = state_on(disk).root
    assert root is not None
    assert [a.status for a in root.attempts] == [Status.CRASHED, Status.CRASHED, Status.FAILED, Status.CRASHED, Status.COMPLETED]


@task(retries=1)
async def fails_always() -> None:
    did.append((ctx().attempt_number, ctx().retries_left))
    raise ConnectionError("always")


def test_a_new_asking_has_its_retries_anew_and_its_numbers_go_on() -> None:
    with no_backoff():
        for _ in range(2):
            with pytest.raises(ConnectionError):
                asyncio.run(run(fails_always(), run_name="it", store=memory_store(disk)))
    assert did == [(0, 1), (1, 0), (2, 1), (3, 0)]


@task(retries=Retry(1, max_crashes=3))
async def kills_its_process() -> None:
    global image
    did.append(ctx().attempt_number)
    image = disk.copy()
    await asyncio.sleep(0)


def test_crashes_that_record_nothing_end_as_a_crash_loop_and_a_new_try_counts_anew() -> None:
    global disk
    for _ in range(3):
        asyncio.run(run(kills_its_process(), run_name="it", store=memory_store(disk)))
        assert image is not None
        disk = image
    assert did == [0, 1, 2]
    with pytest.raises(CrashLoop):
        asyncio.run(run(kills_its_process(), run_name="it", store=memory_store(disk)))
    assert state_on(disk).status is Status.FAILED
    assert did == [0, 1, 2], "no body ran"
    asyncio.run(run(kills_its_process(), run_name="it", store=memory_store(disk)))
    assert did == [0, 1, 2, 3]


@task(retries=Retry(1, max_crashes=2))
async def saves_and_dies(what: str) -> None:
    global image
    did.append(ctx().attempt_number)
    if what == "a save":
        await ctx().checkpoint.save(b"progress")
    else:
        await step(ctx().attempt_number)
    image = disk.copy()
    await ctx().now()


@pytest.mark.parametrize("what", ["a save", "a child's outcome"])
def test_an_attempt_that_recorded_something_breaks_a_crash_loop(what: str) -> None:
    global disk
    for _ in range(5):
        asyncio.run(run(saves_and_dies(what), run_name="it", store=memory_store(disk)))
        assert image is not None
        disk = image
    assert len([entry for entry in did if isinstance(entry, int)]) == 5


def breaks(error: Exception) -> bool:
    raise RuntimeError("the predicate is wrong")


@task(retries=Retry(3, retry_on=breaks))
async def asks_a_broken_predicate() -> None:
    raise ConnectionError("no")


@pytest.mark.parametrize(("action", "raised"), [("ignore", InvalidOption), ("error", Unrebuildable)])
def test_an_attempt_whose_failure_can_not_be_judged_or_kept_is_FAILED_all_the_same(action: Any, raised: type[Exception]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action, Unrebuildable)
        with pytest.raises(raised):
            asyncio.run(run(asks_a_broken_predicate(), run_name="it", store=memory_store(disk)))
    root = memory_store(disk).state_sync("it").root
    assert root is not None
    assert [attempt.status for attempt in root.attempts] == [Status.FAILED]
