"""A real process that pays for real, killed at random moments and stopped by its budget: the book agrees with the record to the cent."""

from __future__ import annotations

import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from holdfast import Status, Store

PROGRAM = Path(__file__).with_name("paid_program.py")
ROWS, IN_THREADS = 24, 4
RESULT = f"result {sum(range(ROWS)) + sum(range(IN_THREADS))}"


def live(place: Path, limit: str, seed: int, lines: int | None = None) -> str:
    """Run the program, and kill it once it has printed so many lines, or is done; with None, let it end. Returns its last line."""
    command = [sys.executable, "-W", "error", str(PROGRAM), str(place / "store"), str(place / "book"), limit, str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        last = ""
        for count, line in enumerate(process.stdout, 1):
            last = line.strip()
            is_done = last.startswith(("result ", "spent "))
            if lines is not None and (count == lines or is_done):
                process.kill()
                break
            if is_done:
                process.stdin.close()
        errors = process.stderr.read()
        process.wait()
        assert process.returncode == (0 if lines is None else -9), errors
        return last


def charged(place: Path) -> list[tuple[str, Decimal]]:
    lines = (place / "book").read_text(encoding="utf-8").splitlines() if (place / "book").exists() else []
    return [(key, Decimal(amount)) for key, amount in (line.split() for line in lines)]


def kill_and_stop(place: Path, seed: int, kills: int) -> None:
    """Killed under the first limit, stopped by it, killed under a raised one, and then let end."""
    rng = random.Random(seed)
    for _ in range(kills):
        live(place, "0.1", seed, rng.randint(1, 6))
    assert live(place, "0.1", seed).startswith("spent ")
    paid = sum(amount for _, amount in charged(place))
    state = Store(place / "store").state_sync("paid")
    assert state.status is Status.STOPPED
    assert state.cost <= min(paid, Decimal("0.1"))  # what was charged at a kill is on record once it is asked again
    for _ in range(kills):
        live(place, "10", seed, rng.randint(1, 4))
    assert live(place, "10", seed) == RESULT


def hold_to_the_laws(place: Path) -> None:
    book, state = charged(place), Store(place / "store").state_sync("paid")
    assert len({key for key, _ in book}) == len(book) == ROWS + IN_THREADS
    assert state.status is Status.COMPLETED
    assert state.cost == sum(amount for _, amount in book)
    assert state.tokens == sum(range(ROWS)) + 7 * ROWS + sum(range(IN_THREADS)) + 3 * IN_THREADS
    assert state.costs.by_model.keys() == {"small", "large"}


@pytest.mark.parametrize("seed", range(2))
def test_killed_and_stopped_it_pays_once_and_the_book_agrees_with_the_record(tmp_path: Path, seed: int) -> None:
    kill_and_stop(tmp_path, seed, kills=2)
    hold_to_the_laws(tmp_path)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(100, 117))
def test_after_a_hundred_kills_the_book_agrees_with_the_record(tmp_path: Path, seed: int) -> None:
    kill_and_stop(tmp_path, seed, kills=3)
    hold_to_the_laws(tmp_path)
