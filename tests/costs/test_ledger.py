"""A paid service that honours keys, and a program that is killed wherever it can be: what is on record is what was paid, to the cent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal

import pytest

from holdfast import Budget, Price, Status, Store, ctx, run, task
from holdfast.errors import BudgetSpent
from holdfast.testing import Ledger, Survival, crash_everywhere, power_cuts
from holdfast.testing.places import On

ledger = Ledger()
PRICE = Price("0.15", "0.60")
IN_MEMORY: list[On] = ["disk", "bucket"]


def tokens_of(prompt: str) -> int:
    return 7 + 3 * len(prompt)


async def service(prompt: str, key: str) -> int:
    """Charges once for each key, in a book that outlives every process, and answers with the tokens of its answer."""
    ledger.ran(f"charge {key} {PRICE.of(len(prompt), tokens_of(prompt))}")
    await asyncio.sleep(0)
    return tokens_of(prompt)


def charged(entries: Iterable[object]) -> Decimal:
    """What the service's book says. A key that is asked again is charged no more."""
    book = {str(getattr(entry, "what", "")) for entry in entries}
    return sum((Decimal(line.split()[2]) for line in book if line.startswith("charge ")), Decimal(0))


@task(retries=2)
async def classify(prompt: str) -> int:
    answered = await service(prompt, ctx().idempotency_key)
    ctx().add_cost(PRICE.of(len(prompt), answered), tokens_in=len(prompt), tokens_out=answered, model="small", key="answer")
    if ctx().attempt_number == 0 and prompt.startswith("b"):
        raise ConnectionError("the answer was garbage")
    return answered


@task
async def embed(prompt: str) -> int:
    return await classify(prompt) + await classify(prompt * 2)


@task
async def classify_all(prompts: list[str]) -> int:
    return sum(await asyncio.gather(*(embed(prompt) for prompt in prompts)))


PROMPTS = ["a", "bb", "ccc"]
SUM = sum(tokens_of(prompt) + tokens_of(prompt * 2) for prompt in PROMPTS)


def holds(survivals: Iterable[Survival[int]]) -> int:
    """The law, for each; and how many there were."""
    tried = 0
    for survived in survivals:
        assert survived.error is None, survived
        assert survived.value == SUM, survived
        state = survived.store.state_sync("program")
        assert state.cost == charged(survived.entries), survived
        assert state.tokens == sum(len(p) + tokens_of(p) + len(p) * 2 + tokens_of(p * 2) for p in PROMPTS), survived
        assert len({entry.what for entry in survived.entries}) == 2 * len(PROMPTS), survived
        tried += 1
    return tried


pytestmark = [
    pytest.mark.filterwarnings("ignore::holdfast.errors.BudgetWarning"),
    pytest.mark.filterwarnings("ignore::holdfast.errors.CodeChanged"),
]


@pytest.mark.parametrize("on", IN_MEMORY)
def test_killed_wherever_it_can_be_what_is_on_record_is_what_was_paid(on: On) -> None:
    step = 1 if on == "disk" else 3
    assert holds(crash_everywhere(lambda: classify_all(PROMPTS), step=step, on=on, ledger=ledger)) > 20


@pytest.mark.parametrize("on", IN_MEMORY)
def test_after_any_power_cut_what_is_on_record_is_what_was_paid(on: On) -> None:
    assert holds(power_cuts(lambda: classify_all(PROMPTS), range(40), on=on, ledger=ledger)) == 40


@pytest.mark.parametrize("on", IN_MEMORY)
def test_killed_under_a_budget_too(on: On) -> None:
    budget = Budget(cost="1000", reserve="1")
    killed = crash_everywhere(lambda: classify_all(PROMPTS), step=5, on=on, ledger=ledger, budget=budget)
    assert holds(killed) > 5


@pytest.mark.parametrize("on", IN_MEMORY)
def test_stopped_by_its_budget_killed_there_and_raised_until_done_it_pays_once(on: On) -> None:
    async def raised(store: Store) -> int:
        for limit in ("0.02", "0.05", "100"):
            budget = Budget(cost=limit, reserve="0.012")
            with suppress(BudgetSpent):
                return await run(classify_all(PROMPTS), run_name="program", store=store, handle_signals=False, budget=budget)
        raise AssertionError("the last limit is enough")

    tried = 0
    first = Budget(cost="0.013", reserve="0.012")
    for survived in crash_everywhere(lambda: classify_all(PROMPTS), then=raised, step=7, on=on, ledger=ledger, budget=first):
        assert survived.value == SUM, survived
        state = survived.store.state_sync("program")
        assert (state.status, state.cost) == (Status.COMPLETED, charged(survived.entries)), survived
        tried += 1
    assert tried > 10


unkeyed = Ledger()


@task
async def careless(prompt: str) -> int:
    unkeyed.ran(f"charge {prompt}")
    ctx().add_cost("1")
    return len(prompt)


@task
async def careless_one_by_one(prompts: list[str]) -> int:
    return sum([await careless(prompt) for prompt in prompts])


def test_without_a_key_at_most_the_call_in_flight_at_a_kill_is_paid_twice() -> None:
    worst = 0
    for survived in crash_everywhere(lambda: careless_one_by_one(PROMPTS), on="disk", ledger=unkeyed):
        paid = sum(entry.verb == "ran" for entry in survived.entries)
        cost = survived.store.state_sync("program").cost
        assert len(PROMPTS) <= paid <= len(PROMPTS) + len(survived.crashes), survived
        assert len(PROMPTS) <= cost <= paid, survived
        worst = max(worst, paid)
    assert worst == len(PROMPTS) + 1
