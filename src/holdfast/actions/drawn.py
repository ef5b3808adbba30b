"""The figures of one attempt, written behind its back: in their order, each before the event that names it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from holdfast.actions.runtime import Runtime
from holdfast.clocks import clock
from holdfast.errors import FigureBroken
from holdfast.events import FigureSaved
from holdfast.figures import Rendered

FOLDER: Final = "figures"


class Drawn:
    """What one attempt drew. Lives on the run's loop, but for `give`.

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
        self._given: deque[tuple[str, Rendered]] = deque()
        self._waiting: dict[str, Rendered] = {}
        self._at_work = ""
        self._writer: asyncio.Task[None] | None = None
        self._broken: list[tuple[str, Exception]] = []
        self._is_closed = False

    def give(self, path: str, rendered: Rendered) -> None:
        """Leave a figure here, to be taken; from any thread."""
        self._given.append((path, rendered))

    def take(self) -> None:
        """Have what was given written in its turn, each in place of one that still waits under the same path."""
        while self._given:
            path, rendered = self._given.popleft()
            self._waiting.pop(path, None)
            if not self._is_closed:
                self._waiting[path] = rendered
        if self._waiting and (self._writer is None or self._writer.done()):
            self._writer = self._runtime.loop.create_task(self._write_all(), name=f"{self._task} (figures)")
            self._writer.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def finish(self, *, is_returning: bool) -> None:
        """Wait for what is written, and warn of what could not be.

        A figure decides nothing: whoever is cancelled here is done when half of the grace is over, and so is an attempt that does not
        return. What is not written by then is given up.
        """
        self.take()
        loop, since = self._runtime.loop, None
        if not is_returning:
            since = loop.time()
        while self._writer is not None and not self._writer.done():
            left = None if since is None else since + self._runtime.grace / 2 - loop.time()
            if left is not None and left <= 0:
                self._run_out_of_time()
                break
            try:
                await asyncio.wait({self._writer}, timeout=left)
            except asyncio.CancelledError:
                since = loop.time() if since is None else since
        broken, self._broken = self._broken, []
        for path, error in broken:
            with suppress(FigureBroken):  # not even where warnings are errors does a figure fail its task
                self._runtime.warn(self._action, FigureBroken, broken_text(self._task, path, error))

    def _run_out_of_time(self) -> None:
        late = dict.fromkeys((self._at_work, *self._waiting))
        self._broken += [(path, TimeoutError("it was not written in time")) for path in late]
        self.give_up()

    def give_up(self) -> None:
        """Stop what is still being written: nothing is shown of it."""
        self._is_closed = True
        self._waiting.clear()
        if self._writer is not None:
            self._writer.cancel()

    async def _write_all(self) -> None:
        folder = self._runtime.some_folder()
        while self._waiting:
            path = self._at_work = next(iter(self._waiting))
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
