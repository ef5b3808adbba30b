"""Sleeps and deadlines go on by the wall clock over crashes and stops, and whoever waits for a value is seen to wait."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast import Call, Retry, RunHandle, RunState, Status, ctx, run, start, task
from holdfast.actions.decisions import GoOn, asked
from holdfast.actions.waiting import receive_call, sleep_call
from holdfast.errors import ActionEnded, BlockingCall, InvalidOption, NotDurable, ReceiveTimedOut, RunCancelled, RunStopped
from holdfast.events import ActionAsked, AttemptEnded, AttemptStarted, Event, WaitBegun
from holdfast.events import ActionEnded as Gone
from holdfast.folders.memory import MemoryDisk
from holdfast.orders import Definition
from holdfast.states import Fold
from holdfast.testing.bodies import task_context
from holdfast.testing.clocks import Clock, no_backoff
from holdfast.testing.stores import memory_store

HOUR = 3600.0
disk = MemoryDisk()
clock = Clock()
did: list[Any] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk, clock
    disk, clock = MemoryDisk(), Clock()
    did.clear()


def live(call: Callable[[], Call[Any]], *, on: Clock | None = None) -> Any:
    """Run it to its end in virtual time."""
    with (on or clock).use():
        return asyncio.run(run(call(), run_name="it", store=memory_store(disk)))


@asynccontextmanager
async def started(call: Callable[[], Call[Any]]) -> AsyncGenerator[RunHandle[Any]]:
    """A run that stands still, since time does, and that is stopped at the end."""
    handle = await start(call(), run_name="it", store=memory_store(disk), grace=0.5)
    try:
        yield handle
    finally:
        await handle.stop()


async def begun(handle: RunHandle[Any], count: int = 1) -> None:
    """Return when so many waits have begun, durably."""
    async for event in handle.events():
        count -= isinstance(event, WaitBegun)
        if not count:
            return


def leave_waiting(call: Callable[[], Call[Any]], *, at: Clock, count: int = 1) -> None:
    """Begin it, and stop it when it waits."""

    async def main() -> None:
        async with started(call) as handle:
            await begun(handle, count)

    with at.use():
        asyncio.run(main())


def standing(hours: float = 0.0) -> Clock:
    """A clock that nothing but a test moves, so many hours after the first one's start."""
    return Clock(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(hours=hours), jumps=False)


def jumping(hours: float) -> Clock:
    return Clock(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(hours=hours))


# sleeping


@task
async def sleeps(seconds: float) -> float:
    before = await ctx().now()
    await ctx().sleep(seconds)
    did.append("woke")
    return ((await ctx().now()) - before).total_seconds()


def test_sleep_waits_for_its_seconds() -> None:
    assert live(lambda: sleeps(36 * HOUR)) == 36 * HOUR
    assert clock.elapsed == 36 * HOUR


@pytest.mark.parametrize(
    ("stopped_for", "sleeps_on"), [(0.0, 10.0), (4.0, 6.0), (10.0, 0.0), (99.0, 0.0)], ids=["at once", "in time", "just over", "long over"]
)
def test_a_resumed_sleep_goes_on_for_the_rest_of_the_time(stopped_for: float, sleeps_on: float) -> None:
    leave_waiting(lambda: sleeps(10 * HOUR), at=standing())
    later = jumping(stopped_for)
    live(lambda: sleeps(10 * HOUR), on=later)
    assert later.elapsed == sleeps_on * HOUR


def test_a_sleep_that_is_over_is_not_slept_again() -> None:
    live(lambda: sleeps(HOUR))
    live(lambda: sleeps(HOUR))
    assert clock.elapsed == HOUR
    assert did == ["woke"]


def test_a_clock_that_was_set_back_makes_no_sleep_longer_than_it_was_told() -> None:
    leave_waiting(lambda: sleeps(10 * HOUR), at=standing(hours=0.0))
    earlier = jumping(-1000.0)
    live(lambda: sleeps(10 * HOUR), on=earlier)
    assert earlier.elapsed == 10 * HOUR


