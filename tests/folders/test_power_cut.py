"""What was synced is there and whole after the power came back; what was not may be anything, and nothing else is harmed by it."""

from __future__ import annotations

import random

import pytest

from holdfast.errors import ObjectMissing
from holdfast.folders.local import LocalFolder
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.faults import CrashDisk, SimulatedCrash, When

SEEDS = 2_000


def folder_on(disk: MemoryDisk | CrashDisk) -> LocalFolder:
    return LocalFolder(disk, "/some/store", "memory:")


def found(folder: LocalFolder, key: str) -> bytes | None:
    try:
        return folder.get_sync(key)
    except ObjectMissing:
        return None


class Diary:
    """Random work on a folder, and what the folder may not forget of it."""

    def __init__(self, rng: random.Random) -> None:
        self.disk = MemoryDisk()
        self.kept: dict[str, bytes] = {}  # the last write of the key was synced
        self.there: set[str] = set()  # an earlier one was
        self.logs: dict[str, bytes] = {}  # how each log must begin
        self._rng = rng
        self._processes = [folder_on(self.disk), folder_on(self.disk)]  # each with a memory of its own of what is durable

    def write(self) -> None:
        folder, key, sync = self._rng.choice(self._processes), self._rng.choice(("a", "b/c", "b/d", "e/f/g")), self._rng.random() < 0.6
        data = self._rng.randbytes(self._rng.randint(0, 50))
        if self._rng.random() < 0.5 and not folder.stat_sync(key):
            folder.create_sync(key, data, sync=sync)
        else:
            folder.put_sync(key, data, sync=sync)
        if sync:
            self.kept[key] = data
            self.there.add(key)
        else:
            self.kept.pop(key, None)

    def append(self) -> None:
        folder, key = self._rng.choice(self._processes), self._rng.choice(("log/1", "log/2"))
        if not folder.stat_sync(key):
            folder.create_sync(key, b"")
        log = folder.open_log_sync(key)
        for _ in range(self._rng.randint(0, 3)):
            sync = self._rng.random() < 0.5
            log.append(self._rng.randbytes(20), sync=sync)
            if sync:
                self.logs[key] = self.disk.read(f"/some/store/{key}")
        log.close()

    def remove(self) -> None:
        key = self._rng.choice(("a", "b", "e"))
        self._processes[0].delete_tree_sync(key) if key != "a" else self._processes[0].delete_sync(key)
        for lost in [each for each in self.there | set(self.kept) if each.split("/")[0] == key]:
            self.kept.pop(lost, None)
            self.there.discard(lost)


def test_what_was_synced_survives_whatever_else_is_lost() -> None:
    for seed in range(SEEDS):
        rng = random.Random(seed)
        diary = Diary(rng)
        for _ in range(rng.randint(1, 12)):
            rng.choices((diary.write, diary.append), weights=(4, 2))[0]()
        after = folder_on(diary.disk.power_cut(rng))
        for key, data in diary.kept.items():
            assert after.get_sync(key) == data, f"seed {seed}"
        for key in diary.there:
            assert after.stat_sync(key), f"seed {seed}: {key} was durable, and a rename is old or new"
        for key, prefix in diary.logs.items():
            assert after.get_sync(key).startswith(prefix), f"seed {seed}"


