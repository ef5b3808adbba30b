"""The floors of the building: who may import whom, and what importing costs.

A module imports only from what stands before it in FLOORS. So there is one direction to read in, no cycle, and no import inside a function.
"""

from __future__ import annotations

import ast
import graphlib
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import holdfast

PACKAGE = Path(__file__).parents[1] / "src" / "holdfast"

# A name stands for its module, or for a package with all that is in it, unless a part of the package is named as well.
_FLOORS = """
    frozen errors status identity rounds fingerprints retries retention progress costs tabs
    clocks limits bridge deferred lines summaries messages
    codec events telling states leaves mementos tallies figures
    folders.protocol folders.names folders.threads folders.patience folders.abreast folders.secrets folders.troubles folders.addresses
    folders.storage_options folders.disk folders.memory folders.local folders.objects folders.ciphers folders.encrypted folders.fencing
    folders.s3 folders.gcs folders.azure folders.anywhere folders.obstore folders.opening folders
    flow files
    intents blobs
    journals.frames journals.snapshots journals.reading journals.writing journals.appending journals.creating journals.owning journals
    checkpoints
    sweeps topics
    orders contexts tracking
    attempts engines
    actions runs
    tasks
    views stages fanout results latest stores launch
    observers testing
    cli page
"""
FLOORS = _FLOORS.split()

# Heavy or optional packages, each with the only rooms that may name them in an import.
ONLY_IN = {
    "fsspec": ("folders",),
    "aiofiles": ("folders", "files"),
    "cryptography": ("folders.ciphers",),
    "s3fs": ("folders.s3",),
    "aiobotocore": ("folders.s3",),
    "botocore": ("folders.s3",),
    "aiohttp": ("folders.s3", "folders.gcs"),
    "gcsfs": ("folders.gcs",),
    "google": ("folders.gcs",),
    "adlfs": ("folders.azure",),
    "azure": ("folders.azure",),
    "obstore": ("folders.obstore",),
    "numpy": ("codec.arrays",),
    "pandas": ("codec.arrays",),
    "pyarrow": ("codec.arrays",),
    "matplotlib": ("figures",),
    "plotly": ("figures",),
    "bokeh": ("figures",),
    "panel": ("figures",),
    "holoviews": ("figures",),
    "PIL": ("figures",),
    "rich": ("observers.terminal",),
    "opentelemetry": ("observers.otel",),
    "trio": (),
    "dask": ("engines",),
    "ray": ("engines",),
}


@dataclass(frozen=True)
class Module:
    """One file of the package: its name below `holdfast`, and its syntax tree."""

    name: str
    tree: ast.Module
    is_package: bool

    def imports(self) -> Iterator[tuple[str, int]]:
        """Each full name that is imported, wherever that stands (also under TYPE_CHECKING), with its line."""
        yield from _imports(self.tree, self)

    def own_imports(self) -> Iterator[tuple[str, int]]:
        """The modules of this package that are imported, without the leading `holdfast.`; "" is the package itself."""
        for name, line in self.imports():
            if name == "holdfast" or name.startswith("holdfast."):
                yield _module_of(name.removeprefix("holdfast").removeprefix(".")), line


def _imports(tree: ast.AST, module: Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, module)
            yield from ((f"{origin}.{alias.name}" if origin.startswith("holdfast") else origin, node.lineno) for alias in node.names)


