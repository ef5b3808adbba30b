"""A program killed at every point where it changes its store, resumed, and killed again.

The process dies at one operation of its disk: before it, after it, or with half of it done. Nothing that it does after that is seen by
anybody: its disk refuses, its locks are gone, and its `Ledger` writes nothing down. The next life begins with the same line on what the
disk then holds; after a power cut that is any part of what was not synced.
"""

from __future__ import annotations

import asyncio
import random
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, Unpack

from holdfast.contexts import ctx
from holdfast.errors import InvalidOption
from holdfast.folders.memory import MemoryDisk
from holdfast.launch import RunOptions, run
from holdfast.stores import Store
from holdfast.tasks import Call
from holdfast.testing.clocks import no_backoff
from holdfast.testing.faults import CrashDisk
from holdfast.testing.lives import SimulatedCrash, When
from holdfast.testing.stores import memory_store

R = TypeVar("R")

#: The name of the run, where none is given.
RUN_NAME: Final = "program"
EVERY_WAY: Final[tuple[When, ...]] = ("before", "after", "torn")
#: Crashes of one program in a row, under `power_cuts`.
MOST_CRASHES: Final = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a ledger.

    Attributes:
        life: Which process wrote it, from 0.
        verb: "ran" or "got".
        what: What it was told.
        action: The name of the action that wrote it.
        attempt: Its attempt's number.
    """

    life: int
    verb: str
    what: str
    action: str
    attempt: int


class Ledger:
    """What the world outside saw of a program: it survives every crash, and a dead process writes nothing in it.

    A body writes `ran(what)` where it has its effect, and whoever awaited it writes `got(what)` when it has the outcome. Make one beside
    the tasks under test, and give it to `crash_everywhere`.

    Example::

        ledger = Ledger()


        @task
        async def charge(order: int) -> str:
            ledger.ran(f"charge {order}")
            return f"receipt {order}"


        @task
        async def buy(order: int) -> str:
            receipt = await charge(order)
            ledger.got(f"charge {order}")
            return receipt
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._life = 0
        self._disk: CrashDisk | None = None
        self._lock = threading.Lock()

    def ran(self, what: str) -> None:
        """Note an effect. Raises: SimulatedCrash, in a dead process."""
        self._note("ran", what)

    def got(self, what: str) -> None:
        """Note that the outcome of an effect is known to who asked for it. Raises: SimulatedCrash, in a dead process."""
        self._note("got", what)

    @property
    def again(self) -> list[str]:
        """What ran after its outcome had been got. Empty, or a law is broken."""
        found: list[str] = []
        known: set[str] = set()
        for entry in self.entries:
            if entry.verb == "got":
                known.add(entry.what)
            elif entry.what in known:
                found.append(entry.what)
        return found

    def times(self, what: str) -> int:
        """How often `what` ran."""
        return sum(entry.verb == "ran" and entry.what == what for entry in self.entries)

    def _note(self, verb: str, what: str) -> None:
        attempt = ctx()
        entry = Entry(
            self._life, verb, what, attempt.action.name if attempt is not None else "", attempt.attempt_number if attempt is not None else 0
        )
        if self._disk is None:
            with self._lock:
                self.entries.append(entry)
        else:
            with self._disk.alive():
                self.entries.append(entry)

    def clear(self) -> None:
        """Begin an empty one."""
        self.entries, self._life, self._disk = [], -1, None

    def next_life(self, disk: CrashDisk) -> None:
        """Write for a new process, as long as its disk lives."""
        self._life += 1
        self._disk = disk


@dataclass(frozen=True, slots=True)
class Crash:
    """Where a process was killed: at its operation number `at`, and whether the power went with it."""

    at: int
    when: When
    operation: str
    power_cut: bool = False


