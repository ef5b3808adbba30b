"""S3 on this machine: servers of their own process, on a free port of the loopback interface, for as long as a row takes.

moto moves large bodies faster than ministack, and small ones at half its rate. What is measured against either is a ratio: both sides ask
the same server.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
BUCKET = "benchmarks"
SECONDS_TO_START = 60


@contextmanager
def ministack() -> Iterator[dict[str, Any]]:
    """The storage options of a new, empty server, which is quick with small objects."""
    port = _free_port()
    environment = {"BIND_HOST": HOST, "GATEWAY_PORT": str(port), "SERVICES": "s3"}
    with _serving([_script("ministack")], port, environment) as options:
        yield options


@contextmanager
def moto() -> Iterator[dict[str, Any]]:
    """The same, of one that is quick with large objects."""
    port = _free_port()
    with _serving([_script("moto_server"), "-H", HOST, "-p", str(port)], port, {}) as options:
        yield options


def _script(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise SystemExit(f"{name} is not installed here: make .venv/.ready-dev")
    return str(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def _serving(command: Sequence[str], port: int, environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        _make_bucket(process, port)
        endpoint = f"http://{HOST}:{port}"
        yield {"key": "test", "secret": "testtest", "endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}}
    finally:
        process.terminate()
        process.wait()


def _make_bucket(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=10)
        try:
            connection.request("PUT", f"/{BUCKET}")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    raise SystemExit(f"{process.args!r} does not answer")
