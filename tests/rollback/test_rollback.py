"""What a run did is undone: newest first, over its whole subtree, by undos that were on record before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from holdfast import Retry, Status, Store, ctx, custom_context, get_custom_context, run, start, task
from holdfast.errors import InvalidOption, RollbackIncomplete, RunBusy, RunNotFound, RunRolledBack, TaskTimedOut, UnrecordableResult
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.stores import memory_store

pytestmark = pytest.mark.anyio

AT_ONCE = Retry(3, initial_interval=0)

disk = MemoryDisk()
did: list[str] = []
broken: set[str] = set()
release = threading.Event()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    global disk
    disk = MemoryDisk()
    did.clear()
    broken.clear()
    release.clear()
    yield
    release.set()


def store() -> Store:
    return memory_store(disk)


class Receipt(BaseModel):
    number: int


@task
async def let_go(seat: str) -> None:
    did.append(f"let go {seat}")
    if seat in broken:
        raise ConnectionError(seat)


@task
async def reserve(seat: str) -> str:
    await ctx().on_rollback(let_go, seat)
    did.append(f"reserve {seat}")
    return seat


@task
async def refund(order: str, result: Receipt) -> None:
    did.append(f"refund {order} {result.number} for {get_custom_context().get('tenant')}")


@task(rollback=refund)
async def charge(order: str, cents: int) -> Receipt:
    did.append(f"charge {order} {cents}")
    return Receipt(number=7)


@task
async def sell(seats: list[str], *, declined: bool = False) -> str:
    for seat in seats:
        await reserve(seat)
    with custom_context(tenant="arxiv"):
        await charge("o1", 500)
    if declined:
        raise ValueError("declined")
    return "sold"


@task
async def outer(seats: list[str]) -> str:
    return await sell(seats)


async def statuses(run_name: str = "it") -> dict[str, list[Status]]:
    found: dict[str, list[Status]] = {}
    for action in (await store().state(run_name)).actions.values():
        found.setdefault(action.task_name.rpartition(":")[2], []).append(action.status)
    return found


async def test_undos_run_newest_first_over_the_whole_subtree() -> None:
    await run(outer(["a", "b"]), run_name="it", store=store())
    did.clear()
    await store().rollback("it")
    assert did == ["refund o1 7 for arxiv", "let go b", "let go a"]


async def test_everything_whose_effects_are_undone_is_rolled_back_and_the_rest_stays_as_it_was() -> None:
    await run(outer(["a"]), run_name="it", store=store())
    await store().rollback("it")
    assert await statuses() == {
        "outer": [Status.ROLLED_BACK],
        "sell": [Status.COMPLETED],
        "reserve": [Status.ROLLED_BACK],
        "charge": [Status.ROLLED_BACK],
        "let_go": [Status.COMPLETED],
        "refund": [Status.COMPLETED],
    }


async def test_a_failed_run_is_left_alone_until_somebody_rolls_it_back() -> None:
    with pytest.raises(ValueError, match="declined"):
        await run(sell(["a"], declined=True), run_name="it", store=store())
    assert did == ["reserve a", "charge o1 500"]
    await store().rollback("it")
    assert (await store().state("it")).status is Status.ROLLED_BACK


async def test_a_run_that_is_rolled_back_cannot_go_on_and_says_how_it_had_failed() -> None:
    with pytest.raises(ValueError, match="declined"):
        await run(sell(["a"], declined=True), run_name="it", store=store())
    await store().rollback("it")
    did.clear()
    with pytest.raises(RunRolledBack) as raised:
        await run(sell(["a"], declined=True), run_name="it", store=store())
    assert isinstance(raised.value.__cause__, ValueError)
    assert did == []


async def test_a_run_that_is_rolled_back_begins_anew_as_another_incarnation() -> None:
    await run(sell(["a"]), run_name="it", store=store())
    await store().rollback("it")
    assert await run(sell(["a"]), run_name="it", store=store(), resume="restart") == "sold"


async def test_rolling_back_twice_undoes_once() -> None:
    await run(sell(["a"]), run_name="it", store=store())
    await store().rollback("it")
    did.clear()
    await store().rollback("it")
    assert did == []


async def test_a_run_with_nothing_to_undo_is_rolled_back_all_the_same() -> None:
    @task(name="plain")
    async def plain() -> int:
        return 1

    await run(plain(), run_name="it", store=store())
    await store().rollback("it")
    with pytest.raises(RunRolledBack):
        await run(plain(), run_name="it", store=store())


async def test_an_undo_that_gives_up_is_listed_the_others_run_and_a_second_rollback_runs_what_remains() -> None:
    await run(sell(["a", "b"]), run_name="it", store=store())
    did.clear()
    broken.add("b")
    with pytest.raises(RollbackIncomplete, match=r"let_go.*ConnectionError: b") as raised:
        await store().rollback("it")
    assert did == ["refund o1 7 for arxiv", "let go b", "let go a"]
    assert len(raised.value.remains) == 1
    state = await store().state("it")
    assert state.status is Status.FAILED
    assert state.root is not None
    assert state.root.remains == raised.value.remains
    broken.clear()
    did.clear()
    await store().rollback("it")
    assert did == ["let go b"]
    state = await store().state("it")
    assert (state.status, state.root.remains if state.root is not None else None) == (Status.ROLLED_BACK, ())


async def test_what_was_undone_is_never_handed_out_as_a_result_again() -> None:
    await run(sell(["a", "b"]), run_name="it", store=store())
    broken.add("a")
    with pytest.raises(RollbackIncomplete):
        await store().rollback("it")
    did.clear()
    with pytest.raises(RollbackIncomplete, match="reserve"):  # its own rollback goes on
        await run(sell(["a", "b"]), run_name="it", store=store())
    assert did == ["let go a"]


async def test_an_undo_has_retries_of_its_own() -> None:
    await run(flaky(), run_name="it", store=store())
    await store().rollback("it")
    assert did == ["attempt 0", "attempt 1", "attempt 2"]


@task(retries=AT_ONCE)
async def undo_at_last() -> None:
    did.append(f"attempt {ctx().attempt_number}")
    if ctx().attempt_number < 2:
        raise ConnectionError


@task(rollback=undo_at_last)
async def flaky() -> None: ...


async def test_the_same_undo_registered_by_a_retry_counts_once_and_twice_in_one_attempt_counts_twice() -> None:
    @task(retries=AT_ONCE)
    async def twice() -> None:
        await ctx().on_rollback(let_go, "a")
        await ctx().on_rollback(let_go, "a")
        if ctx().attempt_number < 2:
            raise ConnectionError

    await run(twice(), run_name="it", store=store())
    await store().rollback("it")
    assert did == ["let go a", "let go a"]


async def test_an_intent_of_an_attempt_that_failed_is_undone_and_a_task_that_did_not_complete_is_not() -> None:
    @task(rollback=refund)
    async def charge_and_fail(order: str) -> Receipt:
        await ctx().on_rollback(let_go, "x")
        raise ValueError(order)

    with pytest.raises(ValueError, match="o2"):
        await run(charge_and_fail("o2"), run_name="it", store=store())
    await store().rollback("it")
    assert did == ["let go x"]


async def test_each_completion_is_undone_with_the_result_that_it_had() -> None:
    with pytest.raises(ValueError, match="the first"):
        await run(charges_by_version(), run_name="it", store=store())
    broken.add("version 1")
    await run(charges_by_version(), run_name="it", store=store())
    await store().rollback("it")
    assert did == ["refund o 2 for None", "refund o 1 for None"]


@task(rollback=refund)
async def charge_again(order: str) -> Receipt:
    return Receipt(number=2 if broken else 1)


@task
async def charges_by_version() -> None:
    await charge_again.with_options(version="2" if broken else "1")("o")
    if not broken:
        raise ValueError("the first")


async def test_a_def_body_registers_and_is_undone_by_a_def_task() -> None:
    await run(in_thread.call("a"), run_name="it", store=store())
    await store().rollback("it")
    assert did == ["undo a in thread"]


@task
def undo_in_thread(what: str) -> None:
    did.append(f"undo {what} in thread")


@task
def in_thread(what: str) -> None:
    ctx().on_rollback_sync(undo_in_thread, what)


@dataclass
class Box:
    """Anything that a dataclass can hold."""

    size: int


@task
async def undo_many(first: Box, /, *rest: int, scale: float = 1.0, **more: str) -> None:
    did.append(f"{first} {rest} {scale} {more}")


async def test_an_undo_is_called_with_the_arguments_of_its_registration_whatever_kind_of_parameters_it_has() -> None:
    @task
    async def root() -> None:
        await ctx().on_rollback(undo_many, Box(2), 1, 2, scale=0.5, why="x")

    await run(root(), run_name="it", store=store())
    await store().rollback("it")
    assert did == ["Box(size=2) (1, 2) 0.5 {'why': 'x'}"]


@task
async def undo_large(data: bytes) -> None:
    did.append(f"{len(data)} bytes")


async def test_large_arguments_are_kept_and_outlive_a_sweep() -> None:
    @task
    async def root() -> None:
        await ctx().on_rollback(undo_large, b"x" * 300_000)

    await run(root(), run_name="it", store=store())
    await store().gc(grace=0)
    await store().rollback("it")
    assert did == ["300000 bytes"]


async def test_arguments_that_cannot_be_recorded_are_refused_before_the_effect() -> None:
    with pytest.raises(UnrecordableResult, match="its argument what"):
        await run(registers_an_object(), run_name="it", store=store())
    assert did == []


@task
async def undo_object(what: Any) -> None: ...


@task
async def registers_an_object() -> None:
    await ctx().on_rollback(undo_object, object())
    did.append("effect")


async def test_a_run_that_is_at_work_is_not_rolled_back() -> None:
    @task
    async def waits() -> None:
        await asyncio.Event().wait()

    async with await start(waits(), run_name="it", store=store()) as handle:
        with pytest.raises(RunBusy):
            await store().rollback("it")
        await handle.stop()
    await store().rollback("it")


async def test_a_run_that_there_is_not_cannot_be_rolled_back() -> None:
    with pytest.raises(RunNotFound):
        await store().rollback("it")


async def test_a_stopped_rollback_shows_rolling_back_and_the_runs_own_line_goes_on_with_it() -> None:
    await run(sell_slowly(), run_name="it", store=store())
    hold.set()
    rolling = asyncio.create_task(store().rollback("it"))
    await begun.wait()
    rolling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rolling
    assert (await store().state("it")).status is Status.ROLLING_BACK
    hold.clear()
    with pytest.raises(RunRolledBack):
        await run(sell_slowly(), run_name="it", store=store())
    assert did == ["undone", "let go a"]


hold, begun = threading.Event(), asyncio.Event()


@task
async def undo_slowly() -> None:
    begun.set()
    if hold.is_set():
        await asyncio.Event().wait()
    did.append("undone")


@task
async def sell_slowly() -> None:
    await ctx().on_rollback(let_go, "a")
    await ctx().on_rollback(undo_slowly)


# abandoned work


@task(timeout=0.02)
def acts_late(seat: str) -> None:
    ctx().on_rollback_sync(let_go, seat)
    release.wait(30)
    did.append(f"acted late on {seat}")


@task
async def tries_late(seat: str) -> None:
    await reserve("first")
    await acts_late.call(seat)


async def test_what_an_abandoned_thread_may_still_do_is_listed_and_undone_once_it_has_ended() -> None:
    with pytest.raises(TaskTimedOut):
        await run(tries_late("late"), run_name="it", store=store(), grace=0.01)
    did.clear()
    with pytest.raises(RollbackIncomplete, match=r"acts_late .*may still act in this process") as raised:
        await store().rollback("it")
    assert did == ["let go first"]
    assert len(raised.value.remains) == 2
    release.set()
    while True:  # until the thread has ended
        with suppress(RollbackIncomplete):
            await store().rollback("it")
            break
    assert did == ["let go first", "acted late on late", "let go late"]
    assert (await store().state("it")).status is Status.ROLLED_BACK


# what is refused where it is written


async def test_an_undo_takes_only_what_is_known_when_it_has_to_run() -> None:
    with pytest.raises(InvalidOption, match="amount is none of the task's"):

        @task(rollback=needs_more)
        async def one(order: str) -> None: ...

    with pytest.raises(InvalidOption, match="takes anything"):

        @task(rollback=undo_many)
        async def two(first: Box) -> None: ...

    with pytest.raises(InvalidOption, match="both an argument"):

        @task(rollback=refund)
        async def three(order: str, result: int) -> None: ...

    with pytest.raises(InvalidOption, match="it takes a task"):
        charge.with_options(rollback=print)  # type: ignore[arg-type]


@task
async def needs_more(order: str, amount: int) -> None: ...
