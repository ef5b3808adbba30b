"""A real file system without room, in the middle of everything: the error says so, and the run goes on when there is room again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest
from campaign.programs import ledger, mixed, right

from holdfast import Status, Store, run
from holdfast.errors import StoreFull
from holdfast.testing import no_backoff
from holdfast.testing.crashes import RUN_NAME

WIDTH = 3
#: KiB in which the program has all the room that it wants.
ROOMY = 4096


@contextlib.contextmanager
def mounted(place: Path, kib: int) -> Generator[None]:
    """A small tmpfs at `place`. Where that is not allowed, the test is skipped by name."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def make_room(place: Path) -> None:
    subprocess.run(["mount", "-o", f"remount,size={ROOMY}k", str(place)], check=True)


def lived(place: Path) -> Any:
    """The result, or that the disk was full."""
    with no_backoff():
        try:
            return asyncio.run(run(mixed(WIDTH), run_name=RUN_NAME, store=Store(place / "store"), handle_signals=False))
        except StoreFull as error:
            return error


def fill_up(place: Path, sizes: Iterable[int]) -> tuple[int, int]:
    """Run the program with each size of disk. Returns how often it was tried, and how often the disk was full."""
    tried = full = 0
    for kib in sizes:
        with mounted(place, kib):
            ledger.clear()
            tried += 1
            got = lived(place)
            if isinstance(got, StoreFull):
                full += 1
                assert str(place) in str(got), f"{kib} KiB: {got}"
                make_room(place)
                got = lived(place)
            assert got == right(WIDTH), f"{kib} KiB: {got}"
            assert ledger.again == [], f"{kib} KiB: {ledger.again}"
            assert Store(place / "store").state_sync(RUN_NAME).status is Status.COMPLETED
    return tried, full


pytestmark = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root mounts a tmpfs")


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    _, full = fill_up(tmp_path / "disk", range(20, 420, 80))
    assert full >= 3


@pytest.mark.campaign
def test_a_disk_that_is_full_at_any_moment_is_told_and_the_run_goes_on(tmp_path: Path, record_property: Any) -> None:
    tried, full = fill_up(tmp_path / "disk", range(8, 480, 4))
    record_property("tried: a full tmpfs, by sizes of 8 to 480 KiB", tried)
    assert full > 50
