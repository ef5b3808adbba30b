"""What savers and sweepers of blobs tell each other: small objects below `gc/`. The protocol stands in `sweeps`.

gc/intents/<run id>.<epoch>.<random>.<seconds>   somebody puts blobs that nothing durable names yet, since so many seconds before
gc/plans/<sweep>-<n>.json                        names that a sweeper is about to delete, or has deleted just now
gc/plans/<sweep>.done                            that sweeper deletes no more
gc/now/<random>                                  written to learn what time it is in the store
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
from collections.abc import Collection, Mapping, Sequence
from secrets import token_hex
from typing import Final

from holdfast.clocks import clock
from holdfast.codec import from_json, to_json
from holdfast.errors import ObjectMissing, StoreError, StoreInvalid, StoreUnavailable
from holdfast.folders.protocol import Entry, Folder
from holdfast.frozen import Frozen

#: After so many seconds an intent counts for nothing, and sweepers remove it: its process is gone, or was paused for too long.
INTENT_LIFE: Final = 24 * 3600.0
#: The same for one of an owner whose run another owner took over: nothing that it records from then on is read.
FENCED_LIFE: Final = 3600.0
#: Seconds for which one intent serves whoever begins to put blobs. Then a new one is made, so that the old one can go.
INTENT_FRESH: Final = 600.0
#: Seconds of the event loop for which an intent without users waits for the next one.
LINGER: Final = 5.0
#: Seconds from the end of a sweep to the removal of its plans: a request that was given up may still be carried out in this time. Object
#: stores refuse a signed request after 15 minutes.
PLAN_LINGER: Final = 900.0
#: Seconds after which the plans of a sweeper that never came to its end are removed.
PLAN_LIFE: Final = 30 * 24 * 3600.0
#: Names in one plan.
PLAN_SIZE: Final = 10_000

INTENTS: Final = "gc/intents"
PLANS: Final = "gc/plans"
PROBES: Final = "gc/now"

_INTENT = re.compile(r"(.*)\.(\d+)\.[0-9a-f]+\.(\d+)")
_SHORT = 16
_LOOKS = 5
_log = logging.getLogger("holdfast")


class Intent(Frozen):
    """Somebody puts blobs: spare all that was modified since.

    Attributes:
        key: Its object.
        run_id: Of the run that it belongs to; empty where it belongs to none.
        epoch: Of that run's owner.
        since: In the store's time.
        written: When the object was written, in the store's time.
    """

    key: str
    run_id: str
    epoch: int
    since: float
    written: float

    def is_dead(self, now: float, run_id: str, epoch: int) -> bool:
        """Whether it counts for nothing at store time `now`, as the owner of a run in an epoch sees it."""
        is_fenced = run_id != "" and self.run_id == run_id and self.epoch < epoch
        return now - self.written > (FENCED_LIFE if is_fenced else INTENT_LIFE)


class Held:
    """An intent of this process, and how many rely on it."""

    key: str
    began: float
    users: int

    def __init__(self, key: str, writing: asyncio.Task[None]) -> None:
        self.key = key
        self.began = clock().monotonic()
        self.users = 0
        self.writing = writing
        self.removal: asyncio.TimerHandle | None = None

    @property
    def age(self) -> float:
        """Seconds since before it was written."""
        return clock().monotonic() - self.began


class Intents:
    """The intents of one owner. One serves all who put blobs at the same time; it goes when nobody has used it for a moment."""

    def __init__(self, store: Folder, run_id: str, epoch: int) -> None:
        self._store = store
        self._run_id = run_id
        self._epoch = epoch
        self._shared: Held | None = None
        self._held: set[Held] = set()
        self._removing: set[asyncio.Task[None]] = set()

    async def take(self) -> Held:
        """Return an intent that is in the store, for `give_back`. Raises: StoreError."""
        held = self._shared
        if held is None or held.age > INTENT_FRESH or (held.writing.done() and _failed(held.writing)):
            held = self._shared = self._write(0.0)
        return await self._used(held)

    async def take_since(self, seconds: float) -> Held:
        """The same, which spares also what was put up to so many seconds ago, and serves nobody else."""
        return await self._used(self._write(seconds))

    async def is_there(self, held: Held) -> bool:
        """Whether nobody has removed it. Raises: StoreError."""
        return await self._store.stat(held.key) is not None

    def give_back(self, held: Held) -> None:
        """What was put under it has its name in something durable, or never will."""
        held.users -= 1
        if held.users == 0:
            if held is self._shared and held.age <= INTENT_FRESH:
                held.removal = asyncio.get_running_loop().call_later(LINGER, self._remove, held)
            else:
                self._remove(held)

    async def aclose(self) -> None:
        """Remove them. What can't be removed now holds up the sweepers for a day."""
        for held in list(self._held):
            self._remove(held)
        while self._removing:
            await asyncio.wait(set(self._removing))

    def _write(self, seconds: float) -> Held:
        key = f"{INTENTS}/{self._run_id}.{self._epoch}.{token_hex(8)}.{math.ceil(seconds)}"
        writing = asyncio.ensure_future(self._store.put(key, b"", sync=False))  # no power cut survives its process
        writing.add_done_callback(_looked_at)
        held = Held(key, writing)
        self._held.add(held)
        return held

    async def _used(self, held: Held) -> Held:
        held.users += 1
        if held.removal is not None:
            held.removal.cancel()
            held.removal = None
        try:
            await asyncio.shield(held.writing)
        except BaseException:
            self.give_back(held)
            raise
        return held

    def _remove(self, held: Held) -> None:
        if held.removal is not None:
            held.removal.cancel()
        if held is self._shared:
            self._shared = None
        if held in self._held:
            self._held.discard(held)
            removing = asyncio.ensure_future(self._removed(held))
            self._removing.add(removing)
            removing.add_done_callback(self._removing.discard)
            removing.add_done_callback(_looked_at)

    async def _removed(self, held: Held) -> None:
        with contextlib.suppress(StoreError):
            await held.writing
        try:
            await self._store.delete(held.key)
        except StoreError as error:
            _log.warning("%s/%s can't be removed, and holds up gc for a day: %s", self._store.url, held.key, error)


