"""`track`: a bar that follows a loop.

An item counts when the body asks for the next one, since only then is it done with it: before the first the bar shows 0 %, after the last
100 %, and where the body breaks off it stays.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Sized
from typing import Any, TypeVar

from holdfast.contexts import ctx, link_of
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
        name: Which bar, as in `ctx().progress`. Used again for another loop, it begins anew.
        total: How many there are in all, with those that are done already; by default `len(items)`, where there is one. Else the bar has
            none until the end. One that was too high stays as it is: then less than 100 % is shown.

    Raises:
        InvalidOption: `items` can't be iterated; or of `name` and `total`, once the loop begins.
        ActionEnded, AttemptAbandoned: The attempt in which the loop began is over.
    """
    given: Any = items
    if not isinstance(given, (Iterable, AsyncIterable)):
        raise InvalidOption(option="items", value=given, reason="it takes an iterable, or an async iterable")
    return _followed(items, name, total) if ctx() is not None else _each(items)


async def _followed(items: Iterable[T] | AsyncIterable[T], name: str, total: float | None) -> AsyncGenerator[T, None]:
    link = link_of(ctx())
    link.check("track")
    lead = link.lead(name, total, len(items) if isinstance(items, Sized) else None)
    each = _each(items)
    try:
        async for item in each:
            lead.take()
            yield item
            link.check("track")
            lead.done()
        lead.finish()
    finally:
        lead.leave()
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
