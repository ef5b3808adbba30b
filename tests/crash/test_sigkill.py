"""A real process on a real disk, killed at random moments: nothing that was known is done again, and the result is right."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from holdfast import Status, Store

PROGRAM = Path(__file__).with_name("killed_program.py")
RIGHT = {
    "total": 21,
    "squares": [n * n for n in range(12)],
    "paid": "bank 301",
    "epochs": [1001, 1002, 1003, 1004],
}
MOST_LINES = 8


@dataclass(frozen=True)
class Life:
    """What a process said before its end. `result` is None where it was killed."""

    lines: int
    result: dict[str, Any] | None


def live(place: Path, seed: int, seen: set[str], lines: int | None, *, fresh: bool) -> Life:
    """Run the program, and kill it once it has printed `lines` lines, or with `fresh` so many that no life before printed.

    With None, let it end.
    """
    command = [sys.executable, "-W", "error", str(PROGRAM), str(place / "store"), str(place / "ledger"), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        count = 0
        for line in process.stdout:
            if line.startswith("result "):
                process.wait()
                return Life(count, json.loads(line.removeprefix("result ")))
            count += not fresh or line not in seen
            seen.add(line)
            if count == lines:
                process.kill()
                break
        errors = process.stderr.read()
        process.wait()
        assert process.returncode == -9, errors
        return Life(count, None)


def hold_to_the_laws(place: Path, result: dict[str, Any]) -> None:
    known: set[str] = set()
    names: set[str] = set()
    for line in (place / "ledger").read_text(encoding="utf-8").splitlines():
        verb, what = line.split(" ", 1)
        assert not (verb == "ran" and what in known), f"{what} ran again after its outcome was known"
        if verb == "got":
            known.add(what)
        elif verb == "is":
            names.add(what)
    assert names == {result.pop("name")}, "drawn once"
    assert result == RIGHT
    state = Store(place / "store").state_sync("killed")
    assert state.status is Status.COMPLETED
    for action in state.actions.values():
        numbers = [attempt.number for attempt in action.attempts]
        assert numbers == sorted(set(numbers))
        assert [attempt.status for attempt in action.attempts].count(Status.COMPLETED) <= 1


def kill_until(place: Path, kills: int, seed: int) -> None:
    """One program after the other, each killed again and again until it gets through, `kills` times in all."""
    rng, killed, number = random.Random(seed), 0, 0
    while killed < kills:
        here, seen = place / str(number), set[str]()
        here.mkdir()
        while True:
            # most lives get something new done: ten in a row that don't are a crash loop, and rightly refused
            lines = rng.randint(1, MOST_LINES) if killed < kills else None
            life = live(here, seed, seen, lines, fresh=rng.random() < 0.8)
            if life.result is not None:
                break
            killed += 1
        hold_to_the_laws(here, life.result)
        number += 1


def test_eight_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    kill_until(tmp_path, kills=8, seed=8)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(10))
def test_two_hundred_kills_lose_nothing_and_repeat_nothing(tmp_path: Path, seed: int, record_property: Any) -> None:
    kill_until(tmp_path, kills=20, seed=seed)
    record_property("tried: SIGKILL at random moments, real processes, file", 20)
