"""A program killed at every point where it changes its store, resumed, and killed again.

The process dies at one operation of its store: before it, after it, with half of it done, or while the request is on its way. Nothing that
it does after that is seen by anybody: its store refuses, its locks are gone, and its `Ledger` writes nothing down. The next life begins
with the same line on what the store then holds; after a power cut that is any part of what was not synced, and in an object store a
request of the dead may still be done.
"""

from __future__ import annotations

import asyncio
import random
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Protocol, TypeVar, Unpack

from holdfast.contexts import ctx
from holdfast.errors import InvalidOption, RunBusy, RunFenced
from holdfast.folders.memory import MemoryDisk
from holdfast.launch import RunOptions, run
from holdfast.stores import Store
from holdfast.tasks import Call
from holdfast.testing.lives import Life, SimulatedCrash, When
from holdfast.testing.places import DiskPlace, On, Place, Point, place_of

R = TypeVar("R")

#: The name of the run, where none is given.
RUN_NAME: Final = "program"
EVERY_WAY: Final[tuple[When, ...]] = ("before", "after", "torn")
#: Crashes of one program in a row, under `power_cuts`.
MOST_CRASHES: Final = 4
#: How late a late request lands: right before so many operations of the lives after it.
LATE_BY: Final = (1, 4, 12)
#: The latest, under `power_cuts`.
LATEST: Final = 40
#: So many lives in a row may be refused because of the dead. Each takes one late request at least.
MOST_REFUSALS: Final = MOST_CRASHES


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
        self._process: _Mortal | None = None
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
        if self._process is None:
            with self._lock:
                self.entries.append(entry)
        else:
            with self._process.alive():
                self.entries.append(entry)

    def clear(self) -> None:
        """Begin an empty one."""
        self.entries, self._life, self._process = [], -1, None

    def next_life(self, process: _Mortal) -> None:
        """Write for a new process, as long as it lives."""
        self._life += 1
        self._process = process


