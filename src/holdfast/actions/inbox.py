"""The owner's end of a run's topics: hands each value that was sent to one receiver, in the order of sending, and of waiting.

While somebody waits on a topic, the first in its queue looks for the next entry, by name: at once when this process sends one, else again
and again, less and less often. Nothing looks where nobody waits. What a receiver took is used up when its outcome is in the journal
(`Fold.received`); a receiver that ends before that gives it back, to its place in the order.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple, Self

from holdfast.clocks import clock
from holdfast.errors import ObjectMissing, StoreUnavailable
from holdfast.folders.protocol import Folder
from holdfast.topics import Entry, listen, read

SLICE_SECONDS: Final = 60.0
"""Whoever waits for longer looks at the clock so often, since a machine may sleep, and clocks are set."""

_log = logging.getLogger("holdfast")


class Pauses(NamedTuple):
    """Seconds between two looks at a topic: after a value, and at most; each pause is so many times the one before."""

    first: float
    most: float
    growth: float = 1.5


ON_DISK: Final = Pauses(0.05, 0.5)
IN_BUCKET: Final = Pauses(1.0, 5.0)
"""Each look is a request: 12 a minute for a topic on which somebody waits for long."""


class Inbox:
    """The topics of one run, as its owner knows them. Belongs to the run's event loop.

    Args:
        folder: Of the run.
        received: The numbers of the entries that outcomes on record took, by topic.
    """

    def __init__(self, folder: Folder, received: Mapping[str, Collection[int]]) -> None:
        self._folder = folder
        self._received = received
        self._topics: dict[str, _Topic] = {}
        self._loop = asyncio.get_running_loop()
        listen(folder, self)

    def hear(self, topic: str) -> None:
        """A value was sent by this process."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self._loop.call_soon_threadsafe(self._look_now, topic)

    def _look_now(self, topic: str) -> None:
        if topic in self._topics:
            self._topics[topic].wake_first()

    def queue(self, topic: str) -> Turn:
        """Stand behind all who wait on a topic: a block, at whose end one leaves."""
        return Turn(self._topic(topic))

    def give_back(self, entry: Entry) -> None:
        """A value whose receiver ended without an outcome."""
        self._topic(entry.topic).put(entry)

    def _topic(self, name: str) -> _Topic:
        if name not in self._topics:
            self._topics[name] = _Topic(self._folder, name, self._received.get(name, ()))
        return self._topics[name]


class Turn:
    """One receiver's place in the queue of a topic."""

    def __init__(self, topic: _Topic) -> None:
        self._topic = topic
        self._woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.given: Entry | None = None

    def __enter__(self) -> Self:
        self._topic.join(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._topic.leave(self)

    @property
    def is_served(self) -> bool:
        return self.given is not None

    def take(self) -> Entry | None:
        """What was given; from now on it is for the caller to give back."""
        entry, self.given = self.given, None
        return entry

    def wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    async def look(self) -> None:
        """Find what is there already. Raises: StoreError."""
        await self._topic.look(self, only_if_first=True)

    async def wait(self, left: Callable[[], float]) -> None:
        """Wait until something was given, or no seconds are `left`. Raises: StoreError."""
        while not self.is_served:
            seconds = left()
            if seconds <= 0 and await self._topic.look(self):  # what came meanwhile wins over the deadline
                return
            pause = self._topic.pause if seconds <= 0 or self._topic.is_first(self) else SLICE_SECONDS
            await self._rest(min(pause, seconds) if seconds > 0 else pause)
            if self._topic.is_first(self) and left() > 0:
                await self._topic.look(self)

    async def _rest(self, seconds: float) -> None:
        sleeping = asyncio.ensure_future(clock().sleep(seconds))
        try:
            await asyncio.wait({self._woken, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
        if self._woken.done():
            self._woken = asyncio.get_running_loop().create_future()


class _Topic:
    """Who waits, what is there for them, and which number comes next."""

    pause: float

    def __init__(self, folder: Folder, name: str, received: Collection[int]) -> None:
        self._folder = folder
        self._name = name
        self._received = received
        self._pauses = ON_DISK if folder.logs is not None else IN_BUCKET
        self.pause = self._pauses.first
        self._waiting: deque[Turn] = deque()
        self._there: list[tuple[int, Entry]] = []
        self._next = 0
        self._one_at_a_time = asyncio.Lock()
        self._is_out_of_reach = False

    def join(self, turn: Turn) -> None:
        if not self._waiting:
            self.pause = self._pauses.first
        self._waiting.append(turn)
        self._hand_out()

    def leave(self, turn: Turn) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
        entry = turn.take()
        if entry is not None:
            self.put(entry)
        self.wake_first()

    def is_first(self, turn: Turn) -> bool:
        return bool(self._waiting) and self._waiting[0] is turn

    def wake_first(self) -> None:
        """Whoever is the first now has to look."""
        if self._waiting:
            self._waiting[0].wake()

    def put(self, entry: Entry) -> None:
        heapq.heappush(self._there, (entry.number, entry))
        self._hand_out()

    async def look(self, turn: Turn, *, only_if_first: bool = False) -> bool:
        """Find what is there, until there is something for `turn`. Returns whether the store could say. Raises: StoreError.

        With `only_if_first`, those who stand before it and got nothing are believed.
        """
        async with self._one_at_a_time:
            while not turn.is_served and (self.is_first(turn) or not only_if_first):
                while self._next in self._received:
                    self._next += 1
                try:
                    entry = await read(self._folder, self._name, self._next)
                except ObjectMissing:
                    most = self._pauses.most if clock().is_real else SLICE_SECONDS  # else a day in no time takes a while
                    self.pause = min(self.pause * self._pauses.growth, most)
                    self._is_out_of_reach = False
                    return True
                except StoreUnavailable as error:
                    self._cannot_say(error)
                    return False
                self._next += 1
                self.pause = self._pauses.first
                self.put(entry)
            return True

    def _hand_out(self) -> None:
        while self._waiting and self._there:
            turn = self._waiting.popleft()
            turn.given = heapq.heappop(self._there)[1]
            turn.wake()
            self.wake_first()

    def _cannot_say(self, error: StoreUnavailable) -> None:
        """No failure of whoever waits. Said once, until the store answers."""
        self.pause = self._pauses.most
        if not self._is_out_of_reach:
            self._is_out_of_reach = True
            _log.warning("topic %r can't be read just now, and is tried again: %s", self._name, error)
