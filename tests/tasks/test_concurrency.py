"""How many attempts of a task run at once in a run, and how many begin in a span of time."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import Rate, Retry, run_sync, task
from holdfast.clocks import Clock, clock, use_clock


class Virtual(Clock):
    """Time goes on when the loop has nothing else to do: to the next one who sleeps."""

    def __init__(self) -> None:
        self.time = 1e9
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self.time + seconds, self._count, future))
        asyncio.get_running_loop().call_later(0.005, self._wake)
        await future

    def _wake(self) -> None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        if self._sleepers:
            at, _, future = heapq.heappop(self._sleepers)
            self.time = max(self.time, at)
            future.set_result(None)


@pytest.fixture
def virtual() -> Iterator[Virtual]:
    with use_clock(Virtual()):
        yield clock()  # type: ignore[misc]


class Gauge:
    """How many are inside, and how many were at most."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.lock = threading.Lock()
        self.begun: list[float] = []

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *exc: object) -> None:
        with self.lock:
            self.inside -= 1


GAUGE = Gauge()


@pytest.fixture(autouse=True)
def gauge() -> Gauge:
    GAUGE.__init__()  # type: ignore[misc]
    BARRIER.reset()
    return GAUGE


@task(concurrency=3)
async def bounded(n: int) -> int:
    with GAUGE:
        for _ in range(5):
            await asyncio.sleep(0)
        return n


@task(concurrency=3)
def bounded_def(n: int) -> int:
    with GAUGE:
        if n < 3:
            BARRIER.wait()  # three are inside at once, or this never ends
        return n


BARRIER = threading.Barrier(3, timeout=30)


@task(concurrency=1)
async def tree(depth: int) -> int:
    return 1 + sum(await asyncio.gather(*(tree(depth - 1 - n) for n in range(depth))))


@task(concurrency=1)
def tree_def(depth: int) -> int:
    return 1 + (tree_def(depth - 1) if depth else 0)


@task(concurrency=1, retries=Retry(2, jitter=False, initial_interval=50))
async def turns(n: int, seen: list[str]) -> None:
    with GAUGE:
        seen.append(f"{n} begins")
        first = sum(line == f"{n} begins" for line in seen) == 1
        await asyncio.sleep(0)
        if n == 0 and first:
            raise KeyError("the first time")
        seen.append(f"{n} ends")


@task(concurrency=1)
async def takes_turns_with_its_child(n: int) -> int:
    with GAUGE:
        await asyncio.sleep(0)
    total = 0
    if n:
        total += await takes_turns_with_its_child(n - 1)
        with GAUGE:
            await asyncio.sleep(0)
    return total + 1


@task
async def many(which: str) -> Any:
    each: Any = {"bounded": bounded, "bounded_def": bounded_def, "timed": timed, "both": both}[which]
    return await asyncio.gather(*(each.call(n) for n in range(10)))


@task(concurrency=Rate(3, per=10))
async def timed(n: int) -> int:
    GAUGE.begun.append(clock().now() - 1e9)
    return n


@task(concurrency=Rate(5, per=10, concurrency=2))
async def both(n: int) -> int:
    with GAUGE:
        await asyncio.sleep(0)
    return n


@pytest.mark.parametrize("which", ["bounded", "bounded_def"])
@pytest.mark.parametrize("durable", [True, False])
def test_no_more_attempts_run_than_concurrency_says(tmp_path: Path, which: str, durable: bool, gauge: Gauge) -> None:
    call = many(which)
    found = run_sync(call, store=tmp_path, run_name="r", durability="flush") if durable else asyncio.run(call)
    assert found == list(range(10))
    assert gauge.most == 3


def test_a_parent_that_awaits_children_of_its_own_task_holds_no_slot(tmp_path: Path) -> None:
    assert asyncio.run(tree(3)) == 8
    assert run_sync(tree(3), store=tmp_path, run_name="r", durability="flush") == 8


def test_a_def_parent_that_awaits_children_of_its_own_task_holds_no_slot(tmp_path: Path) -> None:
    assert tree_def(3) == 4
    assert run_sync(tree_def.call(3), store=tmp_path, run_name="r", durability="flush") == 4


def test_a_parent_goes_on_only_when_it_has_a_slot_again(gauge: Gauge) -> None:
    @task(name="several")
    async def several() -> list[int]:
        return await asyncio.gather(*(takes_turns_with_its_child(3) for _ in range(4)))

    assert asyncio.run(several()) == [4, 4, 4, 4]
    assert gauge.most == 1


