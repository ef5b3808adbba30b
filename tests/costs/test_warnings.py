"""Warnings of budgets: at whose line they point, and what they cost where warnings are errors: never a charge."""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from holdfast import Budget, Status, Store, ctx, run, run_sync, task
from holdfast.errors import BudgetWarning
from holdfast.folders.memory import MemoryDisk
from holdfast.testing import memory_store, no_backoff

disk = MemoryDisk()
did: list[Any] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()
    did.clear()


def store() -> Store:
    return memory_store(disk)


def finished(call: Any, **options: Any) -> Any:
    return asyncio.run(run(call, run_name="it", store=store(), **options))


def helper() -> None:
    ctx().add_cost("8")  # here


@task
async def pays() -> None:
    helper()


@task
async def calls_who_pays() -> None:
    await pays()


@task
async def has_it_paid() -> None:
    await asyncio.gather(pays())


@task
def pays_in_a_thread() -> None:
    helper()


@task
async def has_it_paid_in_a_thread() -> None:
    await pays_in_a_thread.call()


@task
def pays_in_a_thread_of_its_own() -> None:
    context = ctx()
    thread = threading.Thread(target=lambda: context.add_cost("8"))  # there
    thread.start()
    thread.join()


def line_of(mark: str) -> int:
    with Path(__file__).open(encoding="utf-8") as source:
        [number] = [number for number, line in enumerate(source, 1) if line.rstrip().endswith(f"  # {mark}")]
    return number


@pytest.mark.parametrize(
    ("call", "mark"),
    [
        (lambda: calls_who_pays(), "here"),
        (lambda: has_it_paid(), "here"),
        (lambda: has_it_paid_in_a_thread(), "here"),
        (lambda: pays_in_a_thread_of_its_own.call(), "there"),
    ],
)
def test_a_warning_points_at_the_line_that_spent_it(call: Callable[[], Any], mark: str) -> None:
    with pytest.warns(BudgetWarning) as caught:
        finished(call(), budget=Budget(cost="10", warn_at=[0.75]))
    assert [(warned.filename, warned.lineno) for warned in caught] == [(__file__, line_of(mark))]


def test_a_warning_of_what_begins_points_at_the_line_that_runs_it() -> None:
    with pytest.warns(BudgetWarning) as caught:
        asyncio.run(run(has_it_paid(), run_name="it", store=store(), budget=Budget(executions=2, warn_at=[1.0])))  # run
    assert [(warned.filename, warned.lineno) for warned in caught] == [(__file__, line_of("run"))]


def test_a_warning_inside_a_block_outside_any_run_points_at_the_line_that_spent_it() -> None:
    with pytest.warns(BudgetWarning) as caught, Budget(cost="10", warn_at=[0.75]):
        pays_in_a_thread()
    assert [(warned.filename, warned.lineno) for warned in caught] == [(__file__, line_of("here"))]


@task(retries=1)
async def pays_in_blocks() -> str:
    with Budget(cost="9"), Budget(cost="12"):
        try:
            ctx().add_cost("9", key="answer")
        except BudgetWarning as warning:
            did.append(warning)
            raise
        return "answered"


@task
def pays_in_a_thread_and_is_warned() -> str:
    try:
        ctx().add_cost("9")
    except BudgetWarning as warning:
        did.append(warning)
    return "answered"


@pytest.mark.parametrize("durability", ["fsync", "flush"])
def test_where_warnings_are_errors_all_are_kept_and_the_charge_counts_once_before_the_body_hears_of_it(durability: Any) -> None:
    with warnings.catch_warnings(), no_backoff():
        warnings.simplefilter("error", BudgetWarning)
        with pytest.raises(BudgetWarning):
            finished(pays_in_blocks.with_options(retries=0)(), budget=Budget(cost="10"), durability=durability)
    state = store().state_sync("it")
    assert (state.status, state.cost, len(did)) == (Status.FAILED, Decimal(9), 1)
    assert len(state.warnings) == 5, "two of the run's, two of one block, one of the other"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        assert finished(pays_in_blocks.with_options(retries=0)(), budget=Budget(cost="20"), durability=durability) == "answered"
    assert store().state_sync("it").cost == Decimal(9)


def test_a_body_may_catch_it_also_in_a_thread_and_goes_on() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", BudgetWarning)
        assert finished(pays_in_a_thread_and_is_warned.call(), budget=Budget(cost="10")) == "answered"
    state = store().state_sync("it")
    assert (state.cost, len(did), len(state.warnings)) == (Decimal(9), 1, 2)


def test_where_warnings_are_errors_what_begins_does_not_fail_by_them_and_they_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, "holdfast"):
        warnings.simplefilter("error", BudgetWarning)
        finished(calls_who_pays(), budget=Budget(executions=2, warn_at=[1.0]))
    [text] = store().state_sync("it").warnings
    assert f"run 'it': {text}" in caplog.messages


def test_where_no_line_of_the_user_is_at_work_it_is_given_all_the_same() -> None:
    """As in a notebook: the run lives on a loop of ours, in a thread of ours."""

    async def cell() -> None:
        run_sync(calls_who_pays(), run_name="it", store=store(), budget=Budget(executions=2, warn_at=[1.0]))

    with pytest.warns(BudgetWarning, match="100 % of its executions, 2"):
        asyncio.run(cell())
    assert len(store().state_sync("it").warnings) == 1
