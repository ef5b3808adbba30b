"""Values by the annotation of the task that returns them.

Three ways, decided once for each annotation. One made of builtin types only: the tagged form, which is exact, and no validator. Any
other that pydantic knows: its dump, in the tagged form, validated when it is read; whether the value comes back as it was is tried when
it is recorded, where a person can still do something about it. And pickle, where a task asks for it.
"""

from __future__ import annotations

import functools
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Protocol

import pydantic
from pydantic import ConfigDict, PlainSerializer, PlainValidator, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic.warnings import ArbitraryTypeWarning
from pydantic_core import PydanticSerializationError

import holdfast.codec.plain as plain
from holdfast.codec.arrays import is_array, is_numpy_scalar, is_table
from holdfast.codec.dicts import with_known_dicts
from holdfast.codec.refusals import Refused, Spelled, Unreadable, spelled
from holdfast.codec.sameness import difference, says_equal
from holdfast.codec.tagged import TAG, Encoded, Parts, Sink, binary_of, float_tree, int_tree, name_of, str_tree, tag, untag
from holdfast.errors import ResultIncompatible, UnrecordableResult

_NO_PARTS: Final[Mapping[str, bytes]] = {}
_SCALAR_TREES: Final[dict[type, Callable[[Any], Any]]] = {
    type(None): lambda value: value,
    bool: lambda value: value,
    int: int_tree,
    float: float_tree,
    str: str_tree,
}


class _Plan(Protocol):
    """How values of one annotation are written and read. It raises `Refused` and `Unreadable`."""

    def write(self, value: Any) -> Encoded: ...
    def read(self, tree: Any, parts: Parts) -> Any: ...
    def take(self, value: Any) -> Any: ...


