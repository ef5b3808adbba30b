"""One program has one identity, however it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
PROGRAM = """
import asyncio, dataclasses, os, sys
import holdfast as hf

@dataclasses.dataclass
class Job:
    n: int
    tags: frozenset = frozenset({"a", "b", "c"})
    @hf.task
    async def square(self) -> int:
        print("square", self.n)
        return self.n ** 2

@hf.task
def negate(options: dict) -> int:
    print("negate", options["n"])
    return -options["n"]

@hf.task
async def program(jobs: list[Job]) -> int:
    print("program")
    squares = await asyncio.gather(*(job.square() for job in jobs))
    total = sum(squares) + await negate.call({"n": 1, "why": None})
    if "fail" in os.environ:
        raise RuntimeError("interrupted")
    return total

def main():
    print(hf.run_sync(program([Job(1), Job(2)]), run_name="r", store="store"))

if __name__ == "__main__":
    main()
"""
STARTS = {
    "script": ["pkg/mod.py"],
    "python -m": ["-m", "pkg.mod"],
    "module": ["-c", "import pkg.mod; pkg.mod.main()"],
}


def start(folder: Path, command: list[str], **environment: str) -> tuple[list[str], str]:
    env = {"PYTHONPATH": f"{SOURCE}{os.pathsep}{folder}", "PATH": os.environ["PATH"], **environment}
    ran = subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60)
    return ran.stdout.splitlines(), ran.stderr


@pytest.mark.parametrize("first", STARTS)
def test_what_one_way_of_starting_recorded_every_other_reuses(tmp_path: Path, first: str) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / "pkg" / "mod.py").write_text(PROGRAM)
    printed, errors = start(tmp_path, STARTS[first], fail="1", PYTHONHASHSEED="1")
    assert sorted(printed) == ["negate 1", "program", "square 1", "square 2"]
    assert "RuntimeError: interrupted" in errors
    others = [name for name in STARTS if name != first]
    printed, errors = start(tmp_path, STARTS[others[0]], PYTHONHASHSEED="2")
    assert printed == ["program", "4"], errors
    printed, errors = start(tmp_path, STARTS[others[1]], PYTHONHASHSEED="3")
    assert printed == ["4"], errors
