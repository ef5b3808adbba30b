"""Tasks that survive: an asyncio-native SDK whose only state is a folder.

Decorate async functions with `@task`, start them with `run(call, run_name=...)`, and after any crash run the same line again.
"""

from holdfast.checkpoints import Checkpoint, Generation, latest_checkpoint
from holdfast.contexts import Budget, Context, TaskContext, contextual_run, ctx, custom_context, get_custom_context, group
from holdfast.costs import Cost, Costs, Price
from holdfast.errors import HoldfastError, NonRetryable
from holdfast.events import Event
from holdfast.fanout import Record, Records, RecordStatus, SimpleRecordsResult, map, records
from holdfast.launch import RunHandle, RunOptions, run, run_sync, start
from holdfast.messages import Message, MessageType
from holdfast.orders import ActionID
from holdfast.progress import Bar
from holdfast.results import DescribedRun, TaskResult
from holdfast.retention import Retention
from holdfast.retries import Rate, Retry, RetryPolicy, Timeout
from holdfast.stages import Stage, StageState, StageStateHistoryEntry, parallel, pipeline, stage, stage_states
from holdfast.status import (
    ACTIVE_STATES,
    CANCELABLE_STATES,
    INACTIVE_STATES,
    RESUMABLE_STATES,
    STAGE_NAME_MAX_LENGTH,
    StageStatus,
    Status,
)
from holdfast.stores import Store
from holdfast.tallies import Stats
from holdfast.tasks import AsyncTask, Call, SyncTask, Task, TaskOptions, task
from holdfast.telling import Observer, Told
from holdfast.tracking import track
from holdfast.views import ActionState, AttemptState, Figure, RunState, RunSummary

__all__ = [
    "ACTIVE_STATES",
    "CANCELABLE_STATES",
    "INACTIVE_STATES",
    "RESUMABLE_STATES",
    "STAGE_NAME_MAX_LENGTH",
    "ActionID",
    "ActionState",
    "AsyncTask",
    "AttemptState",
    "Bar",
    "Budget",
    "Call",
    "Checkpoint",
    "Context",
    "Cost",
    "Costs",
    "DescribedRun",
    "Event",
    "Figure",
    "Generation",
    "HoldfastError",
    "Message",
    "MessageType",
    "NonRetryable",
    "Observer",
    "Price",
    "Rate",
    "Record",
    "RecordStatus",
    "Records",
    "Retention",
    "Retry",
    "RetryPolicy",
    "RunHandle",
    "RunOptions",
    "RunState",
    "RunSummary",
    "SimpleRecordsResult",
    "Stage",
    "StageState",
    "StageStateHistoryEntry",
    "StageStatus",
    "Stats",
    "Status",
    "Store",
    "SyncTask",
    "Task",
    "TaskContext",
    "TaskOptions",
    "TaskResult",
    "Timeout",
    "Told",
    "contextual_run",
    "ctx",
    "custom_context",
    "get_custom_context",
    "group",
    "latest_checkpoint",
    "map",
    "parallel",
    "pipeline",
    "records",
    "run",
    "run_sync",
    "stage",
    "stage_states",
    "start",
    "task",
    "track",
]
