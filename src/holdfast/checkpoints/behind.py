"""Saves that are written while the body goes on: in order, few of them waiting, and none that a newer one makes needless."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from holdfast.checkpoints.prepared import Prepared
from holdfast.retention import Retention, Saved, may_be_passed_over

#: Saves that wait for the one being written. A further one waits for room, before it takes its copy.
MOST: Final = 2


class Behind:
    """The saves of one attempt that were asked for with `wait=False`.

    Args:
        write: Writes one.
        let_go: Called with each that was written, or will not be.
        retention: Which saves somebody may want.
    """

    def __init__(
        self, write: Callable[[Prepared], Awaitable[object]], let_go: Callable[[Prepared], Awaitable[None]], retention: Retention
    ) -> None:
        self._write = write
        self._let_go = let_go
        self._retention = retention
        self._waiting: list[Prepared] = []
        self._writer: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._failure: Exception | None = None
        self._last_failed = False

    async def room_for(self, newer: Saved) -> None:
        """Return when `newer` can be put. Raises: what an earlier save failed with."""
        self.report()
        while sum(not self._passes_over(older, newer) for older in self._waiting) >= MOST:
            if self._writer is None or self._writer.done():
                return
            self._moved.clear()
            await self._moved.wait()
            self.report()

    async def put(self, newer: Prepared) -> None:
        """Have a save written in its turn, and leave out those that it makes needless."""
        needless = [older for older in self._waiting if self._passes_over(older, newer.asked.saved)]
        self._waiting = [older for older in self._waiting if not self._passes_over(older, newer.asked.saved)] + [newer]
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
            self._writer.add_done_callback(self._ended)
        for older in needless:
            await self._let_go(older)

    async def settled(self) -> None:
        """Return when nothing is waiting or being written. Who is cancelled here leaves it at work. Raises: what a save failed with."""
        while (writer := self._writer) is not None:
            await asyncio.wait({writer})
            if self._writer is writer:
                self._writer = None
            writer.result()
        self.report()

    async def ended_well(self) -> None:
        """The same at the attempt's end, which only its last save can fail."""
        try:
            await self.settled()
        except Exception:
            if self._last_failed:
                raise

    def report(self) -> None:
        """Raise, once, what a save failed with since the last report."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def give_up(self) -> None:
        """Stop what is being written, and forget what waits."""
        self._waiting = []
        if self._writer is not None:
            self._writer.cancel()

    def _passes_over(self, older: Prepared, newer: Saved) -> bool:
        return may_be_passed_over(self._retention, older.asked.saved, newer)

    async def _write_all(self) -> None:
        while self._waiting:
            prepared = self._waiting.pop(0)
            self._moved.set()
            try:
                await self._write(prepared)
            except Exception as error:  # for whoever saves, flushes or ends next
                self._failure = self._failure if self._failure is not None else error
                self._last_failed = True
            else:
                self._last_failed = False
            finally:
                await self._let_go(prepared)

    def _ended(self, writer: asyncio.Task[None]) -> None:
        self._moved.set()
        if not writer.cancelled():
            writer.exception()
