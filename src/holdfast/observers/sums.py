"""Bars added up, and in words: how far, how fast, and how long the rest takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Sum:
    """The bars of one name, or the rows of one task, added up. `first_n` and `first_at` are where it stood when it was first seen."""

    n: float = 0
    total: float = 0
    open: int = 0  # so many have no total
    first_n: float | None = None
    first_at: float = 0.0
    at: float = 0.0

    def add(self, n: float, total: float | None, sign: int) -> None:
        self.n += sign * n
        self.total += sign * (total or 0)
        self.open += sign * (total is None)

    def reach(self, at: float, *, at_once: float = 0) -> None:
        """It was moved then. So many of the steps took no time (`at_once`), since they were on record."""
        self.at = max(self.at, at)
        if self.first_n is None or self.n < self.first_n + at_once:
            self.first_n, self.first_at = self.n, at
        else:
            self.first_n += at_once

    @property
    def share(self) -> float | None:
        """From 0 to 1. None without a total."""
        return min(self.n / self.total, 1.0) if self.total > 0 and self.open <= 0 else None

    @property
    def percent(self) -> int:
        """From 0 to 100, which means all. 0 without a total."""
        return int(100 * min(self.n, self.total) / self.total) if self.share is not None else 0

    @property
    def rate(self) -> float | None:
        """Steps a second since it was first seen. None when nothing can be said."""
        if self.first_n is None or self.at <= self.first_at or self.n <= self.first_n:
            return None
        return (self.n - self.first_n) / (self.at - self.first_at)

    @property
    def remaining_seconds(self) -> float | None:
        """At the rate since it was first seen: what was done before then took no time of ours. None when nothing can be said."""
        if self.share is None or (rate := self.rate) is None:
            return None
        return max(self.total - self.n, 0) / rate


def amount(bar: Sum) -> str:
    """`812/1,790`, or `812` without a total."""
    return _number(bar.n) if bar.share is None else f"{_number(bar.n)}/{_number(bar.total)}"


def speed(bar: Sum) -> str:
    """`12.5/s`, `3.2/min` where it is slow, or nothing when nothing can be said."""
    rate = bar.rate
    if rate is None:
        return ""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:,.1f}"


def duration(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def left(bar: Sum) -> str:
    """`0:31 left`, or nothing when nothing can be said."""
    seconds = bar.remaining_seconds
    return "" if seconds is None or bar.share == 1.0 else f"{duration(seconds)} left"
