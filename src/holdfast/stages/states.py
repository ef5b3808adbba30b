"""The state of a stage, and how it is recorded.

A body fills `result` and the fields of its own; all else in a state is a fold of the events of the stage's action. So only the former is
recorded with a stage, and the latter is filled in whenever a state is handed out: at first delivery, at replay and for a reader alike.

Strict on writing: an unknown field is refused, and every assignment is validated. Tolerant on reading: a field in a record that this
code does not know is passed over, so that older code reads what newer code wrote.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from copy import copy, deepcopy
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Generic, NamedTuple, TypeVar, cast

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WrapSerializer

from holdfast.clocks import instant
from holdfast.states import Attempt, Record
from holdfast.status import STAGE_NAME_MAX_LENGTH, Status

ResultT = TypeVar("ResultT", bound=BaseModel)

_STRICT: Final = ConfigDict(extra="forbid", validate_assignment=True, defer_build=True)  # built when used: importing us stays cheap


class StageStateHistoryEntry(BaseModel):
    """One ended attempt of a stage.

    Attributes:
        attempt: Its number, from 0.
        begin_status: Where the stage stood before.
        end_status: How the attempt ended.
        begin_ts: When it began, aware.
        end_ts: When it ended, aware. Of one that crashed: when the next owner found that out.
        run_time_seconds: Seconds in between, by the wall clock.
        message: The error as "type: text", or the status as a word.
    """

    model_config: ClassVar[ConfigDict] = _STRICT

    attempt: int = Field(ge=0, title="Attempt", description="Number of the attempt, from 0")
    begin_status: Status = Field(title="Begin status", description="Status of the stage before the attempt")
    end_status: Status = Field(title="End status", description="How the attempt ended")
    begin_ts: AwareDatetime = Field(title="Begin", description="When the attempt began")
    end_ts: AwareDatetime = Field(title="End", description="When the attempt ended")
    run_time_seconds: float = Field(title="Run time", description="Seconds between begin and end")
    message: str = Field(title="Message", description="The error, or a word for how it ended")


class StageState(BaseModel, Generic[ResultT]):
    """The typed state that all stages of a pipeline share the class of. Subclass it to add fields of your own.

    Each stage gets a copy of the pipeline's input, fills its own fields, and returns what becomes `result`.

    Attributes:
        task_id: The `ActionID.name` of the pipeline's action.
        stage_name: The stage, at most 150 characters.
        status: Where it stands.
        attempts: How often it was begun, crashed attempts included; 0: not yet.
        history: Its ended attempts, oldest first.
        result: What the body returned; None until it COMPLETED, and where it returned None. `status` tells these apart.

    Example::

        class Report(BaseModel):
            rows: int


        class OrderState(StageState[Report]):
            order_id: int
            receipt: str | None = None
    """

    model_config: ClassVar[ConfigDict] = _STRICT

    task_id: str = Field(default="", title="Task ID", description="Name of the pipeline's action")
    stage_name: str = Field(default="", max_length=STAGE_NAME_MAX_LENGTH, title="Stage name", description="Unique in its pipeline")
    status: Status = Field(default=Status.UNBOUND, title="Status", description="Where the stage stands")
    attempts: int = Field(default=0, ge=0, title="Attempts", description="How often the stage was begun; 0: not yet")
    history: list[StageStateHistoryEntry] = Field(default=[], title="History", description="Ended attempts, oldest first")
    result: ResultT | None = Field(default=None, title="Result", description="What the stage returned; None until it completed")


StateT = TypeVar("StateT", bound="StageState[Any]")

FOLDED: Final = ("task_id", "stage_name", "status", "attempts", "history")
"""What is never recorded with a stage."""


class Facts(NamedTuple):
    """What events tell of a stage."""

    status: Status
    attempts: int
    history: list[StageStateHistoryEntry]


NOT_BEGUN: Final = Facts(Status.UNBOUND, 0, [])


def facts_of(record: Record | None) -> Facts:
    """What is on record of a stage's action."""
    if record is None:
        return NOT_BEGUN
    attempts = record.attempts
    return Facts(record.status, len(attempts), ended(attempts))


