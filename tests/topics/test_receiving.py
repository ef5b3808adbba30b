"""Each value goes to exactly one receiver, in order; what a body has received it receives again; what nobody got waits for somebody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter
from turns import until

from holdfast import RunState, Status, Store, ctx, group, run, start, task
from holdfast.actions.inbox import Inbox
from holdfast.errors import (
    InboxDamaged,
    InvalidOption,
    ReceivedInvalid,
    ReceiveTimedOut,
    UnrecordableResult,
    WrongKey,
)
from holdfast.events import WaitBegun
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.bucket_faults import Fault
from holdfast.testing.buckets import MemoryBucket
from holdfast.testing.clocks import Clock, no_backoff
from holdfast.testing.loops import run_shuffled
from holdfast.testing.stores import bucket_store, memory_folder, memory_store
from holdfast.topics import entry_key, send, written

disk = MemoryDisk()
did: list[Any] = []
KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()
    did.clear()


def results(state: RunState, task_name: str = "holdfast:receive") -> list[Any]:
    return [action.result for action in state.actions.values() if action.task_name == task_name]


@task
async def takes(count: int, topic: str = "work") -> list[Any]:
    got = []
    for _ in range(count):
        got.append(await ctx().receive(topic, object))
        did.append(got[-1])
    return got


@task
async def pair(count: int) -> list[list[Any]]:
    return list(await asyncio.gather(takes(count), takes(count, "other")))


# order


def test_values_come_in_the_order_in_which_they_were_sent_to_their_topic() -> None:
    async def main() -> list[list[Any]]:
        handle = await start(pair(2), run_name="it", store=memory_store(disk))
        for n in range(2):
            await handle.send("work", n)
            await handle.send("other", -n)
        return await handle.result()

    assert asyncio.run(main()) == [[0, 1], [0, -1]]


def test_early_values_are_kept_until_somebody_asks_also_in_a_later_life() -> None:
    async def main() -> None:
        handle = await start(takes(3), run_name="it", store=memory_store(disk))
        await until(lambda: handle.status is Status.AWAITING_INPUT)
        await handle.stop()

    asyncio.run(main())
    for n in range(3):
        memory_store(disk).send_sync("it", "work", n)  # while nobody owns the run
    assert asyncio.run(run(takes(3), run_name="it", store=memory_store(disk))) == [0, 1, 2]


@task
async def receiver(name: int) -> tuple[int, Any]:
    return name, await ctx().receive("work", int)


@task
async def receivers(count: int) -> list[tuple[int, Any]]:
    return await asyncio.gather(*(receiver(n) for n in range(count)))


@pytest.mark.parametrize("seed", range(12))
def test_two_senders_and_many_receivers_share_the_values_in_any_order(seed: int) -> None:
    async def main() -> None:
        store = bucket_store()
        handle = await start(receivers(6), run_name="it", store=store)

        async def sends(numbers: range) -> None:
            for n in numbers:
                await store.send("it", "work", n)

        await asyncio.gather(sends(range(3)), sends(range(3, 6)))
        assert sorted(value for _, value in await handle.result()) == list(range(6))

    run_shuffled(main, seed)


@task
async def waits_in_turn() -> list[tuple[str, int]]:
    got: list[tuple[str, int]] = []

    async def one(name: str) -> None:
        got.append((name, await ctx().receive("work", int)))

    tasks = []
    for name in "abc":
        tasks.append(asyncio.create_task(one(name)))
        await ctx().now()  # whoever asked first has begun to wait
    did.append("waiting")
    await asyncio.gather(*tasks)
    return got


def test_who_waits_longest_gets_the_next_value() -> None:
    async def main() -> list[tuple[str, int]]:
        handle = await start(waits_in_turn(), run_name="it", store=memory_store(disk))
        await until(lambda: did == ["waiting"])
        for n in range(3):
            await handle.send("work", n)
        return await handle.result()

    assert asyncio.run(main()) == [("a", 0), ("b", 1), ("c", 2)]


# each value to one receiver, whatever becomes of receivers: the inbox alone, under a plan of sends, joins and cancellations


PLAN = st.lists(st.sampled_from(["send", "join", "cancel first", "cancel last", "fail", "turn"]), max_size=40)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PLAN, st.integers(0, 10_000))
def test_each_value_is_taken_once_and_the_ones_that_were_given_back_first(plan: list[str], seed: int) -> None:
    kept: list[int] = []

    async def main() -> None:
        folder = memory_folder()
        inbox = Inbox(folder, {})
        waiting: list[asyncio.Task[None]] = []
        sent = 0

        async def receive(fails: bool) -> None:
            with inbox.queue("work") as turn:
                await turn.look()
                await turn.wait(lambda: 60.0)
                entry = turn.take()
            assert entry is not None
            if fails:
                inbox.give_back(entry)
            else:
                kept.append(entry.value)

        for step in [*plan, *["join"] * len(plan)]:
            waiting = [each for each in waiting if not each.done()]
            if step == "send":
                await send(folder, "work", sent)
                sent += 1
            elif step in ("join", "fail"):
                waiting.append(asyncio.create_task(receive(step == "fail")))
            elif step == "turn":
                await asyncio.sleep(0)
            elif waiting:
                waiting[0 if step == "cancel first" else -1].cancel()
        await asyncio.sleep(30)
        assert len(kept) == sent
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert sorted(kept) == list(range(sent))
        if not {"fail", "cancel first", "cancel last"} & set(plan):
            assert kept == sorted(kept)

    run_shuffled(main, seed)


@task
async def gives_up_one() -> list[int]:
    first = asyncio.create_task(ctx().receive("work", int))
    await ctx().now()
    second = asyncio.create_task(ctx().receive("work", int))
    await ctx().now()
    did.append("waiting")
    await until(lambda: "sent" in did)
    first.cancel()
    await asyncio.wait({first})
    return [await second] if first.cancelled() else [first.result(), await second]


def test_a_receiver_that_is_cancelled_leaves_its_value_to_the_next() -> None:
    async def main() -> list[int]:
        store = memory_store(disk)
        handle = await start(gives_up_one(), run_name="it", store=store)
        await until(lambda: "waiting" in did)
        await store.send("it", "work", 0)
        await store.send("it", "work", 1)
        did.append("sent")
        return await handle.result()

    got = asyncio.run(main())
    assert got in ([0], [0, 1])


def test_what_was_given_to_one_who_leaves_before_taking_it_goes_to_the_next() -> None:
    async def main() -> None:
        folder = memory_folder()
        inbox = Inbox(folder, {})
        with inbox.queue("work") as first, inbox.queue("work") as second:
            await send(folder, "work", "the value")
            await second.wait(lambda: 0.0)
            assert first.is_served, "who waits longest"
            assert not second.is_served
        with inbox.queue("work") as third:
            assert third.is_served
            entry = third.take()
        assert entry is not None
        assert entry.value == "the value"

    asyncio.run(main())


def test_when_the_first_who_waits_leaves_the_next_looks_in_its_stead() -> None:
    async def main() -> None:
        folder = memory_folder()
        inbox = Inbox(folder, {})

        async def second() -> None:
            with inbox.queue("work") as turn:
                await turn.wait(lambda: 60.0)
                did.append(turn.take())

        with inbox.queue("work"):
            waiting = asyncio.create_task(second())
            await asyncio.sleep(0)
        await folder.create(entry_key("work", 0), written("work", "from elsewhere"))
        async with asyncio.timeout(10):
            await waiting

    asyncio.run(main())
    assert did[0].value == "from elsewhere"


def test_a_value_that_came_since_the_last_look_wins_over_the_deadline() -> None:
    @task(name="nearly late")
    async def nearly_late() -> list[int]:
        return list(await asyncio.gather(*(ctx().receive("work", int, timeout=99) for _ in range(3))))

    async def main() -> list[int]:
        store = bucket_store()
        handle = await start(nearly_late(), run_name="it", store=store)
        await asyncio.sleep(98.5)
        for n in range(3):
            await store.send("it", "work", n)
        return await handle.result()

    assert sorted(run_shuffled(main, 3)) == [0, 1, 2]


def test_a_value_whose_receiver_is_cancelled_before_its_outcome_is_recorded_is_not_used_up() -> None:
    class Slow(MemoryBucket):
        async def put(self, name: str, data: bytes) -> None:
            if "blobs/" in name and "slow" not in did:
                did.append("slow")
                await asyncio.sleep(50)
            await super().put(name, data)

        async def create(self, name: str, data: bytes) -> None:
            if "blobs/" in name and "slow" not in did:
                did.append("slow")
                await asyncio.sleep(50)
            await super().create(name, data)

    @task(name="changes its mind")
    async def changes_its_mind() -> int:
        first = asyncio.create_task(ctx().receive("work", str))
        while "slow" not in did:  # noqa: ASYNC110 - the store is no event
            await asyncio.sleep(1)
        first.cancel()
        await asyncio.wait({first})
        assert first.cancelled()
        return len(await ctx().receive("work", str, timeout=1000))

    async def main() -> int:
        store = bucket_store(bucket=Slow())
        handle = await start(changes_its_mind(), run_name="it", store=store)
        await store.send("it", "work", "x" * 100_000)
        return await handle.result()

    assert run_shuffled(main, 1) == 100_000


# seen again


@task
async def decides() -> str:
    try:
        value = await ctx().receive("work", int, timeout=5)
    except ReceiveTimedOut as late:
        did.append(str(late))
        value = -1
    await ctx().receive("go", object)
    return f"{value} then {await ctx().receive('work', int)}"


def stopped_once(call: Callable[[], Any], clock: Clock) -> None:
    """Run it until it waits for a `go`, and stop it there."""

    async def main() -> None:
        handle = await start(call(), run_name="it", store=memory_store(disk))
        async for event in handle.events():
            if isinstance(event, WaitBegun) and event.topic == "go":
                break
        await handle.stop()

    with clock.use():
        asyncio.run(main())


def test_a_body_that_saw_a_timeout_sees_it_again_though_a_value_came_since() -> None:
    clock = Clock()
    stopped_once(decides, clock)
    store = memory_store(disk)
    for topic in ("work", "go"):
        store.send_sync("it", topic, 7)
    with clock.use():
        assert asyncio.run(run(decides(), run_name="it", store=store)) == "-1 then 7"
    assert did == ["no value came for topic 'work' within 5 s; `Store.send('it', 'work', value)` sends one"] * 2


def test_a_body_that_received_a_value_receives_it_again_and_nobody_else_does() -> None:
    async def first_life() -> None:
        handle = await start(decides(), run_name="it", store=memory_store(disk))
        await handle.send("work", 1)
        await until(lambda: 1 in results(state_of(handle)))
        await handle.stop()

    def state_of(handle: Any) -> RunState:
        found: RunState = memory_store(disk).state_sync("it")
        return found

    asyncio.run(first_life())
    store = memory_store(disk)
    for topic, value in (("work", 2), ("work", 3), ("go", None)):
        store.send_sync("it", topic, value)
    assert asyncio.run(run(decides(), run_name="it", store=store)) == "1 then 2"


@task(retries=1)
async def fails_after_receiving() -> list[int]:
    got = [await ctx().receive("work", int)]
    did.append(got[0])
    if ctx().attempt_number == 0:
        raise ConnectionError("behind the first value")
    return [*got, await ctx().receive("work", int)]


def test_a_retry_of_the_body_reuses_what_it_received() -> None:
    async def main() -> list[int]:
        handle = await start(fails_after_receiving(), run_name="it", store=memory_store(disk))
        for n in (1, 2, 3):
            await handle.send("work", n)
        return await handle.result()

    with no_backoff():
        assert asyncio.run(main()) == [1, 2]
    assert did == [1, 1]


@task
async def racing(topics: tuple[str, ...]) -> dict[str, int]:
    async def one(topic: str) -> tuple[str, int]:
        return topic, await ctx().receive(topic, int)

    return dict(await asyncio.gather(*(one(topic) for topic in topics)))


def test_receivers_of_different_topics_keep_their_values_apart_in_any_order_of_asking() -> None:
    order: list[tuple[str, ...]] = [("a", "b", "c")]

    @task(name="in any order")
    async def main() -> dict[str, int]:
        got = {topic: asyncio.create_task(ctx().receive(topic, int)) for topic in order[-1]}
        await asyncio.gather(*got.values())
        await ctx().receive("go", object)
        return {topic: await value for topic, value in got.items()}

    async def first_life() -> None:
        handle = await start(main.with_options(key=lambda: "it")(), run_name="it", store=memory_store(disk))
        for n, topic in enumerate("abc"):
            await handle.send(topic, n)
        await until(lambda: len(memory_store(disk).state_sync("it").actions) == 5)
        await handle.stop()

    asyncio.run(first_life())
    order.append(("c", "b", "a"))
    memory_store(disk).send_sync("it", "go", None)
    again = asyncio.run(run(main.with_options(key=lambda: "it")(), run_name="it", store=memory_store(disk)))
    assert again == {"a": 0, "b": 1, "c": 2}


@task
async def grouped() -> list[int]:
    got = []
    for part in ("left", "right"):
        with group(part):
            got.append(await ctx().receive("work", int))
    return got


def test_positions_in_groups_are_counted_apart() -> None:
    async def main() -> list[int]:
        handle = await start(grouped(), run_name="it", store=memory_store(disk))
        await handle.send("work", 1)
        await handle.send("work", 2)
        return await handle.result()

    assert asyncio.run(main()) == [1, 2]
    actions = memory_store(disk).state_sync("it").actions
    assert len(actions) == 3


# what comes is validated


class Settings(BaseModel):
    rate: float
    since: datetime


@task
async def configured() -> str:
    config = await ctx().receive("config", Settings)
    did.append(config)
    work = [await square(n) for n in range(3)]
    return f"{sum(work) * config.rate} since {config.since.year}"


@task
async def square(n: int) -> int:
    return n * n


def test_a_run_waits_for_its_configuration_before_it_works() -> None:
    async def main() -> str:
        store = memory_store(disk)
        async with await start(configured(), run_name="it", store=store) as handle:
            await until(lambda: handle.status is Status.AWAITING_INPUT)
            assert (await store.state("it")).status is Status.AWAITING_INPUT
            assert did == []
            await store.send("it", "config", {"rate": "1.5", "since": "2030-01-01T00:00:00Z"})
            return await handle.result()

    assert asyncio.run(main()) == "7.5 since 2030"
    assert did == [Settings(rate=1.5, since=datetime(2030, 1, 1, tzinfo=UTC))]
    assert asyncio.run(run(configured(), run_name="it", store=memory_store(disk))) == "7.5 since 2030"


@task
async def asks_for_numbers() -> list[Any]:
    got: list[Any] = []
    while len(got) < 2:
        try:
            got.append(await ctx().receive("work", int))
        except ReceivedInvalid as error:
            got.append((error.topic, error.number, error.expected))
            did.append(str(error))
    await ctx().receive("go", object)
    return got


def test_a_value_of_another_type_fails_its_receiver_is_used_up_and_is_seen_again_so() -> None:
    store = memory_store(disk)

    async def main() -> None:
        handle = await start(asks_for_numbers(), run_name="it", store=store)
        for value in ("three", 4):
            await handle.send("work", value)
        await until(lambda: 4 in results(store.state_sync("it")))
        await handle.stop()

    asyncio.run(main())
    store.send_sync("it", "go", None)
    assert asyncio.run(run(asks_for_numbers(), run_name="it", store=memory_store(disk))) == [("work", 0, "int"), 4]
    assert len(did) == 2
    assert did[0] == did[1]
    assert "it is used up" in did[0]


class Handle:
    """No data."""


def test_a_type_that_cannot_be_recorded_is_refused_before_anything_is_used_up() -> None:
    @task(name="asks for a handle")
    async def asks() -> Any:
        try:
            return await ctx().receive("work", Handle)
        except UnrecordableResult:
            return await ctx().receive("work", int)

    async def main() -> Any:
        handle = await start(asks(), run_name="it", store=memory_store(disk))
        await handle.send("work", 1)
        return await handle.result()

    assert asyncio.run(main()) == 1


def test_adapters_say_what_types_cannot() -> None:
    either: TypeAdapter[int | None] = TypeAdapter(int | None)
    mood: TypeAdapter[Literal["good", "bad"]] = TypeAdapter(Literal["good", "bad"])

    @task(name="asks by adapters", key=lambda: "it")
    async def asks() -> list[Any]:
        got: list[Any] = [await ctx().receive("work", either) for _ in range(2)]
        got.append(await ctx().receive("mood", mood))
        if len(did) == 0:
            did.append(got)
            raise RuntimeError("once")
        return got

    async def main() -> None:
        handle = await start(asks(), run_name="it", store=memory_store(disk))
        for topic, value in (("work", "3"), ("work", None), ("mood", "good")):
            await handle.send(topic, value)
        with pytest.raises(RuntimeError):
            await handle.result()

    asyncio.run(main())
    assert asyncio.run(run(asks(), run_name="it", store=memory_store(disk))) == did[0] == [3, None, "good"]


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon"])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    @task(name="asks", key=lambda: "it")
    async def asks() -> None:
        await ctx().receive("work", int, timeout=timeout)

    with pytest.raises(InvalidOption, match="timeout"):
        asyncio.run(run(asks(), run_name="it", store=memory_store(disk)))


def test_large_values_arrive_and_are_received_again() -> None:
    large = {"data": b"x" * 200_000, "text": "y" * 100_000}

    async def main() -> None:
        handle = await start(decides_on_anything(), run_name="it", store=memory_store(disk))
        await handle.send("work", large)
        await until(lambda: did == [large])
        await handle.stop()

    asyncio.run(main())
    memory_store(disk).send_sync("it", "go", None)
    assert asyncio.run(run(decides_on_anything(), run_name="it", store=memory_store(disk))) == 200_000
    assert did == [large, large]


@task
async def decides_on_anything() -> int:
    did.append(await ctx().receive("work", dict[str, Any]))
    await ctx().receive("go", object)
    return len(did[-1]["data"])


# damage and refusal


def damaged(number: int) -> None:
    folder = memory_folder(disk)
    key = f"runs/it/000000/inbox/work/{number:012}.json"
    data = asyncio.run(folder.get(key))
    asyncio.run(folder.put(key, data[:-9] + b"x" + data[-8:]))


def test_a_damaged_value_is_an_error_of_one_receiver_which_a_new_try_goes_past() -> None:
    async def begin() -> None:
        handle = await start(takes(2), run_name="it", store=memory_store(disk))
        await until(lambda: handle.status is Status.AWAITING_INPUT)
        await handle.stop()

    asyncio.run(begin())
    for n in range(3):
        memory_store(disk).send_sync("it", "work", n)
    damaged(0)
    with pytest.raises(InboxDamaged, match=r"value 0 of topic 'work' can't be read .* it is used up"):
        asyncio.run(run(takes(2), run_name="it", store=memory_store(disk)))
    assert memory_store(disk).state_sync("it").status is Status.FAILED
    assert asyncio.run(run(takes(2), run_name="it", store=memory_store(disk))) == [1, 2]


def test_a_value_that_may_not_be_read_fails_whoever_asks_and_stays() -> None:
    store = Store("memory://sealed", encryption_key=KEY)

    async def begin() -> None:
        handle = await start(takes(1), run_name="it", store=store)
        await until(lambda: handle.status is Status.AWAITING_INPUT)
        await handle.stop()
        await Store("memory://sealed", encryption_key=(OTHER, KEY)).send("it", "work", 5)

    asyncio.run(begin())
    for _ in range(2):
        with pytest.raises(WrongKey):
            asyncio.run(run(takes(1), run_name="it", store=store))
    assert asyncio.run(run(takes(1), run_name="it", store=Store("memory://sealed", encryption_key=(OTHER, KEY)))) == [5]


def test_values_in_an_encrypted_store_show_nothing() -> None:
    store = Store("memory://veiled", encryption_key=KEY)

    async def main() -> list[Any]:
        handle = await start(takes(2), run_name="it", store=store)
        await handle.send("work", "swordfish")
        await store.send("it", "work", "swordfish")
        return await handle.result()

    assert asyncio.run(main()) == ["swordfish"] * 2
    plain = Store("memory://veiled").folder
    for entry in asyncio.run(plain.walk("")):
        assert b"swordfish" not in asyncio.run(plain.get(entry.name))


def test_a_store_out_of_reach_fails_nobody_who_waits_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    bucket = MemoryBucket()

    async def main() -> list[Any]:
        away = bucket_store([Fault("get", "*/inbox/work/*", after=3, times=40)], bucket=bucket)
        handle = await start(takes(1), run_name="it", store=away)
        await asyncio.sleep(300)
        assert handle.status is Status.AWAITING_INPUT
        await bucket_store(bucket=bucket).send("it", "work", 5)
        return await handle.result()

    with caplog.at_level(logging.WARNING, "holdfast"):
        assert run_shuffled(main, 1) == [5]
    assert sum("can't be read just now" in line for line in caplog.messages) == 1


# what it costs


def test_nothing_looks_for_values_while_nobody_waits() -> None:
    looks: list[str] = []

    class Counted(MemoryBucket):
        async def get(self, name: str) -> bytes:
            if "/inbox/work" in name:
                looks.append(name)
            return await super().get(name)

    @task(name="waits twice", key=lambda: "it")
    async def waits() -> list[int]:
        got = [await ctx().receive("work", int)]
        did.append(len(looks))
        await ctx().sleep(3600)
        did.append(len(looks))
        return [*got, await ctx().receive("work", int)]

    async def main() -> list[int]:
        store = bucket_store(bucket=Counted())
        handle = await start(waits(), run_name="it", store=store)
        await asyncio.sleep(60)
        await store.send("it", "work", 1)
        await asyncio.sleep(3700)
        await store.send("it", "work", 2)
        return await handle.result()

    assert run_shuffled(main, 1) == [1, 2]
    assert did[0] == did[1]
    assert did[0] <= 18, "a minute of waiting: pauses of 1 s, growing to 5"


@pytest.mark.parametrize("many", [50])
def test_of_many_who_wait_on_a_topic_one_looks(many: int) -> None:
    looks: list[str] = []

    class Counted(MemoryBucket):
        async def get(self, name: str) -> bytes:
            if "/inbox/work" in name:
                looks.append(name)
            return await super().get(name)

    async def main() -> None:
        store = bucket_store(bucket=Counted())
        handle = await start(receivers(many), run_name="it", store=store)
        await asyncio.sleep(300)
        assert len(looks) <= 70
        for n in range(many):
            await handle.send("work", n)
        assert len(await handle.result()) == many

    run_shuffled(main, 1)


def test_who_waits_hears_at_once_of_what_another_store_and_another_thread_of_this_process_send() -> None:
    async def main() -> list[Any]:
        where = "memory://heard"
        with Clock(jumps=False).use():  # nobody who sleeps wakes
            handle = await start(takes(2), run_name="it", store=Store(where))
            await until(lambda: handle.status is Status.AWAITING_INPUT)
            await Store(where).send("it", "work", 1)
            await until(lambda: did == [1])
            await asyncio.to_thread(Store(where).send_sync, "it", "work", 2)
            return await handle.result()

    assert asyncio.run(main()) == [1, 2]
