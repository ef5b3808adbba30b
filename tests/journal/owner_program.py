"""An owner to be contended with: `python owner_program.py <store> <mode>`.

Mode `wait` says that it began, and ends when it is sent a line; `fork` leaves a forked child behind that lives as long as its input;
`finish` ends at once. What came of it is the last line.
"""

from __future__ import annotations

import asyncio
import os
import sys

from holdfast import run, task

STORE, MODE = sys.argv[1:3]


@task
async def step(n: int) -> int:
    return n


@task
async def main() -> str:
    done = await step(1)
    if MODE == "fork" and os.fork() == 0:
        os.read(0, 1)  # until nobody writes there any more
        os._exit(0)
    if MODE != "finish":
        print("began", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    return f"{MODE} {done + await step(2)}"


try:
    print(asyncio.run(run(main(), run_name="contended", store=STORE)), flush=True)
except Exception as error:
    print(f"{type(error).__name__}: {error}", flush=True)
