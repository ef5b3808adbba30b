"""Bare clients of S3 that send what we send, and how our requests are counted."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypeAlias, cast

from benchmarks.rows import Pairs
from benchmarks.servers import BUCKET
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.opening import open_folder

CLIENTS = {"fsspec": "s3fs", "obstore": "obstore"}
#: How much longer than a bare client we may take.
WITHIN = 1.25

Options: TypeAlias = dict[str, Any]


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

        yield BareObstore(obstore, obstore_at(options))
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


def obstore_at(options: Options) -> Any:
    from obstore.store import S3Store

    return S3Store(
        BUCKET,
        access_key_id=options["key"],
        secret_access_key=options["secret"],
        endpoint=options["endpoint_url"],
        region="us-east-1",
        client_options={"allow_http": True},
    )


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
