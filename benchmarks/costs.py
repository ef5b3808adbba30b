"""What the small things cost: `ctx()`, a block of custom context, a call outside a run, a pending action, the import."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from statistics import median
from time import perf_counter
from timeit import Timer

import holdfast as hf
from benchmarks.rows import Line, Pairs, Row, Scale, interleaved, micro
from benchmarks.steps import store_folder
from holdfast import ctx, custom_context

# ctx() and custom_context, timed inside a task

_var: ContextVar[dict[str, str]] = ContextVar("bare", default={"tenant": "arxiv"})  # noqa: B039 - never changed
_get = _var.get
_ctx = ctx


def _bare_block() -> None:
    merged = {**_get(), "shard": "7"}
    token = _var.set(merged)
    _var.reset(token)


def _our_block() -> None:
    with custom_context(shard="7"):
        pass


def _per_call(statement: str, number: int) -> float:
    return Timer(statement, globals=globals()).timeit(number) / number


@hf.task
async def in_a_task(ours: str, bare: str, rounds: int, number: int) -> list[tuple[float, float]]:
    with custom_context(tenant="arxiv"):
        return list(interleaved(rounds, lambda: _per_call(ours, number), lambda: _per_call(bare, number)).rounds)


def _beside(scale: Scale, ours: str, bare: str, number: int) -> Pairs:
    return Pairs(tuple(asyncio.run(_awaited(in_a_task(ours, bare, scale.rounds, scale.of(number))))))


async def _awaited(call: hf.Call[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    return await call


def measure_ctx(scale: Scale) -> Sequence[Line]:
    pairs = _beside(scale, "_ctx()", "_get()", 500_000)
    return [_at_most("`ctx()`", 3, "`ContextVar.get`", pairs)]


def measure_custom_context(scale: Scale) -> Sequence[Line]:
    pairs = _beside(scale, "_our_block()", "_bare_block()", 100_000)
    return [_at_most("a `custom_context` block", 5, "dict merge + set + reset", pairs)]


def _at_most(what: str, most: float, limit: str, pairs: Pairs) -> Line:
    return Line(what, f"≤ {most} x {limit}", f"{pairs.ratio:.2f} x", _nano(pairs.ours), _nano(pairs.limit), pairs.ratio <= most)


def _nano(seconds: float) -> str:
    return f"{seconds * 1e9:,.0f} ns"


# outside a run


async def bare_double(number: int) -> int:
    return 2 * number


double = hf.task(bare_double)


def measure_outside(scale: Scale) -> Sequence[Line]:
    count = scale.of(5_000)

    async def ours() -> float:
        began = perf_counter()
        for number in range(count):
            await double(number)
        return (perf_counter() - began) / count

    async def bare() -> float:
        began = perf_counter()
        for number in range(count):
            await bare_double(number)
        return (perf_counter() - began) / count

    pairs = interleaved(scale.rounds, lambda: asyncio.run(ours()), lambda: asyncio.run(bare()))
    holds = pairs.added <= 30e-6
    promise, found = "adds ≤ 30 µs to a bare await", f"+ {micro(pairs.added)}"
    return [Line("a task called outside a run", promise, found, micro(pairs.ours), micro(pairs.limit), holds)]


# pending actions: each side in a process of its own, by what is allocated once all bodies wait

PENDING = 20_000


class Hall:
    """Where bodies wait for one another."""

    def __init__(self, count: int) -> None:
        self._missing = count
        self.full = asyncio.Event()
        self.open = asyncio.Event()

    def arrive(self) -> asyncio.Event:
        """Say that one more is there, and return what it waits for."""
        self._missing -= 1
        if not self._missing:
            self.full.set()
        return self.open


_halls: list[Hall] = []


@hf.task
async def waits(number: int) -> int:
    await _halls[0].arrive().wait()
    return number


async def _bare_waits(number: int) -> int:
    await _halls[0].arrive().wait()
    return number


@hf.task
async def hold(count: int) -> float:
    return await _grown(waits, count)


async def _grown(body: Callable[[int], Awaitable[int]], count: int) -> float:
    hall = Hall(count)
    _halls.append(hall)
    tracemalloc.start()
    pending = asyncio.gather(*(body(number) for number in range(count)))
    await hall.full.wait()
    await asyncio.sleep(1)  # until what was asked for and begun is durable
    taken = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    hall.open.set()
    await pending
    return taken


def pending_ours(count: int) -> float:
    with store_folder() as store:
        return hf.run_sync(hold(count), run_name="r", store=store, durability="flush")


def pending_bare(count: int) -> float:
    return asyncio.run(_grown(_bare_waits, count))


def _in_process(function: str, count: int) -> float:
    program = f"from benchmarks import costs; print(costs.{function}({count}))"
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def measure_pending(scale: Scale) -> Sequence[Line]:
    count = scale.of(PENDING)
    pairs = interleaved(scale.rounds, lambda: _in_process("pending_ours", count), lambda: _in_process("pending_bare", count))
    holds = pairs.ours <= 4096
    return [
        Line(
            f"a pending action ({count:,} bodies that wait, in a durable run)",
            "takes ≤ 4 KiB, its asyncio task included",
            f"{pairs.ours:,.0f} bytes",
            f"{pairs.ratio:.1f} x",
            f"a bare task: {pairs.limit:,.0f} bytes",
            holds,
        )
    ]


# the import

_MODEL = "import asyncio, anyio, pydantic\nclass Model(pydantic.BaseModel):\n    name: str\n    number: int = 0\n"


def _import_seconds(program: str) -> float:
    """The median of five processes, in which only the imports are timed, from byte code that is there."""
    timed = f"import time; began = time.perf_counter()\n{program}\nprint(time.perf_counter() - began)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", timed]
    return median(float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout) for _ in range(5))


def measure_import(scale: Scale) -> Sequence[Line]:
    pairs = interleaved(scale.rounds, lambda: _import_seconds("import holdfast"), lambda: _import_seconds(_MODEL))
    ours, limit = f"{pairs.ours * 1000:.0f} ms", f"{pairs.limit * 1000:.0f} ms"
    promise = "≤ 1.15 x `import asyncio, anyio` and one pydantic model"
    return [Line("`import holdfast`", promise, f"{pairs.ratio:.2f} x", ours, limit, pairs.ratio <= 1.15)]


ROWS = (
    Row("ctx", measure_ctx),
    Row("custom-context", measure_custom_context),
    Row("outside", measure_outside),
    Row("pending", measure_pending),
    Row("import", measure_import),
)
