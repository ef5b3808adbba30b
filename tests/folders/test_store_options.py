"""What is said beside the URL: by argument, in the environment, in fsspec's configuration. And what is never said again: secrets."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFileSystem
from servers.fixtures import Server
from servers.processes import HOST

from holdfast.errors import InvalidName, InvalidOption, MissingExtra, StoreInvalid
from holdfast.folders.addresses import address_of, bucket_address
from holdfast.folders.opening import open_folder
from holdfast.folders.secrets import HIDDEN, secrets_in, without

SECRET = "not-to-be-shown"

for package in ("s3fs", "gcsfs", "adlfs", "obstore"):
    pytest.importorskip(package)

KEYS = {"key": "k", "secret": SECRET}
AZURE = {"account_name": "acc", "account_key": "bm90LXRvLWJlLXNob3du"}


@pytest.mark.parametrize(
    ("url", "options", "shown"),
    [
        ("s3://bucket", KEYS, "s3://bucket"),
        ("s3://bucket/a/b/", KEYS, "s3://bucket/a/b"),
        ("S3://bucket/a%20b", KEYS, "s3://bucket/a%20b"),
        ("s3:bucket/a", KEYS, "s3://bucket/a"),
        ("s3a://bucket/a", KEYS, "s3a://bucket/a"),
        ("gs://bucket/a", {}, "gs://bucket/a"),
        ("gcs://bucket/a", {"token": "anon"}, "gcs://bucket/a"),
        ("az://box/a", AZURE, "az://box/a"),
        ("abfs://box@acc.dfs.core.windows.net/a", AZURE, "abfs://box@acc.dfs.core.windows.net/a"),
        (f"ftp://me:{SECRET}@host/a", {}, "ftp://me@host/a"),
        ("s3://bucket/a", {"client": "obstore", **KEYS}, "s3://bucket/a"),
        ("az://box/a", {"client": "obstore", **AZURE}, "az://box/a"),
        ("gs://bucket/a", {"client": "obstore", "token": "anon"}, "gs://bucket/a"),
        ("https://bucket.s3.us-east-1.amazonaws.com/a", {"client": "obstore", **KEYS}, "https://bucket.s3.us-east-1.amazonaws.com/a"),
    ],
)
def test_a_url_is_shown_without_secrets_and_opens_the_same_place_again(url: str, options: dict[str, Any], shown: str) -> None:
    folder = open_folder(url, **options)
    assert folder.url == shown
    assert open_folder(folder.child("c d").url, **options).url == f"{shown}/c%20d"
    assert SECRET not in repr(folder) + folder.url


@pytest.mark.parametrize(
    ("url", "options", "error", "says"),
    [
        ("s3://", KEYS, StoreInvalid, "it names no bucket; write s3://bucket/folder"),
        ("az://", AZURE, StoreInvalid, "it names no container"),
        ("abfs://acc.dfs.core.windows.net/box", AZURE, StoreInvalid, "write abfs://container@acc.dfs.core.windows.net/folder"),
        ("s3://bucket/a?versionId=1", KEYS, StoreInvalid, "pass options as keywords"),
        ("s3://bucket/a//b", KEYS, InvalidName, "a part of it is empty"),
        ("s3://bucket/../b", KEYS, InvalidName, "is '.' or '..'"),
        ("s3://bucket", {"secrt": SECRET}, InvalidOption, "did you mean secret=?"),
        ("gs://bucket", {"tokn": SECRET}, InvalidOption, "did you mean token=?"),
        ("az://box", {"account_ky": SECRET}, InvalidOption, "did you mean account_key=?"),
        ("local:/a", {"auto": 1, "asynchronous": True}, InvalidOption, "Holdfast sets it itself"),
        ("s3://bucket", {"use_listings_cache": True}, InvalidOption, "Holdfast sets it itself"),
        ("s3://bucket", {"client": "boto"}, InvalidOption, "'fsspec' or 'obstore'"),
        ("s3://bucket", {"deadline": 0}, InvalidOption, "above 0"),
        ("s3://bucket", {"deadline": "1"}, InvalidOption, "a number"),
        ("s3://bucket", {"client": "obstore", "secrt": SECRET}, InvalidOption, "obstore does not take it"),
        ("s3://bucket", {"client": "obstore", "retry_config": {}}, InvalidOption, "see `deadline`"),
        ("ftp://host/a", {"client": "obstore"}, StoreInvalid, "s3://bucket, gs://bucket or az://container"),
        (f"ftps5://me:{SECRET}@host", {}, StoreInvalid, "nobody knows the scheme"),
        (f"zz::b://me:{SECRET}@host", {}, StoreInvalid, "a chain of filesystems"),
        (f"sftp://me:{SECRET}@host/a?b", {}, StoreInvalid, "pass options as keywords"),
    ],
)
def test_what_can_not_be_opened_is_refused_at_once_without_secrets(
    url: str, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as caught:
        open_folder(url, **options)
    assert says in str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value) + repr(caught.value.__dict__)
    pickle.loads(pickle.dumps(caught.value))


class Strict(MemoryFileSystem):  # type: ignore[misc]
    protocol = "strict"

    def __init__(self, *, speed: int = 1) -> None:
        super().__init__()


class LateStrict(MemoryFileSystem):  # type: ignore[misc]
    protocol = "latestrict"

    def __init__(self, **options: Any) -> None:
        Strict(**options)


def test_an_option_that_the_filesystem_does_not_take_is_refused_by_name() -> None:
    register_implementation("strict", Strict, clobber=True)
    register_implementation("latestrict", LateStrict, clobber=True)
    with pytest.raises(InvalidOption, match=r"spede.*Strict has no such option; did you mean speed="):
        open_folder("strict://x", spede=1)
    folder = open_folder("latestrict://x", spede=SECRET)
    with pytest.raises(InvalidOption, match=r"spede.*LateStrict has no such option") as caught:
        asyncio.run(folder.get("a"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("room", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("az", "adlfs", "azure")])
def test_a_missing_package_is_named_with_its_extra(room: str, package: str, extra: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
from holdfast.errors import MissingExtra
from holdfast.folders.opening import open_folder
try:
    open_folder("{room}://bucket")
except MissingExtra as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert f"needs {package}, which is not installed; pip install 'holdfast[{extra}]'" in said


def test_missing_obstore_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "holdfast.folders.obstore", raising=False)
    with pytest.raises(MissingExtra, match=r"holdfast\[obstore\]"):
        open_folder("s3://bucket", client="obstore")


# where options come from

ROUND_TRIP = """
import asyncio, sys
from holdfast.folders.opening import open_folder

