"""An encrypted folder keeps the laws of the one below it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from servers.fixtures import Server

from holdfast import Store, ctx, run, task
from holdfast.errors import ObjectExists
from holdfast.folders.ciphers import is_encrypted
from holdfast.folders.encrypted import EncryptedFolder
from holdfast.folders.opening import open_folder
from holdfast.folders.protocol import Folder
from holdfast.testing import no_backoff
from holdfast.testing.bucket_faults import Fault, FaultyBucket
from holdfast.testing.buckets import MemoryBucket, bucket_folder
from holdfast.testing.conformance_folders import FolderConformance, LogsConformance

KEY = bytes(range(32))


class TestPath(LogsConformance):
    def open(self, place: Path) -> Folder:
        return EncryptedFolder(open_folder(place), KEY)


class TestMemory(LogsConformance):
    def open(self, place: Path) -> Folder:
        return EncryptedFolder(open_folder(f"memory://{place.as_posix().replace('/', '-')}"), KEY)


class TestObjectsInMemory(FolderConformance):
    def open(self, place: Path) -> Folder:
        return EncryptedFolder(bucket_folder(_buckets.setdefault(place, MemoryBucket())), KEY)


@pytest.mark.slow
@pytest.mark.parametrize("client", ["fsspec", "obstore"])
def test_a_run_is_kept_and_found_again_on_a_real_server(client: str, ministack: Server) -> None:
    folder = ministack.folder(f"encrypted-{client}", client=client)

    async def twice() -> list[bytes]:
        try:
            results = [await run(large(300_000), run_name="r", store=Store.on(EncryptedFolder(folder, KEY))) for _ in range(2)]
            names = [entry.name for entry in await folder.walk("")]
            assert {name.partition("/")[0] for name in names} == {"blobs", "runs"}
            assert [name for name in names if not is_encrypted(await folder.get(name))] == []
            return results
        finally:
            await folder.aclose()

    assert asyncio.run(twice()) == [b"x" * 300_000] * 2


@task
async def large(size: int) -> bytes:
    await ctx().checkpoint.save(b"y" * size)
    return b"x" * size


def test_a_creation_that_was_applied_and_answered_with_an_error_is_known_again() -> None:
    bucket = FaultyBucket(MemoryBucket(), [Fault("create", applied=True, times=1)])
    folder = EncryptedFolder(bucket_folder(bucket), KEY)

    async def create() -> bytes:
        with no_backoff():
            await folder.create("a", b"mine")
            with pytest.raises(ObjectExists):
                await folder.create("a", b"mine")  # the same text, and another's bytes
            return await folder.get("a")

    assert asyncio.run(create()) == b"mine"
    assert len(bucket.injected) == 1


_buckets: dict[Path, MemoryBucket] = {}
