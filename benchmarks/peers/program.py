"""What every script does, whatever runs it: three programs, told apart by the first argument, and where it has rows a fourth.

`steps`   durable steps, one after the other; prints seconds a step.
`kill`    steps with an effect each (a line in a file). Its first process dies hard after half of them; the next one goes on.
`chains`  six chains of two steps under gather, with scrambled delays. Its first process dies after some; the next one, with other
          delays, prints what came back.
`rows`    one step for each of many rows, `WIDTH` at a time, as one writes it there; prints seconds a row.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

CHAINS = 6
WIDTH = 32
_DELAYS = ((0.05, 0.03, 0.01, 0.06, 0.02, 0.04), (0.02, 0.05, 0.06, 0.01, 0.04, 0.03))


class Folder:
    """Where a program and its peer keep what they keep, over both processes."""

    def __init__(self, path: str, dies_after: int) -> None:
        self.path = Path(path)
        self._effects = self.path / "effects.txt"
        self._dies_after = dies_after
        self._is_first = not (self.path / "died").exists()

    def effect(self, name: str) -> None:
        """A step's effect. The first process dies at the step after `dies_after` of them."""
        if self._is_first and self._dies_after and self._count() >= self._dies_after:
            (self.path / "died").touch()
            os._exit(9)
        with self._effects.open("a") as file:
            file.write(f"{name}\n")

    def _count(self) -> int:
        return len(self._effects.read_text().splitlines()) if self._effects.exists() else 0

    def delay(self, chain: int) -> float:
        """How long the steps of a chain take: in another order in the second process."""
        return _DELAYS[0 if self._is_first else 1][chain]


def first_of(chain: int) -> int:
    return 10 * chain


def second_of(first: int) -> int:
    return first + 1


def expected_chains() -> list[int]:
    return [second_of(first_of(chain)) for chain in range(CHAINS)]


async def summed(step: Callable[[int], Awaitable[int]], count: int) -> int:
    """The sum of a step for each row, `WIDTH` at a time, where a peer has nothing of its own for that."""
    free = asyncio.Semaphore(WIDTH)

    async def row(number: int) -> int:
        async with free:
            return await step(number)

    return sum(await asyncio.gather(*(row(number) for number in range(count))))


def main(
    steps: Callable[[Folder, int], float],
    kill: Callable[[Folder, int], None],
    chains: Callable[[Folder], Sequence[int]],
    rows: Callable[[Folder, int], int] | None = None,
) -> None:
    """Run what the command line asks for, and print its result as JSON."""
    what, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if what == "steps":
        print(json.dumps(steps(Folder(path, 0), count)))
    elif what == "kill":
        kill(Folder(path, count // 2), count)
        print(json.dumps(None))
    elif what == "rows":
        print(json.dumps(_timed(rows, Folder(path, 0), count) if rows is not None else None))
    else:
        print(json.dumps(list(chains(Folder(path, 8)))))


def _timed(rows: Callable[[Folder, int], int], folder: Folder, count: int) -> float:
    began = time.perf_counter()
    total = rows(folder, count)
    assert total == sum(range(count))
    return (time.perf_counter() - began) / count


class Laps:
    """Seconds a step, by the second half of the steps: what comes before the first one is not a step's."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._half = 0.0

    def step(self, number: int) -> None:
        """Say that a step is about to begin."""
        if number == self._count // 2:
            self._half = time.perf_counter()

    def per_step(self) -> float:
        return (time.perf_counter() - self._half) / (self._count - self._count // 2)
