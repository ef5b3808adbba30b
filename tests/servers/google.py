"""As much of Google's two protocols, JSON and XML, as folders ask for, in memory, with their conditions."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from servers.processes import HOST

#: Status, body, headers.
Answer: TypeAlias = tuple[int, Any, dict[str, str]]

#: Small, so that a listing of a few objects comes in pages.
PAGE = 7


@dataclass(frozen=True)
class _Object:
    data: bytes
    updated: str


class _Store:
    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.objects: dict[str, _Object] = {}
        self.lock = threading.Lock()

    def write(self, name: str, data: bytes) -> None:
        self.objects[name] = _Object(data, datetime.now(UTC).isoformat().replace("+00:00", "Z"))

    def shown(self, name: str) -> dict[str, str]:
        found = self.objects[name]
        return {
            "kind": "storage#object",
            "name": name,
            "size": str(len(found.data)),
            "updated": found.updated,
            "timeCreated": found.updated,
        }

    def listed(self, prefix: str, delimiter: str, after: str) -> dict[str, Any]:
        ends: dict[str, bool] = {}  # what is shown, and whether it stands for what lies below it
        for name in sorted(self.objects):
            if name.startswith(prefix):
                head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name[len(prefix) :], "", "")
                ends[f"{prefix}{head}{cut}"] = bool(cut)
        rest = [end for end in sorted(ends) if end > after]
        page = rest[:PAGE]
        answer: dict[str, Any] = {
            "kind": "storage#objects",
            "items": [self.shown(end) for end in page if not ends[end]],
            "prefixes": [end for end in page if ends[end]],
        }
        return {**answer, "nextPageToken": page[-1]} if len(rest) > len(page) else answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: _Store

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.store.lock:
            of_json = parts.path.startswith(("/storage/", "/upload/"))
            status, answer, headers = self._answer(parts.path, query, body) if of_json else self._answer_xml(parts.path, query, body)
        said = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(said)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else said)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 - named by the standard library

    def _answer_xml(self, path: str, query: dict[str, str], body: bytes) -> Answer:
        bucket, _, name = unquote(path).lstrip("/").partition("/")
        objects = self.store.objects
        if bucket != self.store.bucket:
            return 404, b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist.</Message></Error>", {}
        if not name:
            listed = self.store.listed(query.get("prefix", ""), query.get("delimiter", ""), query.get("continuation-token", ""))
            return 200, _xml(listed), {}
        if self.command == "PUT":
            if self.headers.get("x-goog-if-generation-match") == "0" and name in objects:
                return 412, b"<Error><Code>PreconditionFailed</Code></Error>", {}
            source = unquote(self.headers.get("x-goog-copy-source", "")).partition("/")[2]
            if source and source not in objects:
                return 404, b"<Error><Code>NoSuchKey</Code></Error>", {}
            self.store.write(name, objects[source].data if source else body)
            return 200, b"", {"ETag": '"1"', "x-goog-generation": "1"}
        if name not in objects:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>", {}
        if self.command == "DELETE":
            del objects[name]
            return 204, b"", {}
        return 200, objects[name].data, {"ETag": '"1"', "Last-Modified": format_datetime(_time(objects[name].updated), usegmt=True)}

    def _answer(self, path: str, query: dict[str, str], body: bytes) -> Answer:
        there = re.fullmatch(r"(/upload)?/storage/v1/b/([^/]+)/o(?:/([^/]+)(?:/rewriteTo/b/[^/]+/o/[^/]+)?)?", path)
        if there is None or there[2] != self.store.bucket:
            return 404, _error(404, "The specified bucket does not exist."), {}
        if there[1]:
            return self._insert(query, body)
        if there[3] is None:
            return 200, self.store.listed(query.get("prefix", ""), query.get("delimiter", ""), query.get("pageToken", "")), {}
        name = unquote(there[3])
        if name not in self.store.objects:
            return 404, _error(404, f"No such object: {there[2]}/{name}"), {}
        return self._object(name, query)

    def _insert(self, query: dict[str, str], body: bytes) -> Answer:
        boundary = b"--" + self.headers["Content-Type"].partition("boundary=")[2].encode()
        _, about, content, _ = body.split(boundary)
        name, data = json.loads(_part(about))["name"], _part(content)
        if query.get("ifGenerationMatch") == "0" and name in self.store.objects:
            return 412, _error(412, "At least one of the pre-conditions you specified did not hold."), {}
        self.store.write(name, data)
        return 200, self.store.shown(name), {}

    def _object(self, name: str, query: dict[str, str]) -> Answer:
        if self.command == "DELETE":
            del self.store.objects[name]
            return 204, b"", {}
        if self.command == "POST":
            self.store.write(name, self.store.objects[name].data)
            return 200, {"done": True, "resource": self.store.shown(name)}, {}
        return 200, self.store.objects[name].data if query.get("alt") == "media" else self.store.shown(name), {}

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _xml(listed: dict[str, Any]) -> bytes:
    contents = "".join(
        f"<Contents><Key>{escape(each['name'])}</Key><Size>{each['size']}</Size><LastModified>{each['updated']}</LastModified>"
        '<ETag>"1"</ETag></Contents>'
        for each in listed["items"]
    )
    folders = "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in listed["prefixes"])
    more = f"<NextContinuationToken>{escape(listed['nextPageToken'])}</NextContinuationToken>" if "nextPageToken" in listed else ""
    return f"<ListBucketResult>{contents}{folders}{more}</ListBucketResult>".encode()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _part(part: bytes) -> bytes:
    """What stands between the headers of a part and its end."""
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "errors": [{"reason": "", "message": message}]}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def google_server(bucket: str) -> Generator[int]:
    """Run one with an empty bucket. Gives the port."""
    server = _Server((HOST, 0), type("Handler", (_Handler,), {"store": _Store(bucket)}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
