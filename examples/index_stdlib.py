"""Index the Python standard library: one durable action a file. Kill it when you like, and run the same line again.

python examples/index_stdlib.py --store .holdfast --run-name index
"""

import argparse
import ast
import asyncio
import sysconfig
import warnings
from dataclasses import dataclass
from pathlib import Path

import holdfast as hf
from holdfast import ctx, task
from holdfast.observers.terminal import TerminalObserver


@dataclass(frozen=True)
class Counts:
    files: int = 0
    definitions: int = 0
    imports: int = 0
    lines: int = 0
    unparsable: int = 0


@task
def find(root: str, limit: int | None) -> list[str]:
    """List the files. A task, so that a resume goes by the recorded list."""
    paths = (path.relative_to(root) for path in Path(root).rglob("*.py"))
    return sorted(str(path) for path in paths if "site-packages" not in path.parts)[:limit]


@task(concurrency=8)
def count(root: str, path: str) -> Counts:
    source = Path(root, path).read_bytes()
    lines = len(source.splitlines())
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError):  # broken on purpose: food for the library's own tests
        return Counts(files=1, lines=lines, unparsable=1)
    definitions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in nodes)
    imports = sum(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)
    return Counts(files=1, definitions=definitions, imports=imports, lines=lines)


@task
def add_up(counts: list[Counts]) -> Counts:
    return Counts(**{name: sum(getattr(count, name) for count in counts) for name in Counts.__dataclass_fields__})


@task
async def index(root: str, limit: int | None = None) -> Counts:
    paths = await find.call(root, limit)

    async def counted(path: str) -> Counts:
        counts = await count.call(root, path)
        ctx().progress("files", total=len(paths))
        return counts

    return await add_up.call(await asyncio.gather(*(counted(path) for path in paths)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Index the Python standard library.")
    parser.add_argument("--store", help="a folder; by default $HOLDFAST_STORE, else .holdfast")
    parser.add_argument("--run-name", default="index-stdlib")
    parser.add_argument("--limit", type=int, help="index so many files only")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # for escapes in what is parsed
    call = index(sysconfig.get_path("stdlib"), options.limit)
    counts = asyncio.run(hf.run(call, run_name=options.run_name, store=options.store, observers=[TerminalObserver()]))
    print(f"{counts.files:,} files, {counts.lines:,} lines: {counts.definitions:,} definitions, {counts.imports:,} imports", end="")
    print(f" ({counts.unparsable} files can't be parsed)" if counts.unparsable else "")


if __name__ == "__main__":
    main()
