"""Deleting what retention does not keep, in the background, after a newer generation is durable.

Only generations of the own version count, and are deleted; a manifest that can't be read is left alone, since nobody knows whose it is.
What the store does not let go of now is left to a later save.

Deleting waits until the newer generation is on record, which in an object store costs a request, as each deletion does. So small ones
gather until there are a few, or until the attempt flushes or ends: then all go at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from holdfast.blobs import Blobs
from holdfast.checkpoints.generations import Manifest, listed, read_manifest
from holdfast.checkpoints.keeper import Keeper
from holdfast.errors import CheckpointCorrupt, CheckpointForeign, RunError, StoreError
from holdfast.flow import side_by_side
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.retention import Generation3, Saved, kept, metric_of

#: Manifests of earlier attempts that are read at one time; those of large directories are large themselves.
WIDTH: Final = 4
#: So many superfluous generations, or so many bytes of them, are worth deleting while the body works.
FEW: Final = 16
LARGE: Final = 1 << 20


class _Known(Frozen):
    """A generation of our version, its object's name, and the blobs that it names, with their sizes."""

    saved: Saved
    key: str
    size: int
    blobs: Mapping[str, int]


class Retaining:
    """The generations of one action and version, and their end.

    Args:
        folder: Where the manifests are.
        blobs: Is told what nobody of these names any more.
        keeper: Whose they are.
    """

    def __init__(self, folder: Folder, blobs: Blobs, keeper: Keeper) -> None:
        self._folder = folder
        self._blobs = blobs
        self._keeper = keeper
        self._pins: list[Generation3] = []
        self._known: dict[Generation3, _Known] | None = {} if keeper.newest is None else None
        self._noted: dict[Generation3, _Known] = {}
        self._damaged: set[Generation3] = set()
        self._due = False
        self._waiting = 0  # generations since the last look at what is superfluous, and their bytes
        self._bytes = 0
        self._work: asyncio.Task[None] | None = None

    def saved(self, manifest: Manifest) -> None:
        """Note a new generation, and begin to delete what it makes superfluous."""
        known = self._of(manifest)
        self._noted[known.saved.order] = known
        self._waiting += 1
        self._bytes += known.size
        if self._waiting >= FEW or self._bytes >= LARGE:
            self._begin()

    def found_damaged(self, order: Generation3) -> None:
        """A generation that can't be restored does not count as one that is kept."""
        self._damaged.add(order)

    def pin(self, order: Generation3) -> None:
        """Keep a generation, whatever retention says, until it is let go as often."""
        self._pins.append(order)

    def unpin(self, order: Generation3) -> None:
        self._pins.remove(order)

    def _begin(self) -> None:
        self._waiting = self._bytes = 0
        self._due = True
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._delete_all())
            self._work.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def settled(self) -> None:
        """Return when all that is superfluous is deleted, as far as the store lets go of it."""
        if self._waiting:
            self._begin()
        if (work := self._work) is not None:
            await asyncio.wait({work})
            work.result()

    def give_up(self) -> None:
        if self._work is not None:
            self._work.cancel()

    async def _delete_all(self) -> None:
        while self._due:
            self._due = False
            try:
                await self._delete_superfluous()
            except (StoreError, RunError):  # the generation itself is saved; a journal that was lost says so to the body by other ways
                continue

    async def _delete_superfluous(self) -> None:
        if self._known is None:
            self._known = await self._look()
        self._known |= self._noted
        self._noted = {}
        superfluous = self._superfluous(self._known)
        if superfluous:
            await self._keeper.before_delete()
            await self._folder.delete(*(known.key for known in superfluous))
            for known in superfluous:
                del self._known[known.saved.order]
            self._let_go(superfluous, [*self._known.values(), *self._noted.values()])

    def _let_go(self, deleted: Collection[_Known], left: Collection[_Known]) -> None:
        held = {name for known in left for name in known.blobs}
        free = {name: size for known in deleted for name, size in known.blobs.items() if name not in held}
        self._blobs.drop(free, sum(free.values()))

    def _superfluous(self, known: dict[Generation3, _Known]) -> list[_Known]:
        """Oldest first."""
        counted = {order: each for order, each in known.items() if self._keeper.may_load(order) and order not in self._damaged}
        stay = {*kept(self._keeper.retention, (each.saved for each in counted.values())), *self._pins}
        if (pinned := self._keeper.pinned()) is not None:
            stay.add(pinned)
        return [counted[order] for order in sorted(counted) if order not in stay]

    async def _look(self) -> dict[Generation3, _Known]:
        """What earlier attempts saved."""
        found = await listed(self._folder)

        async def read(order: Generation3) -> _Known | None:
            try:
                manifest = await read_manifest(self._folder, order, found[order])
            except (CheckpointCorrupt, CheckpointForeign):
                return None
            return self._of(manifest) if manifest.version == self._keeper.version else None

        orders = [order for order in found if self._keeper.may_load(order) and order not in self._noted]
        read_all = await side_by_side(read, orders, width=WIDTH)
        return {known.saved.order: known for known in read_all if known is not None}

    def _of(self, manifest: Manifest) -> _Known:
        metric = metric_of(self._keeper.retention, manifest.generation.metadata)
        blobs = {chunk.name: chunk.size for chunk in manifest.chunks()}
        return _Known(Saved(manifest.generation.order, manifest.ordinal, metric), manifest.key, manifest.generation.size, blobs)
