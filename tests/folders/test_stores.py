"""The laws of folders, kept on real servers through each client."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers.fixtures import Server

from holdfast.folders.protocol import Folder
from holdfast.testing.conformance_folders import FolderConformance


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
