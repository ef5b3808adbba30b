"""What a body leaves behind when it ends: actions that still run, saves and figures that are still written. They belong to its attempt."""

from __future__ import annotations

import asyncio

from holdfast.actions.scopes import Scope
from holdfast.attempts import Ended, Error, Outcome, Value
from holdfast.checkpoints import Checkpoint
from holdfast.errors import HoldfastWarning, LeftRunning


async def after_return(action: str, scope: Scope, outcome: Outcome) -> Outcome:
    """Await the actions that a body which returned left running, and what it still writes."""
    try:
        if scope.unstarted > 0:
            await asyncio.sleep(0)
        _warn_of_actions(action, scope)
        while True:
            while tasks := {child.task for child in scope.children.values() if child.task is not None}:
                await asyncio.wait(tasks)
            outcome = await finish_writing(scope, outcome)
            if not scope.children:
                return outcome
    except asyncio.CancelledError as cause:
        return Ended(cause)
    except HoldfastWarning as warning:  # whoever makes warnings errors means it
        return Error(warning, is_its_own=False)


def _warn_of_actions(action: str, scope: Scope) -> None:
    left = {child.task_name for child in scope.children.values() if child.task is None or not child.task.cancelling()}
    if not left:  # those that were cancelled are about to end
        return
    names = ", ".join(sorted(left))
    text = f"{scope.task_name} returned while actions that it began still ran; they are awaited: {names}. Await them in the body"
    scope.runtime.warn(action, LeftRunning, text)


async def finish_writing(scope: Scope, outcome: Outcome) -> Outcome:
    """See what is written behind to its end. Its failure is the attempt's, or a note on it."""
    if scope.abandoned or scope.runtime.lost is not None:
        return outcome
    if scope.checkpoint_if_used is not None:
        outcome = await _finish_saves(scope.checkpoint_if_used, outcome)
    if scope.drawn is not None:
        try:
            await scope.drawn.finish(is_returning=isinstance(outcome, Value))
        except HoldfastWarning as warning:  # whoever makes warnings errors means it
            outcome = Error(warning, is_its_own=False) if isinstance(outcome, Value) else outcome
    return outcome


async def _finish_saves(checkpoint: Checkpoint, outcome: Outcome) -> Outcome:
    try:
        await checkpoint.finish()
    except asyncio.CancelledError as cause:
        return Ended(cause) if isinstance(outcome, Value) else outcome
    except Exception as error:
        if isinstance(outcome, Value):
            return Error(error, is_its_own=False)
        if isinstance(outcome, Error):
            outcome.error.add_note(f"besides, at the attempt's end: {type(error).__name__}: {error}")
    return outcome
