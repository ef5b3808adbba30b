"""Real processes: some are stopped by a signal and wake after a takeover, some race for one run. There is one owner at a time."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Self

import pytest
from servers.fixtures import Server

PROGRAM = Path(__file__).with_name("owner.py")
STEPS = 12
RIGHT = f"result {json.dumps([number * number for number in range(STEPS)])}"
#: Seconds in which an owner in an object store has to give a sign of life.
LEASE = 2.0
PATIENCE = 60.0
REFUSED = {"refused RunBusy", "refused RunFenced"}


class Owner:
    """A process with the program. What it says is read by a thread, so that nobody waits for ever."""

    def __init__(self, place: Path, store: dict[str, Any]) -> None:
        gates = place / "gates"
        gates.mkdir(exist_ok=True)
        command = [sys.executable, "-W", "error", str(PROGRAM), str(place / "ledger"), str(gates)]
        environment = {**os.environ, "STORE": json.dumps(store)}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.store = store
        self._said: Queue[str] = Queue()
        self.lines: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        assert self.hear() == "ready"

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line.strip())
        self._said.put("ended")

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, run_name: str, resume: str = "auto", gate: str = "-") -> Self:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{run_name} {resume} {gate}\n")
        self._process.stdin.flush()
        return self

    def hear(self) -> str:
        line = self._said.get(timeout=PATIENCE)
        self.lines.append(line)
        return line

    def heard(self) -> list[str]:
        """What it said meanwhile."""
        lines = []
        with contextlib.suppress(Empty):
            while True:
                lines.append(self._said.get_nowait())
        self.lines += lines
        return lines

    def outcome(self) -> str:
        """What came of what it was asked."""
        while True:
            line = self.hear()
            if line.startswith(("result", "refused", "ended")):
                return line

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)  # it stands

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def owners(place: Path, store: dict[str, Any], count: int) -> Generator[list[Owner]]:
    found: list[Owner] = []
    try:
        for _ in range(count):
            found.append(Owner(place, store))
        yield found
    finally:
        for owner in found:
            owner.end()


def ledger(place: Path) -> list[tuple[int, str, str]]:
    """Who said what of which step, in the order in which it was written."""
    lines = (place / "ledger").read_text(encoding="utf-8").splitlines()
    return [(int(pid), verb, what) for pid, verb, what in (line.split(" ", 2) for line in lines)]


def on_disk(place: Path) -> dict[str, Any]:
    return {"url": str(place / "store")}


def on_s3(moto: Server, name: str) -> dict[str, Any]:
    return {"url": f"{moto.url}/{name}", **moto.options, "lease": LEASE}


# stopped by a signal


def stop_and_wake(place: Path, store: dict[str, Any], seed: int, resume: str) -> bool:
    """Stop the owner somewhere, let another process run to the end, and wake the first one. Returns whether it was told."""
    rng = random.Random(seed)
    (place / "ledger").unlink(missing_ok=True)
    name = f"stopped-{seed}"
    with owners(place, store, 2) as (first, second):
        first.ask(name)
        for _ in range(rng.randint(1, 3 * STEPS - 4)):
            first.hear()
        first.stop()
        before = len(ledger(place))
        assert second.ask(name, resume).outcome() == RIGHT, seed
        taken = ledger(place)[before:]
        first.wake()
        told = first.outcome()
    assert told in {*REFUSED, RIGHT}, f"{seed}: {told}"
    hold(ledger(place), first.pid, second.pid, f"seed {seed}, {len(taken)} lines by the second")
    if told == RIGHT:  # all that it had to do was on record before it was stopped, or by the other: the same result for both
        assert not [entry for entry in ledger(place)[before + len(taken) :] if entry[1] == "ran"], seed
    return told in REFUSED


def hold(said: list[tuple[int, str, str]], first: int, second: int, where: str) -> None:
    known: set[str] = set()
    for pid, verb, what in said:
        if verb == "got":
            known.add(what)
        elif pid == second:
            assert what not in known, f"{where}: {what} ran again"
    given = {what for pid, verb, what in said if pid == first and verb == "got"}
    ran = {what for pid, verb, what in said if pid == second and verb == "ran"}
    assert not given & ran, f"{where}: the first was given {given & ran}, which never counted"


def test_a_stopped_owner_that_wakes_after_a_takeover_is_told(tmp_path: Path) -> None:
    assert [stop_and_wake(tmp_path, on_disk(tmp_path), seed, "takeover") for seed in range(2)].count(True) >= 1


@pytest.mark.slow
def test_a_stopped_owner_on_s3_that_wakes_after_its_lease_is_told(tmp_path: Path, moto: Server) -> None:
    assert stop_and_wake(tmp_path, on_s3(moto, "stopped"), 3, "auto")


@pytest.mark.campaign
@pytest.mark.parametrize("ten", range(5))
def test_fifty_stopped_owners_on_a_disk_are_told(tmp_path: Path, ten: int, record_property: Any) -> None:
    told = [stop_and_wake(tmp_path, on_disk(tmp_path), seed, "takeover") for seed in range(10 * ten, 10 * ten + 10)]
    record_property("tried: SIGSTOPped owners, file", len(told))
    assert told.count(True) >= 5


@pytest.mark.campaign
@pytest.mark.parametrize("ten", range(3))
@pytest.mark.parametrize("resume", ["auto", "takeover"])
def test_sixty_stopped_owners_on_s3_are_told(tmp_path: Path, moto: Server, ten: int, resume: str, record_property: Any) -> None:
    store = on_s3(moto, f"stopped-{resume}-{ten}")
    told = [stop_and_wake(tmp_path, store, seed, resume) for seed in range(10 * ten, 10 * ten + 10)]
    record_property("tried: SIGSTOPped owners, S3", len(told))
    assert told.count(True) >= 5


# races


def race(place: Path, racing: list[Owner], name: str, *, begun: bool) -> None:
    """Let all of them run one line at once. One comes to the gate, each other one is refused; then the gate opens."""
    (place / "gates" / name).unlink(missing_ok=True)
    if begun:  # an owner that died, so that there is something to resume
        begin(place, racing[0], name)
    for owner in racing:
        owner.ask(name, "auto", name)
    said = {owner.pid: first_word(owner) for owner in racing}
    at_the_gate = [owner for owner in racing if said[owner.pid] == "at the gate"]
    assert len(at_the_gate) == 1, f"{name}: {said}"
    assert {word for word in said.values() if word != "at the gate"} <= REFUSED, f"{name}: {said}"
    (place / "gates" / name).touch()
    assert at_the_gate[0].outcome() == RIGHT, name


def first_word(owner: Owner) -> str:
    while True:
        line = owner.hear()
        if line == "at the gate" or line.startswith(("result", "refused", "ended")):
            return line


def begin(place: Path, like: Owner, name: str) -> None:
    """A process that dies in the middle of the run."""
    dying = Owner(place, like.store)
    dying.ask(name, "auto", name)
    for _ in range(5):
        dying.hear()
    dying.end()


def race_often(place: Path, store: dict[str, Any], races: int, racers: int, what: str) -> None:
    with owners(place, store, racers) as racing:
        for number in range(races):
            count = 2 + number % (racers - 1)
            race(place, racing[:count], f"{what}-{number}", begun=number % 4 == 3)


def test_of_three_processes_that_race_one_owns_the_run(tmp_path: Path) -> None:
    race_often(tmp_path, on_disk(tmp_path), races=4, racers=3, what="race")


@pytest.mark.slow
def test_of_three_processes_that_race_on_s3_one_owns_the_run(tmp_path: Path, moto: Server) -> None:
    race_often(tmp_path, on_s3(moto, "race"), races=2, racers=3, what="race")


@pytest.mark.campaign
def test_of_two_to_eight_processes_one_owns_the_run_a_hundred_times(tmp_path: Path, record_property: Any) -> None:
    race_often(tmp_path, on_disk(tmp_path), races=100, racers=8, what="race")
    record_property("tried: races of 2 to 8 processes for one run, file", 100)


@pytest.mark.campaign
def test_of_two_to_eight_processes_on_s3_one_owns_the_run_a_hundred_times(tmp_path: Path, moto: Server, record_property: Any) -> None:
    race_often(tmp_path, on_s3(moto, "races"), races=100, racers=8, what="race")
    record_property("tried: races of 2 to 8 processes for one run, S3", 100)
