"""How a blocking operation is awaited: one hop into a thread for the whole operation, and never left running behind its caller.

A cancelled caller waits for the end of what it began, and only then hears of the cancellation: an object is whole or absent, and
nothing lands later. The pool is our own: the event loop's default one is small, and shared with whoever else blocks in it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

import anyio

T = TypeVar("T")
P = ParamSpec("P")

#: Operations that block at one time. Disks answer a few dozen requests at once; more threads only wait in another place.
THREADS = 16

_pool: list[ThreadPoolExecutor] = []


class Runner(Protocol):
    """Who carries out a blocking operation for an awaiting caller."""

    async def __call__(self, operation: Callable[[], T], /) -> T: ...


async def in_thread(operation: Callable[[], T], /) -> T:
    """Run `operation` in a thread of the pool. From any event loop, in any thread."""
    return await to_end(asyncio.get_running_loop().run_in_executor(pool(), operation))


async def at_once(operation: Callable[[], T], /) -> T:
    """Run `operation` here: for disks that never block, and for tests in which nothing but the loop decides the order."""
    return operation()


async def to_end(work: Awaitable[T], *, hurry: Callable[[], None] | None = None) -> T:
    """Await `work` to its end. Where the awaiting task is cancelled meanwhile, call `hurry`, and raise that when the work has ended."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError as cancelled:
        if future.done():
            raise
        if hurry is not None:
            hurry()
        await _outlast(future)
        raise cancelled from (None if future.cancelled() else future.exception())


async def _outlast(future: asyncio.Future[T]) -> None:
    # anyio cancels again in each round of the loop: its shield keeps that from spinning. Plain asyncio cancels once a call.
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait({future})
            except asyncio.CancelledError:
                continue  # the first cancellation is the one that is raised


def pool() -> ThreadPoolExecutor:
    """The threads that wait for disks."""
    if not _pool:
        _pool.append(ThreadPoolExecutor(THREADS, thread_name_prefix="holdfast-folders"))
    return _pool[0]


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Callable[[], T]:
    """`partial`, with all its arguments given, typed as what it is then."""
    return partial(function, *args, **kwargs)


if hasattr(os, "register_at_fork"):  # the threads stay behind in the parent: a forked child begins with a new pool
    os.register_at_fork(after_in_child=_pool.clear)
