"""Writing groups on a disk: a segment grows, on a writer thread.

A group counts once it is written, synced, and then seen not to be fenced: the next segment's name is free, and our own is still linked.
After a failed write a segment is never appended to again: the group goes to the next segment once, and if that fails too, it never counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from holdfast.errors import HoldfastError, ObjectExists, RunFenced, StoreError, StoreInvalid
from holdfast.folders.protocol import Folder, Log
from holdfast.journals.frames import Header, Seal, frame, header_digest, segment_key


class _End:
    """Where the newest segment ends: what the next frame goes on from. Changed by the loop alone, once a group counts."""

    __slots__ = ("digest", "index", "length", "log", "segment")

    def __init__(self, segment: int, log: Log, header: bytes) -> None:
        self.segment = segment
        self.log = log
        self.index = 0
        self.length = len(header)
        self.digest = header_digest(header)

    def seal(self) -> Seal:
        return Seal(self.segment, self.length, self.digest)


class LogPen:
    """Appends to segments of its owner's."""

    epoch: int

    def __init__(self, folder: Folder, run_name: str, header: Header, log: Log, seals: Sequence[Seal], *, sync: bool) -> None:
        self.epoch = header.epoch
        self._folder = folder
        self._run_name = run_name
        self._header = header
        self._end = _End(header.segment, log, header.to_line())
        self._seals = tuple(seals)
        self._sync = sync
        self._loop = asyncio.get_running_loop()
        self._lines: Sequence[bytes] = ()
        self._done: Callable[[BaseException | None], None] = lambda error: None
        self._rolling: asyncio.Task[None] | None = None
        self._stopped = False
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._write_groups, name=f"holdfast-journal-{run_name}", daemon=True).start()

    def write(self, lines: Sequence[bytes], done: Callable[[BaseException | None], None]) -> None:
        self._lines, self._done = lines, done
        self._put(may_roll=True)

    async def look(self) -> None:
        fence = self._end.segment + 1
        taken = await self._folder.stat(segment_key(fence)) is not None
        if taken and self._rolling is None and fence == self._end.segment + 1:  # else it is our own
            raise RunFenced(run_name=self._run_name, segment=fence)

    def stop(self) -> None:
        self._stopped = True
        self._work.put(None)

    # on the loop

    def _put(self, *, may_roll: bool) -> None:
        data, digest = frame(self._end.index, self._end.digest, self._lines, self._seals)
        self._work.put(partial(self._write, self._end.log, self._end.segment + 1, data, digest, may_roll=may_roll))

    def _written(self, size: int, digest: str) -> None:
        self._end.index += 1
        self._end.length += size
        self._end.digest = digest
        self._seals = self._lines = ()
        self._done(None)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, StoreError) and not self._stopped:
            self._rolling = self._loop.create_task(self._roll(error))
        else:
            self._done(error)

    async def _roll(self, error: StoreError) -> None:
        """Seal the segment, and write the group to the next one. If that fails too, it has failed by the first error."""
        sealed = self._end
        header = replace(self._header, segment=sealed.segment + 1, previous=sealed.segment)
        try:
            log = await create_segment(self._folder, self._run_name, header)
        except RunFenced as fenced:
            self._done(fenced)
            return
        except (HoldfastError, OSError):
            self._done(error)
            return
        except BaseException as crash:
            self._done(crash)
            raise
        close(sealed.log)
        self._end = _End(header.segment, log, header.to_line())
        self._seals = (*self._seals, sealed.seal())
        self._rolling = None
        self._put(may_roll=False)

    # on the writer thread

    def _write_groups(self) -> None:
        while (job := self._work.get()) is not None:
            job()
            del job  # it holds the bytes of its group
        close(self._end.log)

    def _write(self, log: Log, fence: int, data: bytes, digest: str, *, may_roll: bool) -> None:
        try:
            log.append(data, sync=self._sync)
            if log.is_fenced_by(segment_key(fence)):
                raise RunFenced(run_name=self._run_name, segment=fence)
        except BaseException as error:
            self._tell(self._failed if may_roll else self._done, error)
        else:
            self._tell(self._written, len(data), digest)

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop was closed under a run that nobody awaits any more
            return


async def create_segment(folder: Folder, run_name: str, header: Header) -> Log:
    """Create the segment exclusively. Its name taken with our own bytes is our own success. Raises: RunFenced."""
    if folder.logs is None:
        raise StoreInvalid(where=folder.url, reason="nothing in it grows")
    key, line = segment_key(header.segment), header.to_line()
    try:
        await folder.create(key, line)
    except ObjectExists as error:
        if await folder.get(key) != line:
            raise RunFenced(run_name=run_name, segment=header.segment) from error
    return await folder.logs.open_log(key)


def close(log: Log) -> None:
    """Let go of a segment. What counts of it was synced, so nothing hangs on how its file closes."""
    with contextlib.suppress(StoreError):
        log.close()


def sync(log: Log) -> None:
    """Make durable what was read of a segment: its owner may have been killed between write and sync, and others now build on it."""
    try:
        log.append(b"", sync=True)
    finally:
        close(log)
