"""Whether the code of a task changed: a digest of its source, or else of its bytecode."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

from holdfast.identity.digests import form_of


def source_digest(fn: Callable[..., Any]) -> str:
    """A short digest of what a function does: its signature and body, inner functions too.

    Comments, layout, docstrings and decorators don't count. Without source (a REPL, a frozen program) the byte code stands in. A function
    that is made says itself what it does (`__holdfast_source__`). One that is many tasks is read once.
    """
    said = getattr(fn, "__holdfast_source__", None)
    if said is not None:
        return blake2b(form_of(said()), digest_size=8).hexdigest()
    function = inspect.unwrap(fn)
    code = getattr(function, "__code__", None)
    if code is None:
        return _digest(function)
    known = _KNOWN.get(id(code))
    if known is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        known = _KNOWN[id(code)] = (code, _digest(function))
    return known[1]


_MOST_KNOWN: Final = 64  # functions that are many tasks are few: the bodies of generated stages
_KNOWN: Final[dict[int, tuple[types.CodeType, str]]] = {}  # by identity: equal code may come of unequal source


def _digest(function: Callable[..., Any]) -> str:
    node = _parsed(function)
    form = form_of(_shape(node)) if node is not None else _code_form(getattr(function, "__code__", None))
    return blake2b(form, digest_size=8).hexdigest()


_DOCUMENTED: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _parsed(function: Callable[..., Any]) -> ast.AST | None:
    try:
        tree = _parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    node = tree.body[0] if tree.body else None
    return node if isinstance(node, _DOCUMENTED) else None  # a lambda stands in a longer line


def _parse(source: str) -> ast.Module:
    """Python's parser can't be entered twice: where a collected object's finalizer formats a traceback meanwhile, 3.11 and 3.12 raise
    SystemError (gh-106905), and the next try is good."""
    try:
        return ast.parse(source)
    except SystemError:
        return ast.parse(source)


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
    inner = [_code_form(const) if isinstance(const, types.CodeType) else form_of(const) for const in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_kwonlyargcount, code.co_flags)
    return form_of([code.co_code, names, inner])
