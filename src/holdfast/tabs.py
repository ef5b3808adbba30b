"""How much work may cost: the limits of a budget, and the tab of what is spent and held under it. No I/O, no loop.

A `Tab` is what one entry of a budget has counted: reserve, then settle. Before an attempt begins, what is spent, what the attempts at work
may still spend, and what this one may, have to fit. An attempt that waits for actions holds nothing meanwhile, so that those who are waited
for are never kept out by those who wait.
"""

from __future__ import annotations

import operator
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from holdfast.costs import NOTHING, ZERO, Cost, amount, count, larger, minus, plus, times
from holdfast.errors import InvalidOption
from holdfast.frozen import Frozen
from holdfast.retries import Seconds, to_seconds

LOCK: Final = threading.RLock()
"""Of all tabs: an attempt needs room in several at once."""


class Limits(Frozen):
    """What a budget allows, checked. None: as much as it takes."""

    cost: Decimal | None = None
    tokens: int | None = None
    seconds: float | None = None
    executions: int | None = None
    reserve: Decimal | None = None
    warn_at: tuple[float, ...] = ()


def limits(cost: Any, tokens: Any, seconds: Any, executions: Any, reserve: Any, warn_at: Any) -> Limits:
    """What `Budget(...)` was told. Raises: InvalidOption, naming the argument."""
    if cost is None and tokens is None and seconds is None and executions is None:
        raise InvalidOption(option="Budget", value=None, reason="give at least one limit: cost, tokens, seconds or executions")
    money = None if cost is None else amount("cost", cost)
    if money is not None and not money:
        raise InvalidOption(option="cost", value=cost, reason="it has to be more than 0, since nothing begins at the limit")
    held = None if reserve is None else amount("reserve", reserve)
    if held is not None and (money is None or held > money):
        reason = "it is held out of cost= for each attempt, so it needs that limit, and can't be more than it"
        raise InvalidOption(option="reserve", value=reserve, reason=reason)
    return Limits(
        cost=money,
        tokens=None if tokens is None else count("tokens", tokens, at_least=1),
        seconds=None if seconds is None else _duration(seconds),
        executions=None if executions is None else count("executions", executions, at_least=1),
        reserve=held,
        warn_at=_fractions(warn_at),
    )


def _duration(seconds: Seconds) -> float:
    if not isinstance(seconds, (int, float, timedelta)):
        raise InvalidOption(option="seconds", value=seconds, reason="give seconds, or a timedelta")
    return to_seconds("seconds", seconds)


def _fractions(warn_at: Sequence[float]) -> tuple[float, ...]:
    given: Any = warn_at
    fits = isinstance(given, (tuple, list)) and all(
        isinstance(each, (int, float)) and not isinstance(each, bool) and 0 < each <= 1 for each in given
    )
    if not fits:
        reason = "give fractions of the limit, above 0 and at most 1, such as (0.75, 0.9)"
        raise InvalidOption(option="warn_at", value=warn_at, reason=reason)
    return tuple(sorted({float(each) for each in given}))


class Over(Frozen):
    """A limit that leaves no room for another attempt: what of it is spent, and what this attempt may need."""

    of: str
    limit: str
    spent: str
    reserve: str = ""


class Mark(NamedTuple):
    """A fraction of a limit: of which, at how much, and what is said when so much is spent."""

    of: str
    at: Any
    text: str


def _marks(limits: Limits, name: str) -> Iterator[Mark]:
    for of in ("cost", "tokens", "seconds", "executions"):
        limit: Any = getattr(limits, of)
        if limit is not None:
            for fraction in limits.warn_at:
                yield Mark(of, _share(limit, fraction), f"{name} has spent {fraction * 100:g} % of its {of}, {limit}")


def _share(limit: Any, fraction: float) -> Any:
    """A fraction of a limit: of money and of what is counted an exact one."""
    return limit * fraction if isinstance(limit, float) else times(Decimal(limit), Decimal(str(fraction)))