def _origin(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    above = ["holdfast", *filter(None, module.name.split("."))]
    above = above[: len(above) - node.level + module.is_package]
    return ".".join([*above, *([node.module] if node.module else [])])


def _module_of(name: str) -> str:
    """`folders.protocol.Folder` is in `folders.protocol`; `Task` is in the package itself."""
    while name and name not in names():
        name = name.rpartition(".")[0]
    return name


@cache
def names() -> frozenset[str]:
    return frozenset(_name(path) for path in PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> tuple[Module, ...]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return tuple(Module(_name(path), ast.parse(path.read_text(encoding="utf-8")), path.stem == "__init__") for path in paths)


def floor(name: str) -> int | None:
    """Where a module stands. None: nowhere."""
    while name:
        if name in FLOORS:
            return FLOORS.index(name)
        name = name.rpartition(".")[0]
    return None


def below_the_roof() -> list[Module]:
    """All but `holdfast/__init__.py` and `__main__.py`, which may import anything, and which nothing imports."""
    return [module for module in modules() if module.name not in ("", "__main__")]


def test_there_is_something_to_hold() -> None:
    assert {"errors", "status", "retries", "progress"} <= names()


def test_every_module_has_a_floor() -> None:
    homeless = [module.name for module in below_the_roof() if floor(module.name) is None]
    assert not homeless, f"place {homeless} in FLOORS: after all that they import, before all that import them"


def test_a_module_imports_only_from_what_stands_before_it() -> None:
    upward = []
    for module in below_the_roof():
        own = floor(module.name)
        for imported, line in module.own_imports():
            there = floor(imported)
            if own is None or there is None or imported == module.name:
                continue
            if there > own:
                upward.append(f"{module.name}:{line} imports {imported}, which stands above it")
    assert upward == []


def test_no_module_imports_the_package_itself() -> None:
    through_the_roof = [f"{module.name}:{line}" for module in below_the_roof() for imported, line in module.own_imports() if not imported]
    assert through_the_roof == [], "import from the module that defines the name"


def test_there_is_no_cycle() -> None:
    graph = {module.name: {imported for imported, _ in module.own_imports() if imported != module.name} for module in below_the_roof()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the way round


def test_own_modules_are_imported_at_the_top_of_a_file_and_nowhere_else() -> None:
    late = []
    for module in modules():
        for statement in module.tree.body:
            if not isinstance(statement, (ast.Import, ast.ImportFrom)):  # in a function, in a class, under TYPE_CHECKING or try
                late += [
                    f"{module.name}:{line} imports {name}" for name, line in _imports(statement, module) if name.startswith("holdfast")
                ]
    assert late == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_heavy_packages_stay_in_their_rooms(package: str) -> None:
    rooms = ONLY_IN[package]
    elsewhere = [
        f"{module.name}:{line}"
        for module in modules()
        for name, line in module.imports()
        if name.partition(".")[0] == package and not any(module.name == room or module.name.startswith(f"{room}.") for room in rooms)
    ]
    assert elsewhere == []


def test_there_is_one_context_variable() -> None:
    made = [
        f"{module.name}:{node.lineno}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).partition("[")[0].rpartition(".")[2] == "ContextVar"
    ]
    assert [where.partition(":")[0] for where in made] == ["contexts"]


def public_names() -> list[str]:
    return list(getattr(holdfast, "__all__", ()))


def test_the_package_says_what_is_public() -> None:
    assert public_names()


def test_no_public_name_is_also_a_modules() -> None:
    top = {name for name in names() if name and "." not in name}
    assert top.isdisjoint(public_names()), "whichever is imported last would win"


def test_every_public_name_exists_and_says_what_it_is() -> None:
    for name in public_names():
        public = getattr(holdfast, name)
        if callable(public):
            assert getattr(public, "__doc__", None), f"holdfast.{name} has no docstring"


# what importing does: asked in a fresh interpreter

ASK = """
import asyncio, contextvars, json, os, sys, threading
{before}
opened = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.append([os.fsdecode(arguments[0]), arguments[2]])
    elif event in ("socket.connect", "subprocess.Popen", "os.fork", "os.mkdir", "os.remove", "os.rename"):
        opened.append([event, 0])
values, threads, known = dict(contextvars.copy_context()), threading.active_count(), set(sys.modules)
sys.addaudithook(watch)
{load}
seen = list(opened)
tops = {{name.partition(".")[0] for name in set(sys.modules) - known}}
print(json.dumps({{
    "opened": seen,
    "threads": threading.active_count() - threads,
    "context": dict(contextvars.copy_context()) != values,
    "foreign": sorted(tops - set(sys.stdlib_module_names)),
    "signals": __import__("signal").getsignal(2) is not __import__("signal").default_int_handler,
}}))
"""


@cache
def ask(load: str, before: str = "") -> dict[str, object]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    program = ASK.format(load=load, before=before)
    command = [sys.executable, "-W", "error", "-c", program]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    result: dict[str, object] = json.loads(answer.stdout)
    return result


# The limit in the README's table is measured against the same three.
FOUNDATIONS = "import anyio.to_thread, pydantic\nclass Model(pydantic.BaseModel): x: int = 0\npydantic.TypeAdapter(int)"


def test_importing_opens_nothing_but_code() -> None:
    answer = ask("import holdfast")
    opened = answer["opened"]
    assert isinstance(opened, list)
    code = [str(PACKAGE), *(sysconfig.get_path(place) for place in ("stdlib", "platstdlib", "purelib", "platlib"))]
    strange = [path for path, flags in opened if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or not path.startswith(tuple(code))]
    assert strange == []


def test_importing_starts_nothing_and_sets_nothing() -> None:
    answer = ask("import holdfast")
    assert (answer["threads"], answer["context"], answer["signals"]) == (0, False, False)


def test_importing_loads_no_packages_but_anyio_and_pydantic_and_what_these_load() -> None:
    foundations = ask(FOUNDATIONS)["foreign"]
    loaded = ask("import holdfast")["foreign"]
    assert isinstance(foundations, list)
    assert isinstance(loaded, list)
    assert {"anyio", "pydantic"} <= set(foundations)
    assert set(loaded) - set(foundations) == {"holdfast"}


@pytest.mark.parametrize("package", ["fsspec", "aiofiles", "numpy", "pandas", "pyarrow", "rich", "trio"])
def test_importing_does_not_load(package: str) -> None:
    loaded = ask("import holdfast")["foreign"]
    assert isinstance(loaded, list)
    assert package not in loaded
