"""Whatever is cancelled at whatever instant has an end on record, and is not followed by another attempt."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from turns import until

from holdfast import AttemptState, Retry, Status, Timeout, ctx, run, start, task
from holdfast.contexts import link_of
from holdfast.engines.local import THREAD_SLOTS
from holdfast.errors import RunCancelled
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.stores import memory_store

AT_ONCE = Retry(5, initial_interval=0)

disk = MemoryDisk()
did: list[object] = []
release = threading.Event()


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    global disk
    disk = MemoryDisk()
    did.clear()
    release.clear()
    yield
    release.set()


def ends_of(name: str) -> list[tuple[Status, list[Status]]]:
    state = memory_store(disk).state_sync("it")
    return [(a.status, [each.status for each in a.attempts]) for a in state.actions.values() if a.task_name.endswith(f":{name}")]


def open_attempts() -> list[AttemptState]:
    state = memory_store(disk).state_sync("it")
    return [each for action in state.actions.values() for each in action.attempts if each.ended_at is None]


@task
def takes_a_thread(number: int) -> int:
    did.append(number)
    release.wait(20)
    return number


@task
async def takes_more_threads_than_there_are() -> None:
    await asyncio.gather(*(takes_a_thread.call(number) for number in range(THREAD_SLOTS + 1)))


def test_an_attempt_that_waits_for_a_thread_is_STOPPED_with_the_run() -> None:
    async def main() -> None:
        handle = await start(takes_more_threads_than_there_are(), run_name="it", store=memory_store(disk), grace=20)
        await until(lambda: len(did) == THREAD_SLOTS)
        asyncio.get_running_loop().call_soon(release.set)
        await handle.stop()

    asyncio.run(main())
    assert open_attempts() == []


@task(retries=Retry(5, initial_interval=1000))
async def fails() -> None:
    raise ValueError("no")


@task
async def cancels_a_failure_while_it_is_synced() -> None:
    call = asyncio.create_task(fails())
    scope = link_of(ctx())
    await until(lambda: any(each._concluded for each in scope.children.values()))  # type: ignore[attr-defined]
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def test_an_action_cancelled_before_its_retry_is_CANCELLED() -> None:
    asyncio.run(run(cancels_a_failure_while_it_is_synced(), run_name="it", store=memory_store(disk)))
    assert ends_of("fails") == [(Status.CANCELLED, [Status.FAILED])]


@task(retries=AT_ONCE)
async def makes_an_error_of_its_cancellation() -> None:
    did.append("began")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ValueError("in the cleaning up") from None


@task(retries=AT_ONCE, timeout=Timeout(attempt=0.02))
async def cleans_up_slowly_when_timed_out() -> None:
    did.append("began")
    try:
        await asyncio.Event().wait()
    finally:
        did.append("cleans up")
        await until(lambda: did[-1] == "cancelled")


@task
async def cancels_in_the_cleaning_up(which: str) -> None:
    call = asyncio.create_task(BODIES[which]())
    await until(lambda: did == (["began", "cleans up"] if "slowly" in which else ["began"]))
    call.cancel()
    await asyncio.sleep(0)
    did.append("cancelled")
    with pytest.raises(asyncio.CancelledError):
        await call


BODIES = {each.__name__: each for each in (makes_an_error_of_its_cancellation, cleans_up_slowly_when_timed_out)}


@pytest.mark.parametrize("which", BODIES)
def test_an_action_cancelled_while_its_attempt_winds_up_is_not_tried_again(which: str) -> None:
    asyncio.run(run(cancels_in_the_cleaning_up(which), run_name="it", store=memory_store(disk)))
    assert did.count("began") == 1
    assert [status for status, _ in ends_of(which)] == [Status.CANCELLED]


@task(retries=AT_ONCE)
async def goes_on_for_too_long() -> None:
    did.append("began")
    while "parent gone" not in did:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            did.append("deaf")
    raise ValueError("too late")


@task
async def leaves_a_deaf_child() -> None:
    child = asyncio.create_task(goes_on_for_too_long())
    child.add_done_callback(lambda done: done.cancelled() or done.exception())
    await until(lambda: did)
    raise KeyError("the parent")


@task
async def outlives_both() -> None:
    with pytest.raises(KeyError):
        await leaves_a_deaf_child()
    did.append("parent gone")
    for _ in range(100):
        await asyncio.sleep(0)


def test_an_abandoned_action_begins_no_other_attempt() -> None:
    asyncio.run(run(outlives_both(), run_name="it", store=memory_store(disk), grace=0.02))
    assert did.count("began") == 1
    assert ends_of("goes_on_for_too_long") == [(Status.CANCELLED, [Status.CANCELLED])]


@task
async def returns_at_once() -> str:
    return "done"


def test_a_handle_cancels_a_run_that_has_not_begun_yet() -> None:
    async def main() -> None:
        handle = await start(returns_at_once(), run_name="it", store=memory_store(disk))
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()

    asyncio.run(main())
    assert ends_of("returns_at_once") == [(Status.CANCELLED, [])]


@task
async def answers(number: int) -> int:
    return number


@task
def takes_any_error_for_an_answer() -> list[object]:
    did.append("began")
    release.wait(20)
    try:
        return [answers.sync(1)]
    except Exception as error:
        return [type(error).__name__]


def test_what_a_body_makes_of_calls_that_a_stop_refused_is_no_result() -> None:
    async def main() -> None:
        handle = await start(takes_any_error_for_an_answer.call(), run_name="it", store=memory_store(disk), grace=20)
        await until(lambda: did)
        asyncio.get_running_loop().call_soon(release.set)
        await handle.stop()

    asyncio.run(main())
    assert ends_of("takes_any_error_for_an_answer") == [(Status.STOPPED, [Status.STOPPED])]
    assert asyncio.run(run(takes_any_error_for_an_answer.call(), run_name="it", store=memory_store(disk))) == [1]