def test_a_clock_that_jumps_on_is_noticed_within_a_minute() -> None:
    moving = standing()

    async def main() -> None:
        async with started(lambda: sleeps(10 * HOUR)) as handle:
            await begun(handle)
            while not moving.sleepers:  # noqa: ASYNC110 - what is waited for is no event
                await asyncio.sleep(0)
            moving._now += 11 * HOUR  # pyright: ignore[reportPrivateUsage] - a machine that slept: no sleeper woke meanwhile
            moving.advance(60.0)
            await handle.result()

    with moving.use():
        asyncio.run(main())
    assert did == ["woke"]


@task(retries=Retry(max_attempts=2))
async def sleeps_and_fails() -> str:
    await ctx().sleep(HOUR)
    if ctx().attempt_number == 0:
        raise ConnectionError("after the sleep")
    return "done"


def test_a_retry_of_the_body_does_not_sleep_again() -> None:
    with no_backoff():
        live(sleeps_and_fails)
    assert clock.elapsed < HOUR + 60


@task
async def asleep_for_long() -> str:
    await ctx().sleep(30 * 24 * HOUR)
    return "woke"


def test_a_sleep_outlives_any_number_of_stops() -> None:
    for day in range(25):
        leave_waiting(asleep_for_long, at=standing(24.0 * day)) if day == 0 else live_until_stopped(asleep_for_long, standing(24.0 * day))
    last = jumping(24.0 * 25)
    assert live(asleep_for_long, on=last) == "woke"
    assert last.elapsed == 5 * 24 * HOUR


def live_until_stopped(call: Callable[[], Call[Any]], at: Clock) -> None:
    async def main() -> None:
        async with started(call):
            for _ in range(200):
                await asyncio.sleep(0)

    with at.use():
        asyncio.run(main())


@pytest.mark.parametrize("definition", [sleep_call(1.0), receive_call("work", int, None)])
def test_no_number_of_crashes_while_it_waits_is_a_crash_loop(definition: Definition) -> None:
    fold = Fold.of([ActionAsked(action="A", at=0.0, task=definition.policy.name)])
    for number in range(50):
        fold.fold(AttemptStarted(action="A", at=0.0, number=number, epoch=number))
        fold.fold(AttemptEnded(action="A", at=0.0, number=number, status=Status.CRASHED, then=Status.CRASHED))
    assert asked(fold.actions["A"], 0, definition.policy) == GoOn(None)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "soon", None])
def test_a_time_that_is_none_is_refused(seconds: Any) -> None:
    @task(name="asks", key=lambda: "it")
    async def asks() -> None:
        await ctx().sleep(seconds)

    with pytest.raises(InvalidOption, match="seconds"):
        live(asks)


def test_sleeping_for_no_time_writes_no_wait() -> None:
    live(lambda: sleeps(0))
    state = memory_store(disk).state_sync("it")
    assert [action.status for action in state.actions.values()] == [Status.COMPLETED] * 4


@task(concurrency=1)
async def naps(number: int) -> int:
    await ctx().sleep(HOUR)
    return number


@task
async def many_naps() -> list[int]:
    return await asyncio.gather(*(naps(n) for n in range(20)))


def test_who_sleeps_needs_no_slot() -> None:
    live(many_naps)
    assert clock.elapsed < 2 * HOUR


# deadlines


@task
async def waits(timeout: float | None) -> str:
    try:
        return f"got {await ctx().receive('work', int, timeout=timeout)}"
    except ReceiveTimedOut as late:
        return f"nothing on {late.topic} in {late.seconds:g} s"


def test_a_deadline_passes_and_is_recorded_as_the_receivers_failure() -> None:
    assert live(lambda: waits(600)) == "nothing on work in 600 s"
    assert 600 <= clock.elapsed < 601
    state = memory_store(disk).state_sync("it")
    receive = next(action for action in state.actions.values() if action.task_name == "holdfast:receive")
    assert receive.status is Status.FAILED
    assert isinstance(receive.error, ReceiveTimedOut)
    assert isinstance(receive.error, TimeoutError)


