"""`@task`, and what calling a task gives.

A task keeps its function's colour. An `async def` task, called, gives a `Call`: a coroutine to asyncio. A `def` task is called like the
function that it is. Both have `.call` (a Call) and `.sync` (block for the result). Only `.fn` is the bare function.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
import warnings
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, Self, TypedDict, TypeVar, Unpack, cast, get_type_hints, overload

import anyio

from holdfast.actions.asking import ask, asking
from holdfast.actions.scopes import Scope
from holdfast.actions.undos import RESULT
from holdfast.bridge import portal_loop, running_loop, wait_for_loop
from holdfast.contexts import Context, link_of
from holdfast.deferred import Deferred
from holdfast.errors import BlockingCall, InvalidCall, InvalidOption, InvalidTask, NoLoop
from holdfast.identity import Signature, task_name
from holdfast.orders import Definition, Order, Policy, keys_of, make_known, with_policy
from holdfast.retention import Retention
from holdfast.retries import Rate, Retry, Seconds, Timeout
from holdfast.runs.ephemeral import ephemeral
from holdfast.runs.owned import hosts_run

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
T = TypeVar("T")


class TaskOptions(TypedDict, total=False):
    """What `@task(...)` and `with_options(...)` take."""

    name: str
    version: str | None
    retries: int | Retry
    timeout: Seconds | Timeout | None
    key: Callable[..., str] | None
    context_keys: Sequence[str] | None
    concurrency: int | Rate | None
    codec: Literal["auto", "pickle"]
    keep: int | Retention
    rollback: Task[..., Any] | None
    on_crash: Literal["rerun", "fail"]


_NO_KWARGS: Mapping[str, Any] = {}


class Call(Deferred[R_co]):
    """A task and its arguments, not yet run. Used once: awaited, gathered, made a task, or given to `run`.

    It belongs where it is made: parent, group and custom context are captured there.
    """

    __slots__ = ("args", "context", "kwargs", "task")

    args: tuple[Any, ...]
    context: Context
    kwargs: Mapping[str, Any]
    task: Task[..., R_co]

    def __init__(self, task: Task[..., R_co], args: tuple[Any, ...], kwargs: Mapping[str, Any], depth: int) -> None:
        super().__init__(depth + 1)
        self.task = task
        self.args = args
        self.kwargs = kwargs or _NO_KWARGS  # so that the empty dict of each call goes
        self.context = Context.current()
        if (scope := self.scope()) is not None:
            scope.unstarted += 1

    def __repr__(self) -> str:
        return f"<call of {self.task.name}, made at {self.made_at}>"

    @property
    def __name__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - asyncio names its tasks by it
        return self.task.__name__

    @property
    def order(self) -> Order:
        """What travels of this call."""
        return Order(self.task.definition, self.args, self.kwargs)

    def take(self) -> Order:
        """Use the call up without awaiting it: for whoever runs its order."""
        self._begun()
        self.close()
        return self.order

    def scope(self) -> Scope | None:
        """The attempt that it was made in; None outside any."""
        running = self.context.task_context
        link = link_of(running) if running is not None else None
        return link if isinstance(link, Scope) else None

    def _begun(self) -> None:
        if not self.begun and (scope := self.scope()) is not None:
            scope.unstarted -= 1

    def _begin(self) -> Coroutine[Any, Any, R_co]:
        loop, scope = running_loop(), self.scope()
        if scope is not None:
            scope.unstarted -= 1
        if loop is None:
            raise no_loop(f"await {self.task.__name__}(...)")
        if scope is None:
            return ephemeral(self.order, self.context, self)
        if scope.loop is loop:
            return asking(scope, Order(self.task.definition, self.args, self.kwargs), self.context, self)
        return _elsewhere(scope, self.order, self.context)

    def close(self) -> None:
        self._begun()
        super().close()

    def _used_again(self) -> BaseException:
        return InvalidCall(verb="await", got=f"a call of {self.task.name} that was used already")

    def _forgotten(self) -> None:
        if (scope := self.scope()) is not None:
            scope.unstarted -= 1
        text = f"call of {self.task.name} was never awaited"
        warnings.warn_explicit(text, RuntimeWarning, self._code.co_filename, self._line, source=self)


async def _elsewhere(scope: Scope, order: Order, context: Context) -> Any:
    """Ask from another loop than the run's, such as one that a `def` body runs in its thread."""
    asked = asyncio.run_coroutine_threadsafe(ask(scope, order, context, None), scope.loop)
    return await asyncio.wrap_future(asked)


