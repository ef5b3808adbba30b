"""A run that this process owns: driven to its end, stopped, taken from us, let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from holdfast.actions.asking import ask
from holdfast.actions.budgets import enter_run
from holdfast.actions.decisions import asked
from holdfast.actions.performing import Action
from holdfast.actions.places import Place
from holdfast.actions.runtime import Runtime, StopRequest
from holdfast.actions.undoing import roll_back, rolling_back
from holdfast.blobs import Blobs
from holdfast.clocks import clock
from holdfast.codec import from_json
from holdfast.contexts import TRACE_KEYS, Context
from holdfast.costs import NOTHING
from holdfast.engines.local import LocalEngine
from holdfast.engines.surrounded import Surrounded
from holdfast.errors import (
    RollbackIncomplete,
    RunCancelled,
    RunFenced,
    RunStopped,
    StoreError,
)
from holdfast.events import AttemptEnded, Event, RunOpened
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.journals.reading import Read
from holdfast.journals.writing import Journal
from holdfast.leaves import Leaves
from holdfast.orders import ActionID, Order
from holdfast.runs.asked import Asked, Options
from holdfast.runs.controls import CONTROLS
from holdfast.runs.presence import Presence
from holdfast.states import Fold
from holdfast.status import Status
from holdfast.sweeps import Broom
from holdfast.telling import Telling, Told
from holdfast.topics import send

_log = logging.getLogger("holdfast")
_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()


def hosts_run(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a durable run lives on this loop: blocking it would stall the run."""
    return _loops.get(loop, 0) > 0


class Root(Frozen):
    """The call that a run is of: what to do, and where it was made."""

    order: Order
    context: Context


