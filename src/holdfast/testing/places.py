"""Where a program under crashes keeps its store: on a disk or in an object store, in memory or a real one.

A `Place` gives each life of the program a store that dies with it, and says what the next life finds. What it holds can be put aside
(`seen`), to be looked at when the program has long gone on.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

from holdfast.folders.disk import OsDisk
from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.protocol import Bucket, Disk
from holdfast.folders.threads import at_once
from holdfast.frozen import Frozen
from holdfast.stores import Store
from holdfast.testing.bucket_crashes import CrashBucket, Wire
from holdfast.testing.buckets import MemoryBucket, bucket_folder
from holdfast.testing.clocks import no_backoff
from holdfast.testing.faults import CrashDisk
from holdfast.testing.lives import Life, When
from holdfast.testing.loops import ShuffledLoop, VirtualLoop, run_in
from holdfast.testing.stores import ROOT, memory_store

R = TypeVar("R")

#: Where real time passes, the owner that died is believed dead after so many seconds.
REAL_LEASE: Final = 0.3


class Point(Frozen):
    """Where a process dies: at its operation number `at`, in which way, and how late what it asked for lands."""

    at: int
    when: When = "before"
    late_by: int = 1


class Place(Protocol):
    """A store on which a program can die, and live again."""

    ways: tuple[When, ...]
    """How a process can die here."""

    def fresh(self) -> Place:
        """An empty one of the same kind."""
        ...

    def begin(self, point: Point | None) -> tuple[Store, Life]:
        """A process that dies at `point`: the store as it sees it, and its life."""
        ...

    def play(self, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Run one life, in the time of the place. Retries don't wait."""
        ...

    def left(self, power_cut: random.Random | None = None) -> Place:
        """What the next process finds; with `power_cut`, when the power went as well."""
        ...

    def seen(self) -> Place:
        """What it holds now, put aside in memory."""
        ...

    def settle(self) -> None:
        """Have done whatever is on its way."""
        ...

    @property
    def store(self) -> Store:
        """The store as it is now."""
        ...


