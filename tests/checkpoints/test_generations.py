"""Which generation is loaded: the newest valid one of this action and version, and no owner that was fenced has a say."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import holdfast.checkpoints as checkpoints
from holdfast import Checkpoint, ctx, latest_checkpoint, run, start, task
from holdfast.blobs import blob_key
from holdfast.errors import BlockingCall, CheckpointCorrupt, CheckpointFallback, ForgottenAwait, HoldfastError, StorePermission
from holdfast.folders.memory import MemoryDisk
from holdfast.folders.protocol import Disk
from holdfast.testing.clocks import no_backoff
from holdfast.testing.faults import CrashDisk, FullDisk, SimulatedCrash, When, flip_byte
from holdfast.testing.stores import memory_store

Body = Callable[[], Awaitable[Any]]

disk = MemoryDisk()
body: Body
did: list[Any] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()
    did.clear()


@task
async def works() -> Any:
    return await body()


@task(retries=3)
async def retries() -> Any:
    return await body()


@task(keep=5)
async def keeps_five() -> Any:
    return await body()


def perform(given: Body, *, task: Any = works, on: Disk | None = None, name: str = "it") -> Any:
    """Run `given` as the body of a task in a durable run."""
    global body
    body = given
    with no_backoff():
        return asyncio.run(run(task(), run_name=name, store=memory_store(on if on is not None else disk)))


def manifests(disk: MemoryDisk, below: str = "/store") -> list[str]:
    """The paths of all manifests, oldest generation first."""
    found: list[str] = []
    for entry in disk.scan(below):
        path = f"{below}/{entry.name}"
        if entry.is_folder:
            found.extend(manifests(disk, path))
        elif "/checkpoints" in below and entry.name.endswith(".json"):
            found.append(path)
    return sorted(found, key=os.path.basename)


def test_generations_are_ordered_by_owner_then_attempt_then_save() -> None:
    images: list[MemoryDisk] = []

    async def body() -> None:
        for n in range(2):
            did.append((await ctx().checkpoint.save(f"{ctx().fencing_token} {n}")).order)
        if ctx().attempt_number == 0:
            raise ConnectionError("again")
        images.append(disk.copy())

    perform(body, task=retries)
    perform(body, task=retries, on=images[0])
    assert did == [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1), (2, 2, 0), (2, 2, 1)]
    assert did == sorted(did)


def test_a_later_attempt_loads_the_newest_save_of_an_earlier_one() -> None:
    async def body() -> None:
        did.append((ctx().checkpoint.prev_exists(), await ctx().checkpoint.load(int)))
        await ctx().checkpoint.save(ctx().attempt_number * 10)
        await ctx().checkpoint.save(ctx().attempt_number * 10 + 1)
        if ctx().attempt_number < 2:
            raise ConnectionError("again")

    perform(body, task=retries)
    assert did == [(False, None), (True, 1), (True, 11)]


def test_only_the_newest_generations_are_kept() -> None:
    async def body() -> None:
        for n in range(6):
            await ctx().checkpoint.save(n)
        assert [g.n for g in await ctx().checkpoint.history()] == [4, 5]

    perform(body)
    assert len(manifests(disk)) == 2


def test_keep_says_how_many() -> None:
    async def body() -> None:
        for n in range(7):
            await ctx().checkpoint.save(b"x" * 100_000, metadata={"n": n})
        assert [g.metadata["n"] for g in await ctx().checkpoint.history()] == [2, 3, 4, 5, 6]

    perform(body, task=keeps_five)
    assert len(manifests(disk)) == 5


def test_a_certain_generation_can_be_loaded() -> None:
    async def body() -> None:
        for n in range(3):
            await ctx().checkpoint.save(n)
        older, newer = await ctx().checkpoint.history()
        assert await ctx().checkpoint.load(int, generation=older) == 1
        assert await ctx().checkpoint.load(int, generation=newer) == 2

    perform(body)


def blobs_of(manifest: str) -> list[str]:
    """The paths of the blobs that a manifest names."""
    return [f"/store/{blob_key(name)}" for name in sorted(checkpoints.blobs_named(checkpoints.unsealed(disk.read(manifest))))]


def damage(how: str, path: str) -> None:
    if how == "flipped":
        flip_byte(disk, path, -5)
    elif how == "empty":
        disk.overwrite(path, b"")
    else:
        disk.unlink(path)


@pytest.mark.parametrize("how", ["flipped", "empty"])
def test_a_corrupt_newest_generation_is_passed_over_with_a_warning(how: str) -> None:
    async def body() -> str | None:
        if ctx().attempt_number == 0:
            await ctx().checkpoint.save("older")
            await ctx().checkpoint.save("newer")
            damage(how, manifests(disk)[-1])
            raise ConnectionError("again")
        with pytest.raises(CheckpointCorrupt):
            await ctx().checkpoint.load(str, fallback=False)
        with pytest.warns(CheckpointFallback, match="newer ones are not valid"):
            loaded: str | None = await ctx().checkpoint.load(str)
        return loaded

    assert perform(body, task=retries) == "older"
    assert any("newer ones are not valid" in text for text in memory_store(disk).state_sync("it").warnings)


@pytest.mark.parametrize("how", ["flipped", "empty", "gone"])
def test_a_payload_that_is_damaged_or_gone_makes_its_generation_invalid(how: str) -> None:
    async def body() -> bytes | None:
        if ctx().attempt_number == 0:
            await ctx().checkpoint.save(b"older" * 50_000)
            await ctx().checkpoint.save(b"newer" * 50_000)
            damage(how, blobs_of(manifests(disk)[-1])[0])
            raise ConnectionError("again")
        with pytest.warns(CheckpointFallback):
            loaded: bytes | None = await ctx().checkpoint.load(bytes)
        return loaded

    assert perform(body, task=retries) == b"older" * 50_000


def test_where_none_is_valid_loading_is_refused() -> None:
    async def body() -> None:
        if ctx().attempt_number == 0:
            await ctx().checkpoint.save("older")
            await ctx().checkpoint.save("newer")
            for path in manifests(disk):
                damage("flipped", path)
            raise ConnectionError("again")
        await ctx().checkpoint.load(str)

    with pytest.raises(CheckpointCorrupt):
        perform(body, task=retries)


class Unreadable:
    """A disk on which a checkpoint can't be read."""

    def __init__(self, inner: MemoryDisk, code: int) -> None:
        self._inner = inner
        self._code = code
        self.is_on = False

    def read(self, path: str) -> bytes:
        self._refuse(path)
        return self._inner.read(path)

    def scan(self, path: str) -> Any:
        self._refuse(path)
        return self._inner.scan(path)

    def _refuse(self, path: str) -> None:
        if self.is_on and "checkpoints" in path:
            raise OSError(self._code, os.strerror(self._code), path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_what_cannot_be_read_is_an_error_and_never_None(code: int) -> None:
    faulty = Unreadable(disk, code)

    async def body() -> None:
        await ctx().checkpoint.save("there")
        faulty.is_on = True
        with pytest.raises(OSError, match=r"\w") as caught:
            await ctx().checkpoint.load(str)
        assert isinstance(caught.value, HoldfastError)
        assert isinstance(caught.value, StorePermission) is (code == errno.EACCES)
        faulty.is_on = False
        assert await ctx().checkpoint.load(str) == "there"

    perform(body, on=faulty)  # type: ignore[arg-type]


@task
async def child(number: int) -> str | None:
    found: str | None = await ctx().checkpoint.load(str)
    await ctx().checkpoint.save(f"child {number}")
    return found


def test_siblings_and_parents_never_load_each_others_state() -> None:
    async def body() -> list[Any]:
        await ctx().checkpoint.save("parent")
        found = await asyncio.gather(*(child(n) for n in range(3)), child(0))
        return [*found, await ctx().checkpoint.load(str)]

    assert perform(body) == [None] * 4 + ["parent"]


def test_another_version_begins_without() -> None:
    async def body() -> tuple[bool, str | None, int]:
        found = (ctx().checkpoint.prev_exists(), await ctx().checkpoint.load(str), len(await ctx().checkpoint.history()))
        await ctx().checkpoint.save(f"of version {ctx().version}")
        return found

    one, two = works.with_options(version="1"), works.with_options(version="2")
    assert perform(body, task=one) == (False, None, 0)
    assert perform(body, task=two) == (False, None, 0)
    assert perform(body, task=one) == (True, "of version 1", 1)


def test_another_version_begins_without_however_often_it_begins() -> None:
    async def saves() -> None:
        await ctx().checkpoint.save("of version 1")

    async def crashes() -> None:
        raise OSError("before it saved")

    async def looks() -> tuple[bool, str | None]:
        return ctx().checkpoint.prev_exists(), await ctx().checkpoint.load(str)

    perform(saves, task=works.with_options(version="1"))
    with pytest.raises(OSError, match="before it saved"):
        perform(crashes, task=works.with_options(version="2"))
    assert perform(looks, task=works.with_options(version="2")) == (False, None)


def test_saving_without_waiting_takes_its_copy_before_it_returns(tmp_path: Path) -> None:
    async def body() -> list[Any]:
        checkpoint: Checkpoint = ctx().checkpoint
        found: list[Any] = []
        data = bytearray(b"as it was")
        assert await checkpoint.save(data, wait=False) is None
        data[:] = b"mutated!!"
        found.append(await checkpoint.load(bytes))
        state = {"seen": [1]}
        await checkpoint.save(state, wait=False)
        state["seen"].append(2)
        found.append(await checkpoint.load(dict))
        file = tmp_path / "file"
        file.write_bytes(b"as it was")
        await checkpoint.save(file, wait=False)
        file.write_bytes(b"mutated!!")
        found.append(await checkpoint.load(bytes))
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "a").write_bytes(b"as it was")
        await checkpoint.save(folder, wait=False)
        (folder / "a").write_bytes(b"mutated!!")
        (folder / "b").write_bytes(b"new")
        loaded = await checkpoint.load()
        assert loaded is not None
        found.append({path.name: path.read_bytes() for path in loaded.iterdir()})
        assert not [path for path in checkpoint.path.iterdir() if path.name.startswith("copy")], "copies are gone once written"
        return found

    assert perform(body) == [b"as it was", {"seen": [1]}, b"as it was", {"a": b"as it was"}]


