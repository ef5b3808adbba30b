"""A rollback that is killed at any boundary goes on, in order, and undoes everything at least once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast import AsyncTask, Retry, Status, Store, ctx, task
from holdfast.errors import RunRolledBack
from holdfast.orders import with_policy
from holdfast.testing import Ledger, Survival, crash_everywhere, power_cuts
from holdfast.testing.crashes import RUN_NAME
from holdfast.testing.places import On

IN_MEMORY: list[On] = ["disk", "bucket"]
PROGRAM = Path(__file__).with_name("killed_rollback.py")

ledger = Ledger()


@task
async def give_back(what: str) -> None:
    ledger.ran(f"give back {what}")


@task(retries=Retry(3, initial_interval=0))
async def refund(what: str, result: int) -> None:
    ledger.ran(f"refund {what} {result}")
    if ctx().attempt_number == 0:
        raise ConnectionError


@task(rollback=refund)
async def pay(what: str) -> int:
    ledger.ran(f"pay {what}")
    return 7


@task
async def take(what: str) -> None:
    await ctx().on_rollback(give_back, what)
    ledger.ran(f"take {what}")


@task
async def buy() -> str:
    await take("a")
    await asyncio.gather(pay("b"), take("c"))
    await take("d")
    return "bought"


@task
async def fail() -> str:
    await take("a")
    await pay("b")
    await take("c")
    raise ValueError("declined")


undoes_itself = AsyncTask(fail.definition.with_policy(with_policy(fail.definition.policy, rolls_back=True)))


def undone(survival: Survival[Any]) -> list[str]:
    """What was undone, in the order in which each was begun for the last time."""
    found: list[str] = []
    for entry in survival.entries:
        if entry.what.startswith(("give back", "refund")):
            found = [*(what for what in found if what != entry.what), entry.what]
    return found


def in_order(survival: Survival[Any]) -> bool:
    """Whether no undo ran again once an older one had begun."""
    seen: list[str] = []
    for entry in survival.entries:
        if entry.what.startswith(("give back", "refund")):
            if entry.what in seen[:-1]:
                return False
            if entry.what not in seen:
                seen.append(entry.what)
    return True


async def roll_back(store: Store) -> None:
    await store.rollback(RUN_NAME)


@pytest.mark.parametrize("on", IN_MEMORY)
def test_a_rollback_of_a_finished_run_goes_on_wherever_it_is_killed(on: On) -> None:
    killed = 0
    for survival in crash_everywhere(buy, on=on, ledger=ledger, then=roll_back, late_by=[2]):
        assert survival.error is None, survival
        assert survival.store.state_sync(RUN_NAME).status is Status.ROLLED_BACK, survival
        assert sorted(undone(survival)) == ["give back a", "give back c", "give back d", "refund b 7"], survival
        assert undone(survival)[0] == "give back d", survival
        assert undone(survival)[-1] == "give back a", survival
        assert in_order(survival), survival
        killed += 1
    assert killed > 20


@pytest.mark.parametrize("on", IN_MEMORY)
def test_what_undoes_itself_when_it_fails_does_so_wherever_it_is_killed_and_fails_as_it_would_have(on: On) -> None:
    for survival in crash_everywhere(undoes_itself, on=on, ledger=ledger, late_by=[2]):
        if isinstance(survival.error, RunRolledBack):  # killed when all was done
            assert isinstance(survival.error.__cause__, ValueError), survival
        else:
            assert isinstance(survival.error, ValueError), survival
            assert any("was rolled back" in note for note in survival.error.__notes__), survival
        assert undone(survival) == ["give back c", "refund b 7", "give back a"], survival
        assert in_order(survival), survival


def test_whatever_the_disk_forgets_everything_that_was_done_is_undone() -> None:
    for survival in power_cuts(buy, range(60), ledger=ledger, then=roll_back):
        assert survival.store.state_sync(RUN_NAME).status is Status.ROLLED_BACK, survival
        ran = {entry.what for entry in survival.entries}
        for what, undo in {"take a": "give back a", "pay b": "refund b 7", "take c": "give back c", "take d": "give back d"}.items():
            assert what not in ran or undo in ran, survival
        assert in_order(survival), survival


# real processes


def test_killed_in_the_middle_by_the_system_it_goes_on_in_another_process_that_imports_the_undos(tmp_path: Path) -> None:
    place = str(tmp_path / "store")
    first = subprocess.run([sys.executable, str(PROGRAM), place], capture_output=True, text=True, check=False, timeout=60)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert first.stdout.split("\n")[:-1] == ["take a", "take b", "take c", "give back c", "give back b"]
    path = os.pathsep.join([str(PROGRAM.parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", f"import holdfast; holdfast.Store({place!r}).rollback_sync('it')"]
    second = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env={**os.environ, "PYTHONPATH": path})
    assert second.stdout.split("\n")[:-1] == ["give back b", "give back a"], "what was done is not undone again"
    assert Store(place).state_sync("it").status is Status.ROLLED_BACK


def test_where_the_undos_cannot_be_imported_the_error_names_them_and_nothing_is_lost(tmp_path: Path) -> None:
    place = str(tmp_path / "store")
    subprocess.run([sys.executable, str(PROGRAM), place], capture_output=True, check=False, timeout=60)
    command = [sys.executable, "-c", f"import holdfast; holdfast.Store({place!r}).rollback_sync('it')"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert "RollbackIncomplete" in failed.stderr
    assert "the undo killed_rollback:give_back is not found by importing killed_rollback:give_back" in failed.stderr
    assert Store(place).state_sync("it").status is Status.FAILED
