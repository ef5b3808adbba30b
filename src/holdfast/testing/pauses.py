"""A process that stands still: stopped by a signal, swapped out, cut off from its store. It wakes later, and does not know.

`PauseBucket` stands between one process and its store. From its `at`-th operation on, nothing comes through until the pause is over, while
the processes beside it go on. What it asked for at that moment is done when it wakes, or was done before, as `when` says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from holdfast.clocks import clock
from holdfast.folders.protocol import Bucket, Entry, Page, Trouble

T = TypeVar("T")


class PauseBucket:
    """A bucket for a process that stands still for a while, on the clock in force.

    Args:
        inner: The store, which others use too.
        at: At which of its operations, counted from 1, of whatever kind.
        seconds: For how long.
        when: Whether that operation is done `after` the pause, or was done `before` it and only its answer is late.
    """

    unfenced: str | None
    operations: list[str]

    def __init__(self, inner: Bucket, *, at: int, seconds: float, when: Literal["before", "after"] = "after") -> None:
        self.unfenced = inner.unfenced
        self.operations = []
        self._inner = inner
        self._at = at
        self._seconds = seconds
        self._when = when
        self._until: float | None = None

    @property
    def paused(self) -> bool:
        """Whether it came so far."""
        return self._until is not None

    async def get(self, name: str) -> bytes:
        return await self._do("get", name, lambda: self._inner.get(name))

    async def put(self, name: str, data: bytes) -> None:
        await self._do("put", name, lambda: self._inner.put(name, data))

    async def create(self, name: str, data: bytes) -> None:
        await self._do("create", name, lambda: self._inner.create(name, data))

    async def delete(self, names: Sequence[str]) -> None:
        await self._do("delete", names[0] if names else "", lambda: self._inner.delete(names))

    async def stat(self, name: str) -> Entry:
        return await self._do("stat", name, lambda: self._inner.stat(name))

    async def touch(self, name: str) -> None:
        await self._do("touch", name, lambda: self._inner.touch(name))

    async def list(self, prefix: str, more: str | None = None) -> Page:
        return await self._do("list", prefix, lambda: self._inner.list(prefix, more))

    async def walk(self, prefix: str, more: str | None = None) -> Page:
        return await self._do("walk", prefix, lambda: self._inner.walk(prefix, more))

    def trouble(self, error: Exception) -> Trouble:
        return self._inner.trouble(error)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _do(self, verb: str, name: str, operation: Callable[[], Awaitable[T]]) -> T:
        self.operations.append(f"{verb} {name}")
        if self._until is None and len(self.operations) >= self._at:
            self._until = clock().now() + self._seconds
            if self._when == "before":
                answer = await operation()
                await self._stand_still()
                return answer
        await self._stand_still()
        return await operation()

    async def _stand_still(self) -> None:
        if self._until is not None:
            await clock().sleep(max(self._until - clock().now(), 0.0))
