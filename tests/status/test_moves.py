"""The tables hold exactly what the law says."""

from __future__ import annotations

import pickle
from itertools import product

import pytest

from holdfast.errors import HoldfastError, IllegalMove
from holdfast.status import ACTIVE_STATES, INACTIVE_STATES, Move, Status, attempt_moves, check_attempt_move, check_move, moves, shown_status

# The law's table, as it stands there. "same" is the row's own status; what a note adds is spelled out in NOTES.
LAW = """
| PENDING | STARTING | | | | | | TIMED_OUT | CANCELLED | STOPPED | CRASHED | | |
| STARTING | RUNNING | | | | FAILED (engine refused) | | TIMED_OUT | CANCELLED | STOPPED | CRASHED | | |
| RUNNING | | AWAITING_INPUT | COMPLETED | RETRYING | FAILED | as noted | TIMED_OUT | CANCELLED | STOPPED | CRASHED | | |
| AWAITING_INPUT | | RUNNING | | RETRYING | FAILED | as noted | TIMED_OUT | CANCELLED | STOPPED | CRASHED | | |
| RETRYING | RUNNING | | | | | | TIMED_OUT | CANCELLED | STOPPED, next_at kept | same, next_at kept | as noted | |
| STOPPED, CRASHED | | | COMPLETED (adopted) | | FAILED (OutcomeUnknown, CrashLoop) | | | CANCELLED | | same | PENDING | ROLLING_BACK |
| COMPLETED | | | | | | | | | | same | as noted | ROLLING_BACK |
| FAILED, TIMED_OUT | | | | | | | | | | same | as noted | ROLLING_BACK |
| CANCELLED | | | | | | | | | | same | as noted | ROLLING_BACK |
| ROLLING_BACK | | | ROLLED_BACK | | FAILED, with what remains | | | | same | same | same | same |
| ROLLED_BACK | | | | | | | | | | same | | same |
"""
NOTES = {
    ("RUNNING", Move.ATTEMPT_TIMES_OUT): {Status.RETRYING, Status.TIMED_OUT},
    ("AWAITING_INPUT", Move.ATTEMPT_TIMES_OUT): {Status.RETRYING, Status.TIMED_OUT},
    ("RETRYING", Move.ASKED_AGAIN): {Status.RETRYING, Status.RUNNING},  # waits until next_at, then runs
    ("COMPLETED", Move.ASKED_AGAIN): {Status.COMPLETED, Status.PENDING},  # replayed; another version runs
    ("FAILED", Move.ASKED_AGAIN): {Status.FAILED, Status.PENDING},  # replayed in the parent's present try
    ("TIMED_OUT", Move.ASKED_AGAIN): {Status.TIMED_OUT, Status.PENDING},
    ("CANCELLED", Move.ASKED_AGAIN): {Status.PENDING, Status.FAILED},  # on_crash="fail": OutcomeUnknown
}
COLUMNS = [
    (Move.START,),
    (Move.WAIT, Move.GO_ON),
    (Move.OK,),
    (Move.FAILS_RETRY_LEFT,),
    (Move.FAILS_NONE_LEFT,),
    (Move.ATTEMPT_TIMES_OUT,),
    (Move.TOTAL_TIMES_OUT,),
    (Move.CANCEL,),
    (Move.STOP,),
    (Move.OWNER_LOST,),
    (Move.ASKED_AGAIN,),
    (Move.ROLL_BACK,),
]
ALL = [*product(Status, Move)]


def law() -> dict[tuple[Status, Move], set[Status]]:
    table = {(Status.UNBOUND, Move.BIND): {Status.PENDING}, (Status.UNBOUND, Move.CANCEL): {Status.CANCELLED}}
    for line in LAW.strip().splitlines():
        heads, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == len(COLUMNS)
        for head, (column, cell) in product(heads.split(", "), zip(COLUMNS, cells, strict=True)):
            if cell == "as noted":
                table[Status(head), column[0]] = NOTES[head, column[0]]
            elif cell:
                word = head if cell.startswith("same") else cell.replace(",", " ").split()[0]
                move = column[0] if head != "AWAITING_INPUT" else column[-1]
                table[Status(head), move] = {Status(word)}
    return table


