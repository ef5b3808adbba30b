"""Who is running: the tree of contexts, in the package's one ContextVar.

A `Context` is a frozen node. Blocks (`with custom_context(...)`, `with group(...)`, `with context:`) put a child node in place and take
it away again in the same frame. A call captures the node in which it is *made*; an attempt runs with a node of its own, so what a body
binds reaches its calls and never its caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token, copy_context
from datetime import datetime
from decimal import Decimal
from random import SystemRandom
from types import MappingProxyType
from typing import Any, Final, NamedTuple, ParamSpec, Protocol, Self, TypeVar
from uuid import UUID, uuid4

from holdfast.bridge import running_loop, wait_for_loop
from holdfast.checkpoints import Checkpoint
from holdfast.checkpoints.checkpoint import Type
from holdfast.clocks import clock, instant
from holdfast.costs import NOTHING, Cost
from holdfast.errors import BlockingCall, InvalidContext, InvalidName, NoRawDataPath
from holdfast.messages import MessageType
from holdfast.orders import ActionID, Capsule, Order, idempotency_key
from holdfast.progress import Bar
from holdfast.retries import Seconds, to_seconds
from holdfast.tabs import Tab, limits

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

TRACE_KEYS: Final = frozenset({"traceparent", "tracestate", "baggage"})
"""Never counted, never compared: they change with every process (W3C Trace Context and Baggage)."""

DEFAULT_TOTAL: Final = float("100")
"""An object of its own, so that a call that gives no total can be told from one that gives 100."""

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Track(Protocol):
    """One loop of `track`, and the bar that follows it."""

    def take(self) -> None:
        """The next item goes to the body."""
        ...

    def done(self) -> None:
        """The body is done with it."""
        ...

    def finish(self) -> None:
        """There are no more."""
        ...

    def leave(self) -> None:
        """The body goes away, whether it has an item in hand or not."""
        ...


class Link(Protocol):
    """What the far side of an attempt asks of the near side."""

    is_over: bool
    """Set by the far side: the body has ended, whatever became of the attempt."""
    budgets: tuple[Budget, ...]
    """Those under which the attempt was made."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def task_name(self) -> str: ...

    @property
    def stopping(self) -> bool: ...

    @property
    def checkpoint(self) -> Checkpoint: ...

    def check(self, what: str) -> None:
        """Raise ActionEnded or AttemptAbandoned, where this attempt may no longer do anything."""
        ...

    def identify(self) -> ActionID:
        """The action's id, worked out when it is first asked for in an ephemeral run."""
        ...

    def advance(self, name: str, step: float, total: float | None) -> Bar: ...

    def track(self, name: str, total: float | None, left: int | None) -> Track: ...

    def message(self, type: MessageType, content: str) -> None: ...

    def clear_messages(self) -> None: ...

    def summarize(self, text: str) -> None: ...

    def implement(self, *schemas: str) -> None: ...

    def patience(self) -> float:
        """Seconds for which a body that can't be stopped is waited for, once it was asked to end."""
        ...

    def cancel_children(self) -> None:
        """Cancel the actions that the body waits for."""
        ...

    def leave(self) -> None:
        """The body was asked to end, and may not hear of it: call what `on_exit` registered."""
        ...

    def on_exit(self, hook: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None: ...

    def figure(self, path: str, figure: object) -> None: ...

    def add_cost(self, cost: Any, tokens: Any, tokens_in: Any, tokens_out: Any, model: Any, key: Any) -> None: ...

    def recorded(self, what: str, fn: Callable[[], Any], *, in_thread: bool) -> Coroutine[Any, Any, Any]:
        """Return what `fn` gave when this position was first reached."""
        ...

    def on_rollback(self, order: Order) -> Coroutine[Any, Any, None]:
        """Register an undo, durably."""
        ...

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]: ...

    def receive(self, topic: str, as_type: Any, timeout: float | None) -> Coroutine[Any, Any, Any]: ...


class Undo(Protocol[P]):
    """A task, as far as `on_rollback` needs one."""

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...