async def round_trip():
    folder = open_folder(sys.argv[1], client=sys.argv[2], deadline=10)
    await folder.put("a", b"1")
    assert await folder.get("a") == b"1"
    await folder.aclose()

asyncio.run(round_trip())
"""


def round_trip(url: str, client: str, environment: dict[str, str], home: Path) -> None:
    """In a process with this environment alone."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ROUND_TRIP, url, client],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def s3_environment(server: Server) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{HOST}:{server.port}",
    }


@pytest.mark.parametrize("client", ["fsspec", "obstore"])
def test_the_environment_says_how_to_reach_s3(moto: Server, client: str, tmp_path: Path) -> None:
    round_trip(f"{moto.url}/environment", client, s3_environment(moto), tmp_path)


def test_the_files_of_aws_say_how_to_reach_s3(moto: Server, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = k\naws_secret_access_key = s\n")
    (tmp_path / ".aws" / "config").write_text(f"[default]\nregion = us-east-1\nendpoint_url = http://{HOST}:{moto.port}\n")
    round_trip(f"{moto.url}/files", "fsspec", {}, tmp_path)


@pytest.mark.parametrize("client", ["fsspec", "obstore"])
def test_the_files_of_fsspec_say_how_to_reach_s3(moto: Server, client: str, tmp_path: Path) -> None:
    (tmp_path / ".config" / "fsspec").mkdir(parents=True)
    (tmp_path / ".config" / "fsspec" / "conf.json").write_text(json.dumps({"s3": dict(moto.options)}))
    round_trip(f"{moto.url}/configuration", client, {}, tmp_path)


@pytest.mark.parametrize("client", ["fsspec", "obstore"])
def test_the_variables_of_fsspec_say_how_to_reach_s3(moto: Server, client: str, tmp_path: Path) -> None:
    round_trip(f"{moto.url}/variables", client, {"FSSPEC_S3": json.dumps(dict(moto.options))}, tmp_path)


def test_the_variables_of_fsspec_say_how_to_reach_google(fake_google: Server, tmp_path: Path) -> None:
    options = {name: value for name, value in fake_google.options.items() if name != "endpoint_url"}
    environment = {"FSSPEC_GCS": json.dumps(options), "STORAGE_EMULATOR_HOST": f"http://{HOST}:{fake_google.port}"}
    round_trip(f"{fake_google.url}/variables", "fsspec", environment, tmp_path)


@pytest.mark.stores
@pytest.mark.parametrize("client", ["fsspec", "obstore"])
@pytest.mark.parametrize("how", ["AZURE_STORAGE_CONNECTION_STRING", "FSSPEC_ABFS"])
def test_the_environment_says_how_to_reach_azure(azurite: Server, client: str, how: str, tmp_path: Path) -> None:
    value = json.dumps(dict(azurite.options)) if how.startswith("FSSPEC") else azurite.options["connection_string"]
    round_trip(f"{azurite.url}/environment", client, {how: value}, tmp_path)


# secrets


@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        (f"GET http://host/a?sig={SECRET}&b=1", f"GET http://host/a?sig={HIDDEN}&b=1"),
        (f"http://me:{SECRET}@host/a", f"http://me:{HIDDEN}@host/a"),
        (f"AccountKey={SECRET};x", f"AccountKey={HIDDEN};x"),
        ("given-to-us is wrong", f"{HIDDEN} is wrong"),
        ("two\nlines", "two lines"),
    ],
)
def test_a_message_is_quoted_without_what_looks_like_a_secret_or_was_given_as_one(said: str, hidden: str) -> None:
    assert without(["given-to-us"], ValueError(said)) == f"ValueError: {hidden}"


def test_secrets_are_found_by_their_names_however_deep() -> None:
    options = {
        "endpoint_url": "http://host",
        "key": "aaaa",
        "client_kwargs": {"aws_secret_access_key": "bbbb"},
        "token": {"private_key": ["cccc"]},
    }
    assert sorted(secrets_in(options)) == ["aaaa", "bbbb", "cccc"]


def test_an_address_shows_no_password_in_whatever_way() -> None:
    address = address_of(f"sftp://me:{SECRET}@host/a")
    assert address.password == SECRET
    assert SECRET not in repr(address) + str(address) + address.shown()
    assert bucket_address("s3://bucket", "bucket").prefix == ""
