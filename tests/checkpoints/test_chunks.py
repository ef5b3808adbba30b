"""What is large lies in the store's blobs, in chunks, and only what is not there yet is sent."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Checkpoint, Generation, Retry, ctx, run, task
from holdfast.blobs import blob_key
from holdfast.checkpoints import NAMES_BLOBS, blobs_named, unsealed
from holdfast.checkpoints.generations import name_of, sealed
from holdfast.codec import INLINE_LIMIT, to_json
from holdfast.errors import CheckpointCorrupt, CheckpointFallback, CheckpointForeign
from holdfast.files import CHUNK
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.buckets import MemoryBucket
from holdfast.testing.stores import bucket_store, memory_store

Body = Callable[[Checkpoint], Awaitable[Any]]

body: Body

MIB = 1024 * 1024


@task(retries=Retry(3, initial_interval=0))
async def works() -> Any:
    return await body(ctx().checkpoint)


def perform(given: Body, store: Any = None, *, name: str = "it", task: Any = works) -> Any:
    global body
    body = given
    return asyncio.run(run(task(), run_name=name, store=store if store is not None else memory_store()))


def sized(seed: int, size: int) -> bytes:
    """Bytes without a repetition, other ones for each seed."""
    return b"".join((seed * 1_000_003 + n).to_bytes(8, "big") for n in range(size // 8 + 1))[:size]


def manifests(store: Path) -> list[Path]:
    return sorted(store.rglob("checkpoints/*.json"), key=lambda path: path.name)


def named(store: Path) -> set[str]:
    """What all manifests name."""
    return {name for path in manifests(store) if path.name.endswith(NAMES_BLOBS) for name in blobs_named(unsealed(path.read_bytes()))}


def blobs(store: Path) -> set[str]:
    return {path.name for path in (store / "blobs").rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT])
def test_what_is_small_rides_in_its_manifest(tmp_path: Path, size: int) -> None:
    async def saves(checkpoint: Checkpoint) -> None:
        saved = await checkpoint.save(b"x" * size)
        assert (saved.size, saved.sent) == (size, size)

    perform(saves, tmp_path)
    (manifest,) = manifests(tmp_path)
    assert not manifest.name.endswith(NAMES_BLOBS)
    assert list(manifest.parent.iterdir()) == [manifest]
    assert blobs(tmp_path) == set()


@pytest.mark.parametrize("kind", ["bytes", "data", "parts", "file", "directory"])
def test_what_is_large_lies_in_blobs_that_its_manifest_names(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(sized(1, 2 * CHUNK + 5))
    (source / "b").write_bytes(b"small")
    given: dict[str, Any] = {
        "bytes": sized(1, 100_000),
        "data": "x" * 100_000,
        "parts": {"weights": sized(1, 100_000), "step": 1},
        "file": source / "a",
        "directory": source,
    }

    async def saves(checkpoint: Checkpoint) -> None:
        saved = await checkpoint.save(given[kind])
        assert saved.sent == saved.size
        (found,) = await checkpoint.history()
        assert found == saved

    store = tmp_path / "store"
    perform(saves, store)
    (manifest,) = manifests(store)
    assert manifest.name.endswith(NAMES_BLOBS)
    assert list(manifest.parent.iterdir()) == [manifest], "nothing lies beside it"
    assert named(store) == blobs(store) != set()
    assert max(path.stat().st_size for path in (store / "blobs").rglob("*") if path.is_file()) <= CHUNK


def test_a_file_comes_back_chunk_by_chunk_whatever_its_length(tmp_path: Path) -> None:
    async def saves(checkpoint: Checkpoint) -> None:
        for size in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 1):
            (tmp_path / "file").write_bytes(sized(size, size))
            saved = await checkpoint.save(tmp_path / "file")
            assert saved.size == size
            loaded = await checkpoint.load()
            assert loaded is not None
            assert loaded.read_bytes() == sized(size, size)
            assert await checkpoint.load(bytes) == sized(size, size)

    perform(saves)


def test_a_second_save_sends_only_what_changed(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for n in range(5):
        (source / f"{n}").write_bytes(sized(n, 100_000))
    (source / "large").write_bytes(sized(9, 4 * CHUNK))

    async def saves(checkpoint: Checkpoint) -> list[int | None]:
        sent = [(await checkpoint.save(source)).sent, (await checkpoint.save(source)).sent]
        (source / "3").write_bytes(sized(33, 90_000))
        with (source / "large").open("r+b") as file:
            file.seek(2 * CHUNK + 17)
            file.write(b"changed")
        sent.append((await checkpoint.save(source)).sent)
        loaded = await checkpoint.load()
        assert loaded is not None
        assert (loaded / "large").read_bytes() == (source / "large").read_bytes()
        return sent

    assert perform(saves) == [500_000 + 4 * CHUNK, 0, 90_000 + CHUNK]


def test_equal_chunks_of_one_save_are_sent_once(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(b"\0" * (5 * CHUNK))

    async def saves(checkpoint: Checkpoint) -> tuple[int, int | None]:
        saved: Generation = await checkpoint.save(tmp_path / "zeros")
        return saved.size, saved.sent

    store = tmp_path / "store"
    assert perform(saves, store) == (5 * CHUNK, CHUNK)
    assert len(blobs(store)) == 1


def test_what_another_run_saved_is_not_sent_again(tmp_path: Path) -> None:
    async def saves(checkpoint: Checkpoint) -> int | None:
        return (await checkpoint.save(sized(1, 2 * MIB))).sent

    for store in (tmp_path, bucket_store()):
        assert [perform(saves, store, name="one"), perform(saves, store, name="two")] == [2 * MIB, 0]


def test_a_later_attempt_sends_only_what_changed_since_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(sized(1, 3 * CHUNK))
    bucket = MemoryBucket()

    async def saves(checkpoint: Checkpoint) -> int | None:
        before = dict(bucket.requests)
        saved = await checkpoint.save(tmp_path / "model")
        if ctx().attempt_number == 0:
            raise ConnectionError
        asked = {verb: count - before.get(verb, 0) for verb, count in bucket.requests.items() if count != before.get(verb, 0)}
        assert "stat" not in asked, "what the generation before names is named again without a request"
        return saved.sent

    assert perform(saves, bucket_store(bucket=bucket)) == 0


def test_a_save_of_a_kibibyte_is_one_request() -> None:
    bucket = MemoryBucket()

    async def saves(checkpoint: Checkpoint) -> None:
        await checkpoint.save(b"x" * 1024)
        await checkpoint.flush()
        before = {name for name in bucket.objects if "/checkpoints/" in name}
        asked = dict(bucket.requests)
        await checkpoint.save(b"y" * 1024)
        after = {name for name in bucket.objects if "/checkpoints/" in name}
        assert len(after - before) == 1
        more = {verb: count - asked.get(verb, 0) for verb, count in bucket.requests.items()}
        journal = len([name for name in bucket.objects if "/journal/" in name])
        assert more["create"] <= 1 + journal
        assert {verb for verb, count in more.items() if count} <= {"create"}

    perform(saves, bucket_store(bucket=bucket))


def test_the_digest_tells_contents_apart_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()

    async def saves(checkpoint: Checkpoint) -> list[str]:
        digests: list[str] = []
        for content in (sized(1, 2 * CHUNK), sized(2, 2 * CHUNK), sized(1, 2 * CHUNK)):
            for target in (source / "file", source):
                (source / "file").write_bytes(content)
                digests.append((await checkpoint.save(target)).digest)
            digests.append((await checkpoint.save(content)).digest)
        return digests

    found = perform(saves)
    assert found[0:3] == found[6:9]
    assert not set(found[0:3]) & set(found[3:6])
    assert found[0] == found[2], "a file and its bytes are the same chunks"


def test_a_generation_that_was_found_damaged_is_nothing_to_build_on(tmp_path: Path) -> None:
    first, second = sized(1, CHUNK), sized(2, CHUNK)

    async def saves(checkpoint: Checkpoint) -> bytes:
        await checkpoint.save(first)
        before = blobs(tmp_path)
        await checkpoint.save(second)
        (new,) = blobs(tmp_path) - before
        (tmp_path / blob_key(new)).write_bytes(b"broken")
        with pytest.warns(CheckpointFallback, match="don't match its name"):
            assert await checkpoint.load(bytes) == first
        await checkpoint.save(second)
        loaded = await checkpoint.load(bytes)
        assert loaded == second, "it was sent anew, not named again"
        assert [found.n for found in await checkpoint.history()] == [0, 1, 2], "what is damaged does not count as one that is kept"
        return loaded

    perform(saves, tmp_path)


def test_a_durable_save_names_nothing_that_a_power_cut_takes_though_an_earlier_save_was_only_flushed() -> None:
    disk, content = MemoryDisk(), sized(1, 300_000)
    once = works.with_options(retries=0)

    async def saves(checkpoint: Checkpoint) -> str:
        saved = await checkpoint.save(content)
        if ctx().attempt_number == 0:
            raise ConnectionError
        return name_of(saved.order)

    global body
    body = saves
    with pytest.raises(ConnectionError):
        asyncio.run(run(once(), run_name="it", store=memory_store(disk), durability="flush"))
    newest = asyncio.run(run(once(), run_name="it", store=memory_store(disk)))
    for seed in range(50):
        left = disk.power_cut(random.Random(seed))
        (manifest,) = [path for path in files(left, "/store") if newest in path]
        for name in blobs_named(unsealed(left.read(manifest))):
            assert left.read(f"/store/{blob_key(name)}") == content


def files(disk: MemoryDisk, below: str) -> list[str]:
    found: list[str] = []
    for entry in disk.scan(below):
        path = f"{below}/{entry.name}"
        found += files(disk, path) if entry.is_folder else [path]
    return found


def test_a_damaged_chunk_in_an_object_store_is_sent_anew_once_that_is_known() -> None:
    bucket, content = MemoryBucket(), sized(1, MIB)

    async def saves(checkpoint: Checkpoint) -> bytes | None:
        await checkpoint.save(b"older")
        await checkpoint.save(content)
        (key,) = [name for name in bucket.objects if "blobs/" in name]
        await bucket.put(key, b"?" + content[1:])
        with pytest.warns(CheckpointFallback):
            assert await checkpoint.load(bytes) == b"older"
        await checkpoint.save(content)
        return await checkpoint.load(bytes)

    assert perform(saves, bucket_store(bucket=bucket)) == content


@pytest.mark.parametrize("found", ["1.0", "3.1", "none"])
def test_a_manifest_of_another_format_is_an_error_of_its_own(tmp_path: Path, found: str) -> None:
    async def saves(checkpoint: Checkpoint) -> None:
        await checkpoint.save("older")
        await checkpoint.save("newer")
        newest = manifests(tmp_path)[-1]
        record = unsealed(newest.read_bytes())
        newest.write_bytes(sealed(to_json({**record, "holdfast": found} if found != "none" else {"kind": "data"})))
        for ask in (checkpoint.load, checkpoint.history):
            with pytest.raises(CheckpointForeign, match=rf"format {found}, and this Holdfast reads 2\.1; use the version"):
                await ask()

    perform(saves, tmp_path)
    with pytest.raises(CheckpointForeign):
        blobs_named({"holdfast": "3.0", "files": []})


def test_fields_of_a_newer_minor_format_are_passed_over(tmp_path: Path) -> None:
    async def saves(checkpoint: Checkpoint) -> bytes | None:
        await checkpoint.save(sized(1, 100_000))
        (manifest,) = manifests(tmp_path)
        record = unsealed(manifest.read_bytes())
        manifest.write_bytes(sealed(to_json({**record, "holdfast": "2.7", "new": 1, "files": [[*row, "new"] for row in record["files"]]})))
        return await checkpoint.load(bytes)

    assert perform(saves, tmp_path) == sized(1, 100_000)


@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "swapped"])
@pytest.mark.parametrize("kind", ["file", "directory", "parts"])
def test_a_damaged_chunk_is_named_and_never_loaded(tmp_path: Path, how: str, kind: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(sized(1, 2 * CHUNK))
    given: Any = {"file": source / "a", "directory": source, "parts": {"weights": sized(1, 2 * CHUNK)}}[kind]
    store = tmp_path / "store"

    async def saves(checkpoint: Checkpoint) -> None:
        await checkpoint.save(given)
        one, other = sorted(path for path in (store / "blobs").rglob("*") if path.is_file())
        if how == "flipped":
            one.write_bytes(bytes([one.read_bytes()[0] ^ 1]) + one.read_bytes()[1:])
        elif how == "cut":
            one.write_bytes(one.read_bytes()[:-1])
        elif how == "gone":
            one.unlink()
        else:
            one.write_bytes(other.read_bytes())
        with pytest.raises(CheckpointCorrupt, match=one.name[:64]):
            await (checkpoint.load(dict) if kind == "parts" else checkpoint.load())
        assert not list(checkpoint.path.iterdir()), "nothing half is left under any name"

    perform(saves, store)


def test_no_more_than_what_is_asked_for_is_in_memory_or_in_threads(tmp_path: Path) -> None:
    """A directory of many files is saved, and loaded, with few tasks."""
    source = tmp_path / "many"
    source.mkdir()
    for n in range(500):
        (source / f"{n}").write_bytes(b"%d" % n)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(asyncio.all_tasks()))
            await asyncio.sleep(0)

    async def saves(checkpoint: Checkpoint) -> None:
        watching = asyncio.create_task(watch())
        await checkpoint.save(source)
        loaded = await checkpoint.load()
        watching.cancel()
        assert loaded is not None
        assert len(os.listdir(loaded)) == 500  # noqa: PTH208 - only how many

    perform(saves)
    assert most < 100
