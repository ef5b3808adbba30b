"""Where time comes from, so that tests bring their own.

One clock is current in a process. It is read when it is needed, never kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime

#: Linux counts time asleep in CLOCK_BOOTTIME alone; macOS does so in CLOCK_MONOTONIC, which is not Python's time.monotonic there.
_STEADY: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


class Clock:
    """Real time. `now` is POSIX seconds (UTC); instants shown to users are aware datetimes."""

    is_real: bool = True
    """False, where time moves by what one event loop does."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back, and that go on while the machine sleeps, where the system has such a clock."""
        return time.clock_gettime(_STEADY) if _STEADY is not None else time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def back_off(self, seconds: float) -> None:
        """Wait before another attempt. Apart from `sleep`, so that tests can do without backoff alone."""
        await self.sleep(seconds)


_current = Clock()


def clock() -> Clock:
    """Return the current clock."""
    return _current


@contextmanager
def use_clock(replacement: Clock) -> Generator[None]:
    """Make `replacement` the process's clock within the block."""
    global _current
    before, _current = _current, replacement
    try:
        yield
    finally:
        _current = before


def instant(seconds: float) -> datetime:
    """POSIX seconds as an aware datetime in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
