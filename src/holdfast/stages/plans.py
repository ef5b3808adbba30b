"""What a stage is: a body over a state, the options of a task, perhaps an undo. And what a list of them has to be to make a pipeline."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, Unpack, cast, overload

from pydantic import BaseModel

from holdfast.errors import InvalidPipeline, InvalidTask
from holdfast.retries import RetryPolicy
from holdfast.stages.states import StageState, StateT
from holdfast.status import STAGE_NAME_MAX_LENGTH
from holdfast.tasks import Task, TaskOptions, policy_of

Body: TypeAlias = Callable[[StateT, Mapping[str, StateT]], Awaitable[BaseModel | None]]
Undo: TypeAlias = Callable[[StateT], Awaitable[None]]
_StateT_contra = TypeVar("_StateT_contra", bound="StageState[Any]", contravariant=True)


UNDO: Final = ":undo"
"""Ends the name of what undoes a stage."""


class Stage(Generic[StateT]):
    """One step of a pipeline. Made by `@stage`, or subclassed and instantiated by you.

    Attributes:
        name: Unique in its pipeline, at most 150 characters. By default the name of the function or class. It is the stage's whole
            identity there: adding, removing or moving other stages shifts nothing.
        options: Of `@task`, for the stage's action: timeout, version, concurrency, on_crash, keep, context_keys, codec.

    Example::

        class Download(Stage[OrderState]):
            options = {"timeout": 60}

            def __init__(self, url: str) -> None:
                self.url = url

            async def execute(self, state: OrderState, earlier: Mapping[str, OrderState]) -> Report | None: ...

            async def rollback(self, state: OrderState) -> None: ...
    """

    name: str
    options: TaskOptions = {}  # noqa: RUF012 - an instance may have its own

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = cls.__name__

    async def execute(self, state: StateT, earlier: Mapping[str, StateT], /) -> BaseModel | None:
        """Do the work. Override it.

        Args:
            state: This stage's own copy of the pipeline's input. What is set in it is recorded.
            earlier: The states of the stages before it, by name, in order; of a parallel group's member, those before the group. Each
                look-up gives a copy.

        Returns:
            What becomes `state.result`. None leaves `state.result` as the body left it.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no execute(state, earlier)")

    async def rollback(self, state: StateT, /) -> None:
        """Undo what a COMPLETED `execute` did, given the state that it left. Override it where there is something to undo.

        It may run more than once, and in another process than `execute` did.
        """


class Written(Stage[StateT]):
    """A stage from a function, or from a class with `execute`."""

    name: str

    def __init__(self, body: Body[StateT], undo: Undo[StateT] | None, options: TaskOptions, source: Any) -> None:
        functools.update_wrapper(cast("Callable[..., Any]", self), source, updated=())
        self.name = options.get("name", getattr(source, "name", None) or source.__name__)
        self.options = options
        self.body = body
        self.undo = undo

    def __repr__(self) -> str:
        return f"<stage {self.name}>"

    async def execute(self, state: StateT, earlier: Mapping[str, StateT], /) -> BaseModel | None:
        return await self.body(state, earlier)

    async def rollback(self, state: StateT, /) -> None:
        if self.undo is not None:
            await self.undo(state)


class Group(Stage[StateT]):
    """Stages that run side by side."""

    members: tuple[Any, ...]
    name: str = ""

    def __init__(self, members: Sequence[Any]) -> None:
        self.members = tuple(members)

    def __repr__(self) -> str:
        return f"parallel({', '.join(map(repr, self.members))})"

    async def execute(self, state: StateT, earlier: Mapping[str, StateT], /) -> BaseModel | None:
        raise InvalidTask(what=repr(self), reason="put it into the list of a pipeline(...), which runs its members")


class _Executes(Protocol[_StateT_contra]):
    """What a class needs to be a stage."""

    async def execute(self, state: _StateT_contra, earlier: Mapping[str, _StateT_contra], /) -> BaseModel | None: ...


class _Staged(Protocol):
    @overload
    def __call__(self, cls: type[_Executes[StateT]], /) -> Stage[StateT]: ...
    @overload
    def __call__(self, fn: Body[StateT], /) -> Stage[StateT]: ...


