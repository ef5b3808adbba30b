"""A program that receives, sleeps and acts, killed at every place where it can be killed: no value is lost, repeated or swapped."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, cast

import pytest

from holdfast import Status, ctx, task
from holdfast.actions.scopes import Scope
from holdfast.contexts import link_of
from holdfast.errors import ReceiveTimedOut
from holdfast.testing import Ledger, crash_everywhere, power_cuts
from holdfast.testing.crashes import RUN_NAME
from holdfast.topics import entry_key, written

ledger = Ledger()

# Every second operation: what is killed after one is what is killed before the next.


@task
async def charge(order: int) -> str:
    ledger.ran(f"charge {order}")
    return f"receipt {order}"


@task
async def supply(count: int) -> None:
    """Somebody else sent so many: that is there, whoever dies meanwhile."""
    folder = cast("Scope", link_of(ctx())).runtime.some_folder()
    for number in range(count):
        if await folder.stat(entry_key("orders", number)) is None:
            await folder.create(entry_key("orders", number), written("orders", 10 + number))


@task
async def shop() -> list[Any]:
    await supply(3)
    got: list[Any] = []
    for _ in range(2):
        order = await ctx().receive("orders", int)
        ledger.got(f"order {len(got)} is {order}")
        got.append(await charge(order))
        ledger.got(f"charge {order}")
        await ctx().sleep(0.001)
    try:
        await ctx().receive("nobody", int, timeout=0.001)
    except ReceiveTimedOut:
        ledger.got("nobody came")
        got.append("late")
    got.append(await ctx().receive("orders", int))
    return got


RIGHT = ["receipt 10", "receipt 11", "late", 12]


def hold(survival: Any) -> None:
    assert survival.value == RIGHT, survival
    assert ledger.again == [], survival
    orders = {entry.what for entry in survival.entries if entry.what.startswith("order ")}
    assert orders == {"order 0 is 10", "order 1 is 11"}, survival
    state = survival.store.state_sync(RUN_NAME)
    assert state.status is Status.COMPLETED
    received = [a.result for a in state.actions.values() if a.task_name == "holdfast:receive" and a.status is Status.COMPLETED]
    assert sorted(received) == [10, 11, 12], survival


@pytest.mark.slow
@pytest.mark.parametrize("on", ["disk", "bucket"])
def test_each_value_is_acted_on_once_and_in_order_wherever_the_process_is_killed(on: Any) -> None:
    count = 0
    for survival in crash_everywhere(shop.call, on=on, ledger=ledger, step=2):
        hold(survival)
        count += 1
    assert count > 40


@task
async def taker(name: str) -> list[int]:
    got: list[int] = []
    for _ in range(2):
        order = await ctx().receive("orders", int)
        ledger.got(f"{name} {len(got)} is {order}")
        await charge(order)
        ledger.got(f"charge {order}")
        got.append(order)
    return got


@task
async def rivals() -> list[list[int]]:
    await supply(4)
    return list(await asyncio.gather(taker("left"), taker("right")))


def share(survival: Any) -> None:
    assert sorted(itertools.chain(*survival.value)) == [10, 11, 12, 13], survival
    assert ledger.again == [], survival
    whose: dict[str, set[str]] = {}
    for entry in survival.entries:
        who, _, order = entry.what.partition(" is ")
        if order:
            whose.setdefault(who, set()).add(order)
    assert all(len(orders) == 1 for orders in whose.values()), survival
    assert all(got == sorted(got) for got in survival.value), survival


@pytest.mark.slow
@pytest.mark.parametrize("on", ["disk", "bucket"])
def test_two_receivers_share_the_values_as_before_wherever_the_process_is_killed(on: Any) -> None:
    for survival in crash_everywhere(rivals.call, on=on, ledger=ledger, step=2):
        share(survival)


@pytest.mark.slow
@pytest.mark.parametrize("on", ["disk", "bucket"])
def test_values_survive_power_cuts_and_requests_that_land_late(on: Any) -> None:
    for survival in power_cuts(shop.call, range(25), on=on, ledger=ledger):
        hold(survival)
    for survival in power_cuts(rivals.call, range(25), on=on, ledger=ledger):
        share(survival)


@task
async def consumes() -> list[int]:
    """The usual loop of a consumer: a value, what is made of it, a save."""
    await supply(4)
    got = await ctx().checkpoint.load(list[int]) or []
    while len(got) < 4:
        order = await ctx().receive("orders", int, timeout=60)
        await charge(order)
        ledger.got(f"charge {order}")
        got.append(order)
        await ctx().checkpoint.save(got)
    return got


@pytest.mark.slow
@pytest.mark.parametrize("on", ["disk", "bucket"])
def test_a_loop_that_receives_and_saves_takes_each_value_once_wherever_it_is_killed(on: Any) -> None:
    for survival in crash_everywhere(consumes.call, on=on, ledger=ledger, step=2):
        assert survival.value == [10, 11, 12, 13], survival
        assert ledger.again == [], survival
