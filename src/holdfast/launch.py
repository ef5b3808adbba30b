"""`run`, `run_sync`, `start`: begin a run under its name, or go on with it."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from os import PathLike
from typing import Any, Final, Generic, Literal, Self, TypeAlias, TypedDict, TypeVar, Unpack, cast, get_args

from holdfast.actions.runtime import StopRequest
from holdfast.bridge import portal_loop, running_loop, wait_for_loop
from holdfast.contexts import Budget, Context, link_of
from holdfast.errors import BlockingCall, InvalidCall, InvalidContext, InvalidOption, NestedRun
from holdfast.events import Event
from holdfast.retries import Seconds, to_seconds
from holdfast.runs.asked import Options, Resume
from holdfast.runs.opening import Finished, open_run
from holdfast.runs.owned import Run, hosts_run
from holdfast.runs.signals import Signals
from holdfast.status import Status
from holdfast.stores import Store
from holdfast.tasks import Call, Task, no_loop
from holdfast.telling import EventQueue, Observer, Told, check_observers

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Where: TypeAlias = str | PathLike[str] | Store

DEFAULT_GRACE_SECONDS: Final = 30.0


class RunOptions(TypedDict, total=False):
    """What `run`, `run_sync` and `start` take."""

    run_name: str | None
    store: Where | None
    resume: Literal["auto", "never", "must", "restart", "takeover"]
    observers: Iterable[Observer]
    durability: Literal["fsync", "flush"]
    custom_context: Mapping[str, str] | None
    budget: Budget | None
    raw_data_path: str | None
    grace: Seconds
    handle_signals: bool
    allow_unfenced: bool


async def run(call: Call[R], /, **options: Unpack[RunOptions]) -> R:
    """Run a call durably, and return its result. After any crash the same line goes on where the last one ended.

    Args:
        call: A fresh call, such as `main(...)`.
        run_name: The run's name in its store; None makes a new one.
        store: A path, a URL or a `Store`; by default `$HOLDFAST_STORE`, else `.holdfast` in the working directory.
        resume: "auto" gives the result of a COMPLETED run and continues any other; "never" refuses an existing run, "must" a missing
            one; "restart" begins a new incarnation; "takeover" fences an owner that looks alive.
        observers: Who is told of events.
        durability: "fsync" survives a power cut, "flush" the death of the process.
        custom_context: Values that every task of the run inherits.
        budget: How much the run may spend, with all that is on record of it. It is no input: a resume may raise it.
        raw_data_path: Below which each action has a place for raw data.
        grace: Seconds that bodies have to end, once they are asked to.
        handle_signals: Whether SIGTERM and Ctrl-C stop the run, where they have their default handlers.
        allow_unfenced: Run in a store that can't tell two owners apart, where you make sure that only one process uses it.

    Raises:
        RunStopped, RunCancelled: It ended before its result; `BudgetSpent`, a RunStopped, since a budget is spent.
        RunExists, RunNotFound, RunBusy, RunFenced, InputsChanged: It can't be had.
        InvalidCall, InvalidOption, InvalidName, NestedRun, NoLoop: The line has to change.
        StoreFull, StoreUnavailable, StorePermission, StoreInvalid, JournalDamaged, JournalTooNew: The store.
        Exception: What the task raised, as itself.
    """
    opened, let_go = await _open("run", call, options)
    async with let_go:
        if isinstance(opened, Finished):
            return cast("R", opened.value)
        with Signals(opened) if options.get("handle_signals", True) else nullcontext():
            return cast("R", await opened.drive())


def run_sync(call: Call[R], /, **options: Unpack[RunOptions]) -> R:
    """`run`, for sync code and notebooks: blocks for the result. Raises: as `run`."""
    _check_call("run_sync", call)
    loop = running_loop()
    if loop is None:
        return asyncio.run(run(call, **options))
    if hosts_run(loop) and Context.current().task_context is None:
        call.close()
        raise BlockingCall(task="run_sync(...)", instead="run")
    return wait_for_loop(run(call, **options), portal_loop())


async def start(call: Call[R], /, **options: Unpack[RunOptions]) -> RunHandle[R]:
    """Begin a run, or go on with it, and return at once with its handle. Never seizes signals. Raises: as `run`."""
    opened, let_go = await _open("start", call, options)
    if isinstance(opened, Finished):
        await let_go.aclose()
    return RunHandle(opened, _name_of(opened, options), let_go)


class RunHandle(Generic[R_co]):
    """A run under way in this process. As an async context manager it waits at the end, and cancels when the block raised."""

    def __init__(self, opened: Run | Finished, run_name: str, let_go: AsyncExitStack) -> None:
        self.run_name = run_name
        self._opened = opened
        self._let_go = let_go
        self._driving: asyncio.Task[Any] | None = None
        if isinstance(opened, Run):
            self._driving = asyncio.create_task(self._drive(opened), name=f"holdfast handle {run_name}")
            self._driving.add_done_callback(self._driven)

    async def _drive(self, opened: Run) -> Any:
        async with self._let_go:
            return await opened.drive()

    def _driven(self, driving: asyncio.Task[Any]) -> None:
        """A loop that ends at once cancels the driving before its first step: then nobody else lets go of the run."""
        if not driving.cancelled():
            driving.exception()
        elif isinstance(self._opened, Run):
            self._opened.let_go()

    @property
    def status(self) -> Status:
        """Where the run stands, as far as it is durable."""
        if isinstance(self._opened, Finished):
            return Status.COMPLETED
        root = self._opened.state.actions.get(self._opened.known.root)
        return root.status if root is not None else Status.PENDING

    @property
    def told(self) -> tuple[Told, ...]:
        """How each observer fared so far: events told, missed and failed at. In the order in which they were given."""
        return self._opened.told if isinstance(self._opened, Run) else ()

    async def result(self) -> R_co:
        """Wait for the run's end. Being cancelled here leaves the run alone. Raises: as `run`."""
        if self._driving is None:
            return cast("R_co", cast("Finished", self._opened).value)
        return cast("R_co", await asyncio.shield(self._driving))

    async def cancel(self) -> None:
        """End the run as CANCELLED, and return when it has ended."""
        await self._request(StopRequest(Status.CANCELLED, "its handle was asked to cancel it"))

    async def stop(self) -> None:
        """End the run as STOPPED, to be continued by the same line, and return when it has ended."""
        await self._request(StopRequest(Status.STOPPED, "its handle was asked to stop it"))

    async def send(self, topic: str, value: object, /) -> None:
        """Send a value to the run, for one `ctx().receive(topic, ...)`, which gets it at once. Raises: as `Store.send`."""
        await self._opened.send(topic, value)

    async def events(self) -> AsyncIterator[Event]:
        """The run's events from now on, until it ends: recorded ones once they are durable, live ones in their turn.

        The run does not wait for whoever takes them: of one who is 500,000 behind, `Missed` says how many are missing there.
        """
        if not isinstance(self._opened, Run) or self._driving is None or self._driving.done():
            return
        arrived = EventQueue()
        stop_listening = self._opened.listen(arrived.offer)
        self._driving.add_done_callback(lambda _: arrived.end())
        try:
            while (event := await arrived.take()) is not None:
                yield event
        finally:
            stop_listening()

    async def _request(self, stop: StopRequest) -> None:
        if isinstance(self._opened, Run) and self._driving is not None:
            self._opened.request(stop)
            await asyncio.wait({self._driving})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *exc: object) -> None:
        if kind is not None:
            await self.cancel()
        elif self._driving is not None:
            await asyncio.wait({self._driving})


