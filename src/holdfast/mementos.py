"""A fold as plain JSON, and back: what `RunState.to_json` writes.

Every field of every record is written as it is, but for those at their defaults. What JSON has not is an object with one key, which says
what it is. Reading is tolerant: fields that this version does not know are passed over, and those that are missing have their defaults. So
a field may be added; one that is renamed, or means something else, or has another default, needs another major `FORMAT`.

Text may come from anywhere, so everything in it is checked against what its field may be: whoever looks at a state meets no surprise. No
code is in it. Types of errors are imported by their names when an error is looked at, as of a run in a store.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

from holdfast.costs import Bill, Cost
from holdfast.events import (
    ActionAsked,
    CheckpointSaved,
    Event,
    FigureSaved,
    Messaged,
    UndoRegistered,
    Warned,
    decode_event,
    event_tree,
)
from holdfast.fingerprints import Fingerprints
from holdfast.states import Attempt, Fold, Notes, Record, Undo, Worked
from holdfast.status import Status

FORMAT: Final = "1.0"

Check: TypeAlias = Callable[[Any], bool]

_AS_THEY_ARE: Final = frozenset({str, int, float, bool, type(None)})
_RAW: Final = frozenset({"value", "error"})
"""Fields that hold JSON already."""
_FIRST, _LAST = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, in POSIX seconds."""
_DIGITS: Final = 200
"""A sum of money has at most so many, before or behind its point."""


class _Shape:
    """How one kind of record is written: its fields, what each may be, and what they are by default."""

    def __init__(self, template: Any, fields: Mapping[str, Check]) -> None:
        self.kind: type[Any] = type(template)
        self.fields = fields
        self.defaults: dict[str, Any] = {name: getattr(template, name) for name in sorted(fields)}
        self._sets = {name: getattr(self.kind, name).__set__ for name in fields}

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
                _check(name, value, self.fields[name])
            self._sets[name](record, value)
        return record


def _check(name: str, value: Any, check: Check) -> None:
    if not check(value):
        raise ValueError(f"{name} can't be {value!r:.40}")


def write_fold(fold: Fold) -> dict[str, Any]:
    """The fold as a JSON object."""
    write = SHAPES["Record"].write
    tree = {name: _write(getattr(fold, name)) for name in FOLD}
    return {**tree, "actions": [write(record) for record in fold.actions.values()]}


def read_fold(tree: Mapping[str, Any]) -> Fold:
    """What `write_fold` wrote. Raises: ValueError, TypeError, KeyError, AttributeError, IndexError, where it is not that."""
    fold, read = Fold(), SHAPES["Record"].read
    for name, check in FOLD.items():
        if name in tree:
            found = _read(tree[name])
            _check(name, found, check)
            setattr(fold, name, found)
    for each in tree["actions"]:
        fold.restore(read(each))
    _check_tree(fold.actions)
    return fold


def _check_tree(actions: Mapping[str, Record]) -> None:
    """Whoever looks at a state follows children and parents, and would never come to an end in a circle. Raises: ValueError."""
    for record in actions.values():
        for child in record.children or ():
            if child not in actions or actions[child].parent != record.name:
                raise ValueError(f"there is no action {child!r:.40} below {record.name!r:.40}")
    known: set[str] = set()
    for name in actions:
        path: dict[str, None] = {}
        while name in actions and name not in known:
            if name in path:
                raise ValueError(f"the action {name!r:.40} is below itself")
            path[name] = None
            name = actions[name].parent
        known.update(path)


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


# what each field may be


def _is(*kinds: type[Any]) -> Check:
    return lambda value: isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _each(check: Check, *kinds: type[Any]) -> Check:
    return lambda value: isinstance(value, kinds or (tuple,)) and all(map(check, value))


def _by_name(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(_WORD, value)) and all(map(check, value.values()))


def _row(*checks: Check) -> Check:
    return lambda value: isinstance(value, tuple) and len(value) == len(checks) and all(map(_holds, checks, value))


def _holds(check: Check, value: Any) -> bool:
    return check(value)


def _event(kind: type[Event]) -> Check:
    checks = [(field.name, _BY_ANNOTATION[field.annotation]) for field in kind.__fields__]
    return lambda value: isinstance(value, kind) and all(check(getattr(value, name)) for name, check in checks)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _instant(value: Any) -> bool:
    return _number(value) and _FIRST <= value <= _LAST


def _amount(value: Any) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= _DIGITS  # else to add it takes for ever


def _anything(_: Any) -> bool:
    return True


