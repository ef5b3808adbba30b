"""The ledger of a paid service and our record of the cost agree, whatever happens to the process in between."""

from __future__ import annotations

import importlib.util
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from holdfast import RunState, Status, Store

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = 60
CONCURRENCY = 16
SECONDS = 120

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _what_the_example_needs() -> None:
    for needed in ("sklearn", "httpx"):
        pytest.importorskip(needed)


def service() -> ModuleType:
    spec = importlib.util.spec_from_file_location("paid_service", EXAMPLES / "paid_service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: object, cwd: Path, returns: int = 0) -> list[str]:
    """The lines that the program prints, with warnings as errors but for those of its budget."""
    options = ("-W", "error", "-W", "default:the budget of the run has spent")
    command = [sys.executable, *options, str(EXAMPLES / "classify_rows.py"), "--store", "s", "--rows", str(ROWS), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == returns, done.stdout + done.stderr
    return done.stdout.splitlines()


def charges(ledger: Path) -> list[tuple[int, Decimal]]:
    with closing(sqlite3.connect(ledger)) as database:
        return [(row, Decimal(cost)) for row, cost in database.execute("SELECT row, cost FROM charges")]


def charged(ledger: Path) -> Decimal:
    return sum((cost for _, cost in charges(ledger)), Decimal(0))


def state(folder: Path, run_name: str) -> RunState:
    return Store(folder / "s").state_sync(run_name)


def attempts(of: RunState, names: Iterable[str]) -> dict[str, int]:
    return {name: len(of.actions[name].attempts) for name in names}


def asked(ledger: Path) -> int:
    """How often the service was asked, for an answer or in vain."""
    with closing(sqlite3.connect(ledger)) as database:
        return int(database.execute("SELECT sum(tries) FROM questions").fetchone()[0])


def test_each_row_is_paid_once_to_the_last_digit_over_two_kills_and_a_spent_budget(tmp_path: Path) -> None:
    ledger = tmp_path / "classify.sqlite"
    for rows in (12, 24):
        run("--die-after", rows, cwd=tmp_path, returns=-signal.SIGKILL)
        assert state(tmp_path, "classify").status is Status.CRASHED
    at_kill = state(tmp_path, "classify")
    done = {name for name, action in at_kill.actions.items() if action.status is Status.COMPLETED}
    assert 24 <= len(done) < ROWS

    limit = Decimal("0.036")
    assert at_kill.cost < limit
    lines = run("--budget", limit, cwd=tmp_path, returns=1)
    stopped = state(tmp_path, "classify")
    assert lines[0].startswith(f"stopped: run 'classify' was stopped: the budget of the run allows cost {limit}")
    assert stopped.status is Status.STOPPED
    assert limit - 2 * largest(ledger) < stopped.cost < limit + CONCURRENCY * largest(ledger)

    lines = run("--budget", limit * 2, cwd=tmp_path)
    assert lines[0].startswith(f"{ROWS} of {ROWS} rows answered, ")
    assert lines[-1].endswith(f" for {ROWS} answers to {ROWS} rows; unknown to us: 0")
    after = state(tmp_path, "classify")
    assert after.cost == charged(ledger)
    assert sorted(row for row, _ in charges(ledger)) == list(range(ROWS))
    assert attempts(after, done) == attempts(at_kill, done), "what was on record was not asked for again"
    assert sum((at_kill.actions[name].cost for name in done), Decimal(0)) <= after.saved < after.cost
    assert after.saved >= sum(action.cost for action in stopped.actions.values() if action.status is Status.COMPLETED)
    assert asked(ledger) > ROWS, "some were busy, broken, or garbage, and some died with the process"

    assert run(cwd=tmp_path) == lines, "from record"
    assert state(tmp_path, "classify").cost == charged(ledger)


def largest(ledger: Path) -> Decimal:
    return max(cost for _, cost in charges(ledger))


def test_without_keys_no_more_is_lost_than_the_calls_in_flight_at_the_kill(tmp_path: Path) -> None:
    ledger = tmp_path / "classify-without-keys.sqlite"
    run("--without-keys", "--die-after", 24, cwd=tmp_path, returns=-signal.SIGKILL)
    lines = run("--without-keys", cwd=tmp_path)
    assert lines[0].startswith(f"{ROWS} of {ROWS} rows answered, ")
    after = state(tmp_path, "classify-without-keys")
    reported = after.costs.total.tokens_out // service().TOKENS_OUT
    unknown = len(charges(ledger)) - reported
    assert 0 <= unknown <= CONCURRENCY
    assert unknown * smallest(ledger) <= charged(ledger) - after.cost <= unknown * largest(ledger)
    assert reported > ROWS, "garbage is charged for, and so is the answer that takes its place"


def smallest(ledger: Path) -> Decimal:
    return min(cost for _, cost in charges(ledger))


def test_what_goes_wrong_depends_on_the_row_and_the_try_alone_and_ends() -> None:
    fault: Any = service().fault
    for tried in range(3):
        assert {fault(row, tried) for row in range(ROWS)} == {None, "busy", "broken", "garbage"}
    assert {fault(row, tried) for row in range(569) for tried in range(3, 10)} == {None}
