"""A checkpoint of one large file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import holdfast as hf
from benchmarks.limits import copy_hash_sync
from benchmarks.rows import Line, Row, Scale, interleaved
from benchmarks.steps import store_folder
from holdfast import ctx

MIB = 1024 * 1024
SIZE = 1024 * MIB


@hf.task
async def save(source: str) -> float:
    began = perf_counter()
    await ctx().checkpoint.save(Path(source))
    return perf_counter() - began


def _write_source(path: Path, size: int) -> None:
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)
        os.fsync(file.fileno())


def measure_file(scale: Scale) -> Sequence[Line]:
    size = max(scale.of(SIZE), 16 * MIB)
    with store_folder() as folder:
        source = folder / "model.bin"
        _write_source(source, size)

        def ours() -> float:
            with store_folder() as store:
                return asyncio.run(hf.run(save(str(source)), run_name="r", store=store))

        def bare() -> float:
            began = perf_counter()
            copy_hash_sync(source, folder / "copy")
            seconds = perf_counter() - began
            (folder / "copy").unlink()
            return seconds

        pairs = interleaved(scale.rounds, ours, bare)
    speed = 1 / pairs.ratio
    return [
        Line(
            f"a checkpoint of a file of {size / MIB:,.0f} MiB",
            "≥ 1.0 x read, hash, write, fsync, one after the other",
            f"{speed:.2f} x",
            f"{size / MIB / pairs.ours:,.0f} MiB/s",
            f"{size / MIB / pairs.limit:,.0f} MiB/s",
            speed >= 1.0,
        )
    ]


ROWS = (Row("file", measure_file),)
