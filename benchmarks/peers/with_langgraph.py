"""LangGraph's functional API with its SQLite saver: the same thread goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task

from benchmarks.peers.program import CHAINS, Folder, Laps, first_of, main, second_of, summed

folders: list[Folder] = []


@task
async def step(number: int) -> int:
    return number


@task
async def effect(number: int) -> int:
    folders[0].effect(str(number))
    return number


@task
async def first(chain: int) -> int:
    await asyncio.sleep(folders[0].delay(chain))
    folders[0].effect(f"first {chain}")
    return first_of(chain)


@task
async def second(found: int) -> int:
    await asyncio.sleep(folders[0].delay(found // 10))
    folders[0].effect(f"second {found}")
    return second_of(found)


async def sequence(count: int) -> float:
    laps = Laps(count)
    for number in range(count):
        laps.step(number)
        await step(number)
    return laps.per_step()


async def effects(count: int) -> int:
    return sum([await effect(number) for number in range(count)])


async def chain(number: int) -> int:
    return await second(await first(number))


async def gathered(count: int) -> list[int]:
    return list(await asyncio.gather(*(chain(number) for number in range(count))))


async def rows(count: int) -> int:
    return await summed(step, count)


def run_rows(folder: Folder, count: int) -> int:
    return int(asyncio.run(run(folder, rows, count)))


async def run(folder: Folder, body: Any, count: int) -> Any:
    """Invoke a thread: anew, or where it has a checkpoint, with None, which goes on."""
    folders.append(folder)
    async with AsyncSqliteSaver.from_conn_string(str(folder.path / "langgraph.sqlite")) as saver:
        graph: Any = entrypoint(checkpointer=saver)(body)
        config: Any = {"configurable": {"thread_id": "bench"}, "recursion_limit": 10**6}
        is_known = await saver.aget_tuple(config) is not None
        return await graph.ainvoke(None if is_known else count, config, durability="sync")


def run_steps(folder: Folder, count: int) -> float:
    return float(asyncio.run(run(folder, sequence, count)))


def run_kill(folder: Folder, count: int) -> None:
    asyncio.run(run(folder, effects, count))


def run_chains(folder: Folder) -> Sequence[int]:
    return list(asyncio.run(run(folder, gathered, CHAINS)))


if __name__ == "__main__":
    main(run_steps, run_kill, run_chains, run_rows)
