"""Runs and checkpoints in S3, beside bare clients that send the same bytes to the same server, and beside Flyte's way with a directory."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any, Protocol, cast

import holdfast as hf
from benchmarks.rows import Line, Pairs, Row, Scale
from benchmarks.servers import BUCKET, ministack, moto
from benchmarks.steps import step, store_folder
from holdfast import Store, ctx
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.opening import open_folder

MIB = 1024 * 1024
SIZE = 1024 * MIB
#: The same as a checkpoint's own, so that a bare client makes the same requests.
CHUNK, WIDTH = 4 * MIB, 16
SMALL = os.urandom(1024)
CLIENTS = {"fsspec": "s3fs", "obstore": "obstore"}
WITHIN = 1.25
#: Seconds from a change to the save that may take a file's times for its content.
SETTLED = 2.1

Options = dict[str, Any]


# what was asked of a store


class Counts:
    """Requests by verb, and the bytes that went with them."""

    def __init__(self) -> None:
        self.verbs: Counter[str] = Counter()
        self.sent = 0

    @property
    def requests(self) -> int:
        return self.verbs.total()


class Counted:
    """A bucket that counts what it is asked."""

    def __init__(self, bucket: Any, counts: Counts) -> None:
        self._bucket = bucket
        self._counts = counts

    def __getattr__(self, verb: str) -> Any:
        found = getattr(self._bucket, verb)
        return partial(self._asked, verb, found) if asyncio.iscoroutinefunction(found) and verb != "aclose" else found

    async def _asked(self, verb: str, operation: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        self._counts.verbs[verb] += 1
        self._counts.sent += sum(len(each) for each in args if isinstance(each, bytes))
        return await operation(*args)


def folder_at(options: Options, place: str, client: str, counts: Counts | None = None) -> ObjectFolder:
    folder = cast("ObjectFolder", open_folder(f"s3://{BUCKET}/{place}", client=client, **options))
    return folder if counts is None else folder.through(lambda bucket: cast("Any", Counted(bucket, counts)))


# the bare clients


class Bare(Protocol):
    async def put(self, name: str, data: bytes) -> None: ...

    async def get(self, name: str) -> bytes: ...


class BareS3fs:
    def __init__(self, filesystem: Any) -> None:
        self._filesystem = filesystem

    async def put(self, name: str, data: bytes) -> None:
        await self._filesystem._pipe_file(f"{BUCKET}/{name}", data)

    async def get(self, name: str) -> bytes:
        return bytes(await self._filesystem._cat_file(f"{BUCKET}/{name}", max_concurrency=1))  # one GET, and no HEAD before it


class BareObstore:
    def __init__(self, obstore: Any, store: Any) -> None:
        self._obstore = obstore
        self._store = store

    async def put(self, name: str, data: bytes) -> None:
        await self._obstore.put_async(self._store, name, data, use_multipart=False)

    async def get(self, name: str) -> bytes:
        return bytes(await (await self._obstore.get_async(self._store, name)).bytes_async())


@asynccontextmanager
async def bare(options: Options, client: str) -> AsyncIterator[Bare]:
    if client == "obstore":
        import obstore
        from obstore.store import S3Store

        store = S3Store(
            BUCKET,
            access_key_id=options["key"],
            secret_access_key=options["secret"],
            endpoint=options["endpoint_url"],
            region="us-east-1",
            client_options={"allow_http": True},
        )
        yield BareObstore(obstore, store)
        return
    import s3fs

    filesystem = s3fs.S3FileSystem(
        **options,
        asynchronous=True,
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={"max_pool_connections": 64},
    )
    session = await filesystem.set_session()
    try:
        yield BareS3fs(filesystem)
    finally:
        await session.close()


async def side_by_side(work: Iterable[Awaitable[Any]], width: int) -> float:
    """Seconds that it takes, so many at a time."""
    turn = asyncio.Semaphore(width)

    async def one(each: Awaitable[Any]) -> None:
        async with turn:
            await each

    began = perf_counter()
    await asyncio.gather(*(one(each) for each in work))
    return perf_counter() - began


async def bare_puts(options: Options, client: str, count: int, size: int, width: int) -> float:
    async with bare(options, client) as there:
        await there.put("bare/first", b"")
        data = os.urandom(size)
        return await side_by_side((there.put(f"bare/{number}", data) for number in range(count)), width)


def in_turns(rounds: int, ours: Callable[[], float], limit: Callable[[], float]) -> Pairs:
    """As `rows.interleaved`, without a warm-up: a round takes seconds."""
    taken: list[tuple[float, float]] = []
    for number in range(rounds):
        second = limit() if number % 2 else None
        first = ours()
        taken.append((first, second if second is not None else limit()))
        gc.collect()
    return Pairs(tuple(taken))


# steps


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


# small saves


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


# large files and directories


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
    """Seconds of one round, and the bytes that the second save sent."""

    save: float = 0.0
    again: float = 0.0
    trusted: float = 0.0
    load: float = 0.0
    sent: int = 0
    size: int = 0


_counting: list[Counts] = []


@hf.task
async def large(source: str, size: int) -> Taken:
    """Save, change 1 % and save, change 1 % and save trusting what is unchanged, and load. The last of `_counting` counts."""
    (counts,) = _counting[-1:]
    taken, path = Taken(size=size), Path(source)
    taken.save = await _seconds(ctx().checkpoint.save(path))
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
    shape = replace(shape, files=max(scale.of(shape.files), min(shape.files, 10)))
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
    part = median(each.sent / each.size for each in rounds)
    again, trusted = (median(getattr(each, name) / each.save for each in rounds) for name in ("again", "trusted"))
    return [
        Line(f"{what}: save", f"≤ {WITHIN} x the same puts", f"{pairs.ratio:.2f} x", *_rates(size, pairs), pairs.ratio <= WITHIN),
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
    from obstore.store import S3Store

    store = S3Store(
        BUCKET,
        access_key_id=options["key"],
        secret_access_key=options["secret"],
        endpoint=options["endpoint_url"],
        region="us-east-1",
        client_options={"allow_http": True},
    )
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


ROWS = (
    Row("s3-steps", measure_steps),
    Row("s3-saves", measure_saves),
    *(Row(shape.name, partial(_measure_large, shape)) for shape in SHAPES),
)