def no_loop(what: str) -> NoLoop:
    """The error for a place without an asyncio loop; it tells trio apart."""
    with suppress(RuntimeError):  # anyio knows asyncio and trio, and finds neither
        anyio.get_current_task()
        return NoLoop(what=what, found=", and this is trio's", remedy="Holdfast runs on asyncio: start it with asyncio.run(...)")
    return NoLoop(what=what, found="", remedy="use asyncio.run(...), `run_sync(...)`, or the task's `.sync(...)`")


class Task(Generic[P, R_co]):
    """A function with a policy. Made by `@task`."""

    __name__: str
    __qualname__: str

    def __init__(self, definition: Definition, bound: tuple[Any, ...] = ()) -> None:
        functools.update_wrapper(cast("Callable[..., Any]", self), definition.fn, updated=())
        self.definition = definition
        self._bound = bound

    @property
    def bound(self) -> tuple[Any, ...]:
        """The object that it is a method of, if it is one's."""
        return self._bound

    @property
    def name(self) -> str:
        """The name that is part of its actions' identity."""
        return self.definition.policy.name

    @property
    def version(self) -> str | None:
        """Compared on resume: a record made by another version runs again."""
        return self.definition.policy.version

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R_co]:
        """Return a Call, to be awaited."""
        return Call(self, (*self._bound, *args), kwargs, depth=2)

    def sync(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run it and block for the result: from sync code, a `def` body, or a notebook.

        Raises: BlockingCall, where that would block the loop of a run.
        """
        return self._block(args, kwargs)

    def with_options(self, **options: Unpack[TaskOptions]) -> Self:
        """Return the same function as a task with other options.

        Raises: InvalidOption.
        """
        policy = _policy(self.definition.policy, cast("dict[str, Any]", options))
        definition = self.definition.with_policy(policy)
        _check_undo(definition)
        if policy.name != self.name:
            make_known(definition)
        return type(self)(definition, self._bound)

    def _block(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> R_co:
        call: Call[R_co] = Call(self, (*self._bound, *args), kwargs, depth=3)
        loop, scope = running_loop(), call.scope()
        if scope is not None and loop is not scope.loop:
            return wait_for_loop(call, scope.loop)
        if scope is not None or (loop is not None and hosts_run(loop)):
            call.close()
            raise BlockingCall(task=self.name, instead=f"{self.__name__}.call")
        return wait_for_loop(call, portal_loop())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.definition, self._bound)

    def __holdfast_digest__(self) -> bytes:
        return self.name.encode()

    def _bind(self, obj: object, owner: type[Any] | None) -> Any:
        if obj is None:
            return self
        return type(self)(self.definition, (obj,))

    # what makes it a function to `inspect`, so that frameworks see its parameters and its colour

    @property
    def __code__(self) -> types.CodeType:
        code: types.CodeType = self.definition.fn.__code__
        return code

    @property
    def __defaults__(self) -> tuple[Any, ...] | None:
        defaults: tuple[Any, ...] | None = self.definition.fn.__defaults__
        return defaults

    @property
    def __kwdefaults__(self) -> dict[str, Any] | None:
        defaults: dict[str, Any] | None = self.definition.fn.__kwdefaults__
        return defaults

    @property
    def __signature__(self) -> inspect.Signature:
        whole = inspect.signature(self.definition.fn)
        return whole.replace(parameters=list(whole.parameters.values())[len(self._bound) :])


class AsyncTask(Task[P, R_co]):
    """A task over an `async def` function."""

    @property
    def fn(self) -> Callable[P, Coroutine[Any, Any, R_co]]:
        """The bare function."""
        return self.definition.fn if not self._bound else functools.partial(self.definition.fn, *self._bound)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Call[R_co]:
        return Call(self, (*self._bound, *args), kwargs, depth=2)

    @overload
    def __get__(self, obj: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self: AsyncTask[Concatenate[S, Q], T], obj: S, owner: type[Any] | None = None) -> AsyncTask[Q, T]: ...
    def __get__(self, obj: Any, owner: type[Any] | None = None) -> Any:
        return self._bind(obj, owner)


class SyncTask(Task[P, R_co]):
    """A task over a `def` function."""

    @property
    def fn(self) -> Callable[P, R_co]:
        """The bare function."""
        return self.definition.fn if not self._bound else functools.partial(self.definition.fn, *self._bound)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self._block(args, kwargs)

    @overload
    def __get__(self, obj: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self: SyncTask[Concatenate[S, Q], T], obj: S, owner: type[Any] | None = None) -> SyncTask[Q, T]: ...
    def __get__(self, obj: Any, owner: type[Any] | None = None) -> Any:
        return self._bind(obj, owner)


class _Colour(Protocol):
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncTask[P, R]: ...


@overload
def task(fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
@overload
def task(fn: Callable[P, R], /) -> SyncTask[P, R]: ...
@overload
def task(**options: Unpack[TaskOptions]) -> _Colour: ...
def task(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a task.

    Args:
        name: Part of its actions' identity; `module:qualname` by default. Needed for a function that closes over variables.
        version: Compared on resume: a record made by another version runs again.
        retries: How often a failure is tried again, or a `Retry`.
        timeout: Seconds for one attempt, or a `Timeout`.
        key: A function of the call's arguments that returns a str, which replaces their digest in the identity.
        context_keys: Which custom context values count in the identity; all by default, `()` none.
        concurrency: How many of its attempts run at once in a run, or a `Rate`.
        codec: How results are recorded; "pickle" only where a type can't be recorded otherwise and the store is trusted.
        keep: How many checkpoint generations are kept.
        rollback: The task that undoes what this one did, once it COMPLETED. It is called by the names of its parameters: with the
            arguments that the task got under these names, and as `result` with what it returned.
        on_crash: With "fail", an attempt whose outcome is unknown is never followed by another.

    Raises:
        InvalidTask: It is no function, or a generator, a lambda or a partial without `name=`, or closes over variables without `name=`.
        InvalidOption: An option is unknown, or has a value that it can't have.
    """
    if fn is None:
        _policy(Policy(name="?"), options)
        return functools.partial(_make, options)
    return _make(options, fn)


def _make(options: dict[str, Any], fn: Any) -> Any:
    _check_function(fn, "name" in options)
    base = Policy(name=options["name"] if "name" in options else task_name(fn))
    is_async = inspect.iscoroutinefunction(fn)
    closes = [name for name in getattr(getattr(fn, "__code__", None), "co_freevars", ()) if name != "__class__"]
    definition = Definition(
        fn,
        _policy(base, options),
        is_async=is_async,
        signature=Signature(fn),
        annotation=functools.partial(_return_annotation, fn),
        bound_cells=bool(closes),
    )
    _check_undo(definition)
    make_known(definition)
    return (AsyncTask if is_async else SyncTask)(definition)


def _check_undo(definition: Definition) -> None:
    """Raises: InvalidOption, where the undo can't be called with what is known when it has to run."""
    signature, undo = definition.signature, definition.policy.rollback
    if undo is None:
        return
    known = {*signature.names, RESULT}
    for parameter in inspect.signature(undo.fn).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            reason = f"its parameter {parameter} takes anything; name what it needs"
        elif parameter.name == RESULT and RESULT in signature.names:
            reason = f"{RESULT} would be both an argument of the task and what it returns; rename the task's parameter"
        elif parameter.name not in known and parameter.default is parameter.empty:
            reason = f"its parameter {parameter.name} is none of the task's ({', '.join(signature.names)}), nor {RESULT!r}"
        elif parameter.name == RESULT and parameter.annotation is parameter.empty and _says_what_it_returns(definition.fn):
            reason = f"its parameter {RESULT} does not say what it is; annotate it as what the task returns, which is recorded as that"
        else:
            continue
        raise InvalidOption(option="rollback", value=undo.policy.name, reason=reason)


def _says_what_it_returns(fn: Callable[..., Any]) -> bool:
    return inspect.signature(fn).return_annotation is not inspect.Signature.empty


def _return_annotation(fn: Callable[..., Any]) -> Any:
    """The function's return annotation. One that names things of a local scope can't be resolved: then the value itself is recorded."""
    function = inspect.unwrap(fn.func if isinstance(fn, functools.partial) else fn)
    raw = getattr(function, "__annotations__", {}).get("return", inspect.Signature.empty)
    if not isinstance(raw, str):
        return raw
    try:
        return get_type_hints(function, include_extras=True)["return"]
    except (NameError, TypeError):
        return inspect.Signature.empty


def _check_function(fn: Any, is_named: bool) -> None:
    what = getattr(fn, "__qualname__", None) or repr(fn)
    if isinstance(fn, (classmethod, staticmethod)):
        raise InvalidTask(what=f"a {type(fn).__name__}", reason="decorate a plain function or method with @task")
    if isinstance(fn, Task):
        raise InvalidTask(what=what, reason="it is a task already; use with_options(...)")
    if not (inspect.isroutine(fn) or isinstance(fn, functools.partial)):
        raise InvalidTask(what=what, reason="a task is a function")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise InvalidTask(what=what, reason="a generator has no single result to record; return a list, or make each item a call")
    if _takes_its_class(fn):
        raise InvalidTask(what=f"{what}, a @classmethod,", reason="make it a method, or a function that takes the class")
    if is_named:
        return
    if isinstance(fn, functools.partial) or getattr(fn, "__name__", "<lambda>") == "<lambda>":
        raise InvalidTask(what=what, reason="it has no name of its own; give it name=")
    closes = [name for name in getattr(getattr(fn, "__code__", None), "co_freevars", ()) if name != "__class__"]
    if closes:
        reason = (
            f"it closes over {', '.join(closes)}; give it name= (what it closes over is then part of its inputs), or pass it as an argument"
        )
        raise InvalidTask(what=what, reason=reason)


def _takes_its_class(fn: Any) -> bool:
    """Whether a function in a class body is about to become a classmethod, which from Python 3.13 on no longer asks what it wraps."""
    code = getattr(fn, "__code__", None)
    around = str(getattr(fn, "__qualname__", "")).rpartition(".")[0]
    in_class = bool(around) and not around.endswith("<locals>")
    return in_class and code is not None and code.co_argcount > 0 and code.co_varnames[0] == "cls"


def policy_of(name: str, options: Mapping[str, Any]) -> Policy:
    """The policy of a task of this name. Raises: InvalidOption."""
    return _policy(Policy(name=name), options)


def _policy(base: Policy, options: Mapping[str, Any]) -> Policy:
    """Apply options to a policy. Raises: InvalidOption."""
    changes: dict[str, Any] = {}
    for option, value in options.items():
        apply = _OPTIONS.get(option)
        if apply is None:
            known = ", ".join(sorted(_OPTIONS))
            raise InvalidOption(option=option, value=value, reason=f"there is no such option; there are {known}")
        changes |= apply(value)
    return with_policy(base, **changes)


def _one_of(option: str, *choices: str) -> Callable[[Any], dict[str, Any]]:
    def apply(value: Any) -> dict[str, Any]:
        if value not in choices:
            raise InvalidOption(option=option, value=value, reason=f"choose one of {', '.join(choices)}")
        return {option: value}

    return apply


def _text(option: str, *, optional: bool) -> Callable[[Any], dict[str, Any]]:
    def apply(value: Any) -> dict[str, Any]:
        if not (isinstance(value, str) and value) and not (optional and value is None):
            raise InvalidOption(option=option, value=value, reason="it takes a str that is not empty")
        return {option: value}

    return apply


def _key(value: Any) -> dict[str, Any]:
    if value is not None and not callable(value):
        raise InvalidOption(option="key", value=value, reason="it takes a function of the call's arguments that returns a str")
    return {"key": value}


def _context_keys(value: Any) -> dict[str, Any]:
    names = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else None
    if value is not None and (names is None or not all(isinstance(key, str) for key in names)):
        raise InvalidOption(option="context_keys", value=value, reason="it takes a sequence of names, such as ('tenant',)")
    return {"context_keys": keys_of(names)}


def _rollback(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Task):
        raise InvalidOption(option="rollback", value=value, reason="it takes a task, which undoes what this one did")
    if value is not None and value.bound:
        raise InvalidOption(option="rollback", value=value, reason="give the method of the class, not that of an object")
    return {"rollback": value.definition if value is not None else None}


def _concurrency(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Rate) and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InvalidOption(option="concurrency", value=value, reason="it takes a whole number from 1 up, or a Rate")
    return {"concurrency": value}


_OPTIONS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "name": _text("name", optional=False),
    "version": _text("version", optional=True),
    "retries": lambda value: {"retry": Retry.of(value)},
    "timeout": lambda value: {"timeout": Timeout.of(value)},
    "key": _key,
    "context_keys": _context_keys,
    "concurrency": _concurrency,
    "codec": _one_of("codec", "auto", "pickle"),
    "keep": lambda value: {"keep": Retention.of(value)},
    "rollback": _rollback,
    "on_crash": _one_of("on_crash", "rerun", "fail"),
}
