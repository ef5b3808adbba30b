"""Rows: a task called with each of many items, durably, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import holdfast as hf
from benchmarks.rows import Line, Row, Scale, interleaved
from benchmarks.steps import NotYet, step, store_folder

WIDTH = 32
#: A promise of the design: bytes that an owner keeps of a row that is done.
PER_ROW = 256

_taken: list[tuple[int, int]] = []
_gate: list[bool] = []


def items(count: int) -> Iterator[int]:
    yield from range(count)


@hf.task(name="rows")
async def stream(count: int) -> int:
    """Sum up rows as they end; before the second process of a run, leave it unfinished."""
    total = 0
    async for row in hf.records(step, items(count), concurrency=WIDTH):
        total += row.value or 0
    if not _gate:
        raise NotYet
    return total


async def with_semaphore(count: int) -> int:
    """What one writes without a library: a task for each row, a semaphore around it, nothing kept."""
    free = asyncio.Semaphore(WIDTH)

    async def row(number: int) -> int:
        async with free:
            await asyncio.sleep(0)
            return number

    return sum(await asyncio.gather(*(row(number) for number in items(count))))


def _run(count: int, store: Path) -> float:
    """Seconds that it takes, fresh or from record."""
    began = perf_counter()
    try:
        hf.run_sync(stream(count), run_name="r", store=store)
    except NotYet:
        pass
    return perf_counter() - began


def measure_rows(scale: Scale) -> Sequence[Line]:
    count = scale.of(100_000)
    reused: list[float] = []

    def ours() -> float:
        with store_folder() as store:
            _gate.clear()
            seconds = _run(count, store)
            _gate.append(True)
            reused.append(_run(count, store))
        return seconds

    def bare() -> float:
        began = perf_counter()
        assert asyncio.run(with_semaphore(count)) == sum(range(count))
        return perf_counter() - began

    pairs = interleaved(scale.rounds, ours, bare)
    again = sorted(reused)[len(reused) // 2]
    return [
        Line(
            what=f"{count:,} rows through `records`, durable, {WIDTH} at a time",
            promise="",
            found=f"{count / pairs.ours:,.0f} a second",
            ours=f"from record: {count / again:,.0f} a second",
            limit=f"`gather` with a semaphore, nothing kept: {count / pairs.limit:,.0f} a second",
        ),
        _memory(scale),
    ]


@hf.task(name="measured rows")
async def measured(count: int) -> int:
    total = 0
    async for _ in hf.records(step, items(count), concurrency=WIDTH):
        total += 1
        if total in (count // 2, count):
            gc.collect()
            _taken.append((total, tracemalloc.get_traced_memory()[0]))
    return total


def _memory(scale: Scale) -> Line:
    count = scale.of(100_000)
    _taken.clear()
    tracemalloc.start()
    try:
        with store_folder() as store:
            hf.run_sync(measured(count), run_name="r", store=store, durability="flush")
    finally:
        tracemalloc.stop()
    (half, before), (all_of_them, after) = _taken
    each = (after - before) / (all_of_them - half)
    tasks = _bare_memory(count)
    return Line(
        what=f"memory that a finished row keeps, of {count:,} streamed",
        promise=f"≤ {PER_ROW} bytes",
        found=f"{each:.0f} bytes",
        ours=f"{after / 2**20:,.0f} MiB in all",
        limit=f"`gather` with a semaphore: {tasks / count:,.0f} bytes a row, before the first has ended",
        holds=each <= PER_ROW,
    )


def _bare_memory(count: int) -> int:
    """Bytes at the most, while a task for each row is there."""
    tracemalloc.start()
    try:
        asyncio.run(with_semaphore(count))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# a million


@hf.task(name="a million rows")
async def million(count: int) -> int:
    """Stream them, and print by how much the process grew meanwhile, at the end and at the most, by all that the system says it holds."""
    began, grown, done, at = _resident(), 0, 0, perf_counter()
    async for _ in hf.records(step, items(count), concurrency=WIDTH):
        done += 1
        if done % 50_000 == 0:
            grown = max(grown, (_resident() - began) // done)
    seconds = perf_counter() - at
    print(_resident() - began, grown, _resident() - int(os.environ["HOLDFAST_BEFORE"]), count / seconds, flush=True)
    if not os.environ.get("HOLDFAST_AGAIN"):
        raise NotYet
    return done


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_million(scale: Scale) -> Sequence[Line]:
    """Each in a process of its own: fresh, and again from record. Only with `--long`: it takes minutes."""
    if not scale.long:
        return []
    count = scale.of(1_000_000)
    with store_folder() as store:
        fresh, most, _, rate = _in_a_process(store, count, again=False)
        _, _, resumed, rate_again = _in_a_process(store, count, again=True)
    return [
        Line(
            what=f"{count:,} rows through `records`: growth of the process a row, what it returned (an int) included",
            promise=f"≤ {PER_ROW} bytes",
            found=f"{fresh / count:.0f} bytes, {most:.0f} at the most on the way",
            ours=f"{rate:,.0f} rows a second; from record {resumed / count:.0f} bytes and {rate_again:,.0f} a second",
            limit="",
            holds=max(most, resumed / count) <= PER_ROW,
        )
    ]


def _in_a_process(store: Path, count: int, *, again: bool) -> list[float]:
    environment = {**os.environ, "HOLDFAST_AGAIN": "yes" if again else ""}
    program = [sys.executable, "-m", "benchmarks.fanout", str(store), str(count)]
    told = subprocess.run(program, env=environment, check=True, capture_output=True, text=True).stdout
    return [float(word) for word in told.split()]


ROWS = (Row("rows", measure_rows), Row("million-rows", measure_million))


if __name__ == "__main__":
    os.environ["HOLDFAST_BEFORE"] = str(_resident())
    with contextlib.suppress(NotYet):
        hf.run_sync(million(int(sys.argv[2])), run_name="r", store=sys.argv[1], durability="flush")
