"""What is sent: numbered without gaps, whole, and as what it was; or refused before anything is written."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from holdfast import Status, Store, ctx, run, start, task
from holdfast.codec import codec_for
from holdfast.errors import InvalidName, JournalTooNew, RunNotFound, StoreUnavailable, UnrecordableResult
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.bucket_faults import Fault
from holdfast.testing.buckets import MemoryBucket
from holdfast.testing.clocks import Clock
from holdfast.testing.loops import run_shuffled
from holdfast.testing.stores import bucket_store, memory_store
from holdfast.topics import value_in, written


class Colour(enum.Enum):
    RED = "red"


class Settings(BaseModel):
    rate: Decimal
    since: datetime
    sizes: tuple[int, ...] = ()
    token: str = Field("none", alias="authToken")


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


class Secret(BaseModel):
    password: SecretStr


@task
async def nothing() -> None: ...


@task
async def takes(count: int) -> list[Any]:
    return [await ctx().receive("work", object) for _ in range(count)]


def keys(store: Store) -> list[str]:
    found = asyncio.run(store.folder.walk("runs/it/000000/inbox"))
    return [entry.name for entry in found if not entry.name.startswith("_control")]


# names and numbers


def test_values_are_numbered_from_0_up_for_each_topic() -> None:
    store = memory_store()
    asyncio.run(run(nothing(), run_name="it", store=store))
    for topic in ("work", "work", "config", "work"):
        store.send_sync("it", topic, 1)
    assert keys(store) == ["config/000000000000.json", *(f"work/{n:012}.json" for n in range(3))]


@pytest.mark.parametrize("seed", range(12))
def test_senders_at_once_each_get_a_number_without_a_gap(seed: int) -> None:
    disk = MemoryDisk()

    async def main() -> None:
        store = memory_store(disk)
        await run(nothing(), run_name="it", store=store)
        await asyncio.gather(*(store.send("it", "work", n) for n in range(9)))

    run_shuffled(main, seed)
    assert keys(memory_store(disk)) == [f"work/{n:012}.json" for n in range(9)]


def test_a_value_whose_answer_was_lost_is_sent_once() -> None:
    bucket = MemoryBucket()
    store = bucket_store([Fault("create", "*/inbox/*", applied=True, every=2)], bucket=bucket)

    async def main() -> None:
        await run(nothing(), run_name="it", store=store)
        for n in range(6):
            await store.send("it", "work", n)

    with Clock().use():
        asyncio.run(main())
    assert keys(bucket_store(bucket=bucket)) == [f"work/{n:012}.json" for n in range(6)]


def test_what_is_no_entry_is_passed_over_by_senders() -> None:
    store = memory_store()
    asyncio.run(run(nothing(), run_name="it", store=store))
    asyncio.run(store.folder.put("runs/it/000000/inbox/work/notes.txt", b"?"))
    store.send_sync("it", "work", 1)
    assert keys(store) == ["work/000000000000.json", "work/notes.txt"]


@pytest.mark.parametrize("topic", ["_control", "", "a/b", "../up", ".hidden", "x" * 129, 3])
def test_a_topic_that_could_not_stand_in_a_path_or_is_ours_is_refused(topic: Any) -> None:
    @task(name="asks")
    async def asks() -> None:
        await ctx().receive(topic, int)

    store = memory_store()
    asyncio.run(run(nothing(), run_name="it", store=store))
    with pytest.raises(InvalidName, match="topic"):
        store.send_sync("it", topic, 1)
    assert keys(store) == []
    with pytest.raises(InvalidName, match="topic"):
        asyncio.run(run(asks(), run_name="other", store=store))


def test_sending_to_a_run_that_is_not_there_says_so_and_creates_nothing() -> None:
    disk = MemoryDisk()
    with pytest.raises(RunNotFound):
        memory_store(disk).send_sync("it", "work", 1)
    assert asyncio.run(memory_store(disk).folder.walk("")) == ()


def test_a_value_for_a_run_that_ended_is_kept_and_says_nothing() -> None:
    store = memory_store()

    async def main() -> None:
        await run(nothing(), run_name="it", store=store)
        await store.send("it", "work", 1)
        handle = await start(nothing(), run_name="it", store=store)
        await handle.send("work", 2)
        await handle.result()

    asyncio.run(main())
    assert keys(store) == ["work/000000000000.json", "work/000000000001.json"]
    assert store.state_sync("it").status is Status.COMPLETED


def test_the_sweeper_leaves_what_was_sent_and_its_bytes_are_counted() -> None:
    clock, disk = Clock(), MemoryDisk()
    with clock.use():
        store = memory_store(disk)
        asyncio.run(run(nothing(), run_name="it", store=store))
        before = store.size_sync("it")
        store.send_sync("it", "work", b"x" * 100_000)
        clock.advance(90 * 24 * 3600)
        store.gc_sync(grace=600)
        assert len(keys(store)) == 1
        assert store.size_sync("it") > before + 100_000


def test_a_store_that_is_out_of_reach_refuses_the_sender() -> None:
    bucket = MemoryBucket()

    async def main() -> None:
        await run(nothing(), run_name="it", store=bucket_store(bucket=bucket))
        await bucket_store([Fault("create", "*/inbox/*")], bucket=bucket).send("it", "work", 1)

    with Clock().use(), pytest.raises(StoreUnavailable):
        asyncio.run(main())


# values


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.uuids(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner) | st.frozensets(st.integers())
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_values_arrive_as_they_are(value: object) -> None:
    back = value_in(written("work", value), "work", "there")
    assert (back, type(back)) == (value, type(value))


NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
SETTINGS = Settings(rate=Decimal("1.10"), since=NOW, sizes=(1, 2), authToken="t")

ARRIVALS: Sequence[tuple[object, Any, object]] = [
    (SETTINGS, Settings, SETTINGS),
    ([SETTINGS], list[Settings], [SETTINGS]),
    ({"a": SETTINGS}, dict[str, Settings], {"a": SETTINGS}),
    (SETTINGS, dict[str, Any], {"rate": "1.10", "since": "2030-01-02T03:04:05Z", "sizes": [1, 2], "token": "t"}),
    (Point(1, {"a"}), Point, Point(1, {"a"})),
    ({"x": "1", "tags": ["a"]}, Point, Point(1, {"a"})),
    (Colour.RED, Colour, Colour.RED),
    (Colour.RED, str, "red"),
    ("2030-01-02T03:04:05Z", datetime, NOW),
    (NOW, datetime, NOW),
    ("2030-01-02", date, date(2030, 1, 2)),
    ("1.10", Decimal, Decimal("1.10")),
    (3, float, 3.0),
    ("3", int, 3),
    ("12345678-1234-5678-1234-567812345678", UUID, UUID("12345678-1234-5678-1234-567812345678")),
    ([1, 2], tuple[int, int], (1, 2)),
    (["3", None], TypeAdapter(list[int | None]), [3, None]),
    ({"rate": "1.10", "since": NOW, "sizes": [1, 2], "authToken": "t"}, TypeAdapter(Settings), SETTINGS),
    (None, type(None), None),
    (b"\x00\xff", bytes, b"\x00\xff"),
    ({1: (2, 3)}, object, {1: (2, 3)}),
]


@pytest.mark.parametrize(("sent", "as_type", "arrives"), ARRIVALS)
def test_what_is_sent_arrives_as_what_is_asked_for_and_is_recorded_so(sent: object, as_type: Any, arrives: object) -> None:
    codec = codec_for(as_type, task="receive")
    taken = codec.take(value_in(written("work", sent), "work", "there"))
    assert (taken, type(taken)) == (arrives, type(arrives))
    encoded = codec.encode(taken)
    again = codec.decode(encoded.tree, encoded.parts)
    assert (again, type(again)) == (arrives, type(arrives))


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "no exact form"),
        ({"a": [1, object()]}, r"value\['a'\]\[1\]"),
        (Secret(password=SecretStr("hunter2")), "would come back"),
        (lambda: 3, "no exact form"),
        (endless(), "nested too deeply"),
    ],
)
def test_what_would_not_arrive_as_it_is_is_refused_and_nothing_is_written(value: object, says: str) -> None:
    store = memory_store()
    asyncio.run(run(nothing(), run_name="it", store=store))
    with pytest.raises(UnrecordableResult, match=says) as caught:
        store.send_sync("it", "work", value)
    assert "hunter2" not in str(caught.value)
    assert keys(store) == []


def test_equal_values_are_two_entries_and_every_byte_of_one_is_checked() -> None:
    data = written("work", {"n": 1})
    assert data != written("work", {"n": 1})
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises((ValueError, KeyError, TypeError)):
            value_in(bytes(damaged), "work", "there")


def test_an_entry_of_another_topic_is_not_this_ones() -> None:
    with pytest.raises(ValueError, match="differ in case"):
        value_in(written("Work", 1), "work", "there")


def test_an_entry_of_a_newer_major_version_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.topics.FORMAT", "2.0")
    data = written("work", 1)
    monkeypatch.undo()
    with pytest.raises(JournalTooNew, match=r"2\.0"):
        value_in(data, "work", "there")
