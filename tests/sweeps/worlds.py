"""Stores in which savers and sweepers meet: processes that stop between any two steps, die, and get their answers late."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from typing import TypeVar

from holdfast.blobs import Blobs, Saving, blob_key
from holdfast.checkpoints.generations import FORMAT, NAMES_BLOBS, name_of, sealed
from holdfast.codec import to_json
from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.protocol import Entry, Folder, Logs, Trouble
from holdfast.folders.threads import at_once
from holdfast.testing.buckets import MemoryBucket

T = TypeVar("T")

DAY = 24 * 3600.0


class Killed(BaseException):
    """The process is dead."""


class LateBucket(MemoryBucket):
    """Now and then an answer is lost: what was asked for is done at once, or later, or never."""

    def __init__(self, rng: random.Random, lost: float) -> None:
        super().__init__()
        self.landing: set[asyncio.Task[None]] = set()
        self._rng = rng
        self._lost = lost

    async def put(self, name: str, data: bytes) -> None:
        await self._maybe(lambda: MemoryBucket.put(self, name, data))

    async def touch(self, name: str) -> None:
        await self._maybe(lambda: MemoryBucket.touch(self, name))

    async def delete(self, names: Sequence[str]) -> None:
        await self._maybe(lambda: MemoryBucket.delete(self, names))

    def trouble(self, error: Exception) -> Trouble:
        return Trouble.PASSING if isinstance(error, ConnectionError) else super().trouble(error)

    async def _maybe(self, operation: Callable[[], Awaitable[None]]) -> None:
        if self._rng.random() >= self._lost:
            return await operation()
        task = asyncio.ensure_future(self._late(operation))
        self.landing.add(task)
        task.add_done_callback(self.landing.discard)
        raise ConnectionError("reset by peer")

    async def _late(self, operation: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(self._rng.choice((0.0, 0.3, 20.0, 600.0)))
        if self._rng.random() < 0.8:
            try:
                await operation()
            except FileNotFoundError:
                pass


class Process:
    """One process's view of the store: it may stand still before and after each step, and be killed at one."""

    def __init__(self, inner: Folder, rng: random.Random, *, pauses: Sequence[float], dies_at: int | None = None) -> None:
        self.url = inner.url
        self._inner = inner
        self._rng = rng
        self._pauses = pauses
        self._left = [dies_at] if dies_at is not None else []

    @property
    def logs(self) -> Logs | None:
        return self._inner.logs

    @property
    def unfenced(self) -> str | None:
        return None

    async def get(self, key: str) -> bytes:
        return await self._step(lambda: self._inner.get(key))

    async def put(self, key: str, data: bytes, *, sync: bool = True) -> None:
        await self._step(lambda: self._inner.put(key, data, sync=sync))

    async def create(self, key: str, data: bytes, *, sync: bool = True) -> None:
        await self._step(lambda: self._inner.create(key, data, sync=sync))

    async def delete(self, *keys: str) -> None:
        for key in keys:  # between any two of them, too
            await self._step(lambda key=key: self._inner.delete(key))  # type: ignore[misc]

    async def delete_tree(self, prefix: str) -> None:
        await self._step(lambda: self._inner.delete_tree(prefix))

    async def stat(self, key: str) -> Entry | None:
        return await self._step(lambda: self._inner.stat(key))

    async def touch(self, key: str) -> None:
        await self._step(lambda: self._inner.touch(key))

    async def list(self, prefix: str) -> Sequence[Entry]:
        return await self._step(lambda: self._inner.list(prefix))

    async def walk(self, prefix: str) -> Sequence[Entry]:
        return await self._step(lambda: self._inner.walk(prefix))

    def child(self, prefix: str) -> Folder:
        seen = copy.copy(self)  # of the same process
        seen._inner, seen.url = self._inner.child(prefix), f"{self.url}/{prefix}"
        return seen

    async def aclose(self) -> None: ...

    async def pause(self) -> None:
        await asyncio.sleep(self._rng.choice(self._pauses) * self._rng.random())

    async def _step(self, operation: Callable[[], Awaitable[T]]) -> T:
        await self.pause()
        if self._left:
            self._left[0] -= 1
            if self._left[0] < 0:
                raise Killed
        answer = await operation()
        await self.pause()
        return answer


def on_bucket(bucket: MemoryBucket) -> ObjectFolder:
    async def opened() -> MemoryBucket:
        return bucket

    return ObjectFolder(opened, "", "bucket:")


def on_disk(disk: MemoryDisk) -> LocalFolder:
    return LocalFolder(disk, "/store", "memory:", run=at_once)


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def manifest_key(action: str, n: int, *, run: str = "r") -> str:
    return f"runs/{run}/000000/actions/{action}/checkpoints/{name_of((1, 0, n))}{NAMES_BLOBS}"


def manifest(names: Mapping[str, str]) -> bytes:
    """A manifest that names blobs, by the digests of what they hold."""
    return sealed(to_json({"holdfast": FORMAT, "parts": [["part", [[held, 1, name] for held, name in names.items()]]]}))


async def save(store: Folder, saving: Saving, key: str, contents: Sequence[bytes], handed_on: Mapping[str, str]) -> dict[str, str]:
    """Put contents, but those whose names are handed on, and create the manifest. Returns the names of all."""
    names = dict(handed_on)
    for data in contents:
        held = digest(data)
        if held not in names:
            names[held] = (await saving.put(data, held))[0]
    await saving.assure()
    await store.create(key, manifest(names))
    return names


async def saved(store: Folder, key: str, *contents: bytes, blobs: Blobs | None = None) -> dict[str, str]:
    """One save, from its beginning to its end."""
    own = blobs if blobs is not None else Blobs(store, sync=True)
    async with own.saving() as saving:
        names = await save(store, saving, key, contents, {})
    if blobs is None:
        await own.aclose()
    return names


async def is_there(store: Folder, name: str) -> bool:
    return await store.stat(blob_key(name)) is not None


async def blobs_in(store: Folder) -> set[str]:
    return {entry.name.rpartition("/")[2] for entry in await store.walk("blobs")}
