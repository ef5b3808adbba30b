"""Writing groups in an object store: each is a segment of its own, created under the very next name.

A group counts once its creation is accepted. A name is free once: an owner that was away for so long that names may have been deleted
(`SEGMENT_GRACE`) looks for a snapshot that stands for them before it believes so. Now and then it makes a snapshot itself, behind the
work; a snapshot that fails is tried again some groups later, and nothing hangs on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from holdfast.clocks import clock
from holdfast.errors import HoldfastError, ObjectExists, ObjectMissing, RunFenced
from holdfast.folders.protocol import Folder
from holdfast.folders.threads import call, in_thread
from holdfast.journals.frames import Header, Seal, frame, header_digest, segment_key
from holdfast.journals.snapshots import SEGMENT_GRACE, Snapshot, compacted, parse_snapshot, snapshot_key, snapshots

#: Segments behind the last snapshot, at least, before the next one.
SNAPSHOT_SEGMENTS: Final = 256
#: And what is behind it has to be this part of what is in it, so that all snapshots together cost little more than the journal.
SNAPSHOT_GROWTH: Final = 0.5
#: Unless it is so many segments. About so many objects are read to open a run, and no more, however long it is.
SNAPSHOT_MOST: Final = 4096
#: So many lines are worth a thread.
THREAD_LINES: Final = 2_000

_log = logging.getLogger("holdfast")


class ObjectPen:
    """Creates one object for each group.

    Args:
        folder: The run's.
        run_name: For messages.
        header: Of the segment that took the run over.
        seals: The ends that are not on record, that one's included.
        snapshot: The newest one, if there is one.
        behind: All lines behind it.
        segments: How many segments there are behind it.
        epochs: Of all owners, this one included.
    """

    epoch: int

    def __init__(
        self,
        folder: Folder,
        run_name: str,
        header: Header,
        seals: Sequence[Seal],
        *,
        snapshot: Snapshot | None = None,
        behind: Iterable[bytes] = (),
        segments: int = 0,
        epochs: Iterable[int] = (),
        began: tuple[float, float] | None = None,
    ) -> None:
        self.epoch = header.epoch
        self._folder = folder
        self._run_name = run_name
        self._header = header
        self._frames = 1 if folder.unfenced is None else None  # what may be torn is read as such
        self._seals = tuple(seals)
        self._counted_at = began if began is not None else now_by_both()  # when the creation of the last that counted began
        self._snapped = (snapshot.segment, len(snapshot.body)) if snapshot is not None else (0, 0)  # the newest one, and its bytes
        self._behind = list(behind)
        self._behind_size = sum(map(len, self._behind))
        self._segments = segments
        self._epochs = tuple(sorted({*epochs, header.epoch}))
        self._creating: asyncio.Task[None] | None = None
        self._snapping: asyncio.Task[None] | None = None
        self._due = SNAPSHOT_SEGMENTS  # so many segments behind it, and the next one is tried

    def write(self, lines: Sequence[bytes], done: Callable[[BaseException | None], None]) -> None:
        creating = self._creating = asyncio.get_running_loop().create_task(self._write(list(lines), done))
        # A loop that ends cancels what has not begun, and then nobody else would tell who waits.
        creating.add_done_callback(lambda ended: done(asyncio.CancelledError()) if ended.cancelled() else None)

    async def look(self) -> None:
        """It costs a request: whoever takes over leaves word in the inbox, and the next group finds out."""

    def stop(self) -> None:
        if self._snapping is not None:
            self._snapping.cancel()

    async def _write(self, lines: list[bytes], done: Callable[[BaseException | None], None]) -> None:
        try:
            header = replace(self._header, segment=self._header.segment + 1, previous=self._header.segment, frames=self._frames)
            line = header.to_line()
            body, digest = frame(0, header_digest(line), lines, self._seals)
            await self._create_to_end(header.segment, line + body)
        except BaseException as error:
            done(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._header = header
            self._seals = (Seal(header.segment, len(line) + len(body), digest),)
            self._behind += lines
            self._behind_size += len(body)
            self._segments += 1
            done(None)
            self._snap_if_due()

    async def _create_to_end(self, segment: int, data: bytes) -> None:
        """Only a loop that ends cancels this, with all else on it: what its tasks leave as their last word is in this group."""
        try:
            await self._create(segment, data)
        except asyncio.CancelledError:
            await self._create(segment, data)

    async def _create(self, segment: int, data: bytes) -> None:
        began = now_by_both()
        try:
            await self._folder.create(segment_key(segment), data)
        except ObjectExists as error:
            if not await self._is_ours(segment, data):
                raise RunFenced(run_name=self._run_name, segment=segment) from error
        if max(now - then for now, then in zip(now_by_both(), self._counted_at, strict=True)) > SEGMENT_GRACE / 2:
            newest = max(await snapshots(self._folder), default=0)
            if newest >= segment:
                raise RunFenced(run_name=self._run_name, segment=newest)
        self._counted_at = began

    async def _is_ours(self, segment: int, data: bytes) -> bool:
        try:
            return await self._folder.get(segment_key(segment)) == data
        except ObjectMissing:
            return False

    # snapshots

    def _snap_if_due(self) -> None:
        if self._snapping is not None and not self._snapping.done():
            return
        has_grown = self._behind_size >= SNAPSHOT_GROWTH * self._snapped[1] or self._segments >= SNAPSHOT_MOST
        if self._segments >= self._due and has_grown:
            self._snapping = asyncio.get_running_loop().create_task(self._snap(self._header, list(self._behind), self._segments))

    async def _snap(self, header: Header, behind: list[bytes], segments: int) -> None:
        try:
            body = await _compacted([*await self._lines_before(), *behind])
            await self._folder.create(snapshot_key(header.segment), Snapshot(header, self._epochs, body).to_bytes())
        except (HoldfastError, OSError) as error:
            _log.debug("run %r: no snapshot just now: %s", self._run_name, error)
            self._due = self._segments + SNAPSHOT_SEGMENTS // 4
            return
        self._due = SNAPSHOT_SEGMENTS
        self._snapped = (header.segment, len(body))
        del self._behind[: len(behind)]
        self._behind_size = sum(map(len, self._behind))
        self._segments -= segments

    async def _lines_before(self) -> list[bytes]:
        """What the last snapshot holds: not kept in memory, since that is most of the journal."""
        segment = self._snapped[0]
        if segment == 0:
            return []
        key = snapshot_key(segment)
        return parse_snapshot(await self._folder.get(key), f"{self._folder.url}/{key}", segment).body.split(b"\n")[:-1]


def now_by_both() -> tuple[float, float]:
    """What time it is by the clock that never goes back, and by the one on the wall: a machine that was frozen by the one that it is in
    does not count that time, and sees it on the wall, where it sees it at all."""
    return clock().monotonic(), clock().now()


async def _compacted(lines: list[bytes]) -> bytes:
    return compacted(lines) if len(lines) < THREAD_LINES else await in_thread(call(compacted, lines))
