"""Changed, inserted and removed rows: told once, by place, and never given old answers."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast as hf
from holdfast import ctx, records, run, task
from holdfast.errors import DoubtfulReuse, RowsChanged
from holdfast.fanout.outcomes import places, spans_of
from holdfast.fingerprints import Changes, Fingerprints, changes
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.clocks import no_backoff
from holdfast.testing.stores import memory_store


def prints(rows: str) -> bytes:
    return "".join(row * 6 for row in rows).encode()


TABLE = [
    # before, ended then, now, ended now, differing, new, gone
    ("abcd", True, "abcd", True, (), (), ()),
    ("abcd", True, "abXd", True, (2,), (), ()),
    ("abcd", True, "Xbcd", True, (0,), (), ()),
    ("abcd", True, "Xabcd", True, (), (0,), ()),
    ("abcd", True, "abXYcd", True, (), (2, 3), ()),
    ("abcd", True, "bcd", True, (), (), (0,)),
    ("abcd", True, "abc", True, (), (), (3,)),
    ("abcd", True, "dcba", True, (), (), ()),
    ("abcd", True, "abcdEF", True, (), (), ()),
    ("abcd", True, "ab", False, (), (), ()),
    ("abcd", True, "aX", False, (1,), (), ()),
    ("abcd", False, "abcdEF", True, (), (), ()),
    ("abcd", False, "abXdEF", True, (2,), (), ()),
    ("abcd", False, "XabcdE", True, (), (0,), ()),
    ("abcd", False, "bcdEFG", True, (), (), (0,)),
    ("aaab", True, "aab", True, (), (), (2,)),
    ("aab", True, "aaab", True, (), (2,), ()),
    ("", True, "ab", True, (), (), ()),
    ("abcd", True, "", True, (), (), (0, 1, 2, 3)),
    ("abcd", True, "WXYZ", True, (0, 1, 2, 3), (), ()),
]


@pytest.mark.parametrize(("before", "then", "now", "ended", "differing", "new", "gone"), TABLE)
def test_what_became_of_rows_is_told_by_place(before: str, then: bool, now: str, ended: bool, differing: Any, new: Any, gone: Any) -> None:
    assert changes(prints(before), prints(now), before_ended=then, ended=ended) == Changes(differing, new, gone)


@given(st.text("abc", max_size=8), st.text("abcX", max_size=8), st.booleans())
def test_rows_that_are_neither_new_nor_gone_are_the_same_rows(before: str, now: str, ended: bool) -> None:
    found = changes(prints(before), prints(now), before_ended=True, ended=ended)
    if found and ended:
        fresh = {*found.differing, *found.new}
        lost = {*found.differing, *found.gone}
        kept = sorted(row for place, row in enumerate(now) if place not in fresh)
        assert kept == sorted(row for place, row in enumerate(before) if place not in lost)


def test_blocks_are_put_together_and_the_last_word_counts() -> None:
    seen = Fingerprints()
    seen.see(0, "a" * 12, None)
    seen.see(2, "b" * 6, 3)
    assert (bytes(seen.prints), seen.total) == (prints("aab"), 3)
    seen.see(1, "c" * 6, 2)
    assert (bytes(seen.prints), seen.total) == (prints("ac"), 2)


@pytest.mark.parametrize(
    ("numbers", "count", "named"),
    [
        ([], 0, ""),
        ([17], 1, "17"),
        ([40, 17, 24, 23, 25], 5, "17, 23 to 25, 40"),
        (range(0, 50, 2), 25, ", ".join(str(n) for n in range(0, 40, 2)) + " and 5 more"),
        ([1, 2], 1_002, "1 to 2 and 1,000 more"),
    ],
)
def test_places_are_named_shortly(numbers: Iterable[int], count: int, named: str) -> None:
    assert places(spans_of(numbers), count) == named


# in a run

disk = MemoryDisk()
ran: list[str] = []
items: list[str] = []
fails: list[bool] = [True]


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()
    ran.clear()
    fails[0] = True


class NotYet(Exception):
    pass


@task
async def upper(text: str) -> str:
    ran.append(text)
    return text.upper()


@task
async def every() -> list[str]:
    found = await hf.map(upper, items)
    if fails[0]:
        raise NotYet
    return found


@task
async def some(count: int) -> int:
    total = 0
    async for _row in records(upper, items, concurrency=1):
        total += 1
        if total == count and fails[0]:
            raise NotYet
    return total


def go(call: Any, now: Iterable[str]) -> tuple[Any, list[str]]:
    """What the run gives, and the warnings of rows."""
    items[:] = now
    ran.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = asyncio.run(run(call, run_name="it", store=memory_store(disk)))
        except NotYet:
            value = None
    return value, [str(warning.message) for warning in caught if warning.category is RowsChanged]


ROWS = [f"row {n}" for n in range(50)]


def changed(*where: int) -> list[str]:
    return [f"changed {n}" if n in where else row for n, row in enumerate(ROWS)]


def test_changed_rows_are_named_by_place_run_and_get_their_own_answers() -> None:
    assert go(every(), ROWS) == (None, [])
    fails[0] = False
    now = changed(17, *range(23, 41))
    value, warned = go(every(), now)
    assert value == [text.upper() for text in now]
    assert ran == [now[17], *now[23:41]]
    assert [text.partition(": ")[2] for text in warned] == [
        "rows 17, 23 to 40 differ from what was there; the others are given from record"
    ]
    assert memory_store(disk).state_sync("it").warnings == tuple(warned)


def test_inserted_and_removed_rows_are_told_without_an_alarm_for_all_that_moved() -> None:
    go(every(), ROWS)
    fails[0] = False
    value, warned = go(every(), ["first", *ROWS[:20], *ROWS[21:]])
    assert len(value) == 50
    assert ran == ["first"]
    assert [text.partition(": ")[2] for text in warned] == [
        "1 row is new: 0, 1 row that stood at 20 is gone; the others are given from record"
    ]


@pytest.mark.parametrize("now", [ROWS, ROWS[::-1], [*ROWS, "more", "and more"]], ids=["the same", "moved", "more"])
def test_there_is_nothing_to_tell_of_rows_that_are_the_same_moved_or_followed_by_more(now: list[str]) -> None:
    go(every(), ROWS)
    fails[0] = False
    value, warned = go(every(), now)
    assert value == [text.upper() for text in now]
    assert warned == []


def test_it_is_told_once_and_what_is_there_now_counts_from_then_on() -> None:
    go(every(), ROWS)
    assert len(go(every(), changed(3))[1]) == 1
    assert go(every(), changed(3))[1] == []
    assert len(go(every(), changed(4))[1]) == 1


def test_rows_behind_the_place_where_a_loop_was_left_are_not_said_to_be_new() -> None:
    assert go(some(20), ROWS)[1] == []
    fails[0] = False
    value, warned = go(some(20), changed(2, 40))
    assert value == 50
    assert [text.partition(": ")[2] for text in warned] == ["row 2 differs from what was there; the others are given from record"]


def test_two_maps_of_one_body_are_compared_each_with_itself() -> None:
    @task(name="two")
    async def two(n: int) -> list[str]:
        found = await hf.map(upper, items[:5]) + await hf.map(upper, items[5:]) + await hf.map(upper, items, group="again")
        if fails[0]:
            raise NotYet
        return found

    assert go(two(1), ROWS[:10])[1] == []
    assert go(two(1), ROWS[:10])[1] == []
    fails[0] = False
    warned = go(two(1), changed(6)[:10])[1]
    assert sorted(text.partition(": ")[2].partition(" differs")[0] for text in warned) == ["row 1", "row 6"]


async def late(name: str, turns: int) -> AsyncIterator[str]:
    for _ in range(turns):
        await asyncio.sleep(0)
    for n in range(10):
        yield f"{name} {n}"


@task
async def side_by_side() -> int:
    slow, quick = (30, 0) if fails[0] else (0, 30)
    await asyncio.gather(hf.map(upper, late("a", slow)), hf.map(upper, late("b", quick)))
    if fails[0]:
        raise NotYet
    return 1


def test_which_of_two_maps_gets_its_items_first_is_no_change() -> None:
    assert go(side_by_side(), [])[1] == []
    fails[0] = False
    assert go(side_by_side(), []) == (1, [])


@task
async def all_and_some() -> int:
    await hf.map(upper, items)
    await hf.map(upper, ["always", "there"])
    if fails[0]:
        raise NotYet
    return 1


def test_a_map_without_rows_is_one_too() -> None:
    assert go(all_and_some(), ROWS[:3])[1] == []
    fails[0] = False
    warned = go(all_and_some(), [])[1]
    assert [text.partition(": ")[2] for text in warned] == ["3 rows that stood at 0 to 2 are gone"]


@task
async def rounds(count: int) -> int:
    done = await ctx().checkpoint.load(int) or 0
    for n in range(done, count):
        await hf.map(upper, [f"{n} {text}" for text in items])
        await ctx().checkpoint.save(n + 1)
        if n == 2 and fails[0]:
            raise NotYet
    return count


def test_a_loop_of_saves_and_maps_goes_on_without_a_false_alarm() -> None:
    assert go(rounds(5), ROWS[:10])[1] == []
    fails[0] = False
    assert go(rounds(5), ROWS[:10]) == (5, [])
    assert len(ran) == 20


@task(retries=1)
async def retried() -> int:
    if ctx().attempt_number:
        items[1] = "another"
    await hf.map(upper, items)
    if not ctx().attempt_number:
        raise NotYet
    return len(items)


def test_a_retry_that_has_other_rows_is_told_too() -> None:
    with no_backoff():
        value, warned = go(retried(), ROWS[:10])
    assert value == 10
    assert ["row 1 differs" in text for text in warned] == [True]


@pytest.mark.filterwarnings("error")
def test_whoever_makes_warnings_errors_gets_this_one_as_an_error() -> None:
    go(every(), ROWS)
    items[:] = changed(1)
    with pytest.raises(RowsChanged):
        asyncio.run(run(every(), run_name="it", store=memory_store(disk)))


@task
async def set_up() -> int:
    if await ctx().checkpoint.load(int) is None:
        await hf.map(upper, items)
        await ctx().checkpoint.save(1)
        raise NotYet
    return len(await hf.map(upper, items))


def test_rows_from_before_a_loaded_save_are_one_thing_to_tell_of() -> None:
    go(set_up(), ROWS)
    with pytest.warns(DoubtfulReuse) as told:
        assert asyncio.run(run(set_up(), run_name="it", store=memory_store(disk))) == 50
    assert len([warning for warning in told if warning.category is DoubtfulReuse]) == 1
