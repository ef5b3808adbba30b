"""What is known about a run: a fold of its durable events.

`Fold` is the one place where events become state. The owner folds what it acknowledged, a reader what it read: the same code, so there
is no second truth. Records inside are compact and private to it (a run may have a million); users get frozen views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, TypeAlias

from holdfast.events import (
    ActionAsked,
    ActionEnded,
    AttemptEnded,
    AttemptStarted,
    CheckpointSaved,
    CheckpointsSetAside,
    Event,
    Progressed,
    TaskSeen,
    Warned,
)
from holdfast.rounds import Made
from holdfast.status import Status

_OPEN = frozenset({Status.PENDING, Status.STARTING, Status.RUNNING, Status.RETRYING, Status.AWAITING_INPUT})
_OUTCOMES = frozenset({Status.COMPLETED, Status.FAILED, Status.TIMED_OUT})
_OWN_ENDS = frozenset({Status.FAILED, Status.TIMED_OUT, Status.CANCELLED})

Generation3: TypeAlias = tuple[int, int, int]


class Attempt:
    """One attempt: number, status, times, encoded error."""

    __slots__ = ("abandoned", "ended_at", "epoch", "error", "number", "started_at", "status", "unknown")

    unknown: bool

    abandoned: bool
    epoch: int
    number: int
    started_at: float
    status: Status

    def __init__(self, number: int, epoch: int, started_at: float) -> None:
        self.number = number
        self.epoch = epoch
        self.status = Status.RUNNING
        self.started_at = started_at
        self.ended_at: float | None = None
        self.error: Mapping[str, Any] | None = None
        self.abandoned = False
        self.unknown = False


class Record:
    """All that is known about one action.

    A *try* is the attempts from one asking, or from the action's own last failure, up to the next; `present_try` counts them.
    `failed_in` is the parent's try in which the last failure was recorded. `barren` counts crashed attempts in a row that recorded
    nothing; `failures` the failed ones of this asking.
    """

    __slots__ = (
        "asked_at", "attempt", "bare", "bars", "barren", "base", "base_epoch", "blob", "children", "earlier", "error", "failed_in",
        "failures",
        "final", "first", "fruitful", "inputs", "loops", "name", "next_at", "occurrence", "parent", "present_try", "replayed", "round",
        "saved", "set_aside", "status", "task", "value", "version",
    )  # fmt: skip

    asked_at: float
    bare: str
    barren: int
    base_epoch: int
    blob: str
    failures: int
    final: bool
    first: str
    fruitful: bool
    inputs: str
    name: str
    occurrence: int
    parent: str
    present_try: int
    replayed: int
    round: int
    status: Status
    task: str
    version: str | None

    def __init__(self, asked: ActionAsked) -> None:
        self.name = asked.action
        self.parent = asked.parent
        self.first = asked.first or asked.action
        self.occurrence = asked.occurrence
        self.round = asked.round
        self.bare = asked.bare or asked.action
        self.attempt: Attempt | None = None
        self.earlier: tuple[Attempt, ...] = ()
        self.children: list[str] | None = None
        self.value: Any = None
        self.blob = ""
        self.present_try = -1
        self.failed_in: int | None = None
        self.replayed = 0
        self.base: Generation3 | None = None
        self.base_epoch = 0
        self.saved: CheckpointSaved | None = None
        self.set_aside: tuple[tuple[Generation3, Generation3], ...] = ()
        self.loops: tuple[str, ...] = ()
        self.bars: Mapping[str, tuple[float, float | None, float, float]] | None = None
        self.ask(asked)

    def ask(self, asked: ActionAsked) -> None:
        self.task = asked.task
        self.version = asked.version
        self.inputs = asked.inputs
        self.asked_at = asked.at
        self.status = Status.PENDING
        self.present_try += 1
        self.failures = 0
        self.barren = 0
        self.fruitful = False
        self.error: Mapping[str, Any] | None = None
        self.final = False
        self.next_at: float | None = None

    @property
    def number(self) -> int:
        """The last attempt's number; -1 when none has started."""
        return -1 if self.attempt is None else self.attempt.number

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return self.earlier if self.attempt is None else (*self.earlier, self.attempt)

    @property
    def has_live_attempt(self) -> bool:
        return self.attempt is not None and self.attempt.ended_at is None


