"""The functions behind the tasks of a pipeline: of the pipeline itself, of its stages, of their undos."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from types import CodeType
from typing import Any, Final, Generic, Protocol, cast

from holdfast.actions.scopes import Scope
from holdfast.clocks import clock
from holdfast.contexts import TaskContext, ctx, link_of
from holdfast.identity import Signature
from holdfast.orders import Definition, Policy, with_policy
from holdfast.stages.courses import Earlier
from holdfast.stages.homes import Home
from holdfast.stages.plans import Stage, Undo, Written
from holdfast.stages.states import Facts, StateT, begun, emptied, ended, filled
from holdfast.states import Record
from holdfast.status import Status
from holdfast.tasks import Task


class _Plan(Protocol):
    def run(self, state: Any) -> Coroutine[Any, Any, Any]: ...

    def source(self) -> Any: ...


def pipeline_body(plan: _Plan, home: Home) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The function of a pipeline's task: a real one, to all who inspect it, that says where it was made."""

    async def body(state: Any) -> Any:
        return await plan.run(state)

    made = cast("Any", body)
    made.__code__ = made.__code__.replace(co_name=home.name, co_filename=home.file, co_firstlineno=home.line)
    made.__name__ = made.__qualname__ = home.name
    made.__module__ = home.module
    made.plan = plan
    made.__holdfast_home__ = home.pipeline
    made.__holdfast_source__ = plan.source
    return body


class StageBody(Generic[StateT]):
    """The function of a stage's task. Each attempt gets a copy of its own of the pipeline's input, and returns it as the body left it."""

    __slots__ = ("__dict__", "_home", "_stage")

    def __init__(self, stage: Stage[StateT], home: Home) -> None:
        functools.update_wrapper(cast("Any", self), function_of(stage), updated=())
        self._stage = stage
        self._home = home

    @property
    def __code__(self) -> CodeType:
        code: CodeType = function_of(self._stage).__code__
        return code

    def __holdfast_home__(self) -> tuple[str, str]:
        return self._home.stage(self._stage.name)

    async def __call__(self, state: StateT, earlier: Mapping[str, StateT]) -> StateT:
        attempt: TaskContext = ctx()
        name = self._stage.name
        course = earlier.course if isinstance(earlier, Earlier) and not attempt.durable else None
        facts = _begun(attempt) if course is None else course.noted(name, Status.RUNNING)
        parent = attempt.action.parent
        own = begun(state, parent.name if parent is not None else "", name, facts)
        if course is None:
            return await self._execute(own, earlier)
        began, error = clock().now(), None
        try:
            return await self._execute(own, earlier)
        except BaseException as raised:
            error = raised
            raise
        finally:
            course.note(name, _policy_of(attempt), attempt.attempt_number, began, error)

    async def _execute(self, own: StateT, earlier: Mapping[str, StateT]) -> StateT:
        result = await self._stage.execute(own, earlier)
        if result is not None:
            own.result = result
        return emptied(own)


class UndoBody(Generic[StateT]):
    """The function of an undo's task. It takes what the stage returned: the state as the body left it."""

    __slots__ = ("__dict__", "_home", "_name", "_undo")

    def __init__(self, name: str, undo: Undo[StateT], home: Home) -> None:
        functools.update_wrapper(cast("Any", self), _plain(undo), updated=())
        self._name = name
        self._undo = undo
        self._home = home

    @property
    def __code__(self) -> CodeType:
        code: CodeType = _plain(self._undo).__code__
        return code

    def __holdfast_home__(self) -> tuple[str, str]:
        return self._home.undo(self._name)

    async def __call__(self, result: StateT) -> None:
        undo: Any = self._undo
        await (undo.definition.fn if isinstance(undo, Task) else undo)(filled(result, "", self._name, Facts(Status.ROLLING_BACK, 0, [])))


class _NoOptions:
    policy = Policy(name="?")


def undo_definition(name: str, task: str, undo: Any, home: Home, annotation: Callable[[], Any]) -> Definition:
    """The undo of a stage as a task: with the options of the one that it is, if it is one."""
    options: Policy = getattr(undo, "definition", _NoOptions).policy
    policy = with_policy(options, name=f"{task}:undo", key=None)
    return Definition(UndoBody(name, undo, home), policy, is_async=True, signature=TAKES_A_RESULT, annotation=_none, bound_cells=False)


def function_of(stage: Stage[Any]) -> Any:
    """The function that does a stage's work."""
    return _plain(stage.body if isinstance(stage, Written) else stage.execute)


def _plain(function: Any) -> Any:
    found = function.definition.fn if isinstance(function, Task) else function
    return getattr(found, "__func__", found)


def _begun(attempt: TaskContext) -> Facts:
    """What is on record of the attempts before this one, which is counted in."""
    link = link_of(attempt)
    fold = link.runtime.state if isinstance(link, Scope) else None
    record: Record | None = fold.actions.get(attempt.action.name) if fold is not None else None
    before = [] if record is None else [one for one in record.attempts if one.number < attempt.attempt_number]
    return Facts(Status.RUNNING, len(before) + 1, ended(before))


def _policy_of(attempt: TaskContext) -> Policy:
    link = link_of(attempt)
    return link.policy if isinstance(link, Scope) else Policy(name=link.task_name)


class _Undigested(Signature):
    """Of a task whose inputs say nothing of who it is."""

    __slots__ = ()

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return {}


def _none() -> None:
    """The annotation of what returns None."""


async def _of_stage(state: Any, earlier: Any) -> None: ...


async def _of_state(state: Any) -> None: ...


async def _of_result(result: Any) -> None: ...


NOTHING_DIGESTED: Final = _Undigested(_of_stage)
TAKES_A_STATE: Final = Signature(_of_state)
TAKES_A_RESULT: Final = Signature(_of_result)
