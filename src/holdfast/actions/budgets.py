"""Budgets at work: room before an attempt begins, and how a run ends that has no room left.

When a budget has no room for another attempt, whatever becomes of those at work, the run closes down: no attempt begins any more, and who
asks for one waits, and is told nothing. So no body takes a refusal for a failure of what it called, and no task group cancels the calls
beside it. Those at work go on to their ends, which are recorded. When none is at work (each waits for its turn, for actions that do, or for
what somebody may send), the run is asked to stop as ever, and what still waits ends STOPPED.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from holdfast.actions.runtime import Runtime, StopRequest
from holdfast.clocks import clock
from holdfast.contexts import AT_ANY_COST, Budget, Context, TaskContext, link_of, tabs_of
from holdfast.costs import Cost, Report
from holdfast.errors import BudgetSpent, BudgetWarning
from holdfast.events import Spent
from holdfast.identity import BUILTIN
from holdfast.states import Fold, Record
from holdfast.status import Status
from holdfast.tabs import LOCK, Holding, Over, Tab, charge, hold

_log = logging.getLogger("holdfast")

RECEIVE: Final = f"{BUILTIN}receive"


class Spender(Protocol):
    """The attempt that reports a cost."""

    budgets: tuple[Budget, ...]
    holding: Holding | None
    number: int

    def is_first_report(self, key: str) -> bool:
        """Whether no attempt of its action has reported a cost under this key."""
        ...


def count_report(attempt: Spender, action: str, told: Report) -> tuple[bool, list[str]]:
    """Have all budgets around the present line count a cost. Any thread of the body may call this.

    Returns:
        Whether it is to go on record, and what is to be warned of. A key that an earlier attempt reported is on record, and has been
        counted by the budgets above the attempt, but not by those that this attempt has entered.
    """
    above = tabs_of(attempt.budgets)
    entered = _entered_by(attempt)
    with LOCK:
        is_first = not told.key or attempt.is_first_report(told.key)
        counting = list(above) if is_first else []
        for tab in entered:
            if is_first or (action, told.key) not in tab.keys:
                counting.append(tab)
            if told.key:
                tab.keys.add((action, told.key))
        charge(counting, told.cost)
        if is_first and attempt.holding is not None:
            attempt.holding.spend(told.cost)
    now = clock().monotonic()
    return is_first, [text for tab in counting for text in tab.warnings(now)]


def _entered_by(attempt: Spender) -> tuple[Tab, ...]:
    """Of the budgets around the present line, those that the attempt's body has entered."""
    current = Context.current()
    running: TaskContext | None = current.task_context
    here: object = link_of(running) if running is not None else None
    if current.budgets is attempt.budgets or here is not attempt:
        return ()
    return tabs_of(budget for budget in current.budgets if budget not in attempt.budgets)


def spent_event(action: str, number: int, told: Report) -> Spent:
    cost = told.cost
    return Spent(
        action=action,
        at=clock().now(),
        number=number,
        cost=str(cost.cost) if cost.cost else "",
        tokens=cost.tokens,
        tokens_in=cost.tokens_in,
        tokens_out=cost.tokens_out,
        model=told.model,
        key=told.key,
    )


# what is on record counts


def enter_run(budget: Budget | None, around: tuple[Budget, ...], state: Fold, run_id: str) -> tuple[Budget, ...]:
    """The budgets of a run, which count what is on record of it: those around the line that runs it, and its own."""
    if budget is None and not around:
        return ()
    cost, executions = state.cost(), sum(map(_executions, state.actions.values()))
    for tab in tabs_of(around):
        if run_id not in tab.counted:
            tab.counted.add(run_id)
            _count_silently(tab, cost, executions)
    if budget is None:
        return around
    entered = budget.entered("the budget of the run", state.worked.seconds)
    for tab in tabs_of((entered,)):
        tab.seed(cost, executions)
        tab.learn(state.largest)
        told = frozenset(warned.text for warned in state.warnings if warned.category == BudgetWarning.__name__)
        tab.know_told(told)
    return (*around, entered)


def count_record(state: Fold, above: tuple[Budget, ...], context: Context, record: Record) -> None:
    """A call made under budgets that the body entered: what is on record of it counts for them, answered from record or not."""
    below = list(state.records_below(record.name))
    cost, executions = state.cost_below(record.name), sum(map(_executions, below))
    for tab in tabs_of(budget for budget in context.budgets if budget not in above):
        _count_silently(tab, cost, executions)


