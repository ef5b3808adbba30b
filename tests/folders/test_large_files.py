"""A file of any size passes through little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SIZE = 200 << 20
ALLOWED = 40 << 20

PROGRAM = """
import asyncio, json, re, sys
from pathlib import Path
from holdfast.folders.opening import open_folder

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

async def copy():
    folder, source = open_folder(sys.argv[1]), Path(sys.argv[2])
    small = source.with_name("small")
    small.write_bytes(b"x")
    await folder.put_file("small", small)
    before = peak()
    streamed = await folder.put_file("big", source)
    assert await folder.get_file("big", source.with_name("back")) == streamed
    print(json.dumps([streamed.size, peak() - before]))
    await folder.delete_tree("")  # kept temporary folders stay small
    source.with_name("back").unlink()

asyncio.run(copy())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to ask for the peak of memory")
def test_a_large_file_goes_in_and_out_through_little_memory(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.write(b"head")
        file.truncate(SIZE)
    done = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path / "store", source], capture_output=True, text=True, check=True)
    size, growth = json.loads(done.stdout)
    assert size == SIZE
    assert growth < ALLOWED
