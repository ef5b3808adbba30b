"""Who a call is: names of modules, tasks and actions, and digests of the values that a call is made with.

An id must be the same in another process, on another machine, after a restart, whatever the hash seed and the order in which a dict was
filled. So nothing here looks at `hash()`, `id()`, `repr()` of foreign objects, paths or clocks: values are written out in a type-tagged,
length-prefixed form, and that form is hashed. What has no such form is refused, with the path to the part that has none.

The form is self-delimiting: each value begins with its tag, and says how long it is. Two different values have two different forms
(beyond 1 MiB, a buffer is stood for by its own digest).
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import keyword
import re
import struct
import sys
import textwrap
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
from pathlib import Path, PurePath
from typing import Any, Final

from pydantic import BaseModel

from holdfast.errors import InvalidName, UnstableInput

DIGEST_BYTES: Final = 16
NAME_LENGTH: Final = 128
_LARGE: Final = 1024 * 1024  # bytes; above it a buffer is hashed in place and not copied into the form


class Indigestible(Exception):
    """A part of a value has no canonical form. Private: `digest_inputs` turns it into `UnstableInput`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


# digests


def digest_value(value: object) -> bytes:
    """Digest one value: equal for equal content of equal types, whatever process computes it.

    Raises:
        Indigestible: a part of `value` has no canonical form.
    """
    return blake2b(_form(value), digest_size=DIGEST_BYTES).digest()


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
            parts.append(_form(value) if leaf is None else leaf(value))
        except Indigestible as refused:
            raise UnstableInput(task=task, argument=name + refused.path, reason=refused.reason) from None
    return blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()


