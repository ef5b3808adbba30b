"""How attempts end: small questions about an end, and what of it goes on record."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from holdfast.actions.decisions import Conclusion
from holdfast.actions.runtime import Runtime
from holdfast.actions.scopes import Beside, Scope
from holdfast.attempts import Abandoned, Ended, Error, Outcome, Value
from holdfast.codec import encode_error
from holdfast.errors import (
    RunCancelled,
    RunStopped,
)
from holdfast.errors import Unrebuildable as UnrebuildableWarning
from holdfast.identity import BUILTIN
from holdfast.states import Fold
from holdfast.status import Status

_NO_VALUES: dict[str, str] = {}


def encode_failure(runtime: Runtime, action: str, task: str, error: Exception) -> Any:
    """A failure as it goes into the event; warns where it can't be rebuilt from that."""
    tree, can_be_rebuilt = encode_error(error, task=task)
    if not can_be_rebuilt:
        kind = f"{type(error).__module__}:{type(error).__qualname__}"
        text = f"{task} failed with {kind}, which can't be rebuilt from record: on resume it is a RemoteFailure"
        runtime.warn(action, UnrebuildableWarning, text)
    return tree


def orphans(state: Fold, action: str, scope: Scope) -> tuple[str, ...]:
    """Recorded results of earlier attempts that the body, now done, never asked for."""
    behind = scope.rounds.ordinal if scope.loaded is not None else 0
    return tuple(
        child.name
        for child in state.children_of(action, unless=lambda name: scope.rounds.has_counted(name, 0))
        if child.status is Status.COMPLETED
        and not scope.rounds.has_counted(child.first, child.occurrence)
        and child.round >= behind
        and not child.task.startswith(BUILTIN)
        and child.name not in state.undos
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
    if not isinstance(outcome, Value) or scope.unstarted or scope.children:
        return False
    return scope.checkpoint_if_used is None and scope.drawn is None and scope.exits is None


def of_being_ended(scope: Scope, outcome: Error) -> Outcome:
    """How a body ended that had been asked to: what it raised on its way out does not take the place of that.

    A `def` body is not interrupted. What it raises is its own failure, unless actions that it waited for were cancelled, or its hooks were
    called: they may have taken from it what it worked with.
    """
    cause = cancellation_behind(outcome.error)
    is_cleanup = scope.order.definition.is_async or cause is not None
    if not is_cleanup and not (scope.exits is not None and scope.exits.has_begun):
        return outcome
    scope.keep_beside(Beside("its clean-up" if is_cleanup else "its body", outcome.error, is_expected=not is_cleanup))
    return Ended(cause if cause is not None else asyncio.CancelledError())


def cancellation_behind(error: BaseException) -> asyncio.CancelledError | None:
    """The cancellation while which an error was raised, if it was."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        found = pending.pop()
        if isinstance(found, asyncio.CancelledError):
            return found
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            pending += [found.__context__, found.__cause__]
    return None


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
    return values if type(values) is dict else dict(values) if values else _NO_VALUES
