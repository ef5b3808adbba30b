"""One attempt as the near side keeps it: what it asked for, what it saved, and whether it still counts.

It is the `Link` behind the attempt's `ctx()` and the `Keeper` of its checkpoint. All of it lives on the run's event loop, but for the
checks, which any thread of the body may make.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from holdfast.actions.bars import Bars, Track
from holdfast.actions.budgets import count_report, spent_event
from holdfast.actions.drawn import Drawn, broken_text
from holdfast.actions.exits import Exits
from holdfast.actions.grace import wait_within_grace
from holdfast.actions.recorded import recorded_call
from holdfast.actions.runtime import Runtime, Underway
from holdfast.actions.saves import UNSAVED, Saves
from holdfast.actions.shares import Shares
from holdfast.actions.undos import register
from holdfast.actions.waiting import receive_call, sleep_call
from holdfast.bridge import running_loop
from holdfast.checkpoints import Checkpoint, Generation
from holdfast.clocks import clock
from holdfast.contexts import Budget, Context, TaskContext
from holdfast.costs import report
from holdfast.errors import ActionEnded, AttemptAbandoned, BudgetWarning, FigureBroken, HoldfastError, InvalidOption, NotDurable, RunStopped
from holdfast.events import CheckpointSaved, Described, Event, Messaged, MessagesCleared, Progressed, Warned
from holdfast.figures import display_path, render, with_suffix
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.identity import action_name
from holdfast.limits import Slot
from holdfast.lines import warn
from holdfast.messages import MessageType, check_message, shortened
from holdfast.orders import ActionID, Capsule, Order, Policy
from holdfast.progress import Bar, BarValues
from holdfast.retention import Generation3, Retention
from holdfast.rounds import Rounds, resumed
from holdfast.summaries import Said, with_schemas, with_summary
from holdfast.tabs import LOCK, Holding
from holdfast.topics import Entry, check_topic

# Most attempts ask for nothing: they share these, which stay empty.
_NO_CHILDREN: dict[str, Underway] = {}
_ALL_DELIVERED: dict[str, None] = {}


class Beside(Frozen):
    """What went wrong on an attempt's way out, beside its end. What is `expected` is no failure: the end itself brought it about."""

    where: str
    error: BaseException
    is_expected: bool = False

    @property
    def text(self) -> str:
        return f"{self.where} raised {type(self.error).__name__}: {self.error}"


_SAYING: Final = threading.Lock()
"""Threads of one body may speak at once. Nobody holds it for longer than it takes to make a small record."""


