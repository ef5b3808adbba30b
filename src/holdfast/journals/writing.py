"""Writing a journal: group commit on a writer thread, behind a fence.

Events of all concurrent actions queue on the loop and are written as one frame. Only what somebody waits for wakes the writer; the rest
rides along, or follows after `LINGER_SECONDS`. A group counts once it is written, synced, and then seen not to be fenced. After a failed
write a segment is never appended to again: the group goes to the next segment, or its callers get the error and the journal is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from holdfast.clocks import clock
from holdfast.errors import HoldfastError, ObjectExists, RunFenced, RunStopped, StoreError, StorePermission
from holdfast.events import Event, encode_event
from holdfast.folders.protocol import Folder, Log
from holdfast.folders.threads import in_thread
from holdfast.journals.frames import Header, Seal, frame, header_digest, segment_key
from holdfast.journals.reading import Read, read_journal

LINGER_SECONDS = 0.1


class _Group:
    """Events that become durable together, and who waits for that."""

    __slots__ = ("events", "lines", "waiters")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.events: list[Event] = []
        self.waiters: list[asyncio.Future[None]] = []


class _End:
    """Where the newest segment ends: what the next frame goes on from. Changed by the loop alone, once a group is acknowledged."""

    __slots__ = ("digest", "index", "length", "log", "segment")

    def __init__(self, segment: int, log: Log, header: bytes) -> None:
        self.segment = segment
        self.log = log
        self.index = 0
        self.length = len(header)
        self.digest = header_digest(header)

    def seal(self) -> Seal:
        return Seal(self.segment, self.length, self.digest)


class Journal:
    """The one writing end of a run's journal. Made by `take_over`; used on one event loop."""

    epoch: int

    def __init__(self, folder: Folder, run_name: str, header: Header, log: Log, seals: Sequence[Seal], *, sync: bool) -> None:
        self.epoch = header.epoch
        self.run_name = run_name
        self.on_durable: Callable[[Sequence[Event]], None] = lambda events: None
        self.on_told: Callable[[Sequence[Event]], None] = lambda events: None
        self.on_lost: Callable[[BaseException], None] = lambda error: None
        self._folder = folder
        self._header = header
        self._end = _End(header.segment, log, header.to_line())
        self._seals = tuple(seals)
        self._sync = sync
        self._loop = asyncio.get_running_loop()
        self._group = _Group()
        self._writing: _Group | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._rolling: asyncio.Task[None] | None = None
        self._lost: BaseException | None = None
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_groups, name=f"holdfast-journal-{run_name}", daemon=True)
        self._thread.start()

    # what callers ask

    def append(self, event: Event) -> None:
        """Record an event in its turn, without waiting. Raises: what the journal was lost to."""
        if self._lost is not None:
            raise self._lost
        self._group.lines.append(encode_event(event))
        self._group.events.append(event)
        if self._wake is None and self._writing is None:
            self._wake = self._loop.call_later(LINGER_SECONDS, self._flush)

    async def commit(self, event: Event) -> None:
        """Record an event, and return when it is durable, also if the caller is cancelled meanwhile (then CancelledError follows).

        Raises: RunFenced, StoreFull, StoreUnavailable, StorePermission.
        """
        self.append(event)
        await self.barrier()

    async def barrier(self) -> None:
        """Return when everything appended so far is durable. Cancellation waits too. Raises: as `commit`."""
        group = self._group if self._group.lines else self._writing
        if self._lost is not None:
            raise self._lost
        if group is None:
            return
        cancelled: asyncio.CancelledError | None = None
        while True:
            waiter = self._loop.create_future()
            group.waiters.append(waiter)
            if group is self._group:
                self._wake_now()
            try:
                await waiter
                break
            except asyncio.CancelledError as error:
                cancelled = error
                if not group.lines:
                    break
        if cancelled is not None:
            raise cancelled

    async def look(self) -> None:
        """Find out whether another owner took over. An idle owner does this now and then. Raises: RunFenced."""
        fence = self._end.segment + 1
        if await self._folder.stat(segment_key(fence)) is None:
            return
        if self._lost is None and self._rolling is None and fence == self._end.segment + 1:  # else it is our own
            self._lose(RunFenced(run_name=self.run_name, segment=fence))

    async def aclose(self) -> None:
        """Write what is queued, where the journal still is ours, and end the writer thread."""
        if self._lost is None:
            try:
                await self.barrier()
            finally:
                self._stop()
        else:
            self._stop()

    def abandon(self) -> None:
        """End the writer without writing what is queued."""
        self._stop()

    # on the loop

    def _wake_now(self) -> None:
        if self._writing is not None:
            return  # what is written takes the next group along when it is done
        if self._wake is not None:
            self._wake.cancel()
        self._flush()

    def _flush(self) -> None:
        self._wake = None
        if self._writing is not None or not self._group.lines or self._lost is not None:
            return
        self._writing, self._group = self._group, _Group()
        data, digest = frame(self._end.index, self._end.digest, self._writing.lines, self._seals)
        self._work.put(partial(self._write, self._end.log, self._end.segment + 1, data, digest))

    def _written(self, size: int, digest: str) -> None:
        group, self._writing = self._writing, None
        if group is None or self._lost is not None:
            return
        self._end.index += 1
        self._end.length += size
        self._end.digest = digest
        self._seals = ()
        group.lines = []
        self.on_durable(group.events)
        for waiter in group.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.on_told(group.events)
        if self._group.waiters:
            self._wake_now()
        elif self._group.lines and self._wake is None:
            self._wake = self._loop.call_later(LINGER_SECONDS, self._flush)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, StoreError):
            self._rolling = self._loop.create_task(self._roll(error))
        else:
            self._lose(error)

    async def _roll(self, error: StoreError) -> None:
        """Seal the segment, and write the waiting group to the next one. If that fails too, the journal is lost to the first error."""
        sealed = self._end
        header = replace(self._header, segment=sealed.segment + 1, previous=sealed.segment)
        try:
            log = await create_segment(self._folder, self.run_name, header)
        except RunFenced as fenced:
            self._lose(fenced)
            return
        except (HoldfastError, OSError):
            self._lose(error)
            return
        except BaseException as crash:
            self._lose(crash)
            raise
        _close(sealed.log)
        self._end = _End(header.segment, log, header.to_line())
        self._seals = (*(seal for seal in self._seals), sealed.seal())
        if (group := self._writing) is not None:
            data, digest = frame(0, self._end.digest, group.lines, self._seals)
            self._work.put(partial(self._write, log, header.segment + 1, data, digest, may_roll=False))
        self._rolling = None

    def _lose(self, error: BaseException) -> None:
        if self._lost is None:
            self._shut(error)
            self.on_lost(error)

    def _shut(self, error: BaseException) -> None:
        """Take nothing more, and let everybody who waits have `error`: nobody waits for a journal that writes no longer."""
        self._lost = error
        for group in (self._writing, self._group):
            for waiter in group.waiters if group is not None else ():
                if not waiter.done():
                    waiter.set_exception(error)
            if group is not None:
                group.lines = []
        self._writing = None

    def _stop(self) -> None:
        if self._lost is None:
            self._shut(RunStopped(run_name=self.run_name, reason="it has ended"))
        if self._wake is not None:
            self._wake.cancel()
        self._work.put(None)

    # on the writer thread

    def _write_groups(self) -> None:
        while (job := self._work.get()) is not None:
            job()
            del job  # it holds the bytes of its group
        _close(self._end.log)

    def _write(self, log: Log, fence: int, data: bytes, digest: str, *, may_roll: bool = True) -> None:
        try:
            log.append(data, sync=self._sync)
            if log.is_fenced_by(segment_key(fence)):
                raise RunFenced(run_name=self.run_name, segment=fence)
        except BaseException as error:
            self._tell(self._failed if may_roll else self._lose, error)
        else:
            self._tell(self._written, len(data), digest)

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop was closed under a run that nobody awaits any more
            return


