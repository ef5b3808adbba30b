"""Whether a failed attempt is followed by another, and after how long: tables, without a loop and without a clock."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import (
    AmbiguousLoop,
    CrashLoop,
    InvalidOption,
    NonRetryable,
    StoreUnavailable,
    TaskTimedOut,
    UnrecordableResult,
    UnstableInput,
)
from holdfast.retries import Again, GiveUp, Retry, RetryOn, decide, interval

STEADY = Retry(3, jitter=False)


class Declined(NonRetryable):
    pass


class Busy(Exception):
    def __init__(self, retry_after: object) -> None:
        self.retry_after = retry_after


class Nosy(Exception):
    @property
    def retry_after(self) -> float:
        raise RuntimeError("asked too early")


TIMED_OUT = TaskTimedOut(task="t", what="attempt", seconds=1.0, attempt=0)


# how long


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (8, 60.0), (2_000, 60.0), (10**6, 60.0)]
)
def test_the_wait_doubles_up_to_its_cap(failures: int, seconds: float) -> None:
    assert interval(STEADY, failures, 0.5) == seconds


@pytest.mark.parametrize(
    ("retry", "failures", "seconds"),
    [
        (Retry(initial_interval=0, jitter=False), 10**6, 0.0),
        (Retry(max_interval=0, jitter=False), 3, 0.0),
        (Retry(initial_interval=90, jitter=False), 1, 60.0),
        (Retry(initial_interval=90, max_interval=timedelta(minutes=2), jitter=False), 2, 120.0),
        (Retry(initial_interval=5, backoff_factor=1, jitter=False), 10**6, 5.0),
        (Retry(initial_interval=1, backoff_factor=1e300, jitter=False), 3, 60.0),
        (Retry(jitter=True), 7, 15.0),
    ],
)
def test_the_wait_follows_the_policy(retry: Retry, failures: int, seconds: float) -> None:
    assert interval(retry, failures, 0.25) == seconds


@given(
    failures=st.integers(1, 10**6),
    jitter=st.floats(0, 1, exclude_max=True),
    initial=st.floats(0, 1e6),
    factor=st.floats(1, 1e300),
    longest=st.floats(0, 1e6),
)
def test_any_wait_is_finite_and_between_nothing_and_the_cap(
    failures: int, jitter: float, initial: float, factor: float, longest: float
) -> None:
    full, steady = (Retry(initial_interval=initial, backoff_factor=factor, max_interval=longest, jitter=spread) for spread in (True, False))
    assert 0 <= interval(full, failures, jitter) <= interval(steady, failures, jitter) <= longest


# whether


@pytest.mark.parametrize(
    ("error", "failures", "decision"),
    [
        (ValueError(), 1, Again(1.0)),
        (ValueError(), 2, Again(2.0)),
        (ValueError(), 3, GiveUp(final=False)),
        (ValueError(), 4, GiveUp(final=False)),
        (TIMED_OUT, 1, Again(1.0)),
        (TimeoutError(), 1, Again(1.0)),
        (StoreUnavailable(where="s3://b", reason="503"), 1, Again(1.0)),
        (CrashLoop(task="t", crashes=10), 1, Again(1.0)),
        (NonRetryable("no"), 1, GiveUp(final=True)),
        (Declined("no"), 1, GiveUp(final=True)),
        (Declined("no"), 3, GiveUp(final=True)),
        (AmbiguousLoop(task="t"), 1, GiveUp(final=False)),
        (UnstableInput(task="t", argument="x", reason="a lock"), 1, GiveUp(final=False)),
        (UnrecordableResult(task="t", path="result", reason="a lock"), 1, GiveUp(final=False)),
        (InvalidOption(option="step", value=None, reason="a number"), 1, GiveUp(final=False)),
    ],
    ids=repr,
)
def test_an_error_is_retried_while_attempts_are_left_unless_it_can_only_come_again(
    error: Exception, failures: int, decision: Again | GiveUp
) -> None:
    assert decide(STEADY, error, failures, 0.5) == decision


def test_a_single_attempt_is_never_followed_by_another() -> None:
    assert decide(Retry(), ValueError(), 1, 0.5) == GiveUp(final=False)


def only_odd(error: Exception) -> bool:
    return len(str(error)) % 2 == 1


@pytest.mark.parametrize(
    ("retry_on", "decision"),
    [
        (Exception, Again(1.0)),
        (LookupError, Again(1.0)),
        (ValueError, GiveUp(final=False)),
        ((ValueError, KeyError), Again(1.0)),
        ((), GiveUp(final=False)),
        (lambda error: True, Again(1.0)),
        (lambda error: False, GiveUp(final=False)),
        (lambda error: 1, Again(1.0)),
        (lambda error: 0, Again(0.0)),
        (lambda error: 7.5, Again(7.5)),
        (lambda error: timedelta(minutes=10), Again(600.0)),
        (only_odd, GiveUp(final=False)),
    ],
)
def test_retry_on_says_whether_and_when(retry_on: RetryOn, decision: Again | GiveUp) -> None:
    assert decide(Retry(3, jitter=False, retry_on=retry_on), KeyError("four"[:2]), 1, 0.5) == decision


def test_give_up_on_is_final_and_comes_before_retry_on() -> None:
    retry = Retry(3, retry_on=LookupError, give_up_on=(KeyError,))
    assert decide(retry, KeyError(), 1, 0.5) == GiveUp(final=True)
    assert isinstance(decide(retry, IndexError(), 1, 0.5), Again)


def test_a_predicate_is_not_asked_when_the_answer_is_known() -> None:
    def never(error: Exception) -> bool:
        raise AssertionError("asked")

    retry = Retry(2, retry_on=never, give_up_on=(KeyError,))
    assert decide(retry, KeyError(), 1, 0.5) == GiveUp(final=True)
    assert decide(retry, ValueError(), 2, 0.5) == GiveUp(final=False)
    assert decide(retry, AmbiguousLoop(task="t"), 1, 0.5) == GiveUp(final=False)


@pytest.mark.parametrize("answer", [None, -1, math.nan, math.inf, "yes", 1e12])
def test_a_predicate_that_gives_no_answer_is_refused(answer: Any) -> None:
    with pytest.raises(InvalidOption, match=r"retry_on.*returned.*ValueError"):
        decide(Retry(3, retry_on=lambda error: answer), ValueError("x"), 1, 0.5)


def test_a_predicate_that_raises_is_refused_from_its_own_error() -> None:
    def broken(error: Exception) -> bool:
        raise ZeroDivisionError

    with pytest.raises(InvalidOption, match=r"retry_on.*raised ZeroDivisionError.*ValueError\('x'\)") as caught:
        decide(Retry(3, retry_on=broken), ValueError("x"), 1, 0.5)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(("asked_for", "delay"), [(30, 30.0), (0, 0.0), (0.0, 0.0), (2.5, 2.5), (timedelta(seconds=90), 90.0)])
def test_an_errors_retry_after_is_the_delay_unjittered_and_uncapped(asked_for: object, delay: float) -> None:
    assert decide(Retry(3, max_interval=1), Busy(asked_for), 1, 0.5) == Again(delay)


@pytest.mark.parametrize("asked_for", [None, -1, math.nan, math.inf, "30", True, [], 1e300])
def test_a_retry_after_that_is_no_delay_is_ignored(asked_for: object) -> None:
    assert decide(STEADY, Busy(asked_for), 2, 0.5) == Again(2.0)


def test_a_retry_after_that_raises_is_ignored() -> None:
    assert decide(STEADY, Nosy(), 1, 0.5) == Again(1.0)


@pytest.mark.parametrize(("retry_on", "delay"), [(lambda error: 0, 0.0), (lambda error: 9, 9.0), (lambda error: True, 30.0)])
def test_a_predicates_delay_wins_over_retry_after_and_its_yes_does_not(retry_on: RetryOn, delay: float) -> None:
    assert decide(Retry(3, retry_on=retry_on), Busy(30), 1, 0.5) == Again(delay)
