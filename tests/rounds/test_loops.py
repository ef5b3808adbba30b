"""Loops of equal calls with a save in each round, killed at every operation, give what an uninterrupted run gives."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from holdfast import ctx, group, run, task
from holdfast.errors import AmbiguousLoop, DoubtfulReuse, HoldfastError
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.faults import CrashDisk, SimulatedCrash, When
from holdfast.testing.stores import memory_store

ROUNDS = 3
#: A loop that asks one round ahead shows what it is one round later.
PAGES_AHEAD = ROUNDS + 1

drawn: list[int] = []
disk = MemoryDisk()


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()
    drawn.clear()


@task
async def next_page() -> int:
    """The outside world: each execution hands out another page."""
    drawn.append(len(drawn))
    return len(drawn) - 1


@task
async def connect() -> str:
    drawn.append(-1)
    return "connected"


@task
async def plain_loop() -> list[int]:
    seen: list[int] = await ctx().checkpoint.load(list) or []
    while len(seen) < ROUNDS:
        seen.append(await next_page())
        await ctx().checkpoint.save(seen)
    return seen


@task
async def two_calls_a_round() -> list[int]:
    seen: list[int] = await ctx().checkpoint.load(list) or []
    while len(seen) < 2 * ROUNDS:
        seen += [await next_page(), await next_page()]
        await ctx().checkpoint.save(seen)
    return seen


@task
async def with_a_set_up() -> list[object]:
    name = await connect()
    seen: list[object] = await ctx().checkpoint.load(list) or []
    while len(seen) < ROUNDS:
        seen.append(await next_page())
        await ctx().checkpoint.save(seen)
    return [name, *seen]


@task
async def with_an_index() -> list[int]:
    seen: list[int] = await ctx().checkpoint.load(list) or []
    while len(seen) < ROUNDS:
        with group(f"round-{len(seen)}"):
            seen.append(await next_page())
        await ctx().checkpoint.save(seen)
    return seen


@task
async def prefetches() -> list[int]:
    seen: list[int] = await ctx().checkpoint.load(list) or []
    ahead = fetch_ahead() if len(seen) < PAGES_AHEAD else None
    while ahead is not None:
        seen.append(await ahead)
        ahead = fetch_ahead() if len(seen) < PAGES_AHEAD else None
        await asyncio.sleep(0)
        await ctx().checkpoint.save(seen)
    return seen


def fetch_ahead() -> asyncio.Task[int]:
    ahead = asyncio.create_task(next_page())
    ahead.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody waits for it once the process is dead
    return ahead


@task
async def saves_behind() -> list[int]:
    seen: list[int] = await ctx().checkpoint.load(list) or []
    while len(seen) < ROUNDS:
        seen.append(await next_page())
        await ctx().checkpoint.save(seen, wait=False)
    return seen


@task
async def draws_lots() -> list[float]:
    seen: list[float] = await ctx().checkpoint.load(list) or []
    while len(seen) < ROUNDS:
        seen.append(await ctx().random())
        await ctx().checkpoint.save(seen)
    return seen


def perform(call: Awaitable[Any], on: Any) -> Any:
    return asyncio.run(run(call, run_name="it", store=memory_store(on)))  # type: ignore[arg-type]


def finish(body: Callable[[], Any], on: MemoryDisk) -> tuple[Any, int]:
    """Run the same line until it is done. Returns the result, and how often it was refused as ambiguous."""
    refusals = 0
    for _ in range(3):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DoubtfulReuse)
                return perform(body(), on), refusals
        except AmbiguousLoop:
            refusals += 1
    raise AssertionError("it is refused for ever")


def killed_everywhere(body: Callable[[], Any], when: When) -> list[tuple[str, Any, int]]:
    """What the same line gives after a kill at each operation: (operation, result, refusals)."""
    counting = CrashDisk(MemoryDisk())
    perform(body(), counting)
    found = []
    for at, operation in enumerate(counting.operations, start=1):
        drawn.clear()
        left = MemoryDisk()
        crashing = CrashDisk(left, at=at, when=when)
        with suppress(SimulatedCrash, HoldfastError):
            perform(body(), crashing)
        if crashing.crashed:
            found.append((operation, *finish(body, left.copy())))
    return found


def is_right(pages: list[int]) -> bool:
    """No page twice, none out of order. A page whose call was not recorded when the kill came is drawn again under another number."""
    return pages == sorted(set(pages))


@pytest.mark.slow
@pytest.mark.parametrize("when", ["torn", "after"])
@pytest.mark.parametrize("body", [plain_loop, two_calls_a_round, saves_behind], ids=lambda body: body.__name__)
def test_a_loop_killed_anywhere_gives_each_page_once(body: Any, when: When) -> None:
    for operation, pages, _ in killed_everywhere(body, when):
        assert is_right(pages), f"killed {when} {operation}: {pages}"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["torn", "after"])
def test_a_prefetching_loop_killed_anywhere_gives_each_page_once(when: When) -> None:
    for operation, pages, _ in killed_everywhere(prefetches, when):
        assert is_right(pages), f"killed {when} {operation}: {pages}"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["torn", "after"])
def test_a_set_up_call_before_a_loop_is_reused_after_a_kill(when: When) -> None:
    for operation, found, _ in killed_everywhere(with_a_set_up, when):
        assert found[0] == "connected"
        assert is_right(found[1:]), f"killed {when} {operation}: {found}"


def test_rounds_that_are_told_apart_are_never_refused() -> None:
    for operation, pages, refusals in killed_everywhere(with_an_index, "after"):
        assert is_right(pages), f"killed after {operation}: {pages}"
        assert refusals == 0


def test_the_built_ins_belong_to_the_position_behind_the_save() -> None:
    for operation, lots, refusals in killed_everywhere(draws_lots, "after"):
        assert len(set(lots)) == ROUNDS, f"killed after {operation}: {lots}"
        assert refusals == 0


images: list[MemoryDisk] = []


@task
async def killed_in_the_gap() -> list[int]:
    """The first save is there, and the second round's call is not yet."""
    seen: list[int] = await ctx().checkpoint.load(list) or []
    while len(seen) < ROUNDS:
        seen.append(await next_page())
        await ctx().checkpoint.save(seen)
        images.append(disk.copy())
    return seen


