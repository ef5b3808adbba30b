"""Builtin values as JSON trees, exactly, each by its own type.

What JSON has is written as it is; everything else is an object with the key ``$``, which names its tag::

    (1, 2)          {"$": "tuple", "v": [1, 2]}
    b"\\x00"          {"$": "bytes", "b64": "AA=="}
    {1: "a"}        {"$": "dict", "v": [[1, "a"]]}
    nan             {"$": "float", "v": "nan"}

Only exact types are written: a subclass would come back as its base. A dict with a key that begins with ``$`` is written as pairs, so no
value can pass for a tag. Binary leaves above `INLINE_LIMIT` become parts, named by their sha256.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import importlib
import math
import pathlib
import sys
import types
import uuid
import zoneinfo
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Final

from pydantic_core import TzInfo

from holdfast.codec.refusals import Refused, Spelled, Unreadable
from holdfast.codec.wire import to_json
from holdfast.frozen import Frozen
from holdfast.identity import module_name

INLINE_LIMIT: Final = 64 * 1024
MAX_DEPTH: Final = 200  # levels of containers; the readers of trees recurse, and the stack has to last wherever they are called
_LONG_INT: Final = 4096  # bits; Python refuses to parse decimal integers of more than 4300 digits
TAG: Final = "$"


class Encoded(Frozen):
    """A value as a JSON-ready tree, and the binary parts that it refers to, by sha256."""

    tree: Any
    parts: Mapping[str, bytes]


class Sink:
    """Where the parts of a value go while it is written."""

    __slots__ = ("limit", "parts", "typed")

    limit: float
    typed: bool

    def __init__(self, *, typed: bool = False, limit: float = INLINE_LIMIT) -> None:
        self.parts: dict[str, bytes] = {}
        self.typed = typed  # an annotation will read it, so an enum's member or a namedtuple finds its class again
        self.limit = limit

    def binary(self, data: bytes | bytearray | memoryview) -> dict[str, str]:
        """The entry that stands for `data` in a tagged object."""
        if len(data) <= self.limit:
            return {"b64": base64.b64encode(data).decode()}
        digest = hashlib.sha256(data).hexdigest()
        self.parts[digest] = bytes(data)
        return {"part": digest}


Parts = Mapping[str, bytes]
Tagger = Callable[[Any, Sink, int], Any]
Untagger = Callable[[Mapping[str, Any], Parts], Any]


class Family(Frozen):
    """Types that are found by a predicate, how they are written, and the tags by which they are read."""

    matches: Callable[[type], bool]
    write: Tagger
    read: Mapping[str, Untagger]


def adopt(*families: Family) -> None:
    """Make families known. Called once, where the package is put together."""
    for family in families:
        _FAMILIES.append(family)
        _UNTAGGERS.update(family.read)


def tag(value: Any, sink: Sink, depth: int = 0) -> Any:
    """Write `value` as a tree.

    Raises:
        Refused: a part of it can't be written exactly.
    """
    return (_TAGGERS.get(type(value)) or _find(type(value)))(value, sink, depth)


def untag(tree: Any, parts: Parts) -> Any:
    """Read what `tag` wrote. The value shares no container with the tree.

    Raises:
        Unreadable: the tree has a tag that is not known, or a part is missing.
    """
    kind = type(tree)
    if kind is dict:
        if TAG in tree:
            return _untagger(tree[TAG])(tree, parts)
        return {key: item if type(item) in _SCALARS else untag(item, parts) for key, item in tree.items()}
    if kind is list:
        return [item if type(item) in _SCALARS else untag(item, parts) for item in tree]
    return tree


def parts_of(tree: Any) -> tuple[str, ...]:
    """The digests of the parts that a tree refers to, each once, in order."""
    return tuple(dict.fromkeys(_parts(tree)))


def with_parts(tree: Any, names: Mapping[str, str]) -> Any:
    """The tree with its parts under these names, by their digests."""
    if all(digest == name for digest, name in names.items()):
        return tree
    return _renamed(tree, names)


def parts_alone(names: Iterable[str]) -> list[dict[str, str]]:
    """A tree that holds nothing but parts, for `parts_of`."""
    return [{TAG: "part", "part": name} for name in names]


def _renamed(tree: Any, names: Mapping[str, str]) -> Any:
    if type(tree) is dict:
        renamed = {key: _renamed(item, names) for key, item in tree.items()}
        if TAG in tree and type(tree.get("part")) is str:
            renamed["part"] = names[tree["part"]]
        return renamed
    return [_renamed(item, names) for item in tree] if type(tree) is list else tree


def _parts(tree: Any) -> Iterator[str]:
    pending = [tree]
    while pending:
        node = pending.pop()
        if type(node) is dict:
            if TAG in node and type(node.get("part")) is str:
                yield node["part"]
            pending.extend(reversed(node.values()))
        elif type(node) is list:
            pending.extend(reversed(node))


def binary_of(tree: Mapping[str, Any], parts: Parts) -> bytes:
    """The bytes that an entry of `Sink.binary` stands for."""
    digest = tree.get("part")
    if digest is None:
        return base64.b64decode(tree["b64"])
    try:
        return parts[digest]
    except KeyError:
        raise Unreadable(f"its part {digest} was not given") from None


def named_object(name: str) -> Any:
    """What stands under ``module:qualname``. The running script is asked by its own name, and never imported a second time.

    Raises:
        ImportError, AttributeError: there is no such thing here.
    """
    module, _, qualname = name.partition(":")
    found: Any = sys.modules["__main__"] if module == module_name("__main__") else importlib.import_module(module)
    for step in qualname.split("."):
        found = getattr(found, step)
    return found


def name_of(kind: type) -> str:
    """``module:qualname`` of a class."""
    return f"{module_name(kind)}:{kind.__qualname__}"


# writing


def _find(kind: type) -> Tagger:
    for family in _FAMILIES:
        if family.matches(kind):
            return family.write
    return _refuse


def _refuse(value: Any, _sink: Sink, _depth: int) -> Any:
    raise Refused(f"{name_of(type(value))} has no exact form of its own; {_remedy(type(value))}")


def _remedy(kind: type) -> str:
    if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "model_fields") or issubclass(kind, (tuple, enum.Enum)):
        return "annotate the task's result with this type"
    if issubclass(kind, (str, int, float, bytes, list, dict, set, frozenset, datetime)):
        return f"return a plain {next(base.__name__ for base in kind.__mro__ if base.__module__ in ('builtins', 'datetime'))}"
    return "return plain data, a dataclass or a pydantic model, or set codec='pickle' on the task"


def _same(value: Any, _sink: Sink, _depth: int) -> Any:
    return value


def int_tree(value: int) -> Any:
    """Integers are JSON numbers, those too long for a decimal reader are hexadecimal."""
    return value if -(1 << _LONG_INT) < value < 1 << _LONG_INT else {TAG: "int", "v": hex(value)}


def float_tree(value: float) -> Any:
    """Floats are JSON numbers, where they are finite."""
    return value if math.isfinite(value) else {TAG: "float", "v": repr(value)}


def str_tree(value: str) -> Any:
    """Strings are JSON strings, those that are not Unicode text are their surrogate-escaping bytes."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return {TAG: "str", "b64": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}
    return value


