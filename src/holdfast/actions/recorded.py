"""The tasks behind `ctx().now`, `uuid`, `random` and `record`: their results are recorded as any action's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from holdfast.identity import Signature
from holdfast.orders import Definition, Policy

BUILTIN: Final = "holdfast:"
"""Begins the names of what `ctx()` records: it belongs to its position in the body, not to its inputs."""


def recorded_call(what: str, fn: Callable[[], Any], *, in_thread: bool) -> Definition:
    """A task that calls `fn`, on the loop or in a thread of the engine's."""

    async def call() -> Any:
        value = fn()
        return await value if inspect.isawaitable(value) else value

    body = fn if in_thread else call
    policy = Policy(name=f"{BUILTIN}{what}")
    return Definition(body, policy, is_async=not in_thread, signature=_NO_ARGUMENTS, annotation=_anything, bound_cells=False)


def _nothing() -> None: ...


def _anything() -> Any:
    return Any


_NO_ARGUMENTS = Signature(_nothing)
