"""The functions behind the tasks of a pipeline: of the pipeline itself, of its stages, of their undos."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from types import CodeType
from typing import Any, Final, Generic, NamedTuple, Protocol, cast

from pydantic import ValidationError

from holdfast.actions.scopes import Scope
from holdfast.actions.undos import RESULT
from holdfast.clocks import clock
from holdfast.contexts import TaskContext, ctx, link_of
from holdfast.errors import UnrecordableResult
from holdfast.identity import Signature, source_digest
from holdfast.orders import MADE, Definition, Policy, with_policy
from holdfast.stages.courses import Earlier
from holdfast.stages.plans import UNDO, Stage, Written
from holdfast.stages.states import Facts, StateT, begun, emptied, ended, facts_of, filled
from holdfast.states import Record
from holdfast.status import Status
from holdfast.tasks import Task


class Origin(NamedTuple):
    """Where a pipeline was defined."""

    name: str
    module: str
    file: str
    line: int


class _Plan(Protocol):
    origin: Origin

    def run(self, state: Any) -> Coroutine[Any, Any, Any]: ...

    def source(self) -> Any: ...

    def recorded(self) -> Any: ...


def pipeline_body(plan: _Plan) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The function of a pipeline's task: a real one, to all who inspect it, that says where it was made."""

    async def body(state: Any) -> Any:
        return await plan.run(state)

    made, (name, module, file, line) = cast("Any", body), plan.origin
    made.__code__ = made.__code__.replace(co_name=name, co_filename=file, co_firstlineno=line)
    made.__name__, made.__qualname__, made.__module__ = name, f"{MADE}.{name}", module
    made.plan = plan
    made.__holdfast_source__ = plan.source
    return body


class StageBody(Generic[StateT]):
    """The function of a stage's task. Each attempt gets a copy of its own of the pipeline's input, and returns it as the body left it."""

    __slots__ = ("__dict__", "_stage")

    def __init__(self, stage: Stage[StateT], plan: _Plan) -> None:
        _resemble(self, function_of(stage), plan.origin, stage.name)
        self._stage = stage

    @property
    def __code__(self) -> CodeType:
        code: CodeType = function_of(self._stage).__code__
        return code

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
            try:
                own.result = result
            except ValidationError as error:
                reason = f"{result!r:.100} is no result of {type(own).__qualname__}; say what its stages return: StageState[...]"
                raise UnrecordableResult(task=self._stage.name, path="result", reason=reason) from error
        return emptied(own)


class UndoBody(Generic[StateT]):
    """The function of an undo's task. It takes what the stage returned: the state as the body left it."""

    __slots__ = ("__dict__", "_plan", "_stage", "_undo")

    def __init__(self, stage: str, undo: Any, plan: _Plan) -> None:
        _resemble(self, _plain(undo), plan.origin, undo_name(stage))
        vars(self).pop("__wrapped__")  # it takes something else
        self._stage = stage
        self._undo = undo
        self._plan = plan

    @property
    def __code__(self) -> CodeType:
        code: CodeType = _plain(self._undo).__code__
        return code

    def __holdfast_hints__(self) -> dict[str, Any]:
        return {RESULT: self._plan.recorded()}

    def __holdfast_source__(self) -> str:
        return source_digest(_plain(self._undo))

    async def __call__(self, result: StateT) -> None:
        undo = self._undo.definition.fn if isinstance(self._undo, Task) else self._undo
        await undo(self._state(result, ctx()))

    def _state(self, result: StateT, attempt: TaskContext) -> StateT:
        """The state of the stage that is undone, with what is on record of it."""
        link = link_of(attempt)
        fold = link.runtime.state if isinstance(link, Scope) else None
        undone = fold.undos.get(attempt.action.name) if fold is not None else None
        record = fold.actions.get(undone.action) if fold is not None and undone is not None else None
        if record is None:
            return filled(result, "", self._stage, Facts(Status.ROLLING_BACK, 0, []))
        return filled(result, record.parent, self._stage, facts_of(record)._replace(status=Status.ROLLING_BACK))


def undo_definition(stage: Stage[Any], undo: Any, plan: _Plan) -> Definition:
    """The undo of a stage as a task: with the options of the one that it is, if it is one."""
    name = f"{plan.origin.name}/{undo_name(stage.name)}"
    policy = with_policy(undo.definition.policy, name=name, key=None) if isinstance(undo, Task) else Policy(name=name)
    body: UndoBody[Any] = UndoBody(stage.name, undo, plan)
    return Definition(body, policy, is_async=True, signature=_TAKES_A_RESULT, annotation=_none, bound_cells=False)


def undo_name(stage: str) -> str:
    return f"{stage}{UNDO}"


def _resemble(body: Any, function: Any, origin: Origin, stage: str) -> None:
    """Show a body as the function that it runs, under the name by which it is found."""
    functools.update_wrapper(body, function, updated=())
    body.__module__, body.__qualname__ = origin.module, f"{MADE}.{origin.name}/{stage}"


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


async def _of_result(result: Any) -> None: ...


NOTHING_DIGESTED: Final = _Undigested(_of_stage)
_TAKES_A_RESULT: Final = Signature(_of_result)
