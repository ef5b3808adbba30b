"""Checkpoints of one large file, and of directories of few and of many files: saved, saved again with 1 % changed, and loaded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

import holdfast as hf
from benchmarks.limits import copy_hash_sync
from benchmarks.rows import Line, Pairs, Row, Scale, interleaved
from benchmarks.steps import store_folder
from holdfast import Generation, ctx

MIB = 1024 * 1024
SIZE = 1024 * MIB
#: Seconds after which a file's times can be trusted.
SETTLED = 2.2


@hf.task
async def save(source: str) -> float:
    began = perf_counter()
    await ctx().checkpoint.save(Path(source))
    return perf_counter() - began


@hf.task
async def load(source: str) -> float:
    await ctx().checkpoint.save(Path(source))
    began = perf_counter()
    await ctx().checkpoint.load()
    return perf_counter() - began


@hf.task
async def again(source: str) -> list[tuple[float, int, int]]:
    """Seconds, bytes sent, and bytes: of a first save, of one after 1 % changed, and of one with `trust_stat` after 1 % changed."""
    root, taken = Path(source), list[tuple[float, int, int]]()

    async def timed(trust_stat: bool) -> None:
        began = perf_counter()
        saved: Generation = await ctx().checkpoint.save(root, trust_stat=trust_stat)
        taken.append((perf_counter() - began, saved.sent or 0, saved.size))

    await asyncio.sleep(SETTLED)
    await timed(False)
    _change(root)
    await asyncio.sleep(SETTLED)
    await timed(False)
    _change(root)
    await timed(True)
    return taken


def _write(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for written in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - written)))
        os.fsync(file.fileno())


def _write_directory(root: Path, size: int, count: int) -> None:
    for number in range(count):
        place = root / f"{number % 100:02}"
        place.mkdir(parents=True, exist_ok=True)
        _write(place / f"{number}", size // count)


def _files(root: Path) -> list[Path]:
    return [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())


def _change(root: Path) -> None:
    """Write 1 % of the bytes anew: the first of many files, or a piece of the first of few."""
    files = _files(root)
    left = sum(path.stat().st_size for path in files) // 100
    for path in files:
        if left <= 0:
            break
        with path.open("r+b") as file:
            left -= file.write(os.urandom(min(left, path.stat().st_size)))


def _copy_all(source: Path, target: Path) -> float:
    """Read, hash, write and fsync each file, one after the other."""
    target.mkdir()
    began = perf_counter()
    for number, path in enumerate(_files(source)):
        copy_hash_sync(path, target / f"{number}")
    return perf_counter() - began


@contextmanager
def _sources(size: int, count: int) -> Generator[tuple[Path, Path]]:
    """A folder, and in it a file, or a directory of `count` files."""
    with store_folder() as folder:
        source = folder / "model"
        if count == 1:
            _write(source, size)
        else:
            _write_directory(source, size, count)
        yield folder, source


def _beside_copies(scale: Scale, folder: Path, source: Path, task: Callable[[str], hf.Call[float]]) -> Pairs:
    def ours() -> float:
        with store_folder() as store:
            return asyncio.run(hf.run(task(str(source)), run_name="r", store=store))

    def bare() -> float:
        with store_folder() as place:
            return _copy_all(source, place / "copies")

    return interleaved(scale.rounds, ours, bare)


def _named(size: int, count: int) -> str:
    return f"a file of {size / MIB:,.0f} MiB" if count == 1 else f"a directory of {size / MIB:,.0f} MiB in {count:,} files"


def _rates(what: str, promise: str, size: int, pairs: Pairs, *, promised: bool) -> Line:
    speed, mib = 1 / pairs.ratio, size / MIB
    holds = speed >= 1.0 if promised else None
    return Line(what, promise, f"{speed:.2f} x", f"{mib / pairs.ours:,.0f} MiB/s", f"{mib / pairs.limit:,.0f} MiB/s", holds)


def measure_file(scale: Scale) -> Sequence[Line]:
    size = max(scale.of(SIZE), 16 * MIB)
    with _sources(size, 1) as (folder, source):
        saved = _beside_copies(scale, folder, source, save)
        loaded = _beside_copies(scale, folder, source, load)
    promise = "≥ 1.0 x read, hash, write, fsync, one after the other"
    return [
        _rates(f"a checkpoint of {_named(size, 1)}", promise, size, saved, promised=True),
        _rates("the same, loaded", "beside the same", size, loaded, promised=False),
        *_again(scale, size, 1),
    ]


def measure_directories(scale: Scale) -> Sequence[Line]:
    lines: list[Line] = []
    for count in (10, scale.of(10_000)):
        size = max(scale.of(SIZE), 16 * MIB)
        with _sources(size, count) as (folder, source):
            saved = _beside_copies(scale, folder, source, save)
            loaded = _beside_copies(scale, folder, source, load)
        what = _named(size, count)
        lines.append(_rates(f"a checkpoint of {what}", "beside read, hash, write, fsync of each file", size, saved, promised=False))
        lines.append(_rates("the same, loaded", "beside the same", size, loaded, promised=False))
        lines += _again(scale, size, count)
    return lines


def _again(scale: Scale, size: int, count: int) -> list[Line]:
    rounds: list[list[tuple[float, int, int]]] = []
    for _ in range(scale.rounds):
        with _sources(size, count) as (_, source), store_folder() as store:
            rounds.append(asyncio.run(hf.run(again(str(source)), run_name="r", store=store)))
    times = [median(taken[number][0] for taken in rounds) for number in range(3)]
    parts = [median(taken[number][0] / taken[0][0] for taken in rounds) for number in range(3)]
    sent = median(taken[1][1] / taken[1][2] for taken in rounds)
    first, many = f"{times[0]:.2f} s", count > 100
    return [
        Line(
            "the same, 1 % changed: bytes sent", "≤ 5 % of the first save", f"{sent:.1%}", f"{sent * size / MIB:,.0f} MiB", "", sent <= 0.05
        ),
        Line("… time", "beside the first save", f"{parts[1]:.1%}", f"{times[1]:.2f} s", first),
        Line(
            "… time with `trust_stat`",
            "≤ 5 % of the first save" if many else "beside the first save",
            f"{parts[2]:.1%}",
            f"{times[2]:.2f} s",
            first,
            parts[2] <= 0.05 if many else None,
        ),
    ]


ROWS = (Row("file", measure_file), Row("directories", measure_directories))
