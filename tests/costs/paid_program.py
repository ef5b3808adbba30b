"""A program that pays, to be killed: `python paid_program.py <store> <book> <limit> <seed>`. It prints each line of the service's book.

The service charges once for each key, however often it is asked. When all is done, the program ends with its standard input: whoever means
to kill it never comes too late.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import holdfast as hf
from holdfast import Budget, Price, Retry, ctx, run, task
from holdfast.errors import BudgetSpent

STORE, BOOK, LIMIT, SEED = sys.argv[1:5]
RNG = random.Random(f"{SEED} {os.getpid()}")
PRICE = Price("0.15", "0.60")
ROWS = 24


def charge(key: str, amount: str) -> None:
    """Write it into the book, durably, and then tell whoever watches."""
    book = Path(BOOK)
    if book.exists() and any(line.startswith(f"{key} ") for line in book.read_text(encoding="utf-8").splitlines()):
        return
    file = os.open(BOOK, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{key} {amount}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    print(f"charged {key}", flush=True)


@task(retries=Retry(max_attempts=3, initial_interval=0.001))
async def classify(row: int) -> int:
    for _ in range(RNG.randint(0, 5)):
        await asyncio.sleep(0)
    cost = PRICE.of(row, 7)
    charge(ctx().idempotency_key, str(cost))
    await asyncio.sleep(0.001)
    ctx().add_cost(cost, tokens_in=row, tokens_out=7, model="small", key="answer")
    if row % 5 == 0 and ctx().attempt_number == 0:
        raise ConnectionError("the answer was garbage")
    return row


@task
def classify_in_a_thread(row: int) -> int:
    cost = PRICE.of(row, 3)
    charge(ctx().idempotency_key, str(cost))
    ctx().add_cost(cost, tokens_in=row, tokens_out=3, model="large", key="answer")
    return row


@task
async def main() -> int:
    found = await hf.map(classify, range(ROWS), concurrency=4)
    return sum(found) + sum(await asyncio.gather(*(classify_in_a_thread.call(row) for row in range(4))))


print("begins", flush=True)
try:
    value = asyncio.run(run(main(), run_name="paid", store=STORE, budget=Budget(cost=LIMIT, reserve="0.01", warn_at=())))
    print(f"result {value}", flush=True)
except BudgetSpent as error:
    print(f"spent {error.spent}", flush=True)
sys.stdin.read()
