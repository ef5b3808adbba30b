"""What asking for an action means, and what an attempt's end makes of it: guarantees.md as tables, each move checked against status.py."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from holdfast import NonRetryable, Retry, Status
from holdfast.actions.decisions import Anew, Asked, Conclusion, GoOn, Refuse, Replay, asked, conclude, conclude_timeout
from holdfast.attempts import Abandoned, Ended, Error, Outcome, Value
from holdfast.errors import CrashLoop, OutcomeUnknown, TaskTimedOut
from holdfast.events import ActionAsked, ActionEnded, AttemptEnded, AttemptStarted, Event
from holdfast.orders import Policy
from holdfast.states import Fold, Record
from holdfast.status import Move, moves

PARENT_TRY = 3
OnCrash = Literal["rerun", "fail"]


def record_of(*events: Event, parent_try: int = PARENT_TRY) -> Record:
    """The record that a journal with these events gives, under a parent in its `parent_try`-th try."""
    fold = Fold()
    fold.fold(ActionAsked(action="root", at=0.0, task="parent"))
    for number in range(parent_try):
        fold.fold(AttemptStarted(action="root", at=0.0, number=number, epoch=1))
        fold.fold(AttemptEnded(action="root", at=0.0, number=number, status=Status.FAILED, then=Status.RETRYING))
    fold.fold(ActionAsked(action="it", at=0.0, parent="root", task="child", version="1"))
    for event in events:
        fold.fold(event)
    return fold.actions["it"]


def ended(status: Status, then: Status | None = None, *, final: bool = False, next_at: float | None = None) -> tuple[Event, Event]:
    start = AttemptStarted(action="it", at=1.0, number=0, epoch=1)
    return start, AttemptEnded(action="it", at=2.0, number=0, status=status, then=then or status, final=final, next_at=next_at)


def not_begun(then: Status) -> tuple[Event]:
    return (ActionEnded(action="it", at=2.0, then=then),)


def waiting_for_retry(then: Status) -> tuple[Event, ...]:
    return *ended(Status.FAILED, Status.RETRYING, next_at=9.0), ActionEnded(action="it", at=3.0, then=then)


RERUN = Policy(name="child", version="1")
FAIL = Policy(name="child", version="1", on_crash="fail")
OTHER = Policy(name="child", version="2")

ASKED_AGAIN: list[tuple[str, tuple[Event, ...], Policy, type[Asked]]] = [
    ("PENDING, never started", (), RERUN, GoOn),
    ("RETRYING", ended(Status.FAILED, Status.RETRYING, next_at=9.0), RERUN, GoOn),
    ("CRASHED", ended(Status.CRASHED), RERUN, GoOn),
    ("CRASHED, on_crash=fail", ended(Status.CRASHED), FAIL, Refuse),
    ("STOPPED", ended(Status.STOPPED), RERUN, GoOn),
    ("STOPPED, on_crash=fail", ended(Status.STOPPED), FAIL, Refuse),
    ("STOPPED before any attempt, on_crash=fail", not_begun(Status.STOPPED), FAIL, GoOn),
    ("STOPPED in a retry's wait", waiting_for_retry(Status.STOPPED), RERUN, GoOn),
    ("STOPPED in a retry's wait, on_crash=fail", waiting_for_retry(Status.STOPPED), FAIL, GoOn),
    ("CANCELLED", ended(Status.CANCELLED), RERUN, Anew),
    ("CANCELLED, on_crash=fail", ended(Status.CANCELLED), FAIL, Refuse),
    ("CANCELLED before any attempt, on_crash=fail", not_begun(Status.CANCELLED), FAIL, Anew),
    ("COMPLETED", ended(Status.COMPLETED), RERUN, Replay),
    ("COMPLETED, on_crash=fail", ended(Status.COMPLETED), FAIL, Replay),
    ("COMPLETED by another version", ended(Status.COMPLETED), OTHER, Anew),
    ("FAILED", ended(Status.FAILED), RERUN, Replay),
    ("FAILED, on_crash=fail", ended(Status.FAILED), FAIL, Replay),
    ("FAILED by another version", ended(Status.FAILED), OTHER, Anew),
    ("TIMED_OUT", ended(Status.TIMED_OUT), RERUN, Replay),
    ("TIMED_OUT, on_crash=fail", ended(Status.TIMED_OUT), FAIL, Refuse),
    ("CRASHED under another version", ended(Status.CRASHED), OTHER, Anew),
]


@pytest.mark.parametrize(("events", "policy", "expected"), [row[1:] for row in ASKED_AGAIN], ids=[row[0] for row in ASKED_AGAIN])
def test_what_asking_again_means_in_the_parents_present_try(events: tuple[Event, ...], policy: Policy, expected: type[Asked]) -> None:
    record = record_of(*events)
    decision = asked(record, PARENT_TRY, policy)
    assert isinstance(decision, expected)
    leads_to = moves(record.status, Move.ASKED_AGAIN)
    match decision:
        case Replay():
            assert record.status in leads_to
        case Refuse(error):
            assert isinstance(error, OutcomeUnknown)
            if record.status is not Status.TIMED_OUT:  # the law's sentence on on_crash="fail" is wider than its table
                assert Status.FAILED in leads_to | moves(record.status, Move.FAILS_NONE_LEFT)
        case Anew() | GoOn():
            legal = leads_to & {Status.PENDING, Status.RUNNING, Status.RETRYING}
            assert legal or record.status is Status.PENDING


def test_the_first_asking_ever_is_a_new_one() -> None:
    assert asked(None, 0, RERUN) == asked(None, None, FAIL) == Anew()


@pytest.mark.parametrize("then", [Status.FAILED, Status.TIMED_OUT])
@pytest.mark.parametrize(
    ("recorded_in", "asked_in", "is_final", "expected"),
    [
        (3, 3, False, Replay),  # the present try
        (2, 3, False, Anew),  # an older one
        (2, 3, True, Replay),  # NonRetryable
        (3, 3, True, Replay),
        (0, None, False, Anew),  # a root: its run is resumed
        (0, None, True, Anew),
    ],
)
def test_a_failure_is_replayed_in_the_parents_present_try_and_later_only_if_it_is_final(
    then: Status, recorded_in: int, asked_in: int | None, is_final: bool, expected: type[Asked]
) -> None:
    record = record_of(*ended(then, final=is_final), parent_try=recorded_in)
    assert isinstance(asked(record, asked_in, RERUN), expected)


def test_a_retry_that_was_due_at_a_time_is_due_then_after_a_crash_or_stop() -> None:
    assert asked(record_of(*ended(Status.FAILED, Status.RETRYING, next_at=9.0)), PARENT_TRY, RERUN) == GoOn(9.0)
    assert asked(record_of(*waiting_for_retry(Status.STOPPED)), PARENT_TRY, RERUN) == GoOn(9.0)
    assert asked(record_of(*ended(Status.CRASHED)), PARENT_TRY, RERUN) == GoOn(None)


def crashed(times: int) -> list[Event]:
    events: list[Event] = []
    for number in range(times):
        events.append(AttemptStarted(action="it", at=1.0, number=number, epoch=number + 1))
        events.append(AttemptEnded(action="it", at=2.0, number=number, status=Status.CRASHED, then=Status.CRASHED))
    return events


@pytest.mark.parametrize(("times", "expected"), [(9, GoOn), (10, Refuse)])
def test_ten_crashes_in_a_row_that_recorded_nothing_are_a_crash_loop(times: int, expected: type[Asked]) -> None:
    decision = asked(record_of(*crashed(times)), PARENT_TRY, RERUN)
    assert isinstance(decision, expected)
    if isinstance(decision, Refuse):
        assert isinstance(decision.error, CrashLoop)
        assert decision.error.crashes == 10


def test_max_crashes_says_how_many() -> None:
    policy = Policy(name="child", version="1", retry=Retry(max_crashes=2))
    assert isinstance(asked(record_of(*crashed(1)), PARENT_TRY, policy), GoOn)
    assert isinstance(asked(record_of(*crashed(2)), PARENT_TRY, policy), Refuse)


def failure(delay: float | None = None, *, then: Status = Status.FAILED, status: Status = Status.FAILED, final: bool = False) -> Conclusion:
    return Conclusion(status, then, ERROR, delay, final)


ERROR = ValueError("no")
FINAL = NonRetryable("never")
PASSED = TaskTimedOut(task="child", what="attempt", seconds=1.0, attempt=0)
CANCEL = asyncio.CancelledError()
TWICE = Policy(name="child", retry=Retry(2, initial_interval=4.0))
TWICE_OR_UNKNOWN = Policy(name="child", retry=Retry(2, initial_interval=4.0), on_crash="fail")

CONCLUSIONS: list[tuple[str, Outcome, Policy, int, Status | None, Conclusion, Move]] = [
    ("a value", Value(0), TWICE, 0, None, Conclusion(Status.COMPLETED, Status.COMPLETED), Move.OK),
    ("a value while stopping", Value(0), TWICE, 0, Status.STOPPED, Conclusion(Status.COMPLETED, Status.COMPLETED), Move.OK),
    ("an error, retry left", Error(ERROR), TWICE, 0, None, failure(2.0, then=Status.RETRYING), Move.FAILS_RETRY_LEFT),
    ("an error, none left", Error(ERROR), TWICE, 1, None, failure(), Move.FAILS_NONE_LEFT),
    ("an error, on_crash=fail", Error(ERROR), TWICE_OR_UNKNOWN, 0, None, failure(2.0, then=Status.RETRYING), Move.FAILS_RETRY_LEFT),
    ("NonRetryable", Error(FINAL), TWICE, 0, None, Conclusion(Status.FAILED, Status.FAILED, FINAL, final=True), Move.FAILS_NONE_LEFT),
    ("cancelled", Ended(CANCEL), TWICE, 0, None, Conclusion(Status.CANCELLED, Status.CANCELLED), Move.CANCEL),
    ("stopped", Ended(CANCEL), TWICE, 0, Status.STOPPED, Conclusion(Status.STOPPED, Status.STOPPED), Move.STOP),
    ("the run cancelled", Ended(CANCEL), TWICE, 0, Status.CANCELLED, Conclusion(Status.CANCELLED, Status.CANCELLED), Move.CANCEL),
    ("abandoned", Abandoned(CANCEL), TWICE, 0, None, Conclusion(Status.CANCELLED, Status.CANCELLED, abandoned=True), Move.CANCEL),
    (
        "abandoned while stopping",
        Abandoned(CANCEL),
        TWICE,
        0,
        Status.STOPPED,
        Conclusion(Status.STOPPED, Status.STOPPED, abandoned=True),
        Move.STOP,
    ),
]


@pytest.mark.parametrize(
    ("outcome", "policy", "failures", "stopped_as", "expected", "move"),
    [row[1:] for row in CONCLUSIONS],
    ids=[row[0] for row in CONCLUSIONS],
)
def test_how_an_attempts_end_leaves_its_action(
    outcome: Outcome, policy: Policy, failures: int, stopped_as: Status | None, expected: Conclusion, move: Move
) -> None:
    assert conclude(outcome, policy, failures, 0.5, stopped_as) == expected
    assert expected.then in moves(Status.RUNNING, move)


@pytest.mark.parametrize(
    ("what", "policy", "failures", "then", "delay", "move"),
    [
        ("attempt", TWICE, 0, Status.RETRYING, 2.0, Move.ATTEMPT_TIMES_OUT),
        ("attempt", TWICE, 1, Status.TIMED_OUT, None, Move.ATTEMPT_TIMES_OUT),
        ("attempt", TWICE_OR_UNKNOWN, 0, Status.TIMED_OUT, None, Move.ATTEMPT_TIMES_OUT),
        ("total", TWICE, 0, Status.TIMED_OUT, None, Move.TOTAL_TIMES_OUT),
    ],
)
def test_how_a_timeout_leaves_an_action(what: str, policy: Policy, failures: int, then: Status, delay: float | None, move: Move) -> None:
    concluded = conclude_timeout(what, PASSED, policy, failures, 0.5, abandoned=True)
    assert concluded == Conclusion(Status.TIMED_OUT, then, PASSED, delay, abandoned=True)
    assert then in moves(Status.RUNNING, move)


def test_errors_that_give_up_on_names_are_final() -> None:
    policy = Policy(name="child", retry=Retry(5, give_up_on=(KeyError,)))
    assert conclude(Error(KeyError("x")), policy, 0, 0.5, None).final
    assert not conclude(Error(ValueError("x")), policy, 4, 0.5, None).final