def test_a_timeout_of_nothing_takes_only_what_is_there() -> None:
    @task(name="drains")
    async def drains() -> list[str]:
        await ctx().receive("go", object)
        return [await waits(0) for _ in range(3)]

    async def main() -> list[str]:
        handle = await start(drains(), run_name="it", store=memory_store(disk))
        for topic, value in (("work", 1), ("work", 2), ("go", None)):
            await handle.send(topic, value)
        return await handle.result()

    with clock.use():
        assert asyncio.run(main()) == ["got 1", "got 2", "nothing on work in 0 s"]


@pytest.mark.parametrize(("after", "left"), [(0.0, 2.0), (1.5, 0.5), (2.0, 0.0), (500.0, 0.0)])
def test_a_deadline_runs_on_while_nobody_owns_the_run(after: float, left: float) -> None:
    leave_waiting(lambda: waits(2 * HOUR), at=standing())
    later = jumping(after)
    assert live(lambda: waits(2 * HOUR), on=later) == "nothing on work in 7200 s"
    assert left * HOUR <= later.elapsed < left * HOUR + 1


def test_a_value_that_is_there_wins_over_a_deadline_that_has_passed() -> None:
    leave_waiting(lambda: waits(2 * HOUR), at=standing())
    memory_store(disk).send_sync("it", "work", 7)
    assert live(lambda: waits(2 * HOUR), on=jumping(500.0)) == "got 7"


def test_a_new_try_of_the_body_has_a_new_deadline() -> None:
    @task(name="insists", retries=1)
    async def insists() -> int:
        return await ctx().receive("work", int, timeout=HOUR)

    with no_backoff(), pytest.raises(ReceiveTimedOut):
        live(insists)
    assert 2 * HOUR <= clock.elapsed < 2 * HOUR + 2
    again = jumping(100.0)
    with no_backoff(), pytest.raises(ReceiveTimedOut):
        live(insists, on=again)
    assert 2 * HOUR <= again.elapsed < 2 * HOUR + 2


# who waits is seen to wait


def test_where_the_values_are_there_no_wait_begins() -> None:
    @task(name="takes what is there")
    async def takes() -> list[int]:
        await ctx().receive("go", object)
        return list(await asyncio.gather(*(ctx().receive("work", int, timeout=5) for _ in range(4))))

    async def main() -> list[str]:
        handle = await start(takes(), run_name="it", store=memory_store(disk))
        for value in range(4):
            await handle.send("work", value)
        await handle.send("go", None)
        waited = [event.topic async for event in handle.events() if isinstance(event, WaitBegun)]
        assert await handle.result() == [0, 1, 2, 3]
        return waited

    assert asyncio.run(main()) in (["go"], [])


def statuses(state: RunState) -> dict[str, tuple[Status, Status]]:
    """By task: where its action stands, and its last attempt."""
    return {action.task_name: (action.status, action.attempts[-1].status) for action in state.actions.values()}


@task(name="two topics")
async def two_topics() -> list[Any]:
    return list(await asyncio.gather(ctx().receive("a", int), ctx().receive("b", int)))


@task(name="above")
async def above() -> list[Any]:
    return await two_topics()


def test_a_task_awaits_input_while_one_of_its_receives_waits_and_so_does_who_receives() -> None:
    async def main() -> None:
        store = memory_store(disk)
        handle = await start(above(), run_name="it", store=store)
        seen: list[tuple[Status, Status]] = []
        async for event in handle.events():
            waiting = statuses(await store.state("it")).get("two topics")
            if waiting is not None and (not seen or seen[-1] != waiting):
                seen.append(waiting)
            if isinstance(event, WaitBegun) and event.topic == "b":
                assert statuses(await store.state("it"))["above"] == (Status.RUNNING, Status.RUNNING), (
                    "its child waits, and it for the child"
                )
                await handle.send("a", 1)
            if isinstance(event, AttemptEnded) and event.value == 1:
                assert waiting == (Status.AWAITING_INPUT, Status.AWAITING_INPUT), "one of two still waits"
                await handle.send("b", 2)
        assert await handle.result() == [1, 2]
        assert (seen[0], seen[-1]) == ((Status.AWAITING_INPUT,) * 2, (Status.COMPLETED,) * 2)

    asyncio.run(main())


