"""What is restored: whole and as it was, or only what was asked for, and never half of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from holdfast import Checkpoint, ctx, run, task
from holdfast.checkpoints.directories import matches
from holdfast.errors import CheckpointCorrupt, InvalidOption, ResultIncompatible
from holdfast.files import CHUNK
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.stores import memory_store

Body = Callable[[Checkpoint], Awaitable[Any]]

body: Body


@task
async def works() -> Any:
    return await body(ctx().checkpoint)


def perform(given: Body, disk: Any = None) -> Any:
    global body
    body = given
    return asyncio.run(run(works(), run_name="it", store=memory_store(disk)))


@pytest.mark.parametrize(
    ("pattern", "path", "matching"),
    [
        ("model/*", "model/a", True),
        ("model/*", "model/a.bin", True),
        ("model/*", "model/x/a", False),
        ("model/*", "model", False),
        ("*", "a", True),
        ("*", "a/b", False),
        ("*", ".hidden", True),
        ("**", "a", True),
        ("**", "a/b/c", True),
        ("**/*.bin", "a.bin", True),
        ("**/*.bin", "x/y/a.bin", True),
        ("**/*.bin", "x/y/a.txt", False),
        ("model/**", "model/x/y", True),
        ("model/**", "other/x/y", False),
        ("model/**/last", "model/last", True),
        ("model/**/last", "model/x/y/last", True),
        ("model/**/x/**/last", "model/x/last", True),
        ("model/**/x/**/last", "model/a/x/b/last", True),
        ("model/**/x/**/last", "model/a/last", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[ab]/c", "b/c", True),
        ("[!ab]/c", "b/c", False),
        ("A", "a", False),
        ("a**b", "axxb", True),
        ("", "a", False),
        ("model/", "model/a", False),
        ("/model", "model", False),
        ("a.c", "abc", False),
    ],
)
def test_a_pattern_matches_part_by_part(pattern: str, path: str, matching: bool) -> None:
    assert matches(pattern, path) is matching


parts = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=5)


@hypothesis_given(parts, st.data())
def test_two_stars_stand_for_any_run_of_parts(path: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(path)))
    end = data.draw(st.integers(start, len(path)))
    assert matches("/".join([*path[:start], "**", *path[end:]]), "/".join(path))


def directory(root: Path) -> Path:
    source = root / "source"
    (source / "model" / "deep").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "model" / "weights").write_bytes(b"w" * (CHUNK + 1))
    (source / "model" / "deep" / "bias").write_bytes(b"b")
    (source / "payload").write_bytes(b"a file of this name is a file like any other")
    (source / "log.txt").write_bytes(b"log")
    (source / "model" / "latest").symlink_to("weights")
    return source


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir() or path.is_symlink())


@pytest.mark.parametrize(
    ("only", "restored"),
    [
        ("model/*", ["model/latest", "model/weights"]),
        ("**/bias", ["model/deep/bias"]),
        ("payload", ["payload"]),
        ("*.txt", ["log.txt"]),
        ("model/**", ["model/deep/bias", "model/latest", "model/weights"]),
        ("empty", []),
    ],
)
def test_only_what_matches_is_restored(tmp_path: Path, only: str, restored: list[str]) -> None:
    source = directory(tmp_path)

    async def loads(checkpoint: Checkpoint) -> None:
        await checkpoint.save(source)
        loaded = await checkpoint.load(only=only)
        assert loaded is not None
        assert files(loaded) == restored
        assert all((loaded / path).read_bytes() == (source / path).read_bytes() for path in restored)
        assert (loaded / "empty").exists() is (only == "empty")
        assert files(await checkpoint.load(Path, only=only)) == restored  # type: ignore[arg-type]

    perform(loads)


def test_only_what_matches_is_fetched(tmp_path: Path) -> None:
    source, disk = directory(tmp_path), MemoryDisk()

    async def loads(checkpoint: Checkpoint) -> None:
        await checkpoint.save(source)
        for folder in disk.scan("/store/blobs"):
            for blob in disk.scan(f"/store/blobs/{folder.name}"):
                if blob.size > 1000:
                    disk.unlink(f"/store/blobs/{folder.name}/{blob.name}")
        loaded = await checkpoint.load(only="log.txt")
        assert loaded is not None
        with pytest.raises(CheckpointCorrupt):
            await checkpoint.load()

    perform(loads, disk)


@pytest.mark.parametrize("saved", [b"bytes", b"b" * 100_000, {"a": 1}, "file"])
def test_only_is_for_directories(tmp_path: Path, saved: Any) -> None:
    (tmp_path / "file").write_bytes(b"1")

    async def loads(checkpoint: Checkpoint) -> None:
        await checkpoint.save(tmp_path / "file" if saved == "file" else saved)
        for as_type in (None, dict):
            with pytest.raises(InvalidOption, match=r"only='\*': .*directory"):
                await checkpoint.load(as_type, only="*")

    perform(loads)


@pytest.mark.parametrize("only", ["nothing/*", "", "/model/*", "../*", "model/"])
def test_a_pattern_that_matches_nothing_says_what_there_is(tmp_path: Path, only: str) -> None:
    source = directory(tmp_path)

    async def loads(checkpoint: Checkpoint) -> None:
        await checkpoint.save(source)
        with pytest.raises(InvalidOption, match=r"nothing in the saved directory matches.*'log\.txt'"):
            await checkpoint.load(only=only)
        with pytest.raises(ResultIncompatible, match="it is a directory"):
            await checkpoint.load(dict, only="*")

    perform(loads)


def times_and_modes(root: Path) -> dict[str, tuple[int, int]]:
    paths = [root, *(path for path in root.rglob("*") if not path.is_symlink())]
    return {path.relative_to(root).as_posix(): (path.stat().st_mode, path.stat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize("wait", [True, False])
def test_modes_and_times_come_back_also_those_of_folders(tmp_path: Path, wait: bool) -> None:
    source = directory(tmp_path)
    (source / "log.txt").chmod(0o400)
    (source / "model" / "weights").chmod(0o755)
    for age, path in enumerate(sorted(source.rglob("*"))):
        if not path.is_symlink():
            os.utime(path, ns=(1_500_000_000_123_456_789 + age, 1_600_000_000_123_456_789 + age))
    (source / "model" / "deep").chmod(0o500)  # nothing can be written into it once it is restored
    source.chmod(0o700)

    async def loads(checkpoint: Checkpoint) -> None:
        await checkpoint.save(source, wait=wait)  # type: ignore[call-overload]
        loaded = await checkpoint.load()
        assert loaded is not None
        assert times_and_modes(loaded) == times_and_modes(source)
        await checkpoint.save(source / "model" / "weights", wait=wait)  # type: ignore[call-overload]
        loaded = await checkpoint.load()
        assert loaded is not None
        found, original = loaded.stat(), (source / "model" / "weights").stat()
        assert (found.st_mode, found.st_mtime_ns) == (original.st_mode, original.st_mtime_ns)

    perform(loads)


def test_a_folder_that_forbids_it_is_removed_all_the_same_when_the_attempt_ends(tmp_path: Path) -> None:
    source = directory(tmp_path)
    (source / "model").chmod(0o500)
    seen: list[Path] = []

    async def loads(checkpoint: Checkpoint) -> None:
        await checkpoint.save(source)
        await checkpoint.load()
        seen.append(checkpoint.path)

    perform(loads)
    assert not seen[0].exists()


def test_a_load_that_is_cancelled_leaves_nothing_half_behind(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for n in range(20):
        (source / f"{n}").write_bytes(bytes([n]) * (CHUNK + n))

    async def loads(checkpoint: Checkpoint) -> None:
        await checkpoint.save(source)
        for turns in (1, 5, 20, 100):
            loading = asyncio.ensure_future(checkpoint.load())
            for _ in range(turns):
                await asyncio.sleep(0)
            loading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loading
            assert list(checkpoint.path.iterdir()) == []
        loaded = await checkpoint.load()
        assert loaded is not None
        assert len(files(loaded)) == 20

    perform(loads)


def test_names_come_back_whatever_bytes_they_are(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    names = [b"plain", b"\xff\xfe", "zw\u00f6lf \u2713".encode(), b"line\nbreak", b" ", b"-", b"~", b"...", b"a\\b", b"*"]
    for name in names:
        (source / os.fsdecode(name)).write_bytes(name)

    async def loads(checkpoint: Checkpoint) -> None:
        await checkpoint.save(source)
        loaded = await checkpoint.load()
        assert loaded is not None
        assert {os.fsencode(path.name): path.read_bytes() for path in loaded.iterdir()} == {name: name for name in names}

    perform(loads)