def _deeper(depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise Refused(f"it is nested more than {MAX_DEPTH} levels deep, or contains itself")
    return depth + 1


def _items(values: Iterable[Any], sink: Sink, depth: int) -> list[Any]:
    below = _deeper(depth)
    out: list[Any] = []
    try:
        for item in values:
            out.append((_TAGGERS.get(type(item)) or _find(type(item)))(item, sink, below))
    except Refused as refused:
        raise refused.below(len(out)) from None
    return out


def _list(value: list[Any], sink: Sink, depth: int) -> Any:
    kinds = set(map(type, value))
    if kinds == _FLOATS and math.isfinite(sum(value)):
        return value.copy()
    return _items(value, sink, depth)


def _sequence(name: str) -> Tagger:
    return lambda value, sink, depth: {TAG: name, "v": _items(value, sink, depth)}


def _unordered(name: str) -> Tagger:
    def write(value: Any, sink: Sink, depth: int) -> Any:
        try:
            return {TAG: name, "v": sorted(_items(value, sink, depth), key=to_json)}
        except Refused as refused:
            raise Refused(refused.reason, (Spelled("{...}"),)) from None

    return write


def _dict(value: dict[Any, Any], sink: Sink, depth: int) -> Any:
    below = _deeper(depth)
    for key in value:
        if type(key) is not str or key[:1] == TAG or not key.isascii():
            return _pairs(value, sink, depth)
    out: dict[str, Any] = {}
    key = ""
    try:
        for key, item in value.items():
            out[key] = (_TAGGERS.get(type(item)) or _find(type(item)))(item, sink, below)
    except Refused as refused:
        raise refused.below(key) from None
    return out


def _pairs(value: dict[Any, Any], sink: Sink, depth: int) -> Any:
    below = _deeper(depth)
    if all(type(key) is str and key[:1] != TAG and str_tree(key) is key for key in value):
        return dict(zip(value, _values(value, sink, below), strict=True))
    keys = []
    for key in value:
        try:
            keys.append(tag(key, sink, below))
        except Refused as refused:
            raise refused.below(Spelled(".keys()")) from None
    return {TAG: "dict", "v": [list(pair) for pair in zip(keys, _values(value, sink, below), strict=True)]}


def _values(value: dict[Any, Any], sink: Sink, depth: int) -> list[Any]:
    out: list[Any] = []
    for key, item in value.items():
        try:
            out.append(tag(item, sink, depth))
        except Refused as refused:
            raise refused.below(key) from None
    return out


def _binary(name: str) -> Tagger:
    return lambda value, sink, depth: {TAG: name, **sink.binary(value)}


def _plain(name: str, write: Callable[[Any], Any]) -> Tagger:
    return lambda value, sink, depth: {TAG: name, "v": write(value)}


def _moment(name: str) -> Tagger:
    def write(value: Any, sink: Sink, depth: int) -> Any:
        tree: dict[str, Any] = {TAG: name, "v": value.replace(tzinfo=None, fold=0).isoformat()}
        if value.tzinfo is not None:
            tree["tz"] = _zone(value.tzinfo)
        if value.fold:
            tree["fold"] = 1
        return tree

    return write


def _zone(zone: tzinfo) -> Any:
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]  # the only way to a given name
        return {TAG: "timezone", "v": [offset.days, offset.seconds, offset.microseconds], "name": name[0] if name else None}
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        return {TAG: "zoneinfo", "v": zone.key}
    if type(zone) is TzInfo:  # what pydantic's datetimes have
        offset = zone.utcoffset(None)
        return {TAG: "tzinfo", "v": offset.days * 86400 + offset.seconds if offset is not None else 0}
    raise Refused(f"the time zone {name_of(type(zone))} has no exact form; use datetime.timezone or zoneinfo.ZoneInfo")


