"""The kit kills where it says, tells what became of the program, and notices a broken law."""

from __future__ import annotations

import asyncio

import pytest

from holdfast import Status, ctx, run, task
from holdfast.errors import InvalidOption
from holdfast.testing import CrashDisk, Ledger, MemoryDisk, SimulatedCrash, crash_at, crash_everywhere, memory_store, power_cuts

ledger = Ledger()
forgetful: dict[str, int] = {}


@task
async def charge(order: int) -> str:
    ledger.ran(f"charge {order}")
    return f"receipt {order}"


@task
async def buy(order: int) -> str:
    receipt = await charge(order)
    ledger.got(f"charge {order}")
    return receipt


@task
async def buy_without_asking(order: int) -> str:
    """What the kit is to catch: an effect that is no action."""
    ledger.ran(f"charge {order}")
    ledger.got(f"charge {order}")
    await charge(order)
    return f"receipt {order}"


@task
async def fails() -> None:
    raise ValueError("as ever")


def test_each_operation_is_a_crash_point_in_each_way() -> None:
    disk = CrashDisk(MemoryDisk())
    asyncio.run(run(buy(7), run_name="program", store=memory_store(disk)))
    survivals = list(crash_everywhere(lambda: buy(7), ledger=ledger))
    for when in ("before", "after", "torn"):
        killed = [crash.operation for survival in survivals for crash in survival.crashes if crash.when == when]
        assert killed == disk.operations


def test_an_order_is_charged_once_wherever_the_process_is_killed() -> None:
    for survival in crash_everywhere(lambda: buy(7), ledger=ledger):
        assert survival.value == "receipt 7", survival
        assert ledger.again == [], survival
        assert survival.store.state_sync("program").status is Status.COMPLETED


def test_an_order_is_charged_once_whatever_the_disk_forgets() -> None:
    for survival in power_cuts(lambda: buy(7), range(50), ledger=ledger):
        assert survival.value == "receipt 7", survival
        assert ledger.again == [], survival


def test_an_effect_that_is_no_action_is_caught() -> None:
    caught = []
    for survival in crash_everywhere(lambda: buy_without_asking(7), when=["before"], ledger=ledger):
        caught += ledger.again
        assert survival.value == "receipt 7"
    assert caught


def test_a_dead_process_writes_nothing_down() -> None:
    written, disk = Ledger(), CrashDisk(MemoryDisk(), at=1)
    written.clear()
    written.next_life(disk)
    written.ran("a")
    with pytest.raises(SimulatedCrash):
        disk.make_folder("/a")
    with pytest.raises(SimulatedCrash):
        written.ran("b")
    assert [(entry.life, entry.verb, entry.what) for entry in written.entries] == [(0, "ran", "a")]


def test_a_program_that_fails_is_a_survival_with_its_error() -> None:
    survival = crash_at(fails.call, 20)
    assert isinstance(survival.error, ValueError)
    assert [crash.at for crash in survival.crashes] == [20]
    assert isinstance(survival.again().error, ValueError)


def test_a_point_behind_the_programs_end_kills_nothing() -> None:
    survival = crash_at(lambda: buy(1), 10_000, ledger=ledger)
    assert (survival.crashes, survival.value) == ((), "receipt 1")


def test_the_same_seed_chooses_the_same_points() -> None:
    def points() -> list[str]:
        return [str(survival) for survival in power_cuts(lambda: buy(7), range(5), ledger=ledger)]

    assert points() == points()


def test_the_store_is_the_kits() -> None:
    with pytest.raises(InvalidOption, match="store"):
        crash_at(lambda: buy(1), 1, store="memory:")


def test_two_memory_stores_have_nothing_in_common() -> None:
    async def both() -> list[str]:
        one, other = memory_store(), memory_store()
        await run(buy(1), run_name="one", store=one)
        return [found.run_name async for found in other.runs()]

    assert asyncio.run(both()) == []
    assert ctx() is None
