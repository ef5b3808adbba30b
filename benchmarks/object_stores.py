"""Runs and small checkpoints in S3, beside bare clients that send the same bytes to the same server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import holdfast as hf
from benchmarks.bare_s3 import CLIENTS, WITHIN, Counts, Options, bare_puts, folder_at, in_turns
from benchmarks.rows import Line, Row, Scale
from benchmarks.servers import ministack
from benchmarks.steps import step
from holdfast import Store, ctx
from holdfast.folders.objects import ObjectFolder

SMALL = os.urandom(1024)


@hf.task
async def chains(width: int, count: int) -> float:
    """So many chains of steps at the same time. Gives the seconds that they took."""
    await step(-1)

    async def chain(first: int) -> None:
        for number in range(first, count, width):
            await step(number)

    began = perf_counter()
    await asyncio.gather(*(chain(first) for first in range(width)))
    return perf_counter() - began


def measure_steps(scale: Scale) -> Sequence[Line]:
    with ministack() as options:
        return [
            _steps(options, scale, client, width, scale.of(count))
            for client in CLIENTS
            for width, count in ((1, 300), (32, 5_000), (1_000, 20_000))
        ]


def _steps(options: Options, scale: Scale, client: str, width: int, count: int) -> Line:
    """Beside as many bare puts as we create objects, of their mean size, one after the other: the fence allows no two at a time."""
    runs, made = 0, Counts()

    def ours() -> float:
        nonlocal runs, made
        runs, made = runs + 1, Counts()
        folder = folder_at(options, f"steps-{client}-{width}-{runs}", client, made)
        return float(asyncio.run(_in(folder, chains(width, count))))

    def limit() -> float:
        puts = max(made.verbs["create"], 1) if made.verbs else max(count // width, 1)
        return asyncio.run(bare_puts(options, client, puts, max(made.sent // puts, 400), 1))

    ours()
    pairs = in_turns(scale.rounds, ours, limit)
    return Line(
        what=f"durable steps with the journal in S3, {width:,} at a time ({CLIENTS[client]})",
        promise=f"≤ {WITHIN} x the same puts" if width == 1 else "",
        found=f"{pairs.ratio:.2f} x; {made.requests / count * 1000:,.0f} requests for 1,000 steps",
        ours=f"{count / pairs.ours:,.0f} a second",
        limit=f"{count / pairs.limit:,.0f} a second",
        holds=pairs.ratio <= WITHIN if width == 1 else None,
    )


async def _in(folder: ObjectFolder, call: Any) -> Any:
    try:
        return await hf.run(call, run_name="r", store=Store.on(folder), handle_signals=False)
    finally:
        await folder.aclose()


@hf.task
async def saver(number: int, count: int) -> None:
    for _ in range(count):
        await ctx().checkpoint.save(SMALL)


@hf.task
async def savers(width: int, count: int) -> float:
    began = perf_counter()
    await asyncio.gather(*(saver(number, count // width) for number in range(width)))
    return perf_counter() - began


def measure_saves(scale: Scale) -> Sequence[Line]:
    with ministack() as options:
        return [
            _saves(options, scale, client, width, max(scale.of(count), 10 * width))
            for client in CLIENTS
            for width, count in ((1, 300), (32, 1_600))
        ]


def _saves(options: Options, scale: Scale, client: str, width: int, count: int) -> Line:
    runs, made = 0, Counts()

    def ours() -> float:
        nonlocal runs, made
        runs, made = runs + 1, Counts()
        folder = folder_at(options, f"saves-{client}-{width}-{runs}", client, made)
        return float(asyncio.run(_in(folder, savers(width, count))))

    pairs = in_turns(scale.rounds, ours, lambda: asyncio.run(bare_puts(options, client, count, len(SMALL), width)))
    return Line(
        what=f"checkpoints of 1 KiB in S3, {width} at a time ({CLIENTS[client]})",
        promise=f"≤ {WITHIN} x as many puts",
        found=f"{pairs.ratio:.2f} x; {made.requests / count:.1f} requests a save, deleting included",
        ours=f"{count / pairs.ours:,.0f} a second",
        limit=f"{count / pairs.limit:,.0f} a second",
        holds=pairs.ratio <= WITHIN,
    )


ROWS = (Row("s3-steps", measure_steps), Row("s3-saves", measure_saves))
