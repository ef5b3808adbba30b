"""Stores for tests: in memory, or over a disk or a bucket of one's own."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.patience import Patience
from holdfast.folders.protocol import Bucket, Disk, Folder
from holdfast.folders.threads import at_once
from holdfast.stores import Store
from holdfast.testing.bucket_faults import Fault, FaultyBucket
from holdfast.testing.buckets import MemoryBucket, bucket_folder

ROOT = "/store"


def memory_folder(disk: Disk | None = None) -> Folder:
    """A folder on a disk in memory, by default a new one. Its operations never leave the thread that asks for them."""
    return LocalFolder(disk if disk is not None else MemoryDisk(), ROOT, "memory:", run=at_once)


def memory_store(disk: Disk | None = None) -> Store:
    """A new store in memory, which nobody else has.

    Example::

        store = memory_store()
        asyncio.run(run(main(), run_name="nightly", store=store))
        assert store.state_sync("nightly").status is Status.COMPLETED

    Args:
        disk: Where it lies; for instance a `FullDisk` or `CrashDisk` over a `MemoryDisk`. Two stores on one disk are one store.
    """
    return Store.on(memory_folder(disk))


def bucket_store(faults: Iterable[Fault] = (), *, bucket: Bucket | None = None, patience: Patience | None = None, seed: int = 0) -> Store:
    """A new object store in memory, which nobody else has, and which answers as `faults` say.

    Example::

        store = bucket_store([Fault("create", "*/journal/*", applied=True, every=3)])
        with Clock().use():
            asyncio.run(run(main(), run_name="nightly", store=store))

    Args:
        faults: What goes wrong with which operations. See `Fault`.
        bucket: Where the objects lie; two stores on one bucket are one store. A `FaultyBucket` of one's own tells afterwards what happened.
        patience: When the store is asked again; by default as any other object store.
        seed: For faults with a `chance`.
    """
    inside = bucket if bucket is not None else MemoryBucket()
    listed = tuple(faults)
    return Store.on(bucket_folder(FaultyBucket(inside, listed, seed=seed) if listed else inside, patience=patience))
