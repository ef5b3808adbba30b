"""What it costs to put, to find again, and to sweep, in requests to an object store."""

from __future__ import annotations

import asyncio

from sweeps.worlds import digest, manifest_key, on_bucket, saved

from holdfast.blobs import LARGE, Blobs
from holdfast.flow import side_by_side
from holdfast.folders.protocol import Page
from holdfast.sweeps import GRACE, SKEW, sweep
from holdfast.testing import Clock
from holdfast.testing.buckets import MemoryBucket
from holdfast.testing.loops import VirtualLoop, run_in


def requests(bucket: MemoryBucket) -> dict[str, int]:
    """Those since the last time."""
    made = dict(bucket.requests)
    bucket.requests.clear()
    return made


def test_a_lone_value_costs_an_intent_and_a_look_beside_itself() -> None:
    async def main() -> None:
        bucket = MemoryBucket()
        blobs = Blobs(on_bucket(bucket), sync=True)
        with blobs.naming() as naming:
            await naming.put(b"x")
        assert requests(bucket) == {"put": 2, "list": 1}  # the intent and the value; the plans
        with blobs.naming() as naming:
            await naming.put(b"y")
        assert requests(bucket) == {"put": 1, "list": 1}  # under the same intent
        await blobs.aclose()
        assert requests(bucket) == {"delete": 1}

    asyncio.run(main())


class SlowBucket(MemoryBucket):
    """Each answer takes 50 ms."""

    async def put(self, name: str, data: bytes) -> None:
        await asyncio.sleep(0.05)
        await super().put(name, data)

    async def list(self, prefix: str, more: str | None = None) -> Page:
        await asyncio.sleep(0.05)
        return await super().list(prefix, more)


def test_many_at_a_time_share_intents_and_looks() -> None:
    async def main() -> None:
        bucket = SlowBucket()
        blobs = Blobs(on_bucket(bucket), sync=True)
        async with blobs.saving() as saving:
            await side_by_side(saving.put, [b"%d" % n for n in range(1000)], width=64)
            await saving.assure()
        made = requests(bucket)
        assert made.pop("put") == 1001
        assert made.pop("stat") == 1
        assert made.pop("list") <= 1000 / 16
        assert made == {}
        await blobs.aclose()

    run_in(VirtualLoop(), main)


def test_a_large_one_that_is_there_already_is_not_sent() -> None:
    async def main() -> None:
        bucket, data = MemoryBucket(), bytes(LARGE)
        store = on_bucket(bucket)
        await saved(store, manifest_key("a", 0), data)
        requests(bucket)
        blobs = Blobs(store, sync=True)
        async with blobs.saving() as saving:
            assert (await saving.put(data, digest(data)))[1] is False
        assert requests(bucket) == {"put": 1, "stat": 1, "touch": 1, "list": 1}
        await blobs.aclose()

    asyncio.run(main())


def test_a_sweep_reads_each_manifest_once_and_lists_the_blobs_twice_where_it_deletes() -> None:
    async def main(clock: Clock) -> None:
        bucket = MemoryBucket()
        store = on_bucket(bucket)
        blobs = Blobs(store, sync=True)
        for n in range(20):
            await saved(store, manifest_key("a", n), *(b"%d-%d" % (n, each) for each in range(30)), blobs=blobs)
        await blobs.aclose()
        clock.advance(GRACE + SKEW + 1)
        requests(bucket)
        assert await sweep(store) == 0
        idle = {"put": 1, "walk": 3, "list": 1, "get": 20, "delete": 1}  # now; gc, runs, blobs; probes; manifests; the probe
        assert requests(bucket) == idle
        for n in range(19):
            await store.delete(manifest_key("a", n))
        requests(bucket)
        assert await sweep(store) > 0
        assert requests(bucket) == {"put": 3, "walk": 4, "list": 1, "get": 1, "delete": 3}  # a plan and its end; 570 blobs in two requests

    clock = Clock(jumps=False)
    with clock.use():
        asyncio.run(main(clock))
