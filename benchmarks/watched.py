"""What it costs to be watched: an event told to observers, and the view on a terminal at a hundred thousand actions.

Both sides are the processor's time of the whole process: observers have threads of their own, which on one core still take turns.
"""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import Callable, Sequence
from time import process_time

import holdfast as hf
from benchmarks.rows import Line, Row, Scale, interleaved, micro
from holdfast import ctx
from holdfast.observers.jsonlines import JsonLinesObserver
from holdfast.observers.terminal import TerminalObserver

LIVE = 256


class Counting:
    """Does nothing with what it is told."""

    live = True

    def __init__(self) -> None:
        self.told = 0

    def on_event(self, event: hf.Event, /) -> None:
        self.told += 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@hf.task(name="watched.step")
async def step(number: int) -> int:
    return number


@hf.task(name="watched.steps")
async def steps(count: int) -> int:
    turn = asyncio.Semaphore(LIVE)

    async def one(number: int) -> None:
        async with turn:
            await step(number)
            ctx().progress("steps", total=count)

    await asyncio.gather(*(one(number) for number in range(count)))
    return count


def _seconds(count: int, observers: Sequence[hf.Observer]) -> float:
    async def main() -> float:
        async with hf.Store(f"memory://watched-{secrets.token_hex(4)}") as store:
            began = process_time()
            handle = await hf.start(steps(count), run_name="r", store=store, observers=observers)
            await handle.result()
            if any(told.missed for told in handle.told):
                raise RuntimeError(f"events were missed: {handle.told}")
            return process_time() - began

    return asyncio.run(main())


def measure_events(scale: Scale) -> Sequence[Line]:
    count = scale.of(20_000)
    lines = []
    for observers in (1, 3):
        pairs = interleaved(scale.rounds, lambda n=observers: _seconds(count, [Counting() for _ in range(n)]), lambda: _seconds(count, []))  # type: ignore[misc]
        each = pairs.added / (4 * count * observers)
        what = f"an event told to {'an observer' if observers == 1 else f'each of {observers} observers'}"
        lines.append(Line(what, "beside a run without any", f"+ {micro(each)}", f"{pairs.ours:.2f} s", f"{pairs.limit:.2f} s"))
    return lines


def _view(what: str, scale: Scale, make: Callable[[], hf.Observer]) -> Line:
    count = scale.of(100_000)
    pairs = interleaved(scale.rounds, lambda: _seconds(count, [make()]), lambda: _seconds(count, []))
    share = pairs.added / pairs.ours
    return Line(
        f"{what} at {count:,} actions", "share of the run's time", f"{100 * share:.0f} %", f"{pairs.ours:.1f} s", f"{pairs.limit:.1f} s"
    )


def measure_views(scale: Scale) -> Sequence[Line]:
    return [
        _view("the view on a terminal", scale, lambda: TerminalObserver(Terminal())),
        _view("lines of JSON", scale, lambda: JsonLinesObserver(io.BytesIO())),
    ]


ROWS = (Row("events", measure_events), Row("views", measure_views))
