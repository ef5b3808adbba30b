"""Sweepers work beside runs that save, die and resume, and some of them die too: nothing that anybody needs is ever gone."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest

from holdfast import Store, ctx, run, task
from holdfast.errors import HoldfastError, RunBusy, RunFenced
from holdfast.testing import CrashBucket, MemoryBucket, SimulatedCrash, Wire
from holdfast.testing.buckets import bucket_folder
from holdfast.testing.loops import ShuffledLoop, run_in

BIG = 70_000  # bytes: a blob, and a chunk
ROUNDS = 5
RUNS = 3
GRACE = 600.0
LEASE = 900.0
#: Seconds that a body is away between two saves, at most: often longer than the grace.
AWAY = 1500.0
#: An object store refuses a request that was signed so long ago: what is late lands before that.
LATEST = 25

#: The first part is asked for before the first save, and again after it is loaded: that is doubted, and no round of the loop.
pytestmark = pytest.mark.filterwarnings("ignore::holdfast.errors.DoubtfulReuse")


@task
async def part(number: int) -> bytes:
    """Equal in all runs, so that they share its blob."""
    await asyncio.sleep(random.random() * AWAY)
    return bytes([number]) * BIG


@task(keep=1)
async def collect(name: str) -> list[int]:
    state = await ctx().checkpoint.load(bytes) or b""
    first = await part(0)
    for number in range(len(state) // BIG, ROUNDS):
        state += await part(number + 1)
        await ctx().checkpoint.save(state)
        await asyncio.sleep(random.random() * AWAY)
    return [len(state), sum(state), len(first), sum(first)]


RIGHT = [ROUNDS * BIG, BIG * sum(range(1, ROUNDS + 1)), BIG, 0]


class World:
    """One bucket with runs and sweepers, each of which is killed now and then."""

    def __init__(self, seed: int) -> None:
        self.bucket = MemoryBucket()
        self.wire = Wire()
        self.deaths = 0
        self.swept = 0
        self.freed = 0
        self.rng = random.Random(seed)
        self.over = False

    def mortal(self, operations: int) -> tuple[CrashBucket, Store]:
        at, when = self.rng.randint(1, operations), self.rng.choice(("before", "after", "late", "never", "never"))
        if when == "never":
            at, when = 10**9, "before"
        bucket = CrashBucket(self.bucket, at=at, when=when, late_by=self.rng.randint(1, LATEST), wire=self.wire)  # type: ignore[arg-type]
        return bucket, Store.on(bucket_folder(bucket), lease=LEASE)

    async def life(self, work: Any, bucket: CrashBucket) -> Any:
        """The result of `work`, or None where its process died, or was told that another one seems to live."""
        died = asyncio.Event()
        bucket.when_crashed(died.set)
        working, death = asyncio.ensure_future(work), asyncio.ensure_future(died.wait())
        await asyncio.wait({working, death}, return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if bucket.crashed:
            self.deaths += 1
            working.cancel()
            await asyncio.wait({working})
            with contextlib.suppress(SimulatedCrash, asyncio.CancelledError, HoldfastError):
                working.result()
            return None
        try:
            return working.result()
        except (RunBusy, RunFenced):
            return None

    async def run(self, name: str) -> None:
        while True:
            bucket, store = self.mortal(60)
            result = await self.life(run(collect(name), run_name=name, store=store, handle_signals=False), bucket)
            if result is not None:
                assert result == RIGHT, name
                return
            await asyncio.sleep(self.rng.random() * AWAY)

    async def sweep(self) -> None:
        while not self.over:
            await asyncio.sleep(self.rng.random() * GRACE)
            bucket, store = self.mortal(25)
            self.freed += await self.life(store.gc(grace=GRACE), bucket) or 0
            self.swept += 1

    async def main(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # what dead processes still say
        sweepers = [asyncio.create_task(self.sweep()) for _ in range(2)]
        async with asyncio.TaskGroup() as runs:
            for number in range(RUNS):
                runs.create_task(self.run(f"run-{number}"))
        self.over = True
        await asyncio.wait(sweepers)
        for sweeper in sweepers:
            sweeper.result()
        await self.look()

    async def look(self) -> None:
        """All is on record, whatever was swept; and what nobody names goes, once nobody can be about to name it."""
        store = Store.on(bucket_folder(self.bucket))
        await asyncio.sleep(40 * 86_400)
        await store.gc(grace=GRACE)
        await asyncio.sleep(86_400)
        await store.gc(grace=GRACE)
        for number in range(RUNS):
            name = f"run-{number}"
            assert await run(collect(name), run_name=name, store=store, handle_signals=False) == RIGHT, name


def hold(seeds: range) -> tuple[int, int]:
    """Returns how many sweeps and deaths there were."""
    swept = deaths = 0
    for seed in seeds:
        world = World(seed)
        random.seed(seed)
        try:
            run_in(ShuffledLoop(seed), world.main)
        except BaseException as error:
            error.add_note(f"in the world of seed {seed}")
            raise
        swept, deaths = swept + world.swept, deaths + world.deaths
    return swept, deaths


@pytest.mark.slow
def test_sweepers_take_nothing_that_anybody_needs() -> None:
    swept, deaths = hold(range(2))
    assert swept > 10
    assert deaths > 2


@pytest.mark.campaign
@pytest.mark.parametrize("ten", range(10))
def test_sweepers_take_nothing_that_anybody_needs_in_a_hundred_worlds(ten: int, record_property: Any) -> None:
    swept, deaths = hold(range(ten * 10, ten * 10 + 10))
    record_property("tried: gc beside saves and resumes, sweeps", swept)
    record_property("tried: gc beside saves and resumes, deaths of owners and sweepers", deaths)
