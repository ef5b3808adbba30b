"""One action, from being asked for to its outcome: place, record, attempts, outcome, record again.

An action runs in an asyncio task of its own, or in the task whose coroutine is the very call. Cancelling that task cancels the action.
Whoever asks gets the outcome once it is durable.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

from holdfast.actions.decisions import ANEW, Anew, Asked, Conclusion, GoOn, Refuse, Replay, asked, conclude, conclude_timeout
from holdfast.actions.runtime import Runtime, StopRequest
from holdfast.actions.scopes import Generation3, Saves, Scope
from holdfast.attempts import Abandoned, Ended, Error, Outcome, Value
from holdfast.blobs import Blobs
from holdfast.checkpoints import newest_generation, newest_of_version
from holdfast.clocks import clock
from holdfast.codec import INLINE_LIMIT, Codec, decode_error, encode_error, from_json, parts_of, to_json
from holdfast.contexts import Context
from holdfast.errors import (
    AmbiguousKey,
    AmbiguousLoop,
    ContextChanged,
    DoubtfulReuse,
    HoldfastWarning,
    InvalidOption,
    LeftRunning,
    RunCancelled,
    RunStopped,
    TaskTimedOut,
    UnstableInput,
)
from holdfast.errors import Unrebuildable as UnrebuildableWarning
from holdfast.events import ActionAsked, ActionEnded, AttemptEnded, AttemptStarted, CheckpointsSetAside, Continued, Replayed
from holdfast.identity import Signature, action_name, digest_inputs, free_variables
from holdfast.limits import Slot
from holdfast.orders import ActionID, Capsule, Definition, Order, Policy
from holdfast.rounds import Doubted
from holdfast.states import Record
from holdfast.status import Status

_BUILTIN = "holdfast:"


class Place(NamedTuple):
    """Where a call stands in its run's tree."""

    name: str
    first: str
    occurrence: int
    round: int
    inputs: str
    bare: str


class Attempt(Scope):
    """A scope whose body can ask for actions."""

    __slots__ = ()

    def recorded(self, what: str, fn: Callable[[], Any], *, in_thread: bool) -> Coroutine[Any, Any, Any]:
        self.check(f"ctx().{what}")
        order = Order(_builtin(what, fn, in_thread=in_thread), (), {})
        return ask(self, order, Context.current(), None)


def _builtin(what: str, fn: Callable[[], Any], *, in_thread: bool) -> Definition:
    async def call() -> Any:
        value = fn()
        return await value if inspect.isawaitable(value) else value

    body = fn if in_thread else call
    policy = Policy(name=f"{_BUILTIN}{what}")
    return Definition(body, policy, is_async=not in_thread, signature=_NO_ARGUMENTS, annotation=_anything, bound_cells=False)


def _nothing() -> None: ...


def _anything() -> Any:
    return Any


_NO_ARGUMENTS = Signature(_nothing)
_FOR_EVER = nullcontext()


# asking


async def ask(scope: Scope, order: Order, context: Context, call: object) -> Any:
    """Ask for an action in a running attempt, and return its outcome.

    Args:
        scope: The attempt that asks.
        order: What it asks for.
        context: The node in which the call was made.
        call: The coroutine that is being awaited: where it is a task's own, the action runs in that task.
    """
    definition, runtime = order.definition, scope.runtime
    scope.check(f"a call of {definition.policy.name}")
    if runtime.lost is not None:
        raise runtime.lost
    if runtime.stop is not None:
        scope.was_refused = True
        raise stopped_error(runtime)
    codec, place = definition.result_codec(), None
    try:
        if runtime.durable:
            place = _noted_place(scope, order, context)
            while (live := runtime.live.get(place.name)) is not None and live.task is not None:
                await asyncio.wait({live.task})
            record, decision = _on_record(scope, order, place)
            if record is not None and isinstance(decision, Replay):
                return await _replay(scope, record, place, codec)
            action = Action(runtime, scope, order, context, codec, place, record, decision)
        else:
            action = Action(runtime, scope, order, context, codec, None, None, ANEW)
        scope.wait_begins()
        try:
            return await action.begin(call)
        finally:
            if scope.wait_ends():
                await scope.proceed()
    except Doubted as doubted:
        await _set_aside(scope, doubted.first)
        raise AmbiguousLoop(task=definition.policy.name) from None
    finally:
        if place is not None:
            scope.undelivered.pop(place.name, None)


