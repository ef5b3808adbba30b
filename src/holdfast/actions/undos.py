"""Undos on record: which call undoes what, kept so that another process can make that call.

`await ctx().on_rollback(undo, ...)` registers one before an effect, as an intent; `@task(rollback=undo)` one with each completion.
Arguments are recorded through the undo's own annotations. `actions.undoing` runs them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, Protocol, get_type_hints

from holdfast.actions.runtime import Registered, Runtime
from holdfast.actions.values import keep, kept
from holdfast.blobs import Naming
from holdfast.clocks import clock
from holdfast.codec import Codec, Encoded, codec_for, parts_of, to_json
from holdfast.contexts import Context
from holdfast.errors import InvalidTask, UndoMissing, UnstableInput
from holdfast.events import UndoRegistered
from holdfast.identity import action_name, digest_inputs, free_variables
from holdfast.orders import ActionID, Definition, Order, find_definition, is_found
from holdfast.rounds import Rounds
from holdfast.states import Undo

RESULT: Final = "result"
"""The parameter of a `rollback=` task that gets what the task returned."""


class Registrant(Protocol):
    """The attempt that registers an undo."""

    number: int
    runtime: Runtime

    @property
    def rounds(self) -> Rounds: ...

    def identify(self) -> ActionID: ...


async def register(attempt: Registrant, order: Order, context: Context) -> None:
    """Make durable that a rollback runs this order.

    The same call at the same place in the body is the same undo, whichever attempt registers it, as with the built-ins of `ctx()`: until
    it was run. What is done after that has an undo of its own.

    Raises: TypeError, UnrecordableResult, DuplicateTask, InvalidTask.
    """
    definition, runtime = order.definition, attempt.runtime
    named = definition.signature.bind(order.args, order.kwargs)
    definition.result_codec()
    if runtime.durable:
        check_findable(definition)
    else:
        runtime.undos[Registered(attempt, order, context)] = None
        return
    action = attempt.identify().name
    runtime.meet(definition, action)
    encoded = arguments_of(definition).encode(named)
    inputs = b"u%d" % attempt.rounds.ordinal + _digest(definition, named, encoded)
    first = action_name(action, definition.policy.name, inputs, context.group, (), 0)
    number = attempt.rounds.next(first)
    name = first if number == 0 else action_name(action, definition.policy.name, inputs, context.group, (), number)
    assert runtime.blobs is not None
    assert runtime.state is not None
    while (known := runtime.state.undos.get(name)) is not None and runtime.state.is_done(known):
        name = action_name(name, definition.policy.name, inputs, context.group, (), 0)
    with runtime.blobs.naming() as naming:
        value = await keep(naming, encoded)
        runtime.append(_registered(definition, action, attempt.number, name, value, context.custom_context, when_completed=False))
        await runtime.barrier()


def check_findable(definition: Definition) -> None:
    """Raises: InvalidTask, where the call that a rollback makes would not be the one that was registered."""
    name = definition.policy.name
    if definition.bound_cells:
        closes = ", ".join(free_variables(definition.fn))
        raise InvalidTask(what=f"the undo {name}", reason=f"it closes over {closes}, which is on no record; pass it as an argument")
    if not is_found(definition):
        reason = "its options are on no record; give them to @task, or make it a task of its own at the top of its module, with name="
        raise InvalidTask(what=f"the undo {name}, as with_options changed it,", reason=reason)


class Completion:
    """The undo of `@task(rollback=...)`, made ready before the body begins: the arguments are those that the task is called with."""

    def __init__(self, undo: Definition, order: Order, context: Context) -> None:
        """Raises: UnrecordableResult."""
        named = order.definition.signature.bind(order.args, order.kwargs)
        self._undo = undo
        self._named = {name: named[name] for name in undo.signature.names if name in named}
        self._context = context
        undo.result_codec()
        self._encoded = arguments_of(undo).encode(self._named)

    async def event(self, attempt: Registrant, naming: Naming) -> UndoRegistered:
        """What goes on record just before the attempt's own end."""
        action = attempt.identify().name
        name = action_name(action, self._undo.policy.name, b"c%d" % attempt.number, (), (), 0)
        value = await keep(naming, self._encoded)
        return _registered(self._undo, action, attempt.number, name, value, self._context.custom_context, when_completed=True)

    def order(self, result: Any) -> Order:
        """The call itself, for a run that keeps nothing."""
        return order_of(self._undo, self._named | _taken(self._undo, result))


