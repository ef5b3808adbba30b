"""A hold ends with its process, whatever its children do."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.folders.disk import OsDisk
from holdfast.folders.local import LocalFolder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no advisory locks and no forks")

OWNER = """
import os, sys
from holdfast.folders.disk import OsDisk
hold = OsDisk().lock(sys.argv[1], b"parent")
assert not isinstance(hold, bytes)
if os.fork() == 0:
    print(os.getpid(), flush=True)
    sys.stdin.read()  # lives until the test closes the pipe
    os._exit(0)
sys.stdin.read()
"""


def start(program: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def folder_in(place: Path) -> LocalFolder:
    return LocalFolder(OsDisk(), str(place), place.as_uri())


def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    owner = start(OWNER, tmp_path / "lock")
    assert owner.stdin is not None
    assert owner.stdout is not None
    child = int(owner.stdout.readline())
    folder = folder_in(tmp_path)
    assert folder.held_sync("lock") == b"parent"
    assert folder.hold_sync("lock", b"me") == b"parent"
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    hold = folder.hold_sync("lock", b"me")
    os.kill(child, 0)  # it lives
    assert not isinstance(hold, bytes)
    hold.release()
    owner.stdin.close()
    assert owner.stdout.read() == ""  # it ended
    owner.stdout.close()


def test_a_forked_child_can_neither_keep_nor_release_what_its_parent_holds(tmp_path: Path) -> None:
    program = """
import os, sys
from holdfast.folders.disk import OsDisk
hold = OsDisk().lock(sys.argv[1], b"parent")
child = os.fork()
if child == 0:
    hold.release()  # not its own: nothing happens
    os._exit(0)
os.waitpid(child, 0)
print(OsDisk().lock_owner(sys.argv[1]).decode(), flush=True)
"""
    owner = start(program, tmp_path / "lock")
    assert owner.communicate()[0].strip() == "parent"
    assert folder_in(tmp_path).held_sync("lock") is None


def test_a_hold_that_nobody_refers_to_is_released(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    hold = folder.hold_sync("lock", b"me")
    assert folder.held_sync("lock") == b"me"
    del hold
    gc.collect()
    assert folder.held_sync("lock") is None


def test_who_is_written_whole_over_a_longer_name(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    for who in (b"a much longer name than the next one", b"short"):
        hold = folder.hold_sync("lock", who)
        assert not isinstance(hold, bytes)
        assert folder.held_sync("lock") == who
        hold.release()


def test_looking_does_not_create(tmp_path: Path) -> None:
    assert folder_in(tmp_path).held_sync("lock") is None
    assert folder_in(tmp_path / "nowhere").held_sync("lock") is None
    assert not list(tmp_path.iterdir())


def test_operations_work_in_a_forked_child(tmp_path: Path) -> None:
    program = """
import asyncio, os, sys
from holdfast.folders.opening import open_folder
folder = open_folder(sys.argv[1])
asyncio.run(folder.put("parent", b"1"))
child = os.fork()
if child == 0:
    asyncio.run(folder.put("child", b"2"))
    os._exit(0)
os.waitpid(child, 0)
print([entry.name for entry in asyncio.run(folder.list(""))])
"""
    assert start(program, tmp_path / "store").communicate()[0].strip() == "['child', 'parent']"
