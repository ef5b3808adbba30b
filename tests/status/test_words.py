"""Statuses are words: their own, and those of the systems that people come from."""

from __future__ import annotations

import enum
import json
import pickle

import pytest

from holdfast.errors import InvalidOption
from holdfast.status import (
    ACTIVE_STATES,
    CANCELABLE_STATES,
    INACTIVE_STATES,
    MEANINGS,
    RESUMABLE_STATES,
    STAGE_NAME_MAX_LENGTH,
    SUSPENDED_STATES,
    StageStatus,
    Status,
)

OTHER_WORDS = {
    "COMPLETE": Status.COMPLETED,
    "ERROR": Status.FAILED,
    "CREATED": Status.PENDING,
    "QUEUED": Status.PENDING,
    "RETRY": Status.RETRYING,
    "CANCELED": Status.CANCELLED,
    "REMOVED": Status.CANCELLED,
    "TIMEDOUT": Status.TIMED_OUT,
    "PENDING_CONFIG": Status.AWAITING_INPUT,
    "UNKNOWN": Status.UNBOUND,
}
LUTE = ["PENDING", "RUNNING", "COMPLETED", "FAILED", "STOPPED", "CANCELLED", "TIMED_OUT"]


@pytest.mark.parametrize("status", Status)
def test_a_status_parses_from_itself_and_its_word_in_any_case(status: Status) -> None:
    assert Status.parse(status) is status
    for word in (status.value, status.value.lower(), f" {status.value.title()}\n"):
        assert Status.parse(word) is status


@pytest.mark.parametrize(("word", "status"), [*OTHER_WORDS.items()])
def test_words_of_other_systems_parse_in_any_case(word: str, status: Status) -> None:
    assert Status.parse(word) is status
    assert Status.parse(word.lower()) is status


@pytest.mark.parametrize(("number", "word"), [*enumerate(LUTE)])
def test_numbers_of_lute_parse(number: int, word: str) -> None:
    assert Status.parse(number) is Status(word)


class Tupled(enum.Enum):  # Openfabric's enum: a comma after each value made tuples of them
    QUEUED = ("queued",)


class Numbered(enum.IntEnum):  # LUTE's
    PENDING = 0
    TIMEDOUT = 6


class Lettered(enum.Enum):
    R = "running"


@pytest.mark.parametrize(
    ("member", "status"),
    [
        (Tupled.QUEUED, Status.PENDING),
        (Numbered.TIMEDOUT, Status.TIMED_OUT),
        (Numbered.PENDING, Status.PENDING),
        (Lettered.R, Status.RUNNING),
    ],
)
def test_members_of_other_enums_parse_by_name_then_by_value(member: enum.Enum, status: Status) -> None:
    assert Status.parse(member) is status  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["", "DONE", "RUNNING2", -1, 7, True, False, 2.0, None, b"RUNNING", ["RUNNING"]])
def test_an_unknown_word_is_refused_and_the_known_ones_named(word: object) -> None:
    with pytest.raises(InvalidOption, match=r"COMPLETED.*PENDING_CONFIG.*0 to 6") as caught:
        Status.parse(word)  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("status", Status)
def test_a_status_persists_and_prints_as_its_word(status: Status) -> None:
    assert status == status.name
    assert f"{status}" == str(status) == status.name
    assert json.loads(json.dumps(status)) == status.name
    assert pickle.loads(pickle.dumps(status)) is status


@pytest.mark.parametrize("status", Status)
def test_a_status_says_what_it_means(status: Status) -> None:
    assert status.__doc__ == MEANINGS[status]


def test_a_stage_has_the_same_statuses() -> None:
    assert StageStatus is Status
    assert STAGE_NAME_MAX_LENGTH == 150


def test_active_inactive_suspended_and_unbound_share_all_statuses_out() -> None:
    assert ACTIVE_STATES | INACTIVE_STATES | SUSPENDED_STATES | {Status.UNBOUND} == set(Status)
    assert len(ACTIVE_STATES) + len(INACTIVE_STATES) + len(SUSPENDED_STATES) + 1 == len(Status)


def words(text: str) -> set[str]:
    return set(text.split())


def test_the_sets_are_those_of_the_law() -> None:
    assert words("PENDING STARTING RUNNING RETRYING AWAITING_INPUT ROLLING_BACK") == ACTIVE_STATES
    assert words("COMPLETED FAILED TIMED_OUT CANCELLED ROLLED_BACK") == INACTIVE_STATES
    assert words("UNBOUND PENDING STARTING RUNNING RETRYING AWAITING_INPUT STOPPED CRASHED") == CANCELABLE_STATES
    assert set(Status) - words("UNBOUND COMPLETED ROLLED_BACK") == RESUMABLE_STATES
