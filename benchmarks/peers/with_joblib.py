"""joblib.Memory: results of functions by their arguments, in a folder. No asyncio: chains run in threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from joblib import Memory

from benchmarks.peers.program import CHAINS, Folder, Laps, first_of, main, second_of

folders: list[Folder] = []


def step(number: int) -> int:
    return number


def effect(number: int) -> int:
    folders[0].effect(str(number))
    return number


def first(chain: int) -> int:
    time.sleep(folders[0].delay(chain))
    folders[0].effect(f"first {chain}")
    return first_of(chain)


def second(found: int) -> int:
    time.sleep(folders[0].delay(found // 10))
    folders[0].effect(f"second {found}")
    return second_of(found)


def run_steps(folder: Folder, count: int) -> float:
    cached, laps = Memory(folder.path, verbose=0).cache(step), Laps(count)
    for number in range(count):
        laps.step(number)
        cached(number)
    return laps.per_step()


def run_kill(folder: Folder, count: int) -> None:
    folders.append(folder)
    cached = Memory(folder.path, verbose=0).cache(effect)
    for number in range(count):
        cached(number)


def run_chains(folder: Folder) -> Sequence[int]:
    folders.append(folder)
    memory = Memory(folder.path, verbose=0)
    cached_first, cached_second = memory.cache(first), memory.cache(second)
    with ThreadPoolExecutor(CHAINS) as threads:
        return list(threads.map(lambda number: cached_second(cached_first(number)), range(CHAINS)))


if __name__ == "__main__":
    main(run_steps, run_kill, run_chains)
