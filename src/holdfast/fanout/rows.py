"""The rows of one `map` or `records`: begun in the order of their items, landed as they end.

Each is an ordinary call of the task. Its place, and so its occurrence among equal ones, is taken when its item is pulled: so it is in item
order, whichever task the loop lets go first. What is on record lands at once, without a task of its own.

At most `width` rows are under way or landed and not yet taken, so a slow reader slows the feeding, and nothing piles up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from holdfast.actions.asking import answer_now, asking, check_asking, doubted_error, noted_place
from holdfast.actions.decisions import Standing
from holdfast.actions.grace import wait_within_grace
from holdfast.actions.places import Place
from holdfast.actions.scopes import Scope
from holdfast.contexts import Context, check_group, link_of, put, take_back
from holdfast.errors import ActionEnded, AttemptAbandoned, InvalidOption, RunCancelled, RunStopped
from holdfast.fanout.changes import Watch
from holdfast.fanout.outcomes import Record, RecordStatus, SimpleRecordsResult, spans_of, summed_up
from holdfast.fanout.sources import Source
from holdfast.limits import Limit
from holdfast.orders import Order
from holdfast.retries import Rate
from holdfast.rounds import Doubted
from holdfast.status import FAILED_STATES, Status
from holdfast.tasks import Call, Task

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)

#: So many rows may land at once before the loop gets a turn.
AT_ONCE: Final = 200
#: So many indices of failed rows are kept. How many there were is exact.
NAMED: Final = 1_000

_NOT_OF_A_ROW: Final = (RunStopped, RunCancelled, ActionEnded, AttemptAbandoned)
_FAILED: Final = FAILED_STATES | {Status.ROLLED_BACK}


class OneArg(Protocol[T_contra, R_co]):
    """A task, as far as rows need one: what it takes besides the item has a default."""

    def call(self, item: T_contra, /) -> Call[R_co]: ...


class _Refused(Exception):
    """An equal row shows that an answer from before a loaded save was another round's."""

    def __init__(self, scope: Scope, order: Order, doubted: Doubted) -> None:
        super().__init__()
        self.scope, self.order, self.doubted = scope, order, doubted


class _Row(Generic[T]):
    """A row that is to be run, or under way."""

    __slots__ = ("call", "index", "item", "order", "place", "scope")

    call: Call[Any]
    index: int
    item: T

    def __init__(self, index: int, item: T, call: Call[Any]) -> None:
        self.index = index
        self.item = item
        self.call = call
        self.order: Order | None = None
        self.place: Place | None = None
        self.scope: Scope | None = None

    def never_begun(self) -> None:
        """Let it be as if it had not been asked for."""
        self.call.close()
        self.delivered()

    def landed(self) -> None:
        """Its outcome is there, and the body has not seen it yet: what the body saves meanwhile knows nothing of it."""
        if self.scope is not None and self.place is not None:
            self.scope.ask_for(self.place.name)

    def delivered(self) -> None:
        if self.scope is not None and self.place is not None:
            self.scope.undelivered.pop(self.place.name, None)


