"""Azure Blob Storage through adlfs: its configuration and its client, and none of its caches and retries.

- `create` is an upload with `If-None-Match: *`, which Azure refuses where there is a blob.
- `put` and `create` are one request up to 64 MiB, and whole at once beyond; `get` is one GET up to 32 MiB. `touch` sets the blob's
  metadata to what they are.
- Listings are read page by page from the server: Azure lists what was written at once. In an account with a hierarchical namespace
  folders stay when they are empty, and are left out where blobs are meant.
- Credentials are found as adlfs finds them: options, fsspec's configuration, `AZURE_STORAGE_*` variables, a managed identity.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from holdfast.errors import MissingExtra, StoreInvalid
from holdfast.folders.abreast import for_each
from holdfast.folders.addresses import Address, bucket_address
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.patience import Patience
from holdfast.folders.protocol import Bucket, Entry, Page, Trouble
from holdfast.folders.secrets import secrets_in
from holdfast.folders.storage_options import check_options, names_taken, place_of
from holdfast.folders.threads import in_thread
from holdfast.folders.troubles import AZURE_CODES, is_untrusted, of_builtin, of_status

try:
    from adlfs import AzureBlobFileSystem
    from azure.core import exceptions as azure
    from azure.storage.blob.aio import BlobPrefix
except ImportError as _missing:
    raise MissingExtra(feature="a store in abfs:", package="adlfs", extra="azure") from _missing

#: What `DefaultAzureCredential` takes, to which adlfs hands on what it does not know.
_CREDENTIAL_OPTIONS: Final = (
    r"authority|additionally_allowed_tenants|process_timeout|connection_verify|(exclude|managed_identity|workload_identity|"
    r"interactive_browser|shared_cache|visual_studio_code|broker)_\w+"
)

#: In an account with a hierarchical namespace: this blob is a folder.
_FOLDER_MARK: Final = "hdi_isfolder"


def open_at(url: str, options: Mapping[str, Any], patience: Patience) -> ObjectFolder:
    """Open `abfs://container/folder` or `abfs://container@account.dfs.core.windows.net/folder`.

    Raises: StoreInvalid, InvalidName, InvalidOption.
    """
    check_options("adlfs", options, names_taken(AzureBlobFileSystem), also=_CREDENTIAL_OPTIONS)
    address = bucket_address(url, "container")
    container, account = _container(address)
    known = {**account, **options}

    async def opened() -> Bucket:
        return await _opened(container, known)

    return ObjectFolder(
        opened,
        address.prefix,
        address.shown(),
        patience=patience,
        secrets=secrets_in(known),
        place=place_of("abfs", container, known),
    )


def _container(address: Address) -> tuple[str, Mapping[str, str]]:
    """The container, and what the URL says of its account."""
    if not address.user:
        if "." in address.host:
            raise StoreInvalid(
                where=address.shown(), reason=f"it names no container; write {address.scheme}://container@{address.host}/folder"
            )
        return address.host, {}
    name, _, domain = address.host.partition(".")
    account = {"account_name": name}
    if domain and not domain.endswith("core.windows.net"):
        account["account_host"] = f"{name}.{domain}".replace(".dfs.", ".blob.")
    return address.user, account


async def _opened(container: str, options: Mapping[str, Any]) -> AzureBucket:
    def make() -> Any:
        return AzureBlobFileSystem(**options, asynchronous=True, skip_instance_cache=True, use_listings_cache=False)

    filesystem = await in_thread(make)  # it may look for credentials in files, and ask other programs
    _let_go(filesystem)
    return AzureBucket(filesystem, container)


def _let_go(filesystem: Any) -> None:
    """Take back what adlfs registers for the end of the process: it would keep each filesystem, to close it on a loop that is gone."""
    for reference in weakref.getweakrefs(filesystem):
        at_the_end: Callable[..., Any] | None = reference.__callback__
        if isinstance(at_the_end, weakref.finalize):
            at_the_end.detach()


class AzureBucket:
    """One container, through the client of an adlfs filesystem."""

    unfenced: str | None = None

    def __init__(self, filesystem: Any, container: str) -> None:
        self._filesystem = filesystem
        self._blobs = filesystem.service_client.get_container_client(container)
        self._once = {"retry_total": 0, **getattr(filesystem, "_timeout_kwargs", {})}

    async def get(self, name: str) -> bytes:
        stream = await self._blobs.download_blob(name, **self._once)
        data: bytes = await stream.readall()
        return data

    async def put(self, name: str, data: bytes) -> None:
        await self._blobs.upload_blob(name, data, overwrite=True, **self._once)

    async def create(self, name: str, data: bytes) -> None:
        await self._blobs.upload_blob(name, data, overwrite=False, **self._once)

    async def delete(self, names: Sequence[str]) -> None:
        await for_each(names, self._delete)

    async def stat(self, name: str) -> Entry:
        found = await self._blobs.get_blob_client(name).get_blob_properties(**self._once)
        if _is_folder(found):
            raise FileNotFoundError(name)
        return Entry(name.rpartition("/")[2], False, found.size, found.last_modified.timestamp())

    async def touch(self, name: str) -> None:
        blob = self._blobs.get_blob_client(name)
        found = await blob.get_blob_properties(**self._once)
        await blob.set_blob_metadata(found.metadata, **self._once)

    async def list(self, prefix: str, more: str | None = None) -> Page:
        found = self._blobs.walk_blobs(name_starts_with=prefix or None, include=["metadata"], delimiter="/", **self._once)
        return await _page(found, prefix, more)

    async def walk(self, prefix: str, more: str | None = None) -> Page:
        found = self._blobs.list_blobs(name_starts_with=prefix or None, include=["metadata"], **self._once)
        return await _page(found, prefix, more)

    def trouble(self, error: Exception) -> Trouble:
        return trouble_of(error)

    async def aclose(self) -> None:
        await self._filesystem.service_client.close()
        if hasattr(self._filesystem.credential, "close"):
            await self._filesystem.credential.close()

    async def _delete(self, name: str) -> None:
        try:
            await self._blobs.delete_blob(name, **self._once)
        except azure.ResourceNotFoundError as error:
            if trouble_of(error) is not Trouble.MISSING:
                raise


async def _page(found: Any, prefix: str, more: str | None) -> Page:
    pages = found.by_page(continuation_token=more)
    entries: list[Entry] = []
    async for each in await anext(pages):
        if isinstance(each, BlobPrefix):
            entries.append(Entry(each.name[len(prefix) : -1], True, 0))
        elif not _is_folder(each) and not each.name.endswith("/"):
            entries.append(Entry(each.name[len(prefix) :], False, each.size, each.last_modified.timestamp()))
    return Page(entries, pages.continuation_token or None)


def _is_folder(blob: Any) -> bool:
    return (blob.metadata or {}).get(_FOLDER_MARK) == "true"


def trouble_of(error: Exception) -> Trouble:
    """What an error of Azure's client or of its credentials means."""
    if isinstance(error, azure.ClientAuthenticationError):
        return Trouble.REFUSED
    if isinstance(error, azure.HttpResponseError):
        code: Any = getattr(error, "error_code", None)
        known = AZURE_CODES.get(str(getattr(code, "value", code)))
        return known or (of_status(error.status_code) if error.status_code else Trouble.PASSING)
    if isinstance(error, azure.AzureError):
        return Trouble.WRONG if is_untrusted(error) else Trouble.PASSING
    return of_builtin(error) or Trouble.WRONG
