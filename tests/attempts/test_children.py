"""An attempt ends after its children; an action in flight is joined; what can't be stopped counts for nothing."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from turns import until

from holdfast import Retry, RunState, Status, Store, ctx, run, start, task
from holdfast.errors import ActionEnded, LeftRunning, RunStopped
from holdfast.events import AttemptEnded
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.clocks import no_backoff
from holdfast.testing.stores import memory_store

disk = MemoryDisk()
did: list[object] = []
began: list[int] = []
release = threading.Event()
gate = asyncio.Event()


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    global disk, gate
    disk, gate = MemoryDisk(), asyncio.Event()
    did.clear()
    began.clear()
    release.clear()
    yield
    release.set()


def statuses(state: RunState) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for action in state.actions.values():
        found.setdefault(action.task_name.rpartition(":")[2], []).append(action.status.value)
    return found


class Ends:
    """Observes in which order attempts end."""

    def __init__(self) -> None:
        self.order: list[tuple[str, str]] = []

    def on_event(self, event: object) -> None:
        if isinstance(event, AttemptEnded):
            self.order.append((event.action, event.status.value))


@task
async def child(number: int = 0) -> int:
    began.append(number)
    await gate.wait()
    did.append(("child", number))
    return number


@task
async def leaves_one() -> str:
    left = asyncio.create_task(child())  # noqa: RUF006, F841 - left on purpose
    await until(lambda: began == [0])
    asyncio.get_running_loop().call_later(0.01, gate.set)
    return "returned"


def test_leftovers_are_awaited_on_return_with_a_warning_that_names_them() -> None:
    ends = Ends()
    with pytest.warns(LeftRunning, match=r"leaves_one returned while .*test_children:child"):
        assert asyncio.run(run(leaves_one(), run_name="it", store=memory_store(disk), observers=[ends])) == "returned"
    state = memory_store(disk).state_sync("it")
    assert statuses(state) == {"leaves_one": ["COMPLETED"], "child": ["COMPLETED"]}
    assert state.root is not None
    assert [name for name, _ in ends.order] == [*state.root.children, state.root.action.name], "the child's end comes first"
    assert any("leaves_one returned" in text for text in state.warnings)


@task(retries=1)
async def fails_beside_one() -> str:
    beside = asyncio.create_task(child())
    await until(lambda: len(began) == 1 + ctx().attempt_number)
    if ctx().attempt_number == 0:
        raise ConnectionError("while a child ran")
    gate.set()
    await beside
    return "second try"


def test_children_are_cancelled_and_awaited_when_their_attempt_fails_and_run_anew_in_the_next() -> None:
    ends = Ends()
    with no_backoff():
        result = asyncio.run(run(fails_beside_one(), run_name="it", store=memory_store(disk), observers=[ends]))
    assert result == "second try"
    assert [status for _, status in ends.order] == ["CANCELLED", "FAILED", "COMPLETED", "COMPLETED"]
    assert did == [("child", 0)]


@task
async def stubborn(number: int) -> str:
    did.append(("stubborn", ctx().attempt_number))
    while ctx().attempt_number == 0 and not release.is_set():
        try:
            await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            did.append("will not end")
    return f"attempt {ctx().attempt_number}"


@task(retries=Retry(2, initial_interval=0))
async def fails_beside_a_stubborn_one() -> str:
    beside = asyncio.create_task(stubborn(1))
    await until(lambda: ("stubborn", ctx().attempt_number) in did)
    if ctx().attempt_number == 0:
        raise ConnectionError("while a child ran")
    return await beside


def test_a_child_that_will_not_end_is_abandoned_after_the_grace_and_a_later_try_does_not_wait_for_it() -> None:
    async def main() -> str:
        result = await asyncio.wait_for(run(fails_beside_a_stubborn_one(), run_name="it", store=memory_store(disk), grace=0.05), 20)
        release.set()
        return result

    assert asyncio.run(main()) == "attempt 1"
    state = memory_store(disk).state_sync("it")
    found = next(a for a in state.actions.values() if "stubborn" in a.task_name and "beside" not in a.task_name)
    assert [(a.status, a.abandoned) for a in found.attempts] == [(Status.CANCELLED, True), (Status.COMPLETED, False)]


@task
def blocks() -> str:
    did.append("blocks")
    release.wait(20)
    return "too late"


@task(timeout=0.05)
def waits_for_a_blocking_child() -> str:
    return blocks()


def test_a_def_parent_and_its_def_child_both_end_when_the_parent_times_out() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(run(waits_for_a_blocking_child.call(), run_name="it", store=memory_store(disk), grace=0.05))
    assert statuses(memory_store(disk).state_sync("it")) == {"waits_for_a_blocking_child": ["TIMED_OUT"], "blocks": ["CANCELLED"]}


@task
async def starts_a_helper() -> str:
    async def helper() -> None:
        await gate.wait()
        try:
            await child(1)
        except ActionEnded as error:
            did.append(type(error))

    did.append(asyncio.create_task(helper()))
    return "returned"


def test_a_call_from_an_ended_attempts_context_is_refused() -> None:
    async def main() -> None:
        await run(starts_a_helper(), run_name="it", store=memory_store(disk))
        helper = did[0]
        assert isinstance(helper, asyncio.Task)
        gate.set()
        await helper

    asyncio.run(main())
    assert did[1:] == [ActionEnded]
    assert statuses(memory_store(disk).state_sync("it")) == {"starts_a_helper": ["COMPLETED"]}


@task
async def gathers() -> list[int]:
    return await asyncio.gather(*(child(n) for n in range(3)))


@task
async def cancels_one_of_several() -> list[object]:
    calls = [asyncio.create_task(child(n)) for n in range(3)]
    await until(lambda: len(began) == 3)
    calls[1].cancel()
    gate.set()
    return [type(r).__name__ if isinstance(r, BaseException) else r for r in await asyncio.gather(*calls, return_exceptions=True)]


def test_cancelling_one_call_leaves_its_siblings_alone() -> None:
    assert asyncio.run(run(cancels_one_of_several(), run_name="it", store=memory_store(disk))) == [0, "CancelledError", 2]
    assert sorted(statuses(memory_store(disk).state_sync("it"))["child"]) == ["CANCELLED", "COMPLETED", "COMPLETED"]


def test_a_stop_ends_children_before_parents_and_all_of_them_as_STOPPED() -> None:
    ends = Ends()

    async def main() -> None:
        handle = await start(gathers(), run_name="it", store=memory_store(disk), observers=[ends])
        await until(lambda: len(began) == 3)
        await handle.stop()
        with pytest.raises(RunStopped):
            await handle.result()

    asyncio.run(main())
    assert [status for _, status in ends.order] == ["STOPPED"] * 4
    state = memory_store(disk).state_sync("it")
    assert state.root is not None
    assert ends.order[-1][0] == state.root.action.name


@task
async def saves_behind() -> str:
    await ctx().checkpoint.save(b"state", wait=False)
    return "done"


def test_what_an_attempt_still_writes_is_written_before_its_end() -> None:
    asyncio.run(run(saves_behind(), run_name="it", store=memory_store(disk)))
    state = memory_store(disk).state_sync("it")
    assert state.root is not None
    assert state.root.checkpoint is not None
    assert state.root.checkpoint.order == (1, 0, 0)


@task
async def small() -> str:
    await asyncio.sleep(0)
    return "done"


async def calls_after(turns: int) -> str:
    for _ in range(turns):
        await asyncio.sleep(0)
    return await small()


@task(timeout=20)
async def leaves_a_stray_task_behind(turns: int) -> str:
    did.append(asyncio.create_task(calls_after(turns)))
    return "x" * 100_000


@pytest.mark.parametrize("turns", range(1, 10))
def test_a_stray_task_begins_nothing_that_outlives_its_attempt(turns: int, tmp_path: Path) -> None:
    async def main() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeftRunning)
            await run(leaves_a_stray_task_behind(turns), run_name="it", store=tmp_path)
        await asyncio.wait({did[0]})  # type: ignore[type-var]

    asyncio.run(main())
    result = did[0].exception() or did[0].result()  # type: ignore[attr-defined]
    found = [action.status for action in Store(tmp_path).state_sync("it").actions.values()]
    assert found == ([Status.COMPLETED, Status.COMPLETED] if result == "done" else [Status.COMPLETED])
    assert result == "done" or isinstance(result, ActionEnded)
