"""The shuffler finds what one order hides, keeps what asyncio promises, and does the same again for the same seed."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from holdfast import Retry, Timeout, ctx, group, run, task
from holdfast.clocks import clock
from holdfast.testing import Deadlock, bucket_store, run_shuffled, shuffled
from holdfast.testing.loops import shuffle

SEEDS = range(100)


class Account:
    """Loses an update where two of them overlap."""

    def __init__(self) -> None:
        self.balance = 0

    async def add(self, amount: int) -> None:
        before = self.balance
        await asyncio.sleep(0)
        self.balance = before + amount


async def add_one_after_the_other() -> int:
    """In the order in which asyncio happens to run these two, nothing is lost."""
    account = Account()

    async def second() -> None:
        for _ in range(3):  # long enough, on any machine that it was ever tried on
            await asyncio.sleep(0)
        await account.add(1)

    await asyncio.gather(account.add(1), second())
    return account.balance


def test_a_lost_update_that_one_order_hides_is_found() -> None:
    assert asyncio.run(add_one_after_the_other()) == 2
    assert {order.value for order in shuffled(add_one_after_the_other, SEEDS)} == {1, 2}


def test_a_step_that_must_be_left_behind_for_long_is_found_too() -> None:
    async def race() -> bool:
        late = False

        async def slow() -> None:
            nonlocal late
            await asyncio.sleep(0)
            late = done.is_set()

        async def busy() -> None:
            for _ in range(12):
                await asyncio.sleep(0)
            done.set()

        done = asyncio.Event()
        await asyncio.gather(slow(), busy())
        return late

    assert any(order.value for order in shuffled(race, SEEDS))


async def trace_of_twelve() -> list[int]:
    trace: list[int] = []

    async def walk(number: int) -> None:
        for _ in range(3):
            trace.append(number)
            await asyncio.sleep(random.choice((0, 0.5, 1)))

    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(walk(number))
    return trace


def test_the_same_seed_gives_the_same_order_and_others_give_others() -> None:
    orders = [tuple(order.value) for order in shuffled(trace_of_twelve, SEEDS)]
    assert orders == [tuple(order.value) for order in shuffled(trace_of_twelve, SEEDS)]
    assert len(set(orders)) > len(SEEDS) * 0.8


def test_randomness_outside_goes_on_as_if_nothing_had_been() -> None:
    random.seed(5)
    expected = [random.random(), random.random()]
    random.seed(5)
    got = [random.random()]
    run_shuffled(trace_of_twelve, 1)
    assert [*got, random.random()] == expected


def test_time_is_virtual_and_timers_end_in_their_order() -> None:
    async def sleepers() -> list[str]:
        woken: list[str] = []

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append(name)

        began = clock().monotonic(), clock().now()
        async with anyio.create_task_group() as tasks:
            for name, seconds in (("week", 7 * 86_400.0), ("hour", 3600.0), ("day", 86_400.0)):
                tasks.start_soon(sleeper, name, seconds)
        assert (clock().monotonic() - began[0], clock().now() - began[1]) == (7 * 86_400, 7 * 86_400)
        return woken

    before = time.monotonic()
    for order in shuffled(sleepers, range(20)):
        assert order.value == ["hour", "day", "week"], order
        assert order.elapsed == 7 * 86_400
    assert time.monotonic() - before < 60


def test_a_timeout_that_is_left_in_time_never_strikes() -> None:
    """What is due may still be cancelled, up to the moment in which it is run."""

    async def just_in_time() -> None:
        async def once() -> None:
            try:
                async with asyncio.timeout(1):
                    await asyncio.sleep(1)
            except TimeoutError:
                return

        await asyncio.gather(*(once() for _ in range(5)))

    for _ in shuffled(just_in_time, SEEDS):
        pass


def test_who_waits_for_what_never_comes_is_named() -> None:
    async def waits_for_ever() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.Event().wait(), name="the forgotten one")

    with pytest.raises(Deadlock, match="the forgotten one") as raised:
        run_shuffled(waits_for_ever, 7)
    assert "seed 7" in "".join(raised.value.__notes__)


def test_two_locks_taken_in_two_orders_are_found_to_deadlock() -> None:
    async def crossed() -> None:
        one, other = asyncio.Lock(), asyncio.Lock()

        async def take(first: asyncio.Lock, second: asyncio.Lock) -> None:
            async with first:
                await asyncio.sleep(0)
                async with second:
                    return

        await asyncio.gather(take(one, other), take(other, one))

    ended = []
    for seed in range(12):
        try:
            run_shuffled(crossed, seed)
        except Deadlock:
            ended.append("deadlock")
        else:
            ended.append("well")
    assert set(ended) == {"deadlock", "well"}


def test_a_failure_names_its_seed() -> None:
    async def fails() -> None:
        raise ValueError("as ever")

    with pytest.raises(ValueError, match="as ever") as raised:
        run_shuffled(fails, 12)
    assert "seed 12" in "".join(raised.value.__notes__)


def test_threads_that_work_are_waited_for_before_time_goes_on() -> None:
    async def in_threads() -> list[str]:
        async with asyncio.timeout(5):
            first = await asyncio.to_thread(dawdle)
        async with asyncio.timeout(5):
            return [first, await threaded.call()]

    for order in shuffled(in_threads, range(3)):
        assert order.value == ["done", "done"], order
        assert order.elapsed < 5


def dawdle() -> str:
    for _ in range(100):
        sum(range(10_000))
    return "done"


@task
def threaded() -> str:
    return dawdle()


def test_a_thread_of_the_test_runner_holds_no_time_up() -> None:
    reading, writing = os.pipe()
    reader = threading.Thread(target=os.read, args=(reading, 1), name="of the runner", daemon=True)
    reader.start()

    async def sleep() -> None:
        for _ in range(100):
            await asyncio.sleep(60)

    try:
        began = time.monotonic()
        run_shuffled(sleep, 0)
        assert time.monotonic() - began < 50, "each jump waited a second for it"
    finally:
        os.write(writing, b"x")
        reader.join()
        os.close(reading)
        os.close(writing)


def test_no_loop_stays_open() -> None:
    async def which() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    for order in shuffled(which, range(3)):
        assert order.value.is_closed()


def test_callbacks_of_one_future_come_in_their_order() -> None:
    async def told() -> list[str]:
        heard: list[str] = []
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def waiter() -> None:
            await future
            heard.append("waiter")

        future.add_done_callback(lambda _: heard.append("first"))
        waiting = asyncio.create_task(waiter())
        await asyncio.sleep(1)  # until the waiter waits
        future.add_done_callback(lambda _: heard.append("last"))
        future.set_result(None)
        await waiting
        await asyncio.sleep(0)
        return heard

    for order in shuffled(told, SEEDS):
        assert order.value == ["first", "waiter", "last"], order


def test_plain_callbacks_come_in_the_order_in_which_they_were_scheduled() -> None:
    async def scheduled() -> list[int]:
        loop, heard = asyncio.get_running_loop(), list[int]()
        done = asyncio.Event()
        for number in range(10):
            loop.call_soon(heard.append, number)
        loop.call_soon_threadsafe(done.set)
        await done.wait()
        return heard

    for order in shuffled(scheduled, SEEDS):
        assert order.value == list(range(10)), order


def test_a_queue_gives_each_value_once() -> None:
    async def pass_on() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(2)
        got: list[int] = []

        async def produce(start: int) -> None:
            for number in range(start, start + 5):
                await queue.put(number)

        async def consume() -> None:
            for _ in range(5):
                got.append(await queue.get())

        await asyncio.gather(produce(0), produce(5), consume(), consume())
        return sorted(got)

    for order in shuffled(pass_on, SEEDS):
        assert order.value == list(range(10)), order


# programs of ours


@task(concurrency=2)
async def step(number: int) -> int:
    await asyncio.sleep(random.random())
    return number * 10


@task(retries=Retry(max_attempts=3, initial_interval=5))
async def flaky(number: int) -> int:
    await asyncio.sleep(random.random())
    if ctx().attempt_number < 2:
        raise ConnectionError("not yet")
    return number


@task(timeout=Timeout(attempt=2), retries=2)
async def hangs_at_first() -> str:
    if ctx().attempt_number == 0:
        await asyncio.sleep(1000)
    return "in time"


@task
async def saves(rounds: int) -> int:
    done = await ctx().checkpoint.load(int) or 0
    while done < rounds:
        done += await step(done) // max(done * 10, 1) if done else 1
        await ctx().checkpoint.save(done)
    return done


@task
async def nested(depth: int) -> int:
    if depth == 0:
        return 1
    with group(f"depth-{depth}"):
        return sum(await asyncio.gather(nested(depth - 1), nested(depth - 1)))


@task
async def cancels_one() -> str:
    lost = asyncio.create_task(step(99))
    await asyncio.sleep(random.random() / 100)
    lost.cancel()
    await asyncio.wait({lost})
    return "went on"


@task
async def everything() -> list[object]:
    steps = [step(number) for number in range(4)]
    return [
        *await asyncio.gather(*steps, flaky(7), hangs_at_first(), saves(4), nested(2), cancels_one()),
        await step(0),
    ]


RIGHT: list[object] = [0, 10, 20, 30, 7, "in time", 4, 4, "went on", 0]


async def durable() -> list[object]:
    store = bucket_store()
    first = await run(everything(), run_name="r", store=store)
    again = await run(everything(), run_name="r", store=store)
    assert first == again
    return first


async def outside_a_run() -> list[object]:
    return await everything()


def hold(program: Callable[[], Awaitable[list[object]]], seeds: range) -> None:
    for seed in seeds:
        order = shuffle(program, seed)  # type: ignore[arg-type]
        assert order.value == RIGHT, order


def test_a_durable_program_gives_the_same_in_any_order() -> None:
    hold(durable, range(15))


def test_a_program_outside_a_run_gives_the_same_in_any_order() -> None:
    with pytest.warns(match="outside a run"):
        hold(outside_a_run, range(15))


@pytest.mark.campaign
@pytest.mark.parametrize("hundred", range(10))
def test_a_durable_program_gives_the_same_in_a_thousand_orders(hundred: int, record_property: Any) -> None:
    hold(durable, range(hundred * 100, hundred * 100 + 100))
    record_property("tried: orders of tasks, bucket in memory", 100)
