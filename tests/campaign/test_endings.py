"""A loop that ends in the middle of a run ends: whatever was about to begin, nobody waits for it for ever."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from campaign.programs import ledger, mixed, right

from holdfast import run, start
from holdfast.testing import MemoryBucket, bucket_store
from holdfast.testing.crashes import RUN_NAME
from holdfast.testing.loops import ShuffledLoop, VirtualLoop, run_in

WIDTH = 2
#: The loop's end cancels each task by itself, so an action that awaited these may be CANCELLED, as if somebody had meant it alone.
#: Asked again it is another try, in which its children's failures are tried again; what COMPLETED is not.
FAILED = {"card 30", "card 300", "bank 300"}


def leave(seed: int) -> None:
    """Begin a run, and end the loop some steps later. Then go on with it: what it was given is on record. Raises: Deadlock."""
    bucket, loop = MemoryBucket(), ShuffledLoop(seed)
    ledger.clear()

    async def begin() -> None:
        await start(mixed(WIDTH), run_name=RUN_NAME, store=bucket_store(bucket=bucket))
        for _ in range(seed):
            await asyncio.sleep(0)

    async def go_on() -> list[Any]:
        return await run(mixed(WIDTH), run_name=RUN_NAME, store=bucket_store(bucket=bucket))

    run_in(loop, begin)
    assert run_in(VirtualLoop(loop.time()), go_on) == right(WIDTH), seed
    assert set(ledger.again) <= FAILED, f"{seed}: {ledger.again}"


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """What is cut off says so; that is not what is looked at here."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def test_a_loop_that_ends_in_the_middle_of_a_run_ends() -> None:
    for seed in range(0, 200, 5):
        leave(seed)


@pytest.mark.campaign
def test_a_loop_that_ends_at_any_step_of_a_run_ends(record_property: Any) -> None:
    for seed in range(600):
        leave(seed)
    record_property("tried: loops that ended in the middle of a run, bucket in memory", 600)
