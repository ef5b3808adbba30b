"""A plan as a task, and the definitions of its stages.

Each stage is a task of its own, named "<pipeline>/<stage>", made once, where the pipeline is defined. Its inputs are not digested: within
the pipeline's action its name is its identity, and the pipeline's own identity holds the digest of the input.

In another process a pipeline, its stages and their undos are found by their names, once the module is imported that defines the pipeline.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, cast, get_origin, get_type_hints

from holdfast.actions.places import first_name
from holdfast.actions.scopes import Scope
from holdfast.contexts import Context, ctx, link_of
from holdfast.errors import InvalidPipeline
from holdfast.identity import Signature
from holdfast.orders import Definition, Order, Policy, make_known, with_policy
from holdfast.retries import Retry, RetryPolicy
from holdfast.stages.bodies import NOTHING_DIGESTED, Origin, StageBody, function_of, pipeline_body, undo_definition
from holdfast.stages.courses import Course, Earlier
from holdfast.stages.plans import Stage, check_attempts, groups_of, undo_of
from holdfast.stages.states import Facts, StageState, StateT, facts_of, recorded_as, returned_as
from holdfast.tasks import AsyncTask, Call, policy_of


def pipeline(
    name: str, stages: Sequence[Stage[StateT]], *, retry_policy: RetryPolicy = RetryPolicy.NONE, max_attempts: int = 1
) -> AsyncTask[[StateT], StateT]:
    """Make a task that runs stages in order, and returns the state of the last (of a last parallel group: of the group's last member).

    The stages are the actions that it calls: a COMPLETED one is not run again, after a crash or in a later try. Other options of a task
    are set on what this returns: `orders.with_options(timeout=3600)`. When the pipeline fails for good, what its stages registered to be
    undone is undone, newest first.

    Args:
        name: The task's name. Define the pipeline at the top of a module: importing that, other processes find it, to undo what it did.
        stages: Stages, and `parallel(...)` groups of them. All have one state class, that of their first parameter's annotation.
        retry_policy: NONE: one failure of a stage fails the pipeline. STAGE: each stage has `max_attempts`. GLOBAL: all stages together
            have `max_attempts` executions in one try of the pipeline, each execution takes one, also a successful one.
        max_attempts: At least 1. Attempts that crashed, were stopped or cancelled, and what is answered from record, don't count.

    Raises:
        InvalidPipeline: A name is empty, too long, or there twice; the list is empty, or holds what is no stage; a stage has `retries=`,
            `key=` or `rollback=`; `max_attempts` is none, is not 1 with NONE, or less than the number of stages with GLOBAL.

    A call of it raises:
        InvalidPipeline: It was not called with a state of its class.
        AttemptsSpent: By GLOBAL, a stage has no execution left to begin with.

    Example::

        orders = pipeline("orders", [extract, parallel(validate, score), charge, ship], retry_policy=RetryPolicy.STAGE, max_attempts=3)
        shipped = await run(orders(OrderState(order_id=7)), run_name="order-7")
    """
    groups = groups_of(name, stages)
    check_attempts(name, retry_policy, max_attempts, sum(map(len, groups)))
    caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] - the stack module walks all of it
    origin = Origin(name, str(caller.f_globals.get("__name__", "")), caller.f_code.co_filename, caller.f_lineno)
    plan = Plan(name, groups, retry_policy, max_attempts, origin)
    return PipelineTask(plan.definition)


class PipelineTask(AsyncTask[[StateT], StateT]):
    """The task that `pipeline` makes."""

    @property
    def plan(self) -> Plan[StateT]:
        """Its stages."""
        return cast("Plan[StateT]", cast("Any", self.definition.fn).plan)

    def __call__(self, *args: Any, **kwargs: Any) -> Call[StateT]:
        self.plan.meet(args, kwargs)
        return Call(self, (*self._bound, *args), kwargs, depth=2)

    def call(self, *args: Any, **kwargs: Any) -> Call[StateT]:
        """Return a Call, to be awaited."""
        self.plan.meet(args, kwargs)
        return Call(self, (*self._bound, *args), kwargs, depth=2)

    def sync(self, *args: Any, **kwargs: Any) -> StateT:
        """Run it and block for the result. Raises: BlockingCall, where that would block the loop of a run."""
        self.plan.meet(args, kwargs)
        return self._block(args, kwargs)


class Planned(Generic[StateT]):
    """A stage in its pipeline: the task that it is, and its undo."""

    __slots__ = ("definition", "name", "task", "undo")

    definition: Definition
    name: str
    task: Callable[[StateT, Mapping[str, StateT]], Awaitable[StateT]]
    undo: Definition | None

    def __init__(self, plan: Plan[StateT], stage: Stage[StateT], policy: Policy) -> None:
        undo = undo_of(stage)
        self.name = stage.name
        self.undo = undo_definition(stage, undo, plan) if undo is not None else None
        self.definition = Definition(
            StageBody(stage, plan),
            with_policy(policy, rollback=self.undo),
            is_async=True,
            signature=NOTHING_DIGESTED,
            annotation=plan.recorded,
            bound_cells=False,
        )
        task: Any = AsyncTask(self.definition)
        self.task = task
        for made in (self.definition, self.undo):
            if made is not None:
                make_known(made)


class Plan(Generic[StateT]):
    """Stages in their order, and what they share."""

    definition: Definition

    def __init__(
        self, name: str, groups: Sequence[Sequence[Stage[StateT]]], retry_policy: RetryPolicy, max_attempts: int, origin: Origin
    ) -> None:
        self.name = name
        self.origin = origin
        self.retry_policy = retry_policy
        self.max_attempts = max_attempts
        self._met: type[StateT] | None = None
        retry, shared = Retry(max_attempts), retry_policy is RetryPolicy.GLOBAL
        self.planned: dict[str, Planned[StateT]] = {}
        self.groups: list[tuple[Planned[StateT], ...]] = []
        self._bodies = list({id(body): body for body in (function_of(stage) for members in groups for stage in members)}.values())
        for members in groups:
            made = tuple(Planned(self, stage, _stage_policy(name, stage, retry, shared)) for stage in members)
            self.planned.update({planned.name: planned for planned in made})
            self.groups.append(made)
        self.positions: Mapping[str, int] = {stage: number for number, stage in enumerate(self.planned)}
        body = pipeline_body(self)
        self.definition = Definition(
            body,
            Policy(name=name, rolls_back=True),
            is_async=True,
            signature=Signature(body),
            annotation=lambda: returned_as(self.kind),
            bound_cells=False,
        )
        make_known(self.definition)

    # the class of its states

    @functools.cached_property
    def annotated(self) -> type[StateT] | None:
        """The class that the stages' annotations name: the most derived one. Raises: InvalidPipeline, where they name several."""
        kinds = [kind for kind in map(_annotated, self._bodies) if kind is not None]
        if not kinds:
            return None
        best = max(kinds, key=lambda kind: len(kind.__mro__))
        for kind in kinds:
            if not issubclass(best, kind):
                reason = f"its stages take {best.__qualname__} and {kind.__qualname__}; all stages of a pipeline have one state class"
                raise InvalidPipeline(pipeline=self.name, reason=reason)
        return cast("type[StateT]", best)

    @property
    def kind(self) -> type[StateT]:
        """The class of its states: the annotated one; where that is no class of your own, the one that it was called with."""
        annotated = self.annotated
        if annotated is not None and annotated is not StageState:
            return annotated
        found = self._met if self._met is not None else annotated
        if found is None:
            reason = (
                "the class of its state is not known; annotate its stages, as in (state: OrderState, earlier: Mapping[str, OrderState])"
            )
            raise InvalidPipeline(pipeline=self.name, reason=reason)
        return found

    def meet(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Note the class that it is called with, for where no annotation can be read."""
        if self._met is None:
            given = type(next(iter((*args, *kwargs.values())), None))
            if issubclass(given, StageState):
                self._met = cast("type[StateT]", given)

    @functools.cached_property
    def _recorded(self) -> Any:
        return recorded_as(self.kind)

    def recorded(self) -> Any:
        """The annotation of each of its stages."""
        return self._recorded

    def source(self) -> Any:
        """What says whether it changed."""
        return [self.retry_policy.value, self.max_attempts, [[planned.name for planned in members] for members in self.groups]]

    # one execution of it

    async def run(self, state: StateT) -> StateT:
        """Run its stages in order, and return the last one's state."""
        if type(state) is not self.kind:
            reason = (
                f"its state class is {self.kind.__qualname__}, and it was called with {state!r:.80}; annotate its stages with what it takes"
            )
            raise InvalidPipeline(pipeline=self.name, reason=reason)
        course = Course(state, ctx().action.name, self.positions, self._facts(ctx(), Context.current()))
        name = ""
        for members in self.groups:
            earlier = Earlier(course, len(course.done))
            name = members[-1].name
            if len(members) == 1:
                course.done.append(await members[0].task(course.input, earlier))
            else:
                course.done += await asyncio.gather(*(planned.task(course.input, earlier) for planned in members))
        return course.state(len(course.done) - 1, name)

    def _facts(self, attempt: Any, context: Context) -> Callable[[int], Facts | None]:
        """What is on record of a stage, by its position; None where nothing is recorded."""
        scope = link_of(attempt)
        fold = scope.runtime.state if isinstance(scope, Scope) else None
        if fold is None or not isinstance(scope, Scope):
            return lambda position: None
        planned, known = list(self.planned.values()), scope
        return lambda position: facts_of(fold.actions.get(first_name(known, Order(planned[position].definition, (), {}), context)))


def _stage_policy(pipeline: str, stage: Stage[Any], retry: Retry, shared: bool) -> Policy:
    policy = policy_of(stage.name, stage.options)
    return with_policy(policy, name=f"{pipeline}/{stage.name}", retry=retry, shares_attempts=shared)


def _annotated(body: Any) -> type[StageState[Any]] | None:
    """The class of state that a body's annotation names; None where there is none, or it can't be resolved here."""
    try:
        hints = get_type_hints(body)
    except (NameError, TypeError, AttributeError):
        return None
    found = hints.get(next((name for name in inspect.signature(body).parameters if name != "self"), ""))
    kind = get_origin(found) or found
    if not (isinstance(kind, type) and issubclass(kind, StageState)):
        return None
    meta: Any = kind.__pydantic_generic_metadata__
    return (
        StageState if meta["origin"] is StageState and not all(isinstance(arg, type) and arg is not Any for arg in meta["args"]) else kind
    )
