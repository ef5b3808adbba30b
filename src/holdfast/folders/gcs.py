"""Google Cloud Storage through gcsfs: its configuration, credentials and session, and none of its caches and retries.

- `create` is an upload with `ifGenerationMatch=0`, which Google refuses where there is an object. An emulator that ignores it is found
  by trying (`fencing`).
- `put` and `create` are one upload, `get` is one GET. `touch` is a rewrite onto itself, made by the server: so the object is new by
  whichever time is looked at, of its data or its metadata.
- Listings are read page by page from the server: Google lists what was written at once.
- Credentials are found as gcsfs finds them: options, fsspec's configuration, `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's files, a
  service account.

Requests are made here, over the session and with the headers of the filesystem: gcsfs' own ask six times, and tell neither a missing
bucket from a missing object nor a refusal from a failure. Zonal (rapid) buckets, which don't speak this protocol, are not known here.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from os import urandom
from typing import Any, Final
from urllib.parse import quote

from holdfast.errors import MissingExtra
from holdfast.folders.abreast import for_each
from holdfast.folders.addresses import bucket_address
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.patience import Patience
from holdfast.folders.protocol import Bucket, Entry, Page, Trouble
from holdfast.folders.secrets import secrets_in
from holdfast.folders.storage_options import check_options, names_taken, place_of
from holdfast.folders.threads import in_thread
from holdfast.folders.troubles import is_untrusted, of_builtin, of_status

try:
    import aiohttp
    from gcsfs.core import GCSFileSystem  # the plain one: the package's own name may ask each bucket over gRPC what kind it is
    from google.auth.exceptions import GoogleAuthError, TransportError
except ImportError as _missing:
    raise MissingExtra(feature="a store in gs:", package="gcsfs", extra="gcs") from _missing

#: Each try has its end from the folder's own policy.
_UNTIL_CANCELLED: Final = aiohttp.ClientTimeout(total=None, sock_connect=30)

_BYTES: Final = "application/octet-stream"

#: gcsfs refreshes what is valid for no longer than five minutes.
_REFRESHED: Final = timedelta(minutes=6)

#: Our own word for it: Google has none.
_NO_BUCKET: Final = "noBucket"
_FULL: Final = frozenset({"quotaExceeded", "storageQuotaExceeded", "insufficientStorage"})
_THROTTLED: Final = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "slowDown", "backendError.slowDown"})


class GcsRefusal(Exception):
    """An answer that is not a success.

    Attributes:
        status: Of HTTP.
        reason: Google's word for it, "" where there is none.
        said: What is written in the answer.
    """

    status: int
    reason: str
    said: str

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.reason, self.said = _read_refusal(body)
        super().__init__(f"{status} {self.reason} {self.said}".strip())


def open_at(url: str, options: Mapping[str, Any], patience: Patience) -> ObjectFolder:
    """Open `gs://bucket/folder`. Raises: StoreInvalid, InvalidName, InvalidOption."""
    check_options("gcsfs", options, names_taken(GCSFileSystem))
    address = bucket_address(url, "bucket")

    async def opened() -> Bucket:
        return await _opened(address.host, options)

    return ObjectFolder(
        opened,
        address.prefix,
        address.shown(),
        patience=patience,
        secrets=secrets_in(options),
        place=place_of("gs", address.host, options),
    )


async def _opened(bucket: str, options: Mapping[str, Any]) -> GcsBucket:
    def make() -> Any:
        return GCSFileSystem(**options, asynchronous=True, skip_instance_cache=True, use_listings_cache=False)

    filesystem = await in_thread(make)  # it may ask the machine's metadata server who we are, and waits for that
    await filesystem._set_session()
    return GcsBucket(filesystem, bucket)


class GcsBucket:
    """One bucket, over the session of a gcsfs filesystem that was made for this loop."""

    unfenced: str | None = None

    def __init__(self, filesystem: Any, bucket: str) -> None:
        self._filesystem = filesystem
        self._bucket = quote(bucket, safe="")

    async def get(self, name: str) -> bytes:
        return await self._ask("GET", self._object(name), alt="media")

    async def put(self, name: str, data: bytes) -> None:
        await self._upload(name, data)

    async def create(self, name: str, data: bytes) -> None:
        await self._upload(name, data, ifGenerationMatch="0")

    async def delete(self, names: Sequence[str]) -> None:
        await for_each(names, self._delete)

    async def stat(self, name: str) -> Entry:
        found = json.loads(await self._ask("GET", self._object(name), fields="size,updated"))
        return Entry(name.rpartition("/")[2], False, int(found["size"]), _seconds(found["updated"]))

    async def touch(self, name: str) -> None:
        there = f"{self._object(name)}/rewriteTo/{self._path(name)}"
        answer = json.loads(await self._ask("POST", there))
        while not answer["done"]:
            answer = json.loads(await self._ask("POST", there, rewriteToken=answer["rewriteToken"]))

    async def list(self, prefix: str, more: str | None = None) -> Page:
        answer = await self._list(prefix, more, delimiter="/")
        folders = [Entry(each[len(prefix) : -1], True, 0) for each in answer.get("prefixes", ())]
        return Page([*folders, *_entries(answer, prefix)], answer.get("nextPageToken"))

    async def walk(self, prefix: str, more: str | None = None) -> Page:
        answer = await self._list(prefix, more)
        return Page(_entries(answer, prefix), answer.get("nextPageToken"))

    def trouble(self, error: Exception) -> Trouble:
        return trouble_of(error)

    async def aclose(self) -> None:
        await self._filesystem.session.close()

    async def _delete(self, name: str) -> None:
        try:
            await self._ask("DELETE", self._object(name))
        except GcsRefusal as refusal:
            if trouble_of(refusal) is not Trouble.MISSING:
                raise

    async def _list(self, prefix: str, more: str | None, **parameters: str) -> Mapping[str, Any]:
        asked = {"prefix": prefix, "pageToken": more, **parameters}
        with _no_object_is_meant():
            answer: Mapping[str, Any] = json.loads(await self._ask("GET", f"{self._base}/storage/v1/b/{self._bucket}/o", **asked))
        return answer

    async def _upload(self, name: str, data: bytes, **conditions: str) -> None:
        """In one request, of two parts: emulators know this form best, and gcsfs takes it too."""
        boundary = urandom(16).hex()
        about = json.dumps({"name": name, "contentType": _BYTES})
        json_part = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{about}\r\n"
        head = f"{json_part}--{boundary}\r\nContent-Type: {_BYTES}\r\n\r\n"
        there = f"{self._base}/upload/storage/v1/b/{self._bucket}/o"
        body = b"".join((head.encode(), data, f"\r\n--{boundary}--\r\n".encode()))
        headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
        with _no_object_is_meant():
            await self._ask("POST", there, body, headers, uploadType="multipart", **conditions)

    async def _ask(
        self, method: str, url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None, /, **parameters: str | None
    ) -> bytes:
        """One request, and the body of its answer. Raises: GcsRefusal."""
        filesystem = self._filesystem
        if _is_stale(filesystem.credentials):
            await in_thread(filesystem.credentials.maybe_refresh)  # it waits for the answer
        async with filesystem.session.request(
            method,
            url,
            params=filesystem._get_params(parameters),
            headers=filesystem._get_headers(headers),
            data=None if data is None else io.BytesIO(data),  # of bytes it would warn that they are many
            timeout=filesystem.requests_timeout or _UNTIL_CANCELLED,
        ) as answer:
            body: bytes = await answer.read()
            if answer.status >= 300:
                raise GcsRefusal(answer.status, body)
            return body

    def _object(self, name: str) -> str:
        return f"{self._base}/storage/v1/{self._path(name)}"

    def _path(self, name: str) -> str:
        return f"b/{self._bucket}/o/{quote(name, safe='')}"

    @property
    def _base(self) -> str:
        base: str = self._filesystem._location
        return base


def _entries(answer: Mapping[str, Any], prefix: str) -> list[Entry]:
    """The objects of a page, without the empty ones that consoles make to show a folder."""
    return [
        Entry(each["name"][len(prefix) :], False, int(each.get("size", 0)), _seconds(each["updated"]))
        for each in answer.get("items", ())
        if not each["name"].endswith("/")
    ]


@contextlib.contextmanager
def _no_object_is_meant() -> Generator[None]:
    """Where only the bucket can be what is missing."""
    try:
        yield
    except GcsRefusal as refusal:
        if refusal.status == 404:
            refusal.reason = _NO_BUCKET
        raise


def _is_stale(credentials: Any) -> bool:
    """Whether gcsfs is going to refresh them, or soon."""
    known = credentials.credentials
    if known is None:
        return False
    return not known.valid or (known.expiry is not None and known.expiry - datetime.now(UTC).replace(tzinfo=None) < _REFRESHED)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _read_refusal(body: bytes) -> tuple[str, str]:
    """Google's word for it, and what it says: as JSON, or as whatever stands between."""
    text = body.decode("utf-8", "replace").strip()
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return "", text
    if not isinstance(error, dict):
        return "", str(error)
    reasons = [str(each.get("reason", "")) for each in error.get("errors", ()) if isinstance(each, dict)]
    return (reasons[0] if reasons else str(error.get("status", ""))), str(error.get("message", text))


def trouble_of(error: Exception) -> Trouble:
    """What an answer, or an error of the session or the credentials, means."""
    if isinstance(error, GcsRefusal):
        return _of_refusal(error)
    if isinstance(error, aiohttp.ClientError):
        return Trouble.WRONG if is_untrusted(error) else Trouble.PASSING
    if isinstance(error, TransportError):
        return Trouble.PASSING
    if isinstance(error, GoogleAuthError) or type(error).__name__ == "HttpError":  # gcsfs' own, of a refresh that was refused
        return Trouble.REFUSED
    return of_builtin(error) or Trouble.WRONG


def _of_refusal(refusal: GcsRefusal) -> Trouble:
    if refusal.reason in _FULL:
        return Trouble.FULL
    if refusal.reason in _THROTTLED:
        return Trouble.THROTTLED
    if refusal.reason == _NO_BUCKET or (refusal.status == 404 and "specified bucket does not exist" in refusal.said):
        return Trouble.NO_PLACE
    return of_status(refusal.status)