@dataclass(frozen=True)
class Survival(Generic[R]):
    """What became of a program that was killed, and then resumed until it ended.

    Attributes:
        crashes: Where its processes were killed, in order.
        value: What the run returned at last; None where it raised.
        error: What it raised at last, by itself; None where it returned.
        entries: Its ledger.
        disk: What the disk holds at the end.
        found: What each life after the first found on it.
        seed: Of a `power_cuts` program.
    """

    crashes: tuple[Crash, ...]
    value: R | None
    error: BaseException | None
    entries: tuple[Entry, ...]
    disk: MemoryDisk
    found: tuple[MemoryDisk, ...] = ()
    seed: int | None = None
    _program: Program[R] | None = field(default=None, repr=False)

    @property
    def store(self) -> Store:
        """The store as it is at the end, to be asked for the run's state."""
        return memory_store(self.disk)

    def again(self) -> Survival[R]:
        """Run the same line once more, to its end."""
        assert self._program is not None
        return self._program.finish(self.disk, self.crashes, self.found, self.seed)

    def __str__(self) -> str:
        seed = f" (seed {self.seed})" if self.seed is not None else ""
        points = [f"{crash.when} {crash.at}: {crash.operation}{' and power cut' if crash.power_cut else ''}" for crash in self.crashes]
        return f"killed {', then '.join(points) or 'nowhere'}{seed}"


@dataclass(frozen=True)
class Program(Generic[R]):
    """A line that can be run again and again: what makes its call, its options, its ledger."""

    make: Callable[[], Call[R]]
    options: RunOptions
    ledger: Ledger

    def live(self, disk: CrashDisk) -> R:
        """One life. Raises: SimulatedCrash; what the run raises."""
        self.ledger.next_life(disk)
        with no_backoff(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return asyncio.run(_life(self, disk))

    def finish(
        self, disk: MemoryDisk, crashes: tuple[Crash, ...] = (), found: tuple[MemoryDisk, ...] = (), seed: int | None = None
    ) -> Survival[R]:
        """The last life: nobody kills it."""
        value: R | None = None
        error: BaseException | None = None
        try:
            value = self.live(CrashDisk(disk))
        except Exception as raised:
            error = raised
        return Survival(crashes, value, error, tuple(self.ledger.entries), disk, found, seed, self)

    def kill(self, disk: MemoryDisk, at: int, when: When) -> tuple[Crash | None, Survival[R] | None]:
        """A life that is killed, as the Crash; or one that ended before that, as what became of it."""
        mortal = CrashDisk(disk, at=at, when=when)
        value: R | None = None
        error: BaseException | None = None
        try:
            value = self.live(mortal)
        except SimulatedCrash:
            pass
        except Exception as raised:
            error = raised
        if mortal.crashed:
            return Crash(at, when, mortal.operations[at - 1]), None
        return None, Survival((), value, error, tuple(self.ledger.entries), disk, (), None, self)


async def _life(program: Program[R], disk: CrashDisk) -> R:
    loop = asyncio.get_running_loop()
    died = asyncio.Event()
    disk.when_crashed(lambda: _call_soon(loop, died.set))
    loop.set_exception_handler(lambda loop, context: None if disk.crashed else loop.default_exception_handler(context))
    options: RunOptions = {**program.options, "store": memory_store(disk)}
    running = asyncio.create_task(run(program.make(), **options))
    death = asyncio.create_task(died.wait())
    try:
        await asyncio.wait({running, death}, return_when=asyncio.FIRST_COMPLETED)
        if disk.crashed:
            running.cancel()
            await asyncio.wait({running})
            raise SimulatedCrash
        return running.result()
    finally:
        death.cancel()


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], Any]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # the loop has ended, and the crash came behind it
        return


def _program(make: Callable[[], Call[R]], ledger: Ledger | None, options: RunOptions) -> Program[R]:
    if "store" in options:
        raise InvalidOption(option="store", value=options["store"], reason="a program under crashes gets a store of its own")
    known: RunOptions = {"run_name": RUN_NAME, "handle_signals": False}
    return Program(make, {**known, **options}, ledger if ledger is not None else Ledger())


