"""Observers: told of events, and able neither to fail nor to stall the work.

Each has a bounded queue and a thread of its own, and an event loop there if it needs one. What does not fit is counted, not waited for,
and the observer is told where something is missing. One that raises is logged once with its traceback, then counted. At the end all of
them together have `CLOSE_SECONDS`; their threads are daemons, so that one that hangs keeps no process from ending.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeAlias, cast

from holdfast.bridge import Threads
from holdfast.clocks import clock
from holdfast.errors import InvalidOption
from holdfast.events import Event, Missed, RunOpened
from holdfast.frozen import Frozen

QUEUE_LENGTH: Final = 500_000
"""At most so many events wait for an observer: a hundred thousand calls by one `gather` are told of in one burst."""
STUCK_LENGTH: Final = 10_000
STUCK_SECONDS: Final = 5.0
"""And no more than `STUCK_LENGTH` where it has been at one of them for so long."""
CLOSE_SECONDS: Final = 5.0
REST_SECONDS: Final = 0.01
"""An observer that is up to date looks again so much later: to wake a thread for each event costs several times what telling it does."""

_log = logging.getLogger("holdfast")


class Observer(Protocol):
    """Is told of every recorded event of a run once it is durable; with an attribute `live = True` also of live events, at once.

    `on_event` is called in a thread of the observer's own; what it returns is awaited, if it can be, on a loop in that thread. Besides,
    an observer may have

    - `for_run(opened: RunOpened) -> Observer`: gives who is told of this one run, so that one observer can be given to several runs, each
      with a state of its own. Called on the run's loop.
    - `around(body) -> AbstractContextManager[Mapping[str, str] | None]`: is entered around every body (see `engines.surrounded.Body`) in
      the body's own context, so that the context variables that it sets are seen there, also by a `def` body in its thread. Called on the
      run's loop: it is the one thing here that the work waits for. What entering it gives is bound as trace keys of the custom context.
    - `aclose()`, sync or async: called at the run's end, in the observer's thread, after all events.
    - `describe() -> str`: what `run.json` says of it.
    """

    def on_event(self, event: Event, /) -> Awaitable[None] | None: ...


class Told(Frozen):
    """How an observer fared in a run, so far.

    Attributes:
        observer: As it was given to the run.
        events: How many it was told of.
        missed: How many did not fit into its queue, or came when it had been given up.
        failed: How often it raised.
        has_ended: Whether it took all that it was told, and was closed.
    """

    observer: Any
    events: int
    missed: int
    failed: int
    has_ended: bool


Around: TypeAlias = Callable[[Any], AbstractContextManager[Mapping[str, str] | None]]
"""What an observer sets up around a body, and whom to tell of its failures: see `engines.surrounded`."""


class Surrounding(Frozen):
    """An observer's `around`, and what counts its failures."""

    around: Around
    note_failure: Callable[[], None]


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

    wants_live: bool

    def __init__(self, given: Observer) -> None:
        self.given = given
        self.observer = given
        self.wants_live = bool(getattr(given, "live", False))
        self.events = 0
        self.missed = 0
        self.failed = 0
        self.given_up = False
        self.has_ended = False
        self._gap = 0  # missed since something last fitted
        self._took_at = time.monotonic()
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._awake: Callable[[], object] | None = None  # of a loop that sleeps
        self._awaiting: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    @property
    def told(self) -> Told:
        return Told(self.given, self.events, self.missed, self.failed, self.has_ended)

    # on the run's loop

    def open(self, opened: RunOpened) -> None:
        """Find out who is told of this run."""
        for_run = getattr(self.given, "for_run", None)
        if for_run is None:
            return
        try:
            self.observer = for_run(opened)
            self.wants_live = bool(getattr(self.observer, "live", False))
        except Exception:
            self.given_up = True
            self.note_failure()

    def offer(self, event: Event) -> None:
        if event.live and not self.wants_live:
            return
        waiting = self._queue.qsize()
        if self.given_up or (waiting >= min(STUCK_LENGTH, QUEUE_LENGTH) and self._is_full(waiting)):
            self.missed += 1
            self._gap += 1
            return
        if self._gap:
            self._tell_of_gap()
        self._put(event)

    def _is_full(self, waiting: int) -> bool:
        return waiting >= QUEUE_LENGTH or time.monotonic() - self._took_at > STUCK_SECONDS

    def close(self) -> None:
        """Have the thread end after what is queued."""
        if self._gap and not self.given_up:
            self._tell_of_gap()
        self._put(None)
        self._closing.set()

    def give_up(self) -> None:
        """Wait no longer for it. What it awaits is cancelled."""
        self.given_up = True
        if (awaiting := self._awaiting) is not None:
            try:
                awaiting[0].call_soon_threadsafe(awaiting[1].cancel)
            except RuntimeError:  # its loop closed just now
                pass

    def _tell_of_gap(self) -> None:
        count, self._gap = self._gap, 0
        self._put(Missed(action="", at=clock().now(), count=count))

    def _put(self, event: Event | None) -> None:
        if self._thread is None:
            self._begin()
        self._queue.put(event)
        if (awake := self._awake) is not None:
            self._awake = None
            awake()

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name="holdfast-observer", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no further thread can be had
            self.given_up = True
            self.note_failure()

    # in any thread

    def wait(self, seconds: float) -> None:
        """Wait for its end, for at most `seconds`. Blocks."""
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join(seconds)

    def note_failure(self) -> None:
        """Count what was raised just now, and log the first of them."""
        self.failed += 1
        if self.failed == 1:
            _log.exception("observer %r failed; it is told of further events, and further failures are only counted", self.given)

    # in its own thread

    def _run(self) -> None:
        while not self.given_up:
            event = self._next_event()
            answer = self._aclose() if event is None else self._tell(event)
            if inspect.isawaitable(answer):
                self._go_on_with(answer, is_last=event is None)
                return
            if event is None:
                self.has_ended = True
                return

    def _next_event(self) -> Event | None:
        if self._queue.empty():
            self._closing.wait(REST_SECONDS)
        return self._queue.get()

    def _tell(self, event: Event) -> Any:
        self.events += 1
        self._took_at = time.monotonic()
        try:
            return self.observer.on_event(event)
        except BaseException:  # an observer never fails the work: its failure is logged and counted
            self.note_failure()
            return None

    def _aclose(self) -> Any:
        aclose = getattr(self.observer, "aclose", None)
        try:
            return aclose() if aclose is not None else None
        except BaseException:  # as in `_tell`
            self.note_failure()
            return None

    def _go_on_with(self, answer: Awaitable[Any], *, is_last: bool) -> None:
        """Tell the rest in a loop, which an observer that has to be awaited needs."""
        try:
            asyncio.run(self._serve(answer, is_last=is_last))
        except BaseException:  # its loop could not be begun or ended
            if not self.given_up:
                self.note_failure()

    async def _serve(self, answer: Any, *, is_last: bool) -> None:
        loop, awake = asyncio.get_running_loop(), asyncio.Event()
        task = asyncio.current_task()
        assert task is not None
        self._awaiting = loop, task
        await self._wait_for(answer)
        while not self.given_up and not is_last:
            if self._queue.empty():
                self._awake = lambda: loop.call_soon_threadsafe(awake.set)
                if self._queue.empty():  # else somebody put something before there was anyone to be woken
                    await awake.wait()
                self._awake = None
                awake.clear()
                continue
            event = self._queue.get()
            is_last = event is None
            await self._wait_for(self._aclose() if event is None else self._tell(event))
        self._awaiting = None
        self.has_ended = not self.given_up

    async def _wait_for(self, answer: Any) -> None:
        if self.given_up or not inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            return
        try:
            await answer
        except BaseException:
            if self.given_up:
                raise
            self.note_failure()


