"""Large values and chunks of checkpoints, named by what they hold: `blobs/<aa>/<name>`. Verified when read.

A name is the sha256 digest of the content; chunks of checkpoints have `~c` behind it, so that what an event names and what a manifest
names is never the same blob, and each can be swept by who knows its namers. Behind that, `~` and something random make a private copy,
which nobody else can ever come to share: it is made where the shared name is about to be swept.

Whoever puts blobs keeps an intent until what names them is durable (`naming`, `saving`). A blob that is there already is touched, so that
a sweeper sees it as new, and then the sweepers' plans are looked at. Why that is enough stands in `sweeps`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from secrets import token_hex
from types import TracebackType
from typing import Final, Self

from holdfast.clocks import clock
from holdfast.errors import BlobCorrupt, JournalTooNew, NotEncrypted, ObjectExists, ObjectMissing, StoreUnavailable, WrongKey
from holdfast.folders.protocol import Folder
from holdfast.folders.threads import call, in_thread
from holdfast.intents import INTENT_LIFE, PLAN_LINGER, Held, Intents, Plans

#: What every chunk of a checkpoint has behind its digest.
CHUNK: Final = "~c"
#: Data from this size on is worth a request that finds out whether it is there already.
LARGE: Final = 256 * 1024
#: From this size on, digests are made in a thread.
_ASIDE: Final = 64 * 1024
#: Seconds from the last look at an intent to the manifest, after which it is looked at again.
_SURE: Final = 60.0
#: Seconds by which a renewed intent reaches back further than the first blob that it is for, and within which it has to be written.
_MARGIN: Final = 3600.0

_NAME = re.compile(r"[0-9a-f]{64}(~c)?(~[0-9a-f]+)?")


def blob_key(name: str) -> str:
    return f"blobs/{name[:2]}/{name}"


def digest_of(name: str) -> str:
    """The sha256 of what a blob holds."""
    return name.partition("~")[0]


def is_blob_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


class Blobs:
    """The blobs of a store, for one owner of a run.

    Args:
        store: The store's own folder.
        sync: Whether they have to survive a power cut.
        run_id: Of the run that they are put for, and `epoch` of its owner: who takes the run over need not wait for this one's intents.
    """

    on_drop: Callable[[Collection[str], int | None], None] | None

    def __init__(self, store: Folder, *, sync: bool, run_id: str = "", epoch: int = 0) -> None:
        self.on_drop = None
        self._store = store
        self._sync = sync
        self._intents = Intents(store, run_id, epoch)
        self._plans = Plans(store)
        self._damaged: set[str] = set()  # what was found so, until it is put again

    def naming(self) -> Naming:
        """A block in which blobs are put that an event will name; it is left when the event is durable."""
        return Naming(self, "")

    @asynccontextmanager
    async def saving(self, undo: Callable[[], Awaitable[None]] | None = None) -> AsyncGenerator[Saving]:
        """A block in which many blobs are put that one manifest will name; the manifest is created inside of it.

        Args:
            undo: Takes the manifest back. It is called where the block lasted so long (a process that was paused between `assure` and the
                manifest, and went on a day later) that blobs may be gone which the manifest names.

        Raises:
            StoreUnavailable: At the block's end, for that reason: save again.
        """
        with Saving(self, CHUNK) as saving:
            yield saving
            await saving.end(undo)

    async def put(self, data: bytes) -> str:
        """Keep `data`, and return its name. It stays for an hour at least, and for as long as something durable names it."""
        with self.naming() as naming:
            return await naming.put(data)

    async def get(self, name: str) -> bytes:
        """Return the blob. Raises: BlobCorrupt, StoreError."""
        where = f"{self._store.url}/{blob_key(name)}"
        try:
            data = await self._store.get(blob_key(name))
        except ObjectMissing as error:
            raise BlobCorrupt(where=where, reason="it is gone") from error
        if await _digest(data) != digest_of(name):
            self._damaged.add(blob_key(name))
            raise BlobCorrupt(where=where, reason="its bytes don't match its name")
        return data

    async def get_all(self, names: Iterable[str]) -> dict[str, bytes]:
        wanted = list(names)
        return dict(zip(wanted, await asyncio.gather(*(self.get(name) for name in wanted)), strict=True))

    def drop(self, names: Collection[str], size: int | None = None) -> None:
        """Tell that a generation was deleted which alone of its action's held these blobs, of `size` bytes. They may be swept soon."""
        if self.on_drop is not None and names:
            self.on_drop(names, size)

    async def aclose(self) -> None:
        """Take back what was told to sweepers. Nothing is put afterwards."""
        await self._plans.aclose()
        await self._intents.aclose()

    # putting, for `Naming`

    async def take_intent(self, since: float = 0.0) -> Held:
        return await (self._intents.take() if since == 0.0 else self._intents.take_since(since))

    def give_back_intent(self, held: Held) -> None:
        self._intents.give_back(held)

    async def has_intent(self, held: Held) -> bool:
        return await self._intents.is_there(held)

    async def place(self, data: bytes, digest: str, kind: str) -> tuple[str, bool]:
        """Put `data` under the shared name of its kind, or a private one. Returns the name, and whether it was sent."""
        while True:
            began = clock().monotonic()
            sent = await self._place(blob_key(f"{digest}{kind}"), data)
            condemned = await self._plans.look()
            # A plan is removed PLAN_LINGER after its last deletion. Nobody may sleep through that between the touch and the look.
            if clock().monotonic() - began < PLAN_LINGER / 2:
                break
        if digest not in condemned:
            return f"{digest}{kind}", sent
        private = f"{digest}{kind}~{token_hex(8)}"
        await self._store.put(blob_key(private), data, sync=self._sync)
        return private, True

    @property
    def where(self) -> str:
        return f"{self._store.url}/blobs"

    async def _place(self, key: str, data: bytes) -> bool:
        """Have `data` at `key`, modified now. Returns whether it was sent."""
        if self._store.logs is not None:
            return await self._place_on_disk(key, data)
        if len(data) >= LARGE and key not in self._damaged and await self._store.stat(key) is not None:
            try:
                await self._store.touch(key)
            except ObjectMissing:
                pass  # swept in this moment
            else:
                return False
        # Not created: where a create is answered late, the equal bytes that are found count as its own, and those may be old.
        await self._store.put(key, data, sync=self._sync)
        self._damaged.discard(key)
        return True

    async def _place_on_disk(self, key: str, data: bytes) -> bool:
        """What is there already may be damaged, or not durable."""
        try:
            await self._store.create(key, data, sync=self._sync)
        except ObjectExists:
            try:
                if await self._store.get(key) == data:
                    await self._store.touch(key)  # and make it durable
                    return False
            except (ObjectMissing, WrongKey, NotEncrypted, JournalTooNew):
                pass  # swept in this moment; or damaged where an encrypted object says whose it is
            await self._store.put(key, data, sync=self._sync)
        return True