def _noted_place(scope: Scope, order: Order, context: Context) -> Place:
    """The place of a call, noted as asked for. Raises: UnstableInput, AmbiguousKey, DuplicateTask, Doubted, TypeError."""
    if not order.definition.policy.name.startswith(_BUILTIN):
        scope.runtime.meet(order.definition, scope.identify().name)
    place = _place(scope, order, context)
    if scope.asked is not None:
        scope.asked.add(place.name)
    scope.undelivered[place.name] = None
    return place


def _on_record(scope: Scope, order: Order, place: Place) -> tuple[Record | None, Asked]:
    """What is known of the action, and what asking for it means now. Raises: AmbiguousKey."""
    runtime, policy = scope.runtime, order.definition.policy
    assert runtime.state is not None
    record = runtime.state.actions.get(place.name)
    if record is None:
        _hint_at_context(scope, place, policy)
        return None, ANEW
    if record.inputs and place.inputs and record.inputs != place.inputs:
        raise AmbiguousKey(task=policy.name, key=_key(policy, order) or "")
    return record, asked(record, scope.present_try, policy)


def stopped_error(runtime: Runtime) -> RunStopped | RunCancelled:
    """What a caller gets, once the run was asked to end."""
    if runtime.stop is not None and runtime.stop.status is Status.CANCELLED:
        return RunCancelled(run_name=runtime.run_name)
    return RunStopped(run_name=runtime.run_name, reason=runtime.stop.reason if runtime.stop is not None else "")


def _key(policy: Policy, order: Order) -> str | None:
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


def _place(scope: Scope, order: Order, context: Context) -> Place:
    """Work out the place of a call, at one instant. Raises: UnstableInput, AmbiguousKey, Doubted, TypeError."""
    policy = order.definition.policy
    parent, digest = scope.identify().name, b""
    if policy.name.startswith(_BUILTIN):
        inputs = b"b%d" % scope.rounds.ordinal
        counted: tuple[tuple[str, str], ...] = ()
    else:
        key = _key(policy, order)
        if key is None:
            inputs = b"d" + digest_of(order)
        else:
            digest = _digest_if_stable(order)
            inputs = b"k" + key.encode("utf-8", "surrogatepass")
            _check_key(scope, policy.name, key, digest)
        counted = _counted(context, policy)
    first = action_name(parent, policy.name, inputs, context.group, counted, 0)
    number = scope.rounds.next(first)
    name = first if number == 0 else action_name(parent, policy.name, inputs, context.group, counted, number)
    bare = action_name(parent, policy.name, inputs, context.group, (), number) if counted else ""
    return Place(name, first, number, scope.rounds.ordinal, digest.hex(), bare)


def _counted(context: Context, policy: Policy) -> tuple[tuple[str, str], ...]:
    counted = context.counted
    if not counted or policy.context_keys == ():
        return ()
    keys = policy.context_keys
    return tuple(sorted((k, v) for k, v in counted.items() if keys is None or k in keys))


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


async def _set_aside(scope: Scope, first: str) -> None:
    """Make durable that what this attempt saved since its doubtful answer is not to be loaded, and that `first` is a loop's."""
    since: Generation3 = scope.doubted_at or (scope.epoch, scope.number, 0)
    until = (scope.epoch, scope.number, 10**6)
    await scope.runtime.commit(
        CheckpointsSetAside(action=scope.identify().name, at=clock().now(), since=since, until=until, first=first)
    )  # fmt: skip