class Telling:
    """All observers of a run."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._lines = [_Line(observer) for observer in observers]

    def __bool__(self) -> bool:
        return bool(self._lines)

    def open(self, opened: RunOpened) -> None:
        """Say which run this is, before all else."""
        for line in self._lines:
            line.open(opened)

    def surroundings(self) -> Sequence[Surrounding]:
        """What observers set up around bodies."""
        found = [(line, getattr(line.observer, "around", None)) for line in self._lines if not line.given_up]
        return [Surrounding(around, line.note_failure) for line, around in found if around is not None]

    @property
    def told(self) -> tuple[Told, ...]:
        """How each of them fared so far."""
        return tuple(line.told for line in self._lines)

    def tell(self, event: Event) -> None:
        """Offer an event to every observer, without waiting."""
        for line in self._lines:
            line.offer(event)

    def let_go(self) -> None:
        """Have them end by themselves, where nobody can wait for them."""
        for line in self._lines:
            line.close()

    async def aclose(self) -> None:
        """Give the observers, all together, `CLOSE_SECONDS` to finish, and say what they missed."""
        if not self._lines:
            return
        self.let_go()
        threads = Threads("holdfast-observers-end")
        pool = cast("Executor", threads)  # as far as a loop asks for one
        try:
            await asyncio.get_running_loop().run_in_executor(pool, lambda: _wait_for_all(self._lines, CLOSE_SECONDS))
        finally:
            threads.close()
        for line in self._lines:
            in_time = line.has_ended
            if not in_time:
                line.give_up()
            if line.missed or line.failed or not in_time:
                still = "" if in_time else ", and was still at work at the end"
                _log.warning("observer %r missed %d events, failed at %d%s", line.given, line.missed, line.failed, still)


def _wait_for_all(lines: Iterable[_Line], seconds: float) -> None:
    """Wait for all of them until the same instant."""
    deadline = time.monotonic() + seconds
    for line in lines:
        line.wait(max(deadline - time.monotonic(), 0))
