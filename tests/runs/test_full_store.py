"""A store that does not take a result is no failure of the task: it runs again when there is room."""

from __future__ import annotations

import asyncio

import pytest

from holdfast import run, task
from holdfast.errors import StoreFull
from holdfast.folders.memory import MemoryDisk
from holdfast.testing import FullDisk, memory_store

ran: list[str] = []


@task
async def large() -> bytes:
    ran.append("large")
    return b"x" * 200_000


@task
async def parent() -> int:
    try:
        return len(await large())
    except StoreFull:  # the caller is told, and what it makes of that counts for nothing: the run is over
        ran.append("told")
        return -1


def test_a_large_result_that_finds_no_room_ends_the_run_and_not_the_task() -> None:
    ran.clear()
    disk = FullDisk(MemoryDisk(), after_bytes=50_000)
    store = memory_store(disk)
    with pytest.raises(StoreFull):
        asyncio.run(run(parent(), run_name="r", store=store))
    disk.free()
    assert asyncio.run(run(parent(), run_name="r", store=store)) == 200_000
    assert ran == ["large", "told", "large"]
