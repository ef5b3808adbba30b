"""A process that dies while it talks to an object store.

The store lives on, and so may what the process asked for last. A request that was on its way when its sender died is done never, or at
once, or *later*: when the next process has asked for this and that already. `Wire` has what is on its way from life to life.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, TypeVar

from holdfast.folders.protocol import Bucket, Entry, Page, Trouble
from holdfast.testing.lives import Life, Mortal, When

T = TypeVar("T")
Request: TypeAlias = Callable[[Bucket], Awaitable[None]]


class Wire:
    """Requests of processes that are dead. Each lands right before an operation of a later one, as far ahead as it was said."""

    def __init__(self) -> None:
        self._on_their_way: list[tuple[int, Request]] = []

    def __bool__(self) -> bool:
        return bool(self._on_their_way)

    def send(self, request: Request, late_by: int) -> None:
        """Let `request` land right before the `late_by`-th operation from here on, of whatever kind."""
        self._on_their_way.append((late_by, request))

    async def passes(self, bucket: Bucket) -> None:
        """An operation is about to be done: do before it what is due."""
        waiting, self._on_their_way = self._on_their_way, []
        for left, request in waiting:
            if left > 1:
                self._on_their_way.append((left - 1, request))
            else:
                await _land(request, bucket)

    async def settle(self, bucket: Bucket) -> None:
        """Let all land that is on its way still."""
        waiting, self._on_their_way = self._on_their_way, []
        for _, request in waiting:
            await _land(request, bucket)


async def _land(request: Request, bucket: Bucket) -> None:
    with contextlib.suppress(Exception):  # the answer has nobody to go to
        await request(bucket)


class CrashBucket(Mortal):
    """Kills the process at its `at`-th operation that changes something; with `at=None`, only counts.

    Args:
        inner: Where everything goes, and what the next process finds.
        at: Which operation, counted from 1.
        when: `before` it was sent, `after` it was done, or `late`: it is on its way, and lands when later processes have been at work for
            a while. `torn` does half of a request that deletes several objects, and nothing of any other: an object is never there by half.
        late_by: Right before which operation of the lives after this one (over the same `wire`) a late request lands.
        wire: What is on its way. One for all lives of a program.

    After the crash each operation raises `SimulatedCrash`.
    """

    unfenced: str | None

    def __init__(
        self,
        inner: Bucket,
        *,
        at: int | None = None,
        when: When = "before",
        late_by: int = 1,
        wire: Wire | None = None,
        life: Life | None = None,
    ) -> None:
        self.unfenced = inner.unfenced
        super().__init__(life if life is not None else Life(at, when))
        self._inner = inner
        self._late_by = late_by
        self._wire = wire if wire is not None else Wire()

    async def get(self, name: str) -> bytes:
        return await self._look(lambda: self._inner.get(name))

    async def put(self, name: str, data: bytes) -> None:
        await self._change("put", name, lambda bucket: bucket.put(name, data))

    async def create(self, name: str, data: bytes) -> None:
        await self._change("create", name, lambda bucket: bucket.create(name, data))

    async def delete(self, names: Sequence[str]) -> None:
        half = names[: len(names) // 2]
        await self._change("delete", names[0] if names else "", lambda bucket: bucket.delete(names), lambda bucket: bucket.delete(half))

    async def stat(self, name: str) -> Entry:
        return await self._look(lambda: self._inner.stat(name))

    async def touch(self, name: str) -> None:
        await self._change("touch", name, lambda bucket: bucket.touch(name))

    async def list(self, prefix: str, more: str | None = None) -> Page:
        return await self._look(lambda: self._inner.list(prefix, more))

    async def walk(self, prefix: str, more: str | None = None) -> Page:
        return await self._look(lambda: self._inner.walk(prefix, more))

    def trouble(self, error: Exception) -> Trouble:
        return self._inner.trouble(error)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _look(self, operation: Callable[[], Awaitable[T]]) -> T:
        await self._begin()
        answer = await operation()
        with self.life.alive():  # it may have died meanwhile, and then nobody hears the answer
            return answer

    async def _change(self, verb: str, name: str, request: Request, half: Request | None = None) -> None:
        await self._begin()
        crash = self.life.begin(verb, name)
        if crash == "torn" and half is not None:
            await _land(half, self._inner)
        elif crash == "late":
            self._wire.send(request, self._late_by)
        if crash is not None and crash != "after":
            raise self.life.kill()
        try:
            await request(self._inner)
        finally:  # also where it failed
            if crash == "after":
                raise self.life.kill()
        with self.life.alive():
            return

    async def _begin(self) -> None:
        with self.life.alive():
            pass
        await self._wire.passes(self._inner)
