"""What an owner keeps of rows that are done: little, and enough for whatever may still come."""

from __future__ import annotations

import asyncio
import gc
import itertools
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest

import holdfast as hf
from holdfast import Status, ctx, records, run, task
from holdfast.errors import ContextChanged, RunRolledBack
from holdfast.events import ActionAsked, AttemptEnded, AttemptStarted, CheckpointSaved, Event, UndoRegistered
from holdfast.folders.memory import MemoryDisk
from holdfast.leaves import GONE, MANY, OWN, SETTLED, SHARED, Leaves
from holdfast.states import Fold, Record
from holdfast.testing.clocks import no_backoff
from holdfast.testing.stores import memory_store

ROWS = MANY + 500

disk = MemoryDisk()
ran: list[int] = []
undone: list[int] = []
later: list[bool] = [False]


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()
    ran.clear()
    undone.clear()
    later[0] = False


class NotYet(Exception):
    pass


def go(call: Any) -> Any:
    return asyncio.run(run(call, run_name="it", store=memory_store(disk)))


@task
async def undo(n: int) -> None:
    undone.append(n)


@task
async def row(n: int) -> dict[str, int | None]:
    ran.append(n)
    return {"n": n, "none": None}


@task
async def plain(n: int) -> int:
    return n


def asked(name: str, parent: str, at: float = 1.0, **more: Any) -> list[Event]:
    return [
        ActionAsked(action=name, at=at, parent=parent, task="row", **more),
        AttemptStarted(action=name, at=at, number=0, epoch=1),
    ]


def ended(name: str, value: Any = None, **more: Any) -> Event:
    return AttemptEnded(action=name, at=2.0, number=0, status=Status.COMPLETED, then=Status.COMPLETED, value=value, **more)


def many(rows: Iterable[list[Event]]) -> list[Event]:
    """A root, so many leaves that the ones behind them are packed, and these."""
    root = [ActionAsked(action="root", at=0.0, task="root"), AttemptStarted(action="root", at=0.0, number=0, epoch=1)]
    filler = ([*asked(f"filler {n}", "root"), ended(f"filler {n}")] for n in range(MANY))
    return [*root, *itertools.chain.from_iterable(filler), *itertools.chain.from_iterable(rows)]


def facts(record: Record) -> dict[str, Any]:
    """All that is said to be kept of a record."""
    kept = {name: getattr(record, name) for name in (OWN | SHARED | SETTLED) - {"attempt"}}
    assert record.attempt is not None
    return kept | {"number": record.attempt.number, "epoch": record.attempt.epoch, "ended as": record.attempt.status}


def test_of_each_field_of_a_record_it_is_said_what_becomes_of_it() -> None:
    sets = [SHARED, OWN, GONE, SETTLED]
    assert sorted(itertools.chain(*sets)) == sorted(Record.__slots__), "a new field: say in `leaves` what becomes of it"


@pytest.mark.parametrize("value", [None, 0, "", "text", 1.5, True, [1, {"a": None}], {"b": [2.5]}])
def test_a_packed_record_is_what_the_whole_one_was(value: Any) -> None:
    again: dict[str, Any] = {"first": "x", "occurrence": 3, "round": 2, "inputs": "ab", "bare": "bare", "skips": True, "version": "2"}
    events = many(
        [[*asked("some", "root", **again), ended("some", value, blob="digest")], [*asked("plain", "root"), ended("plain", value)]]
    )
    whole, packing = Fold.of(events), Leaves()
    packed = Fold.of(events, packing)
    assert packing.packed == 2
    assert list(packed.actions) == list(whole.actions)
    assert len(packed.actions) == len(whole.actions)
    assert packed.completed == whole.completed == MANY + 2
    for name in ("some", "plain"):
        assert name in packed.actions
        assert facts(packed.actions[name]) == facts(whole.actions[name])
    assert list(packed.made_by("root")) == list(whole.made_by("root"))


def test_what_is_asked_anew_is_whole_again() -> None:
    packing = Leaves()
    fold = Fold.of(many([[*asked("some", "root"), ended("some", 1)]]), packing)
    fold.fold(ActionAsked(action="some", at=3.0, parent="root", task="row", version="2"))
    assert packing.packed == 0
    record = fold.actions["some"]
    assert (record.status, record.version, record.number, record.present_try) == (Status.PENDING, "2", 0, 1)


@pytest.mark.parametrize(
    "more",
    [
        lambda: [*asked("below", "some"), ended("below")],
        lambda: [UndoRegistered(action="some", at=1.0, attempt=0, name="undo", task="undo", function="m:undo")],
        lambda: [CheckpointSaved(action="some", at=1.0, generation=(1, 0, 0), size=1, digest="d")],
    ],
    ids=["a child", "an undo", "a checkpoint"],
)
def test_what_has_something_of_its_own_stays_whole(more: Any) -> None:
    packing = Leaves()
    Fold.of(many([[*asked("some", "root"), *more(), ended("some", 1)]]), packing)
    assert "some" in packing.whole


