"""Retry, Timeout and Rate: what they take, what they refuse, and that they are plain values."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from holdfast.errors import InvalidOption
from holdfast.retries import LONGEST_SECONDS, Rate, Retry, Timeout, to_seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(1, 1.0), (0.5, 0.5), (timedelta(minutes=2), 120.0), (timedelta(milliseconds=1), 0.001), (LONGEST_SECONDS, LONGEST_SECONDS)],
)
def test_seconds_are_numbers_or_timedeltas(value: object, seconds: float) -> None:
    result = to_seconds("wait", value)
    assert result == seconds
    assert type(result) is float


NOT_SECONDS = [
    -1,
    -0.5,
    timedelta(seconds=-1),
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    "60",
    None,
    10**400,
    -(10**400),
    1e12,
    timedelta.max,
]


@pytest.mark.parametrize("value", NOT_SECONDS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("allow_zero", [True, False])
def test_what_is_no_duration_is_refused_by_its_options_name(value: object, allow_zero: bool) -> None:
    with pytest.raises(InvalidOption) as caught:
        to_seconds("wait", value, allow_zero=allow_zero)
    assert caught.value.option == "wait"


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, timedelta()])
def test_zero_is_a_duration_only_where_that_is_said(zero: object) -> None:
    assert to_seconds("wait", zero, allow_zero=True) == 0
    with pytest.raises(InvalidOption, match="above 0"):
        to_seconds("wait", zero)


def test_retries_count_repetitions_and_max_attempts_counts_all() -> None:
    assert Retry.of(3) == Retry(max_attempts=4) == Retry(4)
    assert Retry.of(0) == Retry.of(None) == Retry() == Retry(1)


def test_a_policy_is_its_own_policy() -> None:
    retry, timeout = Retry(2), Timeout(total=5)
    assert Retry.of(retry) is retry
    assert Timeout.of(timeout) is timeout


def test_a_number_is_the_timeout_of_an_attempt() -> None:
    assert Timeout.of(60) == Timeout(attempt=60) == Timeout.of(timedelta(minutes=1))
    assert Timeout.of(None) == Timeout()
    assert (Timeout().attempt, Timeout().total) == (None, None)


def test_the_defaults_are_those_of_the_docs() -> None:
    retry = Retry()
    assert (retry.max_attempts, retry.initial_interval, retry.backoff_factor, retry.max_interval) == (1, 1.0, 2.0, 60.0)
    assert (retry.jitter, retry.retry_on, retry.give_up_on, retry.max_crashes) == (True, Exception, (), 10)
    assert (Rate(5).count, Rate(5).per, Rate(5).concurrency) == (5, 1.0, None)


def test_durations_are_kept_as_seconds_so_equal_policies_are_equal() -> None:
    assert Retry(initial_interval=timedelta(seconds=2), max_interval=timedelta(minutes=2)) == Retry(initial_interval=2, max_interval=120)
    assert hash(Rate(1, per=timedelta(seconds=1))) == hash(Rate(1))


REFUSED: list[tuple[str, Callable[[], object]]] = [
    ("max_attempts", lambda: Retry(0)),
    ("max_attempts", lambda: Retry(True)),
    ("max_attempts", lambda: Retry(2.0)),  # type: ignore[arg-type]
    ("initial_interval", lambda: Retry(initial_interval=-1)),
    ("max_interval", lambda: Retry(max_interval=math.inf)),
    ("backoff_factor", lambda: Retry(backoff_factor=0.5)),
    ("backoff_factor", lambda: Retry(backoff_factor=math.nan)),
    ("backoff_factor", lambda: Retry(backoff_factor="2")),  # type: ignore[arg-type]
    ("jitter", lambda: Retry(jitter=0.3)),  # type: ignore[arg-type]
    ("retry_on", lambda: Retry(retry_on=KeyboardInterrupt)),  # type: ignore[arg-type]
    ("retry_on", lambda: Retry(retry_on=(ValueError, int))),  # type: ignore[arg-type]
    ("retry_on", lambda: Retry(retry_on="ValueError")),  # type: ignore[arg-type]
    ("retry_on", lambda: Retry(retry_on=asks_later)),  # type: ignore[arg-type]
    ("give_up_on", lambda: Retry(give_up_on=ValueError)),  # type: ignore[arg-type]
    ("give_up_on", lambda: Retry(give_up_on=(BaseException,))),  # type: ignore[arg-type]
    ("max_crashes", lambda: Retry(max_crashes=0)),
    ("retries", lambda: Retry.of(-1)),
    ("retries", lambda: Retry.of(True)),
    ("retries", lambda: Retry.of("3")),  # type: ignore[arg-type]
    ("attempt", lambda: Timeout(attempt=0)),
    ("total", lambda: Timeout(total=-1)),
    ("timeout", lambda: Timeout.of(0)),
    ("timeout", lambda: Timeout.of("60")),  # type: ignore[arg-type]
    ("count", lambda: Rate(0)),
    ("count", lambda: Rate(1.5)),  # type: ignore[arg-type]
    ("per", lambda: Rate(1, per=0)),
    ("concurrency", lambda: Rate(1, concurrency=0)),
]


async def asks_later(error: Exception) -> bool:
    return True


@pytest.mark.parametrize(("option", "make"), REFUSED)
def test_a_bad_option_is_refused_by_its_name(option: str, make: Callable[[], object]) -> None:
    with pytest.raises(InvalidOption) as caught:
        make()
    assert caught.value.option == option
    assert isinstance(caught.value, ValueError)


VALUES = [
    Retry(),
    Retry(5, initial_interval=0.5, retry_on=(OSError, ValueError), give_up_on=(KeyError,), jitter=False),
    Retry(retry_on=OSError),
    Timeout(attempt=1, total=timedelta(hours=1)),
    Rate(10, per=60, concurrency=4),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_policies_travel_and_stay_equal(value: Any) -> None:
    again = pickle.loads(pickle.dumps(value))
    assert again == value
    assert hash(again) == hash(value)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_policies_are_frozen(value: Any) -> None:
    with pytest.raises(AttributeError):
        setattr(value, fields(value)[0].name, 7)


def test_a_repr_names_what_differs_from_the_defaults() -> None:
    assert repr(Retry.of(3)) == "Retry(4)"
    assert repr(Retry(2, jitter=False, max_interval=5)) == "Retry(2, max_interval=5.0, jitter=False)"
    assert repr(Timeout.of(60)) == "Timeout(attempt=60.0, total=None)"