class _Mortal(Protocol):
    """A `Life`, or what has one: `CrashDisk`, `CrashBucket`."""

    def alive(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Crash:
    """Where a process was killed.

    Attributes:
        at: The number of its operation.
        when: In which way.
        operation: Which it was.
        power_cut: Whether the power went with it.
        late_by: With `late`: before which operation from there on it was done.
    """

    at: int
    when: When
    operation: str
    power_cut: bool = False
    late_by: int | None = None

    def __str__(self) -> str:
        late = f" by {self.late_by}" if self.late_by is not None else ""
        return f"{self.when}{late} {self.at}: {self.operation}{' and power cut' if self.power_cut else ''}"


@dataclass(frozen=True)
class Survival(Generic[R]):
    """What became of a program that was killed, and then resumed until it ended.

    Attributes:
        crashes: Where its processes were killed, in order.
        value: What the run returned at last; None where it raised.
        error: What it raised at last, by itself; None where it returned.
        entries: Its ledger.
        place: Where its store is.
        seed: Of a `power_cuts` program.
        refusals: Lives that were told `RunBusy` or `RunFenced`, because what a dead process had asked for was done so late that it seemed
            to be alive. The same line was run again then.
    """

    crashes: tuple[Crash, ...]
    value: R | None
    error: BaseException | None
    entries: tuple[Entry, ...]
    place: Place
    seed: int | None = None
    refusals: tuple[BaseException, ...] = ()
    _seen: tuple[Place, ...] = ()
    _program: Program[R] | None = field(default=None, repr=False)

    @property
    def store(self) -> Store:
        """The store as it is at the end, to be asked for the run's state."""
        return self.place.store

    @property
    def earlier(self) -> tuple[Store, ...]:
        """The store as each life after the first found it."""
        return tuple(seen.store for seen in self._seen)

    @property
    def disk(self) -> MemoryDisk:
        """What the disk holds at the end. Raises: InvalidOption, where there was none."""
        return _disk_of(self.place)

    @property
    def found(self) -> tuple[MemoryDisk, ...]:
        """What each life after the first found on the disk. Raises: InvalidOption, where there was none."""
        return tuple(_disk_of(seen) for seen in self._seen)

    def again(self) -> Survival[R]:
        """Run the same line once more, to its end."""
        assert self._program is not None
        return self._program.finish(self.place.left(), self.crashes, self._seen, self.seed)

    def __str__(self) -> str:
        seed = f" (seed {self.seed})" if self.seed is not None else ""
        return f"killed {', then '.join(map(str, self.crashes)) or 'nowhere'}{seed}"


@dataclass(frozen=True)
class Program(Generic[R]):
    """A line that can be run again and again: what makes its call, its options, its ledger."""

    make: Callable[[], Call[R]]
    options: RunOptions
    ledger: Ledger
    then: Callable[[Store], Awaitable[R]] | None = None

    def live(self, place: Place, point: Point | None = None) -> tuple[Life, R | None, BaseException | None]:
        """One life, which ends at `point`, where it comes so far. Returns what the run gave, or raised by itself."""
        store, life = place.begin(point)
        self.ledger.next_life(life)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return life, place.play(lambda: _life(self, store, life)), None
            except SimulatedCrash:
                return life, None, None
            except Exception as error:
                return life, None, error

    def finish(self, place: Place, crashes: tuple[Crash, ...] = (), seen: tuple[Place, ...] = (), seed: int | None = None) -> Survival[R]:
        """The last life: nobody kills it."""
        _, value, error = self.live(place)
        refusals = list[BaseException]()
        while isinstance(error, (RunBusy, RunFenced)) and len(refusals) < MOST_REFUSALS:
            refusals.append(error)
            _, value, error = self.live(place)
        place.settle()
        return Survival(crashes, value, error, tuple(self.ledger.entries), place, seed, tuple(refusals), seen, self)

    def kill(self, place: Place, point: Point) -> tuple[Crash | None, Survival[R] | None]:
        """A life that is killed, as the Crash; or one that ended before that, as what became of it."""
        life, value, error = self.live(place, point)
        if life.crashed:
            late_by = point.late_by if point.when == "late" else None
            return Crash(point.at, point.when, life.operations[point.at - 1], late_by=late_by), None
        return None, Survival((), value, error, tuple(self.ledger.entries), place, None, (), (), self)


async def _life(program: Program[R], store: Store, life: Life) -> R:
    loop = asyncio.get_running_loop()
    died = asyncio.Event()
    life.on_crash = lambda: _call_soon(loop, died.set)
    loop.set_exception_handler(lambda loop, context: None if life.crashed else loop.default_exception_handler(context))
    options: RunOptions = {**program.options, "store": store}
    running = asyncio.create_task(_line(program, store, options))
    death = asyncio.create_task(died.wait())
    try:
        await asyncio.wait({running, death}, return_when=asyncio.FIRST_COMPLETED)
        if life.crashed:
            await _bury()
            raise SimulatedCrash
        return running.result()
    finally:
        death.cancel()
        await store.aclose()  # what its process had open


async def _line(program: Program[R], store: Store, options: RunOptions) -> R:
    if program.then is None:
        return await run(program.make(), **options)
    with suppress(Exception):  # what follows is what is looked at
        await run(program.make(), **options)
    return await program.then(store)


async def _bury() -> None:
    """End all that a dead process had begun, and what that begins in its turn: nothing of it can reach its store any more."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await asyncio.wait(others)


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], Any]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # the loop has ended, and the crash came behind it
        return


def _program(
    make: Callable[[], Call[R]], ledger: Ledger | None, then: Callable[[Store], Awaitable[R]] | None, options: RunOptions
) -> Program[R]:
    if "store" in options:
        raise InvalidOption(option="store", value=options["store"], reason="a program under crashes gets a store of its own")
    known: RunOptions = {"run_name": RUN_NAME, "handle_signals": False}
    return Program(make, {**known, **options}, ledger if ledger is not None else Ledger(), then)


def _disk_of(place: Place) -> MemoryDisk:
    if not isinstance(place, DiskPlace):
        raise InvalidOption(option="on", value=place, reason="the program did not run on a disk in memory; ask `store` or `earlier`")
    return place.disk


def _ways(place: Place, when: Iterable[When] | None) -> tuple[When, ...]:
    """Raises: InvalidOption, for a way in which nobody dies there."""
    chosen = place.ways if when is None else tuple(when)
    for way in chosen:
        if way not in place.ways:
            raise InvalidOption(option="when", value=way, reason=f"choose among {', '.join(place.ways)}")
    return chosen


def crash_at(
    program: Callable[[], Call[R]],
    at: int,
    when: When = "before",
    *,
    late_by: int = 1,
    on: On = "disk",
    ledger: Ledger | None = None,
    disk: MemoryDisk | None = None,
    then: Callable[[Store], Awaitable[R]] | None = None,
    **options: Unpack[RunOptions],
) -> Survival[R]:
    """Kill the program at its `at`-th operation that changes something, resume it to its end, and tell what became of it.

    Args:
        program: Makes a fresh root call each time: `lambda: main(3)`.
        at: Which operation, from 1. A program that has fewer ends in its first life.
        when: `before` or `after` it; on a disk also `torn`: with half of it done; in an object store also `late`: its request is on its
            way, and done right before the `late_by`-th operation of the lives after it.
        late_by: See there.
        on: "disk", "bucket" (an object store in memory, in virtual time), or a `Place`, which gives the program an empty one.
        ledger: The one that the tasks write in. It is emptied.
        then: What each life does after the run, whatever that gave: `lambda store: store.rollback("program")`. It gives the value.
        disk: What the program finds; by default an empty disk.
        options: Of `run`, without the store. Retries follow at once.
    """
    planned = _program(program, ledger, then, options)
    planned.ledger.clear()
    place = place_of(on) if disk is None else DiskPlace(disk)
    _ways(place, [when])
    crash, ended = planned.kill(place, Point(at, when, late_by))
    if crash is None:
        assert ended is not None
        return ended
    left = place.left()
    return planned.finish(left, (crash,), (left.seen(),))


def crash_everywhere(
    program: Callable[[], Call[R]],
    *,
    when: Iterable[When] | None = None,
    step: int = 1,
    late_by: Iterable[int] = LATE_BY,
    on: On = "disk",
    ledger: Ledger | None = None,
    then: Callable[[Store], Awaitable[R]] | None = None,
    **options: Unpack[RunOptions],
) -> Iterator[Survival[R]]:
    """Kill the program at each operation in turn (each `step`-th), resume it, and give what became of it.

    Example::

        ledger = Ledger()  # that the tasks write in


        @pytest.mark.parametrize("on", ["disk", "bucket"])
        def test_an_order_is_charged_once_wherever_the_process_is_killed(on: str) -> None:
            for survival in crash_everywhere(lambda: buy(7), on=on, ledger=ledger):
                assert survival.value == "receipt 7", survival
                assert ledger.again == [], survival

    Args:
        program: Makes a fresh root call each time.
        when: In which ways; by default in all that there are.
        step: 1 for each operation; more for a quick look.
        late_by: How late a `late` request lands, each of these in turn.
        on: "disk", "bucket" (an object store in memory, in virtual time), or a `Place`.
        ledger: The one that the tasks write in. It is emptied before each program.
        then: What each life does after the run, as for `crash_at`.
        options: Of `run`, without the store. Retries follow at once.

    Yields:
        One Survival for each crash point. The last operation of the uninterrupted program ends it.
    """
    delays = tuple(late_by)
    for way in _ways(place_of(on), when):
        for delay in delays if way == "late" else (1,):
            at = 1
            while True:
                survival = crash_at(program, at, way, late_by=delay, on=on, ledger=ledger, then=then, **options)
                if not survival.crashes:
                    break
                yield survival
                at += step


def power_cuts(
    program: Callable[[], Call[R]],
    seeds: Iterable[int],
    *,
    on: On = "disk",
    ledger: Ledger | None = None,
    then: Callable[[Store], Awaitable[R]] | None = None,
    **options: Unpack[RunOptions],
) -> Iterator[Survival[R]]:
    """For each seed kill the program up to four times at chosen points, most times with the power, and give what became of it.

    With the power goes a chosen part of everything that was not synced: names, contents, halves of writes. An object store keeps its power:
    there, up to four requests of dead processes are on their way, to be done when the seed says.

    Example::

        def test_an_order_is_charged_once_whatever_the_disk_forgets() -> None:
            for survival in power_cuts(lambda: buy(7), range(100), ledger=ledger):
                assert survival.value == "receipt 7", survival

    Args:
        program: Makes a fresh root call each time.
        seeds: One program each; the same seed chooses the same points.
        on: "disk", "bucket" (an object store in memory, in virtual time), or a `Place`.
        ledger: The one that the tasks write in. It is emptied before each program.
        then: What each life does after the run, as for `crash_at`.
        options: Of `run`, without the store.
    """
    planned = _program(program, ledger, then, options)
    planned.ledger.clear()
    whole, _, _ = planned.live(place_of(on))
    for seed in seeds:
        yield _survive(planned, place_of(on), len(whole.operations), random.Random(seed), seed)


def _survive(planned: Program[R], place: Place, operations: int, rng: random.Random, seed: int) -> Survival[R]:
    planned.ledger.clear()
    crashes, seen = list[Crash](), list[Place]()
    for _ in range(rng.randint(1, MOST_CRASHES)):
        crash, ended = planned.kill(place, Point(rng.randint(1, operations), rng.choice(place.ways), rng.randint(1, LATEST)))
        if ended is not None:
            if isinstance(ended.error, (RunBusy, RunFenced)):
                break  # by the dead: the last life tries again
            return Survival(tuple(crashes), ended.value, ended.error, ended.entries, place, seed, (), tuple(seen), planned)
        assert crash is not None
        power_cut = isinstance(place, DiskPlace) and rng.random() < 0.8
        crashes.append(replace(crash, power_cut=power_cut))
        place = place.left(rng if power_cut else None)
        seen.append(place.seen())
    return planned.finish(place, tuple(crashes), tuple(seen), seed)