class Fold:
    """The state of a run. `fold` is total: an event that can't follow is passed over, as is a second end of one attempt."""

    root: str
    last_at: float

    def __init__(self) -> None:
        self.actions: dict[str, Record] = {}
        self.root = ""
        self.sources: dict[str, str] = {}
        self.orphaned: list[str] = []
        self.warnings: list[Warned] = []
        self.last_at = 0.0
        self._by_bare: dict[str, Record] | None = None
        self._fold: dict[type[Event], Callable[[Any], None]] = {
            ActionAsked: self._asked,
            AttemptStarted: self._started,
            AttemptEnded: self._ended,
            ActionEnded: self._action_ended,
            TaskSeen: self._task_seen,
            CheckpointSaved: self._saved,
            CheckpointsSetAside: self._set_aside,
            Progressed: self._progressed,
            Warned: self._warned,
        }

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """What these events tell."""
        state = cls()
        for event in events:
            state.fold(event)
        return state

    def fold(self, event: Event) -> None:
        """Count one event in."""
        known = self._fold.get(type(event))
        if known is not None:
            self.last_at = event.at
            known(event)

    def _asked(self, event: ActionAsked) -> None:
        record = self.actions.get(event.action)
        if record is not None:
            record.ask(event)
            return
        self.actions[event.action] = Record(event)
        if not event.parent:
            self.root = event.action
        elif (parent := self.actions.get(event.parent)) is not None:
            if parent.children is None:
                parent.children = []
            parent.children.append(event.action)

    def _started(self, event: AttemptStarted) -> None:
        record = self.actions.get(event.action)
        if record is None or event.number <= record.number:
            return
        if record.attempt is not None:
            record.earlier = (*record.earlier, record.attempt)
        record.attempt = Attempt(event.number, event.epoch, event.at)
        record.status = Status.RUNNING
        record.fruitful = False
        record.next_at = None
        if event.epoch != record.base_epoch:
            record.base_epoch, record.base = event.epoch, event.base

    def _ended(self, event: AttemptEnded) -> None:
        record = self.actions.get(event.action)
        if record is None or record.attempt is None or event.number != record.number or record.attempt.ended_at is not None:
            return
        attempt = record.attempt
        attempt.status, attempt.ended_at, attempt.error, attempt.abandoned = event.status, event.at, event.error, event.abandoned
        attempt.unknown = event.unknown
        record.status, record.next_at, record.final = event.then, event.next_at, event.final
        record.value, record.blob, record.error = event.value, event.blob, event.error
        record.barren = record.barren + 1 if event.status is Status.CRASHED and not record.fruitful else 0
        if event.status in _OWN_ENDS:
            record.present_try += 1
            record.failures += event.status is not Status.CANCELLED
        self._tell_parent(record)
        for name in event.replayed:
            if (child := self.actions.get(name)) is not None:
                child.replayed += 1
        self.orphaned.extend(event.orphaned)

    def _action_ended(self, event: ActionEnded) -> None:
        record = self.actions.get(event.action)
        if record is None or record.has_live_attempt:
            return
        record.status, record.error = event.then, event.error
        if event.then is not Status.STOPPED:
            record.next_at = None
        if event.then in _OWN_ENDS:
            record.present_try += 1
        self._tell_parent(record)

    def _tell_parent(self, record: Record) -> None:
        if record.status in _OUTCOMES and (parent := self.actions.get(record.parent)) is not None:
            self._bear_fruit(parent)
            record.failed_in = parent.present_try

    def _bear_fruit(self, record: Record | None) -> None:
        """Something became durable in this attempt, and so in those that wait for it: none of them is a crash loop."""
        while record is not None and not record.fruitful:
            record.fruitful = True
            record = self.actions.get(record.parent)

    def _task_seen(self, event: TaskSeen) -> None:
        self.sources[event.task] = event.source

    def _saved(self, event: CheckpointSaved) -> None:
        if (record := self.actions.get(event.action)) is not None:
            record.saved = event
            self._bear_fruit(record)

    def _set_aside(self, event: CheckpointsSetAside) -> None:
        if (record := self.actions.get(event.action)) is not None:
            record.set_aside = (*record.set_aside, (event.since, event.until))
            record.loops = (*record.loops, event.first)

    def _progressed(self, event: Progressed) -> None:
        if (record := self.actions.get(event.action)) is not None:
            record.bars = event.bars

    def _warned(self, event: Warned) -> None:
        self.warnings.append(event)

    def children_of(self, name: str) -> Iterator[Record]:
        """The recorded calls of an action, in the order in which they were asked."""
        record = self.actions.get(name)
        for child in record.children or () if record is not None else ():
            yield self.actions[child]

    def made_by(self, name: str) -> Iterator[Made]:
        """The recorded calls of an action, for telling rounds apart."""
        for child in self.children_of(name):
            yield Made(child.name, child.first, child.occurrence, child.round)

    def differing_in_context(self, bare: str) -> Record | None:
        """A COMPLETED action that differs from the place `bare` in nothing but its counted context."""
        if self._by_bare is None:
            self._by_bare = {record.bare: record for record in self.actions.values() if record.status is Status.COMPLETED}
        return self._by_bare.get(bare)

    def unended(self) -> Iterable[Record]:
        """Actions whose last attempt has no end."""
        return [record for record in self.actions.values() if record.has_live_attempt]

    def unfinished(self) -> Iterable[Record]:
        """Actions that neither ended nor were suspended."""
        return [record for record in self.actions.values() if record.status in _OPEN]
