"""How many attempts of a task run at once in a run, and how many begin in a span of time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

from holdfast.clocks import clock
from holdfast.retries import Rate


class _Semaphore:
    """So many at once; first come, first served.

    An `asyncio.Semaphore` goes through all whom it let in and who did not run since: hundreds that end in one turn of the loop cost it
    tens of thousands of looks.
    """

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: deque[asyncio.Future[None]] = deque()  # nobody does, while some are free

    async def acquire(self) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():  # it was its turn, in this very moment
                self.release()
            raise

    def release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Limit:
    """The bound of one task in one run: `concurrency=` as an int, or a `Rate`. First come, first served."""

    def __init__(self, bound: int | Rate) -> None:
        rate = bound if isinstance(bound, Rate) else None
        width = bound if isinstance(bound, int) else bound.concurrency
        self._rate = rate
        self._free = _Semaphore(width) if width is not None else None
        self._begun: deque[float] = deque(maxlen=rate.count if rate is not None else 0)
        self._turn = asyncio.Lock()

    def begin(self) -> Coroutine[Any, Any, object]:
        """Wait until one more attempt may begin."""
        return self.proceed() if self._rate is None else self._begin_at(self._rate)

    async def _begin_at(self, rate: Rate) -> None:
        await self.proceed()
        try:
            async with self._turn:
                while len(self._begun) == rate.count and (wait := self._begun[0] + rate.per - clock().now()) > 0:
                    if wait > rate.per:  # the clock was set back
                        self._begun.append(clock().now())
                    else:
                        await clock().sleep(wait)
                self._begun.append(clock().now())
        except BaseException:
            self.pause()
            raise

    def pause(self) -> None:
        """Give the slot back: the attempt ended, waits for a retry, or its body waits for actions."""
        if self._free is not None:
            self._free.release()

    def proceed(self) -> Coroutine[Any, Any, object]:
        """Take the slot again."""
        return self._free.acquire() if self._free is not None else _nothing()


async def _nothing() -> None: ...


class Slot:
    """One action's share of a limit: held or not, so that giving it back twice gives it back once."""

    __slots__ = ("_held", "_limit")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._held = False

    def turn(self) -> Coroutine[Any, Any, object]:
        """What to await until an attempt may begin; then the slot is `taken`."""
        return self._limit.begin()

    def taken(self) -> None:
        self._held = True

    async def begin(self) -> None:
        """Wait until an attempt may begin, and hold the slot."""
        await self.turn()
        self.taken()

    def pause(self) -> None:
        """Give the slot back, if it is held: the attempt ended, waits for a retry, or its body waits for actions."""
        if self._held:
            self._held = False
            self._limit.pause()

    async def proceed(self) -> None:
        """Take the slot again."""
        await self._limit.proceed()
        if self._held:  # two calls that were made at once came back at once
            self._limit.pause()
        self._held = True
