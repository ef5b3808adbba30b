"""A byte that changed or is missing, in any object of a store: it is noticed and named, or did not matter; never is a result wrong."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from campaign.programs import ledger, mixed, right

from holdfast import Call, ctx, task
from holdfast.errors import HoldfastError
from holdfast.folders.memory import MemoryDisk
from holdfast.journals.creating import SNAPSHOT_SEGMENTS
from holdfast.testing import Survival
from holdfast.testing.buckets import MemoryBucket
from holdfast.testing.crashes import RUN_NAME, Program
from holdfast.testing.places import BucketPlace, DiskPlace, Place, Point
from holdfast.testing.stores import ROOT

WIDTH = 2
BIG = 70_000  # bytes: more than rides in an event or a manifest
PARTS = 4
LONG = SNAPSHOT_SEGMENTS + 30
#: What the objects are, by their names.
KINDS = {
    "run.json": r"runs/[^/]+/\d+/run\.json",
    "journal": r"runs/[^/]+/\d+/journal/.*",
    "snapshot": r"runs/[^/]+/\d+/snap/.*",
    "manifest": r"runs/[^/]+/\d+/actions/.*",
    "heartbeat": r"runs/[^/]+/\d+/owner.*",
    "blob": r"blobs/.*",
    "gc": r"gc/.*",
}


def kind_of(name: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name)), "other")


@task
async def part(number: int) -> bytes:
    ledger.ran(f"part {number}")
    return bytes([number]) * BIG


@task(keep=2)
async def heavy() -> list[int]:
    """Everything in it is large: results and checkpoints lie in blobs."""
    state = await ctx().checkpoint.load(bytes) or b""
    first = await part(100)
    ledger.got("part 100")
    for number in range(len(state) // BIG, PARTS):
        state += await part(number)
        ledger.got(f"part {number}")
        await ctx().checkpoint.save(state)
    return [len(state), sum(state), sum(first)]


@task
async def step(number: int) -> int:
    ledger.ran(f"step {number}")
    return number


@task
async def chain(length: int) -> int:
    """So many groups that there is a snapshot."""
    total = 0
    for number in range(length):
        total += await step(number)
        ledger.got(f"step {number}")
    return total


class Case:
    """A program, and its right result."""

    def __init__(self, make: Callable[[], Call[Any]], right: object) -> None:
        self.right = right
        self.program: Program[Any] = Program(make, {"run_name": RUN_NAME, "handle_signals": False}, ledger)


MIXED = Case(lambda: mixed(WIDTH), right(WIDTH))
HEAVY = Case(heavy, [PARTS * BIG, BIG * sum(range(PARTS)), 100 * BIG])
CHAIN = Case(lambda: chain(LONG), sum(range(LONG)))


def objects(place: Place) -> dict[str, bytes]:
    """All that a store holds, by name."""
    if isinstance(place, BucketPlace):
        return {name: each.data for name, each in place.bucket.objects.items()}
    assert isinstance(place, DiskPlace)
    return dict(files(place.disk, ROOT))


def files(disk: MemoryDisk, folder: str) -> Iterator[tuple[str, bytes]]:
    for entry in disk.scan(folder):
        path = f"{folder}/{entry.name}"
        if entry.is_folder:
            yield from files(disk, path)
        else:
            yield path.removeprefix(f"{ROOT}/"), disk.read(path)


def replace(place: Place, name: str, data: bytes | None) -> None:
    if isinstance(place, BucketPlace):
        asyncio.run(put(place.bucket, name, data))
        return
    assert isinstance(place, DiskPlace)
    if data is None:
        place.disk.unlink(f"{ROOT}/{name}")
    else:
        place.disk.overwrite(f"{ROOT}/{name}", data)


async def put(bucket: MemoryBucket, name: str, data: bytes | None) -> None:
    if data is None:
        await bucket.delete([name])
    else:
        await bucket.put(name, data)


def damages(data: bytes, count: int) -> Iterator[tuple[str, bytes | None]]:
    """Ways to damage an object: at so many places a flipped bit, or a byte less; and half of it gone."""
    for offset in sorted({number * (len(data) - 1) // (count - 1) for number in range(count)} if data else ()):
        flipped = bytearray(data)
        flipped[offset] ^= 0x04
        yield f"flipped at {offset}", bytes(flipped)
        yield f"without the byte at {offset}", data[:offset] + data[offset + 1 :]
    yield "cut in half", data[: len(data) // 2]


def hold(case: Case, on: Place, at: int | None, places: int = 4, only: str = "") -> Counter[str]:
    """Damage each object that a life left behind, one by one, and go on. Returns what came of it, counted by kind and outcome."""
    ledger.clear()
    planned, place = case.program, on.fresh()
    if at is None:
        planned.finish(place)
    else:
        planned.kill(place, Point(at))
        place = place.left()
    before, outcomes = list(ledger.entries), Counter[str]()
    for name, data in sorted(objects(place).items()):
        if not kind_of(name).startswith(only):
            continue
        for how, damaged in damages(data, places):
            trial = place.seen()
            replace(trial, name, damaged)
            ledger.clear()
            ledger.entries = list(before)
            survival = planned.finish(trial)
            outcome = judged(case, survival, name, is_last_frame(place, name), f"killed at {at}, {name} {how}")
            outcomes[f"{kind_of(name)}: {outcome}"] += 1
    return outcomes


def judged(case: Case, survival: Survival[Any], name: str, may_repeat: bool, where: str) -> str:
    error = survival.error
    if error is None:
        assert survival.value == case.right, f"{where}: {survival.value!r}"
        assert may_repeat or ledger.again == [], f"{where}: {ledger.again} ran again"
        return "went on"
    assert isinstance(error, HoldfastError), f"{where}: {error!r}"
    assert name.rpartition("/")[2] in str(error), f"{where}: it does not name the object: {error!r}"
    return type(error).__name__


def is_last_frame(place: Place, name: str) -> bool:
    """The end of the newest segment may be torn; what it held was never seen by a later owner, and runs again."""
    return isinstance(place, DiskPlace) and name == max(each for each in objects(place) if kind_of(each) == "journal")


ON = {"disk": DiskPlace(), "bucket": BucketPlace()}


@pytest.mark.parametrize("on", ON)
def test_a_damaged_object_is_named_or_did_not_matter(on: str) -> None:
    outcomes = hold(MIXED, ON[on], 40) + hold(HEAVY, ON[on], {"disk": 100, "bucket": 20}[on])
    assert outcomes["run.json: JournalDamaged"] > 3
    assert outcomes["journal: JournalDamaged"] > 5
    assert outcomes["manifest: went on"] > 3
    assert outcomes["blob: BlobCorrupt"] > 1
    assert outcomes["blob: went on"] > 1


@pytest.mark.slow
def test_a_damaged_snapshot_is_passed_over_for_what_it_stands_for() -> None:
    outcomes = hold(CHAIN, ON["bucket"], LONG, only="snapshot")
    assert outcomes == {"snapshot: went on": 9}


@pytest.mark.campaign
@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("case", [MIXED, HEAVY], ids=["mixed", "heavy"])
@pytest.mark.parametrize("at", [10, 25, 40, 55, 70, None])
def test_a_damaged_byte_is_named_or_did_not_matter_wherever_it_is(on: str, case: Case, at: int | None, record_property: Any) -> None:
    outcomes = hold(case, ON[on], at, places=25)
    for kind in KINDS:
        count = sum(number for outcome, number in outcomes.items() if outcome.startswith(f"{kind}:"))
        if count:
            record_property(f"tried: damaged bytes, {on} in memory, {kind}", count)
