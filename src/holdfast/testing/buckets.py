"""An object store in memory: whole objects, exclusive creation, nothing else. Strict as the best of them, and quick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.clocks import clock
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.patience import Patience
from holdfast.folders.protocol import Bucket, Entry, Page, Trouble


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    modified: float


class MemoryBucket:
    """A bucket of one process. What has been asked of it is counted in `requests`, by verb."""

    unfenced: str | None = None
    page_size: int = 1000
    objects: dict[str, _Object]
    requests: dict[str, int]

    def __init__(self) -> None:
        self.objects = {}
        self.requests = {}

    def copy(self) -> MemoryBucket:
        """The same objects in a bucket of their own."""
        twin = MemoryBucket()
        twin.objects = dict(self.objects)
        return twin

    async def get(self, name: str) -> bytes:
        self._count("get")
        return self._object(name).data

    async def put(self, name: str, data: bytes) -> None:
        self._count("put")
        self.objects[name] = _Object(bytes(data), clock().now())

    async def create(self, name: str, data: bytes) -> None:
        self._count("create")
        if name in self.objects:
            raise FileExistsError(name)
        self.objects[name] = _Object(bytes(data), clock().now())

    async def delete(self, names: Sequence[str]) -> None:
        self._count("delete")
        for name in names:
            self.objects.pop(name, None)

    async def stat(self, name: str) -> Entry:
        self._count("stat")
        found = self._object(name)
        return Entry(name.rpartition("/")[2], False, len(found.data), found.modified)

    async def touch(self, name: str) -> None:
        self._count("touch")
        self.objects[name] = _Object(self._object(name).data, clock().now())

    async def list(self, prefix: str, more: str | None = None) -> Page:
        self._count("list")
        found: dict[str, Entry] = {}
        for name, each in list(self.objects.items()):
            if name.startswith(prefix):
                head, slash, _ = name[len(prefix) :].partition("/")
                found.setdefault(head, Entry(head, True, 0) if slash else Entry(head, False, len(each.data), each.modified))
        return self._page(list(found.values()), more)

    async def walk(self, prefix: str, more: str | None = None) -> Page:
        self._count("walk")
        found = [
            Entry(name[len(prefix) :], False, len(each.data), each.modified)
            for name, each in list(self.objects.items())
            if name.startswith(prefix)
        ]
        return self._page(found, more)

    def trouble(self, error: Exception) -> Trouble:
        if isinstance(error, FileNotFoundError):
            return Trouble.MISSING
        return Trouble.EXISTS if isinstance(error, FileExistsError) else Trouble.WRONG

    async def aclose(self) -> None:
        """Nothing is open."""

    def _page(self, found: Sequence[Entry], more: str | None) -> Page:
        """What comes after the name `more`, up to `page_size` entries."""
        rest = sorted((entry for entry in found if more is None or entry.name > more), key=lambda entry: entry.name)
        page = rest[: self.page_size]
        return Page(page, page[-1].name if len(rest) > len(page) else None)

    def _object(self, name: str) -> _Object:
        if name not in self.objects:
            raise FileNotFoundError(name)
        return self.objects[name]

    def _count(self, verb: str) -> None:
        self.requests[verb] = self.requests.get(verb, 0) + 1


def bucket_folder(bucket: Bucket | None = None, *, patience: Patience | None = None) -> ObjectFolder:
    """A folder in a bucket, by default a new one in memory."""
    inside = bucket if bucket is not None else MemoryBucket()

    async def opened() -> Bucket:
        return inside

    return ObjectFolder(opened, "", "bucket:", patience=patience, unfenced=inside.unfenced)