def test_in_the_one_gap_a_further_round_refuses_durably_and_the_same_line_gives_the_uninterrupted_result() -> None:
    images.clear()
    assert perform(killed_in_the_gap(), disk) == [0, 1, 2]
    drawn[:] = [0]
    left = images[0]
    with pytest.warns(DoubtfulReuse, match="answered from before the loaded save"), pytest.raises(AmbiguousLoop):
        perform(killed_in_the_gap(), left)
    after_refusal = left.copy()
    assert any("answered from before" in text for text in memory_store(left).state_sync("it").warnings)
    assert perform(killed_in_the_gap(), left) == [0, 1, 2]
    drawn[:] = [0]
    assert perform(killed_in_the_gap(), after_refusal.copy()) == [0, 1, 2], "also when the refusal is what a kill left"


@task
async def one_round_more() -> list[int]:
    seen: list[int] = await ctx().checkpoint.load(list) or []
    while len(seen) < 2:
        seen.append(await next_page())
        await ctx().checkpoint.save(seen)
        images.append(disk.copy())
    return seen


def test_in_the_one_gap_without_a_further_round_a_warning_remains() -> None:
    images.clear()
    assert perform(one_round_more(), disk) == [0, 1]
    with pytest.warns(DoubtfulReuse):
        assert perform(one_round_more(), images[0]) == [0, 0], "the one wrong answer that the law names"
    assert any("answered from before" in text for text in memory_store(images[0]).state_sync("it").warnings)


stage: Callable[[], Awaitable[Any]]


@task(keep=1)
async def in_stages() -> Any:
    return await stage()


def test_what_was_saved_before_a_doubtful_answer_is_kept_until_the_doubt_is_over() -> None:
    global stage

    async def is_killed_behind_its_first_save() -> None:
        await next_page()
        await ctx().checkpoint.save("first")
        raise OSError("killed")

    async def saves_before_and_behind_a_doubtful_answer() -> None:
        assert await ctx().checkpoint.load(str) == "first"
        await ctx().checkpoint.save("sure")
        await ctx().checkpoint.flush()
        await next_page()
        for _ in range(3):
            await ctx().checkpoint.save("doubtful")
            await ctx().checkpoint.flush()
        await next_page()

    async def loads() -> str | None:
        return await ctx().checkpoint.load(str)

    stage = is_killed_behind_its_first_save
    with pytest.raises(OSError, match="killed"):
        perform(in_stages(), disk)
    stage = saves_before_and_behind_a_doubtful_answer
    with pytest.warns(DoubtfulReuse), pytest.raises(AmbiguousLoop):
        perform(in_stages(), disk)
    stage = loads
    assert perform(in_stages(), disk) == "sure"
