"""Every status by every event: what is folded moves along the law's table, and what the table does not have is passed over."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from holdfast.events import ActionAsked, ActionEnded, AttemptEnded, AttemptStarted, Event, UndoRegistered, WaitBegun
from holdfast.states import Fold
from holdfast.status import Move, Status, following, moves

Steps = list[Event]

NAME = "a"
ENDS = [Status.COMPLETED, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.STOPPED, Status.CRASHED]


def asked() -> Event:
    return ActionAsked(action=NAME, at=0.0, task="t")


def started(number: int) -> Event:
    return AttemptStarted(action=NAME, at=0.0, number=number, epoch=1)


def ended(number: int, status: Status, then: Status | None = None) -> Event:
    return AttemptEnded(action=NAME, at=0.0, number=number, status=status, then=then if then is not None else status)


def left(then: Status) -> Event:
    return ActionEnded(action=NAME, at=0.0, then=then)


RUNNING = [asked(), started(0)]
WAITING: Steps = [
    *RUNNING,
    ActionAsked(action="r", at=0.0, task="holdfast:receive", parent=NAME),
    AttemptStarted(action="r", at=0.0, number=0, epoch=1),
    WaitBegun(action="r", at=0.0, topic="orders"),
]
WAYS: dict[Status, Steps] = {
    Status.PENDING: [asked()],
    Status.RUNNING: RUNNING,
    Status.AWAITING_INPUT: WAITING,
    Status.RETRYING: [*RUNNING, ended(0, Status.FAILED, Status.RETRYING)],
    **{status: [*RUNNING, ended(0, status)] for status in ENDS},
    Status.ROLLING_BACK: [*RUNNING, ended(0, Status.FAILED, Status.ROLLING_BACK)],
    Status.ROLLED_BACK: [*RUNNING, ended(0, Status.FAILED, Status.ROLLING_BACK), left(Status.ROLLED_BACK)],
}
"""How each status is reached. STARTING is an engine's own, and UNBOUND is on no record."""

EVENTS: dict[str, Callable[[], Event]] = {
    "asked": asked,
    **{f"start {number}": lambda number=number: started(number) for number in (0, 1)},  # type: ignore[misc]
    **{
        f"end {number} {status} {then}": lambda number=number, status=status, then=then: ended(number, status, then)  # type: ignore[misc]
        for number, (status, then) in product(
            (0, 1),
            [
                *((status, status) for status in ENDS),
                (Status.FAILED, Status.RETRYING),
                (Status.TIMED_OUT, Status.RETRYING),
                (Status.FAILED, Status.ROLLING_BACK),
            ],
        )
    },
    **{f"left {status}": lambda status=status: left(status) for status in Status},  # type: ignore[misc]
    "undo registered": lambda: UndoRegistered(action=NAME, at=0.0, attempt=0, name="u", task="undo", function="m:undo"),
    "wait": lambda: WaitBegun(action=NAME, at=0.0, topic="orders"),
}


def fold(steps: Steps) -> Fold:
    return Fold.of(steps)


def reachable(status: Status) -> frozenset[Status]:
    """In one event: a move. Some events make two: a start counts asking again in, and so does a stop before there was one; an end of what
    waits, that it goes on; a failure for good, the begin of its rollback. A version of its own is asked for anew whatever the old one waits
    for.
    """
    found = set(following(status)) | {status}
    if status in (Status.STOPPED, Status.CRASHED, Status.PENDING):
        found |= {Status.RUNNING}  # an engine that starts at once has no STARTING on record
    if status is Status.CRASHED:
        found |= moves(Status.PENDING, Move.STOP)
    if status in (Status.RUNNING, Status.AWAITING_INPUT):
        found |= moves(Status.FAILED, Move.ROLL_BACK)
    if status is Status.AWAITING_INPUT:
        found |= moves(Status.RUNNING, Move.OK)
    if status is Status.RETRYING:
        found |= {Status.PENDING}
    return frozenset(found)


@pytest.mark.parametrize("status", WAYS, ids=str)
def test_each_status_is_reached_as_the_matrix_believes(status: Status) -> None:
    assert fold(WAYS[status]).actions[NAME].status is status


@pytest.mark.parametrize(("status", "event"), list(product(WAYS, EVENTS)), ids=lambda part: str(part))
def test_whatever_is_folded_moves_along_the_table_or_not_at_all(status: Status, event: str) -> None:
    state = fold(WAYS[status])
    state.fold(EVENTS[event]())
    assert state.actions[NAME].status in reachable(status)


@pytest.mark.parametrize("status", [status for status in WAYS if status not in (Status.RUNNING, Status.AWAITING_INPUT)], ids=str)
@pytest.mark.parametrize("end", ENDS, ids=str)
def test_a_second_end_of_an_attempt_changes_nothing(status: Status, end: Status) -> None:
    state = fold(WAYS[status])
    state.fold(ended(0, end))
    assert state.actions[NAME].status is status


def test_what_is_rolled_back_stays_so_whatever_follows() -> None:
    state = fold(WAYS[Status.ROLLED_BACK])
    for event in EVENTS.values():
        state.fold(event())
    assert state.actions[NAME].status is Status.ROLLED_BACK
