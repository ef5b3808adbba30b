"""Which line of the user's a warning is about: the innermost on the stack that is neither ours nor of what carries us.

So a warning of what a body said names that line of the body, and one of what a run does of its own accord the line that runs it.
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import Any, Final

_CARRIERS: Final = frozenset({"holdfast", "asyncio", "concurrent", "contextlib", "contextvars", "runpy", "threading", "uvloop"})


def warn(text: str, category: type[Warning]) -> None:
    """`warnings.warn`, at the user's line. Raises: the warning, where it is to be an error."""
    frame: FrameType = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] - the stack module walks all of it
    found: FrameType | None = frame
    while found is not None and _package_of(found) in _CARRIERS:
        found = found.f_back
    frame = found if found is not None else frame
    scope: dict[str, Any] = frame.f_globals
    registry = scope.setdefault("__warningregistry__", {})
    warnings.warn_explicit(text, category, frame.f_code.co_filename, frame.f_lineno, scope.get("__name__"), registry)


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
