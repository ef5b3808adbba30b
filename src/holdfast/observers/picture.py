"""What is shown of a run, added up from its events: plain numbers, so that drawing is for others.

It grows with what is under way and with the shape of the program, never with how often a task was called: actions of one task below one
place are one row, a task that calls itself is one row too, and of many groups the later ones are one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from holdfast.clocks import clock
from holdfast.events import Event
from holdfast.identity import BUILTIN
from holdfast.messages import MessageType, type_of
from holdfast.status import Status

TOPICS_SHOWN: Final = 3
MESSAGES_KEPT: Final = 3
GROUPS_KEPT: Final = 20
TASKS_KEPT: Final = 200
DEEPEST: Final = 6

_ENDS: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.TIMED_OUT})


@dataclass(slots=True)
class Sum:
    """The bars of one name, or the rows of one task, added up. `first_n` and `first_at` are where it stood when it was first seen."""

    n: float = 0
    total: float = 0
    open: int = 0  # so many have no total
    first_n: float | None = None
    first_at: float = 0.0
    at: float = 0.0

    def add(self, n: float, total: float | None, sign: int) -> None:
        self.n += sign * n
        self.total += sign * (total or 0)
        self.open += sign * (total is None)

    def reach(self, at: float, *, at_once: float = 0) -> None:
        """It was moved, of which so much took no time: it was on record."""
        self.at = max(self.at, at)
        if self.first_n is None or self.n < self.first_n + at_once:
            self.first_n, self.first_at = self.n, at
        else:
            self.first_n += at_once

    @property
    def share(self) -> float | None:
        """From 0 to 1. None without a total."""
        return min(self.n / self.total, 1.0) if self.total > 0 and self.open <= 0 else None

    @property
    def percent(self) -> int:
        """From 0 to 100, which means all. 0 without a total."""
        return int(100 * min(self.n, self.total) / self.total) if self.share is not None else 0

    @property
    def rate(self) -> float | None:
        """Steps a second since it was first seen. None when nothing can be said."""
        if self.first_n is None or self.at <= self.first_at or self.n <= self.first_n:
            return None
        return (self.n - self.first_n) / (self.at - self.first_at)

    @property
    def remaining_seconds(self) -> float | None:
        """At the rate since it was first seen: what was done before then took no time of ours. None when nothing can be said."""
        if self.share is None or (rate := self.rate) is None:
            return None
        return max(self.total - self.n, 0) / rate


class Row:
    """A group, or all actions of one task below one place."""

    __slots__ = (
        "above", "below", "cancelled", "depth", "done", "failed", "is_group", "name", "retries", "reused", "running", "stopped", "waiting",
    )  # fmt: skip

    above: Row | None
    cancelled: int
    done: int
    failed: int
    is_group: bool
    name: str
    retries: int
    reused: int
    running: int
    stopped: int
    waiting: int

    def __init__(self, name: str, *, is_group: bool, above: Row | None) -> None:
        self.name = name
        self.is_group = is_group
        self.above = above
        self.depth: int = 0 if above is None else above.depth + 1
        self.below: dict[tuple[bool, str], Row] = {}
        self.running = 0
        self.waiting = 0  # asked for, and not begun, or between two attempts
        self.done = 0
        self.reused = 0
        self.retries = 0
        self.failed = 0
        self.stopped = 0
        self.cancelled = 0

    def child(self, name: str, *, is_group: bool) -> Row:
        found = self.below.get((is_group, name))
        if found is not None:
            return found
        if not is_group and (same := self._among_those_above(name)) is not None:
            return same
        if self.depth >= DEEPEST:
            return self
        if len(self.below) >= (GROUPS_KEPT if is_group else TASKS_KEPT):
            name = "..."
        return self.below.setdefault((is_group, name), Row(name, is_group=is_group, above=self))

    def _among_those_above(self, name: str) -> Row | None:
        row: Row | None = self
        while row is not None and (row.is_group or row.name != name):
            row = row.above
        return row

    def walk(self) -> Iterator[Row]:
        """This row and all below it, in the order in which they came up."""
        yield self
        for row in list(self.below.values()):
            yield from row.walk()

    def numbers(self) -> tuple[tuple[int, str], ...]:
        """Its numbers, each with its word, what matters most first."""
        return (
            (self.done, "done"), (self.failed, "failed"), (self.running, "running"), (self.waiting, "waiting"),
            (self.stopped, "stopped"), (self.cancelled, "cancelled"), (self.reused, "from record"),
            (self.retries, "retry" if self.retries == 1 else "retries"),
        )  # fmt: skip

    def said(self) -> str:
        """Its numbers in words."""
        return ", ".join(f"{number:,} {word}" for number, word in self.numbers() if number)


class _Mapped:
    """What an attempt of an action asked for of one task: how many are at their end, and how many rows each of its maps has."""

    __slots__ = ("n", "task", "totals")

    n: int

    def __init__(self, task: str) -> None:
        self.task = task
        self.n = 0
        self.totals: dict[str, int | None] = {}  # none: these are no rows, or nobody said so yet


class _Live:
    """An action under way."""

    __slots__ = ("is_running", "keys", "mapped", "row")

    def __init__(self, row: Row | None) -> None:
        self.row = row
        self.mapped: _Mapped | None = None
        self.is_running = False
        self.keys: set[str] | None = None


class Picture:
    """What is shown of a run."""

    run_name: str
    root: str
    task: str
    recorded: int
    began_at: float
    ended_at: float | None
    done: int
    reused: int
    retries: int
    failed: int
    missed: int
    warnings: int
    cost: Decimal
    tokens: int
    rows: Row
    bars: dict[str, Sum]
    mapped: dict[str, Sum]
    moved: tuple[str, Sum] | None
    awaited: dict[str, str]
    messages: deque[tuple[str, MessageType, str, str]]

    def __init__(self) -> None:
        self.run_name = ""
        self.root = ""
        self.task = ""
        self.recorded = 0
        self.began_at = clock().now()
        self.ended_at = None
        self.done = 0
        self.reused = 0
        self.retries = 0
        self.failed = 0
        self.missed = 0
        self.warnings = 0
        self.cost = Decimal(0)
        self.tokens = 0
        self.status: Status | None = None
        self.rows = Row("", is_group=False, above=None)
        self.bars = {}
        self.mapped = {}  # the rows of `map` and `records`, by task
        self.moved = None  # the bar that the last event moved
        self.awaited = {}  # topics, by who waits
        self.messages = deque(maxlen=MESSAGES_KEPT)  # action, type, task, text
        self._live: dict[str, _Live] = {}
        self._of_action: dict[str, dict[str, tuple[float, float | None]]] = {}
        self._of_mapping: dict[str, dict[str, _Mapped]] = {}  # by action and task
        self._former: dict[str, dict[str, _Mapped]] = {}  # those of an attempt that ended, until another one asks anew
        self._see: dict[str, Callable[[Any], None]] = {
            "run_opened": self._opened,
            "action_asked": self._asked,
            "continued": self._asked,
            "attempt_started": self._started,
            "attempt_ended": self._attempt_ended,
            "action_ended": self._action_ended,
            "replayed": self._replayed,
            "ticked": self._ticked,
            "rows_counted": self._rows_counted,
            "rows_seen": self._rows_seen,
            "wait_begun": self._waits,
            "warned": self._warned,
            "messaged": self._messaged,
            "messages_cleared": self._cleared,
            "spent": self._spent,
            "missed": self._missed_some,
        }

    def see(self, event: Event) -> None:
        self.moved = None
        see = self._see.get(event.kind)
        if see is not None:
            see(event)

    def shown_bars(self) -> list[tuple[str, Sum]]:
        """Every bar by its name: of rows that of their task."""
        return [(short(task), bar) for task, bar in list(self.mapped.items())] + list(self.bars.items())

    def _opened(self, event: Any) -> None:
        self.run_name, self.root, self.task, self.recorded, self.began_at = (
            event.run_name, event.action, event.task, event.recorded, event.at,
        )  # fmt: skip
        self.cost, self.tokens = Decimal(event.cost or 0), event.tokens
        self.rows.name = event.task
        self._live[event.action] = _Live(self.rows)

    def _asked(self, event: Any) -> None:
        known = self._live.get(event.action)
        row = self._row(event.task, event.parent, event.group) if known is None else known.row
        live = known
        if live is None:
            live = self._live[event.action] = _Live(row)
        if event.parent and (event.live or event.parent in self._of_mapping):  # a live event may come before what was recorded before it
            live.mapped = self._mapped_by(event.parent, event.task)
        if row is not None:
            row.waiting += 1

    def _row(self, task: str, parent: str, group: tuple[str, ...]) -> Row | None:
        """Where calls of a task are shown. None: nowhere, it is one of ours."""
        if task.startswith(BUILTIN):
            return None
        above = self._live.get(parent)
        row = above.row if above is not None and above.row is not None else self.rows
        for name in group:
            row = row.child(name, is_group=True)
        return row.child(task, is_group=False) if parent else self.rows

    def _started(self, event: Any) -> None:
        if event.action == self.root:  # it goes on after a crash that was only found now
            self.status = self.ended_at = None
        for bar, values in self._of_action.pop(event.action, {}).items():  # a new attempt has bars of its own
            self.bars[bar].add(*values, -1)
        live = self._live.get(event.action)
        if live is not None and not live.is_running:
            live.is_running = True
            if live.row is not None:
                live.row.running += 1
                live.row.waiting = max(live.row.waiting - 1, 0)

    def _attempt_ended(self, event: Any) -> None:
        self.awaited.pop(event.action, None)
        live = self._live.get(event.action)
        row = live.row if live is not None else None
        if live is not None and live.is_running:
            live.is_running = False
            if row is not None:
                row.running -= 1
        if event.then is Status.RETRYING:
            self._begin_anew(event.action)
            self.retries += 1
            if row is not None:
                row.retries += 1
                row.waiting += 1
            return
        self._ended(event, row, is_ours=live is not None and row is None)

    def _action_ended(self, event: Any) -> None:
        self.awaited.pop(event.action, None)
        live = self._live.get(event.action)
        row = live.row if live is not None else None
        if row is not None and live is not None and not live.is_running:
            row.waiting = max(row.waiting - 1, 0)
        self._ended(event, row, is_ours=live is not None and row is None)

    def _ended(self, event: Any, row: Row | None, *, is_ours: bool) -> None:
        action: str = event.action
        then: Status = event.then
        live = self._live.pop(action, None)
        self._begin_anew(action)
        if live is not None and live.mapped is not None and then in _ENDS:
            self._row_ended(live.mapped, event.at, at_once=0)
        if then is Status.COMPLETED:  # what it reached stays in the sums
            self._of_action.pop(action, None)
            self._former.pop(action, None)
        if action == self.root:
            self.status, self.ended_at = then, event.at
        elif then in _ENDS and not is_ours:
            if then is Status.COMPLETED:
                self.done += 1
            else:
                self.failed += 1
        if row is not None and action != self.root:
            row.done += then is Status.COMPLETED
            row.failed += then in _ENDS and then is not Status.COMPLETED
            row.stopped += then is Status.STOPPED
            row.cancelled += then is Status.CANCELLED

    def _replayed(self, event: Any) -> None:
        if event.task.startswith(BUILTIN):
            return
        self.reused += 1
        row = self._row(event.task, event.parent, event.group)
        if row is not None and event.parent:
            row.reused += 1
            self._row_ended(self._mapped_by(event.parent, event.task), event.at, at_once=1)

    def _ticked(self, event: Any) -> None:
        total = self.bars.get(event.bar)
        if total is None:
            total = self.bars[event.bar] = Sum()
        mine = self._of_action.setdefault(event.action, {})
        if event.bar in mine:
            total.add(*mine[event.bar], -1)
        mine[event.bar] = (event.n, event.total)
        total.add(event.n, event.total, 1)
        total.reach(event.at)
        self.moved = event.bar, total

    def _rows_counted(self, event: Any) -> None:
        mapped = self._mapped_by(event.action, event.task)
        bar = self.mapped.setdefault(event.task, Sum())
        if not mapped.totals:  # what was answered from record may have been told before
            bar.add(mapped.n, 0, 1)
            bar.reach(event.at, at_once=mapped.n)
        self._expect(mapped, event.place, event.total)

    def _rows_seen(self, event: Any) -> None:
        """The items have ended after so many rows."""
        for mapped in self._of_mapping.get(event.action, {}).values():
            if event.total is not None and event.place in mapped.totals:
                self._expect(mapped, event.place, event.total)
                self.moved = short(mapped.task), self.mapped[mapped.task]

    def _expect(self, mapped: _Mapped, place: str, total: int | None) -> None:
        bar = self.mapped[mapped.task]
        if place in mapped.totals:
            bar.add(0, mapped.totals[place], -1)
        mapped.totals[place] = total
        bar.add(0, total, 1)

    def _row_ended(self, mapped: _Mapped, at: float, *, at_once: int) -> None:
        mapped.n += 1
        if mapped.totals:
            bar = self.mapped[mapped.task]
            bar.n += 1
            bar.reach(at, at_once=at_once)
            self.moved = short(mapped.task), bar

    def _mapped_by(self, action: str, task: str) -> _Mapped:
        by_task = self._of_mapping.get(action)
        if by_task is not None and task in by_task:
            return by_task[task]
        for former in self._former.pop(action, {}).values():  # another attempt asks for its rows anew
            bar = self.mapped[former.task]
            bar.add(former.n, 0, -1)
            for total in former.totals.values():
                bar.add(0, total, -1)
            bar.first_n = None
        return self._of_mapping.setdefault(action, {}).setdefault(task, _Mapped(task))

    def _begin_anew(self, action: str) -> None:
        """An attempt of this action has ended: what the next one asks for is counted anew."""
        before = self._of_mapping.pop(action, {})
        counted = {task: mapped for task, mapped in before.items() if mapped.totals}
        if counted:
            self._former[action] = counted

    def _waits(self, event: Any) -> None:
        if event.topic:
            self.awaited[event.action] = event.topic

    def _warned(self, event: Any) -> None:
        self.warnings += 1
        self.messages.append((event.action, MessageType.WARNING, event.category, event.text))

    def _messaged(self, event: Any) -> None:
        live = self._live.get(event.action)
        who = live.row.name if live is not None and live.row is not None else ""
        self.messages.append((event.action, type_of(event.type), who, event.content))

    def _cleared(self, event: Any) -> None:
        kept = [message for message in self.messages if message[0] != event.action]
        self.messages.clear()
        self.messages.extend(kept)

    def _spent(self, event: Any) -> None:
        live = self._live.get(event.action)
        if event.key and live is not None:  # counts once over all attempts
            live.keys = live.keys if live.keys is not None else set()
            if event.key in live.keys:
                return
            live.keys.add(event.key)
        self.cost += Decimal(event.cost or 0)
        self.tokens += event.tokens

    def _missed_some(self, event: Any) -> None:
        self.missed += event.count

    def counts(self) -> str:
        """`facts` in one line."""
        return ", ".join(self.facts())

    def facts(self) -> list[str]:
        """What went otherwise than once and well, and what is waited for; without any bar, also how many actions are done."""
        said = [] if self.bars or self.mapped else [f"{self.done:,} actions done"]
        if self.reused:
            said.append(f"{self.reused:,} from record")
        if self.retries:
            said.append(f"{self.retries:,} {'retry' if self.retries == 1 else 'retries'}")
        if self.failed:
            said.append(f"{self.failed:,} failed")
        if self.warnings:
            said.append(f"{self.warnings:,} {'warning' if self.warnings == 1 else 'warnings'}")
        if self.missed:
            said.append(f"{self.missed:,} events not seen")
        if self.cost or self.tokens:
            said.append(f"cost {self.cost:,.4f}" if self.cost else f"{self.tokens:,} tokens")
        if self.cost and self.tokens:
            said[-1] += f" for {self.tokens:,} tokens"
        if self.awaited:
            topics = sorted(set(self.awaited.copy().values()))
            said.append(f"waits for {', '.join(topics[:TOPICS_SHOWN])}{', ...' if len(topics) > TOPICS_SHOWN else ''}")
        return said


def shown_rows(rows: Row, at_most: int) -> tuple[list[Row], int]:
    """The rows below the first, as many as fit, each with those above it, and how many are left out. What runs or failed comes first."""
    every = list(rows.walk())[1:]
    if len(every) <= at_most:
        return every, 0
    chosen: dict[int, Row] = {}
    for row in sorted((row for row in every if not row.is_group), key=_weight):
        way: list[Row] = []
        step: Row | None = row
        while step is not None and step is not rows and id(step) not in chosen:
            way.append(step)
            step = step.above
        if len(chosen) + len(way) <= at_most:
            chosen.update((id(found), found) for found in way)
    return [row for row in every if id(row) in chosen], len(every) - len(chosen)


def _weight(row: Row) -> int:
    return 0 if row.failed else 1 if row.running else 2


def amount(bar: Sum) -> str:
    """`812/1,790`, or `812` without a total."""
    return _number(bar.n) if bar.share is None else f"{_number(bar.n)}/{_number(bar.total)}"


def speed(bar: Sum) -> str:
    """`12.5/s`, `3.2/min` where it is slow, or nothing when nothing can be said."""
    rate = bar.rate
    if rate is None:
        return ""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:,.1f}"


def duration(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(task: str) -> str:
    """A task's name without its module: the tree says where it belongs."""
    return task.rpartition(":")[2] or task


def left(bar: Sum) -> str:
    """`0:31 left`, or nothing when nothing can be said."""
    seconds = bar.remaining_seconds
    return "" if seconds is None or bar.share == 1.0 else f"{duration(seconds)} left"
