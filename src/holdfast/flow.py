"""How much goes on at one time: the bytes under way, and pieces of work side by side."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from holdfast.folders.threads import to_end

T = TypeVar("T")
R = TypeVar("R")

#: Bytes of large data that are in memory at one time on one event loop: read and not yet sent, or fetched and not yet written.
UNDER_WAY: Final = 32 * 1024 * 1024


class Room:
    """Room for so many bytes. Who needs some waits in line until they are free; more than all of it counts as all of it."""

    def __init__(self, size: int = UNDER_WAY) -> None:
        self._size = size
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncGenerator[None]:
        """Within the block, `size` bytes are taken."""
        taken = await self.take(size)
        try:
            yield
        finally:
            self.give_back(taken)

    async def take(self, size: int) -> int:
        """Take `size` bytes, and return what to give back."""
        size = min(size, self._size)
        if not self._waiting and size <= self._free:
            self._free -= size
            return size
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was our turn, in this very moment
                self.give_back(size)
            else:
                self._serve()  # who stands behind us may need less
            raise
        return size

    def give_back(self, size: int) -> None:
        self._free += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.cancelled():
                if size > self._free:
                    return
                self._free -= size
                turn.set_result(None)
            self._waiting.popleft()


_rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, Room] = WeakKeyDictionary()


def room() -> Room:
    """The running loop's room for large data, shared by all that goes on there."""
    return _rooms.setdefault(asyncio.get_running_loop(), Room())


async def side_by_side(work: Callable[[T], Awaitable[R]], items: Iterable[T], *, width: int) -> list[R]:
    """Await `work(item)` for each item, at most `width` at one time, and return the results in the order of the items.

    The first error ends the others, and is raised when they have ended; so does whoever cancels this.
    """
    results: dict[int, R] = {}
    waiting = enumerate(items)

    async def one_after_the_other() -> None:
        for number, item in waiting:
            results[number] = await work(item)

    workers = [asyncio.ensure_future(one_after_the_other()) for _ in range(width)]
    await to_end(_all_of(workers), hurry=lambda: _cancel(workers))
    return [results[number] for number in range(len(results))]


async def _all_of(workers: Sequence[asyncio.Future[None]]) -> None:
    ended, others = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
    _cancel(others)
    if others:
        await asyncio.wait(others)
    failed = [each for each in workers if not each.cancelled() and each.exception() is not None]
    for worker in sorted(failed, key=lambda each: each not in ended):  # who failed first, not who failed at being ended
        worker.result()
    if any(worker.cancelled() for worker in workers):  # from within: what it was at has no result
        raise asyncio.CancelledError


def _cancel(workers: Iterable[asyncio.Future[None]]) -> None:
    for worker in workers:
        worker.cancel()