def _path(value: pathlib.PurePath, _sink: Sink, _depth: int) -> Any:
    kind = "Path" if isinstance(value, pathlib.Path) else type(value).__name__
    return {TAG: "path", "kind": kind, "v": str_tree(str(value))}


def _member(value: enum.Enum, sink: Sink, depth: int) -> Any:
    if not sink.typed:
        return _refuse(value, sink, depth)
    return {TAG: "enum", "type": name_of(type(value)), "v": tag(value.value, sink, _deeper(depth))}


def _fields(value: tuple[Any, ...], sink: Sink, depth: int) -> Any:
    return {TAG: "tuple", "v": _items(value, sink, depth)} if sink.typed else _refuse(value, sink, depth)


# reading


def _untagger(name: object) -> Untagger:
    try:
        return _UNTAGGERS[name]  # type: ignore[index]  # what is no known tag is no key either
    except (KeyError, TypeError):
        pass
    if name == "pickle":
        raise Unreadable("it was recorded with codec='pickle', and this task has another codec")
    raise Unreadable(f"it has the tag {name!r}, which this version doesn't know")


def _built(build: Callable[[Any], Any]) -> Untagger:
    return lambda tree, parts: build(tree["v"])


def _contents(build: Callable[[list[Any]], Any]) -> Untagger:
    return lambda tree, parts: build(untag(tree["v"], parts))


def _read_moment(parse: Callable[[str], Any]) -> Untagger:
    def read(tree: Mapping[str, Any], parts: Parts) -> Any:
        moment = parse(tree["v"])
        zone = tree.get("tz")
        return moment.replace(tzinfo=None if zone is None else untag(zone, parts), fold=tree.get("fold", 0))

    return read


def _read_timezone(tree: Mapping[str, Any], _parts: Parts) -> timezone:
    offset, name = timedelta(*tree["v"]), tree["name"]
    if name is not None:
        return timezone(offset, name)
    return timezone(offset)


