"""A run: opened under its name, owned, driven to its end, stopped. And the ephemeral run, which keeps nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import re
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from importlib.metadata import version as installed_version
from types import FrameType
from typing import Any, Final, Literal, TypeVar, cast
from weakref import WeakKeyDictionary

from holdfast.actions.asking import ask
from holdfast.actions.decisions import ANEW, Replay, asked
from holdfast.actions.performing import Action
from holdfast.actions.places import Place, digest_of, digests_of
from holdfast.actions.runtime import Runtime, StopRequest
from holdfast.actions.values import read_value
from holdfast.blobs import Blobs
from holdfast.clocks import clock, instant
from holdfast.codec import Codec, from_json, to_json
from holdfast.contexts import TRACE_KEYS, Context
from holdfast.engines.local import LocalEngine
from holdfast.errors import (
    HoldfastError,
    InputsChanged,
    InvalidName,
    InvalidOption,
    JournalDamaged,
    JournalTooNew,
    ObjectExists,
    ObjectMissing,
    RunBusy,
    RunCancelled,
    RunExists,
    RunFenced,
    RunNotFound,
    RunStopped,
    StoreError,
)
from holdfast.events import AttemptEnded, Event, RunOpened
from holdfast.folders.protocol import Folder, Hold
from holdfast.frozen import Frozen
from holdfast.identity import action_name, check_name
from holdfast.journals.reading import Read, read_journal
from holdfast.journals.writing import Journal, boot_id, confirm, take_over
from holdfast.orders import Order
from holdfast.states import Fold
from holdfast.status import Status
from holdfast.telling import Observer, Telling

R = TypeVar("R")
Resume = Literal["auto", "never", "must", "restart", "takeover"]

INBOX_SECONDS: Final = 0.25
UNFINISHED_LOOKED_AT: Final = 20
"""A run without a name looks at so many earlier ones of its task for unfinished runs of the same call."""
FORMAT: Final = "1.0"
LOCK: Final = "owner.lock"

_log = logging.getLogger("holdfast")
_INCARNATION = re.compile(r"\d{6}")
_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()


class Options(Frozen):
    """What `run(...)` was told, checked."""

    run_name: str | None = None
    resume: Resume = "auto"
    observers: tuple[Observer, ...] = ()
    sync: bool = True
    custom_context: Mapping[str, str] | None = None
    raw_data_path: str | None = None
    grace: float = 30.0


class Asked(Frozen):
    """The root call as it is written down in run.json, once. `inputs` is what is compared, `arguments` say which of them differs."""

    run_name: str
    run_id: str
    task: str
    inputs: str
    arguments: Mapping[str, str]
    context: Mapping[str, str]
    root: str
    created: float
    version: str | None

    def to_json(self) -> bytes:
        body = to_json(
            {
                "holdfast": FORMAT,
                "run_name": self.run_name,
                "run_id": self.run_id,
                "task": self.task,
                "inputs": self.inputs,
                "arguments": dict(self.arguments),
                "context": dict(self.context),
                "root": self.root,
                "created": self.created,
                "version": self.version,
                "versions": {"holdfast": installed_version("holdfast"), "python": platform.python_version()},
            }
        )
        return b'{"check":"%b",%b' % (_check(body), body[1:])


def _check(body: bytes) -> bytes:
    """What run.json says of itself: it is believed wherever a run is opened, so a flipped byte must not change it unseen."""
    return blake2b(body, digest_size=16).hexdigest().encode()


async def read_asked(incarnation: Folder) -> Asked:
    """Read run.json. Raises: ObjectMissing, JournalDamaged, JournalTooNew."""
    data, where = await incarnation.get("run.json"), f"{incarnation.url}/run.json"
    try:
        record = from_json(data)
        found = str(record["holdfast"])
        if int(found.partition(".")[0]) > int(FORMAT.partition(".")[0]):
            raise JournalTooNew(where=where, found=found, known=FORMAT)
        if _check(b"{" + data.partition(b",")[2]).decode() != record["check"]:
            raise ValueError("it does not match its digest")
        return Asked(
            run_name=record["run_name"],
            run_id=record["run_id"],
            task=record["task"],
            inputs=record["inputs"],
            arguments=record["arguments"],
            context=record["context"],
            root=record["root"],
            created=record["created"],
            version=record["version"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise JournalDamaged(where=where, segment=0, offset=0, reason="run.json can't be read") from error


# the loops that runs live on


def hosts_run(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a durable run lives on this loop: blocking it would stall the run."""
    return _loops.get(loop, 0) > 0


