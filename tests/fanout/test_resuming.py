"""Rows on record: given without running, wherever the gaps are; skipped ones are neither done in silence nor tried again unasked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from turns import until

import holdfast as hf
from holdfast import NonRetryable, RecordStatus, Status, ctx, records, run, task
from holdfast.errors import RunStopped
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.clocks import no_backoff
from holdfast.testing.stores import memory_store

disk = MemoryDisk()
ran: list[int] = []
fails: set[int] = set()
retried: list[bool] = [False]
given_up: list[int] = []
summaries: list[hf.SimpleRecordsResult] = []
plan: list[list[int] | int] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    anew()


def anew() -> None:
    global disk
    disk = MemoryDisk()
    ran.clear()
    fails.clear()
    given_up.clear()
    summaries.clear()
    plan.clear()
    retried[0] = False


class Broken(Exception):
    pass


class Hopeless(NonRetryable):
    pass


class NotAll(Exception):
    pass


@task
async def classify(n: int) -> int:
    ran.append(n)
    await asyncio.sleep(0)
    if n in fails:
        raise (Hopeless if n in given_up else Broken)(n)
    return 10 * n


@task
async def strict(count: int) -> list[int]:
    return await hf.map(classify, range(count))


@task
async def lenient(count: int, enough: bool) -> str:
    rows = records(classify, range(count), retry_skipped=retried[0])
    found = {row.index: row.value if row.status is RecordStatus.SUCCESS else repr(row.error) async for row in rows}
    if not (rows.summary.is_complete or enough):
        raise NotAll(rows.summary.message)
    return f"{sorted(found.items())} {rows.summary.message}"


@task
async def skipping(count: int) -> list[int]:
    found = await hf.map(classify, range(count), on_error="skip")
    if len(found) < count:
        raise NotAll(len(found))
    return found


def go(call: Any, **options: Any) -> Any:
    return asyncio.run(run(call, run_name="it", store=memory_store(disk), **options))


def test_after_a_failure_only_what_did_not_complete_runs() -> None:
    fails.add(3)
    with pytest.raises(Broken):
        go(strict(6))
    done = set(ran) - {3} - {n for n in range(6) if ran.count(n) and not _completed(n)}
    ran.clear()
    fails.clear()
    assert go(strict(6)) == [0, 10, 20, 30, 40, 50]
    assert set(ran) == set(range(6)) - done
    assert 3 in ran


def _completed(n: int) -> bool:
    state = memory_store(disk).state_sync("it")
    return any(action.status is Status.COMPLETED and action.result == 10 * n for action in state.actions.values())


def test_a_skipped_row_is_given_from_record_also_after_the_task_itself_failed() -> None:
    fails.add(2)
    with pytest.raises(NotAll, match="1 row failed: 2"):
        go(lenient(4, False))
    fails.clear()
    ran.clear()
    with pytest.raises(NotAll, match="1 row failed: 2"):
        go(lenient(4, False))
    assert ran == [], "nothing is tried again unasked"


def test_with_retry_skipped_the_rows_that_failed_run_again_and_no_others() -> None:
    fails.add(2)
    with pytest.raises(NotAll):
        go(lenient(4, False))
    fails.clear()
    ran.clear()
    retried[0] = True
    assert go(lenient(4, False)) == "[(0, 0), (1, 10), (2, 20), (3, 30)] None"
    assert ran == [2]


def test_what_is_not_to_be_retried_is_not_even_with_retry_skipped() -> None:
    fails.update({1, 2})
    given_up.append(1)
    with pytest.raises(NotAll):
        go(lenient(4, False))
    fails.clear()
    ran.clear()
    retried[0] = True
    with pytest.raises(NotAll, match="1 row failed: 1"):
        go(lenient(4, False))
    assert ran == [2]


def test_a_map_that_skips_gives_skipped_rows_from_record_and_one_that_raises_tries_them_again() -> None:
    fails.add(2)
    with pytest.raises(NotAll):
        go(skipping(4))
    fails.clear()
    ran.clear()
    with pytest.raises(NotAll):
        go(skipping(4))
    assert ran == []


def test_another_version_of_the_task_runs_skipped_rows_too() -> None:
    newer = classify.with_options(version="2")

    @task(name="versions")
    async def versions(first: bool) -> int:
        used = classify if retried[0] is False else newer
        found = await hf.map(used, range(3), on_error="skip")
        if len(found) < 3:
            raise NotAll
        return sum(found)

    fails.add(1)
    with pytest.raises(NotAll):
        go(versions(True))
    fails.clear()
    ran.clear()
    retried[0] = True
    assert go(versions(True)) == 30
    assert sorted(ran) == [0, 1, 2]


@task(retries=2)
async def retried_parent(count: int) -> str:
    rows = records(classify, range(count), retry_skipped=retried[0])
    found = [row async for row in rows]
    if ctx().attempt_number < 2:
        raise NotAll
    return f"{len(found)} {rows.summary.fail_count}"


@pytest.mark.parametrize(("again", "times"), [(False, 1), (True, 3)])
def test_a_retry_of_the_task_itself_reuses_rows_and_skips_the_same_unless_told_otherwise(again: bool, times: int) -> None:
    fails.add(1)
    retried[0] = again
    with no_backoff():
        assert go(retried_parent(3)) == "3 1"
    assert [ran.count(n) for n in range(3)] == [1, times, 1]


def test_what_a_body_saw_fail_before_a_stop_fails_again_when_it_goes_on() -> None:
    fails.add(1)

    @task(name="stopped")
    async def stopped() -> str:
        try:
            await hf.map(classify, range(3), concurrency=1)
        except Broken as error:
            await classify(100)
            return f"declined {error}"
        return "went through"

    async def stop_at_100() -> None:
        async with await hf.start(stopped(), run_name="it", store=memory_store(disk)) as handle:
            await until(lambda: 100 in ran)
            await handle.stop()
            await handle.result()

    with pytest.raises(RunStopped):
        asyncio.run(stop_at_100())
    fails.clear()
    ran.clear()
    assert go(stopped()) == "declined 1"
    assert ran == [100] or ran == []


@pytest.mark.filterwarnings("ignore::holdfast.errors.RowsChanged")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(done=st.sets(st.integers(0, 11)), failed=st.sets(st.integers(0, 11)), width=st.integers(1, 5), in_order=st.booleans())
def test_whatever_was_done_before_the_rest_runs_once_and_nothing_else(done: set[int], failed: set[int], width: int, in_order: bool) -> None:
    anew()
    failed -= done
    fails.update(failed)
    asked = sorted(done | failed, reverse=not in_order)
    plan.append(asked)
    with pytest.raises(NotAll):
        go(gaps())
    assert sorted(ran) == sorted(done | failed)
    ran.clear()
    fails.clear()
    plan[:] = [width]
    assert go(gaps()) == [10 * n for n in range(12)]
    assert sorted(ran) == sorted(set(range(12)) - done)


@task
async def gaps() -> list[int]:
    if isinstance(plan[0], list):
        await hf.map(classify, plan[0], on_error="collect")
        raise NotAll
    return await hf.map(classify, range(12), concurrency=plan[0])


def test_stopped_rows_are_unprocessed_and_run_when_the_run_goes_on() -> None:
    @task(name="patient")
    async def patient(n: int) -> int:
        ran.append(n)
        if n >= 3 and len(summaries) == 0:
            await asyncio.Event().wait()
        return n

    @task(name="long")
    async def long() -> int:
        rows = records(patient, range(8), concurrency=2)
        total = 0
        try:
            async for row in rows:
                total += row.value or 0
        finally:
            summaries.append(rows.summary)
        return total

    async def stop() -> None:
        async with await hf.start(long(), run_name="it", store=memory_store(disk)) as handle:
            await until(lambda: 4 in ran)
            await handle.stop()
            await handle.result()

    with pytest.raises(RunStopped):
        asyncio.run(stop())
    assert (summaries[0].success_count, summaries[0].unprocessed_count) == (3, 5)
    assert summaries[0].message == "5 rows were not processed: 3 to 7"
    ran.clear()
    assert go(long()) == 28
    assert sorted(ran) == [3, 4, 5, 6, 7]
    assert summaries[1].is_complete


@task
def on_its_own_loop() -> list[int]:
    """Skip rows, from a thread, and fail."""
    found = asyncio.run(hf.map(classify, range(4), on_error="skip"))
    if len(found) < 4:
        raise NotAll(len(found))
    return found


def test_a_row_that_a_def_body_skipped_stays_skipped() -> None:
    fails.add(2)
    for _ in range(2):
        with pytest.raises(NotAll):
            go(on_its_own_loop.call())
        fails.clear()
    assert sorted(ran) == [0, 1, 2, 3]


@task(name="numbered")
async def numbered(n: int) -> int:
    ran.append(n)
    return len(ran)


@task(name="saves each")
async def saves_each(count: int) -> list[int]:
    got = await ctx().checkpoint.load(list[int]) or []
    rows = records(numbered, [7] * (count - len(got)), concurrency=2)
    async for row in rows:
        assert row.value is not None
        got.append(row.value)
        if len(got) == 2 and ctx().attempt_number == 0:
            await until(lambda: rows.summary.success_count == 3)  # one more has ended than the body was given
        await ctx().checkpoint.save(got)
        if len(got) == 2 and ctx().attempt_number == 0:
            raise NotAll
    return got


def test_what_had_ended_and_was_not_given_when_the_body_saved_is_given_when_it_goes_on() -> None:
    with pytest.raises(NotAll):
        go(saves_each(5))
    assert len(ran) == 3
    assert sorted(go(saves_each(5))) == [1, 2, 3, 4, 5]
    assert len(ran) == 5


def test_equal_items_are_answered_each_from_its_own_record() -> None:
    @task(name="counts")
    async def counts(n: int) -> int:
        ran.append(n)
        return len(ran)

    @task(name="equal")
    async def equal() -> list[int]:
        found = await hf.map(counts, [5, 5, 6, 5], concurrency=1)
        if ctx().attempt_number == 0:
            raise NotAll
        return found

    with pytest.raises(NotAll):
        go(equal())
    assert go(equal()) == [1, 2, 3, 4]
    assert ran == [5, 5, 6, 5]
