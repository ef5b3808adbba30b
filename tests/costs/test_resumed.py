"""A run that goes on: what its observers are told of the cost so far, how it ends where nothing is left to spend, and what is saved."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from holdfast import Budget, Status, Store, ctx, run, task
from holdfast.errors import BudgetSpent
from holdfast.events import Event, RunOpened, Spent
from holdfast.folders.memory import MemoryDisk
from holdfast.leaves import MANY
from holdfast.observers.picture import Picture
from holdfast.testing import crash_everywhere, memory_store, no_backoff

disk = MemoryDisk()
fails: list[int] = []

pytestmark = pytest.mark.filterwarnings("ignore::holdfast.errors.BudgetWarning")


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()
    fails.clear()


def store() -> Store:
    return memory_store(disk)


class Watch:
    """All that a run tells, live events too."""

    live = True

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.picture = Picture()

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        self.picture.see(event)

    @property
    def opened(self) -> RunOpened:
        [opened] = [event for event in self.events if isinstance(event, RunOpened)]
        return opened

    @property
    def spent(self) -> list[Spent]:
        return [event for event in self.events if isinstance(event, Spent)]

    @property
    def cost(self) -> Decimal:
        return Decimal(self.opened.cost or 0) + sum(Decimal(event.cost or 0) for event in self.spent)

    @property
    def tokens(self) -> int:
        return self.opened.tokens + sum(event.tokens for event in self.spent)


@task(retries=1)
async def pays(number: int) -> int:
    ctx().add_cost("1", tokens=number, key="answer")
    ctx().add_cost("0.1", tokens=1)
    if ctx().attempt_number == 0 and number == 1:
        raise ConnectionError
    return number


@task
async def pays_for_each(count: int) -> int:
    return sum([await pays(number) for number in range(count)])


class Watches:
    """One for each owner of a run."""

    def __init__(self) -> None:
        self.run_id = ""
        self.of: list[Watch] = []

    def for_run(self, opened: RunOpened) -> Watch:
        if opened.run_id != self.run_id:
            self.of.clear()
            self.run_id = opened.run_id
        self.of.append(Watch())
        return self.of[-1]

    def on_event(self, event: Event) -> None: ...


@pytest.mark.parametrize("raised", ["2.5", "10"])
def test_killed_wherever_it_can_be_each_owner_tells_the_cost_so_far_and_then_each_charge_once(raised: str) -> None:
    watches = Watches()

    async def goes_on(again: Store) -> int:
        options: Any = {"run_name": "program", "store": again, "observers": [watches], "handle_signals": False}
        with suppress(BudgetSpent):
            await run(pays_for_each(4), **options, budget=Budget(cost=raised))
        return await run(pays_for_each(4), **options)

    resumed = 0
    budget = Budget(cost="1.5")
    for survived in crash_everywhere(lambda: pays_for_each(4), then=goes_on, step=3, budget=budget, observers=[watches]):
        assert survived.value == 6, survived
        state, before = survived.store.state_sync("program"), Decimal(0)
        for watch in watches.of:
            assert Decimal(watch.opened.cost or 0) >= before
            assert (watch.picture.cost, watch.picture.tokens) == (watch.cost, watch.tokens), survived
            assert max(Counter((event.action, event.key) for event in watch.spent if event.key).values(), default=0) <= 1, survived
            before = watch.cost
        assert (watches.of[-1].cost, watches.of[-1].tokens) == (state.cost, state.tokens), survived
        resumed += bool(watches.of[-1].opened.cost)
    assert resumed > 10


def test_a_new_run_has_cost_nothing_and_its_next_owner_is_told_what_it_cost_and_saved() -> None:
    def opened(**options: Any) -> RunOpened:
        watch = Watch()
        with suppress(BudgetSpent):
            asyncio.run(run(pays_for_each(4), run_name="it", store=store(), observers=[watch], **options))
        return watch.opened

    first = opened(budget=Budget(cost="2.2", reserve="1"))
    assert (first.cost, first.tokens, first.saved) == ("", 0, "")
    second = opened(budget=Budget(cost="3.5", reserve="1"))
    assert (second.cost, second.tokens, second.saved) == ("2.2", 3, "")
    third = opened()
    assert (third.cost, third.saved) == ("3.4", "1.1")


@pytest.mark.parametrize("limit", ["2.2", "0.5"])
def test_killed_anywhere_and_resumed_under_a_budget_that_is_spent_the_run_is_stopped(limit: str) -> None:
    async def stopped(again: Store) -> int:
        with suppress(BudgetSpent):
            return await run(pays_for_each(4), run_name="program", store=again, handle_signals=False, budget=Budget(cost=limit))
        return -1

    crashed = 0
    for survived in crash_everywhere(lambda: pays_for_each(4), then=stopped, on="disk", budget=Budget(cost="2.2")):
        state = survived.store.state_sync("program")
        assert (survived.value, state.status) == (-1, Status.STOPPED), survived
        assert state.root is not None
        crashed += state.root.attempts[-1].status is Status.CRASHED
        assert {action.status for action in state.actions.values()} <= {Status.STOPPED, Status.COMPLETED, Status.CRASHED, Status.RETRYING}
    assert crashed > 3, "such as never began again"


@task
async def leaf(number: int) -> int:
    ctx().add_cost("0.5")
    return number


@task
async def branch(count: int) -> int:
    done = sum(await asyncio.gather(*(leaf(number) for number in range(count))))
    if len(fails) < 1:
        fails.append(1)
        raise ConnectionError
    return done


@task
async def tree(count: int) -> int:
    done = await branch.with_options(retries=1)(count) + await leaf(-1)
    if len(fails) < 3:
        fails.append(1)
        raise ConnectionError
    return done


@pytest.mark.parametrize("count", [3, MANY + 5])
def test_what_is_paid_once_is_saved_once_over_retries_resumes_and_whatever_level_is_answered_from_record(count: int) -> None:
    cost = Decimal("0.5") * (count + 1)
    watch = Watch()
    with no_backoff():
        for expected in (cost - Decimal("0.5"), cost, cost):
            with suppress(ConnectionError):
                asyncio.run(run(tree(count), run_name="it", store=store()))
            state = store().state_sync("it")
            assert (state.cost, state.saved) == (cost, expected)
        assert state.status is Status.COMPLETED
        asyncio.run(run(tree(count), run_name="it", store=store(), observers=[watch]))
    assert store().state_sync("it").saved == cost


@task(retries=1)
async def declines(number: int) -> int:
    ctx().add_cost("2")
    raise ValueError(number)


@task
async def asks_who_declines() -> str:
    with suppress(ValueError):
        await declines(1)
    if not fails:
        fails.append(1)
        raise SystemExit
    return "declined"


def test_a_failure_that_is_seen_again_is_not_paid_again_either() -> None:
    with no_backoff():
        with pytest.raises(SystemExit):
            asyncio.run(run(asks_who_declines(), run_name="it", store=store()))
        assert asyncio.run(run(asks_who_declines(), run_name="it", store=store())) == "declined"
    state = store().state_sync("it")
    assert (state.cost, state.saved) == (Decimal(4), Decimal(4))
