"""Digests of the values that a call is made with.

An id must be the same in another process, on another machine, after a restart, whatever the hash seed and the order in which a dict was
filled. So nothing here looks at `hash()`, `id()`, `repr()` of foreign objects, paths or clocks: values are written out in a type-tagged,
length-prefixed form, and that form is hashed. What has no such form is refused, with the path to the part that has none.

The form is self-delimiting: each value begins with its tag, and says how long it is. Two different values have two different forms
(beyond 1 MiB, a buffer is stood for by its own digest).
"""

from __future__ import annotations

import dataclasses
import enum
import struct
import sys
import types
import uuid
import zoneinfo
from array import array
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from hashlib import blake2b
from math import isnan, nan
from operator import length_hint
from pathlib import PurePath
from typing import Any, Final

from pydantic import BaseModel

from holdfast.errors import UnstableInput
from holdfast.identity.names import module_name, utf8

DIGEST_BYTES: Final = 16
_LARGE: Final = 1024 * 1024  # bytes; above it a buffer is hashed in place and not copied into the form


class Indigestible(Exception):
    """A part of a value has no canonical form. Private: `digest_inputs` turns it into `UnstableInput`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


def digest_value(value: object) -> bytes:
    """Digest one value: equal for equal content of equal types, whatever process computes it.

    Raises:
        Indigestible: a part of `value` has no canonical form.
    """
    return blake2b(form_of(value), digest_size=DIGEST_BYTES).digest()


def digest_inputs(task: str, named: Mapping[str, object]) -> bytes:
    """Digest the arguments of a call of `task`, by parameter name; the order of the names doesn't count.

    Raises:
        UnstableInput: an argument has no canonical digest. It names the part, as in ``args[2].items['x']``.
    """
    parts: list[bytes] = []
    for name in sorted(named) if len(named) > 1 else named:
        value = named[name]
        leaf = _LEAVES.get(type(value))
        parts.append(_text(name))
        try:
            parts.append(form_of(value) if leaf is None else leaf(value))
        except Indigestible as refused:
            raise UnstableInput(task=task, argument=name + refused.path, reason=refused.reason) from None
    return blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()


# the canonical form
#
# A leaf is written by one function call. A composite writes its head and hands over its children; `_walk` goes through them with a stack
# of its own, so that depth is bounded by memory and a cycle is seen as one.

_Leaf = Callable[[Any], bytes]
_Label = Callable[[int], str]
_QUALIFIED: Final[dict[type, str]] = {}
_pack_int: Final = struct.Struct("<cq").pack
_pack_float: Final = struct.Struct("<cd").pack


class _Frame:
    """A composite under way: the children that remain, where they are written, and how they are called in a path."""

    __slots__ = ("buffers", "count", "label", "out", "rest", "value")

    def __init__(self, value: object, children: Sequence[Any], label: _Label, *, unordered: bool = False) -> None:
        self.value = value  # kept alive: its id is what a cycle is known by
        self.count = len(children)
        self.rest: Iterator[Any] = iter(children)
        self.label = label
        self.buffers: list[list[bytes]] | None = [] if unordered else None
        self.out: list[bytes] = []

    def step(self) -> str:
        """The path step to the child that was taken last."""
        return self.label(self.count - length_hint(self.rest) - 1)


_Open = Callable[[Any, list[bytes]], _Frame]


def form_of(value: Any) -> bytes:
    """The canonical form of a value. Raises: Indigestible."""
    leaf = _LEAVES.get(type(value))
    try:
        return b"".join(_walk(value)) if leaf is None else leaf(value)
    except RecursionError:
        raise Indigestible("", "it is nested too deeply") from None


def _walk(root: object) -> list[bytes]:
    written: list[bytes] = []
    whole = _Frame(None, (root,), _nowhere)
    whole.out = written
    frames = [whole]
    active: set[int] = set()
    try:
        while frames:
            frame = frames[-1]
            opened = _advance(frame, active)
            if opened is not None:
                frames.append(opened)
                active.add(id(opened.value))
                continue
            frames.pop()
            active.discard(id(frame.value))
            if frame.buffers is not None:
                frames[-1].out.append(b"".join(sorted(map(b"".join, frame.buffers))))
    except Indigestible as refused:
        path = "".join([frame.step() for frame in frames])
        raise Indigestible(path + refused.path, refused.reason) from None
    return written


def _advance(frame: _Frame, active: set[int]) -> _Frame | None:
    """Write leaves until a child has to be opened, or none is left."""
    for child in frame.rest:
        if frame.buffers is not None:
            frame.out = []
            frame.buffers.append(frame.out)
        leaf = _LEAVES.get(type(child))
        if leaf is not None:
            frame.out.append(leaf(child))
            continue
        if id(child) in active:
            raise Indigestible("", "it contains itself")
        leaf, opener = _handler(type(child))
        if opener is None:
            frame.out.append(leaf(child))
            continue
        opened = opener(child, frame.out)
        if opened.buffers is None:
            opened.out = frame.out
        return opened
    return None


def _handler(kind: type) -> tuple[_Leaf, _Open | None]:
    opener = _OPENERS.get(kind)
    if opener is not None:
        return _refuse, opener
    for matches, leaf, opens in _FAMILIES:
        if matches(kind):
            if opens is None:
                _remember(_LEAVES, kind, leaf)
            else:
                _remember(_OPENERS, kind, opens)
            return leaf, opens
    return _refuse, None


def _remember(table: dict[type, Any], kind: type, how: Any) -> None:
    if len(table) < 4096:  # classes made in a loop are not kept for ever
        table[kind] = how


def _nowhere(_: int) -> str:
    return ""


def _index(position: int) -> str:
    return f"[{position}]"


def _fields(names: Sequence[str]) -> _Label:
    return lambda position: f".{names[position]}"


def _keys(keys: Sequence[object]) -> _Label:
    return lambda position: f"[{keys[position]!r}]"


# leaves


def _tagged(tag: bytes, data: bytes | bytearray | memoryview) -> bytes:
    if len(data) > _LARGE:
        return b"%b#%d:%b" % (tag, len(data), blake2b(data, digest_size=32).digest())
    return b"%b%d:%b" % (tag, len(data), bytes(data))


def _text(value: str) -> bytes:
    data = utf8(value)
    return b"s%d:%b" % (len(data), data) if len(data) <= _LARGE else _tagged(b"s", data)


def _int(value: int) -> bytes:
    try:
        return _pack_int(b"i", value)
    except struct.error:
        return _tagged(b"I", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _float(value: float) -> bytes:
    return b"fnan....." if isnan(value) else _pack_float(b"f", value)  # all NaN are one


def _complex(value: complex) -> bytes:
    return b"c" + _float(value.real) + _float(value.imag)


def _view(value: memoryview) -> bytes:
    return _tagged(b"V" + _text(f"{value.format}{list(value.shape or ())}"), value.tobytes())


def _named(tag: bytes, write: Callable[[Any], str]) -> _Leaf:
    return lambda value: _tagged(tag, utf8(write(value)))


def _moment(value: datetime | time) -> str:
    return f"{value.isoformat()}/{value.fold}"


def _member(value: enum.Enum) -> bytes:
    member: str | None = value._name_  # a flag's unnamed combination has none
    return _class_tag(b"E", value) + (_text(member) if member is not None else form_of(value.value))


def _global_name(value: Any) -> str:
    qualname = value.__qualname__
    if "<" in qualname:
        what = "a lambda" if qualname.endswith("<lambda>") else "defined inside a function"
        raise Indigestible("", f"{qualname} is {what}, so no other process can find it")
    return f"{module_name(value)}:{qualname}"


def _builtin_name(value: types.BuiltinFunctionType) -> str:
    if not isinstance(value.__self__, (types.ModuleType, type(None))):
        raise Indigestible("", f"{value.__qualname__} is bound to an object")
    return f"{module_name(value)}:{value.__qualname__}"


def _own_digest(value: Any) -> bytes:
    return _tagged(b"H", value.__holdfast_digest__())


def _refuse(value: Any) -> bytes:
    raise Indigestible("", f"{_qualified(type(value))} has no canonical form")


def _qualified(kind: type) -> str:
    name = _QUALIFIED.get(kind)
    if name is None:
        name = f"{module_name(kind.__module__)}:{kind.__qualname__}"
        _remember(_QUALIFIED, kind, name)
    return name


def _class_tag(tag: bytes, value: Any) -> bytes:
    return _tagged(tag, utf8(_qualified(type(value))))


# composites


def _packed_text(values: Sequence[str]) -> bytes | None:
    return array("q", map(len, values)).tobytes() + utf8("".join(values))


def _packed_ints(values: Sequence[int]) -> bytes | None:
    try:
        return _little(array("q", values))
    except OverflowError:
        return None


def _packed_floats(values: Sequence[float]) -> bytes | None:
    if isnan(sum(values)):
        values = [nan if isnan(value) else value for value in values]
    return _little(array("d", values))


def _little(numbers: array[Any]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


_PACKERS: Final[dict[type, tuple[bytes, Callable[[Any], bytes | None]]]] = {
    str: (b"s", _packed_text),
    int: (b"i", _packed_ints),
    float: (b"f", _packed_floats),
}


def _sequence(tag: bytes) -> _Open:
    def opened(value: Sequence[Any], out: list[bytes]) -> _Frame:
        kinds = set(map(type, value))
        if len(kinds) == 1:
            packer = _PACKERS.get(kinds.pop())
            data = packer[1](value) if packer is not None else None
            if packer is not None and data is not None:
                out.append(_tagged(b"%b%b%d:" % (tag, packer[0], len(value)), data))
                return _Frame(value, (), _index)
        out.append(b"%b*%d:" % (tag, len(value)))
        return _Frame(value, value, _index)

    return opened


def _mapping(value: Mapping[Any, Any], out: list[bytes]) -> _Frame:
    kinds = set(map(type, value))
    if not kinds or kinds == {str}:
        keys = sorted(value)
        out.append(b"D%d:" % len(keys))
        out.extend(map(_text, keys))
        return _Frame(value, [value[key] for key in keys], _keys(keys))
    out.append(b"d%d:" % len(value))
    return _Frame(value, [_Item(pair) for pair in value.items()], _nowhere, unordered=True)


class _Item(tuple[Any, Any]):
    """A key and its value, in a dict whose keys are not all plain text."""

    __slots__ = ()


def _item(pair: _Item, out: list[bytes]) -> _Frame:
    out.append(b"p")
    return _Frame(pair, tuple(pair), lambda position: f"[{pair[0]!r}]" if position else ".keys()")


def _unordered(tag: bytes) -> _Open:
    def opened(value: Any, out: list[bytes]) -> _Frame:
        out.append(b"%b%d:" % (tag, len(value)))
        return _Frame(value, list(value), lambda _: "{...}", unordered=True)

    return opened


def _record(tag: bytes, value: object, out: list[bytes], names: Sequence[str], children: Sequence[object]) -> _Frame:
    """An object that is its class and named parts."""
    out.append(_class_tag(tag, value))
    out.append(b"%d:" % len(names))
    out.extend(map(_text, names))
    return _Frame(value, children, _fields(names))


def _dataclass(value: Any, out: list[bytes]) -> _Frame:
    names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
    return _record(b"O", value, out, names, [getattr(value, name) for name in names])


def _model(value: BaseModel, out: list[bytes]) -> _Frame:
    held = {name: value.__dict__[name] for name in type(value).model_fields if name in value.__dict__}  # no cached properties
    held.update(value.__pydantic_extra__ or {})
    names = sorted(held)
    return _record(b"M", value, out, names, [held[name] for name in names])


def _namedtuple(value: Any, out: list[bytes]) -> _Frame:
    return _record(b"N", value, out, value._fields, tuple(value))


def _ordered_dict(value: OrderedDict[Any, Any], out: list[bytes]) -> _Frame:
    """Equal only in the same order, unlike dict."""
    out.append(b"OD%d:" % len(value))
    return _Frame(value, [_Item(pair) for pair in value.items()], _nowhere)


def _deque(value: deque[Any], out: list[bytes]) -> _Frame:
    out.append(b"Q%d:" % len(value) + form_of(value.maxlen))
    return _Frame(value, list(value), _index)


def _defaultdict(value: defaultdict[Any, Any], out: list[bytes]) -> _Frame:
    out.append(_class_tag(b"DD", value))
    parts = (value.default_factory, dict(value))
    return _Frame(value, parts, lambda position: "" if position else ".default_factory")


def _range(value: range, out: list[bytes]) -> _Frame:
    out.append(b"R")
    return _Frame(value, (value.start, value.stop, value.step), _fields(("start", "stop", "step")))


def _slice(value: slice, out: list[bytes]) -> _Frame:
    out.append(b"SL")
    return _Frame(value, (value.start, value.stop, value.step), _fields(("start", "stop", "step")))


_PLAIN_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (complex, complex.__complex__),
    (bytes, lambda value: bytes(memoryview(value))),
    (bytearray, lambda value: bytearray(memoryview(value))),
    (list, lambda value: list.__getitem__(value, slice(None))),
    (tuple, lambda value: tuple.__getitem__(value, slice(None))),
    (OrderedDict, lambda value: OrderedDict(OrderedDict.items(value))),
    (defaultdict, lambda value: defaultdict(value.default_factory, dict.items(value))),
    (dict, lambda value: dict(dict.items(value))),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
    (set, lambda value: set(set.__iter__(value))),
    (datetime, lambda v: datetime(v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond, v.tzinfo, fold=v.fold)),
    (date, lambda value: date(value.year, value.month, value.day)),
    (time, lambda v: time(v.hour, v.minute, v.second, v.microsecond, v.tzinfo, fold=v.fold)),
    (timedelta, lambda value: timedelta(value.days, value.seconds, value.microseconds)),
    (Decimal, Decimal),
    (uuid.UUID, lambda value: uuid.UUID(int=value.int)),
)


def _subclassed(value: Any, out: list[bytes]) -> _Frame:
    """A subclass of a builtin: its class, the builtin's value, and what else it holds."""
    strip: Callable[[Any], Any] = next(strip for base, strip in _PLAIN_BASES if isinstance(value, base))
    plain = strip(value)
    out.append(_class_tag(b"U", value))
    return _Frame(value, (plain, getattr(value, "__dict__", None)), lambda position: ".__dict__" if position else "")


