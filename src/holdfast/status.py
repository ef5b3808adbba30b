"""Where an action, an attempt, a stage or a run stands, and what may follow what.

One enum and two tables. A move that is not in its table is illegal: `check_move` raises and changes nothing. The page `docs/status.md`,
with its picture, is printed from these tables (`python -m holdfast.status`), so it can't say anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal, Self, TypeAlias

from holdfast.errors import IllegalMove, InvalidOption


class Status(str, Enum):  # noqa: UP042 - public as (str, Enum); a status is stored and compared as its word
    """Where an action, an attempt, a stage or a run stands. `Status.RUNNING.__doc__` says what a member means."""

    UNBOUND = "UNBOUND"
    PENDING = "PENDING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    AWAITING_INPUT = "AWAITING_INPUT"
    STOPPED = "STOPPED"
    CRASHED = "CRASHED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    ROLLING_BACK = "ROLLING_BACK"
    ROLLED_BACK = "ROLLED_BACK"

    def __str__(self) -> str:
        return self.value

    @classmethod
    def parse(cls, word: str | int) -> Self:
        """Read a status as Holdfast, EleanorAI, Openfabric, Ondine or LUTE writes it.

        Args:
            word: A status word in any case, one of the older words in `OTHER_WORDS`, a number of LUTE's (0 to 6), or a member
                of another library's enum, of which the name counts, then the value.

        Raises:
            InvalidOption: The word is not known; the message names those that are.
        """
        for candidate in _spellings(word):
            if isinstance(candidate, str):
                spelled = candidate.strip().upper()
                known = OTHER_WORDS.get(spelled, spelled)
                if known in cls.__members__:
                    return cls[known]
            elif isinstance(candidate, int) and not isinstance(candidate, bool) and 0 <= candidate < len(LUTE_NUMBERS):
                return cls[LUTE_NUMBERS[candidate].name]
        words = ", ".join([*cls.__members__, *OTHER_WORDS])
        raise InvalidOption(option="status", value=word, reason=f"not a status; known are {words}, and LUTE's numbers 0 to 6")


StageStatus = Status

MEANINGS: Final[Mapping[Status, str]] = MappingProxyType(
    {
        Status.UNBOUND: "Defined, and not yet part of a run.",
        Status.PENDING: "Asked for; waits for its turn.",
        Status.STARTING: "Handed to an engine; the body has not begun.",
        Status.RUNNING: "An attempt's body is at work, or sleeps.",
        Status.RETRYING: "An attempt failed; the next one begins at `next_at`.",
        Status.AWAITING_INPUT: "At least one `receive` waits for a value.",
        Status.STOPPED: "Asked to stop; everything recorded is kept, and the same line goes on.",
        Status.CRASHED: "Its process ended without saying how; the same line goes on.",
        Status.COMPLETED: "Returned a result, which is recorded.",
        Status.FAILED: "Raised an error, and no retry is left.",
        Status.TIMED_OUT: "Took longer than its `Timeout` allows.",
        Status.CANCELLED: "Given up on request.",
        Status.ROLLING_BACK: "Undos are running, newest first.",
        Status.ROLLED_BACK: "Every effect is undone; it can't go on.",
    }
)
for _status, _meaning in MEANINGS.items():
    _status.__doc__ = _meaning

ACTIVE_STATES: Final[frozenset[Status]] = frozenset(
    {Status.PENDING, Status.STARTING, Status.RUNNING, Status.RETRYING, Status.AWAITING_INPUT, Status.ROLLING_BACK}
)
"""Something is at work, or will be without being asked."""
INACTIVE_STATES: Final[frozenset[Status]] = frozenset(
    {Status.COMPLETED, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.ROLLED_BACK}
)
"""Nothing moves by itself, and there is an outcome."""
SUSPENDED_STATES: Final[frozenset[Status]] = frozenset({Status.STOPPED, Status.CRASHED})
"""Nothing moves by itself, and the outcome is still to come."""
FAILED_STATES: Final[frozenset[Status]] = frozenset({Status.FAILED, Status.TIMED_OUT})
"""It ended, and not well; what was stopped, cancelled or lost in a crash did not end so."""
EXECUTED_STATES: Final[frozenset[Status]] = FAILED_STATES | {Status.COMPLETED}
"""It was executed, and counts as that."""
CANCELABLE_STATES: Final[frozenset[Status]] = (ACTIVE_STATES - {Status.ROLLING_BACK}) | SUSPENDED_STATES | {Status.UNBOUND}
"""`cancel` has something to give up."""
RESUMABLE_STATES: Final[frozenset[Status]] = frozenset(Status) - {Status.UNBOUND, Status.COMPLETED, Status.ROLLED_BACK}
"""The same line again does work, provided that no owner is alive."""

STAGE_NAME_MAX_LENGTH: Final = 150
"""A stage's name has 1 to 150 characters (EleanorAI's limit, kept so that its stage names stay valid)."""

OTHER_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "COMPLETE": "COMPLETED",
        "ERROR": "FAILED",
        "CREATED": "PENDING",
        "QUEUED": "PENDING",
        "RETRY": "RETRYING",
        "CANCELED": "CANCELLED",
        "REMOVED": "CANCELLED",
        "TIMEDOUT": "TIMED_OUT",
        "PENDING_CONFIG": "AWAITING_INPUT",
        "UNKNOWN": "UNBOUND",
    }
)
"""What other systems call a status, and what it is here."""

LUTE_NUMBERS: Final[tuple[Status, ...]] = (
    Status.PENDING,
    Status.RUNNING,
    Status.COMPLETED,
    Status.FAILED,
    Status.STOPPED,
    Status.CANCELLED,
    Status.TIMED_OUT,
)
"""LUTE stores a status as the index into this."""


class Move(str, Enum):  # noqa: UP042 - as Status: str's own hash keeps `check_move` a plain dict lookup
    """What can happen to an action or an attempt: the columns of the table."""

    START = "start"
    WAIT = "wait"
    GO_ON = "go on"
    OK = "ok"
    FAILS_RETRY_LEFT = "fails, retry left"
    FAILS_NONE_LEFT = "fails, none left"
    ATTEMPT_TIMES_OUT = "attempt times out"
    TOTAL_TIMES_OUT = "total time out"
    CANCEL = "cancel"
    STOP = "stop, budget"
    OWNER_LOST = "owner lost"
    ASKED_AGAIN = "asked again"
    ROLL_BACK = "roll back"
    BIND = "bind"

    def __str__(self) -> str:
        return self.value


_Row: TypeAlias = dict[Move, tuple[Status, ...]]

_GIVEN_UP: Final[_Row] = {Move.CANCEL: (Status.CANCELLED,), Move.STOP: (Status.STOPPED,)}
_IN_FLIGHT: Final[_Row] = {Move.TOTAL_TIMES_OUT: (Status.TIMED_OUT,), **_GIVEN_UP, Move.OWNER_LOST: (Status.CRASHED,)}
_FAILING: Final[_Row] = {
    Move.FAILS_RETRY_LEFT: (Status.RETRYING,),
    Move.FAILS_NONE_LEFT: (Status.FAILED,),
    Move.ATTEMPT_TIMES_OUT: (Status.RETRYING, Status.TIMED_OUT),
}


def _suspended(status: Status) -> _Row:
    return {
        Move.OK: (Status.COMPLETED,),  # adopted from a remote journal
        Move.FAILS_NONE_LEFT: (Status.FAILED,),  # OutcomeUnknown, CrashLoop
        Move.CANCEL: (Status.CANCELLED,),
        Move.OWNER_LOST: (status,),
        Move.ASKED_AGAIN: (Status.PENDING,),
        Move.ROLL_BACK: (Status.ROLLING_BACK,),
    }


def _ended(status: Status, *asked_again: Status) -> _Row:
    return {Move.OWNER_LOST: (status,), Move.ASKED_AGAIN: asked_again, Move.ROLL_BACK: (Status.ROLLING_BACK,)}


_ACTION: Final[dict[Status, _Row]] = {
    Status.UNBOUND: {Move.CANCEL: (Status.CANCELLED,), Move.BIND: (Status.PENDING,)},
    Status.PENDING: {Move.START: (Status.STARTING,), **_IN_FLIGHT},
    Status.STARTING: {Move.START: (Status.RUNNING,), Move.FAILS_NONE_LEFT: (Status.FAILED,), **_IN_FLIGHT},
    Status.RUNNING: {Move.WAIT: (Status.AWAITING_INPUT,), Move.OK: (Status.COMPLETED,), **_FAILING, **_IN_FLIGHT},
    Status.AWAITING_INPUT: {Move.GO_ON: (Status.RUNNING,), **_FAILING, **_IN_FLIGHT},
    Status.RETRYING: {
        Move.START: (Status.RUNNING,),
        Move.TOTAL_TIMES_OUT: (Status.TIMED_OUT,),
        **_GIVEN_UP,
        Move.OWNER_LOST: (Status.RETRYING,),
        Move.ASKED_AGAIN: (Status.RETRYING, Status.RUNNING),
    },
    Status.STOPPED: _suspended(Status.STOPPED),
    Status.CRASHED: _suspended(Status.CRASHED),
    Status.COMPLETED: _ended(Status.COMPLETED, Status.COMPLETED, Status.PENDING),
    Status.FAILED: _ended(Status.FAILED, Status.FAILED, Status.PENDING),
    Status.TIMED_OUT: _ended(Status.TIMED_OUT, Status.TIMED_OUT, Status.PENDING),
    Status.CANCELLED: _ended(Status.CANCELLED, Status.PENDING, Status.FAILED),
    Status.ROLLING_BACK: {
        Move.OK: (Status.ROLLED_BACK,),
        Move.FAILS_NONE_LEFT: (Status.FAILED,),
        Move.STOP: (Status.ROLLING_BACK,),
        Move.OWNER_LOST: (Status.ROLLING_BACK,),
        Move.ASKED_AGAIN: (Status.ROLLING_BACK,),
        Move.ROLL_BACK: (Status.ROLLING_BACK,),
    },
    Status.ROLLED_BACK: {Move.OWNER_LOST: (Status.ROLLED_BACK,), Move.ROLL_BACK: (Status.ROLLED_BACK,)},
}

_ATTEMPT_FAILING: Final[_Row] = {
    Move.FAILS_RETRY_LEFT: (Status.FAILED,),
    Move.FAILS_NONE_LEFT: (Status.FAILED,),
    Move.ATTEMPT_TIMES_OUT: (Status.TIMED_OUT,),
}
_ATTEMPT: Final[dict[Status, _Row]] = {
    Status.STARTING: {Move.START: (Status.RUNNING,), Move.FAILS_NONE_LEFT: (Status.FAILED,), **_IN_FLIGHT},
    Status.RUNNING: {Move.WAIT: (Status.AWAITING_INPUT,), Move.OK: (Status.COMPLETED,), **_ATTEMPT_FAILING, **_IN_FLIGHT},
    Status.AWAITING_INPUT: {Move.GO_ON: (Status.RUNNING,), **_ATTEMPT_FAILING, **_IN_FLIGHT},
}

_NOTES: Final[Mapping[tuple[Status, Move], str]] = MappingProxyType(
    {
        (Status.STARTING, Move.FAILS_NONE_LEFT): "the engine refused",
        (Status.RUNNING, Move.ATTEMPT_TIMES_OUT): 'RETRYING while a retry is left; `on_crash="fail"`: TIMED_OUT',
        (Status.AWAITING_INPUT, Move.ATTEMPT_TIMES_OUT): "as RUNNING",
        (Status.RETRYING, Move.STOP): "`next_at` kept",
        (Status.RETRYING, Move.OWNER_LOST): "`next_at` kept",
        (Status.RETRYING, Move.ASKED_AGAIN): "waits until `next_at`, then RUNNING",
        (Status.STOPPED, Move.OK): "adopted from a remote journal",
        (Status.CRASHED, Move.OK): "adopted from a remote journal",
        (Status.STOPPED, Move.FAILS_NONE_LEFT): "`OutcomeUnknown`, `CrashLoop`",
        (Status.CRASHED, Move.FAILS_NONE_LEFT): "`OutcomeUnknown`, `CrashLoop`",
        (Status.COMPLETED, Move.ASKED_AGAIN): "replayed; another version: PENDING",
        (Status.FAILED, Move.ASKED_AGAIN): "recorded in the parent's present try: replayed; else PENDING",
        (Status.TIMED_OUT, Move.ASKED_AGAIN): "recorded in the parent's present try: replayed; else PENDING",
        (Status.CANCELLED, Move.ASKED_AGAIN): '`on_crash="fail"`: FAILED, `OutcomeUnknown`',
        (Status.ROLLING_BACK, Move.FAILS_NONE_LEFT): "with what remains",
        (Status.ROLLING_BACK, Move.ASKED_AGAIN): "goes on",
        (Status.ROLLED_BACK, Move.ASKED_AGAIN): "raises `RunRolledBack`",
    }
)

_Moves: TypeAlias = dict[tuple[Status, Move], frozenset[Status]]
_NOWHERE: Final[frozenset[Status]] = frozenset()


def _flatten(table: Mapping[Status, _Row]) -> _Moves:
    return {(status, move): frozenset(to) for status, row in table.items() for move, to in row.items()}


_ACTION_MOVES: Final = _flatten(_ACTION)
_FOLLOWING: Final = {status: frozenset(to for goals in _ACTION.get(status, {}).values() for to in goals) for status in Status}
_ATTEMPT_MOVES: Final = _flatten(_ATTEMPT)


def moves(status: Status, move: Move) -> frozenset[Status]:
    """Where an action or stage in `status` may go by `move`. Empty: nowhere, the move is illegal."""
    return _ACTION_MOVES.get((status, move), _NOWHERE)


def following(status: Status) -> frozenset[Status]:
    """Where an action or stage in `status` may go, by whichever move."""
    return _FOLLOWING[status]


def attempt_moves(status: Status, move: Move) -> frozenset[Status]:
    """Where one attempt may go. It ends exactly once: from a final status there is no move."""
    return _ATTEMPT_MOVES.get((status, move), _NOWHERE)


def check_move(status: Status, move: Move, to: Status) -> Status:
    """Return `to`, if an action or stage may go there.

    Raises:
        IllegalMove: The table has no such move. Nothing was changed.
    """
    if to in _ACTION_MOVES.get((status, move), _NOWHERE):
        return to
    raise _illegal("an action", status, move, to, moves(status, move))


def check_attempt_move(status: Status, move: Move, to: Status) -> Status:
    """Return `to`, if an attempt may go there.

    Raises:
        IllegalMove: The table has no such move, for instance a second final status. Nothing was changed.
    """
    if to in _ATTEMPT_MOVES.get((status, move), _NOWHERE):
        return to
    raise _illegal("an attempt", status, move, to, attempt_moves(status, move))


def shown_status(folded: Status, owner: Literal["live", "gone", "unknown"]) -> Status:
    """What a reader shows of a run: no final event and no owner is CRASHED, though nobody wrote that.

    ROLLING_BACK stays as it is: its run had ended before, and the same line goes on undoing.

    Args:
        folded: The status that the durable events give.
        owner: Whether the process that runs it is known to be alive, known to be gone, or neither.
    """
    if owner == "gone" and folded in ACTIVE_STATES and folded is not Status.ROLLING_BACK:
        return Status.CRASHED
    return folded


def picture() -> str:
    """The table of an action as a Mermaid state diagram: one arrow a pair of statuses, labelled with what causes it."""
    causes: dict[tuple[Status, Status], list[str]] = {}
    for status, row in _ACTION.items():
        for move, to in row.items():
            for following in to:
                if following is not status:
                    causes.setdefault((status, following), []).append(str(move))
    arrows = [f"    {status} --> {following}: {' / '.join(words)}" for (status, following), words in causes.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> UNBOUND", *arrows, "    ROLLED_BACK --> [*]"])


def page() -> str:
    """`docs/status.md`: meanings, sets, both tables and the picture, in Markdown."""
    return "\n".join(_page_lines()) + "\n"


def _spellings(word: object) -> Iterator[object]:
    """The word itself, or what an enum of another library calls it: names are meant for reading, values need not be."""
    if isinstance(word, Status):
        yield word.value
        return
    yield getattr(word, "name", word)
    yield getattr(word, "value", word)


def _illegal(what: str, status: Status, move: Move, to: Status, allowed: frozenset[Status]) -> IllegalMove:
    return IllegalMove(what=what, status=str(status), move=str(move), to=str(to), allowed=", ".join(sorted(allowed)) or "nothing")


def _page_lines() -> Iterator[str]:
    yield "# Statuses"
    yield ""
    yield "<!-- Printed by `python -m holdfast.status`; change the tables in src/holdfast/status.py instead. -->"
    yield ""
    yield "One enum for actions, attempts, stages and runs. What is not in the tables is illegal: it raises `IllegalMove`."
    yield ""
    yield "| status | meaning |"
    yield "|---|---|"
    yield from (f"| {status} | {meaning} |" for status, meaning in MEANINGS.items())
    yield ""
    yield "## Sets"
    yield ""
    for name, members in _SETS.items():
        yield f"- {name}: {', '.join(status for status in Status if status in members)}"
    yield ""
    yield "## An action or a stage"
    yield ""
    yield from _table_lines(_ACTION, tuple(Move), _NOTES)
    yield ""
    yield "A run has the status of its root action. A reader that finds no final event and no owner shows CRASHED."
    yield ""
    yield "## An attempt"
    yield ""
    yield from _table_lines(_ATTEMPT, tuple(move for move in Move if any(move in row for row in _ATTEMPT.values())), {})
    yield ""
    yield "An attempt begins STARTING and ends exactly once. CRASHED is written by the next owner only."
    yield ""
    yield "## The picture"
    yield ""
    yield "```mermaid"
    yield picture()
    yield "```"


def _table_lines(table: Mapping[Status, _Row], columns: tuple[Move, ...], notes: Mapping[tuple[Status, Move], str]) -> Iterator[str]:
    yield f"| from \\ event | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for status, row in table.items():
        cells = [_cell(status, row.get(move, ()), notes.get((status, move), "")) for move in columns]
        yield f"| {status} | {' | '.join(cells)} |"


def _cell(status: Status, to: tuple[Status, ...], note: str) -> str:
    words = " or ".join("same" if following is status else str(following) for following in to)
    return f"{words} ({note})" if words and note else words or note


_SETS: Final = {
    "`ACTIVE_STATES`": ACTIVE_STATES,
    "`INACTIVE_STATES` (nothing moves by itself)": INACTIVE_STATES,
    "suspended": SUSPENDED_STATES,
    "`CANCELABLE_STATES`": CANCELABLE_STATES,
    "`RESUMABLE_STATES` (RUNNING and the like when the owner is gone)": RESUMABLE_STATES,
}

if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - this is the page's generator
