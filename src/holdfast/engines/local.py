"""The local engine: `async def` bodies on this loop, `def` bodies in threads of its own.

At most `THREAD_SLOTS` `def` bodies work at once. One that waits for actions of its own gives its slot back meanwhile, so bodies that call
each other never wait for each other's slots.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import Final

from holdfast.attempts import Abandoned, Outcome, run_async, run_sync
from holdfast.bridge import Threads
from holdfast.contexts import Link
from holdfast.orders import Capsule, Order

THREAD_SLOTS: Final = 32


class LocalEngine:
    """Attempts in this process. Belongs to one event loop."""

    def __init__(self, slots: int = THREAD_SLOTS) -> None:
        self._threads = Threads("holdfast-def")
        self._slots = asyncio.Semaphore(slots)
        self._in_threads: set[int] = set()

    async def run(self, order: Order, capsule: Capsule, link: Link) -> Outcome:
        if order.definition.is_async:
            return await run_async(order, capsule, link)
        await self._slots.acquire()
        self._in_threads.add(id(capsule))
        copied = copy_context()
        future = asyncio.wrap_future(self._threads.submit(lambda: copied.run(run_sync, order, capsule, link)))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError as cause:
            link.cancel_children()
            await _settled(future, link.patience())
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

    async def aclose(self) -> None:
        self._threads.close()


async def _settled(future: asyncio.Future[Outcome], seconds: float) -> None:
    """Wait for the thread, up to `seconds`; being cancelled again does not cut it short."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not future.done() and (left := deadline - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.wait({future}, timeout=left)
        except asyncio.CancelledError:
            continue