# numpy and pandas, known by the names of their types: neither is imported here


def _is_from(package: str, *names: str) -> Callable[[type], bool]:
    def matches(kind: type) -> bool:
        return any(base.__name__ in names and base.__module__.partition(".")[0] == package for base in kind.__mro__)

    return matches


def _array(value: Any, out: list[bytes]) -> _Frame:
    kind = value.dtype
    if kind.hasobject and kind.kind != "T":
        raise Indigestible("", "a numpy array of objects has no canonical form; make it a list, or give it a plain dtype")
    if hasattr(value, "mask"):
        raise Indigestible("", "a masked array has no canonical form; pass its data and its mask")
    form = str(kind.descr) if kind.names else kind.str
    out.append(_class_tag(b"A", value) + _text(f"{form}{list(value.shape)}"))
    if kind.kind == "T":  # variable-length strings: their bytes are pointers
        return _Frame(value, (value.tolist(),), _nowhere)
    contiguous = value if value.flags.c_contiguous and len(value.shape) else value.copy("C")
    out.append(_tagged(b"y", contiguous.tobytes() if value.nbytes <= _LARGE else contiguous.reshape(-1).view("u1").data))
    return _Frame(value, (), _index)


def _numpy_scalar(value: Any) -> bytes:
    if value.dtype.hasobject:
        raise Indigestible("", "a numpy scalar of objects has no canonical form")
    return _class_tag(b"a", value) + _text(str(value.dtype.descr)) + _tagged(b"y", value.tobytes())


