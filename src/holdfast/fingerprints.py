"""Which rows a `map` had: a short fingerprint of each, by its place among the items, so that a resume can say which are not as they were.

It never decides what runs: a row is known by its inputs, wherever it stands. A fingerprint is the beginning of its action's name, 30 bits
of a digest of its inputs and group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from holdfast.frozen import Frozen

WIDTH: Final = 6
"""Characters of a fingerprint."""


class Fingerprints:
    """The fingerprints of the rows of one `map`, one after the other. `total` is how many there are, once the items had ended."""

    __slots__ = ("prints", "total")

    prints: bytearray
    total: int | None

    def __init__(self) -> None:
        self.prints = bytearray()
        self.total = None

    def see(self, first: int, prints: str, total: int | None) -> None:
        """Rows from the place `first` on are these; the last word counts."""
        start = first * WIDTH
        self.prints[len(self.prints) : start] = b" " * (start - len(self.prints))
        self.prints[start : start + len(prints)] = prints.encode()
        self.total = total
        if total is not None:
            del self.prints[total * WIDTH :]


class Changes(Frozen):
    """Places of rows that differ, that are new, and, by where they had been, that are gone. Ascending."""

    differing: tuple[int, ...] = ()
    new: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.differing or self.new or self.gone)


def changes(before: bytes, now: bytes, *, before_ended: bool, ended: bool) -> Changes:
    """Say what became of rows. Those that only moved, and those that follow behind what was there, are no change. Pure.

    Args:
        before: The fingerprints that were there.
        now: Those that are.
        before_ended: Whether the items had ended then; else more followed of which nothing is known.
        ended: Whether they have now.
    """
    if now.startswith(before) or (before.startswith(now) and not ended):
        return Changes()
    old, new = _split(before), _split(now)
    start = 0
    while start < len(old) and start < len(new) and old[start] == new[start]:
        start += 1
    fresh = _not_among(new, old, start)
    gone = _not_among(old, new, start) if ended else fresh
    differing = sorted({*fresh} & {place for place in gone if place < len(old)})
    only_gone = sorted({*gone} - {*differing}) if ended else []
    known = len(new) if before_ended else len(old) - len(only_gone)
    only_new = [place for place in sorted({*fresh} - {*differing}) if place < known]
    return Changes(tuple(differing), tuple(only_new), tuple(only_gone))


def _split(prints: bytes) -> list[bytes]:
    return [prints[at : at + WIDTH] for at in range(0, len(prints), WIDTH)]


def _not_among(some: Sequence[bytes], others: Sequence[bytes], start: int) -> list[int]:
    """The places, from `start` on, of what the others have not, or not so often."""
    left = Counter(others[start:])
    found: list[int] = []
    for place in range(start, len(some)):
        if left[some[place]] > 0:
            left[some[place]] -= 1
        else:
            found.append(place)
    return found