class Scope:
    """The near side of one attempt. Ten thousand may be alive: what only some need is made when it is needed."""

    __slots__ = (
        "__weakref__", "_action", "_checkpoint", "_paused", "_rounds", "_saved", "_waiting", "abandoned", "bars", "besides", "budgets",
        "capsule", "children", "drawn", "ended", "exits", "holding", "identified", "is_leaving", "is_over", "keys", "loaded",
        "number", "order", "parent", "present_try", "received", "replayed", "reported", "runtime", "said", "saves", "shares",
        "slot", "spoke", "undelivered", "unrecorded", "unstarted", "was_refused",
    )  # fmt: skip

    abandoned: bool
    budgets: tuple[Budget, ...]
    ended: bool
    holding: Holding | None
    identified: int
    is_leaving: bool
    is_over: bool
    number: int
    order: Order
    parent: Scope | None
    present_try: int
    received: Entry | None
    runtime: Runtime
    saves: Saves
    unstarted: int
    was_refused: bool

    def __init__(
        self, runtime: Runtime, action: ActionID | None, order: Order, number: int, present_try: int, saves: Saves, parent: Scope | None
    ) -> None:
        self.runtime = runtime
        self.parent = parent
        self.order = order
        self.number = number
        self.present_try = present_try
        self.saves = saves
        self.capsule: Capsule | None = None
        self.ended = False
        self.abandoned = False
        self.is_leaving = False  # its body was asked to end
        self.is_over = False
        self.unstarted = 0
        self.was_refused = False
        self.identified = 0
        self.children: dict[str, Underway] = _NO_CHILDREN
        self.undelivered: dict[str, None] = _ALL_DELIVERED
        self.received = None
        self.replayed: list[str] | None = None
        self.keys: dict[str, tuple[str, bytes]] | None = None
        self._rounds: Rounds | None = None
        self.loaded: Generation | None = None
        self.bars: Bars | None = None
        self.said: Said | None = None
        self.spoke: bool | None = None  # whether the action has messages; None: as its record says
        self.shares: Shares | None = None
        self.slot: Slot | None = None
        self.drawn: Drawn | None = None
        self.exits: Exits | None = None
        self.besides: list[Beside] | None = None
        self.budgets = ()
        self.holding = None
        self.reported: set[str] | None = None
        self.unrecorded: deque[Event] | None = None
        self._action = action
        self._saved = 0
        self._waiting = 0
        self._paused = False
        self._checkpoint: Checkpoint | None = None

    @property
    def policy(self) -> Policy:
        return self.order.definition.policy

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self.runtime.loop

    @property
    def rounds(self) -> Rounds:
        if self._rounds is None:
            self._rounds = Rounds()
        return self._rounds

    def ask_for(self, name: str) -> None:
        """Note a call that was made, until its outcome is delivered."""
        if self.undelivered is _ALL_DELIVERED:
            self.undelivered = {}
        self.undelivered[name] = None

    def bear(self, child: Underway) -> None:
        """Note an action in flight."""
        if self.children is _NO_CHILDREN:
            self.children = {}
        self.children[child.name] = child

    def share(self, max_attempts: int) -> Shares:
        """What its calls may execute together, in this attempt's try."""
        if self.shares is None:
            self.shares = Shares.recorded(max_attempts, self.runtime.state, self._action.name if self._action is not None else "")
        return self.shares

    # for ctx()

    def identify(self) -> ActionID:
        if self._action is None:
            self._action = self._ephemeral_id()
        return self._action

    def follow(self, before: Scope) -> None:
        """Share with the attempt before what all attempts of an action have in common: also with one that was abandoned just now."""
        with LOCK:
            self.reported = before.reported = before.reported if before.reported is not None else set()
        if self._action is None:
            self._action = before._action

    def _ephemeral_id(self) -> ActionID:
        """Outside a run nobody looks an id up: calls are told apart by their order, and inputs need not be digestible."""
        parent = self.parent.identify() if self.parent is not None else None
        number = 0
        if self.parent is not None:
            self.parent.identified += 1
            number = self.parent.identified
        name = action_name(parent.name if parent is not None else "", self.policy.name, b"k", (), (), number)
        return ActionID(name, self.runtime.run_name, parent)

    @property
    def stopping(self) -> bool:
        return self.runtime.stop is not None

    def check(self, what: str) -> None:
        if self.abandoned:
            raise AttemptAbandoned(what=what, task=self.policy.name)
        if self.ended:
            raise ActionEnded(what=what, task=self.policy.name)

    def patience(self) -> float:
        return self.runtime.grace if self.runtime.stop is not None or self.exits is not None else 0.0

    def cancel_children(self) -> None:
        for child in list(self.children.values()):
            if child.task is not None:
                child.task.cancel()

    def leave(self) -> None:
        self.is_leaving = self.is_leaving or not self.is_over
        if self.exits is not None:
            self.exits.begin()

    def on_exit(self, hook: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.check("ctx().on_exit")
        if not callable(hook):
            raise InvalidOption(option="hook", value=hook, reason="give a function, and its arguments behind it")
        with _SAYING:
            if self.exits is None:
                self.exits = Exits(self.runtime, self.task_name, self._ended_context(), self._exit_failed)
        self.exits.add(hook, args, kwargs)

    def _ended_context(self) -> TaskContext:
        """This attempt, as it is seen when it has ended."""
        assert self.capsule is not None
        seen = Scope(self.runtime, self.identify(), self.order, self.number, self.present_try, self.saves, self.parent)
        seen.capsule, seen.ended = self.capsule, True
        return TaskContext(self.capsule, seen)

    def _exit_failed(self, hook: str, error: BaseException) -> None:
        self.keep_beside(Beside(f"its on_exit {hook}", error))

    def keep_beside(self, beside: Beside) -> None:
        """Keep what must not take the place of the attempt's end."""
        self.besides = [*(self.besides or ()), beside]

    def figure(self, path: str, figure: object) -> None:
        self.check("ctx().figure")
        shown = display_path(path)
        try:
            rendered = render(figure)
        except Exception as error:
            with suppress(FigureBroken):  # not even where warnings are errors
                self._warn_from_anywhere(FigureBroken, [broken_text(self.task_name, path, error)])
            return
        self.check("ctx().figure")  # drawing takes its time
        if self.runtime.durable:
            full = with_suffix(shown, rendered)
            with _SAYING:
                drawn = self.drawn = self.drawn if self.drawn is not None else self._first_drawn()
            drawn.give(full, rendered)
            self._on_loop(lambda: self._take(drawn))
        else:
            self._warn_once_that_nothing_is_kept("drew a figure outside a run: it goes with this process")

    def _first_drawn(self) -> Drawn:
        assert self.capsule is not None
        return Drawn(self.runtime, self.identify().name, self.task_name, self.capsule.fencing_token)

    def _take(self, drawn: Drawn) -> None:
        if self.ended or self.abandoned:  # while a thread gave it
            drawn.give_up()
        drawn.take()

    def _warn_from_anywhere(self, category: type[Warning], texts: Sequence[str]) -> None:
        """Give warnings at the line of the body that is at work. Raises: the first of them, where they are errors; all are kept by then."""
        for text in texts:
            event: Event = Warned(action=self.identify().name, at=clock().now(), category=category.__name__, text=text)
            self._on_loop(partial(self._append_late, event))
        for text in texts:
            warn(text, category)

    def _append_late(self, event: Event) -> None:
        if self.runtime.lost is None:
            with suppress(RunStopped):  # the journal is closed: the run ended without waiting for that thread
                self.runtime.append(event)

    def _on_loop(self, work: Callable[[], None]) -> None:
        """Have it done on the run's loop, in its turn: before whatever this thread does next is heard of there."""
        if running_loop() is self.loop:
            work()
            return
        try:
            self.loop.call_soon_threadsafe(work)
        except RuntimeError:  # the loop is closed
            raise AttemptAbandoned(what="ctx()", task=self.policy.name) from None

    def add_cost(self, cost: Any, tokens: Any, tokens_in: Any, tokens_out: Any, model: Any, key: Any) -> None:
        self.check("ctx().add_cost")
        told = report(cost, tokens, tokens_in, tokens_out, model, key)
        name = self.identify().name if self.runtime.durable or told.key else ""
        is_first, warned = count_report(self, name, told)
        if is_first and self.runtime.durable:
            self._record(spent_event(name, self.number, told))
        self._warn_from_anywhere(BudgetWarning, warned)

    def is_first_report(self, key: str) -> bool:
        record = self.runtime.state.actions.get(self.identify().name) if self.runtime.state is not None else None
        if self.reported is None:
            self.reported = set()
        is_first = key not in self.reported and (record is None or record.bill is None or key not in record.bill.keys)
        self.reported.add(key)
        return is_first

    def _record(self, event: Event) -> None:
        """Record what a body reported, from any of its threads: before the attempt's end, where that has not been recorded yet."""
        if running_loop() is self.loop:
            self.runtime.append(event)
            return
        with _SAYING:
            if self.unrecorded is None:
                self.unrecorded = deque()
        self.unrecorded.append(event)
        self._on_loop(self.record_late)

    def record_late(self) -> None:
        while self.unrecorded:
            event = self.unrecorded.popleft()
            if self.runtime.lost is None:
                with suppress(HoldfastError):  # the run has ended, and with it its journal: a stray thread is late
                    self.runtime.append(event)

    def recorded(self, what: str, fn: Callable[[], Any], *, in_thread: bool) -> Coroutine[Any, Any, Any]:
        self.check(f"ctx().{what}")
        order = Order(recorded_call(what, fn, in_thread=in_thread), (), {})
        return self.runtime.ask(self, order, Context.current(), None)

    def on_rollback(self, order: Order) -> Coroutine[Any, Any, None]:
        return register(self, order, Context.current())

    def abandon(self) -> None:
        """Let nothing count that the body still does, and remember that it may."""
        if not self.abandoned:
            self.abandoned = True
            if not self.is_over:
                self.runtime.note_stray(self)

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        self.check("ctx().sleep")
        self._warn_once_that_nothing_is_kept("sleeps outside a run: what is left of it goes with this process")
        return self.runtime.ask(self, Order(sleep_call(seconds), (), {}), Context.current(), None)

    def receive(self, topic: str, as_type: Any, timeout: float | None) -> Coroutine[Any, Any, Any]:
        self.check("ctx().receive")
        check_topic(topic)
        self._warn_once_that_nothing_is_kept("receives outside a run: nobody can send to it")
        return self.runtime.ask(self, Order(receive_call(topic, as_type, timeout), (), {}), Context.current(), None)

    def advance(self, name: str, step: float, total: float | None) -> Bar:
        return self._shown().advance(name, step, total)

    def track(self, name: str, total: float | None, left: int | None) -> Track:
        return self._shown().track(name, total, left)

    def _shown(self) -> Bars:
        bars = self.bars
        if bars is None:
            name = self.identify().name
            with _SAYING:  # two threads may be the first
                bars = self.bars = self.bars if self.bars is not None else Bars(self.runtime, name, self._on_loop)
        return bars

    def last_progress(self) -> Progressed | None:
        """The event of the bars' last values, if there are any that are not recorded."""
        return self.bars.close() if self.bars is not None else None

    def message(self, type: MessageType, content: str) -> None:
        check_message(type, content)
        name, text = self.identify().name, shortened(content)
        with _SAYING:  # in the order in which they are said
            self.spoke = True
            self._say(Messaged(action=name, at=clock().now(), type=type.value, content=text))

    def clear_messages(self) -> None:
        name = self.identify().name
        with _SAYING:
            if self.spoke is None:
                record = self.runtime.state.actions.get(name) if self.runtime.state is not None else None
                self.spoke = record is not None and record.notes is not None and bool(record.notes.messages)
            if self.spoke:
                self.spoke = False
                self._say(MessagesCleared(action=name, at=clock().now()))

    def _say(self, event: Event) -> None:
        self._on_loop(lambda: self._append_late(event))

    def summarize(self, text: str) -> None:
        with _SAYING:
            self.said = with_summary(self.said, text)

    def implement(self, *schemas: str) -> None:
        with _SAYING:
            self.said = with_schemas(self.said, *schemas)

    def last_said(self) -> Described | None:
        """The event of what the body said of its result, if it said anything."""
        said = self.said
        if said is None:
            return None
        return Described(action=self.identify().name, at=clock().now(), summary=said.summary, schemas=said.schemas)

    # slots: a body that waits for actions needs none

    def wait_begins(self) -> None:
        self._waiting += 1
        if self._waiting == 1:
            self._pause()

    def _pause(self) -> None:
        if self.capsule is not None:
            self._paused = self.runtime.engine.pause(self.capsule) or self._paused
            if self.slot is not None:
                self.slot.pause()
            if self.holding is not None:
                self.holding.pause()

    @property
    def waits_for_actions(self) -> bool:
        """Whether its body waits for actions, and has been given the outcomes of all that ended."""
        return 0 < self._waiting <= len(self.children)

    def wait_ends(self) -> bool:
        """Whether the body goes on now, and needs its slots again: `proceed` takes them."""
        self._waiting -= 1
        return not self._waiting and (self._paused or self.slot is not None or self.holding is not None)

    async def proceed(self) -> None:
        if self.slot is not None:
            await self.slot.proceed()
        if self._paused and self.capsule is not None:
            self._paused = False
            await self.runtime.engine.proceed(self.capsule)
        if self._waiting:  # another call was made while this waited
            self._pause()
        elif self.holding is not None:
            self.holding.proceed()

    # for the checkpoint

    @property
    def checkpoint(self) -> Checkpoint:
        if self._checkpoint is None:
            self._checkpoint = Checkpoint(self.checkpoint_folder(), self.runtime.checkpoint_blobs(), self)
        return self._checkpoint

    @property
    def checkpoint_if_used(self) -> Checkpoint | None:
        return self._checkpoint

    def checkpoint_folder(self) -> Folder:
        return self.runtime.some_folder().child(f"actions/{self.identify().name}/checkpoints")

    @property
    def task_name(self) -> str:
        return self.policy.name

    @property
    def version(self) -> str | None:
        return self.policy.version

    @property
    def epoch(self) -> int:
        return self.runtime.epoch

    @property
    def retention(self) -> Retention:
        return self.policy.keep

    @property
    def sync(self) -> bool:
        return self.runtime.sync

    @property
    def newest(self) -> Generation3 | None:
        return self.saves.newest

    def may_load(self, generation: Generation3) -> bool:
        known = generation[0] == self.epoch or (self.saves.base is not None and generation <= self.saves.base)
        return known and not self._is_set_aside(generation)

    def _is_set_aside(self, generation: Generation3) -> bool:
        record = self.runtime.state.actions.get(self.identify().name) if self.runtime.state is not None else None
        return record is not None and any(since <= generation <= until for since, until in record.set_aside)

    def pinned(self) -> Generation3 | None:
        if self.loaded is None or not self.rounds.doubtful:
            return None
        return self.rounds.sound or self.loaded.order

    async def before_save(self) -> None:
        if not self.runtime.durable:
            self._warn_once_that_nothing_is_kept("saved a checkpoint outside a run: it goes with this process")
        elif self._saved == 0 or self.undelivered:  # what the manifest says of calls under way means nothing without their record
            await self.runtime.barrier()

    def _warn_once_that_nothing_is_kept(self, what: str) -> None:
        if self.runtime.durable or self.runtime.told_not_durable:
            return
        self.runtime.told_not_durable = True
        root = self
        while root.parent is not None:
            root = root.parent
        definition = root.order.definition
        call = f"{definition.home[1].rpartition('.')[2]}{'' if definition.is_async else '.call'}(...)"
        text = f"{self.task_name} {what}; to keep it, write run({call}, run_name='...')"
        self.runtime.warn(self.identify().name, NotDurable, text)

    async def before_delete(self) -> None:
        await self.runtime.barrier()

    def bars_shown(self) -> Mapping[str, BarValues]:
        return self.bars.values() if self.bars is not None else {}

    def rewind(self, bars: Mapping[str, BarValues]) -> None:
        if bars or self.bars is not None:
            self._shown().rewind(bars)

    def begin_save(self) -> tuple[int, Sequence[str]]:
        return self.rounds.saved(), sorted(self.undelivered)

    def saved(self, generation: Generation) -> None:
        self._saved = generation.n + 1
        if self.saves is UNSAVED:
            self.saves = Saves(None)
        if self.saves.newest is None or generation.order > self.saves.newest:  # an abandoned attempt's may come after its successor's
            self.saves.newest = generation.order
        self.runtime.append(
            CheckpointSaved(
                action=self.identify().name, at=clock().now(), generation=generation.order, size=generation.size, digest=generation.digest
            )
        )  # fmt: skip

    def loaded_from(self, generation: Generation) -> bool:
        """Whether a generation is of this very attempt."""
        return generation.epoch == self.epoch and generation.attempt == self.number

    def note_loaded(self, generation: Generation, ordinal: int, undelivered: Sequence[str]) -> None:
        if self.loaded_from(generation):
            return
        self.loaded = self.loaded or generation
        state = self.runtime.state
        if state is None:
            return
        name = self.identify().name
        loops = state.actions[name].loops if name in state.actions else ()
        self.rounds.load(resumed(lambda: state.made_by(name), ordinal, undelivered, loops))

    def warn(self, category: type[Warning], text: str) -> None:
        self.runtime.warn(self.identify().name, category, text)

    def doubt(self) -> None:
        """Remember where the saves begin that rest on a doubtful answer."""
        rounds = self.rounds
        if rounds.unsound is None:
            rounds.unsound = (self.epoch, self.number, self._saved)
            rounds.sound = self.saves.newest if self._saved > 0 else None

    async def settle_children(self) -> list[Underway]:
        """Cancel the actions still in flight, wait for them within the grace, and return those that did not end."""
        pending = [child for child in self.children.values() if child.task is not None]
        tasks = {child.task for child in pending if child.task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await wait_within_grace(tasks, self.runtime, lambda: _leave(pending))
        return [child for child in pending if child.task is not None and not child.task.done()]


def _leave(children: Sequence[Underway]) -> None:
    for child in children:
        if child.task is not None and not child.task.done():
            child.leave()
