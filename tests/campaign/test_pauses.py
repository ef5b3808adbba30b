"""An owner stands still, another takes over, and the first one wakes: nothing that it writes is ever read, and it is told."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from campaign.programs import ledger, mixed, right, who

from holdfast import Status, Store, run
from holdfast.errors import HoldfastError, RunBusy, RunFenced
from holdfast.testing import MemoryBucket, PauseBucket
from holdfast.testing.buckets import bucket_folder
from holdfast.testing.crashes import RUN_NAME
from holdfast.testing.loops import ShuffledLoop, VirtualLoop, run_in

WIDTH = 2
LEASE = 3.0
#: Longer than the lease, and shorter than one try may take: the sleeper never learns that it slept.
PAUSE = 20.0
#: When the contender comes: when the owner has been standing still for a while.
CONTENDER = 1.0


def store_on(bucket: Any) -> Store:
    return Store.on(bucket_folder(bucket), lease=LEASE)


class World:
    """Two owners of one run in one bucket, and what each of them was told."""

    def __init__(self) -> None:
        self.bucket = MemoryBucket()
        self.told: dict[str, Any] = {}

    async def live(self, name: str, bucket: Any) -> None:
        who.set(name)
        try:
            self.told[name] = await run(mixed(WIDTH), run_name=RUN_NAME, store=store_on(bucket), handle_signals=False)
        except HoldfastError as error:
            self.told[name] = error

    async def paused_or_over(self, paused: PauseBucket) -> None:
        for _ in range(10_000):
            await asyncio.sleep(CONTENDER)
            if paused.paused or "owner" in self.told:
                return

    async def both(self, paused: PauseBucket) -> None:
        async def contend() -> None:
            await self.paused_or_over(paused)
            while True:  # a supervisor: it runs the same line again where it is told that it came too early
                await self.live("contender", self.bucket)
                if not isinstance(self.told["contender"], (RunBusy, RunFenced)):
                    return
                await asyncio.sleep(CONTENDER)

        await asyncio.gather(self.live("owner", paused), contend())


def count_operations() -> int:
    world = World()
    whole = PauseBucket(world.bucket, at=10**9, seconds=0)
    ledger.clear()
    run_in(VirtualLoop(), lambda: world.live("owner", whole))
    return len(whole.operations)


def hold(at: int, when: Literal["before", "after"], seed: int | None = None) -> bool:
    """Pause the owner at one operation. Returns whether it was fenced."""
    world, loop = World(), VirtualLoop() if seed is None else ShuffledLoop(seed)
    paused = PauseBucket(world.bucket, at=at, seconds=PAUSE, when=when)
    ledger.clear()
    run_in(loop, lambda: world.both(paused))
    where = f"{when} {at}: {paused.operations[at - 1] if len(paused.operations) >= at else 'never'}, seed {seed}"
    owner, contender = world.told["owner"], world.told["contender"]
    assert contender == right(WIDTH), f"{where}: {contender!r}"
    assert owner == right(WIDTH) or isinstance(owner, (RunFenced, RunBusy)), f"{where}: {owner!r}"
    # Its body may still act, until it looks at the journal; what it is given then is what the other one read.
    assert ledger.again_by("contender") == [], f"{where}: {ledger.said}"
    assert not ledger.of("owner", "got") & ledger.of("contender", "ran"), f"{where}: {ledger.said}"
    state = store_on(world.bucket).state_sync(RUN_NAME)
    assert state.status is Status.COMPLETED, where
    for action in state.actions.values():
        ends = [attempt.status for attempt in action.attempts]
        assert ends.count(Status.COMPLETED) <= 1, f"{where}: {action}"
    drawn = {entry.what for entry in ledger.entries if entry.what.startswith("drawn")}
    assert len(drawn) == 1, f"{where}: {drawn}"
    return isinstance(owner, RunFenced)


def test_an_owner_that_stood_still_is_told_and_nothing_of_it_counts() -> None:
    operations = count_operations()
    fenced = sum(hold(at, when) for at in range(1, operations + 1, 5) for when in ("before", "after"))
    assert fenced > 5


@pytest.mark.campaign
@pytest.mark.parametrize("ten", range(10))
def test_an_owner_that_stood_still_at_any_operation_in_any_order_of_tasks(ten: int, record_property: Any) -> None:
    operations, tried, fenced = count_operations(), 0, 0
    for seed in [None, *range(1, 10)] if ten == 0 else range(ten * 10, ten * 10 + 10):
        for at in range(1 + (0 if seed is None else seed % 5), operations + 1, 1 if seed is None else 5):
            for when in ("before", "after"):
                fenced += hold(at, when, seed)
                tried += 1
    record_property("tried: owners that stood still and woke after a takeover, bucket in memory", tried)
    assert fenced > 20
