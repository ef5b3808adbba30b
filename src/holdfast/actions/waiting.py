"""The actions behind `ctx().sleep` and `ctx().receive`: what goes on waiting after a crash, and what takes from the inbox.

Until when an action waits is durable before it waits. Asked for again after a crash or stop, it waits for the rest, by the wall clock; but
never for longer than it was told, should that clock be set back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from holdfast.actions.inbox import SLICE_SECONDS, Turn
from holdfast.actions.recorded import built_in
from holdfast.actions.runtime import Runtime
from holdfast.clocks import clock
from holdfast.codec import Codec
from holdfast.contexts import Context, link_of
from holdfast.errors import ReceivedInvalid, ReceiveTimedOut, ResultIncompatible
from holdfast.events import WaitBegun
from holdfast.orders import ActionID, Definition
from holdfast.retries import Retry
from holdfast.topics import Entry

#: A process that dies while it waits, dies of something else.
_CRASHES: Final = Retry(max_crashes=10**9)


class Waiter(Protocol):
    """The attempt of an action that waits. `received` is what it took of the inbox."""

    runtime: Runtime
    received: Entry | None

    def identify(self) -> ActionID: ...


def sleep_call(seconds: float) -> Definition:
    """A task that sleeps."""

    async def sleep() -> None:
        waiter = _present()
        left = await _countdown(waiter, seconds)
        while (rest := left()) > 0:
            await clock().sleep(min(rest, SLICE_SECONDS))

    return built_in("sleep", sleep, returns=None, retry=_CRASHES)


def receive_call(topic: str, as_type: Any, timeout: float | None) -> Definition:
    """A task that returns the next value of a topic. It belongs to its position among those that receive from that topic."""

    async def receive() -> Any:
        waiter = _present()
        entry = await (_received(waiter, topic, timeout) if waiter.runtime.durable else _never_received(waiter, timeout))
        if entry is None:
            raise ReceiveTimedOut(run_name=waiter.runtime.run_name, topic=topic, seconds=timeout)
        waiter.received = entry
        return _value_of(entry, definition.result_codec())

    definition = built_in("receive", receive, returns=as_type, retry=_CRASHES, key=lambda: topic)
    return definition


async def _received(waiter: Waiter, topic: str, timeout: float | None) -> Entry | None:
    """The next entry for this receiver, or None at its deadline. A value that is there wins, however late."""
    with waiter.runtime.inbox.queue(topic) as turn:
        await turn.look()
        if not turn.is_served:
            await _wait(waiter, turn, topic, timeout)
        return turn.take()


async def _wait(waiter: Waiter, turn: Turn, topic: str, timeout: float | None) -> None:
    if timeout is None:
        waiter.runtime.append(WaitBegun(action=waiter.identify().name, at=clock().now(), topic=topic))
        await turn.wait(lambda: SLICE_SECONDS)
    else:
        await turn.wait(await _countdown(waiter, timeout, topic))


async def _never_received(waiter: Waiter, timeout: float | None) -> None:
    """Outside a run nobody can send."""
    left = (await _countdown(waiter, timeout)) if timeout is not None else lambda: SLICE_SECONDS
    while (rest := left()) > 0:
        await clock().sleep(min(rest, SLICE_SECONDS))


def _value_of(entry: Entry, codec: Codec) -> Any:
    """Raises: InboxDamaged, ReceivedInvalid."""
    if entry.error is not None:
        raise entry.error
    try:
        return codec.take(entry.value)
    except ResultIncompatible as error:
        reason, expected = str(error.facts["reason"]), codec.expected
        raise ReceivedInvalid(topic=entry.topic, number=entry.number, expected=expected, reason=reason) from error.__cause__


async def _countdown(waiter: Waiter, seconds: float, topic: str = "") -> Callable[[], float]:
    """Begin to wait, or go on with it. Returns what tells how many seconds are left. Until when it waits is durable by then."""
    runtime, began = waiter.runtime, clock().monotonic()
    until = await _until(waiter, seconds, topic) if runtime.durable and seconds > 0 else clock().now() + seconds
    return lambda: min(until - clock().now(), began + seconds - clock().monotonic())


async def _until(waiter: Waiter, seconds: float, topic: str) -> float:
    runtime, name = waiter.runtime, waiter.identify().name
    known = _known(runtime, name)
    if known is not None:
        await runtime.barrier()  # the present asking may be a new one, and not be folded yet
        known = _known(runtime, name)
    if known is None:
        known = clock().now() + seconds
        await runtime.commit(WaitBegun(action=name, at=clock().now(), until=known, topic=topic))
    elif topic:
        runtime.append(WaitBegun(action=name, at=clock().now(), until=known, topic=topic))  # so that this attempt is seen to wait
    return known


def _known(runtime: Runtime, name: str) -> float | None:
    """Until when the action waits, as an earlier attempt of this asking has it on record."""
    record = runtime.state.actions.get(name) if runtime.state is not None else None
    return record.notes.until if record is not None and record.notes is not None else None


def _present() -> Waiter:
    running = Context.current().task_context
    assert running is not None
    return cast("Waiter", link_of(running))
