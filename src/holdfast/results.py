"""What came of a task, as one record: `TaskResult`, for every task and every status. And of a whole run, `DescribedRun`.

They are made from a fold when somebody asks, and kept nowhere. Both are pydantic models, so that they go through JSON and have a schema:
`TaskResult[Answer].model_validate_json(...)` reads what `model_dump_json()` wrote, where the payload is plain data or a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from pydantic import AwareDatetime, BaseModel, Field, computed_field

from holdfast.clocks import instant
from holdfast.messages import KEPT, Message
from holdfast.runs.asked import Asked
from holdfast.runs.presence import Owner
from holdfast.states import Fold, Record, message_of
from holdfast.status import ACTIVE_STATES, Status, shown_status

T = TypeVar("T")


class TaskResult(BaseModel, Generic[T], frozen=True, defer_build=True):
    """What came of one action: of a run's root, or of any below it.

    Attributes:
        task_name: The task.
        status: Where the action stands. CRASHED, where nobody runs what has no end.
        summary: What the last attempt said by `ctx().summary`; "" where it said nothing, and while it is under way.
        payload: What the body returned; None, unless COMPLETED.
        schemas: What the last attempt said by `ctx().implements`.
        figures: The display paths of the figures of the action and of all below it, in the order in which the actions were asked for.
        messages: What the action and all below it said to whoever watched, oldest first; the newest 100.
        cost: What it cost, with all below it.
        attempts: How many attempts there were.
        started_at: When the first one began, aware, in UTC; None, where none did.
        ended_at: When the last one ended; None, while the action is under way, and where nobody saw the end.
    """

    task_name: str
    status: Status
    summary: str = ""
    payload: T | None = None
    schemas: list[str] = Field(default_factory=list)
    figures: list[str] = Field(default_factory=list)
    messages: list[Message] = Field(default_factory=list)
    cost: Decimal = Field(default_factory=Decimal)
    attempts: int = 0
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def is_complete(self) -> bool:
        """Whether the body returned, and what it returned stands: the status is COMPLETED."""
        return self.status is Status.COMPLETED


if TYPE_CHECKING:
    AnyResult: TypeAlias = TaskResult[Any]
else:
    AnyResult = TaskResult  # the same to pydantic, which for the other would build its validator now: an import builds nothing


class DescribedRun(BaseModel, frozen=True, defer_build=True):
    """A run, what it was given, and where and with what it began. Of a run of an older Holdfast, less is known.

    Attributes:
        result: What came of the root.
        parameters: The root call's arguments by name, as plain data for people: what is large is cut, and secrets are `***`.
        environment: Environment variables (in capitals), from a fixed list and what `$HOLDFAST_DESCRIBE_ENV` named (separated by commas);
            and of the process that began the run its host, pid, cpus, executable and folder.
        versions: Of holdfast, python, pydantic and the platform; `git`, the commit that was checked out where the task's file is, else in
            the working directory; `source`, a digest of the root task's code as it ran last.
        engine: Where attempts execute.
        observers: Who was told of events: what an observer's `describe()` gives, else its type.
        poll_seconds: Between two looks of the run's owner for what others ask of it.
    """

    result: AnyResult
    parameters: dict[str, Any]
    environment: dict[str, str]
    versions: dict[str, str]
    engine: str
    observers: list[str]
    poll_seconds: float


def result_of(fold: Fold, record: Record, owner: Owner, payload: Any) -> TaskResult[Any]:
    """What came of one action. `payload` is its value, decoded, where it COMPLETED."""
    status, notes, attempts = shown_status(record.status, owner), record.notes, record.attempts
    ended_at = attempts[-1].ended_at if attempts and status not in ACTIVE_STATES else None
    return TaskResult(
        task_name=record.task,
        status=status,
        summary=notes.summary if notes is not None else "",
        payload=payload,
        schemas=list(notes.schemas) if notes is not None else [],
        figures=list(_figures(fold, record)),
        messages=_messages(fold, record),
        cost=fold.cost_below(record.name).cost,
        attempts=len(attempts),
        started_at=instant(attempts[0].started_at) if attempts else None,
        ended_at=instant(ended_at) if ended_at is not None else None,
    )


def unbegun(asked: Asked, owner: Owner) -> TaskResult[Any]:
    """What came of a run whose process ended, or is at work, before its root was on record."""
    return TaskResult(task_name=asked.task, status=shown_status(Status.PENDING, owner))


def described(asked: Asked, fold: Fold, result: TaskResult[Any]) -> DescribedRun:
    """The run as run.json and its journal tell of it."""
    beginning, source = asked.beginning, fold.sources.get(asked.task)
    return DescribedRun(
        result=result,
        parameters=dict(beginning.parameters),
        environment=dict(beginning.environment),
        versions={**beginning.versions, **({"source": source} if source is not None else {})},
        engine=beginning.engine,
        observers=list(beginning.observers),
        poll_seconds=beginning.poll_seconds,
    )


def _figures(fold: Fold, top: Record) -> dict[str, None]:
    """Each path once, where it first stands: two actions may show a figure in the same place."""
    return dict.fromkeys(figure.path for record in _subtree(fold, top) if record.notes is not None for figure in record.notes.figures)


def _messages(fold: Fold, top: Record) -> list[Message]:
    """By time; those of one instant, and of one action, in the order in which they are on record."""
    said = [event for record in _subtree(fold, top) if record.notes is not None for event in record.notes.messages]
    return [message_of(event) for event in sorted(said, key=lambda event: event.at)[-KEPT:]]


def _subtree(fold: Fold, top: Record) -> Iterator[Record]:
    """An action and all below it, parents before children, in the order in which they were asked for."""
    pending = [top]
    while pending:
        record = pending.pop()
        yield record
        pending.extend(fold.actions[child] for child in reversed(record.children or ()))
