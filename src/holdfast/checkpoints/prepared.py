"""What a save was given, as it is when `save` has been called: encoded, or with its copy taken, and ready to be written."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.checkpoints.generations import Kind
from holdfast.checkpoints.sending import Tree
from holdfast.codec import codec_for, to_json
from holdfast.folders.threads import call, in_thread
from holdfast.frozen import Frozen
from holdfast.progress import BarValues
from holdfast.retention import Generation3, Saved


class Plain(Frozen):
    """A payload in memory, with its large parts by the digests that stand in their place."""

    kind: Kind
    data: bytes
    parts: Mapping[str, bytes]


class Asked(Frozen):
    """What was asked for beside the payload.

    Attributes:
        metadata: As it was given.
        encoded: The metadata, as it goes into the manifest.
        undelivered: Calls that were under way.
        saved: What retention looks at; which generation it becomes is not known yet.
        bars: What the attempt showed of its progress.
    """

    metadata: Mapping[str, Any]
    encoded: Any
    undelivered: tuple[str, ...]
    saved: Saved
    bars: Mapping[str, BarValues]


class Prepared(Frozen):
    """One save, ready to be written.

    Attributes:
        asked: See there.
        payload: In memory, or a file or directory.
        pinned: A generation whose chunks it names without having read or copied them: it must not be deleted before.
    """

    asked: Asked
    payload: Plain | Tree
    pinned: Generation3 | None = None


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
