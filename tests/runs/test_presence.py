"""Whether somebody is at work on a run in an object store: heartbeats, leases, and what an idle run costs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from holdfast import Status, Store, run, start, task
from holdfast.clocks import clock
from holdfast.codec import from_json
from holdfast.errors import RunBusy, RunCancelled, RunFenced, RunStopped
from holdfast.journals.frames import Header
from holdfast.journals.owning import boot_id, is_gone, process_start, take_over
from holdfast.journals.reading import read_journal
from holdfast.runs.presence import BEATS, approach, owner_of
from holdfast.testing import Clock
from holdfast.testing.buckets import MemoryBucket, bucket_folder

LEASE = 30.0
gates: dict[str, asyncio.Event] = {}


@task
async def step(n: int) -> int:
    return n


@task
async def gated() -> int:
    first = await step(1)
    gates["reached"].set()
    await gates["open"].wait()
    return first + await step(2)


def new_gates() -> None:
    gates.update(reached=asyncio.Event(), open=asyncio.Event())


def in_virtual_time(body: Callable[[MemoryBucket, Clock], Awaitable[None]]) -> Callable[[], None]:
    def test() -> None:
        virtual = Clock()
        with virtual.use():
            asyncio.run(_opened(virtual))

    async def _opened(virtual: Clock) -> None:
        await body(MemoryBucket(), virtual)

    test.__name__ = body.__name__
    return test


def header(**facts: Any) -> Header:
    known: dict[str, Any] = {
        "segment": 1,
        "epoch": 1,
        "owner": "o",
        "previous": 0,
        "host": "elsewhere",
        "pid": 1,
        "boot": "another",
        "started": 0.0,
        "process": "1",
    }
    return Header(**{**known, **facts})


@in_virtual_time
async def test_a_silent_owner_is_taken_over_from_after_a_whole_lease_and_not_before(bucket: MemoryBucket, virtual: Clock) -> None:
    folder = bucket_folder(bucket)
    await folder.put("owner/0000000001.json", b'{"epoch":1,"beat":7,"lease":30}')
    await approach(folder, "r", header(), force=False, lease=LEASE)
    assert LEASE <= virtual.elapsed <= 1.2 * LEASE


@in_virtual_time
async def test_the_lease_that_the_owner_beats_to_counts_not_the_contenders(bucket: MemoryBucket, virtual: Clock) -> None:
    folder = bucket_folder(bucket)
    await folder.put("owner/0000000001.json", b'{"epoch":1,"beat":7,"lease":300}')
    await approach(folder, "r", header(), force=False, lease=1.0)
    assert virtual.elapsed >= 300


@in_virtual_time
async def test_an_owner_that_never_got_to_beat_is_waited_for_too(bucket: MemoryBucket, virtual: Clock) -> None:
    await approach(bucket_folder(bucket), "r", header(), force=False, lease=LEASE)
    assert virtual.elapsed >= LEASE


@in_virtual_time
async def test_a_sign_of_life_is_enough_to_be_told_who_is_at_work(bucket: MemoryBucket, virtual: Clock) -> None:
    folder = bucket_folder(bucket)
    await folder.put("owner/0000000001.json", b'{"epoch":1,"beat":7}')

    async def beat() -> None:
        await clock().sleep(LEASE / BEATS)
        await folder.put("owner/0000000001.json", b'{"epoch":1,"beat":8,"host":"there","pid":7,"started":"at noon"}')

    beating = asyncio.create_task(beat())
    with pytest.raises(RunBusy) as caught:
        await approach(folder, "r", header(), force=False, lease=LEASE)
    assert (caught.value.host, caught.value.pid, caught.value.started) == ("there", 7, "at noon")
    assert virtual.elapsed < LEASE
    await beating


@in_virtual_time
async def test_an_owner_that_said_that_it_ended_is_not_waited_for(bucket: MemoryBucket, virtual: Clock) -> None:
    folder = bucket_folder(bucket)
    await folder.put("owner/0000000001.json", b'{"epoch":1,"beat":7,"ended":true}')
    await approach(folder, "r", header(), force=False, lease=LEASE)
    assert virtual.elapsed == 0
    assert await owner_of(folder, header()) == "gone"


def test_an_owner_whose_process_this_machine_knows_to_be_gone_is_not_waited_for() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    gone = header(boot=boot_id(), pid=child.pid, process=process_start(child.pid))
    assert not is_gone(gone)
    child.communicate(b"\n")
    if process_start(os.getpid()):
        assert is_gone(gone)
    virtual = Clock()
    with virtual.use():
        asyncio.run(_approach(gone))
    assert virtual.elapsed == (0 if is_gone(gone) else pytest.approx(LEASE, rel=0.2)), "only Linux says when a process began"


async def _approach(newest: Header) -> None:
    await approach(bucket_folder(), "r", newest, force=False, lease=LEASE)


@pytest.mark.skipif(process_start(os.getpid()) == "", reason="the system does not say when a process began")
def test_a_process_of_another_boot_or_with_a_used_number_is_told_from_the_owner() -> None:
    here, born = os.getpid(), process_start(os.getpid())
    assert not is_gone(header(boot=boot_id(), pid=here, process=born))
    assert is_gone(header(boot=boot_id(), pid=here, process="0"))
    assert not is_gone(header(boot="another", pid=here, process="0"))
    assert not is_gone(header(boot=boot_id(), pid=here, process=""))


@in_virtual_time
async def test_a_finished_run_leaves_no_owner_to_wait_for(bucket: MemoryBucket, virtual: Clock) -> None:
    store = Store.on(bucket_folder(bucket))
    assert await run(step(1), run_name="r", store=store) == 1
    assert await run(step(1), run_name="r", store=store, resume="restart") == 1
    assert virtual.elapsed == 0
    assert (await store.state("r")).owner == "gone"


def test_a_second_run_of_one_name_is_told_who_is_at_work() -> None:
    async def twice() -> None:
        new_gates()
        store = Store.on(bucket_folder(), lease=0.5)
        async with await start(gated(), run_name="r", store=store) as handle:
            await gates["reached"].wait()
            assert (await store.state("r")).owner == "live"
            with pytest.raises(RunBusy) as caught:
                await run(gated(), run_name="r", store=store)
            assert caught.value.pid == os.getpid()
            gates["open"].set()
            assert await handle.result() == 3

    asyncio.run(twice())


def test_an_idle_run_costs_a_heartbeat_of_two_requests_and_no_more() -> None:
    async def idle() -> None:
        new_gates()
        bucket = MemoryBucket()
        store = Store.on(bucket_folder(bucket), lease=0.6)
        async with await start(gated(), run_name="r", store=store):
            await gates["reached"].wait()
            beats = await beats_of(bucket)
            bucket.requests.clear()
            while await beats_of(bucket) < beats + 5:
                bucket.requests["get"] = 0  # our own look
                await asyncio.sleep(0.01)
            assert set(bucket.requests) <= {"put", "list", "get", "create"}
            assert bucket.requests["put"] == 5
            assert bucket.requests["list"] <= 7
            assert bucket.requests.get("create", 0) <= 1, "what lingered"
            gates["open"].set()

    asyncio.run(idle())


async def beats_of(bucket: MemoryBucket) -> int:
    (name,) = [name for name in bucket.objects if "/owner/" in name]
    return int(from_json(bucket.objects[name].data)["beat"])


def test_an_owner_whose_body_blocks_the_loop_looks_alive() -> None:
    async def block() -> None:
        bucket = MemoryBucket()
        store = Store.on(bucket_folder(bucket), lease=0.3)
        beats: list[int] = []

        @task(name="blocking", key=lambda: "blocking")
        async def blocking() -> None:
            await step(1)
            beats.append(await beats_of(bucket))
            end = time.monotonic() + 5
            while time.monotonic() < end:
                (name,) = [name for name in list(bucket.objects) if "/owner/" in name]
                now = int(from_json(bucket.objects[name].data)["beat"])
                if now >= beats[0] + 3:
                    beats.append(now)
                    return

        await run(blocking(), run_name="r", store=store)
        assert len(beats) == 2, "the heartbeat stood still while the body blocked the loop"

    asyncio.run(block())


def test_a_take_over_is_told_to_the_idle_owner_before_its_next_group() -> None:
    async def take() -> None:
        new_gates()
        store = Store.on(bucket_folder(), lease=0.3)
        old = await start(gated(), run_name="r", store=store)
        await gates["reached"].wait()
        new = await start(gated(), run_name="r", store=store, resume="takeover")
        with pytest.raises(RunFenced):
            await asyncio.wait_for(old.result(), 10)
        gates["open"].set()
        assert await new.result() == 3
        state = await store.state("r")
        assert state.root is not None
        assert [attempt.status for attempt in state.root.attempts] == [Status.CRASHED, Status.COMPLETED]

    asyncio.run(take())


@pytest.mark.parametrize(("verb", "error"), [("stop", RunStopped), ("cancel", RunCancelled)])
def test_a_run_hears_of_stop_and_cancel_with_its_next_heartbeat(verb: str, error: type[Exception]) -> None:
    async def steer() -> None:
        new_gates()
        store = Store.on(bucket_folder(), lease=0.3)
        handle = await start(gated(), run_name="r", store=store)
        await gates["reached"].wait()
        await getattr(store, verb)("r")
        with pytest.raises(error):
            await asyncio.wait_for(handle.result(), 10)

    asyncio.run(steer())


@in_virtual_time
async def test_a_run_without_an_owner_is_cancelled_where_it_lies(bucket: MemoryBucket, virtual: Clock) -> None:
    new_gates()
    folder = bucket_folder(bucket)
    store = Store.on(folder)
    handle = await start(gated(), run_name="r", store=store)
    await gates["reached"].wait()
    await handle.stop()
    with pytest.raises(RunStopped):
        await handle.result()
    await store.cancel("r")
    assert (await store.state("r")).status is Status.CANCELLED


@in_virtual_time
async def test_the_first_beat_follows_the_take_over(bucket: MemoryBucket, virtual: Clock) -> None:
    folder = bucket_folder(bucket)
    journal, _ = await take_over(folder, "r", await read_journal(folder), sync=True)
    presence = await approach(folder, "r", None, force=False, lease=LEASE)
    await presence.begin(journal.epoch)
    beat = from_json(await folder.get("owner/0000000001.json"))
    assert (beat["pid"], beat["lease"], beat["ended"]) == (os.getpid(), LEASE, False)
    await presence.end()
    assert from_json(await folder.get("owner/0000000001.json"))["ended"] is True
    await journal.aclose()
