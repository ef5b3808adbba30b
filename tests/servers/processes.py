"""Servers as processes of their own: on a free port of the loopback interface, awaited, and ended with what they started."""

from __future__ import annotations

import http.client
import importlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

HOST = "127.0.0.1"
#: Seconds that a server may take to answer.
PATIENCE = 60.0
TRIES = 3


def unavailable(what: str, why: str) -> pytest.skip.Exception | pytest.fail.Exception:
    """A server that can't be had: a skip that names it, or, where all of them have to be there, a failure."""
    if os.environ.get("HOLDFAST_SERVERS") == "required":
        return pytest.fail.Exception(f"{what} is required here (HOLDFAST_SERVERS=required): {why}", pytrace=False)
    return pytest.skip.Exception(f"{what}: {why}", allow_module_level=True)


def needed(module: str, package: str = "") -> ModuleType:
    """Import what a server, or the way to it, is made of."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise unavailable(package or module, f"it is not installed ({error})") from error


def script(name: str) -> Path | None:
    """A program of this environment, or one that is on the path."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    return None if found is None else Path(found)


@contextmanager
def serving(what: str, command: Sequence[str | Path], log: Path, environment: dict[str, str] | None = None) -> Generator[int]:
    """Run `command`, with each `{port}` in it or in its `environment` filled in, until the block ends. Gives the port."""
    for _ in range(TRIES):  # somebody else may take the port in between
        port = _free_port()
        filled = [str(part).format(port=port) for part in command]
        extra = {name: value.format(port=port) for name, value in (environment or {}).items()}
        with log.open("wb") as out:
            process = subprocess.Popen(filled, env={**os.environ, **extra}, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            if _answers(process, port):
                yield port
                return
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    raise unavailable(what, f"it did not start: {log.read_text(errors='replace')[-400:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the server speaks HTTP, whatever it says."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            request(port, "GET", "/")
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


def request(port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """One plain request to a server here: its status and its body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
