"""Which annotations are made of builtin types only, and whether a value is exactly of one.

For those no validator is needed: the tagged form is exact, so a value that fits comes back as it is.
"""

from __future__ import annotations

import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from inspect import Signature
from typing import Any, Final

from holdfast.codec.arrays import is_array, is_numpy_scalar, is_table

Fits = Callable[[Any], bool]
_LEAVES: Final = frozenset(
    {bool, int, float, str, bytes, bytearray, complex, range, datetime, date, time, timedelta, Decimal, uuid.UUID}
    | {pathlib.PurePosixPath, pathlib.PureWindowsPath}
)
_UNSAID: Final = (Signature.empty, Any, object, typing.NoReturn, typing.Never)
_NOTHING: Final = (None, type(None))


def fits(annotation: Any) -> Fits | None:
    """A predicate for values exactly of `annotation`; None if it takes more than builtin types to say."""
    if annotation in _UNSAID:
        return _anything
    if annotation in _NOTHING:
        return _is_none
    if annotation in (pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath):
        return _is_exactly(type(pathlib.Path()))
    if not is_hashable(annotation):
        return None
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    maker = _MAKERS.get(origin if origin is not None else annotation)
    if maker is not None:
        return maker(args)
    kind = origin if origin is not None else annotation
    if isinstance(kind, type) and (kind in _LEAVES or is_array(kind) or is_table(kind) or is_numpy_scalar(kind)):
        return _is_exactly(kind)
    return None


def is_hashable(annotation: Any) -> bool:
    """Whether an annotation can be a key; ``Annotated[int, []]`` can't."""
    try:
        hash(annotation)
    except TypeError:
        return False
    return True


def scalars(annotation: Any) -> frozenset[type]:
    """The JSON scalars among the types that `annotation` allows: a value of one needs no further look."""
    if annotation in _UNSAID:
        return _JSON
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return frozenset().union(*map(scalars, typing.get_args(annotation)))
    return frozenset({type(None)} if annotation is None else _JSON & {annotation})


_JSON: Final = frozenset({type(None), bool, int, float, str})


def _anything(_: Any) -> bool:
    return True


def _is_none(value: Any) -> bool:
    return value is None


def _is_exactly(kind: type) -> Fits:
    return lambda value: type(value) is kind


def _literal(args: tuple[Any, ...]) -> Fits | None:
    if not all(type(arg) in _LEAVES or arg is None for arg in args):
        return None
    return lambda value: any(type(value) is type(arg) and value == arg for arg in args)


def _union(args: tuple[Any, ...]) -> Fits | None:
    members = _all(args)
    return None if members is None else lambda value: any(member(value) for member in members)


def _collection(kind: Any) -> Callable[[tuple[Any, ...]], Fits | None]:
    def make(args: tuple[Any, ...]) -> Fits | None:
        item = fits(args[0]) if args else _anything
        if item is _anything:
            return _is_exactly(kind)
        leaf = args[0] if args and args[0] in _LEAVES else None
        if leaf is not None:
            only = {leaf}
            return lambda value: type(value) is kind and set(map(type, value)) <= only
        return None if item is None else lambda value: type(value) is kind and all(map(item, value))

    return make


def _mapping(args: tuple[Any, ...]) -> Fits | None:
    key, item = (fits(arg) for arg in args or (Any, Any))
    if key is None or item is None:
        return None
    return lambda value: type(value) is dict and all(map(key, value)) and all(map(item, value.values()))


def _tuple(args: tuple[Any, ...]) -> Fits | None:
    if not args:
        return _is_exactly(tuple)
    if len(args) == 2 and args[1] is ...:
        return _collection(tuple)(args[:1])
    members = _all(() if args == ((),) else args)
    if members is None:
        return None
    return lambda value: (
        type(value) is tuple and len(value) == len(members) and all(fit(item) for fit, item in zip(members, value, strict=True))
    )


def _all(annotations: tuple[Any, ...]) -> Sequence[Fits] | None:
    members = [fits(annotation) for annotation in annotations]
    return None if None in members else [member for member in members if member is not None]


_MAKERS: Final[dict[Any, Callable[[tuple[Any, ...]], Fits | None]]] = {
    list: _collection(list),
    set: _collection(set),
    frozenset: _collection(frozenset),
    dict: _mapping,
    tuple: _tuple,
    typing.Union: _union,
    types.UnionType: _union,
    typing.Literal: _literal,
}
