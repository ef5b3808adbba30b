"""A process in a play of several: `python receiver_program.py <part> ...`, with the store as JSON in $STORE.

`own <resume> <hang>`: owns the run `it`: two receivers take `ROUNDS` values each, and act on them. Having received its `hang`-th value,
counted over both, it says so, and stands still with all that is in it, until it is killed.
`send <who>`: sends `ROUNDS` values, each of which says who sent it.
`wait <timeout> <now>`: owns the run `late`, which waits for a value at most so many seconds, by a clock that begins at `now` and jumps.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any, cast

from holdfast import Store, ctx, run, task
from holdfast.errors import ReceiveTimedOut, RunStopped
from holdfast.events import WaitBegun
from holdfast.testing.clocks import Clock

ROUNDS = 4
hang = 0
heard = 0


def say(line: str) -> None:
    print(line, flush=True)


def opened() -> Store:
    where: dict[str, Any] = json.loads(os.environ["STORE"])
    return Store(where.pop("url"), **where)


@task
async def act(value: str) -> str:
    say(f"acts {value}")
    return f"done {value}"


@task
async def receiver(name: str) -> list[str]:
    global heard
    got = []
    for _ in range(ROUNDS):
        value = await ctx().receive("work", str)
        heard += 1
        say(f"{name} received {value}")
        if heard == hang:
            say("stands still")
            time.sleep(600)  # noqa: ASYNC251 - with the whole loop
        got.append(value)
        await act(value)
        say(f"knows {value}")
    return got


@task
async def main() -> list[list[str]]:
    return list(await asyncio.gather(receiver("a"), receiver("b")))


@task
async def patient(timeout: float) -> str:
    try:
        return await ctx().receive("work", str, timeout=timeout)
    except ReceiveTimedOut:
        return "nothing came"


class Said:
    def on_event(self, event: object) -> None:
        if isinstance(event, WaitBegun):
            say(f"waits for {event.topic}")


async def own(resume: str) -> None:
    async with opened() as store:
        try:
            result = await run(main(), run_name="it", store=store, resume=cast("Any", resume), observers=[Said()])
        except RunStopped as stopped:
            say(f"stopped: {stopped.reason}")
        else:
            say(f"result {json.dumps(result)}")


async def send(who: str) -> None:
    async with opened() as store:
        for number in range(ROUNDS):
            await store.send("it", "work", f"{who}{number}")
    say("sent")


async def wait(timeout: float) -> None:
    async with opened() as store:
        result = await run(patient(timeout), run_name="late", store=store, observers=[Said()])
    say(f"result {json.dumps(result)}")


match sys.argv[1:]:
    case ["own", resume, number]:
        hang = int(number)
        asyncio.run(own(resume))
    case ["send", who]:
        asyncio.run(send(who))
    case ["wait", timeout, now]:
        clock = Clock(datetime.fromtimestamp(float(now), UTC), jumps=now != "0")
        with clock.use():
            asyncio.run(wait(float(timeout)))
        say(f"took {clock.elapsed:.0f}")
    case other:
        raise SystemExit(f"no such part: {other}")
