"""What a rollback leaves behind, when the run goes on all the same, or a body did more than once what is undone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

from holdfast import AsyncTask, Retry, Status, Store, Timeout, ctx, run, start, task
from holdfast.actions.undoing import rolling_back
from holdfast.errors import InvalidOption, InvalidTask, RollbackIncomplete, RunFenced, RunRolledBack, TaskTimedOut
from holdfast.events import ActionAsked, ActionEnded, AttemptEnded, AttemptStarted, UndoRegistered
from holdfast.folders.memory import MemoryDisk
from holdfast.orders import make_known, with_policy
from holdfast.states import Fold
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


def undoing_itself(of: Any) -> Any:
    """As a pipeline: undone as a whole when it fails for good."""
    return AsyncTask(of.definition.with_policy(with_policy(of.definition.policy, rolls_back=True)))


async def status_of(task_name: str) -> Status:
    return next(a.status for a in (await store().state("it")).actions.values() if a.task_name.endswith(task_name))


@task
async def undo(what: str) -> None:
    did.append(f"undo {what}")
    if what in broken:
        raise ConnectionError(what)


@task
async def do(what: str) -> str:
    await ctx().on_rollback(undo, what)
    did.append(f"do {what}")
    return what


@task(rollback=undo)
async def make(what: str) -> str:
    did.append(f"make {what}")
    return what


@task
async def folder_and_file() -> None:
    await ctx().on_rollback(undo, "folder")
    did.append("do folder")
    await make("file")
    if "once" in broken:
        raise ValueError("once")


async def test_what_a_later_attempt_registers_again_keeps_its_turn() -> None:
    broken.add("once")
    with pytest.raises(ValueError, match="once"):
        await run(folder_and_file(), run_name="it", store=store())
    broken.clear()
    await run(folder_and_file(), run_name="it", store=store())
    did.clear()
    await store().rollback("it")
    assert did == ["undo file", "undo folder"]


async def test_what_is_done_again_after_its_undo_is_undone_again() -> None:
    await run(own_first(), run_name="it", store=store())
    broken.add("stuck")
    with pytest.raises(RollbackIncomplete):
        await store().rollback("it")
    with suppress(RollbackIncomplete, RunRolledBack):
        await run(own_first(), run_name="it", store=store())
    broken.clear()
    await store().rollback("it")
    assert [what for what in did if what.endswith("own")] == ["do own", "undo own", "do own", "undo own"]


@task
async def own_first() -> None:
    if "changed" in broken:
        return
    await ctx().on_rollback(undo, "own")
    did.append("do own")
    await do("stuck")


@task
async def inner() -> str:
    await do("a")
    await do("b")
    return "sold"


@task
async def outer() -> str:
    return await inner()


async def test_a_result_whose_effects_were_undone_below_it_is_not_handed_out_again() -> None:
    await run(outer(), run_name="it", store=store())
    broken.add("a")
    with pytest.raises(RollbackIncomplete):
        await store().rollback("it")
    with pytest.raises((RunRolledBack, RollbackIncomplete)):
        await run(outer(), run_name="it", store=store())
    broken.clear()
    await store().rollback("it")
    assert await status_of("outer") is Status.ROLLED_BACK


@task(timeout=0.05, retries=AT_ONCE)
def late_once(what: str) -> None:
    ctx().on_rollback_sync(undo, what)
    if ctx().attempt_number == 0:
        release.wait(30)
    did.append(f"do {what}")


@task
async def calls_late_once() -> None:
    await late_once.call("late")


async def test_an_undo_that_an_abandoned_attempt_registered_too_waits_for_that() -> None:
    await run(calls_late_once(), run_name="it", store=store(), grace=0.01)
    with pytest.raises(RollbackIncomplete, match="not run"):
        await store().rollback("it")
    assert did == ["do late"]
    release.set()
    while True:
        with suppress(RollbackIncomplete):
            await store().rollback("it")
            break
    assert did == ["do late", "do late", "undo late"]


# a pipeline within


@task
async def undo_never(what: str) -> None:
    did.append(f"undo {what}")
    if not release.is_set():
        await asyncio.Event().wait()


@task
async def do_never(what: str) -> None:
    await ctx().on_rollback(undo_never, what)


@task
async def fails_and_hangs() -> None:
    await do("a")
    await do_never("hangs")
    raise ValueError("declined")


within = undoing_itself(fails_and_hangs)


@task
async def around() -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(within(), 0.1)
    raise ValueError("given up")


async def test_what_was_cut_short_in_its_own_rollback_is_rolled_back_with_the_whole() -> None:
    with pytest.raises(ValueError, match="given up"):
        await run(around(), run_name="it", store=store())
    assert await status_of("fails_and_hangs") is Status.ROLLING_BACK
    release.set()
    await store().rollback("it")
    assert did == ["do a", "undo hangs", "undo hangs", "undo a"]
    assert await status_of("fails_and_hangs") is Status.ROLLED_BACK


@task(timeout=Timeout(total=0.05), retries=Retry(3, initial_interval=60))
async def times_out_between() -> None:
    await do("a")
    raise ConnectionError


async def test_what_times_out_in_all_while_it_waits_for_a_retry_is_undone_too() -> None:
    with pytest.raises(TaskTimedOut):
        await run(undoing_itself(times_out_between)(), run_name="it", store=store())
    assert did == ["do a", "undo a"]
    assert await status_of("times_out_between") is Status.ROLLED_BACK


# what the undo gets


class Receipt(BaseModel):
    number: int


@task
async def undo_with_defaults(what: str, scale: float) -> None:
    did.append(f"undo {what} {scale}")


@task(rollback=undo_with_defaults)
async def scaled(what: str, scale: float = 2.0) -> None: ...


async def test_an_argument_left_at_its_default_is_the_undos_too() -> None:
    await run(scaled("a"), run_name="it", store=store())
    await store().rollback("it")
    assert did == ["undo a 2.0"]


async def test_an_undo_says_what_the_result_is_that_it_takes() -> None:
    with pytest.raises(InvalidOption, match="its parameter result does not say what it is"):

        @task(rollback=undo_unannotated)
        async def pays(what: str) -> Receipt:
            return Receipt(number=7)


@task
async def undo_unannotated(what, result):  # type: ignore[no-untyped-def]
    ...


# what is found again when it has to run


async def test_options_that_are_on_no_record_are_refused_before_the_effect() -> None:
    @task
    async def root() -> None:
        await ctx().on_rollback(undo.with_options(retries=AT_ONCE), "a")
        did.append("do a")

    with pytest.raises(InvalidTask, match="its options are on no record"):
        await run(root(), run_name="it", store=store())
    with pytest.raises(InvalidTask, match="its options are on no record"):
        await run(do_or_else("a"), run_name="other", store=store())
    assert did == []


@task(rollback=undo.with_options(timeout=5))
async def do_or_else(what: str) -> None:
    did.append(f"do {what}")


undo_at_last = undo.with_options(name="undo_at_last", retries=AT_ONCE)


async def test_under_a_name_of_its_own_an_undo_keeps_its_options() -> None:
    @task
    async def root() -> None:
        await ctx().on_rollback(undo_at_last, "a")

    await run(root(), run_name="it", store=store())
    broken.add("a")
    with pytest.raises(RollbackIncomplete):
        await store().rollback("it")
    assert did == ["undo a", "undo a", "undo a"]


async def test_what_an_undo_closes_over_is_on_no_record_and_refused_before_the_effect() -> None:
    @task
    async def do_in_place(what: str) -> None:
        @task(name="undo_in_place")
        async def undo_in_place() -> None:
            did.append(f"undo {what}")

        await ctx().on_rollback(undo_in_place)
        did.append(f"do {what}")

    with pytest.raises(InvalidTask, match="closes over what"):
        await run(do_in_place("a"), run_name="it", store=store())
    assert did == []


@task(name="free")
async def free_seat() -> None:
    did.append("seat")


@task
async def reserves() -> None:
    await ctx().on_rollback(free_seat)


async def test_of_two_tasks_with_one_name_the_registered_function_is_the_undo() -> None:
    await run(reserves(), run_name="it", store=store())

    @task(name="free")
    async def free_memory() -> None: ...

    await store().rollback("it")
    assert did == ["seat"]
    assert free_memory.name == free_seat.name


# a rollback that goes on


async def test_what_an_undo_waits_for_it_waits_for_still_when_the_rollback_goes_on() -> None:
    state = Fold.of(
        [
            ActionAsked(action="root", task="t", at=0.0),
            AttemptStarted(action="root", number=0, epoch=1, at=0.0),
            UndoRegistered(action="root", attempt=0, name="undo", task="u", function="m:u", at=0.0),
            AttemptEnded(action="root", number=0, status=Status.CRASHED, then=Status.CRASHED, at=0.0),
            ActionEnded(action="root", then=Status.ROLLING_BACK, at=0.0),
            ActionAsked(action="undo", task="u", parent="root", at=0.0),
            AttemptStarted(action="undo", number=0, epoch=2, at=0.0),
            AttemptEnded(action="undo", number=0, status=Status.FAILED, then=Status.RETRYING, next_at=60.0, at=0.0),
        ]
    )
    assert list(rolling_back(state, "root", "t", None, 1.0)) == []


async def test_an_undo_that_undoes_itself_is_not_run_again_and_stays_on_the_list() -> None:
    await run(has_steps(), run_name="it", store=store())
    broken.add("steps")
    for _ in range(2):
        with pytest.raises(RollbackIncomplete, match="undo_steps"):
            await store().rollback("it")
    assert did == ["do x", "undo x"]


@task
async def undo_steps() -> None:
    await do("x")
    if "steps" in broken:
        raise ValueError("steps")


undo_or_nothing = undoing_itself(undo_steps)
make_known(undo_or_nothing.definition)


@task
async def has_steps() -> None:
    await ctx().on_rollback(undo_or_nothing)


async def test_undos_are_not_among_what_a_body_no_longer_asks_for() -> None:
    await run(own_first(), run_name="it", store=store())
    broken.add("stuck")
    with pytest.raises(RollbackIncomplete):
        await store().rollback("it")
    broken.add("changed")
    await run(own_first(), run_name="it", store=store())
    assert (await store().state("it")).orphaned == ()


# outside a run


async def test_outside_a_run_every_attempt_of_what_undoes_itself_is_undone() -> None:
    with pytest.raises(ConnectionError):
        await undoing_itself(does_twice)()
    assert did == ["do 0", "do 1", "undo 1", "undo 0"]


@task(retries=Retry(2, initial_interval=0))
async def does_twice() -> None:
    await do(str(ctx().attempt_number))
    raise ConnectionError


class Odd:
    """As an array is: equal to nothing that could be told."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


