"""Which saves of an action are kept. Decisions only: nothing here reads or deletes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any, Final, Literal, TypeAlias, cast

from holdfast.errors import InvalidOption
from holdfast.frozen import Frozen

Best: TypeAlias = tuple[str, Literal["min", "max"]]
Generation3: TypeAlias = tuple[int, int, int]
"""A save, by the numbers that order them: epoch, attempt, n."""


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Retention:
    """Which generations of a checkpoint are kept: `@task(keep=Retention(...))`. What any of the three rules wants stays.

    Args:
        last: The newest so many, at least 1.
        every: Also each save whose place in its line is a multiple of this: with 10 the 10th, the 20th and so on. A line goes on through
            attempts and resumes that load; where a place was saved more than once, the newest of these is kept.
        best: Also the one with the best metric, `("loss", "min")` or `("accuracy", "max")`, read from the `metadata` that was given to
            `save`. Where it is missing, or not a number, that save is never the best; of equal ones the newest is.

    Raises:
        InvalidOption: An argument has a value that it can't have; the message names it.

    Example:
        >>> Retention(2, every=10, best=("loss", "min"))
        Retention(2, every=10, best=('loss', 'min'))
    """

    last: int
    every: int | None
    best: Best | None

    def __init__(self, last: int = 2, *, every: int | None = None, best: Best | None = None) -> None:
        fill = object.__setattr__
        fill(self, "last", _from_one_up("last", last))
        fill(self, "every", None if every is None else _from_one_up("every", every))
        fill(self, "best", None if best is None else _metric(best))

    def __repr__(self) -> str:
        options = (("every", self.every), ("best", self.best))
        return f"Retention({', '.join([repr(self.last), *(f'{name}={value!r}' for name, value in options if value is not None)])})"

    @classmethod
    def of(cls, keep: int | Retention) -> Retention:
        """What `@task(keep=…)` means: how many of the newest, or all three rules.

        Raises:
            InvalidOption: Neither of these.
        """
        return keep if isinstance(keep, Retention) else cls(_from_one_up("keep", keep))


class Saved(Frozen):
    """What the rules look at.

    Attributes:
        order: Which generation; the greatest is the newest.
        ordinal: Its place in its line, from 1.
        metric: The number that `Retention.best` names, if it has it.
    """

    order: Generation3
    ordinal: int
    metric: float | None = None


#: The order of a save that is not written yet.
UNWRITTEN: Final[Generation3] = (0, 0, 0)


def metric_of(retention: Retention, metadata: Mapping[str, Any]) -> float | None:
    """The number that decides which is the best, or None."""
    value = metadata.get(retention.best[0]) if retention.best is not None else None
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return math.inf if cast("Any", value) > 0 else -math.inf
    except ValueError:  # a signalling NaN
        return None
    return None if math.isnan(number) else number


def kept(retention: Retention, saved: Iterable[Saved]) -> frozenset[Generation3]:
    """Say which of the generations of one action and version stay."""
    newest_first = sorted(saved, key=lambda each: each.order, reverse=True)
    stay = {each.order for each in newest_first[: retention.last]}
    if retention.every is not None:
        places: dict[int, Generation3] = {}
        for each in newest_first:
            if _is_in_step(retention, each):
                places.setdefault(each.ordinal, each.order)
        stay.update(places.values())
    best = _best(retention, newest_first)
    return frozenset(stay if best is None else {*stay, best.order})


def may_be_passed_over(retention: Retention, older: Saved, newer: Saved) -> bool:
    """Whether a save that is not yet begun can be left out, since a newer one is there: none of the rules could ever want it."""
    wanted_as_best = older.metric is not None and older.metric != newer.metric
    return not (_is_in_step(retention, older) or wanted_as_best)


def _is_in_step(retention: Retention, saved: Saved) -> bool:
    return retention.every is not None and saved.ordinal > 0 and saved.ordinal % retention.every == 0


def _best(retention: Retention, newest_first: list[Saved]) -> Saved | None:
    if retention.best is None:
        return None
    sign = 1.0 if retention.best[1] == "max" else -1.0
    found: Saved | None = None
    for each in newest_first:
        if each.metric is not None and (found is None or found.metric is None or sign * each.metric > sign * found.metric):
            found = each
    return found


def _from_one_up(option: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOption(option=option, value=value, reason="it takes a whole number from 1 up")
    return value


def _metric(value: object) -> Best:
    match value:
        case (str() as name, ("min" | "max") as way) if name:
            return (name, way)
        case _:
            raise InvalidOption(option="best", value=value, reason="""it takes a key of the metadata and "min" or "max": ("loss", "min")""")
