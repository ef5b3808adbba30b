"""Whether somebody is at work on a run: a hint, so that nobody fences a live owner by accident. The journal alone decides who owns.

On a disk it is a lock, which ends with the process. In an object store the owner overwrites a small heartbeat now and then, from a thread
of its own, so that a body which blocks the loop looks alive. A contender takes over when the heartbeat stayed the same for a whole lease
by the contender's own clock; at once, where the owner said that it ended, or this machine knows that its process is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias

from holdfast.bridge import heart_loop
from holdfast.clocks import clock, instant
from holdfast.codec import from_json, to_json
from holdfast.errors import ObjectMissing, RunBusy, StoreError
from holdfast.folders.protocol import Folder, Hold
from holdfast.journals.frames import Header
from holdfast.journals.owning import boot_id, is_gone, process_start

LOCK: Final = "owner.lock"
LEASE_SECONDS: Final = 30.0
#: Beats in a lease, so that a few may fail.
BEATS: Final = 6
#: How often a contender looks, in a lease.
LOOKS: Final = 10
INBOX_SECONDS: Final = 0.25

Owner: TypeAlias = Literal["live", "gone", "unknown"]

_log = logging.getLogger("holdfast")


class Presence(Protocol):
    """What others see of an owner."""

    interval: float
    """Seconds between two looks of the owner at its inbox."""

    async def begin(self, epoch: int) -> None:
        """We own the run now."""
        ...

    async def renew(self) -> None:
        """Called at each interval."""
        ...

    async def end(self) -> None:
        """Say that we are done."""
        ...

    def drop(self) -> None:
        """The same, as far as nothing can be awaited any more."""
        ...


def poll_seconds(folder: Folder, lease: float) -> float:
    """Seconds between two looks of an owner at its inbox."""
    return INBOX_SECONDS if folder.logs is not None else lease / BEATS


async def approach(folder: Folder, run_name: str, newest: Header | None, *, force: bool, lease: float = LEASE_SECONDS) -> Presence:
    """Return once nobody else seems to be at work, or at once with `force`. Raises: RunBusy, StoreError."""
    if folder.logs is not None:
        held = await folder.logs.hold(LOCK, who_am_i())
        if not isinstance(held, bytes):
            return Locked(folder, held)
        if not force:
            raise _busy(run_name, _read(held))
        return Locked(folder, None)
    if newest is not None and not force:
        await _watch(folder, run_name, newest, lease)
    return Beating(folder, lease)


async def is_known_gone(folder: Folder, newest: Header | None) -> bool:
    """Whether nobody is at work for sure, whatever the clocks say. Raises: StoreError."""
    if folder.logs is not None:
        return await folder.logs.held(LOCK) is None
    return newest is None or is_gone(newest) or bool((await _beat_of(folder, newest.epoch)).get("ended"))


async def owner_of(folder: Folder, newest: Header | None) -> Owner:
    """Whether somebody seems to be at work, by one look. Raises: StoreError."""
    if folder.logs is not None:
        return "gone" if await is_known_gone(folder, newest) else "live"
    if newest is None:
        return "gone"
    beat = await _beat_of(folder, newest.epoch)
    if beat.get("ended") or is_gone(newest):
        return "gone"
    found = await folder.stat(_key(newest.epoch))
    lease = _lease_of(beat, LEASE_SECONDS)
    age = clock().now() - found.modified if found is not None else None  # by two clocks, so that only much or little says something
    if age is not None and age < 2 * lease:
        return "live"
    return "gone" if age is not None and age > 10 * lease else "unknown"


def who_am_i() -> bytes:
    """What others are told of the owner of a run."""
    return to_json(_me())


class Locked:
    """A locked file, and until the owner that we fenced lets go of it, none."""

    interval: float = INBOX_SECONDS

    def __init__(self, folder: Folder, hold: Hold | None) -> None:
        self._folder = folder
        self._hold = hold

    async def begin(self, epoch: int) -> None: ...

    async def renew(self) -> None:
        if self._hold is None and self._folder.logs is not None:
            held = await self._folder.logs.hold(LOCK, who_am_i())
            self._hold = None if isinstance(held, bytes) else held

    async def end(self) -> None:
        self.drop()

    def drop(self) -> None:
        if self._hold is not None:
            self._hold.release()
            self._hold = None


class Beating:
    """A heartbeat object for each epoch."""

    interval: float

    def __init__(self, folder: Folder, lease: float) -> None:
        self.interval = poll_seconds(folder, lease)
        self._folder = folder
        self._lease = lease
        self._me = _me()  # once: who is at work since when, not when this beat was
        self._epoch = 0
        self._count = 0
        self._beating: asyncio.Task[None] | None = None
        self._putting: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._home: asyncio.AbstractEventLoop | None = None

    async def begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._home = asyncio.get_running_loop()
        self._loop = heart_loop() if clock().is_real else self._home  # virtual time has one loop
        self._loop.call_soon_threadsafe(self._start)
        await self._put_within_interval()

    async def renew(self) -> None:
        """The beat does."""

    async def end(self) -> None:
        """Put it behind whatever beat is under way."""
        loop = self._loop
        if loop is None:
            return
        if loop is asyncio.get_running_loop():
            await self._finish()
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._finish(), loop))

    def drop(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the beat with it
                self._loop.call_soon_threadsafe(self._stop)

    def _start(self) -> None:
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    def _stop(self) -> None:
        if self._beating is not None:
            self._beating.cancel()

    async def _beat(self) -> None:
        """A beat that the store leaves without an answer does not hold up the next. The owner's loop may be closed under it."""
        while self._home is not None and not self._home.is_closed():
            await clock().sleep(self.interval)
            if len(self._putting) < BEATS:
                putting = asyncio.get_running_loop().create_task(self._put())
                self._putting.add(putting)
                putting.add_done_callback(self._putting.discard)

    async def _finish(self) -> None:
        """A store that does not answer keeps nobody from ending for long."""
        self._stop()
        if self._putting:
            await asyncio.wait(set(self._putting), timeout=self.interval)
        for putting in self._putting:
            putting.cancel()
        await self._put_within_interval(ended=True)

    async def _put_within_interval(self, *, ended: bool = False) -> None:
        """Whoever is cancelled waits for the request that is under way, so it is left alone instead."""
        putting = asyncio.ensure_future(self._put(ended=ended))
        try:
            await asyncio.wait({putting}, timeout=self.interval)
        finally:
            putting.cancel()

    async def _put(self, *, ended: bool = False) -> None:
        self._count += 1
        beat = {**self._me, "epoch": self._epoch, "beat": self._count, "lease": self._lease, "ended": ended}
        try:
            await self._folder.put(_key(self._epoch), to_json(beat))
        except StoreError as error:  # a hint: the next owner may have to wait for a lease
            _log.warning("a heartbeat can't be written just now: %s", error)


