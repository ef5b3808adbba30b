"""Deleting the blobs that nothing names, beside live savers in any process on any machine, with no locks and no shared clock.

A blob is put first, and named by something durable (an event of a journal, a manifest of a checkpoint) later. A sweeper may delete it
unless it is named, or somebody is about to name it. Nobody can be asked, and anybody may be paused between any two steps, for a minute or
for a week, and then go on. So both sides write before they look:

The saver
    S1  writes an *intent*, an object `gc/intents/…`, and waits until it is there. It stays until S5.
    S2  puts the blob; where it is there already, touches it: either way `modified` is now.
    S3  lists the *plans* of the sweepers. If the name is in one, the data is put once more, under a name that nobody else can share.
    S4  makes durable what names the blob. (A manifest: after a look that the intent is still there.)
    S5  removes the intent.

The sweeper
    G1  writes an object, and reads the time of the store from it: now. Lists the intents. One that is older than a day is dead, and is
        removed before anything else.
    G2  lists the blobs. Only those are candidates that were modified before now - grace, and before the oldest live intent was written.
    G3  reads everything durable that names blobs, and strikes those off.
    G4  writes what is left as its plan.
    G5  lists the blobs again, and strikes off what was modified meanwhile.
    G6  deletes the rest. When the last answer is there, it writes that its plan is done with.

Why that is safe, wherever who stands still for how long. Take a blob that a saver named (S4), and a sweeper that did not see that name in
G3, so that S4 ended after G3 began.

- If S5 came after G1, the sweeper saw the intent or S1 came after G1. In both cases S2, which came after S1, made the blob newer than what
  G2 allows; G2 or G5 saw that, if S2 came before G5. If S5 came before G1, S4 came before G3, and the name was seen.
- If S2 came after G5, then S3 came after G4, and the saver saw the plan. It took another name, which is in no plan and never will be: the
  private copy is newer than every intent above it.

A plan counts for as long as its sweeper may still delete. One that ended says so, and its plan is removed a quarter of an hour later, by
whoever sweeps next: an object store refuses a request that is older. One that never said so was killed, or is asleep: its plan stays for
30 days. All that it costs is that the names in it are not shared. The saver's S2 and S3 together must not last longer than the quarter of
an hour, or they are done again.

What the proof takes for granted: a listing shows what was written before it began; the store's clock does not jump forward by a day while
somebody saves; nobody is paused for more than a day between S1 and S4 (it is noticed when it goes on, and the save is made again, unless
the process dies in that moment: a manifest is then passed over, as any damaged one); and the clocks of the store's machines, or of the
hosts of a shared disk, agree within a minute.

Names that are handed on. A save may name again, without touching, what the newest generation of its own action names, since that one is
deleted only when the new one is durable. Manifests are named in their order, so a listing that no longer shows the older one shows the
newer one, and where one vanishes between listing and reading, its folder is listed again.

Values and chunks never share a blob (`blobs`), so an owner can sweep the chunks of a generation that it deleted by looking at manifests
alone: `Broom`. A manifest or journal that can't be read ends the sweep with its error, and nothing is deleted.

Beside blobs, `sweep` removes what crashes leave behind (unfinished files after a day, probes, old plans), and the segments of journals
for which two snapshots stand, the older of them for a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any, Final, TypeVar

from holdfast.blobs import blob_key, digest_of, is_blob_name
from holdfast.checkpoints.generations import NAMES_BLOBS, blobs_named, order_of, unsealed
from holdfast.codec import from_json, parts_of
from holdfast.errors import BlobCorrupt, CheckpointCorrupt, HoldfastError, ObjectMissing, StoreError
from holdfast.events import (
    ActionAsked,
    AttemptEnded,
    AttemptStarted,
    CheckpointSaved,
    Event,
    Messaged,
    MessagesCleared,
    Progressed,
    RowsCounted,
    TaskSeen,
    Unknown,
    Warned,
)
from holdfast.folders.fencing import PROBE
from holdfast.folders.protocol import Entry, Folder
from holdfast.folders.threads import call, in_thread
from holdfast.intents import Board, end_plans, forget_plans, read_board, write_plans
from holdfast.journals.frames import segment_key
from holdfast.journals.reading import read_journal
from holdfast.journals.snapshots import SEGMENT_GRACE, newest_snapshot, snapshots

T = TypeVar("T")

#: Seconds since a blob was last put or touched, before a sweep may take it, unless told otherwise; and at least.
GRACE: Final = 3600.0
MIN_GRACE: Final = 600.0
#: Seconds by which the clocks of a store's machines may differ.
SKEW: Final = 60.0
#: Seconds since an unfinished file was last written, before it is taken for what a crash left behind.
UNFINISHED_GRACE: Final = 24 * 3600.0
#: How many snapshots of a journal stay: where the newest can't be read, the one before is.
SNAPSHOTS_KEPT: Final = 2
#: What an owner lets lie before it sweeps: bytes, and how much a blob of unknown size counts.
WORTH_SWEEPING: Final = 64 << 20
UNKNOWN_SIZE: Final = 1 << 20
#: Blobs up to this number are asked for one by one; for more, all are listed.
FEW: Final = 1_000
#: Manifests from this size on are read in a thread.
ASIDE: Final = 128 * 1024
#: Objects read at one time, and deleted in one request.
WIDTH: Final = 32
BATCH: Final = 500

_JOURNAL = re.compile(r"(.+)/journal/(\d{20})\.jsonl")
_SNAPSHOT = re.compile(r"(.+)/snap/(\d{20})\.jsonl")
_MANIFESTS = re.compile(rf"(runs/[^/]+/[^/]+/actions/[^/]+/checkpoints)/([^/]+{re.escape(NAMES_BLOBS)})")  # a figure may be named like one
_NAMELESS = (TaskSeen, ActionAsked, AttemptStarted, CheckpointSaved, Progressed, Messaged, MessagesCleared, RowsCounted, Warned)
_log = logging.getLogger("holdfast")


async def sweep(store: Folder, *, grace: float = GRACE, dry_run: bool = False) -> int:
    """Free what nothing names any more. Safe at any time, beside anything; may be ended at any point, and done again.

    Args:
        store: The store's own folder.
        grace: Seconds since a blob was last put or touched, at least 10 minutes.
        dry_run: Only say what would be freed.

    Returns:
        Bytes freed.

    Raises:
        JournalDamaged, JournalTooNew, CheckpointCorrupt, CheckpointForeign, BlobCorrupt: What may name blobs can't be read. Nothing that
            it could name was deleted.
        StoreError: The store said no.
    """
    async with _looking(store) as board:
        runs = {f"runs/{entry.name}": entry for entry in await store.walk("runs")}
        segments = await _but_takeovers(store, superseded(runs, board.now))
        freed = sum(runs[key].size for key in segments)
        await _remove(store, () if dry_run else segments)
        freed += await _sweep_unfinished(store, board.now, grace, dry_run=dry_run)
        cutoff = _cutoff(board, grace)
        candidates = {name: entry for name, entry in (await _all_blobs(store)).items() if _is_old(entry, cutoff)}
        async for names in names_in_use(store, runs):
            for name in names:
                candidates.pop(name, None)
        if dry_run:
            return freed + sum(entry.size for entry in candidates.values())
        return freed + await _delete(store, list(candidates), cutoff, lambda: _all_blobs(store))


async def size_of(store: Folder, run_name: str | None = None) -> int:
    """Bytes of the whole store; or of a run, in all its incarnations, with the blobs that it names. Raises: as `sweep`."""
    if run_name is None:
        return sum(entry.size for entry in await store.walk(""))
    prefix = f"runs/{run_name}"
    own = {f"{prefix}/{entry.name}": entry for entry in await store.walk(prefix)}
    named: set[str] = set()
    async for names in names_in_use(store, own):
        named.update(names)
    return sum(entry.size for entry in own.values()) + sum(entry.size for entry in (await _some_blobs(store, named)).values())


class Broom:
    """Sweeps, behind the work of one owner, the chunks of generations that it deleted: so a few large generations are all that there is.

    It reads the manifests of all runs for that, so it waits until it is worth it. It never fails or delays the run, and ends with it; what
    it leaves lying is left to `sweep`.

    Args:
        store: The store's own folder.
        run_id: Of the run, and `epoch` of its owner: the intents of its former owners need not be waited for as long as others.
    """

    def __init__(self, store: Folder, *, run_id: str, epoch: int) -> None:
        self._store = store
        self._run_id = run_id
        self._epoch = epoch
        self._dropped: set[str] = set()
        self._weight = 0
        self._working: asyncio.Task[None] | None = None

    def drop(self, names: Collection[str], size: int | None = None) -> None:
        """These chunks are named by none of this action's generations any more. To be called on the run's loop."""
        self._dropped.update(name for name in names if is_blob_name(name))
        self._weight += size if size is not None else UNKNOWN_SIZE * len(names)
        if self._weight >= WORTH_SWEEPING and self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work(), name="holdfast sweep")

    async def sweep(self) -> int:
        """Sweep now what was dropped and is old enough. Returns the bytes freed. Raises: as `sweep`."""
        dropped, self._dropped, self._weight = self._dropped, set(), 0
        left = set(dropped)
        try:
            async with _looking(self._store, self._run_id, self._epoch) as board:
                cutoff = _cutoff(board, MIN_GRACE, self._run_id, self._epoch)
                manifests = {f"runs/{entry.name}": entry for entry in await self._store.walk("runs") if entry.name.endswith(NAMES_BLOBS)}
                async for names in names_in_use(self._store, manifests):
                    dropped.difference_update(names)
                left = set(dropped)
                there: dict[str, Entry] = {}

                async def look() -> dict[str, Entry]:
                    there.update(await _some_blobs(self._store, dropped))
                    return there

                freed = await _delete(self._store, sorted(dropped), cutoff, look)
                left = {name for name, entry in there.items() if not _is_old(entry, cutoff)}
                return freed
        finally:
            self._dropped |= left

    async def aclose(self) -> None:
        """End it. A request that is under way is waited for."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working})

    async def _work(self) -> None:
        try:
            while self._weight >= WORTH_SWEEPING:
                await asyncio.sleep(MIN_GRACE + SKEW)  # until all that was dropped up to here is old enough
                freed = await self.sweep()
                _log.debug("%s: %d bytes of deleted generations were freed", self._store.url, freed)
        except HoldfastError as error:
            _log.warning("%s: what deleted generations held can't be freed just now: %s", self._store.url, error)
        finally:
            self._working = None


