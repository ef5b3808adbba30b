"""Places in which time can be made to pass."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweeps.worlds import on_bucket, on_disk

from holdfast.folders.encrypted import EncryptedFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.opening import open_folder
from holdfast.folders.protocol import Folder
from holdfast.testing import Clock
from holdfast.testing.buckets import MemoryBucket


class Place:
    """A store, and its clock."""

    def __init__(self, store: Folder, clock: Clock, root: Path | None) -> None:
        self.store = store
        self.clock = clock
        self._root = root

    def later(self, seconds: float) -> None:
        """Time passes: in a real directory, everything in it gets older."""
        self.clock.advance(seconds)
        if self._root is not None:
            for path in self._root.rglob("*"):
                if path.is_file():
                    known = path.stat()
                    os.utime(path, (known.st_atime - seconds, known.st_mtime - seconds))


@pytest.fixture(params=["bucket", "memory disk", "directory", "encrypted bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    clock = Clock(jumps=False)
    with clock.use():
        match request.param:
            case "bucket":
                yield Place(on_bucket(MemoryBucket()), clock, None)
            case "memory disk":
                yield Place(on_disk(MemoryDisk()), clock, None)
            case "encrypted bucket":
                yield Place(EncryptedFolder(on_bucket(MemoryBucket()), bytes(32)), clock, None)
            case _:
                yield Place(open_folder(tmp_path / "store"), clock, tmp_path / "store")
