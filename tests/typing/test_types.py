"""Both type checkers agree with every `*_cases.py` beside this file: types are tested as behaviour is.

A case is an `assert_type`, or a line that must be refused, marked `# type: ignore[code]`: an ignore that nothing needs is an error too.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CASES = sorted(HERE.glob("*_cases.py"))

pytestmark = pytest.mark.slow


def found(checker: str, *arguments: str) -> str:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    command = [sys.executable, "-m", checker, *arguments, *map(str, CASES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr or done.stdout  # anything else: the checker itself failed
    return done.stdout


@pytest.fixture(scope="module")
def mypy() -> Mapping[Path, list[str]]:
    complaints: dict[Path, list[str]] = {}
    for line in found("mypy", "--strict", "--output=json").splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            complaints.setdefault((ROOT / entry["file"]).resolve(), []).append(f"{entry['line']}: {entry['message']} [{entry['code']}]")
    return complaints


@pytest.fixture(scope="module")
def pyright() -> Mapping[Path, list[str]]:
    complaints: dict[Path, list[str]] = {}
    for entry in json.loads(found("pyright", "--outputjson", f"--pythonpath={sys.executable}"))["generalDiagnostics"]:
        line = entry["range"]["start"]["line"] + 1
        complaints.setdefault(Path(entry["file"]).resolve(), []).append(f"{line}: {entry['message']} [{entry.get('rule')}]")
    return complaints


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_mypy_agrees(case: Path, mypy: Mapping[Path, list[str]]) -> None:
    assert mypy.get(case, []) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_pyright_agrees(case: Path, pyright: Mapping[Path, list[str]]) -> None:
    assert pyright.get(case, []) == []
