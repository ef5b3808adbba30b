"""Any other place that fsspec has a filesystem for, with the guarantees that fsspec gives, which are fewer.

- `create` is fsspec's: it looks whether there is an object, and writes if not. Between the two another process may do the same, so such a
  place is `unfenced`: a run there is refused, unless the user vouches that one process at a time works on it (`allow_unfenced=True`).
  Within one event loop creations of one name exclude each other.
- `put` replaces as the filesystem does. Many write in place: a reader may then see a part of an object, and a crash may leave one. What
  Holdfast reads back it verifies, so a part is an error and never a value.
- Listings, sizes and times are asked of the place each time, as far as the filesystem can be told to.
- Folders that are left empty are not shown, and not removed.
- A filesystem that is async by nature is used as such. A sync one takes one hop into our own threads for each operation, and a cancelled
  caller waits for its end.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

from fsspec.registry import get_filesystem_class

from holdfast.clocks import clock
from holdfast.errors import StoreInvalid
from holdfast.folders.abreast import for_each
from holdfast.folders.addresses import Address, address_of
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.patience import Patience
from holdfast.folders.protocol import Bucket, Entry, Page, Trouble
from holdfast.folders.secrets import secrets_in
from holdfast.folders.storage_options import check_options, names_taken, refused_by
from holdfast.folders.threads import call, in_thread
from holdfast.folders.troubles import causes, of_builtin, of_status

UNFENCED: Final = (
    "fsspec's filesystem for {scheme}: creates a file by looking whether there is one and then writing it, so two owners of a run could "
    "both believe that they won"
)

#: What can't keep a store, and why.
_UNFIT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("http", "https"), "it can't be written to"),
    **dict.fromkeys(("zip", "tar", "libarchive", "7z"), "an archive is not written by many, piece by piece"),
    **dict.fromkeys(("cached", "blockcache", "filecache", "simplecache"), "a cache hides what others write"),
    **dict.fromkeys(("data", "reference", "generic", "asyncwrapper", "async_wrapper"), "it is not a place of its own"),
    **dict.fromkeys(("github", "git", "gist", "jlab", "jupyter"), "it is not made for many small objects"),
}

#: Where filesystems write when something was changed, the best first.
_TIMES: Final = ("mtime", "LastModified", "last_modified", "modified", "updated", "ModifiedAt", "modifiedAt", "created")

#: Packages whose errors are those of a network, where they say nothing else.
_NETWORKED: Final = frozenset({"aiohttp", "ftplib", "http", "httpx", "paramiko", "requests", "smbprotocol", "urllib3"})


class Ask(Protocol):
    """Call a method of a filesystem by its sync name."""

    async def __call__(self, verb: str, *arguments: Any, **options: Any) -> Any: ...


def open_at(url: str, options: Mapping[str, Any], patience: Patience) -> ObjectFolder:
    """Open the folder that a URL names to fsspec. Raises: StoreInvalid, InvalidName, InvalidOption, MissingExtra."""
    address = address_of(url)
    if address.scheme in _UNFIT:
        raise StoreInvalid(where=address.shown(), reason=_UNFIT[address.scheme])
    kind = _class_of(address)
    open_ended = any(each.kind is each.VAR_KEYWORD for each in inspect.signature(kind.__init__).parameters.values())
    check_options(f"fsspec's {kind.__name__}", options, None if open_ended else names_taken(kind))
    plain = _plain(address)
    of_url: dict[str, Any] = kind._get_kwargs_from_urls(plain)
    root = str(kind._strip_protocol(plain)).rstrip("/")
    given = {**of_url, **options}
    unfenced = UNFENCED.format(scheme=address.scheme)
    is_async = bool(kind.async_impl) and address.scheme != "dir"  # whether `dir` is so, its target decides

    async def opened() -> Bucket:
        if is_async:
            filesystem = _made(kind, given, asynchronous=True)
        else:
            filesystem = await in_thread(lambda: _made(kind, given))  # it may connect
        return Anywhere(filesystem, root, _asking(filesystem, is_async=is_async), unfenced)

    return ObjectFolder(
        opened,
        "",
        address.shown(),
        patience=patience,
        unfenced=unfenced,
        secrets=(*secrets_in(given), *((address.password,) if address.password else ())),
    )


def _class_of(address: Address) -> Any:
    try:
        return get_filesystem_class(address.scheme)
    except ImportError as error:  # fsspec says what to install
        raise StoreInvalid(where=address.shown(), reason=str(error)) from error


def _plain(address: Address) -> str:
    """The URL as fsspec wants it, which decodes nothing. Raises: StoreInvalid."""
    if "?" in address.path or "#" in address.path:
        raise StoreInvalid(where=address.shown(), reason="fsspec takes no ? and no # in a path")
    password = f":{address.password}" if address.password else ""
    user = f"{address.user}{password}@" if address.user or password else ""
    return f"{address.scheme}://{user}{address.host}/{address.path}".rstrip("/")


def _made(kind: Any, options: Mapping[str, Any], **ours: bool) -> Any:
    """A new filesystem. Raises: InvalidOption."""
    try:
        return kind(**options, **ours, use_listings_cache=False, skip_instance_cache=True)
    except TypeError as error:
        if "use_listings_cache" not in str(error):
            refused_by(f"fsspec's {kind.__name__}", error, options)
    try:
        return kind(**options, **ours, skip_instance_cache=True)  # it keeps no listings, and takes no word about them
    except TypeError as error:
        refused_by(f"fsspec's {kind.__name__}", error, options)


class Anywhere:
    """The folder `root` of a filesystem of fsspec."""

    unfenced: str | None

    def __init__(self, filesystem: Any, root: str, ask: Ask, unfenced: str) -> None:
        self.unfenced = unfenced
        self._filesystem = filesystem
        self._root = root
        self._ask = ask
        self._creating: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def get(self, name: str) -> bytes:
        return bytes(await self._ask("cat_file", self._path(name)))

    async def put(self, name: str, data: bytes) -> None:
        await self._write(name, data)

    async def create(self, name: str, data: bytes) -> None:
        async with self._creating.setdefault(name, asyncio.Lock()):
            if await self._look("exists", name):
                raise FileExistsError(name)
            await self._write(name, data)

    async def delete(self, names: Sequence[str]) -> None:
        await for_each(names, self._delete)

    async def stat(self, name: str) -> Entry:
        info = await self._look("info", name)
        if _is_folder(info):
            raise FileNotFoundError(name)
        return _object(info, name.rpartition("/")[2])

    async def touch(self, name: str) -> None:
        await self.stat(name)
        if "truncate" in inspect.signature(self._filesystem.touch).parameters:
            try:
                await self._ask("touch", self._path(name), truncate=False)
            except (NotImplementedError, ValueError):
                pass  # so filesystems say that they can only write an empty file
            else:
                return
        await self._write(name, await self.get(name))

    async def list(self, prefix: str, more: str | None = None) -> Page:
        infos = await self._look("ls", prefix, detail=True)
        found: list[Entry] = []
        for info, name in _below(self._path(prefix), infos):
            if "/" not in name and not _is_folder(info):
                found.append(_object(info, name))
            elif "/" not in name and await self._holds_some(f"{prefix}{name}/"):
                found.append(Entry(name, True, 0))
        return Page(found)

    async def walk(self, prefix: str, more: str | None = None) -> Page:
        infos = await self._look("find", prefix, detail=True)
        return Page([_object(info, name) for info, name in _below(self._path(prefix), infos.values()) if not _is_folder(info)])

    def trouble(self, error: Exception) -> Trouble:
        return trouble_of(error)

    async def aclose(self) -> None:
        """Close what the filesystem has that can be closed on this loop: fsspec itself has no word for that."""
        for each in list(vars(self._filesystem).values()):
            close = getattr(each, "close", None)
            if inspect.iscoroutinefunction(close):
                await close()

    async def _write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        try:
            await self._ask("pipe_file", path, data)
        except FileNotFoundError:  # where folders have to be made
            await self._ask("makedirs", path.rpartition("/")[0], exist_ok=True)
            await self._ask("pipe_file", path, data)

    async def _delete(self, name: str) -> None:
        try:
            await self._ask("rm_file", self._path(name))
        except FileNotFoundError:
            pass  # as it is to be

    async def _holds_some(self, prefix: str) -> bool:
        """Whether there is an object below: empty folders stay behind in places that have folders."""
        infos = list(_below(self._path(prefix), await self._look("ls", prefix, detail=True)))
        if any(not _is_folder(info) for info, _ in infos):
            return True
        for _, name in infos:
            if await self._holds_some(f"{prefix}{name}/"):
                return True
        return False

    async def _look(self, verb: str, name: str, **options: Any) -> Any:
        """Ask the place itself, whatever the filesystem remembers of it."""
        self._filesystem.invalidate_cache()
        return await self._ask(verb, self._path(name), **options)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")


def _asking(filesystem: Any, *, is_async: bool) -> Ask:
    async def itself(verb: str, *arguments: Any, **options: Any) -> Any:
        return await getattr(filesystem, f"_{verb}")(*arguments, **options)

    async def by_thread(verb: str, *arguments: Any, **options: Any) -> Any:
        return await in_thread(call(getattr(filesystem, verb), *arguments, **options))

    return itself if is_async else by_thread


def _below(path: str, infos: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """What lies below `path`, with its name from there: asked about a file, filesystems list that itself."""
    start = f"{path.strip('/')}/".lstrip("/")
    for info in infos:
        name = str(info["name"]).strip("/")
        if name.startswith(start) and len(name) > len(start):
            yield info, name[len(start) :]


def _is_folder(info: Mapping[str, Any]) -> bool:
    return bool(info.get("type") == "directory")


def _object(info: Mapping[str, Any], name: str) -> Entry:
    return Entry(name, False, int(info.get("size") or 0), _seconds(next((info[key] for key in _TIMES if info.get(key)), None)))


def _seconds(time: Any) -> float:
    """POSIX seconds, in whichever way a filesystem tells a time. Where it tells none it is now: what has no age is never too old."""
    match time:
        case int() | float():
            return float(time)
        case datetime():
            return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
        case str():
            try:
                return _seconds(datetime.fromisoformat(time))
            except ValueError:
                return clock().now()
        case _:
            return clock().now()


def trouble_of(error: Exception) -> Trouble:
    """What an error means that can come from any package: a status of HTTP, if one was told, then Python's own exceptions."""
    for each in causes(error):
        status = getattr(each, "status", None) or getattr(each, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return of_status(status)
    if (known := of_builtin(error)) is not None:
        return known
    return Trouble.PASSING if type(error).__module__.partition(".")[0] in _NETWORKED else Trouble.WRONG
