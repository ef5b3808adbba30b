"""What happened, as frozen records. Everything else that is known about a run is folded from them.

An event is written as one JSON object: `e` its kind, then its fields, those at their defaults left out. Reading is tolerant: unknown
fields are passed over, and an unknown kind becomes an `Unknown`, which no fold counts. Instants are POSIX seconds (UTC).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar

from holdfast.clocks import instant
from holdfast.codec import to_json
from holdfast.frozen import MISSING, Frozen
from holdfast.status import Status


class Event(Frozen, kw_only=True):
    """Something that happened to an action.

    Observers are told of all in the order in which they happened, and of none before what was recorded earlier is durable. `live` ones are
    told only, and never recorded. `is_replay`: nothing was done, an outcome on record was given again.
    """

    kind: ClassVar[str] = ""
    live: ClassVar[bool] = False
    is_replay: ClassVar[bool] = False

    action: str
    at: float

    @property
    def time(self) -> datetime:
        """When it happened, aware, in UTC."""
        return instant(self.at)


class TaskSeen(Event, kw_only=True):
    """A task was asked for the first time in this ownership: which function it is, and a digest of its source."""

    kind: ClassVar[str] = "task_seen"
    task: str
    function: str
    source: str


class ActionAsked(Event, kw_only=True):
    """A body asked for an action, for the first time or anew. A new asking has new retries and a new total timeout.

    `first` names the action of occurrence 0 among equal calls, where this is a later one; `round` counts the saves that the parent
    had behind it; `inputs` is the digest of the arguments where a `key` stands for them. `skips`: it is a row that is passed over when it
    fails for good.
    """

    kind: ClassVar[str] = "action_asked"
    parent: str = ""
    task: str
    version: str | None = None
    first: str = ""
    occurrence: int = 0
    round: int = 0
    inputs: str = ""
    bare: str = ""
    group: tuple[str, ...] = ()
    skips: bool = False


class AttemptStarted(Event, kw_only=True):
    """An attempt began. `base` is the newest checkpoint generation of earlier owners that it may load."""

    kind: ClassVar[str] = "attempt_started"
    number: int
    epoch: int
    base: tuple[int, int, int] | None = None


class AttemptEnded(Event, kw_only=True):
    """An attempt ended as `status`, and left its action as `then`. `value` and `error` are encoded; `blob` names a large value.

    `unknown`: its body returned, and what it returned could not be kept, so that with `on_crash="fail"` no other attempt may follow.
    `replayed` and `orphaned` name children: answered from record, and recorded but not asked for by the body that COMPLETED.
    `received` is the entry of the inbox (`<topic>/<k>`) that this outcome of a `receive` took: nobody else gets it. Left ROLLING_BACK,
    the action begins to be undone.
    """

    kind: ClassVar[str] = "attempt_ended"
    number: int
    status: Status
    then: Status
    value: Any = None
    blob: str = ""
    error: Mapping[str, Any] | None = None
    next_at: float | None = None
    final: bool = False
    unknown: bool = False
    abandoned: bool = False
    replayed: tuple[str, ...] = ()
    orphaned: tuple[str, ...] = ()
    received: str = ""


class ActionEnded(Event, kw_only=True):
    """An action ended, was suspended, or begins to be undone (`then` is ROLLING_BACK), with no attempt under way.

    `remains` says what a rollback could not undo.
    """

    kind: ClassVar[str] = "action_ended"
    then: Status
    error: Mapping[str, Any] | None = None
    remains: tuple[str, ...] = ()


class UndoRegistered(Event, kw_only=True):
    """From now on a rollback of this action runs the undo `name`: a call of `task`, which is imported as `function`.

    `value` holds its arguments by name, encoded; `blob` names them where they are large; `context` is the custom context around it. One
    and the same undo may be registered by several attempts, and counts once. `when_completed`: only if this attempt ends COMPLETED; then
    it may take the result, too.
    """

    kind: ClassVar[str] = "undo_registered"
    attempt: int
    name: str
    task: str
    function: str
    value: Any = None
    blob: str = ""
    context: Mapping[str, str] = {}
    when_completed: bool = False


class WaitBegun(Event, kw_only=True):
    """A `sleep`, or a `receive` from `topic`, began to wait: until an instant, or without end."""

    kind: ClassVar[str] = "wait_begun"
    until: float | None = None
    topic: str = ""


class Described(Event, kw_only=True):
    """What an attempt said of its result: a summary, and the names of the schemas that the result follows."""

    kind: ClassVar[str] = "described"
    summary: str | None = None
    schemas: tuple[str, ...] = ()


class FigureSaved(Event, kw_only=True):
    """A figure lies in the run's folder at `key`, to be shown under `path`; `size` in bytes."""

    kind: ClassVar[str] = "figure_saved"
    path: str
    key: str
    media_type: str
    size: int


