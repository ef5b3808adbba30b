"""Prefect, local: results are persisted in a folder, and a task with the same inputs is answered from there when the flow runs again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE

from benchmarks.peers.program import CHAINS, Folder, Laps, first_of, main, second_of

folders: list[Folder] = []
kept = {"persist_result": True, "cache_policy": INPUTS + TASK_SOURCE}


@task(**kept)  # type: ignore[call-overload]
async def step(number: int) -> int:
    return number


@flow(log_prints=False)
async def sequence(count: int) -> float:
    laps = Laps(count)
    for number in range(count):
        laps.step(number)
        await step(number)
    return laps.per_step()


@task(**kept)  # type: ignore[call-overload]
async def effect(number: int) -> int:
    folders[0].effect(str(number))
    return number


@flow
async def effects(count: int) -> int:
    return sum([await effect(number) for number in range(count)])


@task(**kept)  # type: ignore[call-overload]
async def first(chain: int) -> int:
    await asyncio.sleep(folders[0].delay(chain))
    folders[0].effect(f"first {chain}")
    return first_of(chain)


@task(**kept)  # type: ignore[call-overload]
async def second(found: int) -> int:
    await asyncio.sleep(folders[0].delay(found // 10))
    folders[0].effect(f"second {found}")
    return second_of(found)


async def chain(number: int) -> int:
    return await second(await first(number))


@flow
async def gathered() -> list[int]:
    return list(await asyncio.gather(*(chain(number) for number in range(CHAINS))))


def run_steps(folder: Folder, count: int) -> float:
    folders.append(folder)
    return float(asyncio.run(sequence(count)))


def run_kill(folder: Folder, count: int) -> None:
    folders.append(folder)
    asyncio.run(effects(count))


def run_chains(folder: Folder) -> Sequence[int]:
    folders.append(folder)
    return list(asyncio.run(gathered()))


if __name__ == "__main__":
    main(run_steps, run_kill, run_chains)
