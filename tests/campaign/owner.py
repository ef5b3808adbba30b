"""A process that owns runs, or tries to: `python owner.py <ledger file> <gates folder>`, with the store as JSON in $STORE.

Each line of its input is `<run name> <resume> <gate>`: it runs the program under that name, and says what came of it. With a gate, the
program waits in its middle until a file of that name is there. Each line of the ledger is written durably before it is printed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, cast

from holdfast import Store, ctx, run, task
from holdfast.errors import HoldfastError

LEDGER, GATES = Path(sys.argv[1]), Path(sys.argv[2])
STEPS = 12


def say(line: str) -> None:
    """Tell whoever watches."""
    print(line, flush=True)


def note(line: str) -> None:
    """Append a line to the ledger, durably, and say it."""
    file = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{os.getpid()} {line}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    say(line)


@task
async def step(number: int) -> int:
    note(f"ran {number}")
    await asyncio.sleep(0.002)
    return number * number


@task
async def main(gate: str) -> list[int]:
    done = await ctx().checkpoint.load(list[int]) or []
    for number in range(len(done), STEPS):
        result = await step(number)
        note(f"got {number}")
        done.append(result)
        await ctx().checkpoint.save(done)
        note(f"got save {number}")
        if number == STEPS // 2 and gate != "-":
            say("at the gate")
            while not (GATES / gate).exists():  # noqa: ASYNC110 - another process opens it
                await asyncio.sleep(0.02)
    return done


def opened() -> Store:
    where: dict[str, Any] = json.loads(os.environ["STORE"])
    return Store(where.pop("url"), **where)


async def live(run_name: str, resume: str, gate: str) -> str:
    try:
        async with opened() as store:
            result = await run(main(gate), run_name=run_name, store=store, resume=cast("Any", resume), handle_signals=False)
    except HoldfastError as error:
        return f"refused {type(error).__name__}"
    return f"result {json.dumps(result)}"


say("ready")
for line in sys.stdin:
    say(asyncio.run(live(*line.split())))
