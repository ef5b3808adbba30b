"""When to try again, after how long, and how long a try may take.

Values and decisions only: nothing here waits, looks at a clock or draws a random number. Who asks passes the jitter in.
A `Retry` counts attempts, not repetitions: `retries=3` is `Retry(max_attempts=4)`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import Enum
from typing import Final, TypeAlias, cast

from holdfast.errors import BudgetSpent, IdentityError, InvalidOption, Misuse, NonRetryable, ValueNotKept
from holdfast.frozen import Frozen

Seconds: TypeAlias = float | timedelta
RetryOn: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool | Seconds]

LONGEST_SECONDS: Final = 100 * 365.25 * 24 * 3600.0
"""A century. What is longer is a mistake, and would overflow a lock's timeout or a datetime long after it was accepted."""

_CODE_MUST_CHANGE: Final = (Misuse, IdentityError, ValueNotKept, BudgetSpent)
"""Errors of ours that another attempt of the same code can only repeat."""


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """How often an action is tried, and how long it waits in between.

    Before the n-th repetition it waits `initial_interval * backoff_factor ** (n - 1)` seconds, at most `max_interval`; with `jitter`
    a random part of that, so that many failing together don't come back together. An error's `retry_after` (seconds) replaces the wait.

    Args:
        max_attempts: All attempts together, at least 1.
        initial_interval: Seconds before the first repetition.
        backoff_factor: By which the wait grows with each further failure, at least 1.
        max_interval: The longest wait, in seconds.
        jitter: Wait a uniformly drawn part of the interval instead of all of it.
        retry_on: An exception type or several, an attempt's timeout being one; or a function of the error that returns True, False, or
            the seconds to wait. `TaskTimedOut` is an Exception, so it is retried by default.
        give_up_on: Exception types that are final, as `NonRetryable` is: not retried in this run, nor by a resume.
        max_crashes: After so many crashed attempts in a row, none of which recorded anything, the action fails (`CrashLoop`).

    Raises:
        InvalidOption: An argument has a value that it can't have; the message names it.

    Example:
        >>> Retry(5, initial_interval=0.5, retry_on=(ConnectionError, TimeoutError))
        Retry(5, initial_interval=0.5, retry_on=(<class 'ConnectionError'>, <class 'TimeoutError'>))
    """

    max_attempts: int
    initial_interval: float
    backoff_factor: float
    max_interval: float
    jitter: bool
    retry_on: RetryOn
    give_up_on: tuple[type[Exception], ...]
    max_crashes: int

    def __init__(
        self,
        max_attempts: int = 1,
        *,
        initial_interval: Seconds = 1.0,
        backoff_factor: float = 2.0,
        max_interval: Seconds = 60.0,
        jitter: bool = True,
        retry_on: RetryOn = Exception,
        give_up_on: tuple[type[Exception], ...] = (),
        max_crashes: int = 10,
    ) -> None:
        fill = object.__setattr__  # frozen, and __init__ takes more types than the fields keep
        fill(self, "max_attempts", _whole_number("max_attempts", max_attempts, at_least=1))
        fill(self, "initial_interval", to_seconds("initial_interval", initial_interval, allow_zero=True))
        fill(self, "backoff_factor", _growth("backoff_factor", backoff_factor))
        fill(self, "max_interval", to_seconds("max_interval", max_interval, allow_zero=True))
        fill(self, "jitter", _yes_or_no("jitter", jitter))
        fill(self, "retry_on", _retry_on(retry_on))
        fill(self, "give_up_on", _exception_types("give_up_on", give_up_on))
        fill(self, "max_crashes", _whole_number("max_crashes", max_crashes, at_least=1))

    def __repr__(self) -> str:
        usual = Retry()
        options = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        said = [f"{name}={value!r}" for name, value in options.items() if value != getattr(usual, name)]
        return f"Retry({', '.join([repr(self.max_attempts), *said])})"

    @classmethod
    def of(cls, retries: int | Retry | None) -> Retry:
        """What `@task(retries=…)` means: a number of repetitions, a policy, or None for a single attempt.

        Raises:
            InvalidOption: Neither of these, or a negative number.
        """
        if isinstance(retries, Retry):
            return retries
        return cls() if retries is None else cls(_whole_number("retries", retries, at_least=0) + 1)


