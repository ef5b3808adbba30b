"""`typing.TypedDict` for pydantic, which before Python 3.12 takes only that of typing_extensions: a twin with the same fields."""

from __future__ import annotations

import functools
import operator
import sys
import types
import typing
from typing import Any, Final

import typing_extensions

_NEEDED: Final = sys.version_info < (3, 12)


def with_known_dicts(annotation: Any) -> Any:
    """The annotation with each `typing.TypedDict` in it replaced by its twin."""
    return _replaced(annotation) if _NEEDED else annotation


def _replaced(annotation: Any) -> Any:
    if typing.is_typeddict(annotation) and type(annotation).__module__ == "typing":
        return _twin(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None or origin is typing.Literal:
        return annotation
    fresh = tuple(_replaced(arg) for arg in args)
    if all(new is old for new, old in zip(fresh, args, strict=True)):
        return annotation
    if origin is types.UnionType:
        return functools.reduce(operator.or_, fresh)
    return annotation.copy_with(fresh) if hasattr(annotation, "copy_with") else origin[fresh]


@functools.lru_cache(maxsize=256)
def _twin(kind: Any) -> Any:
    hints = typing.get_type_hints(kind, include_extras=True)
    marked = {name: _marked(kind, name, _replaced(hint)) for name, hint in hints.items()}
    make: Any = typing_extensions.TypedDict
    return make(kind.__name__, marked)


def _marked(kind: Any, name: str, hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
        return hint
    return typing.Required[hint] if name in kind.__required_keys__ else typing.NotRequired[hint]
