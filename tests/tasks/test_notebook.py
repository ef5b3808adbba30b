"""A notebook, executed: its cells stand on a loop that runs, and may await as well as block."""

from __future__ import annotations

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

CELLS = [
    """
import asyncio, holdfast as hf
from holdfast import ctx, task

@task
async def double(n: int) -> int:
    await asyncio.sleep(0)
    return n * 2

@task
def halve(n: int) -> int:
    return n // 2

@task
async def both(n: int) -> list[int]:
    return [await double(n), await halve.call(n)]
print(double.name)
""",
    "print(await double(1), await asyncio.gather(double(2), halve.call(6)))",
    "print(halve(4), halve.sync(6), double.sync(4))",
    "print(hf.run_sync(both(4), run_name='blocking', store='store'))",
    "print(await hf.run(both(4), run_name='awaited', store='store'))",
    "print(hf.run_sync(both(4), run_name='awaited', store='store'), await hf.run(both(4), run_name='blocking', store='store'))",
    "print(sorted(f'{run.run_name} {run.status.value}' for run in hf.Store('store').runs_sync()))",
]
PRINTED = [
    "notebook:double",
    "2 [4, 3]",
    "2 3 8",
    "[8, 2]",
    "[8, 2]",
    "[8, 2] [8, 2]",
    "['awaited COMPLETED', 'blocking COMPLETED']",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:(zmq|jupyter_client|nbclient|nbformat|tornado).*")
@pytest.mark.filterwarnings("ignore::FutureWarning:nbclient.*")
def test_the_cells_of_a_notebook_await_and_block(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source.strip()) for source in CELLS])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = ["".join(output.get("text", "") for output in cell["outputs"]).strip() for cell in notebook["cells"]]
    assert printed == PRINTED
