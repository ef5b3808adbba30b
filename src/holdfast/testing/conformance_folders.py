"""The laws that every `Folder` keeps. An adapter passes by inheriting them::

    class TestMyFolder(FolderConformance):
        def open(self, place: Path) -> Folder:
            return MyFolder(...)

`open` is called inside the event loop that uses the folder; with the same `place` (an empty local folder, new for each law) it opens
the same folder again. A place with files that grow inherits from `LogsConformance`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from holdfast.errors import InvalidName, ObjectExists, ObjectMissing
from holdfast.folders.protocol import Entry, Folder, Logs

C = TypeVar("C", bound="FolderConformance")

GOOD_KEYS = ("a", "a/b", "a/b/c", ".hidden", "with space", "ünïcode", "a:b", "~", "#", "%41", "%", "x" * 255)
BAD_KEYS = ("", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "../a", "a\\b", "a\0b", ".tmp-1", "a/.tmp-1/b", "x" * 256)


def _law(body: Callable[[C, Folder, Path], Awaitable[None]]) -> Callable[[C, Path], None]:
    """Run `body` on a fresh folder, in a loop of its own, so that no plugin is needed."""

    @functools.wraps(body)
    def test(self: C, tmp_path: Path) -> None:
        async def opened() -> None:
            folder = self.open(tmp_path / "place")
            try:
                await body(self, folder, tmp_path)
            finally:
                await folder.aclose()

        asyncio.run(opened())

    del vars(test)["__wrapped__"]  # by which pytest would take the arguments of `body` for fixtures
    return test


class FolderConformance:
    """Inherit, and say how to open a folder."""

    def open(self, place: Path) -> Folder:
        raise NotImplementedError

    # objects

    @_law
    async def test_what_was_put_is_got(self, folder: Folder, tmp_path: Path) -> None:
        for data in (b"", b"x", bytes(range(256)) * 1000):
            await folder.put("a/b", data)
            assert await folder.get("a/b") == data

    @_law
    async def test_what_was_put_without_sync_is_got_too(self, folder: Folder, tmp_path: Path) -> None:
        await folder.put("a", b"1", sync=False)
        await folder.create("b", b"2", sync=False)
        assert await folder.get("a") + await folder.get("b") == b"12"

    @_law
    async def test_put_replaces(self, folder: Folder, tmp_path: Path) -> None:
        await folder.put("a", b"a longer first value")
        await folder.put("a", b"second")
        assert await folder.get("a") == b"second"

    @_law
    async def test_create_succeeds_once(self, folder: Folder, tmp_path: Path) -> None:
        await folder.create("a/b", b"first")
        with pytest.raises(ObjectExists):
            await folder.create("a/b", b"second")
        assert await folder.get("a/b") == b"first"

    @_law
    async def test_one_of_many_creators_wins(self, folder: Folder, tmp_path: Path) -> None:
        async def create(data: bytes) -> bytes | None:
            try:
                await folder.create("a/b", data)
            except ObjectExists:
                return None
            return data

        ends = await asyncio.gather(*(create(b"%d" % n) for n in range(20)))
        (winner,) = [end for end in ends if end is not None]
        assert await folder.get("a/b") == winner

    @_law
    async def test_create_does_not_replace_what_was_put(self, folder: Folder, tmp_path: Path) -> None:
        await folder.put("a", b"put")
        with pytest.raises(ObjectExists):
            await folder.create("a", b"created")
        assert await folder.get("a") == b"put"

    @_law
    async def test_a_deleted_name_is_free_again(self, folder: Folder, tmp_path: Path) -> None:
        await folder.create("a", b"1")
        await folder.delete("a")
        await folder.create("a", b"2")
        assert await folder.get("a") == b"2"

    @_law
    async def test_absence_has_its_own_error(self, folder: Folder, tmp_path: Path) -> None:
        await folder.put("a/b", b"")
        for key in ("b", "a/c", "c/d/e"):
            with pytest.raises(ObjectMissing):
                await folder.get(key)
            with pytest.raises(ObjectMissing):
                await folder.touch(key)

    @_law
    async def test_deleting_what_is_absent_is_no_error(self, folder: Folder, tmp_path: Path) -> None:
        await folder.delete("a/b/c")
        await folder.delete_tree("a/b")
        await folder.put("a", b"")
        await folder.delete("b", "c/d")
        await folder.delete()

    @_law
    async def test_several_objects_are_deleted_at_once(self, folder: Folder, tmp_path: Path) -> None:
        for key in ("a/1", "a/2", "b", "c"):
            await folder.put(key, b"")
        await folder.delete("a/1", "b", "absent", "a/2")
        assert [entry.name for entry in await folder.walk("")] == ["c"]

    @_law
    async def test_a_stat_knows_an_object_by_its_last_name_and_size(self, folder: Folder, tmp_path: Path) -> None:
        assert await folder.stat("a/b") is None
        await folder.put("a/b", b"123")
        found = await folder.stat("a/b")
        assert found is not None
        assert (found.name, found.is_folder, found.size) == ("b", False, 3)
        await folder.delete("a/b")
        assert await folder.stat("a/b") is None

    @_law
    async def test_every_way_to_look_tells_the_same_time_of_modification(self, folder: Folder, tmp_path: Path) -> None:
        await folder.put("a/b", b"123")
        found = await folder.stat("a/b")
        (listed,) = await folder.list("a")
        (walked,) = await folder.walk("")
        assert found is not None
        assert found.modified > 0
        # some places list a time to the millisecond and tell it to the second
        assert abs(listed.modified - found.modified) <= 1
        assert abs(walked.modified - found.modified) <= 1

    @_law
    async def test_a_touch_keeps_the_bytes_and_never_moves_the_time_back(self, folder: Folder, tmp_path: Path) -> None:
        await folder.put("a", b"123")
        before = await folder.stat("a")
        await folder.touch("a")
        after = await folder.stat("a")
        assert before is not None
        assert after is not None
        assert after.modified >= before.modified
        assert await folder.get("a") == b"123"

    # names

    @_law
    async def test_every_good_key_comes_back_from_the_list(self, folder: Folder, tmp_path: Path) -> None:
        for key in GOOD_KEYS:
            inside = folder.child("keys").child(f"k{GOOD_KEYS.index(key)}")
            await inside.put(key, key.encode())
            assert await inside.get(key) == key.encode()
            assert [entry.name for entry in await inside.list("")] == [key.split("/")[0]]

    @_law
    async def test_a_bad_key_is_refused_by_every_verb(self, folder: Folder, tmp_path: Path) -> None:
        await folder.put("a", b"")
        for key in BAD_KEYS:
            verbs: tuple[Callable[[str], Awaitable[object]], ...] = (
                folder.get,
                folder.stat,
                folder.touch,
                folder.delete,
                lambda key: folder.put(key, b""),
                lambda key: folder.create(key, b""),
            )
            if (logs := folder.logs) is not None:
                verbs = (*verbs, logs.open_log, logs.held, functools.partial(logs.hold, who=b""))
            for verb in verbs:
                with pytest.raises(InvalidName):
                    await verb(key)
            with pytest.raises(InvalidName):
                folder.child(key)
        assert [entry.name for entry in await folder.list("")] == ["a"]

    @_law
    async def test_a_list_is_sorted_and_one_level_deep(self, folder: Folder, tmp_path: Path) -> None:
        for key in ("b", "a/x", "a/y/z", "c", "B"):
            await folder.put(key, b"12")
        assert _plain(await folder.list("")) == [("B", False, 2), ("a", True, 0), ("b", False, 2), ("c", False, 2)]
        assert _plain(await folder.list("a")) == [("x", False, 2), ("y", True, 0)]

    @_law
    async def test_a_walk_finds_every_object_however_deep(self, folder: Folder, tmp_path: Path) -> None:
        for key in ("b", "a/x", "a/y/z", "c", "B", "ab/x"):
            await folder.put(key, b"12")
        assert _plain(await folder.walk("")) == [(name, False, 2) for name in ("B", "a/x", "a/y/z", "ab/x", "b", "c")]
        assert _plain(await folder.walk("a")) == [("x", False, 2), ("y/z", False, 2)]
        assert not await folder.walk("nowhere")

    @_law
    async def test_what_another_opening_wrote_or_deleted_is_seen_at_once(self, folder: Folder, tmp_path: Path) -> None:
        other = self.open(tmp_path / "place")
        await folder.list("a")
        await folder.stat("a/x")
        await other.put("a/x", b"1")
        assert _plain(await folder.list("a")) == [("x", False, 1)]
        assert await folder.get("a/x") == b"1"
        await other.put("a/x", b"12")
        assert _plain(await folder.walk("")) == [("a/x", False, 2)]
        await other.delete("a/x")
        assert not await folder.list("a")
        assert await folder.stat("a/x") is None
        await other.aclose()

    @_law
    async def test_a_list_of_what_is_absent_is_empty(self, folder: Folder, tmp_path: Path) -> None:
        assert not await folder.list("")
        assert not await folder.list("a/b")

    @_law
    async def test_only_finished_writes_are_listed(self, folder: Folder, tmp_path: Path) -> None:
        async def look() -> set[str]:
            return {entry.name for _ in range(30) for entry in await folder.list("a")}

        looks = [asyncio.ensure_future(look()) for _ in range(3)]
        await asyncio.gather(*(folder.put(f"a/{n}", b"x" * 10_000, sync=False) for n in range(30)))
        for seen in await asyncio.gather(*looks):
            assert seen <= {str(n) for n in range(30)}

    @_law
    async def test_deleting_a_tree_leaves_its_neighbours(self, folder: Folder, tmp_path: Path) -> None:
        for key in ("a/x", "a/y/z/1", "a/y/z/2", "ab", "b/a/x"):
            await folder.put(key, b"")
        await folder.delete_tree("a")
        assert [entry.name for entry in await folder.list("")] == ["ab", "b"]
        assert await folder.stat("b/a/x")
        await folder.put("a/x", b"again")
        assert await folder.get("a/x") == b"again"

    @_law
    async def test_a_child_is_the_same_place_from_below(self, folder: Folder, tmp_path: Path) -> None:
        child = folder.child("a").child("b")
        await child.put("c", b"1")
        assert await folder.get("a/b/c") == b"1"
        await folder.put("a/b/d", b"2")
        assert [entry.name for entry in await child.list("")] == ["c", "d"]
        await child.delete_tree("")
        assert await folder.stat("a/b/c") is None

    @_law
    async def test_a_second_opening_sees_the_same(self, folder: Folder, tmp_path: Path) -> None:
        await folder.put("a", b"1")
        again = self.open(tmp_path / "place")
        assert await again.get("a") == b"1"
        await again.aclose()

    # size

    @_law
    async def test_a_large_object_comes_back_whole(self, folder: Folder, tmp_path: Path) -> None:
        for size in (0, 1, 4 << 20, (9 << 20) + 7):
            data = (b"holdfast" * (size // 8 + 1))[:size]
            await folder.put("a/large", data)
            assert await folder.get("a/large") == data

    # loops, threads, forks

    @_law
    async def test_one_folder_serves_a_second_loop_in_another_thread(self, folder: Folder, tmp_path: Path) -> None:
        await folder.put("a", b"here")

        async def elsewhere() -> bytes:
            await folder.put("b", b"there")
            return await folder.get("a")

        assert await asyncio.to_thread(asyncio.run, elsewhere()) == b"here"
        assert await folder.get("b") == b"there"

    def test_one_folder_serves_one_loop_after_another(self, tmp_path: Path) -> None:
        async def opened() -> Folder:
            folder = self.open(tmp_path / "place")
            await folder.put("a", b"1")
            return folder

        async def used(folder: Folder) -> bytes:
            try:
                return await folder.get("a")
            finally:
                await folder.aclose()

        folder = asyncio.run(opened())
        assert asyncio.run(used(folder)) == b"1"
        assert asyncio.run(used(folder)) == b"1"


class LogsConformance(FolderConformance):
    """For a place that has files that grow, and locks: all laws of folders, and theirs."""

    @_law
    async def test_a_log_that_is_absent_has_its_own_error(self, folder: Folder, tmp_path: Path) -> None:
        with pytest.raises(ObjectMissing):
            await _logs(folder).open_log("a/b")

    @_law
    async def test_a_log_appends(self, folder: Folder, tmp_path: Path) -> None:
        await folder.create("log", b"head ")
        log = await _logs(folder).open_log("log")
        log.append(b"1", sync=False)
        log.append(b"2", sync=True)
        assert await folder.get("log") == b"head 12"
        log.close()
        log = await _logs(folder).open_log("log")
        log.append(b"3", sync=True)
        log.close()
        assert await folder.get("log") == b"head 123"

    @_law
    async def test_a_log_is_fenced_by_the_next_name_or_by_losing_its_own(self, folder: Folder, tmp_path: Path) -> None:
        await folder.create("1", b"")
        log = await _logs(folder).open_log("1")
        assert not log.is_fenced_by("2")
        await folder.create("2", b"")
        assert log.is_fenced_by("2")
        assert not log.is_fenced_by("3")
        await folder.delete("1")
        assert log.is_fenced_by("3")
        log.close()

    # holds

    @_law
    async def test_a_hold_has_one_owner_at_a_time(self, folder: Folder, tmp_path: Path) -> None:
        again = self.open(tmp_path / "place")
        assert await _logs(folder).held("run/lock") is None
        hold = await _logs(folder).hold("run/lock", b"first")
        assert not isinstance(hold, bytes)
        assert await _logs(again).held("run/lock") == b"first"
        assert await _logs(again).hold("run/lock", b"second") == b"first"
        assert await _logs(folder).hold("run/lock", b"third") == b"first"
        hold.release()
        assert await _logs(again).held("run/lock") is None
        second = await _logs(again).hold("run/lock", b"2")
        assert not isinstance(second, bytes)
        assert await _logs(folder).held("run/lock") == b"2"
        second.release()
        await again.aclose()

    @_law
    async def test_a_hold_is_released_once(self, folder: Folder, tmp_path: Path) -> None:
        first = await _logs(folder).hold("lock", b"1")
        assert not isinstance(first, bytes)
        first.release()
        second = await _logs(folder).hold("lock", b"2")
        assert not isinstance(second, bytes)
        first.release()
        assert await _logs(folder).held("lock") == b"2"
        second.release()

    @_law
    async def test_looking_at_a_hold_does_not_disturb_it(self, folder: Folder, tmp_path: Path) -> None:
        async def look() -> None:
            for _ in range(50):
                assert await _logs(folder).held("lock") in (None, b"me", b"")

        looks = [asyncio.ensure_future(look()) for _ in range(4)]
        for _ in range(50):
            hold = await _logs(folder).hold("lock", b"me")
            assert not isinstance(hold, bytes)
            hold.release()
        await asyncio.gather(*looks)


def _plain(found: Sequence[Entry]) -> list[tuple[str, bool, int]]:
    return [(entry.name, entry.is_folder, entry.size) for entry in found]


def _logs(folder: Folder) -> Logs:
    assert folder.logs is not None
    return folder.logs
