"""DBOS Transact on SQLite: a workflow is recovered when its executor starts again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from dbos import DBOS, SetWorkflowID

from benchmarks.peers.program import CHAINS, Folder, Laps, first_of, main, second_of, summed

folders: list[Folder] = []


@DBOS.step()
async def step(number: int) -> int:
    return number


@DBOS.workflow()
async def sequence(count: int) -> float:
    laps = Laps(count)
    for number in range(count):
        laps.step(number)
        await step(number)
    return laps.per_step()


@DBOS.step()
async def effect(number: int) -> int:
    folders[0].effect(str(number))
    return number


@DBOS.workflow()
async def effects(count: int) -> int:
    return sum([await effect(number) for number in range(count)])


@DBOS.step()
async def first(chain: int) -> int:
    await asyncio.sleep(folders[0].delay(chain))
    folders[0].effect(f"first {chain}")
    return first_of(chain)


@DBOS.step()
async def second(found: int) -> int:
    await asyncio.sleep(folders[0].delay(found // 10))
    folders[0].effect(f"second {found}")
    return second_of(found)


async def chain(number: int) -> int:
    return await second(await first(number))


@DBOS.workflow()
async def gathered() -> list[int]:
    return list(await asyncio.gather(*(chain(number) for number in range(CHAINS))))


@DBOS.workflow()
async def rows(count: int) -> int:
    return await summed(step, count)


def run_rows(folder: Folder, count: int) -> int:
    return int(run(folder, "rows", rows, count))


def run(folder: Folder, name: str, workflow: Any, *args: Any) -> Any:
    """Start the executor, which recovers what a dead one left, and wait for the workflow of this name."""
    folders.append(folder)
    url = f"sqlite:///{folder.path / 'dbos.sqlite'}"
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
    logging.disable(logging.ERROR)
    DBOS.launch()

    async def start() -> Any:
        with SetWorkflowID(name):
            handle = await DBOS.start_workflow_async(workflow, *args)
        return await handle.get_result()

    work: Coroutine[Any, Any, Any] = start()
    try:
        return asyncio.run(work)
    finally:
        DBOS.destroy()


def run_steps(folder: Folder, count: int) -> float:
    return float(run(folder, "steps", sequence, count))


def run_kill(folder: Folder, count: int) -> None:
    run(folder, "kill", effects, count)


def run_chains(folder: Folder) -> Sequence[int]:
    return list(run(folder, "chains", gathered))


if __name__ == "__main__":
    main(run_steps, run_kill, run_chains, run_rows)