def test_a_tree_that_was_removed_and_written_again_is_durable_again() -> None:
    for seed in range(SEEDS // 10):
        rng = random.Random(seed)
        diary = Diary(rng)
        for _ in range(12):
            rng.choices((diary.write, diary.remove), weights=(4, 1))[0]()
        # another process does not hear of a removal: what it knew to be durable may have been made anew without sync
        again = folder_on(diary.disk)
        for key in ("b/c", "e/f/g"):
            again.put_sync(key, b"last")
        after = folder_on(diary.disk.power_cut(rng))
        assert after.get_sync("b/c") == after.get_sync("e/f/g") == b"last"


def test_a_synced_write_vouches_for_folders_that_were_made_without_sync() -> None:
    for seed in range(SEEDS // 10):
        disk = MemoryDisk()
        folder_on(disk).put_sync("x/y/unsynced", b"", sync=False)
        folder_on(disk).put_sync("x/y/synced", b"1")
        assert folder_on(disk.power_cut(random.Random(seed))).get_sync("x/y/synced") == b"1"


def test_a_synced_write_vouches_for_the_stores_own_folder_and_those_above_that_a_killed_process_made() -> None:
    for at in range(1, 20):
        inner = MemoryDisk()
        try:
            folder_on(CrashDisk(inner, at=at, when="before")).put_sync("x/y", b"1")
        except SimulatedCrash:
            folder_on(inner).put_sync("x/y", b"2")
        for seed in range(10):
            assert folder_on(inner.power_cut(random.Random(seed))).get_sync("x/y") in (b"1", b"2"), f"killed at {at}, seed {seed}"


@pytest.mark.parametrize("when", ["before", "after", "torn"])
def test_create_is_whole_or_absent_wherever_the_power_goes(when: When) -> None:
    for at in range(1, 20):
        for seed in range(20):
            inner = MemoryDisk()
            folder_on(inner).put_sync("other", b"other")
            disk = CrashDisk(inner, at=at, when=when)
            try:
                folder_on(disk).create_sync("a/b/c", b"whole")
            except SimulatedCrash:
                acknowledged = False
            else:
                acknowledged = True
            for after in (folder_on(inner.copy()), folder_on(inner.power_cut(random.Random(seed)))):
                assert found(after, "a/b/c") in ([b"whole"] if acknowledged else [b"whole", None])
                assert after.get_sync("other") == b"other"
                assert not any(entry.name.startswith(".tmp-") for entry in after.list_sync(""))


@pytest.mark.parametrize("when", ["before", "after", "torn"])
def test_put_leaves_the_old_or_the_new_wherever_the_power_goes(when: When) -> None:
    for at in range(1, 8):
        for seed in range(20):
            inner = MemoryDisk()
            folder_on(inner).put_sync("a", b"old")
            disk = CrashDisk(inner, at=at, when=when)
            try:
                folder_on(disk).put_sync("a", b"the new")
            except SimulatedCrash:
                allowed = {b"old", b"the new"}
            else:
                allowed = {b"the new"}
            assert folder_on(inner.copy()).get_sync("a") in allowed
            assert folder_on(inner.power_cut(random.Random(seed))).get_sync("a") in allowed


def test_the_model_is_unkind_enough_to_prove_something() -> None:
    """Each thing that a file system may do to unsynced data happens in some seed."""
    seen: set[bytes | None] = set()
    for seed in range(SEEDS):
        disk = MemoryDisk()
        folder_on(disk).put_sync("other", b"")
        folder_on(disk).put_sync("a", b"12", sync=False)
        seen.add(found(folder_on(disk.power_cut(random.Random(seed))), "a"))
    assert {None, b"", b"1", b"12", b"\0\0", b"1\0", b"\0" + b"2"} < seen


def test_a_name_that_was_removed_without_sync_may_come_back_whole() -> None:
    seen: set[bytes | None] = set()
    for seed in range(50):
        disk = MemoryDisk()
        folder_on(disk).put_sync("a", b"12")
        folder_on(disk).delete_sync("a")
        seen.add(found(folder_on(disk.power_cut(random.Random(seed))), "a"))
    assert seen == {None, b"12"}


def test_a_power_cut_changes_nothing_on_the_disk_that_goes_on() -> None:
    disk = MemoryDisk()
    folder_on(disk).put_sync("a", b"12", sync=False)
    for seed in range(50):
        disk.power_cut(random.Random(seed))
    assert folder_on(disk).get_sync("a") == b"12"


def test_a_killed_process_loses_nothing_that_it_wrote_but_its_locks() -> None:
    disk = MemoryDisk()
    folder = folder_on(disk)
    folder.put_sync("a", b"12", sync=False)
    assert not isinstance(folder.hold_sync("lock", b"me"), bytes)
    after = folder_on(disk.copy())
    assert after.get_sync("a") == b"12"
    assert after.held_sync("lock") is None
    assert folder.held_sync("lock") == b"me"
