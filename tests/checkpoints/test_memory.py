"""Memory does not grow with what is saved."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from holdfast import ctx, task
from holdfast.errors import NotDurable

PROGRAM = """
import asyncio, sys
from pathlib import Path
from holdfast import ctx, run, task

source = Path(sys.argv[1])

def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

@task
async def works():
    checkpoint = ctx().checkpoint
    await checkpoint.save(b"x" * 100_000)  # what is loaded with the first save counts as there
    await checkpoint.load()
    before = most()
    await checkpoint.save(source)
    loaded = await checkpoint.load()
    assert loaded.stat().st_size == source.stat().st_size
    await checkpoint.save(source, wait=False)
    await checkpoint.flush()
    print((most() - before) // 1024)

asyncio.run(run(works(), run_name="it", store=sys.argv[2]))
"""

MIB = 1024 * 1024


def grows_by(tmp_path: Path, source: Path, size: int) -> int:
    """MiB at most that a process needs in addition, while it saves and loads a sparse file of `size` bytes, each chunk another one."""
    with source.open("wb") as file:
        for offset in range(0, size, MIB):
            file.seek(offset)
            file.write(offset.to_bytes(8, "big"))
        file.truncate(size)
    command = [sys.executable, "-c", PROGRAM, str(source), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env={"TMPDIR": str(tmp_path), "PATH": ""})
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the most memory that a process had")


@needs_proc
@pytest.mark.slow
def test_a_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    assert grows_by(tmp_path, tmp_path / "source", 320 * MIB) < 200


@needs_proc
@pytest.mark.campaign
def test_5_gb_are_saved_and_loaded_within_200_mb_more(tmp_path: Path) -> None:
    assert grows_by(tmp_path, tmp_path / "source", 5 * 1024 * MIB) < 200


@task
async def saves_outside_a_run() -> None:
    await ctx().checkpoint.save(os.urandom(1_000_000))
    assert await ctx().checkpoint.load(bytes)


def test_what_is_saved_outside_a_run_goes_with_its_call() -> None:
    async def main() -> int:
        await saves_outside_a_run()  # what is loaded with the first save counts as there
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(20):
                await saves_outside_a_run()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    with pytest.warns(NotDurable):
        assert asyncio.run(main()) < 2_000_000
