"""S3, and what speaks its protocol, through s3fs: its configuration and its client, and none of its caches and retries.

- `create` is a PUT with `If-None-Match: *`. Amazon S3, MinIO, Ceph, Cloudflare R2 and others refuse it where there is an object. A
  server that ignores the condition is found by trying (`fencing`).
- `put` and `create` are one PUT, `get` is one GET. `touch` is a copy onto itself, made by the server.
- Listings are read page by page from the server: S3 lists what was written at once.
- Credentials, region and endpoint are found as s3fs and botocore find them: options, fsspec's configuration, `AWS_*` variables, the files
  in `~/.aws`, a role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.errors import MissingExtra
from holdfast.folders.addresses import bucket_address
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.patience import WIDEST, Patience
from holdfast.folders.protocol import Bucket, Entry, Page, Trouble
from holdfast.folders.secrets import secrets_in
from holdfast.folders.storage_options import check_options, names_taken, place_of
from holdfast.folders.troubles import S3_CODES, is_untrusted, of_builtin, of_status

try:
    import aiohttp
    from aiobotocore.session import AioSession
    from botocore import exceptions as boto
    from s3fs import S3FileSystem
except ImportError as _missing:
    raise MissingExtra(feature="a store in s3:", package="s3fs", extra="s3") from _missing

_NO_CREDENTIALS: Final = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.SSOError, boto.NoAuthTokenError, boto.ProfileNotFound)
#: The connection failed, or broke off in the middle.
_BROKEN: Final = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, boto.MetadataRetrievalError, aiohttp.ClientError)

#: What a copy onto itself would drop.
_KEPT: Final = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Metadata",
    "SSEKMSKeyId",
    "ServerSideEncryption",
    "StorageClass",
)


def open_at(url: str, options: Mapping[str, Any], patience: Patience) -> ObjectFolder:
    """Open `s3://bucket/folder`. Raises: StoreInvalid, InvalidName, InvalidOption."""
    check_options("s3fs", options, names_taken(S3FileSystem, AioSession))
    address = bucket_address(url, "bucket")

    async def opened() -> Bucket:
        return await _opened(address.host, options)

    return ObjectFolder(
        opened,
        address.prefix,
        address.shown(),
        patience=patience,
        secrets=secrets_in(options),
        place=place_of("s3", address.host, options),
    )


async def _opened(bucket: str, options: Mapping[str, Any]) -> S3Bucket:
    config = {"max_pool_connections": 2 * WIDEST, **options.get("config_kwargs", {}), "retries": {"total_max_attempts": 1}}
    make: Any = S3FileSystem
    filesystem = make(
        **{**options, "config_kwargs": config},
        asynchronous=True,
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    filesystem.retries = 1
    if filesystem.session is None:
        filesystem.session = _session(filesystem.kwargs)
    return S3Bucket(filesystem, await filesystem.set_session(), bucket)


#: botocore's descriptions of services, which it would read from files again for each client: a tenth of a second.
_descriptions: list[Any] = []


def _session(options: Mapping[str, Any]) -> Any:
    """What s3fs would make, with the descriptions that the first of them has read."""
    session: Any = AioSession(**options)
    if _descriptions:
        session.register_component("data_loader", _descriptions[0])
    else:
        _descriptions.append(session.get_component("data_loader"))
    return session


class S3Bucket:
    """One bucket, through the client of an s3fs filesystem that was made on this loop."""

    unfenced: str | None = None

    def __init__(self, filesystem: Any, client: Any, bucket: str) -> None:
        self._filesystem = filesystem
        self._client = client
        self._bucket = bucket
        self._is_there = False

    async def get(self, name: str) -> bytes:
        answer = await self._call("get_object", Key=name)
        body = answer["Body"]
        try:
            data: bytes = await body.read()
        finally:
            body.close()  # not as a context manager, which would drop the connection with it
        return data

    async def put(self, name: str, data: bytes) -> None:
        await self._call("put_object", Key=name, Body=data)

    async def create(self, name: str, data: bytes) -> None:
        await self._call("put_object", Key=name, Body=data, IfNoneMatch="*")

    async def delete(self, names: Sequence[str]) -> None:
        if len(names) == 1:
            await self._call("delete_object", Key=names[0])
            return
        answer = await self._call("delete_objects", Delete={"Objects": [{"Key": name} for name in names], "Quiet": True})
        for refused in answer.get("Errors", ()):
            if refused.get("Code") != "NoSuchKey":
                raise boto.ClientError({"Error": refused, "ResponseMetadata": {}}, "DeleteObjects")

    async def stat(self, name: str) -> Entry:
        found = await self._head(name)
        return Entry(name.rpartition("/")[2], False, found["ContentLength"], found["LastModified"].timestamp())

    async def touch(self, name: str) -> None:
        found = await self._head(name)
        kept = {key: found[key] for key in _KEPT if key in found}
        await self._call("copy_object", Key=name, CopySource={"Bucket": self._bucket, "Key": name}, MetadataDirective="REPLACE", **kept)

    async def list(self, prefix: str, more: str | None = None) -> Page:
        answer = await self._list(prefix, more, Delimiter="/")
        folders = [Entry(each["Prefix"][len(prefix) : -1], True, 0) for each in answer.get("CommonPrefixes", ())]
        return Page([*folders, *_entries(answer, prefix)], answer.get("NextContinuationToken"))

    async def walk(self, prefix: str, more: str | None = None) -> Page:
        answer = await self._list(prefix, more)
        return Page(_entries(answer, prefix), answer.get("NextContinuationToken"))

    def trouble(self, error: Exception) -> Trouble:
        return trouble_of(error)

    async def aclose(self) -> None:
        await self._client.close()

    async def _list(self, prefix: str, more: str | None, **arguments: Any) -> Mapping[str, Any]:
        asked = arguments if more is None else {**arguments, "ContinuationToken": more}
        answer: Mapping[str, Any] = await self._call("list_objects_v2", Prefix=prefix, **asked)
        return answer

    async def _head(self, name: str) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = await self._call("head_object", Key=name)
        except FileNotFoundError:
            if not self._is_there:  # the answer to a HEAD has no words: is it the object that is missing, or the bucket?
                await self._list(name, None, MaxKeys=1)
                self._is_there = True
            raise
        return found

    async def _call(self, operation: str, **arguments: Any) -> Any:
        return await self._filesystem._call_s3(operation, Bucket=self._bucket, **arguments)


def _entries(answer: Mapping[str, Any], prefix: str) -> list[Entry]:
    """The objects of a page, without the empty ones that consoles make to show a folder."""
    return [
        Entry(each["Key"][len(prefix) :], False, each["Size"], each["LastModified"].timestamp())
        for each in answer.get("Contents", ())
        if not each["Key"].endswith("/")
    ]


def trouble_of(error: Exception) -> Trouble:
    """What an error of s3fs, botocore or aiohttp means. s3fs raises Python's own, from what botocore raised."""
    said = error if isinstance(error, boto.ClientError) else error.__cause__
    if isinstance(said, boto.ClientError):
        code = str(said.response.get("Error", {}).get("Code", ""))
        status = int(said.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or (int(code) if code.isdecimal() else 0)
        return S3_CODES.get(code) or (of_status(status) if status else of_builtin(error) or Trouble.PASSING)
    if isinstance(error, _NO_CREDENTIALS):
        return Trouble.REFUSED
    if isinstance(error, _BROKEN):
        return Trouble.WRONG if is_untrusted(error) else Trouble.PASSING
    return of_builtin(error) or Trouble.WRONG
