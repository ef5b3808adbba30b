"""What a row of the table is, and how it is taken.

Both sides of a row run interleaved, five rounds; a time is the median of its five, a ratio the median of the rounds' five ratios, so that
a busy machine slows both sides of a round alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: all of it, a small part for a quick look, or also what takes minutes."""

    rounds: int = ROUNDS
    share: float = 1.0
    long: bool = False

    def of(self, count: int) -> int:
        return max(int(count * self.share), 1)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    what: str
    promise: str
    found: str
    ours: str
    limit: str
    holds: bool | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One promise: `name` picks it on the command line."""

    name: str
    measure: Callable[[Scale], Sequence[Line]]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rounds of (ours, limit), in one unit."""

    rounds: tuple[tuple[float, float], ...]

    @property
    def ours(self) -> float:
        return median(ours for ours, _ in self.rounds)

    @property
    def limit(self) -> float:
        return median(limit for _, limit in self.rounds)

    @property
    def ratio(self) -> float:
        """Ours over the limit's."""
        return median(ours / limit for ours, limit in self.rounds)

    @property
    def added(self) -> float:
        return median(ours - limit for ours, limit in self.rounds)


def interleaved(rounds: int, ours: Callable[[], float], limit: Callable[[], float]) -> Pairs:
    """Take both sides in turns, the first of each round in turns too, after one warm-up of each."""
    ours(), limit()
    taken: list[tuple[float, float]] = []
    for number in range(rounds):
        if number % 2:
            second = limit()
            taken.append((ours(), second))
        else:
            taken.append((ours(), limit()))
    return Pairs(tuple(taken))


def micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} µs" if seconds < 100e-6 else f"{seconds * 1e6:,.0f} µs"
