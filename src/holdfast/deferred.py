"""A coroutine that is made before it runs.

To asyncio it is a coroutine like any other: awaited, gathered, made a task, given to `asyncio.run`. It runs once. It remembers the line
that made it, so that one never awaited can be named.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Generator
from types import FrameType
from typing import Any, TypeVar

R_co = TypeVar("R_co", covariant=True)


class Deferred(Coroutine[Any, Any, R_co]):
    """Base of what a call of ours gives. Subclasses say in `_begin` what runs, and in `_forgotten` what to do if it never did."""

    __slots__ = ("__weakref__", "_closed", "_code", "_coroutine", "_line")

    def __init__(self, depth: int) -> None:
        self._coroutine: Coroutine[Any, Any, R_co] | None = None
        self._closed = False
        frame: FrameType = sys._getframe(depth)  # pyright: ignore[reportPrivateUsage] - the stack module walks all of it
        self._code = frame.f_code
        self._line = frame.f_lineno

    def _begin(self) -> Coroutine[Any, Any, R_co]:
        raise NotImplementedError

    def _used_again(self) -> BaseException:
        return RuntimeError("cannot reuse already awaited coroutine")

    def _forgotten(self) -> None:
        """Called when it is thrown away and was never awaited."""

    @property
    def made_at(self) -> str:
        """File and line where it was made."""
        return f"{self._code.co_filename}:{self._line}"

    @property
    def begun(self) -> bool:
        return self._coroutine is not None or self._closed

    def _enter(self) -> Coroutine[Any, Any, R_co]:
        if self.begun:
            raise self._used_again()
        try:
            self._coroutine = self._begin()
        except BaseException:  # refused, not forgotten
            self._closed = True
            raise
        return self._coroutine

    def __await__(self) -> Generator[Any, Any, R_co]:
        return self._enter().__await__()

    def send(self, value: Any, /) -> Any:
        return (self._coroutine or self._enter()).send(value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        coroutine = self._coroutine or self._enter()
        error = typ if isinstance(typ, BaseException) else val if isinstance(val, BaseException) else typ()
        return coroutine.throw(error.with_traceback(tb) if tb is not None else error)

    def close(self) -> None:
        self._closed = True
        if self._coroutine is not None:
            self._coroutine.close()

    def __del__(self) -> None:
        if not self._closed and self._coroutine is None and hasattr(self, "_line"):
            self._forgotten()
