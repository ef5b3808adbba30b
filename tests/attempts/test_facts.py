"""What `ctx()` says of an attempt, and the built-ins that are recorded: now, uuid, random, record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from holdfast import ctx, run, start, task
from holdfast.errors import BlockingCall
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.clocks import no_backoff
from holdfast.testing.stores import memory_store

disk = MemoryDisk()
image: MemoryDisk | None = None
did: list[Any] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk, image
    disk, image = MemoryDisk(), None
    did.clear()


def crash_here() -> None:
    global image
    image = disk.copy()


def drawn() -> int:
    did.append("drawn")
    return len(did)


@task
async def draws() -> tuple[datetime, UUID, float, int, datetime]:
    values = (await ctx().now(), await ctx().uuid(), await ctx().random(), await ctx().record(drawn), await ctx().now())
    crash_here()
    return values


@task
def draws_sync() -> tuple[datetime, UUID, float, int, datetime]:
    values = (ctx().now_sync(), ctx().uuid_sync(), ctx().random_sync(), ctx().record_sync(drawn), ctx().now_sync())
    crash_here()
    return values


@pytest.mark.parametrize("call", [draws.call, draws_sync.call], ids=["async", "def"])
def test_time_chance_and_records_are_the_same_again_after_a_crash(call: Callable[[], Any]) -> None:
    first = asyncio.run(run(call(), run_name="it", store=memory_store(disk)))
    assert image is not None
    again = asyncio.run(run(call(), run_name="it", store=memory_store(image)))
    assert again == first
    assert did == ["drawn"]
    now, uuid, random, _, later = first
    assert now.tzinfo is not None
    assert now.utcoffset() == datetime.now(UTC).utcoffset()
    assert now <= later, "two positions, two times"
    assert isinstance(uuid, UUID)
    assert 0 <= random < 1


@pytest.mark.parametrize("call", [draws.call, draws_sync.call], ids=["async", "def"])
def test_another_run_draws_anew(call: Callable[[], Any]) -> None:
    one = asyncio.run(run(call(), run_name="one", store=memory_store(disk)))
    two = asyncio.run(run(call(), run_name="two", store=memory_store(disk)))
    assert one[1] != two[1]
    assert did == ["drawn", "drawn"]


@pytest.mark.parametrize("call", [draws.call, draws_sync.call], ids=["async", "def"])
def test_they_work_outside_a_run_too(call: Callable[[], Any]) -> None:
    assert asyncio.run(call())[3] == 1


def fails() -> None:
    did.append("asked")
    raise LookupError("not there")


@task
async def records_a_failure() -> str:
    try:
        await ctx().record(fails)
    except LookupError as error:
        crash_here()
        return str(error)
    return "no error"


def test_what_a_recorded_function_raises_is_recorded_too() -> None:
    assert asyncio.run(run(records_a_failure(), run_name="it", store=memory_store(disk))) == "not there"
    assert image is not None
    assert asyncio.run(run(records_a_failure(), run_name="it", store=memory_store(image))) == "not there"
    assert did == ["asked"]


SYNC_VERBS: list[Callable[[], object]] = [
    lambda: ctx().now_sync(),
    lambda: ctx().uuid_sync(),
    lambda: ctx().random_sync(),
    lambda: ctx().record_sync(drawn),
]


@task
async def blocks_its_loop(number: int) -> None:
    SYNC_VERBS[number]()


@pytest.mark.parametrize("number", range(len(SYNC_VERBS)))
def test_a_sync_verb_on_the_loop_is_refused(number: int) -> None:
    with pytest.raises(BlockingCall):
        asyncio.run(run(blocks_its_loop(number), run_name="it", store=memory_store(disk)))


@task(retries=2)
async def tells(kind: str) -> str:
    did.append((ctx().idempotency_key, ctx().fencing_token, ctx().attempt_number, ctx().is_resumed, ctx().durable))
    if ctx().attempt_number < 2:
        raise ConnectionError("again")
    await ctx().now()
    crash_here()
    return kind


@task
async def tells_twice() -> None:
    await tells("a")
    await tells("b")


def test_the_idempotency_key_is_one_for_all_attempts_of_an_action_and_no_other() -> None:
    with no_backoff():
        asyncio.run(run(tells_twice(), run_name="it", store=memory_store(disk)))
        assert image is not None
        asyncio.run(run(tells_twice(), run_name="it", store=memory_store(image)))
        keys = [entry[0] for entry in did]
        assert len(did) == 7, "three attempts each, and one more of the one that was killed"
        assert len(set(keys[:3])) == 1
        assert len(set(keys[3:])) == 1
        assert keys[0] != keys[3]
        did.clear()
        asyncio.run(run(tells_twice(), run_name="it", store=memory_store(disk), resume="restart"))
        asyncio.run(run(tells_twice(), run_name="other", store=memory_store(disk)))
        assert len({keys[0], keys[3], *(entry[0] for entry in did)}) == 6, "each run and incarnation has its own"


def test_the_fencing_token_grows_as_text_with_every_attempt_and_owner() -> None:
    with no_backoff():
        asyncio.run(run(tells("x"), run_name="it", store=memory_store(disk)))
        assert image is not None
        asyncio.run(run(tells("x"), run_name="it", store=memory_store(image)))
    tokens = [entry[1] for entry in did]
    assert len(tokens) == 4
    assert tokens == sorted(set(tokens))


def test_attempts_are_numbered_on_over_a_resume_and_know_that_they_were_resumed() -> None:
    with no_backoff():
        asyncio.run(run(tells("x"), run_name="it", store=memory_store(disk)))
        assert image is not None
        asyncio.run(run(tells("x"), run_name="it", store=memory_store(image)))
    assert [entry[2:] for entry in did] == [(0, False, True), (1, False, True), (2, False, True), (3, True, True)]


def test_outside_a_run_nothing_is_durable() -> None:
    with no_backoff():
        asyncio.run(tells("x"))
    assert [entry[4] for entry in did] == [False] * 3


@task
async def sees_stopping() -> bool:
    did.append(ctx().stopping)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        did.append(ctx().stopping)
        raise
    return False


def test_stopping_is_set_before_a_body_is_cancelled() -> None:
    async def main() -> None:
        handle = await start(sees_stopping(), run_name="it", store=memory_store(disk))
        await _until(lambda: did == [False])
        await handle.stop()

    asyncio.run(main())
    assert did == [False, True]


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


@task
async def keeps_time() -> datetime:
    moment: datetime = ctx().run_start_time
    await ctx().now()
    crash_here()
    return moment


def test_the_runs_start_time_is_that_of_its_first_process() -> None:
    first = asyncio.run(run(keeps_time(), run_name="it", store=memory_store(disk)))
    assert image is not None
    assert asyncio.run(run(keeps_time(), run_name="it", store=memory_store(image))) == first
