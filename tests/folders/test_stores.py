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


@pytest.mark.slow
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


class Unfenced(OnServer):
    """On a server whose creations overwrite: all laws but those of creation. That such a place is refused, is a law of fencing."""

    test_create_succeeds_once = None  # type: ignore[assignment]
    test_one_of_many_creators_wins = None  # type: ignore[assignment]
    test_create_does_not_replace_what_was_put = None  # type: ignore[assignment]


class TestMoto(OnServer):
    @pytest.fixture(autouse=True)
    def serve(self, moto: Server) -> None:
        self.server = moto


class TestMinistack(OnServer):
    @pytest.fixture(autouse=True)
    def serve(self, ministack: Server) -> None:
        self.server = ministack


@pytest.mark.slow
class TestRclone(Unfenced):
    @pytest.fixture(autouse=True)
    def serve(self, rclone: Server) -> None:
        self.server = rclone


class TestFakeGoogle(OnServer):
    @pytest.fixture(autouse=True)
    def serve(self, fake_google: Server) -> None:
        self.server = fake_google


@pytest.mark.slow
class TestGoogleEmulator(Unfenced):
    @pytest.fixture(autouse=True)
    def serve(self, gcs_emulator: Server) -> None:
        self.server = gcs_emulator


@pytest.mark.stores
class TestAzurite(OnServer):
    @pytest.fixture(autouse=True)
    def serve(self, azurite: Server) -> None:
        self.server = azurite


class TestMinistackByObstore(TestMinistack):
    client = "obstore"


class TestFakeGoogleByObstore(TestFakeGoogle):
    client = "obstore"


@pytest.mark.stores
class TestAzuriteByObstore(TestAzurite):
    client = "obstore"
