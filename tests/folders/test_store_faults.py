"""Servers that fail, through each client: what is asked again, what is said at once, and in which words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from servers.faults import Fault, FaultServer, Seen
from servers.fixtures import Faulty

from holdfast.errors import ObjectExists, StoreError, StoreFull, StoreInvalid, StorePermission, StoreUnavailable
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.protocol import Folder

pytestmark = pytest.mark.slow
azurite = pytest.mark.stores


@dataclass(frozen=True)
class Way:
    """A server that fails, and the client that asks it."""

    faulty: Faulty
    client: str
    upload: str  # the method of HTTP
    bucket: str  # of its paths

    @property
    def between(self) -> FaultServer:
        return self.faulty.between

    def folder(self, place: str = "faults", **options: Any) -> Folder:
        return self.faulty.folder(place, client=self.client, **options)


@pytest.fixture(
    params=[
        pytest.param("faulty_s3 fsspec PUT", id="s3"),
        pytest.param("faulty_s3 obstore PUT", id="s3-obstore"),
        pytest.param("faulty_google fsspec POST", id="gs"),
        pytest.param("faulty_google obstore PUT", id="gs-obstore"),
        pytest.param("faulty_azure fsspec PUT", id="az", marks=azurite),
        pytest.param("faulty_azure obstore PUT", id="az-obstore", marks=azurite),
    ]
)
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    fixture, client, upload = request.param.split()
    faulty: Faulty = request.getfixturevalue(fixture)
    yield Way(faulty, client, upload, "holdfast-tests")
    faulty.between.clear()


def on(way: Way, work: Callable[[Folder], Awaitable[object]], **options: Any) -> Any:
    """Do `work` on a new folder there, with an error as its result."""

    async def opened() -> object:
        folder = way.folder(**options)
        try:
            return await work(folder)
        except StoreError as error:
            return error
        finally:
            await folder.aclose()

    return asyncio.run(opened())


@pytest.mark.parametrize(("what", "status"), [("refuse", 500), ("refuse", 503), ("reset", 0), ("applied", 500), ("applied_reset", 0)])
def test_what_fails_once_in_passing_is_asked_again_until_it_is_done(way: Way, what: Any, status: int) -> None:
    async def work(folder: Folder) -> object:
        key = f"{what}-{status}-{way.client}"
        way.between.add(Fault(what, status, method=way.upload))
        await folder.put(key, b"1")
        way.between.add(Fault(what, status, method="GET"))
        return await folder.get(key)

    assert on(way, work) == b"1"


@pytest.mark.parametrize("what", ["applied", "applied_reset"])
def test_a_creation_that_was_applied_and_answered_with_an_error_is_our_own(way: Way, what: Any) -> None:
    async def work(folder: Folder) -> object:
        key = f"created-{what}-{way.client}"
        way.between.add(Fault(what, 500, method=way.upload))
        await folder.create(key, b"mine")
        with pytest.raises(ObjectExists):
            await folder.create(key, b"yours")
        return await folder.get(key)

    assert on(way, work) == b"mine"


def test_a_body_that_breaks_off_is_asked_for_again(way: Way) -> None:
    async def work(folder: Folder) -> object:
        await folder.put("long", b"12345678" * 1000)
        way.between.add(Fault("truncate", method="GET", path="*long*"))
        return await folder.get("long")

    assert on(way, work) == b"12345678" * 1000


def test_one_try_is_one_request(way: Way) -> None:
    async def work(folder: Folder) -> object:
        way.between.clear()
        await folder.put("counted", b"1")
        await folder.create(f"counted-{time.time_ns()}", b"1")
        assert len(way.between.seen) == 2
        await folder.get("counted")
        assert len(way.between.seen) == 3
        way.between.add(Fault("refuse", 503, times=1000))
        await folder.get("counted")
        return None

    said = on(way, work, deadline=1.2)  # tries at 0, after 0.25 to 0.5 s, after another 0.5 to 1 s
    assert isinstance(said, StoreUnavailable)
    assert 5 <= len(way.between.seen) <= 6


@pytest.mark.parametrize("verb", ["get", "put", "create", "stat", "list", "delete"])
def test_what_is_forbidden_is_said_at_once(way: Way, verb: str) -> None:
    async def work(folder: Folder) -> object:
        way.between.clear()
        way.between.add(Fault("refuse", 403, times=1000))
        data = (b"",) if verb in ("put", "create") else ()
        await getattr(folder, verb)("a", *data)
        return None

    said = on(way, work)
    assert isinstance(said, StorePermission), said
    assert len(way.between.seen) == 1


def test_a_quota_that_is_used_up_is_said_at_once(way: Way) -> None:
    async def work(folder: Folder) -> object:
        way.between.clear()
        way.between.add(Fault("refuse", 507, method=way.upload, times=1000))
        await folder.put("a", b"")
        return None

    assert isinstance(on(way, work), StoreFull)
    assert len(way.between.seen) == 1


@pytest.mark.parametrize("verb", ["get", "put", "create", "stat", "list", "walk", "touch"])
def test_a_missing_bucket_is_not_an_empty_one(way: Way, verb: str) -> None:
    async def work(_: Folder) -> object:
        server = way.faulty.server
        elsewhere = type(server)(server.port, server.url.replace("holdfast-tests", "holdfast-nowhere"), server.options, server.native)
        folder = elsewhere.folder("a", client=way.client)
        try:
            data = (b"",) if verb in ("put", "create") else ()
            await getattr(folder, verb)("a", *data)
        finally:
            await folder.aclose()
        return None

    said = on(way, work)
    assert isinstance(said, StoreInvalid), said
    assert "no such bucket" in str(said)


def test_a_store_that_stays_away_is_unavailable_within_about_the_deadline(way: Way) -> None:
    async def work(folder: Folder) -> object:
        await folder.put("a", b"")
        way.between.add(Fault("refuse", 500, times=1000))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await folder.put("a", b"")
        return time.monotonic() - began

    took = on(way, work, deadline=1)
    assert 0.3 <= took < 2.5


def test_a_server_that_hangs_is_asked_again_and_given_up_at_the_deadline(way: Way) -> None:
    async def work(folder: Folder) -> object:
        await folder.put("a", b"1")
        way.between.add(Fault("stall", method="GET"))
        assert await folder.get("a") == b"1"
        way.between.add(Fault("stall", times=1000, method="GET"))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await folder.get("a")
        return time.monotonic() - began

    took = on(way, work, deadline=1)
    assert 0.4 <= took < 2.5


def test_throttling_narrows_the_pace_and_ends_well(way: Way) -> None:
    async def work(folder: Folder) -> object:
        assert isinstance(folder, ObjectFolder)
        await folder.put("a", b"1")
        widest = await folder.width()
        way.between.add(Fault("refuse", 503, times=12))
        got = await asyncio.gather(*(folder.get("a") for _ in range(24)))
        assert got == [b"1"] * 24
        return widest, await folder.width()

    widest, narrower = on(way, work)
    assert narrower < widest


def test_errors_and_names_hold_no_secret(way: Way) -> None:
    async def work(folder: Folder) -> object:
        way.between.add(Fault("refuse", 403, times=1000))
        shown = [repr(folder), folder.url]
        try:
            await folder.get("a")
        except StoreError as error:
            shown += [str(error), repr(error)]
        return "".join(shown)

    shown = on(way, work)
    options = {**way.faulty.server.options, **way.faulty.server.native}
    for name in ("secret", "secret_access_key", "account_key", "connection_string"):
        assert str(options.get(name, "not given")) not in shown


@pytest.mark.parametrize(
    ("fixture", "client", "condition"),
    [
        ("faulty_s3", "fsspec", "if-none-match: *"),
        ("faulty_s3", "obstore", "if-none-match: *"),
        ("faulty_google", "fsspec", "ifGenerationMatch=0"),
        ("faulty_google", "obstore", "x-goog-if-generation-match: 0"),
        pytest.param("faulty_azure", "fsspec", "if-none-match: *", marks=azurite),
        pytest.param("faulty_azure", "obstore", "if-none-match: *", marks=azurite),
    ],
)
def test_a_creation_carries_its_condition_and_a_put_does_not(
    fixture: str, client: str, condition: str, request: pytest.FixtureRequest
) -> None:
    faulty: Faulty = request.getfixturevalue(fixture)

    async def both() -> tuple[str, str]:
        folder = faulty.folder("conditions", client=client)
        await folder.create(f"{time.time_ns()}", b"")
        created = faulty.between.seen.pop()
        await folder.put("a", b"")
        put = faulty.between.seen.pop()
        await folder.aclose()
        return _shown(created), _shown(put)

    created, put = asyncio.run(both())
    assert condition in created
    assert condition not in put


def _shown(seen: Seen) -> str:
    return "\n".join([seen.path, *(f"{name}: {value}" for name, value in seen.headers.items())])
