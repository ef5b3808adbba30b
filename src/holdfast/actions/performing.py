"""One action, from its asking to its outcome: attempts, outcome, record again.

An action runs in an asyncio task of its own, or in the task whose coroutine is the very call. Cancelling that task cancels the action.
Whoever asks gets the outcome once it is durable.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from contextlib import nullcontext, suppress
from typing import Any, ClassVar, Final

from holdfast.actions.budgets import RECEIVE, find_room, needs_room
from holdfast.actions.decisions import COMPLETED, Anew, Asked, Conclusion, GoOn, Refuse, Undo, conclude, conclude_timeout, undoing
from holdfast.actions.endings import (
    cancellation_behind,
    count_cancels,
    encode_failure,
    given,
    hangs_on_the_stop,
    is_done,
    of_being_ended,
    orphans,
    plain,
)
from holdfast.actions.grace import wait_within_grace
from holdfast.actions.leftovers import after_return, finish_writing
from holdfast.actions.places import Place
from holdfast.actions.runtime import Registered, Runtime, StopRequest
from holdfast.actions.saves import UNSAVED, newest_save, saves_of
from holdfast.actions.scopes import Beside, Scope
from holdfast.actions.shares import Share
from holdfast.actions.undos import Completion, check_findable
from holdfast.actions.values import fits_event, keep
from holdfast.attempts import Abandoned, Ended, Error, Outcome, Value
from holdfast.blobs import Naming
from holdfast.clocks import clock
from holdfast.codec import Encoded, decode_error, encode_error
from holdfast.contexts import Context
from holdfast.errors import (
    BudgetSpent,
    CleanupFailed,
    HoldfastWarning,
    InvalidOption,
    InvalidTask,
    StoreError,
    TaskError,
    TaskTimedOut,
    UnrecordableResult,
)
from holdfast.events import ActionAsked, ActionEnded, AttemptEnded, AttemptStarted, Continued, UndoRegistered
from holdfast.limits import Slot
from holdfast.orders import ActionID, Capsule, Order, Policy
from holdfast.states import Record
from holdfast.status import Status
from holdfast.tabs import Holding
from holdfast.topics import Entry

_FOR_EVER = nullcontext()
_NO_VALUE: Final[tuple[Any, str]] = (None, "")


class Action:
    """One asking of an action: its attempts up to an outcome."""

    is_undo: ClassVar[bool] = False
    """An undo's start is durable before its body begins."""

    __slots__ = (
        "_asked_at", "_cancels", "_completion", "_concluded", "_decision", "_failures", "_given_up", "_holding", "_id",
        "_present_try", "_record", "_saves", "_scope", "_share", "_stands_aside", "_waits", "context", "name", "order", "parent", "place",
        "policy", "runtime", "task",
    )  # fmt: skip

    context: Context
    order: Order
    parent: Scope | None
    place: Place | None
    policy: Policy
    runtime: Runtime

    name: str

    def __init__(
        self,
        runtime: Runtime,
        parent: Scope | None,
        order: Order,
        context: Context,
        place: Place | None,
        record: Record | None,
        decision: Asked,
    ) -> None:
        self.runtime = runtime
        self.parent = parent
        self.order = order
        self.policy = order.definition.policy
        self.context = context
        self.place = place
        self.name = place.name if place is not None else f"{id(self):x}"
        self.task: asyncio.Task[Any] | None = None
        self._record = record
        self._decision = decision
        self._scope: Scope | None = None
        self._completion: Completion | None = None
        self._concluded = False
        self._given_up = False
        self._waits = False
        self._stands_aside = False
        self._holding: Holding | None = None
        self._cancels = 0
        self._failures = 0
        self._asked_at = 0.0
        self._present_try = 0
        self._saves = UNSAVED
        self._share: Share | None = None
        self._id: ActionID | None = None

    @property
    def task_name(self) -> str:
        return self.policy.name

    @property
    def is_at_work(self) -> bool:
        if self._stands_aside or self._waits or self.policy.name == RECEIVE:
            return False
        return self._scope is None or not self._scope.waits_for_actions

    def _scope_of(self, number: int) -> Scope:
        before = self._scope
        if before is not None:
            self._saves = before.saves
        if self._id is None and self.runtime.durable:
            self._id = ActionID(self.name, self.runtime.run_name, self.parent.identify() if self.parent is not None else None)
        scope = Scope(self.runtime, self._id, self.order, number, self._present_try, self._saves, self.parent)
        scope.budgets = self.context.budgets
        if before is not None:
            scope.follow(before)
        return scope

    def begin(self, call: object) -> Awaitable[Any]:
        """Run attempts until there is an outcome: in the present task, where `call` is that task's own coroutine, else in a new one."""
        present = asyncio.current_task()
        if present is not None and present.get_coro() is call:
            self.task = present
            return self.perform()
        self.task = self.runtime.loop.create_task(self.perform(), name=self.policy.name)
        return self.task

    async def perform(self) -> Any:
        """Run attempts until there is an outcome, and return or raise it."""
        self._enter()
        try:
            if self.policy.shares_attempts:
                self._take_share()
            number, next_at = 0, None
            if self._record is None:
                self._note_asked()
            else:
                number, next_at = await self._begin_again(self._record)
            slot = self.runtime.slot(self.order.definition)
            while True:
                if next_at is not None or self.policy.timeout.total is not None or self.runtime.stop is not None or self.context.budgets:
                    await self._wait_for_turn(next_at, slot)
                elif slot is not None:  # nothing else to wait for: ten thousand may, with one coroutine each
                    await slot.turn()
                    slot.taken()
                if self.runtime.closing is not None:
                    await self._stand_aside(slot)
                scope = self._scope = self._scope_of(number)
                scope.slot, scope.holding = slot, self._holding
                self._concluded = False
                try:
                    capsule, timeout = self._started(scope), ""
                    if self._needs_no_watch():  # then one coroutine less for each that waits
                        outcome = await self.runtime.engine.run(self.order, capsule, scope)
                        if not is_done(scope, outcome):
                            outcome = await self._settled(scope, outcome)
                        scope.ended = True
                    else:
                        outcome, timeout = await self._attempt(scope, capsule)
                    if scope.exits is not None and not isinstance(outcome, Value):
                        await scope.exits.over()
                finally:
                    if slot is not None:
                        slot.pause()
                    if self._holding is not None:
                        self._settle()
                outcome, conclusion = await self._conclude(scope, outcome, timeout)
                if self._stands_aside:
                    await self._stand_aside(slot)
                if self._share is not None:
                    self._share.ended(conclusion.status)
                if conclusion.then is Status.ROLLING_BACK:
                    raise await self._roll_back(scope, conclusion.error)
                if conclusion.then is not Status.RETRYING or self._given_up:
                    return given(outcome, conclusion, is_durable=self.runtime.durable)
                if count_cancels() > self._cancels:  # while the attempt wound up
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
        if self._waits and self.runtime.durable and self.runtime.lost is None:
            then = Status.STOPPED if self._stands_aside else Status.CANCELLED
            self.runtime.append(ActionEnded(action=self.name, at=clock().now(), then=self.runtime.stopped_as or then))
        self._waits = False

    def _enter(self) -> None:
        """Be in flight. Raises: ActionEnded, AttemptAbandoned, where the attempt that asked is over."""
        if self.parent is not None and (self.parent.ended or self.parent.abandoned):
            self.parent.check(f"a call of {self.policy.name}")
        self._cancels = count_cancels()
        self.runtime.live[self.name] = self
        if self.parent is not None:
            self.parent.bear(self)

    def _leave(self) -> None:
        """Be in flight no more. An abandoned action has left before, and another asking may have come in its place."""
        for place in (self.runtime.live, self.parent.children if self.parent is not None else {}):
            if place.get(self.name) is self:
                del place[self.name]
        if self._share is not None:
            self._share.give_back()
        if self._holding is not None:
            self._settle()
        if self.runtime.closing is not None:
            self.runtime.closing.look()

    def _settle(self) -> None:
        """Hold no more of the budgets above."""
        holding, self._holding = self._holding, None
        if holding is not None:
            holding.settle()

    async def _stand_aside(self, slot: Slot | None) -> None:
        """The run closes down: begin no attempt, and tell nobody so, until the run stops. What needs no room goes on."""
        closing = self.runtime.closing
        if closing is None or not needs_room(self.policy.name, self.context.budgets):
            return
        self._stands_aside = True
        if slot is not None:
            slot.pause()
        self._settle()
        above = self.parent
        while above is not None:  # whatever they make of it, it is no outcome
            above.was_refused = True
            above = above.parent
        closing.look()
        await self.runtime.loop.create_future()

    async def _roll_back(self, scope: Scope, error: BaseException | None) -> BaseException:
        """Undo what was done below this action, and return what its caller gets. `error` is how it failed, if it did."""
        return await self.runtime.roll_back(self.runtime, scope.identify(), self.policy.name, scope, error)

    # from asked to started

    def _take_share(self) -> None:
        """Take the first attempt's share of what all calls of the parent may execute. Raises: AttemptsSpent."""
        if self.parent is not None and not isinstance(self._decision, Refuse):
            shares = self.parent.share(self.policy.retry.max_attempts)
            self._share = Share(shares, pipeline=self.parent.task_name, stage=self.policy.name)

    async def _begin_again(self, record: Record) -> tuple[int, float | None]:
        """Note the asking of an action on record, and return the next attempt's number and when it may start."""
        decision = self._decision
        if isinstance(decision, Undo):
            raise await self._roll_back(self._scope_of(record.number), decode_error(record.error) if record.error is not None else None)
        if isinstance(decision, Refuse) and not await self._was_fruitful(decision):
            raise await self._end_for_good(Status.FAILED, decision.error, self._scope_of(record.number))
        self._waits = not isinstance(decision, Anew)
        self._present_try, self._failures, self._asked_at = record.present_try, record.failures, record.asked_at
        self._saves = await saves_of(self.runtime, record, self.policy.version)
        if isinstance(decision, Anew):
            self._failures = 0
            self._present_try += 1
            self._note_asked()
        elif isinstance(decision, GoOn) and self.runtime.durable:
            parent = self.parent.identify().name if self.parent is not None else ""
            group = self.context.group
            self.runtime.append(Continued(action=self.name, at=clock().now(), task=self.policy.name, parent=parent, group=group))
        return record.number + 1, decision.next_at if isinstance(decision, GoOn) else None

    def _note_asked(self) -> None:
        self._asked_at = clock().now()
        place, self.place = self.place, None  # nobody asks for it again
        if place is None:
            return
        self._waits = True
        self.runtime.append(
            ActionAsked(
                action=self.name,
                at=self._asked_at,
                parent=self.parent.identify().name if self.parent is not None else "",
                task=self.policy.name,
                version=self.policy.version,
                first=place.first if place.occurrence else "",
                occurrence=place.occurrence,
                round=place.round,
                inputs=place.inputs,
                bare=place.bare,
                group=self.context.group,
                skips=place.skips,
            )
        )

    async def _was_fruitful(self, decision: Refuse) -> bool:
        """A crash loop that saved checkpoints is none, though the notes of those saves were lost with the process."""
        record = self._record
        if record is None or self.policy.on_crash == "fail" or record.attempt is None:
            return False
        base = await newest_save(self.runtime, record)
        return base is not None and base[:2] == (record.attempt.epoch, record.attempt.number)

    async def _end_for_good(self, then: Status, error: TaskError, scope: Scope) -> BaseException:
        """Record that it fails for good without another attempt, undone where its task says so. Returns what its caller gets."""
        tree, _ = encode_error(error, task=self.policy.name)
        self.runtime.append(ActionEnded(action=self.name, at=clock().now(), then=then, error=tree))
        if not self._has_undos():
            await self.runtime.barrier()
            return error
        await self.runtime.commit(ActionEnded(action=self.name, at=clock().now(), then=Status.ROLLING_BACK, error=tree))
        return await self._roll_back(scope, error)

    async def _wait_for_turn(self, next_at: float | None, slot: Slot | None) -> None:
        """Wait out the backoff and for a slot. Ended meanwhile, the action ends without an attempt."""
        left = self._total_left()
        try:
            if self.runtime.stop is not None:
                raise asyncio.CancelledError
            if self.runtime.closing is not None:
                await self._stand_aside(None)
            async with asyncio.timeout(left) if left is not None else _FOR_EVER:
                if next_at is not None and (wait := next_at - clock().now()) > 0:
                    await clock().back_off(wait)
                if slot is not None:
                    await slot.begin()
                if self.context.budgets and needs_room(self.policy.name, self.context.budgets):
                    self._holding = await find_room(self.runtime, self.context.budgets, self.policy.name, self.name)
            if left is not None and (self._total_left() or 0.0) <= 0:  # a timeout needs an await to fire in
                raise TimeoutError
        except TimeoutError:
            if slot is not None:
                slot.pause()
            self._settle()
            if self.runtime.closing is not None:
                await self._stand_aside(None)
            self._waits = False
            scope = self._scope if self._scope is not None else self._scope_of(self._record.number if self._record is not None else 0)
            raise await self._end_for_good(Status.TIMED_OUT, self._timed_out("total"), scope) from None
        except (asyncio.CancelledError, BudgetSpent):
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

    def _needs_no_watch(self) -> bool:
        """Whether nothing but its body ends an attempt, and nothing has to be durable before it begins."""
        policy = self.policy
        if policy.on_crash == "fail" or policy.rollback is not None or self.is_undo or (self.parent is None and self.runtime.durable):
            return False
        return policy.timeout.attempt is None and policy.timeout.total is None

    def _started(self, scope: Scope) -> Capsule:
        """Note that an attempt begins."""
        scope.capsule = capsule = self._capsule(scope)
        self._waits = False
        if self.runtime.durable:
            base = scope.saves.base if scope.number > 0 else None
            self.runtime.append(
                AttemptStarted(action=self.name, at=clock().now(), number=scope.number, epoch=self.runtime.epoch, base=base)
            )  # fmt: skip
        return capsule

    async def _attempt(self, scope: Scope, capsule: Capsule) -> tuple[Outcome, str]:
        """Run one attempt to its end, children included. The second part names the timeout that passed, or is empty."""
        try:
            if (undo := self.policy.rollback) is not None:
                if self.runtime.durable:
                    check_findable(undo)
                self._completion = Completion(undo, self.order, self.context)
            if self.policy.on_crash == "fail" or self.is_undo or self.parent is None:  # the root's, so that any loop of crashes is seen
                await self.runtime.barrier()
        except asyncio.CancelledError as cause:
            return Ended(cause), ""
        except (UnrecordableResult, InvalidTask) as error:
            return Error(error), ""
        left, attempt = self._total_left(), self.policy.timeout.attempt
        if left is None and attempt is None:
            return await self._body(scope, capsule), ""
        what = "attempt" if left is None or (attempt is not None and attempt <= left) else "total"
        return await self._bounded(scope, capsule, max(attempt if what == "attempt" and attempt is not None else left or 0.0, 0.0), what)

    def _capsule(self, scope: Scope) -> Capsule:
        runtime, policy, context = self.runtime, self.policy, self.context
        base = context.raw_data_path if context.raw_data_path is not None else runtime.raw_data_base
        attempt = policy.timeout.attempt
        left = max(policy.retry.max_attempts - 1 - self._failures, 0) if self._share is None else self._share.left
        return Capsule(
            ownership=runtime.ownership,
            action=self._id,
            attempt_number=scope.number,
            max_attempts=policy.retry.max_attempts,
            retries_left=left,
            version=policy.version,
            raw_data_path=None,
            raw_data_base=base,
            custom_context=plain(context.custom_context),
            counted_context=plain(context.counted),
            group=context.group,
            deadline=None if attempt is None else clock().now() + attempt,
        )

    async def _body(self, scope: Scope, capsule: Capsule) -> Outcome:
        return await self._settled(scope, await self.runtime.engine.run(self.order, capsule, scope))

    async def _settled(self, scope: Scope, outcome: Outcome) -> Outcome:
        """See to what the body leaves behind."""
        if isinstance(outcome, Abandoned):
            scope.abandon()
        if isinstance(outcome, Error):
            outcome = self._of_its_own(scope, outcome)
        if scope.exits is not None and scope.exits.has_begun and isinstance(outcome, Value):
            outcome = Ended(asyncio.CancelledError())  # what its hooks took from it may be in what it returned
        if isinstance(outcome, Value):
            outcome = await after_return(self.name, scope, outcome)
        if not isinstance(outcome, Value):
            await self._end_children(scope)
            outcome = await finish_writing(scope, outcome)
        scope.ended = True  # from here on a stray task of the body begins nothing
        await self._end_children(scope)
        return outcome

    def _of_its_own(self, scope: Scope, outcome: Error) -> Outcome:
        """What a body raised on its way out does not take the place of what ended it; what it raised before stands, whatever follows."""
        is_here = asyncio.current_task() is self.task  # else in a task of its own, which nobody ends but `_bounded`
        cancelled = is_here and count_cancels() > self._cancels
        if scope.is_leaving or (cancelled and (self.runtime.stop is not None or cancellation_behind(outcome.error) is not None)):
            return of_being_ended(scope, outcome)
        if is_here:
            self._cancels = count_cancels()  # a TaskGroup that fails leaves one behind, up to Python 3.12
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
        was_at_work = not scope.is_over
        if not task.done():
            scope.is_leaving = was_at_work
            task.cancel()
            await wait_within_grace((task,), self.runtime, scope.leave)
        if not task.done():
            scope.leave()
            scope.abandon()
            await self._end_children(scope)
            return Abandoned(cause), passed
        outcome = task.result()
        if isinstance(outcome, Error) and passed and was_at_work:
            scope.keep_beside(Beside("its body", outcome.error, is_expected=True))
        came_first = isinstance(outcome, Value) or (isinstance(outcome, Error) and not was_at_work)
        return outcome, "" if came_first else passed

    # from ended to recorded

    async def _conclude(self, scope: Scope, outcome: Outcome, timeout: str) -> tuple[Outcome, Conclusion]:
        """Record the attempt's end, and return it with what it means. Raises: what the journal was lost to."""
        if isinstance(outcome, Ended):
            self._watch_exit(outcome.cause)
        if self.runtime.lost is not None:
            await self._discard(scope)
            raise self.runtime.lost
        if self.runtime.stop is not None and hangs_on_the_stop(scope, outcome):
            outcome, timeout = Ended(asyncio.CancelledError()), ""
        elif self.runtime.closing is not None and scope.was_refused:
            self._stands_aside = count_cancels() <= self._cancels  # else whoever ended it waits for that
            outcome, timeout = Ended(asyncio.CancelledError()), ""
        if self.runtime.blobs is None or not isinstance(outcome, Value):
            return await self._record_end(scope, outcome, timeout)
        try:
            encoded = self.order.definition.result_codec().encode(outcome.value)
        except (Exception, asyncio.CancelledError) as error:  # a user's serializer may raise anything
            refused = Error(error, is_its_own=False) if isinstance(error, Exception) else Ended(error)
            return await self._record_end(scope, refused, timeout)
        if self._completion is None and fits_event(encoded):
            return await self._record_end(scope, outcome, timeout, (encoded.tree, ""))
        with self.runtime.blobs.naming() as naming:
            outcome, value, undo = await self._put(scope, outcome, encoded, naming)
            return await self._record_end(scope, outcome, timeout, value, undo)

    async def _put(
        self, scope: Scope, outcome: Value, encoded: Encoded, naming: Naming
    ) -> tuple[Outcome, tuple[Any, str], UndoRegistered | None]:
        """Put a result where its event can name it, and what undoes it. Raises: StoreError."""
        value, undo = _NO_VALUE, None
        try:
            value = await keep(naming, encoded)
            if self._completion is not None:
                undo = await self._completion.event(scope, naming)
        except StoreError as error:  # no failure of the task: what is not on record runs again when the store takes it
            await self._discard(scope)
            self.runtime.give_up(error)
            raise
        except Exception as error:
            return Error(error, is_its_own=False), value, undo
        except asyncio.CancelledError as cause:
            return Ended(cause), value, undo
        return outcome, value, undo

    async def _record_end(
        self, scope: Scope, outcome: Outcome, timeout: str, value: tuple[Any, str] = _NO_VALUE, undo: UndoRegistered | None = None
    ) -> tuple[Outcome, Conclusion]:
        if scope.exits is not None and not isinstance(outcome, Value):
            await scope.exits.over()
        if scope.besides is not None and not self._concluded:
            self._tell_besides(scope, outcome)
        try:
            conclusion = self._conclusion(scope, outcome, timeout)
            if self.policy.rolls_back:
                conclusion = undoing(conclusion, self.policy, self._has_undos())
        except InvalidOption as error:  # a `retry_on` that raised
            outcome, conclusion = Error(error), Conclusion(Status.FAILED, Status.FAILED, error)
        try:
            if self.runtime.journal is not None and not self._concluded:
                try:
                    if undo is not None and conclusion.status is Status.COMPLETED:
                        self.runtime.append(undo)
                    self._append_end(scope, conclusion, value)
                except HoldfastWarning as warning:  # whoever makes warnings errors means it
                    outcome, conclusion = Error(warning), Conclusion(Status.FAILED, Status.FAILED, warning)
                    self._append_end(scope, conclusion, _NO_VALUE)
                await self.runtime.journal.barrier()
            elif self._completion is not None and isinstance(outcome, Value):
                self.runtime.undos[Registered(scope, self._completion.order(outcome.value), self.context)] = None
        finally:
            await self._discard(scope)
        return outcome, conclusion

    def _has_undos(self) -> bool:
        """Whether a rollback of this action would have something to see to."""
        runtime, state = self.runtime, self.runtime.state
        if not self.policy.rolls_back:
            return False
        if state is None:
            return bool(runtime.undos or runtime.strays)
        is_below = state.subtree(self.name)
        return bool(state.undos_below(self.name)) or any(is_below(stray.identify().name) for stray in runtime.strays)

    def _conclusion(self, scope: Scope, outcome: Outcome, timeout: str) -> Conclusion:
        """Raises: InvalidOption."""
        if isinstance(outcome, Value) and not timeout:
            return COMPLETED
        jitter, policy, failures = random.random(), self.policy, self._failures
        left = self._share.left if self._share is not None else None
        if not timeout:
            concluded = conclude(outcome, policy, failures, jitter, self._stopped_as(scope), left)
        else:
            error = self._timed_out(timeout)
            for beside in scope.besides or ():
                error.add_note(f"besides, on the way out: {beside.text}")
            concluded = conclude_timeout(timeout, error, policy, failures, jitter, left, abandoned=scope.abandoned)
        if self._share is not None and concluded.then is Status.RETRYING:
            self._share.take()
        return concluded

    def _stopped_as(self, scope: Scope) -> Status | None:
        """STOPPED or CANCELLED, where that is how the run ends this attempt."""
        refused = Status.STOPPED if self.runtime.closing is not None and scope.was_refused else None
        return self.runtime.stopped_as or refused

    def _tell_besides(self, scope: Scope, outcome: Outcome | None) -> None:
        """Record what failed on the way out, and note it on the error that it must not replace: not even where warnings are errors."""
        for beside in scope.besides or ():
            if isinstance(outcome, Error):
                outcome.error.add_note(f"besides, on the way out: {beside.text}")
            if not beside.is_expected:
                with suppress(CleanupFailed):
                    self.runtime.warn(self.name, CleanupFailed, f"{self.policy.name}: {beside.text}")

    def _watch_exit(self, cause: BaseException) -> None:
        """`SystemExit` and `KeyboardInterrupt` in a body end the run; anything else of their rank means that the process is broken."""
        if isinstance(cause, asyncio.CancelledError):
            return
        if isinstance(cause, (SystemExit, KeyboardInterrupt)):
            self.runtime.request(StopRequest(Status.STOPPED, type(cause).__name__, cause))
        else:
            self.runtime.lost = self.runtime.lost or cause

    def _append_end(self, scope: Scope, conclusion: Conclusion, value: tuple[Any, str]) -> None:
        if scope.bars is not None and (progress := scope.last_progress()) is not None:
            self.runtime.append(progress)
        if scope.said is not None and (said := scope.last_said()) is not None:
            self.runtime.append(said)
        if scope.unrecorded:
            scope.record_late()
        event = self._end_event(scope, conclusion, value)
        scope.ended = self._concluded = True
        self._waits = conclusion.then is Status.RETRYING
        self.runtime.append(event)

    def _end_event(self, scope: Scope, conclusion: Conclusion, value: tuple[Any, str]) -> AttemptEnded:
        now, error, state = clock().now(), conclusion.error, self.runtime.state
        may_orphan = scope.number > 0 and state is not None and conclusion.status is Status.COMPLETED
        return AttemptEnded(
            action=self.name,
            at=now,
            number=scope.number,
            status=conclusion.status,
            then=conclusion.then,
            value=value[0],
            blob=value[1],
            error=None if error is None else encode_failure(self.runtime, self.name, self.policy.name, error),
            next_at=None if conclusion.delay is None else now + conclusion.delay,
            final=conclusion.final,
            unknown=conclusion.unknown,
            abandoned=conclusion.abandoned or scope.abandoned,
            replayed=tuple(scope.replayed or ()),
            orphaned=orphans(state, self.name, scope) if may_orphan and state is not None else (),
            received="" if scope.received is None else self._used_up(scope, scope.received, conclusion),
        )

    def _used_up(self, scope: Scope, entry: Entry, conclusion: Conclusion) -> str:
        """What a receiver took goes with its outcome; one that has none gives it back."""
        if conclusion.status in (Status.COMPLETED, Status.FAILED):
            return entry.place
        scope.received = None
        self.runtime.inbox.give_back(entry)
        return ""

    async def _discard(self, scope: Scope) -> None:
        scope.ended = True
        if scope.bars is not None:
            scope.last_progress()  # what is not recorded by now will not be
        if scope.drawn is not None:
            scope.drawn.give_up()
        if scope.checkpoint_if_used is not None:
            scope.checkpoint_if_used.give_up()
            if not scope.abandoned:  # else its body may still be at work there: it goes with the last that knows it
                await asyncio.to_thread(scope.checkpoint_if_used.discard)

    def leave(self) -> None:
        if self._scope is not None and not self._concluded:
            self._scope.leave()

    def abandon(self, status: Status) -> None:
        """Record the end of an action that can't be stopped: what it still does counts for nothing. Of a lost run nothing is recorded."""
        self._given_up, scope = True, self._scope
        if scope is None or self._concluded:
            return
        if self.runtime.lost is not None:
            scope.abandon()
            return
        scope.leave()
        if scope.besides is not None:
            self._tell_besides(scope, None)
        if scope.drawn is not None:
            scope.drawn.give_up()
        scope.abandon()
        for child in list(scope.children.values()):
            child.abandon(status)
        self._concluded, self._waits = True, False
        if self.runtime.durable:
            if (progress := scope.last_progress()) is not None:
                self.runtime.append(progress)
            if (said := scope.last_said()) is not None:
                self.runtime.append(said)
            scope.record_late()
            self.runtime.append(self._end_event(scope, Conclusion(status, status, abandoned=True), _NO_VALUE))
        self._leave()