class Run:
    """A run that this process owns. Without a root it is there to be rolled back."""

    state: Fold
    runtime: Runtime

    def __init__(
        self,
        root: Root | None,
        known: Asked,
        folder: Folder,
        store: Folder,
        journal: Journal,
        read: Read,
        presence: Presence,
        options: Options,
    ) -> None:
        blobs = Blobs(store, sync=options.sync, run_id=known.run_id, epoch=journal.epoch)
        self._broom = Broom(store, run_id=known.run_id, epoch=journal.epoch)
        blobs.on_drop = self._broom.drop
        self._blobs = blobs
        self.known = known
        self.folder = folder
        self.state = Fold.of(read.events(), Leaves())
        self.runtime = Runtime(
            run_name=known.run_name,
            run_id=known.run_id,
            engine=LocalEngine(),
            ask=ask,
            roll_back=roll_back,
            started_at=known.created,
            grace=options.grace,
            journal=journal,
            state=self.state,
            folder=folder,
            blobs=blobs,
            sync=options.sync,
            is_resumed=bool(self.state.actions),
            raw_data_base=options.raw_data_path,
        )
        self.runtime.owners = {segment.header.epoch: segment.header for segment in read.segments}
        self._root = root
        self._budget = options.budget
        self._journal = journal
        self._presence = presence
        self._telling = Telling(options.observers)
        self._over: asyncio.Future[None] = self.runtime.loop.create_future()
        self._main: asyncio.Task[Any] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._halfway: asyncio.TimerHandle | None = None
        self._seen: set[str] = set()
        self._listeners: list[Callable[[Event], None]] = [self._telling.tell] if self._telling else []
        journal.on_durable = self._fold
        journal.on_told = self._tell
        journal.on_lost = self._lose
        self.runtime.on_request = self.request
        if self._telling:
            self.runtime.tell = journal.tell

    def _fold(self, events: Iterable[Event]) -> None:
        fold = self.state.fold
        for event in events:
            fold(event)

    def _tell(self, events: Iterable[Event]) -> None:
        if self._listeners:
            for event in events:
                self._tell_one(event)

    def _tell_one(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Have `listener` called on the loop with every event from now on. Returns what ends that."""
        self._listeners.append(listener)
        self.runtime.tell = self._journal.tell
        return lambda: self._listeners.remove(listener)

    async def send(self, topic: str, value: object) -> None:
        """Send a value to this run. Raises: as `topics.send`."""
        await send(self.folder, topic, value)

    def announce(self, store: str, *, is_new: bool, recorded: int) -> None:
        """Tell observers, before all else, which run this is."""
        cost = self.state.cost() if self._telling else NOTHING
        opened = RunOpened(
            action=self.known.root,
            at=clock().now(),
            run_name=self.known.run_name,
            task=self.known.task,
            store=store,
            is_new=is_new,
            recorded=recorded,
            cost=str(cost.cost) if cost.cost else "",
            tokens=cost.tokens,
            saved=str(self.state.saved) if self.state.saved else "",
            run_id=self.known.run_id,
            epoch=self.runtime.epoch,
            owned_before=max((epoch for epoch in self.runtime.owners if epoch < self.runtime.epoch), default=None),
            context=self.known.begun_with if self.known.begun_with is not None else self.known.context,
            trace={key: value for key, value in self.known.context.items() if key in TRACE_KEYS},
        )
        self._telling.open(opened)
        if surroundings := self._telling.surroundings():
            self.runtime.engine = Surrounded(self.runtime.engine, surroundings)
        self.runtime.append(opened)

    @property
    def told(self) -> tuple[Told, ...]:
        """How each observer fared so far."""
        return self._telling.told

    async def adopt(self) -> None:
        """End, as CRASHED, what earlier owners left without an end: children before parents, all before any new attempt."""
        now = clock().now()
        for record in reversed(list(self.state.unended())):
            self.runtime.append(
                AttemptEnded(action=record.name, at=now, number=record.number, status=Status.CRASHED, then=Status.CRASHED)
            )  # fmt: skip
        await self.runtime.barrier()

    async def drive(self) -> Any:
        """Run the root to its end, and return its result. Whoever awaits this and is cancelled stops the run.

        Raises: what the root raises; RunStopped, RunCancelled; RunFenced and what the store raises.
        """
        loop = self.runtime.loop
        _loops[loop] = _loops.get(loop, 0) + 1
        cancelled: asyncio.CancelledError | None = None
        try:
            self._begin()
            while not self._over.done():
                try:
                    await asyncio.shield(self._over)
                except asyncio.CancelledError as error:
                    cancelled = error
                    self.request(StopRequest(Status.STOPPED, "the task that awaited it was cancelled"))
            try:
                return self._result()
            finally:
                await self.close()
                if cancelled is not None:
                    raise cancelled
        finally:
            _loops[loop] -= 1

    def _begin(self) -> None:
        action = self._action(self._root) if self._root is not None else None
        work = action.perform() if action is not None else self._roll_back()
        self._main = asyncio.create_task(work, name=f"holdfast run {self.known.run_name}")
        if action is not None:
            action.task = self._main
        self._main.add_done_callback(lambda _: self._end())
        self._watch = asyncio.create_task(self._watch_inbox())

    def _action(self, root: Root) -> Action:
        name, definition = self.known.root, root.order.definition
        record = self.state.actions.get(name)
        self.runtime.budgets = enter_run(self._budget, root.context.budgets, self.state, self.known.run_id)
        base = Context(
            raw_data_path=root.context.raw_data_path,
            custom_context=dict(self.known.context) or root.context.custom_context,
            budgets=self.runtime.budgets,
        )
        decision = asked(record, None, definition.policy)
        self.runtime.meet(definition, name)
        return Action(self.runtime, None, root.order, base, Place(name, name, 0, 0, "", ""), record, decision)

    async def _roll_back(self) -> None:
        """Undo the whole run. Raises: RollbackIncomplete."""
        root = self.known.root
        for event in rolling_back(self.state, root, self.known.task, self.known.version, clock().now()):
            self.runtime.append(event)
        await self.runtime.barrier()
        given = await roll_back(self.runtime, ActionID(root, self.known.run_name, None), self.known.task, None, None)
        if isinstance(given, RollbackIncomplete):
            raise given

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _result(self) -> Any:
        main, runtime = self._main, self.runtime
        assert main is not None
        if runtime.lost is not None:
            if main.done() and not main.cancelled():
                main.exception()
            raise runtime.lost
        if runtime.stop is not None and (not main.done() or main.cancelled()):
            if runtime.stop.cause is not None:
                raise runtime.stop.cause
            if runtime.stop.status is Status.CANCELLED:
                raise RunCancelled(run_name=runtime.run_name)
            raise RunStopped(run_name=runtime.run_name, reason=runtime.stop.reason)
        if main.cancelled():
            raise RunCancelled(run_name=runtime.run_name)
        return main.result()

    async def close(self) -> None:
        """Write what is queued, and let go of everything. Cancellation only cuts the wait for observers short, and follows."""
        cancelled: asyncio.CancelledError | None = None
        if self._watch is not None:
            self._watch.cancel()
        for timer in (self._patience, self._halfway):
            if timer is not None:
                timer.cancel()
        closing = asyncio.ensure_future(self._close_all())
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as error:
                cancelled = error
                self._telling.hurry()
        closing.result()
        if cancelled is not None:
            raise cancelled

    def let_go(self) -> None:
        """End an ownership under which nothing was begun, where nothing can be awaited any more."""
        self._journal.abandon()
        self._presence.drop()
        self._telling.let_go()

    async def _close_all(self) -> None:
        try:
            if self.runtime.lost is None:
                await self._journal.aclose()
            else:
                self._journal.abandon()
        except StoreError as error:  # every outcome that somebody was given is durable: only notes are lost
            _log.warning("run %r: its last notes could not be written: %s", self.runtime.run_name, error)
        finally:
            await self._broom.aclose()
            await self._blobs.aclose()
            await self._presence.end()
            await self.runtime.engine.aclose()
            await self._telling.aclose()

    # ending early

    def request(self, stop: StopRequest) -> None:
        """Ask the run to end: `ctx().stopping` first, then cancellation, and after the grace without those that did not end."""
        if self.runtime.stop is not None or self._over.done():
            return
        self.runtime.stop = stop
        if self._main is not None:  # else it is about to begin, and sees that it need not
            self._main.cancel()
        self._halfway = self.runtime.loop.call_later(self.runtime.grace / 2, self._leave)
        self._patience = self.runtime.loop.call_later(self.runtime.grace, self._give_up)

    def hurry(self) -> None:
        """Wait no longer for what does not end: the grace is over now."""
        self.runtime.grace = 0.0
        if self._patience is not None:
            self._patience.cancel()
        self._give_up()

    def _leave(self) -> None:
        """Have the hooks called of what has not ended yet."""
        for action in reversed(list(self.runtime.live.values())):
            action.leave()

    def _give_up(self) -> None:
        self.runtime.grace = 0.0
        for action in reversed(list(self.runtime.live.values())):
            action.abandon(self.runtime.stopped_as or Status.STOPPED)
            if action.task is not None:
                action.task.cancel()  # whoever waits for its end looks at the grace again
        self._end()

    def _lose(self, error: BaseException) -> None:
        self.runtime.lost = self.runtime.lost or error
        if self._main is not None and not self._main.done():
            self._main.cancel()
            if self._patience is not None:
                self._patience.cancel()
            self._patience = self.runtime.loop.call_later(self.runtime.grace, self._give_up)

    async def _watch_inbox(self) -> None:
        """Look now and then whether another owner took over, and for what others asked of this one."""
        while self.runtime.stop is None and self.runtime.lost is None:
            await asyncio.sleep(self._presence.interval)
            try:
                await self._journal.look()
                await self._presence.renew()
                for entry in await self.folder.list(CONTROLS):
                    if entry.name not in self._seen:
                        word = await self.folder.get(f"{CONTROLS}/{entry.name}")
                        self._seen.add(entry.name)
                        self._obey(from_json(word))
            except (StoreError, ValueError, TypeError) as error:  # also what is no control at all: one bad file must not end the watch
                _log.warning("run %r: the inbox can't be read just now: %s", self.runtime.run_name, error)

    def _obey(self, control: object) -> None:
        if not isinstance(control, dict) or control.get("epoch") != self.runtime.epoch:
            return
        if control.get("verb") == "stop":
            self.request(StopRequest(Status.STOPPED, "stop was asked for"))
        elif control.get("verb") == "fenced":
            self._journal.lose(RunFenced(run_name=self.runtime.run_name, segment=int(control.get("segment", 0))))
        elif control.get("verb") == "cancel":
            self.request(StopRequest(Status.CANCELLED, "cancel was asked for"))
