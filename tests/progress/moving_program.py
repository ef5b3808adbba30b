"""A program to be killed: `python moving_program.py <store>`. It moves a bar, and prints each step when it is done."""

from __future__ import annotations

import asyncio
import sys

from holdfast import MessageType, ctx, run, task


@task
async def moves() -> None:
    ctx().message(MessageType.INFO, "moving")
    for number in range(1, 100_000):
        ctx().progress("steps", total=100_000)
        print(number, flush=True)
        await asyncio.sleep(0.02)


asyncio.run(run(moves(), run_name="it", store=sys.argv[1]))