# what is in use


async def names_in_use(store: Folder, runs: Mapping[str, Entry]) -> AsyncGenerator[Collection[str]]:
    """The names of blobs in the journals and manifests among these objects, one object after the other.

    Raises: JournalDamaged, JournalTooNew, CheckpointCorrupt, CheckpointForeign, BlobCorrupt, StoreError.
    """
    journals = sorted({match[1] for key in runs if (match := _JOURNAL.fullmatch(key) or _SNAPSHOT.fullmatch(key))})
    for journal in journals:
        yield await _names_in_journal(store, store.child(journal))
    folders: dict[str, list[str]] = {}
    for key in runs:
        if (match := _MANIFESTS.fullmatch(key)) and order_of(match[2]) is not None:
            folders.setdefault(match[1], []).append(match[2])
    async for names in _side_by_side(lambda folder: _names_in_manifests(store.child(folder), folders[folder]), folders):
        yield names


async def _names_in_journal(store: Folder, run: Folder) -> set[str]:
    found: set[str] = set()
    for event in (await read_journal(run)).events():
        if isinstance(event, AttemptEnded) and event.blob and event.value is None:
            found.update(await _parts_of_blob(store, event.blob))
        found.update(names_in_event(event))
    return found


def names_in_event(event: Event) -> Iterator[str]:
    """The blobs that an event names. What is not known to name none is searched for anything that looks like one."""
    if isinstance(event, AttemptEnded):
        if event.blob:
            yield event.blob
        yield from parts_of(event.value)
        yield from _names_in(event.error)
    elif isinstance(event, Unknown):
        yield from _names_in(event.record)
    elif not isinstance(event, _NAMELESS):
        yield from _names_in([getattr(event, name) for name, *_ in event.__fields__])


