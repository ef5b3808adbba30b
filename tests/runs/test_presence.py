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

from holdfast import Status, Store, run, run_sync, start, task
from holdfast.clocks import Clock as Clocks
from holdfast.clocks import clock, use_clock
from holdfast.codec import from_json
from holdfast.errors import RunBusy, RunCancelled, RunFenced, RunStopped, StoreUnavailable
from holdfast.folders.patience import WIDEST, Patience
from holdfast.folders.protocol import Trouble
from holdfast.journals.frames import Header
from holdfast.journals.owning import boot_id, is_gone, process_start, take_over
from holdfast.journals.reading import Read, read_journal
from holdfast.runs.presence import BEATS, approach, owner_of
from holdfast.testing import Clock
from holdfast.testing.bucket_faults import Fault, FaultyBucket
from holdfast.testing.buckets import MemoryBucket, bucket_folder
from holdfast.testing.loops import VirtualLoop, run_in

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
    assert virtual.elapsed < LEASE
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


# stores and machines that are slow, hang or stand still


def in_a_virtual_loop(body: Callable[[FaultyBucket], Awaitable[None]]) -> Callable[[], None]:
    """Time is the loop's, so that deadlines are too."""

    async def _opened() -> None:
        await body(FaultyBucket(MemoryBucket()))

    def test() -> None:
        run_in(VirtualLoop(), _opened)

    test.__name__ = body.__name__
    return test


@in_a_virtual_loop
async def test_a_contender_that_stood_still_between_two_looks_looks_again_before_it_takes_over(bucket: FaultyBucket) -> None:
    folder = bucket_folder(bucket)
    await folder.put("owner/0000000001.json", b'{"epoch":1,"beat":7,"lease":30}')
    contending = asyncio.create_task(approach(folder, "r", header(), force=False, lease=LEASE))
    await clock().sleep(4.0)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._jump(3600.0)  # pyright: ignore[reportPrivateUsage] - the machine of both slept
    await clock().sleep(1.0)
    await folder.put("owner/0000000001.json", b'{"epoch":1,"beat":8,"lease":30}')
    with pytest.raises(RunBusy):
        await contending


@in_a_virtual_loop
async def test_a_beat_that_is_left_without_an_answer_does_not_hold_up_the_next(bucket: FaultyBucket) -> None:
    new_gates()
    store = Store.on(bucket_folder(bucket))
    async with await start(gated(), run_name="r", store=store) as handle:
        await gates["reached"].wait()
        bucket.add(Fault("put", "*/owner/*", slow=3600.0, times=1))
        await clock().sleep(LEASE / BEATS)
        with pytest.raises(RunBusy):
            await run(gated(), run_name="r", store=store)
        assert bucket.injected
        gates["open"].set()
        assert await handle.result() == 3


@in_a_virtual_loop
async def test_an_owner_that_reads_a_long_journal_shows_that_it_lives(bucket: FaultyBucket) -> None:
    memory = MemoryBucket()
    folder, slow = bucket_folder(memory), bucket_folder(FaultyBucket(memory, [Fault("list", "journal*", slow=25.0)]))
    presence = await approach(slow, "r", None, force=False, lease=10.0)
    taking = asyncio.create_task(take_over(slow, "r", Read.nothing(), sync=True, begun=presence.begin))
    await clock().sleep(1.0)
    with pytest.raises(RunBusy):
        await approach(folder, "r", (await read_journal(folder)).newest, force=False, lease=10.0)
    await taking
    await presence.end()


@pytest.mark.parametrize("fault", [Fault(slow=1e6), Fault(trouble=Trouble.PASSING)])
def test_a_run_whose_store_dies_ends_soon_and_can_be_continued(fault: Fault) -> None:
    async def die() -> float:
        new_gates()
        bucket = FaultyBucket(MemoryBucket())
        store = Store.on(bucket_folder(bucket))
        handle = await start(gated(), run_name="r", store=store)
        await gates["reached"].wait()
        bucket.add(fault)
        began = clock().monotonic()
        gates["open"].set()
        with pytest.raises(StoreUnavailable):
            await handle.result()
        lasted = clock().monotonic() - began
        bucket.heal()
        assert await run(gated(), run_name="r", store=store, resume="takeover") == 3
        return lasted

    assert run_in(VirtualLoop(), die) < 100


def test_a_heartbeat_ends_with_the_loop_of_its_owner() -> None:
    bucket = MemoryBucket()
    loop = asyncio.new_event_loop()
    presence = loop.run_until_complete(approach(bucket_folder(bucket), "r", None, force=False, lease=0.12))
    loop.run_until_complete(presence.begin(1))
    loop.close()
    time.sleep(0.1)
    beats = bucket.requests["put"]
    time.sleep(0.3)
    assert bucket.requests["put"] <= beats + 1


def test_a_run_on_the_loop_of_blocking_calls_looks_alive_while_its_body_blocks() -> None:
    bucket = MemoryBucket()
    store = Store.on(bucket_folder(bucket), lease=0.3)
    beats: list[int] = []

    @task(name="blocking_portal", key=lambda: "blocking")
    async def blocking() -> None:
        await step(1)
        beats.append(await beats_of(bucket))
        end = time.monotonic() + 5
        while time.monotonic() < end and len(beats) == 1:
            (name,) = [name for name in list(bucket.objects) if "/owner/" in name]
            now = int(from_json(bucket.objects[name].data)["beat"])
            if now >= beats[0] + 3:
                beats.append(now)

    async def notebook() -> None:
        run_sync(blocking(), run_name="r", store=store)

    asyncio.run(notebook())
    assert len(beats) == 2


