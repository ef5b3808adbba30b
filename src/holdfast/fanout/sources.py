"""Where rows come from: any iterable or async iterable, pulled one item at a time, and closed where it is a generator."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Generic, TypeVar

from holdfast.errors import InvalidOption
from holdfast.tracking import length_of

T = TypeVar("T")


class Source(Generic[T]):
    """Items, in order.

    Attributes:
        total: How many there are, where that is known.
        is_async: Whether one has to wait for an item.
    """

    total: int | None
    is_async: bool

    def __init__(self, items: Iterable[T] | AsyncIterable[T]) -> None:
        """Raises: InvalidOption."""
        self.total = length_of(items)
        self._iterator: Iterator[T] | None = None
        self._waiting: AsyncIterator[T] | None = None
        if isinstance(items, AsyncIterable):
            self._waiting = aiter(items)
        elif isinstance(items, Iterable):
            self._iterator = iter(items)
        else:
            raise InvalidOption(option="items", value=items, reason="it takes an iterable or an async iterable")
        self.is_async = self._waiting is not None

    def pull(self) -> T:
        """The next item, at once. Raises: StopIteration, and what the iterable raises."""
        assert self._iterator is not None
        return next(self._iterator)

    async def pull_later(self) -> T:
        """The next item, as soon as there is one. Raises: StopAsyncIteration, and what the iterable raises."""
        if self._waiting is not None:
            return await anext(self._waiting)
        try:
            return self.pull()
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Close a generator, so that its `finally` runs. Anything else (a file) is its owner's. Raises: what the generator raises."""
        waiting, iterator = self._waiting, self._iterator
        self._waiting, self._iterator = None, iter(())  # what is iterated through something else (`enumerate`) is let go
        if isinstance(waiting, AsyncGenerator):
            await waiting.aclose()
        elif inspect.isgenerator(iterator):
            iterator.close()
