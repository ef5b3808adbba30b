"""The store as its users see it: reading and steering runs, also while they live elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Self, TypeVar, overload

from holdfast.actions.values import read_value
from holdfast.blobs import Blobs
from holdfast.bridge import portal_loop, running_loop, wait_for_loop
from holdfast.clocks import clock
from holdfast.codec import codec_for
from holdfast.errors import ActionNotFound, BlockingCall, FigureNotFound, InvalidOption, ResultIncompatible, RunBusy, RunNotFound
from holdfast.events import ActionAsked, ActionEnded, AttemptEnded, Event, FigureSaved
from holdfast.figures import matching
from holdfast.folders.fencing import check_fence
from holdfast.folders.opening import open_folder
from holdfast.folders.protocol import Folder
from holdfast.journals.owning import take_over
from holdfast.journals.reading import Read, read_journal
from holdfast.journals.writing import GROUP_BYTES, Flush
from holdfast.latest import Wanted, latest_result
from holdfast.results import DescribedRun, TaskResult, described, result_of, unbegun
from holdfast.retries import Seconds, to_seconds
from holdfast.runs.asked import Asked, Options, newest_incarnation, read_asked
from holdfast.runs.controls import send_control
from holdfast.runs.opening import open_to_undo
from holdfast.runs.presence import LEASE_SECONDS, approach, is_known_gone, owner_of
from holdfast.states import Fold
from holdfast.status import CANCELABLE_STATES, Status
from holdfast.summaries import schema_name
from holdfast.sweeps import GRACE, size_of, sweep
from holdfast.tasks import Task
from holdfast.topics import send
from holdfast.views import OpaqueValue, RunState, RunSummary, state_of, summary_of

T = TypeVar("T")
R = TypeVar("R")


class Store:
    """A folder that holds runs.

    Args:
        url: A path or a URL (`s3://bucket/folder`, `gs:`, `abfs:`, `file:`, `memory:`, any that fsspec knows); by default
            `$HOLDFAST_STORE`, else `.holdfast` in the working directory.
        flush_interval: Seconds that an event waits at most to be on its way, where nobody waits for it; by default 0.1 on a disk, and 1
            in an object store, where each group of events is a request.
        flush_size: Bytes of events that are written at one time, at most.
        lease: Seconds without a sign of life, after which a run in an object store counts as without an owner.
        options: What the kind of store takes: storage options of its file system, `client`, `deadline`, `encryption_key`.

    Raises:
        StoreInvalid: It can't be a store.
        InvalidOption: There is no such option, or it can't have that value.
        MissingExtra: It needs a package that is not installed.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        *,
        flush_interval: Seconds | None = None,
        flush_size: int = GROUP_BYTES,
        lease: Seconds = LEASE_SECONDS,
        **options: Any,
    ) -> None:
        self.lease: float = to_seconds("lease", lease)
        self.folder: Folder = open_folder(url if url is not None else os.environ.get("HOLDFAST_STORE") or ".holdfast", **options)
        self.flush: Flush = _flush(flush_interval, flush_size, self.folder)

    @classmethod
    def on(cls, folder: Folder, *, lease: Seconds = LEASE_SECONDS) -> Self:
        """A store on a `Folder` that is open already: for tests (`holdfast.testing.memory_store`), and for adapters."""
        store = cls.__new__(cls)
        store.flush, store.lease, store.folder = _flush(None, GROUP_BYTES, folder), to_seconds("lease", lease), folder
        return store

    def __repr__(self) -> str:
        return f"Store({self.folder.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def gc(self, *, grace: Seconds = GRACE, dry_run: bool = False) -> int:
        """Free what nothing names any more: values and chunks that no event and no saved generation names, and what crashes left behind.

        It is safe at any time, beside runs that live in this process or anywhere else. It may be ended at any point, and done again.

        Args:
            grace: Seconds since such data was last written or needed, by the store's clock; at least 10 minutes.
            dry_run: Only say how much would be freed.

        Returns:
            Bytes freed.

        Raises:
            JournalDamaged, JournalTooNew, CheckpointCorrupt, CheckpointForeign, BlobCorrupt: What may name data can't be read, so it can't
                be known what is needed: no such data was deleted.
            InvalidOption: `grace` is no such number.
            StoreError: The store said no.
        """
        return await sweep(self.folder, grace=to_seconds("grace", grace, allow_zero=True), dry_run=dry_run)

    async def size(self, run_name: str | None = None) -> int:
        """Bytes that the whole store takes; or a run, in all its incarnations, with the large data that it names, shared or not.

        Raises: RunNotFound, and as `gc`.
        """
        if run_name is not None:
            await newest_incarnation(self.folder, run_name)
        return await size_of(self.folder, run_name)

    async def aclose(self) -> None:
        """Let go of connections."""
        await self.folder.aclose()

    async def check(self) -> None:
        """Try what fencing needs: that an exclusive creation succeeds once. Writes, reads and deletes two small objects.

        Raises:
            StoreUnfenced: It does not, and why; two owners of a run could not be told apart there.
            StorePermission, StoreUnavailable, StoreFull, StoreInvalid: It can't be used at all.
        """
        await check_fence(self.folder)

    async def runs(self) -> AsyncIterator[RunSummary]:
        """Every run, by name, each in its newest incarnation. Raises: JournalDamaged, StoreError."""
        for entry in await self.folder.list("runs"):
            try:
                incarnation = await newest_incarnation(self.folder, entry.name)
            except RunNotFound:
                continue  # being begun in this very moment
            asked = await read_asked(incarnation)
            read = await read_journal(incarnation)
            fold = Fold.of(read.events_of(asked.root))
            yield summary_of(fold, asked.run_name, asked.task, asked.created, await owner_of(incarnation, read.newest))

    async def state(self, run_name: str) -> RunState:
        """All about a run, as far as it is durable. Raises: RunNotFound, JournalDamaged, JournalTooNew, StoreError."""
        incarnation, asked = await self._find(run_name)
        read = await read_journal(incarnation)
        fold = Fold.of(read.events())
        return state_of(fold, asked.run_name, asked.task, asked.created, await owner_of(incarnation, read.newest), asked.context)

    async def result(self, run_name: str, *, action: str | None = None) -> TaskResult[Any]:
        """What came of a run, whatever its status: of its root, or of another action.

        Args:
            action: Its `ActionID.name`; by default the root's.

        Returns:
            The payload is read by value, also where it is large: a model comes back as a dict, and for what is pickled an `OpaqueValue`
            stands. `latest_result` with a task gives it as what the task returns. What went wrong is in `state`, as `error`.

        Raises:
            RunNotFound, ActionNotFound: There is none.
            MissingExtra: The payload needs numpy or pandas, and they are not installed.
            JournalDamaged, JournalTooNew, BlobCorrupt, StoreError: It can't be read.
        """
        incarnation, asked = await self._find(run_name)
        return (await self._result(incarnation, asked, action))[0]

    async def describe(self, run_name: str) -> DescribedRun:
        """What came of a run, with what it was given, and where and with what it began. Raises: as `result`."""
        incarnation, asked = await self._find(run_name)
        result, fold = await self._result(incarnation, asked, None)
        return described(asked, fold, result)

    @overload
    async def latest_result(self, task: Task[..., R], *, schema: str | None = None) -> TaskResult[R] | None: ...
    @overload
    async def latest_result(self, task: str, *, schema: str | None = None) -> TaskResult[Any] | None: ...
    async def latest_result(self, task: Any, *, schema: str | None = None) -> TaskResult[Any] | None:
        """The result of a task that ended last, among all runs: a default input for a later one.

        Looked at are the newest incarnations of all runs, and in them roots and inner actions alike. It is valid, if it COMPLETED and was
        not rolled back, though its run may have failed. A result of another `version=` of the task is valid too.

        The answer changes with time, also by the very run that asks: given to a run as an input, it belongs to a run with a name of its own
        (`run_name=None`), since a resume with other inputs is `InputsChanged`. Asked by a task inside of the run, it is on record, and the
        same after a crash.

        Example::

            @task
            async def newest_gain() -> float:
                before = await store.latest_result(calibrate)
                return before.payload.gain if before is not None and before.payload is not None else 1.0


            @task
            async def calibrate() -> Calibration:
                return Calibration(gain=await refine(await newest_gain()))

        Args:
            task: The task, so that the payload is what it returns; one that can't be read as that is passed over, with a warning in the
                log. Or its name, so that the payload is read by value.
            schema: Only results that follow it, by `ctx().implements`.

        Returns:
            None, where there is none.

        Raises:
            InvalidOption: `task` is neither, or `schema` is no name.
            JournalDamaged, JournalTooNew, BlobCorrupt, StoreError: A run can't be read, and its result might be the newest.
        """
        return await latest_result(self.folder, _wanted(task, schema))

    async def figure(self, run_name: str, path: str, *, action: str | None = None) -> bytes:
        """The bytes of a figure that the run shows under `path`: the newest one, whichever action drew it.

        Args:
            run_name: Of the run.
            path: The display path; without its suffix, where only one figure is meant by that.
            action: The `ActionID.name` of the action that drew it.

        Raises:
            RunNotFound: There is no such run.
            FigureNotFound: It has no such figure, or several; the error names those that there are.
            JournalDamaged, JournalTooNew, StoreError: It can't be read.
        """
        incarnation, _ = await self._find(run_name)
        events = (await read_journal(incarnation)).events()
        there = [event for event in events if isinstance(event, FigureSaved) and action in (None, event.action)]
        found = matching(there, path)
        if len(found) != 1:
            shown = sorted(found or {event.path for event in there})
            raise FigureNotFound(
                run_name=run_name,
                path=path,
                found=f"{len(found)} figures" if found else "no figure",
                there=f"there {'is' if len(shown) == 1 else 'are'} {', '.join(map(repr, shown[:20])) if shown else 'none at all'}",
            )
        return await incarnation.get(found.popitem()[1].key)

    async def stop(self, run_name: str) -> None:
        """Ask the owner to stop the run, and return once that is durable. A run without an owner is left as it is.

        Raises: RunNotFound, StoreError.
        """
        incarnation, _ = await self._find(run_name)
        newest = (await read_journal(incarnation)).newest
        if newest is not None and not await is_known_gone(incarnation, newest):
            await send_control(incarnation, "stop", newest.epoch)

    async def cancel(self, run_name: str) -> None:
        """Cancel the run: its owner is asked to, and where there is none, its end is recorded here. One that ended is left as it is.

        In an object store this returns after the owner's next heartbeat, or when there was none for a lease.

        Raises: RunNotFound, RunBusy, RunFenced, StoreError.
        """
        incarnation, asked = await self._find(run_name)
        read = await read_journal(incarnation)
        if read.newest is None or await is_known_gone(incarnation, read.newest):
            await self._cancel_here(incarnation, asked, read)
            return
        await send_control(incarnation, "cancel", read.newest.epoch)
        if incarnation.logs is None:
            with contextlib.suppress(RunBusy):  # it is at work, so it reads what was left for it
                await self._cancel_here(incarnation, asked, read)

    async def rollback(self, run_name: str) -> None:
        """Undo what the run did: every undo that its actions registered, newest first, each at least once.

        The run is taken over for that, in this process: undos are tasks, found by the names under which their modules import them. Killed
        at any point, it goes on when this is called again, or the run's own line is run. It ends ROLLED_BACK, and can't go on. A run that
        is rolled back already is left as it is.

        Raises:
            RollbackIncomplete: Some undos gave up, or could not be run: the run is FAILED, and this lists what remains. Call it again.
            RunBusy: A live owner is at work on the run.
            RunNotFound, RunFenced, RunStopped, StoreError: As for `run`.
        """
        incarnation, asked = await self._find(run_name)
        run = await open_to_undo(incarnation, asked, self.folder, Options(flush=self.flush, lease=self.lease))
        if run is not None:
            await run.drive()

    async def send(self, run_name: str, topic: str, value: object) -> None:
        """Send a value to the run, for one `ctx().receive(topic, ...)`, and return once it is durable.

        The run may live here, elsewhere, or have no owner: the value is kept until somebody receives it. One that is sent to a run that
        has ended waits for its next attempt, if there is one. A receiver in this process notices at once, one in another
        within half a second, and in an object store within 5.

        Args:
            run_name: Of a run that was begun.
            topic: Any name, such as "config"; letters, digits, `.`, `_` and `-`, and no underscore in front.
            value: Plain data, a pydantic model, a dataclass or an enum member.

        Raises:
            RunNotFound: There is no such run yet.
            InvalidName: That can't be a topic, or a run's name.
            UnrecordableResult: The value would not arrive as it is.
            StoreUnavailable: It may have been sent, or not.
            StoreError: The store said no.
        """
        incarnation, _ = await self._find(run_name)
        await send(incarnation, topic, value)

    def check_sync(self) -> None:
        """`check`, for sync code."""
        _blocking("check", self.check())

    def runs_sync(self) -> list[RunSummary]:
        """`runs`, as a list."""

        async def collect() -> list[RunSummary]:
            return [run async for run in self.runs()]

        return _blocking("runs", collect())

    def state_sync(self, run_name: str) -> RunState:
        """`state`, for sync code."""
        return _blocking("state", self.state(run_name))

    def rollback_sync(self, run_name: str) -> None:
        """`rollback`, for sync code."""
        _blocking("rollback", self.rollback(run_name))

    def send_sync(self, run_name: str, topic: str, value: object) -> None:
        """`send`, for sync code."""
        _blocking("send", self.send(run_name, topic, value))

    def result_sync(self, run_name: str, *, action: str | None = None) -> TaskResult[Any]:
        """`result`, for sync code."""
        return _blocking("result", self.result(run_name, action=action))

    def describe_sync(self, run_name: str) -> DescribedRun:
        """`describe`, for sync code."""
        return _blocking("describe", self.describe(run_name))

    @overload
    def latest_result_sync(self, task: Task[..., R], *, schema: str | None = None) -> TaskResult[R] | None: ...
    @overload
    def latest_result_sync(self, task: str, *, schema: str | None = None) -> TaskResult[Any] | None: ...
    def latest_result_sync(self, task: Any, *, schema: str | None = None) -> TaskResult[Any] | None:
        """`latest_result`, for sync code."""
        return _blocking("latest_result", self.latest_result(task, schema=schema))

    def figure_sync(self, run_name: str, path: str, *, action: str | None = None) -> bytes:
        """`figure`, for sync code."""
        return _blocking("figure", self.figure(run_name, path, action=action))

    def stop_sync(self, run_name: str) -> None:
        """`stop`, for sync code."""
        _blocking("stop", self.stop(run_name))

    def cancel_sync(self, run_name: str) -> None:
        """`cancel`, for sync code."""
        _blocking("cancel", self.cancel(run_name))

    def gc_sync(self, *, grace: Seconds = GRACE, dry_run: bool = False) -> int:
        """`gc`, for sync code."""
        return _blocking("gc", self.gc(grace=grace, dry_run=dry_run))

    def size_sync(self, run_name: str | None = None) -> int:
        """`size`, for sync code."""
        return _blocking("size", self.size(run_name))

    def aclose_sync(self) -> None:
        """`aclose`, for sync code."""
        _blocking("aclose", self.aclose())

    async def _result(self, incarnation: Folder, asked: Asked, action: str | None) -> tuple[TaskResult[Any], Fold]:
        read = await read_journal(incarnation)
        fold, owner = Fold.of(read.events()), await owner_of(incarnation, read.newest)
        record = fold.actions.get(asked.root if action is None else action)
        if record is None and action is not None and action != asked.root:
            raise ActionNotFound(run_name=asked.run_name, action=action)
        if record is None:
            return unbegun(asked, owner), fold
        payload: Any = None
        if record.status is Status.COMPLETED:
            try:
                payload = await read_value(Blobs(self.folder, sync=True), record, codec_for(Any, task=record.task))
            except ResultIncompatible as error:
                payload = OpaqueValue(error.reason)
        return result_of(fold, record, owner, payload), fold

    async def _find(self, run_name: str) -> tuple[Folder, Asked]:
        incarnation = await newest_incarnation(self.folder, run_name)
        return incarnation, await read_asked(incarnation)

    async def _cancel_here(self, incarnation: Folder, asked: Asked, read: Read) -> None:
        """Take the run over for as long as it takes to record that it, and all in it that is not at its end, is CANCELLED."""
        presence = await approach(incarnation, asked.run_name, read.newest, force=False, lease=self.lease)
        try:
            read = await read_journal(incarnation, known=read)
            if not any(_cancelling(read, asked)):
                return
            journal, read = await take_over(incarnation, asked.run_name, read, sync=True, flush=self.flush, begun=presence.begin)
            try:
                for event in _cancelling(read, asked):
                    journal.append(event)
            finally:
                await journal.aclose()
        finally:
            await presence.end()


