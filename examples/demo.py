"""What `make demo` runs: index the standard library, kill the process half-way, and run the same line again.

Nothing here is simulated. The indexing is a process of its own, SIGKILL gives it no chance to tidy up, and all that is said afterwards is
read from the store.
"""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast import ActionState, RunState, Status, Store
from holdfast.errors import RunNotFound

RUN_NAME = "index-stdlib"
PROGRAM = Path(__file__).with_name("index_stdlib.py")
LOOK_EVERY_SECONDS = 0.1


def main() -> int:
    limit = [f"--limit={int(sys.argv[1])}"] if len(sys.argv) > 1 else []
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as folder:
        return demo(Path(folder, "killed"), Path(folder, "uninterrupted"), limit)


def demo(killed: Path, uninterrupted: Path, limit: list[str]) -> int:
    headline(
        f"1. Index every file of the Python {sys.version_info.major}.{sys.version_info.minor} standard library, a durable action a file"
    )
    began = time.monotonic()
    kill_half_way(killed, limit)
    before, until_kill = read(killed), time.monotonic() - began

    headline("2. What the store knows now")
    done, in_flight = files(before, Status.COMPLETED), files_in_flight(before)
    total = len(found_files(before))
    print(f"   the run:    {before.status.value} ({before.run_name}, a folder of {size(killed):,} bytes)")
    print(f"   files done: {len(done):,} of {total:,}, each with its counts on record")
    print(f"   in flight:  {len(in_flight)}")

    headline("3. The same line again")
    began = time.monotonic()
    index(killed, limit)
    after, resumed = read(killed), time.monotonic() - began

    headline("4. And once without a kill, in a store of its own")
    began = time.monotonic()
    index(uninterrupted, limit)
    straight, whole = read(uninterrupted), time.monotonic() - began

    redone = {name for name in files(after, Status.COMPLETED) if len(after.actions[name].attempts) > 1}
    facts = {
        f"{len(done):,} of {total:,} files were done before the kill, and none of them was done again": redone.isdisjoint(done),
        f"{len(redone)} files were done again: those in flight when the process died": redone <= in_flight,
        "the results are equal: every file's counts, and their sum": outcomes(after) == outcomes(straight),
    }
    headline("So")
    for fact, holds in facts.items():
        print(f"   {'yes' if holds else 'NO '}  {fact}")
    print(f"   {until_kill:.1f} s until the kill + {resumed:.1f} s to finish; {whole:.1f} s without a kill")
    return 0 if all(facts.values()) and 0 < len(done) < total else 1


# the program under way


def command(store: Path, limit: list[str]) -> list[str]:
    return [sys.executable, str(PROGRAM), f"--store={store}", f"--run-name={RUN_NAME}", *limit]


def index(store: Path, limit: list[str]) -> None:
    subprocess.run(command(store, limit), check=True)


def kill_half_way(store: Path, limit: list[str]) -> None:
    """Begin the run, and kill its process once the store knows half of the files."""
    with started(command(store, limit)) as process:
        while process.poll() is None:
            time.sleep(LOOK_EVERY_SECONDS)
            try:
                state = read(store)
            except RunNotFound:
                continue  # it is still importing
            done, total = len(files(state, Status.COMPLETED)), len(found_files(state))
            if 0 < total <= 2 * done:
                process.send_signal(signal.SIGKILL)
                process.wait()
                print(f"\nSIGKILL to process {process.pid}, as the store knew {done:,} of {total:,} files")
                return
    raise SystemExit(f"the program ended by itself, with {process.returncode}, before half of the files were done")


@contextmanager
def started(program: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(program)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# what the store says


def read(store: Path) -> RunState:
    return Store(store).state_sync(RUN_NAME)


def of_task(state: RunState, task: str) -> dict[str, ActionState]:
    return {name: action for name, action in state.actions.items() if action.task_name == f"{PROGRAM.stem}:{task}"}


def found_files(state: RunState) -> list[str]:
    return next((action.result or [] for action in of_task(state, "find").values()), [])


def files(state: RunState, status: Status) -> set[str]:
    return {name for name, action in of_task(state, "count").items() if action.status is status}


def files_in_flight(state: RunState) -> set[str]:
    """Files that an attempt had begun, without an outcome on record."""
    return {name for name, action in of_task(state, "count").items() if action.attempts and action.status is not Status.COMPLETED}


def outcomes(state: RunState) -> tuple[object, dict[str, object]]:
    """The result of the run and of each file. An action has the same name in every run, so two runs can be compared."""
    return state.result, {name: action.result for name, action in of_task(state, "count").items()}


def size(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file())


def headline(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