def _read_zoneinfo(key: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(key)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise Unreadable(f"there is no time zone {key!r} on this machine; install tzdata") from None


def _read_path(tree: Mapping[str, Any], parts: Parts) -> pathlib.PurePath:
    kinds = {"Path": pathlib.Path, "PurePosixPath": pathlib.PurePosixPath, "PureWindowsPath": pathlib.PureWindowsPath}
    path: pathlib.PurePath = kinds[tree["kind"]](untag(tree["v"], parts))
    return path


def _read_member(tree: Mapping[str, Any], parts: Parts) -> Any:
    """The member; or, where its class is no longer under that name, its value, for the annotation to make something of."""
    value = untag(tree["v"], parts)
    try:
        kind = named_object(tree["type"])
        return kind(value) if isinstance(kind, enum.EnumMeta) else value
    except (ImportError, AttributeError, ValueError, KeyError):
        return value


_FLOATS: Final = {float}
_SCALARS: Final = frozenset({type(None), bool, int, float, str})
_TAGGERS: Final[dict[type, Tagger]] = {
    type(None): _same,
    bool: _same,
    int: lambda value, sink, depth: int_tree(value),
    float: lambda value, sink, depth: float_tree(value),
    str: lambda value, sink, depth: str_tree(value),
    list: _list,
    dict: _dict,
    tuple: _sequence("tuple"),
    set: _unordered("set"),
    frozenset: _unordered("frozenset"),
    bytes: _binary("bytes"),
    bytearray: _binary("bytearray"),
    complex: _plain("complex", lambda value: [float_tree(value.real), float_tree(value.imag)]),
    OrderedDict: lambda value, sink, depth: {TAG: "ordered_dict", "v": _items(value.items(), sink, depth)},
    Counter: lambda value, sink, depth: {TAG: "counter", "v": _dict(dict(value), sink, depth)},
    deque: lambda value, sink, depth: {TAG: "deque", "v": _items(value, sink, depth), "maxlen": value.maxlen},
    range: _plain("range", lambda value: [int_tree(value.start), int_tree(value.stop), int_tree(value.step)]),
    datetime: _moment("datetime"),
    time: _moment("time"),
    date: _plain("date", date.isoformat),
    timedelta: _plain("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    timezone: lambda value, sink, depth: _zone(value),
    zoneinfo.ZoneInfo: lambda value, sink, depth: _zone(value),
    Decimal: _plain("decimal", str),
    uuid.UUID: _plain("uuid", str),
    **dict.fromkeys((type(pathlib.Path()), pathlib.PurePosixPath, pathlib.PureWindowsPath), _path),
    types.EllipsisType: lambda value, sink, depth: {TAG: "ellipsis"},
}
_FAMILIES: Final[list[Family]] = [
    Family(lambda kind: issubclass(kind, enum.Enum), _member, {}),
    Family(lambda kind: issubclass(kind, tuple) and hasattr(kind, "_fields"), _fields, {}),
]
_UNTAGGERS: Final[dict[str, Untagger]] = {
    "int": _built(lambda text: int(text, 16)),
    "float": _built(float),
    "str": lambda tree, parts: base64.b64decode(tree["b64"]).decode("utf-8", "surrogatepass"),
    "dict": lambda tree, parts: {untag(key, parts): untag(value, parts) for key, value in tree["v"]},
    "tuple": _contents(tuple),
    "set": _contents(set),
    "frozenset": _contents(frozenset),
    "bytes": binary_of,
    "bytearray": lambda tree, parts: bytearray(binary_of(tree, parts)),
    "complex": _contents(lambda pair: complex(*pair)),
    "ordered_dict": _contents(OrderedDict),
    "counter": _contents(Counter),
    "deque": lambda tree, parts: deque(untag(tree["v"], parts), tree["maxlen"]),
    "range": _contents(lambda ends: range(*ends)),
    "datetime": _read_moment(datetime.fromisoformat),
    "time": _read_moment(time.fromisoformat),
    "date": _built(date.fromisoformat),
    "timedelta": _built(lambda parts: timedelta(*parts)),
    "timezone": _read_timezone,
    "zoneinfo": _built(_read_zoneinfo),
    "tzinfo": _built(TzInfo),
    "decimal": _built(Decimal),
    "uuid": _built(uuid.UUID),
    "path": _read_path,
    "enum": _read_member,
    "ellipsis": lambda tree, parts: ...,
}
