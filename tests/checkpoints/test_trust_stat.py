"""`trust_stat`: what is known as unchanged is not read again, and nothing is known that could have changed unseen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Checkpoint, Retention, Retry, ctx, run, task
from holdfast.checkpoints.generations import File
from holdfast.checkpoints.sending import RACY, is_settled, unchanged
from holdfast.files import CHUNK, Stat
from holdfast.testing import Clock
from holdfast.testing.stores import memory_store

Body = Callable[[Checkpoint], Awaitable[Any]]

body: Body
NOW = 1_000_000.0


def stat(*, size: int = 5, mtime: float = NOW - 100, ctime: float = NOW - 100, inode: int = 7, device: int = 3) -> Stat:
    return Stat(size, int(mtime * 1e9), int(ctime * 1e9), inode, device)


@pytest.mark.parametrize(
    ("mtime", "ctime", "settled"),
    [
        (-100.0, -100.0, True),
        (-RACY - 0.001, -RACY - 0.001, True),
        (-RACY, -100.0, False),
        (-100.0, -RACY, False),
        (-100.0, 0.0, False),
        (0.5, -100.0, False),
        (3600.0, -100.0, False),  # the future
    ],
)
def test_what_was_written_just_before_the_scan_or_later_can_be_written_again_unseen(mtime: float, ctime: float, settled: bool) -> None:
    assert is_settled(stat(mtime=NOW + mtime, ctime=NOW + ctime), NOW) is settled


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (File("a", 0o644, 5, stat=stat()), True),
        (File("a", 0o600, 5, stat=stat()), False),
        (File("a", 0o644, 6, stat=stat(size=6)), False),
        (File("a", 0o644, 5, stat=stat(mtime=NOW - 99)), False),
        (File("a", 0o644, 5, stat=stat(ctime=NOW - 99)), False),  # a tool set the time back
        (File("a", 0o644, 5, stat=stat(inode=8)), False),
        (File("a", 0o644, 5, stat=stat(device=4)), False),
        (File("b", 0o644, 5, stat=stat()), False),
    ],
)
def test_a_file_is_unchanged_where_all_that_is_known_of_it_is(now: File, same: bool) -> None:
    known = File("a", 0o644, 5, stat=stat())
    assert (unchanged(now, {"a": known}) is known) is same
    assert unchanged(now, {"a": File("a", 0o644, 5)}) is None, "what was recorded without a stat is read"


@task(keep=Retention(1), retries=Retry(3, initial_interval=0))
async def works() -> Any:
    return await body(ctx().checkpoint)


def perform(given: Body, clock: Clock | None) -> Any:
    """Files are written in real time; with a clock of the year 2030 they are all old, without one they are all new."""
    global body
    body = given
    if clock is None:
        return asyncio.run(run(works(), run_name="it", store=memory_store()))
    with clock.use():
        return asyncio.run(run(works(), run_name="it", store=memory_store()))


@pytest.mark.parametrize("wait", [True, False])
def test_with_trust_what_changed_is_still_seen(tmp_path: Path, wait: bool) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_bytes(name.encode() * 100)

    async def saves(checkpoint: Checkpoint) -> list[dict[str, bytes]]:
        found: list[dict[str, bytes]] = []

        async def seen(trust_stat: bool) -> None:
            await checkpoint.save(source, trust_stat=trust_stat, wait=wait)  # type: ignore[call-overload]
            loaded = await checkpoint.load()
            assert loaded is not None
            found.append({path.name: path.read_bytes()[:1] for path in loaded.iterdir()})

        await seen(False)
        (source / "b").write_bytes(b"c" * 100)
        await seen(True)
        (source / "a").unlink()
        await seen(True)
        return found

    assert perform(saves, Clock()) == [{"a": b"a", "b": b"b"}, {"a": b"a", "b": b"c"}, {"b": b"c"}]


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_unchanged_is_not_read_again(tmp_path: Path, kind: str, wait: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening is what is looked at: with trust, an unchanged file is not even opened."""
    source = tmp_path / "model"
    source.mkdir()
    (source / "a").write_bytes(b"a" * (CHUNK + 1))
    opened: list[str] = []
    real = os.open

    def noted(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).startswith(str(source)):
            opened.append(Path(path).name)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", noted)

    async def saves(checkpoint: Checkpoint) -> list[list[str]]:
        seen: list[list[str]] = []
        for trust_stat in (True, True, False):
            opened.clear()
            await checkpoint.save(source if kind == "directory" else source / "a", trust_stat=trust_stat, wait=wait)  # type: ignore[call-overload]
            await checkpoint.flush()
            seen.append(list(opened))
        loaded = await checkpoint.load()
        assert loaded is not None
        assert (loaded if kind == "file" else loaded / "a").read_bytes() == b"a" * (CHUNK + 1)
        return seen

    assert perform(saves, Clock()) == [["a"], [], ["a"]]
    assert perform(saves, None) == [["a"], ["a"], ["a"]], "what was written a moment ago is read again"


def test_trust_goes_on_in_a_later_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "model"
    source.write_bytes(b"a" * 100_000)
    opened: list[int] = []
    real = os.open

    def noted(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == str(source):
            opened.append(ctx().attempt_number if ctx() is not None else -1)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", noted)

    async def saves(checkpoint: Checkpoint) -> None:
        before = len(opened)
        await checkpoint.save(source, trust_stat=True)
        if ctx().attempt_number == 0:
            assert len(opened) == before + 1
            raise ConnectionError
        assert len(opened) == before

    perform(saves, Clock())


def test_a_waiting_save_keeps_the_generation_whose_chunks_it_names(tmp_path: Path) -> None:
    """With trust, what is unchanged is neither read nor copied: until the save is written, that generation must not be deleted."""
    source = tmp_path / "model"
    source.mkdir()
    (source / "kept").write_bytes(b"k" * 100_000)
    (source / "first").write_bytes(b"1")

    async def saves(checkpoint: Checkpoint) -> bytes:
        await checkpoint.save(source)
        await checkpoint.save(b"x" * 200_000, wait=False)  # keep=1: deletes the one before
        await checkpoint.save(source, trust_stat=True, wait=False)  # rests on it
        loaded = await checkpoint.load(only="kept")
        assert loaded is not None
        assert len(await checkpoint.history()) == 1
        return (loaded / "kept").read_bytes()

    assert perform(saves, Clock()) == b"k" * 100_000
