"""What to do with an action that is asked for, and what an attempt's end makes of it. Pure functions; guarantees.md is the law."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, TypeAlias

from holdfast.attempts import Abandoned, Ended, Error, Outcome, Value
from holdfast.errors import CrashLoop, OutcomeUnknown, TaskError, TaskTimedOut
from holdfast.frozen import Frozen
from holdfast.orders import Policy
from holdfast.retries import Again, decide
from holdfast.states import Record
from holdfast.status import FAILED_STATES, Status

_UNKNOWN_ENDS = frozenset({Status.CRASHED, Status.STOPPED, Status.CANCELLED, Status.TIMED_OUT})


class Anew(Frozen):
    """A first asking, or a new one: new retries, a new total timeout."""


ANEW = Anew()


class GoOn(Frozen):
    """The present asking goes on, after `next_at` where there is one."""

    next_at: float | None


class Replay(Frozen):
    """The recorded outcome is the answer."""


class Undo(Frozen):
    """A rollback of it was begun, and goes on."""


class Undone(Frozen):
    """It was rolled back, or what it stands for was, and nothing follows."""


class Refuse(Frozen):
    """It fails without another attempt."""

    error: TaskError


Asked: TypeAlias = Anew | GoOn | Replay | Undo | Undone | Refuse

Standing: TypeAlias = Literal["recent", "all", "none"]
"""Which recorded failures are given again: those of the parent's present try, as for any call; all of them, as for rows that are passed
over; or none, as for rows that are to be tried again. `NonRetryable` ones are always given again."""

RECENT: Final[Standing] = "recent"


def asked(record: Record | None, parent_try: int | None, policy: Policy, standing: Standing = RECENT) -> Asked:
    """Decide what asking for an action means.

    Args:
        record: What is on record; None for the first asking ever.
        parent_try: The asking parent's present try; None for a root, whose failures are always tried anew.
        policy: The task's.
        standing: Which recorded failures are its answer.
    """
    if record is None:
        return ANEW
    if record.status is Status.COMPLETED:
        if record.version != policy.version:
            return Anew()
        return Undone() if record.notes is not None and record.notes.undone_below else Replay()
    if record.status is Status.ROLLING_BACK:
        return Undo()
    if record.status is Status.ROLLED_BACK:  # its failure has been seen by the parent's present try, and is seen again
        return Replay() if record.error is not None and _stands(record, parent_try, standing) else Undone()
    ended_as = record.attempt.status if record.attempt is not None else None
    is_unknown = ended_as in _UNKNOWN_ENDS or (record.attempt is not None and record.attempt.unknown)
    if policy.on_crash == "fail" and is_unknown:
        return Refuse(OutcomeUnknown(task=policy.name, attempt=record.number, status=ended_as.value if ended_as else ""))
    if record.status is Status.CANCELLED or record.version != policy.version:
        return Anew()
    if record.status in FAILED_STATES:
        return Replay() if _stands(record, parent_try, standing) or (record.final and parent_try is not None) else Anew()
    if record.barren >= policy.retry.max_crashes:
        return Refuse(CrashLoop(task=policy.name, crashes=record.barren))
    return GoOn(record.next_at)


def _stands(record: Record, parent_try: int | None, standing: Standing) -> bool:
    """Whether a failure on record is the answer to whoever asks now."""
    if parent_try is None or standing == "none":
        return False
    return standing == "all" or record.failed_in == parent_try


class Conclusion(Frozen):
    """How an attempt ended, and where that leaves its action. `error` is what its caller gets, where it is not asked again."""

    status: Status
    then: Status
    error: Exception | None = None
    delay: float | None = None
    final: bool = False
    abandoned: bool = False
    unknown: bool = False


COMPLETED = Conclusion(Status.COMPLETED, Status.COMPLETED)


def conclude(
    outcome: Outcome, policy: Policy, failures: int, jitter: float, stopped_as: Status | None, left: int | None = None
) -> Conclusion:
    """Decide what the end of an attempt means.

    Args:
        outcome: The body's end.
        policy: The task's.
        failures: Of this asking, before this attempt.
        jitter: From [0, 1).
        stopped_as: STOPPED or CANCELLED, where the run was asked to end so; else None.
        left: How many more attempts may begin, where others take of them too; None: what the failures leave.
    """
    match outcome:
        case Value():
            return COMPLETED
        case Error(error, is_its_own=False) if policy.on_crash == "fail":
            return Conclusion(Status.FAILED, Status.FAILED, error, unknown=True)
        case Error(error):
            return _failed(Status.FAILED, Status.FAILED, error, policy, failures, jitter, left)
        case Ended() | Abandoned():
            status = stopped_as or Status.CANCELLED
            return Conclusion(status, status, abandoned=isinstance(outcome, Abandoned))


def conclude_timeout(
    what: str, error: TaskTimedOut, policy: Policy, failures: int, jitter: float, left: int | None = None, *, abandoned: bool
) -> Conclusion:
    """Decide what a passed timeout means: `what` is "attempt" or "total", the rest as in `conclude`."""
    if what == "total" or policy.on_crash == "fail":
        return Conclusion(Status.TIMED_OUT, Status.TIMED_OUT, error, abandoned=abandoned)
    concluded = _failed(Status.TIMED_OUT, Status.TIMED_OUT, error, policy, failures, jitter, left)
    return Conclusion(concluded.status, concluded.then, error, concluded.delay, concluded.final, abandoned)


def undoing(conclusion: Conclusion, policy: Policy, has_undos: bool) -> Conclusion:
    """What a failure for good means where the task rolls back: its subtree is undone before it ends."""
    if not policy.rolls_back or not has_undos or conclusion.then not in FAILED_STATES:
        return conclusion
    return replace(conclusion, then=Status.ROLLING_BACK)


def _failed(
    status: Status, given_up: Status, error: Exception, policy: Policy, failures: int, jitter: float, left: int | None
) -> Conclusion:
    match decide(policy.retry, error, failures + 1, jitter, left):
        case Again(delay_seconds):
            return Conclusion(status, Status.RETRYING, error, delay_seconds)
        case given:
            return Conclusion(status, given_up, error, final=given.final)