@pytest.mark.parametrize("reported_by", ["save", "flush", "load", "end"])
def test_a_save_behind_that_fails_is_reported_by_what_comes_next(reported_by: str) -> None:
    full = FullDisk(disk, after_bytes=100_000)

    async def body() -> str:
        await ctx().checkpoint.save("good")
        await ctx().checkpoint.save(os.urandom(1_000_000), wait=False)
        if reported_by == "end":
            return "returned"
        with pytest.raises(OSError, match="no space"):
            await {"save": lambda: ctx().checkpoint.save("next"), "flush": ctx().checkpoint.flush, "load": ctx().checkpoint.load}[
                reported_by
            ]()
        full.free()
        loaded: str = await ctx().checkpoint.load(str)
        return loaded

    if reported_by != "end":
        assert perform(body, on=full) == "good"
        return
    with pytest.raises(OSError, match="no space"):
        perform(body, on=full)


async def forgets() -> None:
    ctx().checkpoint.save("never awaited")


@pytest.mark.parametrize("colour", ["async", "def"])
def test_a_forgotten_await_fails_the_attempt_and_names_the_line(colour: str) -> None:
    call = {"async": works.call, "def": forgets_too.call}[colour]()
    globals()["body"] = forgets
    with pytest.raises(ForgottenAwait, match=r"test_generations\.py:\d+") as caught:
        asyncio.run(run(call, run_name="it", store=memory_store(disk)))
    line = Path(__file__).read_text().splitlines()[int(caught.value.where.rpartition(":")[2]) - 1]
    assert "checkpoint.save(" in line


