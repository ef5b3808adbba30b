"""Loading a checkpoint puts the bars back as they were at its save, so that a loop that goes on from there ends where it always ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Bar, Retry, ctx, run, task, track
from holdfast.checkpoints.generations import Generation, Manifest, described, understand
from holdfast.clocks import instant
from holdfast.codec import from_json, to_json
from holdfast.folders.memory import MemoryDisk
from holdfast.progress import put_back
from holdfast.testing import Clock, crash_everywhere, memory_store, task_context
from holdfast.testing.places import On

ITEMS = 7


def test_a_bar_that_is_put_back_counts_no_time_since_the_save() -> None:
    bar = put_back((20, 100, 1000.0, 1010.0), 5000.0)
    assert (bar.n, bar.total, bar.rate, bar.remaining_seconds) == (20, 100, 2.0, 40.0)
    assert bar.updated_at == 5000.0


def test_an_older_checkpoint_of_the_same_attempt_rewinds_all_its_bars() -> None:
    async def rewinds() -> None:
        with task_context():
            ctx().progress("rows", 2, total=10)
            first = await ctx().checkpoint.save("first")
            ctx().progress("rows", 3)
            ctx().progress("later", 1, total=5)
            await ctx().checkpoint.save("second")
            assert await ctx().checkpoint.load(str, generation=first) == "first"
            assert (ctx().progress("rows", 0).n, ctx().progress("later", 0, total=5).n) == (2, 0)

    asyncio.run(rewinds())


def test_a_def_body_rewinds_from_its_thread() -> None:
    with task_context():
        ctx().progress("rows", 2, total=10)
        first = ctx().checkpoint.save_sync("first")
        ctx().progress("rows", 3)
        assert ctx().checkpoint.load_sync(str, generation=first) == "first"
        assert ctx().progress("rows", 0).n == 2


@task(retries=Retry(3, initial_interval=0))
async def loads_or_not(loads: bool) -> tuple[float, float | None]:
    start = await ctx().checkpoint.load(int) or 0 if loads else 0
    bar = ctx().progress("rows", 0, total=10)
    for number in range(start, 10):
        bar = ctx().progress("rows", total=10)
        await ctx().checkpoint.save(number + 1)
        if number == 4 and ctx().attempt_number == 0:
            raise ValueError("in the middle")
    return bar.n, bar.percent


@pytest.mark.parametrize("loads", [False, True])
def test_with_or_without_a_load_a_retried_loop_ends_at_100_percent(loads: bool) -> None:
    disk = MemoryDisk()
    assert asyncio.run(run(loads_or_not(loads), run_name="it", store=memory_store(disk))) == (10, 100.0)
    root = memory_store(disk).state_sync("it").root
    assert root is not None
    assert (root.progress["rows"].n, root.progress["rows"].percent) == (10, 100.0)


@task(retries=Retry(2, initial_interval=0))
async def behind() -> tuple[float, float]:
    if ctx().attempt_number == 0:
        ctx().progress("rows", 4, total=10)
        await ctx().checkpoint.save("state", wait=False)
        ctx().progress("rows", 5)
        raise ValueError("again")
    before = ctx().progress("rows", 0, total=10).n
    await ctx().checkpoint.load(str)
    return before, ctx().progress("rows", 0).n


def test_a_save_behind_the_work_remembers_the_bars_of_the_moment_in_which_it_was_asked_for() -> None:
    assert asyncio.run(run(behind(), run_name="it", store=memory_store())) == (0, 4)


@task(retries=Retry(2, initial_interval=0))
async def nothing_saved() -> float:
    if ctx().attempt_number == 0:
        ctx().progress("rows", 4, total=10)
        raise ValueError("again")
    ctx().progress("rows", 2, total=10)
    assert await ctx().checkpoint.load(str) is None
    return ctx().progress("rows", 0).n


def test_where_nothing_was_saved_a_load_leaves_the_bars_alone() -> None:
    assert asyncio.run(run(nothing_saved(), run_name="it", store=memory_store())) == 2


def test_the_rate_after_a_resume_tells_of_work_alone() -> None:
    @task(name="sleepy", retries=Retry(2, initial_interval=1000, jitter=False, max_interval=1000))
    async def sleepy() -> tuple[float, float | None]:
        done = await ctx().checkpoint.load(int) or 0
        bar: Bar = ctx().progress("rows", 0, total=20)
        for number in range(done, 20):
            await ctx().sleep(1)
            bar = ctx().progress("rows")
            await ctx().checkpoint.save(number + 1)
            if number == 9 and ctx().attempt_number == 0:
                raise ValueError("again")
        return bar.rate, bar.remaining_seconds

    with Clock().use():
        rate, remaining = asyncio.run(run(sleepy(), run_name="it", store=memory_store()))
    assert rate == pytest.approx(1.0, rel=0.1)
    assert remaining == 0.0


# manifests


def manifest(bars: Any) -> Manifest:
    generation = Generation(1, 0, 0, 3, "d", instant(5.0), {})
    return Manifest(generation, "bytes", None, 0, (), True, b"abc", bars=bars)


@given(
    st.none()
    | st.dictionaries(
        st.text(min_size=1, max_size=9),
        st.tuples(st.floats(0, 1e12), st.none() | st.floats(0, 1e12), st.floats(0, 1e10), st.floats(0, 1e10)),
        max_size=4,
    )
)
def test_a_manifest_keeps_the_bars(bars: Any) -> None:
    record = from_json(to_json(described(manifest(bars), {})))
    assert understand((1, 0, 0), record, "here").bars == bars


def test_a_manifest_of_an_older_version_says_nothing_of_bars() -> None:
    record = described(manifest(None), {})
    record["holdfast"] = "2.0"
    assert "bars" not in record
    assert understand((1, 0, 0), record, "here").bars is None


# crashes


@task
async def explicit() -> int:
    done = await ctx().checkpoint.load(int) or 0
    while done < ITEMS:
        done += 1
        ctx().progress("items", total=ITEMS)
        await ctx().checkpoint.save(done)
    return done


@task
async def tracked() -> int:
    done = await ctx().checkpoint.load(int) or 0
    async for number in track(range(done, ITEMS), "items"):
        await ctx().checkpoint.save(number + 1)
    return ITEMS


async def feed(start: int) -> AsyncIterator[int]:
    for number in range(start, ITEMS):
        yield number


@task
async def streamed() -> int:
    done = await ctx().checkpoint.load(int) or 0
    async for number in track(feed(done), "items", total=ITEMS):
        await ctx().checkpoint.save(number + 1)
    return ITEMS


@pytest.mark.parametrize("on", ["disk", "bucket"])
@pytest.mark.parametrize("loop", [explicit, tracked, streamed], ids=["progress", "track", "track of a stream"])
def test_a_loop_of_saves_killed_anywhere_ends_with_the_bar_of_one_that_was_not(loop: Any, on: On) -> None:
    killed = 0
    for survival in crash_everywhere(lambda: loop(), on=on, step=2):
        killed += bool(survival.crashes)
        assert survival.error is None, str(survival)
        root = survival.store.state_sync("program").root
        assert root is not None
        bar = root.progress["items"]
        assert (bar.n, bar.total, bar.percent) == (ITEMS, ITEMS, 100.0), str(survival)
    assert killed > 10