@overload
def stage(cls: type[_Executes[StateT]], /) -> Stage[StateT]: ...
@overload
def stage(fn: Body[StateT], /) -> Stage[StateT]: ...
@overload
def stage(*, undo: Undo[StateT], **options: Unpack[TaskOptions]) -> Callable[[Body[StateT]], Stage[StateT]]: ...
@overload
def stage(**options: Unpack[TaskOptions]) -> _Staged: ...
def stage(fn: Any = None, /, *, undo: Any = None, **options: Any) -> Any:
    """Make an `async def` function, or a class with `execute` (and perhaps `rollback`), a stage.

    mypy takes a decorated class for the class: write `charge = stage(Charge)` there, or derive from `Stage`.

    Args:
        undo: `async def undo(state) -> None`, or a task of that form: undoes what the stage did, where its pipeline fails for good or
            its run is rolled back. It gets the state as the stage left it, may run more than once, and in another process.
        **options: Of `@task`. `name` is the stage's. `retries` and `key` are refused when the pipeline is defined: it says how often its
            stages are tried, and a stage's identity is its name.

    Raises:
        InvalidTask: It is no `async def` function and no class with `execute`; or the class can't be made without arguments: derive it
            from `Stage`, and put an instance into the pipeline.
        InvalidOption: An option is unknown, or has a value that it can't have.

    Example::

        @stage(undo=refund, timeout=30)
        async def charge(state: OrderState, earlier: Mapping[str, OrderState]) -> Receipt:
            return await pay(earlier["validate"].result.total)
    """
    policy_of("?", options)
    if fn is None:
        return functools.partial(_make, undo, cast("TaskOptions", options))
    return _make(undo, cast("TaskOptions", options), fn)


def _make(undo: Any, options: TaskOptions, source: Any) -> Stage[Any]:
    if inspect.isclass(source):
        return _of_class(source, undo, options)
    if not inspect.iscoroutinefunction(source) or isinstance(source, Task) or not _takes(source, "state", "earlier"):
        raise InvalidTask(
            what=repr(source), reason="as a stage; it takes an `async def` function of (state, earlier), which may call tasks"
        )
    return Written(source, _checked_undo(undo), options, source)


def _of_class(source: type[Any], undo: Any, options: TaskOptions) -> Stage[Any]:
    try:
        made = source()
    except TypeError as error:
        reason = f"as a stage, since {source.__qualname__}() raises {error}; derive it from Stage, and put an instance into the pipeline"
        raise InvalidTask(what=source.__qualname__, reason=reason) from error
    if isinstance(made, Stage):
        made.options = cast("TaskOptions", {**made.options, **options})
        made.name = made.options.get("name", made.name)
        return made
    execute = getattr(made, "execute", None)
    if not inspect.iscoroutinefunction(execute) or not _takes(execute, "state", "earlier"):
        raise InvalidTask(what=source.__qualname__, reason="as a stage; it needs an `async def execute(self, state, earlier)`")
    return Written(execute, _checked_undo(undo if undo is not None else getattr(made, "rollback", None)), options, source)


def _checked_undo(undo: Any) -> Any:
    function = undo.definition.fn if isinstance(undo, Task) else undo
    if undo is not None and not (inspect.iscoroutinefunction(undo) and _takes(function, "state")):
        raise InvalidTask(what=repr(undo), reason="as the undo of a stage; it takes an `async def undo(state)`, or a task of that form")
    return undo


