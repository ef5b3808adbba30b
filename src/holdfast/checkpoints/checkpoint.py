"""State that a body saves for its later attempts.

A save writes its payload, then one manifest, exclusively; the manifest makes it visible. Generations are ordered by (owner's epoch,
attempt, n), whoever wrote last. Loading verifies what it reads, and falls back to the newest valid generation with a warning: absence is
None, damage and refusal are errors. Nothing is ever restored outside the attempt's own directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import warnings
from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload

import anyio
import anyio.to_thread
from pydantic import TypeAdapter, ValidationError

from holdfast.bridge import running_loop, wait_for_loop
from holdfast.checkpoints.directories import copy_of, make_links, safe_parts, scan
from holdfast.checkpoints.generations import File, Generation, Generation3, Kind, Manifest, name_of, order_of, sealed, understand, unsealed
from holdfast.clocks import clock, instant
from holdfast.codec import INLINE_LIMIT, codec_for, from_json, to_json
from holdfast.deferred import Deferred
from holdfast.errors import (
    BlockingCall,
    CheckpointCorrupt,
    CheckpointFallback,
    ForgottenAwait,
    ObjectMissing,
    ResultIncompatible,
    RunError,
    StoreError,
)
from holdfast.folders.protocol import Folder

T = TypeVar("T")
Type: TypeAlias = type[T] | TypeAdapter[T]


class Keeper(Protocol):
    """What a checkpoint needs of the attempt that it belongs to."""

    loop: asyncio.AbstractEventLoop
    number: int

    @property
    def task_name(self) -> str: ...

    @property
    def version(self) -> str | None: ...

    @property
    def epoch(self) -> int: ...

    @property
    def keep(self) -> int: ...

    @property
    def sync(self) -> bool: ...

    @property
    def newest(self) -> Generation3 | None: ...

    def check(self, what: str) -> None:
        """Raise ActionEnded or AttemptAbandoned, where this attempt may no longer do anything."""
        ...

    def may_load(self, generation: Generation3) -> bool:
        """False for what a fenced owner wrote behind our back, and for what was set aside."""
        ...

    def pinned(self) -> Generation3 | None:
        """A generation that retention has to keep."""

    async def before_delete(self) -> None:
        """Return when the last save is on record: whoever owns the run next may load it, and needs nothing older. Raises: RunFenced."""
        ...

    async def before_save(self) -> None:
        """Return when the attempt's start is durable, and the calls that it has under way."""
        ...

    def begin_save(self) -> tuple[int, Sequence[str]]:
        """Return the ordinal of the save in its line, and which calls are asked for and not yet answered."""
        ...

    def saved(self, generation: Generation) -> None: ...

    def note_loaded(self, generation: Generation, ordinal: int, undelivered: Sequence[str]) -> None: ...

    def warn(self, category: type[Warning], text: str) -> None: ...


class Saving(Deferred[Any]):
    """A `save(...)` that has been asked for. One that is never awaited saves nothing, and fails its attempt."""

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Generation | None]]) -> None:
        super().__init__(depth=3)
        self._work = work

    def _begin(self) -> Coroutine[Any, Any, Any]:
        return self._work()


