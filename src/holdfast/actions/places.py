"""Where a call stands in its run's tree: worked out at one instant, when the call first runs."""

from __future__ import annotations

from typing import Any, NamedTuple

from holdfast.actions.scopes import Scope
from holdfast.contexts import Context
from holdfast.errors import (
    AmbiguousKey,
    InvalidOption,
    UnstableInput,
)
from holdfast.identity import BUILTIN, action_name, digest_inputs, free_variables
from holdfast.orders import Order, Policy


class Place(NamedTuple):
    """Where a call stands in its run's tree. `skips`: it is a row that is passed over when it fails."""

    name: str
    first: str
    occurrence: int
    round: int
    inputs: str
    bare: str
    skips: bool = False


def key_of(policy: Policy, order: Order) -> str | None:
    """What the task's `key=` says of a call; None without one. Raises: InvalidOption."""
    if policy.key is None:
        return None
    key = policy.key(*order.args, **order.kwargs)
    if not isinstance(key, str):
        raise InvalidOption(option="key", value=key, reason="it has to return a str")
    return key


def digest_of(order: Order) -> bytes:
    """The digest of a call's inputs. Raises: UnstableInput, TypeError."""
    return digest_inputs(order.definition.policy.name, _inputs_of(order))


def digests_of(order: Order) -> dict[str, str]:
    """A digest of each of a call's inputs by name: for saying which one differs. Raises: UnstableInput, TypeError."""
    return {name: digest_inputs(order.definition.policy.name, {name: value}).hex() for name, value in _inputs_of(order).items()}


def _inputs_of(order: Order) -> dict[str, Any]:
    """A call's arguments by name, and what its function closes over. Raises: TypeError."""
    definition = order.definition
    named = definition.signature.bind(order.args, order.kwargs)
    if not definition.bound_cells:
        return named
    return named | {f"<{name}>": value for name, value in free_variables(definition.fn).items()}


def place_of(scope: Scope, order: Order, context: Context) -> Place:
    """Work out the place of a call, at one instant. Raises: UnstableInput, AmbiguousKey, Doubted, TypeError."""
    policy = order.definition.policy
    parent, rounds, digest = scope.identify().name, scope.rounds, b""
    if policy.name.startswith(BUILTIN):
        inputs = b"b%d" % rounds.ordinal
        if (among := key_of(policy, order)) is not None:
            inputs += b"k" + among.encode()
        counted: tuple[tuple[str, str], ...] = ()
    else:
        key = key_of(policy, order) if policy.key is not None else None
        if key is None:
            inputs = b"d" + digest_of(order)
        else:
            digest = _digest_if_stable(order)
            inputs = b"k" + key.encode("utf-8", "surrogatepass")
            _check_key(scope, policy.name, key, digest)
        counted = _counted(context, policy) if context.counted else ()
    first = action_name(parent, policy.name, inputs, context.group, counted, 0)
    if scope.number > 0 and scope.runtime.state is not None:
        first = scope.runtime.state.text_of(first)
    number = rounds.next(first)
    name = first if number == 0 else action_name(parent, policy.name, inputs, context.group, counted, number)
    bare = action_name(parent, policy.name, inputs, context.group, (), number) if counted else ""
    return Place(name, first, number, rounds.ordinal, digest.hex() if digest else "", bare)


def first_name(scope: Scope, order: Order, context: Context) -> str:
    """The name of a call that an attempt makes once, of a task without a key. Raises: UnstableInput, TypeError."""
    policy = order.definition.policy
    return action_name(scope.identify().name, policy.name, b"d" + digest_of(order), context.group, _counted(context, policy), 0)


def _counted(context: Context, policy: Policy) -> tuple[tuple[str, str], ...]:
    keys = policy.context_keys
    return tuple(sorted((k, v) for k, v in context.counted.items() if keys is None or k in keys))


def _digest_if_stable(order: Order) -> bytes:
    try:
        return digest_of(order)
    except UnstableInput:
        return b""


def _check_key(scope: Scope, task: str, key: str, digest: bytes) -> None:
    if not digest:
        return
    known = scope.keys = scope.keys if scope.keys is not None else {}
    if known.setdefault(f"{task}\0{key}", (key, digest))[1] != digest:
        raise AmbiguousKey(task=task, key=key)