def _hint_at_context(scope: Scope, place: Place, policy: Policy) -> None:
    runtime = scope.runtime
    if not runtime.is_resumed or runtime.state is None or policy.name.startswith(_BUILTIN):
        return
    twin = runtime.state.differing_in_context(place.bare or place.name)
    if twin is not None and twin.name != place.name and runtime.first_context_change(policy.name):
        text = f"a call of {policy.name} runs again, since its custom context differs from the recorded one (context_keys=() counts none)"
        runtime.warn(scope.identify().name, ContextChanged, text)


async def _replay(scope: Scope, record: Record, place: Place, codec: Codec) -> Any:
    """Give the recorded outcome. Raises: the recorded failure; ResultIncompatible, BlobCorrupt."""
    runtime = scope.runtime
    if scope.rounds.reused(place.first):
        text = (
            f"a call of {record.task} was answered from before the loaded save; if it is a round of a loop, call inside `with group(...)`"
        )
        runtime.warn(scope.identify().name, DoubtfulReuse, text)
    if scope.rounds.doubtful:
        scope.doubt()
    scope.replayed = scope.replayed if scope.replayed is not None else []
    scope.replayed.append(record.name)
    runtime.append(Replayed(action=record.name, at=clock().now(), task=record.task, status=record.status))
    if record.status is not Status.COMPLETED:
        raise decode_error(record.error or {})
    return await read_value(runtime.blobs, record, codec)


async def read_value(blobs: Blobs | None, record: Record, codec: Codec) -> Any:
    """Decode a recorded result."""
    tree = record.value
    if blobs is None or not (record.blob or isinstance(tree, (dict, list))):
        return codec.decode(tree, {})
    if record.blob:
        tree = from_json(await blobs.get(record.blob))
    return codec.decode(tree, await blobs.get_all(parts_of(tree)))


# performing


