"""The local engine: `async def` bodies on this loop, `def` bodies in threads of its own.

At most `THREAD_SLOTS` `def` bodies work at once. One that waits for actions of its own gives its slot back meanwhile, so bodies that call
each other never wait for each other's slots.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import copy_context
from typing import Any, Final, cast

from holdfast.attempts import Abandoned, Ended, Outcome, run_async, run_sync
from holdfast.bridge import Threads
from holdfast.contexts import Link
from holdfast.orders import Capsule, Order

THREAD_SLOTS: Final = 32


class LocalEngine:
    """Attempts in this process. Belongs to one event loop."""

    def __init__(self, slots: int = THREAD_SLOTS) -> None:
        self._threads: Threads | None = None  # most ephemeral runs need none
        self._slots = asyncio.Semaphore(slots)
        self._in_threads: set[int] = set()

    def run(self, order: Order, capsule: Capsule, link: Link) -> Coroutine[Any, Any, Outcome]:
        return run_async(order, capsule, link) if order.definition.is_async else self._run_in_thread(order, capsule, link)

    async def _run_in_thread(self, order: Order, capsule: Capsule, link: Link) -> Outcome:
        try:
            await self._slots.acquire()
        except asyncio.CancelledError as cause:
            return Ended(cause)
        self._in_threads.add(id(capsule))
        copied = copy_context()
        pool = cast("Executor", self._thread_pool())  # as far as a loop asks for one; a virtual loop waits for what it was given itself
        future = asyncio.get_running_loop().run_in_executor(pool, lambda: copied.run(run_sync, order, capsule, link))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError as cause:
            link.leave()
            link.cancel_children()
            await _settled(future, link.patience)
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            return future.result() if future.done() else Abandoned(cause)
        finally:
            self.pause(capsule)

    def pause(self, capsule: Capsule) -> bool:
        if id(capsule) not in self._in_threads:
            return False
        self._in_threads.discard(id(capsule))
        self._slots.release()
        return True

    async def proceed(self, capsule: Capsule) -> None:
        await self._slots.acquire()
        self._in_threads.add(id(capsule))

    def _thread_pool(self) -> Threads:
        if self._threads is None:
            self._threads = Threads("holdfast-def")
        return self._threads

    async def aclose(self) -> None:
        if self._threads is not None:
            self._threads.close()


async def _settled(future: asyncio.Future[Outcome], patience: Callable[[], float]) -> None:
    """Wait for the thread, up to `patience()` seconds; being cancelled again cuts it short only where that has become less."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not future.done() and (left := began + patience() - loop.time()) > 0:
        try:
            await asyncio.wait({future}, timeout=left)
        except asyncio.CancelledError:
            continue