class Checkpoint:
    """The saved state of one action, as one attempt sees it: `ctx().checkpoint`."""

    def __init__(self, folder: Folder, keeper: Keeper) -> None:
        self._folder = folder
        self._keeper = keeper
        self._lock = asyncio.Lock()
        self._saves = 0
        self._known: list[Generation3] | None = None
        self._savings: list[Saving] = []
        self._behind: asyncio.Task[Generation] | None = None
        self._retaining: asyncio.Task[None] | None = None
        self._staged = 0
        self._workspace: Path | None = None
        self._restores = 0

    # the surface

    @property
    def path(self) -> Path:
        """The attempt's own directory, where `load` restores to. It goes when the attempt ends."""
        if self._workspace is None:
            self._workspace = Path(tempfile.mkdtemp(prefix="holdfast-"))
        return self._workspace

    def prev_exists(self) -> bool:
        """Whether an earlier attempt, or this one, has saved something that may be loaded."""
        return self._keeper.newest is not None

    @overload
    def save(
        self, data: object, *, metadata: Mapping[str, Any] | None = None, wait: Literal[True] = True
    ) -> Coroutine[Any, Any, Generation]: ...
    @overload
    def save(self, data: object, *, metadata: Mapping[str, Any] | None = None, wait: Literal[False]) -> Coroutine[Any, Any, None]: ...
    def save(self, data: object, *, metadata: Mapping[str, Any] | None = None, wait: bool = True) -> Coroutine[Any, Any, Any]:
        """Save state for later attempts. It becomes visible whole or not at all.

        Args:
            data: bytes-like; a `Path` of a file or a directory; a pydantic model, a dataclass, or plain data (a str is data).
            metadata: Plain data kept beside the generation.
            wait: With False, take a copy, return None, and write behind; an error comes with the next save, `flush`, or the attempt's end.

        Returns:
            The new generation (None with `wait=False`).

        Raises:
            UnrecordableResult: The data would not come back as it is.
            StoreFull, StoreUnavailable, StorePermission: The store refused; the last good generation stays.
            ActionEnded, AttemptAbandoned: The attempt is over.
        """
        saving = Saving(lambda: self._save(data, metadata, wait))
        self._savings.append(saving)
        return saving

    @overload
    async def load(self, /, *, generation: Generation | None = None, fallback: bool = True) -> Path | None: ...
    @overload
    async def load(self, as_type: Type[T], /, *, generation: Generation | None = None, fallback: bool = True) -> T | None: ...
    async def load(self, as_type: Any = None, /, *, generation: Generation | None = None, fallback: bool = True) -> Any:
        """Load the newest valid generation that an earlier attempt, or this one, saved.

        Args:
            as_type: What to decode and validate it as, a type or a `TypeAdapter`; `bytes` gives the bytes as saved.
            generation: A certain one of `history()`, and no other.
            fallback: With False, a corrupt newest generation is refused, not passed over.

        Returns:
            None, if there never was one. Without `as_type` a `Path`: the file `payload`, or the saved directory; it stays until the
            attempt ends. With `as_type` the value.

        Raises:
            CheckpointCorrupt: None of the generations is valid (with `fallback=False`: the newest one is not).
            ResultIncompatible: What is saved is not valid as `as_type`.
            StoreUnavailable, StorePermission: It can't be read. Never None for an error.
        """
        self._keeper.check("checkpoint.load")
        await self.flush()
        found = await self._find(generation, fallback and generation is None)
        if found is None:
            return None
        manifest, payload = found
        value = payload if as_type is None or as_type is Path else await self._decode(manifest, payload, as_type)
        self._keeper.note_loaded(manifest.generation, manifest.ordinal, manifest.undelivered)
        return value

    async def flush(self) -> None:
        """Return when what was saved with `wait=False` is visible. Raises: what `save` raises."""
        if (behind := self._behind) is not None:
            await asyncio.wait({behind})  # whoever is cancelled here leaves it at work
            if self._behind is behind:
                self._behind = None
            behind.result()
        if (retaining := self._retaining) is not None:
            await asyncio.wait({retaining})
            retaining.result()

    async def history(self) -> Sequence[Generation]:
        """The readable generations of this action and version that may be loaded, oldest first."""
        await self.flush()
        found = []
        for order in await self._orders():
            try:
                manifest = await self._manifest(order)
            except CheckpointCorrupt:
                continue
            if manifest.version == self._keeper.version:
                found.append(manifest.generation)
        return found

    @overload
    def save_sync(self, data: object, *, metadata: Mapping[str, Any] | None = None, wait: Literal[True] = True) -> Generation: ...
    @overload
    def save_sync(self, data: object, *, metadata: Mapping[str, Any] | None = None, wait: Literal[False]) -> None: ...
    def save_sync(self, data: object, *, metadata: Mapping[str, Any] | None = None, wait: bool = True) -> Generation | None:
        """`save`, for `def` bodies."""
        return self._sync("save", self._save(data, metadata, wait))

    @overload
    def load_sync(self, /, *, generation: Generation | None = None, fallback: bool = True) -> Path | None: ...
    @overload
    def load_sync(self, as_type: Type[T], /, *, generation: Generation | None = None, fallback: bool = True) -> T | None: ...
    def load_sync(self, as_type: Any = None, /, *, generation: Generation | None = None, fallback: bool = True) -> Any:
        """`load`, for `def` bodies."""
        return self._sync("load", self.load(as_type, generation=generation, fallback=fallback))

    def flush_sync(self) -> None:
        """`flush`, for `def` bodies."""
        self._sync("flush", self.flush())

    def history_sync(self) -> Sequence[Generation]:
        """`history`, for `def` bodies."""
        return self._sync("history", self.history())

    # the attempt's end

    async def finish(self) -> None:
        """Wait for what is written behind. Raises: ForgottenAwait; what the last save raised."""
        forgotten = next((s for s in self._savings if not s.begun), None)
        for saving in self._savings:
            if not saving.begun:
                saving.close()
        await self.flush()
        if forgotten is not None:
            raise ForgottenAwait(task=self._keeper.task_name, where=forgotten.made_at)

    def give_up(self) -> None:
        """Stop what is still written behind."""
        for task in (self._behind, self._retaining):
            if task is not None:
                task.cancel()

    def discard(self) -> None:
        """Remove the attempt's directory. Blocks."""
        if self._workspace is not None:
            shutil.rmtree(self._workspace, ignore_errors=True)

    # saving

    def _sync(self, verb: str, work: Coroutine[Any, Any, T]) -> T:
        if running_loop() is not None:
            work.close()
            raise BlockingCall(task=f"checkpoint.{verb}_sync", instead=f"ctx().checkpoint.{verb}")
        return wait_for_loop(work, self._keeper.loop)

    async def _save(self, data: object, metadata: Mapping[str, Any] | None, wait: bool) -> Generation | None:
        self._keeper.check("checkpoint.save")
        self._savings = [s for s in self._savings if not s.begun]
        ordinal, undelivered = self._keeper.begin_save()
        await self.flush()
        prepared = await self._prepare(data, copy=not wait)
        kept = codec_for(Any, task="metadata").encode(dict(metadata or {})).tree
        work = self._write(prepared, kept, dict(metadata or {}), ordinal, tuple(undelivered))
        if wait:
            return await work
        self._behind = asyncio.create_task(work)
        self._behind.add_done_callback(lambda task: task.cancelled() or task.exception())
        return None

    async def _prepare(self, data: object, *, copy: bool) -> _Prepared:
        if isinstance(data, (bytes, bytearray, memoryview)):
            return _Prepared("bytes", bytes(data))
        if isinstance(data, os.PathLike):
            source = Path(data)
            if copy:
                self._staged += 1
                source = await anyio.to_thread.run_sync(copy_of, source, self.path / f"staged-{self._staged}")
            return _Prepared("directory" if source.is_dir() else "file", source=source, is_staged=copy)
        if isinstance(data, str) and await anyio.to_thread.run_sync(_names_a_file, data):
            warnings.warn(f"checkpoint.save({data!r}) saves the str itself; pass a Path to save the file of that name", stacklevel=2)
        by_type = hasattr(type(data), "__pydantic_serializer__") or hasattr(type(data), "__dataclass_fields__")
        encoded = codec_for(type(data) if by_type else Any, task=f"checkpoint of {self._keeper.task_name}").encode(data)
        return _Prepared("data", to_json(encoded.tree), parts=encoded.parts)

    async def _write(
        self, prepared: _Prepared, kept: Any, metadata: Mapping[str, Any], ordinal: int, undelivered: tuple[str, ...]
    ) -> Generation:
        await self._keeper.before_save()
        async with self._lock:
            order = (self._keeper.epoch, self._keeper.number, self._saves)
            self._saves += 1
            base, sync = f"{name_of(order)}", self._keeper.sync
            record: dict[str, Any] = {"holdfast": "1.0", "kind": prepared.kind, "version": self._keeper.version, "metadata": kept}
            size, digest = await self._write_payload(base, prepared, record)
            now = clock().now()
            record |= {"size": size, "digest": digest, "at": now, "ordinal": ordinal, "undelivered": list(undelivered)}
            self._keeper.check("checkpoint.save")
            await self._folder.create(f"{base}.json", sealed(to_json(record)), sync=sync)
            generation = Generation(*order, size=size, digest=digest, created_at=instant(now), metadata=metadata)
            self._keeper.saved(generation)
            if prepared.is_staged and prepared.source is not None:
                await anyio.to_thread.run_sync(_remove, prepared.source)
            self._retaining = asyncio.create_task(self._retain(order))
            self._retaining.add_done_callback(lambda task: task.cancelled() or task.exception())
            return generation

    async def _write_payload(self, base: str, prepared: _Prepared, record: dict[str, Any]) -> tuple[int, str]:
        sync = self._keeper.sync
        if prepared.source is not None and prepared.kind == "directory":
            files = await self._write_directory(base, prepared.source)
            record["files"] = [[f.path, f.mode, f.size, f.digest, f.link, f.is_folder] for f in files]
            return sum(f.size for f in files), sha256(to_json(record["files"])).hexdigest()
        if prepared.source is not None:
            content = await anyio.to_thread.run_sync(prepared.source.read_bytes)
            await self._folder.put(f"{base}/payload", content, sync=sync)
            return len(content), sha256(content).hexdigest()
        for part, data in prepared.parts.items():
            await self._folder.put(f"{base}/{part}", data, sync=sync)
        record["parts"] = list(prepared.parts)
        if len(prepared.data) <= INLINE_LIMIT:
            record["inline"] = b64encode(prepared.data).decode()
        else:
            await self._folder.put(f"{base}/payload", prepared.data, sync=sync)
        size = len(prepared.data) + sum(len(data) for data in prepared.parts.values())
        return size, sha256(prepared.data).hexdigest()

    async def _write_directory(self, base: str, source: Path) -> list[File]:
        written: list[File] = []
        for number, found in enumerate(await anyio.to_thread.run_sync(scan, source)):
            if found.link is None and not found.is_folder:
                content = await anyio.to_thread.run_sync((source / found.path).read_bytes)
                await self._folder.put(f"{base}/{number:08}", content, sync=self._keeper.sync)
                found = File(found.path, found.mode, len(content), sha256(content).hexdigest())
            written.append(found)
        return written

    async def _retain(self, newest: Generation3) -> None:
        """Delete what is older than the newest `keep` generations. What the store does not let go of now is left to a later save."""
        try:
            if self._known is None:
                self._known = await self._all_orders()
            else:
                self._known.append(newest)
            pinned = self._keeper.pinned()
            loadable = [o for o in sorted(self._known) if self._keeper.may_load(o)]
            superfluous = [order for order in loadable[: -self._keeper.keep] if order != pinned]
            if superfluous:
                await self._keeper.before_delete()
            for order in superfluous:
                await self._folder.delete(f"{name_of(order)}.json")
                await self._folder.delete_tree(name_of(order))
            self._known = [order for order in self._known if order not in superfluous]  # saves made at once delete at once
        except (StoreError, RunError):  # the generation itself is saved; a journal that was lost says so to the body by other ways
            return

    # loading

    async def _all_orders(self) -> list[Generation3]:
        return sorted(o for entry in await self._folder.list("") if (o := order_of(entry.name)) is not None)

    async def _orders(self) -> list[Generation3]:
        return [o for o in await self._all_orders() if self._keeper.may_load(o)]

    async def _find(self, wanted: Generation | None, fallback: bool) -> tuple[Manifest, Path] | None:
        orders = await self._orders() if wanted is None else [wanted.order]
        reasons: list[str] = []
        for order in reversed(orders):
            try:
                manifest = await self._manifest(order)
                if manifest.version != self._keeper.version:
                    continue
                restored = await self._restore(manifest)
            except CheckpointCorrupt as error:
                if not fallback:
                    raise
                reasons.append(error.reason)
                continue
            if reasons:
                text = f"checkpoint of {self._keeper.task_name}: generation {name_of(order)} is loaded, since newer ones are not valid"
                self._keeper.warn(CheckpointFallback, f"{text} ({'; '.join(reasons)})")
            return manifest, restored
        if reasons:
            raise CheckpointCorrupt(where=self._folder.url, reason="; ".join(reasons))
        return None

    async def _manifest(self, order: Generation3) -> Manifest:
        key = f"{name_of(order)}.json"
        try:
            data = await self._folder.get(key)
        except ObjectMissing as error:
            raise CheckpointCorrupt(where=f"{self._folder.url}/{key}", reason=f"{key} is gone") from error
        try:
            return understand(order, unsealed(data))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise CheckpointCorrupt(where=f"{self._folder.url}/{key}", reason=f"{key} can't be read") from error

    async def _restore(self, manifest: Manifest) -> Path:
        """Bring the payload into the workspace, verified."""
        base = name_of(manifest.generation.order)
        self._restores += 1
        target = self.path / f"restored-{self._restores}"
        try:
            if manifest.kind == "directory":
                await self._restore_directory(base, manifest, target)
                return target
            await anyio.to_thread.run_sync(target.mkdir)
            payload = target / "payload"
            if manifest.inline is not None:
                digest = sha256(manifest.inline).hexdigest()
                await anyio.to_thread.run_sync(payload.write_bytes, manifest.inline)
            else:
                content = await self._folder.get(f"{base}/payload")
                await anyio.to_thread.run_sync(payload.write_bytes, content)
                digest = sha256(content).hexdigest()
        except ObjectMissing as error:
            raise CheckpointCorrupt(where=f"{self._folder.url}/{base}", reason=f"{base}: its payload is gone") from error
        if digest != manifest.generation.digest:
            raise CheckpointCorrupt(where=f"{self._folder.url}/{base}", reason=f"{base}: its payload does not match its digest")
        return payload

    async def _restore_directory(self, base: str, manifest: Manifest, target: Path) -> None:
        await anyio.to_thread.run_sync(target.mkdir)
        for number, found in enumerate(manifest.files):
            place = target.joinpath(*safe_parts(found.path))
            await anyio.to_thread.run_sync(partial(place.parent.mkdir, parents=True, exist_ok=True))
            if found.is_folder:
                await anyio.to_thread.run_sync(partial(place.mkdir, exist_ok=True))
            elif found.link is None:
                content = await self._folder.get(f"{base}/{number:08}")
                await anyio.to_thread.run_sync(place.write_bytes, content)
                if (len(content), sha256(content).hexdigest()) != (found.size, found.digest):
                    reason = f"{base}: {found.path} does not match its digest"
                    raise CheckpointCorrupt(where=f"{self._folder.url}/{base}", reason=reason)
                os.chmod(place, found.mode)
        await anyio.to_thread.run_sync(make_links, target, manifest.files)

    async def _decode(self, manifest: Manifest, payload: Path, as_type: Any) -> Any:
        if manifest.kind == "directory":
            reason = "it is a directory; load() gives its Path"
            raise ResultIncompatible(task=self._keeper.task_name, expected=_type_name(as_type), reason=reason)
        data = await anyio.to_thread.run_sync(payload.read_bytes)
        if as_type in (bytes, bytearray):
            return as_type(data)
        if manifest.kind != "data":
            return self._validate(as_type, lambda adapter: adapter.validate_json(data))
        base = name_of(manifest.generation.order)
        try:
            parts = {part: await self._folder.get(f"{base}/{part}") for part in manifest.parts}
        except ObjectMissing as error:
            raise CheckpointCorrupt(where=f"{self._folder.url}/{base}", reason=f"{base}: a part is gone") from error
        for part, content in parts.items():
            if sha256(content).hexdigest() != part:
                raise CheckpointCorrupt(where=f"{self._folder.url}/{base}", reason=f"{base}: a part does not match its digest")
        tree, task = from_json(data), f"checkpoint of {self._keeper.task_name}"
        if isinstance(as_type, TypeAdapter):
            value = codec_for(Any, task=task).decode(tree, parts)
            return self._validate(as_type, lambda adapter: adapter.validate_python(value))
        return codec_for(as_type, task=task).decode(tree, parts)

    def _validate(self, as_type: Any, validate: Callable[[TypeAdapter[Any]], Any]) -> Any:
        adapter = as_type if isinstance(as_type, TypeAdapter) else TypeAdapter(as_type)
        try:
            return validate(adapter)
        except ValidationError as error:
            raise ResultIncompatible(task=self._keeper.task_name, expected=_type_name(as_type), reason=str(error)) from error


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a save was given, ready to be written."""

    kind: Kind
    data: bytes = b""
    source: Path | None = None
    parts: Mapping[str, bytes] = field(default_factory=dict)
    is_staged: bool = False


def _names_a_file(text: str) -> bool:
    return text != "" and len(text) < 4096 and "\0" not in text and os.path.exists(text)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _type_name(as_type: Any) -> str:
    return getattr(as_type, "__name__", str(as_type))