class Action:
    """One asking of an action: its attempts up to an outcome."""

    __slots__ = (
        "_asked_at", "_codec", "_concluded", "_decision", "_failures", "_given_up", "_id", "_present_try", "_record", "_saves", "_scope",
        "_waits", "context", "name", "order", "parent", "place", "runtime", "task",
    )  # fmt: skip

    name: str

    def __init__(
        self,
        runtime: Runtime,
        parent: Scope | None,
        order: Order,
        context: Context,
        codec: Codec,
        place: Place | None,
        record: Record | None,
        decision: Asked,
    ) -> None:
        self.runtime = runtime
        self.parent = parent
        self.order = order
        self.context = context
        self.place = place
        self.name = place.name if place is not None else f"{id(self):x}"
        self.task: asyncio.Task[Any] | None = None
        self._codec = codec
        self._record = record
        self._decision = decision
        self._scope: Scope | None = None
        self._concluded = False
        self._given_up = False
        self._waits = False
        self._failures = 0
        self._asked_at = 0.0
        self._present_try = 0
        self._saves: Saves | None = None
        self._id: ActionID | None = None

    @property
    def policy(self) -> Policy:
        return self.order.definition.policy

    @property
    def task_name(self) -> str:
        return self.policy.name

    def _scope_of(self, number: int) -> Scope:
        if self._saves is None:
            self._saves = Saves(None)
        if self._id is None and self.place is not None:
            self._id = ActionID(self.name, self.runtime.run_name, self.parent.identify() if self.parent is not None else None)
        return Attempt(self.runtime, self._id, self.order, number, self._present_try, self._saves, self.parent)

    def begin(self, call: object) -> Awaitable[Any]:
        """Run attempts until there is an outcome: in the present task, where `call` is that task's own coroutine, else in a new one."""
        present = asyncio.current_task()
        if present is not None and present.get_coro() is call:
            self.task = present
            return self.perform()
        self.task = asyncio.create_task(self.perform(), name=self.policy.name)
        return self.task

    async def perform(self) -> Any:
        """Run attempts until there is an outcome, and return or raise it."""
        if self.parent is not None:
            self.parent.check(f"a call of {self.policy.name}")
        cancels = _cancels()
        self.runtime.live[self.name] = self
        if self.parent is not None:
            self.parent.children[self.name] = self
        try:
            number, next_at = 0, None
            if self._record is None:
                self._asked_at = clock().now()
                self._note_asked()
            else:
                number, next_at = await self._begin_again(self._record)
            slot = self.runtime.slot(self.order.definition)
            while True:
                if next_at is not None or slot is not None or self.policy.timeout.total is not None or self.runtime.stop is not None:
                    await self._wait_for_turn(next_at, slot)
                scope = self._scope = self._scope_of(number)
                scope.slot = slot
                self._concluded = False
                try:
                    outcome, timeout = await self._attempt(scope)
                finally:
                    if slot is not None:
                        slot.pause()
                outcome, conclusion = await self._conclude(scope, outcome, timeout)
                if conclusion.then is not Status.RETRYING or self._given_up:
                    return _given(outcome, conclusion, is_durable=self.runtime.durable)
                if _cancels() > cancels:  # while the attempt wound up, or by a body that made another error of it
                    raise asyncio.CancelledError
                number += 1
                self._failures += 1
                self._present_try += 1
                next_at = clock().now() + (conclusion.delay or 0.0)
        except asyncio.CancelledError:
            self._end_waiting()
            raise
        finally:
            self._leave()

    def _end_waiting(self) -> None:
        """End an action that was cancelled where no attempt was under way, and none is to follow."""
        if self._waits and self.place is not None and self.runtime.lost is None:
            self.runtime.append(ActionEnded(action=self.name, at=clock().now(), then=self.runtime.stopped_as or Status.CANCELLED))
        self._waits = False

    def _leave(self) -> None:
        """Be in flight no more. An abandoned action has left before, and another asking may have come in its place."""
        for place in (self.runtime.live, self.parent.children if self.parent is not None else {}):
            if place.get(self.name) is self:
                del place[self.name]

    # from asked to started

    async def _begin_again(self, record: Record) -> tuple[int, float | None]:
        """Note the asking of an action on record, and return the next attempt's number and when it may start."""
        decision = self._decision
        if isinstance(decision, Refuse) and not await self._was_fruitful(decision):
            await self._refuse(decision)
        self._waits = not isinstance(decision, Anew)
        self._present_try, self._failures, self._asked_at = record.present_try, record.failures, record.asked_at
        self._saves = Saves(await self._base(record))
        if self._saves.base is not None and record.version != self.policy.version:
            self._saves.newest = await self._newest_of_this_version(self._saves.base)
        if isinstance(decision, Anew):
            self._failures, self._asked_at = 0, clock().now()
            self._present_try += 1
            self._note_asked()
        elif isinstance(decision, GoOn) and self.place is not None:
            self.runtime.append(Continued(action=self.name, at=clock().now(), task=self.policy.name))
        return record.number + 1, decision.next_at if isinstance(decision, GoOn) else None

    def _note_asked(self) -> None:
        if self.place is None:
            return
        self._waits = True
        self.runtime.append(
            ActionAsked(
                action=self.name,
                at=self._asked_at,
                parent=self.parent.identify().name if self.parent is not None else "",
                task=self.policy.name,
                version=self.policy.version,
                first=self.place.first if self.place.occurrence else "",
                occurrence=self.place.occurrence,
                round=self.place.round,
                inputs=self.place.inputs,
                bare=self.place.bare,
                group=self.context.group,
            )
        )

    async def _newest_of_this_version(self, base: Generation3) -> Generation3 | None:
        assert self.runtime.folder is not None
        return await newest_of_version(
            self.runtime.folder.child(f"actions/{self.name}/checkpoints"), self.policy.version, lambda found: found <= base
        )

    async def _base(self, record: Record) -> Generation3 | None:
        """The newest generation of earlier owners that this one may load; what they write from now on is not read."""
        if record.number < 0 or self.runtime.folder is None:
            return None
        if record.base_epoch == self.runtime.epoch:
            newest = record.saved.generation if record.saved is not None else None
            return max((g for g in (record.base, newest) if g is not None), default=None)
        spans = record.set_aside

        def may_load(found: Generation3) -> bool:
            known = found[0] == record.base_epoch or (record.base is not None and found <= record.base)
            return known and not any(since <= found <= until for since, until in spans)

        return await newest_generation(self.runtime.folder.child(f"actions/{self.name}/checkpoints"), may_load)

    async def _was_fruitful(self, decision: Refuse) -> bool:
        """A crash loop that saved checkpoints is none, though the notes of those saves were lost with the process."""
        record = self._record
        if record is None or self.policy.on_crash == "fail" or record.attempt is None:
            return False
        base = await self._base(record)
        return base is not None and base[:2] == (record.attempt.epoch, record.attempt.number)

    async def _refuse(self, decision: Refuse) -> None:
        tree, _ = encode_error(decision.error, task=self.policy.name)
        await self.runtime.commit(ActionEnded(action=self.name, at=clock().now(), then=Status.FAILED, error=tree))
        raise decision.error

    async def _wait_for_turn(self, next_at: float | None, slot: Slot | None) -> None:
        """Wait out the backoff and for a slot. Ended meanwhile, the action ends without an attempt."""
        left = self._total_left()
        try:
            if self.runtime.stop is not None:
                raise asyncio.CancelledError
            async with asyncio.timeout(left) if left is not None else _FOR_EVER:
                if next_at is not None and (wait := next_at - clock().now()) > 0:
                    await clock().back_off(wait)
                if slot is not None:
                    await slot.begin()
            if left is not None and (self._total_left() or 0.0) <= 0:  # a timeout needs an await to fire in
                raise TimeoutError
        except TimeoutError:
            if slot is not None:
                slot.pause()
            self._waits = False
            error = self._timed_out("total")
            tree, _ = encode_error(error, task=self.policy.name)
            await self.runtime.commit(ActionEnded(action=self.name, at=clock().now(), then=Status.TIMED_OUT, error=tree))
            raise error from None
        except asyncio.CancelledError:
            if slot is not None:
                slot.pause()
            raise

    def _total_left(self) -> float | None:
        total = self.policy.timeout.total
        return None if total is None else self._asked_at + total - clock().now()

    def _timed_out(self, what: str) -> TaskTimedOut:
        timeout = self.policy.timeout
        seconds = (timeout.attempt if what == "attempt" else timeout.total) or 0.0
        attempt = self._scope.number if self._scope is not None else 0
        return TaskTimedOut(task=self.policy.name, what=what, seconds=seconds, attempt=attempt)

    # one attempt

    async def _attempt(self, scope: Scope) -> tuple[Outcome, str]:
        """Run one attempt to its end, children included. The second part names the timeout that passed, or is empty."""
        scope.capsule = capsule = self._capsule(scope)
        self._waits = False
        if self.place is not None:
            base = scope.saves.base if scope.number > 0 else None
            self.runtime.append(
                AttemptStarted(action=self.name, at=clock().now(), number=scope.number, epoch=self.runtime.epoch, base=base)
            )  # fmt: skip
        if self.policy.on_crash == "fail" or self.parent is None:  # the root's, so that a loop of crashes is seen, whatever crashes
            try:
                await self.runtime.barrier()
            except asyncio.CancelledError as cause:
                return Ended(cause), ""
        left, attempt = self._total_left(), self.policy.timeout.attempt
        if left is None and attempt is None:
            outcome = await self.runtime.engine.run(self.order, capsule, scope)
            if not _is_done(scope, outcome):
                return await self._settled(scope, outcome), ""
            scope.ended = True
            return outcome, ""
        what = "attempt" if left is None or (attempt is not None and attempt <= left) else "total"
        return await self._bounded(scope, capsule, max(attempt if what == "attempt" and attempt is not None else left or 0.0, 0.0), what)

    def _capsule(self, scope: Scope) -> Capsule:
        runtime, policy, context = self.runtime, self.policy, self.context
        base = context.raw_data_path if context.raw_data_path is not None else runtime.raw_data_base
        own = f"{base.rstrip('/')}/{scope.identify().name}" if base is not None else None
        if own is None and runtime.durable and runtime.folder is not None:
            own = f"{runtime.folder.url}/actions/{self.name}/raw"
        attempt = policy.timeout.attempt
        return Capsule(
            action=self._id,
            attempt_number=scope.number,
            max_attempts=policy.retry.max_attempts,
            retries_left=max(policy.retry.max_attempts - 1 - self._failures, 0),
            epoch=runtime.epoch,
            is_resumed=runtime.is_resumed,
            durable=runtime.durable,
            run_id=runtime.run_id,
            run_started_at=runtime.started_at,
            version=policy.version,
            raw_data_path=own,
            raw_data_base=base,
            custom_context=_plain(context.custom_context),
            counted_context=_plain(context.counted),
            group=context.group,
            deadline=None if attempt is None else clock().now() + attempt,
        )

    async def _body(self, scope: Scope, capsule: Capsule) -> Outcome:
        return await self._settled(scope, await self.runtime.engine.run(self.order, capsule, scope))

    async def _settled(self, scope: Scope, outcome: Outcome) -> Outcome:
        """See to what the body leaves behind."""
        if isinstance(outcome, Abandoned):
            scope.abandoned = True
        if isinstance(outcome, Value):
            outcome = await self._after_return(scope, outcome)
        if not isinstance(outcome, Value):
            await self._end_children(scope)
            outcome = await self._finish_checkpoint(scope, outcome)
        scope.ended = True  # from here on a stray task of the body begins nothing
        await self._end_children(scope)
        return outcome

    async def _after_return(self, scope: Scope, outcome: Outcome) -> Outcome:
        """Await the actions that the body left running, and what it still writes."""
        try:
            if scope.unstarted > 0:
                await asyncio.sleep(0)
            if scope.children:
                self._warn_of_leftovers(scope)
            while True:
                while tasks := {child.task for child in scope.children.values() if child.task is not None}:
                    await asyncio.wait(tasks)
                outcome = await self._finish_checkpoint(scope, outcome)
                if not scope.children:
                    return outcome
        except asyncio.CancelledError as cause:
            return Ended(cause)
        except HoldfastWarning as warning:  # whoever makes warnings errors means it
            return Error(warning, is_its_own=False)

    def _warn_of_leftovers(self, scope: Scope) -> None:
        names = ", ".join(sorted({child.task_name for child in scope.children.values()}))
        text = f"{self.policy.name} returned while actions that it began still ran; they are awaited: {names}. Await them in the body"
        self.runtime.warn(self.name, LeftRunning, text)

    async def _finish_checkpoint(self, scope: Scope, outcome: Outcome) -> Outcome:
        """What is written behind belongs to the attempt: its failure is the attempt's, or a note on it."""
        checkpoint = scope.checkpoint_if_used
        if checkpoint is None or scope.abandoned or self.runtime.lost is not None:
            return outcome
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

    async def _end_children(self, scope: Scope) -> None:
        for child in await scope.settle_children():
            child.abandon(self.runtime.stopped_as or Status.CANCELLED)

    async def _bounded(self, scope: Scope, capsule: Capsule, seconds: float, what: str) -> tuple[Outcome, str]:
        """Run the body in a task of its own, for at most `seconds`. One that does not end within the grace is abandoned."""
        task = asyncio.create_task(self._body(scope, capsule), name=f"{self.policy.name} (attempt {scope.number})")
        passed, cause = "", asyncio.CancelledError()
        try:
            await asyncio.wait({task}, timeout=seconds)
            passed = "" if task.done() else what
        except asyncio.CancelledError as cancelled:
            cause = cancelled
        if not task.done():
            task.cancel()
            await _ended(task, self.runtime)
        if not task.done():
            scope.abandoned = True
            await self._end_children(scope)
            return Abandoned(cause), passed
        outcome = task.result()
        return outcome, "" if isinstance(outcome, Value) else passed

    # from ended to recorded

    async def _conclude(self, scope: Scope, outcome: Outcome, timeout: str) -> tuple[Outcome, Conclusion]:
        """Record the attempt's end, and return it with what it means. Raises: what the journal was lost to."""
        self._watch_exit(outcome)
        if self.runtime.lost is not None:
            await self._discard(scope)
            raise self.runtime.lost
        value: tuple[Any, str] = (None, "")
        if self.runtime.stop is not None and _hangs_on_the_stop(scope, outcome):
            outcome, timeout = Ended(asyncio.CancelledError()), ""
        if isinstance(outcome, Value) and self.place is not None:
            try:
                value = await self._encode(outcome.value)
            except Exception as error:
                outcome = Error(error, is_its_own=False)
            except asyncio.CancelledError as cause:
                outcome = Ended(cause)
        try:
            conclusion = self._conclusion(scope, outcome, timeout)
        except InvalidOption as error:  # a `retry_on` that raised
            outcome, conclusion = Error(error), Conclusion(Status.FAILED, Status.FAILED, error)
        try:
            if self.place is not None and not self._concluded:
                try:
                    self._append_end(scope, conclusion, value)
                except HoldfastWarning as warning:  # whoever makes warnings errors means it
                    outcome, conclusion = Error(warning), Conclusion(Status.FAILED, Status.FAILED, warning)
                    self._append_end(scope, conclusion, (None, ""))
                await self.runtime.barrier()
        finally:
            await self._discard(scope)
        return outcome, conclusion

    def _conclusion(self, scope: Scope, outcome: Outcome, timeout: str) -> Conclusion:
        """Raises: InvalidOption."""
        jitter = random.random()
        if not timeout:
            return conclude(outcome, self.policy, self._failures, jitter, self.runtime.stopped_as)
        return conclude_timeout(timeout, self._timed_out(timeout), self.policy, self._failures, jitter, abandoned=scope.abandoned)

    def _watch_exit(self, outcome: Outcome) -> None:
        """`SystemExit` and `KeyboardInterrupt` in a body end the run; anything else of their rank means that the process is broken."""
        if not isinstance(outcome, Ended) or isinstance(outcome.cause, asyncio.CancelledError):
            return
        if isinstance(outcome.cause, (SystemExit, KeyboardInterrupt)):
            self.runtime.request(StopRequest(Status.STOPPED, type(outcome.cause).__name__, outcome.cause))
        else:
            self.runtime.lost = self.runtime.lost or outcome.cause

    async def _encode(self, value: Any) -> tuple[Any, str]:
        """Return a result as it goes into the event: the encoded value, or the name of its blob."""
        if self.runtime.blobs is None:
            return None, ""
        encoded = self._codec.encode(value)
        if encoded.parts:
            await self.runtime.blobs.put_all(encoded.parts)
        tree = encoded.tree
        if isinstance(tree, (int, float, bool)) or tree is None:
            return tree, ""
        data = to_json(tree)
        if len(data) <= INLINE_LIMIT:
            return tree, ""
        return None, await self.runtime.blobs.put(data)

    def _append_end(self, scope: Scope, conclusion: Conclusion, value: tuple[Any, str]) -> None:
        if (progress := scope.last_progress()) is not None:
            self.runtime.append(progress)
        event = self._end_event(scope, conclusion, value)
        scope.ended = self._concluded = True
        self._waits = conclusion.then is Status.RETRYING
        self.runtime.append(event)

    def _end_event(self, scope: Scope, conclusion: Conclusion, value: tuple[Any, str]) -> AttemptEnded:
        now = clock().now()
        return AttemptEnded(
            action=self.name,
            at=now,
            number=scope.number,
            status=conclusion.status,
            then=conclusion.then,
            value=value[0],
            blob=value[1],
            error=self._encoded_error(conclusion.error),
            next_at=None if conclusion.delay is None else now + conclusion.delay,
            final=conclusion.final,
            unknown=conclusion.unknown,
            abandoned=conclusion.abandoned or scope.abandoned,
            replayed=tuple(scope.replayed or ()),
            orphaned=self._orphans(scope) if conclusion.status is Status.COMPLETED else (),
        )

    def _encoded_error(self, error: Exception | None) -> Any:
        if error is None:
            return None
        tree, can_be_rebuilt = encode_error(error, task=self.policy.name)
        if not can_be_rebuilt:
            kind = f"{type(error).__module__}:{type(error).__qualname__}"
            text = f"{self.policy.name} failed with {kind}, which can't be rebuilt from record: on resume it is a RemoteFailure"
            self.runtime.warn(self.name, UnrebuildableWarning, text)
        return tree

    def _orphans(self, scope: Scope) -> tuple[str, ...]:
        """Recorded results of earlier attempts that the body, now done, never asked for."""
        if scope.asked is None or self.runtime.state is None:
            return ()
        behind = scope.rounds.ordinal if scope.loaded is not None else 0
        return tuple(
            child.name
            for child in self.runtime.state.children_of(self.name)
            if child.status is Status.COMPLETED
            and child.name not in scope.asked
            and child.round >= behind
            and not child.task.startswith(_BUILTIN)
        )

    async def _discard(self, scope: Scope) -> None:
        scope.ended = True
        if scope.checkpoint_if_used is not None and not scope.abandoned:
            scope.checkpoint_if_used.give_up()
            await asyncio.to_thread(scope.checkpoint_if_used.discard)

    def abandon(self, status: Status) -> None:
        """Record the end of an action that can't be stopped: what it still does counts for nothing."""
        self._given_up, scope = True, self._scope
        if scope is None or self._concluded or self.runtime.lost is not None:
            return
        scope.abandoned = True
        for child in list(scope.children.values()):
            child.abandon(status)
        self._concluded, self._waits = True, False
        if self.place is not None:
            self.runtime.append(self._end_event(scope, Conclusion(status, status, abandoned=True), (None, "")))
        self._leave()