def test_a_failed_row_stays_whole() -> None:
    packing = Leaves()
    failed = AttemptEnded(action="some", at=2.0, number=0, status=Status.FAILED, then=Status.FAILED, error={"type": "x"})
    fold = Fold.of(many([[*asked("some", "root"), failed]]), packing)
    assert fold.actions["some"].error == {"type": "x"}
    assert packing.packed == 0


@task(retries=1)
async def parent(count: int) -> int:
    found = await hf.map(row, range(count))
    if ctx().attempt_number == 0:
        raise NotYet
    return sum(each["n"] or 0 for each in found)


def test_a_retry_of_the_parent_reuses_packed_rows_in_the_same_process() -> None:
    with no_backoff():
        assert go(parent(ROWS)) == sum(range(ROWS))
    assert sorted(ran) == list(range(ROWS))


@task
async def twice(count: int) -> int:
    if not later[0]:
        await hf.map(row, range(count))
        raise NotYet
    return len(await hf.map(row.with_options(version="2"), range(count)))


def test_another_version_runs_packed_rows_again() -> None:
    with pytest.raises(NotYet):
        go(twice(ROWS))
    later[0] = True
    assert go(twice(ROWS)) == ROWS
    assert [ran.count(n) for n in (0, MANY - 1, ROWS - 1)] == [2, 2, 2]


@task
async def with_tenant(count: int) -> int:
    with hf.custom_context(tenant="b" if later[0] else "a"):
        await hf.map(plain, range(count))
    if not later[0]:
        raise NotYet
    return count


def test_packed_rows_are_remembered_where_only_their_context_differs() -> None:
    with pytest.raises(NotYet):
        go(with_tenant(ROWS))
    later[0] = True
    with pytest.warns(ContextChanged, match="runs again"):
        assert go(with_tenant(ROWS)) == ROWS


@task(rollback=undo)
async def with_undo(n: int) -> int:
    return n


@task
async def to_be_undone(count: int) -> int:
    return len(await hf.map(with_undo, range(count)))


def test_rows_with_undos_are_rolled_back_however_many_there_are() -> None:
    count = MANY + 20
    assert go(to_be_undone(count)) == count
    memory_store(disk).rollback_sync("it")
    assert sorted(undone) == list(range(count))
    with pytest.raises(RunRolledBack):
        go(to_be_undone(count))


def test_the_name_of_a_packed_row_is_kept_once() -> None:
    packing = Leaves()
    fold = Fold.of(many([[*asked(f"row {n}", "root"), ended(f"row {n}", n)] for n in range(3)]), packing)
    children = fold.actions["root"].children
    assert children is not None
    for name in children:
        assert fold.text_of(f"{name[:-1]}{name[-1:]}") is name
    assert fold.text_of("nobody") == "nobody"


# how much that is


@pytest.mark.parametrize(
    ("bare", "inputs", "occurrence"),
    [("", "", 0), ("b" * 12, "", 0), ("", "a" * 28, 0), ("", "", 7)],
    ids=["plain", "in a context", "with a key", "equal to another"],
)
def test_a_packed_row_is_as_small_where_there_is_more_to_remember(bare: str, inputs: str, occurrence: int) -> None:
    count = 9_900
    fold = Fold.of(many([]), Leaves())
    tracemalloc.start()
    try:
        for n in range(count):
            more: dict[str, Any] = {
                "bare": f"{bare}{n:04}" if bare else "",
                "inputs": f"{inputs}{n:04}" if inputs else "",
                "occurrence": occurrence,
            }
            for event in (*asked(f"{n:016}", "root", **more), ended(f"{n:016}", n)):
                fold.fold(event)
        per_row = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert per_row <= 200, f"{per_row:.0f} bytes a row, and what counts it in its attempt comes on top"


measured: list[tuple[int, int]] = []


@task
async def stream(count: int) -> int:
    total = 0
    async for _found in records(plain, (n for n in range(count)), concurrency=16):
        total += 1
        if total % 1000 == 0:
            gc.collect()
            measured.append((total, tracemalloc.get_traced_memory()[0]))
    if not later[0]:
        raise NotYet
    return total


def test_a_row_that_is_done_takes_256_bytes_at_most_fresh_and_from_record(tmp_path: Any) -> None:
    count = 5_000
    measured.clear()
    tracemalloc.start()
    try:
        with pytest.raises(NotYet):
            asyncio.run(run(stream(count), run_name="it", store=tmp_path, durability="flush"))
        by_number = dict(measured)
        per_row = (by_number[5_000] - by_number[2_000]) / 3_000
        assert per_row <= 256, f"{per_row:.0f} bytes a row"
        measured.clear()
        later[0] = True
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        assert asyncio.run(run(stream(count), run_name="it", store=tmp_path, durability="flush")) == count
        per_row = (measured[-1][1] - before - MANY * 700) / (count - MANY)  # the first of them are whole
        assert per_row <= 256, f"{per_row:.0f} bytes a row from record"
    finally:
        tracemalloc.stop()