class Tab:
    """What one entry of a budget has counted, and what is held for the attempts at work under it.

    Its bodies may be at work in several threads, so all of it is behind one lock, which nobody holds for long. `counted` names the runs
    whose record it has seen. `waiting` is called, one at a time, when there may be room again.
    """

    __slots__ = (
        "_began", "_marks", "counted", "executions", "held_cost", "held_tokens", "keys", "largest", "limits", "name", "spent", "waiting",
    )  # fmt: skip

    counted: set[str]
    executions: int
    held_cost: Decimal
    held_tokens: int
    keys: set[tuple[str, str]]
    largest: dict[str, Cost]
    limits: Limits
    name: str
    spent: Cost
    waiting: deque[Callable[[], object]]

    def __init__(self, limits: Limits, now: float, name: str) -> None:
        """`now`: monotonic seconds, less what has passed already."""
        self.limits = limits
        self.name = name
        self.spent = NOTHING
        self.executions = 0
        self.held_cost = ZERO
        self.held_tokens = 0
        self.largest = {}
        self.counted = set()
        self.keys = set()
        self.waiting = deque()
        self._began = now
        self._marks = list(_marks(limits, name))

    def seed(self, spent: Cost, executions: int) -> None:
        """Count in what is on record."""
        with LOCK:
            self.spent = self.spent + spent
            self.executions += executions

    def learn(self, largest: Mapping[str, Cost]) -> None:
        """Know of the largest attempts of each task so far."""
        with LOCK:
            for task, cost in largest.items():
                self.largest[task] = larger(self.largest.get(task, NOTHING), cost)

    def need(self, task: str) -> Cost:
        """What an attempt of a task is held for: the reserve, or the most that one of that task has cost so far."""
        seen = self.largest.get(task, NOTHING)
        return Cost(self.limits.reserve if self.limits.reserve is not None else seen.cost, seen.tokens)

    def over(self, task: str, now: float) -> Over | None:
        """The limit by which no attempt of this task can begin any more, whatever becomes of those at work."""
        limits, spent, need = self.limits, self.spent, self.need(task)
        if limits.cost is not None and not _fits(spent.cost, ZERO, need.cost, limits.cost):
            return Over("cost", str(limits.cost), str(spent.cost), str(need.cost) if need.cost else "")
        if limits.tokens is not None and not _fits(spent.tokens, 0, need.tokens, limits.tokens):
            return Over("tokens", str(limits.tokens), str(spent.tokens), str(need.tokens) if need.tokens else "")
        if limits.seconds is not None and self.seconds(now) >= limits.seconds:
            return Over("seconds", f"{limits.seconds:g}", f"{self.seconds(now):.3f}")
        if limits.executions is not None and self.executions >= limits.executions:
            return Over("executions", str(limits.executions), str(self.executions))
        return None

    def has_room(self, task: str) -> bool:
        """Whether an attempt of this task fits beside those at work. One that need not wait for those is not `over`."""
        limits, need = self.limits, self.need(task)
        if limits.cost is not None and not _fits(self.spent.cost, self.held_cost, need.cost, limits.cost):
            return False
        return limits.tokens is None or _fits(self.spent.tokens, self.held_tokens, need.tokens, limits.tokens)

    def seconds(self, now: float) -> float:
        return max(now - self._began, 0.0)

    def warnings(self, now: float) -> list[str]:
        """What is to be warned of now, each fraction of each limit once."""
        with LOCK:
            passed = [mark for mark in self._marks if self._used(mark.of, now) >= mark.at]
            if passed:
                self._marks = [mark for mark in self._marks if mark not in passed]
        return [mark.text for mark in passed]

    def know_told(self, texts: frozenset[str]) -> None:
        """Not warn again of what an earlier owner of the run has warned of."""
        with LOCK:
            self._marks = [mark for mark in self._marks if mark.text not in texts]

    def _used(self, of: str, now: float) -> Any:
        if of == "cost":
            return self.spent.cost
        return self.spent.tokens if of == "tokens" else self.seconds(now) if of == "seconds" else self.executions

    def wake(self) -> None:
        """Have the first of those that wait look again."""
        if self.waiting:
            self.waiting.popleft()()


def _fits(spent: Any, held: Any, need: Any, limit: Any) -> bool:
    add: Any = plus if isinstance(limit, Decimal) else operator.add
    used = add(spent, held)
    return bool(used < limit and add(used, need) <= limit)


class Holding:
    """What one attempt holds of the tabs above it: `need` of each, less what it has spent of that; nothing, while it waits for actions."""

    __slots__ = ("_cost", "_held", "_is_paused", "_is_settled", "_spent", "_tabs", "_task", "_tokens")

    def __init__(self, tabs: Sequence[Tab], task: str) -> None:
        """Take it, where there is room in all of them. Counts the execution. To be made under `LOCK`."""
        self._tabs = tuple(tabs)
        self._task = task
        self._spent = NOTHING
        self._is_paused = self._is_settled = False
        self._held = [tab.need(task) for tab in tabs]
        self._cost = [ZERO for _ in tabs]
        self._tokens = [0 for _ in tabs]
        for tab in tabs:
            tab.executions += 1
        self._update()

    def spend(self, cost: Cost) -> None:
        """The attempt spent so much, which its tabs have counted."""
        with LOCK:
            self._spent = self._spent + cost
            for tab in self._tabs:
                tab.largest[self._task] = larger(tab.largest.get(self._task, NOTHING), self._spent)
            self._update()

    def pause(self) -> None:
        """Its body waits for actions."""
        with LOCK:
            if not self._is_paused:
                self._is_paused = True
                self._update()
                self._wake()

    def proceed(self) -> None:
        """Its body goes on, room or not."""
        with LOCK:
            self._is_paused = False
            self._update()

    def settle(self) -> None:
        """The attempt has ended. Settled twice is settled once."""
        with LOCK:
            if not self._is_settled:
                self._is_settled = True
                self._update()
                self._wake()

    def _update(self) -> None:
        none = self._is_paused or self._is_settled
        for at, tab in enumerate(self._tabs):
            need = self._held[at]
            cost = ZERO if none or self._spent.cost >= need.cost else minus(need.cost, self._spent.cost)
            tokens = 0 if none else max(need.tokens - self._spent.tokens, 0)
            tab.held_cost = plus(tab.held_cost, minus(cost, self._cost[at]))
            tab.held_tokens += tokens - self._tokens[at]
            self._cost[at], self._tokens[at] = cost, tokens

    def _wake(self) -> None:
        for tab in self._tabs:
            tab.wake()


def charge(tabs: Iterable[Tab], cost: Cost) -> None:
    """Count what was spent."""
    with LOCK:
        for tab in tabs:
            tab.spent = tab.spent + cost


def hold(tabs: Sequence[Tab], task: str, now: float) -> Holding | Tab | tuple[Tab, Over]:
    """Room for an attempt of `task` in all tabs; or the tab on which it has to wait; or which tab leaves none for good, and why.

    To be asked under `LOCK`, so that whoever waits is not passed over.
    """
    for tab in tabs:
        if (over := tab.over(task, now)) is not None:
            return tab, over
    for tab in tabs:
        if not tab.has_room(task):
            return tab
    return Holding(tabs, task)
