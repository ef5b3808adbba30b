"""One owner at a time: others are told who it is, may take over, and then it is the old one that fails. Full disks come and go."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from holdfast import Status, Store, ctx, run, start, task
from holdfast.errors import RunBusy, RunFenced, StoreFull
from holdfast.folders.memory import MemoryDisk
from holdfast.testing import FullDisk, Ledger, memory_store

PROGRAM = Path(__file__).with_name("owner_program.py")
ledger = Ledger()
gates: dict[str, asyncio.Event] = {}


@task
async def step(n: int) -> int:
    ledger.ran(f"step {n}")
    return n


@task
async def gated() -> int:
    """Two steps, with a wait between them; an owner that was fenced meanwhile must not get the second one recorded."""
    first = await step(1)
    gates["reached"].set()
    await gates["open"].wait()
    return first + await step(2)


@task
async def stubborn() -> bytes | None:
    """The first owner's body does not let itself be cancelled, and saves when the second owner's body is under way."""
    await step(1)
    if ctx().fencing_token < "0000000002":
        gates["reached"].set()
        while not gates["open"].is_set():
            try:
                await gates["open"].wait()
            except asyncio.CancelledError:
                continue
        try:
            await ctx().checkpoint.save(b"late")
        finally:
            gates["saved"].set()
        await step(2)
    gates["open"].set()
    await gates["saved"].wait()
    return await ctx().checkpoint.load(bytes)


@task
async def many(count: int) -> int:
    total = 0
    for n in range(count):
        total += await step(n)
        await ctx().checkpoint.save(b"x" * 2000)
    return total


def new_gates() -> None:
    gates.update(reached=asyncio.Event(), open=asyncio.Event(), saved=asyncio.Event())


# in one process


def test_a_second_run_of_one_name_in_this_process_is_told_who_is_at_work() -> None:
    async def twice() -> None:
        new_gates()
        store = memory_store()
        async with await start(gated(), run_name="r", store=store) as handle:
            await gates["reached"].wait()
            with pytest.raises(RunBusy) as caught:
                await run(gated(), run_name="r", store=store)
            assert (caught.value.pid, caught.value.host) == (os.getpid(), platform.node())
            assert "resume='takeover'" in str(caught.value)
            gates["open"].set()
            assert await handle.result() == 3
        assert await run(gated(), run_name="r", store=store) == 3

    asyncio.run(twice())


def test_a_take_over_fences_the_live_owner_and_nothing_that_it_does_later_is_read() -> None:
    async def take_over() -> None:
        new_gates()
        ledger.clear()
        store = memory_store()
        old = await start(gated(), run_name="r", store=store)
        await gates["reached"].wait()
        gates["open"].set()
        assert await run(gated(), run_name="r", store=store, resume="takeover") == 3
        with pytest.raises(RunFenced):
            await old.result()
        state = await store.state("r")
        assert state.status is Status.COMPLETED
        assert state.result == 3
        assert [attempt.status for attempt in state.root.attempts] == [Status.CRASHED, Status.COMPLETED]
        assert (ledger.times("step 1"), ledger.times("step 2") <= 2) == (1, True)

    asyncio.run(take_over())


def test_what_an_owner_that_does_not_hear_of_its_end_saves_is_never_loaded() -> None:
    async def take_over() -> None:
        new_gates()
        store = memory_store()
        old = await start(stubborn(), run_name="r", store=store)
        await gates["reached"].wait()
        assert await run(stubborn(), run_name="r", store=store, resume="takeover") is None
        with pytest.raises(RunFenced):
            await old.result()
        state = await store.state("r")
        assert [attempt.status for attempt in state.root.attempts] == [Status.CRASHED, Status.COMPLETED]
        assert len(state.actions) == 2, "the old owner's second step is no part of the run"

    asyncio.run(take_over())


# full disks


@pytest.mark.parametrize("room", [5_000, 6_000, 7_500, 9_000, 12_000, 20_000])
def test_a_run_on_a_full_disk_fails_as_such_and_the_same_line_finishes_it_when_there_is_space(room: int) -> None:
    async def fill() -> None:
        ledger.clear()
        disk = FullDisk(MemoryDisk(), after_bytes=room)
        store = memory_store(disk)
        with pytest.raises(StoreFull, match="free some space"):
            await run(many(20), run_name="r", store=store)
        disk.free()
        done = ledger.times("step 0")
        assert await run(many(20), run_name="r", store=store) == sum(range(20))
        state = await store.state("r")
        assert state.status is Status.COMPLETED
        assert ledger.times("step 0") == max(done, 1), "what was recorded did not run again"

    asyncio.run(fill())


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """512 KiB of real space."""
    place = tmp_path / "tiny"
    place.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root mounts a tmpfs")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not possible here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_run_on_a_really_full_disk_finishes_when_there_is_space(tiny: Path) -> None:
    async def fill() -> None:
        ledger.clear()
        filler = tiny / "filler"
        filler.write_bytes(bytes(490_000))
        with pytest.raises(StoreFull):
            await run(many(40), run_name="r", store=tiny / "store")
        before = len(ledger.entries)
        assert before
        filler.unlink()
        assert await run(many(40), run_name="r", store=tiny / "store") == sum(range(40))
        assert len(ledger.entries) <= 40 + 1, "at most the step in flight ran again"

    asyncio.run(fill())


# between processes


@contextmanager
def program(store: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(PROGRAM), str(store), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def said(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()


def test_another_process_is_told_host_process_and_start(tmp_path: Path) -> None:
    with program(tmp_path, "wait") as owner:
        assert said(owner.stdout) == "began"
        with program(tmp_path, "finish") as other:
            answer = said(other.stdout)
        assert re.match(rf"RunBusy: .* by process {owner.pid} on {re.escape(platform.node())} since 2\d\d\d-", answer), answer
        assert Store(tmp_path).state_sync("contended").owner == "live"
        tell(owner)
        assert said(owner.stdout) == "wait 3"
    with program(tmp_path, "finish") as other:
        assert said(other.stdout) == "wait 3"


def test_an_owner_in_another_process_is_fenced_by_a_take_over(tmp_path: Path) -> None:
    taking = PROGRAM.read_text(encoding="utf-8").replace("store=STORE", "store=STORE, resume='takeover'")
    taker = tmp_path / "owner_program.py"
    taker.write_text(taking, encoding="utf-8")
    with program(tmp_path / "store", "wait") as owner:
        assert said(owner.stdout) == "began"
        command = [sys.executable, str(taker), str(tmp_path / "store"), "finish"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "finish 3"
        tell(owner)
        assert said(owner.stdout).startswith("RunFenced: ")
    with program(tmp_path / "store", "finish") as other:
        assert said(other.stdout) == "finish 3"


def test_a_killed_owner_is_gone_at_once(tmp_path: Path) -> None:
    with program(tmp_path, "wait") as owner:
        assert said(owner.stdout) == "began"
        owner.kill()
        owner.wait()
    state = Store(tmp_path).state_sync("contended")
    assert (state.status, state.owner) == (Status.CRASHED, "gone")
    with program(tmp_path, "finish") as other:
        assert said(other.stdout) == "finish 3"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_does_not_keep_a_dead_owner_alive(tmp_path: Path) -> None:
    with program(tmp_path, "fork") as owner:
        assert said(owner.stdout) == "began"
        owner.kill()
        owner.wait()
        with program(tmp_path, "finish") as other:
            assert said(other.stdout) == "finish 3"
