"""What is known about a run: a fold of its durable events.

`Fold` is the one place where events become state. The owner folds what it acknowledged, a reader what it read: the same code, so there
is no second truth. Records inside are compact and private to it (a run may have a million); users get frozen views.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, Self

from holdfast.costs import NOTHING, ZERO, Bill, Cost, Costs, larger, plus, total
from holdfast.events import (
    ActionAsked,
    ActionEnded,
    AttemptEnded,
    AttemptStarted,
    CheckpointSaved,
    CheckpointsSetAside,
    Described,
    Event,
    FigureSaved,
    Messaged,
    MessagesCleared,
    Progressed,
    RowsCounted,
    RowsSeen,
    Spent,
    TaskSeen,
    UndoRegistered,
    WaitBegun,
    Warned,
)
from holdfast.fingerprints import Fingerprints
from holdfast.messages import KEPT, Message, type_of
from holdfast.retention import Generation3
from holdfast.rounds import Made
from holdfast.status import EXECUTED_STATES, Status, following

_OPEN = frozenset({Status.PENDING, Status.STARTING, Status.RUNNING, Status.RETRYING, Status.AWAITING_INPUT})
_OUTCOMES = EXECUTED_STATES | {Status.ROLLED_BACK}
_OWN_ENDS = frozenset({Status.FAILED, Status.TIMED_OUT, Status.CANCELLED})
_MAY_START = frozenset({Status.PENDING, Status.RETRYING, Status.STOPPED, Status.CRASHED})
_UNDOING = frozenset({Status.ROLLING_BACK, Status.ROLLED_BACK})

#: An event that lies so much before an earlier one tells of a clock that was set back.
SET_BACK_SECONDS: Final = 1.0


class Attempt:
    """One attempt: number, status, times, encoded error; `before` is where its action stood when it began."""

    __slots__ = ("abandoned", "before", "ended_at", "epoch", "error", "number", "started_at", "status", "unknown")

    before: Status

    unknown: bool

    abandoned: bool
    epoch: int
    number: int
    started_at: float
    status: Status

    def __init__(self, number: int, epoch: int, started_at: float, before: Status) -> None:
        self.number = number
        self.epoch = epoch
        self.before = before
        self.status = Status.RUNNING
        self.started_at = started_at
        self.ended_at: float | None = None
        self.error: Mapping[str, Any] | None = None
        self.abandoned = False
        self.unknown = False


class Undo:
    """A registered undo: a call, recorded by name and arguments. It runs as an action of the same name, in a rollback of `action`.

    `value` and `blob` are its arguments, encoded, and `result` what the action returned whose completion it undoes. `attempts` are those
    that registered it.
    """

    __slots__ = ("action", "attempts", "blob", "context", "function", "is_due", "name", "result", "task", "value")

    action: str
    attempts: tuple[int, ...]
    blob: str
    context: Mapping[str, str]
    function: str
    is_due: bool
    name: str
    result: tuple[Any, str]
    task: str
    value: Any

    def __init__(self, event: UndoRegistered, earlier: tuple[int, ...]) -> None:
        self.name = event.name
        self.action = event.action
        self.attempts = (*earlier, event.attempt)
        self.task = event.task
        self.function = event.function
        self.value = event.value
        self.blob = event.blob
        self.context = event.context
        self.result = (None, "")
        self.is_due = not event.when_completed  # else once its attempt COMPLETED


class Notes:
    """What is known about few actions only."""

    __slots__ = (
        "awaiting", "figures", "is_undone", "messages", "remains", "rows", "schemas", "summary", "topic", "undone_below", "undos", "until",
    )  # fmt: skip

    awaiting: int
    figures: tuple[FigureSaved, ...]
    is_undone: bool
    messages: tuple[Messaged, ...]
    remains: tuple[str, ...]
    rows: dict[str, tuple[str, int | None]]
    schemas: tuple[str, ...]
    summary: str
    topic: str
    undone_below: bool
    undos: list[str]

    def __init__(self) -> None:
        self.awaiting = 0  # so many of its receives wait
        self.figures = ()
        self.is_undone = False  # a rollback of this very action has begun
        self.messages = ()  # the newest, of all attempts
        self.remains = ()
        self.rows = {}  # by the place of a map: its task, and how many rows there are, as far as that is known
        self.schemas = ()
        self.summary = ""
        self.topic = ""
        self.undone_below = False  # what its result stands for was undone, at least in part
        self.undos = []
        self.until: float | None = None

    def begin(self) -> None:
        """What an earlier attempt said of its result is not said of the one to come."""
        self.summary, self.schemas = "", ()


class Record:
    """All that is known about one action.

    A *try* is the attempts from one asking, or from the action's own last failure, up to the next; `present_try` counts them.
    `failed_in` is the parent's try in which the last failure was recorded. `barren` counts crashed attempts in a row that recorded
    nothing; `failures` the failed ones of this asking; `spent` the attempts of its children that COMPLETED, FAILED or TIMED_OUT in its
    present try.
    """

    __slots__ = (
        "asked_at", "attempt", "bare", "bars", "barren", "base", "base_epoch", "bill", "blob", "children", "earlier", "error", "failed_in",
        "failures", "final", "first", "fruitful", "inputs", "loops", "name", "next_at", "notes", "nth", "occurrence", "parent",
        "present_try", "replayed", "round", "saved", "set_aside", "skips", "spent", "status", "task", "value", "version",
    )  # fmt: skip

    asked_at: float
    bare: str
    barren: int
    base_epoch: int
    blob: str
    failures: int
    final: bool
    first: str
    fruitful: bool
    inputs: str
    name: str
    nth: int
    occurrence: int
    parent: str
    present_try: int
    replayed: int
    round: int
    skips: bool
    spent: int
    status: Status
    task: str
    version: str | None

    def __init__(self, asked: ActionAsked) -> None:
        self.name = asked.action
        self.parent = asked.parent
        self.nth = 0  # of its parent's calls, in the order in which they were asked for
        self.first = asked.first or asked.action
        self.occurrence = asked.occurrence
        self.round = asked.round
        self.bare = asked.bare or asked.action
        self.attempt: Attempt | None = None
        self.earlier: tuple[Attempt, ...] = ()
        self.children: list[str] | None = None
        self.value: Any = None
        self.blob = ""
        self.present_try = -1
        self.failed_in: int | None = None
        self.replayed = 0
        self.base: Generation3 | None = None
        self.base_epoch = 0
        self.saved: CheckpointSaved | None = None
        self.set_aside: tuple[tuple[Generation3, Generation3], ...] = ()
        self.loops: tuple[str, ...] = ()
        self.bars: Mapping[str, tuple[float, float | None, float, float]] | None = None
        self.bill: Bill | None = None
        self.notes: Notes | None = None
        self.ask(asked)

    def noted(self) -> Notes:
        """Its notes, begun where there are none."""
        if self.notes is None:
            self.notes = Notes()
        return self.notes

    def ask(self, asked: ActionAsked) -> None:
        self.task = asked.task
        self.version = asked.version
        self.inputs = asked.inputs
        self.skips = asked.skips
        self.asked_at = asked.at
        self.status = Status.PENDING
        self.begin_try()
        self.failures = 0
        self.barren = 0
        self.fruitful = False
        self.error: Mapping[str, Any] | None = None
        self.final = False
        self.next_at: float | None = None
        if self.notes is not None:
            self.notes.until, self.notes.undone_below = None, False
            self.notes.begin()

    def begin_try(self) -> None:
        self.present_try += 1
        self.spent = 0

    @property
    def number(self) -> int:
        """The last attempt's number; -1 when none has started."""
        return -1 if self.attempt is None else self.attempt.number

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return self.earlier if self.attempt is None else (*self.earlier, self.attempt)

    @property
    def has_live_attempt(self) -> bool:
        return self.attempt is not None and self.attempt.ended_at is None


