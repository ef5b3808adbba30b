"""An object store fails where it was told to, as often as it was told to, and in no other way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.errors import (
    InvalidOption,
    ObjectExists,
    ObjectMissing,
    StoreFull,
    StoreInvalid,
    StorePermission,
    StoreUnavailable,
)
from holdfast.folders.patience import Patience
from holdfast.folders.protocol import Trouble
from holdfast.testing import Clock, Fault, FaultyBucket, MemoryBucket
from holdfast.testing.bucket_faults import VERBS, InjectedFault
from holdfast.testing.buckets import bucket_folder

#: What a folder says of trouble that it can't mend.
SAID = {
    Trouble.MISSING: ObjectMissing,
    Trouble.EXISTS: ObjectExists,
    Trouble.REFUSED: StorePermission,
    Trouble.NO_PLACE: StoreInvalid,
    Trouble.FULL: StoreFull,
    Trouble.THROTTLED: StoreUnavailable,
    Trouble.PASSING: StoreUnavailable,
    Trouble.WRONG: StoreInvalid,
}


async def ask(bucket: FaultyBucket, verb: str, name: str = "a/b") -> Any:
    """One operation of each kind."""
    operations: dict[str, Any] = {
        "get": lambda: bucket.get(name),
        "put": lambda: bucket.put(name, b"12345678"),
        "create": lambda: bucket.create(name, b"12345678"),
        "delete": lambda: bucket.delete([name, "other"]),
        "stat": lambda: bucket.stat(name),
        "touch": lambda: bucket.touch(name),
        "list": lambda: bucket.list("a/"),
        "walk": lambda: bucket.walk("a/"),
    }
    return await operations[verb]()


def filled(*faults: Fault, seed: int = 0) -> tuple[MemoryBucket, FaultyBucket]:
    inner = MemoryBucket()
    asyncio.run(inner.put("a/b", b"abcdefgh"))
    asyncio.run(inner.put("other", b"other"))
    return inner, FaultyBucket(inner, faults, seed=seed)


def which_fail(bucket: FaultyBucket, verb: str, count: int) -> list[int]:
    """The numbers of the operations that failed."""

    async def try_all() -> list[int]:
        failed = []
        for number in range(1, count + 1):
            try:
                await ask(bucket, verb)
            except InjectedFault:
                failed.append(number)
        return failed

    return asyncio.run(try_all())


def test_without_faults_it_is_the_bucket_inside() -> None:
    inner, bucket = filled()

    async def use() -> list[bytes]:
        await bucket.create("a/c", b"new")
        await bucket.put("a/b", b"changed")
        await bucket.delete(["other"])
        await bucket.touch("a/c")
        assert (await bucket.stat("a/c")).size == 3
        assert [entry.name for entry in (await bucket.walk("a/")).entries] == ["b", "c"]
        assert [entry.name for entry in (await bucket.list("")).entries] == ["a"]
        return [await bucket.get("a/b"), await bucket.get("a/c")]

    assert asyncio.run(use()) == [b"changed", b"new"]
    assert (sorted(inner.objects), bucket.injected) == (["a/b", "a/c"], [])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("trouble", Trouble)
def test_each_kind_of_trouble_comes_out_of_each_verb_as_what_it_is(verb: str, trouble: Trouble) -> None:
    inner, bucket = filled(Fault(verb, trouble=trouble))
    before = dict(inner.objects)
    with pytest.raises(InjectedFault) as raised:
        asyncio.run(ask(bucket, verb))
    assert bucket.trouble(raised.value) is trouble
    assert inner.objects == before
    assert [(met.verb, met.fault.trouble) for met in bucket.injected] == [(verb, trouble)]


@pytest.mark.parametrize("trouble", Trouble)
def test_a_folder_says_what_the_trouble_was(trouble: Trouble) -> None:
    _, bucket = filled(Fault("get", trouble=trouble))
    with Clock().use(), pytest.raises(SAID[trouble]):
        asyncio.run(bucket_folder(bucket).get("a/b"))


def test_other_verbs_and_names_are_left_alone() -> None:
    _, bucket = filled(Fault("get", "a/*"))
    assert asyncio.run(bucket.get("other")) == b"other"
    assert asyncio.run(bucket.stat("a/b")).size == 8
    with pytest.raises(InjectedFault):
        asyncio.run(bucket.get("a/b"))


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        (Fault("get"), [1, 2, 3, 4, 5, 6]),
        (Fault("get", nth=3), [3]),
        (Fault("get", times=2), [1, 2]),
        (Fault("get", every=2), [2, 4, 6]),
        (Fault("get", every=2, times=2), [2, 4]),
        (Fault("get", after=4), [5, 6]),
        (Fault("get", after=1, every=2), [3, 5]),
        (Fault("get", after=2, nth=1), [3]),
        (Fault("get", chance=0.0), []),
        (Fault("put"), []),
        (Fault("*", "a/*", times=1), [1]),
    ],
    ids=str,
)
def test_a_fault_happens_as_often_as_it_says(fault: Fault, failed: list[int]) -> None:
    _, bucket = filled(fault)
    assert which_fail(bucket, "get", 6) == failed
    assert len(bucket.injected) == len(failed)


def test_chance_is_the_seeds() -> None:
    def failed(seed: int) -> list[int]:
        return which_fail(filled(Fault("get", chance=0.5), seed=seed)[1], "get", 40)

    assert failed(1) == failed(1) != failed(2)
    assert 10 < len(failed(1)) < 30


@pytest.mark.parametrize("verb", ["put", "create", "delete", "touch"])
def test_what_is_applied_is_done_and_answered_with_an_error(verb: str) -> None:
    inner, bucket = filled(Fault(verb, applied=True, times=1))
    name = "new" if verb == "create" else "a/b"
    before = dict(inner.objects)
    with pytest.raises(InjectedFault) as raised:
        asyncio.run(ask(bucket, verb, name))
    assert bucket.trouble(raised.value) is Trouble.PASSING
    assert inner.objects != before or verb == "touch"


def test_a_torn_write_leaves_half_of_its_bytes_and_an_error() -> None:
    inner, bucket = filled(Fault("put", torn=True), Fault("create", torn=True))
    for verb, name in (("put", "a/b"), ("create", "new")):
        with pytest.raises(InjectedFault):
            asyncio.run(ask(bucket, verb, name))
        assert inner.objects[name].data == b"1234"


def test_a_torn_read_gives_half_of_the_bytes_and_no_error() -> None:
    _, bucket = filled(Fault("get", torn=True, nth=1))
    assert [asyncio.run(bucket.get("a/b")) for _ in range(2)] == [b"abcd", b"abcdefgh"]


def test_a_torn_deletion_of_several_deletes_half_of_them() -> None:
    inner, bucket = filled(Fault("delete", torn=True))
    with pytest.raises(InjectedFault):
        asyncio.run(bucket.delete(["a/b", "other"]))
    assert sorted(inner.objects) == ["other"]


def test_what_is_slow_takes_time_on_the_clock_and_is_then_done() -> None:
    _, bucket = filled(Fault("get", slow=40, times=1), Fault("get", slow=5, trouble=Trouble.THROTTLED, times=2))
    virtual = Clock()
    with virtual.use():
        assert asyncio.run(bucket.get("a/b")) == b"abcdefgh"
        assert virtual.elapsed == 40
        with pytest.raises(InjectedFault):
            asyncio.run(bucket.get("a/b"))
        assert virtual.elapsed == 45


def test_a_stale_listing_does_not_know_of_the_last_changes() -> None:
    inner, bucket = filled(Fault("list", stale=2), Fault("walk", stale=1), Fault("stat", stale=2))

    async def use() -> None:
        await bucket.put("a/c", b"c")
        await bucket.delete(["a/b"])
        await bucket.put("a/d", b"d")
        assert sorted(entry.name for entry in (await bucket.list("a/")).entries) == ["b", "c"]
        assert sorted(entry.name for entry in (await bucket.walk("a/")).entries) == ["c"]
        assert (await bucket.stat("a/b")).size == 8
        with pytest.raises(InjectedFault) as raised:
            await bucket.stat("a/d")
        assert bucket.trouble(raised.value) is Trouble.MISSING
        assert await bucket.get("a/d") == b"d"

    asyncio.run(use())
    assert sorted(inner.objects) == ["a/c", "a/d", "other"]


def test_the_first_fault_that_is_due_decides_and_the_others_count_on() -> None:
    _, bucket = filled(Fault("get", trouble=Trouble.THROTTLED, times=1), Fault("get", trouble=Trouble.FULL, nth=2))
    assert which_fail(bucket, "get", 3) == [1, 2]
    assert [met.fault.trouble for met in bucket.injected] == [Trouble.THROTTLED, Trouble.FULL]


def test_faults_may_be_added_and_healed() -> None:
    _, bucket = filled()
    assert which_fail(bucket, "get", 1) == []
    bucket.add(Fault("get"))
    assert which_fail(bucket, "get", 1) == [1]
    bucket.heal()
    assert which_fail(bucket, "get", 1) == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("gets"),
        Fault("get", applied=True),
        Fault("list", torn=True),
        Fault("put", stale=1),
        Fault("put", torn=True, applied=True),
        Fault("put", nth=0),
        Fault("put", every=0),
        Fault("put", times=0),
        Fault("put", after=-1),
        Fault("put", chance=1.5),
    ],
    ids=str,
)
def test_a_fault_that_could_never_happen_is_refused(fault: Fault) -> None:
    with pytest.raises(InvalidOption):
        FaultyBucket(MemoryBucket(), [fault])


# what a folder makes of them


def test_a_create_that_was_done_and_answered_with_an_error_is_our_own_success() -> None:
    inner, bucket = filled(Fault("create", applied=True, times=1))
    with Clock().use():
        asyncio.run(bucket_folder(bucket).create("new", b"ours"))
    assert inner.objects["new"].data == b"ours"


def test_a_create_that_was_torn_and_asked_again_is_no_success() -> None:
    """Where a place leaves halves under the name, nobody can tell whose they are."""
    _, bucket = filled(Fault("create", torn=True, times=1))
    with Clock().use(), pytest.raises(ObjectExists):
        asyncio.run(bucket_folder(bucket).create("new", b"ours"))


def test_a_passing_fault_is_mended_by_asking_again_and_a_lasting_one_is_told_at_the_deadline() -> None:
    _, bucket = filled(Fault("get", trouble=Trouble.PASSING, times=3))
    virtual = Clock()
    with virtual.use():
        assert asyncio.run(bucket_folder(bucket).get("a/b")) == b"abcdefgh"
        bucket.add(Fault("get"))
        with pytest.raises(StoreUnavailable):
            asyncio.run(bucket_folder(bucket, patience=Patience(deadline=300)).get("a/b"))
    assert 250 < virtual.elapsed < 320
