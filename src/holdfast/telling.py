"""Observers: told of events, and able neither to fail nor to stall the work.

Each has a bounded queue and a thread of its own, and an event loop there if it needs one. What does not fit is counted, not waited for,
and the observer is told where something is missing. One that raises is logged once with its traceback, then counted. At the end all of
them together have `CLOSE_SECONDS`; their threads are daemons, and so are those in which an async one waits for something that blocks, so
that one that hangs keeps no process from ending.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast

from holdfast.bridge import Threads
from holdfast.clocks import clock
from holdfast.errors import InvalidOption
from holdfast.events import Event, Missed, RunOpened, weight
from holdfast.frozen import Frozen

QUEUE_LENGTH: Final = 500_000
"""At most so many events wait for an observer: a hundred thousand calls by one `gather` are told of in one burst."""
QUEUE_BYTES: Final = 256 << 20
"""And no more than weigh about so much, by their size in the journal: an outcome may have 64 KiB there."""
STUCK_LENGTH: Final = 10_000
STUCK_SECONDS: Final = 5.0
"""And no more than `STUCK_LENGTH` where it has been at one of them for so long."""
CLOSE_SECONDS: Final = 5.0
HURRY_SECONDS: Final = 0.1
"""So often it is looked whether somebody wants to be gone."""
REST_SECONDS: Final = 0.01
"""An observer that is up to date looks again so much later: to wake a thread for each event costs several times what telling it does."""

WEIGHED_EACH: Final = 64
"""One event of so many is weighed."""

IN_ITS_CALL: Final = (Exception, asyncio.CancelledError, SystemExit, GeneratorExit)
"""What an observer may raise where it is called on the run's loop, and harm nobody. A KeyboardInterrupt there is somebody's Ctrl-C."""

T = TypeVar("T")

_log = logging.getLogger("holdfast")


class Observer(Protocol):
    """Is told of every recorded event of a run once it is durable; with an attribute `live = True` also of live events, in their turn.

    `on_event` is called in a thread of the observer's own; what it returns is awaited, if it can be, on a loop in that thread. One that is
    given to several runs at once is called in a thread of each of them. Besides, an observer may have

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
        missed: How many did not fit into its queue, came when it had been given up, or still waited then.
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
        if inspect.isclass(observer) and inspect.isfunction(inspect.getattr_static(observer, "on_event")):
            raise InvalidOption(
                option="observers", value=observer, reason=f"it takes an observer, not its class: write {observer.__name__}()"
            )
    return observers


class Channel:
    """One observer's queue and thread."""

    events: int
    failed: int
    given: Observer
    given_up: bool
    has_ended: bool
    missed: int
    observer: Observer
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
        self._until_weighed = 0
        self._weight = 0.0  # of an event, about
        self._few = 0  # so many are never too many
        self._took_at = time.monotonic()
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._is_last = False  # it was told all there is
        self._thread: threading.Thread | None = None
        self._awake: Callable[[], object] | None = None  # of a loop that sleeps
        self._awaiting: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    @property
    def told(self) -> Told:
        return Told(self.given, self.events, self.missed, self.failed, self.has_ended)

    # on the run's loop

    def open(self, opened: RunOpened) -> None:
        """Find out who is told of this run."""
        try:
            for_run = getattr(self.given, "for_run", None)
            if for_run is not None:
                self.observer = for_run(opened)
                self.wants_live = bool(getattr(self.observer, "live", False))
        except IN_ITS_CALL:
            self.given_up = True
            self.note_failure()

    def around(self) -> Around | None:
        """What it sets up around bodies."""
        try:
            return None if self.given_up else cast("Around | None", getattr(self.observer, "around", None))
        except IN_ITS_CALL:
            self.note_failure()
            return None

    def offer(self, event: Event) -> None:
        if event.live and not self.wants_live:
            return
        if not self._until_weighed:
            self._weigh(event)
        self._until_weighed -= 1
        if self.given_up or ((waiting := self._queue.qsize()) >= self._few and self._is_full(waiting)):
            self.missed += 1
            self._gap += 1
            return
        if self._gap:
            self._tell_of_gap()
        self._put(event)

    def _weigh(self, event: Event) -> None:
        self._until_weighed = WEIGHED_EACH
        found = weight(event)
        self._weight += (found - self._weight) / 8 if self._weight else found
        self._few = min(STUCK_LENGTH, QUEUE_LENGTH, int(QUEUE_BYTES / max(self._weight, 1)))

    def _is_full(self, waiting: int) -> bool:
        if waiting >= QUEUE_LENGTH or waiting * self._weight > QUEUE_BYTES:
            return True
        return waiting >= STUCK_LENGTH and time.monotonic() - self._took_at > STUCK_SECONDS

    def close(self) -> None:
        """Have the thread end after what is queued."""
        if self._gap and not self.given_up:
            self._tell_of_gap()
        self._put(None)
        self._closing.set()

    def give_up(self) -> None:
        """Wait no longer for it. What it awaits is cancelled, and what waits for it is missed."""
        self.given_up = True
        while not self._queue.empty():
            event = self._queue.get()
            self.missed += event is not None and not isinstance(event, Missed)
        self._queue.put(None)  # for the thread, should it ever come back
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

    @property
    def is_at_work(self) -> bool:
        """Whether its thread has not ended."""
        return self._thread is not None and self._thread.is_alive()

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
        while not (self.given_up or self.has_ended):
            answer = self._tell_next(self._next_event())
            if inspect.isawaitable(answer):
                self._go_on_with(answer)
            self.has_ended = self._is_last and not self.given_up

    def _next_event(self) -> Event | None:
        if self._queue.empty():
            self._closing.wait(REST_SECONDS)
        return self._queue.get()

    def _tell_next(self, event: Event | None) -> Any:
        """Tell it an event, or that there are no more. Returns what it answered."""
        try:
            if event is not None:
                self.events += 1
                self._took_at = time.monotonic()
                return self.observer.on_event(event)
            self._is_last = True
            aclose = getattr(self.observer, "aclose", None)
            return aclose() if aclose is not None and not self.given_up else None
        except BaseException:  # an observer never fails the work: its failure is logged and counted
            self.note_failure()
            return None

    def _go_on_with(self, answer: Awaitable[Any]) -> None:
        """Tell the rest in a loop, which an observer that has to be awaited needs."""
        try:
            with asyncio.Runner() as runner:
                loop = runner.get_loop()
                loop.set_default_executor(_DaemonThreads())
                serving = loop.create_task(self._serve(answer))
                while not serving.done():
                    self._run_loop(loop, serving)
        except BaseException:  # its loop could not be begun or ended
            self.note_failure()

    def _run_loop(self, loop: asyncio.AbstractEventLoop, serving: asyncio.Task[None]) -> None:
        """Some task of the observer's may end the loop, by SystemExit or `stop`: then it is run on."""
        try:
            loop.run_until_complete(serving)
        except BaseException:
            if not self.given_up:
                self.note_failure()

    async def _serve(self, answer: Any) -> None:
        loop, awake = asyncio.get_running_loop(), asyncio.Event()
        task = asyncio.current_task()
        assert task is not None
        self._awaiting = loop, task
        try:
            await self._wait_for(answer)
            while not (self.given_up or self._is_last):
                if self._queue.empty():
                    self._awake = lambda: _wake(loop, awake)
                    if self._queue.empty():  # else somebody put something before there was anyone to be woken
                        await self._wait_for(awake.wait())
                    self._awake = None
                    awake.clear()
                    continue
                await self._wait_for(self._tell_next(self._queue.get()))
        finally:
            self._awaiting = self._awake = None

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


