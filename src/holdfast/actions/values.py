"""Values as they go into the journal and come back: inline, or as blobs where they are large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.blobs import Blobs, Naming
from holdfast.codec import INLINE_LIMIT, Codec, Encoded, from_json, parts_alone, parts_of, to_json, with_parts
from holdfast.states import Record

_NO_PARTS: Mapping[str, bytes] = {}
#: Bytes of one character of JSON at most: two escapes of six.
_LONGEST_SPELLING: Final = 12


def fits_event(encoded: Encoded) -> bool:
    """Whether it is seen at a glance that a value goes into an event as it is: it is no tree, and no long text."""
    tree = encoded.tree
    if isinstance(tree, str):
        return len(tree) * _LONGEST_SPELLING < INLINE_LIMIT
    return tree is None or isinstance(tree, (int, float))


async def keep(naming: Naming, encoded: Encoded) -> tuple[Any, str]:
    """Return a value as it goes into an event: encoded, or its parts alone and the name of its blob."""
    if fits_event(encoded):
        return encoded.tree, ""
    tree = encoded.tree
    if encoded.parts:
        tree = with_parts(tree, await naming.put_all(encoded.parts))
    data = to_json(tree)
    if len(data) <= INLINE_LIMIT:
        return tree, ""
    return parts_alone(parts_of(tree)), await naming.put(data)


async def kept(blobs: Blobs | None, value: Any, blob: str) -> tuple[Any, Mapping[str, bytes]]:
    """The tree and the parts of what an event holds, for `Codec.decode`."""
    if blobs is None or not (blob or isinstance(value, (dict, list))):
        return value, _NO_PARTS
    tree = from_json(await blobs.get(blob)) if blob else value
    return tree, await blobs.get_all(parts_of(tree))


def is_inline(record: Record) -> bool:
    """Whether a recorded result is all in the record."""
    return not record.blob and not (isinstance(record.value, (dict, list)) and parts_of(record.value))


async def read_value(blobs: Blobs | None, record: Record, codec: Codec) -> Any:
    """Decode a recorded result."""
    return codec.decode(*await kept(blobs, record.value, record.blob))