def _executions(record: Record) -> int:
    return 0 if record.task.startswith(BUILTIN) else record.number + 1  # of what an owner has packed, no more is known


def _count_silently(tab: Tab, cost: Cost, executions: int) -> None:
    """It has been warned of when it was spent."""
    tab.seed(cost, executions)
    tab.warnings(clock().monotonic())


# room for an attempt


def needs_room(task: str, budgets: tuple[Budget, ...]) -> bool:
    """Whether a budget may refuse an attempt. What `ctx()` itself awaits costs nothing, and what is undone is undone at any cost."""
    return not task.startswith(BUILTIN) and AT_ANY_COST not in budgets


async def find_room(runtime: Runtime, budgets: tuple[Budget, ...], task: str, action: str) -> Holding | None:
    """Wait until all budgets have room for an attempt, and take it. None: the run closes down.

    Raises: BudgetSpent, in a run that keeps nothing.
    """
    tabs, before = tabs_of(budgets), None
    while True:
        with LOCK:
            found = hold(tabs, task, clock().monotonic())
            waiter = Waiter(found, runtime.loop) if isinstance(found, Tab) else None
            _pass_on(tabs, found, before)
        if isinstance(found, Holding):
            _warn(runtime, tabs, action)
            return found
        if waiter is None:
            assert isinstance(found, tuple)
            spent, over = found
            if not runtime.durable:
                raise _spent_error("", spent, over)
            if runtime.closing is None:
                runtime.closing = Closing(runtime, spent, task)
            return None
        before = waiter.tab
        await waiter.wait()


def _spent_error(run_name: str, tab: Tab, over: Over) -> BudgetSpent:
    return BudgetSpent(run_name=run_name, budget=tab.name, of=over.of, limit=over.limit, spent=over.spent, need=over.reserve)


def _pass_on(tabs: tuple[Tab, ...], found: object, before: Tab | None) -> None:
    """Have those look again who wait behind one that does so no longer: it has what it waited for, or waits elsewhere."""
    if not isinstance(found, Tab):
        for tab in tabs:
            tab.wake()
    elif before is not None and found is not before:
        before.wake()


def _warn(runtime: Runtime, tabs: tuple[Tab, ...], action: str) -> None:
    now = clock().monotonic()
    for tab in tabs:
        for text in tab.warnings(now):
            try:
                runtime.warn(action, BudgetWarning, text)
            except BudgetWarning:  # to be an error: but what has not begun can't fail, and nobody else has done anything
                _log.warning("run %r: %s", runtime.run_name, text)


class Waiter:
    """One that waits for room under a tab. Made under `LOCK`; the tab may be shared by runs on several loops."""

    def __init__(self, tab: Tab, loop: asyncio.AbstractEventLoop) -> None:
        self.tab = tab
        self._loop = loop
        self._woken: asyncio.Future[None] = loop.create_future()
        tab.waiting.append(self._wake)

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(_set, self._woken)
        except RuntimeError:  # its loop was closed, and it will not look again
            self.tab.wake()

    async def wait(self) -> None:
        try:
            await self._woken
        except asyncio.CancelledError:
            with LOCK:
                if self._wake in self.tab.waiting:
                    self.tab.waiting.remove(self._wake)
                else:
                    self.tab.wake()  # it was this one's turn
            raise


def _set(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


class Closing:
    """A run that closes down, since a budget has no room for another attempt of `task`."""

    def __init__(self, runtime: Runtime, tab: Tab, task: str) -> None:
        self._runtime = runtime
        self._tab = tab
        self._task = task
        self._looks = False
        _log.info("run %r: %s is spent; nothing begins any more, and what is at work is let finish", runtime.run_name, tab.name)
        self.look()

    def look(self) -> None:
        """Something ended, or waits: see whether anything is still at work."""
        if not self._looks:
            self._looks = True
            self._runtime.loop.call_soon(self._look)

    def _look(self) -> None:
        self._looks = False
        runtime = self._runtime
        if runtime.stop is None and runtime.lost is None and not any(action.is_at_work for action in runtime.live.values()):
            error = self._error()
            runtime.request(StopRequest(Status.STOPPED, error.reason, error))

    def _error(self) -> BudgetSpent:
        """What was spent at the end: those at work went on spending."""
        with LOCK:
            over = self._tab.over(self._task, clock().monotonic())
        assert over is not None  # what is spent only grows
        return _spent_error(self._runtime.run_name, self._tab, over)
