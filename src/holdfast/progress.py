"""A named progress bar as a value: counts in, percent and remaining time out.

A bar is folded from events, so the same events give the same bar in every reader: no clock is read here, each step brings its instant.
A fresh bar shows 0 %, a full one 100 %, and no bar shows more or less.
"""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

from holdfast.errors import InvalidOption
from holdfast.frozen import Frozen

_ROUNDING = 1e-9
"""Ten steps of 0.1 add up to a little less than 1, and are 100 %."""

#: A bar is looked at by people: so many of them are more than anybody reads.
BARS_AT_MOST: Final = 100
NAME_LENGTH: Final = 255

BarValues: TypeAlias = tuple[float, float | None, float, float]
"""A bar as it is recorded: its n, total, started_at and updated_at."""


class Bar(Frozen):
    """How far something has come.

    Attributes:
        n: Steps done, never below 0; may pass `total`.
        total: Steps in all. None: unknown.
        started_at: When the bar was first advanced, in POSIX seconds. Of one that a checkpoint put back, later by the time in which nobody
            worked on it.
        updated_at: When it was last advanced, in POSIX seconds.
    """

    n: float
    total: float | None
    started_at: float
    updated_at: float

    @property
    def values(self) -> BarValues:
        """What is recorded of it."""
        return self.n, self.total, self.started_at, self.updated_at

    @property
    def percent(self) -> float | None:
        """From 0.0 to 100.0, which means all done. None without a total."""
        if self.total is None:
            return None
        return 100.0 if _reached(self.n, self.total) else 100.0 * self.n / self.total

    @property
    def rate(self) -> float:
        """Steps a second since the first advance. 0.0 as long as nothing can be said."""
        elapsed = self.updated_at - self.started_at
        return self.n / elapsed if elapsed > 0 else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """Seconds until all is done, at the present rate. 0.0 when it is; None when nothing can be said."""
        if self.total is None:
            return None
        if _reached(self.n, self.total):
            return 0.0
        rate = self.rate
        return (self.total - self.n) / rate if rate > 0 else None


def advance(bar: Bar | None, step: float, total: float | None, now: float) -> Bar:
    """The bar after one more step.

    Args:
        bar: The bar so far. None: begin one.
        step: Steps to add: 0 to show the bar or to set its total, a negative number to take back.
        total: Steps in all. None: as before, in a fresh bar unknown.
        now: The instant of the step, in POSIX seconds. One that lies before the last (a clock was set back) counts as the last.

    Raises:
        InvalidOption: `step` or `total` is not a finite number, or `total` is negative.
    """
    step = _number("step", step)
    if total is not None:
        total = _number("total", total)
        if total < 0:
            raise InvalidOption(option="total", value=total, reason="give a number from 0 up, or None where it is unknown")
    if bar is None:
        return Bar(n=max(step, 0), total=total, started_at=now, updated_at=now)
    n = max(_number("step", bar.n + step), 0)
    return Bar(n, bar.total if total is None else total, bar.started_at, max(bar.updated_at, now))


def tracked(bar: Bar | None, total: float | None, left: float | None, now: float) -> Bar:
    """The bar of a loop that begins: with so many `left` to come, what is not left is done. Raises: InvalidOption, as `advance`."""
    bar = advance(bar, 0, total, now)
    if left is None or bar.total is None:
        return bar
    return advance(bar, max(bar.total - left, 0) - bar.n, None, bar.updated_at)


def merged(bar: Bar, other: Bar) -> Bar:
    """One bar for two loops side by side, or one within the other. Raises: InvalidOption, where that is beyond all numbers."""
    total = None if bar.total is None or other.total is None else _number("total", bar.total + other.total)
    return Bar(_number("total", bar.n + other.n), total, min(bar.started_at, other.started_at), max(bar.updated_at, other.updated_at))


def put_back(values: BarValues, now: float) -> Bar:
    """The bar as a checkpoint remembers it, going on at `now`.

    The time since the save does not count, so that rate and remaining time tell of work, and not of the night between two attempts.
    """
    n, total, started_at, updated_at = values
    return Bar(n=n, total=total, started_at=now - (updated_at - started_at), updated_at=now)


def check_bar(name: Any, known: int) -> None:
    """Whether an attempt that has so many bars may have another one of this name. Raises: InvalidOption."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH:
        raise InvalidOption(option="name", value=name, reason=f"the name of a bar is a str of 1 to {NAME_LENGTH} characters")
    if known >= BARS_AT_MOST:
        reason = f"an action has at most {BARS_AT_MOST} bars; count what is alike in one, with its total"
        raise InvalidOption(option="name", value=name, reason=reason)


def _reached(n: float, total: float) -> bool:
    return n >= total or (n != int(n) and math.isclose(n, total, rel_tol=_ROUNDING))


def _number(option: str, value: object) -> float:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return value
    except OverflowError:  # an int of hundreds of digits
        pass
    raise InvalidOption(option=option, value=value, reason="give a finite number")
