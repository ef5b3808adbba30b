"""Flyte's SDK, run locally: tasks with a cache, which is what it keeps between two local runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import flyte

from benchmarks.peers.program import CHAINS, Folder, Laps, first_of, main, second_of

folders: list[Folder] = []
env = flyte.TaskEnvironment("bench", cache="auto")


@env.task
async def step(number: int) -> int:
    return number


@env.task(cache="disable")
async def sequence(count: int) -> float:
    laps = Laps(count)
    for number in range(count):
        laps.step(number)
        await step(number)
    return laps.per_step()


@env.task
async def effect(number: int) -> int:
    folders[0].effect(str(number))
    return number


@env.task(cache="disable")
async def effects(count: int) -> int:
    return sum([await effect(number) for number in range(count)])


@env.task
async def first(chain: int) -> int:
    await asyncio.sleep(folders[0].delay(chain))
    folders[0].effect(f"first {chain}")
    return first_of(chain)


@env.task
async def second(found: int) -> int:
    await asyncio.sleep(folders[0].delay(found // 10))
    folders[0].effect(f"second {found}")
    return second_of(found)


async def chain(number: int) -> int:
    return await second(await first(number))


@env.task(cache="disable")
async def gathered() -> list[int]:
    return list(await asyncio.gather(*(chain(number) for number in range(CHAINS))))


def run(folder: Folder, entry: Any, **inputs: Any) -> Any:
    folders.append(folder)
    flyte.init(root_dir=folder.path)
    return flyte.with_runcontext(mode="local").run(entry, **inputs).outputs()


def run_steps(folder: Folder, count: int) -> float:
    return float(_only(run(folder, sequence, count=count)))


def run_kill(folder: Folder, count: int) -> None:
    run(folder, effects, count=count)


def run_chains(folder: Folder) -> Sequence[int]:
    return list(_only(run(folder, gathered)))


def _only(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, tuple) else getattr(outputs, "o0", outputs)


if __name__ == "__main__":
    main(run_steps, run_kill, run_chains)