def _takes(function: Callable[..., Any], *arguments: str) -> bool:
    """Whether it can be called with so many. One that can't would be found out when the stages before it have done their work."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True


def parallel(*stages: Stage[StateT]) -> Stage[StateT]:
    """Group stages that run side by side. Groups inside are taken apart. The pipeline goes on when all have COMPLETED.

    When one fails for good, the others are cancelled.
    """
    return Group(stages)


# what a list has to be to make a pipeline


def undo_of(one: Stage[Any]) -> Any:
    """What undoes a stage: a function of its state, or a task of that form; None where nothing does."""
    if isinstance(one, Written):
        return cast("Any", one.undo)
    return one.rollback if type(one).rollback is not Stage.rollback else None


def groups_of(name: object, stages: Sequence[object]) -> tuple[tuple[Stage[Any], ...], ...]:
    """The stages, in groups that run side by side. Raises: InvalidPipeline."""
    if not isinstance(name, str) or not name:
        raise InvalidPipeline(pipeline=name, reason="its name takes a str that is not empty")
    if isinstance(stages, (str, Stage)) or not isinstance(stages, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidPipeline(pipeline=name, reason="it takes a list of stages")
    groups = tuple(tuple(_members(name, one)) for one in stages)
    if not groups or not all(groups):
        raise InvalidPipeline(pipeline=name, reason="it needs at least one stage" if not groups else "a parallel(...) in it is empty")
    seen = set[str]()
    for one in (one for members in groups for one in members):
        _check_stage(name, one, seen)
        seen.add(one.name)
    return groups


def _members(pipeline: str, one: object) -> Iterator[Stage[Any]]:
    if isinstance(one, Group):
        for member in one.members:
            yield from _members(pipeline, member)
    elif isinstance(one, Stage):
        yield one
    elif isinstance(one, type) and issubclass(one, Stage):
        raise InvalidPipeline(pipeline=pipeline, reason=f"{one.__qualname__} is a class; put an instance of it into the list")
    else:
        remedy = "a task or pipeline is called in the body of a stage" if isinstance(one, Task) else "decorate it with @stage"
        raise InvalidPipeline(pipeline=pipeline, reason=f"{one!r:.200} is no stage; {remedy}")


_NOT_OF_STAGES: Final[Mapping[str, str]] = {
    "retries": "retry_policy= and max_attempts= of the pipeline say how often its stages are tried",
    "key": "the identity of a stage is its name",
    "rollback": "write undo=",
}


def _check_stage(pipeline: str, one: Stage[Any], seen: set[str]) -> None:
    found: Any = getattr(one, "name", None)
    if not isinstance(found, str) or not found:
        raise InvalidPipeline(pipeline=pipeline, reason=f"the name of {one!r} is {found!r}; it takes a str that is not empty")
    if len(found) > STAGE_NAME_MAX_LENGTH:
        said = f"{found[:40]!r}... has {len(found)} characters"
        raise InvalidPipeline(pipeline=pipeline, reason=f"the stage name {said}, and may have {STAGE_NAME_MAX_LENGTH}")
    if found.endswith(UNDO):
        raise InvalidPipeline(pipeline=pipeline, reason=f"the stage name {found!r} ends with {UNDO!r}, as only the names of undos do")
    if found in seen:
        raise InvalidPipeline(pipeline=pipeline, reason=f"two stages are named {found!r}; give one of them @stage(name=...)")
    if one.options.get("name", found) != found:
        raise InvalidPipeline(pipeline=pipeline, reason=f"the options of its stage {found!r} give another name; set its attribute `name`")
    for option, reason in _NOT_OF_STAGES.items():
        if option in one.options:
            raise InvalidPipeline(pipeline=pipeline, reason=f"its stage {found!r} has {option}=, which stages don't take: {reason}")


def check_attempts(name: str, policy: object, max_attempts: object, stages: int) -> None:
    """Raises: InvalidPipeline."""
    if not isinstance(policy, RetryPolicy):
        raise InvalidPipeline(pipeline=name, reason=f"retry_policy={policy!r}; choose one of {', '.join(map(str, RetryPolicy))}")
    if not isinstance(max_attempts, int) or isinstance(max_attempts, bool) or max_attempts < 1:
        raise InvalidPipeline(pipeline=name, reason=f"max_attempts={max_attempts!r}; it takes a whole number from 1 up")
    if policy is RetryPolicy.NONE and max_attempts != 1:
        reason = f"max_attempts={max_attempts} with RetryPolicy.NONE, by which a stage is tried once; choose STAGE or GLOBAL"
        raise InvalidPipeline(pipeline=name, reason=reason)
    if policy is RetryPolicy.GLOBAL and max_attempts < stages:
        reason = (
            f"max_attempts={max_attempts} for {stages} stages: by RetryPolicy.GLOBAL each execution takes one, also a successful one, "
            f"so it could never finish; give at least {stages}, and one more for each retry"
        )
        raise InvalidPipeline(pipeline=name, reason=reason)
