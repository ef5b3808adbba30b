"""Writing a journal: group commit, behind a fence.

Events of all concurrent actions queue on the loop and are written as one group. Only what somebody waits for wakes the writer; the rest
rides along, or follows after `Flush.interval` seconds. One group is under way at a time, and its `Pen` says when it counts: the next one
goes on from it. A pen that fails loses the journal: nothing more is written, and everybody who waits has the error.

Live events are told and never written. They take their turn: each is told when all is durable that was appended before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from holdfast.clocks import clock
from holdfast.errors import RunFenced, RunStopped
from holdfast.events import Event, Missed, encode_event
from holdfast.frozen import Frozen

#: Where a group is a frame in a file, and where it is an object, which costs a request.
LINGER_SECONDS: Final = 0.1
OBJECT_LINGER_SECONDS: Final = 1.0
GROUP_BYTES: Final = 8 << 20
LIVE_AT_MOST: Final = 100_000
"""So many live events wait with a group: they come as fast as a body makes them, however long a store takes."""


class Flush(Frozen):
    """When events are written that nobody waits for, and how large a group may grow.

    Attributes:
        interval: Seconds that such an event waits at most before it is on its way.
        size: Bytes; what is more goes into the next group. An event alone may be larger.
    """

    interval: float = LINGER_SECONDS
    size: int = GROUP_BYTES

    @classmethod
    def of(cls, interval: float | None, size: int, *, is_disk: bool) -> Flush:
        """What was asked for, or what suits the place."""
        usual = LINGER_SECONDS if is_disk else OBJECT_LINGER_SECONDS
        return cls(interval if interval is not None else usual, size)


class Pen(Protocol):
    """Who writes groups so that they count: behind the fence, durable, in order. One group at a time."""

    epoch: int

    def write(self, lines: Sequence[bytes], done: Callable[[BaseException | None], None]) -> None:
        """Begin to write a group. `done` is called on the loop, later, with None once it counts, else with why it never will."""
        ...

    async def look(self) -> None:
        """Find out whether another owner took over, where that costs little. Raises: RunFenced."""
        ...

    def stop(self) -> None:
        """Let go of everything, after the group under way if there is one."""
        ...


class _Group:
    """Events that become durable together, and who waits for that."""

    __slots__ = ("events", "lines", "live", "missed", "since", "size", "waiters")

    live: list[tuple[int, Event]] | None
    missed: int

    def __init__(self) -> None:
        self.live = None  # live events, each with how many events of the group it stands behind
        self.since = 0.0  # on the loop's clock, when its first event came
        self.lines: list[bytes] = []
        self.events: list[Event] = []
        self.waiters: list[asyncio.Future[None]] = []
        self.size = 0

    def put_live(self, event: Event) -> None:
        if self.live is None:
            self.live, self.missed = [], 0
        if len(self.live) < LIVE_AT_MOST:
            self.live.append((len(self.events), event))
        else:
            self.missed += 1

    def in_turn(self) -> Sequence[Event]:
        """What is told when the group is durable."""
        if self.live is None:
            return self.events
        found: list[Event] = []
        told = 0
        for place, event in self.live:
            found += self.events[told:place]
            found.append(event)
            told = place
        if self.missed:
            found.append(Missed(action="", at=clock().now(), count=self.missed))
        return found + self.events[told:]


class Journal:
    """The one writing end of a run's journal. Made by `owning.take_over`; used on one event loop."""

    epoch: int

    def __init__(self, run_name: str, pen: Pen, flush: Flush | None = None) -> None:
        self.epoch = pen.epoch
        self.run_name = run_name
        self.on_durable: Callable[[Sequence[Event]], None] = lambda events: None
        self.on_told: Callable[[Sequence[Event]], None] = lambda events: None
        self.on_lost: Callable[[BaseException], None] = lambda error: None
        self._pen = pen
        self._flushing = flush if flush is not None else Flush()
        self._loop = asyncio.get_running_loop()
        self._full: deque[_Group] = deque()  # groups that take no more, before the one that does
        self._group = _Group()
        self._writing: _Group | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._woken_for = 0.0
        self._lost: BaseException | None = None

    # what callers ask

    def append(self, event: Event) -> None:
        """Record an event in its turn, without waiting. Raises: what the journal was lost to."""
        if self._lost is not None:
            raise self._lost
        line, group = encode_event(event), self._group
        if group.lines and group.size + len(line) > self._flushing.size:
            self._full.append(group)
            group = self._group = _Group()
        if not group.lines:
            group.since = self._loop.time()
        group.lines.append(line)
        group.events.append(event)
        group.size += len(line)
        if self._wake is None and self._writing is None:
            self._wake_for(group)

    def tell(self, event: Event) -> None:
        """Have a live event told, behind all that was appended before it. Where the journal is lost, that never is told, nor is this."""
        group = self._group if self._group.lines else self._full[-1] if self._full else self._writing
        if group is not None:
            group.put_live(event)
        elif self._lost is None:
            self.on_told((event,))

    async def commit(self, event: Event) -> None:
        """Record an event, and return when it is durable, also if the caller is cancelled meanwhile (then CancelledError follows).

        Raises: RunFenced, StoreFull, StoreUnavailable, StorePermission.
        """
        self.append(event)
        await self.barrier()

    async def barrier(self) -> None:
        """Return when everything appended so far is durable. Cancellation waits too. Raises: as `commit`."""
        group = self._group if self._group.lines else self._full[-1] if self._full else self._writing
        if self._lost is not None:
            raise self._lost
        if group is None:
            return
        cancelled: asyncio.CancelledError | None = None
        while True:
            waiter = self._loop.create_future()
            group.waiters.append(waiter)
            if group is not self._writing:  # what is written takes the next group along when it is done
                self._flush()
            try:
                await waiter
                break
            except asyncio.CancelledError as error:
                cancelled = error
                if not group.lines:
                    break
        if cancelled is not None:
            raise cancelled

    async def look(self) -> None:
        """Find out whether another owner took over. An idle owner does this now and then: `on_lost` is called where one did."""
        try:
            await self._pen.look()
        except RunFenced as fenced:
            self.lose(fenced)

    async def aclose(self) -> None:
        """Write what is queued, where the journal still is ours, and let go of the pen."""
        try:
            if self._lost is None:
                await self.barrier()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go without writing what is queued."""
        if self._lost is None:
            self._shut(RunStopped(run_name=self.run_name, reason="it has ended"))
        if self._wake is not None:
            self._wake.cancel()
        self._pen.stop()

    def lose(self, error: BaseException) -> None:
        """Write nothing more: another owner took over, or the store gave up."""
        if self._lost is None:
            self._shut(error)
            self.on_lost(error)

    # on the loop

    def _wake_for(self, group: _Group) -> None:
        """Have a group written, though nobody waits for it."""
        self._woken_for = group.since
        self._wake = self._loop.call_at(group.since + (0.0 if self._full else self._flushing.interval), self._awake)

    def _awake(self) -> None:
        """Somebody may have waited meanwhile, and had another group written. A timer that finds a later one is less than one for each."""
        self._wake = None
        if not self._full and self._group.since > self._woken_for and self._group.lines and self._writing is None:
            self._wake_for(self._group)
        else:
            self._flush()

    def _flush(self) -> None:
        if self._writing is not None or self._lost is not None:
            return
        if self._full:
            self._writing = self._full.popleft()
        elif self._group.lines:
            self._writing, self._group = self._group, _Group()
        else:
            return
        self._pen.write(self._writing.lines, self._written)

    def _written(self, error: BaseException | None) -> None:
        group = self._writing
        if group is None or self._lost is not None:
            return
        if error is not None:
            self.lose(error)
            return
        self._writing = None
        group.lines = []
        self.on_durable(group.events)
        for waiter in group.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.on_told(group.in_turn())
        if self._full or self._group.waiters:
            self._flush()
        elif self._group.lines and self._wake is None:
            self._wake_for(self._group)

    def _shut(self, error: BaseException) -> None:
        """Take nothing more, and let everybody who waits have `error`: nobody waits for a journal that writes no longer."""
        self._lost = error
        for group in (self._writing, *self._full, self._group):
            if group is None:
                continue
            for waiter in group.waiters:
                if not waiter.done():
                    waiter.set_exception(error)
            group.lines = []
        self._full.clear()
        self._writing = None
