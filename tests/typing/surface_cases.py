# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false, reportUnusedExpression=false
"""What type checkers see of tasks, calls, runs and checkpoints. Never run: read by mypy and pyright (test_types.py)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, assert_type
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

import holdfast as hf
from holdfast import (
    Bar,
    Call,
    Checkpoint,
    DescribedRun,
    Generation,
    Message,
    MessageType,
    Retry,
    RunHandle,
    RunState,
    Stats,
    Status,
    Store,
    TaskContext,
    TaskResult,
    Timeout,
    ctx,
    task,
    track,
)


class Model(BaseModel):
    score: float


@task
async def embed(doc: str, *, size: int = 3) -> list[float]:
    return [float(len(doc))] * size


@task
def count(text: str) -> int:
    return len(text)


@task(retries=3, timeout=60, concurrency=32, version="2", on_crash="fail")
async def tuned(doc: str) -> Model:
    return Model(score=len(doc))


@task(retries=Retry(4, retry_on=OSError), timeout=Timeout(total=timedelta(hours=1)), name="tuned_count")
def tuned_count(text: str, times: int = 1) -> int:
    return len(text) * times


@task
async def nothing() -> None:
    return None


class Shop:
    @task(name="shop.price")
    async def price(self, item: str) -> int:
        return len(item)

    @task(name="shop.stock")
    def stock(self, item: str) -> bool:
        return bool(item)


async def calls() -> None:
    assert_type(embed("a"), Call[list[float]])
    assert_type(embed("a", size=2), Call[list[float]])
    assert_type(await embed("a"), list[float])
    assert_type(await nothing(), None)
    assert_type(await tuned("a"), Model)
    assert_type(count("a"), int)
    assert_type(count.call("a"), Call[int])
    assert_type(await count.call("a"), int)
    assert_type(await tuned_count.call("a", times=2), int)
    assert_type(embed.call("a"), Call[list[float]])
    assert_type(embed.sync("a"), list[float])
    assert_type(count.sync("a"), int)
    assert_type(embed.name, str)
    assert_type(embed.version, str | None)
    embed(3)  # type: ignore[arg-type]
    embed()  # type: ignore[call-arg]
    embed("a", sizes=2)  # type: ignore[call-arg]
    count.call(3)  # type: ignore[arg-type]
    embed.sync(3)  # type: ignore[arg-type]


async def calls_are_coroutines() -> None:
    assert_type(await asyncio.gather(embed("a"), count.call("b")), tuple[list[float], int])
    assert_type(await asyncio.create_task(embed("a")), list[float])
    assert_type(await asyncio.wait_for(embed("a"), 3), list[float])
    async with asyncio.TaskGroup() as tasks:
        begun = tasks.create_task(count.call("a"))
    assert_type(begun.result(), int)


def functions() -> None:
    assert_type(asyncio.run(embed("a")), list[float])
    bare: Callable[[str], Coroutine[Any, Any, list[float]]] = embed.fn
    plain: Callable[[str], int] = count.fn
    as_callback: Callable[[str], int] = count
    assert_type(asyncio.run(bare("a")), list[float])
    assert_type(plain("a") + as_callback("a"), int)
    assert_type(embed.with_options(retries=5)("a"), Call[list[float]])
    assert_type(count.with_options(timeout=1.5)("a"), int)
    embed.with_options(retrys=5)  # type: ignore[call-arg]
    embed.with_options(on_crash="ignore")  # type: ignore[typeddict-item, arg-type, unused-ignore]
    task(retries="3")  # type: ignore[call-overload]


async def methods(shop: Shop) -> None:
    assert_type(shop.price("tea"), Call[int])
    assert_type(await shop.price("tea"), int)
    assert_type(shop.stock("tea"), bool)
    assert_type(await shop.stock.call("tea"), bool)
    shop.price(3)  # type: ignore[arg-type]


async def runs() -> None:
    assert_type(await hf.run(embed("a"), run_name="nightly", store="file:///tmp/x", resume="must"), list[float])
    assert_type(await hf.run(count.call("a"), store=Path("x"), durability="flush", grace=timedelta(seconds=5)), int)
    assert_type(hf.run_sync(embed("a"), custom_context={"tenant": "arxiv"}), list[float])
    handle = await hf.start(embed("a"))
    assert_type(handle, RunHandle[list[float]])
    assert_type(await handle.result(), list[float])
    assert_type(handle.run_name, str)
    assert_type(handle.status, Status)
    assert_type(handle.told, tuple[hf.Told, ...])
    sending: Coroutine[Any, Any, None] = handle.send("config", {"rate": 1.5})
    await sending
    async with await hf.start(count.call("a")) as inner:
        assert_type(await inner.result(), int)
    await hf.run(embed)  # type: ignore[arg-type]
    await hf.run(count("a"))  # type: ignore[arg-type]
    await hf.run(embed("a"), resume="perhaps")  # type: ignore[arg-type, typeddict-item, unused-ignore]


async def checkpoints(checkpoint: Checkpoint, generation: Generation) -> None:
    assert_type(await checkpoint.load(), Path | None)
    assert_type(await checkpoint.load(generation=generation, fallback=False), Path | None)
    assert_type(await checkpoint.load(Model), Model | None)
    assert_type(await checkpoint.load(bytes), bytes | None)
    assert_type(await checkpoint.load(dict[str, int]), dict[str, int] | None)
    either: TypeAdapter[int | str] = TypeAdapter(int | str)
    assert_type(await checkpoint.load(either), int | str | None)
    assert_type(await checkpoint.save(b"x"), Generation)
    assert_type(await checkpoint.save(Model(score=1), metadata={"step": 3}, wait=True), Generation)
    assert_type(await checkpoint.history(), Sequence[Generation])
    mood: TypeAdapter[Literal["good", "bad"]] = TypeAdapter(Literal["good", "bad"])
    assert_type(await checkpoint.load(mood), Literal["good", "bad"] | None)
    assert_type(checkpoint.load_sync(), Path | None)
    assert_type(checkpoint.load_sync(Model), Model | None)
    assert_type(checkpoint.save_sync(b"x"), Generation)
    assert_type(checkpoint.prev_exists(), bool)
    assert_type(checkpoint.path, Path)
    later: Coroutine[Any, Any, None] = checkpoint.save(b"x", wait=False)
    await later


async def docs_from_afar() -> AsyncIterator[bytes]:
    yield b"doc"


async def inside(context: TaskContext) -> None:
    assert_type(ctx(), TaskContext | Any)
    assert_type(ctx().attempt_number, int | Any)
    assert_type(context.attempt_number, int)
    assert_type(context.custom_context, Mapping[str, str])
    assert_type(context.progress("files", step=1, total=None), Bar)
    assert_type(context.message(MessageType.INFO, "begun"), None)
    assert_type(context.clear_messages(), None)
    async for row in track(["a"], "rows", total=1):
        assert_type(row, str)
    async for doc in track(docs_from_afar()):
        assert_type(doc, bytes)
    assert_type(await context.now(), datetime)
    assert_type(await context.uuid(), UUID)
    assert_type(await context.random(), float)
    assert_type(await context.record(lambda: 3), int)
    await context.on_rollback(embed, "text", size=2)
    await context.on_rollback(count, "text")
    await context.on_rollback(embed, 1)  # type: ignore[arg-type]
    context.on_rollback_sync(embed, "text")
    embed.with_options(rollback=nothing)

    assert_type(await context.receive("config", Model), Model)
    assert_type(await context.receive("config", dict[str, int], timeout=timedelta(hours=1)), dict[str, int])
    either: TypeAdapter[int | None] = TypeAdapter(int | None)
    assert_type(await context.receive("config", either, timeout=3), int | None)
    assert_type(context.receive_sync("config", Model), Model)
    slept: Coroutine[Any, Any, None] = context.sleep(timedelta(days=1))
    await slept
    await context.receive(3, Model)  # type: ignore[arg-type]
    await context.receive("config", Model, 3)  # type: ignore[call-overload, misc, unused-ignore]
    with hf.custom_context(tenant="arxiv"), hf.group("shards"):
        assert_type(hf.get_custom_context(), Mapping[str, str])
    hf.custom_context(tenant=3)  # type: ignore[arg-type]


async def results(store: Store, context: TaskContext) -> None:
    assert_type(await store.result("nightly"), TaskResult[Any])
    assert_type(await store.result("nightly", action="abc"), TaskResult[Any])
    assert_type(store.result_sync("nightly"), TaskResult[Any])
    assert_type(await store.latest_result(tuned), TaskResult[Model] | None)
    assert_type(await store.latest_result(count, schema="numbers"), TaskResult[int] | None)
    assert_type(await store.latest_result("tuned"), TaskResult[Any] | None)
    assert_type(store.latest_result_sync(embed), TaskResult[list[float]] | None)
    before = await store.latest_result(tuned)
    assert_type(before.payload if before is not None else None, Model | None)
    described = await store.describe("nightly")
    assert_type(described, DescribedRun)
    assert_type(store.describe_sync("nightly"), DescribedRun)
    assert_type(described.result, TaskResult[Any])
    assert_type(described.observers, list[str])
    assert_type(described.result.is_complete, bool)
    assert_type(described.result.cost, Decimal)
    assert_type(described.result.messages, list[Message])
    assert_type(described.result.started_at, datetime | None)
    assert_type(context.summary("three peaks"), None)
    assert_type(context.implements("peaks;table", "image"), None)
    context.summary({"peaks": 3})  # type: ignore[arg-type]
    await store.latest_result(3)  # type: ignore[call-overload]


async def isolated() -> None:
    async def body(number: int, *, word: str) -> str:
        return word * number

    assert_type(await hf.contextual_run(body, 3, word="x"), str)
    await hf.contextual_run(body, "3", word="x")  # type: ignore[arg-type]


async def figures_and_hooks(store: Store, context: TaskContext) -> None:
    context.figure("scans/motor", b"\x89PNG")
    context.figure("scans/motor", object())
    assert_type(await store.figure("nightly", "scans/motor"), bytes)
    assert_type(store.figure_sync("nightly", "scans/motor.png", action="abc"), bytes)
    context.on_exit(print, "gone", flush=True)
    context.on_exit(store.aclose)
    context.on_exit(store.aclose, 1)  # type: ignore[call-arg]
    context.on_exit("no function")  # type: ignore[arg-type]


def as_text(state: RunState) -> None:
    assert_type(state.to_json(), bytes)
    assert_type(RunState.from_json(b""), RunState)
    assert_type(state.stats, Stats)
    assert_type(state.stats.total, int)
    assert_type(state.stats.percent, float)
    assert_type(state.stats.remaining_seconds, float | None)
    assert_type(state.custom_context, Mapping[str, str])
    for action in state.actions.values():
        assert_type(action.messages, tuple[Message, ...])
        assert_type(action.progress, Mapping[str, Bar])
