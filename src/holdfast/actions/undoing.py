"""Rolling back: the undos of an action's whole subtree, newest first, each an action of its own.

That a rollback has begun is durable before its first undo starts, a start before its body, and an end before the next one's start. So it
goes on after any crash, and an undo runs at least once. What gives up is passed over and listed: nothing is undone silently, and nothing
is left silently. The undos of a body that was abandoned, and may still act, are not run: both are listed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from holdfast.actions.asking import rolled_back_error
from holdfast.actions.decisions import Undone, asked
from holdfast.actions.performing import Action
from holdfast.actions.places import Place
from holdfast.actions.runtime import Registered, Runtime
from holdfast.actions.saves import UNSAVED
from holdfast.actions.scopes import Scope
from holdfast.actions.undos import recorded_order
from holdfast.clocks import clock
from holdfast.codec import encode_error
from holdfast.contexts import AT_ANY_COST, Context
from holdfast.errors import RollbackIncomplete, RunRolledBack
from holdfast.events import ActionAsked, ActionEnded, Event, Warned
from holdfast.journals.owning import is_alive, is_gone
from holdfast.orders import ActionID
from holdfast.states import Fold, Undo
from holdfast.status import Status


class UndoAction(Action):
    """An undo under way."""

    __slots__ = ()

    is_undo = True


async def roll_back(runtime: Runtime, top: ActionID, task: str, attempt: Scope | None, error: BaseException | None) -> BaseException:
    """Undo what was done below an action, whose rollback has begun, and record how that ended.

    Args:
        runtime: The run.
        top: The action.
        task: Its task's name.
        attempt: Its attempt, by which a run that keeps nothing knows what is below.
        error: How the action failed, if it did.

    Returns:
        What whoever asks for it gets: `error`, with a note of what became of its effects; without one, RunRolledBack or RollbackIncomplete.
    """
    if runtime.state is None:
        assert attempt is not None
        remains = await _undo_unrecorded(runtime, attempt)
    else:
        remains = await _undo_recorded(runtime, top)
    given = _given(runtime.run_name, task, error, remains)
    if runtime.durable:
        then = Status.FAILED if remains else Status.ROLLED_BACK
        encoded = encode_error(given, task=task)[0] if error is not None or remains else None
        await runtime.commit(ActionEnded(action=top.name, at=clock().now(), then=then, error=encoded, remains=remains))
    return given


def rolling_back(state: Fold, root: str, task: str, version: str | None, now: float) -> Iterator[Event]:
    """What makes a run without an owner begin to be undone; nothing, where it was begun already."""
    record = state.actions.get(root)
    if record is not None and record.status is Status.ROLLING_BACK:
        return  # what is unfinished now is an undo's, and goes on where it was
    if record is None:  # its process ended before the root was on record
        yield ActionAsked(action=root, at=now, task=task, version=version)
        yield ActionEnded(action=root, at=now, then=Status.CANCELLED)
    for unfinished in reversed(list(state.unfinished())):
        yield ActionEnded(action=unfinished.name, at=now, then=Status.CANCELLED)
    yield ActionEnded(action=root, at=now, then=Status.ROLLING_BACK)


def _given(run_name: str, task: str, error: BaseException | None, remains: tuple[str, ...]) -> BaseException:
    incomplete = RollbackIncomplete(task=task, run_name=run_name, listed="; ".join(remains), remains=remains)
    if error is None:
        return incomplete if remains else RunRolledBack(run_name=run_name, task=task)
    note = str(incomplete) if remains else f"{task} was rolled back"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
    return error


async def _undo_recorded(runtime: Runtime, top: ActionID) -> tuple[str, ...]:
    assert runtime.state is not None
    acting = _acting(runtime, top)
    remains = [
        f"attempt {number} of {runtime.state.actions[name].task} ({name}), which could not be stopped, and may still act {where}"
        for (name, number), where in acting.items()
    ]
    state = runtime.state
    for undo in state.undos_below(top.name):
        what = f"{undo.task}, which undoes {runtime.state.actions[undo.action].task} ({undo.action})"
        if any((undo.action, attempt) in acting for attempt in undo.attempts):
            remains.append(f"{what}: not run, since what it undoes may still act")
            continue
        try:
            await _run(runtime, top, undo)
        except Exception as error:
            if runtime.lost is not None:
                raise
            remains.append(f"{what}: {type(error).__name__}: {error}")
    for name in state.cut_short_below(top.name):  # what was cut short in a rollback of its own ends with this one
        if not state.undos_below(name) and not any(map(state.subtree(name), (acts for acts, _ in acting))):
            runtime.append(ActionEnded(action=name, at=clock().now(), then=Status.ROLLED_BACK))
    return tuple(remains)


async def _run(runtime: Runtime, top: ActionID, undo: Undo) -> None:
    """Run one undo to its outcome. Raises: what it raises for good, UndoMissing, ResultIncompatible, OutcomeUnknown, CrashLoop."""
    assert runtime.state is not None
    order = await recorded_order(runtime, undo)
    policy = order.definition.policy
    runtime.meet(order.definition, top.name)
    record = runtime.state.actions.get(undo.name)
    parent = Scope(runtime, top, order, 0, 0, UNSAVED, None)
    context = Context(custom_context=dict(undo.context), budgets=(*runtime.budgets, AT_ANY_COST))
    place = Place(undo.name, undo.name, 0, 0, "", "")
    decision = asked(record, None, policy)
    if isinstance(decision, Undone) and record is not None:  # it undoes itself when it fails, and did
        raise rolled_back_error(runtime.run_name, record)
    await UndoAction(runtime, parent, order, context, place, record, decision).begin(None)


async def _undo_unrecorded(runtime: Runtime, attempt: Scope) -> tuple[str, ...]:
    """The same where nothing is kept: each undo is a call of its own."""
    remains = [f"an attempt of {stray.task_name}, which could not be stopped, and may still act" for stray in runtime.strays]
    for undo in reversed([undo for undo in runtime.undos if _descends(undo, attempt)]):
        del runtime.undos[undo]
        scope = Scope(runtime, None, undo.order, 0, 0, UNSAVED, None)
        try:
            await runtime.ask(scope, undo.order, undo.context.replace(budgets=(*undo.context.budgets, AT_ANY_COST)), None)
        except Exception as error:
            remains.append(f"{undo.order.definition.policy.name}: {type(error).__name__}: {error}")
    return tuple(remains)


def _descends(undo: Registered, attempt: Scope) -> bool:
    """Whether an undo was registered below the action of an attempt, in whichever of its attempts: they have their order in common."""
    found: Scope | None = undo.attempt
    while found is not None and found.order is not attempt.order:
        found = found.parent
    return found is not None


def _acting(runtime: Runtime, top: ActionID) -> dict[tuple[str, int], str]:
    """The abandoned attempts below an action that may still act, by action and number, each with where that is.

    Of a process on another machine nothing can be known: then it is said that it was undone all the same.
    """
    assert runtime.state is not None
    is_below = runtime.state.subtree(top.name)
    acting = {(stray.identify().name, stray.number): "in this process" for stray in runtime.strays if is_below(stray.identify().name)}
    for record in runtime.state.actions.values():
        for attempt in record.attempts:
            if not attempt.abandoned or attempt.epoch == runtime.epoch or not is_below(record.name):
                continue
            owner = runtime.owners.get(attempt.epoch)
            if owner is not None and is_alive(owner):
                if owner.pid != os.getpid():  # of ours the strays are known
                    acting[record.name, attempt.number] = f"in process {owner.pid}"
            elif owner is None or not is_gone(owner):
                text = f"attempt {attempt.number} of {record.task} could not be stopped, nothing is known of its process, and it is undone"
                runtime.append(Warned(action=record.name, at=clock().now(), category="HoldfastWarning", text=text))
    return acting
