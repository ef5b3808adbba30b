"""Stores for tests: in memory, or over a disk of one's own."""

from __future__ import annotations

from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.protocol import Disk, Folder
from holdfast.folders.threads import at_once
from holdfast.stores import Store

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
