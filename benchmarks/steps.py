"""Durable steps: one after the other, ten thousand at once, and from record."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Literal

import holdfast as hf
from benchmarks.limits import ThreadAppends, group_commit_steps
from benchmarks.rows import Line, Pairs, Row, Scale, interleaved, micro

LIVE = 256


@hf.task
async def step(number: int) -> int:
    return number


@contextmanager
def store_folder() -> Iterator[Path]:
    """A folder in the working directory: what /tmp is may be memory."""
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def journal_bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in store.rglob("*.jsonl"))


# one after the other


@hf.task(name="sequential")
async def sequential(rounds: int, count: int, store: str, sync: bool) -> list[tuple[float, float]]:
    """Blocks of durable steps and of bare appends in turns, in one loop, to files of one folder."""
    done = count
    for number in range(count):
        await step(number)
    size = journal_bytes(Path(store)) // count
    taken: list[tuple[float, float]] = []
    with ThreadAppends(Path(store) / "bare", sync=sync) as bare:
        line = b"x" * (size - 1) + b"\n"
        for _ in range(rounds):
            began = perf_counter()
            for number in range(done, done + count):
                await step(number)
            between = perf_counter()
            for _ in range(count):
                await bare.append(line)
            taken.append(((between - began) / count, (perf_counter() - between) / count))
            done += count
    return taken


def _sequential(scale: Scale, durability: Literal["fsync", "flush"], most: float, beside: str) -> Line:
    with store_folder() as store:
        call = sequential(scale.rounds, scale.of(1000), str(store), durability == "fsync")
        pairs = Pairs(tuple(hf.run_sync(call, run_name="r", store=store, durability=durability)))
    return Line(
        what=f"a durable step after the other (`durability={durability!r}`)",
        promise=f"≤ {most} x {beside}",
        found=f"{pairs.ratio:.2f} x",
        ours=f"{micro(pairs.ours)} a step",
        limit=micro(pairs.limit),
        holds=pairs.ratio <= most,
    )


def measure_sequential(scale: Scale) -> Sequence[Line]:
    return [
        _sequential(scale, "fsync", 1.5, "one append + fdatasync from a thread"),
        _sequential(scale, "flush", 2.5, "one append from a thread"),
    ]


# many at once


def _delays(count: int) -> list[float]:
    drawn = random.Random(20260)
    return [drawn.random() * 0.005 for _ in range(count)]


@hf.task(concurrency=LIVE)
async def sleepy(number: int, seconds: float) -> int:
    await asyncio.sleep(seconds)
    return number


@hf.task
async def fan_out(delays: list[float]) -> int:
    return sum(await asyncio.gather(*(sleepy(number, seconds) for number, seconds in enumerate(delays))))


def measure_fan_out(scale: Scale) -> Sequence[Line]:
    delays = _delays(scale.of(10_000))
    size = 400

    def ours() -> float:
        nonlocal size
        with store_folder() as store:
            began = perf_counter()
            total = hf.run_sync(fan_out(delays), run_name="r", store=store)
            seconds = perf_counter() - began
            size = journal_bytes(store) // len(delays)
        assert total == sum(range(len(delays)))
        return seconds

    def bare() -> float:
        with store_folder() as store:
            began = perf_counter()
            asyncio.run(group_commit_steps(store / "bare", delays, LIVE, size))
            return perf_counter() - began

    pairs = interleaved(scale.rounds, ours, bare)
    rate, speed = len(delays) / pairs.ours, 1 / pairs.ratio
    return [
        Line(
            what=f"{len(delays):,} durable steps, {LIVE} live, sleeping 0 to 5 ms",
            promise="≥ 10,000 a second, and ≥ 0.5 x a bare group commit of the same bytes",
            found=f"{speed:.2f} x",
            ours=f"{rate:,.0f} a second",
            limit=f"{len(delays) / pairs.limit:,.0f} a second",
            holds=rate >= 10_000 and speed >= 0.5,
        )
    ]


# from record


class NotYet(Exception):
    """Ends the root after its steps, so that the next run finds them all finished."""


_gate: list[bool] = []


@hf.task
async def reuse(count: int) -> int:
    total = sum(await asyncio.gather(*(step(number) for number in range(count))))
    if not _gate:
        raise NotYet
    return total


async def _bare_gather(count: int) -> int:
    async def recorded(number: int) -> int:
        return number

    return sum(await asyncio.gather(*(recorded(number) for number in range(count))))


def _reuse(scale: Scale, count: int) -> Pairs:
    with store_folder() as folder:
        _gate.clear()
        try:
            hf.run_sync(reuse(count), run_name="r", store=folder / "finished", durability="flush")
        except NotYet:
            _gate.append(True)

        def ours() -> float:
            shutil.copytree(folder / "finished", folder / "copy")
            began = perf_counter()
            total = hf.run_sync(reuse(count), run_name="r", store=folder / "copy")
            seconds = perf_counter() - began
            shutil.rmtree(folder / "copy")
            assert total == sum(range(count))
            return seconds

        def bare() -> float:
            began = perf_counter()
            for path in (folder / "finished").rglob("*.jsonl"):
                for line in path.read_bytes().splitlines():
                    json.loads(line)
            asyncio.run(_bare_gather(count))
            return perf_counter() - began

        return interleaved(scale.rounds, ours, bare)


def measure_reuse(scale: Scale) -> Sequence[Line]:
    base = scale.of(10_000)
    first: Pairs | None = None
    lines: list[Line] = []
    for count in [base, 10 * base, *([100 * base] if scale.long else [])]:
        pairs = _reuse(scale if count == base else Scale(rounds=1), count)
        first = first or pairs
        growth = (pairs.ours / count) / (first.ours / base)
        is_base = count == base
        lines.append(
            Line(
                what=f"{count:,} finished steps reused",
                promise="within 1 s" if is_base else f"linear: ≤ 1.5 x per step of {base:,}",
                found=f"{pairs.ours:.2f} s" if is_base else f"{growth:.2f} x per step",
                ours=f"{count / pairs.ours:,.0f} a second",
                limit=f"`json.loads` of the journal + bare gather: {count / pairs.limit:,.0f} a second ({pairs.ratio:.1f} x)",
                holds=pairs.ours <= 1 if is_base else growth <= 1.5,
            )
        )
    return lines


ROWS = (Row("sequential", measure_sequential), Row("fan-out", measure_fan_out), Row("reuse", measure_reuse))
