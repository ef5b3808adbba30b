"""From a manifest to what was saved: chunks fetched side by side, verified, and written where they belong.

A restored file or directory appears under its name whole, or not at all. Few chunks are in memory at one time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from holdfast.blobs import Blobs
from holdfast.checkpoints.directories import PAYLOAD, chosen, make_folders, place_of, remove, settle
from holdfast.checkpoints.generations import Chunk, File, Manifest, digest_of, name_of
from holdfast.errors import BlobCorrupt, CheckpointCorrupt, InvalidOption, StoreError, translate_os_error
from holdfast.files import create_large, digest_aside, write_small
from holdfast.flow import room, side_by_side
from holdfast.folders.threads import call, in_thread
from holdfast.frozen import Frozen

WIDTH: Final = 32


class Content(Frozen):
    """A payload in memory, with the parts that its text names."""

    data: bytes
    parts: Mapping[str, bytes]


class Restorer:
    """Brings back one generation. Raises: CheckpointCorrupt; StoreError."""

    def __init__(self, blobs: Blobs, manifest: Manifest, where: str) -> None:
        self._blobs = blobs
        self._manifest = manifest
        self._where = f"{where}/{manifest.key}"

    async def content(self) -> Content:
        """The payload of anything but a directory, in memory."""
        manifest = self._manifest
        await in_thread(self._check)
        parts = {part: b"".join(await self._fetched(chunks)) for part, chunks in manifest.parts}
        for part, data in parts.items():
            if await digest_aside(data) != part:
                raise self._corrupt("a part does not match its digest")
        if manifest.inline is not None:
            return Content(manifest.inline, parts)
        return Content(b"".join([b"".join(await self._fetched(found.chunks)) for found in manifest.files]), parts)

    async def path(self, target: Path, only: str | None) -> Path:
        """The payload as the file `payload` in `target`, or as the directory `target`. Raises: InvalidOption."""
        await in_thread(self._check)
        files = self._files(only)
        half = target.with_name(f"{target.name}.half")
        try:
            await self._restore(half, files)
            await in_thread(call(os.rename, half, target))
        except StoreError:
            await in_thread(call(remove, half))
            raise
        except OSError as error:
            await in_thread(call(remove, half))
            raise translate_os_error(error, half) from error
        except BaseException:
            await in_thread(call(remove, half))
            raise
        return target if self._manifest.kind == "directory" else target / PAYLOAD

    def _files(self, only: str | None) -> Sequence[File]:
        if only is None:
            return self._manifest.files
        if self._manifest.kind != "directory":
            reason = f"it names files of a saved directory, and what is saved is {_ARTICLE[self._manifest.kind]}"
            raise InvalidOption(option="only", value=only, reason=reason)
        return chosen(self._manifest.files, only)

    async def _restore(self, half: Path, files: Sequence[File]) -> None:
        await in_thread(call(make_folders, half, files))
        if self._manifest.inline is not None:
            await write_small(os.fspath(half / PAYLOAD), self._manifest.inline)
        plain = [found for found in files if not found.is_folder and found.link is None]
        await side_by_side(lambda found: self._file(os.fspath(place_of(half, found.path)), found), plain, width=WIDTH)
        await in_thread(call(settle, half, files))

    async def _file(self, path: str, found: File) -> None:
        if len(found.chunks) <= 1:
            async with room().hold(found.size):
                await write_small(path, await self._fetch(found.chunks[0]) if found.chunks else b"")
            return
        async with create_large(path, found.size) as target:

            async def piece(placed: tuple[int, Chunk]) -> None:
                offset, chunk = placed
                async with room().hold(chunk.size):
                    await target.write(offset, await self._fetch(chunk))

            await side_by_side(piece, _placed(found.chunks), width=WIDTH)

    async def _fetched(self, chunks: Sequence[Chunk]) -> Sequence[bytes]:
        async def fetch(chunk: Chunk) -> bytes:
            async with room().hold(chunk.size):
                return await self._fetch(chunk)

        return await side_by_side(fetch, chunks, width=WIDTH)

    async def _fetch(self, chunk: Chunk) -> bytes:
        try:
            data = await self._blobs.get(chunk.name)
        except BlobCorrupt as error:
            raise self._corrupt(f"the blob {error.where.rpartition('/')[2]} can't be used: {error.reason}") from error
        if len(data) != chunk.size:
            raise self._corrupt(f"the blob {chunk.name} has {len(data)} bytes instead of {chunk.size}")
        return data

    def _check(self) -> None:
        """What the manifest says of its payload fits together."""
        manifest = self._manifest
        whole = sha256(manifest.inline).hexdigest() if manifest.inline is not None else digest_of(manifest.files, manifest.kind)
        sizes = all(sum(chunk.size for chunk in found.chunks) == found.size for found in manifest.files)
        if whole != manifest.generation.digest or not sizes:
            raise self._corrupt("it does not match its digest")

    def _corrupt(self, reason: str) -> CheckpointCorrupt:
        return CheckpointCorrupt(where=self._where, reason=f"{name_of(self._manifest.generation.order)}: {reason}")


_ARTICLE: Final = {"bytes": "bytes", "data": "data", "file": "one file"}


def _placed(chunks: Sequence[Chunk]) -> list[tuple[int, Chunk]]:
    placed: list[tuple[int, Chunk]] = []
    offset = 0
    for chunk in chunks:
        placed.append((offset, chunk))
        offset += chunk.size
    return placed
