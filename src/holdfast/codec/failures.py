"""Exceptions as trees, and back as themselves where that is possible.

An exception is rebuilt without trusting its `__init__`, whose parameters need not be its `args`. Each way is tried when it is recorded,
and the first that gives the same type, message and args is written down. What none of them rebuilds comes back as `RemoteFailure`, with
its type's name, its message and its traceback.
"""

from __future__ import annotations

import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any, Final

from holdfast.codec.refusals import Refused
from holdfast.codec.tagged import TAG, Family, Sink, name_of, named_object, tag, untag
from holdfast.codec.wire import to_json
from holdfast.errors import HoldfastError, RemoteFailure

MAX_CHAIN: Final = 8  # causes and contexts that are kept, counted from the raised exception
MAX_TRACEBACK: Final = 64 * 1024  # characters; of a longer one the end is kept, where the error is
TRACEBACK_ATTRIBUTE: Final = "__holdfast_traceback__"
_APART: Final = frozenset({"__notes__", TRACEBACK_ATTRIBUTE})


def encode_error(exc: BaseException, *, task: str) -> tuple[Any, bool]:
    """Write an exception.

    Args:
        exc: what was raised.
        task: whose attempt raised it; for messages.

    Returns:
        The tree, and whether the exception can be rebuilt from it; if not, it comes back as `RemoteFailure`.
    """
    tree = _write(exc, frozenset(), 0)
    tree["task"] = task
    return tree, _is_rebuildable(tree)


def decode_error(tree: Any) -> BaseException:
    """Read what `encode_error` wrote. Never raises for an odd record: what can't be rebuilt is a `RemoteFailure`."""
    try:
        return _chained(tree, _rebuilt(tree))
    except Exception:  # a class's own code may raise anything
        return _chained(tree, _remote(tree))


# writing


def _write(exc: BaseException, seen: frozenset[int], depth: int) -> dict[str, Any]:
    text = getattr(exc, TRACEBACK_ATTRIBUTE, None)
    tree: dict[str, Any] = {
        TAG: "error",
        "type": name_of(type(exc)),
        "message": _clean(_message(exc)),
        "traceback": text if isinstance(text, str) else _traceback(exc),
        "suppress": exc.__suppress_context__,
    }
    tree.update(_content(exc, seen, depth))
    notes = getattr(exc, "__notes__", None)
    if isinstance(notes, list) and notes:
        tree["notes"] = [_clean(str(note)) for note in notes]
    inside = seen | {id(exc)}
    for name, other in (("cause", exc.__cause__), ("context", exc.__context__)):
        if other is not None and id(other) not in inside and depth < MAX_CHAIN and not (name == "context" and other is exc.__cause__):
            tree[name] = _write(other, inside, depth + 1)
    if exc.__context__ is not None and exc.__context__ is exc.__cause__:
        tree["context_is_cause"] = True
    return tree


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:  # an odd __str__
        return f"({type(exc).__name__} without a readable message)"


def _traceback(exc: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(exc))
    except Exception:  # an odd __str__ or __repr__
        text = "".join(traceback.format_tb(exc.__traceback__))
    return _clean(text[-MAX_TRACEBACK:])


