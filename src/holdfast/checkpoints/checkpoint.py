"""State that a body saves for its later attempts: the face.

A save writes its payload, then one manifest, exclusively; the manifest makes it visible. Generations are ordered by (owner's epoch,
attempt, n), whoever wrote last. Loading verifies what it reads, and falls back to the newest valid generation with a warning: absence is
None, damage and refusal are errors. Nothing is ever restored outside the attempt's own directory.

`prepared` is what was given, `writing` brings it into the store (a large payload by `sending`), `reading` brings it back (to a path by
`restoring`), `behind` are the saves that nobody waits for, and `retaining` deletes what is too old.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, overload

from pydantic import TypeAdapter

from holdfast.blobs import Blobs
from holdfast.bridge import running_loop, wait_for_loop
from holdfast.checkpoints.behind import Behind
from holdfast.checkpoints.directories import remove
from holdfast.checkpoints.generations import Generation
from holdfast.checkpoints.keeper import Keeper
from holdfast.checkpoints.prepared import Asked, Prepared, plain, source_of
from holdfast.checkpoints.reading import Reader, Wanted
from holdfast.checkpoints.retaining import Retaining
from holdfast.checkpoints.sending import Tree, copied
from holdfast.checkpoints.writing import Writer
from holdfast.codec import codec_for
from holdfast.deferred import Deferred
from holdfast.errors import BlockingCall, ForgottenAwait
from holdfast.folders.protocol import Folder
from holdfast.folders.threads import call, in_thread
from holdfast.retention import UNWRITTEN, Generation3, Saved, metric_of

T = TypeVar("T")
Type: TypeAlias = type[T] | TypeAdapter[T]


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

    def __init__(self, folder: Folder, blobs: Blobs, keeper: Keeper) -> None:
        self._keeper = keeper
        self._retaining = Retaining(folder, blobs, keeper)
        self._writer = Writer(folder, blobs, keeper, self._retaining.saved)
        self._reader = Reader(folder, blobs, keeper, self._restored, self._found_damaged)
        self._behind = Behind(self._writer.write, self._let_go, keeper.retention)
        self._turn = asyncio.Lock()
        self._savings: list[Saving] = []
        self._temporary: Path | None = None
        self._own: Path | None = None
        self._places = 0
        self._going: weakref.finalize[..., Checkpoint] | None = None

    # the surface

    @property
    def path(self) -> Path:
        """The attempt's own directory, where `load` restores to, in the place for temporary files. It goes when the attempt ends."""
        if self._own is None:
            self._own = self._workspace() / "own"
            self._own.mkdir()
        return self._own

    def prev_exists(self) -> bool:
        """Whether an earlier attempt, or this one, has saved something that may be loaded."""
        return self._keeper.newest is not None

    @overload
    def save(
        self, data: object, *, metadata: Mapping[str, Any] | None = None, trust_stat: bool = False, wait: Literal[True] = True
    ) -> Coroutine[Any, Any, Generation]: ...
    @overload
    def save(
        self, data: object, *, metadata: Mapping[str, Any] | None = None, trust_stat: bool = False, wait: Literal[False]
    ) -> Coroutine[Any, Any, None]: ...
    def save(
        self, data: object, *, metadata: Mapping[str, Any] | None = None, trust_stat: bool = False, wait: bool = True
    ) -> Coroutine[Any, Any, Any]:
        """Save state for later attempts. It becomes visible whole or not at all, and what the store has already is not sent again.

        Args:
            data: bytes-like; a `Path` of a file or a directory; a pydantic model, a dataclass, or plain data (a str is data).
            metadata: Plain data kept beside the generation.
            trust_stat: Don't read a file again whose size, times, inode and device are still those of the last save. docs/checkpoints.md
                says when that is safe.
            wait: With False, take a copy, return None, and write behind; an error comes with the next save, `flush`, or the attempt's end.
                A save that still waits, and that no rule of retention could want, is passed over for a newer one.

        Returns:
            The new generation (None with `wait=False`).

        Raises:
            UnrecordableResult: The data would not come back as it is.
            FileChanged: A file changed each time that it was read.
            InvalidName: A link leads out of the directory, or something in it is no file, folder or link.
            StoreFull, StoreUnavailable, StorePermission: The store refused; the last good generation stays.
            ActionEnded, AttemptAbandoned: The attempt is over.
        """
        saving = Saving(lambda: self._save(data, metadata, trust_stat, wait))
        self._savings.append(saving)
        return saving

    @overload
    async def load(self, /, *, generation: Generation | None = None, fallback: bool = True, only: str | None = None) -> Path | None: ...
    @overload
    async def load(
        self, as_type: Type[T], /, *, generation: Generation | None = None, fallback: bool = True, only: str | None = None
    ) -> T | None: ...
    async def load(
        self, as_type: Any = None, /, *, generation: Generation | None = None, fallback: bool = True, only: str | None = None
    ) -> Any:
        """Load the newest valid generation that an earlier attempt, or this one, saved. Its bars are put back as they were at the save.

        Args:
            as_type: What to decode and validate it as, a type or a `TypeAdapter`; `bytes` gives the bytes as saved.
            generation: A certain one of `history()`, and no other.
            fallback: With False, a corrupt newest generation is refused, not passed over.
            only: Of a saved directory, restore only what matches this glob: `"model/*"`, `"**/*.json"`.

        Returns:
            None, if there never was one. Without `as_type` a `Path`: the file `payload`, or the saved directory; it stays until the
            attempt ends. With `as_type` the value.

        Raises:
            CheckpointCorrupt: None of the generations is valid (with `fallback=False`: the newest one is not).
            CheckpointForeign: It is of a format that this Holdfast does not read.
            ResultIncompatible: What is saved is not valid as `as_type`.
            InvalidOption: `only` matches nothing, or what is saved is no directory.
            StoreUnavailable, StorePermission: It can't be read. Never None for an error.
        """
        self._keeper.check("checkpoint.load")
        await self.flush()
        found = await self._reader.load(Wanted(as_type, generation, fallback, only))
        if found is None:
            return None
        manifest, value = found
        self._keeper.note_loaded(manifest.generation, manifest.ordinal, manifest.undelivered)
        if manifest.bars is not None:
            self._keeper.rewind(manifest.bars)
        return value

    async def flush(self) -> None:
        """Return when what was saved with `wait=False` is visible. Raises: what `save` raises."""
        await self._behind.settled()
        await self._retaining.settled()

    async def history(self) -> Sequence[Generation]:
        """The readable generations of this action and version that may be loaded, oldest first."""
        await self.flush()
        return await self._reader.history()

    @overload
    def save_sync(
        self, data: object, *, metadata: Mapping[str, Any] | None = None, trust_stat: bool = False, wait: Literal[True] = True
    ) -> Generation: ...
    @overload
    def save_sync(
        self, data: object, *, metadata: Mapping[str, Any] | None = None, trust_stat: bool = False, wait: Literal[False]
    ) -> None: ...
    def save_sync(
        self, data: object, *, metadata: Mapping[str, Any] | None = None, trust_stat: bool = False, wait: bool = True
    ) -> Generation | None:
        """`save`, for `def` bodies."""
        return self._sync("save", self._save(data, metadata, trust_stat, wait))

    @overload
    def load_sync(self, /, *, generation: Generation | None = None, fallback: bool = True, only: str | None = None) -> Path | None: ...
    @overload
    def load_sync(
        self, as_type: Type[T], /, *, generation: Generation | None = None, fallback: bool = True, only: str | None = None
    ) -> T | None: ...
    def load_sync(
        self, as_type: Any = None, /, *, generation: Generation | None = None, fallback: bool = True, only: str | None = None
    ) -> Any:
        """`load`, for `def` bodies."""
        return self._sync("load", self.load(as_type, generation=generation, fallback=fallback, only=only))

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
        await self._behind.ended_well()
        await self._retaining.settled()
        if forgotten is not None:
            raise ForgottenAwait(task=self._keeper.task_name, where=forgotten.made_at)

    def give_up(self) -> None:
        """Stop what is still written behind."""
        self._behind.give_up()
        self._retaining.give_up()

    def discard(self) -> None:
        """Remove the attempt's directory. Blocks."""
        if self._going is not None:
            self._going()

    # saving

    def _sync(self, verb: str, work: Coroutine[Any, Any, T]) -> T:
        if running_loop() is not None:
            work.close()
            raise BlockingCall(task=f"checkpoint.{verb}_sync", instead=f"ctx().checkpoint.{verb}")
        return wait_for_loop(work, self._keeper.loop)

    async def _save(self, data: object, metadata: Mapping[str, Any] | None, trust_stat: bool, wait: bool) -> Generation | None:
        self._keeper.check("checkpoint.save")
        self._savings = [s for s in self._savings if not s.begun]
        asked = self._asked_for(dict(metadata or {}))
        async with self._turn:  # in the order in which they were asked for
            if wait:
                await self._behind.settled()
                source = source_of(data)
                payload = Tree(source, trust_stat) if source is not None else await plain(data, self._keeper.task_name)
                return await self._writer.write(Prepared(asked, payload))
            await self._behind.room_for(asked.saved)
            await self._behind.put(await self._copied(asked, data, trust_stat))
        return None

    def _asked_for(self, metadata: Mapping[str, Any]) -> Asked:
        encoded = codec_for(Any, task="metadata").encode(metadata).tree
        ordinal, undelivered = self._keeper.begin_save()
        saved = Saved(UNWRITTEN, ordinal, metric_of(self._keeper.retention, metadata))
        return Asked(metadata, encoded, tuple(undelivered), saved, self._keeper.bars_shown())

    async def _copied(self, asked: Asked, data: object, trust_stat: bool) -> Prepared:
        """Take what is saved as it is now: the body goes on, and changes it."""
        source = source_of(data)
        if source is None:
            return Prepared(asked, await plain(data, self._keeper.task_name))
        base = await self._writer.newest() if trust_stat else None
        pinned, place = base.generation.order if base is not None else None, self._new_copy()
        if pinned is not None:
            self._retaining.pin(pinned)
        try:
            return Prepared(asked, await copied(source, base, place), pinned)
        except BaseException:
            await self._let_go(Prepared(asked, Tree(source, trust_stat, copies=place), pinned))
            raise

    async def _let_go(self, prepared: Prepared) -> None:
        """It is written, or will not be."""
        if prepared.pinned is not None:
            self._retaining.unpin(prepared.pinned)
        if isinstance(prepared.payload, Tree) and prepared.payload.copies is not None:
            await in_thread(call(remove, prepared.payload.copies))

    def _found_damaged(self, order: Generation3) -> None:
        self._retaining.found_damaged(order)
        self._writer.found_damaged(order)

    def _restored(self) -> Path:
        self._places += 1
        return self.path / f"restored-{self._places}"

    def _new_copy(self) -> Path:
        """Beside the attempt's own directory: that one may be what is saved."""
        self._places += 1
        return self._workspace() / f"copy-{self._places}"

    def _workspace(self) -> Path:
        """It goes at the attempt's end; of an attempt that was abandoned, with its body, or with this process."""
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="holdfast-"))
            self._going = weakref.finalize(self, _remove_ours, self._temporary, os.getpid())
        return self._temporary


def _remove_ours(workspace: Path, process: int) -> None:
    """Not of a forked child, whose parent is still at work there."""
    if os.getpid() == process:
        remove(workspace)
