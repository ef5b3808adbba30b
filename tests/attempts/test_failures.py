"""Failures that a body has seen are seen again when it goes on; in a later try they are tried anew. And on_crash="fail"."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from turns import until

from holdfast import Retry, Status, ctx, run, start, task
from holdfast.errors import OutcomeUnknown, RunStopped, UnrecordableResult
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.clocks import no_backoff
from holdfast.testing.stores import memory_store

disk = MemoryDisk()
image: MemoryDisk | None = None
did: list[object] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk, image
    disk, image = MemoryDisk(), None
    did.clear()


def crash_here() -> None:
    """What is on the disk now is what the next process finds."""
    global image
    image = disk.copy()


class Declined(Exception):
    pass


@task
async def card() -> str:
    did.append("card")
    if did.count("card") == 1:
        raise Declined("no money")
    return "by card"


@task
async def invoice() -> str:
    did.append("invoice")
    return "by invoice"


@task
async def order() -> str:
    try:
        paid = await card()
    except Declined:
        paid = await invoice()
    crash_here()
    return paid


def test_after_a_crash_the_same_branch_is_taken() -> None:
    assert asyncio.run(run(order(), run_name="it", store=memory_store(disk))) == "by invoice"
    assert image is not None
    assert asyncio.run(run(order(), run_name="it", store=memory_store(image))) == "by invoice"
    assert did == ["card", "invoice"], "nothing ran again"


@task(retries=1)
async def insists() -> list[str]:
    found = [await steady()]
    found.append(await flaky())
    return found


@task
async def steady() -> str:
    did.append("steady")
    return "steady"


@task
async def flaky() -> str:
    did.append("flaky")
    if did.count("flaky") == 1:
        raise ConnectionError("once")
    return "flaky"


def test_a_retry_reuses_completed_children_and_runs_failed_ones_anew() -> None:
    with no_backoff():
        assert asyncio.run(run(insists(), run_name="it", store=memory_store(disk))) == ["steady", "flaky"]
    assert did == ["steady", "flaky", "flaky"]


@task
async def does_not_insist() -> list[str]:
    return [await steady(), await flaky()]


def test_a_resumed_FAILED_run_asks_its_root_anew_and_reuses_completed_children() -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(run(does_not_insist(), run_name="it", store=memory_store(disk)))
    assert memory_store(disk).state_sync("it").status is Status.FAILED
    assert asyncio.run(run(does_not_insist(), run_name="it", store=memory_store(disk))) == ["steady", "flaky"]
    assert did == ["steady", "flaky", "flaky"]


@task
async def middle() -> str:
    try:
        return await flaky()
    except ConnectionError as error:
        did.append("seen")
        crash_here()
        return f"without: {error}"


@task
async def top() -> str:
    return await middle()


def test_a_nested_parent_that_crashed_sees_its_childs_failure_again() -> None:
    assert asyncio.run(run(top(), run_name="it", store=memory_store(disk))) == "without: once"
    assert image is not None
    assert asyncio.run(run(top(), run_name="it", store=memory_store(image))) == "without: once"
    assert did == ["flaky", "seen", "seen"]


@task(on_crash="fail", retries=Retry(3, initial_interval=0))
async def charge(how: str) -> str:
    did.append(("charge", ctx().attempt_number))
    if how == "crashes":
        crash_here()
    elif how == "fails once" and ctx().attempt_number == 0:
        raise ConnectionError("refused, surely")
    elif how == "hangs":
        await asyncio.Event().wait()
    return "charged"


@task
async def shop(how: str) -> str:
    async with asyncio.timeout(0.02 if how == "hangs" and ctx().attempt_number == 0 else None):
        return await charge(how)


charge_in_time = charge.with_options(timeout=0.02)


async def crashed(body: Awaitable[str]) -> None:
    global disk
    await body
    assert image is not None
    disk = image


async def cancelled(body: Awaitable[str]) -> None:
    with pytest.raises(TimeoutError):
        await body


def test_on_crash_fail_retries_what_the_body_raised() -> None:
    assert asyncio.run(run(shop("fails once"), run_name="it", store=memory_store(disk))) == "charged"
    assert did == [("charge", 0), ("charge", 1)]


@pytest.mark.parametrize(("how", "ends", "status"), [("crashes", crashed, "CRASHED"), ("hangs", cancelled, "CANCELLED")])
def test_on_crash_fail_never_runs_again_what_ended_in_an_unknown_way(
    how: str, ends: Callable[[Awaitable[str]], Awaitable[None]], status: str
) -> None:
    asyncio.run(ends(run(shop(how), run_name="it", store=memory_store(disk))))  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(OutcomeUnknown) as caught:
            asyncio.run(run(shop(how), run_name="it", store=memory_store(disk)))
        assert (caught.value.status, caught.value.attempt) == (status, 0)
    assert did == [("charge", 0)]
    child = next(a for a in memory_store(disk).state_sync("it").actions.values() if "charge" in a.task_name)
    assert child.status is Status.FAILED


@task
async def shop_in_time() -> str:
    return await charge_in_time("hangs")


def test_on_crash_fail_never_runs_again_what_timed_out_though_retries_are_left() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(run(shop_in_time(), run_name="it", store=memory_store(disk)))
    with pytest.raises(OutcomeUnknown):
        asyncio.run(run(shop_in_time(), run_name="it", store=memory_store(disk)))
    assert did == [("charge", 0)]


@task(on_crash="fail")
async def waits() -> None:
    did.append("began")
    crash_here()
    await asyncio.Event().wait()


class NeverKept:
    """Nothing that a record can hold."""


@task(on_crash="fail", retries=2)
async def gives_what_can_not_be_kept() -> Any:
    did.append("charged")
    return NeverKept()


def test_on_crash_fail_never_runs_again_what_returned_and_could_not_be_kept() -> None:
    with pytest.raises(UnrecordableResult):
        asyncio.run(run(gives_what_can_not_be_kept(), run_name="it", store=memory_store(disk)))
    with pytest.raises(OutcomeUnknown):
        asyncio.run(run(gives_what_can_not_be_kept(), run_name="it", store=memory_store(disk)))
    assert did == ["charged"]


def test_on_crash_fail_never_runs_again_what_was_stopped() -> None:
    async def stopped() -> None:
        handle = await start(waits(), run_name="it", store=memory_store(disk))
        await until(lambda: bool(did))
        await handle.stop()
        with pytest.raises(RunStopped):
            await handle.result()

    asyncio.run(stopped())
    with pytest.raises(OutcomeUnknown) as caught:
        asyncio.run(run(waits(), run_name="it", store=memory_store(disk)))
    assert caught.value.status == "STOPPED"
    assert did == ["began"]


def test_the_start_of_an_attempt_with_on_crash_fail_is_durable_before_its_body() -> None:
    async def killed_at_once() -> None:
        handle = await start(waits(), run_name="it", store=memory_store(disk))
        await until(lambda: bool(did))
        await handle.cancel()

    asyncio.run(killed_at_once())
    assert image is not None
    with pytest.raises(OutcomeUnknown):
        asyncio.run(run(waits(), run_name="it", store=memory_store(image)))
    assert did == ["began"]


@task
async def slow() -> str:
    did.append(("slow", ctx().attempt_number))
    if ctx().attempt_number == 0:
        await asyncio.Event().wait()
    return "in time"


@task
async def gives_up_waiting() -> str:
    try:
        return await asyncio.wait_for(slow(), 0.02)
    except TimeoutError:
        crash_here()
        return "too late"


def test_a_call_cancelled_by_wait_for_is_CANCELLED_and_tried_anew_when_asked_again() -> None:
    assert asyncio.run(run(gives_up_waiting(), run_name="it", store=memory_store(disk))) == "too late"
    child = next(a for a in memory_store(disk).state_sync("it").actions.values() if "slow" in a.task_name)
    assert child.status is Status.CANCELLED
    assert image is not None
    assert asyncio.run(run(gives_up_waiting(), run_name="it", store=memory_store(image))) == "in time"
    assert did == [("slow", 0), ("slow", 1)]


@task
async def fails_in_a_group() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(slow())
        tasks.create_task(flaky())


def test_a_task_groups_cancelled_calls_are_CANCELLED_and_its_failure_is_raised() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(run(fails_in_a_group(), run_name="it", store=memory_store(disk)))
    assert [type(error) for error in caught.value.exceptions] == [ConnectionError]
    children = {a.task_name.rpartition(":")[2]: a.status for a in memory_store(disk).state_sync("it").actions.values()}
    assert children == {"fails_in_a_group": Status.FAILED, "slow": Status.CANCELLED, "flaky": Status.FAILED}
    asyncio.run(run(fails_in_a_group(), run_name="it", store=memory_store(disk)))