def _names_in(tree: Any) -> Iterator[str]:
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, str):
            if is_blob_name(node):
                yield node
        elif isinstance(node, Mapping):
            pending.extend(node.values())
        elif isinstance(node, (list, tuple)):
            pending.extend(node)


async def _parts_of_blob(store: Folder, name: str) -> Sequence[str]:
    """What a value names that was recorded before events said so themselves."""
    try:
        return parts_of(from_json(await store.get(blob_key(name))))
    except ObjectMissing:
        return ()  # a value that is lost already
    except ValueError as error:
        raise BlobCorrupt(where=f"{store.url}/{blob_key(name)}", reason="it is no value, and may name others") from error


async def _names_in_manifests(folder: Folder, listed: Sequence[str]) -> set[str]:
    """A manifest that has vanished was superseded, so the newer ones are looked for until all that are listed are read."""
    found: set[str] = set()
    read: set[str] = set()
    while True:
        gone = False
        for name in listed:
            if name not in read:
                try:
                    data, where = await folder.get(name), f"{folder.url}/{name}"
                    aside = len(data) > ASIDE  # a list of ten thousand files must not hold up the run that sweeps
                    found |= await in_thread(call(_names_in_manifest, data, where)) if aside else _names_in_manifest(data, where)
                    read.add(name)
                except ObjectMissing:
                    gone = True
        if not gone:
            return found
        listed = [entry.name for entry in await folder.list("") if entry.name.endswith(NAMES_BLOBS) and order_of(entry.name) is not None]