class CheckpointSaved(Event, kw_only=True):
    """A note that a generation became visible. The manifest in the store is the truth."""

    kind: ClassVar[str] = "checkpoint_saved"
    generation: tuple[int, int, int]
    size: int
    digest: str


class CheckpointsSetAside(Event, kw_only=True):
    """Generations from `since` on rest on a wrong answer and are not loaded again; calls like `first` are rounds of a loop."""

    kind: ClassVar[str] = "checkpoints_set_aside"
    since: tuple[int, int, int]
    until: tuple[int, int, int]
    first: str


class Warned(Event, kw_only=True):
    """Something that a person should know. `category` is the name of the warning's class."""

    kind: ClassVar[str] = "warned"
    category: str
    text: str


class RowsCounted(Event, kw_only=True):
    """An action begins to call `task` with rows: so many, as far as that is known beforehand. `place` as in `RowsSeen`."""

    kind: ClassVar[str] = "rows_counted"
    place: str
    task: str
    total: int | None = None


class RowsSeen(Event, kw_only=True):
    """Rows of a `map` that the action asked for, from the place `first` on: `prints` has six characters of each action's name.

    `place` tells the action's maps apart. `total`: the items ended after so many.
    """

    kind: ClassVar[str] = "rows_seen"
    place: str
    first: int = 0
    prints: str = ""
    total: int | None = None


class Progressed(Event, kw_only=True):
    """The last values of an attempt's bars: name to (n, total or None, started, updated)."""

    kind: ClassVar[str] = "progressed"
    bars: Mapping[str, tuple[float, float | None, float, float]]


class Messaged(Event, kw_only=True):
    """A body said something to whoever watches; `type` is the word of its `MessageType`."""

    kind: ClassVar[str] = "messaged"
    type: str
    content: str


class MessagesCleared(Event, kw_only=True):
    """A body took back all that its action said so far."""

    kind: ClassVar[str] = "messages_cleared"


class RunOpened(Event, kw_only=True):
    """This process became the owner of the run, whose root is `action`; `recorded` of its actions are COMPLETED on record.

    `cost` (a decimal as text, and "" for none) and `tokens` are what the run has cost by then, and `saved` what of that was answered from
    record: each `Spent` that follows adds to them, and none is told that is in them. `run_id` is drawn when a run is begun, and kept;
    `epoch` grows with every owner, `owned_before` is that of the last one. `context` is the run's custom context as it was begun with;
    `trace` are the trace keys that it was opened with now.
    """

    kind: ClassVar[str] = "run_opened"
    live: ClassVar[bool] = True
    run_name: str
    task: str
    store: str
    is_new: bool
    recorded: int
    cost: str = ""
    tokens: int = 0
    saved: str = ""
    run_id: str = ""
    epoch: int = 0
    owned_before: int | None = None
    context: Mapping[str, str] = {}
    trace: Mapping[str, str] = {}


class Missed(Event, kw_only=True):
    """`count` events came faster than this observer took them, and were passed over at this place. Of no action."""

    kind: ClassVar[str] = "missed"
    live: ClassVar[bool] = True
    count: int


class Continued(Event, kw_only=True):
    """An action that an earlier process left without an outcome goes on, in the same asking."""

    kind: ClassVar[str] = "continued"
    live: ClassVar[bool] = True
    task: str
    parent: str = ""
    group: tuple[str, ...] = ()


class Ticked(Event, kw_only=True):
    """A bar moved."""

    kind: ClassVar[str] = "ticked"
    live: ClassVar[bool] = True
    bar: str
    n: float
    total: float | None


class Replayed(Event, kw_only=True):
    """An action was answered from its record, without running."""

    kind: ClassVar[str] = "replayed"
    live: ClassVar[bool] = True
    is_replay: ClassVar[bool] = True
    task: str
    status: Status
    parent: str = ""
    group: tuple[str, ...] = ()


