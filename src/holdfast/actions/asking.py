"""Asking for an action: its place, what is on record there, and the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from holdfast.actions.budgets import count_record
from holdfast.actions.decisions import ANEW, RECENT, Asked, Replay, Standing, Undone, asked
from holdfast.actions.performing import Action
from holdfast.actions.places import Place, key_of, place_of
from holdfast.actions.runtime import Runtime
from holdfast.actions.scopes import Scope
from holdfast.actions.values import is_inline, read_value
from holdfast.attempts import Value
from holdfast.clocks import clock
from holdfast.codec import Codec, decode_error
from holdfast.contexts import Context
from holdfast.errors import (
    AmbiguousKey,
    AmbiguousLoop,
    ContextChanged,
    DoubtfulReuse,
    RunCancelled,
    RunRolledBack,
    RunStopped,
)
from holdfast.events import CheckpointsSetAside, Replayed
from holdfast.identity import BUILTIN
from holdfast.orders import Order, Policy
from holdfast.retention import Generation3
from holdfast.rounds import Doubted
from holdfast.states import Record
from holdfast.status import Status


async def ask(
    scope: Scope, order: Order, context: Context, call: object, place: Place | None = None, standing: Standing = RECENT
) -> Any:  # fmt: skip
    """Ask for an action in a running attempt, and return its outcome.

    Args:
        scope: The attempt that asks.
        order: What it asks for.
        context: The node in which the call was made.
        call: The coroutine that is being awaited: where it is a task's own, the action runs in that task.
        place: The place of the call, where it was taken before.
        standing: Which recorded failures are its answer.
    """
    return await asking(scope, order, context, call, place, standing)


def asking(
    scope: Scope, order: Order, context: Context, call: object, place: Place | None = None, standing: Standing = RECENT
) -> Coroutine[Any, Any, Any]:  # fmt: skip
    """As `ask`, from this very line on: the place is taken before anything is awaited, and what is awaited keeps no more than it needs."""
    runtime = scope.runtime
    check_asking(scope, order)
    order.definition.result_codec()  # what can't be recorded is refused before it begins
    if runtime.state is None:
        return _done(scope, Action(runtime, scope, order, context, None, None, ANEW), call)
    if place is None:
        try:
            place = noted_place(scope, order, context)
        except Doubted as doubted:
            return _refused(scope, order, doubted)
    if runtime.is_resumed or place.name in runtime.live or place.name in runtime.state.actions:
        return _asked(scope, order, context, call, place, standing)
    return _done(scope, Action(runtime, scope, order, context, place, None, ANEW), call)


async def _asked(
    scope: Scope, order: Order, context: Context, call: object, place: Place, standing: Standing
) -> Any:  # fmt: skip
    """Ask for an action of which something may be known."""
    runtime, name = scope.runtime, place.name
    try:
        while (live := runtime.live.get(name)) is not None and live.task is not None:
            await asyncio.wait({live.task})
        record, decision = _on_record(scope, order, place, standing)
        if record is not None and context.budgets is not scope.budgets:
            if record.status is not Status.COMPLETED:
                await runtime.barrier()  # an attempt that was cancelled a moment ago may have spent something
            _count_record(scope, context, record)
        if record is not None and isinstance(decision, Replay):
            return await _replay(scope, record, place, order.definition.result_codec(), context.group)
        action = Action(runtime, scope, order, context, place, record, decision)
        del place, record  # for as long as the action takes, its name is enough
        return await _done(scope, action, call)
    finally:
        scope.undelivered.pop(name, None)


async def _done(scope: Scope, action: Action, call: object) -> Any:
    """Have an action done, and return its outcome."""
    try:
        scope.wait_begins()
        try:
            return await action.begin(call)
        finally:
            if scope.wait_ends():
                await scope.proceed()
            if scope.runtime.closing is not None:
                scope.runtime.closing.look()
    finally:
        scope.undelivered.pop(action.name, None)


async def _refused(scope: Scope, order: Order, doubted: Doubted) -> Any:
    raise await doubted_error(scope, order, doubted) from None


def answer_now(scope: Scope, order: Order, place: Place, context: Context) -> Value | None:
    """The recorded result of a call whose place was taken, where it can be given at once; else None, and it is to be asked for.

    Raises: AmbiguousKey, ResultIncompatible, DoubtfulReuse, where a warning is an error.
    """
    runtime = scope.runtime
    record = runtime.state.actions.get(place.name) if runtime.state is not None else None
    if record is None or record.status is not Status.COMPLETED or not is_inline(record) or place.name in runtime.live:
        return None
    if not isinstance(_decision(scope, order, place, record, RECENT), Replay):
        return None
    scope.undelivered.pop(place.name, None)
    _count_record(scope, context, record)
    _note_replay(scope, record, place, context.group)
    return Value(order.definition.result_codec().decode(record.value, {}))


def _count_record(scope: Scope, context: Context, record: Record) -> None:
    if context.budgets is not scope.budgets and scope.runtime.state is not None:
        count_record(scope.runtime.state, scope.budgets, context, record)


def check_asking(scope: Scope, order: Order) -> None:
    """Raise what a call is refused with: its attempt is over, or the run was lost, or asked to end."""
    if scope.ended or scope.abandoned:
        scope.check(f"a call of {order.definition.policy.name}")
    if scope.runtime.lost is not None:
        raise scope.runtime.lost
    if scope.runtime.stop is not None:
        scope.was_refused = True
        raise stopped_error(scope.runtime)


async def doubted_error(scope: Scope, order: Order, doubted: Doubted) -> AmbiguousLoop:
    """What a call is refused with that shows an earlier answer to have been another round's; what rests on that is set aside by then."""
    await _set_aside(scope, doubted.first)
    return AmbiguousLoop(task=order.definition.policy.name)


