"""S3, Google Cloud Storage and Azure through obstore: a client in Rust, which takes a quarter of the processor's time for small objects.

- `create` is obstore's put with `mode="create"`: `If-None-Match: *` at S3 and Azure, `x-goog-if-generation-match: 0` at Google.
- `put` and `create` are one request, `get` is one. `touch` is a copy onto itself by the server; at S3, which refuses that in the form that
  obstore asks for it, it is a GET, and a PUT of the same bytes if nobody wrote others in between.
- Listings are read from the server: there is no cache.
- Options are obstore's own. Those of s3fs, gcsfs and adlfs for keys, endpoints and regions are understood as well, also from fsspec's
  configuration. From the environment obstore reads `AWS_*`, `GOOGLE_*` and `AZURE_*` variables; the files in `~/.aws` it does not read.
- Its threads stay behind when a process forks, and then whatever is asked of it waits for ever. So a forked child of a process that has
  used it is refused: start processes by "spawn" or "forkserver", or take fsspec's client.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import time
from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from fsspec.config import conf

from holdfast.errors import InvalidOption, MissingExtra, StoreInvalid
from holdfast.folders.abreast import for_each
from holdfast.folders.addresses import Address, address_of
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.patience import Patience
from holdfast.folders.protocol import Bucket, Entry, Page, Trouble
from holdfast.folders.secrets import HIDDEN, secrets_in, without
from holdfast.folders.storage_options import check_options, place_of
from holdfast.folders.troubles import AZURE_CODES, S3_CODES, is_untrusted, of_builtin, of_status

try:
    import obstore
    from obstore import exceptions as said_by_obstore
    from obstore import store as stores
except ImportError as _missing:
    raise MissingExtra(feature="client='obstore'", package="obstore", extra="obstore") from _missing

Kind: TypeAlias = Literal["s3", "gcs", "azure"]

_KINDS: Final[Mapping[str, Kind]] = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "azure": "azure",
    "adl": "azure",
}

_STORES: Final[Mapping[Kind, Any]] = {"s3": stores.S3Store, "gcs": stores.GCSStore, "azure": stores.AzureStore}

#: What s3fs, gcsfs and adlfs call otherwise than obstore does.
_OTHERWISE: Final[Mapping[Kind, Mapping[str, str]]] = {
    "s3": {
        "key": "access_key_id",
        "username": "access_key_id",
        "secret": "secret_access_key",
        "password": "secret_access_key",
        "token": "session_token",
        "endpoint_url": "endpoint",
        "anon": "skip_signature",
        "requester_pays": "request_payer",
        "region_name": "region",
    },
    "gcs": {"endpoint_url": "base_url"},
    "azure": {"sas_token": "sas_key", "anon": "skip_signature"},
}

#: What of fsspec's configuration is read: other options of its filesystems are about things that are not here.
_UNDERSTOOD: Final[Mapping[Kind, frozenset[str]]] = {
    "s3": frozenset({*_OTHERWISE["s3"], "client_kwargs"}),
    "gcs": frozenset({*_OTHERWISE["gcs"], "token"}),
    "azure": frozenset(
        {*_OTHERWISE["azure"], "account_name", "account_key", "connection_string", "client_id", "client_secret", "tenant_id"},
    ),
}

#: The variable that adlfs reads, and obstore does not.
_CONNECTION_STRING: Final = "AZURE_STORAGE_CONNECTION_STRING"

_ENDPOINTS: Final[Mapping[Kind, Sequence[str]]] = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "azure": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}

#: A connection string's words for it.
_IN_CONNECTION_STRING: Final = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}

#: Objects that one try of a walk asks for: ten pages of S3's.
_PAGE: Final = 10_000
_ALL: Final = 1 << 31

#: Each try has its end from the folder's own policy.
_NEVER_BEFORE_US: Final = "1 day"

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_NO_BUCKET: Final = re.compile(r"NoSuchBucket|ContainerNotFound|specified bucket does not exist")
_NO_KEYS: Final = re.compile(r"Missing ?(AccessKeyId|SecretAccessKey|Account|Credential)|InvalidCertificate|UnknownIssuer")
_MISCONFIGURED: Final = (
    said_by_obstore.NotSupportedError,
    said_by_obstore.InvalidPathError,
    said_by_obstore.UnknownConfigurationKeyError,
)

#: Processes, of this one and those that it was forked from, in which obstore's threads began to run.
_begun_in: set[int] = set()

#: Seconds for obstore's threads at the end of the process. One that is still putting away what it last gave us, when the interpreter
#: ends under it, aborts the process: 3 of 50 did, of those that ended right after an operation.
_TO_END: Final = 0.05

_FORKED: Final = (
    "obstore's threads stayed behind in the process that this one was forked from; start it by the method 'spawn' or 'forkserver' "
    "of multiprocessing, or take client='fsspec'"
)


def open_at(url: str, options: Mapping[str, Any], patience: Patience) -> ObjectFolder:
    """Open a bucket by a URL of a form that obstore knows. Raises: StoreInvalid, InvalidName, InvalidOption."""
    check_options("obstore", options)
    address = address_of(url)
    kind, whole = _kind_of(url, address)
    bucket, known = _bucket_and_options(kind, address, options)

    def make() -> Any:
        return _store(kind, url if whole else bucket, known, whole=whole)

    make()  # what it refuses, it refuses now

    async def opened() -> Bucket:
        if _begun_in - {os.getpid()}:
            raise StoreInvalid(where=address.shown(), reason=_FORKED)
        if os.getpid() not in _begun_in:
            _begun_in.add(os.getpid())
            atexit.register(time.sleep, _TO_END)
        return ObstoreBucket(make(), kind)

    return ObjectFolder(
        opened,
        "" if whole else address.prefix,
        address.shown(),
        patience=patience,
        secrets=secrets_in(known),
        place=place_of(kind, bucket, known),
    )


def _kind_of(url: str, address: Address) -> tuple[Kind, bool]:
    """Whose protocol it is, and whether obstore has to read the whole URL: `https:` with the host of a known service."""
    if address.scheme in _KINDS and address.host:
        return _KINDS[address.scheme], False
    if address.scheme == "https" and (served := obstore.parse_scheme(url)) in ("s3", "gcs", "azure"):
        return served, True
    raise StoreInvalid(where=address.shown(), reason="with obstore it is s3://bucket, gs://bucket or az://container")


def _bucket_and_options(kind: Kind, address: Address, options: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    known = {**_translated(kind, _configured(kind)), **_translated(kind, options)}
    if kind != "azure" or not address.user:
        return address.host, known
    name, _, domain = address.host.partition(".")
    elsewhere = (
        {"endpoint": f"https://{address.host.replace('.dfs.', '.blob.')}"} if domain and not domain.endswith("core.windows.net") else {}
    )
    return address.user, {"account_name": name, **elsewhere, **known}


def _configured(kind: Kind) -> Mapping[str, Any]:
    """What fsspec's files and variables say for such places, as far as it has a word in obstore."""
    found = {name: value for scheme, its in _KINDS.items() if its == kind for name, value in conf.get(scheme, {}).items()}
    if kind == "azure" and not {"account_name", "connection_string"} & found.keys() and (text := os.environ.get(_CONNECTION_STRING)):
        found["connection_string"] = text
    return {name: value for name, value in found.items() if name in _UNDERSTOOD[kind]}


