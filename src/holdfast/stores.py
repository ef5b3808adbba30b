"""The store as its users see it: reading and steering runs, also while they live elsewhere."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Literal, Self, TypeVar

from holdfast.bridge import portal_loop, running_loop, wait_for_loop
from holdfast.clocks import clock
from holdfast.codec import from_json, to_json
from holdfast.errors import BlockingCall, RunBusy, RunNotFound
from holdfast.events import ActionAsked, ActionEnded, AttemptEnded
from holdfast.folders.opening import open_folder
from holdfast.folders.protocol import Folder
from holdfast.journals.reading import read_journal
from holdfast.journals.writing import take_over
from holdfast.runs.asked import LOCK, Asked, newest_incarnation, read_asked, who_am_i
from holdfast.states import Fold
from holdfast.status import CANCELABLE_STATES, Status
from holdfast.views import Owner, RunState, RunSummary, state_of, summary_of

T = TypeVar("T")


class Store:
    """A folder that holds runs.

    Args:
        url: A path, a `file:` or `memory:` URL; by default `$HOLDFAST_STORE`, else `.holdfast` in the working directory.
        options: What the kind of store takes.

    Raises:
        StoreInvalid: It can't be a store.
        InvalidOption: There is no such option.
    """

    def __init__(self, url: str | os.PathLike[str] | None = None, **options: Any) -> None:
        self.folder: Folder = open_folder(url if url is not None else os.environ.get("HOLDFAST_STORE") or ".holdfast", **options)

    @classmethod
    def on(cls, folder: Folder) -> Self:
        """A store on a `Folder` that is open already: for tests (`holdfast.testing.memory_store`), and for adapters."""
        store = cls.__new__(cls)
        store.folder = folder
        return store

    def __repr__(self) -> str:
        return f"Store({self.folder.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of connections."""
        await self.folder.aclose()

    async def runs(self) -> AsyncIterator[RunSummary]:
        """Every run, by name, each in its newest incarnation. Raises: JournalDamaged, StoreError."""
        for entry in await self.folder.list("runs"):
            try:
                incarnation = await newest_incarnation(self.folder, entry.name)
            except RunNotFound:
                continue  # being begun in this very moment
            asked = await read_asked(incarnation)
            fold = Fold()
            for event in (await read_journal(incarnation)).events_naming(asked.root):
                fold.fold(event)
            yield summary_of(fold, asked.run_name, asked.task, asked.created, await _owner(incarnation))

    async def state(self, run_name: str) -> RunState:
        """All about a run, as far as it is durable. Raises: RunNotFound, JournalDamaged, JournalTooNew, StoreError."""
        incarnation, asked = await self._find(run_name)
        fold = await _folded(incarnation)
        return state_of(fold, asked.run_name, asked.task, asked.created, await _owner(incarnation))

    async def stop(self, run_name: str) -> None:
        """Ask the owner to stop the run, and return once that is durable. A run without an owner is left as it is.

        Raises: RunNotFound, StoreError.
        """
        incarnation, _ = await self._find(run_name)
        if await incarnation.logs.held(LOCK) is not None:
            await _send_control(incarnation, "stop")

    async def cancel(self, run_name: str) -> None:
        """Cancel the run: its owner is asked to, and where there is none, its end is recorded here. One that ended is left as it is.

        Raises: RunNotFound, RunBusy, RunFenced, StoreError.
        """
        incarnation, asked = await self._find(run_name)
        if await incarnation.logs.held(LOCK) is not None:
            await _send_control(incarnation, "cancel")
            return
        await _cancel_here(incarnation, asked)

    def runs_sync(self) -> list[RunSummary]:
        """`runs`, as a list."""

        async def collect() -> list[RunSummary]:
            return [run async for run in self.runs()]

        return _blocking("runs", collect())

    def state_sync(self, run_name: str) -> RunState:
        """`state`, for sync code."""
        return _blocking("state", self.state(run_name))

    def stop_sync(self, run_name: str) -> None:
        """`stop`, for sync code."""
        _blocking("stop", self.stop(run_name))

    def cancel_sync(self, run_name: str) -> None:
        """`cancel`, for sync code."""
        _blocking("cancel", self.cancel(run_name))

    def aclose_sync(self) -> None:
        """`aclose`, for sync code."""
        _blocking("aclose", self.aclose())

    async def _find(self, run_name: str) -> tuple[Folder, Asked]:
        incarnation = await newest_incarnation(self.folder, run_name)
        return incarnation, await read_asked(incarnation)


def _blocking(verb: str, work: Coroutine[Any, Any, T]) -> T:
    loop = running_loop()
    if loop is not None and loop is portal_loop():
        work.close()
        raise BlockingCall(task=f"Store.{verb}_sync", instead=f"store.{verb}")
    return wait_for_loop(work, portal_loop())


async def _folded(incarnation: Folder) -> Fold:
    fold = Fold()
    for event in (await read_journal(incarnation)).events():
        fold.fold(event)
    return fold


async def _owner(incarnation: Folder) -> Owner:
    return "gone" if await incarnation.logs.held(LOCK) is None else "live"


async def _send_control(incarnation: Folder, verb: Literal["stop", "cancel"]) -> None:
    """Leave word for the present owner, who is named by its epoch: later owners pass it over."""
    newest = (await read_journal(incarnation)).newest
    name = f"{time.time_ns():020}-{secrets.token_hex(4)}.json"
    control = {"verb": verb, "epoch": newest.epoch if newest is not None else 0}
    await incarnation.create(f"inbox/_control/{name}", to_json(control))


async def _cancel_here(incarnation: Folder, asked: Asked) -> None:
    """Take the run over for as long as it takes to record that it, and all in it that is not at its end, is CANCELLED."""
    hold = await incarnation.logs.hold(LOCK, who_am_i())
    if isinstance(hold, bytes):
        other = from_json(hold)
        raise RunBusy(run_name=asked.run_name, pid=other["pid"], host=other["host"], started=other["started"])
    try:
        journal, read = await take_over(incarnation, asked.run_name, await read_journal(incarnation), sync=True)
        fold, now = Fold(), clock().now()
        for event in read.events():
            fold.fold(event)
        try:
            if asked.root not in fold.actions:  # its process ended before the root was on record
                begun = ActionAsked(action=asked.root, at=now, task=asked.task, version=asked.version)
                journal.append(begun)
                fold.fold(begun)
            for record in reversed(list(fold.actions.values())):
                if record.has_live_attempt:
                    journal.append(
                        AttemptEnded(action=record.name, at=now, number=record.number, status=Status.CRASHED, then=Status.CRASHED)
                    )  # fmt: skip
                if record.has_live_attempt or record.status in CANCELABLE_STATES:
                    journal.append(ActionEnded(action=record.name, at=now, then=Status.CANCELLED))
        finally:
            await journal.aclose()
    finally:
        hold.release()