async def recorded_order(runtime: Runtime, undo: Undo) -> Order:
    """The call that a recorded undo makes. Raises: UndoMissing, ResultIncompatible, StoreError."""
    definition = find(undo)
    arguments = arguments_of(definition)
    named = arguments.decode(*await kept(runtime.blobs, undo.value, undo.blob))
    if RESULT in definition.signature.names and RESULT not in named:
        named[RESULT] = arguments.codec(RESULT).decode(*await kept(runtime.blobs, *undo.result))
    return order_of(definition, named)


def find(undo: Undo) -> Definition:
    """The task of a recorded undo. Raises: UndoMissing."""
    try:
        found = find_definition(undo.task, undo.function)
    except Exception as error:  # whatever importing a user's module raises
        raise UndoMissing(task=undo.task, function=undo.function) from error
    if found is None:
        raise UndoMissing(task=undo.task, function=undo.function)
    return found


class Arguments:
    """How the arguments of a task are recorded: each through the annotation of its parameter."""

    def __init__(self, definition: Definition) -> None:
        function = inspect.unwrap(definition.fn)
        said = getattr(function, "__holdfast_hints__", None)  # of a function that is made: its annotations
        try:
            self._annotations: Mapping[str, Any] = get_type_hints(function, include_extras=True) if said is None else said()
        except (NameError, TypeError):  # they name things of a local scope
            self._annotations = {}
        parameters = inspect.signature(function).parameters.values()
        self._many = {p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        self._definition = definition

    def codec(self, parameter: str) -> Codec:
        """Raises: UnrecordableResult."""
        annotation = inspect.Signature.empty if parameter in self._many else self._annotations.get(parameter, inspect.Signature.empty)
        policy = self._definition.policy
        return codec_for(annotation, task=f"{policy.name}, its argument {parameter}", pickle=policy.codec == "pickle")

    def encode(self, named: Mapping[str, Any]) -> Encoded:
        """Raises: UnrecordableResult, naming the argument."""
        encoded = {name: self.codec(name).encode(value) for name, value in named.items()}
        parts = {digest: data for each in encoded.values() for digest, data in each.parts.items()}
        return Encoded({name: each.tree for name, each in encoded.items()}, parts)

    def decode(self, tree: Any, parts: Mapping[str, bytes]) -> dict[str, Any]:
        """Raises: ResultIncompatible."""
        return {name: self.codec(name).decode(part, parts) for name, part in tree.items()}


@functools.lru_cache(maxsize=1024)
def arguments_of(definition: Definition) -> Arguments:
    return Arguments(definition)


def order_of(definition: Definition, named: Mapping[str, Any]) -> Order:
    """The call of a task with these arguments. What has a default may be missing."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    in_order = True
    for parameter in inspect.signature(definition.fn).parameters.values():
        if parameter.name not in named:
            in_order = False
            continue
        value = named[parameter.name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            args.extend(value)
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs.update(value)
        elif in_order and parameter.kind is not parameter.KEYWORD_ONLY:
            args.append(value)
        else:
            kwargs[parameter.name] = value
    return Order(definition, tuple(args), kwargs)


def _registered(
    definition: Definition,
    action: str,
    attempt: int,
    name: str,
    value: tuple[Any, str],
    context: Mapping[str, str],
    *,
    when_completed: bool,
) -> UndoRegistered:
    return UndoRegistered(
        action=action,
        at=clock().now(),
        attempt=attempt,
        name=name,
        task=definition.policy.name,
        function=definition.function,
        value=value[0],
        blob=value[1],
        context=dict(context),
        when_completed=when_completed,
    )


def _digest(definition: Definition, named: Mapping[str, Any], encoded: Encoded) -> bytes:
    try:
        return digest_inputs(definition.policy.name, dict(named))
    except UnstableInput:  # recorded all the same: what is on record tells it apart
        return blake2b(to_json([encoded.tree, parts_of(encoded.tree)])).digest()


def _taken(undo: Definition, result: Any) -> dict[str, Any]:
    return {RESULT: result} if RESULT in undo.signature.names else {}
