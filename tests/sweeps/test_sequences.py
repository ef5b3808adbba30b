"""Any sequence of saves, values, deletions, sweeps, deaths and waiting: what is named is there, and in the end nothing else."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps.worlds import DAY, blobs_in, digest, manifest, manifest_key, on_bucket, on_disk, save

from holdfast.blobs import LARGE, Blobs
from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.objects import ObjectFolder
from holdfast.sweeps import Broom, sweep
from holdfast.testing import Clock
from holdfast.testing.buckets import MemoryBucket

Step: TypeAlias = tuple[str, int]

CONTENTS = (b"a", b"b", b"c", bytes(LARGE))
STEPS = st.lists(
    st.tuples(st.sampled_from(["save", "keep one", "value", "forget", "die", "sweep", "broom", "wait"]), st.integers(0, 15)), max_size=40
)
WAITS = (1.0, 59.0, 601.0, 661.0, 3661.0, DAY / 2, DAY + 1, 31 * DAY)


class Store:
    """One action that saves, one that records values, and all who sweep."""

    def __init__(self, folder: ObjectFolder | LocalFolder, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.blobs = Blobs(folder, sync=True, run_id="r", epoch=1)
        self.broom = Broom(folder, run_id="r", epoch=1)
        self.saved: dict[str, dict[str, str]] = {}
        self.values: dict[str, str] = {}
        self.n = 0

    async def do(self, step: str, n: int) -> None:
        self.n += 1
        contents = [data for bit, data in enumerate(CONTENTS) if n & (1 << bit)]
        match step:
            case "save":
                newest = next(reversed(self.saved.values()), {})
                key = manifest_key("a", self.n)
                async with self.blobs.saving() as saving:
                    handed_on = {digest(data): newest[digest(data)] for data in contents if digest(data) in newest}
                    self.saved[key] = await save(self.folder, saving, key, contents, handed_on)
            case "keep one":
                *old, newest_key = [*self.saved] or [""]
                for key in old:
                    await self.folder.delete(key)
                    self.broom.drop(set(self.saved.pop(key).values()) - set(self.saved[newest_key].values()))
            case "value":
                with self.blobs.naming() as naming:
                    data = CONTENTS[n % len(CONTENTS)]
                    key = manifest_key("values", self.n)
                    self.values[key] = await naming.put(data, digest(data))
                    await self.folder.create(key, manifest({digest(data): self.values[key]}))
            case "forget":
                for key in [*self.values][:1]:
                    del self.values[key]
                    await self.folder.delete(key)
            case "die":
                dying = self.blobs.naming()
                for data in contents:
                    await dying.put(data, digest(data))  # and its block is never left
                self.blobs = Blobs(self.folder, sync=True, run_id="r", epoch=1)
            case "sweep":
                await sweep(self.folder, grace=WAITS[n % 5])
            case "broom":
                await self.broom.sweep()
            case _:
                self.clock.advance(WAITS[n % len(WAITS)])

    def named(self) -> set[str]:
        return {name for names in self.saved.values() for name in names.values()} | set(self.values.values())


async def live(folder: ObjectFolder | LocalFolder, steps: list[Step], clock: Clock) -> None:
    store = Store(folder, clock)
    for step, n in steps:
        await store.do(step, n)
        assert store.named() <= await blobs_in(folder)
    await store.blobs.aclose()
    for _ in range(3):
        clock.advance(31 * DAY)
        await sweep(folder)
    assert await blobs_in(folder) == store.named()
    assert await folder.walk("gc") == ()


@given(STEPS, st.booleans())
@settings(deadline=None, max_examples=150)
def test_what_is_named_is_there_after_each_step_and_alone_in_the_end(steps: list[Step], is_disk: bool) -> None:
    clock = Clock(jumps=False)
    with clock.use():
        asyncio.run(live(on_disk(MemoryDisk()) if is_disk else on_bucket(MemoryBucket()), steps, clock))
