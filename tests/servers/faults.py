"""A server between a client and the real one, which fails as it is told to: the ways in which a network and a store do fail."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote

from servers.processes import HOST

What = Literal["refuse", "applied", "reset", "applied_reset", "stall", "truncate"]

BODIES = {
    403: "<Error><Code>AccessDenied</Code><Message>no</Message></Error>",
    500: "<Error><Code>InternalError</Code><Message>oops</Message></Error>",
    503: "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>",
    507: "<Error><Code>InsufficientStorage</Code><Message>full</Message></Error>",
}


@dataclass
class Fault:
    """What happens to the next `times` requests with this method and path.

    `refuse` answers with `status` and does nothing; `applied` does it, and then answers with `status`; `reset` breaks the connection, and
    `applied_reset` does it first; `stall` does not answer until the server ends; `truncate` breaks off in the middle of the body.
    """

    what: What
    status: int = 500
    method: str = "*"
    path: str = "*"
    times: int = 1


@dataclass
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class FaultServer:
    """The real server at `upstream`, through `port`."""

    upstream: int
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self.faults.extend(faults)

    def clear(self) -> None:
        with self._lock:
            self.faults.clear()
            self.seen.clear()

    def count(self, method: str) -> int:
        return sum(each.method == method for each in self.seen)

    def take(self, method: str, path: str, headers: dict[str, str]) -> Fault | None:
        with self._lock:
            self.seen.append(Seen(method, path, headers))
            for fault in self.faults:
                if fault.times > 0 and fnmatchcase(method, fault.method) and fnmatchcase(unquote(path), fault.path):
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: FaultServer

    def _handle(self) -> None:
        body = self._body()
        fault = self.faulty.take(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        if fault is None:
            self._relay(body)
            return
        if fault.what in ("applied", "applied_reset"):
            self._ask(body)
        match fault.what:
            case "refuse" | "applied":
                self._answer(fault.status, [("Content-Type", "application/xml")], BODIES.get(fault.status, "").encode())
            case "reset" | "applied_reset":
                self._break()
            case "stall":
                self.faulty.ended.wait()
                self.close_connection = True
            case "truncate":
                self._relay(body, whole=False)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _handle  # noqa: N815 - named by the standard library

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return parts

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(HOST, self.faulty.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "expect"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _relay(self, body: bytes, *, whole: bool = True) -> None:
        status, headers, answer = self._ask(body)
        kept = [(name, value) for name, value in headers if name.lower() not in ("transfer-encoding", "connection", "date", "server")]
        if self.command != "HEAD":
            kept = [*((name, value) for name, value in kept if name.lower() != "content-length"), ("Content-Length", str(len(answer)))]
        self._send(status, kept, answer if whole else answer[: len(answer) // 2])
        if not whole:
            self._break()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        shown = b"" if self.command == "HEAD" else body
        self._send(status, [*headers, ("Content-Length", str(len(shown)))], shown)

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _break(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
        self.connection.close()
        self.close_connection = True

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the client went away, or we broke the connection ourselves
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def fault_server(upstream: int) -> Generator[FaultServer]:
    """Run one between clients and the server at the port `upstream`."""
    faulty = FaultServer(upstream)
    server = _Server((HOST, 0), type("Handler", (_Handler,), {"faulty": faulty}))
    faulty.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield faulty
    finally:
        faulty.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
