"""Every kind of payload comes back as it was saved, and what is not a value is not taken for one."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import tarfile
import tempfile
import threading
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel, TypeAdapter

from holdfast import ctx, run, task
from holdfast.errors import HoldfastError, InvalidName, ResultIncompatible, TaskTimedOut, UnrecordableResult
from holdfast.testing.stores import memory_store

Body = Callable[[], Awaitable[Any]]

body: Body


@task
async def works() -> None:
    await body()


def within_a_task(given: Body) -> None:
    """Run `given` as the body of a task in a durable run."""
    global body
    body = given
    asyncio.run(run(works(), run_name="it", store=memory_store()))


class Model(BaseModel):
    step: int
    at: datetime
    raw: bytes = b"\x00\xff"


@dataclass
class Point:
    x: int
    pair: tuple[int, str]
    at: datetime


NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
MODEL = Model(step=3, at=NOW)
POINT = Point(1, (2, "b"), NOW)


def a_tar() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("inside"), io.BytesIO())
    return data.getvalue()


@pytest.mark.parametrize(
    ("saved", "as_type", "loaded"),
    [
        (b"abc", bytes, b"abc"),
        (b"", bytes, b""),
        (bytearray(b"abc"), bytes, b"abc"),
        (memoryview(b"abc"), bytes, b"abc"),
        (a_tar(), bytes, a_tar()),
        (b"x" * 200_000, bytes, b"x" * 200_000),
        (b'{"a": 1}', dict[str, int], {"a": 1}),
        ("text", str, "text"),
        ("", str, ""),
        ("long" * 1000, str, "long" * 1000),
        ("x" * 300, str, "x" * 300),
        (0, int, 0),
        (None, TypeAdapter(int | None), None),
        (3, TypeAdapter(int | None), 3),
        ("last", TypeAdapter(Literal["first", "last"]), "last"),
        ({"a": [1, 2.5, None, True]}, dict[str, Any], {"a": [1, 2.5, None, True]}),
        ([1, 2], list[int], [1, 2]),
        ({"x": NOW}, dict[str, datetime], {"x": NOW}),
        ({"step": 3, "seen": {1, 2}, "pair": (1, 2)}, dict[str, Any], {"step": 3, "seen": {1, 2}, "pair": (1, 2)}),
        (MODEL, Model, MODEL),
        (MODEL, TypeAdapter(Model), MODEL),
        (POINT, Point, POINT),
        (POINT, TypeAdapter(Point), POINT),
        ([1] * 100_000, list[int], [1] * 100_000),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, memoryview) else repr(value)[:40],
)
def test_what_is_saved_is_loaded_as_its_type(saved: object, as_type: Any, loaded: object) -> None:
    async def body() -> None:
        await ctx().checkpoint.save(saved)
        found = await ctx().checkpoint.load(as_type)
        assert found == loaded
        assert type(found) is type(loaded)

    within_a_task(body)


def test_an_array_is_loaded_as_it_was() -> None:
    async def body() -> None:
        saved = {"weights": np.arange(50_000, dtype="float32").reshape(50, 1000), "step": 3}
        await ctx().checkpoint.save(saved)
        found = await ctx().checkpoint.load(dict)
        assert found["step"] == 3
        np.testing.assert_array_equal(found["weights"], saved["weights"])
        assert found["weights"].dtype == np.float32

    within_a_task(body)


def test_plain_data_can_be_loaded_as_a_dataclass_or_model() -> None:
    async def body() -> None:
        await ctx().checkpoint.save({"step": 3, "at": NOW, "raw": b"ab"})
        assert await ctx().checkpoint.load(Model) == Model(step=3, at=NOW, raw=b"ab")
        await ctx().checkpoint.save({"x": 1, "pair": (2, "b"), "at": NOW})
        assert await ctx().checkpoint.load(Point) == POINT

    within_a_task(body)


def test_without_a_type_a_path_is_loaded() -> None:
    async def body() -> None:
        await ctx().checkpoint.save(b"abc")
        found = await ctx().checkpoint.load()
        assert isinstance(found, Path)
        assert (found.name, found.read_bytes()) == ("payload", b"abc")
        assert (await ctx().checkpoint.load(Path)).read_bytes() == b"abc"

    within_a_task(body)


def test_nothing_saved_is_None_and_saved_emptiness_is_not() -> None:
    async def body() -> None:
        assert await ctx().checkpoint.load() is None
        assert await ctx().checkpoint.load(bytes) is None
        assert not ctx().checkpoint.prev_exists()
        await ctx().checkpoint.save(b"")
        assert ctx().checkpoint.prev_exists()
        assert await ctx().checkpoint.load(bytes) == b""
        found = await ctx().checkpoint.load()
        assert found is not None
        assert found.read_bytes() == b""

    within_a_task(body)


def test_what_is_saved_is_not_valid_as_another_type() -> None:
    async def body() -> None:
        await ctx().checkpoint.save({"step": "three"})
        with pytest.raises(ResultIncompatible):
            await ctx().checkpoint.load(Model)
        await ctx().checkpoint.save(b"\x00 no json")
        with pytest.raises(ResultIncompatible):
            await ctx().checkpoint.load(Model)

    within_a_task(body)


def test_data_that_would_not_come_back_is_refused_and_the_last_save_stays() -> None:
    async def body() -> None:
        await ctx().checkpoint.save(b"good")
        with pytest.raises(UnrecordableResult):
            await ctx().checkpoint.save({"lock": object()})
        assert await ctx().checkpoint.load(bytes) == b"good"

    within_a_task(body)


def test_a_str_is_data_and_one_that_names_a_file_warns(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")

    async def body() -> None:
        with pytest.warns(UserWarning, match="pass a Path") as caught:
            await ctx().checkpoint.save(str(tmp_path / "model.bin"))
        assert len(caught) == 1
        assert await ctx().checkpoint.load(str) == str(tmp_path / "model.bin")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await ctx().checkpoint.save(str(tmp_path / "no such file"))

    within_a_task(body)


def test_a_file_is_saved_by_its_path(tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"weights" * 100_000)

    async def body() -> None:
        generation = await ctx().checkpoint.save(source)
        assert generation.size == 700_000
        found = await ctx().checkpoint.load()
        assert found.name == "payload"
        assert found.read_bytes() == source.read_bytes()
        assert found != source
        assert await ctx().checkpoint.load(bytes) == source.read_bytes()

    within_a_task(body)


def test_a_missing_file_is_an_error_of_its_own_and_the_last_save_stays(tmp_path: Path) -> None:
    async def body() -> None:
        await ctx().checkpoint.save(b"good")
        with pytest.raises((HoldfastError, FileNotFoundError)):
            await ctx().checkpoint.save(tmp_path / "nothing here")
        assert await ctx().checkpoint.load(bytes) == b"good"

    within_a_task(body)


def tree(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = ("link", path.readlink())
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = (path.read_bytes(), path.stat().st_mode & 0o777)
    return found


def test_a_directory_comes_back_with_its_tree_modes_and_links(tmp_path: Path) -> None:
    source = tmp_path / "model"
    (source / "a" / "b").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "a" / "weights").write_bytes(b"w" * 1000)
    (source / "a" / "b" / "zero").write_bytes(b"")
    (source / "run.sh").write_bytes(b"#!")
    (source / "run.sh").chmod(0o755)
    (source / "a" / "private").write_bytes(b"p")
    (source / "a" / "private").chmod(0o600)
    (source / "latest").symlink_to("a/weights")
    (source / "a" / "b" / "up").symlink_to("../weights")
    (source / "newest").symlink_to("a")

    async def body() -> None:
        await ctx().checkpoint.save(source)
        found = await ctx().checkpoint.load()
        assert tree(found) == tree(source)

    within_a_task(body)


def test_an_empty_directory_is_not_nothing(tmp_path: Path) -> None:
    source = tmp_path / "empty"
    source.mkdir()

    async def body() -> None:
        await ctx().checkpoint.save(source)
        found = await ctx().checkpoint.load()
        assert found is not None
        assert found.is_dir()
        assert list(found.iterdir()) == []

    within_a_task(body)


def test_the_order_and_rest_of_a_directory_are_saved_anew_each_time(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    (source / "old").write_bytes(b"1")

    async def body() -> None:
        await ctx().checkpoint.save(source)
        (source / "old").unlink()
        (source / "new").write_bytes(b"2")
        await ctx().checkpoint.save(source)
        found = await ctx().checkpoint.load()
        assert tree(found) == {"new": (b"2", (source / "new").stat().st_mode & 0o777)}

    within_a_task(body)


@pytest.mark.parametrize(
    ("name", "target"),
    [("out", "../secret"), ("out", "/etc/passwd"), ("a/out", "../../secret"), ("out", "a/../../secret"), ("out", "../model/a")],
)
def test_a_link_that_leads_out_is_refused_and_the_last_save_stays(name: str, target: str, tmp_path: Path) -> None:
    source = tmp_path / "model"
    (source / "a").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"s")
    (source / name).symlink_to(target)

    async def body() -> None:
        await ctx().checkpoint.save(b"good")
        with pytest.raises(InvalidName, match="leads out"):
            await ctx().checkpoint.save(source)
        assert await ctx().checkpoint.load(bytes) == b"good"

    within_a_task(body)


def test_a_link_inside_through_a_linked_folder_does_not_lead_out(tmp_path: Path) -> None:
    """`deep -> a/b`, `out -> deep/../../../secret` stays inside by its words, and leads out on the disk."""
    source = tmp_path / "model"
    (source / "x" / "y").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"s")
    (source / "x" / "y" / "up").symlink_to("../..")  # the root of the directory itself
    (source / "x" / "y" / "out").symlink_to("up/../secret")

    async def body() -> None:
        with pytest.raises(InvalidName, match="leads out"):
            await ctx().checkpoint.save(source)

    within_a_task(body)


def test_metadata_is_kept_beside_the_generation() -> None:
    async def body() -> None:
        saved = await ctx().checkpoint.save(b"x", metadata={"loss": 0.25, "epoch": 3})
        assert saved.metadata == {"loss": 0.25, "epoch": 3}
        (found,) = await ctx().checkpoint.history()
        assert found == saved
        assert found.metadata == {"loss": 0.25, "epoch": 3}

    within_a_task(body)


def test_the_attempts_directory_is_gone_when_it_ended() -> None:
    seen: list[Path] = []

    async def body() -> None:
        await ctx().checkpoint.save(b"abc")
        found = await ctx().checkpoint.load()
        seen.extend([ctx().checkpoint.path, found])
        assert all(path.exists() for path in seen)

    within_a_task(body)
    assert not any(path.exists() for path in seen)


def test_a_link_in_a_circle_or_to_nothing_is_a_link_like_others(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for name, target in (("one", "two"), ("two", "one"), ("here", "."), ("nothing", "a/../b")):
        (source / name).symlink_to(target)

    async def body() -> None:
        await ctx().checkpoint.save(source)
        found = await ctx().checkpoint.load()
        assert found is not None
        assert {path.name: path.readlink() for path in found.iterdir()} == {path.name: path.readlink() for path in source.iterdir()}

    within_a_task(body)


going_on = threading.Event()
ended = threading.Event()


@task(timeout=0.1)
def cannot_be_stopped() -> None:
    ctx().checkpoint.save_sync(b"abc")
    found = ctx().checkpoint.load_sync()
    going_on.wait(60)
    assert found is not None
    assert found.exists()
    ended.set()


def test_the_directory_of_an_abandoned_attempt_stays_for_its_body_and_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def main() -> None:
        with pytest.raises(TaskTimedOut):
            await run(cannot_be_stopped.call(), run_name="it", store=memory_store(), grace=0.0)
        gc.collect()
        assert await asyncio.to_thread(os.listdir, tmp_path)
        going_on.set()
        assert await asyncio.to_thread(ended.wait, 60)

    asyncio.run(main())
    while list(tmp_path.iterdir()):  # until the thread has let go of its context
        gc.collect()
