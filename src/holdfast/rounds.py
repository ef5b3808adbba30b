"""Which of several equal calls is this one: occurrences, and the rounds of a loop around saves.

Equal calls of one attempt are counted. After a checkpoint is loaded, the count of a call that is known to be a round of a loop (made on
both sides of a save) goes on behind the occurrences that the saved state had been given; any other call counts from the start, and is
answered from record. Where such an answer may belong to an earlier round, that is remembered as a doubt; the same call again, behind
another save, proves the doubt right and is refused. (guarantees.md, "Equal calls on both sides of a save are rounds of a loop".)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from holdfast.frozen import Frozen


class Doubted(Exception):
    """An equal call comes again behind a save, after one of them was answered from before the load."""

    def __init__(self, first: str) -> None:
        super().__init__(first)
        self.first = first


class Made(Frozen):
    """A recorded call of an action: `first` names its occurrence 0, `round` counts the saves before it."""

    name: str
    first: str
    occurrence: int
    round: int


class Resumed(Frozen):
    """What a loaded state had been given: per loop the occurrences to skip, and the calls that were made in one round only."""

    ordinal: int
    skip: Mapping[str, frozenset[int]]
    single: Mapping[str, int]


def resumed(made: Iterable[Made], ordinal: int, undelivered: Iterable[str], known_loops: Iterable[str]) -> Resumed:
    """Work out what the generation with `ordinal` saves in its line had been given, from the calls on record."""
    rounds: dict[str, set[int]] = {}
    given: dict[str, set[int]] = {}
    missing = frozenset(undelivered)
    for call in made:
        rounds.setdefault(call.first, set()).add(call.round)
        if call.round < ordinal and call.name not in missing:
            given.setdefault(call.first, set()).add(call.occurrence)
    loops = {first for first, seen in rounds.items() if len(seen) > 1} | set(known_loops)
    return Resumed(
        ordinal=ordinal,
        skip={first: frozenset(given.get(first, ())) for first in loops},
        single={first: min(seen) for first, seen in rounds.items() if first not in loops and min(seen) < ordinal},
    )


class Rounds:
    """The counters of one attempt. `ordinal` is how many saves its state has behind it."""

    __slots__ = ("_counts", "_doubts", "_loaded", "_told", "ordinal")

    ordinal: int

    def __init__(self) -> None:
        self.ordinal = 0
        self._counts: dict[str, int] = {}
        self._loaded: Resumed | None = None
        self._doubts: dict[str, int] = {}
        self._told: frozenset[str] = frozenset()

    @property
    def doubtful(self) -> bool:
        """Whether an answer was taken from record that a later call may show to be another round's."""
        return bool(self._doubts)

    def next(self, first: str) -> int:
        """Count one more call equal to `first`, and return its occurrence. Raises: Doubted."""
        if self._doubts and self._doubts.get(first, self.ordinal) < self.ordinal:
            raise Doubted(first)
        number = self._counts.get(first, 0)
        if self._loaded is not None:
            skip = self._loaded.skip.get(first)
            while skip and number in skip:
                number += 1
        self._counts[first] = number + 1
        return number

    def has_counted(self, first: str, occurrence: int) -> bool:
        """Whether this attempt made the call of that occurrence, or passed it over as given to a loaded state."""
        return occurrence < self._counts.get(first, 0)

    def reused(self, first: str) -> bool:
        """Note that a call was answered from record. True, if it was made only in the round just before the loaded save."""
        if self._loaded is None or first not in self._loaded.single:
            return False
        self._doubts.setdefault(first, self.ordinal)
        return self._loaded.single[first] == self._loaded.ordinal - 1

    def first_told(self, task: str) -> bool:
        """True once a task: a thousand rows of one `map` are one thing to tell."""
        is_first = task not in self._told
        self._told |= {task}
        return is_first

    def saved(self) -> int:
        """Count a save, and return its ordinal."""
        self.ordinal += 1
        return self.ordinal

    def load(self, state: Resumed) -> None:
        """Go on behind a state of an earlier attempt. Loading again within the attempt never gives an occurrence twice."""
        self.ordinal = max(self.ordinal, state.ordinal)
        if self._loaded is None:
            self._loaded = state
