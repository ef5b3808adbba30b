"""What a stage costs does not depend on how many there are: counted in calls of functions, not in time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any

from holdfast import RetryPolicy, StageState, pipeline, run, stage, stage_states, task
from holdfast.folders.memory import MemoryDisk
from holdfast.identity import sources
from holdfast.testing.stores import memory_store

gate: list[bool] = []


class State(StageState[Any]):
    number: int = 0


async def looks(state: State, earlier: Mapping[str, State]) -> None:
    if earlier:
        state.number = earlier[next(iter(earlier))].number + len(earlier)


@stage
async def ends(state: State, earlier: Mapping[str, State]) -> None:
    if not gate:
        raise ConnectionError


def plan(count: int) -> Any:
    stages: list[Any] = [stage(name=f"s{number}")(looks) for number in range(count)]
    return pipeline("plan", [*stages, ends], retry_policy=RetryPolicy.GLOBAL, max_attempts=count + 1)


def calls_of(play: Callable[[], object]) -> int:
    """How many functions are called, in this thread."""
    counted = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        play()
    finally:
        sys.setprofile(None)
    return counted


def play(call: Any, disk: MemoryDisk) -> None:
    try:
        asyncio.run(run(call, run_name="it", store=memory_store(disk)))
    except ConnectionError:
        assert not gate


def cost(count: int) -> tuple[int, int, int, int]:
    """Of a pipeline of so many stages: defining it, running it, resuming it with all but the last on record, reading all its states."""
    made: list[Any] = []
    disk = MemoryDisk()
    gate.clear()
    defined = calls_of(lambda: made.append(plan(count)))
    fresh = calls_of(lambda: play(made[0](State()), disk))
    gate.append(True)
    resumed = calls_of(lambda: play(made[0](State()), disk))
    state = memory_store(disk).state_sync("it")
    read = calls_of(lambda: dict(stage_states(state, made[0])))
    return defined, fresh, resumed, read


def test_a_stage_of_a_thousand_costs_what_one_of_a_hundred_costs() -> None:
    cost(10)
    hundred, thousand = cost(100), cost(1000)
    for few, many in zip(hundred, thousand, strict=True):
        assert many <= 11 * few


@task
async def steps(count: int) -> None:
    for number in range(count):
        await step(number)


@task
async def step(number: int) -> State:
    return State(number=number)


def test_a_stage_costs_at_most_half_as_much_again_as_a_step_that_returns_such_a_state() -> None:
    cost(10)
    _, fresh, resumed, _ = cost(500)
    disk = MemoryDisk()
    plain = calls_of(lambda: play(steps(500), disk))
    assert fresh <= 1.5 * plain
    assert resumed <= 1.5 * plain


def test_the_code_of_many_stages_is_read_once() -> None:
    sources._KNOWN.clear()  # pyright: ignore[reportPrivateUsage]
    gate.append(True)
    play(plan(200)(State()), MemoryDisk())
    assert len(sources._KNOWN) <= 3  # pyright: ignore[reportPrivateUsage]