class DiskPlace:
    """A disk in memory."""

    ways: tuple[When, ...] = ("before", "after", "torn")
    disk: MemoryDisk

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.disk = disk if disk is not None else MemoryDisk()

    def fresh(self) -> Place:
        return DiskPlace()

    def begin(self, point: Point | None) -> tuple[Store, Life]:
        mortal = _mortal_disk(self.disk, point)
        return memory_store(mortal), mortal.life

    def play(self, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        with no_backoff():
            return asyncio.run(main())

    def left(self, power_cut: random.Random | None = None) -> Place:
        return DiskPlace(self.disk.copy() if power_cut is None else self.disk.power_cut(power_cut))

    def seen(self) -> Place:
        return DiskPlace(self.disk.copy())

    def settle(self) -> None:
        """Nothing is on its way: the operations of a disk end with its process."""

    @property
    def store(self) -> Store:
        return memory_store(self.disk)


class FilesPlace:
    """A real folder. Each program has one of its own in it.

    Args:
        where: An empty folder that nobody else uses.
    """

    ways: tuple[When, ...] = ("before", "after", "torn")

    def __init__(self, where: Path) -> None:
        self._where = where
        self._here = where / "0"
        self._numbers = itertools.count(1)

    def fresh(self) -> Place:
        place = FilesPlace(self._where)
        place._numbers = self._numbers
        place._here = self._where / str(next(self._numbers))
        return place

    def begin(self, point: Point | None) -> tuple[Store, Life]:
        mortal = _mortal_disk(OsDisk(), point)
        return self._on(mortal), mortal.life

    def play(self, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        with no_backoff():
            return asyncio.run(main())

    def left(self, power_cut: random.Random | None = None) -> Place:
        """Nobody cuts the power of a real disk here."""
        return self

    def seen(self) -> Place:
        disk = MemoryDisk()
        disk.make_folder(ROOT)
        for path in sorted(self._here.rglob("*")):
            there = f"{ROOT}/{path.relative_to(self._here).as_posix()}"
            if path.is_dir():
                disk.make_folder(there)
            else:
                disk.write_new(there, path.read_bytes()).close()
        return DiskPlace(disk)

    def settle(self) -> None:
        """Nothing is on its way."""

    @property
    def store(self) -> Store:
        return self._on(OsDisk())

    def _on(self, disk: Disk) -> Store:
        return Store.on(LocalFolder(disk, str(self._here), self._here.as_uri(), run=at_once))


class BucketPlace:
    """An object store in memory, in virtual time.

    Args:
        bucket: What it holds.
        seed: Shuffles the tasks of each life; by default they run in asyncio's order.
    """

    ways: tuple[When, ...] = ("before", "after", "late")
    bucket: MemoryBucket

    def __init__(self, bucket: MemoryBucket | None = None, *, seed: int | None = None) -> None:
        self.bucket = bucket if bucket is not None else MemoryBucket()
        self._seed = seed
        self._wire = Wire()
        self._time = 0.0

    def fresh(self) -> Place:
        return BucketPlace(seed=self._seed)

    def begin(self, point: Point | None) -> tuple[Store, Life]:
        life = _life(point)
        return Store.on(bucket_folder(_mortal_bucket(self.bucket, point, self._wire, life))), life

    def play(self, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        loop = VirtualLoop(self._time) if self._seed is None else ShuffledLoop(self._seed, self._time)
        try:
            return run_in(loop, main)
        finally:
            self._time = loop.time()  # it never goes back, whoever lives

    def left(self, power_cut: random.Random | None = None) -> Place:
        """An object store has no power to lose: what it acknowledged stays."""
        return self

    def seen(self) -> Place:
        place = BucketPlace(self.bucket.copy())
        place._time = self._time
        return place

    def settle(self) -> None:
        asyncio.run(self._wire.settle(self.bucket))

    @property
    def store(self) -> Store:
        return Store.on(bucket_folder(self.bucket))


class RemotePlace:
    """A real object store. Each program has a folder of its own in it.

    Args:
        folder: Opens the place at a path: `lambda path: open_folder(f"s3://bucket/tests/{path}")`.
    """

    ways: tuple[When, ...] = ("before", "after", "late")

    def __init__(self, folder: Callable[[str], ObjectFolder], path: str = "0") -> None:
        self._folder = folder
        self._path = path
        self._numbers = itertools.count(1)
        self._wire = Wire()

    def fresh(self) -> Place:
        place = RemotePlace(self._folder, str(next(self._numbers)))
        place._numbers = self._numbers
        return place

    def begin(self, point: Point | None) -> tuple[Store, Life]:
        life = _life(point)
        folder = self._folder(self._path).through(lambda bucket: _mortal_bucket(bucket, point, self._wire, life))
        return self._on(folder), life

    def play(self, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        with no_backoff():
            return asyncio.run(main())

    def left(self, power_cut: random.Random | None = None) -> Place:
        """What it acknowledged stays."""
        return self

    def seen(self) -> Place:
        async def copied() -> MemoryBucket:
            folder, aside = self._folder(self._path), MemoryBucket()
            for entry in await folder.walk(""):
                await aside.put(entry.name, await folder.get(entry.name))
            await folder.aclose()
            return aside

        return BucketPlace(asyncio.run(copied()))

    def settle(self) -> None:
        async def landed() -> None:
            opened: list[Bucket] = []

            def kept(bucket: Bucket) -> Bucket:
                opened.append(bucket)
                return bucket

            folder = self._folder(self._path).through(kept)
            await folder.stat("nothing")  # so that there is a client
            await self._wire.settle(opened[0])
            await folder.aclose()

        if self._wire:
            asyncio.run(landed())

    @property
    def store(self) -> Store:
        """A copy of it: a client of the real one would have to be closed."""
        return self.seen().store

    def _on(self, folder: ObjectFolder) -> Store:
        return Store.on(folder, lease=timedelta(seconds=REAL_LEASE))


def _life(point: Point | None) -> Life:
    return Life(point.at, point.when) if point is not None else Life()


def _mortal_disk(disk: Disk, point: Point | None) -> CrashDisk:
    return CrashDisk(disk, at=point.at, when=point.when) if point is not None else CrashDisk(disk)


def _mortal_bucket(bucket: Bucket, point: Point | None, wire: Wire, life: Life) -> CrashBucket:
    return CrashBucket(bucket, late_by=point.late_by if point is not None else 1, wire=wire, life=life)


On: TypeAlias = Literal["disk", "bucket"] | Place


def place_of(on: On) -> Place:
    """An empty place of that kind."""
    if on == "disk":
        return DiskPlace()
    return BucketPlace() if on == "bucket" else on.fresh()
