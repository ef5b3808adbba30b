"""What all actions of one run share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeAlias
from weakref import WeakKeyDictionary

from holdfast.actions.inbox import Inbox
from holdfast.blobs import Blobs
from holdfast.clocks import clock
from holdfast.contexts import Budget, Context
from holdfast.engines.protocol import Engine
from holdfast.errors import CodeChanged, DuplicateTask
from holdfast.events import Event, TaskSeen, Warned
from holdfast.folders.opening import open_ephemeral
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.identity import source_digest
from holdfast.journals.frames import Header
from holdfast.journals.writing import Journal
from holdfast.limits import Limit, Slot
from holdfast.lines import warn
from holdfast.orders import ActionID, Definition, Order, Ownership
from holdfast.states import Fold
from holdfast.status import Status


class StopRequest(Frozen):
    """The run was asked to end: as what, and why."""

    status: Status
    reason: str
    cause: BaseException | None = None


class Registered:
    """An undo of a run that keeps nothing: by which attempt it was registered, and the call. Each is itself, whatever it is called with."""

    __slots__ = ("attempt", "context", "order")

    attempt: Any
    context: Context
    order: Order

    def __init__(self, attempt: Any, order: Order, context: Context) -> None:
        self.attempt = attempt
        self.order = order
        self.context = context


class Stray(Protocol):
    """An attempt that was abandoned."""

    number: int
    is_over: bool

    @property
    def task_name(self) -> str: ...

    def identify(self) -> ActionID: ...


class Underway(Protocol):
    """An action in flight."""

    name: str
    task: asyncio.Task[Any] | None

    @property
    def task_name(self) -> str: ...

    @property
    def is_at_work(self) -> bool:
        """Whether it may still come to its end by itself, though no other attempt begins."""
        ...

    def leave(self) -> None:
        """It was asked to end, and does not: call the hooks of its attempt."""
        ...

    def abandon(self, status: Status) -> None:
        """Record its end for it, and let nothing count that it still does."""


class Closing(Protocol):
    """A run in which no attempt begins any more, since a budget is spent."""

    def look(self) -> None:
        """Something ended, or waits: see whether anything is still at work."""
        ...


Ask: TypeAlias = Callable[[Any, Order, Context, object], Coroutine[Any, Any, Any]]
"""How a body asks for an action: scope, order, context node, and the coroutine that is being awaited. It stands above the runtime."""


RollBack: TypeAlias = Callable[[Any, ActionID, str, Any, BaseException | None], Coroutine[Any, Any, BaseException]]
"""How an action is undone: runtime, its id, its task's name, its attempt, how it failed. It stands above the runtime, too."""


_strays: WeakKeyDictionary[Stray, str] = WeakKeyDictionary()  # a body that may still act holds its attempt