def test_the_slot_is_free_while_a_retry_waits(virtual: Virtual, gauge: Gauge) -> None:
    seen: list[str] = []

    @task(name="two")
    async def two() -> None:
        await asyncio.gather(turns(0, seen), turns(1, seen))

    asyncio.run(two())
    assert seen == ["0 begins", "1 begins", "1 ends", "0 begins", "0 ends"]
    assert (gauge.most, virtual.time - 1e9) == (1, 50)


def test_a_slot_is_given_back_when_a_waiting_attempt_is_cancelled() -> None:
    release = asyncio.Event()

    @task(name="holds", concurrency=1)
    async def holds(n: int) -> int:
        if n == 0:
            await release.wait()
        return n

    @task(name="cancels")
    async def cancels() -> int:
        first, second = asyncio.create_task(holds(0)), asyncio.create_task(holds(1))
        for _ in range(5):
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait({second})
        third = asyncio.create_task(holds(2))
        release.set()
        return await first + await third

    assert asyncio.run(cancels()) == 2


def test_a_slot_is_given_back_when_a_parent_is_cancelled_while_it_waits_for_it() -> None:
    began, release = asyncio.Event(), asyncio.Event()

    @task(name="inner")
    async def inner() -> None: ...

    @task(name="outer", concurrency=1)
    async def outer(n: int) -> int:
        if n == 0:
            await inner()  # gives its slot to outer(1), and wants it back
            return 0
        began.set()
        await release.wait()
        return n

    @task(name="cancels")
    async def cancels() -> int:
        first = asyncio.create_task(outer(0))
        second = asyncio.create_task(outer(1))
        await began.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait({first})
        release.set()
        return await second + sum(await asyncio.gather(*(outer(n) for n in (2, 3))))

    async def main() -> int:
        async with asyncio.timeout(20):
            return await cancels()

    assert asyncio.run(main()) == 6


def test_no_more_attempts_begin_in_a_span_than_the_rate_says(virtual: Virtual, gauge: Gauge) -> None:
    assert asyncio.run(many("timed")) == list(range(10))
    assert gauge.begun == [0, 0, 0, 10, 10, 10, 20, 20, 20, 30]


def test_a_rate_may_bound_both(virtual: Virtual, gauge: Gauge) -> None:
    assert asyncio.run(many("both")) == list(range(10))
    assert (gauge.most, virtual.time - 1e9) == (2, 10)


def test_the_bound_is_of_one_run(gauge: Gauge) -> None:
    @task(name="alone", concurrency=1)
    async def alone(barrier: asyncio.Barrier) -> None:
        await barrier.wait()

    async def main() -> None:
        barrier = asyncio.Barrier(2)
        async with asyncio.timeout(20):
            await asyncio.gather(alone(barrier), alone(barrier))

    asyncio.run(main())


@task
async def gives_a_turn() -> None:
    await asyncio.sleep(0)


@task(concurrency=1)
async def one_at_a_time(depth: int, free: asyncio.Event | None = None) -> None:
    if free is not None:
        await free.wait()
    elif depth > 0:

        async def calls_itself() -> None:
            await asyncio.sleep(0.01)
            await one_at_a_time(depth - 1)
            holder_goes.set()

        await asyncio.gather(gives_a_turn(), gives_a_turn(), calls_itself())


holder_goes = asyncio.Event()


@task
async def comes_back_while_another_branch_calls() -> None:
    global holder_goes
    holder_goes = asyncio.Event()
    gone = asyncio.Event()
    first = asyncio.create_task(one_at_a_time(1))
    await asyncio.sleep(0)
    holder = asyncio.create_task(one_at_a_time(0, gone))
    asyncio.get_running_loop().call_later(0.05, gone.set)
    await asyncio.gather(first, holder)


def test_a_body_that_comes_back_for_its_slot_while_another_branch_calls_never_waits_for_itself() -> None:
    async def main() -> None:
        await asyncio.wait_for(comes_back_while_another_branch_calls(), 10)

    asyncio.run(main())


@pytest.mark.usefixtures("virtual")
def test_a_clock_that_is_set_back_holds_a_rate_up_for_no_longer_than_its_span() -> None:
    @task(name="ticks", concurrency=Rate(1, per=10))
    async def ticks(back: float) -> None:
        clock().time -= back  # type: ignore[attr-defined]

    @task(name="sets_the_clock_back")
    async def sets_the_clock_back() -> int:
        await ticks(1e6)
        began = clock().now()
        await ticks(0)
        return round(clock().now() - began)

    assert run_sync(sets_the_clock_back(), run_name="it", store="memory:rate-clock") == 10
