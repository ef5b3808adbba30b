"""Names: of actions, which are places in a run; of tasks and modules; and of what comes from outside and meets a path."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from holdfast.errors import InvalidName

NAME_LENGTH: Final = 128
BUILTIN: Final = "holdfast:"
"""Begins the names of our own tasks, those behind `ctx()`: a call of one is known by its position in the body, not by its inputs."""

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
    bits = int.from_bytes(blake2b(utf8(text) + b"\xff" + inputs, digest_size=10).digest(), "big")
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


def utf8(text: str) -> bytes:
    """Encode any str, lone surrogates too."""
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, as file names have
        return str.encode(text, "utf-8", "surrogatepass")