def _frame(value: Any, out: list[bytes]) -> _Frame:
    columns = [_Column(value.iloc[:, at].array) for at in range(value.shape[1])]
    out.append(_class_tag(b"PF", value) + b"%d:" % len(columns))
    names = [f"[{name!r}]" for name in value.columns]
    labels = [*names, ".columns", ".index", ".attrs"]
    return _Frame(value, [*columns, value.columns, value.index, dict(value.attrs)], lambda position: labels[position])


def _series(value: Any, out: list[bytes]) -> _Frame:
    out.append(_class_tag(b"PS", value))
    labels = ("", ".name", ".index", ".attrs")
    return _Frame(value, [_Column(value.array), value.name, value.index, dict(value.attrs)], lambda position: labels[position])


def _pandas_index(value: Any, out: list[bytes]) -> _Frame:
    out.append(_class_tag(b"PI", value))
    labels = ("", ".names")
    if hasattr(value, "start") and hasattr(value, "step"):  # RangeIndex
        return _Frame(value, [range(value.start, value.stop, value.step), list(value.names)], lambda position: labels[position])
    cells = value.tolist() if hasattr(value, "levels") else _Column(value.array)
    return _Frame(value, [cells, list(value.names)], lambda position: labels[position])


class _Column:
    """The values of one pandas column or index, of whatever kind of array."""

    __slots__ = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = values


