"""Saves in the background: few wait, a newer one makes an older one needless, and nobody who asks for a certain one goes without."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Checkpoint, Retention, ctx, run, task
from holdfast.errors import HoldfastError, StoreFull, UnrecordableResult
from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.protocol import FileOnDisk
from holdfast.stores import Store
from holdfast.testing.stores import memory_store

Body = Callable[[Checkpoint], Awaitable[Any]]

body: Body


@task(keep=10)
async def works() -> Any:
    return await body(ctx().checkpoint)


@task(keep=Retention(1, every=2))
async def every_second() -> Any:
    return await body(ctx().checkpoint)


@task(keep=Retention(1, best=("loss", "min")))
async def best() -> Any:
    return await body(ctx().checkpoint)


class Slow:
    """A runner that holds back what is done to a disk until it is let through."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, operation: Callable[[], Any], /) -> Any:
        await self.gate.wait()
        return operation()


def perform(given: Callable[[Checkpoint, Slow], Awaitable[Any]], task: Any = works) -> Any:
    async def main() -> Any:
        slow = Slow()

        async def with_gate(checkpoint: Checkpoint) -> Any:
            return await given(checkpoint, slow)

        global body
        body = with_gate
        return await run(task(), run_name="it", store=Store.on(LocalFolder(MemoryDisk(), "/store", "memory:", run=slow)))

    return asyncio.run(main())


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def history(checkpoint: Checkpoint) -> list[Any]:
    return [found.metadata.get("n") for found in await checkpoint.history()]


def test_a_save_that_waits_is_passed_over_for_a_newer_one() -> None:
    async def saves(checkpoint: Checkpoint, slow: Slow) -> list[Any]:
        await checkpoint.save(b"first", metadata={"n": -1})
        slow.gate.clear()
        for n in range(20):
            await checkpoint.save(b"%d" % n, metadata={"n": n}, wait=False)
            await turns()
        slow.gate.set()
        assert await checkpoint.load(bytes) == b"19"
        return await history(checkpoint)

    assert perform(saves) == [-1, 0, 19], "the one that was being written, and the newest"


def test_what_retention_could_want_is_not_passed_over_and_the_body_waits_for_room() -> None:
    async def saves(checkpoint: Checkpoint, slow: Slow) -> tuple[bool, list[Any]]:
        slow.gate.clear()
        asked = 0

        async def many() -> None:
            nonlocal asked
            for n in range(1, 9):
                await checkpoint.save(b"%d" % n, metadata={"n": n}, wait=False)
                await turns()
                asked = n

        asking = asyncio.create_task(many())
        await turns(1000)
        # the 1st is being written; the 2nd and 4th wait, the 3rd was passed over, the 5th finds no room
        waits = not asking.done() and asked == 4
        slow.gate.set()
        await asking
        return waits, await history(checkpoint)

    waited, found = perform(saves, every_second)
    assert waited
    assert {2, 4, 6, 8} <= set(found)


def test_what_could_be_the_best_is_written() -> None:
    losses = [0.5, 0.1, 0.7, 0.7, 0.6]

    async def saves(checkpoint: Checkpoint, slow: Slow) -> list[Any]:
        for n, loss in enumerate(losses):
            await checkpoint.save(b"%d" % n, metadata={"n": n, "loss": loss}, wait=False)
        return await history(checkpoint)

    assert perform(saves, best) == [1, 4]


def test_flush_and_an_explicit_save_wait_for_all() -> None:
    async def saves(checkpoint: Checkpoint, slow: Slow) -> list[Any]:
        for n in range(2):
            await checkpoint.save(b"%d" % n, metadata={"n": n}, wait=False)
        await checkpoint.flush()
        assert (await checkpoint.history())[-1].metadata["n"] == 1
        await checkpoint.save(b"2", metadata={"n": 2}, wait=False)
        saved = await checkpoint.save(b"3", metadata={"n": 3})
        assert saved.order == (await checkpoint.history())[-1].order
        return (await history(checkpoint))[-2:]

    assert perform(saves) == [2, 3]


def test_saves_are_written_in_the_order_in_which_they_were_asked_for(tmp_path: Path) -> None:
    for n in range(30):
        (tmp_path / f"{n}").write_bytes(b"x")

    async def saves(checkpoint: Checkpoint, _: Slow) -> None:
        first = asyncio.ensure_future(checkpoint.save(tmp_path, wait=False, metadata={"n": 1}))
        await asyncio.sleep(0)  # its copy is being taken
        await checkpoint.save(b"second", metadata={"n": 2})
        await first
        assert await history(checkpoint) == [1, 2]

    perform(saves)