class Condemned:
    """The names in the plans of all sweepers, as of one look. A plan that can't be read may name anything."""

    def __init__(self, plans: Collection[frozenset[str] | None]) -> None:
        self._plans = tuple(plans)

    def __contains__(self, digest: str) -> bool:
        return any(plan is None or digest[:_SHORT] in plan for plan in self._plans)


class Plans:
    """The plans of all sweepers, as a saver sees them. Looks that are asked for while one is under way share the next one."""

    def __init__(self, store: Folder) -> None:
        self._store = store
        self._known: dict[str, frozenset[str] | None] = {}
        self._looking: asyncio.Task[Condemned] | None = None
        self._next: asyncio.Task[Condemned] | None = None

    async def look(self) -> Condemned:
        """What is condemned, by a listing that begins after this call. Raises: StoreError."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._after(self._looking))
            self._next.add_done_callback(_looked_at)
        return await asyncio.shield(self._next)

    async def aclose(self) -> None:
        """Wait for the looks under way."""
        waiting = [each for each in (self._looking, self._next) if each is not None and not each.done()]
        if waiting:
            await asyncio.wait(waiting)

    async def _after(self, before: asyncio.Task[Condemned] | None) -> Condemned:
        if before is not None:
            await asyncio.wait({before})
        self._looking, self._next = self._next, None
        return await self._look()

    async def _look(self) -> Condemned:
        names = [entry.name for entry in await self._store.list(PLANS) if entry.name.endswith(".json")]
        self._known = {name: self._known[name] for name in names if name in self._known}
        for name in names:
            if name not in self._known:
                with contextlib.suppress(ObjectMissing):  # removed in this moment: its sweeper had ended long before the listing
                    self._known[name] = _names_in(await self._store.get(f"{PLANS}/{name}"))
        return Condemned(self._known.values())


class Board(Frozen):
    """What lies below `gc/`, at one time of the store."""

    now: float
    probe: str
    intents: tuple[Intent, ...]
    leftovers: tuple[tuple[str, ...], ...]

    def oldest(self, run_id: str, epoch: int) -> float:
        """Since when everything is to be spared for live intents, as the owner of a run in an epoch sees it."""
        return min((each.since for each in self.intents if not each.is_dead(self.now, run_id, epoch)), default=math.inf)

    def dead(self, run_id: str, epoch: int) -> list[str]:
        """The keys of the intents that count for nothing."""
        return [each.key for each in self.intents if each.is_dead(self.now, run_id, epoch)]


async def read_board(store: Folder) -> Board:
    """Look at all of it, and at the clock. The caller removes the probe. Raises: StoreError."""
    for _ in range(_LOOKS):
        probe = f"{PROBES}/{token_hex(8)}"
        await store.put(probe, b"", sync=False)
        entries = {f"gc/{entry.name}": entry for entry in await store.walk("gc")}
        if probe in entries:  # else we stood still meanwhile for so long that another took it for a leftover
            return _board(probe, entries)
    raise StoreUnavailable(where=f"{store.url}/{PROBES}", reason="what is written there is not listed, so gc can't rely on listings")


def _board(probe: str, entries: Mapping[str, Entry]) -> Board:
    now = entries[probe].modified
    if now <= 0.0:
        raise StoreInvalid(where=probe, reason="its listings don't tell when something was written, and gc has to know")
    intents = [_intent(key, entry) for key, entry in entries.items() if key.startswith(f"{INTENTS}/")]
    probes = tuple(key for key, entry in entries.items() if key.startswith(f"{PROBES}/") and now - entry.modified > INTENT_LIFE)
    return Board(now, probe, tuple(intents), (probes, *_old_plans(entries, now)))


async def write_plans(store: Folder, sweep: str, names: Sequence[str]) -> None:
    """Condemn names: from now on whoever finds them takes another one. Raises: StoreError."""
    for n, start in enumerate(range(0, len(names), PLAN_SIZE)):
        shorts = [name[:_SHORT] for name in names[start : start + PLAN_SIZE]]
        await store.put(f"{PLANS}/{sweep}-{n:06}.json", to_json(shorts), sync=False)


async def end_plans(store: Folder, sweep: str) -> None:
    """This sweeper asks for no more deletions. Raises: StoreError."""
    await store.put(f"{PLANS}/{sweep}.done", b"", sync=False)


async def forget_plans(store: Folder, sweep: str, names: int) -> None:
    """Nothing was deleted after all. Raises: StoreError."""
    await store.delete(*(f"{PLANS}/{sweep}-{n:06}.json" for n in range(math.ceil(names / PLAN_SIZE))))


def _intent(key: str, entry: Entry) -> Intent:
    """One whose name can't be read is of a newer version, and holds up everything."""
    match = _INTENT.fullmatch(key.removeprefix(f"{INTENTS}/"))
    if match is None:
        return Intent(key, "", 0, -math.inf, entry.modified)
    return Intent(key, match[1], int(match[2]), entry.modified - int(match[3]), entry.modified)


def _old_plans(entries: Mapping[str, Entry], now: float) -> list[tuple[str, ...]]:
    """What can be removed, in this order: plans first, and then what says that they are done with."""
    done = {key.removesuffix(".done"): entry for key, entry in entries.items() if key.startswith(PLANS) and key.endswith(".done")}
    plans, notes = [], []
    for key, entry in entries.items():
        if not key.startswith(f"{PLANS}/"):
            continue
        if key.endswith(".done"):
            if now - entry.modified > PLAN_LINGER:
                notes.append(key)
            continue
        end = done.get(key.rpartition("-")[0])
        if now - entry.modified > PLAN_LIFE or (end is not None and now - end.modified > PLAN_LINGER):
            plans.append(key)
    return [tuple(plans), tuple(notes)]


def _names_in(plan: bytes) -> frozenset[str] | None:
    try:
        return frozenset(map(str, from_json(plan)))
    except (ValueError, TypeError):
        return None


def _failed(task: asyncio.Task[None]) -> bool:
    return task.cancelled() or task.exception() is not None


def _looked_at(task: asyncio.Task[None] | asyncio.Task[Condemned]) -> None:
    if not task.cancelled():
        task.exception()
