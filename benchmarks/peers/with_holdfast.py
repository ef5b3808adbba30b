"""Holdfast: runs in a folder of files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import holdfast as hf
from benchmarks.peers.program import CHAINS, WIDTH, Folder, Laps, first_of, main, second_of
from holdfast import task

folders: list[Folder] = []


@task
async def step(number: int) -> int:
    return number


@task
async def sequence(count: int) -> float:
    laps = Laps(count)
    for number in range(count):
        laps.step(number)
        await step(number)
    return laps.per_step()


@task
async def effect(number: int) -> int:
    folders[0].effect(str(number))
    return number


@task
async def effects(count: int) -> int:
    return sum([await effect(number) for number in range(count)])


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


async def chain(number: int) -> int:
    return await second(await first(number))


@task
async def gathered() -> list[int]:
    return await asyncio.gather(*(chain(number) for number in range(CHAINS)))


@task
async def rows(count: int) -> int:
    return sum(await hf.map(step, range(count), concurrency=WIDTH))


def run_rows(folder: Folder, count: int) -> int:
    return hf.run_sync(rows(count), run_name="rows", store=folder.path / "store")


def run_steps(folder: Folder, count: int) -> float:
    return hf.run_sync(sequence(count), run_name="steps", store=folder.path / "store")


def run_kill(folder: Folder, count: int) -> None:
    folders.append(folder)
    hf.run_sync(effects(count), run_name="kill", store=folder.path / "store")


def run_chains(folder: Folder) -> Sequence[int]:
    folders.append(folder)
    return hf.run_sync(gathered(), run_name="chains", store=folder.path / "store")


if __name__ == "__main__":
    main(run_steps, run_kill, run_chains, run_rows)
