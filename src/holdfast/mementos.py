"""A fold as plain JSON, and back: what `RunState.to_json` writes.

Every field of every record is written as it is, but for those at their defaults. What JSON has not is an object with one key, which says
what it is. Reading is tolerant: fields that this version does not know are passed over, and those that are missing have their defaults. So
a field may be added; one that is renamed, or means something else, needs another major `FORMAT`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from holdfast.costs import Bill, Cost
from holdfast.events import ActionAsked, Event, UndoRegistered, decode_event, event_tree
from holdfast.frozen import Frozen
from holdfast.sightings import Sighting
from holdfast.states import Attempt, Fold, Notes, Record, Undo, Worked
from holdfast.status import Status

FORMAT: Final = "1.0"

_AS_THEY_ARE: Final = frozenset({str, int, float, bool, type(None)})
_RAW: Final = frozenset({"value", "error"})
"""Fields that hold JSON already."""
_APART: Final = frozenset({"actions"})


class _Shape:
    """How one kind of record is written: its fields, and what they are by default."""

    def __init__(self, template: Any) -> None:
        self.kind: type[Any] = type(template)
        names = [field.name for field in template.__fields__] if isinstance(template, Frozen) else sorted(self.kind.__slots__)
        self.defaults: dict[str, Any] = {name: getattr(template, name) for name in names}
        self._sets = {name: getattr(self.kind, name).__set__ for name in names}

    def write(self, record: Any) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for name, default in self.defaults.items():
            value = getattr(record, name)
            if value is default or (type(value) is type(default) and value == default):
                continue
            tree[name] = value if name in _RAW or type(value) in _AS_THEY_ARE else _write(value)
        return tree

    def read(self, tree: Mapping[str, Any]) -> Any:
        """Raises: ValueError, TypeError, KeyError, AttributeError, where it is not what was written."""
        record = object.__new__(self.kind)
        for name, default in self.defaults.items():
            if name not in tree:
                value = copy.copy(default) if type(default) in (dict, list, set, bytearray) else default
            else:
                value = tree[name]
                if name not in _RAW and type(value) not in _AS_THEY_ARE:
                    value = _read(value)
                _check(name, value, default)
            self._sets[name](record, value)
        return record


_CHECKED: Final = (str, bool, int, float, Status, tuple)


def _check(name: str, value: Any, default: Any) -> None:
    kind = type(default)
    if kind in _CHECKED and name not in _RAW and not isinstance(value, (int, float) if kind is float else kind):
        raise ValueError(f"{name} is of type {type(value).__name__}")


def write_fold(fold: Fold) -> dict[str, Any]:
    """The fold as a JSON object."""
    write = SHAPES["Record"].write
    tree = {name: _write(value) for name, value in vars(fold).items() if name[0] != "_" and name not in _APART}
    return {**tree, "actions": [write(record) for record in fold.actions.values()]}


def read_fold(tree: Mapping[str, Any]) -> Fold:
    """What `write_fold` wrote. Raises: ValueError, TypeError, KeyError, AttributeError, IndexError, where it is not that."""
    fold, read = Fold(), SHAPES["Record"].read
    for name, value in vars(fold).items():
        if name[0] != "_" and name not in _APART and name in tree:
            found = _read(tree[name])
            if type(found) is not type(value):
                raise ValueError(f"{name} is of type {type(found).__name__}")
            setattr(fold, name, found)
    for each in tree["actions"]:
        fold.restore(read(each))
    for record in fold.actions.values():
        for child in record.children or ():
            if child not in fold.actions:
                raise ValueError(f"there is no action {child!r:.40}")
    return fold


# values


def _write(value: Any) -> Any:
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    known = _WRITERS.get(kind)
    if known is not None:
        return known(value)
    if isinstance(value, Event):
        return {"event": event_tree(value)}
    if isinstance(value, Mapping):
        return _WRITERS[dict](value)
    return {kind.__name__: SHAPES[kind.__name__].write(value)}


def _read(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    [(kind, content)] = tree.items()
    reader = _READERS.get(kind)
    return reader(content) if reader is not None else SHAPES[kind].read(content)


_WRITERS: Final[Mapping[type[Any], Callable[[Any], Any]]] = {
    tuple: lambda value: {"tuple": [_write(each) for each in value]},
    list: lambda value: {"list": [_write(each) for each in value]},
    set: lambda value: {"set": [_write(each) for each in sorted(value)]},
    dict: lambda value: {"dict": [[_write(key), _write(each)] for key, each in value.items()]},
    Status: lambda value: {"status": value.value},
    bytearray: lambda value: {"bytearray": bytes(value).decode("latin-1")},
    Decimal: lambda value: {"decimal": str(value)},
}
_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "tuple": lambda content: tuple(map(_read, content)),
    "list": lambda content: list(map(_read, content)),
    "set": lambda content: set(map(_read, content)),
    "dict": lambda content: {_read(key): _read(each) for key, each in content},
    "status": Status,
    "decimal": Decimal,
    "bytearray": lambda content: bytearray(content.encode("latin-1")),
    "event": decode_event,
}
_TEMPLATES: Final[tuple[Any, ...]] = (
    Record(ActionAsked(action="", at=0.0, task="")),
    Attempt(0, 0, 0.0, Status.PENDING),
    Undo(UndoRegistered(action="", at=0.0, attempt=0, name="", task="", function=""), ()),
    Notes(),
    Sighting(),
    Bill(),
    Cost(),
    Worked(),
)
SHAPES: Final = {type(template).__name__: _Shape(template) for template in _TEMPLATES}