class RetryPolicy(Enum):
    """What `max_attempts` of a pipeline counts. An execution is an attempt of a stage that COMPLETED, FAILED or TIMED_OUT."""

    NONE = "NONE"
    """One failure of a stage fails the pipeline."""
    STAGE = "STAGE"
    """Each stage has `max_attempts` of its own."""
    GLOBAL = "GLOBAL"
    """All stages together have `max_attempts` executions; each execution takes one, also a successful one."""


@dataclass(frozen=True, slots=True, init=False)
class Timeout:
    """How long an action may take.

    Args:
        attempt: Seconds for each attempt, counted anew. None: no limit.
        total: Seconds for all attempts and the waits between them, by the wall clock, running on through a crash or stop. None: no limit.

    Raises:
        InvalidOption: A limit is zero, negative or not a duration.
    """

    attempt: float | None
    total: float | None

    def __init__(self, *, attempt: Seconds | None = None, total: Seconds | None = None) -> None:
        object.__setattr__(self, "attempt", None if attempt is None else to_seconds("attempt", attempt))
        object.__setattr__(self, "total", None if total is None else to_seconds("total", total))

    @classmethod
    def of(cls, timeout: Seconds | Timeout | None) -> Timeout:
        """What `@task(timeout=…)` means: seconds for each attempt, both limits, or None for no limit.

        Raises:
            InvalidOption: Neither of these, zero or negative.
        """
        if isinstance(timeout, Timeout):
            return timeout
        return cls() if timeout is None else cls(attempt=to_seconds("timeout", timeout))


@dataclass(frozen=True, slots=True, init=False)
class Rate:
    """How many attempts may begin within a time, and how many may run at once.

    Args:
        count: So many may begin …
        per: … within so many seconds.
        concurrency: So many may run at once. None: no limit.

    Raises:
        InvalidOption: An argument has a value that it can't have; the message names it.
    """

    count: int
    per: float
    concurrency: int | None

    def __init__(self, count: int, *, per: Seconds = 1.0, concurrency: int | None = None) -> None:
        object.__setattr__(self, "count", _whole_number("count", count, at_least=1))
        object.__setattr__(self, "per", to_seconds("per", per))
        limit = None if concurrency is None else _whole_number("concurrency", concurrency, at_least=1)
        object.__setattr__(self, "concurrency", limit)


class Again(Frozen):
    """Try again after so many seconds."""

    delay_seconds: float


class GiveUp(Frozen):
    """The error is the outcome. `final`: also for every later resume, as `NonRetryable` is."""

    final: bool