def _column(value: _Column, out: list[bytes]) -> _Frame:
    cells = value.values
    kind = str(cells.dtype)
    out.append(_tagged(b"PC", utf8(kind)))
    if kind == "category":
        return _Frame(value, (cells.categories, bool(cells.ordered), cells.codes), lambda _: "")
    if kind.startswith("datetime64"):  # one with a zone is instants in UTC; the zone is in the dtype
        return _Frame(value, ((cells.tz_convert(None) if cells.tz is not None else cells).to_numpy(),), _nowhere)
    plain = type(cells).__name__ in ("NumpyExtensionArray", "TimedeltaArray") and cells.dtype.kind in "biufcm"
    return _Frame(value, (cells.to_numpy() if plain else cells.tolist(),), _nowhere)


def _missing(value: object) -> bytes:
    return _class_tag(b"P?", value)


def _timestamp(value: Any) -> bytes:
    return _class_tag(b"PT", value) + _text(f"{value.isoformat()}/{getattr(value, 'fold', 0)}/{value.unit}")


def _period(value: Any) -> bytes:
    return _class_tag(b"PP", value) + _text(f"{value.ordinal}/{value.freqstr}")


def _interval(value: Any, out: list[bytes]) -> _Frame:
    return _record(b"PV", value, out, ("left", "right", "closed"), (value.left, value.right, value.closed))


