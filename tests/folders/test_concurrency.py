"""Several processes, threads, loops and cancellations at one folder."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from holdfast.errors import StoreUnavailable
from holdfast.folders.disk import OsDisk
from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.opening import open_folder
from holdfast.folders.protocol import FileOnDisk
from holdfast.folders.threads import to_end

CREATES = 200

RACER = """
import sys
from holdfast.errors import ObjectExists
from holdfast.folders.disk import OsDisk
from holdfast.folders.local import LocalFolder
folder = LocalFolder(OsDisk(), sys.argv[1], "file:")
print("ready", flush=True)
sys.stdin.readline()
for n in range(int(sys.argv[3])):
    try:
        folder.create_sync(f"race/{n}", sys.argv[2].encode(), sync=False)
    except ObjectExists:
        continue
    print(n)
"""


def test_of_two_racing_processes_exactly_one_creates_each_object(tmp_path: Path) -> None:
    racers = {
        name: subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), name, str(CREATES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    }
    for racer in racers.values():
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers.values():
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = {name: {int(n) for n in racer.communicate()[0].split()} for name, racer in racers.items()}
    assert won["one"] | won["two"] == set(range(CREATES))
    assert not won["one"] & won["two"]
    folder = LocalFolder(OsDisk(), str(tmp_path), "file:")
    for name, numbers in won.items():
        assert all(folder.get_sync(f"race/{n}") == name.encode() for n in numbers)
    assert len(OsDisk().scan(str(tmp_path / "race"))) == CREATES


@pytest.mark.parametrize("place", ["path", "memory"])
def test_readers_never_see_a_part_of_an_object(place: str, tmp_path: Path) -> None:
    folder = open_folder(tmp_path if place == "path" else f"memory://{tmp_path.as_posix().replace('/', '-')}")
    values = (b"a" * 300_000, b"b" * 10)

    async def write() -> None:
        for n in range(200):
            await folder.put("a", values[n % 2], sync=False)

    async def read(writing: asyncio.Task[None]) -> None:
        while not writing.done():
            assert await folder.get("a") in values
            await asyncio.sleep(0)

    async def both() -> None:
        await folder.put("a", values[1])
        writing = asyncio.create_task(write())
        await asyncio.gather(writing, *(read(writing) for _ in range(3)))

    asyncio.run(both())


def test_one_folder_works_in_many_loops_and_threads(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)

    async def work(name: str) -> None:
        for n in range(10):
            await folder.put(f"{name}/{n}", name.encode(), sync=False)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: asyncio.run(work(name)), "abcd"))
    asyncio.run(work("e"))
    assert [len(asyncio.run(folder.list(name))) for name in "abcde"] == [10] * 5


class GatedDisk(MemoryDisk):
    """Its writes wait for leave."""

    def __init__(self, error: OSError | None = None) -> None:
        super().__init__()
        self.make_folder("/store")
        self.entered, self.leave = threading.Event(), threading.Event()
        self._error = error

    def write_new(self, path: str, data: bytes) -> FileOnDisk:
        self.entered.set()
        assert self.leave.wait(30)
        if self._error is not None:
            raise self._error
        return super().write_new(path, data)


async def few_rounds() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_cancelled_caller_waits_for_what_it_began() -> None:
    disk = GatedDisk()
    folder = LocalFolder(disk, "/store", "memory:")

    async def cancel() -> None:
        putting = asyncio.create_task(folder.put("a", b"whole"))
        await asyncio.to_thread(disk.entered.wait)
        for _ in range(3):  # however often
            putting.cancel()
            await few_rounds()
            assert not putting.done()
        disk.leave.set()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert folder.get_sync("a") == b"whole"

    asyncio.run(cancel())


def test_a_cancelled_caller_finds_the_failure_behind_the_cancellation() -> None:
    disk = GatedDisk(OSError(5, "broken"))
    folder = LocalFolder(disk, "/store", "memory:")

    async def cancel() -> None:
        putting = asyncio.create_task(folder.put("a", b"whole"))
        await asyncio.to_thread(disk.entered.wait)
        putting.cancel()
        await few_rounds()
        disk.leave.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await putting
        assert isinstance(caught.value.__cause__, StoreUnavailable)

    asyncio.run(cancel())


def test_a_cancelled_scope_waits_too() -> None:
    disk = GatedDisk()
    folder = LocalFolder(disk, "/store", "memory:")

    async def cancel() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(folder.put, "a", b"whole")
                await asyncio.to_thread(disk.entered.wait)
                scope.cancel()
                with anyio.CancelScope(shield=True):
                    await few_rounds()
                    disk.leave.set()
        assert scope.cancelled_caught
        assert folder.get_sync("a") == b"whole"

    asyncio.run(cancel())


def test_a_result_that_comes_with_the_cancellation_is_not_waited_for_twice() -> None:
    async def cancel() -> None:
        async def work() -> int:
            return 1

        task = asyncio.create_task(to_end(work()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await to_end(work()) == 1

    asyncio.run(cancel())
