"""Between threads and event loops: the engine's threads, the portal loop, and blocking for a result.

A thread that blocks for something on a loop never blocks that loop: it is refused on the loop's own thread. The portal is one daemon
thread with a loop, for blocking calls from places that have no loop of their own to spare (plain scripts, notebooks).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The asyncio loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def wait_for_loop(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """Run `work` on `loop`, which lives in another thread, and block for its result. An interrupt cancels the work first."""
    future = asyncio.run_coroutine_threadsafe(_carried(work), loop)
    try:
        result = future.result()
    except FutureCancelled:
        raise asyncio.CancelledError from None
    except BaseException:
        future.cancel()
        raise
    if isinstance(result, _Leaving):
        raise result.cause
    return result


@dataclass(frozen=True, slots=True)
class _Leaving:
    """The work ended by what ends a process. Raised on the loop it would end the loop, so it is carried to the thread that waits."""

    cause: SystemExit | KeyboardInterrupt


async def _carried(work: Coroutine[Any, Any, T]) -> T | _Leaving:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as cause:
        return _Leaving(cause)


class _Portal:
    """A spare event loop of the process. A forked child makes its own."""

    def __init__(self, name: str) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), name=name, daemon=True).start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(started.set)
        while True:
            with suppress(SystemExit, KeyboardInterrupt):  # a task's: it is for the thread that waits for that task
                self.loop.run_forever()


_portals: dict[str, _Portal] = {}
_portal_lock = threading.Lock()


def portal_loop() -> asyncio.AbstractEventLoop:
    """The portal's loop, started when first asked for."""
    return _loop_named("holdfast-portal")


def heart_loop() -> asyncio.AbstractEventLoop:
    """A loop on which no body ever runs, so that nothing blocks it."""
    return _loop_named("holdfast-heart")


def _loop_named(name: str) -> asyncio.AbstractEventLoop:
    with _portal_lock:
        portal = _portals.get(name)
        if portal is None or portal.pid != os.getpid():
            portal = _portals[name] = _Portal(name)
        return portal.loop


class Threads:
    """Daemon threads, started as needed and used again. How many work at once is for the caller to bound.

    Daemons, since a thread that can't be stopped must not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._idle: deque[_Worker] = deque()
        self._closed = False

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run `work` in a thread of its own."""
        future: Future[T] = Future()
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = _Worker(self._name, self._rest)
        worker.give(lambda: _settle(future, work))
        return future

    def close(self) -> None:
        """End the idle threads; a working one ends after its work."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, deque()
        for worker in idle:
            worker.give(None)

    def _rest(self, worker: _Worker) -> bool:
        with self._lock:
            if not self._closed:
                self._idle.append(worker)
            return not self._closed


class _Worker:
    def __init__(self, name: str, rest: Callable[[_Worker], bool]) -> None:
        self._rest = rest
        self._given = threading.Semaphore(0)
        self._work: Callable[[], None] | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def give(self, work: Callable[[], None] | None) -> None:
        self._work = work
        self._given.release()

    def _run(self) -> None:
        while True:
            self._given.acquire()
            work, self._work = self._work, None
            if work is None:
                return
            work()
            del work
            if not self._rest(self):
                return


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    try:
        value = work()
    except BaseException as error:  # whatever ended the work is for the one who waits for it
        future.set_exception(error)
    else:
        future.set_result(value)