class TaskContext:
    """The running attempt, as its body sees it: `ctx()`."""

    __slots__ = ("_capsule", "_link", "custom_context")

    custom_context: Mapping[str, str]
    """The values bound around this call, read-only."""

    def __init__(self, capsule: Capsule, link: Link) -> None:
        self._capsule = capsule
        self._link = link
        self.custom_context = MappingProxyType(capsule.custom_context) if capsule.custom_context else _NOTHING

    @property
    def action(self) -> ActionID:
        """The action's place in its run."""
        return self._link.identify()

    @property
    def attempt_number(self) -> int:
        """How many times the action was begun before, from 0. It never starts again, and may pass `max_attempts`."""
        return self._capsule.attempt_number

    @property
    def max_attempts(self) -> int:
        """Attempts that `retries` allows for one asking."""
        return self._capsule.max_attempts

    @property
    def retries_left(self) -> int:
        """Failures of this asking that would still be followed by another attempt."""
        return self._capsule.retries_left

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier process began this run."""
        return self._capsule.ownership.is_resumed

    @property
    def durable(self) -> bool:
        """Whether outcomes and checkpoints outlive the process. False in an ephemeral run."""
        return self._capsule.ownership.durable

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to end. A `def` body that looks at it can end within the grace."""
        return self._link.stopping

    @property
    def idempotency_key(self) -> str:
        """Equal in all attempts of this action, different in every other run and incarnation: for outside systems that honour it."""
        return idempotency_key(self._capsule.ownership.run_id, self.action.name)

    @property
    def fencing_token(self) -> str:
        """Grows as text with every owner and attempt: for outside systems that refuse an older one."""
        return self._capsule.fencing_token

    @property
    def run_start_time(self) -> datetime:
        """When the run was first begun, aware, in UTC. Equal in every attempt."""
        return instant(self._capsule.ownership.run_started_at)

    @property
    def version(self) -> str | None:
        """The task's `version=`."""
        return self._capsule.version

    @property
    def raw_data_path(self) -> str:
        """A place of this action's own for files that it keeps itself; nothing creates or removes it. Raises: NoRawDataPath."""
        capsule = self._capsule
        if capsule.raw_data_path is not None:
            return capsule.raw_data_path
        if capsule.raw_data_base is not None:
            return f"{capsule.raw_data_base.rstrip('/')}/{self.action.name}"
        if capsule.ownership.run_url is not None:
            return f"{capsule.ownership.run_url}/actions/{self.action.name}/raw"
        raise NoRawDataPath()

    @property
    def checkpoint(self) -> Checkpoint:
        """State that later attempts of this action may load."""
        return self._link.checkpoint

    def progress(self, name: str = "default", step: float = 1, total: float | None = DEFAULT_TOTAL) -> Bar:
        """Advance a named bar, and return it. From `async def` and `def` bodies alike, and from any of their threads.

        Observers see all of it. On record it goes about once a second while it moves, and always before the attempt's outcome, so that
        after a kill `Store.state` shows it as it was at most so much earlier. Bars belong to an attempt: each one begins with none, and
        `checkpoint.load` puts them back as they were at the save.

        Args:
            name: Which of the action's bars, 1 to 255 characters; at most 100 bars.
            step: Steps to add: not where it stands. 0 shows the bar, a negative number takes back.
            total: Steps in all, 100 where it was never given; None where unknown. A later call that gives it changes it.

        Raises:
            InvalidOption: `step` or `total` is not a finite number, or `name` can't be one.
            ActionEnded, AttemptAbandoned: The attempt is over.
        """
        self._link.check("ctx().progress")
        return self._link.advance(name, step, total)

    def message(self, type: MessageType, content: str, /) -> None:
        """Say something to whoever watches: observers, and readers of `ActionState.messages` and `TaskResult.messages`.

        It goes on record in its turn, and outlives the attempt: a retry adds to what was said before. The newest 100 of an action are kept.
        In an ephemeral run nobody hears it.

        Args:
            type: How much it matters.
            content: A text; what is over 4 KiB of UTF-8 is cut, and a note says so.

        Raises:
            InvalidOption: `type` is no `MessageType`, or `content` no str.
            ActionEnded, AttemptAbandoned: The attempt is over.
        """
        self._link.check("ctx().message")
        self._link.message(type, content)

    def clear_messages(self) -> None:
        """Take back all messages of this action, also those of its earlier attempts. Where there are none, nothing happens.

        Raises: ActionEnded, AttemptAbandoned.
        """
        self._link.check("ctx().clear_messages")
        self._link.clear_messages()

    def summary(self, text: str, /) -> None:
        """Say in a few words what came out: `TaskResult.summary`. The last one said counts.

        It goes on record with the attempt's outcome, whatever that is: also a failed attempt keeps it. Nothing to await, in `async def` and
        `def` bodies alike.

        Args:
            text: At most 64 KiB. Data belongs into the result, which is the payload.

        Raises:
            InvalidOption: It is no str, or longer.
            ActionEnded, AttemptAbandoned: The attempt is over.
        """
        self._link.check("ctx().summary")
        self._link.summarize(text)

    def implements(self, *schemas: str) -> None:
        """Say which schemas the result follows: `TaskResult.schemas`, and `Store.latest_result(task, schema=...)` finds it by them.

        Goes on record as a summary does. Called again, it adds to what was said.

        Args:
            schemas: Names, each at most 255 characters; `"a;b"` is two.

        Raises:
            InvalidOption: One is no str, empty, or longer.
            ActionEnded, AttemptAbandoned: The attempt is over.
        """
        self._link.check("ctx().implements")
        self._link.implement(*schemas)

    def add_cost(
        self,
        cost: Decimal | str,
        *,
        tokens: int = 0,
        tokens_in: int = 0,
        tokens_out: int = 0,
        model: str | None = None,
        key: str | None = None,
    ) -> None:
        """Report what something cost, as soon as it is spent. Nothing to await, in `async def` and `def` bodies alike.

        It goes on record at once, and counts whatever becomes of the attempt: also one that fails, crashes later or is rolled back has
        spent it, and loading an older checkpoint does not take it back. All budgets around this line count it. Outside a run only budgets
        do.

        Example::

            answer = await client.ask(prompt, idempotency_key=ctx().idempotency_key)
            used = answer.usage
            ctx().add_cost(price.of(used.prompt, used.answer), tokens_in=used.prompt, tokens_out=used.answer, model="small", key="answer")

        Args:
            cost: From 0 up, as a Decimal or a str, such as `"0.0015"`; no float, which could not be summed exactly.
            tokens: In both directions, where they are not told apart; else leave it out for the sum of the two.
            tokens_in: Of the prompt.
            tokens_out: Of the answer.
            model: For whom they are counted apart, besides the task.
            key: Counts once over all attempts of this action, the first amount reported under it: for a call that is charged once however
                often it is asked, since the other side honours `ctx().idempotency_key`. Other actions have keys of their own.

        Raises:
            InvalidOption: An amount is negative, no number, not finite, a float, or beyond 60 digits; a name is empty.
            ActionEnded, AttemptAbandoned: The attempt is over.
        """
        self._link.add_cost(cost, tokens, tokens_in, tokens_out, model, key)

    def figure(self, path: str, figure: object, /) -> None:
        """Keep a figure, to be shown under `path`. It is drawn at once, and written behind the body, before the attempt's outcome is.

        A figure never fails the task: one that can't be drawn or written leaves the warning `FigureBroken`. The last one under a path
        counts. In an ephemeral run it is drawn, and not kept.

        Args:
            path: Names separated by "/", such as `"scans/motor"`: at most 8, of letters, digits, `.`, `_` and `-`. It gets the suffix of
                what is kept, unless it has it.
            figure: A figure of matplotlib (or axes) or an image of PIL, kept as PNG; of plotly, bokeh, panel or holoviews, as a page of
                HTML that needs no network; a str of HTML or SVG; bytes; the `Path` of a picture; or what has a `_repr_html_`,
                `_repr_svg_` or `_repr_png_`. At most 64 MiB.

        Raises:
            InvalidName: `path` can't stand in a path.
            ActionEnded, AttemptAbandoned: The attempt is over.
        """
        self._link.figure(path, figure)

    def on_exit(self, hook: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Have `hook(*args, **kwargs)` called once, if this attempt ends otherwise than by returning.

        That is: it fails, times out, is cancelled or stopped, or is about to be abandoned. The newest hook is called first, and all of them
        share the grace. An async hook runs on the run's loop, any other in a thread. What a hook raises becomes the warning
        `CleanupFailed` and a note on the attempt's error, and is never raised over it.

        For an async body they are called when it has ended; or, where it has not by then, when half of the grace is over. For a `def`
        body, which nobody can interrupt, they are called as soon as it is to end, so that a hook can end what it waits for (a
        subprocess, a socket); it then has the grace to end. What it returns after that counts for nothing.

        In a hook, `ctx()` is the attempt's, and begins nothing. Hooks are not durable: when the process dies, none is called. What has to
        be undone then too is for `on_rollback`.

        Raises:
            InvalidOption: `hook` can't be called.
            ActionEnded, AttemptAbandoned: The attempt is over.
        """
        self._link.on_exit(hook, args, kwargs)

    async def now(self) -> datetime:
        """The time when this position was first reached, aware, in UTC: the same again after a crash."""
        return datetime.fromisoformat(await self._link.recorded("now", _now, in_thread=False))

    async def uuid(self) -> UUID:
        """A random UUID, drawn once for this position."""
        return UUID(await self._link.recorded("uuid", _uuid, in_thread=False))

    async def random(self) -> float:
        """A number from [0, 1), drawn once for this position."""
        return float(await self._link.recorded("random", _random, in_thread=False))

    async def record(self, fn: Callable[[], T], /) -> T:
        """Call `fn` once for this position, and give what it returned, again after a crash.

        Raises: UnrecordableResult; what `fn` raises, recorded too.
        """
        value: T = await self._link.recorded("record", fn, in_thread=False)
        return value

    async def on_rollback(self, undo: Undo[P], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Register what undoes an effect, before the effect: a rollback of this action, or of one above it, then calls `undo(*args)`.

        Once this returns, the intent is durable: whatever happens to the process, the undo will run, be the effect done or not. Undos run
        newest first, each at least once, also in another process. Registered again by a later attempt at the same place, it counts once.

        Args:
            undo: A task as its module defines it, which can be imported, with retries of its own. Its arguments are recorded through its
                annotations.
            args: What it is called with, and `kwargs`.

        Raises: TypeError, UnrecordableResult, InvalidTask.
        """
        self._link.check("ctx().on_rollback")
        await self._link.on_rollback(undo.call(*args, **kwargs).take())

    def on_rollback_sync(self, undo: Undo[P], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """`on_rollback`, for `def` bodies."""
        self._sync("on_rollback", self.on_rollback(undo, *args, **kwargs))

    async def sleep(self, seconds: Seconds) -> None:
        """Wait. After a crash or stop it goes on for the rest of the time, by the wall clock; what is over is not waited for again.

        It belongs to its position in the body: where several sleep side by side, in an order that chance decides, bind `group(...)`.

        Args:
            seconds: How long, in seconds or as a timedelta, from 0 up.

        Raises:
            InvalidOption: `seconds` is not a duration.
            ActionEnded, AttemptAbandoned: The attempt is over.
        """
        await self._link.sleep(to_seconds("seconds", seconds, allow_zero=True))

    async def receive(self, topic: str, as_type: Type[T], *, timeout: Seconds | None = None) -> T:
        """Take the next value that was sent to a topic of this run, or wait for it. Each value goes to one receiver, in order.

        The value is used up when this returns: after a crash the same position gives it again, and nobody else gets it. While it waits,
        the task is AWAITING_INPUT, and needs no slot of `concurrency=`. What was sent before anybody asked is kept. Values come from
        `Store.send` or `RunHandle.send`, of this process or any other.

        Cancelled (as by `asyncio.wait_for`) in the very moment in which a value arrives, it may have used that up: give a `timeout`
        instead.

        Args:
            topic: As it was sent to.
            as_type: A type, or a TypeAdapter, that the value is validated as, laxly: a str becomes a datetime, a dict a model.
            timeout: Seconds, or a timedelta, by the wall clock, running on through a crash or stop; 0 takes only what is there. None
                waits without end. A value that is there wins over a deadline that has passed.

        Returns:
            The value, as `as_type`.

        Raises:
            ReceiveTimedOut: None came in time. After a crash the same is raised again.
            ReceivedInvalid: It is not valid as `as_type`. It is used up.
            InboxDamaged: It can't be read. It is used up.
            UnrecordableResult: Values of `as_type` can't be recorded (nothing is used up), or this one can't (it is used up).
            InvalidName, InvalidOption: Of `topic` and `timeout`.
            StorePermission, StoreInvalid, WrongKey, JournalTooNew: The store does not let it be read.
            ActionEnded, AttemptAbandoned: The attempt is over.
        """
        seconds = None if timeout is None else to_seconds("timeout", timeout, allow_zero=True)
        value: T = await self._link.receive(topic, as_type, seconds)
        return value

    def now_sync(self) -> datetime:
        """`now`, for `def` bodies."""
        return self._sync("now", self.now())

    def uuid_sync(self) -> UUID:
        """`uuid`, for `def` bodies."""
        return self._sync("uuid", self.uuid())

    def random_sync(self) -> float:
        """`random`, for `def` bodies."""
        return self._sync("random", self.random())

    def record_sync(self, fn: Callable[[], T], /) -> T:
        """`record`, for `def` bodies."""
        work: Coroutine[Any, Any, T] = self._link.recorded("record", fn, in_thread=True)
        return self._sync("record", work)

    def sleep_sync(self, seconds: Seconds) -> None:
        """`sleep`, for `def` bodies."""
        self._sync("sleep", self.sleep(seconds))

    def receive_sync(self, topic: str, as_type: Type[T], *, timeout: Seconds | None = None) -> T:
        """`receive`, for `def` bodies."""
        return self._sync("receive", self.receive(topic, as_type, timeout=timeout))

    def _sync(self, verb: str, work: Coroutine[Any, Any, T]) -> T:
        if running_loop() is not None:
            work.close()
            raise BlockingCall(task=f"ctx().{verb}_sync", instead=f"ctx().{verb}")
        return wait_for_loop(work, self._link.loop)


class Context(NamedTuple):
    """A frozen node of the tree. A tuple, since one is made for every block and every attempt.

    Attributes:
        task_context: The running attempt, or None outside a task.
        raw_data_path: Where calls below keep raw data: each at `<raw_data_path>/<ActionID.name>`.
        custom_context: All values in force.
        group: The path of groups in force.
        budgets: The budgets in force, outermost first, each as it was entered.
    """

    task_context: TaskContext | None = None
    raw_data_path: str | None = None
    custom_context: Mapping[str, str] = _NOTHING
    group: tuple[str, ...] = ()
    counted: Mapping[str, str] = _NOTHING
    replaced: tuple[Any, Any] | None = None
    budgets: tuple[Budget, ...] = ()

    @staticmethod
    def current() -> Context:
        """The node in force here."""
        return _CURRENT.get()

    def replace(self, **changes: Any) -> Context:
        """A changed copy, to be entered with `with`."""
        return self._replace(**changes, replaced=None)

    def __enter__(self) -> Self:
        """Put this node in force. It can be entered again, also by several tasks at once: what it replaced is kept in what is set."""
        _CURRENT.set(self._replace(replaced=(self, _CURRENT.get())))
        return self

    def __exit__(self, *exc: object) -> None:
        replaced = _CURRENT.get().replaced
        if replaced is not None and replaced[0] is self:
            _CURRENT.set(replaced[1])


_CURRENT: Final[ContextVar[Context]] = ContextVar("holdfast", default=Context())  # noqa: B039 - a frozen node
_current = _CURRENT.get
put: Final[Callable[[Context], Token[Context]]] = _CURRENT.set
"""Put a node in force, for an attempt's frame; the token goes to `take_back`."""
take_back: Final[Callable[[Token[Context]], None]] = _CURRENT.reset


def link_of(running: TaskContext) -> Link:
    """The near side of a running attempt."""
    return running._link  # pyright: ignore[reportPrivateUsage]


def ctx() -> TaskContext | Any:
    """Return the running attempt's `TaskContext`, or None outside a task.

    Annotated as typeshed does where None is possible and checks would only hurt.
    """
    return _current().task_context


def get_custom_context() -> Mapping[str, str]:
    """Return the custom context of the running task, with what is bound around this line; `{}` outside a task, unless bound there."""
    return MappingProxyType(dict(_current().custom_context))


class _Block:
    """A `with` block that puts a changed node in force, and restores what was there.

    Around a `yield` Python runs the two ends in whichever contexts it likes; the exit then restores what it can, and never raises.
    """

    __slots__ = ("_entered",)

    def __init__(self) -> None:
        self._entered: tuple[Token[Context], Context, Any] | None = None

    def _node(self, current: Context) -> Context:
        raise NotImplementedError

    def __enter__(self) -> None:
        node = self._node(_current())
        self._entered = (_CURRENT.set(node), node, self._entered)

    def __exit__(self, *exc: object) -> None:
        if self._entered is None:
            return
        token, node, self._entered = self._entered if self._entered[2] is None else _of_node(self._entered, _current())
        try:
            _CURRENT.reset(token)
        except ValueError:  # closed in another context than it was entered in
            if _current() is node and token.old_value is not Token.MISSING:
                _CURRENT.set(token.old_value)


def _of_node(entered: tuple[Token[Context], Context, Any], node: Context) -> tuple[Token[Context], Context, Any]:
    """Of a block that is entered more than once, perhaps by several tasks at once, the entry that put `node` in force; else the last."""
    above, found = [], entered
    while found[1] is not node and found[2] is not None:
        above.append(found)
        found = found[2]
    if found[1] is not node:
        return entered
    rest = found[2]
    for token, entered_node, _ in reversed(above):
        rest = (token, entered_node, rest)
    return found[0], found[1], rest


class _CustomContext(_Block):
    __slots__ = ("_values",)

    def __init__(self, values: dict[str, str]) -> None:
        self._entered = None
        self._values = values

    def _node(self, current: Context) -> Context:
        values = self._values
        for key, value in values.items():
            if not isinstance(value, str):
                raise InvalidContext(key=key, type_name=type(value).__name__)
        counted = current.counted
        if current.task_context is not None:
            bound = values if TRACE_KEYS.isdisjoint(values) else {k: v for k, v in values.items() if k not in TRACE_KEYS}
            counted = {**counted, **bound}
        return Context(
            current.task_context,
            current.raw_data_path,
            {**current.custom_context, **values},
            current.group,
            counted,
            current.replaced,
            current.budgets,
        )


class _Group(_Block):
    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def _node(self, current: Context) -> Context:
        return current._replace(group=(*current.group, self._name))


class Budget(_Block):
    """How much may be spent: by a run, as its option `budget=`, or by what is called inside `with Budget(...):`, in a task or outside.

    Budgets nest, and each counts what happens below it. Before an attempt begins, it has to fit: what is spent, what is held for the
    attempts at work, and what is held for this one must not pass a limit. Where it fits once others have ended, it waits for them; where
    it does not fit whatever becomes of them, the budget is spent. Then no attempt of the whole run begins any more, those at work finish,
    the run ends STOPPED, and `run` raises `BudgetSpent`. The same line goes on under a raised limit: limits are no inputs. Calls answered
    from record need no room. Outside a run, the call that finds no room raises `BudgetSpent`.

    What counts: for a run's budget all that is on record of the run, also from before a resume. For a block what is called and reported
    inside it, since it was entered by this attempt, with all that is on record of the calls made in it, answered from record or not;
    a block around `run(...)` counts that run's record alike.

    Attempts at work are never cut short, so each of those that work side by side may pass the limit by what it costs beyond what is held
    for it: by nothing, where `reserve` is the most that one can cost; by one call each at most. Bodies that wait for actions hold nothing
    meanwhile. What waits for somebody else (`ctx().receive`) is not waited for; what waits for another attempt by other means than a call
    (an `asyncio.Queue` between two tasks) counts as at work, so give such tasks a `timeout=`.

    Example::

        await run(classify_all(rows), run_name="rows", budget=Budget(cost="10", reserve="0.02"))

    Args:
        cost: The most that may be reported by `ctx().add_cost`, more than 0, as a Decimal or a str.
        tokens: The same for tokens.
        seconds: For how long attempts may begin. Of a run: the time that it was worked on, over all its owners. Of a block: since it was
            entered. A clock that goes on while bodies wait, but not between two owners.
        executions: How many attempts may begin, retries and the run's root included; what `ctx()` itself awaits (`now`, `sleep`, ...) is
            none.
        reserve: Money held for each attempt until it has spent it or ended. None: the most that an attempt of the same task has cost so
            far. Of tokens that most is always held.
        warn_at: Fractions of each limit at which a `BudgetWarning` is given and recorded, once each.

    Raises:
        InvalidOption: No limit, a limit that is not more than 0, a float for money, a reserve above the limit, a fraction outside (0, 1].
    """

    __slots__ = ("_limits", "_tab")

    def __init__(
        self,
        *,
        cost: Decimal | str | None = None,
        tokens: int | None = None,
        seconds: Seconds | None = None,
        executions: int | None = None,
        reserve: Decimal | str | None = None,
        warn_at: Sequence[float] = (0.75, 0.9),
    ) -> None:
        super().__init__()
        self._limits = limits(cost, tokens, seconds, executions, reserve, warn_at)
        self._tab: Tab | None = None

    @property
    def spent(self) -> Cost:
        """What it has counted so far, of a budget that was entered (`Context.current().budgets`)."""
        return self._tab.spent if self._tab is not None else NOTHING

    def entered(self, name: str, seconds: float = 0.0) -> Budget:
        """The same, with a count of its own. `seconds` have passed already."""
        entered = Budget.__new__(Budget)
        _Block.__init__(entered)
        entered._limits = self._limits
        entered._tab = Tab(self._limits, clock().monotonic() - seconds, name)
        return entered

    def _node(self, current: Context) -> Context:
        running = current.task_context
        name = "the budget around this call" if running is None else f"a budget in {link_of(running).task_name}"
        return current._replace(budgets=(*current.budgets, self.entered(name)))

    def __repr__(self) -> str:
        fields = ((field.name, getattr(self._limits, field.name)) for field in self._limits.__fields__)
        return f"Budget({', '.join(f'{name}={value!r}' for name, value in fields if value is not None)})"


AT_ANY_COST: Final = Budget(executions=1)
"""Among budgets: what is begun below it (undoing) counts for the others, and is never refused."""


def tabs_of(budgets: Iterable[Budget]) -> tuple[Tab, ...]:
    """What the budgets that were entered have counted."""
    return tuple(budget._tab for budget in budgets if budget._tab is not None)  # pyright: ignore[reportPrivateUsage]


def custom_context(**values: str) -> AbstractContextManager[None]:
    """Bind values for every task called inside the block, and all that they call.

    Nests, overrides and restores. Outside a task it binds what a run started inside inherits.

    Raises:
        InvalidContext: A value is not a str; checked at entry, naming the key.
    """
    return _CustomContext(values)


def group(name: str) -> AbstractContextManager[None]:
    """Group the calls made inside the block. Groups nest into a path, and are part of the calls' identity.

    Raises:
        InvalidName: `name` is not a str, or empty.
    """
    return _Group(check_group(name))


def check_group(name: str) -> str:
    """Return the name of a group. Raises: InvalidName."""
    if not isinstance(name, str) or not name:  # type: ignore[redundant-expr]
        raise InvalidName(kind="group", name=str(name), reason="it takes a str that is not empty")
    return name


async def contextual_run(fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `fn` so that no context variable that it sets is seen by the caller: in a task of its own, with a copy of the context."""
    copied = copy_context()

    async def run() -> R:
        return await fn(*args, **kwargs)

    return await asyncio.create_task(run(), context=copied)


def _now() -> str:
    return instant(clock().now()).isoformat()


def _uuid() -> str:
    return str(uuid4())


def _random() -> float:
    return _SYSTEM_RANDOM.random()


_SYSTEM_RANDOM = SystemRandom()
