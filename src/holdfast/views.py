"""What a reader is shown of a run: frozen views of a fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Self, get_args

from holdfast.checkpoints import Generation
from holdfast.clocks import instant
from holdfast.codec import codec_for, decode_error, from_json, parts_of, to_json
from holdfast.costs import NOTHING, Cost, Costs
from holdfast.errors import InvalidCall, ResultIncompatible, StateDamaged, StateTooNew
from holdfast.events import CheckpointSaved, FigureSaved
from holdfast.frozen import Frozen
from holdfast.mementos import FORMAT, read_fold, write_fold
from holdfast.messages import Message
from holdfast.orders import ActionID
from holdfast.progress import Bar
from holdfast.runs.presence import Owner
from holdfast.states import Attempt, Fold, Record, message_of
from holdfast.status import Status, shown_status
from holdfast.tallies import Stats, tally

OWNERS: Final = frozenset(get_args(Owner))


class LargeValue(Frozen):
    """Stands for a recorded value that lies in a blob of its own, and was not read."""

    digest: str


class OpaqueValue(Frozen):
    """Stands for a recorded value that only its own task can read, such as one that is pickled: `Store.latest_result(task)` reads it."""

    reason: str


class AttemptState(Frozen):
    """One attempt. Times are aware, in UTC."""

    number: int
    status: Status
    started_at: datetime
    ended_at: datetime | None
    error: BaseException | None
    abandoned: bool


class Figure(Frozen):
    """A figure that lies in the store.

    Attributes:
        path: Under which it is shown, such as `scans/motor.png`.
        media_type: What it is, such as `image/png`.
        size: Bytes.
        key: Where it lies, in the folder of the run's incarnation.
    """

    path: str
    media_type: str
    size: int
    key: str


class ActionState(Frozen):
    """One action.

    Attributes:
        action: Its place.
        task_name: The task.
        status: Where it stands.
        attempts: Oldest first.
        children: Names of the actions that it asked for, in that order.
        result: What it returned, by value; None, unless COMPLETED. A `LargeValue` stands for what is large and was not read, an
            `OpaqueValue` for what only its task can read.
        error: How it failed, if it did.
        replayed: How often it was answered from record.
        progress: Its last attempt's bars, as recorded: while it is under way at most about a second old.
        messages: What its attempts said to whoever watched, oldest first; the newest 100.
        checkpoint: The last noted generation; its metadata is in `checkpoint.history()`.
        remains: What a rollback of it could not undo.
        summary: What its last attempt said by `ctx().summary`; "" while it is under way.
        schemas: What its last attempt said by `ctx().implements`.
        figures: Those of this action alone, by display path.
        cost: What it and all below it cost, over all attempts, whatever became of them.
        tokens: The same, in tokens.
    """

    action: ActionID
    task_name: str
    status: Status
    attempts: tuple[AttemptState, ...]
    children: tuple[str, ...]
    result: Any
    error: BaseException | None
    replayed: int
    progress: Mapping[str, Bar]
    messages: tuple[Message, ...]
    checkpoint: Generation | None
    remains: tuple[str, ...]
    summary: str
    schemas: tuple[str, ...]
    figures: tuple[Figure, ...]
    cost: Decimal
    tokens: int


class Actions(Mapping[str, ActionState]):
    """The actions of a run by name, made when they are looked at."""

    def __init__(self, fold: Fold, run_name: str) -> None:
        self._fold = fold
        self._run_name = run_name
        self._costs: dict[str, Cost] | None = None

    def __getitem__(self, name: str) -> ActionState:
        record = self._fold.actions[name]
        cost = self._cost(name)
        bars = {bar: Bar(*values) for bar, values in (record.bars or {}).items()}
        return ActionState(
            action=self._id(record),
            task_name=record.task,
            status=record.status,
            attempts=tuple(_attempt(attempt) for attempt in record.attempts),
            children=tuple(record.children or ()),
            result=_result(record),
            error=_error(record.error),
            replayed=record.replayed,
            progress=bars,
            messages=tuple(map(message_of, record.notes.messages)) if record.notes is not None else (),
            checkpoint=_noted(record.saved) if record.saved is not None else None,
            remains=record.notes.remains if record.notes is not None else (),
            summary=record.notes.summary if record.notes is not None else "",
            schemas=record.notes.schemas if record.notes is not None else (),
            figures=tuple(map(_figure, record.notes.figures)) if record.notes is not None else (),
            cost=cost.cost,
            tokens=cost.tokens,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._fold.actions)

    def __len__(self) -> int:
        return len(self._fold.actions)

    @property
    def fold(self) -> Fold:
        """What they are views of."""
        return self._fold

    def _cost(self, name: str) -> Cost:
        if self._costs is None:
            self._costs = self._fold.costs_of_all()
        return self._costs.get(name, NOTHING)

    def _id(self, record: Record) -> ActionID:
        lineage = [record]
        while (above := self._fold.actions.get(lineage[-1].parent)) is not None:
            lineage.append(above)
        found: ActionID | None = None
        for ancestor in reversed(lineage):
            found = ActionID(ancestor.name, self._run_name, found)
        assert found is not None
        return found


class RunSummary(Frozen):
    """A run in a list of runs. `status` is as shown: CRASHED, where nobody runs what has no end."""

    run_name: str
    task_name: str
    status: Status
    started_at: datetime
    ended_at: datetime | None


class RunState(RunSummary):
    """All about a run.

    Attributes:
        actions: By `ActionID.name`, made when looked at.
        orphaned: Names of COMPLETED actions that a resume never asked for.
        owner: Whether a process runs it now.
        warnings: What the run warned of.
        costs: What it cost, by task and model, with sums `by_task`, `by_model` and `total`.
        saved: What of the cost was answered from record, in a resume or a retry, and so not paid again. What was paid once is saved once,
            however often it is answered, so this is never more than the cost. Counted when the attempt that asked ends: a process that is
            killed adds nothing, and the next one, which asks for the same, does.
        custom_context: What the run was begun with; with `traceparent`, `tracestate` and `baggage`, where they were given.
    """

    actions: Mapping[str, ActionState]
    root: ActionState | None
    orphaned: tuple[str, ...]
    owner: Owner
    warnings: tuple[str, ...]
    custom_context: Mapping[str, str]
    costs: Costs
    saved: Decimal

    @property
    def cost(self) -> Decimal:
        """What the run cost, over all attempts of all its actions, whatever became of them. No checkpoint takes it back."""
        return self.costs.total.cost

    @property
    def tokens(self) -> int:
        """The same, in tokens."""
        return self.costs.total.tokens

    @property
    def stats(self) -> Stats:
        """How far it has come: the rows of its `map`s and `records`; where it has none, its actions. Counted anew each time."""
        return tally(fold_of(self))

    def to_json(self) -> bytes:
        """The whole state as text, for a database, a cache or another machine: `from_json` makes an equal one of it.

        Everything is in it that the state shows, with recorded errors and values in the form in which they are on record. A run itself is
        continued from its store, never from this.

        Raises: InvalidCall, of a state that was not read from a store.
        """
        head = {
            "holdfast": FORMAT,
            "run_name": self.run_name,
            "task_name": self.task_name,
            "started_at": self.started_at.timestamp(),
            "owner": self.owner,
            "custom_context": dict(self.custom_context),
        }
        return to_json({**head, "fold": write_fold(fold_of(self))})

    @classmethod
    def from_json(cls, data: bytes | bytearray | str) -> Self:
        """The state that `to_json` wrote, here or elsewhere, in this version of Holdfast or an older one, or a newer minor one.

        Everything in it is checked, and none of it is code. But an error's type is found by importing the module that the text names,
        as from a store; one whose type is not found here comes back as `RemoteFailure`.

        Raises:
            StateDamaged: It is not that, or not all of it.
            StateTooNew: A newer major version wrote it.
        """
        try:
            tree = from_json(data)
            found = str(tree["holdfast"])
            if int(found.partition(".")[0]) > int(FORMAT.partition(".")[0]):
                raise StateTooNew(found=found, known=FORMAT)
            if tree["owner"] not in OWNERS:
                raise ValueError(f"owner is {tree['owner']!r:.20}")
            context = {str(key): str(value) for key, value in tree["custom_context"].items()}
            state = state_of(
                read_fold(tree["fold"]), str(tree["run_name"]), str(tree["task_name"]), float(tree["started_at"]), tree["owner"], context
            )
        except StateTooNew:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
            raise StateDamaged(reason=f"{type(error).__name__}: {error}") from error
        return cls(**{field.name: getattr(state, field.name) for field in cls.__fields__})

    @property
    def result(self) -> Any:
        """What the root returned, by value; None, unless COMPLETED."""
        return self.root.result if self.root is not None else None

    @property
    def error(self) -> BaseException | None:
        """How the root failed, if it did."""
        return self.root.error if self.root is not None else None


def fold_of(state: RunState) -> Fold:
    """What a state is a view of. Raises: InvalidCall."""
    if not isinstance(state.actions, Actions):
        raise InvalidCall(verb="reading it", got=f"a state with {type(state.actions).__name__} for actions")
    return state.actions.fold


def summary_of(fold: Fold, run_name: str, task: str, created: float, owner: Owner) -> RunSummary:
    status, ended_at = _shown(fold, owner)
    return RunSummary(run_name, task, status, instant(created), ended_at)


def state_of(fold: Fold, run_name: str, task: str, created: float, owner: Owner, context: Mapping[str, str]) -> RunState:
    status, ended_at = _shown(fold, owner)
    actions = Actions(fold, run_name)
    return RunState(
        run_name=run_name,
        task_name=task,
        status=status,
        started_at=instant(created),
        ended_at=ended_at,
        actions=actions,
        root=actions[fold.root] if fold.root in fold.actions else None,
        orphaned=tuple(fold.orphaned),
        owner=owner,
        warnings=tuple(warned.text for warned in fold.warnings),
        costs=fold.costs(),
        saved=fold.saved,
        custom_context=context,
    )


def _shown(fold: Fold, owner: Owner) -> tuple[Status, datetime | None]:
    root = fold.actions.get(fold.root)
    if root is None:
        return shown_status(Status.PENDING, owner), None
    status = shown_status(root.status, owner)
    ended = root.attempt.ended_at if root.attempt is not None else None
    return status, instant(ended) if ended is not None and status is root.status else None


def _attempt(attempt: Attempt) -> AttemptState:
    return AttemptState(
        number=attempt.number,
        status=attempt.status,
        started_at=instant(attempt.started_at),
        ended_at=None if attempt.ended_at is None else instant(attempt.ended_at),
        error=_error(attempt.error),
        abandoned=attempt.abandoned,
    )


def _noted(saved: CheckpointSaved) -> Generation:
    return Generation(*saved.generation, size=saved.size, digest=saved.digest, created_at=saved.time, metadata={})


def _figure(saved: FigureSaved) -> Figure:
    return Figure(path=saved.path, media_type=saved.media_type, size=saved.size, key=saved.key)


def _error(tree: Mapping[str, Any] | None) -> BaseException | None:
    return None if tree is None else decode_error(tree)


def _result(record: Record) -> Any:
    if record.status is not Status.COMPLETED:
        return None
    if record.blob:
        return LargeValue(record.blob)
    parts = parts_of(record.value)
    if parts:
        return LargeValue(parts[0])
    try:
        return codec_for(Any, task=record.task).decode(record.value, {})
    except ResultIncompatible as error:
        return OpaqueValue(error.reason)