def test_copies_of_the_attempts_own_directory_are_not_made_in_it() -> None:
    async def saves(checkpoint: Checkpoint, slow: Slow) -> None:
        (checkpoint.path / "x").write_bytes(b"1")
        slow.gate.clear()
        await checkpoint.save(checkpoint.path, wait=False)
        await turns()
        await checkpoint.save(checkpoint.path, wait=False)
        slow.gate.set()
        found = await checkpoint.load()
        assert found is not None
        assert [path.name for path in found.rglob("*")] == ["x"]

    perform(saves)


def test_copies_are_made_for_those_that_wait_and_go_with_them(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()

    async def saves(checkpoint: Checkpoint, slow: Slow) -> None:
        most = 0
        slow.gate.clear()
        for n in range(10):
            (source / "weights").write_bytes(b"%d" % n)
            await checkpoint.save(source, wait=False)
            await turns()
            most = max(most, len([path for path in checkpoint.path.iterdir() if path.name.startswith("copy")]))
        slow.gate.set()
        loaded = await checkpoint.load()
        assert loaded is not None
        assert (loaded / "weights").read_bytes() == b"9"
        assert most <= 3
        assert not [path for path in checkpoint.path.iterdir() if path.name.startswith("copy")]

    perform(saves)


def test_what_can_not_be_saved_does_not_take_the_place_of_what_waits(tmp_path: Path) -> None:
    async def saves(checkpoint: Checkpoint, slow: Slow) -> None:
        slow.gate.clear()
        for n in range(2):
            await checkpoint.save(b"%d" % n, wait=False)
            await turns()
        with pytest.raises(UnrecordableResult):
            await checkpoint.save(object(), wait=False)
        with pytest.raises((OSError, HoldfastError)):
            await checkpoint.save(tmp_path / "nothing here", wait=False)
        slow.gate.set()
        assert await checkpoint.load(bytes) == b"1"

    perform(saves)


class Refusing:
    """A disk that has no space for blobs while `is_on`."""

    def __init__(self) -> None:
        self._inner = MemoryDisk()
        self._waiting: list[asyncio.Event] = []
        self.is_on = False
        self.refused = 0

    def next_refusal(self) -> asyncio.Event:
        """Set when the disk, which works on this loop, next refuses something. What is done in threads before that takes its time."""
        refused = asyncio.Event()
        self._waiting.append(refused)
        return refused

    def write_new(self, path: str, data: bytes) -> FileOnDisk:
        if self.is_on and "/blobs/" in path:
            self.refused += 1
            while self._waiting:
                self._waiting.pop().set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return self._inner.write_new(path, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


LARGE = os.urandom(200_000)


def perform_on(disk: Refusing, given: Body) -> Any:
    global body
    body = given
    return asyncio.run(run(works(), run_name="it", store=memory_store(disk)))  # type: ignore[arg-type]


def test_a_failure_is_told_once_and_what_comes_after_is_saved() -> None:
    disk = Refusing()

    async def saves(checkpoint: Checkpoint) -> bytes | None:
        disk.is_on = True
        await checkpoint.save(LARGE, wait=False)
        with pytest.raises(StoreFull):
            await checkpoint.flush()
        await checkpoint.flush()
        refused = disk.next_refusal()
        await checkpoint.save(LARGE, wait=False)
        await refused.wait()
        await turns()  # until the writer has it
        with pytest.raises(StoreFull):
            await checkpoint.save(b"is told of it", wait=False)
        disk.is_on = False
        await checkpoint.save(b"after", wait=False)
        return await checkpoint.load(bytes)

    assert perform_on(disk, saves) == b"after"


@pytest.mark.parametrize("last", [b"good", LARGE])
def test_an_attempt_fails_at_its_end_only_if_its_last_save_failed(last: bytes) -> None:
    disk = Refusing()

    async def saves(checkpoint: Checkpoint) -> str:
        disk.is_on = True
        await checkpoint.save(LARGE, wait=False)
        await asyncio.sleep(0)  # it is being written
        await checkpoint.save(last, wait=False)
        return "returned"

    if last is LARGE:
        with pytest.raises(StoreFull):
            perform_on(disk, saves)
    else:
        assert perform_on(disk, saves) == "returned"
        assert disk.refused