def _blocking(verb: str, work: Coroutine[Any, Any, T]) -> T:
    loop = running_loop()
    if loop is not None and loop is portal_loop():
        work.close()
        raise BlockingCall(task=f"Store.{verb}_sync", instead=f"store.{verb}")
    return wait_for_loop(work, portal_loop())


def _wanted(task: Any, schema: str | None) -> Wanted:
    """Raises: InvalidOption, UnrecordableResult."""
    of = schema_name(schema) if schema is not None else ""
    if isinstance(task, Task):
        return Wanted(task.name, task.definition.result_codec(), of)
    if not isinstance(task, str):
        raise InvalidOption(option="task", value=task, reason="it takes a task, or the name of one")
    return Wanted(task, codec_for(Any, task=task), of)


def _cancelling(read: Read, asked: Asked) -> Iterator[Event]:
    """What makes a run CANCELLED, children before parents."""
    fold, now = Fold.of(read.events()), clock().now()
    if asked.root not in fold.actions:  # its process ended before the root was on record
        begun = ActionAsked(action=asked.root, at=now, task=asked.task, version=asked.version)
        yield begun
        fold.fold(begun)
    for record in reversed(list(fold.actions.values())):
        if record.has_live_attempt:
            yield AttemptEnded(action=record.name, at=now, number=record.number, status=Status.CRASHED, then=Status.CRASHED)
        if record.has_live_attempt or record.status in CANCELABLE_STATES:
            yield ActionEnded(action=record.name, at=now, then=Status.CANCELLED)


def _flush(interval: Seconds | None, size: Any, folder: Folder) -> Flush:
    """Raises: InvalidOption."""
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InvalidOption(option="flush_size", value=size, reason="give a whole number of bytes, at least 1")
    seconds = None if interval is None else to_seconds("flush_interval", interval, allow_zero=True)
    return Flush.of(seconds, size, is_disk=folder.logs is not None)
