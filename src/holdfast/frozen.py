"""Frozen records that are cheap to define and cheap to make.

What `@dataclass(frozen=True, slots=True)` gives, for the many small facts of this package. A dataclass takes a millisecond to define,
which for fifty of them was a fifth of `import holdfast`; and it sets each field through `object.__setattr__`, which takes twice as long
as the descriptor of the slot does. Here a class gets its slots when it is defined, and its `__init__` when its first record is made.

A record is compared and hashed by its type and fields, pickles, and matches by position. `dataclasses.replace`, `asdict` and `fields`
take it for a dataclass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, field, make_dataclass
from operator import attrgetter
from typing import Any, ClassVar, Final, NamedTuple, dataclass_transform


class _Missing:
    __slots__ = ()


MISSING: Final = _Missing()


class Field(NamedTuple):
    """One field of a record: its annotation is the text in the source."""

    name: str
    annotation: str
    default: Any = MISSING


@dataclass_transform(frozen_default=True)
class _FrozenType(type):
    """Makes slots of annotated names, and keeps their defaults."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, kw_only: bool = False) -> Any:
        fields = {known.name: known for base in reversed(bases) for known in getattr(base, "__fields__", ())}
        own: list[str] = []
        for attribute, annotation in namespace.get("__annotations__", {}).items():
            if not str(annotation).startswith("ClassVar"):
                fields[attribute] = Field(attribute, str(annotation), namespace.pop(attribute, MISSING))
                own.append(attribute)
        namespace["__slots__"] = tuple(own)
        namespace["__fields__"] = tuple(fields.values())
        namespace["__match_args__"] = () if kw_only else tuple(fields)
        namespace["__init__"] = _first(kw_only)
        made = super().__new__(cls, name, bases, namespace)
        made._values = attrgetter(*fields) if fields else _no_values  # type: ignore[attr-defined]
        return made


def _no_values(_: object) -> tuple[()]:
    return ()


def _first(kw_only: bool) -> Callable[..., None]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it stands in for one
        kind = next(kind for kind in type(self).__mro__ if "__init__" in vars(kind))
        initialize = _initializer(kind, kw_only)
        kind.__init__ = initialize  # type: ignore[misc]
        initialize(self, *args, **kwargs)

    return __init__


def _initializer(kind: Any, kw_only: bool) -> Callable[..., None]:
    """Write out `__init__`: each field goes straight into its slot."""
    scope: dict[str, Any] = {"__builtins__": {}}
    parameters, body = ["self"], [" pass"]
    if kw_only and kind.__fields__:
        parameters.append("*")
    for name, _, default in kind.__fields__:
        scope[f"set_{name}"] = getattr(kind, name).__set__
        if default is not MISSING:
            scope[f"default_{name}"] = default
        parameters.append(name if default is MISSING else f"{name}=default_{name}")
        body.append(f" set_{name}(self, {name})")
    exec("\n".join([f"def __init__({', '.join(parameters)}):", *body]), scope)  # names of fields only, as dataclasses do
    initialize: Callable[..., None] = scope["__init__"]
    initialize.__qualname__ = f"{kind.__qualname__}.__init__"
    return initialize


class _DataclassFields:
    """`__dataclass_fields__`, made when `dataclasses` asks for it."""

    def __init__(self) -> None:
        self._made: dict[type[Any], Any] = {}

    def __get__(self, record: object, kind: Any) -> Any:
        if kind not in self._made:
            fields = [(f.name, f.annotation, field() if f.default is MISSING else field(default=f.default)) for f in kind.__fields__]
            self._made[kind] = make_dataclass(kind.__name__, fields, kw_only=True).__dataclass_fields__  # type: ignore[attr-defined]
        return self._made[kind]


class Frozen(metaclass=_FrozenType):
    """Base of records: `class Seal(Frozen)`, or `class Event(Frozen, kw_only=True)`, with annotated fields."""

    __fields__: ClassVar[tuple[Field, ...]] = ()
    __dataclass_fields__: ClassVar[Any] = _DataclassFields()
    _values: ClassVar[Callable[[Any], Any]]

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        values = type(self)._values
        return bool(values(self) == values(other))

    def __hash__(self) -> int:
        return hash(type(self)._values(self))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name, *_ in self.__fields__)
        return f"{type(self).__qualname__}({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), {name: getattr(self, name) for name, *_ in self.__fields__})


def _again(kind: Any, values: dict[str, Any]) -> Any:
    record = object.__new__(kind)
    for name, value in values.items():
        getattr(kind, name).__set__(record, value)
    return record