class Spent(Event, kw_only=True):
    """An attempt reported what something cost, by `ctx().add_cost`. Under a `key` only the first report of all attempts is an event.

    `cost` is a decimal as text, and "" for none. It counts whatever becomes of the attempt.
    """

    kind: ClassVar[str] = "spent"
    number: int
    cost: str = ""
    tokens: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    model: str = ""
    key: str = ""


class Unknown(Event, kw_only=True):
    """An event of a newer version: kept, told, and never folded."""

    kind: ClassVar[str] = "unknown"
    record: Mapping[str, Any]


_RECORDED: tuple[type[Event], ...] = (
    TaskSeen,
    ActionAsked,
    AttemptStarted,
    AttemptEnded,
    ActionEnded,
    CheckpointSaved,
    CheckpointsSetAside,
    Warned,
    Progressed,
    Messaged,
    MessagesCleared,
    RowsCounted,
    UndoRegistered,
    WaitBegun,
    Described,
    FigureSaved,
    RowsSeen,
    Spent,
)


class _Shape:
    """How one kind is written and read: its field names, their defaults, and what needs to be made of JSON."""

    __slots__ = ("cls", "names", "restore", "tree")

    tree: Callable[[Event], dict[str, Any]]
    """Gives an event as the JSON object that is written."""

    def __init__(self, cls: type[Event]) -> None:
        self.cls = cls
        self.names = tuple(field.name for field in cls.__fields__)
        self.restore = {field.name: _RESTORE[field.annotation] for field in cls.__fields__ if field.annotation in _RESTORE}
        self.tree = self._first

    def _first(self, event: Event) -> dict[str, Any]:
        self.tree = _compiled(self.cls)
        return self.tree(event)


def _compiled(cls: type[Event]) -> Callable[[Event], dict[str, Any]]:
    """Write out a function for one kind: three events are written for each step, and a loop over their fields takes three times as long."""
    lines = ["def tree(event):", f" record = {{'e': {cls.kind!r}}}"]
    for field in cls.__fields__:
        assert field.default is MISSING or not field.default
        given = "" if field.default is MISSING else "if value is not None: " if field.default is None else "if value: "
        written = "value._value_" if field.annotation == "Status" else "value"
        lines += [f" value = event.{field.name}", f" {given}record[{field.name!r}] = {written}"]
    scope: dict[str, Any] = {}
    exec("\n".join([*lines, " return record"]), scope)  # names of fields only, as dataclasses do
    tree: Callable[[Event], dict[str, Any]] = scope["tree"]
    return tree


def _generation(value: Any) -> tuple[int, int, int] | None:
    return None if value is None else (int(value[0]), int(value[1]), int(value[2]))


_RESTORE: dict[str, Any] = {
    "Status": Status,
    "tuple[str, ...]": tuple,
    "tuple[int, int, int]": _generation,
    "tuple[int, int, int] | None": _generation,
    "Mapping[str, tuple[float, float | None, float, float]]": lambda bars: {name: tuple(bar) for name, bar in bars.items()},
}
_BY_KIND = {cls.kind: _Shape(cls) for cls in _RECORDED}


def event_tree(event: Event) -> dict[str, Any]:
    """The event as a JSON object: what `decode_event` reads."""
    return _BY_KIND[event.kind].tree(event)


def encode_event(event: Event) -> bytes:
    """Return the event as one line of JSON, without its newline."""
    return to_json(_BY_KIND[event.kind].tree(event))


def weight(event: Event) -> int:
    """How many bytes it has in the journal. Of live ones, which are not written, 0."""
    return 0 if event.live or event.kind not in _BY_KIND else len(encode_event(event))


def decode_event(record: dict[str, Any]) -> Event:
    """Make the event of a JSON object. What is not known is kept, not refused."""
    shape = _BY_KIND.get(record.get("e", ""))
    if shape is None:
        return Unknown(action=str(record.get("action", "")), at=float(record.get("at", 0.0)), record=record)
    known = {name: record[name] for name in shape.names if name in record}
    for name, restore in shape.restore.items():
        if name in known:
            known[name] = restore(known[name])
    return shape.cls(**known)
