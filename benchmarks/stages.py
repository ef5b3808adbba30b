"""Ten thousand stages beside as many plain steps that return such a state: fresh, and from record."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import holdfast as hf
from benchmarks.rows import Line, Pairs, Row, Scale, interleaved, micro
from benchmarks.steps import NotYet, store_folder


class State(hf.StageState[Any]):
    number: int = 0


async def work(state: State, earlier: Mapping[str, State]) -> None:
    state.number = len(earlier)


@hf.task
async def step(number: int) -> State:
    return State(number=number)


_gate: list[bool] = []


@hf.stage
async def last(state: State, earlier: Mapping[str, State]) -> None:
    """Ends a pipeline after its stages, so that the next run finds them all finished."""
    if not _gate:
        raise NotYet


@hf.task
async def steps(count: int) -> None:
    for number in range(count):
        await step(number)
    if not _gate:
        raise NotYet


def _seconds(call: hf.Call[Any], store: Path) -> float:
    began = perf_counter()
    try:
        hf.run_sync(call, run_name="r", store=store, durability="flush")
    except NotYet:
        assert not _gate
    return perf_counter() - began


def _fresh(scale: Scale, stages: hf.AsyncTask[[State], State], count: int) -> Pairs:
    def timed(make: hf.Task[..., Any], given: object) -> float:
        with store_folder() as store:
            return _seconds(make.call(given), store)

    _gate.clear()
    return interleaved(scale.rounds, lambda: timed(stages, State()), lambda: timed(steps, count))


def _resumed(scale: Scale, stages: hf.AsyncTask[[State], State], count: int) -> Pairs:
    with store_folder() as folder:
        _gate.clear()
        _seconds(stages(State()), folder / "stages")
        _seconds(steps(count), folder / "steps")
        _gate.append(True)

        def timed(make: hf.Task[..., Any], given: object, finished: Path) -> float:
            shutil.copytree(finished, folder / "copy")
            seconds = _seconds(make.call(given), folder / "copy")
            shutil.rmtree(folder / "copy")
            return seconds

        return interleaved(
            scale.rounds, lambda: timed(stages, State(), folder / "stages"), lambda: timed(steps, count, folder / "steps")
        )  # fmt: skip


def measure_stages(scale: Scale) -> Sequence[Line]:
    count = scale.of(10_000)
    named: list[hf.Stage[State]] = [hf.stage(name=f"s{number}")(work) for number in range(count)]
    stages = hf.pipeline("stages", [*named, last], retry_policy=hf.RetryPolicy.GLOBAL, max_attempts=count + 1)
    taken = [(f"a pipeline of {count:,} stages", _fresh), (f"{count:,} finished stages reused", _resumed)]
    lines: list[Line] = []
    for what, measure in taken:
        pairs = measure(scale, stages, count)
        lines.append(
            Line(
                what=what,
                promise="≤ 1.5 x as many plain steps, each returning such a state",
                found=f"{pairs.ratio:.2f} x",
                ours=f"{micro(pairs.ours / count)} a stage",
                limit=f"{micro(pairs.limit / count)} a step",
                holds=pairs.ratio <= 1.5,
            )
        )
    return lines


ROWS = (Row("stages", measure_stages),)
