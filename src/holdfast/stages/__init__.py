"""Stages: an ordered plan of tasks over one typed state.

A stage is a task, a pipeline is a task that calls its stages in order. So the journal, replay, retries, timeouts and statuses are those of
any task, and what a `StageState` says of attempts and history is folded from the events of the stage's action.

`states`     the state, and how it is recorded
`plans`      what a stage is, and the checks that a plan of them has to pass
`courses`    one execution of a plan: which stages are done, and what a stage sees of those before it
`pipelines`  a plan as a task, and the definitions of its stages
`reading`    the states of a recorded run
"""

from holdfast.stages.pipelines import pipeline
from holdfast.stages.plans import Stage, parallel, stage
from holdfast.stages.reading import stage_states
from holdfast.stages.states import StageState, StageStateHistoryEntry

__all__ = ["Stage", "StageState", "StageStateHistoryEntry", "parallel", "pipeline", "stage", "stage_states"]
