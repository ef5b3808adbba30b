"""How a run ends early by other ways than being asked: exits, scopes of anyio, warnings made errors, a journal that is lost."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from turns import until

from holdfast import Status, ctx, run, start, task
from holdfast.errors import LeftRunning, RunFenced, StoreError
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.protocol import Disk, FileOnDisk
from holdfast.testing.stores import memory_store

disk = MemoryDisk()
did: list[Any] = []
gate = asyncio.Event()


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk, gate
    disk, gate = MemoryDisk(), asyncio.Event()
    did.clear()


@task
async def step(number: int) -> int:
    did.append(("step", number))
    return number


@task
async def waits(number: int) -> int:
    did.append(("waits", number))
    await gate.wait()
    return number


@task
async def exits(how: str) -> None:
    did.append(("exits", ctx().attempt_number))
    if ctx().attempt_number == 0:
        raise {"SystemExit": SystemExit(3), "KeyboardInterrupt": KeyboardInterrupt()}[how]


@task
async def has_a_child_that_exits(how: str) -> str:
    beside = asyncio.create_task(waits(1))
    await until(lambda: ("waits", 1) in did)
    await exits(how)
    await beside
    return "done"


def test_an_exit_in_a_child_stops_the_run_with_all_that_is_in_flight_and_goes_on_from_there() -> None:
    async def main() -> None:
        await run(has_a_child_that_exits("SystemExit"), run_name="it", store=memory_store(disk))

    with pytest.raises(SystemExit) as caught:
        asyncio.run(main())
    assert caught.value.code == 3
    assert {a.status for a in memory_store(disk).state_sync("it").actions.values()} == {Status.STOPPED}
    gate.set()
    assert asyncio.run(run(has_a_child_that_exits("SystemExit"), run_name="it", store=memory_store(disk))) == "done"


@task
async def many() -> list[int]:
    return await asyncio.gather(step(1), waits(2))


def test_a_cancel_scope_of_anyio_around_a_run_stops_it() -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancels() -> None:
                    await until(lambda: len(did) == 2)
                    scope.cancel()

                tasks.start_soon(cancels)
                await run(many(), run_name="it", store=memory_store(disk))
        assert scope.cancelled_caught

    asyncio.run(main())
    assert memory_store(disk).state_sync("it").status is Status.STOPPED
    gate.set()
    assert asyncio.run(run(many(), run_name="it", store=memory_store(disk))) == [1, 2]
    assert did.count(("step", 1)) == 1


@task
async def leaves_one() -> str:
    left = asyncio.create_task(waits(1))
    await until(lambda: ("waits", 1) in did)
    did.append(left)
    return "returned"


@pytest.mark.filterwarnings("error::holdfast.errors.LeftRunning")
def test_a_warning_made_an_error_fails_the_attempt_like_any_error_of_its_body() -> None:
    with pytest.raises(LeftRunning):
        asyncio.run(run(leaves_one(), run_name="it", store=memory_store(disk)))
    state = memory_store(disk).state_sync("it")
    assert state.status is Status.FAILED
    assert sorted(a.status for a in state.actions.values()) == [Status.CANCELLED, Status.FAILED]


class Failing:
    """A disk that takes no more of a journal once it is told to."""

    def __init__(self, inner: MemoryDisk) -> None:
        self._inner = inner
        self.is_on = False

    def write_new(self, path: str, data: bytes) -> FileOnDisk:
        self._refuse(path)
        return self._inner.write_new(path, data)

    def open_append(self, path: str) -> Any:
        return FailingFile(self, path, self._inner.open_append(path))

    def _refuse(self, path: str) -> None:
        if self.is_on and "journal" in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class FailingFile:
    def __init__(self, disk: Failing, path: str, file: FileOnDisk) -> None:
        self._disk = disk
        self._path = path
        self._file = file

    def append(self, data: bytes) -> None:
        self._disk._refuse(self._path)
        self._file.append(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@task
async def loses_its_journal() -> list[int]:
    found = [await step(1)]
    if failing is not None:
        failing.is_on = True
    found.append(await step(2))
    did.append("went on")
    return found


failing: Failing | None = None


def perform(on: Disk) -> Any:
    return asyncio.run(run(loses_its_journal(), run_name="it", store=memory_store(on), grace=1))


def test_a_run_whose_journal_is_lost_raises_that_acknowledges_nothing_more_and_can_be_gone_on_with() -> None:
    global failing
    failing = Failing(disk)
    with pytest.raises(StoreError):
        perform(failing)  # type: ignore[arg-type]
    assert did == [("step", 1), ("step", 2)], "step 2 ran, and its outcome was given to nobody"
    assert memory_store(disk).state_sync("it").status is Status.CRASHED
    failing = None
    assert perform(disk) == [1, 2]
    assert did == [("step", 1), ("step", 2), ("step", 2), "went on"]


def test_an_owner_that_was_fenced_raises_it_and_the_new_owner_ends_the_run() -> None:
    async def main() -> list[int]:
        handle = await start(many(), run_name="it", store=memory_store(disk), grace=1)
        await until(lambda: len(did) == 2)
        taken = await start(many(), run_name="it", store=memory_store(disk), resume="takeover")
        await until(lambda: did.count(("waits", 2)) == 2)
        with pytest.raises(RunFenced):
            await handle.result()
        gate.set()
        return await taken.result()

    assert asyncio.run(main()) == [1, 2]
    statuses = [a.status for action in memory_store(disk).state_sync("it").actions.values() for a in action.attempts]
    assert statuses.count(Status.COMPLETED) == 3, "one outcome of each action, whoever ran it"
    assert statuses.count(Status.CRASHED) >= 1, "what the fenced owner left was ended by the new one"


class CancelsInTheSync:
    """An observer of nothing: a disk that cancels a task in the very write that makes its outcome durable."""

    def __init__(self, inner: MemoryDisk, word: bytes) -> None:
        self._inner = inner
        self._word = word
        self.then: Callable[[], None] = lambda: None

    def open_append(self, path: str) -> Any:
        return CancellingFile(self, self._inner.open_append(path))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class CancellingFile:
    def __init__(self, disk: CancelsInTheSync, file: FileOnDisk) -> None:
        self._disk = disk
        self._file = file

    def append(self, data: bytes) -> None:
        if self._disk._word in data:
            self._disk.then()
        self._file.append(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@task
async def cancels_while_syncing() -> str:
    call = asyncio.create_task(step(77))
    loop = asyncio.get_running_loop()
    cancelling.then = lambda: (asyncio.run_coroutine_threadsafe(cancel(call), loop).result(), None)[1]
    try:
        await call
    except asyncio.CancelledError:
        did.append("cancelled")
    return "done"


async def cancel(call: asyncio.Task[Any]) -> None:
    call.cancel()


cancelling = CancelsInTheSync(disk, b"")


def test_a_caller_cancelled_while_its_outcome_is_synced_is_cancelled_after_it_is_durable() -> None:
    global cancelling
    cancelling = CancelsInTheSync(disk, b'"value":77')
    assert asyncio.run(run(cancels_while_syncing(), run_name="it", store=memory_store(cancelling))) == "done"  # type: ignore[arg-type]
    assert did == [("step", 77), "cancelled"]
    child = next(a for a in memory_store(disk).state_sync("it").actions.values() if "step" in a.task_name)
    assert child.status is Status.COMPLETED
