"""SIGTERM and Ctrl-C in a real process: STOPPED within the grace, handlers restored, and the same line goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import Status, Store

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

TASKS = """
import asyncio, os, signal, sys, threading, time
import holdfast as hf
from holdfast import ctx, task

def say(*words):
    print(*words, flush=True)

@task
async def step(n: int) -> int:
    say("step", n)
    return n

@task
async def patient() -> str:
    await step(1)
    if not ctx().is_resumed:
        say("ready")
        await asyncio.Event().wait()
    return "finished"

@task
def watchful() -> str:
    step.sync(1)
    if not ctx().is_resumed:
        say("ready")
        while not ctx().stopping:
            time.sleep(0.005)
        say("saw stopping")
        ctx().checkpoint.save_sync(b"in time")
    return "finished"

@task
def deaf() -> str:
    step.sync(1)
    if not ctx().is_resumed:
        say("ready")
        threading.Event().wait(60)
    return "finished"

@task
async def returns_when_asked() -> str:
    say("ready")
    while not ctx().stopping:
        try:
            await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            pass
    return "returned in the grace"
"""


class Process:
    """A program that runs one task, and says when it is there."""

    def __init__(self, store: Path, program: str) -> None:
        source = textwrap.dedent(TASKS) + textwrap.dedent(program)
        self.popen = subprocess.Popen(
            [sys.executable, "-c", source, str(store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=store.parent
        )

    def until(self, line: str) -> list[str]:
        assert self.popen.stdout is not None
        seen: list[str] = []
        while seen[-1:] != [line]:
            read = self.popen.stdout.readline()
            assert read, f"it ended after {seen}: {self.popen.communicate()[1]}"
            seen.append(read.strip())
        return seen

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def end(self) -> tuple[list[str], str]:
        out, err = self.popen.communicate(timeout=60)
        return out.split("\n")[:-1], err


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for process in processes:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.communicate()


def program_of(verb: str, body: str, grace: float = 20) -> str:
    call = f"hf.run({body}.call(), run_name='it', store=sys.argv[1], grace={grace})"
    return {
        "asyncio.run": f"""
            try:
                say(asyncio.run({call}))
            except BaseException as error:
                say(type(error).__name__)
            say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        """,
        "run_sync": f"""
            try:
                say(hf.run_sync({body}.call(), run_name='it', store=sys.argv[1], grace={grace}))
            except BaseException as error:
                say(type(error).__name__)
            say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        """,
        "loop": f"""
            loop = asyncio.new_event_loop()
            try:
                say(loop.run_until_complete({call}))
            except BaseException as error:
                say(type(error).__name__)
            say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        """,
    }[verb]


@pytest.mark.parametrize(
    ("verb", "number", "raised"),
    [
        ("asyncio.run", signal.SIGTERM, "RunStopped"),
        ("asyncio.run", signal.SIGINT, "KeyboardInterrupt"),
        ("run_sync", signal.SIGTERM, "RunStopped"),
        ("run_sync", signal.SIGINT, "KeyboardInterrupt"),
        ("loop", signal.SIGTERM, "RunStopped"),
        ("loop", signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_a_signal_stops_the_run_and_the_same_line_goes_on(
    verb: str, number: signal.Signals, raised: str, tmp_path: Path, started: list[Process]
) -> None:
    store = tmp_path / "store"
    process = Process(store, program_of(verb, "patient"))
    started.append(process)
    process.until("ready")
    process.send(number)
    assert process.end()[0] == [raised, "True True"], "and handlers are as they were"
    state = Store(store).state_sync("it")
    assert {a.task_name.rpartition(":")[2]: a.status for a in state.actions.values()} == {
        "patient": Status.STOPPED,
        "step": Status.COMPLETED,
    }
    again = Process(store, program_of(verb, "patient"))
    started.append(again)
    assert again.end()[0] == ["finished", "True True"], "the step was not taken again"


def test_a_def_body_sees_stopping_and_ends_within_the_grace(tmp_path: Path, started: list[Process]) -> None:
    store = tmp_path / "store"
    process = Process(store, program_of("asyncio.run", "watchful"))
    started.append(process)
    process.until("ready")
    process.send(signal.SIGTERM)
    assert process.end()[0] == ["saw stopping", "finished", "True True"]
    state = Store(store).state_sync("it")
    assert state.status is Status.COMPLETED
    assert state.root is not None
    assert state.root.checkpoint is not None
    assert state.root.checkpoint.order == (1, 0, 0), "its save counts"


def test_a_body_that_returns_within_the_grace_completes_its_run(tmp_path: Path, started: list[Process]) -> None:
    process = Process(tmp_path / "store", program_of("asyncio.run", "returns_when_asked"))
    started.append(process)
    process.until("ready")
    process.send(signal.SIGTERM)
    assert process.end()[0] == ["returned in the grace", "True True"]


def test_a_thread_that_does_not_look_is_abandoned_after_the_grace_and_the_process_ends(tmp_path: Path, started: list[Process]) -> None:
    store = tmp_path / "store"
    process = Process(store, program_of("asyncio.run", "deaf", grace=0.2))
    started.append(process)
    process.until("ready")
    began = time.monotonic()
    process.send(signal.SIGTERM)
    assert process.end()[0] == ["RunStopped", "True True"]
    assert time.monotonic() - began < 20
    root = Store(store).state_sync("it").root
    assert root is not None
    assert [(a.status, a.abandoned) for a in root.attempts] == [(Status.STOPPED, True)]
    again = Process(store, program_of("asyncio.run", "deaf"))
    started.append(again)
    assert again.end()[0] == ["finished", "True True"]


@pytest.mark.parametrize("verb", ["asyncio.run", "loop"])
def test_a_second_ctrl_c_does_not_wait_for_the_grace(verb: str, tmp_path: Path, started: list[Process]) -> None:
    store = tmp_path / "store"
    process = Process(store, program_of(verb, "deaf", grace=50))
    started.append(process)
    process.until("ready")
    process.send(signal.SIGINT)
    time.sleep(0.3)  # two of the same signal at once are one to the system
    began = time.monotonic()
    process.send(signal.SIGINT)
    assert "KeyboardInterrupt" in process.end()[0]
    assert time.monotonic() - began < 20
    again = Process(store, program_of(verb, "deaf"))
    started.append(again)
    assert again.end()[0] == ["finished", "True True"]


OWN_HANDLERS = """
    seen = []
    signal.signal(signal.SIGTERM, lambda *_: seen.append("mine"))
    mine = signal.getsignal(signal.SIGTERM)

    @task
    async def signals_itself() -> list[str]:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        return seen

    say(asyncio.run(hf.run(signals_itself(), run_name="it", store=sys.argv[1])), signal.getsignal(signal.SIGTERM) is mine)
"""


def test_a_programs_own_handler_is_left_alone(tmp_path: Path, started: list[Process]) -> None:
    process = Process(tmp_path / "store", OWN_HANDLERS)
    started.append(process)
    assert process.end()[0] == ["['mine'] True"]


STARTED = """
    async def main():
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        async with await hf.start(step(1), run_name="it", store=sys.argv[1]) as handle:
            say(before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)))
        say(await hf.run(step(2), run_name="other", store=sys.argv[1], handle_signals=False))
    asyncio.run(main())
"""


def test_start_never_seizes_signals(tmp_path: Path, started: list[Process]) -> None:
    process = Process(tmp_path / "store", STARTED)
    started.append(process)
    assert process.end()[0] == ["True", "step 1", "step 2", "2"]