class Worked:
    """For how long the run was worked on: in each ownership from its first attempt's start to the last start or end in it.

    What came after that, up to a crash, nobody knows, and what lies between two ownerships is no work. Where the clock was set back, it
    goes on counting from there: what had passed before stays.
    """

    __slots__ = ("_before", "_began", "epoch", "until")

    epoch: int
    until: float

    def __init__(self) -> None:
        self._before = self._began = self.until = 0.0
        self.epoch = -1

    def begin(self, epoch: int, at: float) -> None:
        """Another owner began."""
        self._before, self.epoch, self._began, self.until = self.seconds, epoch, at, at

    def reach(self, at: float) -> None:
        """Something began or ended. Threads may tell of it a little out of order."""
        if at < self.until - SET_BACK_SECONDS:
            self.begin(self.epoch, at)
        else:
            self.until = max(self.until, at)

    @property
    def seconds(self) -> float:
        return self._before + max(self.until - self._began, 0.0)


class Packing(Mapping[str, Record]):
    """The actions of a run, of which some are kept in less than a whole record. These are COMPLETED, and have nothing below them."""

    whole: dict[str, Record]
    bills: dict[str, Bill]
    """Of those that are kept in less, what they cost, where they cost anything."""

    @property
    @abstractmethod
    def packed(self) -> int:
        """How many are."""

    @abstractmethod
    def pack(self, record: Record, parent: Record) -> None:
        """Keep less of an action that COMPLETED, where that pays."""

    @abstractmethod
    def thaw(self, name: str) -> Record | None:
        """The record of an action, whole from now on."""

    @abstractmethod
    def text_of(self, name: str) -> str:
        """The str that is kept for this name, if one is: so that no second one is."""

    @abstractmethod
    def made(self, name: str) -> Made | None:
        """The call of an action that is kept in less than a whole record; None for any other."""

    @abstractmethod
    def those_with_context(self) -> Iterator[Record]:
        """COMPLETED actions of which other places differ only in counted context."""