def crash_at(
    program: Callable[[], Call[R]],
    at: int,
    when: When = "before",
    *,
    ledger: Ledger | None = None,
    disk: MemoryDisk | None = None,
    **options: Unpack[RunOptions],
) -> Survival[R]:
    """Kill the program at its `at`-th operation that changes something, resume it to its end, and tell what became of it.

    Args:
        program: Makes a fresh root call each time: `lambda: main(3)`.
        at: Which operation, from 1. A program that has fewer ends in its first life.
        when: `before` or `after` it, or `torn`: with half of it done.
        ledger: The one that the tasks write in. It is emptied.
        disk: What the program finds; by default an empty disk.
        options: Of `run`, without the store. Retries follow at once.
    """
    planned = _program(program, ledger, options)
    planned.ledger.clear()
    disk = disk if disk is not None else MemoryDisk()
    crash, ended = planned.kill(disk, at, when)
    if crash is None:
        assert ended is not None
        return ended
    return planned.finish(disk.copy(), (crash,), (disk.copy(),))


def crash_everywhere(
    program: Callable[[], Call[R]],
    *,
    when: Iterable[When] = EVERY_WAY,
    step: int = 1,
    ledger: Ledger | None = None,
    **options: Unpack[RunOptions],
) -> Iterator[Survival[R]]:
    """Kill the program at each operation in turn (each `step`-th), resume it, and give what became of it.

    Example::

        ledger = Ledger()  # that the tasks write in


        def test_an_order_is_charged_once_wherever_the_process_is_killed() -> None:
            for survival in crash_everywhere(lambda: buy(7), ledger=ledger):
                assert survival.value == "receipt 7", survival
                assert ledger.again == [], survival

    Args:
        program: Makes a fresh root call each time.
        when: In which ways.
        step: 1 for each operation; more for a quick look.
        ledger: The one that the tasks write in. It is emptied before each program.
        options: Of `run`, without the store. Retries follow at once.

    Yields:
        One Survival for each crash point. The last operation of the uninterrupted program ends it.
    """
    for way in when:
        at = 1
        while True:
            survival = crash_at(program, at, way, ledger=ledger, **options)
            if not survival.crashes:
                break
            yield survival
            at += step


def power_cuts(
    program: Callable[[], Call[R]],
    seeds: Iterable[int],
    *,
    ledger: Ledger | None = None,
    **options: Unpack[RunOptions],
) -> Iterator[Survival[R]]:
    """For each seed kill the program up to four times at chosen points, most times with the power, and give what became of it.

    With the power goes a chosen part of everything that was not synced: names, contents, halves of writes.

    Example::

        def test_an_order_is_charged_once_whatever_the_disk_forgets() -> None:
            for survival in power_cuts(lambda: buy(7), range(100), ledger=ledger):
                assert survival.value == "receipt 7", survival

    Args:
        program: Makes a fresh root call each time.
        seeds: One program each; the same seed chooses the same points.
        ledger: The one that the tasks write in. It is emptied before each program.
        options: Of `run`, without the store.
    """
    planned = _program(program, ledger, options)
    whole = CrashDisk(MemoryDisk())
    planned.ledger.clear()
    planned.live(whole)
    for seed in seeds:
        yield _survive(planned, len(whole.operations), random.Random(seed), seed)


def _survive(planned: Program[R], operations: int, rng: random.Random, seed: int) -> Survival[R]:
    planned.ledger.clear()
    disk, crashes, found = MemoryDisk(), list[Crash](), list[MemoryDisk]()
    for _ in range(rng.randint(1, MOST_CRASHES)):
        crash, ended = planned.kill(disk, rng.randint(1, operations), rng.choice(EVERY_WAY))
        if ended is not None:
            return Survival(tuple(crashes), ended.value, ended.error, ended.entries, disk, tuple(found), seed, planned)
        assert crash is not None
        power_cut = rng.random() < 0.8
        crashes.append(Crash(crash.at, crash.when, crash.operation, power_cut))
        disk = disk.power_cut(rng) if power_cut else disk.copy()
        found.append(disk.copy())
    return planned.finish(disk, tuple(crashes), tuple(found), seed)
