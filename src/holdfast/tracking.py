"""`track`: a bar that follows a loop.

An item counts when the body asks for the next one, since only then is it done with it: before the first the bar shows 0 %, after the last
100 %, and where the body breaks off it stays.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine, Generator, Iterable, Sized
from typing import Any, TypeVar

from holdfast.contexts import Track, ctx, link_of
from holdfast.errors import InvalidOption

T = TypeVar("T")


def track(items: Iterable[T] | AsyncIterable[T], name: str = "default", *, total: float | None = None) -> AsyncGenerator[T, None]:
    """Iterate, and have a bar of the running task follow: `async for row in track(rows, "rows"): ...`

    Outside a task it just iterates. A generator that it was given is closed when the loop ends, however it ends.

    A loop that goes on where a checkpoint was saved is shown as a whole::

        done = await ctx().checkpoint.load(int) or 0
        async for row in track(rows[done:], "rows", total=len(rows)):
            await work(row)
            done += 1
            await ctx().checkpoint.save(done)

    Args:
        items: An iterable or an async iterable.
        name: Which bar, as in `ctx().progress`. Used again for a later loop, it begins anew; of loops side by side, or one within the
            other, it shows the sum.
        total: How many there are in all, with those that are done already; by default `len(items)`, where there is one. Else the bar has
            none until the end. One that was too high stays as it is: then less than 100 % is shown.

    Raises:
        InvalidOption: `items` can't be iterated; or of `name` and `total`, once the loop begins.
        ActionEnded, AttemptAbandoned: The attempt in which the loop began is over.
    """
    given: Any = items
    if not isinstance(given, (Iterable, AsyncIterable)):
        raise InvalidOption(option="items", value=given, reason="it takes an iterable, or an async iterable")
    return _Followed(items, name, total) if ctx() is not None else _each(items)


class _Followed(AsyncGenerator[T, None]):
    """One loop, and the bar that follows it. Python tells of a `break` by nothing but throwing the loop's iterator away."""

    def __init__(self, items: Iterable[T] | AsyncIterable[T], name: str, total: float | None) -> None:
        self._tracks: list[Track] = []
        self._steps = _followed(items, name, total, self._tracks)

    def __anext__(self) -> Coroutine[Any, Any, T]:
        return self._steps.__anext__()

    def asend(self, value: None, /) -> Coroutine[Any, Any, T]:
        return self._steps.asend(value)

    def athrow(self, *error: Any) -> Coroutine[Any, Any, T]:
        return self._steps.athrow(*error)

    def aclose(self) -> Coroutine[Any, Any, None]:
        return self._steps.aclose()

    def __del__(self) -> None:
        for one in self._tracks:
            one.leave()


def length_of(items: object) -> int | None:
    """How many items there are, where that is known. Some that have `__len__` refuse to say (the loader of a data set that streams)."""
    if not isinstance(items, Sized):
        return None
    try:
        return len(items)
    except (TypeError, NotImplementedError):
        return None


async def _followed(items: Iterable[T] | AsyncIterable[T], name: str, total: float | None, tracks: list[Track]) -> AsyncGenerator[T, None]:
    link = link_of(ctx())
    link.check("track")
    following = link.track(name, total, length_of(items))
    tracks.append(following)
    each = _each(items)
    try:
        async for item in each:
            following.take()
            yield item
            link.check("track")
            following.done()
        following.finish()
    finally:
        following.leave()
        await each.aclose()


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
    if isinstance(items, AsyncIterable):
        source: AsyncIterator[T] = aiter(items)
        try:
            async for item in source:
                yield item
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()
        return
    given: Any = iter(items)
    try:
        for item in given:
            yield item
    finally:
        if isinstance(given, Generator):
            given.close()
