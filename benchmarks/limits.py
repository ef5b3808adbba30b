"""What the machine gives without us: the bare things that the rows are measured beside."""

from __future__ import annotations

import asyncio
import hashlib
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self


class ThreadAppends:
    """One append, and where asked one fdatasync, from a thread: what a durable step can't do without."""

    def __init__(self, path: Path, *, sync: bool) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._sync = sync
        self._thread = ThreadPoolExecutor(1)

    async def append(self, data: bytes) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._append, data)

    def _append(self, data: bytes) -> None:
        os.write(self._fd, data)
        if self._sync:
            os.fdatasync(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        os.close(self._fd)


class GroupCommit:
    """Lines of all that wait go out in one write and one fdatasync, on a thread; the next group gathers meanwhile."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._loop = asyncio.get_running_loop()
        self._lines: list[bytes] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._writing: list[asyncio.Future[None]] | None = None
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> None:
        self._lines.append(line)

    async def commit(self, line: bytes) -> None:
        self._lines.append(line)
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        if self._writing is None and len(self._waiters) == 1:
            self._loop.call_soon(self._flush)
        await waiter

    def _flush(self) -> None:
        if self._writing is None and self._waiters:
            self._writing, self._waiters = self._waiters, []
            lines, self._lines = self._lines, []
            self._queue.put(b"".join(lines))

    def _written(self) -> None:
        written, self._writing = self._writing, None
        for waiter in written or ():
            if not waiter.done():
                waiter.set_result(None)
        self._flush()

    def _write(self) -> None:
        while (data := self._queue.get()) is not None:
            os.write(self._fd, data)
            os.fdatasync(self._fd)
            self._loop.call_soon_threadsafe(self._written)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        os.close(self._fd)


async def group_commit_steps(path: Path, delays: Sequence[float], live: int, size: int) -> int:
    """Steps that write a line, sleep, and return when a second line is durable: `size` bytes a step, `live` of them at once."""
    commits, slots = GroupCommit(path), asyncio.Semaphore(live)
    begun, ended = b"b" * (size // 2 - 1) + b"\n", b"e" * (size - size // 2 - 1) + b"\n"

    async def step(number: int) -> int:
        async with slots:
            commits.append(begun)
            await asyncio.sleep(delays[number])
        await commits.commit(ended)
        return number

    try:
        return sum(await asyncio.gather(*(step(number) for number in range(len(delays)))))
    finally:
        commits.close()


def copy_hash_sync(source: Path, target: Path) -> str:
    """Read, hash, write, fsync: one after the other, in large chunks."""
    digest = hashlib.sha256()
    with source.open("rb", buffering=0) as reading, target.open("wb", buffering=0) as writing:
        while chunk := reading.read(4 * 1024 * 1024):
            digest.update(chunk)
            writing.write(chunk)
        os.fsync(writing.fileno())
    return digest.hexdigest()