_WORD, _COUNT, _FLAG, _STATUS = _is(str), _is(int), _is(bool), _is(Status)
_WORDS, _COUNTS = _each(_WORD), _each(_COUNT)
_GENERATION: Final = _row(_COUNT, _COUNT, _COUNT)
_BAR: Final = _row(_number, _or_none(_number), _number, _number)
_BY_ANNOTATION: Final[Mapping[str, Check]] = {"str": _WORD, "int": _COUNT, "float": _instant, "tuple[int, int, int]": _GENERATION}

RECORD: Final[Mapping[str, Check]] = {
    "asked_at": _number, "attempt": _or_none(_is(Attempt)), "bare": _WORD, "barren": _COUNT, "bars": _or_none(_by_name(_BAR)),
    "base": _or_none(_GENERATION), "base_epoch": _COUNT, "bill": _or_none(_is(Bill)), "blob": _WORD,
    "children": _or_none(_each(_WORD, list)),
    "earlier": _each(_is(Attempt)), "error": _anything, "failed_in": _or_none(_COUNT), "failures": _COUNT, "final": _FLAG, "first": _WORD,
    "fruitful": _FLAG, "inputs": _WORD, "loops": _WORDS, "name": _WORD, "next_at": _or_none(_number), "notes": _or_none(_is(Notes)),
    "nth": _COUNT, "occurrence": _COUNT, "parent": _WORD, "present_try": _COUNT, "replayed": _COUNT, "round": _COUNT,
    "saved": _or_none(_event(CheckpointSaved)), "set_aside": _each(_row(_GENERATION, _GENERATION)), "skips": _FLAG, "spent": _COUNT,
    "status": _STATUS, "task": _WORD, "value": _anything, "version": _or_none(_WORD),
}  # fmt: skip
ATTEMPT: Final[Mapping[str, Check]] = {
    "abandoned": _FLAG, "before": _STATUS, "ended_at": _or_none(_instant), "epoch": _COUNT, "error": _anything, "number": _COUNT,
    "started_at": _instant, "status": _STATUS, "unknown": _FLAG,
}  # fmt: skip
UNDO: Final[Mapping[str, Check]] = {
    "action": _WORD, "attempts": _COUNTS, "blob": _WORD, "context": _by_name(_WORD), "function": _WORD, "is_due": _FLAG, "name": _WORD,
    "result": _row(_anything, _WORD), "task": _WORD, "value": _anything,
}  # fmt: skip
NOTES: Final[Mapping[str, Check]] = {
    "awaiting": _COUNT, "figures": _each(_event(FigureSaved)), "is_undone": _FLAG, "messages": _each(_event(Messaged)), "remains": _WORDS,
    "rows": _by_name(_row(_WORD, _or_none(_COUNT))), "schemas": _WORDS, "summary": _WORD, "topic": _WORD, "undone_below": _FLAG,
    "undos": _each(_WORD, list), "until": _or_none(_number),
}  # fmt: skip
FINGERPRINTS: Final[Mapping[str, Check]] = {"prints": _is(bytearray), "total": _or_none(_COUNT)}
BILL: Final[Mapping[str, Check]] = {
    "_at_hand": _is(Cost), "_number": _COUNT, "keys": _each(_WORD, tuple, set), "lines": _each(_row(_WORD, _is(Cost))), "saved": _amount,
}  # fmt: skip
COST: Final[Mapping[str, Check]] = {"cost": _amount, "tokens": _COUNT, "tokens_in": _COUNT, "tokens_out": _COUNT}
WORKED: Final[Mapping[str, Check]] = {"_before": _number, "_began": _number, "epoch": _COUNT, "until": _number}
FOLD: Final[Mapping[str, Check]] = {
    "root": _WORD, "sources": _by_name(_WORD), "orphaned": _each(_WORD, list), "undos": _by_name(_is(Undo)),
    "received": _by_name(_each(_COUNT, set)), "rows": _by_name(_by_name(_is(Fingerprints))), "warnings": _each(_event(Warned), list),
    "saved": _amount, "largest": _by_name(_is(Cost)), "worked": _is(Worked),
}  # fmt: skip
_TEMPLATES: Final[tuple[tuple[Any, Mapping[str, Check]], ...]] = (
    (Record(ActionAsked(action="", at=0.0, task="")), RECORD),
    (Attempt(0, 0, 0.0, Status.PENDING), ATTEMPT),
    (Undo(UndoRegistered(action="", at=0.0, attempt=0, name="", task="", function=""), ()), UNDO),
    (Notes(), NOTES),
    (Fingerprints(), FINGERPRINTS),
    (Bill(), BILL),
    (Cost(), COST),
    (Worked(), WORKED),
)
SHAPES: Final = {type(template).__name__: _Shape(template, fields) for template, fields in _TEMPLATES}
