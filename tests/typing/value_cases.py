# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false, reportUnusedExpression=false
"""What type checkers see of statuses, retries and bars. Never run: read by mypy and pyright (test_types.py)."""

from collections.abc import Callable
from datetime import timedelta
from typing import assert_type

from holdfast.progress import Bar, advance
from holdfast.retries import Again, GiveUp, Rate, Retry, Timeout, decide, interval, to_seconds
from holdfast.status import ACTIVE_STATES, Move, StageStatus, Status, check_move, moves, shown_status


def statuses(status: Status, move: Move) -> None:
    assert_type(Status.parse("complete"), Status)
    assert_type(Status.parse(6), Status)
    assert_type(StageStatus.parse(6), Status)
    assert_type(ACTIVE_STATES, frozenset[Status])
    assert_type(moves(status, move), frozenset[Status])
    assert_type(check_move(status, move, status), Status)
    assert_type(shown_status(status, "gone"), Status)
    shown_status(status, "away")  # type: ignore[arg-type]
    Status.parse(None)  # type: ignore[arg-type]


def retries(error: Exception) -> None:
    assert_type(Retry.of(3), Retry)
    assert_type(Retry.of(None).max_attempts, int)
    assert_type(Retry(initial_interval=timedelta(seconds=1)).initial_interval, float)
    assert_type(Timeout.of(timedelta(minutes=1)).attempt, float | None)
    assert_type(Rate(3, per=timedelta(minutes=1)).concurrency, int | None)
    assert_type(interval(Retry(), 1, 0.5), float)
    assert_type(decide(Retry(), error, 1, 0.5), Again | GiveUp)
    assert_type(to_seconds("wait", 3), float)
    Retry(retry_on=OSError)
    Retry(retry_on=(OSError, ValueError))
    Retry(retry_on=lambda raised: isinstance(raised, OSError))
    Retry(retry_on=lambda raised: timedelta(seconds=len(raised.args)))
    predicate: Callable[[Exception], bool | float | timedelta] = lambda raised: 3.5  # noqa: E731
    Retry(retry_on=predicate)
    Retry(2, 1.0)  # type: ignore[call-arg]
    Retry("2")  # type: ignore[arg-type]
    Retry(retry_on=KeyboardInterrupt)  # type: ignore[arg-type]
    Retry(give_up_on=OSError)  # type: ignore[arg-type]
    Timeout(60)  # type: ignore[call-arg]
    Retry().max_attempts = 3  # type: ignore[misc]


def bars(bar: Bar) -> None:
    assert_type(advance(None, 1, None, 0.0), Bar)
    assert_type(bar.n, float)
    assert_type(bar.total, float | None)
    assert_type(bar.percent, float | None)
    assert_type(bar.rate, float)
    assert_type(bar.remaining_seconds, float | None)
    bar.n = 3  # type: ignore[misc]
