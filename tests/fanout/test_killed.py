"""A program of rows is killed wherever it can be killed. Nothing recorded runs again, nothing is lost, and the answer is right."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import holdfast as hf
from holdfast import RecordStatus, Retry, ctx, records, run, task
from holdfast.folders.memory import MemoryDisk
from holdfast.testing import Ledger, Survival, crash_everywhere, power_cuts, run_shuffled
from holdfast.testing.places import On
from holdfast.testing.stores import memory_store

ledger = Ledger()


class Bad(Exception):
    pass


@task(retries=Retry(max_attempts=2, initial_interval=0.001))
async def row(n: int) -> int:
    await asyncio.sleep(0)
    if n == 1 and ctx().attempt_number == 0:
        raise ConnectionError("once")
    ledger.ran(f"row {n}")
    if n == 3:
        raise Bad(n)
    return n * n


@task
async def program(count: int) -> list[Any]:
    squares = await hf.map(row, range(count), concurrency=3, on_error="collect")
    for n, found in enumerate(squares):
        if not isinstance(found, Exception):
            ledger.got(f"row {n}")
    rows = records(row, (n for n in range(10, 10 + count)), concurrency=2)
    total = 0
    async for each in rows:
        if each.status is RecordStatus.SUCCESS:
            ledger.got(f"row {each.item}")
            total += each.value or 0
    return [[repr(found) if isinstance(found, Exception) else found for found in squares], total, rows.summary.success_count]


EXPECTED = [[0, 1, 4, "Bad(3)", 16], 10**2 + 11**2 + 12**2 + 13**2 + 14**2, 5]


def hold(survivals: Any) -> int:
    killed = 0
    survival: Survival[list[Any]]
    for survival in survivals:
        assert survival.error is None, survival
        assert survival.value == EXPECTED, survival
        ran = [entry for entry in survival.entries if entry.verb == "ran"]
        got = {entry.what: number for number, entry in enumerate(survival.entries) if entry.verb == "got"}
        for number, entry in enumerate(survival.entries):
            assert entry.verb == "got" or number < got.get(entry.what, number + 1) or entry.what not in got, (survival, entry)
        assert {entry.what for entry in ran} == {f"row {n}" for n in (*range(5), *range(10, 15))}
        killed += len(survival.crashes)
    return killed


IN_MEMORY: list[On] = ["disk", "bucket"]


@pytest.mark.parametrize("on", IN_MEMORY)
def test_killed_everywhere_each_row_counts_once_and_what_was_seen_stays(on: On) -> None:
    assert hold(crash_everywhere(lambda: program(5), step=3, on=on, ledger=ledger)) > 10


@pytest.mark.parametrize("on", IN_MEMORY)
def test_whatever_is_forgotten_or_late_the_rows_are_right(on: On) -> None:
    assert hold(power_cuts(lambda: program(5), range(25), on=on, ledger=ledger)) > 20


@pytest.mark.parametrize("seed", range(12))
def test_in_any_order_of_tasks_the_rows_are_right(seed: int) -> None:
    ledger.clear()
    assert run_shuffled(lambda: run(program(5), run_name="it", store=memory_store(MemoryDisk())), seed) == EXPECTED
    assert all(ledger.times(f"row {n}") == 1 for n in (0, 1, 2, 4, *range(10, 15)))


@task
async def leaving(count: int) -> int:
    async for each in records(row, range(20, 20 + count), concurrency=3):
        ledger.got(f"row {each.item}")
        if each.index == 1:
            break
    found = await hf.map(row, range(30, 30 + count), concurrency=2, on_error="skip")
    return sum(found)


def test_a_loop_that_is_left_leaves_a_program_that_can_be_killed_everywhere() -> None:
    killed = 0
    for survival in crash_everywhere(lambda: leaving(4), step=3, ledger=ledger):
        assert (survival.error, survival.value) == (None, 30**2 + 31**2 + 32**2 + 33**2), survival
        killed += len(survival.crashes)
    assert killed > 10


@task
async def tried_again(count: int) -> int:
    rows = records(moody, range(count), concurrency=2, retry_skipped=True)
    return sum([each.value or 0 async for each in rows if each.error is None])


@task
async def moody(n: int) -> int:
    ledger.ran(f"moody {n}")
    if ctx().attempt_number == 0 and n == 1:
        raise Bad(n)
    return n + 1


def test_killed_everywhere_what_is_to_be_tried_again_is_and_what_completed_is_not() -> None:
    values = set()
    for survival in crash_everywhere(lambda: tried_again(4), step=2, ledger=ledger):
        assert survival.error is None, survival
        assert survival.value is not None
        values.add(survival.value)
    assert values <= {8, 10}, "a row that failed before the crash runs again, one that fails after it is skipped"
    assert 10 in values
