"""Large values, named by what they hold: `blobs/<aa>/<sha256>`. Written before the event that names them, verified when read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256

from holdfast.errors import BlobCorrupt, ObjectExists, ObjectMissing
from holdfast.folders.protocol import Folder


def blob_key(digest: str) -> str:
    return f"blobs/{digest[:2]}/{digest}"


class Blobs:
    """The blobs of a store."""

    def __init__(self, store: Folder, *, sync: bool) -> None:
        self._store = store
        self._sync = sync

    async def put(self, data: bytes) -> str:
        """Keep `data`, and return its digest. What is there already is written anew: it may be damaged, not yet durable, or about to go."""
        digest = sha256(data).hexdigest()
        try:
            await self._store.create(blob_key(digest), data, sync=self._sync)
        except ObjectExists:
            await self._store.put(blob_key(digest), data, sync=self._sync)
        return digest

    async def get(self, digest: str) -> bytes:
        """Return the blob. Raises: BlobCorrupt, StoreError."""
        where = f"{self._store.url}/{blob_key(digest)}"
        try:
            data = await self._store.get(blob_key(digest))
        except ObjectMissing as error:
            raise BlobCorrupt(where=where, reason="it is gone") from error
        if sha256(data).hexdigest() != digest:
            raise BlobCorrupt(where=where, reason="its bytes don't match its name")
        return data

    @asynccontextmanager
    async def saving(self) -> AsyncGenerator[Saving]:
        """A block in which many blobs are put that one manifest will name; the manifest is created inside of it."""
        yield Saving(self)

    async def put_all(self, parts: Mapping[str, bytes]) -> None:
        await asyncio.gather(*(self.put(data) for data in parts.values()))

    async def get_all(self, digests: Iterable[str]) -> dict[str, bytes]:
        wanted = list(digests)
        return dict(zip(wanted, await asyncio.gather(*(self.get(digest) for digest in wanted)), strict=True))


class Saving:
    """Blobs on their way to a manifest."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def put(self, data: bytes) -> tuple[str, bool]:
        """Keep `data`. Returns its name, and whether it was sent (False: it was there already)."""
        return await self._blobs.put(data), True

    async def assure(self) -> None:
        """Make sure that all that was put is still there. Called once, right before the manifest is created."""
