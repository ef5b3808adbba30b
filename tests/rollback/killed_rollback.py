"""A program to be killed in the middle of its rollback: `python killed_rollback.py <store>`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from holdfast import Store, ctx, run, task


@task
async def give_back(what: str) -> None:
    print(f"give back {what}", flush=True)
    if what == "b" and __name__ == "__main__":
        os.kill(os.getpid(), signal.SIGKILL)


@task
async def take(what: str) -> None:
    await ctx().on_rollback(give_back, what)
    print(f"take {what}", flush=True)


@task
async def main() -> None:
    for what in "abc":
        await take(what)


async def both(store: Store) -> None:
    await run(main(), run_name="it", store=store)
    await store.rollback("it")


if __name__ == "__main__":
    asyncio.run(both(Store(sys.argv[1])))
