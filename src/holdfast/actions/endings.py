"""How attempts end: small questions about an end, and what of it goes on record."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from holdfast.actions.decisions import Conclusion
from holdfast.actions.recorded import BUILTIN
from holdfast.actions.runtime import Runtime
from holdfast.actions.scopes import Scope
from holdfast.attempts import Abandoned, Ended, Error, Outcome, Value
from holdfast.codec import encode_error
from holdfast.errors import (
    RunCancelled,
    RunStopped,
)
from holdfast.errors import Unrebuildable as UnrebuildableWarning
from holdfast.states import Fold
from holdfast.status import Status


def encode_failure(runtime: Runtime, action: str, task: str, error: Exception | None) -> Any:
    """A failure as it goes into the event; warns where it can't be rebuilt from that."""
    if error is None:
        return None
    tree, can_be_rebuilt = encode_error(error, task=task)
    if not can_be_rebuilt:
        kind = f"{type(error).__module__}:{type(error).__qualname__}"
        text = f"{task} failed with {kind}, which can't be rebuilt from record: on resume it is a RemoteFailure"
        runtime.warn(action, UnrebuildableWarning, text)
    return tree


def orphans(state: Fold | None, action: str, scope: Scope) -> tuple[str, ...]:
    """Recorded results of earlier attempts that the body, now done, never asked for."""
    if scope.asked is None or state is None:
        return ()
    behind = scope.rounds.ordinal if scope.loaded is not None else 0
    return tuple(
        child.name
        for child in state.children_of(action)
        if child.status is Status.COMPLETED
        and child.name not in scope.asked
        and child.round >= behind
        and not child.task.startswith(BUILTIN)
    )


def hangs_on_the_stop(scope: Scope, outcome: Outcome) -> bool:
    """Whether an outcome is what the body made of calls that were refused, since the run was asked to end."""
    if isinstance(outcome, Value):
        return scope.was_refused
    return isinstance(outcome, Error) and (scope.was_refused or isinstance(outcome.error, (RunStopped, RunCancelled)))


def count_cancels() -> int:
    """How often the present task was asked to end, and did not take it back."""
    present = asyncio.current_task()
    return present.cancelling() if present is not None else 0


def is_done(scope: Scope, outcome: Outcome) -> bool:
    """Whether the body returned, and left nothing to see to."""
    return isinstance(outcome, Value) and not scope.unstarted and not scope.children and scope.checkpoint_if_used is None


def given(outcome: Outcome, conclusion: Conclusion, *, is_durable: bool) -> Any:
    """Return the value of an attempt that COMPLETED, or raise what its end means. What ends a durable run is raised by `run` itself."""
    if conclusion.error is not None:
        raise conclusion.error
    match outcome:
        case Value(value):
            return value
        case Ended(cause) | Abandoned(cause):
            raise asyncio.CancelledError if is_durable and not isinstance(cause, asyncio.CancelledError) else cause
        case Error(error):
            raise error


def plain(values: Mapping[str, str]) -> dict[str, str]:
    """As a dict, which travels; nothing ever changes one that is in a context."""
    return values if type(values) is dict else dict(values)


async def ended(task: asyncio.Task[Any], runtime: Runtime) -> None:
    """Wait for a cancelled task, within the grace; being cancelled again does not cut it short."""
    began = runtime.loop.time()
    while not task.done() and (left := began + runtime.grace - runtime.loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError:
            continue