def _names_in_manifest(data: bytes, where: str) -> set[str]:
    try:
        return blobs_named(unsealed(data), where)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        reason = "it can't be read, and may name blobs; restore it from a copy, or delete it, before anything is freed"
        raise CheckpointCorrupt(where=where, reason=reason) from error


# what goes


def superseded(runs: Mapping[str, Entry], now: float) -> list[str]:
    """Segments and snapshots that are not read any more, in the order in which they go.

    Segments at or below the oldest snapshot that stays, if that one is a day old; and the snapshots before it.
    """
    taken: dict[str, list[tuple[int, str]]] = {}
    for key in runs:
        if match := _SNAPSHOT.fullmatch(key):
            taken.setdefault(match[1], []).append((int(match[2]), key))
    ends: dict[str, int] = {}
    old: list[str] = []
    for journal, found in taken.items():
        ordered = sorted(found)
        if len(ordered) >= SNAPSHOTS_KEPT and now - runs[ordered[-SNAPSHOTS_KEPT][1]].modified > SEGMENT_GRACE:
            ends[journal] = ordered[-SNAPSHOTS_KEPT][0]
            old += [key for _, key in ordered[:-SNAPSHOTS_KEPT]]
    segments = [key for key in sorted(runs) if (match := _JOURNAL.fullmatch(key)) and int(match[2]) <= ends.get(match[1], -1)]
    return [*segments, *old]


async def _but_takeovers(store: Folder, keys: Sequence[str]) -> list[str]:
    """The same, without the segments by which somebody took a run over: their names stay taken, whenever an owner that was away wakes."""
    spared: set[str] = set()
    ends = {match[1]: int(match[2]) for key in sorted(keys) if (match := _JOURNAL.fullmatch(key))}
    for journal, end in ends.items():
        run = store.child(journal)
        found = await newest_snapshot(run, await snapshots(run))
        if found is None or found.segment < end:  # nothing says which they are
            spared |= {key for key in keys if key.startswith(f"{journal}/")}
        else:
            spared |= {f"{journal}/{segment_key(epoch)}" for epoch in found.epochs}
    return [key for key in keys if key not in spared]


