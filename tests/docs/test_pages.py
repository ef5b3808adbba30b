"""What the pages show, works: their code runs, their links lead somewhere, and the reference is of this code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<code>.*?)^```$", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")
KINDS = {"python", "python no-run", "sh", "text", "mermaid"}

pytestmark = pytest.mark.slow


def blocks(page: Path) -> list[tuple[str, str, int]]:
    """Each block of a page: its kind, its code, and the line where it begins."""
    text = page.read_text(encoding="utf-8")
    return [(match["kind"], match["code"], text.count("\n", 0, match.start("code"))) for match in BLOCK.finditer(text)]


def program(page: Path) -> str:
    """All blocks that run, one after the other, each on the line that it has on the page."""
    lines: list[str] = []
    for kind, code, line in blocks(page):
        if kind == "python":
            lines += [""] * (line - len(lines)) + code.splitlines()
    return "\n".join(lines) + "\n"


def name(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", [page for page in PAGES if program(page).strip()], ids=name)
def test_the_code_on_a_page_runs(page: Path, tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(program(page), encoding="utf-8")
    command = [sys.executable, "-W", "error", "page.py"]
    for _ in range(2):  # each page says that the same line again resumes, so it has to hold for all it shows
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{page.name}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_are_of_a_known_kind(page: Path) -> None:
    assert {kind for kind, _, _ in blocks(page)} <= KINDS


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_that_is_not_run_is_python_all_the_same(page: Path) -> None:
    for kind, code, _ in blocks(page):
        if kind == "python no-run":
            compile(code, page.name, "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if not link.startswith(("http:", "https:", "#")):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_every_page_is_in_the_readme() -> None:
    linked = set(LINK.findall(PAGES[0].read_text(encoding="utf-8")))
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= linked


def test_the_second_example_of_the_readme_is_the_program_in_examples() -> None:
    source = (ROOT / "examples" / "index_stdlib.py").read_text(encoding="utf-8")
    shown = next(code for kind, code, _ in blocks(PAGES[0]) if kind == "python" and "def count(" in code)
    heart = shown[shown.index("@dataclass") :]
    assert heart in source


def test_the_readme_has_room_for_measured_numbers() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert 0 < text.index("<!-- benchmarks -->") < text.index("<!-- /benchmarks -->")


def test_the_reference_is_the_one_that_is_made_from_the_code() -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "docs" / "generate_api.py")]
    made = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == made.stdout, "write it anew: make docs"


def test_the_reference_has_every_public_name() -> None:
    headings = re.findall(r"^### `(\w+)", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(headings) == sorted(holdfast.__all__)