# options


async def _open(verb: str, call: Any, options: Mapping[str, Any]) -> tuple[Run | Finished, AsyncExitStack]:
    """Check everything before the call is used up, then open the run. The stack closes a store that was opened for it alone."""
    _check_call(verb, call)
    try:
        if running_loop() is None:
            raise no_loop(f"{verb}(...)")
        running = Context.current().task_context
        if running is not None:
            raise NestedRun(verb=verb, task=link_of(running).task_name)
        checked, store = _checked(options), _store(options.get("store"))
    except BaseException:  # refused, not forgotten
        call.close()
        raise
    async with AsyncExitStack() as stack:
        if store is not options.get("store"):
            stack.push_async_callback(store.aclose)
        settled = replace(checked, flush=store.flush, lease=store.lease)
        return await open_run(call.take(), call.context, store.folder, settled), stack.pop_all()


def _check_call(verb: str, call: object) -> None:
    """Raises: InvalidCall, telling what was given instead."""
    if isinstance(call, Call):
        if call.begun:
            raise InvalidCall(verb=verb, got=f"a call of {call.task.name} that was used already; call the task again")
        return
    if isinstance(call, Task):
        raise InvalidCall(verb=verb, got=f"the task {call.name} itself; call it")
    if asyncio.iscoroutine(call):
        name = getattr(call, "__qualname__", "?")
        call.close()
        raise InvalidCall(verb=verb, got=f"a plain coroutine of {name}; decorate the function with @task")
    if inspect.isroutine(call):
        raise InvalidCall(verb=verb, got=f"the function {call.__name__}; decorate it with @task, and call it")
    raise InvalidCall(verb=verb, got=f"{call!r:.80}; a def task, called plainly, gives its result, so write {verb}(main.call(...))")