# incarnations


async def incarnations(store: Folder, run_name: str) -> list[str]:
    """The incarnations of a run, oldest first."""
    return [entry.name for entry in await store.list(f"runs/{run_name}") if entry.is_folder and _INCARNATION.fullmatch(entry.name)]


async def newest_incarnation(store: Folder, run_name: str) -> Folder:
    """The incarnation that is the run. Raises: InvalidName, RunNotFound."""
    check_name("run_name", run_name)
    for found in reversed(await incarnations(store, run_name)):
        folder = store.child(f"runs/{run_name}/{found}")
        if await folder.exists("run.json"):
            return folder
    raise RunNotFound(run_name=run_name, store=store.url)


async def _check_spelling(store: Folder, run_name: str) -> None:
    """Names that differ in case alone are one name on some stores, so they are refused on all."""
    for entry in await store.list("runs"):
        if entry.name != run_name and entry.name.lower() == run_name.lower():
            raise InvalidName(kind="run_name", name=run_name, reason=f"there is a run {entry.name!r}, which differs in case alone")


def new_name(task: str) -> str:
    """A readable, sortable, unique name for a run."""
    return f"{instant(clock().now()):%Y%m%d-%H%M%S}-{_slug(task)}-{secrets.token_hex(3)}"


def _slug(task: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", task.rpartition(":")[2].rpartition(".")[2] or task).strip("-")[:40] or "run"


# opening


class Finished(Frozen):
    """The run has its result on record."""

    value: Any


async def open_run(order: Order, context: Context, store: Folder, options: Options) -> Run | Finished:
    """Find or begin the run, and become its owner.

    Raises: RunExists, RunNotFound, RunBusy, RunFenced, InputsChanged, InvalidName, UnstableInput, UnrecordableResult, and what the
        store raises.
    """
    definition = order.definition
    codec = definition.result_codec()
    run_name = options.run_name if options.run_name is not None else new_name(definition.policy.name)
    check_name("run_name", run_name)
    asked_now = _asked(order, context, run_name, options)
    folder, known, is_new = await _find_or_begin(store, asked_now, options)
    read = await read_journal(folder)
    finished = await _finished(folder, store, known, read, order, codec)
    if finished is not None and await confirm(folder, read, sync=options.sync):
        _log.info("run %r in %s: from record", run_name, store.url)
        return finished
    hold = await _hold(folder, run_name, options)
    try:
        journal, read = await take_over(folder, run_name, read, sync=options.sync)
    except BaseException:
        if hold is not None:
            hold.release()
        raise
    run = Run(order, context, codec, known, folder, store, journal, read, hold, options)
    done = sum(record.status is Status.COMPLETED for record in run.state.actions.values())
    run.announce(store.url, is_new=is_new, recorded=done)
    try:
        await run.adopt()
        finished = await _finished(folder, store, known, read, order, codec)  # a fenced owner may have ended it a moment ago
    except BaseException:
        await run.close()
        raise
    if finished is not None:
        await run.close()
        _log.info("run %r in %s: from record", run_name, store.url)
        return finished
    hint = await _unfinished_hint(store, asked_now) if options.run_name is None else ""
    _log.info("run %r in %s: %s%s", run_name, store.url, "new" if is_new else f"continued, {done} actions on record", hint)
    return run


async def _unfinished_hint(store: Folder, begun: Asked) -> str:
    """Name earlier runs of the same call, begun without a name and not COMPLETED: somebody may have meant to go on with one."""
    alike = re.compile(rf"\d{{8}}-\d{{6}}-{re.escape(_slug(begun.task))}-[0-9a-f]{{6}}")
    names = [e.name for e in await store.list("runs") if alike.fullmatch(e.name) and e.name != begun.run_name]
    unfinished = []
    for name in names[-UNFINISHED_LOOKED_AT:]:
        try:
            incarnation = await newest_incarnation(store, name)
            known = await read_asked(incarnation)
            if (known.task, known.inputs) == (begun.task, begun.inputs) and not await _is_completed(incarnation, known):
                unfinished.append(repr(name))
        except HoldfastError:
            continue  # what can't be read now is no hint
    if not unfinished:
        return ""
    return f"; unfinished runs of the same call: {', '.join(unfinished)} (pass one as run_name to go on with it)"


async def _is_completed(incarnation: Folder, known: Asked) -> bool:
    state = Fold()
    for event in (await read_journal(incarnation)).events_naming(known.root):
        state.fold(event)
    record = state.actions.get(known.root)
    return record is not None and record.status is Status.COMPLETED


def _asked(order: Order, context: Context, run_name: str, options: Options) -> Asked:
    policy = order.definition.policy
    key = policy.key(*order.args, **order.kwargs) if policy.key is not None else None
    if key is not None and not isinstance(key, str):
        raise InvalidOption(option="key", value=key, reason="it has to return a str")
    digest = b"d" + digest_of(order) if key is None else b"k" + key.encode("utf-8", "surrogatepass")
    inputs, arguments = (digest[1:].hex(), digests_of(order)) if key is None else (f"key {key}", {})
    bound = {**context.custom_context, **(options.custom_context or {})}
    root = action_name("", policy.name, digest, (), (), 0)
    return Asked(run_name, secrets.token_hex(16), policy.name, inputs, arguments, bound, root, clock().now(), policy.version)


async def _find_or_begin(store: Folder, wanted: Asked, options: Options) -> tuple[Folder, Asked, bool]:
    """Return the incarnation, what it was asked for, and whether it was begun just now."""
    run_name, resume = wanted.run_name, options.resume
    numbers = await incarnations(store, run_name)
    for number in reversed(numbers):
        folder = store.child(f"runs/{run_name}/{number}")
        try:
            known = await read_asked(folder)
        except ObjectMissing:
            continue  # its creator died between the folder and run.json
        if known.run_name != run_name:
            raise InvalidName(kind="run_name", name=run_name, reason=f"the run's name is spelled {known.run_name!r}")
        if resume == "never":
            raise RunExists(run_name=run_name, status=f"incarnation {number}")
        if resume == "restart":
            break
        return folder, _compared(known, wanted), False
    else:
        if resume == "must":
            raise RunNotFound(run_name=run_name, store=store.url)
        await _check_spelling(store, run_name)
    number = f"{int(numbers[-1]) + 1 if numbers else 0:06}"
    folder = store.child(f"runs/{run_name}/{number}")
    try:
        await folder.create("run.json", wanted.to_json())
    except ObjectExists:  # somebody begins it in this very moment: theirs counts
        if resume == "never":
            raise RunExists(run_name=run_name, status="begun just now by another process") from None
        return folder, _compared(await read_asked(folder), wanted), False
    return folder, wanted, True


def _compared(known: Asked, wanted: Asked) -> Asked:
    """Raises: InputsChanged, naming what differs."""
    if known.task != wanted.task:
        raise InputsChanged(run_name=known.run_name, what="task", was=known.task, now=wanted.task)
    if known.inputs != wanted.inputs:
        what, was, now = _differing(known, wanted)
        raise InputsChanged(run_name=known.run_name, what=what, was=was, now=now)
    was_bound, now_bound = _compared_context(known.context), _compared_context(wanted.context)
    for key in sorted({*was_bound, *now_bound}) if now_bound else ():
        if was_bound.get(key) != now_bound.get(key):
            what, was, now = f"custom context {key}", repr(was_bound.get(key)), repr(now_bound.get(key))
            raise InputsChanged(run_name=known.run_name, what=what, was=was, now=now)
    traces = {key: value for key, value in wanted.context.items() if key in TRACE_KEYS}
    return replace(known, context={**known.context, **traces})


def _compared_context(bound: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in bound.items() if key not in TRACE_KEYS}


def _differing(known: Asked, wanted: Asked) -> tuple[str, str, str]:
    """Name the first argument that differs; values are not kept, so their digests stand for them."""
    if not (known.arguments and wanted.arguments):
        return "input", known.inputs, wanted.inputs
    for name in sorted({*known.arguments, *wanted.arguments}):
        was, now = known.arguments.get(name), wanted.arguments.get(name)
        if was != now:
            return f"argument {name}", _short(was), _short(now)
    return "input", _short(known.inputs), _short(wanted.inputs)


def _short(digest: str | None) -> str:
    return "none" if digest is None else f"digest {digest[:8]}"


async def _finished(folder: Folder, store: Folder, known: Asked, read: Read, order: Order, codec: Codec) -> Finished | None:
    """The root's result, where it is on record: without taking the run over, and without looking at the rest of it."""
    state = Fold()
    for event in read.events_naming(known.root):
        state.fold(event)
    record = state.actions.get(known.root)
    if record is None or not isinstance(asked(record, None, order.definition.policy), Replay):
        return None
    return Finished(await read_value(Blobs(store, sync=True), record, codec))


def who_am_i() -> bytes:
    """What others are told of the owner of a run."""
    me = {"host": socket.gethostname(), "pid": os.getpid(), "boot": boot_id(), "started": instant(clock().now()).isoformat()}
    return to_json(me)


async def _hold(folder: Folder, run_name: str, options: Options) -> Hold | None:
    """Take the hint that this run has a live owner. Raises: RunBusy."""
    held = await folder.hold(LOCK, who_am_i())
    if not isinstance(held, bytes):
        return held
    if options.resume == "takeover":
        return None
    try:
        other = from_json(held)
        host, pid, started = str(other["host"]), int(other["pid"]), str(other["started"])
    except (ValueError, KeyError, TypeError):  # it is about to write it
        host, pid, started = "an unknown host", 0, "just now"
    raise RunBusy(run_name=run_name, pid=pid, host=host, started=started)


# owning


class Run:
    """A run that this process owns."""

    state: Fold
    runtime: Runtime

    def __init__(
        self,
        order: Order,
        context: Context,
        codec: Codec,
        known: Asked,
        folder: Folder,
        store: Folder,
        journal: Journal,
        read: Read,
        hold: Hold | None,
        options: Options,
    ) -> None:
        self.known = known
        self.folder = folder
        self.state = Fold()
        for event in read.events():
            self.state.fold(event)
        self.runtime = Runtime(
            run_name=known.run_name,
            run_id=known.run_id,
            engine=LocalEngine(),
            ask=ask,
            started_at=known.created,
            grace=options.grace,
            journal=journal,
            state=self.state,
            folder=folder,
            blobs=Blobs(store, sync=options.sync),
            sync=options.sync,
            is_resumed=bool(self.state.actions),
            raw_data_base=options.raw_data_path,
        )
        self._order = order
        self._context = context
        self._codec = codec
        self._journal = journal
        self._hold = hold
        self._telling = Telling(options.observers)
        self._over: asyncio.Future[None] = self.runtime.loop.create_future()
        self._main: asyncio.Task[Any] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._seen: set[str] = set()
        self._listeners: list[Callable[[Event], None]] = [self._telling.tell] if self._telling else []
        journal.on_durable = self._fold
        journal.on_told = self._tell
        journal.on_lost = self._lose
        self.runtime.request = self.request
        if self._telling:
            self.runtime.tell = self._tell_one

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
        self.runtime.tell = self._tell_one
        return lambda: self._listeners.remove(listener)

    def announce(self, store: str, *, is_new: bool, recorded: int) -> None:
        """Tell observers, before all else, which run this is."""
        opened = RunOpened(
            action=self.known.root,
            at=clock().now(),
            run_name=self.known.run_name,
            task=self.known.task,
            store=store,
            is_new=is_new,
            recorded=recorded,
        )
        self.runtime.append(opened)

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
        policy = self._order.definition.policy
        record = self.state.actions.get(self.known.root)
        place = Place(self.known.root, self.known.root, 0, 0, "", "")
        base = Context(
            raw_data_path=self._context.raw_data_path, custom_context=dict(self.known.context) or self._context.custom_context
        )  # fmt: skip
        decision = asked(record, None, policy)
        self.runtime.meet(self._order.definition, self.known.root)
        action = Action(self.runtime, None, self._order, base, self._codec, place, record, decision)
        action.task = self._main = asyncio.create_task(action.perform(), name=f"holdfast run {self.known.run_name}")
        self._main.add_done_callback(lambda _: self._end())
        self._watch = asyncio.create_task(self._watch_inbox())

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
        """Write what is queued, and let go of everything. Cancellation does not cut it short."""
        if self._watch is not None:
            self._watch.cancel()
        if self._patience is not None:
            self._patience.cancel()
        closing = asyncio.ensure_future(self._close_all())
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                continue
        closing.result()

    def let_go(self) -> None:
        """End an ownership under which nothing was begun, where nothing can be awaited any more."""
        self._journal.abandon()
        if self._hold is not None:
            self._hold.release()

    async def _close_all(self) -> None:
        try:
            if self.runtime.lost is None:
                await self._journal.aclose()
            else:
                self._journal.abandon()
        except StoreError as error:  # every outcome that somebody was given is durable: only notes are lost
            _log.warning("run %r: its last notes could not be written: %s", self.runtime.run_name, error)
        finally:
            if self._hold is not None:
                self._hold.release()
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
        self._patience = self.runtime.loop.call_later(self.runtime.grace, self._give_up)

    def request_from_thread(self, stop: StopRequest) -> None:
        self.runtime.loop.call_soon_threadsafe(self.request, stop)

    def hurry(self) -> None:
        """Wait no longer for what does not end: the grace is over now."""
        self.runtime.grace = 0.0
        if self._patience is not None:
            self._patience.cancel()
        self._give_up()

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
            self._patience = self.runtime.loop.call_later(self.runtime.grace, self._end)

    async def _watch_inbox(self) -> None:
        """Look now and then whether another owner took over, and for what others asked of this one."""
        while self.runtime.stop is None and self.runtime.lost is None:
            await asyncio.sleep(INBOX_SECONDS)
            try:
                await self._journal.look()
                if self._hold is None:
                    await self._take_hold()
                for entry in await self.folder.list("inbox/_control"):
                    if entry.name not in self._seen:
                        self._seen.add(entry.name)
                        self._obey(from_json(await self.folder.get(f"inbox/_control/{entry.name}")))
            except (StoreError, ValueError) as error:  # also what is no control at all: one bad file must not end the watch
                _log.warning("run %r: the inbox can't be read just now: %s", self.runtime.run_name, error)
            except RunFenced as error:
                self._lose(error)

    async def _take_hold(self) -> None:
        """Say that this run has a live owner, as soon as the fenced one no longer does."""
        held = await self.folder.hold(LOCK, who_am_i())
        self._hold = None if isinstance(held, bytes) else held

    def _obey(self, control: object) -> None:
        if not isinstance(control, dict) or control.get("epoch") != self.runtime.epoch:
            return
        if control.get("verb") == "stop":
            self.request(StopRequest(Status.STOPPED, "stop was asked for"))
        elif control.get("verb") == "cancel":
            self.request(StopRequest(Status.CANCELLED, "cancel was asked for"))


# signals


class Signals:
    """SIGTERM and Ctrl-C stop a run: in the main thread only, over default handlers only, restored after. A second one ends the grace.

    `asyncio.run` takes Ctrl-C itself, and cancels its main task: there only the second one is ours to see.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._taken: list[signal.Signals] = []
        self._runners: Callable[[int, FrameType | None], Any] | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._take(signal.SIGTERM, StopRequest(Status.STOPPED, "SIGTERM"))
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._take(signal.SIGINT, StopRequest(Status.STOPPED, "Ctrl-C", KeyboardInterrupt()))
        elif _is_a_runners(handler := signal.getsignal(signal.SIGINT)):
            self._runners = cast("Callable[[int, FrameType | None], Any]", handler)
            signal.signal(signal.SIGINT, self._pass_on)

    def _take(self, number: signal.Signals, stop: StopRequest) -> None:
        try:
            asyncio.get_running_loop().add_signal_handler(number, self._ask, stop)
        except (NotImplementedError, RuntimeError):  # a loop, or a system, without signals
            return
        self._taken.append(number)

    def _ask(self, stop: StopRequest) -> None:
        if self._run.runtime.stop is None:
            self._run.request(stop)
        else:
            self._run.hurry()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self._run.runtime.stop is not None:
            self._run.runtime.loop.call_soon_threadsafe(self._run.hurry)
        if self._runners is not None:
            self._runners(number, frame)

    def __exit__(self, *exc: object) -> None:
        loop = asyncio.get_running_loop()
        for number in self._taken:
            loop.remove_signal_handler(number)
        if self._runners is not None:
            signal.signal(signal.SIGINT, self._runners)


def _is_a_runners(handler: object) -> bool:
    """Whether a handler of Ctrl-C is the one that `asyncio.run` installs."""
    return isinstance(handler, partial) and isinstance(getattr(handler.func, "__self__", None), asyncio.Runner)


# outside any run


async def ephemeral(order: Order, context: Context, call: object) -> Any:
    """Run a call at once: context, retries, timeouts and checkpoints work, and nothing is kept."""
    definition = order.definition
    runtime = Runtime(
        run_name="ephemeral",
        run_id=secrets.token_hex(8),
        engine=LocalEngine(),
        ask=ask,
        started_at=clock().now(),
        grace=30.0,
    )
    action = Action(runtime, None, order, context, definition.result_codec(), None, None, ANEW)
    try:
        value = await action.begin(call)
    finally:
        await runtime.engine.aclose()
    if runtime.lost is not None:
        raise runtime.lost
    return value
