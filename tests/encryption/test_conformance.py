"""An encrypted folder keeps the laws of the one below it."""

from __future__ import annotations

from pathlib import Path

from holdfast.folders.encrypted import EncryptedFolder
from holdfast.folders.opening import open_folder
from holdfast.folders.protocol import Folder
from holdfast.testing.buckets import MemoryBucket, bucket_folder
from holdfast.testing.conformance_folders import FolderConformance, LogsConformance

KEY = bytes(range(32))


class TestPath(LogsConformance):
    def open(self, place: Path) -> Folder:
        return EncryptedFolder(open_folder(place), KEY)


class TestMemory(LogsConformance):
    def open(self, place: Path) -> Folder:
        return EncryptedFolder(open_folder(f"memory://{place.as_posix().replace('/', '-')}"), KEY)


class TestObjectsInMemory(FolderConformance):
    def open(self, place: Path) -> Folder:
        return EncryptedFolder(bucket_folder(_buckets.setdefault(place, MemoryBucket())), KEY)


_buckets: dict[Path, MemoryBucket] = {}
