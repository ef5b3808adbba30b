"""A program with a bit of everything, and the laws that it is held to, whatever is done to it.

Retries, nesting, threads, failures that the caller takes another way after, checkpoints with large values, groups, custom context, recorded
values; and a `ledger` of what had an effect and what was known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from holdfast import Retry, Status, Store, ctx, custom_context, group, task
from holdfast.errors import NonRetryable
from holdfast.testing import Ledger, Survival
from holdfast.testing.crashes import RUN_NAME
from holdfast.views import RunState

#: Which of several owners of one run it is that goes on.
who: ContextVar[str] = ContextVar("who", default="")


class Witnessed(Ledger):
    """Knows also which owner said it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str, str]] = []

    def ran(self, what: str) -> None:
        super().ran(what)
        self.said.append((who.get(), "ran", what))

    def got(self, what: str) -> None:
        super().got(what)
        self.said.append((who.get(), "got", what))

    def clear(self) -> None:
        super().clear()
        self.said = []

    def of(self, owner: str, verb: str) -> set[str]:
        return {what for name, said, what in self.said if (name, said) == (owner, verb)}

    def again_by(self, owner: str) -> list[str]:
        """What this owner ran after anybody had got it."""
        known: set[str] = set()
        found: list[str] = []
        for name, verb, what in self.said:
            if verb == "got":
                known.add(what)
            elif name == owner and what in known:
                found.append(what)
        return found


ledger = Witnessed()
WIDTH = 20
BIG = 70_000  # bytes: a blob


class Declined(Exception):
    pass


class Unpayable(NonRetryable):
    pass


@contextmanager
def known(what: str) -> Iterator[None]:
    """The outcome of what is awaited in the block, whichever it is, is known to the caller."""
    try:
        yield
    except (Declined, Unpayable):  # anything else is no outcome of it: it could not be recorded
        ledger.got(what)
        raise
    ledger.got(what)


@task
async def step(n: int) -> int:
    ledger.ran(f"step {n}")
    return n + 1


@task
def threaded(n: int) -> int:
    ledger.ran(f"threaded {n}")
    return n * 10


@task(retries=Retry(max_attempts=4))
async def flaky(n: int) -> int:
    if ctx().attempt_number < 2:
        raise ValueError("not yet")
    ledger.ran(f"flaky {n}")
    return n


@task
async def by_card(amount: int) -> str:
    ledger.ran(f"card {amount}")
    if amount > 5:
        raise Declined(str(amount))
    return "card"


@task
async def by_bank(amount: int) -> str:
    ledger.ran(f"bank {amount}")
    if amount > 50:
        raise Unpayable(str(amount))
    return "bank"


@task
async def pay(amount: int) -> str:
    try:
        with known(f"card {amount}"):
            return await by_card(amount)
    except Declined:
        try:
            with known(f"bank {amount}"):
                return await by_bank(amount)
        except Unpayable:
            return "nobody"


@task
async def page(number: int) -> bytes:
    ledger.ran(f"page {number}")
    return bytes([number]) * BIG


@task(keep=1)
async def pages(count: int) -> int:
    state = await ctx().checkpoint.load(dict[str, int]) or {"next": 0, "size": 0}
    while state["next"] < count:
        with known(f"page {state['next']}"):
            content = await page(state["next"])
        state = {"next": state["next"] + 1, "size": state["size"] + len(content)}
        await ctx().checkpoint.save(state)
    return state["size"]


@task(concurrency=8)
async def square(n: int) -> int:
    ledger.ran(f"square {n}")
    return n * n


async def squared(n: int) -> int:
    with known(f"square {n}"):
        return await square(n)


@task
async def fan_out(width: int) -> list[int]:
    with custom_context(tenant="a"), group("squares"):
        return await asyncio.gather(*(squared(n) for n in range(width)))


def measured() -> list[int]:
    ledger.ran("measured")
    return [1, 2, 3]


@task
async def positions() -> bool:
    with known("measured"):
        values = await ctx().record(measured)
    drawn, at = await ctx().uuid(), await ctx().now()
    ledger.got(f"drawn {drawn} {at.isoformat()}")
    await step(100)
    return values == [1, 2, 3] and isinstance(at, datetime) and await ctx().random() < 1


@task
async def mixed(width: int) -> list[Any]:
    with known("step 1"):
        one = await step(1)
    with known("threaded 2"):
        two = await threaded.call(one)
    ways = [await pay(3), await pay(30), await pay(300)]
    with known("flaky 7"):
        seven = await flaky(7)
    both = await asyncio.gather(pages(3), fan_out(width))
    return [two, ways, seven, *both, await positions()]


def right(width: int) -> list[Any]:
    return [20, ["card", "bank", "nobody"], 7, 3 * BIG, [n * n for n in range(width)], True]


def completed(state: RunState) -> dict[str, int]:
    """The actions that are recorded as COMPLETED, each with its number of attempts."""
    return {name: len(action.attempts) for name, action in state.actions.items() if action.status is Status.COMPLETED}


def recorded_in(store: Store) -> dict[str, int]:
    try:
        return completed(store.state_sync(RUN_NAME))
    except LookupError:  # killed before there was a run
        return {}


def hold(survivals: Iterable[Survival[list[Any]]], width: int) -> int:
    """Hold a program to the laws, and return how many times it was killed."""
    count = 0
    for survival in survivals:
        assert survival.value == right(width), f"{survival}: {survival.error!r}"
        assert ledger.again == [], survival
        assert len({entry.what for entry in survival.entries if entry.what.startswith("drawn")}) == 1, survival
        state = survival.store.state_sync(RUN_NAME)
        final = completed(state)
        for life, store in enumerate(survival.earlier):
            if not survival.crashes[life].power_cut and any(later.power_cut for later in survival.crashes[life + 1 :]):
                continue  # a part of what is read there was never synced, and nobody was told of it
            for name, attempts in recorded_in(store).items():
                assert final[name] == attempts, f"{survival}: {state.actions[name].task_name} ran again"
        for action in state.actions.values():
            numbers = [attempt.number for attempt in action.attempts]
            assert numbers == sorted(set(numbers)), survival
            assert [attempt.status for attempt in action.attempts].count(Status.COMPLETED) <= 1, survival
            assert action.status is not Status.COMPLETED or action.attempts[-1].status is Status.COMPLETED, survival
        count += len(survival.crashes)
    return count
