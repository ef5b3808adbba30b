"""Undos of stages: what COMPLETED is undone, newest first, when the pipeline fails for good or its run is rolled back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from holdfast import RetryPolicy, Stage, StageState, Status, Store, ctx, parallel, pipeline, run, stage, stage_states, task
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.clocks import no_backoff
from holdfast.testing.crashes import Ledger, crash_everywhere
from holdfast.testing.stores import memory_store

disk = MemoryDisk()
did: list[Any] = []
ledger = Ledger()


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()
    did.clear()


class Receipt(BaseModel):
    number: int


class State(StageState[Receipt]):
    order: int
    reserved: list[str] = []  # noqa: RUF012


Seen = Mapping[str, State]


async def release(state: State) -> None:
    did.append(("release", state.stage_name, state.status, state.attempts, len(state.history), list(state.reserved)))
    ledger.ran("release")


@stage(undo=release)
async def reserve(state: State, earlier: Seen) -> None:
    did.append("reserve")
    ledger.ran("reserve")
    state.reserved.append("shelf 3")


class Charge(Stage[State]):
    name = "charge"

    async def execute(self, state: State, earlier: Seen) -> Receipt:
        did.append("charge")
        ledger.ran("charge")
        return Receipt(number=7)

    async def rollback(self, state: State) -> None:
        assert state.result is not None
        did.append(("refund", state.result.number, state.order))
        ledger.ran("refund")


@stage
async def ship(state: State, earlier: Seen) -> None:
    did.append("ship")
    raise ConnectionError("no ship")


orders = pipeline("undo orders", [reserve, Charge(), ship])


def test_when_a_pipeline_fails_for_good_what_COMPLETED_is_undone_newest_first() -> None:
    with pytest.raises(ConnectionError) as caught:
        asyncio.run(run(orders(State(order=1)), run_name="it", store=memory_store(disk)))
    assert caught.value.__notes__ == ["undo orders was rolled back"]
    assert did == [
        *("reserve", "charge", "ship"),
        ("refund", 7, 1),
        ("release", "reserve", Status.ROLLING_BACK, 1, 1, ["shelf 3"]),
    ]
    read = stage_states(memory_store(disk).state_sync("it"), orders)
    assert [state.status for state in read.values()] == [Status.ROLLED_BACK, Status.ROLLED_BACK, Status.FAILED]
    assert read["charge"].result == Receipt(number=7)


def test_outside_a_run_it_is_undone_too() -> None:
    with pytest.raises(ConnectionError):
        orders.sync(State(order=1))
    assert [entry if isinstance(entry, str) else entry[0] for entry in did] == ["reserve", "charge", "ship", "refund", "release"]


def test_nothing_is_undone_while_a_retry_is_left() -> None:
    @stage(name="once")
    async def once(state: State, earlier: Seen) -> None:
        if ctx().attempt_number == 0:
            raise ConnectionError

    plan = pipeline("plan", [reserve, once], retry_policy=RetryPolicy.STAGE, max_attempts=2)
    with no_backoff():
        asyncio.run(run(plan(State(order=1)), run_name="it", store=memory_store(disk)))
    assert did == ["reserve"]


def test_a_pipeline_whose_executions_are_spent_is_undone() -> None:
    @stage(name="costly")
    async def costly(state: State, earlier: Seen) -> None:
        if ctx().attempt_number == 0:
            raise ConnectionError

    plan = pipeline("plan", [reserve, costly, Charge()], retry_policy=RetryPolicy.GLOBAL, max_attempts=3)
    with no_backoff(), pytest.raises(Exception, match="not begun"):
        asyncio.run(run(plan(State(order=1)), run_name="it", store=memory_store(disk)))
    assert [entry[0] for entry in did if not isinstance(entry, str)] == ["release"]


def test_a_finished_run_is_rolled_back_by_its_store() -> None:
    plan = pipeline("plan", [reserve, parallel(Charge())])

    async def both() -> None:
        store = memory_store(disk)
        await run(plan(State(order=1)), run_name="it", store=store)
        await store.rollback("it")

    asyncio.run(both())
    assert did[2:] == [("refund", 7, 1), ("release", "reserve", Status.ROLLING_BACK, 1, 1, ["shelf 3"])]
    read = stage_states(memory_store(disk).state_sync("it"), plan)
    assert {state.status for state in read.values()} == {Status.ROLLED_BACK}


@task(retries=2)
async def refund(state: State) -> None:
    did.append(("try", ctx().attempt_number))
    if ctx().attempt_number < 2:
        raise ConnectionError


def test_an_undo_that_is_a_task_keeps_its_options() -> None:
    @stage(name="pays", undo=refund)
    async def pays(state: State, earlier: Seen) -> None: ...

    with no_backoff(), pytest.raises(ConnectionError, match="no ship"):
        asyncio.run(run(pipeline("plan", [pays, ship])(State(order=1)), run_name="it", store=memory_store(disk)))
    assert did == ["ship", ("try", 0), ("try", 1), ("try", 2)]


@task
async def sees(order: int) -> str:
    try:
        await orders(State(order=order))
    except ConnectionError as error:
        return str(error)
    return "done"


def test_wherever_it_is_killed_each_stage_that_COMPLETED_is_undone_and_the_outcome_is_the_same() -> None:
    for survival in crash_everywhere(lambda: sees(1), ledger=ledger):
        assert (survival.value, survival.error) == ("no ship", None), survival
        order = [entry.what for entry in survival.entries if entry.what in ("refund", "release")]
        assert {"refund", "release"} <= set(order), survival
        assert order == sorted(order), survival  # at least once each, the newest first
        read = stage_states(survival.store.state_sync("program"), orders)
        assert [state.status for state in read.values()][:2] == [Status.ROLLED_BACK] * 2, survival


PROGRAM = """
import sys
from collections.abc import Mapping
from typing import Any
import holdfast as hf

class State(hf.StageState[Any]):
    order: int

class Take(hf.Stage[State]):
    def __init__(self, what: str) -> None:
        self.name = what

    async def execute(self, state: State, earlier: Mapping[str, State]) -> None:
        print("take", self.name, state.order)

    async def rollback(self, state: State) -> None:
        print("give back", self.name, state.order, state.attempts)

takes = hf.pipeline("takes", [Take("a.b"), Take("c d")])

if __name__ == "__main__":
    hf.run_sync(takes(State(order=3)), run_name="it", store=sys.argv[1])
"""


def test_another_process_finds_the_undos_by_importing_the_module_of_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(PROGRAM)
    source = str(Path(__file__).parents[2] / "src")

    def play(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert play("shop.py", "runs") == "take a.b 3\ntake c d 3\n"
    rollback = "import asyncio, holdfast as hf; asyncio.run(hf.Store('runs').rollback('it'))"
    assert play("-c", rollback) == "give back c d 3 1\ngive back a.b 3 1\n"
    assert Store(tmp_path / "runs").state_sync("it").status is Status.ROLLED_BACK