def test_a_sleeping_task_is_running() -> None:
    async def main() -> None:
        async with started(lambda: sleeps(HOUR)) as handle:
            await begun(handle)
            assert handle.status is Status.RUNNING

    with standing().use():
        asyncio.run(main())


@pytest.mark.parametrize(("how", "error", "status"), [("stop", RunStopped, Status.STOPPED), ("cancel", RunCancelled, Status.CANCELLED)])
def test_a_run_that_waits_ends_at_once_when_it_is_asked_to(how: str, error: type[Exception], status: Status) -> None:
    async def main() -> None:
        handle = await start(two_topics(), run_name="it", store=memory_store(disk))
        await begun(handle, 2)
        await (handle.stop() if how == "stop" else handle.cancel())
        with pytest.raises(error):
            await handle.result()

    asyncio.run(main())
    assert {action.status for action in memory_store(disk).state_sync("it").actions.values()} == {status}


START: Sequence[Event] = (
    ActionAsked(action="P", at=0.0, task="p"),
    AttemptStarted(action="P", at=0.0, number=0, epoch=1),
    *(ActionAsked(action=name, at=0.0, parent="P", task="holdfast:receive") for name in "AB"),
    *(AttemptStarted(action=name, at=0.0, number=0, epoch=1) for name in "AB"),
)


def wait(action: str) -> Event:
    return WaitBegun(action=action, at=1.0, topic="t")


def end(action: str, status: Status = Status.COMPLETED, then: Status | None = None, number: int = 0) -> Event:
    return AttemptEnded(action=action, at=2.0, number=number, status=status, then=then or status)


def begin(action: str, number: int = 1) -> Event:
    return AttemptStarted(action=action, at=3.0, number=number, epoch=1)


WAITS, RUNS, DONE, CRASHED, STOPPED = Status.AWAITING_INPUT, Status.RUNNING, Status.COMPLETED, Status.CRASHED, Status.STOPPED
SHOWN: dict[str, tuple[Sequence[Event], tuple[Status, Status, Status]]] = {
    "nobody waits": ((), (RUNS, RUNS, RUNS)),
    "one waits": ((wait("A"),), (WAITS, WAITS, RUNS)),
    "it is said twice": ((wait("A"), wait("A"), end("A")), (RUNS, DONE, RUNS)),
    "both wait": ((wait("A"), wait("B")), (WAITS, WAITS, WAITS)),
    "one goes on": ((wait("A"), wait("B"), end("A")), (WAITS, DONE, WAITS)),
    "both go on": ((wait("A"), wait("B"), end("A"), end("B")), (RUNS, DONE, DONE)),
    "a sleep": ((WaitBegun(action="A", at=1.0, until=9.0),), (RUNS, RUNS, RUNS)),
    "the owner is lost": ((wait("A"), end("B", CRASHED), end("A", CRASHED), end("P", CRASHED)), (CRASHED, CRASHED, CRASHED)),
    "and another goes on": ((wait("A"), end("A", CRASHED), end("P", CRASHED), begin("P"), begin("A"), wait("A")), (WAITS, WAITS, RUNS)),
    "the body is tried again": (
        (wait("A"), end("A", Status.CANCELLED), end("P", Status.FAILED, Status.RETRYING), begin("P")),
        (RUNS, Status.CANCELLED, RUNS),
    ),
    "the run is stopped": ((wait("A"), wait("B"), end("B", STOPPED), end("A", STOPPED), end("P", STOPPED)), (STOPPED, STOPPED, STOPPED)),
    "the run is cancelled by another process": (
        (wait("A"), end("A", CRASHED), Gone(action="A", at=4.0, then=Status.CANCELLED), end("P", CRASHED)),
        (CRASHED, Status.CANCELLED, RUNS),
    ),
    "a wait without an attempt is passed over": ((end("A"), wait("A")), (RUNS, DONE, RUNS)),
    "an end that comes late changes nothing": ((wait("A"), end("P"), end("A")), (DONE, DONE, RUNS)),
}


