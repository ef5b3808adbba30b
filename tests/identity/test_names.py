"""Names of modules, tasks, runs and source."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import InvalidName
from holdfast.identity import check_name, module_name, source_digest, task_name

SOURCE = Path(__file__).parents[2] / "src"
PROGRAM = """
from holdfast.identity import task_name
def work(): ...
class Kind:
    def method(self): ...
print(task_name(work), task_name(Kind.method))
"""


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (["script.py"], "script"),
        (["./script.py"], "script"),
        (["-m", "script"], "script"),
        (["-c", "import script"], "script"),
        (["pkg/mod.py"], "pkg.mod"),
        (["-m", "pkg.mod"], "pkg.mod"),
        (["-c", "import pkg.mod"], "pkg.mod"),
        (["pkg/sub/deep.py"], "pkg.sub.deep"),
        (["-c", "import pkg.sub.deep"], "pkg.sub.deep"),
        (["-m", "pkg"], "pkg.__main__"),
        (["pkg/__main__.py"], "pkg.__main__"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_task_has_one_name_however_its_module_is_run(tmp_path: Path, command: list[str], module: str) -> None:
    for folder in ("pkg", "pkg/sub"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    for file in ("script.py", "pkg/mod.py", "pkg/sub/deep.py", "pkg/__main__.py"):
        (tmp_path / file).write_text(PROGRAM)
    ran = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == [f"{module}:work", f"{module}:Kind.method"]


def test_a_notebook_is_called_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    main.get_ipython = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert module_name("__main__") == "notebook"
    del main.get_ipython  # type: ignore[attr-defined]
    assert module_name("__main__") == "__main__"


def test_what_is_imported_keeps_its_name() -> None:
    assert task_name(textwrap.dedent) == "textwrap:dedent"
    assert module_name(Path) == Path.__module__
    assert module_name(len) == "builtins"


@pytest.mark.parametrize("name", ["a", "A-b_c.d", "0", "x" * 128, "a.", "con"])
def test_a_name_that_can_stand_in_a_path_is_returned(name: str) -> None:
    assert check_name("run_name", name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/b", "holds '/', and may hold A-Z a-z 0-9 . _ -; 'a-b' would do"),
        ("../x", "holds '/'"),
        ("", "empty"),
        ("é", "holds 'é'"),
        (".hidden", "begins with '.', and has to begin with a letter or a digit; 'hidden' would do"),
        ("-x", "'x' would do"),
        ("a b\n", "'a-b' would do"),
        ("x" * 129, "129 characters, and may have 128"),
        ("a\n", "holds '\\n'"),
        (3, "it has to be a str, not int"),
    ],
)
def test_any_other_name_is_refused_with_a_better_spelling(name: Any, reason: str) -> None:
    with pytest.raises(InvalidName) as caught:
        check_name("run_name", name)
    assert reason in caught.value.reason
    assert (caught.value.kind, caught.value.name) == ("run_name", name)


BASE = """
@deco(1)
def work(x, y=2):
    "Doc."
    def inner(a):
        "Doc."
        return a + 1  # why
    return inner(x) + y
"""


def made(tmp_path: Path, source: str, name: str) -> Callable[..., Any]:
    file = tmp_path / f"{name}.py"
    file.write_text("def deco(_):\n    return lambda fn: fn\n" + source)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    work: Callable[..., Any] = module.work
    return work


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("# why", "# because", True),
        ("    return inner", "\n\n    return  inner", True),
        ('"Doc."', '"Other."', True),
        ('    "Doc."\n', "", True),
        ("@deco(1)", "@deco(2)", True),
        ("@deco(1)", "", True),
        ("a + 1", "a + 2", False),
        ("y=2", "y=3", False),
        ("def work(x", "async def work(x", False),
        ("+ y", "- y", False),
    ],
)
def test_only_what_a_function_does_changes_its_source_digest(tmp_path: Path, old: str, new: str, same: bool) -> None:
    assert (source_digest(made(tmp_path, BASE, "base")) == source_digest(made(tmp_path, BASE.replace(old, new), "other"))) is same


def test_without_source_the_byte_code_speaks() -> None:
    def from_text(text: str) -> Callable[..., Any]:
        scope: dict[str, Any] = {}
        exec(text, scope)
        work: Callable[..., Any] = scope["work"]
        return work

    text = "def work(x):\n    f = lambda y: y + 1\n    return f(x) in {1, 2, 'a'}\n"
    assert source_digest(from_text(text)) == source_digest(from_text("\n\n" + text.replace("y: y", "y :  y")))
    assert source_digest(from_text(text)) != source_digest(from_text(text.replace("+ 1", "+ 2")))
    assert source_digest(lambda: 1) == source_digest(lambda: 1)
    assert source_digest(lambda: 1) != source_digest(lambda: 2)