def _clean(text: str) -> str:
    """Text that any reader takes: a lone surrogate is shown, not kept."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _content(exc: BaseException, seen: frozenset[int], depth: int) -> dict[str, Any]:
    """What the exception is made of, and the way by which it was seen to come back."""
    args = _tagged(list(exc.args)) if _is_plain(exc) else None
    content: dict[str, Any] = {"state": _state(exc), "attributes": _attributes(exc)}
    content["args"] = args
    content["shown_args"] = None if args is not None else [_clean(_shown(arg)) for arg in exc.args]
    if not _is_plain(exc) or _resolved(name_of(type(exc))) is not type(exc):
        return {**content, "how": None}
    if isinstance(exc, ExceptionGroup):
        content["group"] = [_clean(exc.message), [_write(member, seen | {id(exc)}, depth + 1) for member in exc.exceptions]]
        content["args"] = None
    if isinstance(exc, HoldfastError):
        content["facts"] = _tagged(dict(exc.facts))
    return {**content, "how": next((how for how in _ways(exc) if _comes_back(exc, {**content, "how": how})), None)}


def _is_plain(exc: BaseException) -> bool:
    """Exits, interrupts and cancellations steer the process that they are raised in, and no other."""
    return isinstance(exc, Exception)


def _ways(exc: BaseException) -> tuple[str, ...]:
    if isinstance(exc, ExceptionGroup):
        return ("group",)
    if isinstance(exc, HoldfastError) and exc.facts:
        return ("facts",)
    return ("new", "call") if isinstance(type(exc).__init__, types.FunctionType) else ("call", "new")


def _comes_back(exc: BaseException, content: dict[str, Any]) -> bool:
    try:
        back = _rebuilt({"type": name_of(type(exc)), **content})
        if type(back) is not type(exc) or str(back) != str(exc):
            return False
        if isinstance(exc, ExceptionGroup) and isinstance(back, ExceptionGroup):
            return back.message == exc.message and len(back.exceptions) == len(exc.exceptions)
        return _form(list(back.args)) == to_json(content["args"])
    except Exception:  # a class's own code may raise anything: then this is not the way
        return False


def _form(value: Any) -> bytes:
    return to_json(_tagged(value))


def _tagged(value: Any) -> Any:
    """The tagged form, or None where there is none."""
    try:
        return tag(value, Sink(limit=float("inf")))
    except (Refused, RecursionError):
        return None


def _state(exc: BaseException) -> dict[str, Any]:
    """The instance attributes that can be written. Others are left out: a client or a response is no part of what went wrong."""
    held = {name: value for name, value in getattr(exc, "__dict__", {}).items() if isinstance(name, str) and name not in _APART}
    trees = {name: _tagged(value) for name, value in held.items()}
    return {name: tree for name, tree in trees.items() if tree is not None or held[name] is None}


def _attributes(exc: BaseException) -> dict[str, Any]:
    """What builtin exceptions keep in fields of their own, such as `OSError.filename` and `ImportError.name`."""
    values = {name: getattr(exc, name, None) for name in _own_fields(type(exc))}
    trees = {name: _tagged(value) for name, value in values.items() if value is not None}
    return {name: tree for name, tree in trees.items() if tree is not None}


_FIELD_KINDS: Final = (types.MemberDescriptorType, types.GetSetDescriptorType)


def _own_fields(kind: type) -> list[str]:
    bases = [base for base in kind.__mro__ if base not in (BaseException, object)]
    return [name for base in bases for name, field in vars(base).items() if isinstance(field, _FIELD_KINDS) and not name.startswith("__")]


def _shown(value: object) -> str:
    try:
        return repr(value)[:1000]
    except Exception:  # an odd __repr__
        return f"<{type(value).__name__}>"


def _is_rebuildable(tree: Mapping[str, Any]) -> bool:
    members = tree["group"][1] if tree.get("how") == "group" else ()
    return tree.get("how") is not None and all(_is_rebuildable(member) for member in members)


# reading


def _resolved(name: str) -> Any:
    try:
        return named_object(name)
    except Exception:  # importing runs the module's own code
        return None


def _rebuilt(tree: Mapping[str, Any]) -> BaseException:
    kind = named_object(tree["type"])
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise TypeError(f"{tree['type']} is no exception")
    exc: BaseException = _WAYS[tree["how"]](kind, tree)
    _restore(exc, tree)
    return exc


def _restore(exc: BaseException, tree: Mapping[str, Any]) -> None:
    state = getattr(exc, "__dict__", {})
    for name, item in tree["state"].items():
        state[name] = untag(item, {})
    for name, item in tree["attributes"].items():
        value = untag(item, {})
        if getattr(exc, name, None) != value:
            _set_field(exc, name, value)


def _set_field(exc: BaseException, name: str, value: object) -> None:
    try:
        setattr(exc, name, value)
    except (AttributeError, TypeError):  # one that only the constructor sets
        pass


def _by_call(kind: type, tree: Mapping[str, Any]) -> Any:
    return kind(*untag(tree["args"], {}))


def _by_new(kind: type, tree: Mapping[str, Any]) -> Any:
    """Without its own `__init__`, but with that of the builtin it derives from."""
    args = untag(tree["args"], {})
    exc = kind.__new__(kind, *args)
    builtin: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    builtin.__init__(exc, *args)
    exc.args = tuple(args)
    return exc


def _by_facts(kind: type, tree: Mapping[str, Any]) -> Any:
    return kind(**untag(tree["facts"], {}))


def _by_members(kind: type, tree: Mapping[str, Any]) -> Any:
    message, members = tree["group"]
    return kind(message, [decode_error(member) for member in members])


_WAYS: Final[Mapping[str, Callable[[type, Mapping[str, Any]], Any]]] = {
    "call": _by_call,
    "new": _by_new,
    "facts": _by_facts,
    "group": _by_members,
}


def _chained(tree: Any, exc: BaseException) -> BaseException:
    """Give back notes, chain and traceback. `exc` may refuse attributes, and then goes without."""
    if not isinstance(tree, dict):
        return exc
    if "cause" in tree:
        exc.__cause__ = decode_error(tree["cause"])
    if "context" in tree:
        exc.__context__ = decode_error(tree["context"])
    elif tree.get("context_is_cause") is True:
        exc.__context__ = exc.__cause__
    exc.__suppress_context__ = tree.get("suppress") is True
    notes = tree.get("notes")
    for note in notes if isinstance(notes, list) else ():
        exc.add_note(str(note))
    _set_field(exc, TRACEBACK_ATTRIBUTE, str(tree.get("traceback", "")))
    return exc


def _remote(tree: Any) -> RemoteFailure:
    facts = tree if isinstance(tree, dict) else {}
    return RemoteFailure(
        type_name=str(facts.get("type", "an unreadable record")),
        message=str(facts.get("message", _shown(tree))),
        traceback_text=str(facts.get("traceback", "")),
    )


# as values: an exception that is returned, or held in another's args


def _write_value(value: BaseException, _sink: Sink, depth: int) -> Any:
    tree = _write(value, frozenset(), depth)
    if not _is_rebuildable(tree):
        raise Refused(f"the exception {name_of(type(value))} can't be rebuilt from its args; return its message")
    return tree


FAMILIES: Final = (Family(lambda kind: issubclass(kind, BaseException), _write_value, {"error": lambda tree, parts: decode_error(tree)}),)
