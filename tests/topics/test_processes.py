"""Real processes: two send at once to two receivers in a third, which is killed with a value in its hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from servers.fixtures import Server

from holdfast import Status, Store

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("receiver_program.py")
PATIENCE = 60.0
ROUNDS = 4
#: Seconds in which an owner in an object store has to give a sign of life.
LEASE = 2.0
VALUES = [f"{who}{number}" for who in "xy" for number in range(ROUNDS)]


class Process:
    """A part of the play. What it says is read by a thread, so that nobody waits for ever."""

    def __init__(self, store: dict[str, Any], *part: str) -> None:
        command = [sys.executable, "-W", "error", str(PROGRAM), *part]
        environment = {**os.environ, "STORE": json.dumps(store)}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self._said: Queue[str] = Queue()
        self.lines: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line.strip())
        self._said.put("ended")

    def hear(self, beginning: str) -> str:
        """Return the next line that begins so."""
        while True:
            line = self._said.get(timeout=PATIENCE)
            self.lines.append(line)
            if line.startswith(beginning):
                return line
            assert line != "ended", self.lines

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        while self.lines[-1:] != ["ended"]:
            self.lines.append(self._said.get(timeout=PATIENCE))

    def terminate(self) -> None:
        self._process.terminate()

    def let_go(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Stage:
    """Where the play is given: one store, and processes that go when it is over."""

    def __init__(self, store: dict[str, Any]) -> None:
        self.where = store
        self._parts: list[Process] = []

    def begin(self, *part: str) -> Process:
        self._parts.append(Process(self.where, *part))
        return self._parts[-1]

    @property
    def store(self) -> Store:
        where = dict(self.where)
        return Store(where.pop("url"), **where)

    def let_go(self) -> None:
        for part in self._parts:
            part.let_go()


@pytest.fixture(params=["file", "moto"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Stage]:
    if request.param == "file":
        made = Stage({"url": str(tmp_path / "store")})
    else:
        moto: Server = request.getfixturevalue("moto")
        made = Stage({"url": f"{moto.url}/{tmp_path.name}", **moto.options, "lease": LEASE})
    try:
        yield made
    finally:
        made.let_go()


def test_two_senders_two_receivers_and_a_kill_between_a_value_and_the_next_line(stage: Stage) -> None:
    first = stage.begin("own", "auto", "3")
    for _ in range(2):
        first.hear("waits for work")
    senders = [stage.begin("send", who) for who in "xy"]
    first.hear("stands still")
    first.kill()  # three values were taken, and at most two acted on
    for sender in senders:
        sender.hear("sent")
    second = stage.begin("own", "auto", "0")
    result: list[list[str]] = json.loads(second.hear("result ").removeprefix("result "))

    assert sorted(result[0] + result[1]) == VALUES, "each value went to one receiver"
    for who in "xy":
        for got in result:
            mine = [value for value in got if value[0] == who]
            assert mine == sorted(mine), "in the order in which it was sent"
    received = {line for line in first.lines if " received " in line}
    assert len(received) == 3
    assert received <= set(second.lines), "what a body saw, it sees again"
    known = {line.removeprefix("knows ") for line in first.lines if line.startswith("knows ")}
    acted = [line.removeprefix("acts ") for line in second.lines if line.startswith("acts ")]
    assert not known & set(acted), "what was known is not done again"
    assert len(acted) == len(set(acted))
    done = {line.removeprefix("acts ") for line in first.lines if line.startswith("acts ")} | set(acted)
    assert sorted(done) == VALUES, "everything was acted on"


def test_another_process_sees_that_a_run_awaits_input_and_that_its_owner_is_gone(stage: Stage) -> None:
    owner = stage.begin("own", "auto", "0")
    for _ in range(2):
        owner.hear("waits for work")
    store = stage.store
    try:
        state = store.state_sync("it")
        assert state.status is Status.RUNNING, "it waits for its receivers, and they for values"
        by_task: dict[str, set[Status]] = {}
        for action in state.actions.values():
            by_task.setdefault(action.task_name.rpartition(":")[2], set()).add(action.status)
        assert by_task == {"main": {Status.RUNNING}, "receiver": {Status.AWAITING_INPUT}, "receive": {Status.AWAITING_INPUT}}
        owner.kill()
        assert store.state_sync("it").status is Status.CRASHED
    finally:
        store.aclose_sync()


@pytest.mark.parametrize("how", ["SIGTERM", "Store.stop"])
def test_a_run_that_waits_stops_when_it_is_asked_to_and_goes_on_waiting(tmp_path: Path, how: str) -> None:
    stage = Stage({"url": str(tmp_path / "store")})
    try:
        first = stage.begin("own", "auto", "0")
        for _ in range(2):
            first.hear("waits for work")
        if how == "SIGTERM":
            first.terminate()
        else:
            stage.store.stop_sync("it")
        first.hear("stopped: ")
        assert {action.status for action in stage.store.state_sync("it").actions.values()} == {Status.STOPPED}
        second = stage.begin("own", "auto", "0")
        for _ in range(2):
            second.hear("waits for work")
        for who in "xy":
            stage.begin("send", who).hear("sent")
        result = json.loads(second.hear("result ").removeprefix("result "))
        assert sorted(result[0] + result[1]) == VALUES
    finally:
        stage.let_go()


START = datetime(2030, 1, 1, tzinfo=UTC).timestamp()


def test_a_deadline_runs_on_over_processes(tmp_path: Path) -> None:
    stage = Stage({"url": str(tmp_path / "store")})
    try:
        first = stage.begin("wait", "7200", "0")  # its clock stands still
        first.hear("waits for work")
        assert stage.store.state_sync("late").status is Status.AWAITING_INPUT
        first.kill()
        second = stage.begin("wait", "7200", "1")
        assert second.hear("result ") == 'result "nothing came"'
        assert second.hear("took ") in ("took 7199", "took 7200")
    finally:
        stage.let_go()


def test_a_deadline_that_passed_between_processes_is_not_waited_for(tmp_path: Path) -> None:
    stage = Stage({"url": str(tmp_path / "store")})
    try:
        first = stage.begin("wait", "7200", "0")
        first.hear("waits for work")
        first.kill()
        second = stage.begin("wait", "7200", str(START))
        assert second.hear("result ") == 'result "nothing came"'
        assert second.hear("took ") == "took 0"
    finally:
        stage.let_go()


def test_a_value_that_came_between_processes_wins_over_the_deadline(tmp_path: Path) -> None:
    stage = Stage({"url": str(tmp_path / "store")})
    try:
        first = stage.begin("wait", "7200", "0")
        first.hear("waits for work")
        first.kill()
        stage.store.send_sync("late", "work", "just so")
        second = stage.begin("wait", "7200", str(START))
        assert second.hear("result ") == 'result "just so"'
    finally:
        stage.let_go()
