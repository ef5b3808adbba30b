"""`map`: rows in, a list out."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import Any, Final, Literal, TypeVar, overload

from holdfast.actions.decisions import RECENT
from holdfast.errors import InvalidOption
from holdfast.fanout.outcomes import RecordStatus
from holdfast.fanout.rows import OneArg, Rows, cancelled_from_within
from holdfast.fanout.sources import Source
from holdfast.retries import Rate

T = TypeVar("T")
R = TypeVar("R")

_LEFT_OUT: Final = object()
_WAYS: Final = ("raise", "skip", "collect")


@overload
async def map(
    task: OneArg[T, R],
    items: Iterable[T] | AsyncIterable[T],
    /,
    *,
    concurrency: int | Rate = 32,
    on_error: Literal["raise", "skip"] = "raise",
    group: str | None = None,
) -> list[R]: ...
@overload
async def map(
    task: OneArg[T, R],
    items: Iterable[T] | AsyncIterable[T],
    /,
    *,
    concurrency: int | Rate = 32,
    on_error: Literal["collect"],
    group: str | None = None,
) -> list[R | Exception]: ...
async def map(
    task: OneArg[Any, Any],
    items: Iterable[Any] | AsyncIterable[Any],
    /,
    *,
    concurrency: int | Rate = 32,
    on_error: Literal["raise", "skip", "collect"] = "raise",
    group: str | None = None,
) -> list[Any]:
    """Call a task with each item, and return the results in the order of the items.

    Each row is an ordinary call, `task.call(item)`: an action of its own, with the task's retries and timeout. After a crash or stop the
    rows that COMPLETED are given from record, wherever the gaps are; only the others run. Rows are known by their inputs, not by their
    number: an item that changed runs, and one that moved does not. Works outside a run, too; then nothing is kept.

    Which recorded failures are given again: with "raise" those that the present try of the calling task has seen, as of any call; with
    "skip" and "collect" all, also after the calling task failed and was resumed: a row that was passed over is not tried again unasked.
    (`records` has `retry_skipped=True` for that; a new `version=` of the task runs them, too.)

    Args:
        task: It is called with one item; what it takes besides has a default.
        items: A list, a generator, any iterable or async iterable. They are pulled one by one as there is room for them, and a generator is
            closed at the end.
        concurrency: How many rows are under way at once; or a `Rate` at which they begin (rows from record don't count). Retries of a row
            are bound by a `Rate` of the task itself.
        on_error: What becomes of a row that fails for good. "raise": the first failure cancels the rest, and is raised as itself.
            "skip": it is left out of the list. "collect": its exception stands in its place.
        group: The group of the calls: for two `map`s side by side over equal items of one task.

    Raises:
        InvalidOption, InvalidName: An argument has a value that it can't have.
        Exception: With "raise", what the first row failed with. Always: what the items raise, when the rows before them have ended; and
            what is no row's failure, such as RunStopped, or UnstableInput for an item that has no identity.
    """
    if on_error not in _WAYS:
        raise InvalidOption(option="on_error", value=on_error, reason=f"choose one of {', '.join(_WAYS)}")
    skips = on_error != "raise"
    rows: Rows[Any, Any] = Rows(task, Source(items), concurrency, group, "all" if skips else RECENT, skips=skips)
    results: list[Any] = []
    try:
        while (row := await rows.next()) is not None:
            results += [_LEFT_OUT] * (row.index + 1 - len(results))
            if row.status is RecordStatus.SUCCESS:
                results[row.index] = row.value
            elif row.error is None:
                raise cancelled_from_within(row.index)
            elif not skips:
                raise row.error
            elif on_error == "collect":
                results[row.index] = row.error
    finally:
        await rows.end()
    return [result for result in results if result is not _LEFT_OUT] if on_error == "skip" else results
