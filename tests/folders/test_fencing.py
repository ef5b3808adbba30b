"""A place that lets a name be created twice is found by trying, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from servers.fixtures import Faulty, Server

from holdfast.errors import StoreUnfenced
from holdfast.folders.fencing import PROBE, check_fence, check_fence_once
from holdfast.folders.opening import open_folder
from holdfast.testing.buckets import MemoryBucket, bucket_folder

CASES = [
    ("moto", "fsspec", True),
    ("moto", "obstore", True),
    ("ministack", "fsspec", True),
    ("ministack", "obstore", True),
    ("fake_google", "fsspec", True),
    ("fake_google", "obstore", True),
    ("rclone", "fsspec", False),
    ("rclone", "obstore", False),
    ("gcs_emulator", "fsspec", False),
    pytest.param("azurite", "fsspec", True, marks=pytest.mark.stores),
    pytest.param("azurite", "obstore", True, marks=pytest.mark.stores),
]


@pytest.mark.parametrize(("fixture", "client", "fences"), CASES)
def test_a_server_that_ignores_the_condition_is_found(fixture: str, client: str, fences: bool, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(fixture)

    async def check() -> None:
        folder = server.folder(f"fences-{client}", client=client)
        try:
            if fences:
                await check_fence(folder)
            else:
                with pytest.raises(StoreUnfenced, match=r"created twice.*allow_unfenced"):
                    await check_fence(folder)
            assert not await folder.walk("")
        finally:
            await folder.aclose()

    asyncio.run(check())


class Forgetful(MemoryBucket):
    """It answers that the name is taken, and takes the bytes all the same."""

    async def create(self, name: str, data: bytes) -> None:
        taken = name in self.objects
        await self.put(name, data)
        if taken:
            raise FileExistsError(name)


class Overwriting(MemoryBucket):
    async def create(self, name: str, data: bytes) -> None:
        await self.put(name, data)


@pytest.mark.parametrize("kind", [Forgetful, Overwriting])
def test_it_is_the_bytes_that_tell(kind: type[MemoryBucket]) -> None:
    bucket = kind()
    with pytest.raises(StoreUnfenced):
        asyncio.run(check_fence(bucket_folder(bucket)))
    assert not bucket.objects


def test_what_is_known_beforehand_is_not_tried() -> None:
    bucket = MemoryBucket()
    bucket.unfenced = "it was made so"
    with pytest.raises(StoreUnfenced, match="it was made so"):
        asyncio.run(check_fence(bucket_folder(bucket)))
    assert not bucket.requests


def test_a_disk_fences_and_is_tried_only_when_that_is_asked(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "store")
    asyncio.run(check_fence_once(folder))
    assert not (tmp_path / "store").exists()
    asyncio.run(check_fence(folder))
    assert not [each for each in (tmp_path / "store").iterdir() if each.name.startswith(PROBE)]


def test_a_place_is_tried_once_in_a_process(faulty_s3: Faulty) -> None:
    async def check() -> None:
        for place in ("once", "once/below", "elsewhere"):
            folder = faulty_s3.folder(place)
            await check_fence_once(folder)
            await folder.aclose()

    asyncio.run(check())
    assert faulty_s3.between.count("PUT") == 2


def test_buckets_that_nobody_knows_apart_are_each_tried() -> None:
    first, second = MemoryBucket(), Overwriting()
    asyncio.run(check_fence_once(bucket_folder(first)))
    asyncio.run(check_fence_once(bucket_folder(first)))
    assert first.requests["create"] == 4
    with pytest.raises(StoreUnfenced):
        asyncio.run(check_fence_once(bucket_folder(second)))
