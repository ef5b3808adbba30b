"""A process that talks to an object store dies where it is told to; what it asked for last may be done later."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.testing import CrashBucket, MemoryBucket, SimulatedCrash, Wire
from holdfast.testing.lives import When


async def program(bucket: CrashBucket) -> None:
    await bucket.put("a", b"one")
    await bucket.get("a")
    await bucket.create("b", b"two")
    await bucket.delete(["a", "b"])
    await bucket.list("")


def killed(inner: MemoryBucket, at: int, when: When, *, late_by: int = 1, wire: Wire | None = None) -> CrashBucket:
    bucket = CrashBucket(inner, at=at, when=when, late_by=late_by, wire=wire)
    with pytest.raises(SimulatedCrash):
        asyncio.run(program(bucket))
    return bucket


def names(inner: MemoryBucket) -> list[str]:
    return sorted(inner.objects)


def test_it_counts_what_changes_something_and_nothing_else() -> None:
    bucket = CrashBucket(MemoryBucket())
    asyncio.run(program(bucket))
    assert bucket.operations == ["put a", "create b", "delete a"]


@pytest.mark.parametrize(
    ("at", "when", "found"),
    [
        (1, "before", []),
        (1, "after", ["a"]),
        (1, "torn", []),
        (2, "before", ["a"]),
        (2, "after", ["a", "b"]),
        (3, "before", ["a", "b"]),
        (3, "torn", ["b"]),
        (3, "after", []),
        (2, "late", ["a"]),
    ],
)
def test_it_dies_before_or_after_and_a_deletion_of_several_by_half(at: int, when: When, found: list[str]) -> None:
    inner = MemoryBucket()
    killed(inner, at, when)
    assert names(inner) == found


def test_after_death_nothing_works() -> None:
    inner = MemoryBucket()
    bucket = killed(inner, 1, "after")
    for work in (bucket.get("a"), bucket.put("c", b""), bucket.create("c", b""), bucket.delete(["a"]), bucket.list(""), bucket.stat("a")):
        with pytest.raises(SimulatedCrash):
            asyncio.run(work)
    with pytest.raises(SimulatedCrash), bucket.alive():
        pass
    assert names(inner) == ["a"]


@pytest.mark.parametrize("late_by", [1, 2, 3])
def test_a_request_that_is_late_lands_right_before_the_operation_that_was_said(late_by: int) -> None:
    inner, wire = MemoryBucket(), Wire()
    killed(inner, 2, "late", late_by=late_by, wire=wire)

    async def look() -> list[list[str]]:
        bucket, seen = CrashBucket(inner, wire=wire), list[list[str]]()
        for _ in range(3):
            seen.append([entry.name for entry in (await bucket.list("")).entries])
        return seen

    assert asyncio.run(look()) == [["a", "b"] if number >= late_by else ["a"] for number in (1, 2, 3)]


def test_a_late_creation_finds_the_name_taken_and_nobody_hears_of_it() -> None:
    inner, wire = MemoryBucket(), Wire()
    killed(inner, 2, "late", late_by=2, wire=wire)

    async def take() -> bytes:
        bucket = CrashBucket(inner, wire=wire)
        await bucket.create("b", b"mine")
        return await bucket.get("b")

    assert asyncio.run(take()) == b"mine"


def test_what_is_still_on_its_way_at_the_end_lands_when_it_is_settled() -> None:
    inner, wire = MemoryBucket(), Wire()
    killed(inner, 2, "late", late_by=100, wire=wire)
    asyncio.run(wire.settle(inner))
    assert names(inner) == ["a", "b"]


def test_the_moment_of_death_is_told() -> None:
    heard: list[str] = []
    bucket = CrashBucket(MemoryBucket(), at=1)
    bucket.when_crashed(lambda: heard.append("died"))
    with pytest.raises(SimulatedCrash):
        asyncio.run(program(bucket))
    assert heard == ["died"]
    assert bucket.crashed
