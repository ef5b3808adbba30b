"""Holdfast beside its peers, each on the same programs: first whether it is right after a kill, then what a step and a row take."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.program import CHAINS, WIDTH, expected_chains
from benchmarks.rows import micro
from benchmarks.tables import table

ROOT = Path(__file__).parents[1]
SECONDS = 180
KILLED_STEPS = 20
ROWS_A_STEP = 10
"""So many rows for each of the steps that are measured."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A script of `benchmarks.peers`, and the distribution that it needs. `has_steps`: it runs programs of steps, not rows alone."""

    script: str
    distribution: str
    shown: str
    has_steps: bool = True


HOLDFAST = Peer("with_holdfast", "holdfast", "Holdfast (files)")
PEERS = (
    Peer("with_dbos", "dbos", "DBOS (SQLite)"),
    Peer("with_langgraph", "langgraph", "LangGraph (SQLite saver)"),
    Peer("with_flyte", "flyte", "Flyte (local, cache)"),
    Peer("with_prefect", "prefect", "Prefect (local, persisted results)"),
    Peer("with_joblib", "joblib", "joblib.Memory"),
    Peer("with_ondine", "ondine", "Ondine (rows to a model)", has_steps=False),
)


class DidNotFinish(Exception):
    """A script ended in another way than it should, or not in time."""


def compare(python: Path | None, rounds: int, steps: int) -> str:
    """Return the table. Peers run under `python`, an environment of their own."""
    head = ("", "steps redone after a kill", f"gather of {CHAINS} chains after a kill", "a durable step", f"a row, {WIDTH} at a time")
    rows = [_row(HOLDFAST, Path(sys.executable), rounds, steps)]
    for peer in PEERS:
        print(f"{peer.shown} ...", file=sys.stderr, flush=True)
        rows.append(_row(peer, python, rounds, steps))
    killed = f"killed hard after {KILLED_STEPS // 2} of {KILLED_STEPS} steps, then the same program again"
    steps_said = f"{steps} steps one after the other, median of {rounds} processes"
    rows_said = f"{ROWS_A_STEP * steps:,} rows of one step each, one process"
    return f"{table(head, rows)}\n\nEach on the same program: {killed}; {steps_said}; {rows_said}."


def _row(peer: Peer, python: Path | None, rounds: int, steps: int) -> tuple[str, ...]:
    version = _version(python, peer.distribution) if python is not None else None
    if python is None or version is None:
        return (peer.shown, "not installed", "", "", "")
    shown = f"{peer.shown} {version}"
    if not peer.has_steps:
        return (shown, "it has no steps", "", "", _per_row(peer, python, steps))
    return (shown, _redone(peer, python), _gathered(peer, python), _per_step(peer, python, rounds, steps), _per_row(peer, python, steps))


def _version(python: Path, distribution: str) -> str | None:
    program = f"from importlib.metadata import version; print(version({distribution!r}))"
    found = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def _redone(peer: Peer, python: Path) -> str:
    with _folder() as folder:
        try:
            _run(peer, python, "kill", folder, KILLED_STEPS, dies=True)
            _run(peer, python, "kill", folder, KILLED_STEPS)
        except DidNotFinish as error:
            return f"did not finish ({error})"
        done = (folder / "effects.txt").read_text().split()
    missing = KILLED_STEPS - len(set(done))
    return f"{len(done) - len(set(done))}" + (f", and {missing} never done" if missing else "")


def _gathered(peer: Peer, python: Path) -> str:
    with _folder() as folder:
        try:
            _run(peer, python, "chains", folder, 0, dies=True)
            found = _run(peer, python, "chains", folder, 0)
        except DidNotFinish as error:
            return f"did not finish ({error})"
    return "right" if found == expected_chains() else f"**wrong**: {found}"


def _per_step(peer: Peer, python: Path, rounds: int, steps: int) -> str:
    taken: list[float] = []
    for _ in range(rounds):
        with _folder() as folder:
            try:
                taken.append(float(_run(peer, python, "steps", folder, steps)))
            except DidNotFinish as error:
                return f"did not finish ({error})"
    return micro(median(taken))


def _per_row(peer: Peer, python: Path, steps: int) -> str:
    with _folder() as folder:
        try:
            found = _run(peer, python, "rows", folder, ROWS_A_STEP * steps)
        except DidNotFinish as error:
            return f"did not finish ({error})"
    return micro(float(found)) if found is not None else ""


def _run(peer: Peer, python: Path, what: str, folder: Path, count: int, *, dies: bool = False) -> Any:
    """Run a script in a session of its own, of which nothing is left behind. Raises: DidNotFinish."""
    command = [str(python), "-m", f"benchmarks.peers.{peer.script}", what, str(folder), str(count)]
    printed, errors = folder / "printed.txt", folder / "errors.txt"  # files: a server that is left behind would hold a pipe open
    with printed.open("w") as out, errors.open("w") as err:
        process = subprocess.Popen(command, cwd=ROOT, env=_environment(folder), stdout=out, stderr=err, start_new_session=True)
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise DidNotFinish(f"not within {SECONDS} s") from None
        finally:
            _end_session(process)
    if dies and process.returncode == 9:
        return None
    if dies or process.returncode != 0:
        said = [line for line in errors.read_text().splitlines() if line.strip()]
        raise DidNotFinish("it was not killed" if process.returncode == 0 else (said or ["no message"])[-1][:100])
    return json.loads(printed.read_text().strip().splitlines()[-1])


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """End what the script started and left, such as a server."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _environment(folder: Path) -> dict[str, str]:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    quiet = {"PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1", "LANGSMITH_TRACING": "false"}
    return {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT), **quiet}


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