async def test_outside_a_run_undos_are_told_apart_whatever_they_are_called_with() -> None:
    with pytest.raises(ConnectionError):
        await undoing_itself(does_odd)()
    assert did == ["undo odd", "undo odd"]


@task
async def undo_odd(what: Any) -> None:
    did.append("undo odd")


@task
async def does_odd() -> None:
    await ctx().on_rollback(undo_odd, Odd())
    await ctx().on_rollback(undo_odd, Odd())
    raise ConnectionError


@task
async def cannot_be_stopped() -> None:
    await ctx().on_rollback(undo, "late")
    if begun.is_set():
        return
    begun.set()
    while not may_end.is_set():
        with suppress(asyncio.CancelledError):
            await may_end.wait()
    did.append("do late")
    ended.set()


begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()


async def test_what_could_not_be_stopped_when_its_run_was_taken_away_is_not_undone_while_it_may_act() -> None:
    for event in (begun, may_end, ended):
        event.clear()
    first = await start(cannot_be_stopped(), run_name="it", store=store(), grace=0.01)
    await begun.wait()
    await run(cannot_be_stopped(), run_name="it", store=store(), resume="takeover")
    with pytest.raises(RunFenced):
        await first.result()
    with pytest.raises(RollbackIncomplete, match="may still act in this process"):
        await store().rollback("it")
    assert did == []
    may_end.set()
    await ended.wait()
    await store().rollback("it")
    assert did == ["do late", "undo late"]
