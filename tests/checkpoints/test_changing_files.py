"""What changes while it is saved is saved as it was at one moment, or the save is refused: never a mixture, never in silence."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Checkpoint, ctx, run, task
from holdfast.checkpoints import sending
from holdfast.checkpoints.directories import _below as entries_below
from holdfast.errors import FileChanged, HoldfastError, StoreFull
from holdfast.files import CHUNK, Changed, copy_stable, read_small
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.protocol import FileOnDisk
from holdfast.testing.faults import FullDisk
from holdfast.testing.stores import memory_store

Body = Callable[[Checkpoint], Awaitable[Any]]

body: Body


@task
async def works() -> Any:
    return await body(ctx().checkpoint)


class Watched:
    """A disk that tells when a chunk is written to it."""

    def __init__(self, inner: MemoryDisk, told: Callable[[], None]) -> None:
        self._inner = inner
        self._told = told

    def write_new(self, path: str, data: bytes) -> FileOnDisk:
        if "/blobs/" in path:
            self._told()
        return self._inner.write_new(path, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def perform(given: Body, told: Callable[[], None] = lambda: None) -> Any:
    global body
    body = given
    return asyncio.run(run(works(), run_name="it", store=memory_store(Watched(MemoryDisk(), told))))  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["written", "longer", "shorter", "replaced"])
def test_a_file_that_changes_once_while_it_is_read_is_saved_as_it_is_afterwards(tmp_path: Path, how: str) -> None:
    source = tmp_path / "model"
    source.write_bytes(os.urandom(4 * CHUNK))
    changes = 1

    def change() -> None:
        nonlocal changes
        if changes:
            changes -= 1
            if how == "replaced":
                (tmp_path / "new").write_bytes(os.urandom(2 * CHUNK))
                (tmp_path / "new").replace(source)
            else:
                content = bytearray(source.read_bytes())
                source.write_bytes({"written": b"x" + content[1:], "longer": content + b"x", "shorter": content[: CHUNK + 1]}[how])

    async def saves(checkpoint: Checkpoint) -> None:
        saved = await checkpoint.save(source)
        assert await checkpoint.load(bytes) == source.read_bytes()
        assert saved.size == source.stat().st_size

    perform(saves, change)
    assert changes == 0


def test_a_file_that_changes_all_the_time_is_refused_and_the_last_save_stays(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(os.urandom(3 * CHUNK))

    def change() -> None:
        with source.open("r+b") as file:
            file.write(os.urandom(8))

    async def saves(checkpoint: Checkpoint) -> None:
        await checkpoint.save(b"good")
        with pytest.raises(FileChanged, match=r"model changed while it was read, 3 times; save it when nobody writes"):
            await checkpoint.save(source)
        assert await checkpoint.load(bytes) == b"good"
        assert len(await checkpoint.history()) == 1

    perform(saves, change)


@pytest.mark.parametrize("how", ["gone", "a link that leads out", "a pipe"])
def test_what_is_no_file_any_more_is_not_copied_and_the_rest_is_listed_anew(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, last = tmp_path / "model", tmp_path / "model" / "099"
    source.mkdir()
    for n in range(100):
        (source / f"{n:03}").write_bytes(b"%d" % n)

    def copying(path: str, copy: str) -> Any:
        with one_at_a_time:  # copies are made side by side
            if last.is_file() and not last.is_symlink():
                last.unlink()
                if how == "a pipe":
                    os.mkfifo(last)
                elif how != "gone":
                    last.symlink_to("/etc/passwd")
        return copy_stable(path, copy)

    one_at_a_time = threading.Lock()
    monkeypatch.setattr(sending, "copy_stable", copying)

    async def saves(checkpoint: Checkpoint) -> None:
        if how != "gone":
            with pytest.raises(HoldfastError, match="neither" if how == "a pipe" else "leads out"):
                await checkpoint.save(source, wait=False)
            last.unlink()
        await checkpoint.save(source, wait=False)
        loaded = await checkpoint.load()
        assert loaded is not None
        assert sorted(path.name for path in loaded.iterdir()) == [f"{n:03}" for n in range(99)]

    perform(saves)


@pytest.mark.parametrize("now", ["nothing", "a folder", "a link"])
def test_what_becomes_something_else_while_it_is_listed_is_listed_anew(tmp_path: Path, now: str) -> None:
    for n in range(10):
        (tmp_path / f"{n}").write_bytes(b"x")
    listing = entries_below(str(tmp_path), str(tmp_path), "")
    seen = next(listing).path
    for n in range(10):
        (tmp_path / f"{n}").unlink()
        if now == "a folder":
            (tmp_path / f"{n}").mkdir()
        elif now == "a link":
            (tmp_path / f"{n}").symlink_to(seen)
    with pytest.raises(Changed):
        list(listing)


@pytest.mark.parametrize("now", ["a pipe", "a link", "a socket", "a folder"])
def test_what_stands_in_a_files_place_is_neither_waited_for_nor_followed(tmp_path: Path, now: str) -> None:
    (tmp_path / "other").write_bytes(b"other")
    place = tmp_path / "place"
    if now == "a pipe":
        os.mkfifo(place)
    elif now == "a link":
        place.symlink_to("other")
    elif now == "a folder":
        place.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        if now == "a socket":
            server.bind(str(place))
        with pytest.raises(Changed):
            asyncio.run(read_small(str(place)))
        with pytest.raises(Changed):
            copy_stable(str(place), str(tmp_path / "copy"))


def test_a_link_that_the_user_names_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"f")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"a")
    for name in ("file", "folder"):
        (tmp_path / f"to {name}").symlink_to(name)

    async def saves(checkpoint: Checkpoint) -> None:
        for wait in (True, False):
            await checkpoint.save(tmp_path / "to file", wait=wait)  # type: ignore[call-overload]
            assert await checkpoint.load(bytes) == b"f"
            await checkpoint.save(tmp_path / "to folder", wait=wait)  # type: ignore[call-overload]
            loaded = await checkpoint.load()
            assert loaded is not None
            assert (loaded / "a").read_bytes() == b"a"

    perform(saves)


def test_what_goes_away_after_it_was_listed_was_never_there(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for n in range(100):
        (source / f"{n:03}").write_bytes(b"%d" % n)

    async def saves(checkpoint: Checkpoint) -> None:
        saved = await checkpoint.save(source)
        loaded = await checkpoint.load()
        assert loaded is not None
        assert sorted(path.name for path in loaded.iterdir()) == [f"{n:03}" for n in range(99)]
        assert saved.size == sum(path.stat().st_size for path in source.iterdir())

    perform(saves, lambda: (source / "099").unlink(missing_ok=True))


def test_a_copy_is_of_one_moment_or_there_is_none(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(os.urandom(3 * CHUNK + 5))
    opened = copy_stable(str(source), str(copy))
    assert copy.read_bytes() == source.read_bytes()
    assert opened.stat.mtime_ns == source.stat().st_mtime_ns
    copy.unlink()
    source.unlink()
    with pytest.raises(Changed):
        copy_stable(str(source), str(copy))
    assert not copy.exists()


@pytest.mark.parametrize("without", [(), ("clone",), ("clone", "kernel")])
def test_a_copy_is_the_same_whatever_the_file_systems_can_do(
    tmp_path: Path, without: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file system, an old kernel or another system answers so."""
    import fcntl

    def refused(*_: Any) -> int:
        raise OSError(95, "not supported")

    if "clone" in without:
        monkeypatch.setattr(fcntl, "ioctl", refused)
    if "kernel" in without:
        monkeypatch.setattr(os, "copy_file_range", refused)
    for size in (0, 1, CHUNK + 7):
        (tmp_path / "source").write_bytes(os.urandom(size))
        copy_stable(str(tmp_path / "source"), str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == (tmp_path / "source").read_bytes()
        (tmp_path / "copy").unlink()


def test_what_grew_beyond_a_chunk_is_not_read_in_one_piece(tmp_path: Path) -> None:
    (tmp_path / "grown").write_bytes(b"x" * (CHUNK + 1))
    assert asyncio.run(read_small(str(tmp_path / "grown"))) is None


def test_a_full_store_is_an_error_and_the_last_save_stays(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(os.urandom(6 * CHUNK))
    full = FullDisk(MemoryDisk(), after_bytes=3 * CHUNK)

    async def saves(checkpoint: Checkpoint) -> None:
        await checkpoint.save(b"good")
        with pytest.raises(StoreFull):
            await checkpoint.save(source)
        full.free()
        assert await checkpoint.load(bytes) == b"good"
        await checkpoint.save(source)
        assert await checkpoint.load(bytes) == source.read_bytes()

    global body
    body = saves
    asyncio.run(run(works(), run_name="it", store=memory_store(full)))


def test_a_save_that_is_cancelled_leaves_the_last_one_and_nothing_at_work(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(os.urandom(6 * CHUNK))

    async def saves(checkpoint: Checkpoint) -> None:
        await checkpoint.save(b"good")
        for turns in (1, 3, 10, 30):
            tasks = asyncio.all_tasks()
            saving = asyncio.ensure_future(checkpoint.save(source))
            for _ in range(turns):
                await asyncio.sleep(0)
            saving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await saving
            assert {task.get_coro() for task in asyncio.all_tasks() - tasks if not task.done()} == set()
            assert await checkpoint.load(bytes) == b"good"
        await checkpoint.save(source)
        assert await checkpoint.load(bytes) == source.read_bytes()

    perform(saves)


def test_what_is_neither_file_nor_directory_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    async def saves(checkpoint: Checkpoint) -> None:
        for source in (tmp_path / "pipe", tmp_path):
            for wait in (True, False):
                with pytest.raises(HoldfastError, match="neither"):
                    await checkpoint.save(source, wait=wait)  # type: ignore[call-overload]

    perform(saves)