@task
def forgets_too() -> None:
    ctx().checkpoint.save("never awaited")


@task
def sync_body() -> list[Any]:
    checkpoint: Checkpoint = ctx().checkpoint
    found: list[Any] = [checkpoint.load_sync(), checkpoint.prev_exists()]
    generation = checkpoint.save_sync({"n": 1}, metadata={"m": 2})
    assert checkpoint.save_sync({"n": 2}, wait=False) is None
    checkpoint.flush_sync()
    found += [generation.n, checkpoint.load_sync(dict), len(checkpoint.history_sync()), checkpoint.prev_exists()]
    return found


def test_a_def_body_has_the_same_verbs() -> None:
    assert asyncio.run(run(sync_body.call(), run_name="it", store=memory_store(disk))) == [None, False, 0, {"n": 2}, 2, True]


def test_every_awaited_verb_has_its_twin() -> None:
    verbs = {name for name in vars(Checkpoint) if not name.startswith("_")} - {"path", "prev_exists"} - {"finish", "discard", "give_up"}
    plain = {name for name in verbs if not name.endswith("_sync")}
    assert plain == {"save", "load", "flush", "history"}
    assert verbs == plain | {f"{name}_sync" for name in plain}


@pytest.mark.parametrize("verb", ["save_sync", "load_sync", "flush_sync", "history_sync"])
def test_a_sync_verb_on_the_loop_is_refused(verb: str) -> None:
    async def body() -> None:
        getattr(ctx().checkpoint, verb)(*(["x"] if verb == "save_sync" else []))

    with pytest.raises(BlockingCall, match="await ctx"):
        perform(body)