async def _sweep_unfinished(store: Folder, now: float, grace: float, *, dry_run: bool) -> int:
    """What crashes left behind of writes and probes."""
    probes = [entry for entry in await store.list("") if entry.name.startswith(PROBE) and now - entry.modified > max(grace, MIN_GRACE)]
    await _remove(store, () if dry_run else [entry.name for entry in probes])
    freed = sum(entry.size for entry in probes)
    if store.logs is not None:
        freed += await store.logs.discard_unfinished(now - max(grace, UNFINISHED_GRACE), dry_run=dry_run)
    return freed


def _cutoff(board: Board, grace: float, run_id: str = "", epoch: int = 0) -> float:
    return min(board.now - max(grace, MIN_GRACE), board.oldest(run_id, epoch)) - SKEW


def _is_old(entry: Entry, cutoff: float) -> bool:
    """One that tells no time is never old."""
    return 0.0 < entry.modified < cutoff


async def _delete(store: Folder, names: Sequence[str], cutoff: float, look: Callable[[], Awaitable[Mapping[str, Entry]]]) -> int:
    """Condemn the names, look again, and delete what is as old as it was. Returns the bytes freed."""
    if not names:
        return 0
    sweep, is_deleting = token_hex(8), False
    try:
        await write_plans(store, sweep, [digest_of(name) for name in names])
        there = await look()
        sure = [name for name in names if name in there and _is_old(there[name], cutoff)]
        is_deleting = bool(sure)
        await _remove(store, [blob_key(name) for name in sure])
        return sum(there[name].size for name in sure)
    finally:  # also where it was ended early: this process deletes none of them from here on
        with contextlib.suppress(StoreError):
            await (end_plans(store, sweep) if is_deleting else forget_plans(store, sweep, len(names)))


async def _remove(store: Folder, keys: Sequence[str]) -> None:
    """One request after the other: where this is cancelled, none is left under way."""
    for start in range(0, len(keys), BATCH):
        await store.delete(*keys[start : start + BATCH])


# looking


@asynccontextmanager
async def _looking(store: Folder, run_id: str = "", epoch: int = 0) -> AsyncGenerator[Board]:
    """What the others say, with the dead buried."""
    board = await read_board(store)
    try:
        await _remove(store, board.dead(run_id, epoch))
        for keys in board.leftovers:
            await _remove(store, keys)
        yield board
    finally:
        with contextlib.suppress(StoreError):
            await store.delete(board.probe)


async def _all_blobs(store: Folder) -> dict[str, Entry]:
    found = {entry.name.rpartition("/")[2]: entry for entry in await store.walk("blobs")}
    return {name: entry for name, entry in found.items() if is_blob_name(name)}


async def _some_blobs(store: Folder, names: Collection[str]) -> dict[str, Entry]:
    if len(names) > FEW:
        return {name: entry for name, entry in (await _all_blobs(store)).items() if name in names}
    found: dict[str, Entry] = {}
    async for name, entry in _side_by_side(lambda name: _entry_of(store, name), names):
        if entry is not None:
            found[name] = entry
    return found


async def _entry_of(store: Folder, name: str) -> tuple[str, Entry | None]:
    return name, await store.stat(blob_key(name))


async def _side_by_side(work: Callable[[str], Awaitable[T]], items: Iterable[str]) -> AsyncGenerator[T]:
    """The results of `work`, a few at a time, in order."""
    waiting = list(items)
    for start in range(0, len(waiting), WIDTH):
        for result in await asyncio.gather(*(work(item) for item in waiting[start : start + WIDTH])):
            yield result
