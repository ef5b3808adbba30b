"""Large files and directories in S3, beside bare clients that send the same bytes, and beside Flyte's way with a directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import tarfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import holdfast as hf
from benchmarks.bare_s3 import CLIENTS, WITHIN, Counts, Options, bare, folder_at, in_turns, obstore_at, side_by_side
from benchmarks.rows import Line, Pairs, Row, Scale
from benchmarks.servers import ministack, moto
from benchmarks.steps import store_folder
from holdfast import Store, ctx
from holdfast.folders.objects import ObjectFolder

MIB = 1024 * 1024
SIZE = 1024 * MIB
#: The same as a checkpoint's own, so that a bare client makes the same requests.
CHUNK, WIDTH = 4 * MIB, 16
#: Seconds from a change to the save that may take a file's times for its content.
SETTLED = 2.1


@dataclass(frozen=True)
class Shape:
    """What is saved: one file, or a directory of some; on which server, and how often at most."""

    name: str
    files: int
    server: Callable[[], AbstractContextManager[Options]] = moto
    rounds: int = 3

    @property
    def what(self) -> str:
        return f"{self.files:,} files" if self.files else "a file"


SHAPES = (
    Shape("s3-file", 0),
    Shape("s3-directory", 10),
    Shape("s3-many-files", 10_000, ministack, rounds=1),
)


@dataclass
class Taken:
    """Seconds of one round, the requests of the first save, and the bytes that the second one sent."""

    save: float = 0.0
    again: float = 0.0
    trusted: float = 0.0
    load: float = 0.0
    sent: int = 0
    size: int = 0
    requests: int = 0


_counting: list[Counts] = []


@hf.task
async def large(source: str, size: int) -> Taken:
    """Save, change 1 % and save, change 1 % and save trusting what is unchanged, and load. The last of `_counting` counts."""
    (counts,) = _counting[-1:]
    taken, path = Taken(size=size), Path(source)
    asked = counts.requests
    taken.save = await _seconds(ctx().checkpoint.save(path))
    taken.requests = counts.requests - asked
    _change(path, size // 100)
    before = counts.sent
    taken.again = await _seconds(ctx().checkpoint.save(path))
    taken.sent = counts.sent - before
    _change(path, size // 100)
    taken.trusted = await _seconds(ctx().checkpoint.save(path, trust_stat=True))
    taken.load = await _seconds(ctx().checkpoint.load())
    return taken


async def _seconds(work: Awaitable[Any]) -> float:
    began = perf_counter()
    await work
    return perf_counter() - began


def _write(path: Path, shape: Shape, size: int) -> None:
    if shape.files == 0:
        _write_file(path, size)
        return
    for number in range(shape.files):
        below = path / f"{number // 100:03}"
        below.mkdir(parents=True, exist_ok=True)
        _write_file(below / f"{number:05}.bin", size // shape.files)


def _write_file(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for start in range(0, size, 8 * MIB):
            file.write(os.urandom(min(8 * MIB, size - start)))


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())


def _change(path: Path, size: int) -> None:
    """Write anew so many bytes: of the first files, and of the last of them a part."""
    for each in _files(path):
        if size <= 0:
            break
        part = min(size, each.stat().st_size)
        with each.open("r+b") as file:
            file.write(os.urandom(part))
        size -= part


def _measure_large(shape: Shape, scale: Scale) -> Sequence[Line]:
    size = max(scale.of(SIZE), 64 * MIB)
    if shape.files:
        shape = replace(shape, files=max(scale.of(shape.files), 10))
    lines: list[Line] = []
    with store_folder() as here:
        source = here / "source"
        _write(source, shape, size)
        sleep(SETTLED)
        for client in CLIENTS:
            with shape.server() as options:
                lines += _beside_bare(options, scale, client, shape, size, source, here)
        if shape.files:
            with shape.server() as options:
                lines += _beside_flyte(options, lines, shape, size, source, here)
    return lines


def _beside_bare(options: Options, scale: Scale, client: str, shape: Shape, size: int, source: Path, here: Path) -> list[Line]:
    rounds: list[Taken] = []
    loads: list[float] = []

    def ours() -> float:
        counts = Counts()
        folder = folder_at(options, f"large-{client}-{len(rounds)}", client, counts)
        with store_folder() as copy:
            mine = copy / "source"
            _copy(source, mine)
            sleep(SETTLED)
            rounds.append(asyncio.run(_saved_and_forgotten(folder, str(mine), size, counts)))
        return rounds[-1].save

    def limit() -> float:
        saved, loaded = asyncio.run(_bare_large(options, client, source, here))
        loads.append(loaded)
        return saved

    pairs = in_turns(min(scale.rounds, shape.rounds), ours, limit)
    what = (
        f"1 GiB in S3, {shape.what} ({CLIENTS[client]})" if size == SIZE else f"{size // MIB} MiB in S3, {shape.what} ({CLIENTS[client]})"
    )
    load = Pairs(tuple((each.load, bare_load) for each, bare_load in zip(rounds, loads, strict=True)))
    saved = f"{pairs.ratio:.2f} x; {rounds[-1].requests:,} requests for {_parts(source):,} puts"
    part = median(each.sent / each.size for each in rounds)
    again, trusted = (median(getattr(each, name) / each.save for each in rounds) for name in ("again", "trusted"))
    return [
        Line(f"{what}: save", f"≤ {WITHIN} x the same puts", saved, *_rates(size, pairs), pairs.ratio <= WITHIN),
        Line(f"{what}: load", f"≤ {WITHIN} x the same gets", f"{load.ratio:.2f} x", *_rates(size, load), load.ratio <= WITHIN),
        Line(
            f"{what}: save again, 1 % changed",
            "≤ 5 % of the bytes; with `trust_stat` ≤ 5 % of the time" if shape.files else "≤ 5 % of the bytes",
            f"{part:.1%} of the bytes; {trusted:.1%} of the time",
            f"{median(each.trusted for each in rounds):.2f} s; {median(each.again for each in rounds):.2f} s ({again:.0%}) reading all",
            f"{median(each.save for each in rounds):.2f} s, the first save",
            part <= 0.05 and (trusted <= 0.05 or not shape.files),
        ),
    ]


def _parts(source: Path) -> int:
    return sum(-(-path.stat().st_size // CHUNK) for path in _files(source))


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _rates(size: int, pairs: Pairs) -> tuple[str, str]:
    return f"{size / MIB / pairs.ours:,.0f} MiB/s", f"{size / MIB / pairs.limit:,.0f} MiB/s"


async def _saved_and_forgotten(folder: ObjectFolder, source: str, size: int, counts: Counts) -> Taken:
    _counting.append(counts)
    try:
        taken: Taken = await hf.run(large(source, size), run_name="r", store=Store.on(folder), handle_signals=False)
        return taken
    finally:
        await folder.delete_tree("")  # the server keeps all in memory
        await folder.aclose()


async def _bare_large(options: Options, client: str, source: Path, here: Path) -> tuple[float, float]:
    """Put and get every file in the chunks that a checkpoint has, as many at a time; nothing is hashed, named or synced."""
    parts = [(path, start, path.stat().st_size) for path in _files(source) for start in range(0, path.stat().st_size, CHUNK)]
    target = here / "target"
    target.mkdir()
    async with bare(options, client) as there:

        async def put(number: int, path: Path, start: int, size: int) -> None:
            with path.open("rb", buffering=0) as file:
                file.seek(start)
                data = file.read(min(CHUNK, size - start))
            await there.put(f"bare-large/{number}", data)

        async def get(number: int, path: Path, start: int, size: int) -> None:
            data = await there.get(f"bare-large/{number}")
            with (target / path.name).open("r+b" if size > CHUNK else "wb", buffering=0) as file:
                file.seek(start)
                file.write(data)

        for path, start, size in parts:
            if start == 0 and size > CHUNK:
                (target / path.name).touch()
        saved = await side_by_side((put(number, *part) for number, part in enumerate(parts)), WIDTH)
        loaded = await side_by_side((get(number, *part) for number, part in enumerate(parts)), WIDTH)
    shutil.rmtree(target)
    forgotten = folder_at(options, "bare-large", client)
    await forgotten.delete_tree("")
    await forgotten.aclose()
    return saved, loaded


# Flyte's way


def _beside_flyte(options: Options, lines: Sequence[Line], shape: Shape, size: int, source: Path, here: Path) -> list[Line]:
    """One archive with gzip, made anew for every save and taken apart for every load, as `flyte.Checkpoint` (2.12) does; one round."""
    saved, loaded = asyncio.run(_flyte(options, source, here))
    first, load = lines[-3], lines[-2]
    what = f"1 GiB in S3, {shape.what}, as one tar with gzip (Flyte's way)" if size == SIZE else f"{shape.what}, as one tar with gzip"
    return [
        Line(f"{what}: each save", "", "", first.ours, f"{size / MIB / saved:,.0f} MiB/s"),
        Line(f"{what}: load", "", "", load.ours, f"{size / MIB / loaded:,.0f} MiB/s"),
    ]


async def _flyte(options: Options, source: Path, here: Path) -> tuple[float, float]:
    import obstore

    store = obstore_at(options)
    archive, target = here / "archive", here / "unpacked"
    began = perf_counter()
    _pack(source, archive)
    with archive.open("rb") as file:
        await obstore.put_async(store, "flyte", file)
    saved = perf_counter() - began
    began = perf_counter()
    with archive.open("wb") as writing:
        async for part in (await obstore.get_async(store, "flyte")).stream():
            writing.write(part)
    with tarfile.open(archive, "r:*") as tar:
        tar.extractall(target, filter="data")
    loaded = perf_counter() - began
    shutil.rmtree(target)
    archive.unlink()
    return saved, loaded


def _pack(source: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        for child in sorted(source.iterdir()):
            tar.add(child, arcname=child.name)


ROWS = tuple(Row(shape.name, partial(_measure_large, shape)) for shape in SHAPES)
