"""The places that ship keep the laws."""

from __future__ import annotations

from pathlib import Path

from holdfast.folders.disk import OsDisk
from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import named
from holdfast.folders.opening import open_folder
from holdfast.folders.protocol import Folder
from holdfast.folders.threads import in_thread
from holdfast.testing.buckets import MemoryBucket, bucket_folder
from holdfast.testing.conformance_folders import FolderConformance, LogsConformance
from holdfast.testing.faults import CrashDisk, FullDisk


class TestPath(LogsConformance):
    def open(self, place: Path) -> Folder:
        return open_folder(place)


class TestMemory(LogsConformance):
    def open(self, place: Path) -> Folder:
        return open_folder(f"memory://{place.as_posix().replace('/', '-')}")


class TestMemoryInThreads(LogsConformance):
    def open(self, place: Path) -> Folder:
        return LocalFolder(named(str(place)), "/place", "memory:place", run=in_thread)


class TestDisksThatDoNotFail(LogsConformance):
    def open(self, place: Path) -> Folder:
        return LocalFolder(FullDisk(CrashDisk(OsDisk()), after_bytes=1 << 30), str(place), place.as_uri())


class TestObjectsInMemory(FolderConformance):
    def open(self, place: Path) -> Folder:
        return bucket_folder(_buckets.setdefault(place, MemoryBucket()))


_buckets: dict[Path, MemoryBucket] = {}
