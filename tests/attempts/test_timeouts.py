"""Timeouts of an attempt and of all attempts together, for both colours, and what becomes of a body that can't be stopped."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from holdfast import AttemptState, Retry, Status, Store, Timeout, ctx, run, task
from holdfast.errors import ActionEnded, AttemptAbandoned, TaskTimedOut
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.stores import memory_store

SHORT = 0.03
LONG = 30.0
AT_ONCE = Retry(2, initial_interval=0)

disk = MemoryDisk()
did: list[object] = []
release = threading.Event()
ended = threading.Event()


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    global disk
    disk = MemoryDisk()
    did.clear()
    release.clear()
    ended.clear()
    yield
    release.set()


def attempts_of(store: Store) -> tuple[AttemptState, ...]:
    root = store.state_sync("it").root
    assert root is not None
    return root.attempts


@task(timeout=SHORT)
async def hangs() -> None:
    await asyncio.Event().wait()


@task(timeout=SHORT)
def blocks() -> None:
    release.wait(LONG)


@task(timeout=SHORT, retries=AT_ONCE)
async def hangs_once() -> str:
    if ctx().attempt_number == 0:
        await asyncio.Event().wait()
    return f"in attempt {ctx().attempt_number}"


@task(timeout=SHORT, retries=AT_ONCE)
def blocks_once() -> str:
    if ctx().attempt_number == 0:
        release.wait(LONG)
    return f"in attempt {ctx().attempt_number}"


@pytest.mark.parametrize("call", [hangs.call, blocks.call], ids=["async", "def"])
def test_an_attempt_that_takes_too_long_is_TIMED_OUT_and_raises_a_TimeoutError(call: Callable[[], object]) -> None:
    store = memory_store(disk)
    with pytest.raises(TimeoutError) as caught:
        asyncio.run(run(call(), run_name="it", store=store))  # type: ignore[arg-type]
    assert isinstance(caught.value, TaskTimedOut)
    assert (caught.value.what, caught.value.seconds, caught.value.attempt) == ("attempt", SHORT, 0)
    state = store.state_sync("it")
    assert state.status is Status.TIMED_OUT
    assert [a.status for a in attempts_of(store)] == [Status.TIMED_OUT]
    assert isinstance(state.error, TaskTimedOut)


@pytest.mark.parametrize("call", [hangs_once.call, blocks_once.call], ids=["async", "def"])
def test_a_timed_out_attempt_is_retried_as_an_error_is(call: Callable[[], object]) -> None:
    store = memory_store(disk)
    assert asyncio.run(run(call(), run_name="it", store=store)) == "in attempt 1"  # type: ignore[arg-type]
    assert [a.status for a in attempts_of(store)] == [Status.TIMED_OUT, Status.COMPLETED]


@pytest.mark.parametrize(("call", "is_abandoned"), [(hangs.call, False), (blocks.call, True)], ids=["async", "def"])
def test_only_an_attempt_that_could_not_be_stopped_is_called_abandoned(call: Callable[[], object], is_abandoned: bool) -> None:
    store = memory_store(disk)
    with pytest.raises(TaskTimedOut):
        asyncio.run(run(call(), run_name="it", store=store))  # type: ignore[arg-type]
    assert [a.abandoned for a in attempts_of(store)] == [is_abandoned]


@task
async def quick(value: int) -> int:
    did.append(("quick", value))
    return value


VERBS: dict[str, Callable[[], object]] = {
    "now": lambda: ctx().now_sync(),
    "record": lambda: ctx().record_sync(lambda: 1),
    "progress": lambda: ctx().progress(),
    "save": lambda: ctx().checkpoint.save_sync(b"late"),
    "load": lambda: ctx().checkpoint.load_sync(),
    "call": lambda: quick.sync(1),
}


@task(timeout=SHORT, retries=AT_ONCE)
def abandoned_body(verb: str) -> str | None:
    if ctx().attempt_number == 0:
        release.wait(LONG)
        try:
            VERBS[verb]()
        except BaseException as error:
            did.append(type(error))
        else:
            did.append("no error")
        ended.set()
        return "a late outcome"
    release.set()
    assert ended.wait(LONG)
    loaded: bytes | None = ctx().checkpoint.load_sync(bytes)
    return None if loaded is None else loaded.decode()


@pytest.mark.parametrize("verb", VERBS)
def test_an_abandoned_attempt_is_told_so_and_leaves_nothing_behind(verb: str) -> None:
    store = memory_store(disk)
    assert asyncio.run(run(abandoned_body.call(verb), run_name="it", store=store)) is None
    assert did == [AttemptAbandoned]
    assert [(a.status, a.abandoned) for a in attempts_of(store)] == [(Status.TIMED_OUT, True), (Status.COMPLETED, False)]


@task(timeout=SHORT)
async def stubborn() -> None:
    while not release.is_set():
        try:
            await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            did.append("cancelled")
    try:
        await quick(1)
    except BaseException as error:
        did.append(type(error))
    ended.set()


def test_a_coroutine_that_will_not_end_is_abandoned_after_the_grace() -> None:
    store = memory_store(disk)

    async def main() -> None:
        with pytest.raises(TaskTimedOut):
            await run(stubborn(), run_name="it", store=store, grace=0.05)
        release.set()
        await asyncio.to_thread(ended.wait, LONG)

    asyncio.run(main())
    assert did == ["cancelled", AttemptAbandoned]
    assert [(a.status, a.abandoned) for a in attempts_of(store)] == [(Status.TIMED_OUT, True)]


@task(timeout=Timeout(total=0.15), retries=Retry(1000, initial_interval=0.02, backoff_factor=1.0, jitter=False))
async def always_fails() -> None:
    did.append(ctx().attempt_number)
    raise ValueError("again")


@task(timeout=Timeout(total=SHORT), retries=Retry(5, initial_interval=0))
async def hangs_in_all() -> None:
    did.append(ctx().attempt_number)
    await asyncio.Event().wait()


@task(timeout=Timeout(total=SHORT), retries=Retry(5, initial_interval=LONG, jitter=False))
async def waits_long() -> None:
    did.append(ctx().attempt_number)
    raise ValueError("again")


@pytest.mark.parametrize("body", [always_fails, hangs_in_all, waits_long], ids=["between attempts", "in an attempt", "in the backoff"])
def test_the_total_timeout_bounds_attempts_and_waits_together(body: Callable[[], object]) -> None:
    store = memory_store(disk)
    began = time.monotonic()
    with pytest.raises(TaskTimedOut) as caught:
        asyncio.run(run(body(), run_name="it", store=store))  # type: ignore[arg-type]
    assert caught.value.what == "total"
    assert time.monotonic() - began < LONG / 2
    assert store.state_sync("it").status is Status.TIMED_OUT
    assert len(did) >= 1


@task(timeout=Timeout(attempt=SHORT, total=LONG), retries=Retry(3, initial_interval=0))
async def hangs_each_time() -> None:
    did.append(ctx().attempt_number)
    await asyncio.Event().wait()


def test_where_both_are_given_the_shorter_one_ends_an_attempt() -> None:
    with pytest.raises(TaskTimedOut) as caught:
        asyncio.run(run(hangs_each_time(), run_name="it", store=memory_store(disk)))
    assert caught.value.what == "attempt"
    assert did == [0, 1, 2]


@task(timeout=Timeout(total=0.05))
async def bounded_child() -> str:
    did.append(("bounded", ctx().attempt_number))
    await ctx().now()
    images.append(disk.copy())
    await asyncio.Event().wait()
    return "never"


@task
async def parent_of_bounded() -> str:
    try:
        return await bounded_child()
    except TaskTimedOut as error:
        return f"{error.what} passed"


images: list[MemoryDisk] = []


def test_the_total_timeout_runs_on_through_a_crash() -> None:
    images.clear()
    assert asyncio.run(run(parent_of_bounded(), run_name="it", store=memory_store(disk))) == "total passed"
    # killed in the first attempt; by now its time has long passed
    assert asyncio.run(run(parent_of_bounded(), run_name="it", store=memory_store(images[0]))) == "total passed"
    assert did == [("bounded", 0)], "no attempt begins after the total timeout"


@task
async def inner() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        did.append("inner ended")


@task(timeout=SHORT)
async def outer() -> None:
    try:
        await inner()
    finally:
        did.append("outer ended")


def test_children_end_before_the_attempt_that_timed_out() -> None:
    store = memory_store(disk)
    with pytest.raises(TaskTimedOut):
        asyncio.run(run(outer(), run_name="it", store=store))
    assert did == ["inner ended", "outer ended"]
    child = next(a for a in store.state_sync("it").actions.values() if a.task_name.endswith("inner"))
    assert child.status is Status.CANCELLED


@task(timeout=SHORT)
async def saves_in_time() -> None:
    did.append(ctx())
    await asyncio.Event().wait()


def test_the_context_of_an_ended_attempt_is_of_no_more_use() -> None:
    async def main() -> None:
        with pytest.raises(TaskTimedOut):
            await run(saves_in_time(), run_name="it", store=memory_store(disk))
        left = did[0]
        with pytest.raises(ActionEnded):
            await left.now()  # type: ignore[attr-defined]
        with pytest.raises(ActionEnded):
            await left.checkpoint.save(b"late")  # type: ignore[attr-defined]

    asyncio.run(main())


def test_timeouts_and_retries_work_outside_a_run_too() -> None:
    assert asyncio.run(hangs_once()) == "in attempt 1"
    assert blocks_once() == "in attempt 1"
    with pytest.raises(TaskTimedOut):
        asyncio.run(hangs())