def _hangs_on_the_stop(scope: Scope, outcome: Outcome) -> bool:
    """Whether an outcome is what the body made of calls that were refused, since the run was asked to end."""
    if isinstance(outcome, Value):
        return scope.was_refused
    return isinstance(outcome, Error) and (scope.was_refused or isinstance(outcome.error, (RunStopped, RunCancelled)))


def _cancels() -> int:
    """How often the present task was asked to end, and did not take it back."""
    present = asyncio.current_task()
    return present.cancelling() if present is not None else 0


def _is_done(scope: Scope, outcome: Outcome) -> bool:
    """Whether the body returned, and left nothing to see to."""
    return isinstance(outcome, Value) and not scope.unstarted and not scope.children and scope.checkpoint_if_used is None


def _given(outcome: Outcome, conclusion: Conclusion, *, is_durable: bool) -> Any:
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


def _plain(values: Mapping[str, str]) -> dict[str, str]:
    """As a dict, which travels; nothing ever changes one that is in a context."""
    return values if type(values) is dict else dict(values)


async def _ended(task: asyncio.Task[Any], runtime: Runtime) -> None:
    """Wait for a cancelled task, within the grace; being cancelled again does not cut it short."""
    began = runtime.loop.time()
    while not task.done() and (left := began + runtime.grace - runtime.loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError:
            continue