class Fold:
    """The state of a run. `fold` is total: an event that the table of statuses does not allow is passed over, as is a second end.

    Args:
        packing: Keeps less of what COMPLETED; None keeps all.
    """

    actions: Mapping[str, Record]
    root: str
    saved: Decimal
    worked: Worked

    def __init__(self, packing: Packing | None = None) -> None:
        self._whole: dict[str, Record] = packing.whole if packing is not None else {}
        self._packing = packing
        self.actions = packing if packing is not None else self._whole
        self._known: Callable[[str], Record | None] = packing.thaw if packing is not None else self._whole.get
        self.root = ""
        self.sources: dict[str, str] = {}
        self.orphaned: list[str] = []
        self.undos: dict[str, Undo] = {}  # in the order in which each was first registered: what came between has its own turn still
        self.received: dict[str, set[int]] = {}
        self.rows: dict[str, dict[str, Fingerprints]] = {}  # by action and map, until the action COMPLETED
        self.warnings: list[Warned] = []
        self.saved = ZERO
        self.largest: dict[str, Cost] = {}  # of one attempt, by task
        self.worked = Worked()
        self._by_bare: dict[str, str] | None = None
        self._fold: dict[type[Event], Callable[[Any], None]] = {
            ActionAsked: self._asked,
            AttemptStarted: self._started,
            AttemptEnded: self._ended,
            ActionEnded: self._action_ended,
            TaskSeen: self._task_seen,
            CheckpointSaved: self._saved,
            CheckpointsSetAside: self._set_aside,
            Progressed: self._progressed,
            Messaged: self._messaged,
            MessagesCleared: self._messages_cleared,
            Warned: self._warned,
            UndoRegistered: self._undo_registered,
            WaitBegun: self._wait_begun,
            Described: self._described,
            FigureSaved: self._figure_saved,
            RowsSeen: self._rows_seen,
            Spent: self._spent,
            RowsCounted: self._rows_counted,
        }

    @classmethod
    def of(cls, events: Iterable[Event], packing: Packing | None = None) -> Self:
        """What these events tell."""
        state = cls(packing)
        for event in events:
            state.fold(event)
        return state

    def fold(self, event: Event) -> None:
        """Count one event in."""
        known = self._fold.get(type(event))
        if known is not None:
            known(event)

    def _asked(self, event: ActionAsked) -> None:
        record = self._known(event.action)
        if record is not None:
            if not record.has_live_attempt and record.status not in _UNDOING:
                record.ask(event)
            return
        record = self._whole[event.action] = Record(event)
        if not event.parent:
            self.root = event.action
        elif (parent := self._known(event.parent)) is not None:
            if parent.children is None:
                parent.children = []
            record.nth = len(parent.children)
            parent.children.append(event.action)

    def _started(self, event: AttemptStarted) -> None:
        record = self._known(event.action)
        if record is None or event.number <= record.number or record.status not in _MAY_START:
            return
        if record.attempt is not None:
            record.earlier = (*record.earlier, record.attempt)
        record.attempt = Attempt(event.number, event.epoch, event.at, record.status)
        if event.epoch != self.worked.epoch:
            self.worked.begin(event.epoch, event.at)
        self.worked.reach(event.at)
        record.status = Status.RUNNING
        record.bars = None
        if record.notes is not None:
            record.notes.awaiting = 0
            record.notes.begin()
        if event.action in self.undos:
            self._undo_moves(self.undos[event.action], Status.ROLLING_BACK)
            self._note_undone(self.undos[event.action])
        record.fruitful = False
        record.next_at = None
        if event.epoch != record.base_epoch:
            record.base_epoch, record.base = event.epoch, event.base

    def _ended(self, event: AttemptEnded) -> None:
        record = self._known(event.action)
        if record is None or record.attempt is None or event.number != record.number or record.attempt.ended_at is not None:
            return
        attempt = record.attempt
        attempt.status, attempt.ended_at, attempt.error, attempt.abandoned = event.status, event.at, event.error, event.abandoned
        attempt.unknown = event.unknown
        if event.status is not Status.CRASHED:  # that is written by the next owner
            self.worked.reach(event.at)
        if event.status is Status.CRASHED and record.notes is not None:
            record.notes.begin()  # it was about to end, and did not
        record.status, record.next_at, record.final = event.then, event.next_at, event.final
        record.value, record.blob, record.error = event.value, event.blob, event.error
        record.barren = record.barren + 1 if event.status is Status.CRASHED and not record.fruitful else 0
        if event.status in _OWN_ENDS:
            record.begin_try()
            record.failures += event.status is not Status.CANCELLED
        parent = self._known(record.parent)
        if event.status in EXECUTED_STATES and parent is not None:
            parent.spent += 1
        if event.received:
            topic, _, number = event.received.rpartition("/")
            self.received.setdefault(topic, set()).add(int(number))
        if event.then is Status.ROLLING_BACK:
            record.noted().is_undone = True
        elif record.notes is not None:
            self._note_end(record, record.notes, event)
        if event.action in self.undos and event.then is Status.COMPLETED:
            self._undo_moves(self.undos[event.action], Status.ROLLED_BACK)
        if self.rows and event.then is Status.COMPLETED:
            self.rows.pop(event.action, None)
        if parent is not None:
            self._tell_parent(record, parent)
            if self._packing is not None and event.then is Status.COMPLETED:
                self._packing.pack(record, parent)
        for name in event.replayed:
            if (child := self._whole.get(name)) is not None:  # of what is packed nobody asks how often
                child.replayed += 1
            if self.largest:
                for bill in self._bills_below(name):
                    self.saved = plus(self.saved, bill.save())
        self.orphaned.extend(event.orphaned)

    def _action_ended(self, event: ActionEnded) -> None:
        record = self._known(event.action)
        if record is None or record.has_live_attempt:
            return
        is_stopped_again = event.then is Status.STOPPED and record.status is Status.CRASHED  # it was asked for, and never got its turn
        if event.then not in following(record.status) and not is_stopped_again:
            return
        record.status = event.then
        if event.error is not None or event.then not in _UNDOING:
            record.error = event.error
        if event.then is Status.ROLLING_BACK:
            record.noted().is_undone = True
        if event.then is not Status.STOPPED:
            record.next_at = None
        if event.then in _OWN_ENDS:
            record.begin_try()
        if event.remains or (record.notes is not None and record.notes.remains):
            record.noted().remains = event.remains
        if (parent := self._known(record.parent)) is not None:
            self._tell_parent(record, parent)

    def _note_end(self, record: Record, notes: Notes, event: AttemptEnded) -> None:
        notes.is_undone = False
        if event.status is Status.COMPLETED:
            for name in notes.undos:
                undo = self.undos[name]
                if event.number in undo.attempts and not undo.is_due:
                    undo.is_due, undo.result = True, (event.value, event.blob)
        if notes.topic:
            notes.topic = ""
            self._await_input(record, -1)

    def _await_input(self, record: Record, change: int) -> None:
        """One more, or one less, of the receives of an action's parent waits."""
        if (parent := self._known(record.parent)) is None:
            return
        notes = parent.noted()
        notes.awaiting = max(notes.awaiting + change, 0)
        if parent.has_live_attempt and parent.status in (Status.RUNNING, Status.AWAITING_INPUT):
            _set_status(parent, Status.AWAITING_INPUT if notes.awaiting else Status.RUNNING)

    def _undo_moves(self, undo: Undo, to: Status) -> None:
        """What an undo's action does moves the action that it undoes: ROLLED_BACK once all its undos are done."""
        record = self._known(undo.action)
        if record is None or record.has_live_attempt or (record.notes is not None and record.notes.is_undone):
            return
        if to is Status.ROLLING_BACK or all(self.is_done(self.undos[name]) for name in record.noted().undos if self.undos[name].is_due):
            record.status = to

    def _note_undone(self, undo: Undo) -> None:
        """Nothing between an undo and the action that is rolled back stands for what it did any more."""
        record = self.actions.get(undo.action)
        while record is not None and not (notes := record.noted()).is_undone and not notes.undone_below:
            notes.undone_below = True
            record = self.actions.get(record.parent)

    def is_done(self, undo: Undo) -> bool:
        """Whether an undo was run to its end."""
        record = self.actions.get(undo.name)
        return record is not None and record.status is Status.COMPLETED

    def undos_below(self, top: str) -> list[Undo]:
        """The undos that a rollback of `top` has to run, in that order: those of the whole subtree, newest first.

        What undos themselves registered is left out, as are those that are done.
        """
        is_below = self.subtree(top)
        return [undo for undo in reversed(self.undos.values()) if undo.is_due and not self.is_done(undo) and is_below(undo.action)]

    def cut_short_below(self, top: str) -> list[str]:
        """The actions below `top` whose own rollback has begun and not ended, children before parents."""
        is_below = self.subtree(top)
        found = (record for record in self.actions.values() if record.status is Status.ROLLING_BACK and record.noted().is_undone)
        return [record.name for record in reversed(list(found)) if record.name != top and is_below(record.name)]

    def subtree(self, top: str) -> Callable[[str], bool]:
        """Tells of an action whether it is `top` or below it, leaving out undos and what they asked for."""
        known = {"": False, top: True}

        def is_below(name: str) -> bool:
            path = []
            while name not in known:
                path.append(name)
                name = "" if name in self.undos or name not in self.actions else self.actions[name].parent
            for passed in path:
                known[passed] = known[name]
            return known[name]

        return is_below

    def _undo_registered(self, event: UndoRegistered) -> None:
        record = self._known(event.action)
        if record is None:
            return
        known = self.undos.get(event.name)
        self.undos[event.name] = Undo(event, known.attempts if known is not None else ())
        if known is None:
            record.noted().undos.append(event.name)

    def _wait_begun(self, event: WaitBegun) -> None:
        record = self._known(event.action)
        if record is None or not record.has_live_attempt:
            return
        notes = record.noted()
        notes.until = event.until
        if event.topic and not notes.topic:
            notes.topic = event.topic
            _set_status(record, Status.AWAITING_INPUT)
            self._await_input(record, 1)

    def _described(self, event: Described) -> None:
        if (record := self._known(event.action)) is not None and record.has_live_attempt:
            record.noted().summary, record.noted().schemas = event.summary or "", event.schemas

    def _figure_saved(self, event: FigureSaved) -> None:
        if (record := self._known(event.action)) is not None:
            notes = record.noted()
            notes.figures = (*(figure for figure in notes.figures if figure.path != event.path), event)

    def _rows_seen(self, event: RowsSeen) -> None:
        self.rows.setdefault(event.action, {}).setdefault(event.place, Fingerprints()).see(event.first, event.prints, event.total)
        if event.total is not None and (record := self._known(event.action)) is not None and record.notes is not None:
            rows = record.notes.rows
            if event.place in rows:
                rows[event.place] = (rows[event.place][0], event.total)

    def _rows_counted(self, event: RowsCounted) -> None:
        if (record := self._known(event.action)) is not None:
            record.noted().rows[event.place] = (event.task, event.total)

    def _spent(self, event: Spent) -> None:
        """Whatever becomes of the attempt, also where it has ended: what was spent was spent."""
        record = self._known(event.action)
        if record is None:
            return
        if record.bill is None:
            record.bill = Bill()
        cost = Cost(Decimal(event.cost) if event.cost else ZERO, event.tokens, event.tokens_in, event.tokens_out)
        if (at_hand := record.bill.add(event.number, event.model, cost, event.key)) is not None:
            self.largest[record.task] = larger(self.largest.get(record.task, NOTHING), at_hand)

    def cost_below(self, name: str) -> Cost:
        """What an action cost, with all below it."""
        return total(bill.total for bill in self._bills_below(name)) if self.largest else NOTHING

    def _bills_below(self, name: str) -> Iterator[Bill]:
        """Of an action and all below it, without making records of those that are kept in less."""
        packed, pending = self._packing.bills if self._packing is not None else {}, [name]
        while pending:
            record = self._whole.get(name := pending.pop())
            bill = packed.get(name) if record is None else record.bill
            if bill is not None:
                yield bill
            if record is not None and record.children:
                pending.extend(record.children)

    def records_below(self, name: str) -> Iterator[Record]:
        """An action and all below it, in no particular order."""
        pending = [name]
        while pending:
            record = self.actions.get(pending.pop())
            if record is not None:
                yield record
                pending.extend(record.children or ())

    def costs_of_all(self) -> dict[str, Cost]:
        """What each action cost, with all below it. An action that is not named cost nothing."""
        found: dict[str, Cost] = {}
        for record in reversed(list(self.actions.values())) if self.largest else ():  # children come after their parents
            cost = found.get(record.name)
            if record.bill is not None:
                cost = found[record.name] = cost + record.bill.total if cost is not None else record.bill.total
            if cost is not None and record.parent:
                found[record.parent] = found[record.parent] + cost if record.parent in found else cost
        return found

    def cost(self) -> Cost:
        """What the run cost."""
        packed = self._packing.bills.values() if self._packing is not None else ()
        whole = (record.bill for record in self._whole.values() if record.bill is not None) if self.largest else ()
        return total(bill.total for bills in (whole, packed) for bill in bills)

    def costs(self) -> Costs:
        """What the run cost, by task and model."""
        bills = ((record.task, record.bill) for record in self.actions.values() if record.bill is not None)
        return Costs(((task, model), cost) for task, bill in bills for model, cost in bill.lines)

    def _tell_parent(self, record: Record, parent: Record) -> None:
        if record.status in _OUTCOMES:
            if not parent.fruitful:
                self._bear_fruit(parent)
            record.failed_in = parent.present_try

    def _bear_fruit(self, record: Record | None) -> None:
        """Something became durable in this attempt, and so in those that wait for it: none of them is a crash loop."""
        while record is not None and not record.fruitful:
            record.fruitful = True
            record = self._known(record.parent)

    def _task_seen(self, event: TaskSeen) -> None:
        self.sources[event.task] = event.source

    def _saved(self, event: CheckpointSaved) -> None:
        if (record := self._known(event.action)) is not None:
            record.saved = event
            self._bear_fruit(record)

    def _set_aside(self, event: CheckpointsSetAside) -> None:
        if (record := self._known(event.action)) is not None:
            record.set_aside = (*record.set_aside, (event.since, event.until))
            record.loops = (*record.loops, event.first)

    def _progressed(self, event: Progressed) -> None:
        if (record := self._known(event.action)) is not None and record.has_live_attempt:
            record.bars = event.bars

    def _messaged(self, event: Messaged) -> None:
        if (record := self._known(event.action)) is not None:
            notes = record.noted()
            notes.messages = (*notes.messages[-(KEPT - 1) :], event)

    def _messages_cleared(self, event: MessagesCleared) -> None:
        if (record := self._known(event.action)) is not None and record.notes is not None:
            record.notes.messages = ()

    def _warned(self, event: Warned) -> None:
        self.warnings.append(event)

    def restore(self, record: Record) -> None:
        """Put an action in whose record was kept elsewhere."""
        self._whole[record.name] = record

    def children_of(self, name: str, unless: Callable[[str], bool] = lambda name: False) -> Iterator[Record]:
        """The recorded calls of an action, in the order in which they were asked, without those of which nobody wants to know more."""
        record = self.actions.get(name)
        for child in record.children or () if record is not None else ():
            if not unless(child):
                yield self.actions[child]

    def made_by(self, name: str) -> Iterator[Made]:
        """The recorded calls of an action, for telling rounds apart."""
        record, packing = self.actions.get(name), self._packing
        for child in record.children or () if record is not None else ():
            made = packing.made(child) if packing is not None else None
            if made is None:
                whole = self._whole[child]
                made = Made(whole.name, whole.first, whole.occurrence, whole.round)
            yield made

    def differing_in_context(self, bare: str) -> Record | None:
        """A COMPLETED action that differs from the place `bare` in nothing but its counted context."""
        if self._by_bare is None:
            those: Iterable[Record] = self._whole.values() if self._packing is None else self._packing.those_with_context()
            self._by_bare = {
                record.bare: record.name for record in those if record.status is Status.COMPLETED and record.bare != record.name
            }
        record = self.actions.get(self._by_bare.get(bare, bare))
        return record if record is not None and record.status is Status.COMPLETED else None

    def text_of(self, name: str) -> str:
        """The str that is kept for this name, if one is. A million of them are 65 MB."""
        return self._packing.text_of(name) if self._packing is not None else name

    @property
    def completed(self) -> int:
        """How many actions are COMPLETED."""
        whole = sum(record.status is Status.COMPLETED for record in self._whole.values())
        return whole + (self._packing.packed if self._packing is not None else 0)

    def unended(self) -> Iterable[Record]:
        """Actions whose last attempt has no end."""
        return [record for record in self._whole.values() if record.has_live_attempt]

    def unfinished(self) -> Iterable[Record]:
        """Actions that neither ended nor were suspended."""
        return [record for record in self._whole.values() if record.status in _OPEN]


def message_of(said: Messaged) -> Message:
    """A message as its readers see it."""
    return Message(type=type_of(said.type), content=said.content, created_at=said.time)


def _set_status(record: Record, status: Status) -> None:
    """Of an action and its live attempt."""
    record.status = status
    if record.attempt is not None:
        record.attempt.status = status