async def _watch(folder: Folder, run_name: str, newest: Header, lease: float) -> None:
    """Return when the owner is gone, or silent for a lease. Raises: RunBusy, as soon as it shows a sign of life."""
    seen = await _beat_of(folder, newest.epoch)
    wait = _lease_of(seen, lease)
    for look in range(LOOKS):  # counted, not timed: who stood still for a lease has not looked for one
        if seen.get("ended") or is_gone(newest):
            return
        if look == 0:
            _log.info("run %r: waiting up to %g s for a sign of life of process %d on %s", run_name, wait, newest.pid, newest.host)
        await clock().sleep(wait / LOOKS)
        now = await _beat_of(folder, newest.epoch)
        if now != seen and not now.get("ended"):
            raise _busy(run_name, now)
        seen = now


async def _beat_of(folder: Folder, epoch: int) -> Mapping[str, Any]:
    """The heartbeat of an owner; empty, where it has not begun, or it can't be read as one."""
    try:
        return _read(await folder.get(_key(epoch)))
    except ObjectMissing:
        return {}


def _read(data: bytes) -> Mapping[str, Any]:
    try:
        found = from_json(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _lease_of(beat: Mapping[str, Any], lease: float) -> float:
    """The owner's own, where it says: it beats to that."""
    said = beat.get("lease")
    return float(said) if isinstance(said, (int, float)) and said > 0 else lease


def _me() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": boot_id(),
        "process": process_start(os.getpid()),
        "started": instant(clock().now()).isoformat(),
    }


def _busy(run_name: str, other: Mapping[str, Any]) -> RunBusy:
    """It may be about to write who it is."""
    try:
        return RunBusy(run_name=run_name, pid=int(other["pid"]), host=str(other["host"]), started=str(other["started"]))
    except (ValueError, KeyError, TypeError):
        return RunBusy(run_name=run_name, pid=0, host="an unknown host", started="just now")


def _key(epoch: int) -> str:
    return f"owner/{epoch:010}.json"
