"""Virtual time moves when it is told to, and wakes sleepers in the order of their ends."""

from __future__ import annotations

import asyncio
import time

import pytest

from holdfast import Retry, ctx, run, task
from holdfast.clocks import clock
from holdfast.testing import Clock, memory_store, no_backoff


@task(retries=Retry(max_attempts=4, initial_interval=1000, max_interval=10_000, jitter=False))
async def third_time() -> int:
    if ctx().attempt_number < 2:
        raise ValueError("not yet")
    return ctx().attempt_number


def test_it_stands_still_until_it_is_moved() -> None:
    virtual = Clock()
    before = virtual.now()
    time.perf_counter()
    assert virtual.now() == before
    virtual.advance(5)
    assert (virtual.now() - before, virtual.elapsed) == (5, 5)


def test_it_is_the_clock_within_the_block_only() -> None:
    before, virtual = clock(), Clock()
    with virtual.use():
        assert clock() is virtual
    assert clock() is before


def test_sleepers_wake_in_the_order_of_their_ends() -> None:
    virtual, woken = Clock(), list[tuple[str, float]]()

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await virtual.sleep(nap)
            woken.append((name, virtual.elapsed))

    async def all_of_them() -> None:
        await asyncio.gather(sleeper("a", 10, 10), sleeper("b", 5, 7), sleeper("c", 1), sleeper("d", 0))

    asyncio.run(all_of_them())
    assert woken == [("d", 0), ("c", 1), ("b", 5), ("a", 10), ("b", 12), ("a", 20)]


def test_a_sleeper_that_is_cancelled_holds_nobody_up() -> None:
    virtual = Clock()

    async def cancel() -> None:
        first = asyncio.create_task(virtual.sleep(1))
        await asyncio.sleep(0)
        first.cancel()
        await virtual.sleep(10)

    asyncio.run(cancel())
    assert virtual.elapsed == 10


def test_without_jumps_only_advance_wakes_sleepers() -> None:
    virtual = Clock(jumps=False)

    async def wait() -> list[bool]:
        sleeping = asyncio.create_task(virtual.sleep(10))
        seen = []
        for step in (0, 9, 1):
            virtual.advance(step)
            for _ in range(100):
                await asyncio.sleep(0)
            seen.append(sleeping.done())
        assert virtual.sleepers == 0
        return seen

    assert asyncio.run(wait()) == [False, False, True]


def test_backoff_takes_virtual_time_only() -> None:
    virtual = Clock()
    with virtual.use():
        assert asyncio.run(run(third_time(), store=memory_store())) == 2
    assert virtual.elapsed == pytest.approx(3000)


def test_no_backoff_tries_again_at_once_as_often_as_ever() -> None:
    with no_backoff():
        assert asyncio.run(run(third_time(), store=memory_store())) == 2
        assert third_time.sync() == 2
