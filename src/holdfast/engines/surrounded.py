"""An engine whose bodies run within what observers set up around them, such as a tracer's current span.

It stands between a run and its engine only where an observer asks for it. What an observer's `around` sets in context variables is set in
the attempt's own asyncio task, so the body sees it, a `def` body in its thread too, and nobody else does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from holdfast.attempts import Error, Outcome, Value
from holdfast.contexts import TRACE_KEYS, Link
from holdfast.engines.protocol import Engine
from holdfast.errors import InvalidContext, InvalidOption
from holdfast.frozen import Frozen
from holdfast.orders import ActionID, Capsule, Order
from holdfast.telling import IN_ITS_CALL, Surrounding

_NO_ERROR = (None, None, None)


class Body(Frozen):
    """A body that is about to run: of which task, as which attempt.

    Attributes:
        task: The task's name.
        function: `module:qualname` of the function.
        action: The action's id, with those above it.
        attempt_number: From 0.
        max_attempts: How many `retries` allows for one asking.
        retries_left: How many failures of this asking would still be followed by another attempt.
        group: Groups bound around the call.
        custom_context: The values bound around the call.
    """

    task: str
    function: str
    action: ActionID
    attempt_number: int
    max_attempts: int
    retries_left: int
    group: tuple[str, ...]
    custom_context: Mapping[str, str]


class Surrounded:
    """Carries orders by another engine, within what observers set up. One of these that fails is counted, and left out."""

    def __init__(self, engine: Engine, surroundings: Sequence[Surrounding]) -> None:
        self._engine = engine
        self._surroundings = surroundings
        self._bound: dict[int, Capsule] = {}  # by the id of the capsule that it stands for

    async def run(self, order: Order, capsule: Capsule, link: Link) -> Outcome:
        """Raises: what the engine raises, which is nothing but the end of a loop."""
        body = _body(order, capsule, link)
        entered, trace = self._enter(body)
        bound = capsule._replace(custom_context={**capsule.custom_context, **trace}) if trace else capsule
        self._bound[id(capsule)] = bound
        cause: BaseException | None = None
        try:
            outcome = await self._engine.run(order, bound, link)
            cause = _cause(outcome)
            return outcome
        finally:
            del self._bound[id(capsule)]
            _leave(entered, cause)

    def _enter(self, body: Body) -> tuple[list[tuple[Surrounding, AbstractContextManager[Any]]], dict[str, str]]:
        entered: list[tuple[Surrounding, AbstractContextManager[Any]]] = []
        trace: dict[str, str] = {}
        for surrounding in self._surroundings:
            try:
                manager = surrounding.around(body)
                given = manager.__enter__()
            except IN_ITS_CALL:
                surrounding.note_failure()
                continue
            entered.append((surrounding, manager))
            try:
                trace.update(_trace_keys(given))
            except IN_ITS_CALL:
                surrounding.note_failure()
        return entered, trace

    def pause(self, capsule: Capsule) -> bool:
        return self._engine.pause(self._bound.get(id(capsule), capsule))

    async def proceed(self, capsule: Capsule) -> None:
        await self._engine.proceed(self._bound.get(id(capsule), capsule))

    async def aclose(self) -> None:
        await self._engine.aclose()


def _body(order: Order, capsule: Capsule, link: Link) -> Body:
    definition = order.definition
    return Body(
        task=definition.policy.name,
        function=":".join(definition.home),
        action=capsule.action if capsule.action is not None else link.identify(),
        attempt_number=capsule.attempt_number,
        max_attempts=capsule.max_attempts,
        retries_left=capsule.retries_left,
        group=capsule.group,
        custom_context=capsule.custom_context,
    )


def _trace_keys(given: Mapping[str, str] | None) -> dict[str, str]:
    """What may be bound without changing which action a call is. Raises: InvalidContext, InvalidOption."""
    values = dict(given) if given is not None else {}
    for key, value in values.items():
        if not isinstance(value, str):
            raise InvalidContext(key=key, type_name=type(value).__name__)
        if key not in TRACE_KEYS:
            raise InvalidOption(option="around", value=key, reason=f"it may bind {', '.join(sorted(TRACE_KEYS))}")
    return values


def _cause(outcome: Outcome) -> BaseException | None:
    if isinstance(outcome, Value):
        return None
    return outcome.error if isinstance(outcome, Error) else outcome.cause


def _leave(entered: Sequence[tuple[Surrounding, AbstractContextManager[Any]]], cause: BaseException | None) -> None:
    """Newest first. What they return is not asked for: nobody takes an error from the work."""
    for surrounding, manager in reversed(entered):
        try:
            manager.__exit__(*(_NO_ERROR if cause is None else (type(cause), cause, cause.__traceback__)))
        except IN_ITS_CALL:
            surrounding.note_failure()