@pytest.mark.parametrize(("status", "move"), ALL, ids=str)
def test_an_action_may_go_where_the_law_says_and_nowhere_else(status: Status, move: Move) -> None:
    assert moves(status, move) == law().get((status, move), set())


@pytest.mark.parametrize(("status", "move"), ALL, ids=str)
def test_a_checked_move_gives_its_goal_or_raises(status: Status, move: Move) -> None:
    for to in Status:
        if to in moves(status, move):
            assert check_move(status, move, to) is to
        else:
            with pytest.raises(IllegalMove, match=f"{status} can't become {to}"):
                check_move(status, move, to)


def test_an_illegal_move_changes_nothing() -> None:
    before = {key: moves(*key) for key in ALL}
    with pytest.raises(IllegalMove):
        check_move(Status.COMPLETED, Move.OK, Status.COMPLETED)
    assert {key: moves(*key) for key in ALL} == before


def test_an_illegal_move_says_what_would_have_been_legal_and_pickles() -> None:
    with pytest.raises(IllegalMove) as caught:
        check_move(Status.RUNNING, Move.ATTEMPT_TIMES_OUT, Status.COMPLETED)
    error = caught.value
    assert isinstance(error, HoldfastError)
    assert isinstance(error, ValueError)
    assert "RETRYING, TIMED_OUT" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (again.status, again.move, again.to) == ("RUNNING", "attempt times out", "COMPLETED")
    assert str(again) == str(error)


ATTEMPT_ENDS = {Status.COMPLETED, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.STOPPED, Status.CRASHED}
ATTEMPT_LIVES = {Status.STARTING, Status.RUNNING, Status.AWAITING_INPUT}


def attempt_arrows() -> set[tuple[Status, Status]]:
    return {(status, to) for status, move in ALL for to in attempt_moves(status, move)}


def test_an_attempt_starts_runs_waits_and_goes_on() -> None:
    living = {(status, to) for status, to in attempt_arrows() if to in ATTEMPT_LIVES}
    assert living == {
        (Status.STARTING, Status.RUNNING),
        (Status.RUNNING, Status.AWAITING_INPUT),
        (Status.AWAITING_INPUT, Status.RUNNING),
    }


def test_an_attempt_ends_exactly_once() -> None:
    assert {status for status, _ in attempt_arrows()} == ATTEMPT_LIVES
    assert {to for _, to in attempt_arrows()} - ATTEMPT_LIVES == ATTEMPT_ENDS


def test_only_a_running_attempt_completes() -> None:
    assert [status for status in Status if attempt_moves(status, Move.OK)] == [Status.RUNNING]


def test_an_attempt_crashes_only_by_a_lost_owner() -> None:
    assert {move for status, move in ALL if Status.CRASHED in attempt_moves(status, move)} == {Move.OWNER_LOST}


def test_a_second_final_status_of_an_attempt_is_illegal() -> None:
    assert check_attempt_move(Status.RUNNING, Move.OK, Status.COMPLETED) is Status.COMPLETED
    for end, move, to in product(ATTEMPT_ENDS, Move, Status):
        with pytest.raises(IllegalMove, match="an attempt that is"):
            check_attempt_move(end, move, to)


def test_an_attempt_can_end_so_only_if_its_action_can_follow() -> None:
    for status, move in ALL:
        if attempt_moves(status, move):
            assert moves(status, move), (status, move)


@pytest.mark.parametrize("status", Status)
def test_a_reader_shows_a_run_as_crashed_only_if_it_had_no_end_and_has_no_owner(status: Status) -> None:
    assert shown_status(status, "live") is status
    assert shown_status(status, "unknown") is status
    crashed = status in ACTIVE_STATES and status is not Status.ROLLING_BACK
    assert shown_status(status, "gone") is (Status.CRASHED if crashed else status)


def test_a_reader_shows_an_outcome_whoever_is_gone() -> None:
    for status in INACTIVE_STATES | {Status.STOPPED, Status.ROLLING_BACK}:
        assert shown_status(status, "gone") is status