def _under(*bases: type) -> Callable[[type], bool]:
    return lambda kind: issubclass(kind, bases)


_LEAVES: Final[dict[type, _Leaf]] = {
    type(None): lambda _: b"n",
    bool: lambda value: b"b1" if value else b"b0",
    int: _int,
    str: _text,
    float: _float,
    complex: _complex,
    bytes: lambda value: _tagged(b"y", value),
    bytearray: lambda value: _tagged(b"Y", value),
    memoryview: _view,
    datetime: _named(b"T", _moment),
    date: _named(b"TD", date.isoformat),
    time: _named(b"TT", _moment),
    timedelta: _named(b"TX", lambda value: f"{value.days}/{value.seconds}/{value.microseconds}"),
    timezone: _named(b"TZ", repr),
    zoneinfo.ZoneInfo: _named(b"TN", str),
    Decimal: _named(b"X", str),
    uuid.UUID: lambda value: b"u" + value.bytes,
    type: _named(b"K", _global_name),
    types.FunctionType: _named(b"F", _global_name),
    types.BuiltinFunctionType: _named(b"F", _builtin_name),
    type(...): lambda _: b"...",
    type(NotImplemented): lambda _: b"!",
}
_OPENERS: Final[dict[type, _Open]] = {
    list: _sequence(b"l"),
    tuple: _sequence(b"t"),
    dict: _mapping,
    set: _unordered(b"e"),
    frozenset: _unordered(b"z"),
    OrderedDict: _ordered_dict,
    defaultdict: _defaultdict,
    deque: _deque,
    range: _range,
    slice: _slice,
    _Item: _item,
    _Column: _column,
}
# For types that the tables don't hold, the first family that matches; then the type is held.
_FAMILIES: Final[tuple[tuple[Callable[[type], bool], _Leaf, _Open | None], ...]] = (
    (lambda kind: hasattr(kind, "__holdfast_digest__"), _own_digest, None),
    (_under(enum.Enum), _member, None),
    (_under(BaseModel), _refuse, _model),
    (dataclasses.is_dataclass, _refuse, _dataclass),
    (lambda kind: issubclass(kind, tuple) and hasattr(kind, "_fields"), _refuse, _namedtuple),
    (_under(PurePath), _named(b"/", PurePath.as_posix), None),
    (_under(type), _named(b"K", _global_name), None),
    (_is_from("numpy", "generic"), _numpy_scalar, None),
    (_is_from("numpy", "ndarray"), _refuse, _array),
    (_is_from("pandas", "DataFrame"), _refuse, _frame),
    (_is_from("pandas", "Series"), _refuse, _series),
    (_is_from("pandas", "Index"), _refuse, _pandas_index),
    (_is_from("pandas", "NAType", "NaTType"), _missing, None),
    (_is_from("pandas", "Timestamp", "Timedelta"), _timestamp, None),
    (_is_from("pandas", "Period"), _period, None),
    (_is_from("pandas", "Interval"), _refuse, _interval),
    (_under(*(base for base, _ in _PLAIN_BASES)), _refuse, _subclassed),
)