class Runtime:
    """One run, as its actions need it. An ephemeral run has neither journal nor state."""

    durable: bool
    epoch: int
    ownership: Ownership
    loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        *,
        run_name: str,
        run_id: str,
        engine: Engine,
        ask: Ask,
        roll_back: RollBack,
        started_at: float,
        grace: float,
        journal: Journal | None = None,
        state: Fold | None = None,
        folder: Folder | None = None,
        blobs: Blobs | None = None,
        sync: bool = True,
        is_resumed: bool = False,
        raw_data_base: str | None = None,
    ) -> None:
        self.run_name = run_name
        self.run_id = run_id
        self.engine = engine
        self.ask = ask
        self.roll_back = roll_back
        self.started_at = started_at
        self.grace = grace
        self.journal = journal
        self.durable = journal is not None
        self.epoch = journal.epoch if journal is not None else 0
        self.state = state
        self.folder = folder
        self.blobs = blobs
        self.sync = sync
        self.is_resumed = is_resumed
        self.raw_data_base = raw_data_base
        run_url = folder.url if folder is not None and self.durable else None
        self.ownership = Ownership(self.epoch, is_resumed, self.durable, run_id, started_at, run_url)
        self.loop = asyncio.get_running_loop()
        self.stop: StopRequest | None = None
        self.closing: Closing | None = None
        self.budgets: tuple[Budget, ...] = ()
        self.lost: BaseException | None = None
        self.told_not_durable = False
        self.tell: Callable[[Event], None] | None = None
        self.on_request: Callable[[StopRequest], None] | None = None
        self.live: dict[str, Underway] = {}
        self.undos: dict[Registered, None] = {}
        self.owners: Mapping[int, Header] = {}
        self._definitions: dict[str, Definition] = {}
        self._limits: dict[str, Limit] = {}
        self._context_changed: set[str] = set()
        self._ephemeral_blobs: Blobs | None = None
        self._inbox: Inbox | None = None

    def request(self, stop: StopRequest) -> None:
        """Ask the run to end."""
        if self.on_request is not None:
            self.on_request(stop)
        else:
            self.stop = self.stop or stop

    @property
    def stopped_as(self) -> Status | None:
        return self.stop.status if self.stop is not None else None

    def some_folder(self) -> Folder:
        """The run's folder; an ephemeral run gets one in memory when it needs it."""
        if self.folder is None:
            self.folder = open_ephemeral()
        return self.folder

    @property
    def inbox(self) -> Inbox:
        """What was sent to this run, which is durable."""
        if self._inbox is None:
            assert self.state is not None
            self._inbox = Inbox(self.some_folder(), self.state.received)
        return self._inbox

    def checkpoint_blobs(self) -> Blobs:
        """Where the chunks of checkpoints go: an ephemeral run has no blobs of a store."""
        if self.blobs is not None:
            return self.blobs
        if self._ephemeral_blobs is None:
            self._ephemeral_blobs = Blobs(self.some_folder(), sync=False)
        return self._ephemeral_blobs

    async def let_go(self) -> None:
        """End what an ephemeral run has of its own: nothing of it stays in memory."""
        if self._ephemeral_blobs is not None:
            await self._ephemeral_blobs.aclose()

    def give_up(self, error: BaseException) -> None:
        """The store does not take what has to be recorded: the run ends here, and can be continued."""
        self.lost = self.lost or error
        if self.journal is not None:
            self.journal.lose(error)

    def append(self, event: Event) -> None:
        """Record an event in its turn. Live ones are told only."""
        if event.live:
            if self.tell is not None:
                self.tell(event)
        elif self.journal is not None:
            self.journal.append(event)

    async def commit(self, event: Event) -> None:
        """Record an event, and return when it is durable."""
        self.append(event)
        await self.barrier()

    def barrier(self) -> Coroutine[Any, Any, None]:
        """Return when all that was appended is durable."""
        return self.journal.barrier() if self.journal is not None else _nothing()

    def warn(self, action: str, category: type[Warning], text: str) -> None:
        """Keep a warning as an event, and give it. Raises: the warning, where it is to be an error: it is kept by then."""
        self.append(Warned(action=action, at=clock().now(), category=category.__name__, text=text))
        warn(text, category)

    @property
    def strays(self) -> Sequence[Stray]:
        """Abandoned attempts of the run whose bodies may still act in this process, also those of an ownership that has ended."""
        return [stray for stray, run_id in list(_strays.items()) if run_id == self.run_id and not stray.is_over]

    def note_stray(self, attempt: Stray) -> None:
        """Remember an abandoned attempt for as long as its body may act."""
        _strays[attempt] = self.run_id

    def define(self, definition: Definition) -> None:
        """Meet a task. Raises: DuplicateTask."""
        name = definition.policy.name
        known = self._definitions.setdefault(name, definition)
        if known is definition or _code(known) is _code(definition):
            return
        raise DuplicateTask(task=name, first=_place(known), second=_place(definition))

    def meet(self, definition: Definition, action: str) -> None:
        """Note the source of a task that is asked for the first time, and warn where a resumed run meets other code."""
        name = definition.policy.name
        known = self._definitions.get(name)
        if known is definition:
            return
        self.define(definition)
        if known is not None or self.state is None:
            return
        source = source_digest(definition.fn)
        before = self.state.sources.get(name)
        if before is not None and before != source:
            text = f"the code of {name} changed since it was recorded; what COMPLETED is reused (change its version= to run it again)"
            self.warn(action, CodeChanged, text)
        if before != source:
            function = ":".join(definition.home)
            self.append(TaskSeen(action=action, at=clock().now(), task=name, function=function, source=source))

    def slot(self, definition: Definition) -> Slot | None:
        """A share of the bound on running attempts of a task, if it has one."""
        bound = definition.policy.concurrency
        if bound is None:
            return None
        limit = self._limits.get(definition.policy.name)
        if limit is None:
            limit = self._limits[definition.policy.name] = Limit(bound)
        return Slot(limit)

    def first_context_change(self, task: str) -> bool:
        """True once a task: for the hint that only the context kept a call from being reused."""
        if task in self._context_changed:
            return False
        self._context_changed.add(task)
        return True


async def _nothing() -> None: ...


def _code(definition: Definition) -> object:
    return getattr(definition.fn, "__code__", definition.fn)


def _place(definition: Definition) -> str:
    code = getattr(definition.fn, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ":".join(definition.home)
