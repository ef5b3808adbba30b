"""Time in tests: a clock that stands still, and one that does not wait between attempts."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Final

from holdfast import clocks

#: So many turns of the loop without a new sleeper, and time jumps. What is ready to run, and what that makes ready, goes first.
TURNS: Final = 25


class Clock(clocks.Clock):
    """Virtual time: `now()` moves by `advance`, and by sleeping, and by nothing else.

    Example::

        clock = Clock()
        with clock.use():
            asyncio.run(run(poll_every_hour(), store=memory_store()))  # 24 hours in no time
        assert clock.elapsed == 24 * 3600

    Args:
        start: What time it is at first, aware.
        jumps: Whether time jumps to the first sleeper's end as soon as the loop has nothing else to do; with False, only `advance` wakes
            sleepers. What threads and disks do takes no virtual time, and is not waited for.
    """

    is_real: bool = False

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC), *, jumps: bool = True) -> None:
        self._start = self._now = start.timestamp()
        self._jumps = jumps
        self._lock = threading.Lock()
        self._made = 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    @property
    def elapsed(self) -> float:
        """Seconds since its start."""
        return self._now - self._start

    @property
    def sleepers(self) -> int:
        """How many wait for it now."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return await asyncio.sleep(0)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._made += 1
            made, end = self._made, self._now + seconds
            heapq.heappush(self._sleepers, (end, made, future))
        try:
            if self._jumps:
                await self._rest(future)
                if not future.done():
                    self.advance(max(end - self._now, 0.0))
            await future
        finally:
            future.cancel()  # whoever was cancelled here sleeps no more, and nobody waits for that

    async def _rest(self, future: asyncio.Future[None]) -> None:
        """Return when this sleeper is the first to wake, and nobody has come or gone for a while."""
        seen, turns = self._made, 0
        while not future.done() and turns < TURNS:
            await asyncio.sleep(0)
            first = next((waiting for _, _, waiting in sorted(self._sleepers, key=_order) if not waiting.done()), future)
            turns = turns + 1 if seen == self._made and first is future else 0
            seen = self._made

    def advance(self, seconds: float) -> None:
        """Move time on, and wake who slept up to then, in the order of their ends."""
        with self._lock:
            self._now += seconds
            while self._sleepers and self._sleepers[0][0] <= self._now:
                future = heapq.heappop(self._sleepers)[2]
                if not future.done():
                    future.get_loop().call_soon_threadsafe(_wake, future)

    def use(self) -> AbstractContextManager[None]:
        """Make it the clock of the process within the block."""
        return clocks.use_clock(self)


def _order(sleeper: tuple[float, int, asyncio.Future[None]]) -> tuple[float, int]:
    return sleeper[:2]


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Impatient(clocks.Clock):
    """The clock before, without waits between attempts."""

    def __init__(self, before: clocks.Clock) -> None:
        self._before = before
        self.is_real = before.is_real

    def now(self) -> float:
        return self._before.now()

    def monotonic(self) -> float:
        return self._before.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._before.sleep(seconds)

    async def back_off(self, seconds: float) -> None:
        await asyncio.sleep(0)


@contextmanager
def no_backoff() -> Generator[None]:
    """Within the block, retries follow at once. Everything else about them stays: how many there are, and what is recorded.

    Example::

        with no_backoff():
            asyncio.run(run(flaky(), store=memory_store()))
    """
    with clocks.use_clock(_Impatient(clocks.clock())):
        yield
