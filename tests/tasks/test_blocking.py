"""Calling without awaiting: plain calls of `def` tasks, and `.sync`, wherever they stand."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from holdfast import Store, ctx, run, run_sync, task
from holdfast.errors import BlockingCall


@task
def leaf(n: int) -> int:
    return n + 1


@task
async def leaf_async(n: int) -> int:
    return n + 1


@task
def parent(n: int) -> int:
    return leaf(n) + leaf_async.sync(n) + leaf.sync(n + 1)


GATE: dict[str, asyncio.Event] = {}


@task
async def held() -> None:
    GATE["began"].set()
    await GATE["release"].wait()


@task
async def hundred() -> int:
    return sum(await asyncio.gather(*(parent.call(n) for n in range(100))))


@task
def deep(n: int) -> int:
    return deep(n - 1) + 1 if n else 0


@task
async def calls_plainly() -> str:
    with pytest.raises(BlockingCall) as caught:
        leaf(1)
    return str(caught.value)


@task
async def calls_sync() -> str:
    with pytest.raises(BlockingCall) as caught:
        leaf_async.sync(1)
    return str(caught.value)


def test_called_plainly_in_a_def_body_it_is_an_action(tmp_path: Path) -> None:
    assert run_sync(parent.call(1), store=tmp_path, run_name="r") == 2 + 2 + 3
    state = Store(tmp_path).state_sync("r")
    assert state.root is not None
    assert [state.actions[name].task_name for name in state.root.children] == [leaf.name, leaf_async.name, leaf.name]


def test_called_plainly_with_no_loop_it_is_an_ephemeral_run() -> None:
    assert (leaf(1), leaf.sync(1), leaf_async.sync(1), parent(1)) == (2, 2, 2, 7)


def test_called_plainly_in_a_thread_of_its_own_it_is_an_ephemeral_run() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(leaf(1)))
    thread.start()
    thread.join()
    assert found == [2]


def test_called_plainly_on_another_loop_it_is_an_ephemeral_run() -> None:
    async def main() -> list[int]:
        return [leaf(1), leaf.sync(1), leaf_async.sync(1), parent(1)]

    assert asyncio.run(main()) == [2, 2, 2, 7]


@pytest.mark.parametrize(("body", "called", "writes"), [(calls_plainly, leaf, "leaf"), (calls_sync, leaf_async, "leaf_async")])
def test_on_the_loop_of_a_run_it_is_refused_with_what_to_write(tmp_path: Path, body: Any, called: Any, writes: str) -> None:
    text = run_sync(body(), store=tmp_path, run_name="r")
    assert text.startswith(f"{called.name}: ")
    assert f"write `await {writes}.call(...)`" in text


def test_beside_a_run_on_the_same_loop_it_is_refused_too(tmp_path: Path) -> None:
    async def main() -> None:
        GATE["began"], GATE["release"] = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(run(held(), store=tmp_path, run_name="r"))
        await GATE["began"].wait()
        with pytest.raises(BlockingCall, match=r"await leaf\.call"):
            leaf(1)
        with pytest.raises(BlockingCall, match=r"run_sync\(\.\.\.\): .*write `await run\(\.\.\.\)`"):
            run_sync(leaf_async(1), store=tmp_path, run_name="other")
        GATE["release"].set()
        await running
        assert leaf(1) == 2  # the run is over, and nothing would be stalled

    asyncio.run(main())


def test_a_refused_call_does_not_warn_that_it_was_never_awaited(tmp_path: Path) -> None:
    run_sync(calls_plainly(), store=tmp_path, run_name="r")  # warnings are errors


def test_a_hundred_def_parents_of_def_children_do_not_deadlock(tmp_path: Path) -> None:
    assert run_sync(hundred(), store=tmp_path, run_name="r", durability="flush") == sum(3 * n + 4 for n in range(100))
    assert asyncio.run(hundred()) == sum(3 * n + 4 for n in range(100))


def test_def_bodies_nest_deeper_than_there_are_slots(tmp_path: Path) -> None:
    assert deep(40) == 40
    assert run_sync(deep.call(40), store=tmp_path, run_name="r", durability="flush") == 40


def test_a_def_body_may_run_a_loop_of_its_own(tmp_path: Path) -> None:
    @task(name="own_loop")
    def own_loop() -> list[int]:
        async def main() -> list[int]:
            return [await leaf_async(1), *(await asyncio.gather(leaf_async(2), leaf.call(3)))]

        return asyncio.run(main())

    assert own_loop() == [2, 3, 4]
    assert run_sync(own_loop.call(), store=tmp_path, run_name="r") == [2, 3, 4]
    assert len(Store(tmp_path).state_sync("r").actions) == 4


def test_an_error_in_a_def_body_comes_back_as_itself() -> None:
    error = KeyError("k")

    @task(name="raises")
    def raises() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        raises()
    assert caught.value is error

    async def main() -> None:
        await raises.call()

    with pytest.raises(KeyError) as caught:
        asyncio.run(main())
    assert caught.value is error


def test_def_bodies_run_in_threads_and_async_ones_on_the_loop() -> None:
    @task(name="where")
    def where() -> int:
        return threading.get_ident()

    @task(name="where_async")
    async def where_async() -> int:
        return threading.get_ident()

    async def main() -> tuple[int, int]:
        return await where.call(), await where_async()

    thread, loop = asyncio.run(main())
    assert (thread != loop, loop) == (True, threading.get_ident())


def test_sync_verbs_of_a_def_body_block_and_those_of_an_async_one_are_refused(tmp_path: Path) -> None:
    @task(name="verbs")
    def verbs() -> bool:
        ctx().checkpoint.save_sync(b"x")
        return bool(ctx().now_sync() and ctx().uuid_sync() and ctx().random_sync() < 1 and ctx().record_sync(lambda: 1) == 1)

    @task(name="verbs_async")
    async def verbs_async() -> None:
        with pytest.raises(BlockingCall, match=r"ctx\(\)\.now"):
            ctx().now_sync()
        with pytest.raises(BlockingCall, match=r"ctx\(\)\.checkpoint\.save"):
            ctx().checkpoint.save_sync(b"x")

    assert run_sync(verbs.call(), store=tmp_path, run_name="a")
    run_sync(verbs_async(), store=tmp_path, run_name="b")