def _store(where: Where | None) -> Store:
    return where if isinstance(where, Store) else Store(where)


def _name_of(opened: Run | Finished, options: Mapping[str, Any]) -> str:
    return opened.known.run_name if isinstance(opened, Run) else str(options.get("run_name"))


def _checked(options: Mapping[str, Any]) -> Options:
    """Raises: InvalidOption, InvalidContext."""
    for option in options:
        if option not in RunOptions.__annotations__:
            known = ", ".join(RunOptions.__annotations__)
            raise InvalidOption(option=option, value=options[option], reason=f"there is no such option; there are {known}")
    resume, durability = options.get("resume", "auto"), options.get("durability", "fsync")
    if resume not in get_args(Resume):
        raise InvalidOption(option="resume", value=resume, reason=f"choose one of {', '.join(get_args(Resume))}")
    if durability not in ("fsync", "flush"):
        raise InvalidOption(option="durability", value=durability, reason="choose 'fsync' or 'flush'")
    context = _context_of(options.get("custom_context"))
    budget = options.get("budget")
    if budget is not None and not isinstance(budget, Budget):
        raise InvalidOption(option="budget", value=budget, reason="give a Budget, such as Budget(cost='10')")
    run_name, raw = options.get("run_name"), options.get("raw_data_path")
    if raw is not None and not isinstance(raw, (str, PathLike)):
        raise InvalidOption(option="raw_data_path", value=raw, reason="it takes a path or a URL")
    return Options(
        run_name=run_name,
        resume=resume,
        observers=check_observers(options.get("observers", ())),
        sync=durability == "fsync",
        custom_context=context,
        budget=budget,
        raw_data_path=os.fspath(raw) if raw is not None else None,
        grace=to_seconds("grace", options.get("grace", DEFAULT_GRACE_SECONDS), allow_zero=True),
        allow_unfenced=bool(options.get("allow_unfenced", False)),
    )


def _context_of(given: Any) -> Mapping[str, str] | None:
    """Raises: InvalidOption, InvalidContext."""
    if given is None:
        return None
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise InvalidOption(option="custom_context", value=given, reason="it takes a dict of names and str values")
    for key, value in given.items():
        if not isinstance(value, str):
            raise InvalidContext(key=key, type_name=type(value).__name__)
    return dict(given)
