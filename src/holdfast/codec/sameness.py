"""Whether a value that came back is the one that went in: same types all the way down, same content, and equal where equality says more.

A difference is given as its path, and what is different there.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, Final

from pydantic import BaseModel

from holdfast.codec.arrays import is_array, is_table
from holdfast.codec.refusals import Refused
from holdfast.codec.tagged import Sink, name_of, tag
from holdfast.codec.wire import to_json

Difference = tuple[str, str]  # path, reason
_SCALARS: Final = frozenset({type(None), bool, int, str})
_UNKNOWN: Final = object()


def says_equal(value: Any, back: Any) -> bool:
    """Whether ``==`` gives a plain yes; an array gives none."""
    try:
        return bool(value == back)
    except (ValueError, TypeError):
        return False


def difference(value: Any, back: Any, again: Any = _UNKNOWN) -> Difference | None:
    """The first difference between a value and what came back, or None.

    With `again`, the same record read once more, equality is asked too, at each object for which it is of use: where the two that were
    read are equal, and the value that was written is not, it held more than its fields.
    """
    if type(value) is not type(back):
        return "", f"a {name_of(type(value))} would come back as a {name_of(type(back))}"
    if type(value) in _SCALARS:
        return None if value == back else _other(value, back)
    if isinstance(value, enum.Enum):
        return None if value is back else _other(value, back)
    if isinstance(value, (dict, list, tuple)):
        return _of_containers(value, back, again)
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return _of_records(value, back, again)
    if is_array(type(value)) or is_table(type(value)):
        return None  # their own adapter has seen to it
    return None if _is_same_leaf(value, back) else _other(value, back)


def _other(value: Any, back: Any) -> Difference:
    return "", f"{value!r:.100} would come back as {back!r:.100}"


def _of_containers(value: Any, back: Any, again: Any) -> Difference | None:
    if len(value) != len(back):
        return "", f"{len(value)} items would come back as {len(back)}"
    if isinstance(value, dict):
        keys = difference(list(value), list(back))
        if keys is not None:
            return ".keys()", keys[1]
        return _first((f"[{key!r}]" for key in value), value.values(), back.values(), _values(again))
    names = getattr(value, "_fields", None)
    steps = (f".{name}" for name in names) if names is not None else (f"[{at}]" for at in range(len(value)))
    return _first(steps, value, back, repeat(again) if again is _UNKNOWN else iter(again))


def _values(again: Any) -> Iterator[Any]:
    return repeat(again) if again is _UNKNOWN else iter(again.values())


def _first(steps: Iterable[str], values: Iterable[Any], backs: Iterable[Any], agains: Iterable[Any]) -> Difference | None:
    for step, value, back, again in zip(steps, values, backs, agains, strict=False):
        found = difference(value, back, again)
        if found is not None:
            return step + found[0], found[1]
    return None


def _of_records(value: Any, back: Any, again: Any) -> Difference | None:
    mine, theirs = _state(value), _state(back)
    if mine.keys() != theirs.keys():
        name = sorted(mine.keys() ^ theirs.keys())[0]
        return f".{name}", "it would be lost" if name in mine else "it would appear"
    twice = repeat(again) if again is _UNKNOWN else iter([_state(again).get(name) for name in mine])
    found = _first((f".{name}" for name in mine), mine.values(), [theirs[name] for name in mine], twice)
    if found is None and again is not _UNKNOWN and not says_equal(value, back) and says_equal(back, again):
        return "", "it would come back unequal, so it holds more than its fields; make that a field, or leave it out of __eq__"
    return found


def _state(value: Any) -> dict[str, Any]:
    if not isinstance(value, BaseModel):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if hasattr(value, field.name)}
    held = {name: item for name, item in value.__dict__.items() if name in type(value).model_fields}
    return {**held, **(value.__pydantic_extra__ or {}), **(value.__pydantic_private__ or {})}


def _is_same_leaf(value: Any, back: Any) -> bool:
    mine = _form(value)
    if mine is not None:
        return mine == _form(back)
    if isinstance(value, (set, frozenset)) and {type(item) for item in value} != {type(item) for item in back}:
        return False
    return says_equal(value, back)


def _form(value: Any) -> bytes | None:
    try:
        return to_json(tag(value, Sink(limit=float("inf"))))
    except Refused:
        return None
