"""From what a user writes to a folder, or to an error that says what works."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.errors import InvalidName, InvalidOption, StoreInvalid
from holdfast.folders.opening import open_folder


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("/a/b", "file:///a/b"),
        ("/a/b/", "file:///a/b"),
        ("/a/../b", "file:///b"),
        ("/a b", "file:///a%20b"),
        ("/a%20b", "file:///a%2520b"),
        ("file:/a/b", "file:///a/b"),
        ("file:///a/b", "file:///a/b"),
        ("FILE:///a/b", "file:///a/b"),
        ("file://localhost/a", "file:///a"),
        ("file:///a%20b", "file:///a%20b"),
        (Path("/a/b"), "file:///a/b"),
        (Path("/s3:x"), "file:///s3%3Ax"),
        ("memory:", "memory:"),
        ("memory://", "memory:"),
        ("memory://name", "memory://name"),
        ("memory:name", "memory://name"),
        ("memory://name/a/b", "memory://name/a/b"),
    ],
)
def test_a_url_opens_what_it_names(url: str | Path, opened: str) -> None:
    assert open_folder(url).url == opened


@pytest.mark.parametrize("url", ["/a b/%41", "memory:", "memory://name", "memory://na%20me"])
def test_the_url_of_a_folder_opens_it_again(url: str) -> None:
    folder = open_folder(url)
    for each in (folder, folder.child("c"), folder.child("c/d e"), folder.child("%41")):
        assert open_folder(each.url).url == each.url


def test_a_relative_path_is_made_absolute_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = open_folder("here")
    monkeypatch.chdir("/")
    asyncio.run(folder.put("a", b""))
    assert (tmp_path / "here" / "a").exists()


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert open_folder("~/store").url == (tmp_path / "store").as_uri()


@pytest.mark.parametrize(("url"), ["C:/store", "c:\\store"])
def test_a_windows_drive_is_a_path(url: str) -> None:
    assert open_folder(url).url.startswith("file:")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("fiel:///a", "did you mean file:?"),
        ("memroy:", "did you mean memory:?"),
        ("qqqqqq://x", "memory:, s3:, gs:, abfs: and what fsspec knows work"),
        ("run:1", "./run:... is a path"),
        ("simplecache::s3://bucket/x", "a chain of filesystems"),
        ("zip://a.zip::/tmp", "a chain of filesystems"),
        ("zip://a.zip", "an archive"),
        ("https://host/x", "can't be written to"),
        ("file://data/x", "write file:///data/..."),
        ("", "not a path"),
        ("a\0b", "not a path"),
    ],
)
def test_what_can_not_be_a_store_is_refused_with_what_can(url: str, says: str) -> None:
    with pytest.raises(StoreInvalid) as caught:
        open_folder(url)
    assert says in str(caught.value)


@pytest.mark.parametrize("url", ["/a", "memory:"])
def test_an_option_that_nobody_reads_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption, match="anon"):
        open_folder(url, anon=True)


def test_a_path_below_a_memory_store_is_validated() -> None:
    with pytest.raises(InvalidName):
        open_folder("memory://name/a/../b")


def test_a_memory_store_is_one_in_a_process_under_each_name() -> None:
    asyncio.run(open_folder("memory://one").put("a/b", b"1"))
    assert asyncio.run(open_folder("memory:one").get("a/b")) == b"1"
    assert asyncio.run(open_folder("memory://one/a").get("b")) == b"1"
    assert asyncio.run(open_folder("memory://two").stat("a/b")) is None
    asyncio.run(open_folder("memory://one").delete_tree(""))


def test_reading_creates_nothing(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "deep" / ".holdfast")

    async def read() -> None:
        assert not await folder.list("")
        assert not await folder.walk("")
        assert await folder.stat("a") is None
        assert folder.logs is not None
        assert await folder.logs.held("a") is None
        await folder.delete("a")
        await folder.delete_tree("a")

    asyncio.run(read())
    assert not list(tmp_path.iterdir())


def test_a_store_in_a_project_tells_git_to_look_away(tmp_path: Path) -> None:
    asyncio.run(open_folder(tmp_path / "x" / ".holdfast").child("runs").put("a", b""))
    assert (tmp_path / "x" / ".holdfast" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("make", [True, False])
def test_a_store_elsewhere_and_one_that_was_there_are_left_alone(make: bool, tmp_path: Path) -> None:
    root = tmp_path / (".holdfast" if make else "results")
    if make:
        root.mkdir()
    asyncio.run(open_folder(root).put("a", b""))
    assert [each.name for each in root.iterdir()] == ["a"]


def test_the_opener_loads_what_a_store_needs_only_with_the_first_store() -> None:
    program = """
import sys
from holdfast.folders.opening import open_folder
assert not {"fsspec", "aiofiles"} & set(sys.modules)
open_folder("here")
assert "fsspec" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