@pytest.mark.parametrize(("events", "shown"), SHOWN.values(), ids=SHOWN)
def test_awaiting_input_is_shown_for_who_receives_and_for_who_asked(events: Sequence[Event], shown: tuple[Status, Status, Status]) -> None:
    fold = Fold.of([*START, *events])
    assert tuple(fold.actions[name].status for name in "PAB") == shown


# `def` bodies, and outside a run


@task
def threaded() -> list[Any]:
    got: list[Any] = [ctx().receive_sync("work", int)]
    ctx().sleep_sync(timedelta(milliseconds=5))
    try:
        ctx().receive_sync("work", int, timeout=0.01)
    except ReceiveTimedOut:
        got.append("nothing")
    return got


def test_def_bodies_wait_too() -> None:
    async def main() -> list[Any]:
        handle = await start(threaded.call(), run_name="it", store=memory_store(disk))
        await begun(handle)
        assert handle.status is Status.AWAITING_INPUT
        await handle.send("work", 3)
        return await handle.result()

    assert asyncio.run(main()) == [3, "nothing"]
    assert asyncio.run(run(threaded.call(), run_name="it", store=memory_store(disk))) == [3, "nothing"]


def test_a_def_body_that_waits_can_be_stopped() -> None:
    async def main() -> None:
        async with started(threaded.call) as handle:
            await begun(handle)

    asyncio.run(main())
    assert {action.status for action in memory_store(disk).state_sync("it").actions.values()} == {Status.STOPPED}


@task
async def blocks() -> None:
    ctx().sleep_sync(1)


@task
async def blocks_for_a_value() -> None:
    ctx().receive_sync("work", int)


@pytest.mark.parametrize(("call", "verb"), [(blocks, "sleep"), (blocks_for_a_value, "receive")])
def test_the_sync_twins_are_refused_on_the_loop(call: Callable[[], Call[None]], verb: str) -> None:
    with pytest.raises(BlockingCall, match=rf"await ctx\(\)\.{verb}\("):
        asyncio.run(run(call(), run_name="it", store=memory_store(disk)))


@task
async def outside() -> str:
    await ctx().sleep(HOUR)
    return await waits(HOUR)


def test_outside_a_run_waits_end_and_one_warning_says_that_nothing_is_kept() -> None:
    with clock.use(), pytest.warns(NotDurable) as warned:
        assert asyncio.run(outside()) == "nothing on work in 3600 s"
    assert clock.elapsed == 2 * HOUR
    assert len(warned) == 1
    text = str(warned[0].message)
    assert "outside sleeps outside a run" in text
    assert "write run(outside(...), run_name='...')" in text


def test_outside_a_run_whoever_receives_is_told_that_nobody_can_send() -> None:
    with clock.use(), pytest.warns(NotDurable, match="waits receives outside a run: nobody can send to it"):
        asyncio.run(waits(1))


def test_a_wait_of_an_attempt_that_has_ended_is_refused() -> None:
    kept: list[Any] = []

    @task(name="keeps")
    async def keeps() -> None:
        kept.append(ctx())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.run(keeps())
    for work in (kept[0].sleep(1), kept[0].receive("work", int)):
        with pytest.raises(ActionEnded):
            asyncio.run(work)


@task
async def settles() -> list[str]:
    await ctx().sleep(HOUR)
    return [await waits(5)]


@task
def settles_in_a_thread() -> str:
    ctx().sleep_sync(HOUR)
    return "slept"


def test_a_body_under_test_waits_in_virtual_time() -> None:
    async def main() -> list[str]:
        with task_context(task=settles):
            return await settles.fn()

    with clock.use():
        assert asyncio.run(main()) == ["nothing on work in 5 s"]
        assert clock.elapsed >= HOUR
        with task_context(task=settles_in_a_thread):
            assert settles_in_a_thread.fn() == "slept"
    assert clock.elapsed >= 2 * HOUR
