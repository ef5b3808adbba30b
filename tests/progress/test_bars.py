"""A bar: fresh is 0 %, all done is 100 %, and nothing is shown that isn't known."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import InvalidOption
from holdfast.progress import Bar, advance


def bar_of(n: float, total: float | None, seconds: float = 10.0) -> Bar:
    return Bar(n=n, total=total, started_at=1000.0, updated_at=1000.0 + seconds)


@pytest.mark.parametrize(
    ("n", "total", "percent"),
    [
        (0, 100, 0.0),
        (1, 100, 1.0),
        (50, 50, 100.0),
        (9, 10, 90.0),
        (10, 10, 100.0),
        (12, 10, 100.0),
        (1, 3, 100 / 3),
        (0, 0, 100.0),
        (5, None, None),
        (0, None, None),
        (sum([0.1] * 10), 1, 100.0),
        (999_999_999, 1_000_000_000, 99.9999999),
    ],
)
def test_percent_is_the_share_done(n: float, total: float | None, percent: float | None) -> None:
    assert bar_of(n, total).percent == percent


def test_a_bar_that_lacks_one_step_is_not_full() -> None:
    percent = bar_of(10**12 - 1, 10**12).percent
    assert percent is not None
    assert percent < 100


@pytest.mark.parametrize(
    ("n", "total", "seconds", "rate", "remaining"),
    [
        (20, 100, 10, 2.0, 40.0),
        (20, 20, 10, 2.0, 0.0),
        (25, 20, 10, 2.5, 0.0),
        (20, None, 10, 2.0, None),
        (0, 100, 10, 0.0, None),
        (5, 100, 0, 0.0, None),
        (100, 100, 0, 0.0, 0.0),
        (0, 0, 0, 0.0, 0.0),
    ],
)
def test_rate_and_remaining_time_follow_from_count_and_time(
    n: float, total: float | None, seconds: float, rate: float, remaining: float | None
) -> None:
    bar = bar_of(n, total, seconds)
    assert (bar.rate, bar.remaining_seconds) == (rate, remaining)


def test_the_first_step_begins_the_bar() -> None:
    assert advance(None, 1, 100, 5.0) == Bar(n=1, total=100, started_at=5.0, updated_at=5.0)
    assert advance(None, 0, None, 5.0) == Bar(n=0, total=None, started_at=5.0, updated_at=5.0)


def test_a_step_is_added_and_changes_no_earlier_bar() -> None:
    first = advance(None, 1, 10, 5.0)
    second = advance(first, 2, None, 7.0)
    assert second == Bar(n=3, total=10, started_at=5.0, updated_at=7.0)
    assert first == Bar(n=1, total=10, started_at=5.0, updated_at=5.0)


def test_a_later_total_replaces_the_former() -> None:
    bar = advance(advance(None, 5, 10, 0.0), 0, 50, 1.0)
    assert (bar.n, bar.total, bar.percent) == (5, 50, 10.0)


def test_a_step_back_ends_at_nothing() -> None:
    assert advance(advance(None, 5, 10, 0.0), -2, None, 1.0).n == 3
    assert advance(advance(None, 5, 10, 0.0), -9, None, 1.0).n == 0
    assert advance(None, -1, 10, 0.0).n == 0


def test_a_clock_that_is_set_back_stands_still() -> None:
    bar = advance(advance(advance(None, 0, 10, 100.0), 2, None, 102.0), 2, None, 50.0)
    assert (bar.updated_at, bar.rate) == (102.0, 2.0)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, "1", None, True, 10**400], ids=lambda value: repr(value)[:8])
def test_a_step_that_is_no_finite_number_is_refused(number: object) -> None:
    with pytest.raises(InvalidOption, match="step="):
        advance(None, number, 10, 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [math.nan, math.inf, -1, "1", True], ids=repr)
def test_a_total_that_is_no_count_is_refused(number: object) -> None:
    with pytest.raises(InvalidOption, match="total="):
        advance(None, 1, number, 0.0)  # type: ignore[arg-type]


def test_steps_that_overflow_are_refused() -> None:
    with pytest.raises(InvalidOption, match="step="):
        advance(advance(None, 1e308, None, 0.0), 1e308, None, 1.0)


def test_a_bar_travels() -> None:
    bar = bar_of(3, 10)
    assert pickle.loads(pickle.dumps(bar)) == bar


finite = st.floats(-1e9, 1e9)


@given(st.lists(st.tuples(finite, st.none() | st.floats(0, 1e9), finite), min_size=1))
def test_no_sequence_of_steps_shows_more_than_all_or_less_than_nothing(steps: list[tuple[float, float | None, float]]) -> None:
    bar: Bar | None = None
    for step, total, now in steps:
        bar = advance(bar, step, total, now)
        assert bar.n >= 0
        assert bar.rate >= 0
        assert bar.percent is None or 0 <= bar.percent <= 100
        assert bar.remaining_seconds is None or bar.remaining_seconds >= 0
