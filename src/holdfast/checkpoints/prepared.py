"""What a save was given, as it is when `save` has been called: encoded, or with its copy taken, and ready to be written."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.checkpoints.generations import Generation3, Kind
from holdfast.checkpoints.restoring import remove
from holdfast.checkpoints.sending import Tree
from holdfast.codec import codec_for, to_json
from holdfast.folders.threads import call, in_thread
from holdfast.retention import Saved


class Plain:
    """A payload in memory."""

    __slots__ = ("data", "kind", "parts")

    def __init__(self, kind: Kind, data: bytes, parts: Mapping[str, bytes]) -> None:
        self.kind: Kind = kind
        self.data = data
        self.parts = parts


class Prepared:
    """One save that has been asked for.

    Attributes:
        payload: In memory, or a file or directory.
        metadata: As it was given.
        encoded: The metadata, as it goes into the manifest.
        ordinal: Its place in its line of saves.
        undelivered: Calls that were under way when it was asked for.
        saved: What retention looks at; its generation is not known yet.
        relies_on: A generation whose chunks it names without having read or copied them: it must not be deleted before.
    """

    __slots__ = ("encoded", "metadata", "ordinal", "payload", "relies_on", "saved", "undelivered")

    def __init__(self, metadata: Mapping[str, Any], encoded: Any, ordinal: int, undelivered: tuple[str, ...], metric: float | None) -> None:
        self.payload: Plain | Tree = Plain("bytes", b"", {})
        self.metadata = metadata
        self.encoded = encoded
        self.ordinal = ordinal
        self.undelivered = undelivered
        self.saved = Saved((0, 0, 0), ordinal, metric)
        self.relies_on: Generation3 | None = None

    async def let_go(self) -> None:
        """It is written, or will not be: remove its copy."""
        self.relies_on = None
        if isinstance(self.payload, Tree) and self.payload.copies is not None:
            await in_thread(call(remove, self.payload.copies))


async def plain(data: object, task: str) -> Plain:
    """Encode what is no file. Raises: UnrecordableResult."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return Plain("bytes", bytes(data), {})
    if isinstance(data, str) and await in_thread(call(_names_a_file, data)):
        warnings.warn(f"checkpoint.save({data!r}) saves the str itself; pass a Path to save the file of that name", stacklevel=2)
    by_type = hasattr(type(data), "__pydantic_serializer__") or hasattr(type(data), "__dataclass_fields__")
    encoded = codec_for(type(data) if by_type else Any, task=f"checkpoint of {task}").encode(data)
    return Plain("data", to_json(encoded.tree), encoded.parts)


def _names_a_file(text: str) -> bool:
    return text != "" and len(text) < 4096 and "\0" not in text and os.path.exists(text)


def source_of(data: object) -> Path | None:
    """The file or directory that is to be saved, if it is one."""
    return Path(data) if isinstance(data, os.PathLike) else None