class _Putting:
    """A block in which blobs are put. Its intent is in the store before the first of them, and until the block is left."""

    def __init__(self, blobs: Blobs, kind: str) -> None:
        self._blobs = blobs
        self._kind = kind
        self._held: Held | None = None
        self._began = 0.0
        self._is_late = False
        self._starting: asyncio.Lock | None = None  # most blocks put nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._held is not None:
            self._blobs.give_back_intent(self._held)
            self._held = None

    async def _put(self, data: bytes, digest: str | None) -> tuple[str, bool]:
        known = digest if digest is not None else await _digest(data)
        await self._begin()
        return await self._blobs.place(data, known, self._kind)

    async def _begin(self) -> None:
        """Have an intent that is in the store, and will be for long. Raises: StoreUnavailable, where it was too old meanwhile."""
        if self._held is not None and self._held.age < INTENT_LIFE / 4:
            return
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self._held is None:
                self._held = await self._blobs.take_intent()
                self._began = self._held.began
            elif self._held.age >= INTENT_LIFE / 4:
                await self._renew(self._held)

    async def _renew(self, before: Held) -> None:
        """Replace an intent that is getting old by one that covers the same time. It must not have died before the new one was there."""
        self._held = await self._blobs.take_intent(clock().monotonic() - self._began + _MARGIN)
        self._blobs.give_back_intent(before)
        self._is_late = self._is_late or self._held.age > _MARGIN or before.age > INTENT_LIFE / 2
        if self._is_late:
            raise self._too_late()

    def _too_late(self) -> StoreUnavailable:
        reason = "this process stood still for so long that what it had sent may be swept by now; save again"
        return StoreUnavailable(where=self._blobs.where, reason=reason)


class Naming(_Putting):
    """Blobs on their way to an event."""

    async def put(self, data: bytes, digest: str | None = None) -> str:
        """Keep `data`, whose sha256 may be known already, and return its name. Raises: StoreError."""
        return (await self._put(data, digest))[0]

    async def put_all(self, parts: Mapping[str, bytes]) -> dict[str, str]:
        """Keep parts, by their digests. Returns the name of each. Raises: StoreError."""
        return dict(zip(parts, await asyncio.gather(*(self.put(data, digest) for digest, data in parts.items())), strict=True))


class Saving(_Putting):
    """Blobs on their way to a manifest."""

    def __init__(self, blobs: Blobs, kind: str) -> None:
        super().__init__(blobs, kind)
        self._assured_at: float | None = None

    async def put(self, data: bytes, digest: str | None = None) -> tuple[str, bool]:
        """Keep `data`, whose sha256 may be known already. Returns its name, and whether it was sent (False: it was there already)."""
        return await self._put(data, digest)

    async def assure(self) -> None:
        """Make sure that all that was put is still there. Called once, right before the manifest is created.

        Raises:
            StoreUnavailable: The process stood still for so long that it may be gone; or another owner took the run over. Save again.
        """
        if await self._may_be_gone():
            raise self._too_late()
        self._assured_at = clock().monotonic()

    async def end(self, undo: Callable[[], Awaitable[None]] | None) -> None:
        """Look again, where much time went by since `assure`."""
        if self._assured_at is None or clock().monotonic() - self._assured_at <= _SURE:
            return
        if await self._may_be_gone():
            if undo is not None:
                await undo()
            raise self._too_late()

    async def _may_be_gone(self) -> bool:
        if self._held is None:
            return False
        return self._is_late or self._held.age > INTENT_LIFE / 2 or not await self._blobs.has_intent(self._held)


async def _digest(data: bytes) -> str:
    if len(data) < _ASIDE:
        return sha256(data).hexdigest()
    return await in_thread(call(_hexdigest, data))


def _hexdigest(data: bytes) -> str:
    return sha256(data).hexdigest()