def ended(attempts: Iterable[Attempt]) -> list[StageStateHistoryEntry]:
    """The history that attempts make."""
    return [entry(a.number, a.before, a.status, a.started_at, a.ended_at, a.error) for a in attempts if a.ended_at is not None]


def entry(
    number: int, before: Status, status: Status, began: float, at: float, error: Mapping[str, Any] | None
) -> StageStateHistoryEntry:  # fmt: skip
    """One line of history. Instants are POSIX seconds, `error` is as recorded."""
    return StageStateHistoryEntry(
        attempt=number,
        begin_status=before,
        end_status=status,
        begin_ts=instant(began),
        end_ts=instant(at),
        run_time_seconds=max(at - began, 0.0),
        message=status.value.lower() if error is None else f"{str(error['type']).rpartition(':')[2]}: {error['message']}",
    )


def filled(state: StateT, task_id: str, stage_name: str, facts: Facts) -> StateT:
    """A copy that shares nothing with `state`, and says what events tell."""
    return copied(
        state, task_id=task_id, stage_name=stage_name, status=facts.status, attempts=facts.attempts, history=list(facts.history)
    )  # fmt: skip


def begun(state: StateT, task_id: str, stage_name: str, facts: Facts) -> StateT:
    """A stage's own copy of the pipeline's input, whose result is none of this stage's."""
    return copied(
        state, task_id=task_id, stage_name=stage_name, status=facts.status, attempts=facts.attempts, history=facts.history, result=None
    )  # fmt: skip


def emptied(state: StateT) -> StateT:
    """A copy that shares nothing with `state`, without what events tell: what a stage has recorded."""
    return copied(state, task_id="", stage_name="", status=Status.UNBOUND, attempts=0, history=[])


_ATOMS: Final = frozenset({type(None), bool, int, float, str, bytes, Decimal, datetime, Status})


def copied(state: StateT, **changes: Any) -> StateT:
    """A deep copy with other values, past the validators: the model may be frozen. It takes half the time of `model_copy`."""
    made = copy(state)
    memo = dict[int, Any]()
    values = {name: value if type(value) in _ATOMS or name in changes else deepcopy(value, memo) for name, value in vars(state).items()}
    object.__setattr__(made, "__dict__", values | changes)
    for attribute in ("__pydantic_private__", "__pydantic_extra__"):
        if getattr(made, attribute, None):
            object.__setattr__(made, attribute, deepcopy(getattr(made, attribute), memo))
    return made


def unstarted(kind: type[StateT]) -> StateT:
    """A state of a stage that recorded nothing. What has no default is missing in it."""
    made: Any = kind.model_construct()
    return cast("StateT", made)


def recorded_as(kind: type[StageState[Any]]) -> Any:
    """The annotation under which a stage's state is recorded: without what events tell."""
    return Annotated[kind, BeforeValidator(functools.partial(_known, kind)), WrapSerializer(_own)]


def returned_as(kind: type[StageState[Any]]) -> Any:
    """The annotation under which a pipeline's state is recorded: whole, as it was delivered."""
    return Annotated[kind, BeforeValidator(functools.partial(_known, kind))]


def _own(state: Any, dump: Any) -> Any:
    dumped = dump(state)
    for name in FOLDED:
        dumped.pop(name, None)
    return dumped


def _known(kind: type[BaseModel], tree: Any) -> Any:
    """The fields of a record that this code knows."""
    if not isinstance(tree, dict) or kind.model_config.get("extra") != "forbid":
        return tree
    kept = {name: value for name, value in tree.items() if name in _names(kind)}
    history = kept.get("history")
    if isinstance(history, list):
        kept["history"] = [_known(StageStateHistoryEntry, line) for line in history]
    return kept


@functools.lru_cache(maxsize=256)
def _names(kind: type[BaseModel]) -> frozenset[str]:
    """Under what a field may be recorded."""
    names = set(kind.model_fields)
    for field in kind.model_fields.values():
        names |= {alias for alias in (field.alias, field.validation_alias, field.serialization_alias) if isinstance(alias, str)}
    return frozenset(names)
