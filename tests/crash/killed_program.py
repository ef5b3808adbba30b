"""A program to be killed: `python killed_program.py <store> <ledger file> <seed>`. Each line of its ledger is also printed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from typing import Any

from holdfast import Retry, ctx, run, task

STORE, LEDGER, SEED = sys.argv[1:4]
RNG = random.Random(f"{SEED} {os.getpid()}")
WIDTH = 12


def note(line: str) -> None:
    """Append a line, durably, and then tell whoever watches."""
    file = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    print(line, flush=True)


class Declined(Exception):
    pass


async def dawdle() -> None:
    for _ in range(RNG.randint(0, 5)):
        await asyncio.sleep(0)


@task(retries=Retry(max_attempts=3, initial_interval=0.001))
async def step(n: int) -> int:
    if n % 3 == 0 and ctx().attempt_number == 0:
        raise ValueError("the first attempt fails")
    await dawdle()
    note(f"ran step {n}")
    return n + 1


@task
def threaded(n: int) -> int:
    note(f"ran threaded {n}")
    return n * n


@task
async def by_card(amount: int) -> str:
    note(f"ran card {amount}")
    raise Declined(str(amount))


@task
async def pay(amount: int) -> str:
    try:
        return await by_card(amount)
    except Declined:
        note(f"got card {amount}")
        return f"bank {await step(amount)}"


@task
async def train(epochs: int) -> list[int]:
    seen = await ctx().checkpoint.load(list[int]) or []
    for epoch in range(len(seen), epochs):
        seen.append(await step(1000 + epoch))
        note(f"got step {1000 + epoch}")
        await ctx().checkpoint.save(seen)
        note(f"got save {epoch}")
    return seen


async def squared(n: int) -> int:
    result = await threaded.call(n)
    note(f"got threaded {n}")
    return result


@task
async def main() -> dict[str, Any]:
    total = 0
    for n in range(6):
        total += await step(n)
        note(f"got step {n}")
    name = str(await ctx().uuid())
    note(f"is {name}")
    squares = await asyncio.gather(*(squared(n) for n in range(WIDTH)))
    paid, epochs = await asyncio.gather(pay(300), train(4))
    note("got step 300")
    return {"total": total, "squares": squares, "paid": paid, "epochs": epochs, "name": name}


print("begins", flush=True)
print("result " + json.dumps(asyncio.run(run(main(), run_name="killed", store=STORE))), flush=True)