class Signature:
    """A function's parameters, compiled once, so that each call costs about as much as an empty function.

    A twin of the function is generated, with its parameters and a body that returns them by name. Python itself then fills in defaults
    and refuses wrong arguments, in the words of the real call.
    """

    __slots__ = ("_collect", "names")

    names: tuple[str, ...]

    def __init__(self, fn: Callable[..., Any]) -> None:
        signature = inspect.signature(fn)
        self.names = tuple(signature.parameters)
        self._collect = _twin(fn, signature)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Map the arguments of a call to parameter names, defaults applied.

        ``*args`` is one tuple, ``**kwargs`` one dict, under the parameter's name.

        Raises:
            TypeError: the function could not be called so.
        """
        return self._collect(*args, **kwargs)


def bind(signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """`Signature.bind`, as a function."""
    return signature.bind(args, kwargs)


def free_variables(fn: Callable[..., Any]) -> dict[str, object]:
    """The variables that a function closes over, by name, to be digested beside its arguments."""
    function = inspect.unwrap(fn)
    cells = getattr(function, "__closure__", None) or ()
    return {name: _contents(cell) for name, cell in zip(function.__code__.co_freevars, cells, strict=True)} if cells else {}


class Cell(enum.Enum):
    """What stands for a free variable without a value."""

    EMPTY = "empty"


def _contents(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return Cell.EMPTY


def _twin(fn: Callable[..., Any], signature: inspect.Signature) -> Callable[..., dict[str, Any]]:
    parameters = list(signature.parameters.values())
    if not all(p.name.isidentifier() and not keyword.iskeyword(p.name) for p in parameters):  # a builtin with made-up names
        return lambda *args, **kwargs: _bound(signature, args, kwargs)
    bare = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
    shown = [p if p.default is p.empty else p.replace(default=None) for p in bare]
    head = str(inspect.Signature(shown))
    body = ", ".join(f"{name!r}: {name}" for name in signature.parameters)
    scope: dict[str, Any] = {"__builtins__": {}}
    exec(f"def twin{head}: return {{{body}}}", scope)  # identifiers only, as dataclasses and namedtuple do
    twin = scope["twin"]
    twin.__name__ = getattr(fn, "__name__", "task")
    twin.__qualname__ = getattr(fn, "__qualname__", twin.__name__)
    given = [p for p in parameters if p.default is not p.empty]
    twin.__defaults__ = tuple(p.default for p in given if p.kind is not p.KEYWORD_ONLY) or None
    twin.__kwdefaults__ = {p.name: p.default for p in given if p.kind is p.KEYWORD_ONLY} or None
    collected: Callable[..., dict[str, Any]] = twin
    return collected


def _bound(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


# names

_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = tuple(high + low for high in _BASE32 for low in _BASE32)  # ten bits at once


def action_name(
    parent: str, task: str, inputs: bytes, group: tuple[str, ...], counted: tuple[tuple[str, str], ...], occurrence: int
) -> str:
    """Name the place of a call in its run's tree: 80 bits as 16 base32 characters.

    Args:
        parent: name of the action that calls; empty for the root, so that names are equal in every run.
        task: the called task's name.
        inputs: ``b"d"`` and the digest of the inputs, or ``b"k"`` and the task's key.
        group: the path of groups around the call.
        counted: the custom context that counts, sorted.
        occurrence: how many equal calls the parent's attempt made before.
    """
    text = f"{len(parent)}:{parent}{len(task)}:{task}{occurrence}:{len(group)}:"
    if group:
        text += "".join([f"{len(part)}:{part}" for part in group])
    if counted:
        text += "".join([f"{len(key)}:{key}{len(value)}:{value}" for key, value in counted])
    bits = int.from_bytes(blake2b(_utf8(text) + b"\xff" + inputs, digest_size=10).digest(), "big")
    return (
        f"{_PAIRS[bits >> 70]}{_PAIRS[bits >> 60 & 1023]}{_PAIRS[bits >> 50 & 1023]}{_PAIRS[bits >> 40 & 1023]}"
        f"{_PAIRS[bits >> 30 & 1023]}{_PAIRS[bits >> 20 & 1023]}{_PAIRS[bits >> 10 & 1023]}{_PAIRS[bits & 1023]}"
    )


def task_name(fn: Callable[..., Any]) -> str:
    """``module:qualname``: the same whether the module is run as a script, with ``python -m``, or imported."""
    return f"{module_name(fn)}:{fn.__qualname__}"


def module_name(module: object) -> str:
    """The name under which others import a module, given its name, or something defined in it.

    ``__main__`` is its spec's name, else its file's dotted name, found by walking up through ``__init__.py``. A notebook is ``notebook``.
    """
    name = module if isinstance(module, str) else getattr(module, "__module__", None) or "builtins"
    return _main_name(name) if name in ("__main__", "__mp_main__") else str(name)  # multiprocessing's children call it __mp_main__


def _main_name(name: str) -> str:
    main = sys.modules.get(name)
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in ("__main__", "__mp_main__"):
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if file is not None:
        return _dotted(Path(file))
    return "notebook" if hasattr(main, "get_ipython") else "__main__"


def _dotted(file: Path) -> str:
    path = file.absolute()
    parts = [] if path.stem == "__init__" else [path.stem]
    for folder in path.parents:
        if not (folder / "__init__.py").is_file():
            break
        parts.append(folder.name)
    return ".".join(reversed(parts)) or "__init__"


_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_LENGTH - 1}}}")


def check_name(kind: str, name: str) -> str:
    """Return `name` if it can stand in a path of every store.

    Raises:
        InvalidName: it can't; the reason says why, and how it could be spelled.
    """
    if _fits(name):
        return name
    raise InvalidName(kind=kind, name=name, reason=_why_not(name))


def _fits(name: object) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _why_not(name: object) -> str:
    if not isinstance(name, str):
        return f"it has to be a str, not {type(name).__name__}"
    if not name:
        return "it is empty"
    spelled = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-").rstrip("-")[:NAME_LENGTH]
    advice = f"; {spelled!r} would do" if spelled else ""
    if len(name) > NAME_LENGTH:
        return f"it has {len(name)} characters, and may have {NAME_LENGTH}{advice}"
    strange = re.search(r"[^A-Za-z0-9._-]", name)
    if strange is not None:
        return f"it holds {strange[0]!r}, and may hold A-Z a-z 0-9 . _ -{advice}"
    return f"it begins with {name[0]!r}, and has to begin with a letter or a digit{advice}"


# source


def source_digest(fn: Callable[..., Any]) -> str:
    """A short digest of what a function does: its signature and body, inner functions too.

    Comments, layout, docstrings and decorators don't count. Without source (a REPL, a frozen program) the byte code stands in.
    """
    function = inspect.unwrap(fn)
    node = _parsed(function)
    form = _form(_shape(node)) if node is not None else _code_form(getattr(function, "__code__", None))
    return blake2b(form, digest_size=8).hexdigest()


_DOCUMENTED: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _parsed(function: Callable[..., Any]) -> ast.AST | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    node = tree.body[0] if tree.body else None
    return node if isinstance(node, _DOCUMENTED) else None  # a lambda stands in a longer line


_SILENT_FIELDS: Final = frozenset({"decorator_list", "type_comment", "kind", "type_ignores"})


def _shape(node: object) -> object:
    """A syntax tree as plain data. Empty fields are left out: the next Python adds some, and the code stays the same."""
    if isinstance(node, list):
        return [_shape(child) for child in node]
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, child) for name, child in ast.iter_fields(node) if name not in _SILENT_FIELDS and child not in (None, [])]
    documented = isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None
    return [type(node).__name__, *([name, _shape(child[1:] if name == "body" and documented else child)] for name, child in fields)]


def _code_form(code: types.CodeType | None) -> bytes:
    if code is None:
        return b"?"
    inner = [_code_form(const) if isinstance(const, types.CodeType) else _form(const) for const in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_kwonlyargcount, code.co_flags)
    return _form([code.co_code, names, inner])


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


def _form(value: Any) -> bytes:
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


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, as file names have
        return str.encode(text, "utf-8", "surrogatepass")


def _tagged(tag: bytes, data: bytes | bytearray | memoryview) -> bytes:
    if len(data) > _LARGE:
        return b"%b#%d:%b" % (tag, len(data), blake2b(data, digest_size=32).digest())
    return b"%b%d:%b" % (tag, len(data), bytes(data))


def _text(value: str) -> bytes:
    data = _utf8(value)
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
    return lambda value: _tagged(tag, _utf8(write(value)))


def _moment(value: datetime | time) -> str:
    return f"{value.isoformat()}/{value.fold}"


def _member(value: enum.Enum) -> bytes:
    member: str | None = value._name_  # a flag's unnamed combination has none
    return _class_tag(b"E", value) + (_text(member) if member is not None else _form(value.value))


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
    return _tagged(tag, _utf8(_qualified(type(value))))


# composites


def _packed_text(values: Sequence[str]) -> bytes | None:
    return array("q", map(len, values)).tobytes() + _utf8("".join(values))


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
    out.append(b"Q%d:" % len(value) + _form(value.maxlen))
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
    out.append(_tagged(b"PC", _utf8(kind)))
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
