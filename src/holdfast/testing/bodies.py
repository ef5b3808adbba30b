"""A body under test, without a run around it: `task_context(...)` makes `ctx()` work as in a chosen attempt."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Coroutine, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from holdfast.actions.asking import ask
from holdfast.actions.runtime import Runtime
from holdfast.actions.saves import Saves
from holdfast.actions.scopes import Scope
from holdfast.actions.undoing import roll_back
from holdfast.attempts import node
from holdfast.bridge import portal_loop, running_loop, wait_for_loop
from holdfast.checkpoints import Generation
from holdfast.clocks import clock
from holdfast.contexts import Context, TaskContext, ctx, put, take_back
from holdfast.engines.local import LocalEngine
from holdfast.errors import BlockingCall, InvalidContext, InvalidOption, NotDurable
from holdfast.folders.protocol import Folder
from holdfast.identity import action_name
from holdfast.orders import ActionID, Capsule, Order
from holdfast.tasks import Task, task
from holdfast.testing.stores import memory_folder


@task(name="task under test")
async def _under_test() -> None: ...


class _Rehearsal(Runtime):
    """An ephemeral run that does not warn of being one: under test that is meant."""

    def warn(self, action: str, category: type[Warning], text: str) -> None:
        if category is not NotDurable:
            super().warn(action, category, text)


@contextmanager
def task_context(
    *,
    task: Task[..., Any] = _under_test,
    attempt_number: int | None = None,
    checkpoint: object = None,
    custom_context: Mapping[str, str] | None = None,
    raw_data_path: str | os.PathLike[str] | None = None,
    run_name: str = "test",
) -> Generator[TaskContext]:
    """Within the block, `ctx()` is the context of an attempt of the given kind: call the body under test as `task.fn(...)`.

    Nothing is kept (`ctx().durable` is False). Calls of other tasks run at once, as outside a run. Works in a coroutine, and in a plain
    function or thread, where the `*_sync` verbs and `.sync` calls work too.

    Example::

        @task
        async def count(limit: int) -> int:
            done = await ctx().checkpoint.load(int) or 0
            while done < limit:
                done += 1
                await ctx().checkpoint.save(done)
            return ctx().attempt_number


        async def test_it_goes_on_where_it_was() -> None:
            with task_context(attempt_number=2, checkpoint=41) as attempt:
                assert await count.fn(42) == 2
                assert [saved.n for saved in await attempt.checkpoint.history()] == [0, 0]  # the earlier attempt's, and this one's

    Args:
        task: Whose name, version, retries and `keep` count.
        attempt_number: Which attempt this is; by default the first, or with a `checkpoint` the second.
        checkpoint: What an earlier attempt saved: anything that `checkpoint.save` takes; None for no checkpoint.
        custom_context: What `ctx().custom_context` holds, with what is bound around the block.
        raw_data_path: The attempt's own `ctx().raw_data_path`; without it, asking for one raises NoRawDataPath.
        run_name: The run's name in `ctx().action`.

    Raises:
        InvalidOption: A checkpoint, and no earlier attempt that could have saved it.
        InvalidContext: A value of `custom_context` is not a str.
        ForgottenAwait: At the block's end, of a `checkpoint.save(...)` that was never awaited.
    """
    number = attempt_number if attempt_number is not None else int(checkpoint is not None)
    if number < 0 or (checkpoint is not None and number == 0):
        raise InvalidOption(option="attempt_number", value=number, reason="a checkpoint is of an earlier attempt: take 1 or more")
    for key, value in (custom_context or {}).items():
        if not isinstance(value, str):
            raise InvalidContext(key=key, type_name=type(value).__name__)
    order, folder = Order(task.definition, (), {}), memory_folder()
    action = ActionID(action_name("", task.name, b"k", (), (), 0), run_name, None)
    base = _saved_before(run_name, folder, order, action, number - 1, checkpoint) if checkpoint is not None else None
    runtime = _runtime(running_loop() or portal_loop(), run_name, folder)
    scope = Scope(runtime, action, order, number, 0, Saves(base.order if base is not None else None), None)
    values = {**Context.current().custom_context, **(custom_context or {})}
    scope.capsule = capsule = _capsule(scope, values, os.fspath(raw_data_path) if raw_data_path is not None else None)
    token = put(node(capsule, scope))
    try:
        yield ctx()
    except BaseException:
        _end(scope)
        raise
    else:
        forgotten = _finish(scope)
        _end(scope)
        if forgotten is not None:
            raise forgotten
    finally:
        take_back(token)


def _runtime(loop: asyncio.AbstractEventLoop, run_name: str, folder: Folder) -> Runtime:
    async def make() -> Runtime:
        return _Rehearsal(
            run_name=run_name,
            run_id=secrets.token_hex(8),
            engine=LocalEngine(),
            ask=ask,
            roll_back=roll_back,
            started_at=clock().now(),
            grace=30.0,
            folder=folder,
        )

    work = make()
    if running_loop() is not loop:
        return wait_for_loop(work, loop)
    try:
        work.send(None)
    except StopIteration as end:
        made: Runtime = end.value
        return made
    raise AssertionError("making it waits for nothing")


def _saved_before(run_name: str, folder: Folder, order: Order, action: ActionID, number: int, data: object) -> Generation:
    """Let an earlier attempt save. It lives on the portal's loop, since this frame may be on the loop of the test."""
    portal = portal_loop()
    if running_loop() is portal:
        raise BlockingCall(task="task_context(checkpoint=...)", instead="asyncio.to_thread")
    earlier = Scope(_runtime(portal, run_name, folder), action, order, number, 0, Saves(None), None)

    async def save() -> Generation:
        saved: Generation = await earlier.checkpoint.save(data)
        await asyncio.to_thread(earlier.checkpoint.discard)
        return saved

    return wait_for_loop(save(), portal)


def _capsule(scope: Scope, values: Mapping[str, str], raw_data_path: str | None) -> Capsule:
    policy, runtime = scope.policy, scope.runtime
    return Capsule(
        ownership=runtime.ownership,
        action=scope.identify(),
        attempt_number=scope.number,
        max_attempts=policy.retry.max_attempts,
        retries_left=max(policy.retry.max_attempts - 1 - scope.number, 0),
        version=policy.version,
        raw_data_path=raw_data_path,
        raw_data_base=raw_data_path,
        custom_context=values,
        counted_context={},
        group=(),
        deadline=None,
    )


def _finish(scope: Scope) -> Exception | None:
    """Wait for what is written behind, and return what the attempt would fail with at its end."""
    checkpoint = scope.checkpoint_if_used
    if checkpoint is None:
        return None
    try:
        _settle(scope, checkpoint.finish())
    except Exception as error:
        return error
    return None


def _end(scope: Scope) -> None:
    async def end() -> None:
        scope.cancel_children()
        await scope.runtime.engine.aclose()

    scope.ended = True
    _settle(scope, end())
    if scope.checkpoint_if_used is not None:
        scope.checkpoint_if_used.discard()


def _settle(scope: Scope, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` on the attempt's loop. On that loop itself, what it has to wait for (a save in the background) is left as it is."""
    if running_loop() is not scope.loop:
        wait_for_loop(work, scope.loop)
        return
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