def noted_place(scope: Scope, order: Order, context: Context) -> Place:
    """The place of a call, noted as asked for. Raises: UnstableInput, AmbiguousKey, DuplicateTask, Doubted, TypeError."""
    if not order.definition.policy.name.startswith(BUILTIN):
        scope.runtime.meet(order.definition, scope.identify().name)
    place = place_of(scope, order, context)
    scope.ask_for(place.name)
    return place


def _on_record(scope: Scope, order: Order, place: Place, standing: Standing) -> tuple[Record | None, Asked]:
    """What is known of the action, and what asking for it means now. Raises: AmbiguousKey, RunRolledBack."""
    runtime, policy = scope.runtime, order.definition.policy
    assert runtime.state is not None
    record = runtime.state.actions.get(place.name)
    if record is None:
        _hint_at_context(scope, place, policy)
        return None, ANEW
    return record, _decision(scope, order, place, record, standing)


def _decision(scope: Scope, order: Order, place: Place, record: Record, standing: Standing) -> Asked:
    """What asking for an action on record means now. Raises: AmbiguousKey, RunRolledBack."""
    policy = order.definition.policy
    if record.inputs and place.inputs and record.inputs != place.inputs:
        raise AmbiguousKey(task=policy.name, key=key_of(policy, order) or "")
    decision = asked(record, scope.present_try, policy, standing)
    if isinstance(decision, Undone):
        raise rolled_back_error(scope.runtime.run_name, record)
    return decision


def rolled_back_error(run_name: str, record: Record) -> RunRolledBack:
    """What whoever asks for an action gets that was rolled back; how it had failed is the cause."""
    error = RunRolledBack(run_name=run_name, task=record.task)
    error.__cause__ = decode_error(record.error) if record.error is not None else None
    return error


def stopped_error(runtime: Runtime) -> RunStopped | RunCancelled:
    """What a caller gets, once the run was asked to end."""
    if runtime.stop is not None and runtime.stop.status is Status.CANCELLED:
        return RunCancelled(run_name=runtime.run_name)
    return RunStopped(run_name=runtime.run_name, reason=runtime.stop.reason if runtime.stop is not None else "")


async def _set_aside(scope: Scope, first: str) -> None:
    """Make durable that what this attempt saved since its doubtful answer is not to be loaded, and that `first` is a loop's."""
    since: Generation3 = scope.rounds.unsound or (scope.epoch, scope.number, 0)
    until = (scope.epoch, scope.number, 10**6)
    await scope.runtime.commit(
        CheckpointsSetAside(action=scope.identify().name, at=clock().now(), since=since, until=until, first=first)
    )  # fmt: skip


def _hint_at_context(scope: Scope, place: Place, policy: Policy) -> None:
    runtime = scope.runtime
    if not runtime.is_resumed or runtime.state is None or policy.name.startswith(BUILTIN):
        return
    twin = runtime.state.differing_in_context(place.bare or place.name)
    if twin is not None and twin.name != place.name and runtime.first_context_change(policy.name):
        text = f"a call of {policy.name} runs again, since its custom context differs from the recorded one (context_keys=() counts none)"
        runtime.warn(scope.identify().name, ContextChanged, text)


async def _replay(scope: Scope, record: Record, place: Place, codec: Codec, group: tuple[str, ...]) -> Any:
    """Give the recorded outcome. Raises: the recorded failure; ResultIncompatible, BlobCorrupt."""
    _note_replay(scope, record, place, group)
    if record.status is not Status.COMPLETED:
        raise decode_error(record.error or {})
    return await read_value(scope.runtime.blobs, record, codec)


def _note_replay(scope: Scope, record: Record, place: Place, group: tuple[str, ...]) -> None:
    runtime = scope.runtime
    if scope.rounds.reused(place.first, record.round) and scope.rounds.first_told(record.task):
        text = (
            f"a call of {record.task} was answered from before the loaded save; if it is a round of a loop, call inside `with group(...)`"
        )
        runtime.warn(scope.identify().name, DoubtfulReuse, text)
    if scope.rounds.doubtful:
        scope.doubt()
    scope.replayed = scope.replayed if scope.replayed is not None else []
    scope.replayed.append(place.name)  # whose text the record need not keep alive
    if runtime.tell is not None:
        parent = scope.identify().name
        runtime.tell(
            Replayed(action=record.name, at=clock().now(), task=record.task, status=record.status, parent=parent, group=group)
        )  # fmt: skip
