"""The figures of one attempt, written behind its back: in their order, each before the event that names it."""

from __future__ import annotations

import asyncio
from typing import Final

from holdfast.actions.runtime import Runtime
from holdfast.clocks import clock
from holdfast.errors import FigureBroken
from holdfast.events import FigureSaved
from holdfast.figures import Rendered

FOLDER: Final = "figures"


class Drawn:
    """What one attempt drew. Lives on the run's loop.

    Args:
        runtime: The run.
        action: Its name.
        task: The task's name, for warnings.
        token: Of this very attempt: no other one ever writes where it writes.
    """

    def __init__(self, runtime: Runtime, action: str, task: str, token: str) -> None:
        self._runtime = runtime
        self._action = action
        self._task = task
        self._folder = f"actions/{action}/{FOLDER}/{token}"
        self._waiting: dict[str, Rendered] = {}
        self._writer: asyncio.Task[None] | None = None
        self._broken: list[tuple[str, Exception]] = []
        self._is_closed = False

    def put(self, path: str, rendered: Rendered) -> None:
        """Have a figure written in its turn, in place of one that still waits under the same path."""
        if self._is_closed:
            return
        self._waiting.pop(path, None)
        self._waiting[path] = rendered
        if self._writer is None or self._writer.done():
            self._writer = self._runtime.loop.create_task(self._write_all(), name=f"{self._task} (figures)")
            self._writer.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def finish(self) -> None:
        """Wait for what is written, and warn of what could not be. Who is cancelled here leaves it at work."""
        while (writer := self._writer) is not None:
            await asyncio.wait({writer})
            if self._writer is writer:
                self._writer = None
        broken, self._broken = self._broken, []
        for path, error in broken:
            self._runtime.warn(self._action, FigureBroken, broken_text(self._task, path, error))

    def give_up(self) -> None:
        """Stop what is still being written: nothing is shown of it."""
        self._is_closed = True
        self._waiting.clear()
        if self._writer is not None:
            self._writer.cancel()

    async def _write_all(self) -> None:
        folder = self._runtime.some_folder()
        while self._waiting:
            path = next(iter(self._waiting))
            rendered, key = self._waiting.pop(path), f"{self._folder}/{path}"
            try:
                await folder.put(key, rendered.data, sync=self._runtime.sync)
            except Exception as error:  # a figure never fails the task
                self._broken.append((path, error))
                continue
            if not self._is_closed and self._runtime.lost is None:
                self._runtime.append(
                    FigureSaved(
                        action=self._action,
                        at=clock().now(),
                        path=path,
                        key=key,
                        media_type=rendered.media_type,
                        size=len(rendered.data),
                    )
                )


def broken_text(task: str, path: str, error: Exception) -> str:
    return f"{task}: figure {path!r} is not kept: {type(error).__name__}: {error}"
