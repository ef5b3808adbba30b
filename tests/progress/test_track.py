"""`track`: a bar that follows a loop, from 0 % before the first item to 100 % after the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from holdfast import ctx, map, run, task, track
from holdfast.errors import ActionEnded, InvalidOption
from holdfast.testing import memory_store, task_context

closed: list[str] = []
kept: list[Any] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    closed.clear()
    kept.clear()


def plain(count: int) -> Iterator[int]:
    try:
        yield from range(count)
    finally:
        closed.append("plain")


async def stream(count: int) -> AsyncIterator[int]:
    try:
        for number in range(count):
            await asyncio.sleep(0)
            yield number
    finally:
        closed.append("stream")


def shown(name: str = "default") -> tuple[float, float | None]:
    bar = ctx().progress(name, 0, None)
    return bar.n, bar.percent


async def followed(items: Any, *, until: int | None = None, **options: Any) -> list[tuple[float, float | None]]:
    """What the bar shows while each item is worked on, and at the end."""
    with task_context():
        seen = []
        loop = track(items, **options)
        async for item in loop:
            seen.append(shown(options.get("name", "default")))
            if item == until:
                break
        await loop.aclose()
        return [*seen, shown(options.get("name", "default"))]


@pytest.mark.parametrize(
    ("items", "options", "percents"),
    [
        (lambda: range(4), {}, [0, 25, 50, 75, 100]),
        (lambda: [0], {}, [0, 100]),
        (lambda: [], {}, [100]),
        (lambda: {0: "a", 1: "b"}, {}, [0, 50, 100]),
        (lambda: plain(2), {"total": 2}, [0, 50, 100]),
        (lambda: stream(2), {"total": 2}, [0, 50, 100]),
        (lambda: plain(2), {}, [None, None, 100]),
        (lambda: stream(2), {}, [None, None, 100]),
        (lambda: plain(0), {}, [100]),
        (lambda: range(6, 8), {"total": 8}, [75, 87.5, 100]),
        (lambda: plain(1), {"total": 4}, [0, 25]),
        (lambda: range(4), {"total": 2}, [0, 50, 100, 100, 100]),
    ],
)
def test_an_item_counts_when_the_body_is_done_with_it(items: Any, options: dict[str, Any], percents: list[float | None]) -> None:
    assert [percent for _, percent in asyncio.run(followed(items(), **options))] == percents


@pytest.mark.parametrize("items", [lambda: range(4), lambda: plain(4), lambda: stream(4)], ids=["range", "plain", "stream"])
def test_a_break_leaves_the_bar_where_it_is(items: Any) -> None:
    assert asyncio.run(followed(items(), until=2, total=4))[-1] == (2, 50.0)


@pytest.mark.parametrize("until", [None, 1])
@pytest.mark.parametrize("items", [plain, stream])
def test_a_generator_is_closed_however_the_loop_ends(items: Any, until: int | None) -> None:
    asyncio.run(followed(items(3), until=until))
    assert closed == [items.__name__]


def test_an_error_in_the_body_closes_the_source_and_leaves_the_bar() -> None:
    @task(name="fails")
    async def fails() -> None:
        async for number in track(stream(4), total=4):
            if number == 1:
                raise ValueError("no more")

    store = memory_store()

    async def program() -> None:
        with pytest.raises(ValueError, match="no more"):
            await run(fails(), run_name="it", store=store)
        root = (await store.state("it")).root
        assert root is not None
        assert root.progress["default"].n == 1

    asyncio.run(program())
    assert closed == ["stream"]


async def _outside(items: Any) -> list[int]:
    return [item async for item in track(items)]


@pytest.mark.parametrize("items", [lambda: range(3), lambda: plain(3), lambda: stream(3)], ids=["range", "plain", "stream"])
def test_outside_a_task_it_just_iterates(items: Any) -> None:
    assert asyncio.run(_outside(items())) == [0, 1, 2]


def test_two_loops_one_after_the_other_may_use_one_bar() -> None:
    async def two() -> list[tuple[float, float | None]]:
        with task_context():
            seen = []
            for count in (2, 3):
                async for _ in track(plain(count), total=count):
                    seen.append(shown())
            return [*seen, shown()]

    assert [n for n, _ in asyncio.run(two())] == [0, 1, 0, 1, 2, 3]


async def _loop(items: Any, seen: list[tuple[float, float | None]]) -> None:
    async for _ in track(items):
        await asyncio.sleep(0)
        seen.append(shown())


@pytest.mark.parametrize(
    ("first", "second", "percents"), [(range, range, True), (plain, range, False), (range, stream, False), (plain, stream, False)]
)
def test_loops_side_by_side_under_one_name_are_added_up(first: Any, second: Any, percents: bool) -> None:
    async def two() -> list[tuple[float, float | None]]:
        seen: list[tuple[float, float | None]] = []
        with task_context():
            await asyncio.gather(_loop(first(3), seen), _loop(second(5), seen))
            return [*seen, shown()]

    found = asyncio.run(two())
    assert [n for n, _ in found] == list(range(9))
    assert [percent for _, percent in found] == [*([100 * n / 8 for n in range(8)] if percents else [None] * 8), 100.0]


def test_a_loop_within_another_one_of_its_name_ends_with_it_at_100_percent() -> None:
    async def nested() -> list[tuple[float, float | None]]:
        seen: list[tuple[float, float | None]] = []
        with task_context():
            async for _ in track(range(2)):
                await _loop(range(2), seen)
            return [*seen, shown()]

    found = asyncio.run(nested())
    assert [n for n, _ in found] == [0, 1, 3, 4, 6]
    assert [percent == 100 for _, percent in found] == [False, False, False, False, True]


def test_a_loop_that_was_broken_off_is_over_at_once() -> None:
    async def breaks() -> tuple[list[tuple[float, float | None]], tuple[float, float | None]]:
        seen: list[tuple[float, float | None]] = []
        with task_context():
            async for number in track(plain(5), total=5):
                if number == 2:
                    break
            await ctx().checkpoint.save("behind it")
            await _loop(range(2), seen)
            await ctx().checkpoint.load(str)
            return seen, shown()

    seen, put_back = asyncio.run(breaks())
    assert seen == [(0, 0.0), (1, 50.0)]
    assert put_back == (2, 40.0)


def test_a_sum_beyond_all_numbers_is_refused_and_changes_nothing() -> None:
    async def two() -> None:
        with task_context():
            async for _ in track(range(1), total=1.5e308):
                with pytest.raises(InvalidOption, match="finite"):
                    await anext(track(range(1), total=1.5e308))
            assert shown()[0] == 1.5e308

    asyncio.run(two())


def test_a_body_may_count_beforehand_what_need_not_be_done() -> None:
    async def counts() -> tuple[float, float | None]:
        with task_context():
            ctx().progress("rows", 5, total=10)
            async for _ in track(plain(5), "rows", total=10):
                pass
            return shown("rows")

    assert asyncio.run(counts()) == (10, 100.0)


@pytest.mark.parametrize("items", [3, None, object()])
def test_what_is_no_iterable_is_refused_at_once(items: Any) -> None:
    with pytest.raises(InvalidOption, match="items="):
        track(items)


def test_a_loop_that_outlives_its_attempt_ends() -> None:
    @task(name="leaks")
    async def leaks() -> None:
        loop = track(range(3))
        kept.append(loop)
        await anext(loop)

    async def program() -> None:
        await run(leaks(), store=memory_store())
        with pytest.raises(ActionEnded):
            await anext(kept[0])

    asyncio.run(program())


def test_a_map_that_fails_closes_the_tracked_items_that_it_was_given() -> None:
    @task(name="fails on 1", key=str)
    async def fails(number: int) -> None:
        if number == 1:
            raise ValueError("no more")

    @task(name="maps")
    async def maps() -> None:
        try:
            await map(fails, track(stream(9)), concurrency=1)
        except ValueError:
            kept.extend(closed)

    asyncio.run(run(maps(), store=memory_store()))
    assert kept == ["stream"]