@in_a_virtual_loop
async def test_a_run_whose_owner_died_a_moment_ago_is_cancelled_all_the_same(bucket: FaultyBucket) -> None:
    new_gates()
    memory = MemoryBucket()
    async with await start(gated(), run_name="r", store=Store.on(bucket_folder(memory))):
        await gates["reached"].wait()
        left = Store.on(bucket_folder(memory.copy()))
        gates["open"].set()
    assert (await left.state("r")).owner == "live"
    await left.cancel("r")
    assert (await left.state("r")).status is Status.CANCELLED


@in_a_virtual_loop
async def test_a_live_owner_is_told_to_stop_and_to_cancel_whatever_the_clocks_say(bucket: FaultyBucket) -> None:
    for verb, error in (("stop", RunStopped), ("cancel", RunCancelled)):
        new_gates()
        store = Store.on(bucket_folder(bucket))
        handle = await start(gated(), run_name=verb, store=store)
        await gates["reached"].wait()
        with use_clock(Ahead(clock())):
            assert (await store.state(verb)).owner == "gone"
            await getattr(store, verb)(verb)
        with pytest.raises(error):
            await handle.result()


class Ahead(Clocks):
    """Of a machine whose clock is a day ahead."""

    is_real = False

    def __init__(self, right: Clocks) -> None:
        self._right = right

    def now(self) -> float:
        return self._right.now() + 24 * 3600

    def monotonic(self) -> float:
        return self._right.monotonic()


@in_a_virtual_loop
async def test_a_word_that_could_not_be_read_at_once_is_read_later(bucket: FaultyBucket) -> None:
    new_gates()
    store = Store.on(bucket_folder(bucket, patience=Patience(deadline=1.0)))
    handle = await start(gated(), run_name="r", store=store)
    await gates["reached"].wait()
    bucket.add(Fault("get", "*/inbox/*", trouble=Trouble.PASSING, times=8))
    await store.stop("r")
    with pytest.raises(RunStopped):
        await asyncio.wait_for(handle.result(), 600)
    assert bucket.injected


@in_a_virtual_loop
async def test_who_may_only_read_gets_what_is_on_record(bucket: FaultyBucket) -> None:
    store = Store.on(bucket_folder(bucket))
    assert await run(step(1), run_name="r", store=store) == 1
    bucket.add(*(Fault(verb, trouble=Trouble.REFUSED) for verb in ("put", "create", "delete", "touch")))
    assert await run(step(1), run_name="r", store=store) == 1


@in_a_virtual_loop
async def test_a_take_over_that_can_not_be_told_is_one_all_the_same(bucket: FaultyBucket) -> None:
    new_gates()
    store = Store.on(bucket_folder(bucket))
    old = await start(gated(), run_name="r", store=store)
    await gates["reached"].wait()
    bucket.add(Fault("create", "*/inbox/*", trouble=Trouble.REFUSED))
    new = await start(gated(), run_name="r", store=store, resume="takeover")
    gates["open"].set()
    with pytest.raises(RunFenced):
        await old.result()
    assert await new.result() == 3


@in_a_virtual_loop
async def test_a_large_object_that_comes_slowly_is_waited_for(bucket: FaultyBucket) -> None:
    folder = bucket_folder(bucket)
    await folder.put("large", bytes(20 << 20))
    bucket.add(Fault("get", slow=120.0))
    assert len(await folder.get("large")) == 20 << 20


@in_a_virtual_loop
async def test_who_is_cancelled_while_others_ask_asks_no_more(bucket: FaultyBucket) -> None:
    folder = bucket_folder(bucket)
    bucket.add(Fault("put", "slow*", slow=5.0))
    busy = [asyncio.create_task(folder.put(f"slow{n}", b"")) for n in range(WIDEST)]
    await clock().sleep(1.0)
    late = asyncio.create_task(folder.put("late", b""))
    await clock().sleep(1.0)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    await asyncio.gather(*busy)
    assert await folder.stat("late") is None


@pytest.mark.skipif(os.name != "posix" or process_start(1) == "", reason="there is no process of another user to ask for")
def test_a_process_of_which_the_system_tells_only_its_user_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError(pid)

    hidden = header(boot=boot_id(), pid=2**22 + 1, process="1")
    assert is_gone(hidden)
    monkeypatch.setattr(os, "kill", refuse)
    assert not is_gone(hidden)


@in_virtual_time
async def test_every_beat_names_when_its_owner_began_and_not_when_it_was_written(bucket: MemoryBucket, virtual: Clock) -> None:
    folder = bucket_folder(bucket)
    presence = await approach(folder, "r", None, force=False, lease=LEASE)
    await presence.begin(1)
    first = from_json(await folder.get("owner/0000000001.json"))
    await clock().sleep(LEASE)
    later = from_json(await folder.get("owner/0000000001.json"))
    assert later["beat"] > first["beat"]
    assert later["started"] == first["started"]
    await presence.end()