class Codec:
    """Values of one task's result, both ways."""

    __slots__ = ("_plan", "_scalars", "annotation", "task")

    annotation: Any
    task: str

    def __init__(self, task: str, annotation: Any, plan: _Plan, scalars: frozenset[type]) -> None:
        self.task = task
        self.annotation = annotation
        self._plan = plan
        self._scalars = scalars

    def encode(self, value: Any) -> Encoded:
        """Write `value`.

        Raises:
            UnrecordableResult: it would not come back as it is; the path names the part.
        """
        kind = type(value)
        if kind in self._scalars:
            return Encoded(_SCALAR_TREES[kind](value), _NO_PARTS)
        try:
            return self._plan.write(value)
        except Refused as refused:
            raise UnrecordableResult(
                task=self.task, path="result" + spelled(value, refused.steps), reason=refused.reason
            ) from refused.__cause__
        except RecursionError:
            raise UnrecordableResult(task=self.task, path="result", reason="it is nested too deeply, or contains itself") from None

    def decode(self, tree: Any, parts: Parts = _NO_PARTS) -> Any:
        """Read what `encode` wrote.

        Raises:
            ResultIncompatible: the value is no longer valid as the annotation, or can't be read here.
            MissingExtra: it needs numpy or pandas, and they are not installed.
        """
        if type(tree) in self._scalars:
            return tree
        try:
            return self._plan.read(tree, parts)
        except (Unreadable, LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            raise ResultIncompatible(task=self.task, expected=self.expected, reason=_reason(error)) from error

    def take(self, value: Any) -> Any:
        """Make of a value from elsewhere what the annotation says, as pydantic does by default: of a str a datetime, of a dict a model.

        Raises:
            ResultIncompatible: it can't be made.
        """
        try:
            return self._plan.take(value)
        except (Unreadable, LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            raise ResultIncompatible(task=self.task, expected=self.expected, reason=_reason(error)) from error

    @property
    def expected(self) -> str:
        """The annotation, as a person reads it."""
        return _shown(self.annotation)


def codec_for(annotation: Any, *, task: str, pickle: bool = False) -> Codec:
    """The codec for a task's return annotation, or a TypeAdapter; `inspect.Signature.empty` and `Any` record a value by its own type.

    Raises:
        UnrecordableResult: no value of this annotation can be recorded.
    """
    try:
        plan, scalars = (_planned if plain.is_hashable(annotation) else _plan)(annotation, pickle)
    except Refused as refused:
        raise UnrecordableResult(task=task, path=f"its annotation {_shown(annotation)}", reason=refused.reason) from None
    return Codec(task, annotation, plan, scalars)


def _plan(annotation: Any, by_pickle: bool) -> tuple[_Plan, frozenset[type]]:
    if by_pickle:
        return _Pickled(), plain.scalars(Any)
    fits = plain.fits(annotation)
    if fits is not None:
        return _Exact(annotation, fits), plain.scalars(annotation)
    return _Validated(annotation), frozenset()


_planned = functools.lru_cache(maxsize=1024)(_plan)


class _Exact:
    """By the value's own type. A value of another type than was said is recorded as what it is, if the annotation accepts it."""

    def __init__(self, annotation: Any, fits: plain.Fits) -> None:
        self.annotation = annotation
        self.fits = fits

    def write(self, value: Any) -> Encoded:
        if not self.fits(value):
            self._accept(value, Refused)
        sink = Sink()
        return Encoded(tag(value, sink), sink.parts or _NO_PARTS)

    def read(self, tree: Any, parts: Parts) -> Any:
        value = untag(tree, parts)
        if not self.fits(value):
            self._accept(value, Unreadable)
        return value

    def take(self, value: Any) -> Any:
        return value if self.fits(value) else self._adapter.validate_python((value,))[0]

    def _accept(self, value: Any, refusal: type[Exception]) -> None:
        try:
            self._adapter.validate_python((value,))
        except ValueError as error:
            raise refusal(
                f"{name_of(type(value))} is not valid as {_shown(self.annotation)}; return what the annotation says, or change it"
            ) from error

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[tuple[Any]]:
        return _adapter(self.annotation)


class _Validated:
    """Through pydantic, and proved by reading it back."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self.adapter = _adapter(annotation)

    def write(self, value: Any) -> Encoded:
        sink = Sink(typed=True)
        tree = tag(self._dumped(value), sink)
        self._prove(value, tree, sink.parts)
        return Encoded(tree, sink.parts or _NO_PARTS)

    def _dumped(self, value: Any) -> Any:
        """What pydantic makes of it. That it doubts is no reason to refuse: the proof that follows knows better, and can say where."""
        try:
            (dumped,) = self.adapter.dump_python((value,), mode="python", round_trip=True, warnings=False, **_DUMP)
        except (PydanticSerializationError, ValueError, TypeError, AttributeError) as error:
            raise Refused(f"a {name_of(type(value))} can't be dumped as {_shown(self.annotation)} ({_reason(error)})") from error
        return dumped

    def read(self, tree: Any, parts: Parts) -> Any:
        return self.take(untag(tree, parts))

    def take(self, value: Any) -> Any:
        (taken,) = self.adapter.validate_python((value,), **_LOAD)
        return taken

    def _prove(self, value: Any, tree: Any, parts: Parts) -> None:
        try:
            back = self.read(tree, parts)
        except (Unreadable, ValueError, TypeError, AttributeError) as error:
            raise Refused(f"it is not what the annotation says ({_reason(error)})", _place(error)) from error
        found = difference(value, back)
        if found is None and not says_equal(value, back):
            found = difference(value, back, again=self.read(tree, parts))
        if found is not None:
            raise Refused(f"{found[1]}; annotate what it really is, or return plain data", (Spelled(found[0]),))


class _Pickled:
    """By pickle, since the task asked for it: read only by the Python that wrote it."""

    def write(self, value: Any) -> Encoded:
        try:
            data = pickle.dumps(value, protocol=5)
            back = pickle.loads(data)
        except Exception as error:  # a class's own __reduce__ may raise anything
            raise Refused(f"pickle can't take it ({_reason(error)})") from error
        if type(back) is not type(value) or not _equal(value, back):
            raise Refused(f"a {name_of(type(value))} would come back from pickle as another")
        sink = Sink()
        return Encoded({TAG: "pickle", "python": _PYTHON, **sink.binary(data)}, sink.parts or _NO_PARTS)

    def read(self, tree: Any, parts: Parts) -> Any:
        if type(tree) is not dict or tree.get(TAG) != "pickle":
            return untag(tree, parts)
        if tree["python"] != _PYTHON:
            raise Unreadable(f"it was pickled by Python {'.'.join(map(str, tree['python']))}")
        try:
            return pickle.loads(binary_of(tree, parts))
        except Exception as error:
            raise Unreadable(f"pickle can't read it ({_reason(error)})") from error

    def take(self, value: Any) -> Any:
        return value


_PYTHON: Final = list(sys.version_info[:2])


def _equal(value: Any, back: Any) -> bool:
    """Whether equality finds them equal, where it is of use: with NaN, arrays, or without `__eq__`, not even two copies are equal."""
    return says_equal(value, back) or not says_equal(back, pickle.loads(pickle.dumps(back, protocol=5)))


# pydantic

# From 2.11 on a model with aliases can be dumped and validated by its fields' names; before, its aliases have to agree.
_NAMED: Final = tuple(int(part) for part in pydantic.VERSION.split(".")[:2]) >= (2, 11)
_DUMP: Final[dict[str, Any]] = {"by_alias": not _NAMED}
_LOAD: Final[dict[str, Any]] = {"by_name": True, "by_alias": True} if _NAMED else {}


def _adapter(annotation: Any) -> TypeAdapter[tuple[Any]]:
    """An adapter for one value in a tuple: a bare dataclass or model would not take our configuration."""
    if isinstance(annotation, TypeAdapter):
        annotation = _type_of(annotation)
    try:
        annotation = with_known_dicts(annotation)
        adapter = _strict_adapter(annotation)
    except PydanticSchemaGenerationError:
        adapter = _lenient_adapter(annotation)
    except (PydanticUserError, TypeError, NameError) as error:
        raise _unusable(error) from error
    if not getattr(adapter, "pydantic_complete", True):
        raise Refused("it names a type that can't be found; define it at module level")
    for node in _nodes(adapter.core_schema):
        if node.get("type") == "generator":
            raise Refused("a generator or iterator is used up by reading it; return a list")
        if node.get("type") == "callable":
            raise Refused("a callable can't be recorded; return its name")
    return adapter


def json_form(value: Any) -> Any:
    """What a model or dataclass is in JSON, by the names of its fields, if that is all of it: a masked secret, for one, is not.

    Raises: Refused.
    """
    kind = name_of(type(value))
    try:
        adapter = TypeAdapter[Any](type(value))
        form = adapter.dump_python(value, mode="json", round_trip=True, **_DUMP)
        back, again = adapter.validate_python(form, **_LOAD), adapter.validate_python(form, **_LOAD)
    except (PydanticUserError, PydanticSerializationError, ValueError, TypeError, AttributeError) as error:
        raise Refused(f"a {kind} does not come back from its JSON form ({_reason(error)}); send plain data") from error
    if not says_equal(value, back) and says_equal(back, again):  # else equality is of no use: NaN, or none defined
        raise Refused(f"a {kind} would come back from its JSON form as {back!r:.200}; send plain data")
    return form


def _type_of(adapter: TypeAdapter[Any]) -> Any:
    """A type that stands for what only an adapter says. It is asked by its public face: its own type is none of that."""
    return Annotated[
        Any,
        PlainValidator(lambda value: adapter.validate_python(value, **_LOAD)),
        PlainSerializer(lambda value: adapter.dump_python(value, mode="python", round_trip=True, warnings=False, **_DUMP)),
    ]


def _unusable(error: Exception) -> Refused:
    return Refused(f"pydantic can't use it ({_reason(error)}); annotate the result with plain data, a dataclass or a pydantic model")


def _strict_adapter(annotation: Any) -> TypeAdapter[tuple[Any]]:
    return TypeAdapter(tuple[annotation])  # pyright: ignore[reportInvalidTypeForm] - made at run time


def _lenient_adapter(annotation: Any) -> TypeAdapter[tuple[Any]]:
    """For annotations that hold classes unknown to pydantic: numpy's and pandas' are ours, all others are refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ArbitraryTypeWarning)  # what is no type at all would be taken as Any
            adapter: TypeAdapter[tuple[Any]] = TypeAdapter(
                tuple[annotation],  # pyright: ignore[reportInvalidTypeForm] - made at run time
                config=ConfigDict(arbitrary_types_allowed=True),
            )
    except (PydanticUserError, ArbitraryTypeWarning, TypeError, NameError) as error:
        raise _unusable(error) from error
    for node in _nodes(adapter.core_schema):
        kind = node.get("cls")
        if node.get("type") == "is-instance" and isinstance(kind, type) and not _has_adapter(kind):
            raise Refused(f"{name_of(kind)} is no plain data; make it a dataclass or a pydantic model, or set codec='pickle' on the task")
    return adapter


def _has_adapter(kind: type) -> bool:
    if is_array(kind) or is_table(kind) or is_numpy_scalar(kind) or issubclass(kind, BaseException):
        return True
    try:
        TypeAdapter(kind)
    except PydanticUserError:
        return False
    return True


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    pending, seen = [schema], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, dict):
            yield node
            pending.extend(value for key, value in node.items() if key != "metadata")
        elif isinstance(node, (list, tuple)):
            pending.extend(node)


def _place(error: BaseException) -> tuple[object, ...]:
    """Where in the value a validation error is."""
    return tuple(error.errors(include_url=False)[0]["loc"][1:]) if isinstance(error, pydantic.ValidationError) else ()


def _reason(error: BaseException) -> str:
    if isinstance(error, pydantic.ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{first['msg']}, and not {type(first['input']).__qualname__}"
    return " ".join(str(error).split())[:300] or type(error).__name__


def _shown(annotation: Any) -> str:
    if hasattr(annotation, "__metadata__"):  # how an Annotated one is read and written is of no interest here
        annotation = annotation.__origin__
    return annotation.__qualname__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else str(annotation)
