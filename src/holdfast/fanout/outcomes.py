"""What became of rows: of each, and of all together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, Generic, TypeVar

from pydantic import BaseModel, Field

from holdfast.frozen import Frozen

T = TypeVar("T")
R = TypeVar("R")

#: So many spans of places a message names.
SPANS: Final = 20


class RecordStatus(Enum):
    """How a row stands."""

    SUCCESS = "success"
    """Its task COMPLETED."""
    ERROR = "error"
    """Its task failed or timed out for good: the row is skipped."""
    UNPROCESSED = "unprocessed"
    """It has no outcome: it was never begun, or it was cancelled."""


class Record(Frozen, Generic[T, R]):
    """One row of `records`, ended.

    Attributes:
        index: Its place among the items, from 0.
        item: The item.
        status: How it ended.
        value: What its task returned; None, unless SUCCESS.
        error: What its task failed with for good; None, unless ERROR.
    """

    index: int
    item: T
    status: RecordStatus
    value: R | None = None
    error: Exception | None = None


class SimpleRecordsResult(BaseModel, defer_build=True):
    """How many rows there were, and what became of them.

    Attributes:
        success_count: Rows whose task COMPLETED.
        fail_count: Rows whose task failed for good, and that were passed over.
        unprocessed_count: Rows without an outcome: never begun, or cancelled.
        total_count: All rows known of: those that were taken from the items, or `len(items)`, where they have a length.
        message: Which rows were lost, by index; None, where none was.
    """

    success_count: int = Field(default=0, ge=0, title="Success Count", description="Number of successful records")
    fail_count: int = Field(default=0, ge=0, title="Fail Count", description="Number of failed records")
    unprocessed_count: int = Field(default=0, ge=0, title="Unprocessed Count", description="Number of unprocessed records")
    total_count: int = Field(default=0, ge=0, title="Total Count", description="Total number of records")
    message: str | None = Field(default=None, title="Message", description="Result message")

    @property
    def is_complete(self) -> bool:
        """Whether no row failed, and none is unprocessed. A loop that came to its end without raising is not yet complete."""
        return not self.fail_count and not self.unprocessed_count


Span = tuple[int, int]
"""The first and the last of places that follow each other."""


def summed_up(success: int, fail_count: int, failed: Sequence[Span], unprocessed: Sequence[Span], total: int) -> SimpleRecordsResult:
    """Count rows, and name those that were lost: `failed` and `unprocessed` may be the first ones only. Pure."""
    missing = total - success - fail_count
    lost: list[str] = []
    if fail_count:
        lost.append(f"{counted(fail_count)} failed: {places(failed, fail_count)}")
    if missing:
        lost.append(f"{counted(missing)} {'was' if missing == 1 else 'were'} not processed: {places(unprocessed, missing)}")
    return SimpleRecordsResult(
        success_count=success, fail_count=fail_count, unprocessed_count=missing, total_count=total, message="; ".join(lost) or None
    )


def counted(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"


def places(spans: Iterable[Span], count: int) -> str:
    """Name places: `17, 23 to 40`. Of more than `SPANS` spans, or where `count` says that there are more, the rest is counted. Pure."""
    named: list[str] = []
    for first, last in itertools.islice(spans, SPANS):
        named.append(str(first) if first == last else f"{first} to {last}")
        count -= last - first + 1
    return ", ".join(named) + (f" and {count:,} more" if count > 0 else "")


def spans_of(numbers: Iterable[int]) -> list[Span]:
    """The spans of numbers in any order. Pure."""
    spans: list[Span] = []
    for number in sorted(numbers):
        if spans and number <= spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return spans
