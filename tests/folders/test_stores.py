"""The laws of folders, kept on real servers through each client."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers.fixtures import Server

from holdfast.folders import anywhere
from holdfast.folders.patience import Patience
from holdfast.folders.protocol import Folder
from holdfast.testing.conformance_folders import FolderConformance


class OfFsspec(FolderConformance):
    """A filesystem that is nobody's but fsspec's."""

    def url(self, place: Path) -> tuple[str, dict[str, object]]:
        raise NotImplementedError

    def open(self, place: Path) -> Folder:
        url, options = self.url(place)
        return anywhere.open_at(url, options, Patience())


class TestMemoryOfFsspec(OfFsspec):
    def url(self, place: Path) -> tuple[str, dict[str, object]]:
        return f"memory://{place.as_posix().lstrip('/')}", {}


class TestLocalOfFsspec(OfFsspec):
    def url(self, place: Path) -> tuple[str, dict[str, object]]:
        return f"local:{place.as_posix()}", {}


class TestDirOfFsspec(OfFsspec):
    def url(self, place: Path) -> tuple[str, dict[str, object]]:
        return "dir://below", {"path": place.as_posix(), "target_protocol": "local"}


class TestAsyncOfFsspec(OfFsspec):
    """A filesystem that is async by nature: s3fs, taken for one that nobody knows."""

    @pytest.fixture(autouse=True)
    def serve(self, moto: Server) -> None:
        self.server = moto

    def url(self, place: Path) -> tuple[str, dict[str, object]]:
        return f"{self.server.url}/any/{place.parts[-2]}", dict(self.server.options)


class OnServer(FolderConformance):
    """At a place of its own in the bucket of a server."""

    server: Server
    client = "fsspec"

    def open(self, place: Path) -> Folder:
        return self.server.folder("/".join(place.parts[-3:]), client=self.client)


class TestMoto(OnServer):
    @pytest.fixture(autouse=True)
    def serve(self, moto: Server) -> None:
        self.server = moto


class TestMinistack(OnServer):
    @pytest.fixture(autouse=True)
    def serve(self, ministack: Server) -> None:
        self.server = ministack


class TestRclone(OnServer):
    @pytest.fixture(autouse=True)
    def serve(self, rclone: Server) -> None:
        self.server = rclone


class TestFakeGoogle(OnServer):
    @pytest.fixture(autouse=True)
    def serve(self, fake_google: Server) -> None:
        self.server = fake_google


class TestGoogleEmulator(OnServer):
    @pytest.fixture(autouse=True)
    def serve(self, gcs_emulator: Server) -> None:
        self.server = gcs_emulator


class TestAzurite(OnServer):
    @pytest.fixture(autouse=True)
    def serve(self, azurite: Server) -> None:
        self.server = azurite


class TestMinistackByObstore(TestMinistack):
    client = "obstore"


class TestMotoByObstore(TestMoto):
    client = "obstore"


class TestAzuriteByObstore(TestAzurite):
    client = "obstore"
