"""An object store in memory: whole objects, exclusive creation, nothing else. Strict as the best of them, and quick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.clocks import clock
from holdfast.folders.objects import ObjectFolder
from holdfast.folders.patience import Patience
from holdfast.folders.protocol import Bucket, Entry, Trouble


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    modified: float


class MemoryBucket:
    """A bucket of one process. What has been asked of it is counted in `requests`, by verb."""

    unfenced: str | None = None

    def __init__(self) -> None:
        self.objects: dict[str, _Object] = {}
        self.requests: dict[str, int] = {}

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

    async def list(self, prefix: str) -> Sequence[Entry]:
        self._count("list")
        found: dict[str, Entry] = {}
        for name, each in self.objects.items():
            if name.startswith(prefix):
                head, slash, _ = name[len(prefix) :].partition("/")
                found.setdefault(head, Entry(head, True, 0) if slash else Entry(head, False, len(each.data), each.modified))
        return list(found.values())

    async def walk(self, prefix: str) -> Sequence[Entry]:
        self._count("walk")
        return [
            Entry(name[len(prefix) :], False, len(each.data), each.modified)
            for name, each in self.objects.items()
            if name.startswith(prefix)
        ]

    def trouble(self, error: Exception) -> Trouble:
        if isinstance(error, FileNotFoundError):
            return Trouble.MISSING
        return Trouble.EXISTS if isinstance(error, FileExistsError) else Trouble.WRONG

    async def aclose(self) -> None:
        """Nothing is open."""

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
