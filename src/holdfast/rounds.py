"""Which of several equal calls is this one: occurrences, and the rounds of a loop around saves.

Equal calls of one attempt are counted. After a checkpoint is loaded, the count of a call that is known to be a round of a loop (made on
both sides of a save) goes on behind the occurrences that the saved state had been given; any other call counts from the start, and is
answered from record. Where such an answer may belong to an earlier round, that is remembered as a doubt; the same call again, behind
another save, proves the doubt right and is refused. (guarantees.md, "Equal calls on both sides of a save are rounds of a loop".)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from holdfast.frozen import Frozen


class Doubted(Exception):
    """An equal call comes again behind a save, after one of them was answered from before the load."""

    def __init__(self, first: str) -> None:
        super().__init__(first)
        self.first = first


class Made(NamedTuple):
    """A recorded call of an action: `first` names its occurrence 0, `round` counts the saves before it."""

    name: str
    first: str
    occurrence: int
    round: int


class Resumed(Frozen):
    """What a loaded state had been given: per loop the occurrences to skip. All other calls were made in one round only."""

    ordinal: int
    skip: Mapping[str, frozenset[int]]


def resumed(made: Callable[[], Iterable[Made]], ordinal: int, undelivered: Iterable[str], known_loops: Iterable[str]) -> Resumed:
    """Work out what the generation with `ordinal` saves in its line had been given.

    Args:
        made: Gives the calls on record. There may be a million, so they are looked at one by one.
        ordinal: How many saves the state has behind it.
        undelivered: Names of calls whose outcome it had not been given.
        known_loops: Calls that are known to be rounds of a loop.
    """
    made_in: dict[str, int] = {}
    loops = set(known_loops)
    for call in made():
        if made_in.setdefault(call.first, call.round) != call.round:
            loops.add(call.first)
    del made_in
    given: dict[str, set[int]] = {first: set() for first in loops}
    missing = frozenset(undelivered)
    for call in made() if loops else ():
        if call.first in loops and call.round < ordinal and call.name not in missing:
            given[call.first].add(call.occurrence)
    return Resumed(ordinal=ordinal, skip={first: frozenset(numbers) for first, numbers in given.items()})


class Rounds:
    """The counters of one attempt.

    Attributes:
        ordinal: How many saves its state has behind it.
        sound: The last save of this attempt that rests on no doubtful answer, once there was one.
        unsound: The first generation that would.
    """

    __slots__ = ("_counts", "_doubts", "_loaded", "_told", "ordinal", "sound", "unsound")

    ordinal: int
    sound: tuple[int, int, int] | None
    unsound: tuple[int, int, int] | None

    def __init__(self) -> None:
        self.ordinal = 0
        self.sound = None
        self.unsound = None
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

    def reused(self, first: str, made_in: int) -> bool:
        """Note that a call of round `made_in` was answered from record. True, if it was made only just before the loaded save."""
        if self._loaded is None or made_in >= self._loaded.ordinal or first in self._loaded.skip:
            return False
        self._doubts.setdefault(first, self.ordinal)
        return made_in == self._loaded.ordinal - 1

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
