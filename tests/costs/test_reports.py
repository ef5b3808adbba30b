"""`ctx().add_cost`: what is on record of it, whatever becomes of the attempt that spent it."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any

import pytest

import holdfast as hf
from holdfast import Budget, Cost, Price, Status, Store, ctx, run, task
from holdfast.errors import ActionEnded, AttemptAbandoned, BudgetSpent, InvalidOption
from holdfast.events import Event, Spent
from holdfast.folders.memory import MemoryDisk
from holdfast.leaves import MANY
from holdfast.testing import memory_store, no_backoff, task_context

disk = MemoryDisk()
did: list[Any] = []
fails = 0


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk, fails
    disk, fails = MemoryDisk(), 0
    did.clear()


def store() -> Store:
    return memory_store(disk)


@task
async def asks(prompt: str) -> str:
    ctx().add_cost("0.25", tokens_in=100, tokens_out=10, model="small")
    ctx().add_cost("1.00", tokens=50, model="large")
    return prompt.upper()


@task
async def two(prompts: list[str]) -> list[str]:
    ctx().add_cost("0.001")
    return list(await asyncio.gather(*(asks(prompt) for prompt in prompts)))


def test_costs_are_summed_up_the_tree_and_told_by_task_and_model() -> None:
    asyncio.run(run(two(["a", "b"]), run_name="it", store=store()))
    state = store().state_sync("it")
    assert state.root is not None
    assert (state.cost, state.tokens, state.saved) == (Decimal("2.501"), 320, Decimal(0))
    assert (state.root.cost, state.root.tokens) == (Decimal("2.501"), 320)
    assert [(state.actions[child].cost, state.actions[child].tokens) for child in state.root.children] == [(Decimal("1.25"), 160)] * 2
    assert state.costs.by_task == {two.name: Cost(Decimal("0.001")), asks.name: Cost(Decimal("2.50"), 320, 200, 20)}
    assert state.costs.by_model == {
        "": Cost(Decimal("0.001")),
        "small": Cost(Decimal("0.50"), 220, 200, 20),
        "large": Cost(Decimal("2.00"), 100),
    }
    assert state.costs[asks.name, "large"] == Cost(Decimal("2.00"), 100)
    assert store().result_sync("it").cost == Decimal("2.501")
    assert store().result_sync("it", action=state.root.children[0]).cost == Decimal("1.25")


@task(retries=2)
async def fails_twice() -> int:
    ctx().add_cost("1")
    if ctx().attempt_number < 2:
        raise ConnectionError
    return ctx().attempt_number


@task
async def tries(times: int) -> str:
    try:
        return str(await fails_twice())
    except ConnectionError:
        return "failed"


def test_what_failed_attempts_spent_counts() -> None:
    with no_backoff():
        assert asyncio.run(run(tries(1), run_name="it", store=store())) == "2"
    assert store().state_sync("it").cost == Decimal(3)


@task(retries=2)
async def honoured(prompt: str) -> str:
    ctx().add_cost("1", key="answer")
    ctx().add_cost("0.5", key=f"extra {ctx().attempt_number}")
    ctx().add_cost("7", key="answer")
    if ctx().attempt_number < 2:
        raise ConnectionError
    return prompt


@task
async def honours() -> None:
    await asyncio.gather(honoured("a"), honoured("b"))


def test_a_key_counts_once_over_all_attempts_of_its_action() -> None:
    with no_backoff():
        asyncio.run(run(honours(), run_name="it", store=store()))
    assert store().state_sync("it").cost == Decimal("2") * (1 + Decimal("0.5") * 3)


@task(retries=1)
async def reloads() -> int:
    seen = await ctx().checkpoint.load(int) or 0
    ctx().add_cost("1")
    if seen == 0:
        await ctx().checkpoint.save(1)
        ctx().add_cost("10")
        raise ConnectionError
    return seen


def test_a_checkpoint_takes_nothing_back() -> None:
    with no_backoff():
        asyncio.run(run(reloads(), run_name="it", store=store()))
    assert store().state_sync("it").cost == Decimal(12)


@task
def in_a_thread(number: int) -> int:
    ctx().add_cost("0.1", tokens=1)
    helper = threading.Thread(target=ctx().add_cost, args=("0.01",))
    helper.start()
    helper.join()
    ctx().add_cost("0.001")
    return number


@task
def in_threads(count: int) -> int:
    return sum(in_a_thread(number) for number in range(count))


def test_def_bodies_and_their_threads_report_as_others_do_and_before_the_outcome() -> None:
    events: list[Event] = []

    class Watches:
        def on_event(self, event: Event) -> None:
            events.append(event)

    asyncio.run(run(in_threads.call(5), run_name="it", store=store(), observers=[Watches()]))
    state = store().state_sync("it")
    assert (state.cost, state.tokens) == (Decimal("0.555"), 5)
    for name in state.actions:
        kinds = [event.kind for event in events if event.action == name and event.kind in ("spent", "attempt_ended")]
        assert kinds[-1] == "attempt_ended"
    assert sum(isinstance(event, Spent) for event in events) == 15


@task
def goes_on(gate: str) -> None:
    did.append(ctx())
    released.wait(10)
    try:
        ctx().add_cost("5")
    except AttemptAbandoned as error:
        did.append(error)
    finished.set()


released, finished = threading.Event(), threading.Event()


@task
async def times_out_a_thread() -> None:
    ctx().add_cost("1")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(goes_on.call("x"), 0.02)


def test_an_abandoned_attempt_reports_no_more() -> None:
    released.clear()
    finished.clear()
    asyncio.run(run(times_out_a_thread(), run_name="it", store=store(), grace=0.05))
    released.set()
    assert finished.wait(10)
    assert isinstance(did[1], AttemptAbandoned)
    assert store().state_sync("it").cost == Decimal(1)


@task
async def keeps_its_context() -> None:
    did.append(ctx())


def test_an_ended_attempt_reports_no_more() -> None:
    asyncio.run(run(keeps_its_context(), run_name="it", store=store()))
    with pytest.raises(ActionEnded):
        did[0].add_cost("1")


@task
async def refused(cost: str) -> None:
    wrongs: list[Any] = [0.1, 1, "-1", "x"]
    for wrong in wrongs:
        with pytest.raises(InvalidOption):
            ctx().add_cost(wrong)
    ctx().add_cost(cost)


def test_a_refused_report_counts_for_nothing() -> None:
    asyncio.run(run(refused("0.30"), run_name="it", store=store()))
    assert str(store().state_sync("it").cost) == "0.30"


LARGE = "123456789012345678901234567890.000000000000000000000000000000000001"


@task
async def large(count: int) -> None:
    for _ in range(count):
        ctx().add_cost(LARGE)


def test_large_and_small_amounts_are_exact_on_record() -> None:
    asyncio.run(run(large(3), run_name="it", store=store()))
    assert str(store().state_sync("it").cost) == "370370367037037036703703703670.000000000000000000000000000000000003"
    again = store().result_sync("it")
    assert type(again).model_validate_json(again.model_dump_json()).cost == again.cost


@task
async def row(number: int) -> int:
    ctx().add_cost("1")
    return number


@task
async def rows(count: int) -> int:
    done = sum(await asyncio.gather(*(row(number) for number in range(count))))
    if fails:
        raise ConnectionError
    return done


def test_what_is_answered_from_record_is_saved_and_not_spent_again() -> None:
    global fails
    fails = 1
    with pytest.raises(ConnectionError):
        asyncio.run(run(rows(4), run_name="it", store=store()))
    assert (store().state_sync("it").cost, store().state_sync("it").saved) == (Decimal(4), Decimal(0))
    fails = 0
    asyncio.run(run(rows(4), run_name="it", store=store()))
    assert (store().state_sync("it").cost, store().state_sync("it").saved) == (Decimal(4), Decimal(4))


@task
async def fails_after(count: int) -> int:
    value = await rows(count)
    did.append(value)
    if len(did) < 3:
        raise ConnectionError
    return value


def test_a_reused_action_saves_what_all_below_it_had_cost_once_however_often_it_is_reused() -> None:
    for _ in range(2):
        with pytest.raises(ConnectionError):
            asyncio.run(run(fails_after(3), run_name="it", store=store()))
    asyncio.run(run(fails_after(3), run_name="it", store=store()))
    assert (store().state_sync("it").cost, store().state_sync("it").saved) == (Decimal(3), Decimal(3))


@task
async def exits() -> None:
    ctx().add_cost("3")
    raise SystemExit


def test_a_stopped_run_keeps_what_was_spent() -> None:
    with pytest.raises(SystemExit):
        asyncio.run(run(exits(), run_name="it", store=store()))
    state = store().state_sync("it")
    assert (state.status, state.cost) == (Status.STOPPED, Decimal(3))


def test_outside_a_run_a_report_is_checked_and_nothing_else() -> None:
    assert asyncio.run(asks("a")) == "A"
    with task_context():
        ctx().add_cost(Price("0.15", "0.60").of(1200, 300), key="k")
        with pytest.raises(InvalidOption):
            ctx().add_cost("-1")


@task
async def paid_row(number: int) -> int:
    ctx().add_cost("0.01", tokens=number, key="k")
    ctx().add_cost("0.001", model="m")
    return number


@task
async def many_rows(count: int) -> int:
    total = sum(await hf.map(paid_row, range(count)))
    if not did:
        did.append("failed")
        raise ConnectionError
    return total


def test_of_many_rows_that_an_owner_keeps_little_of_the_costs_are_kept() -> None:
    count = MANY + 200
    with pytest.raises(ConnectionError):
        asyncio.run(run(many_rows(count), run_name="it", store=store()))
    with pytest.raises(BudgetSpent, match=r"13\.200 of it is spent"):
        asyncio.run(run(many_rows(count), run_name="it", store=store(), budget=Budget(cost="13.2", warn_at=())))
    with pytest.raises(BudgetSpent, match=f"{count + 1} of it is spent"):
        asyncio.run(run(many_rows(count), run_name="it", store=store(), budget=Budget(executions=count + 1, warn_at=())))
    asyncio.run(run(many_rows(count), run_name="it", store=store(), budget=Budget(cost="14", warn_at=())))
    state = store().state_sync("it")
    assert (state.cost, state.saved, state.tokens) == (Decimal("13.2"), Decimal("13.2"), count * (count - 1) // 2)


@task(retries=2)
async def names_itself() -> None:
    did.append((ctx().action.name, ctx().idempotency_key))
    if ctx().attempt_number < 2:
        raise ConnectionError


@task
async def two_that_name_themselves() -> None:
    await names_itself()
    await names_itself()


def test_outside_a_run_too_all_attempts_of_an_action_have_one_key_for_who_charges_once_for_it() -> None:
    with no_backoff():
        asyncio.run(two_that_name_themselves())
    assert len(did) == 6
    assert [len(set(did[:3])), len(set(did[3:])), len(set(did))] == [1, 1, 2]
