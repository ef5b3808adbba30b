"""Results as they go into the journal and come back: inline, or as blobs where they are large."""

from __future__ import annotations

from typing import Any

from holdfast.blobs import Blobs, Naming
from holdfast.codec import INLINE_LIMIT, Codec, from_json, parts_alone, parts_of, to_json, with_parts
from holdfast.states import Record


async def encode_result(naming: Naming, codec: Codec, value: Any) -> tuple[Any, str]:
    """Return a result as it goes into the event: the encoded value, or its parts alone and the name of its blob."""
    encoded = codec.encode(value)
    tree = encoded.tree
    if encoded.parts:
        tree = with_parts(tree, await naming.put_all(encoded.parts))
    if isinstance(tree, (int, float, bool)) or tree is None:
        return tree, ""
    data = to_json(tree)
    if len(data) <= INLINE_LIMIT:
        return tree, ""
    return parts_alone(parts_of(tree)), await naming.put(data)


async def read_value(blobs: Blobs | None, record: Record, codec: Codec) -> Any:
    """Decode a recorded result."""
    tree = record.value
    if blobs is None or not (record.blob or isinstance(tree, (dict, list))):
        return codec.decode(tree, {})
    if record.blob:
        tree = from_json(await blobs.get(record.blob))
    return codec.decode(tree, await blobs.get_all(parts_of(tree)))