def _wake(loop: asyncio.AbstractEventLoop, awake: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(awake.set)
    except RuntimeError:  # it closed just now
        pass


class _DaemonThreads(ThreadPoolExecutor):
    """For what an async observer does by `asyncio.to_thread`. A loop takes no other kind of executor."""

    def __init__(self) -> None:
        super().__init__()
        self._daemons = Threads("holdfast-observer-waits")

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return self._daemons.submit(lambda: fn(*args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Waits for none of them."""
        self._daemons.close()


class Telling:
    """All observers of a run."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._hurried = threading.Event()
        self._channels = [Channel(observer) for observer in observers]

    def __bool__(self) -> bool:
        return bool(self._channels)

    def open(self, opened: RunOpened) -> None:
        """Say which run this is, before all else."""
        for channel in self._channels:
            channel.open(opened)

    def surroundings(self) -> Sequence[Surrounding]:
        """What observers set up around bodies."""
        found = [(channel, channel.around()) for channel in self._channels]
        return [Surrounding(around, channel.note_failure) for channel, around in found if around is not None]

    @property
    def told(self) -> tuple[Told, ...]:
        """How each of them fared so far."""
        return tuple(channel.told for channel in self._channels)

    def tell(self, event: Event) -> None:
        """Offer an event to every observer, without waiting."""
        for channel in self._channels:
            channel.offer(event)

    def hurry(self) -> None:
        """Wait no longer for observers at the end: somebody wants to be gone."""
        self._hurried.set()

    def let_go(self) -> None:
        """Have them end by themselves, where nobody can wait for them."""
        for channel in self._channels:
            channel.close()

    async def aclose(self) -> None:
        """Give the observers, all together, `CLOSE_SECONDS` to finish, and say what they missed."""
        if not self._channels:
            return
        self.let_go()
        threads = Threads("holdfast-observers-end")
        pool = cast("Executor", threads)  # as far as a loop asks for one
        try:
            await asyncio.get_running_loop().run_in_executor(pool, lambda: _wait_for_all(self._channels, CLOSE_SECONDS, self._hurried))
        finally:
            threads.close()
        for channel in self._channels:
            in_time, is_late = channel.has_ended, not (channel.has_ended or channel.given_up)
            if not in_time:
                channel.give_up()
            if channel.missed or channel.failed or not in_time:
                still = ", and was still at work at the end" if is_late else ""
                _log.warning("observer %r missed %d events, failed at %d%s", channel.given, channel.missed, channel.failed, still)


class EventQueue:
    """Events for one who takes them on the run's own loop: at most `QUEUE_LENGTH` wait, and where some are missing `Missed` stands."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue()
        self._gap = 0

    def offer(self, event: Event) -> None:
        if self._waiting.qsize() >= QUEUE_LENGTH:
            self._gap += 1
            return
        self._tell_of_gap()
        self._waiting.put_nowait(event)

    def end(self) -> None:
        """There are no more."""
        self._tell_of_gap()
        self._waiting.put_nowait(None)

    async def take(self) -> Event | None:
        """The next one, None at the end."""
        return await self._waiting.get()

    def _tell_of_gap(self) -> None:
        if self._gap:
            count, self._gap = self._gap, 0
            self._waiting.put_nowait(Missed(action="", at=clock().now(), count=count))


def _wait_for_all(channels: Iterable[Channel], seconds: float, hurried: threading.Event) -> None:
    """Wait for all of them until the same instant, or until somebody wants to be gone."""
    deadline = time.monotonic() + seconds
    for channel in channels:
        while not hurried.is_set() and channel.is_at_work and (rest := deadline - time.monotonic()) > 0:
            channel.wait(min(rest, HURRY_SECONDS))