def _close(log: Log) -> None:
    """Let go of a segment. What counts of it was synced, so nothing hangs on how its file closes."""
    with contextlib.suppress(StoreError):
        log.close()


async def create_segment(folder: Folder, run_name: str, header: Header) -> Log:
    """Create the segment exclusively. Its name taken with our own bytes is our own success. Raises: RunFenced."""
    key, line = segment_key(header.segment), header.to_line()
    try:
        await folder.create(key, line)
    except ObjectExists as error:
        if await folder.get(key) != line:
            raise RunFenced(run_name=run_name, segment=header.segment) from error
    return await folder.logs.open_log(key)


def boot_id() -> str:
    """Tell one boot of this machine from another, where the system says so."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


async def take_over(folder: Folder, run_name: str, known: Read, *, sync: bool) -> tuple[Journal, Read]:
    """Become the owner: create the very next segment, then read every older one (what changed of it since `known`).

    The caller folds what was read, and appends `AttemptEnded(CRASHED)` for attempts without an end before any new attempt.

    Raises: RunFenced, where another contender was quicker; JournalDamaged, JournalTooNew, StoreError.
    """
    number = (known.newest.segment if known.newest is not None else 0) + 1
    header = Header(
        segment=number,
        epoch=number,
        owner=secrets.token_hex(16),
        previous=number - 1,
        host=socket.gethostname(),
        pid=os.getpid(),
        boot=boot_id(),
        started=clock().now(),
    )
    log = await create_segment(folder, run_name, header)
    read = await read_journal(folder, below=number, known=known)
    unsealed = [s.seal() for s in read.segments if s.header.segment not in read.seals]
    if sync:
        for seal in unsealed:
            await in_thread(partial(_sync, await folder.logs.open_log(segment_key(seal.segment))))
    return Journal(folder, run_name, header, log, unsealed, sync=sync), read


def _sync(log: Log) -> None:
    """Make durable what was read of a segment: its owner may have been killed between write and sync, and others now build on it."""
    try:
        log.append(b"", sync=True)
    finally:
        _close(log)


async def confirm(folder: Folder, read: Read, *, sync: bool) -> bool:
    """Say whether every later owner will read what was read, as an owner finds out before it acknowledges a group. Raises: StoreError."""
    if read.newest is None or not read.is_settled:
        return False
    number = read.newest.segment
    if sync:
        with contextlib.suppress(StorePermission):  # who may only read can't make it durable, and gets what is there
            await in_thread(partial(_sync, await folder.logs.open_log(segment_key(number))))
    return await folder.stat(segment_key(number + 1)) is None
