"""Occurrences and rounds, as the pure counters that they are."""

from __future__ import annotations

import pytest

from holdfast.rounds import Doubted, Made, Resumed, Rounds, resumed


def made(first: str, *places: tuple[int, int]) -> list[Made]:
    """Calls equal to `first`: (occurrence, round) each."""
    return [Made(first if n == 0 else f"{first}{n}", first, n, round) for n, round in places]


@pytest.mark.parametrize(
    ("calls", "ordinal", "undelivered", "loops", "skip", "single"),
    [
        # a loop: one call a round, two rounds behind the state
        (made("a", (0, 0), (1, 1)), 2, [], [], {"a": {0, 1}}, set()),
        # the third round's call was begun after the save: not given to the state
        (made("a", (0, 0), (1, 1), (2, 2)), 2, [], [], {"a": {0, 1}}, set()),
        # prefetch: the second call was under way when the state was saved
        (made("a", (0, 0), (1, 0), (2, 1)), 1, ["a1"], [], {"a": {0}}, set()),
        # made once, before the first save: set-up, or (killed in the one gap) the first round of a loop
        (made("a", (0, 0)), 1, [], [], {}, {"a"}),
        # the same, once the journal says that it is a loop
        (made("a", (0, 0)), 1, [], ["a"], {"a": {0}}, set()),
        # a call first made in the round after the state is no set-up of it
        (made("a", (0, 1)), 1, [], [], {}, set()),
        # several equal calls in one round
        (made("a", (0, 0), (1, 0), (2, 1), (3, 1)), 2, [], [], {"a": {0, 1, 2, 3}}, set()),
        # kinds of calls are told apart
        ([*made("a", (0, 0), (1, 1)), *made("b", (0, 0))], 2, [], [], {"a": {0, 1}}, {"b"}),
        # an older generation is loaded: what it had not seen is handed out again
        (made("a", (0, 0), (1, 1), (2, 2), (3, 3)), 2, [], [], {"a": {0, 1}}, set()),
    ],
)
def test_what_a_loaded_state_had_been_given(
    calls: list[Made], ordinal: int, undelivered: list[str], loops: list[str], skip: dict[str, set[int]], single: set[str]
) -> None:
    found = resumed(lambda: calls, ordinal, undelivered, loops)
    assert {first: set(numbers) for first, numbers in found.skip.items()} == skip
    assert {call.first for call in calls if is_doubtful(found, call)} == single


def is_doubtful(state: Resumed, call: Made) -> bool:
    """Whether to be answered with what this call gave may turn out to be wrong."""
    rounds = Rounds()
    rounds.load(state)
    rounds.reused(call.first, call.round)
    return rounds.doubtful


def test_equal_calls_are_counted_from_0_and_each_kind_on_its_own() -> None:
    rounds = Rounds()
    assert [rounds.next("a"), rounds.next("b"), rounds.next("a"), rounds.next("a"), rounds.next("b")] == [0, 0, 1, 2, 1]


def test_a_save_changes_no_occurrence() -> None:
    rounds = Rounds()
    assert rounds.next("a") == 0
    assert rounds.saved() == 1
    assert rounds.next("a") == 1
    assert rounds.saved() == 2


def test_a_loop_goes_on_behind_what_the_loaded_state_had_been_given() -> None:
    rounds = Rounds()
    rounds.load(Resumed(2, {"a": frozenset({0, 1})}))
    assert rounds.ordinal == 2
    assert [rounds.next("a"), rounds.next("a")] == [2, 3]


def test_what_was_not_delivered_before_the_save_comes_first() -> None:
    rounds = Rounds()
    rounds.load(Resumed(1, {"a": frozenset({0, 2})}))
    assert [rounds.next("a"), rounds.next("a")] == [1, 3]


def test_loading_again_never_gives_an_occurrence_twice() -> None:
    rounds = Rounds()
    rounds.load(Resumed(2, {"a": frozenset({0, 1})}))
    assert rounds.next("a") == 2
    rounds.load(Resumed(1, {"a": frozenset({0})}))
    assert rounds.next("a") == 3


def test_a_set_up_call_is_reused_without_a_doubt_once_a_later_round_is_on_record() -> None:
    rounds = Rounds()
    rounds.load(Resumed(3, {}))
    assert rounds.next("setup") == 0
    assert rounds.reused("setup", 0) is False


def test_an_answer_from_the_round_before_the_loaded_save_is_doubtful_and_the_next_round_proves_it() -> None:
    rounds = Rounds()
    rounds.load(Resumed(1, {}))
    assert rounds.next("a") == 0
    assert rounds.reused("a", 0) is True
    assert rounds.doubtful
    rounds.saved()
    with pytest.raises(Doubted) as caught:
        rounds.next("a")
    assert caught.value.first == "a"


def test_equal_calls_in_one_round_prove_nothing() -> None:
    rounds = Rounds()
    rounds.load(Resumed(1, {}))
    assert rounds.next("a") == 0
    rounds.reused("a", 0)
    assert rounds.next("a") == 1, "no save in between"


def test_other_calls_behind_a_doubtful_answer_are_fine() -> None:
    rounds = Rounds()
    rounds.load(Resumed(1, {}))
    rounds.next("a")
    rounds.reused("a", 0)
    rounds.saved()
    assert rounds.next("b") == 0
