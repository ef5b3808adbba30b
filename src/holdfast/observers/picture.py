"""What is shown of a run, added up from its events: plain numbers, so that drawing is for others.

It grows with what is under way and with the shape of the program (`tree`), never with how often a task was called.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from holdfast.clocks import clock
from holdfast.events import Event
from holdfast.identity import BUILTIN
from holdfast.messages import MessageType, type_of
from holdfast.observers.sums import Sum
from holdfast.observers.tree import Branch
from holdfast.status import EXECUTED_STATES, FAILED_STATES, Status

TOPICS_SHOWN: Final = 3
MESSAGES_KEPT: Final = 3


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

    __slots__ = ("branch", "is_running", "keys", "mapped")

    def __init__(self, branch: Branch | None) -> None:
        self.branch = branch
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
    tree: Branch
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
        self.tree = Branch("", is_group=False, above=None)
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
        self.tree.name = event.task
        self._live[event.action] = _Live(self.tree)

    def _asked(self, event: Any) -> None:
        live = self._live.get(event.action)
        if live is None:
            live = self._live[event.action] = _Live(self._branch(event.task, event.parent, event.group))
        if event.parent and (event.live or event.parent in self._of_mapping):  # a live event may come before what was recorded before it
            live.mapped = self._mapped_by(event.parent, event.task)
        if live.branch is not None:
            live.branch.waiting += 1

    def _branch(self, task: str, parent: str, group: tuple[str, ...]) -> Branch | None:
        """Where calls of a task are shown. None: nowhere, it is one of ours."""
        if task.startswith(BUILTIN):
            return None
        above = self._live.get(parent)
        branch = above.branch if above is not None and above.branch is not None else self.tree
        for name in group:
            branch = branch.child(name, is_group=True)
        return branch.child(task, is_group=False) if parent else self.tree

    def _started(self, event: Any) -> None:
        if event.action == self.root:  # it goes on after a crash that was only found now
            self.status = self.ended_at = None
        for bar, values in self._of_action.pop(event.action, {}).items():  # a new attempt has bars of its own
            self.bars[bar].add(*values, -1)
        live = self._live.get(event.action)
        if live is not None and not live.is_running:
            live.is_running = True
            if live.branch is not None:
                live.branch.running += 1
                live.branch.waiting = max(live.branch.waiting - 1, 0)

    def _attempt_ended(self, event: Any) -> None:
        self.awaited.pop(event.action, None)
        live = self._live.get(event.action)
        branch = live.branch if live is not None else None
        if live is not None and live.is_running:
            live.is_running = False
            if branch is not None:
                branch.running -= 1
        if event.then is Status.RETRYING:
            self._begin_anew(event.action)
            self.retries += 1
            if branch is not None:
                branch.retries += 1
                branch.waiting += 1
            return
        self._ended(event, branch, is_ours=live is not None and branch is None)

    def _action_ended(self, event: Any) -> None:
        self.awaited.pop(event.action, None)
        live = self._live.get(event.action)
        branch = live.branch if live is not None else None
        if branch is not None and live is not None and not live.is_running:
            branch.waiting = max(branch.waiting - 1, 0)
        self._ended(event, branch, is_ours=live is not None and branch is None)

    def _ended(self, event: Any, branch: Branch | None, *, is_ours: bool) -> None:
        action: str = event.action
        then: Status = event.then
        live = self._live.pop(action, None)
        self._begin_anew(action)
        if live is not None and live.mapped is not None and then in EXECUTED_STATES:
            self._row_ended(live.mapped, event.at, at_once=0)
        if then is Status.COMPLETED:  # what it reached stays in the sums
            self._of_action.pop(action, None)
            self._former.pop(action, None)
        if action == self.root:
            self.status, self.ended_at = then, event.at
        elif then in EXECUTED_STATES and not is_ours:
            if then is Status.COMPLETED:
                self.done += 1
            else:
                self.failed += 1
        if branch is not None and action != self.root:
            branch.done += then is Status.COMPLETED
            branch.failed += then in FAILED_STATES
            branch.stopped += then is Status.STOPPED
            branch.cancelled += then is Status.CANCELLED

    def _replayed(self, event: Any) -> None:
        if event.task.startswith(BUILTIN):
            return
        self.reused += 1
        branch = self._branch(event.task, event.parent, event.group)
        if branch is not None and event.parent:
            branch.reused += 1
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
        who = live.branch.name if live is not None and live.branch is not None else ""
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


def short(task: str) -> str:
    """A task's name without its module: the tree says where it belongs."""
    return task.rpartition(":")[2] or task