def interval(retry: Retry, failures: int, jitter: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row.

    Args:
        retry: The policy.
        failures: How many attempts failed, this one included: at least 1.
        jitter: A number from [0, 1), drawn anew each time; unused where the policy has no jitter.
    """
    ceiling = min(_grown(retry, failures), retry.max_interval)
    return ceiling * jitter if retry.jitter else ceiling


def attempts_left(policy: RetryPolicy, max_attempts: int, failures: int, executions: int) -> int:
    """How many more executions may begin. Crashed, stopped, cancelled and replayed attempts are no executions.

    Args:
        policy: What is counted.
        max_attempts: As many as there may be: of a stage (STAGE), or of all stages together (GLOBAL).
        failures: Executions of this stage that failed, in its present asking.
        executions: Executions of all stages in the pipeline's present try, with those under way.
    """
    match policy:
        case RetryPolicy.NONE:
            return max(1 - failures, 0)
        case RetryPolicy.STAGE:
            return max(max_attempts - failures, 0)
        case RetryPolicy.GLOBAL:
            return max(max_attempts - executions, 0)


def decide(retry: Retry, error: Exception, failures: int, jitter: float, left: int | None = None) -> Again | GiveUp:
    """Whether a failed attempt is followed by another, and when.

    Args:
        retry: The policy.
        error: What the attempt raised.
        failures: How many attempts of the present asking failed, this one included: at least 1.
        jitter: A number from [0, 1), drawn anew each time.
        left: How many more attempts may begin, where others take of the same `max_attempts`; None: what the failures leave of it.

    Raises:
        InvalidOption: `retry_on` is a function, and it raised, or returned neither a bool nor a duration.
    """
    if isinstance(error, (NonRetryable, *retry.give_up_on)):
        return GiveUp(final=True)
    if isinstance(error, _CODE_MUST_CHANGE) or (retry.max_attempts - failures if left is None else left) <= 0:
        return GiveUp(final=False)
    answer = _wants_retry(retry.retry_on, error)
    if answer is False:
        return GiveUp(final=False)
    if answer is not True:
        return Again(answer)
    asked_for = _retry_after(error)
    return Again(interval(retry, failures, jitter) if asked_for is None else asked_for)


def to_seconds(option: str, value: object, *, allow_zero: bool = False) -> float:
    """A duration in seconds.

    Args:
        option: The name of the argument, for the error.
        value: An int or float of seconds, or a timedelta.
        allow_zero: Whether 0 is a duration here.

    Raises:
        InvalidOption: It is not a duration, is not finite, is negative, is zero where that is refused, or is longer than a century.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = _as_float(value)
    else:
        raise InvalidOption(option=option, value=value, reason="give seconds as a number, or a timedelta")
    if not math.isfinite(seconds) or seconds > LONGEST_SECONDS:
        raise InvalidOption(option=option, value=value, reason="give a finite number of seconds, at most a century")
    if seconds < 0 or (seconds == 0 and not allow_zero):
        raise InvalidOption(option=option, value=value, reason=f"give seconds {'from 0 up' if allow_zero else 'above 0'}")
    return seconds


def _grown(retry: Retry, failures: int) -> float:
    if retry.initial_interval == 0:
        return 0.0
    try:
        return retry.initial_interval * retry.backoff_factor ** (failures - 1)
    except OverflowError:  # a float to a large power raises, where a product of floats would give inf
        return math.inf


def _wants_retry(retry_on: RetryOn, error: Exception) -> bool | float:
    """True or False, or the seconds that a predicate asks for. (0.0 is a delay: compare the answer by `is`.)"""
    if isinstance(retry_on, (type, tuple)):
        return isinstance(error, retry_on)
    try:
        answer: object = retry_on(error)
    except Exception as raised:
        raise InvalidOption(option="retry_on", value=retry_on, reason=f"raised {raised!r} when asked about {error!r}") from raised
    if isinstance(answer, bool):
        return answer
    try:
        return to_seconds("retry_on", answer, allow_zero=True)
    except InvalidOption as refused:
        reason = f"returned {answer!r} when asked about {error!r}; return True, False, or the seconds to wait"
        raise InvalidOption(option="retry_on", value=retry_on, reason=reason) from refused


def _retry_after(error: Exception) -> float | None:
    """The error's own delay. It is foreign data, often a server's: what can't be a delay is as good as none."""
    try:
        return to_seconds("retry_after", getattr(error, "retry_after", None), allow_zero=True)
    except Exception:  # also whatever a property raises
        return None


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an int of hundreds of digits
        return math.inf if value > 0 else -math.inf


def _whole_number(option: str, value: object, *, at_least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidOption(option=option, value=value, reason="give a whole number")
    if value < at_least:
        raise InvalidOption(option=option, value=value, reason=f"give at least {at_least}")
    return value


def _growth(option: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InvalidOption(option=option, value=value, reason="give a number")
    factor = _as_float(value)
    if not (math.isfinite(factor) and factor >= 1):
        raise InvalidOption(option=option, value=value, reason="give a finite number of at least 1")
    return factor


def _yes_or_no(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidOption(option=option, value=value, reason="give True or False")
    return value


def _retry_on(value: object) -> RetryOn:
    if isinstance(value, tuple):
        return _exception_types("retry_on", cast("tuple[object, ...]", value))
    if isinstance(value, type):
        return _exception_types("retry_on", (value,))[0]
    if inspect.iscoroutinefunction(value):
        raise InvalidOption(option="retry_on", value=value, reason="give a plain function: a coroutine would always count as true")
    if not callable(value):
        raise InvalidOption(option="retry_on", value=value, reason="give an exception type, a tuple of them, or a function of the error")
    return cast("Callable[[Exception], bool | Seconds]", value)


def _exception_types(option: str, value: object) -> tuple[type[Exception], ...]:
    if not isinstance(value, tuple):
        raise InvalidOption(option=option, value=value, reason="give a tuple of exception types, such as (ValueError,)")
    kinds = cast("tuple[object, ...]", value)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise InvalidOption(option=option, value=kind, reason="give subclasses of Exception; cancellation and Ctrl-C are never retried")
    return cast("tuple[type[Exception], ...]", kinds)
