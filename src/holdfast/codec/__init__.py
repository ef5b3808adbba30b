"""Values as JSON trees and binary parts, and back: the same type, the same content, or a refusal when it is recorded.

`wire`       trees as bytes
`tagged`     builtin values as trees, exactly, each by its own type
`arrays`     numpy and pandas, found by the names of their types
`typed`      values by the annotation of the task that returns them
`failures`   exceptions
"""

from holdfast.codec.arrays import FAMILIES as _ARRAYS
from holdfast.codec.failures import FAMILIES as _FAILURES
from holdfast.codec.failures import decode_error, encode_error
from holdfast.codec.tagged import INLINE_LIMIT, Encoded, adopt, parts_alone, parts_of, with_parts
from holdfast.codec.typed import Codec, codec_for
from holdfast.codec.wire import from_json, to_json

adopt(*_ARRAYS)
adopt(*_FAILURES)

__all__ = [
    "INLINE_LIMIT",
    "Codec",
    "Encoded",
    "codec_for",
    "decode_error",
    "encode_error",
    "from_json",
    "parts_alone",
    "parts_of",
    "to_json",
    "with_parts",
]
