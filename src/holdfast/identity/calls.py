"""The arguments of a call by name, and what its function closes over."""

from __future__ import annotations

import enum
import inspect
import keyword
import types
from collections.abc import Callable, Mapping
from typing import Any


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
