"""The tasks behind `ctx().now`, `uuid`, `random` and `record`: their results are recorded as any action's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from holdfast.identity import BUILTIN, Signature
from holdfast.orders import Definition, Policy


def recorded_call(what: str, fn: Callable[[], Any], *, in_thread: bool) -> Definition:
    """A task that calls `fn`, on the loop or in a thread of the engine's."""

    async def call() -> Any:
        value = fn()
        return await value if inspect.isawaitable(value) else value

    return built_in(what, fn if in_thread else call, is_async=not in_thread)


def built_in(what: str, body: Callable[[], Any], *, is_async: bool = True, returns: Any = Any, **policy: Any) -> Definition:
    """A task of our own. With a `key`, its position is counted among those of that key."""
    known = Policy(name=f"{BUILTIN}{what}", **policy)
    return Definition(body, known, is_async=is_async, signature=_NO_ARGUMENTS, annotation=lambda: returns, bound_cells=False)


def _nothing() -> None: ...


_NO_ARGUMENTS = Signature(_nothing)
