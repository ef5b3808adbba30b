"""Event loops in which time is virtual, and in which the order of what is ready is chosen by a seed.

`run_shuffled` runs a program as `asyncio.run` does, on a loop that picks at each step which of the ready tasks goes on. All that asyncio
promises about order is kept: a task's steps follow each other, callbacks of one future come in the order in which they were added, plain
callbacks in the order in which they were scheduled. Everything else is chance, the same for the same seed.

Time jumps to the next timer as soon as nothing is ready, and a program in which nothing is ready and nothing will be is a `Deadlock`.
What threads, sockets and child processes do is not simulated. Threads that work are waited for, for a moment of real time; but keep all
three out of a program that has to come out the same for a seed.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import selectors
import sys
import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar, TypeVarTuple, Unpack
from weakref import WeakKeyDictionary

from holdfast import clocks
from holdfast.frozen import Frozen

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

#: Seconds of real time that a thread may take to notice work that it may have been given, or that it has been given; and that one may work,
#: before time goes on without it.
MAY_NOTICE: Final = 0.002
HAS_TO_NOTICE: Final = 0.02
MAY_WORK: Final = 1.0
#: Where a thread stands that waits for other work than ours, or for work that it may have been given just now.
_RESTING: Final = frozenset({("concurrent.futures.thread", "_worker"), ("selectors", "select"), ("holdfast.telling", "_next_event")})
_WAITING: Final = frozenset({("threading", "wait"), ("threading", "acquire"), ("holdfast.journals.appending", "_write_groups")})
#: How threads are called that may do something for a loop although they were there before it.
_OURS: Final = ("holdfast", "asyncio", "ThreadPoolExecutor")
#: How often who just ran is given another rank. 1.0: any order is as likely as any other; less: some are left behind for long.
RESTLESSNESS: Final = (1.0, 0.3, 0.05)


class Deadlock(AssertionError):
    """Nothing is ready, no timer runs, and the program has not ended."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer instead of waiting for it.

    Args:
        start: What `time()` is at first.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._jobs = 0  # given to executors, and not answered
        super().__init__(_Impatient(self._jump, lambda: self._jobs))

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Executor | None, func: Callable[[Unpack[Ts]], R], *args: *Ts) -> asyncio.Future[R]:
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._answered)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Its threads get the time that they need: virtual patience would be over at once."""
        await super().shutdown_default_executor()

    def _answered(self, _: object) -> None:
        self._jobs -= 1

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class ShuffledLoop(VirtualLoop):
    """A virtual loop that chooses which of the ready tasks goes on, by a seed."""

    def __init__(self, seed: int, start: float = 0.0) -> None:
        self._ready_steps = _Ready(random.Random(seed))
        super().__init__(start)

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:  # fmt: skip
        handle = asyncio.Handle(callback, args, self, context)
        self._ready_steps.add(_Step(handle, callback, args))
        super().call_soon(self._step)
        return handle

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:  # fmt: skip
        here = context if context is not None else contextvars.copy_context()

        def due() -> None:
            self.call_soon(go, context=here)

        def go() -> None:
            if not timer.cancelled():  # up to the last moment, as ever
                callback(*args)

        timer = super().call_at(when, due)
        return timer

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        if asyncio._get_running_loop() is self:  # pyright: ignore[reportPrivateUsage] - the public one raises where there is none
            return self.call_soon(callback, *args, context=context)
        return super().call_soon_threadsafe(callback, *args, context=context)

    def _step(self) -> None:
        self._ready_steps.take().run()


class LoopClock(clocks.Clock):
    """The time of the virtual loop that is running."""

    is_real: bool = False

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._loop = loop
        self._start = start.timestamp()

    def now(self) -> float:
        return self._start + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()


class Shuffled(Frozen, Generic[R]):
    """What a program gave under one seed.

    Attributes:
        seed: Which. `run_shuffled(main, seed)` does the same again.
        value: What it returned.
        elapsed: Seconds of virtual time that it took.
        steps: How many steps there were to choose.
    """

    seed: int
    value: R
    elapsed: float
    steps: int


def run_shuffled(main: Callable[[], Coroutine[Any, Any, R]], seed: int) -> R:
    """Run `main()` to its end, in virtual time, in an order that `seed` chooses.

    Example::

        async def transfer_twice() -> int:
            account = Account()
            await asyncio.gather(account.add(1), account.add(1))
            return account.balance


        def test_no_update_is_lost_in_any_order() -> None:
            for order in shuffled(transfer_twice, range(200)):
                assert order.value == 2, order

    `holdfast.clocks` and `loop.time()` are virtual, and `random` begins with the seed, so that jitter is the same each time.

    Args:
        main: Makes the coroutine: an `async def` function without arguments, or `lambda: run(call(), store=bucket_store())`.
        seed: Which order.

    Raises:
        Deadlock: It waits for what will never be.
        Exception: What it raises, with a note that names the seed.
    """
    return shuffle(main, seed).value


def shuffle(main: Callable[[], Coroutine[Any, Any, R]], seed: int) -> Shuffled[R]:
    """`run_shuffled`, telling also how long it took. Raises: as `run_shuffled`."""
    loop = ShuffledLoop(seed)
    before = random.getstate()
    random.seed(seed)
    try:
        value = run_in(loop, main)
        return Shuffled(seed, value, loop.time(), loop._ready_steps.taken)  # pyright: ignore[reportPrivateUsage] - of this module
    except BaseException as error:
        error.add_note(f"under seed {seed}: run_shuffled(…, seed={seed}) does the same again")
        raise
    finally:
        random.setstate(before)


def shuffled(main: Callable[[], Coroutine[Any, Any, R]], seeds: Iterable[int]) -> Iterator[Shuffled[R]]:
    """Run `main()` once for each seed, and give what came of it. Raises: as `run_shuffled`."""
    for seed in seeds:
        yield shuffle(main, seed)


def run_in(loop: VirtualLoop, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run `main()` on a virtual loop, with its clock in force, and close the loop. Raises: Deadlock, and what `main` raises."""
    with use_loop_clock(loop), asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())


