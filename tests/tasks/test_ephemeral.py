"""Outside any run: retries, timeouts and checkpoints work, and nothing is kept."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import NonRetryable, Retry, Timeout, ctx, run_sync, task
from holdfast.clocks import Clock, use_clock
from holdfast.errors import NotDurable, TaskTimedOut


class Hasty(Clock):
    """Doesn't wait, and notes for how long it would have."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def now(self) -> float:
        return 1e9 + sum(self.waited)

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def hasty() -> Iterator[Hasty]:
    clock = Hasty()
    with use_clock(clock):
        yield clock


@task(name="flaky", retries=Retry(3, jitter=False))
async def flaky(seen: list[Any]) -> int:
    seen.append((ctx().attempt_number, ctx().retries_left, ctx().max_attempts))
    if len(seen) < 3:
        raise KeyError(len(seen))
    return len(seen)


@task(name="flaky_def", retries=Retry(3, jitter=False))
def flaky_def(seen: list[Any]) -> int:
    seen.append((ctx().attempt_number, ctx().retries_left, ctx().max_attempts))
    if len(seen) < 3:
        raise KeyError(len(seen))
    return len(seen)


@pytest.mark.parametrize("each", [flaky, flaky_def])
def test_failures_are_tried_again(each: Any, hasty: Hasty) -> None:
    seen: list[Any] = []
    assert asyncio.run(each.call(seen)) == 3
    assert seen == [(0, 2, 3), (1, 1, 3), (2, 0, 3)]
    assert hasty.waited == [1, 2]


@pytest.mark.parametrize("each", [flaky, flaky_def])
def test_the_last_failure_is_raised_as_itself(each: Any) -> None:
    with pytest.raises(KeyError, match="2"):
        each.with_options(retries=1).sync([])


def test_what_is_not_to_be_retried_is_not() -> None:
    class Declined(NonRetryable): ...

    tries: list[int] = []

    @task(name="declines", retries=5)
    async def declines() -> None:
        tries.append(1)
        raise Declined("no")

    with pytest.raises(Declined, match="no"):
        asyncio.run(declines())
    assert tries == [1]


@pytest.mark.parametrize(("timeout", "what", "tries"), [(0.01, "attempt", 2), (Timeout(total=0.01), "total", 1)])
def test_timeouts_pass(timeout: Any, what: str, tries: int) -> None:
    begun: list[int] = []

    @task(name="waits", timeout=timeout, retries=1)
    async def waits() -> None:
        begun.append(1)
        await asyncio.Event().wait()

    with pytest.raises(TaskTimedOut, match=what) as caught:
        asyncio.run(waits())
    assert isinstance(caught.value, TimeoutError)
    assert len(begun) == tries


def test_nothing_is_durable_and_the_run_has_a_place() -> None:
    @task(name="place")
    async def place() -> Any:
        context = ctx()
        return context.durable, context.is_resumed, context.action.parent, len(context.action.name), context.idempotency_key

    durable, resumed, parent, length, key = asyncio.run(place())
    assert (durable, resumed, parent, length) == (False, False, None, 16)
    assert asyncio.run(place())[4] != key


def test_inputs_need_no_digest_and_results_no_record() -> None:
    @task(name="anything")
    async def anything(value: Any) -> Any:
        return value

    thing = object()
    assert asyncio.run(anything(thing)) is thing


def test_equal_calls_have_places_of_their_own() -> None:
    @task(name="named")
    async def named() -> str:
        return str(ctx().action.name)

    @task(name="asks")
    async def asks() -> list[str]:
        return [await named(), await named(), str(ctx().action.name)]

    assert len(set(asyncio.run(asks()))) == 3


def test_a_checkpoint_is_loaded_by_the_next_attempt() -> None:
    @task(name="saves", retries=1)
    async def saves() -> Any:
        found = await ctx().checkpoint.load(bytes)
        if found is None:
            await ctx().checkpoint.save(b"state")
            raise KeyError
        return found

    with pytest.warns(NotDurable):
        assert asyncio.run(saves()) == b"state"


def test_a_def_body_loads_what_its_last_attempt_saved() -> None:
    @task(name="saves_def", retries=1)
    def saves_def() -> Any:
        found = ctx().checkpoint.load_sync(bytes)
        if found is None:
            ctx().checkpoint.save_sync(b"state")
            raise KeyError
        return found

    with pytest.warns(NotDurable):
        assert saves_def() == b"state"


def test_the_first_save_warns_once_with_the_line_to_write() -> None:
    @task(name="inner")
    async def inner(n: int) -> None:
        await ctx().checkpoint.save(n)

    @task(name="pkg.mod:loop")
    async def outer() -> None:
        for n in range(3):
            await inner(n)

    @task(name="a def task")
    def saves() -> None:
        ctx().checkpoint.save_sync(1)

    for call, says in ((outer(), "inner saved .* run\\(outer\\(...\\), run_name="), (saves.call(), "run\\(saves.call\\(...\\), run_name=")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.run(call)
        (warned,) = caught
        assert warned.category is NotDurable
        assert re.search(says, str(warned.message))


def test_two_calls_do_not_see_each_other_s_checkpoints() -> None:
    @task(name="mine")
    async def mine(n: int) -> Any:
        found = await ctx().checkpoint.load(int)
        await ctx().checkpoint.save(n)
        return found

    async def main() -> Any:
        return await asyncio.gather(mine(1), mine(2), mine(2))

    with pytest.warns(NotDurable):
        assert asyncio.run(main()) == [None, None, None]


def test_recorded_values_work_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    @task(name="values")
    async def values() -> Any:
        return [await ctx().record(lambda: 3), (await ctx().now()).tzinfo is not None, len(str(await ctx().uuid()))]

    assert asyncio.run(values()) == [3, True, 36]
    assert list(tmp_path.iterdir()) == []


def test_children_belong_to_the_ephemeral_run_and_retry_on_their_own() -> None:
    @task(name="parent")
    async def parent() -> Any:
        seen: list[Any] = []
        return await flaky(seen), [n for n, _, _ in seen], ctx().attempt_number

    assert asyncio.run(parent()) == (3, [0, 1, 2], 0)


def test_an_ephemeral_run_inside_a_run_is_none(tmp_path: Path) -> None:
    assert run_sync(is_durable(), store=tmp_path, run_name="r") == [True, True]


@task
async def is_durable(depth: int = 1) -> list[bool]:
    return [ctx().durable, *(await is_durable(depth - 1) if depth else [])]
