"""Rounds of a loop, chains in any order, and what equal calls may do: each killed at every boundary."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from holdfast import Task, ctx, group, task
from holdfast.errors import AmbiguousLoop
from holdfast.testing import Ledger, Survival, crash_at, crash_everywhere
from holdfast.testing.crashes import EVERY_WAY

ledger = Ledger()
rng = random.Random()
feed: list[int] = []

CHAINS = 6
ROUNDS = 4
VISITORS = "abcd"


# six two-step chains with scrambled delays


async def dawdle() -> None:
    for _ in range(rng.randint(0, 30)):
        await asyncio.sleep(0)


@task
async def first(chain: int) -> str:
    await dawdle()
    ledger.ran(f"first {chain}")
    return f"first of {chain}"


@task
async def second(given: str) -> str:
    await dawdle()
    ledger.ran(f"second {given}")
    return f"second after {given}"


async def chain(number: int) -> str:
    given = await first(number)
    ledger.got(f"first {number}")
    await dawdle()
    result = await second(given)
    ledger.got(f"second {given}")
    return result


@task
async def chains() -> list[str]:
    numbers = list(range(CHAINS))
    rng.shuffle(numbers)
    results = dict(zip(numbers, await asyncio.gather(*(chain(number) for number in numbers)), strict=True))
    return [results[number] for number in range(CHAINS)]


def hold_chains(seed: int, step: int) -> int:
    """`rng` goes on from life to life, so each order of starting, and of ending, is another one."""
    rng.seed(seed)
    count = 0
    for survival in crash_everywhere(chains.call, step=step, ledger=ledger):
        assert survival.value == [f"second after first of {number}" for number in range(CHAINS)], survival
        assert ledger.again == [], survival
        count += 1
    return count


def test_chains_killed_between_any_two_events_and_resumed_in_another_order_come_back_unswapped() -> None:
    assert hold_chains(seed=1, step=1) > 100


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(2, 52))
def test_chains_come_back_unswapped_in_many_orders(seed: int, record_property: Any) -> None:
    killed = hold_chains(seed, step=1)
    record_property("tried: chains killed between any two events, in fifty orders, disk in memory", killed)
    assert killed > 100


# a loop of equal, argument-less calls with a save in each round


@task
async def next_page() -> int:
    """The outside gives another page each time that it is asked."""
    ledger.ran(f"page {len(feed)}")
    feed.append(len(feed))
    return feed[-1]


@task
async def collect() -> list[int]:
    got = await ctx().checkpoint.load(list[int]) or []
    while len(got) < ROUNDS:
        got.append(await next_page())
        ledger.got(f"page {got[-1]}")
        await ctx().checkpoint.save(got)
    return got


def sound(pages: list[int]) -> bool:
    """What an uninterrupted loop may give: each page once, in order. One that was fetched, and whose outcome was lost, leaves a gap."""
    return len(pages) == ROUNDS and pages == sorted(set(pages))


def loops_killed_everywhere() -> list[Survival[list[int]]]:
    survivals = []
    for when in EVERY_WAY:
        at = 1
        while True:
            feed.clear()
            survival = crash_at(collect.call, at, when, ledger=ledger)
            if not survival.crashes:
                break
            survivals.append(survival)
            at += 1
    return survivals


def test_a_loop_of_equal_calls_killed_at_every_boundary_gives_the_uninterrupted_result_or_refuses_in_the_one_gap() -> None:
    refused = []
    for survival in loops_killed_everywhere():
        if isinstance(survival.error, AmbiguousLoop):
            refused.append(survival)
            survival = survival.again()
        assert survival.error is None, f"{survival}: {survival.error!r}"
        assert survival.value is not None
        assert sound(survival.value), f"{survival}: {survival.value}"
    assert refused, "the gap is between the first save and the second round's call"


def test_a_loop_fetches_again_only_what_was_in_flight() -> None:
    for when in EVERY_WAY:
        for at in range(1, 80, 3):
            feed.clear()
            survival = crash_at(collect.call, at, when, ledger=ledger)
            if isinstance(survival.error, AmbiguousLoop):
                survival.again()
            assert len(feed) <= ROUNDS + len(survival.crashes), survival


# equal calls under gather


@task
async def ticket() -> int:
    await dawdle()
    ledger.ran(f"ticket {len(feed)}")
    feed.append(len(feed))
    return feed[-1]


async def takes(name: str) -> tuple[str, int]:
    await dawdle()
    number = await ticket()
    ledger.got(f"ticket {number}")
    ledger.got(f"{name} has {number}")
    return name, number


async def takes_in_a_group(name: str) -> tuple[str, int]:
    with group(name):
        return await takes(name)


@task
async def office() -> dict[str, int]:
    return dict(await asyncio.gather(*(takes(name) for name in VISITORS)))


@task
async def office_in_groups() -> dict[str, int]:
    return dict(await asyncio.gather(*(takes_in_a_group(name) for name in VISITORS)))


def swapped(program: Task[[], dict[str, int]]) -> int:
    """Kill it everywhere; return how often somebody was given one ticket before a crash, and another one after it."""
    rng.seed(3)
    count = 0
    for when in EVERY_WAY:
        at = 1
        while True:
            feed.clear()
            survival = crash_at(program.call, at, when, ledger=ledger)
            if not survival.crashes:
                break
            assert survival.value is not None, f"{survival}: {survival.error!r}"
            assert sorted(survival.value) == list(VISITORS)
            assert len(set(survival.value.values())) == len(VISITORS), f"{survival}: {survival.value}"
            assert ledger.again == [], survival
            given = {entry.what for entry in survival.entries if " has " in entry.what}
            count += len(given) > len(VISITORS)
            at += 1
    return count


def test_equal_calls_under_gather_stay_distinct_and_a_resume_may_swap_their_outcomes() -> None:
    """Pinned: none is lost and none given twice, but the n-th to ask is given the n-th outcome, whoever that is this time."""
    assert swapped(office) > 0


def test_equal_calls_in_groups_are_never_swapped() -> None:
    assert swapped(office_in_groups) == 0