@pytest.mark.parametrize("when", ["torn", "after"])
@pytest.mark.parametrize("size", [10, 200_000])
def test_a_kill_at_any_operation_of_a_save_leaves_the_one_before_or_the_whole_new_one(size: int, when: When) -> None:
    async def body() -> str:
        found: bytes | None = await ctx().checkpoint.load(bytes)
        if found is not None:
            return f"{found[:1].decode()} {len(found)}"
        for letter in (b"1", b"2", b"3"):
            await ctx().checkpoint.save(letter * size)
            did.append(letter)
        return "done"

    counting = CrashDisk(MemoryDisk())
    perform(body, on=counting)
    for at, operation in enumerate(counting.operations, start=1):
        did.clear()
        found = MemoryDisk()
        crashing = CrashDisk(found, at=at, when=when)
        with suppress(SimulatedCrash, HoldfastError):
            perform(body, on=crashing)
        if not crashing.crashed:  # how many frames a journal takes hangs on its timing
            continue
        saved = len(did)
        allowed = {"done" if n == 0 or saved == 3 else f"{n} {size}" for n in (saved, saved + 1)} | {f"{saved} {size}"}
        assert perform(body, on=found.copy()) in allowed, f"killed {when} {operation}"


def test_a_fenced_owners_late_saves_are_never_loaded_and_delete_nothing_that_is_needed() -> None:
    told, over = asyncio.Event(), asyncio.Event()

    async def first_owner() -> None:
        for n in range(2):
            await ctx().checkpoint.save(f"first owner {n}")
        did.append("saved")
        try:
            await told.wait()
            for n in range(4):
                try:
                    await ctx().checkpoint.save(f"zombie {n}")
                except HoldfastError as error:
                    did.append(type(error).__name__)
        finally:
            over.set()

    async def second_owner() -> list[str | None]:
        found = [await ctx().checkpoint.load(str)]
        told.set()
        await asyncio.wait_for(over.wait(), 20)
        found.append(await ctx().checkpoint.load(str))
        await ctx().checkpoint.save("second owner")
        found.append(await ctx().checkpoint.load(str))
        return found

    async def body() -> list[str | None] | None:
        return await second_owner() if did else await first_owner()

    async def main() -> list[str | None]:
        handle = await start(works(), run_name="it", store=memory_store(disk), grace=0.05)
        for _ in range(100_000):
            if did:
                break
            await asyncio.sleep(0)
        result: list[str | None] = await run(works(), run_name="it", store=memory_store(disk), resume="takeover")
        with pytest.raises(HoldfastError):
            await handle.result()
        return result

    globals()["body"] = body
    assert asyncio.run(main()) == ["first owner 1", "first owner 1", "second owner"]


def test_the_latest_file_of_a_framework_is_found(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nowhere") is None
    assert latest_checkpoint(tmp_path) is None
    for age, name in enumerate(["b", "a", "c"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "last.ckpt").write_bytes(b"")
        os.utime(tmp_path / name / "last.ckpt", (1000 - age, 1000 - age))
    assert latest_checkpoint(tmp_path) == tmp_path / "b" / "last.ckpt"
    assert latest_checkpoint(tmp_path, key=str) == tmp_path / "c" / "last.ckpt"
    assert latest_checkpoint(tmp_path, "a/*.ckpt") == tmp_path / "a" / "last.ckpt"
    assert checkpoints.latest_checkpoint is latest_checkpoint


def test_saves_made_at_once_are_all_there_and_delete_what_is_older(tmp_path: Path) -> None:
    async def saves_at_once() -> list[int]:
        for _ in range(3):
            await asyncio.gather(*(ctx().checkpoint.save(number) for number in range(4)))
        return [generation.n for generation in await ctx().checkpoint.history()]

    global body
    body = saves_at_once
    assert asyncio.run(run(works(), run_name="it", store=tmp_path)) == [10, 11]


def test_a_flush_that_is_cancelled_leaves_what_is_written_behind_at_work(tmp_path: Path) -> None:
    async def gives_up_waiting() -> int:
        await ctx().checkpoint.save(1, wait=False)
        flush = asyncio.create_task(ctx().checkpoint.flush())
        await asyncio.sleep(0)
        flush.cancel()
        await asyncio.wait({flush})
        return len(await ctx().checkpoint.history())

    global body
    body = gives_up_waiting
    assert asyncio.run(run(works(), run_name="it", store=tmp_path)) == 1
