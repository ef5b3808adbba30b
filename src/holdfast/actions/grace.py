"""Waiting for what was asked to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from holdfast.actions.runtime import Runtime


async def wait_within_grace(tasks: Collection[asyncio.Task[Any]], runtime: Runtime, halfway: Callable[[], None]) -> None:
    """Wait for tasks that were cancelled, within the grace; being cancelled again does not cut it short.

    Args:
        tasks: Which.
        runtime: The run, which may end the grace before its time.
        halfway: Called where half of the grace has passed, and some have not ended.
    """
    began, is_late = runtime.loop.time(), False
    while (alive := {task for task in tasks if not task.done()}) and (left := began + runtime.grace - runtime.loop.time()) > 0:
        early = left - runtime.grace / 2
        if early <= 0 and not is_late:
            is_late = True
            halfway()
        try:
            await asyncio.wait(alive, timeout=left if is_late else early)
        except asyncio.CancelledError:
            continue
