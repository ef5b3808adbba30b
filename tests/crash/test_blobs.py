"""A large value that is there already, but may not stay, is no value that an event may name."""

from __future__ import annotations

import asyncio
import random

from holdfast import run, task
from holdfast.blobs import Blobs, blob_key
from holdfast.folders.memory import MemoryDisk
from holdfast.testing import CrashDisk, SimulatedCrash, flip_byte, memory_store
from holdfast.testing.stores import memory_folder

CONTENT = bytes(100_000)


@task
async def large(name: str) -> bytes:
    return CONTENT


def test_a_blob_of_a_killed_process_is_made_durable_by_the_next_that_relies_on_it() -> None:
    async def put(disk: MemoryDisk | CrashDisk) -> str:
        return await Blobs(memory_folder(disk), sync=True).put(CONTENT)

    for at in range(1, 40):
        disk = MemoryDisk()
        killed = CrashDisk(disk, at=at)
        try:
            asyncio.run(put(killed))
        except SimulatedCrash:
            found = disk.copy()
            digest = asyncio.run(put(found))
            for seed in range(10):
                after = memory_folder(found.power_cut(random.Random(seed)))
                assert asyncio.run(after.get(blob_key(digest))) == CONTENT, f"killed at {at}, seed {seed}"
        else:
            break
    else:
        raise AssertionError("it was never put without a crash")


def test_a_damaged_blob_is_mended_by_the_next_that_has_the_same_value() -> None:
    async def mend() -> None:
        disk = MemoryDisk()
        store = memory_store(disk)
        assert await run(large("a"), run_name="a", store=store) == CONTENT
        [folder] = disk.scan("/store/blobs")
        [blob] = disk.scan(f"/store/blobs/{folder.name}")
        flip_byte(disk, f"/store/blobs/{folder.name}/{blob.name}", 7)
        assert await run(large("b"), run_name="b", store=store) == CONTENT
        assert await run(large("a"), run_name="a", store=store) == CONTENT

    asyncio.run(mend())
