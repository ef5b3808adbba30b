"""`records`: rows in, and each out as it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from holdfast.actions.decisions import Standing
from holdfast.bridge import running_loop
from holdfast.fanout.outcomes import Record, SimpleRecordsResult
from holdfast.fanout.rows import OneArg, Rows
from holdfast.fanout.sources import Source
from holdfast.retries import Rate

T = TypeVar("T")
R = TypeVar("R")

_endings: Final[set[asyncio.Task[None]]] = set()


class Records(AsyncIterator[Record[T, R]], Generic[T, R]):
    """The rows of `records(...)`, as they end: for `async for`.

    However the loop is left, by `break`, `return` or an error, what is under way is cancelled, and nothing more is begun. In a run the
    calling task does not end before that has. `async with records(...) as rows:` waits for it at the end of the block, `await
    rows.aclose()` at once.
    """

    def __init__(self, rows: Rows[T, R]) -> None:
        self._rows = rows
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def summary(self) -> SimpleRecordsResult:
        """What became of the rows: at any time up to now, and for good when the loop is done."""
        return self._rows.summary()

    def __aiter__(self) -> AsyncIterator[Record[T, R]]:
        return _Loop(self)

    async def __anext__(self) -> Record[T, R]:
        """The next row that ended.

        Raises: StopAsyncIteration; what the items raise; what is no row's failure, such as RunStopped.
        """
        self._loop = asyncio.get_running_loop()
        if self._ending is not None:
            raise StopAsyncIteration
        try:
            record = await self._rows.next()
        except asyncio.CancelledError:  # of whoever waits: the rows go on, until the loop is left
            raise
        except BaseException:
            await self.aclose()
            raise
        if record is None:
            await self.aclose()
            raise StopAsyncIteration
        return record

    async def aclose(self) -> None:
        """Cancel what is under way, and return when it has ended and the items are closed. Raises: what closing them raises."""
        await asyncio.shield(self._end())

    def _end(self) -> asyncio.Task[None]:
        if self._ending is None:
            self._rows.leave()
            self._ending = asyncio.get_running_loop().create_task(self._rows.end(), name="the end of records")
            _endings.add(self._ending)  # also where nobody waits for it
            self._ending.add_done_callback(_endings.discard)
        return self._ending

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    def left(self) -> None:
        """Nobody asks for more."""
        loop = self._loop
        if self._ending is not None or loop is None or loop.is_closed():
            return
        if running_loop() is not loop:  # thrown away by another thread
            loop.call_soon_threadsafe(self.left)
            return
        self._end()

    def __del__(self) -> None:
        if hasattr(self, "_ending"):
            self.left()


class _Loop(AsyncIterator[Record[T, R]]):
    """One `async for` over rows. Python tells an iterator of a `break` by nothing but throwing it away."""

    def __init__(self, records: Records[T, R]) -> None:
        self._records = records

    def __anext__(self) -> Any:
        return self._records.__anext__()

    def __del__(self) -> None:
        self._records.left()


def records(
    task: OneArg[T, R],
    items: Iterable[T] | AsyncIterable[T],
    /,
    *,
    concurrency: int | Rate = 32,
    retry_skipped: bool = False,
    group: str | None = None,
) -> Records[T, R]:
    """Call a task with each item, and give each row as it ends: `async for row in records(classify, lines)`.

    As `map`, for what is too much for a list, or without end: rows that are under way or landed are never more than `concurrency`, so a
    slow loop slows the feeding. A row that fails for good is given with its `error`, and skipped: it is given so again by every resume,
    also when the calling task itself had failed, unless `retry_skipped=True` asks for another try.

    Example::

        rows = records(classify, read_lines("rows.csv"), concurrency=Rate(50, per=1.0, concurrency=32))
        async for row in rows:
            if row.status is RecordStatus.SUCCESS:
                write(row.index, row.value)
        if not rows.summary.is_complete:
            ctx().summary(rows.summary.message)

    Args:
        task: It is called with one item; what it takes besides has a default.
        items: As of `map`; they may be without end.
        concurrency: As of `map`.
        retry_skipped: Whether rows that failed for good before this attempt of the calling task run again, with new retries. Failures
            that are `NonRetryable` stay.
        group: As of `map`.

    Raises:
        InvalidOption, InvalidName: An argument has a value that it can't have.
    """
    standing: Standing = "none" if retry_skipped else "all"
    return Records(Rows(task, Source(items), concurrency, group, standing, skips=True))
