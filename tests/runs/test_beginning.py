"""Whoever writes run.json begins the run, however many want to."""

from __future__ import annotations

import asyncio

from holdfast import run, task
from holdfast.folders.memory import MemoryDisk
from holdfast.testing import memory_store
from holdfast.testing.stores import ROOT


@task
async def main() -> str:
    return "done"


def test_a_folder_whose_creator_is_about_to_begin_the_run_is_no_reason_for_another_incarnation() -> None:
    disk = MemoryDisk()
    for folder in (ROOT, f"{ROOT}/runs", f"{ROOT}/runs/r", f"{ROOT}/runs/r/000000"):
        disk.make_folder(folder)
    assert asyncio.run(run(main(), run_name="r", store=memory_store(disk))) == "done"
    assert [entry.name for entry in disk.scan(f"{ROOT}/runs/r")] == ["000000"]


def test_a_restart_comes_behind_the_newest_run_and_not_behind_an_empty_folder() -> None:
    disk = MemoryDisk()
    store = memory_store(disk)
    asyncio.run(run(main(), run_name="r", store=store))
    disk.make_folder(f"{ROOT}/runs/r/000001")
    asyncio.run(run(main(), run_name="r", store=store, resume="restart"))
    assert sorted(entry.name for entry in disk.scan(f"{ROOT}/runs/r")) == ["000000", "000001"]
    assert [entry.name for entry in disk.scan(f"{ROOT}/runs/r/000001") if entry.name == "run.json"] == ["run.json"]
