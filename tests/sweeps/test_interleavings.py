"""Whatever is named by something durable is there: in any order of steps, whoever stands still for how long, whoever dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from sweeps.worlds import DAY, Killed, LateBucket, Process, blobs_in, digest, manifest, manifest_key, on_bucket, on_disk, save

from holdfast.blobs import CHUNK, Blobs, blob_key
from holdfast.checkpoints.generations import NAMES_BLOBS, blobs_named, unsealed
from holdfast.errors import StoreUnavailable
from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.protocol import Entry
from holdfast.sweeps import Broom, sweep
from holdfast.testing.buckets import MemoryBucket
from holdfast.testing.loops import run_shuffled

SEEDS = range(12)
#: Small ones, and one that is asked for before it is sent.
CONTENTS = (b"a", b"b", b"c" * 300_000)
SHORT = (0.0, 0.0, 0.0, 10.0)
LONG = (*[0.0] * 12, 60.0, 800.0, 4000.0)


class Witness:
    """Looks after each change of the store whether everything named is there."""

    def __init__(self, store: ObjectFolder | LocalFolder) -> None:
        self.store = store
        self.deleted = 0

    async def look(self) -> None:
        there = await blobs_in(self.store)
        for entry in await self.store.walk("runs"):
            missing = blobs_named(unsealed(await self.store.get(f"runs/{entry.name}"))) - there
            assert not missing, f"{entry.name} names what is gone: {missing}"


class Watched(Process):
    """A process, each of whose changes is looked at."""

    witness: Witness

    async def create(self, key: str, data: bytes, *, sync: bool = True) -> None:
        await super().create(key, data, sync=sync)
        if key.endswith(NAMES_BLOBS):
            await self.witness.look()

    async def delete(self, *keys: str) -> None:
        await super().delete(*keys)
        if keys and keys[0].startswith("blobs/"):
            self.witness.deleted += len(keys)
            await self.witness.look()


class World:
    """Savers of two actions, and two sweepers, of which each may be killed."""

    def __init__(self, seed: int, store: ObjectFolder | LocalFolder) -> None:
        self.rng = random.Random(seed)
        self.witness = Witness(store)
        self.store = store
        self.pauses = self.rng.choice((SHORT, LONG))
        self.mortal = self.rng.random() < 0.3

    def process(self) -> Watched:
        dies_at = self.rng.randrange(5, 60) if self.mortal and self.rng.random() < 0.5 else None
        process = Watched(self.store, random.Random(self.rng.random()), pauses=self.pauses, dies_at=dies_at)
        process.witness = self.witness
        return process

    async def go(self) -> None:
        """All of it begins in a store that is full of old blobs, which nothing names and anybody may find."""
        for data in CONTENTS:
            for kind in ("", CHUNK):
                await self.store.put(blob_key(f"{digest(data)}{kind}"), data)
        await asyncio.sleep(7200.0)
        await asyncio.gather(
            self._alive(self.saver("one")),
            self._alive(self.saver("two")),
            self._alive(self.recorder()),
            self._alive(self.sweeper()),
            self._alive(self.sweeper()),
        )

    async def idle(self) -> None:
        """Nothing to do, for so long that sweepers get at what is there."""
        await asyncio.sleep(self.rng.choice((0.0, 1.0, 30.0, 2000.0, 8000.0)) * self.rng.random())

    async def _alive(self, work: object) -> None:
        try:
            await work  # type: ignore[misc]
        except Killed:
            pass

    async def saver(self, action: str) -> None:
        """Saves generations that hand on what is equal, keeps one or two, and sweeps after itself."""
        process, rng = self.process(), self.rng
        blobs = Blobs(process, sync=True, run_id="r", epoch=1)
        broom = Broom(process, run_id="r", epoch=1)
        kept: list[tuple[str, dict[str, str]]] = []
        keep = rng.choice((1, 2))
        for n in range(rng.randrange(1, 5)):
            await self.idle()
            contents = rng.sample(CONTENTS, rng.randrange(1, 3))
            newest = kept[-1][1] if kept else {}
            handed_on = {digest(data): newest[digest(data)] for data in contents if digest(data) in newest}
            key = manifest_key(action, n)
            try:
                async with blobs.saving() as saving:
                    names = await save(process, saving, key, contents, handed_on)
            except StoreUnavailable:
                continue  # it took half a day: nothing was saved, and that was said
            kept.append((key, names))
            for old, held in kept[:-keep]:
                await process.delete(old)
                still = {name for _, later in kept[-keep:] for name in later.values()}
                broom.drop(set(held.values()) - still)
            kept = kept[-keep:]
            if rng.random() < 0.5:
                await broom.sweep()
        await broom.aclose()
        await blobs.aclose()

    async def recorder(self) -> None:
        """Puts values, as attempts do, and records them."""
        process, rng = self.process(), self.rng
        blobs = Blobs(process, sync=True)
        for n in range(rng.randrange(1, 5)):
            await self.idle()
            with blobs.naming() as naming:
                data = rng.choice(CONTENTS)
                name = await naming.put(data, digest(data))
                await process.create(manifest_key("values", n), manifest({digest(data): name}))
            if rng.random() < 0.3:
                await process.delete(manifest_key("values", n))
        await blobs.aclose()

    async def sweeper(self) -> None:
        process, rng = self.process(), self.rng
        for _ in range(rng.randrange(1, 4)):
            await self.idle()
            await sweep(process, grace=rng.choice((0.0, 3600.0)))


async def settled(store: ObjectFolder | LocalFolder) -> None:
    """Sweep until nothing is left that could go: intents and plans of the dead go after their time."""
    for _ in range(4):
        await asyncio.sleep(40 * DAY)
        await sweep(store)


async def names_in(store: ObjectFolder | LocalFolder) -> set[str]:
    named: set[str] = set()
    for entry in await store.walk("runs"):
        named |= blobs_named(unsealed(await store.get(f"runs/{entry.name}")))
    return named


async def live(seed: int, store: ObjectFolder | LocalFolder) -> int:
    world = World(seed, store)
    await world.go()
    await world.witness.look()
    await settled(store)
    assert await blobs_in(store) == await names_in(store)
    assert await names_of_notes(store) == []
    return world.witness.deleted


async def names_of_notes(store: ObjectFolder | LocalFolder) -> Sequence[Entry]:
    return list(await store.walk("gc"))


def places(seed: int) -> dict[str, ObjectFolder | LocalFolder]:
    return {
        "bucket": on_bucket(MemoryBucket()),
        "late bucket": on_bucket(LateBucket(random.Random(seed), lost=0.05)),
        "disk": on_disk(MemoryDisk()),
    }


def lived(seed: int, place: str) -> int:
    return run_shuffled(lambda: live(seed, places(seed)[place]), seed)


PLACES = ["bucket", "late bucket", "disk"]


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_what_is_named_is_there_in_any_order_and_what_is_not_goes_in_the_end(place: str) -> None:
    deleted = sum(lived(seed, place) for seed in SEEDS)
    assert deleted > len(SEEDS)  # the sweepers did sweep while the savers saved


@pytest.mark.campaign
@pytest.mark.parametrize("place", PLACES)
def test_the_same_for_thousands_of_orders(place: str) -> None:
    for seed in range(3_000):
        lived(seed, place)
