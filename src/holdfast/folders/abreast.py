"""Many small requests of one operation, a few of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

#: Requests under way at one time, for one operation on many objects.
ABREAST: Final = 16


async def for_each(names: Sequence[str], work: Callable[[str], Awaitable[object]]) -> None:
    """Do `work` for every name, also where it fails for some; then raise the first of the errors."""
    turn = asyncio.Semaphore(ABREAST)

    async def one(name: str) -> None:
        async with turn:
            await work(name)

    for ended in await asyncio.gather(*(one(name) for name in names), return_exceptions=True):
        if ended is not None:
            raise ended
