"""The newest valid generation out of the store, as a path or as a value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from holdfast.blobs import Blobs
from holdfast.checkpoints.generations import Generation, Manifest, listed, name_of, read_manifest
from holdfast.checkpoints.keeper import Keeper
from holdfast.checkpoints.restoring import Content, Restorer
from holdfast.codec import codec_for, from_json
from holdfast.errors import CheckpointCorrupt, CheckpointFallback, InvalidOption, ResultIncompatible
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.retention import Generation3

T = TypeVar("T")


class Wanted(Frozen):
    """What `load` was asked for.

    Attributes:
        as_type: A type or TypeAdapter; None or Path for a path.
        generation: A certain one.
        fallback: Whether a newest one that is corrupt may be passed over.
        only: Which part of a directory.
    """

    as_type: Any
    generation: Generation | None
    fallback: bool
    only: str | None

    @property
    def is_path(self) -> bool:
        return self.as_type is None or self.as_type is Path


class Reader:
    """The generations that one attempt may load.

    Args:
        folder: Where manifests are.
        blobs: Where chunks are.
        keeper: The attempt.
        new_place: Gives a new place to restore to.
        on_damaged: Called with each generation that could not be restored.
    """

    def __init__(
        self, folder: Folder, blobs: Blobs, keeper: Keeper, new_place: Callable[[], Path], on_damaged: Callable[[Generation3], None]
    ) -> None:
        self._folder = folder
        self._blobs = blobs
        self._keeper = keeper
        self._new_place = new_place
        self._on_damaged = on_damaged

    async def history(self) -> list[Generation]:
        """The readable generations of this version, oldest first."""
        found: list[Generation] = []
        manifests = await listed(self._folder)
        for order in sorted(filter(self._keeper.may_load, manifests)):
            try:
                manifest = await read_manifest(self._folder, order, manifests[order])
            except CheckpointCorrupt:
                continue
            if manifest.version == self._keeper.version:
                found.append(manifest.generation)
        return found

    async def load(self, wanted: Wanted) -> tuple[Manifest, Any] | None:
        """The generation that was found, and its value; None, if there never was one. Raises: what `Checkpoint.load` raises."""
        manifests = await listed(self._folder)
        certain = wanted.generation.order if wanted.generation is not None else None
        orders = [certain] if certain is not None else sorted(filter(self._keeper.may_load, manifests), reverse=True)
        reasons: list[str] = []
        for order in orders:
            try:
                if order not in manifests:
                    raise CheckpointCorrupt(where=self._folder.url, reason=f"{name_of(order)} is gone")
                manifest = await read_manifest(self._folder, order, manifests[order])
                if manifest.version != self._keeper.version:
                    continue
                value = await self._value(manifest, wanted)
            except CheckpointCorrupt as error:
                self._on_damaged(order)
                if certain is not None or not wanted.fallback:
                    raise
                reasons.append(error.reason)
                continue
            if reasons:
                self._warn(order, reasons)
            return manifest, value
        if reasons:
            raise CheckpointCorrupt(where=self._folder.url, reason="; ".join(reasons))
        return None

    def _warn(self, order: Generation3, reasons: list[str]) -> None:
        text = f"checkpoint of {self._keeper.task_name}: generation {name_of(order)} is loaded, since newer ones are not valid"
        self._keeper.warn(CheckpointFallback, f"{text} ({'; '.join(reasons)})")

    async def _value(self, manifest: Manifest, wanted: Wanted) -> Any:
        restorer = Restorer(self._blobs, manifest, self._folder.url)
        if wanted.is_path:
            return await restorer.path(self._new_place(), wanted.only)
        if manifest.kind == "directory":
            reason = "it is a directory; load() gives its Path"
            raise ResultIncompatible(task=self._keeper.task_name, expected=_type_name(wanted.as_type), reason=reason)
        if wanted.only is not None:
            raise InvalidOption(option="only", value=wanted.only, reason="it names files of a saved directory, and none is saved")
        return self._decode(manifest, await restorer.content(), wanted.as_type)

    def _decode(self, manifest: Manifest, content: Content, as_type: Any) -> Any:
        if as_type in (bytes, bytearray):
            return as_type(content.data)
        if manifest.kind != "data":
            return self._validate(as_type, lambda adapter: adapter.validate_json(content.data))
        tree, task = from_json(content.data), f"checkpoint of {self._keeper.task_name}"
        if isinstance(as_type, TypeAdapter):
            value = codec_for(Any, task=task).decode(tree, content.parts)
            return self._validate(as_type, lambda adapter: adapter.validate_python(value))
        return codec_for(as_type, task=task).decode(tree, content.parts)

    def _validate(self, as_type: Any, validate: Callable[[TypeAdapter[Any]], Any]) -> Any:
        adapter = as_type if isinstance(as_type, TypeAdapter) else TypeAdapter(as_type)
        try:
            return validate(adapter)
        except ValidationError as error:
            raise ResultIncompatible(task=self._keeper.task_name, expected=_type_name(as_type), reason=str(error)) from error


def _type_name(as_type: Any) -> str:
    return getattr(as_type, "__name__", str(as_type))
