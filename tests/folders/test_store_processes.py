"""Other processes at the same place: forked from this one, or writing beside it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers.fixtures import DEADLINE, Server

from holdfast.errors import ObjectExists
from holdfast.folders.protocol import Folder

pytestmark = pytest.mark.slow

FORKER = """
import asyncio, json, os, sys
from holdfast.errors import StoreError
from holdfast.folders.opening import open_folder
folder = open_folder(sys.argv[1], **json.loads(sys.argv[2]))

async def parent():
    await folder.put("parent", b"1")
    await folder.get("parent")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, asyncio_in_child())
        os._exit(0)
    os.waitpid(child, 0)
    print(os.read(read, 1000).decode())
    await folder.put("after", b"3")  # the parent's own connections still work
    await folder.aclose()

def asyncio_in_child():
    # as multiprocessing does it: the loop of the parent is not running here, though it looks so
    asyncio.events._set_running_loop(None)
    return asyncio.run(child())

async def child():
    try:
        await folder.put("child", await folder.get("parent") + b"2")
        await folder.aclose()
    except StoreError as error:
        return str(error).encode()
    return b"written"

asyncio.run(parent())
"""

WRITER = """
import asyncio, json, sys
from holdfast.folders.opening import open_folder

async def write():
    folder = open_folder(sys.argv[1], **json.loads(sys.argv[2]))
    for line in sys.stdin:
        verb, key = line.split()
        await (folder.put(key, b"beside") if verb == "put" else folder.delete(key))
        print("done", flush=True)
    await folder.aclose()

asyncio.run(write())
"""


@pytest.fixture(
    params=[
        "moto fsspec",
        "moto obstore",
        "fake_google fsspec",
        "fake_google obstore",
        pytest.param("azurite fsspec", marks=pytest.mark.stores),
        pytest.param("azurite obstore", marks=pytest.mark.stores),
    ]
)
def served(request: pytest.FixtureRequest) -> tuple[Server, str]:
    fixture, client = request.param.split()
    server: Server = request.getfixturevalue(fixture)
    return server, client


def start(program: str, served: tuple[Server, str], place: str) -> subprocess.Popen[str]:
    server, client = served
    options = {**(server.native if client == "obstore" else server.options), "client": client, "deadline": DEADLINE}
    command = [sys.executable, "-W", "error", "-c", program, f"{server.url}/{place}", json.dumps(options)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_opens_its_own_client_or_is_told_that_it_can_not(served: tuple[Server, str], tmp_path: Path) -> None:
    server, client = served
    place = f"forks/{tmp_path.name}-{client}"
    out, said = start(FORKER, served, place).communicate(timeout=60)
    assert said == ""

    async def look() -> dict[str, bytes]:
        folder = server.folder(place, client=client)
        found = {entry.name: await folder.get(entry.name) for entry in await folder.list("")}
        await folder.aclose()
        return found

    found = asyncio.run(look())
    if client == "obstore":
        assert "spawn" in out
        assert found == {"parent": b"1", "after": b"3"}
    else:
        assert out == "written\n"
        assert found == {"parent": b"1", "child": b"12", "after": b"3"}


def test_what_another_process_writes_and_deletes_is_seen_at_once(served: tuple[Server, str], tmp_path: Path) -> None:
    server, client = served
    place = f"beside/{tmp_path.name}-{client}"
    writer = start(WRITER, served, place)

    def tell(what: str) -> None:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(f"{what}\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "done\n"

    async def look(folder: Folder) -> None:
        assert not await folder.list("a")
        assert await folder.stat("a/x") is None
        tell("put a/x")
        assert [entry.name for entry in await folder.list("a")] == ["x"]
        assert [entry.name for entry in await folder.walk("")] == ["a/x"]
        assert await folder.get("a/x") == b"beside"
        with pytest.raises(ObjectExists):
            await folder.create("a/x", b"here")
        await folder.put("a/x", b"here, and longer")
        tell("put a/x")
        found = await folder.stat("a/x")
        assert found is not None
        assert found.size == len(b"beside")
        tell("delete a/x")
        assert not await folder.list("a")
        assert await folder.stat("a/x") is None

    async def opened() -> None:
        folder = server.folder(place, client=client)
        try:
            await look(folder)
        finally:
            await folder.aclose()

    asyncio.run(opened())
    _, said = writer.communicate(timeout=30)
    assert said == ""
