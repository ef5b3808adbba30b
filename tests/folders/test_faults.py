"""The disks that fail do so where they were told to, and nowhere else."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import ObjectExists, StoreFull, StoreInvalid, StorePermission, StoreUnavailable, StoreUnfenced
from holdfast.folders.disk import OsDisk
from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.opening import open_folder
from holdfast.folders.protocol import Disk, FileOnDisk
from holdfast.testing.faults import CrashDisk, FullDisk, SimulatedCrash, cut, flip_byte


def folder_on(disk: Disk) -> LocalFolder:
    return LocalFolder(disk, "/store", "memory:")


def made(disk: MemoryDisk) -> MemoryDisk:
    disk.make_folder("/store")
    return disk


def test_each_write_goes_through_its_steps_in_order() -> None:
    disk = CrashDisk(made(MemoryDisk()))
    folder = folder_on(disk)
    folder.create_sync("a", b"")
    assert disk.operations == [
        "write_new store/.tmp-*",
        "sync store/.tmp-*",
        "link store/a",
        "unlink store/.tmp-*",
        "sync_folder store",
        "sync_folder ",
    ]
    disk.operations.clear()
    folder.put_sync("a", b"")
    assert disk.operations == ["write_new store/.tmp-*", "sync store/.tmp-*", "rename store/a", "sync_folder store"]
    disk.operations.clear()
    folder.put_sync("a", b"", sync=False)
    assert disk.operations == ["write_new store/.tmp-*", "rename store/a"]


def test_each_new_folder_is_synced_where_its_name_stands() -> None:
    disk = CrashDisk(MemoryDisk())
    folder = folder_on(disk)
    folder.put_sync("a/b/c", b"")
    assert [each for each in disk.operations if "folder" in each] == [
        "make_folder store/a/b",
        "make_folder store/a",
        "make_folder store",
        "sync_folder ",
        "make_folder store/a",
        "make_folder store/a/b",
        "sync_folder store/a/b",
        "sync_folder store/a",
        "sync_folder store",
        "sync_folder ",
    ]
    disk.operations.clear()
    folder.put_sync("a/b/d", b"")
    assert [each for each in disk.operations if "folder" in each] == ["sync_folder store/a/b"]


@pytest.mark.parametrize(("when", "found"), [("before", b""), ("torn", b"12"), ("after", b"1234")])
def test_a_crash_is_before_after_or_in_the_middle(when: str, found: bytes) -> None:
    inner = made(MemoryDisk())
    folder_on(inner).create_sync("log", b"")
    log = folder_on(CrashDisk(inner, at=1, when=when)).open_log_sync("log")  # type: ignore[arg-type]
    with pytest.raises(SimulatedCrash):
        log.append(b"1234", sync=True)
    assert inner.read("/store/log") == found


def test_after_the_crash_nothing_works_and_nothing_is_held() -> None:
    inner = made(MemoryDisk())
    disk = CrashDisk(inner, at=3)
    folder = folder_on(disk)
    folder.hold_sync("lock", b"me")
    with pytest.raises(SimulatedCrash):
        folder.create_sync("a", b"")
    assert disk.crashed
    assert folder_on(inner).held_sync("lock") is None
    for verb in ("get", "delete", "stat", "touch", "list", "walk", "open_log", "held"):
        with pytest.raises(SimulatedCrash):
            getattr(folder, f"{verb}_sync")("a")
    assert len(disk.operations) == 3


@pytest.mark.parametrize("verb", ["put", "create"])
def test_a_full_disk_keeps_what_it_had_and_shows_nothing_new(verb: str) -> None:
    inner = made(MemoryDisk())
    disk = FullDisk(inner, after_bytes=10)
    folder = folder_on(disk)
    folder.put_sync("old", b"123456")
    with pytest.raises(StoreFull, match="free some space"):
        getattr(folder, f"{verb}_sync")("new", b"123456")
    assert [entry.name for entry in inner.scan("/store")] == ["old"]
    disk.free()
    getattr(folder, f"{verb}_sync")("new", b"123456")
    assert folder.get_sync("old") == folder.get_sync("new") == b"123456"


def test_a_full_disk_keeps_a_part_of_what_is_appended() -> None:
    inner = made(MemoryDisk())
    disk = FullDisk(inner, after_bytes=3)
    folder_on(inner).create_sync("log", b"")
    log = folder_on(disk).open_log_sync("log")
    log.append(b"12", sync=True)
    with pytest.raises(StoreFull):
        log.append(b"34", sync=True)
    assert inner.read("/store/log") == b"123"


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """256 KiB of real space."""
    place = tmp_path / "tiny"
    place.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root mounts a tmpfs")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not possible here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_really_full_disk_is_named_and_left_as_it_was(tiny: Path) -> None:
    async def fill() -> None:
        folder = open_folder(tiny)
        await folder.put("a", bytes(100_000))
        for attempt in (folder.put("a", bytes(200_000)), folder.create("b", bytes(200_000))):
            with pytest.raises(StoreFull):
                await attempt
        assert [entry.name for entry in await asyncio.to_thread(OsDisk().scan, str(tiny))] == ["a"]
        assert await folder.get("a") == bytes(100_000)
        await folder.delete("a")
        await folder.put("a", bytes(200_000))

    asyncio.run(fill())


class LinkFails(MemoryDisk):
    """A disk on which linking ends with an error, after it was applied or instead."""

    def __init__(self, code: int, *, applied: bool) -> None:
        super().__init__()
        self.make_folder("/store")
        self._code, self._applied = code, applied

    def link(self, source: str, target: str) -> None:
        if self._applied:
            super().link(source, target)
        raise OSError(self._code, os.strerror(self._code), target)


@pytest.mark.parametrize("code", [errno.EEXIST, errno.EIO])
def test_a_link_that_was_applied_and_answered_with_an_error_is_a_success(code: int) -> None:
    disk = LinkFails(code, applied=True)
    folder_on(disk).create_sync("a", b"1")
    assert [entry.name for entry in disk.scan("/store")] == ["a"]


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.EEXIST, ObjectExists), (errno.EIO, StoreUnavailable), (errno.EPERM, StoreUnfenced), (errno.EOPNOTSUPP, StoreUnfenced)],
)
def test_a_link_that_failed_is_told_apart_and_cleaned_up(code: int, error: type[Exception]) -> None:
    disk = LinkFails(code, applied=False)
    with pytest.raises(error) as caught:
        folder_on(disk).create_sync("a", b"1")
    assert isinstance(caught.value.__cause__, OSError)
    assert not disk.scan("/store")


class WritesFail(MemoryDisk):
    def __init__(self, code: int) -> None:
        super().__init__()
        self._code = code

    def write_new(self, path: str, data: bytes) -> FileOnDisk:
        raise OSError(self._code, os.strerror(self._code), path)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.EROFS, StorePermission),
        (errno.EACCES, StorePermission),
        (errno.ENOTDIR, StoreInvalid),
        (errno.EDQUOT, StoreFull),
        (errno.ESTALE, StoreUnavailable),
    ],
)
def test_what_the_disk_says_is_translated_once(code: int, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        folder_on(made(WritesFail(code))).put_sync("a", b"")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == code


def test_a_root_that_is_a_file_can_not_be_a_store(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_bytes(b"mine")
    folder = LocalFolder(OsDisk(), str(root), root.as_uri())
    for attempt in (
        lambda: folder.put_sync("a", b""),
        lambda: folder.get_sync("a"),
        lambda: folder.list_sync(""),
        lambda: folder.delete_sync("a"),
    ):
        with pytest.raises(StoreInvalid):
            attempt()
    assert root.read_bytes() == b"mine"


def test_damage_is_done_to_one_file() -> None:
    disk = made(MemoryDisk())
    folder = folder_on(disk)
    folder.put_sync("a", b"abc")
    flip_byte(disk, "/store/a", -1)
    assert folder.get_sync("a") == b"ab" + bytes([ord("c") ^ 0xFF])
    cut(disk, "/store/a", 1)
    assert folder.get_sync("a") == b"a"
