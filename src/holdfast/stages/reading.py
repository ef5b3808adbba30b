"""The states of a recorded run's stages, for whoever reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, cast

from holdfast.codec import parts_of
from holdfast.errors import InvalidPipeline, LargeState
from holdfast.stages.pipelines import PipelineTask, Plan
from holdfast.stages.states import StateT, facts_of, filled, unstarted
from holdfast.states import Fold, Record
from holdfast.status import Status
from holdfast.tasks import AsyncTask
from holdfast.views import RunState, fold_of


def stage_states(state: RunState, pipeline: AsyncTask[[StateT], StateT], *, action: str | None = None) -> Mapping[str, StateT]:
    """Where each stage of a pipeline stands in a run, by name, in the order of the plan, also those not begun.

    A state is made when it is looked at. Its `result`, and fields of its own, are what the stage recorded when it COMPLETED; of a stage
    that did not, they are defaults, and what has no default is missing.

    Args:
        state: Of `Store.state`.
        pipeline: The pipeline, as `pipeline` made it.
        action: The `ActionID.name` of its action; None: the only action of this pipeline in the run.

    Raises:
        InvalidPipeline: It is no pipeline; or the run has no action of it, or several and `action` does not say which.
        LargeState: When a stage's state is looked at that is too large to be in the run's journal.
        ResultIncompatible: When a stage's state is looked at that is no longer valid.

    Example::

        states = stage_states(await store.state("order-7"), orders)
        for name, stage in states.items():
            print(name, stage.status, stage.attempts, [line.message for line in stage.history])
    """
    if not isinstance(pipeline, PipelineTask):
        raise InvalidPipeline(pipeline=getattr(pipeline, "name", pipeline), reason="pipeline(...) did not make it")
    fold = fold_of(state)
    return StageStates(fold, pipeline.plan, _action(fold, pipeline.name, action))


def _action(fold: Fold, task: str, action: str | None) -> str:
    found = [record.name for record in fold.actions.values() if record.task == task and action in (None, record.name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidPipeline(pipeline=task, reason=f"the run has no action of it{f' named {action}' if action is not None else ''}")
    raise InvalidPipeline(pipeline=task, reason=f"the run has {len(found)} actions of it; say which by action=: {', '.join(found[:10])}")


class StageStates(Mapping[str, StateT], Generic[StateT]):
    """States by stage, made when they are looked at."""

    def __init__(self, fold: Fold, plan: Plan[StateT], action: str) -> None:
        self._plan = plan
        self._action = action
        self._records = {record.task: record for record in fold.children_of(action)}

    def __getitem__(self, name: str) -> StateT:
        definition = self._plan.planned[name].definition
        record = self._records.get(definition.policy.name)
        return filled(self._recorded(record, name), self._action, name, facts_of(record))

    def _recorded(self, record: Record | None, name: str) -> StateT:
        if record is None or record.attempt is None or record.attempt.status is not Status.COMPLETED:
            return unstarted(self._plan.kind)
        if record.blob or parts_of(record.value):
            raise LargeState(stage=record.task, digest=record.blob or parts_of(record.value)[0])
        codec = self._plan.planned[name].definition.result_codec()
        value: Any = codec.decode(record.value, {})
        return cast("StateT", value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._plan.planned)

    def __len__(self) -> int:
        return len(self._plan.planned)