def _translated(kind: Kind, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in obstore's words. What is None, or empty where fsspec's default is, is left out."""
    known: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name == "client_kwargs" and kind == "s3":
            known |= _translated(kind, value)
        elif name == "connection_string" and kind == "azure":
            known |= _connection(value)
        elif name == "token" and kind == "gcs":
            known |= _google_token(value)
        elif name == "project" and kind == "gcs":
            continue  # only who makes buckets needs it
        else:
            known[_OTHERWISE[kind].get(name, name)] = value
    return known


def _connection(text: str) -> dict[str, str]:
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    known = {_IN_CONNECTION_STRING[name]: value for name, value in parts.items() if name in _IN_CONNECTION_STRING}
    if "endpoint" not in known and "AccountName" in parts and "EndpointSuffix" in parts:
        protocol = parts.get("DefaultEndpointsProtocol", "https")
        known["endpoint"] = f"{protocol}://{parts['AccountName']}.blob.{parts['EndpointSuffix']}"
    return known


def _google_token(token: Any) -> dict[str, Any]:
    """gcsfs' `token`, in those of its forms that say who we are without asking anybody."""
    if token == "anon":
        return {"skip_signature": True}
    if isinstance(token, Mapping):
        return {"service_account_key": json.dumps(dict(token))}
    if isinstance(token, str) and os.path.exists(token):
        return {"service_account": token}
    if token in ("google_default", "cloud", "cache"):
        return {}
    raise InvalidOption(option="token", value=HIDDEN, reason="obstore takes 'anon', a service account's file, or what is in it")


def _store(kind: Kind, bucket: str, options: Mapping[str, Any], *, whole: bool) -> Any:
    """A store of obstore that asks once. Raises: InvalidOption, StoreInvalid."""
    if "retry_config" in options:
        raise InvalidOption(option="retry_config", value=HIDDEN, reason="Holdfast asks again itself; see `deadline`")
    endpoint = str(options.get("endpoint") or options.get("base_url") or _endpoint_in_environment(kind) or "")
    given = {
        **options,
        "client_options": {
            "timeout": _NEVER_BEFORE_US,
            **({"allow_http": True} if endpoint.startswith("http://") else {}),
            **options.get("client_options", {}),
        },
        "retry_config": {"max_retries": 0},
    }
    make: Any = stores.from_url if whole else _STORES[kind]
    try:
        return make(bucket, **given)
    except (said_by_obstore.BaseError, TypeError, ValueError) as error:
        said = without(secrets_in(options), error)
        named = next((name for name in options if f"'{name}'" in said or f" {name}." in said), None)
        if named is not None:
            raise InvalidOption(option=named, value=HIDDEN, reason=f"obstore does not take it ({said})") from error
        raise StoreInvalid(where=bucket, reason=f"obstore refuses it ({said})") from error


def _endpoint_in_environment(kind: Kind) -> str | None:
    """Where obstore is going to look, which without TLS it does only if it is told twice."""
    return next((os.environ[name] for name in _ENDPOINTS.get(kind, ()) if os.environ.get(name)), None)


class ObstoreBucket:
    """One bucket, through a store of obstore's."""

    unfenced: str | None = None

    def __init__(self, store: Any, kind: Kind) -> None:
        self._store = store
        self._kind = kind
        self._is_there = False

    async def get(self, name: str) -> bytes:
        answer = await obstore.get_async(self._store, name)
        return bytes(await answer.bytes_async())

    async def put(self, name: str, data: bytes) -> None:
        await obstore.put_async(self._store, name, data, mode="overwrite", use_multipart=False)

    async def create(self, name: str, data: bytes) -> None:
        await obstore.put_async(self._store, name, data, mode="create", use_multipart=False)

    async def delete(self, names: Sequence[str]) -> None:
        if self._kind == "s3":
            await obstore.delete_async(self._store, list(names))  # one request, which does not mind absence
        else:
            await for_each(names, self._delete)

    async def stat(self, name: str) -> Entry:
        try:
            found = await obstore.head_async(self._store, name)
        except FileNotFoundError:
            if not self._is_there:  # the answer to a HEAD has no words: is it the object that is missing, or the bucket?
                await _first(obstore.list(self._store, chunk_size=1))
                self._is_there = True
            raise
        return _entry(found, name.rpartition("/")[0])

    async def touch(self, name: str) -> None:
        if self._kind != "s3":
            await obstore.copy_async(self._store, name, name, overwrite=True)
            return
        found = await obstore.get_async(self._store, name)
        version: Any = {"e_tag": found.meta["e_tag"]}
        await obstore.put_async(self._store, name, await found.bytes_async(), mode=version, use_multipart=False)

    async def list(self, prefix: str, more: str | None = None) -> Page:
        found = await obstore.list_with_delimiter_async(self._store, prefix.rstrip("/") or None)
        folders = [Entry(each[len(prefix) :].rstrip("/"), True, 0) for each in found["common_prefixes"]]
        return Page([*folders, *(_entry(each, prefix) for each in found["objects"])])

    async def walk(self, prefix: str, more: str | None = None) -> Page:
        page = _PAGE if self._kind == "s3" else _ALL  # only S3 goes on from a name without reading all before it again
        found = await _first(obstore.list(self._store, prefix.rstrip("/") or None, offset=more, chunk_size=page))
        return Page([_entry(each, prefix) for each in found], found[-1]["path"] if len(found) >= page else None)

    def trouble(self, error: Exception) -> Trouble:
        return trouble_of(error)

    async def aclose(self) -> None:
        """There is nothing to close: connections end when nobody refers to the store."""

    async def _delete(self, name: str) -> None:
        try:
            await obstore.delete_async(self._store, name)
        except FileNotFoundError as error:
            if trouble_of(error) is not Trouble.MISSING:
                raise


async def _first(listing: AsyncIterable[Sequence[Any]]) -> Sequence[Any]:
    """The first part of a listing; empty, where there is nothing to list."""
    async for part in listing:
        return part
    return ()


def _entry(meta: Any, below: str) -> Entry:
    name = meta["path"][len(below) :].lstrip("/")
    return Entry(name, False, meta["size"], meta["last_modified"].timestamp())


def trouble_of(error: Exception) -> Trouble:
    """What an error of obstore's means: by its type, then by the code and the status in its words."""
    said = str(error)
    if _NO_BUCKET.search(said):
        return Trouble.NO_PLACE
    if isinstance(error, said_by_obstore.AlreadyExistsError):
        return Trouble.EXISTS
    if isinstance(error, said_by_obstore.PreconditionError):
        return Trouble.PASSING  # somebody wrote it while it was touched
    if isinstance(error, _MISCONFIGURED):
        return Trouble.WRONG
    if isinstance(error, said_by_obstore.BaseError):
        return _of_words(error, said)
    return of_builtin(error) or Trouble.WRONG


def _of_words(error: said_by_obstore.BaseError, said: str) -> Trouble:
    code, status = _CODE.search(said), _STATUS.search(said)
    if code is not None and (known := S3_CODES.get(code[1]) or AZURE_CODES.get(code[1])):
        return known
    if status is not None:
        return of_status(int(status[1]))
    if isinstance(error, (said_by_obstore.PermissionDeniedError, said_by_obstore.UnauthenticatedError)):
        return Trouble.REFUSED
    return Trouble.WRONG if is_untrusted(error) or _NO_KEYS.search(said) else Trouble.PASSING