class Rows(Generic[T, R]):
    """Rows, from their items to their outcomes. Used by one reader, on one loop.

    Args:
        task: What is called with each item.
        source: The items.
        concurrency: How many are under way at once, or a `Rate` at which they begin.
        group: The group of their calls.
        standing: Which recorded failures are their outcomes.
        skips: Whether a row that fails is passed over.
    """

    def __init__(
        self, task: OneArg[T, R], source: Source[T], concurrency: int | Rate, group: str | None, standing: Standing, *, skips: bool
    ) -> None:
        """Raises: InvalidOption."""
        self._task = task
        self._source = source
        self._width, self._limit = _bounds(concurrency)
        self._context = _context(group)
        self._standing: Standing = standing
        self._skips = skips
        self._fed = 0
        self._is_open = False
        self._is_fed = False
        self._is_over = False
        self._at_once = 0
        self._success = 0
        self._failures = 0
        self._failed: list[int] = []
        self._cancelled: list[int] = []
        self._unbegun: int | None = None  # taken from the items, and neither begun nor landed
        self._live: dict[asyncio.Task[None], _Row[T]] = {}
        self._landed: deque[tuple[Record[T, R], _Row[T]]] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._rows_ended = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._error: BaseException | None = None  # of the items, or of how the task is called: raised when what is under way has ended
        self._fatal: BaseException | None = None  # of the run: raised at once
        self._scope: Scope | None = None
        self._watch: Watch | None = None

    # for the reader

    async def next(self) -> Record[T, R] | None:
        """The next row that ended, or None when there is none to come.

        Raises: what the items raise, once the rows before have been given; what the run was lost to, RunStopped; AmbiguousLoop.
        """
        while True:
            if self._fatal is not None:
                raise self._fatal
            if not self._is_open:
                self._open()
            self._feed()
            if self._landed:
                if self._at_once >= AT_ONCE:
                    self._at_once = 0
                    await asyncio.sleep(0)
                record, row = self._landed.popleft()
                row.delivered()
                self._room.set()
                return record
            if not self._live and (self._is_fed or self._is_over):
                if isinstance(self._error, _Refused):
                    raise await doubted_error(self._error.scope, self._error.order, self._error.doubted) from None
                if self._error is not None:
                    raise self._error
                return None
            self._news.clear()
            await self._news.wait()

    def leave(self) -> None:
        """Begin nothing more, and cancel what is under way."""
        if self._pump is not None and not self._is_over:  # once: then it closes the items
            self._pump.cancel()
        self._is_over = True
        for task in list(self._live):
            task.cancel()
        self._news.set()

    async def end(self) -> None:
        """Leave, and return when nothing is under way any more, and the items are closed. Raises: what closing them raises.

        In a run what does not end within the grace is left to the attempt's end.
        """
        self.leave()
        try:
            await self._settled(list(self._live))
        finally:
            self._rows_ended.set()
            if self._pump is not None:
                await asyncio.wait({self._pump})
            if self._watch is not None:
                self._watch.end(ended=False)
            await self._source.aclose()
            if self._pump is not None and not self._pump.cancelled() and (error := self._pump.exception()) is not None:
                raise error

    def summary(self) -> SimpleRecordsResult:
        """What became of the rows up to now."""
        total = max(self._fed, self._source.total or 0)
        waiting = [self._unbegun] if self._unbegun is not None else []
        unprocessed = spans_of([*self._cancelled, *(row.index for row in self._live.values()), *waiting])
        if total > self._fed:
            follows = bool(unprocessed) and unprocessed[-1][1] == self._fed - 1
            unprocessed.append((unprocessed.pop()[0] if follows else self._fed, total - 1))
        return summed_up(self._success, self._failures, spans_of(self._failed), unprocessed, total)

    # from item to row

    def _open(self) -> None:
        """Take the place among the `map`s of the attempt: now, since nobody knows which of two gets its first item first."""
        self._is_open = True
        scope = _scope_of(self._context)
        if scope is None or scope.loop is not asyncio.get_running_loop() or not isinstance(self._task, Task):
            return
        if scope.runtime.durable and not (scope.ended or scope.abandoned or scope.runtime.lost is not None):
            self._watch = Watch(scope, self._task.name, self._context.group, self._source.total)

    def _feed(self) -> None:
        """Begin rows for as many items as there is room for; where one has to wait for items, or for a turn, in a task of its own."""
        if self._source.is_async or self._limit is not None:
            if self._pump is None and not self._is_over:
                self._pump = asyncio.create_task(self._feed_slowly(), name="the rows' feeder")
            return
        while not self._is_fed and not self._is_over and self._has_room():
            try:
                item = self._source.pull()
            except StopIteration:
                self._have_ended()
                return
            except Exception as error:
                self._give_up(error)
                return
            try:
                row = self._placed(item)
            except Exception as error:
                self._give_up(error)
                return
            if row is not None:
                self._begin(row)

    async def _feed_slowly(self) -> None:
        try:
            while not self._is_fed and not self._is_over:
                while not self._has_room():
                    self._room.clear()
                    await self._room.wait()
                await self._feed_one()
        except Exception as error:
            self._give_up(error)
        except asyncio.CancelledError as error:
            if not self._is_over:  # what the items waited for was cancelled, and not we: that is no end of the items
                self._give_up(error)
                raise
            await self._rows_ended.wait()
            await self._source.aclose()  # in the task that ran it: what it holds open may belong to that

    async def _feed_one(self) -> None:
        try:
            item = await self._source.pull_later()
        except StopAsyncIteration:
            self._have_ended()
            return
        row = self._placed(item)
        if row is None:
            return
        if self._limit is not None:
            try:
                await self._limit.begin()
            except BaseException:
                row.never_begun()
                raise
        self._begin(row)

    def _has_room(self) -> bool:
        if self._width is None:
            return len(self._landed) < AT_ONCE
        return len(self._live) + len(self._landed) < self._width

    def _have_ended(self) -> None:
        """There are no more items."""
        self._is_fed = True
        self._news.set()
        try:
            if self._watch is not None:
                self._watch.end(ended=True)
        except Exception as error:  # whoever makes warnings errors means it
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """Feed no more: the items failed, or the task can't be called with one of them."""
        self._error = error
        self._is_fed = True
        self._news.set()

    def _placed(self, item: T) -> _Row[T] | None:
        """Take the place of the next row; None where it landed at once, from record.

        Raises: what its task can't be called with; UnrecordableResult, RunStopped.
        """
        index = self._fed
        token = put(self._context)
        try:
            call = self._task.call(item)
        finally:
            take_back(token)
        self._fed += 1
        self._unbegun = index
        row: _Row[T] = _Row(index, item, call)
        scope = call.scope()
        if scope is None or scope.loop is not asyncio.get_running_loop():
            return row
        row.scope = self._scope = scope
        order = row.order = call.take()
        check_asking(scope, order)
        order.definition.result_codec()
        if not scope.runtime.durable:
            return row
        try:
            place = noted_place(scope, order, call.context)
        except Doubted as doubted:
            raise _Refused(scope, order, doubted) from None
        if self._watch is not None:
            self._watch.see(place.bare or place.first)  # a change of context is told of by itself
        found = answer_now(scope, order, place, call.context)
        row.place = place._replace(skips=True) if self._skips else place
        if found is not None:
            self._at_once += 1
            self._unbegun = None
            self._land(row, RecordStatus.SUCCESS, value=found.value)
            return None
        return row

    def _begin(self, row: _Row[T]) -> None:
        task = asyncio.create_task(self._run(row), name=f"row {row.index}")
        self._live[task], self._unbegun = row, None
        task.add_done_callback(self._ended)

    # from row to record

    async def _run(self, row: _Row[T]) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if row.scope is not None and row.order is not None:
                value = await asking(row.scope, row.order, row.call.context, task.get_coro(), row.place, self._standing)
            elif (scope := row.call.scope()) is not None:
                asked = asyncio.run_coroutine_threadsafe(self._ask_there(row, scope, row.call.take()), scope.loop)
                value = await asyncio.wrap_future(asked)
            else:
                value = await row.call
        except asyncio.CancelledError:
            raise
        except Exception as error:
            del self._live[task]
            if self._is_its_own(row, error):
                self._land(row, RecordStatus.ERROR, error=error)
            else:
                self._note_cancelled(row)
                self._fatal = self._fatal or error
                self._news.set()
        else:
            del self._live[task]
            self._land(row, RecordStatus.SUCCESS, value=value)

    async def _ask_there(self, row: _Row[T], scope: Scope, order: Order) -> Any:
        """Ask for a row on the loop of its run, for a `def` body that has a loop of its own."""
        check_asking(scope, order)
        if scope.runtime.durable:
            try:
                place = noted_place(scope, order, row.call.context)
            except Doubted as doubted:
                raise await doubted_error(scope, order, doubted) from None
            row.place = place._replace(skips=True) if self._skips else place
        return await asking(scope, order, row.call.context, None, row.place, self._standing)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Its task has ended. One that is still live was cancelled, perhaps before it began, or raised what is nobody's to catch."""
        row = self._live.pop(task, None)
        if row is not None:
            if not task.cancelled():
                self._fatal = self._fatal or task.exception()
            row.never_begun()
            self._note_cancelled(row)
            if not self._is_over:
                self._landed.append((Record(row.index, row.item, RecordStatus.UNPROCESSED), row))
            self._news.set()

    def _note_cancelled(self, row: _Row[T]) -> None:
        if len(self._cancelled) < NAMED:
            self._cancelled.append(row.index)

    def _is_its_own(self, row: _Row[T], error: Exception) -> bool:
        """Whether an error is how the row failed, and not the run's, or of how it was asked for."""
        scope = row.call.scope()
        if isinstance(error, _NOT_OF_A_ROW) or (scope is not None and scope.runtime.lost is not None):
            return False
        if scope is None or not scope.runtime.durable:
            return True
        if row.place is None:
            return False
        record = scope.runtime.state.actions.get(row.place.name) if scope.runtime.state is not None else None
        return record is not None and record.status in _FAILED

    def _land(self, row: _Row[T], status: RecordStatus, *, value: R | None = None, error: Exception | None = None) -> None:
        if status is RecordStatus.SUCCESS:
            self._success += 1
        else:
            self._failures += 1
            if len(self._failed) < NAMED:
                self._failed.append(row.index)
        row.landed()
        self._landed.append((Record(row.index, row.item, status, value, error), row))
        self._news.set()

    async def _settled(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        if not tasks:
            return
        if self._scope is None:
            await asyncio.wait(tasks)
        else:
            await wait_within_grace(tasks, self._scope.runtime, self._call_hooks)

    def _call_hooks(self) -> None:
        for row in list(self._live.values()):
            if row.scope is not None and row.place is not None and (child := row.scope.children.get(row.place.name)) is not None:
                child.leave()


def cancelled_from_within(index: int) -> asyncio.CancelledError:
    """What `map` ends with where a row was cancelled, and not by it: there is no outcome to go on with."""
    return asyncio.CancelledError(f"row {index} was cancelled from within")


def _scope_of(context: Context) -> Scope | None:
    """The attempt that a line is in; None outside any."""
    running = context.task_context
    link = link_of(running) if running is not None else None
    return link if isinstance(link, Scope) else None


def _bounds(concurrency: int | Rate) -> tuple[int | None, Limit | None]:
    """How many rows are under way at once, and at which rate they begin. Raises: InvalidOption."""
    if isinstance(concurrency, Rate):
        return concurrency.concurrency, Limit(Rate(concurrency.count, per=concurrency.per))
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:  # type: ignore[redundant-expr]
        raise InvalidOption(option="concurrency", value=concurrency, reason="it takes a whole number from 1 up, or a Rate")
    return concurrency, None


def _context(group: str | None) -> Context:
    """The node that the rows' calls are made in."""
    current = Context.current()
    if group is None:
        return current
    return current.replace(group=(*current.group, check_group(group)))
