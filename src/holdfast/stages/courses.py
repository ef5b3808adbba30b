"""One execution of a plan: which stages are done, and what a stage sees of those before it.

Looking at an earlier stage costs what that one costs; seeing 10,000 of them costs nothing until one is looked at. And what a stage looks
up is a copy, so that nothing but what a stage recorded reaches the next: after a crash nothing else would be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Generic, NamedTuple

from holdfast.clocks import clock
from holdfast.codec import encode_error
from holdfast.errors import TaskTimedOut
from holdfast.orders import Policy
from holdfast.stages.states import Facts, StageStateHistoryEntry, StateT, entry, filled
from holdfast.status import Status


class Ended(NamedTuple):
    """How an attempt outside a run ended, where nothing is recorded."""

    number: int
    status: Status
    began: float
    at: float
    error: Mapping[str, Any] | None


class Course(Generic[StateT]):
    """What is done of a plan, in its order."""

    def __init__(self, state: StateT, task_id: str, names: Mapping[str, int], facts: Callable[[int], Facts | None]) -> None:
        self.input = deepcopy(state)  # what its caller changes from now on reaches no stage
        self.task_id = task_id
        self.names = names
        self.done: list[StateT] = []
        self._facts = facts
        self._noted: dict[int, list[Ended]] = {}

    def state(self, position: int, name: str) -> StateT:
        """A copy of a completed stage's state, with what is known of its attempts."""
        facts = self._facts(position)
        return filled(self.done[position], self.task_id, name, facts if facts is not None else self.noted(name, Status.COMPLETED))

    # in an ephemeral run nothing is recorded, so it is kept here

    def note(self, name: str, policy: Policy, number: int, began: float, error: BaseException | None) -> None:
        """Keep how an attempt ended. One that was cancelled from outside is looked at only where another follows: it had timed out."""
        status = Status.COMPLETED if error is None else Status.FAILED
        if error is not None and not isinstance(error, Exception):
            status, seconds = Status.TIMED_OUT, policy.timeout.attempt or 0.0
            error = TaskTimedOut(task=policy.name, what="attempt", seconds=seconds, attempt=number)
        tree = encode_error(error, task=policy.name)[0] if error is not None else None
        self._noted.setdefault(self.names[name], []).append(Ended(number, status, began, clock().now(), tree))

    def noted(self, name: str, status: Status) -> Facts:
        """What was kept of a stage."""
        noted = self._noted.get(self.names[name], ())
        return Facts(status, len(noted) + (status is Status.RUNNING), [_line(one) for one in noted])


def _line(one: Ended) -> StageStateHistoryEntry:
    before = Status.RETRYING if one.number else Status.PENDING
    return entry(one.number, before, one.status, one.began, one.at, one.error)


class Earlier(Mapping[str, StateT]):
    """The first stages of a course, by name, in order."""

    __slots__ = ("_count", "course")

    course: Course[StateT]

    def __init__(self, course: Course[StateT], count: int) -> None:
        self.course = course
        self._count = count

    def __getitem__(self, name: str) -> StateT:
        position = self.course.names.get(name, self._count)
        if position >= self._count:
            raise KeyError(name)
        return self.course.state(position, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.course.names.get(name, self._count) < self._count

    def __iter__(self) -> Iterator[str]:
        for name, position in self.course.names.items():
            if position >= self._count:
                return
            yield name

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<states of {self._count} earlier stages>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (dict(self.items()),)


class Kept(Mapping[str, StateT]):
    """The states of earlier stages where they have travelled to: each look-up a copy, as where they came from."""

    __slots__ = ("_states",)

    def __init__(self, states: dict[str, StateT]) -> None:
        self._states = states

    def __getitem__(self, name: str) -> StateT:
        return deepcopy(self._states[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)
