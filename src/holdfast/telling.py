"""Observers: told of events, and able neither to fail nor to stall the work.

Each has a thread and a bounded queue of its own. What does not fit is counted, not waited for. An observer that raises is logged once with
its traceback, then counted.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import queue
import threading
import time
from collections.abc import Awaitable, Iterable
from typing import Any, Final, Protocol

from holdfast.errors import InvalidOption
from holdfast.events import Event

QUEUE_LENGTH: Final = 10_000
CLOSE_SECONDS: Final = 5.0

_log = logging.getLogger("holdfast")


class Observer(Protocol):
    """Is told of every recorded event of a run once it is durable; with an attribute `live = True` also of live events, at once.

    At the run's end `aclose()` is awaited, if it has one.
    """

    def on_event(self, event: Event, /) -> Awaitable[None] | None: ...


def check_observers(given: Any) -> tuple[Observer, ...]:
    """Raises: InvalidOption."""
    if not isinstance(given, Iterable):
        raise InvalidOption(option="observers", value=given, reason="it takes a list of observers")
    observers = tuple(given)
    for observer in observers:
        if not callable(getattr(observer, "on_event", None)):
            raise InvalidOption(option="observers", value=observer, reason="an observer has a method on_event(event)")
    return observers


class _Line:
    """One observer's queue and thread."""

    def __init__(self, observer: Observer, loop: asyncio.AbstractEventLoop) -> None:
        self.observer = observer
        self.wants_live = bool(getattr(observer, "live", False))
        self.dropped = 0
        self.failed = 0
        self.given_up = False
        self._loop = loop
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="holdfast-observer", daemon=True)
        self._thread.start()

    def offer(self, event: Event) -> None:
        if event.live and not self.wants_live:
            return
        if self._queue.qsize() < QUEUE_LENGTH:
            self._queue.put(event)
        else:
            self.dropped += 1

    def close(self) -> None:
        """Have the thread end after what is queued."""
        self._queue.put(None)

    def ended(self, seconds: float) -> bool:
        """Whether the observer is done, after at most `seconds`. Blocks."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (event := self._queue.get()) is not None and not self.given_up:
            try:
                self._tell(event)
            except BaseException:  # an observer never fails the work: its failure is logged and counted
                self.failed += 1
                if self.failed == 1:
                    _log.exception("observer %r failed; it is told of further events, and further failures are only counted", self.observer)

    def _tell(self, event: Event) -> None:
        answer = self.observer.on_event(event)
        if inspect.isawaitable(answer):
            asyncio.run_coroutine_threadsafe(_await(answer), self._loop).result()


async def _await(answer: Awaitable[Any]) -> None:
    await answer


class Telling:
    """All observers of a run."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        loop = asyncio.get_running_loop()
        self._lines = [_Line(observer, loop) for observer in observers]

    def __bool__(self) -> bool:
        return bool(self._lines)

    def tell(self, event: Event) -> None:
        """Offer an event to every observer, without waiting."""
        for line in self._lines:
            line.offer(event)

    async def aclose(self) -> None:
        """Give the observers, all together, `CLOSE_SECONDS` to finish, and say what they missed."""
        if not self._lines:
            return
        for line in self._lines:
            line.close()
        ended = await asyncio.to_thread(_ended, self._lines, CLOSE_SECONDS)
        await asyncio.gather(*(self._end(line, in_time) for line, in_time in zip(self._lines, ended, strict=True)))

    async def _end(self, line: _Line, in_time: bool) -> None:
        aclose = getattr(line.observer, "aclose", None)
        if in_time and aclose is not None:
            await self._aclose(line, aclose)
        line.given_up = not in_time
        if line.dropped or line.failed or not in_time:
            still = "" if in_time else ", and was still at work at the end"
            _log.warning("observer %r missed %d events, failed at %d%s", line.observer, line.dropped, line.failed, still)

    async def _aclose(self, line: _Line, aclose: Any) -> None:
        try:
            await asyncio.wait_for(aclose(), CLOSE_SECONDS)
        except Exception:  # as in `_run`
            line.failed += 1
            _log.exception("observer %r failed while it was closed", line.observer)


def _ended(lines: Iterable[_Line], seconds: float) -> list[bool]:
    """Wait for all of them until the same instant."""
    deadline = time.monotonic() + seconds
    return [line.ended(max(deadline - time.monotonic(), 0)) for line in lines]