@contextmanager
def use_loop_clock(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Within the block, `clock()` is the loop's."""
    with clocks.use_clock(LoopClock(loop)):
        yield


# choosing


class _Step:
    """A ready callback, and what it has to wait its turn for: its task, or the plain callbacks, and the future that made it ready."""

    __slots__ = ("handle", "is_free", "keys", "owner", "rank")

    def __init__(self, handle: asyncio.Handle, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.handle = handle
        task = getattr(callback, "__self__", None)
        self.owner: object = task if isinstance(task, asyncio.Task) else None
        source = args[0] if args and asyncio.isfuture(args[0]) else None
        self.keys: tuple[int, ...] = (id(self.owner), id(source)) if source is not None and source is not self.owner else (id(self.owner),)
        self.rank = 0.0
        self.is_free = False

    def run(self) -> None:
        if not self.handle.cancelled():
            self.handle._run()  # pyright: ignore[reportPrivateUsage] - what the loop that we stand in for does


class _Ready:
    """The steps that are ready, and the choice among those whose turn it may be.

    Each task has a rank, and the highest goes on. Who ran gets another rank now and then: how often, the seed decides too, so that there
    are orders in which all take turns, and orders in which somebody is left behind for long.
    """

    def __init__(self, rng: random.Random) -> None:
        self.taken = 0
        self._rng = rng
        self._restless = rng.choice(RESTLESSNESS)
        self._queues: dict[int, deque[_Step]] = {}
        self._free: list[_Step] = []  # by rank, the highest last
        self._plain_rank = rng.random()
        self._ranks: WeakKeyDictionary[object, float] = WeakKeyDictionary()

    def add(self, step: _Step) -> None:
        step.rank = self._rank_of(step.owner)
        for key in step.keys:
            self._queues.setdefault(key, deque()).append(step)
        self._free_if_first(step)

    def take(self) -> _Step:
        self.taken += 1
        step = self._free.pop()
        for key in step.keys:
            queue = self._queues[key]
            queue.popleft()
            if not queue:
                del self._queues[key]
        for key in step.keys:
            if key in self._queues:
                self._free_if_first(self._queues[key][0])
        if self._rng.random() < self._restless:
            self._rerank(step.owner)
        return step

    def _free_if_first(self, step: _Step) -> None:
        if not step.is_free and all(self._queues[key][0] is step for key in step.keys):
            step.is_free = True
            insort(self._free, step, key=attrgetter("rank"))

    def _rank_of(self, owner: object) -> float:
        if owner is None:
            return self._plain_rank
        if owner not in self._ranks:
            self._ranks[owner] = self._rng.random()
        return self._ranks[owner]

    def _rerank(self, owner: object) -> None:
        if owner is None:
            self._plain_rank = self._rng.random()
        else:
            self._ranks[owner] = self._rng.random()


# time


class _Impatient(selectors.BaseSelector):
    """Polls, and lets time jump where a loop would wait."""

    def __init__(self, jump: Callable[[float], None], jobs: Callable[[], int]) -> None:
        self._inner = selectors.DefaultSelector()
        self._jump = jump
        self._jobs = jobs
        self._foreign = _foreign_threads()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._inner.select(0)
        if ready or timeout == 0:
            return ready
        began = time.monotonic()
        while time.monotonic() - began < (
            MAY_WORK if timeout is None and threading.active_count() > 1 else _patience(self._jobs(), self._foreign)
        ):
            if ready := self._inner.select(MAY_NOTICE):
                return ready
        if ready := self._inner.select(0):  # its last word, before it ended
            return ready
        if timeout is None:
            raise Deadlock(_who_waits())
        self._jump(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def close(self) -> None:
        self._inner.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()


def _foreign_threads() -> frozenset[int | None]:
    """Threads of whoever started this one, such as a test runner's: what they do, wherever they stand, is not for us."""
    return frozenset(thread.ident for thread in threading.enumerate() if not thread.name.startswith(_OURS))


def _patience(jobs: int, foreign: frozenset[int | None]) -> float:
    """Seconds for which it is worth to wait for other threads, which have `jobs` to do for us."""
    if threading.active_count() == 1:
        return 0.0
    here = threading.get_ident()
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] - there is no other way to ask where a thread is
    places = {
        (str(frame.f_globals.get("__name__")), frame.f_code.co_name)
        for thread, frame in frames.items()
        if thread != here and thread not in foreign
    }
    if not places <= _RESTING | _WAITING:
        return MAY_WORK
    if jobs:
        return HAS_TO_NOTICE
    return 0.0 if places <= _RESTING else MAY_NOTICE


def _who_waits() -> str:
    waiting = []
    for task in asyncio.all_tasks():
        frames = task.get_stack(limit=1)
        where = f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else "nowhere"
        waiting.append(f"{task.get_name()} at {where}")
    return f"nothing is ready and no timer runs, but these wait: {'; '.join(sorted(waiting)) or 'nobody'}"
