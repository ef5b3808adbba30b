"""A prepared save into the store: its payload, then its manifest, which makes it visible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holdfast.blobs import Blobs
from holdfast.checkpoints.generations import (
    Generation,
    Manifest,
    listed,
    read_manifest,
    record_of,
)
from holdfast.checkpoints.keeper import Keeper
from holdfast.checkpoints.prepared import Plain, Prepared
from holdfast.checkpoints.sending import Payload, Sender, Tree, inline
from holdfast.clocks import clock, instant
from holdfast.errors import CheckpointCorrupt, CheckpointForeign
from holdfast.folders.protocol import Folder
from holdfast.retention import Generation3


class Writer:
    """The saves of one attempt, one after the other.

    Args:
        folder: Where manifests go.
        blobs: Where chunks go.
        keeper: The attempt.
        on_saved: Called with each manifest that is durable.
    """

    def __init__(self, folder: Folder, blobs: Blobs, keeper: Keeper, on_saved: Callable[[Manifest], None]) -> None:
        self._folder = folder
        self._blobs = blobs
        self._keeper = keeper
        self._on_saved = on_saved
        self._turn = asyncio.Lock()
        self._saves = 0
        self._newest: Manifest | None = None
        self._damaged: set[Generation3] = set()

    async def write(self, prepared: Prepared) -> Generation:
        """Raises: what `Checkpoint.save` raises."""
        await self._keeper.before_save()
        async with self._turn:
            order = (self._keeper.epoch, self._keeper.number, self._saves)
            self._saves += 1
            payload = prepared.payload
            small = inline(payload.kind, payload.data) if isinstance(payload, Plain) and not payload.parts else None
            if small is not None:
                manifest = self._manifest(order, prepared, small, sent=small.size)
                await self._create(manifest, await record_of(manifest, prepared.asked.encoded))
            else:
                manifest = await self._write_chunks(order, prepared, payload)
            self._newest = manifest
            self._keeper.saved(manifest.generation)
            self._on_saved(manifest)
            return manifest.generation

    async def newest(self) -> Manifest | None:
        """The newest generation's manifest, if it is to be had: what need not be sent, or read, again."""
        while (order := self._keeper.newest) is not None and order not in self._damaged:
            if self._newest is None or self._newest.generation.order != order:
                self._newest = await self._read(order)
            if order == self._keeper.newest:  # and so nothing is about to delete it
                is_durable = self._newest is not None and (self._newest.is_synced or not self._keeper.sync)
                return self._newest if is_durable else None
        return None

    def found_damaged(self, order: Generation3) -> None:
        """A generation that can't be restored is nothing to build on."""
        self._damaged.add(order)

    async def _read(self, order: Generation3) -> Manifest | None:
        try:
            found = (await listed(self._folder)).get(order)
            return await read_manifest(self._folder, order, found) if found is not None else None
        except (CheckpointCorrupt, CheckpointForeign):
            return None

    async def _write_chunks(self, order: Generation3, prepared: Prepared, payload: Plain | Tree) -> Manifest:
        """The chunks of the generation before are named again without a request: it is deleted only when this one is durable."""
        base, written = await self.newest(), False
        manifest: Manifest | None = None

        async def take_back() -> None:
            if manifest is not None and written:
                await self._folder.delete(manifest.key)

        async with self._blobs.saving(take_back) as saving:
            sender = Sender(saving, base)
            if isinstance(payload, Plain):
                sent = await sender.data(payload.kind, payload.data, payload.parts)
            else:
                sent = await sender.tree(payload.over(base))
            manifest = self._manifest(order, prepared, sent, sender.sent + len(sent.inline or b""))
            record = await record_of(manifest, prepared.asked.encoded)
            await saving.assure()
            await self._create(manifest, record)
            written = True
        return manifest

    def _manifest(self, order: Generation3, prepared: Prepared, payload: Payload, sent: int) -> Manifest:
        created, metadata = instant(clock().now()), prepared.asked.metadata
        generation = Generation(*order, size=payload.size, digest=payload.digest, created_at=created, metadata=metadata, sent=sent)
        return Manifest(
            generation=generation,
            kind=payload.kind,
            version=self._keeper.version,
            ordinal=prepared.asked.saved.ordinal,
            undelivered=prepared.asked.undelivered,
            is_synced=self._keeper.sync,
            inline=payload.inline,
            files=payload.files,
            parts=payload.parts,
            bars=prepared.asked.bars,
        )

    async def _create(self, manifest: Manifest, record: bytes) -> None:
        self._keeper.check("checkpoint.save")
        await self._folder.create(manifest.key, record, sync=self._keeper.sync)
