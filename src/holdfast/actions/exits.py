"""What an attempt asked to be called where it ends otherwise than by returning.

The hooks are called in a task of their own, so that nothing that ends the attempt ends them too: newest first, one after the other, all of
them within the grace. What one of them raises is kept beside the attempt's end, and never takes its place.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Any, NamedTuple, cast

from holdfast.actions.runtime import Runtime
from holdfast.bridge import Threads
from holdfast.contexts import Context, TaskContext, put

_log = logging.getLogger("holdfast")


class Hook(NamedTuple):
    """A registered call, and the context variables around the line that registered it."""

    fn: Callable[..., object]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    variables: Variables

    @property
    def name(self) -> str:
        return str(getattr(self.fn, "__qualname__", None) or repr(self.fn))

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.fn) or inspect.iscoroutinefunction(getattr(self.fn, "__call__", None))  # noqa: B004 - it is


class Exits:
    """The hooks of one attempt.

    Args:
        runtime: The run.
        task: The task's name.
        seen: What `ctx()` is in a hook: the attempt, ended.
        keep: Called with the name of each hook that failed, and its error.
    """

    def __init__(self, runtime: Runtime, task: str, seen: TaskContext, keep: Callable[[str, BaseException], None]) -> None:
        self._runtime = runtime
        self._task = task
        self._seen = seen
        self._keep = keep
        self._hooks: list[Hook] = []
        self._began: float | None = None
        self._caller: asyncio.Task[None] | None = None
        self._threads: Threads | None = None
        self._is_over = False

    @property
    def has_begun(self) -> bool:
        return self._began is not None

    def add(self, fn: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Register a hook; from any thread. Where the others are being called already, this one is called next."""
        variables = copy_context()
        variables.run(lambda: put(Context.current().replace(task_context=self._seen)))
        self._hooks.append(Hook(fn, args, kwargs, variables))
        if self._began is not None:
            self._runtime.loop.call_soon_threadsafe(self.begin)

    def begin(self) -> None:
        """Call them from now on. Called on the loop."""
        if self._began is None:
            self._began = self._runtime.loop.time()
        if self._hooks and (self._caller is None or self._caller.done()):
            self._caller = self._runtime.loop.create_task(self._call_all(), name=f"{self._task} (on_exit)")

    async def over(self) -> None:
        """Call them, and return when all have ended, or the grace is over. Being cancelled does not cut it short."""
        self.begin()
        while self._caller is not None and not self._caller.done() and (left := self._left()) > 0:
            try:
                await asyncio.wait({self._caller}, timeout=left)
            except asyncio.CancelledError:
                continue
        self._is_over = True

    def _left(self) -> float:
        assert self._began is not None
        return self._began + self._runtime.grace - self._runtime.loop.time()

    async def _call_all(self) -> None:
        while self._hooks:
            share = max(self._left(), 0.0) / len(self._hooks)  # so that one that hangs leaves something to the others
            await self._call(self._hooks.pop(), share)
        if self._threads is not None:
            self._threads.close()
            self._threads = None

    async def _call(self, hook: Hook, seconds: float) -> None:
        called = self._runtime.loop.create_task(self._outcome(hook), name=f"{self._task} (on_exit {hook.name})", context=hook.variables)
        await asyncio.wait({called}, timeout=seconds)
        if not called.done():
            called.cancel()
            called.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._failed(hook, TimeoutError("it did not end within its share of the grace"))
        elif called.cancelled():
            self._failed(hook, asyncio.CancelledError())
        elif (error := called.exception() or called.result()) is not None:
            self._failed(hook, error)

    async def _outcome(self, hook: Hook) -> BaseException | None:
        try:
            given = hook.fn(*hook.args, **hook.kwargs) if hook.is_async else await self._in_thread(hook)
            if inspect.isawaitable(given):
                await given
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # raised in a task, what ends a process would end the loop
            return error
        return None

    async def _in_thread(self, hook: Hook) -> object:
        self._threads = self._threads if self._threads is not None else Threads("holdfast-exit")
        variables = hook.variables.copy()
        pool = cast("Executor", self._threads)  # as far as a loop asks for one
        work = self._runtime.loop.run_in_executor(pool, lambda: variables.run(hook.fn, *hook.args, **hook.kwargs))
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(work)

    def _failed(self, hook: Hook, error: BaseException) -> None:
        if self._is_over:  # the attempt's end is on record
            _log.warning("%s: on_exit %s: %s: %s", self._task, hook.name, type(error).__name__, error)
        else:
            self._keep(hook.name, error)
