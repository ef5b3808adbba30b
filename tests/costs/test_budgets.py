"""Budgets: reserve, then settle; at the limit nothing begins, what is at work finishes, and the run stops until the limit is raised."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from turns import until

import holdfast as hf
from holdfast import (
    Budget,
    Context,
    Retry,
    RunHandle,
    StageState,
    Status,
    Store,
    Timeout,
    contextual_run,
    ctx,
    get_custom_context,
    pipeline,
    run,
    run_sync,
    stage,
    start,
    task,
)
from holdfast.actions.budgets import Waiter
from holdfast.errors import BudgetSpent, BudgetWarning, InvalidOption, RunCancelled
from holdfast.folders.memory import MemoryDisk
from holdfast.tabs import Tab, limits
from holdfast.testing import Clock, memory_store, no_backoff, run_shuffled

disk = MemoryDisk()
did: list[Any] = []
at_work = most_at_work = 0


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk, at_work, most_at_work
    disk, at_work, most_at_work = MemoryDisk(), 0, 0
    did.clear()


pytestmark = pytest.mark.filterwarnings("ignore::holdfast.errors.BudgetWarning")


def store() -> Store:
    return memory_store(disk)


def spent_by(call: Any, **options: Any) -> BudgetSpent:
    """Run it to where its budget is spent."""
    with pytest.raises(BudgetSpent) as caught:
        asyncio.run(run(call, run_name="it", store=store(), **options))
    assert store().state_sync("it").status is Status.STOPPED
    return caught.value


def finished(call: Any, **options: Any) -> Any:
    return asyncio.run(run(call, run_name="it", store=store(), **options))


def statuses() -> dict[str, int]:
    state = store().state_sync("it")
    found: dict[str, int] = {}
    for action in state.actions.values():
        found[action.status.name] = found.get(action.status.name, 0) + 1
    return found


@task
async def row(number: int, cost: str = "1") -> int:
    global at_work, most_at_work
    at_work += 1
    most_at_work = max(most_at_work, at_work)
    try:
        await asyncio.sleep(0.001)
        did.append(number)
        ctx().add_cost(cost, tokens=10)
        await asyncio.sleep(0)
        return number
    finally:
        at_work -= 1


@task
async def gathers(count: int) -> int:
    return sum(await asyncio.gather(*(row(number) for number in range(count))))


@task
async def groups(count: int) -> int:
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(row(number)) for number in range(count)]
    return sum(each.result() for each in made)


@task
async def goes_through(count: int) -> int:
    return sum([await row(number) for number in range(count)])


@task
async def catches_all(count: int) -> list[int | str]:
    async def one(number: int) -> int | str:
        try:
            return await row(number)
        except Exception:
            return "failed"

    return list(await asyncio.gather(*(one(number) for number in range(count))))


@task
async def collects(count: int) -> int:
    found = await asyncio.gather(*(row(number) for number in range(count)), return_exceptions=True)
    return sum(each for each in found if isinstance(each, int))


@task
async def maps(count: int) -> int:
    return sum(await hf.map(row, range(count), concurrency=4))


@task
async def skips_what_fails(count: int) -> int:
    return sum(await hf.map(row, range(count), on_error="skip"))


@task
async def records_them(count: int) -> int:
    return sum([record.value or 0 async for record in hf.records(row, range(count), concurrency=3)])


ALL_WAYS = [maps, skips_what_fails, records_them, gathers, groups, goes_through, catches_all, collects]


@pytest.mark.parametrize("way", ALL_WAYS)
def test_stopped_at_the_limit_it_goes_on_under_a_raised_one_and_never_pays_twice(way: Any) -> None:
    error = spent_by(way(10), budget=Budget(cost="3", reserve="1"))
    assert (error.of, error.limit, error.spent, error.run_name) == ("cost", "3", "3", "it")
    assert statuses()["COMPLETED"] == 3
    assert set(statuses()) == {"COMPLETED", "STOPPED"}
    spent_by(way(10), budget=Budget(cost="7", reserve="1"))
    assert statuses()["COMPLETED"] == 7
    value = finished(way(10), budget=Budget(cost="100", reserve="1"))
    assert value == (list(range(10)) if way is catches_all else 45)
    assert sorted(did) == list(range(10))
    state = store().state_sync("it")
    assert (state.cost, state.saved) == (Decimal(10), Decimal(7))


def test_under_the_same_limit_nothing_begins_and_nothing_is_lost() -> None:
    spent_by(gathers(5), budget=Budget(cost="2", reserve="1"))
    before = store().state_sync("it")
    for _ in range(2):
        spent_by(gathers(5), budget=Budget(cost="2", reserve="1"))
    after = store().state_sync("it")
    assert (after.cost, len(did)) == (Decimal(2), 2)
    assert after.root is not None
    assert before.root is not None
    assert len(after.root.attempts) == len(before.root.attempts)


def test_without_a_budget_it_goes_on_too() -> None:
    spent_by(gathers(5), budget=Budget(cost="2", reserve="1"))
    assert finished(gathers(5)) == 10
    assert sorted(did) == list(range(5))


def test_a_finished_run_is_answered_from_record_whatever_the_budget() -> None:
    assert finished(gathers(3)) == 3
    assert finished(gathers(3), budget=Budget(cost="0.01")) == 3


def test_calls_that_fit_only_one_after_the_other_wait_for_each_other() -> None:
    assert finished(gathers(10), budget=Budget(cost="100", reserve="40")) == 45
    assert most_at_work == 2
    assert store().state_sync("it").cost == Decimal(10)


def test_without_a_reserve_the_most_that_one_has_cost_is_held() -> None:
    error = spent_by(goes_through(10), budget=Budget(cost="3.5"))
    assert (error.spent, error.need) == ("3", "1")
    assert did == [0, 1, 2]
    error = spent_by(goes_through(10), budget=Budget(cost="5.5"))
    assert did == [0, 1, 2, 3, 4]


@task
async def costs_either(costs: list[str]) -> int:
    await asyncio.gather(*(row(number, cost) for number, cost in enumerate(costs)))
    return len(costs)


@settings(max_examples=40, deadline=None)
@given(
    costs=st.lists(st.decimals(0, 3, places=2), min_size=1, max_size=12),
    limit=st.decimals("0.1", 8, places=2),
    reserve=st.none() | st.decimals(0, "0.1", places=2),
    width=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_in_any_order_no_more_is_spent_than_the_limit_and_one_call_for_each_that_is_at_work(
    costs: list[Decimal], limit: Decimal, reserve: Decimal | None, width: int, seed: int
) -> None:
    global disk, most_at_work
    disk, most_at_work = MemoryDisk(), 0
    did.clear()
    bounded = row.with_options(concurrency=width)

    @task(name="all_of_them")
    async def all_of_them(costs: list[str]) -> int:
        await asyncio.gather(*(bounded(number, cost) for number, cost in enumerate(costs)))
        return len(costs)

    async def program() -> int:
        call = all_of_them([str(cost) for cost in costs])
        return await run(call, run_name="it", store=store(), budget=Budget(cost=limit, reserve=reserve, warn_at=()))

    try:
        assert run_shuffled(program, seed) == len(costs)
    except BudgetSpent:
        assert statuses().keys() <= {"COMPLETED", "STOPPED"}
    spent = store().state_sync("it").cost
    assert spent <= limit + sum(sorted(costs)[-most_at_work:])
    assert spent == sum(costs[number] for number in did)
    assert len(set(did)) == len(did)


@settings(max_examples=30, deadline=None)
@given(
    costs=st.lists(st.decimals(0, 2, places=2), min_size=1, max_size=12),
    limit=st.decimals(2, 12, places=2),
    seed=st.integers(0, 10**6),
)
def test_with_a_reserve_that_no_call_exceeds_the_limit_is_never_passed(costs: list[Decimal], limit: Decimal, seed: int) -> None:
    global disk
    disk = MemoryDisk()

    async def program() -> int:
        call = costs_either([str(cost) for cost in costs])
        return await run(call, run_name="it", store=store(), budget=Budget(cost=limit, reserve="2", warn_at=()))

    with suppress(BudgetSpent):
        assert run_shuffled(program, seed) == len(costs)
    state = store().state_sync("it")
    assert state.cost <= limit
    assert state.status is Status.COMPLETED or state.cost + 2 > limit


gate = asyncio.Event()


@task
async def slow(number: int) -> int:
    did.append(("slow", number))
    ctx().add_cost("1")
    await gate.wait()
    did.append(("slow ended", number))
    return number


@task
async def slow_beside(count: int) -> int:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(slow(0))
        await until(lambda: ("slow", 0) in did)
        made = [tasks.create_task(row(number)) for number in range(count)]
    return sum(each.result() for each in made)


async def closing_down() -> RunHandle[int]:
    """A run whose budget is spent, while `slow` is at work."""
    global gate
    gate = asyncio.Event()
    handle = await start(slow_beside(3), run_name="it", store=store(), budget=Budget(cost="2", reserve="1"))
    await until(lambda: 0 in did)
    for _ in range(200):
        await asyncio.sleep(0)
    return handle


def test_what_is_at_work_finishes_and_is_recorded_though_calls_beside_it_are_refused() -> None:
    async def program() -> None:
        handle = await closing_down()
        assert handle.status is Status.RUNNING
        gate.set()
        with pytest.raises(BudgetSpent):
            await handle.result()

    asyncio.run(program())
    assert ("slow ended", 0) in did
    assert statuses() == {"COMPLETED": 2, "STOPPED": 3}
    assert store().state_sync("it").status is Status.STOPPED


def test_a_run_that_closes_down_can_still_be_cancelled_and_stopped() -> None:
    async def program() -> None:
        handle = await closing_down()
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()

    asyncio.run(program())
    assert ("slow ended", 0) not in did
    assert store().state_sync("it").status is Status.CANCELLED


@task(retries=Retry(5, initial_interval=3600.0, jitter=False))
async def flaky(number: int) -> int:
    did.append(("flaky", ctx().attempt_number))
    ctx().add_cost("1")
    raise ConnectionError


@task
async def with_flaky() -> int:
    return await flaky(1)


def test_no_retry_begins_at_the_limit_and_its_wait_is_kept() -> None:
    with Clock().use():
        spent_by(with_flaky(), budget=Budget(cost="2"))
        assert did == [("flaky", 0), ("flaky", 1)]
        spent_by(with_flaky(), budget=Budget(cost="3"))
        assert did == [("flaky", number) for number in range(3)]
        with pytest.raises(ConnectionError):
            finished(with_flaky(), budget=Budget(cost="30"))
    assert did == [("flaky", number) for number in range(5)]


def test_a_retry_that_waits_does_not_keep_the_run_from_stopping() -> None:
    @task(name="two_kinds")
    async def two_kinds() -> None:
        await asyncio.gather(flaky(1), row(1), row(2))

    with Clock(jumps=False).use():
        spent_by(two_kinds(), budget=Budget(cost="2", reserve="1"))
    state = store().state_sync("it")
    assert {action.status for action in state.actions.values()} <= {Status.STOPPED, Status.COMPLETED}


@task(timeout=Timeout(attempt=0.05), retries=2)
async def impatient(count: int) -> int:
    return sum(await asyncio.gather(*(row(number) for number in range(count))))


async def beside_slow(call: Any) -> int:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(slow(0))
        await until(lambda: ("slow", 0) in did)
        found = tasks.create_task(call)
    return int(found.result())


def spent_beside_slow(call: Any, budget: Budget) -> None:
    """Run it to where its budget is spent, and on for ten seconds before `slow` ends."""

    async def program() -> None:
        global gate
        gate = asyncio.Event()
        handle = await start(call, run_name="it", store=store(), budget=budget)
        await asyncio.sleep(10)
        assert handle.status is Status.RUNNING
        did.append("slow may end")
        gate.set()
        with pytest.raises(BudgetSpent):
            await handle.result()

    run_shuffled(program, 1)


@task
async def has_impatient() -> int:
    return await beside_slow(impatient(5))


def test_who_waits_for_a_refused_call_ends_stopped_and_not_timed_out() -> None:
    spent_beside_slow(has_impatient(), Budget(cost="3", reserve="1"))
    assert set(statuses()) == {"COMPLETED", "STOPPED"}
    assert sum(number in did for number in range(5)) == 2
    assert finished(has_impatient(), budget=Budget(cost="30")) == 10


@task
async def gives_up_on_rows(count: int) -> int:
    done = 0
    for number in range(count):
        try:
            async with asyncio.timeout(0.2):
                done += await row(number) + 1
        except TimeoutError:
            did.append("gave up")
    return done


@task
async def above() -> int:
    return await beside_slow(gives_up_on_rows(3))


def test_what_a_body_makes_of_a_refused_call_is_no_result() -> None:
    spent_beside_slow(above(), Budget(cost="2", reserve="1"))
    assert did[: did.index("slow may end")].count("gave up") == 2
    state = store().state_sync("it")
    assert {action.status for action in state.actions.values() if action.task_name == gives_up_on_rows.name} == {Status.STOPPED}
    assert finished(above(), budget=Budget(cost="30")) == 6


@task
def def_row(number: int) -> int:
    did.append(number)
    ctx().add_cost("1")
    return number


@task
def def_rows(count: int) -> int:
    return sum(def_row(number) for number in range(count))


@task
async def def_rows_abreast(count: int) -> int:
    return sum(await asyncio.gather(*(def_row.call(number) for number in range(count))))


@pytest.mark.parametrize("way", [def_rows, def_rows_abreast])
def test_def_bodies_stop_at_the_limit_and_go_on_from_there(way: Any) -> None:
    spent_by(way.call(6), budget=Budget(cost="2", reserve="1"))
    assert len(did) == 2
    with pytest.raises(BudgetSpent):
        run_sync(way.call(6), run_name="it", store=store(), budget=Budget(cost="4", reserve="1"))
    assert finished(way.call(6), budget=Budget(cost="6", reserve="1")) == 15
    assert sorted(did) == list(range(6))


@task
async def spends_itself() -> int:
    ctx().add_cost("1")
    did.append(ctx().attempt_number)
    raise ConnectionError


def test_a_root_that_spends_is_refused_like_any_other() -> None:
    with no_backoff():
        error = spent_by(spends_itself.with_options(retries=10)(), budget=Budget(cost="3"))
        assert did == [0, 1, 2]
        assert error.spent == "3"
        spent_by(spends_itself.with_options(retries=10)(), budget=Budget(cost="3"))
        assert did == [0, 1, 2]


# blocks


@task
async def two_blocks(count: int, limit: str, other: str) -> list[int]:
    found = []
    for number, allowed in enumerate((limit, other)):
        with Budget(cost=allowed, reserve="1"):
            found.append(sum(await asyncio.gather(*(row(number * 100 + each) for each in range(count)))))
    return found


def test_a_block_in_a_body_counts_what_is_called_in_it_and_its_end_stops_the_run() -> None:
    error = spent_by(two_blocks(3, "5", "2"))
    assert (error.limit, error.spent) == ("2", "2")
    assert two_blocks.name in error.budget
    assert sorted(did)[:4] == [0, 1, 2, 100]
    assert len(did) == 5


@task
async def block_from_outside(count: int) -> int:
    with Budget(cost=LIMIT, reserve="1"):
        return sum(await asyncio.gather(*(row(number) for number in range(count))))


@task
async def block_of_rows(count: int) -> int:
    with Budget(cost=LIMIT, reserve="1"):
        return sum(await hf.map(row, range(count), concurrency=3))


@task
async def block_of_records(count: int) -> int:
    with Budget(cost=LIMIT, reserve="1"):
        return sum([record.value or 0 async for record in hf.records(row, range(count))])


LIMIT = "2"


@pytest.mark.parametrize("way", [block_from_outside, block_of_rows, block_of_records])
def test_a_resume_counts_in_a_block_what_was_recorded_of_its_calls(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spent_by(way(6))
    assert len(did) == 2
    spent_by(way(6))
    assert len(did) == 2
    monkeypatch.setitem(globals(), "LIMIT", "5")
    spent_by(way(6))
    assert len(did) == 5
    monkeypatch.setitem(globals(), "LIMIT", "6")
    assert finished(way(6)) == 15
    assert sorted(did) == list(range(6))


@task
async def inner_block(count: int) -> int:
    with Budget(cost="4", reserve="1"):
        return sum(await asyncio.gather(*(row(number) for number in range(count))))


@task
async def outer_block(count: int) -> int:
    with Budget(tokens=1000), Budget(cost="6", reserve="1"):
        return await inner_block(count) + await row(100) + await row(101) + await row(102)


@pytest.mark.parametrize(("count", "run_limit", "spent"), [(6, "10", 4), (4, "10", 6), (3, "5", 5), (3, "100", 6)])
def test_nested_budgets_all_count_and_the_narrowest_stops(count: int, run_limit: str, spent: int) -> None:
    if (count, run_limit) == (3, "100"):
        assert finished(outer_block(count), budget=Budget(cost=run_limit, reserve="1")) == 306
    else:
        spent_by(outer_block(count), budget=Budget(cost=run_limit, reserve="1"))
    assert store().state_sync("it").cost == spent


@task
async def own_and_called() -> int:
    with Budget(cost="5"):
        ctx().add_cost("3")
        await row(1)
        ctx().add_cost("2", key="own")
        ctx().add_cost("2", key="own")
        did.append([str(budget.spent.cost) for budget in Context.current().budgets])
        return await row(2)


def test_what_a_body_reports_in_a_block_counts_there_too_and_a_key_once() -> None:
    error = spent_by(own_and_called())
    assert error.spent == "6"
    assert did == [1, ["6"]]
    assert store().state_sync("it").cost == Decimal(6)


@task(retries=1)
async def keyed_and_tried_again() -> str:
    with Budget(cost="10"):
        ctx().add_cost("2", key="own")
        did.append(str(Context.current().budgets[-1].spent.cost))
        if ctx().attempt_number == 0:
            raise ConnectionError
        return did[-1]  # type: ignore[no-any-return]


def test_a_block_counts_what_an_earlier_attempt_reported_under_the_same_key() -> None:
    with no_backoff():
        assert finished(keyed_and_tried_again(), budget=Budget(cost="3.5", reserve="1")) == "2"
    assert did == ["2", "2"]
    assert store().state_sync("it").cost == Decimal(2)


@task
async def bound_inside() -> tuple[int, int, dict[str, str]]:
    with Budget(cost="5"):
        inside = len(Context.current().budgets)
        beside = await contextual_run(counts_budgets)
    return inside, beside, dict(get_custom_context())


async def counts_budgets() -> int:
    return len(Context.current().budgets)


def test_a_block_is_in_force_inside_it_alone() -> None:
    assert finished(bound_inside(), budget=Budget(cost="100")) == (2, 2, {})
    assert Context.current().budgets == ()


SHARED = Budget(cost="3", reserve="1")


@task
async def shares_an_object(number: int) -> int:
    with SHARED:
        return sum([await row(number * 10 + each) for each in range(3)])


@task
async def entered_abreast() -> int:
    return sum(await asyncio.gather(*(shares_an_object(number) for number in range(3))))


def test_each_entry_of_one_budget_object_counts_for_itself() -> None:
    assert finished(entered_abreast()) == sum(number * 30 + 3 for number in range(3))


def test_a_block_around_runs_counts_them_all_and_what_was_recorded_of_them() -> None:
    finished(gathers(2))

    async def program() -> None:
        with Budget(cost="4", reserve="1"):
            assert await run(gathers(2), run_name="it", store=store()) == 1  # from record: not opened, so not counted
            assert await run(goes_through(2), run_name="second", store=store()) == 1
            await run(goes_through(5), run_name="third", store=store())

    with pytest.raises(BudgetSpent, match="'third'"):
        asyncio.run(program())
    assert store().state_sync("third").cost == Decimal(2)

    async def again() -> None:
        with Budget(cost="4", reserve="1"):
            await run(goes_through(5), run_name="third", store=store())

    with pytest.raises(BudgetSpent):
        asyncio.run(again())
    assert store().state_sync("third").cost == Decimal(4)


# outside a run


def test_outside_a_run_the_call_that_finds_no_room_raises() -> None:
    async def program() -> int:
        with Budget(cost="3", reserve="1"):
            await goes_through(3)
            with pytest.raises(BudgetSpent) as caught:
                await row(3)
            says = "the budget around this call allows cost 3, 3 of it is spent, and another attempt needs 1; raise that limit"
            assert str(caught.value) == says
            return len(did)

    assert asyncio.run(program()) == 3


def test_outside_a_run_a_task_that_finds_no_room_is_not_tried_again() -> None:
    async def program() -> None:
        with Budget(cost="2", reserve="1"):
            await goes_through.with_options(retries=5)(5)

    with pytest.raises(BudgetSpent):
        asyncio.run(program())
    assert did == [0, 1]


def test_outside_a_run_calls_abreast_wait_for_each_other() -> None:
    async def program() -> list[int]:
        with Budget(cost="10", reserve="4"):
            return list(await asyncio.gather(*(row(number) for number in range(6))))

    assert asyncio.run(program()) == list(range(6))
    assert most_at_work == 2


def test_a_plain_script_has_blocks_too() -> None:
    with Budget(cost="2", reserve="1"):
        assert def_row(1) + def_row(2) == 3
        with pytest.raises(BudgetSpent):
            def_row(3)
    assert def_row(3) == 3


# what else is limited


def test_tokens_are_limited_like_money() -> None:
    error = spent_by(goes_through(10), budget=Budget(tokens=35))
    assert (error.of, error.limit, error.spent, error.need) == ("tokens", "35", "30", "10")
    assert finished(goes_through(10), budget=Budget(tokens=1000)) == 45


@task
async def asks_of_ctx(count: int) -> int:
    for number in range(count):
        await ctx().now()
        await ctx().uuid()
        await row(number)
    return count


def test_executions_are_attempts_of_tasks_the_root_included() -> None:
    error = spent_by(asks_of_ctx(5), budget=Budget(executions=3))
    assert (error.of, error.limit, error.spent) == ("executions", "3", "3")
    assert did == [0, 1]
    spent_by(asks_of_ctx(5), budget=Budget(executions=5))  # one for the root again
    assert did == [0, 1, 2]
    assert finished(asks_of_ctx(5), budget=Budget(executions=8)) == 5


@task
async def ten_seconds(number: int) -> int:
    did.append(number)
    await ctx().sleep(10)
    return number


@task
async def one_by_one(count: int) -> int:
    for number in range(count):
        await ten_seconds(number)
    return count


def test_seconds_are_those_in_which_the_run_was_worked_on() -> None:
    clock = Clock()
    with clock.use():
        error = spent_by(one_by_one(10), budget=Budget(seconds=25))
        assert (error.of, error.limit, did) == ("seconds", "25", [0, 1, 2])
        clock.advance(3600.0)
        spent_by(one_by_one(10), budget=Budget(seconds=timedelta(seconds=55)))
        assert did == [0, 1, 2, 3, 4, 5]
        assert finished(one_by_one(10), budget=Budget(seconds=1000)) == 10


@task
async def time_in_a_block(count: int) -> int:
    await ctx().sleep(100)
    with Budget(seconds=25):
        for number in range(count):
            await ten_seconds(number)
    return count


def test_seconds_of_a_block_are_those_since_it_was_entered() -> None:
    with Clock().use():
        spent_by(time_in_a_block(10))
        assert did == [0, 1, 2]


# warnings


def test_each_fraction_is_warned_of_once_also_over_resumes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", BudgetWarning)
        spent_by(goes_through(10), budget=Budget(cost="8", reserve="1", warn_at=(0.5, 0.75, 1.0)))
        for _ in range(2):
            spent_by(goes_through(10), budget=Budget(cost="8", reserve="1", warn_at=(0.5, 0.75, 1.0)))
    state = store().state_sync("it")
    assert [text.partition("spent ")[2] for text in state.warnings] == [f"{share} % of its cost, 8" for share in (50, 75, 100)]
    spent_by(goes_through(10), budget=Budget(cost="9", reserve="1", warn_at=(0.5,)))
    assert len(store().state_sync("it").warnings) == 4


def test_a_warning_names_its_category_and_the_action_that_passed_the_fraction() -> None:
    with pytest.warns(BudgetWarning, match="the budget of the run has spent 90 % of its executions, 4"):
        finished(goes_through(3), budget=Budget(executions=4, warn_at=[0.9]))


def test_a_budget_without_fractions_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spent_by(goes_through(10), budget=Budget(cost="3", reserve="1", warn_at=()))


def test_a_warning_made_an_error_fails_the_attempt_and_the_money_counts() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", BudgetWarning)
        with pytest.raises(BudgetWarning):
            finished(goes_through(3), budget=Budget(cost="3", reserve="1"))
    assert store().state_sync("it").cost == Decimal(3)


# beside other things


class Total(BaseModel):
    total: int


class Step(StageState[Total]):
    n: int = 0


@stage
async def first(state: Step, earlier: Any) -> Total:
    return Total(total=await row(1) + await row(2))


@stage
async def second(state: Step, earlier: Any) -> Total:
    ctx().add_cost("0.5")
    return Total(total=await row(3))


def test_a_pipeline_stops_at_the_limit_and_goes_on_from_its_stage() -> None:
    both = pipeline("both", [first, second])
    spent_by(both(Step(n=1)), budget=Budget(cost="2", reserve="1"))
    assert did == [1, 2]
    result = finished(both(Step(n=1)), budget=Budget(cost="10", reserve="1"))
    assert (result.status, did) == (Status.COMPLETED, [1, 2, 3])
    assert store().state_sync("it").cost == Decimal("3.5")


undone: list[str] = []


@task
async def pays_for_undoing(what: str) -> None:
    undone.append(what)
    ctx().add_cost("1")
    await row(100)


@task
async def registers() -> None:
    await ctx().on_rollback(pays_for_undoing, "it")
    await row(1)
    await row(2)


def test_undoing_is_done_at_any_cost_and_counts() -> None:
    undone.clear()
    spent_by(registers(), budget=Budget(cost="1", reserve="1"))
    store().rollback_sync("it")
    state = store().state_sync("it")
    assert (state.status, undone, state.cost) == (Status.ROLLED_BACK, ["it"], Decimal(3))


async def undo_first(state: Step) -> None:
    undone.append("stage")
    await row(50)


@stage(undo=undo_first)
async def undoable(state: Step, earlier: Any) -> Total:
    return Total(total=await row(1))


@stage
async def declines(state: Step, earlier: Any) -> Total:
    await row(2)
    raise ValueError("declined")


def test_a_pipeline_that_fails_is_undone_though_nothing_else_may_begin() -> None:
    undone.clear()
    order = pipeline("order", [undoable, declines])
    with pytest.raises(ValueError, match="declined"):
        finished(order(Step(n=1)), budget=Budget(cost="2", reserve="1"))
    assert (undone, did) == (["stage"], [1, 2, 50])
    assert store().state_sync("it").status is Status.ROLLED_BACK


@task
async def waits_for_word() -> int:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(receives())
        made = [tasks.create_task(row(number)) for number in range(3)]
    return sum(each.result() for each in made)


@task
async def receives() -> str:
    return await ctx().receive("word", str)


def test_who_waits_for_a_value_from_outside_does_not_keep_the_run_from_stopping() -> None:
    spent_by(waits_for_word(), budget=Budget(cost="2", reserve="1"))
    store().send_sync("it", "word", "go")
    assert finished(waits_for_word(), budget=Budget(cost="20")) == 3


@task(concurrency=2)
async def bounded_parent(number: int) -> int:
    return await row(number) + await row(number + 10)


@task
async def bounded_parents(count: int) -> int:
    return sum(await asyncio.gather(*(bounded_parent(number) for number in range(count))))


@pytest.mark.parametrize("limit", ["1", "3", "5", "8"])
@pytest.mark.parametrize("seed", range(5))
def test_bounds_on_attempts_and_budgets_do_not_wait_for_each_other(limit: str, seed: int) -> None:
    async def program() -> None:
        with pytest.raises(BudgetSpent):
            await run(bounded_parents(5), run_name="it", store=store(), budget=Budget(cost=limit, reserve="1"))

    run_shuffled(program, seed)
    assert store().state_sync("it").cost == Decimal(limit)
    assert finished(bounded_parents(5), budget=Budget(cost="10", reserve="1")) == sum(number * 2 + 10 for number in range(5))


@pytest.mark.parametrize("way", ALL_WAYS)
@pytest.mark.parametrize("seed", range(8))
def test_in_any_order_it_stops_and_goes_on_until_done(way: Any, seed: int) -> None:
    def shuffled(limit: int) -> Any:
        budget = Budget(cost=str(limit), reserve="1")
        return run_shuffled(lambda: run(way(6), run_name="it", store=store(), budget=budget), seed)

    for limit in range(1, 6):
        with pytest.raises(BudgetSpent):
            shuffled(limit)
        assert store().state_sync("it").cost == limit
    shuffled(6)
    assert sorted(did) == list(range(6))


@pytest.mark.parametrize("wrong", ["10", 10, Decimal(10), {"cost": "10"}, Budget])
def test_what_is_no_budget_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidOption, match="budget"):
        asyncio.run(run(gathers(1), run_name="it", store=store(), budget=wrong))


@task
async def impatient_rows(count: int, patience: float) -> int:
    async def one(number: int) -> int:
        try:
            async with asyncio.timeout(patience * (number % 3 + 1)):
                return await row(number)
        except TimeoutError:
            return 0

    return sum(await asyncio.gather(*(one(number) for number in range(count))))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("patience", [0.0005, 0.002, 0.01])
def test_whoever_gives_up_waiting_for_room_keeps_it_from_nobody(seed: int, patience: float) -> None:
    async def program() -> int:
        return await run(impatient_rows(12, patience), run_name="it", store=store(), budget=Budget(cost="100", reserve="45"))

    run_shuffled(program, seed)
    assert most_at_work <= 2
    assert finished(impatient_rows(12, patience)) >= 0


def test_whose_loop_is_gone_keeps_room_from_nobody() -> None:
    async def program() -> None:
        gone = asyncio.new_event_loop()
        tab = Tab(limits("1", None, None, None, None, ()), 0.0, "a budget")
        Waiter(tab, gone)
        waiting = asyncio.create_task(Waiter(tab, asyncio.get_running_loop()).wait())
        await asyncio.sleep(0)
        gone.close()
        tab.wake()
        await waiting
        assert not tab.waiting

    asyncio.run(program())


@task
def pays_in_a_thread(number: int) -> None:
    for _ in range(20):
        ctx().add_cost("0.1")


@task
async def threads_abreast(count: int) -> None:
    await asyncio.gather(*(pays_in_a_thread.call(number) for number in range(count)))


def test_threads_that_report_at_once_lose_nothing() -> None:
    with pytest.raises(BudgetSpent) as caught:
        finished(threads_abreast(40), budget=Budget(cost="64", reserve="2", warn_at=()))
    assert (caught.value.spent, store().state_sync("it").cost) == ("64.0", Decimal(64))
    finished(threads_abreast(40), budget=Budget(cost="1000", reserve="2", warn_at=()))
    assert store().state_sync("it").cost == Decimal(80)
