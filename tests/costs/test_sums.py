"""Sums of costs: exact, in any order, over any tree; and what amounts, prices and budgets may be."""

from __future__ import annotations

import decimal
import pickle
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Budget, Cost, Costs, Price, Status
from holdfast.codec import from_json
from holdfast.costs import Bill, amount, report
from holdfast.errors import BudgetSpent, InvalidOption, RunStopped
from holdfast.events import ActionAsked, AttemptEnded, AttemptStarted, Event, Spent, decode_event, encode_event
from holdfast.states import Fold

AMOUNTS = st.decimals(min_value=0, max_value=Decimal("1E+40"), allow_nan=False, allow_infinity=False, places=None).filter(
    lambda found: int(found.as_tuple().exponent) >= -60
)
A_DAY = 86400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.10", "0.10"),
        (Decimal("1E+3"), "1E+3"),
        ("-0", "0"),
        ("0", "0"),
        (" 12 ", "12"),
        ("1E+60", "1E+60"),
        ("1E-60", "1E-60"),
        ("9" * 60, "9" * 60),
        ("0." + "1" * 60, "0." + "1" * 60),
    ],
)
def test_an_amount_is_kept_digit_for_digit(value: Any, expected: str) -> None:
    assert str(amount("cost", value)) == expected


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0.1, "a float can't hold"),
        (float("nan"), "a float can't hold"),
        (1, "give a Decimal"),
        (True, "give a Decimal"),
        (None, "give a Decimal"),
        ("a lot", "it is no number"),
        ("", "it is no number"),
        ("NaN", "finite"),
        (Decimal("sNaN"), "finite"),
        ("Infinity", "finite"),
        ("-0.01", "0 or more"),
        ("1.1E+60", "at most 1E+60"),
        ("1E+999999", "at most 1E+60"),
        ("1E-61", "60 digits behind the point"),
        ("0." + "1" * 61, "60 digits behind the point"),
    ],
)
def test_what_is_no_amount_is_refused_and_told_why(value: Any, says: str) -> None:
    with pytest.raises(InvalidOption, match="cost") as caught:
        amount("cost", value)
    assert says in str(caught.value)


def test_no_decimal_context_of_the_thread_changes_an_amount_or_a_sum() -> None:
    careless = decimal.Context(prec=3, traps=[])
    strict = decimal.Context(prec=3, traps=[decimal.Inexact, decimal.InvalidOperation])
    for context in (careless, strict):
        with decimal.localcontext(context):
            with pytest.raises(InvalidOption):
                amount("cost", "a lot")
            cost = Cost(amount("cost", "1234.5678")) + Cost(amount("cost", "0.00000001"))
            assert str(cost.cost) == "1234.56780001"
            assert str(Price("0.123456", "1").of(1, 1)) == "0.001123456"


@given(st.lists(AMOUNTS, max_size=20), st.randoms())
def test_a_sum_is_exact_in_any_order(amounts: list[Decimal], random: Any) -> None:
    exact = sum(map(Fraction, amounts), Fraction(0))
    random.shuffle(amounts)
    assert Fraction(sum((Cost(each) for each in amounts), Cost()).cost) == exact


@given(AMOUNTS, AMOUNTS, st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_price_is_exact(a: Decimal, b: Decimal, sent: int, answered: int) -> None:
    assert Fraction(Price(a, b).of(sent, answered)) == (Fraction(a) * sent + Fraction(b) * answered) / 1000


def test_a_price_of_one_number_is_the_same_both_ways() -> None:
    assert Price("0.5").of(1000, 1000) == Decimal(1)
    assert repr(Price("0.15", "0.60")) == "Price('0.15', '0.60')"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"tokens_in": 10, "tokens_out": 5}, Cost(Decimal(1), 15, 10, 5)),
        ({"tokens": 15, "tokens_in": 10, "tokens_out": 5}, Cost(Decimal(1), 15, 10, 5)),
        ({"tokens": 20, "tokens_in": 10}, Cost(Decimal(1), 20, 10, 0)),
        ({"tokens": 7}, Cost(Decimal(1), 7)),
        ({}, Cost(Decimal(1))),
    ],
)
def test_tokens_are_both_or_their_sum(told: dict[str, int], expected: Cost) -> None:
    everything: dict[str, Any] = {"tokens": 0, "tokens_in": 0, "tokens_out": 0, "model": None, "key": None, **told}
    assert report("1", **everything).cost == expected


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("tokens", -1),
        ("tokens", 1.0),
        ("tokens", True),
        ("tokens", "3"),
        ("tokens_in", -1),
        ("tokens_out", 0.5),
        ("tokens_out", 10**19),
        ("model", ""),
        ("model", 3),
        ("key", ""),
        ("key", b"k"),
        ("key", "k" * 1025),
    ],
)
def test_a_report_that_makes_no_sense_is_refused_by_name(option: str, value: Any) -> None:
    told: dict[str, Any] = {"tokens": 0, "tokens_in": 0, "tokens_out": 0, "model": None, "key": None, option: value}
    with pytest.raises(InvalidOption, match=option):
        report("1", **told)


def test_fewer_tokens_than_in_and_out_together_are_refused() -> None:
    with pytest.raises(InvalidOption, match="15 together"):
        report("1", 14, 10, 5, None, None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Budget(),
        lambda: Budget(cost="0"),
        lambda: Budget(cost=1.5),  # type: ignore[arg-type]
        lambda: Budget(cost="-1"),
        lambda: Budget(tokens=0),
        lambda: Budget(tokens=1.5),  # type: ignore[arg-type]
        lambda: Budget(executions=0),
        lambda: Budget(executions=True),
        lambda: Budget(seconds=0),
        lambda: Budget(seconds=-1),
        lambda: Budget(seconds="60"),  # type: ignore[arg-type]
        lambda: Budget(tokens=5, reserve="1"),
        lambda: Budget(cost="1", reserve="2"),
        lambda: Budget(cost="1", reserve=0.5),  # type: ignore[arg-type]
        lambda: Budget(cost="1", warn_at=(0,)),
        lambda: Budget(cost="1", warn_at=(1.5,)),
        lambda: Budget(cost="1", warn_at=0.5),  # type: ignore[arg-type]
        lambda: Budget(cost="1", warn_at="half"),  # type: ignore[arg-type]
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(make: Callable[[], Budget]) -> None:
    with pytest.raises(InvalidOption):
        make()


def test_a_budget_tells_what_it_allows() -> None:
    assert repr(Budget(cost="5", seconds=60, warn_at=())) == "Budget(cost=Decimal('5'), seconds=60.0, warn_at=())"


def test_that_a_budget_is_spent_is_a_stop_and_pickles() -> None:
    error = BudgetSpent(run_name="r", budget="the budget of the run", of="cost", limit="5", spent="4.5", need="1")
    assert isinstance(error, RunStopped)
    again: Any = pickle.loads(pickle.dumps(error))
    assert type(again) is BudgetSpent
    assert (again.of, again.limit, again.spent, again.need, str(again)) == ("cost", "5", "4.5", "1", str(error))
    assert "raise that limit" in str(error)


def test_a_key_counts_once_and_the_first_amount_stands() -> None:
    bill = Bill()
    assert bill.add(0, "small", Cost(Decimal(1)), "a") == Cost(Decimal(1))
    assert bill.add(1, "large", Cost(Decimal(9)), "a") is None
    assert bill.add(1, "small", Cost(Decimal(2)), "b") == Cost(Decimal(2))
    for number in range(100):
        assert (bill.add(2, "", Cost(Decimal(1)), f"k{number}") is None) is False
        assert bill.add(3, "", Cost(Decimal(1)), f"k{number}") is None
    assert bill.total == Cost(Decimal(103))
    assert dict(bill.lines) == {"small": Cost(Decimal(3)), "": Cost(Decimal(100))}


def test_a_breakdown_sums_by_task_and_by_model() -> None:
    costs = Costs([(("a", "x"), Cost(Decimal(1), 1)), (("a", "y"), Cost(Decimal(2), 2)), (("b", "x"), Cost(Decimal(4), 4))])
    assert costs.total == Cost(Decimal(7), 7)
    assert costs.by_task == {"a": Cost(Decimal(3), 3), "b": Cost(Decimal(4), 4)}
    assert costs.by_model == {"x": Cost(Decimal(5), 5), "y": Cost(Decimal(2), 2)}


SPENT = st.builds(
    Spent,
    action=st.just("a"),
    at=st.just(1.0),
    number=st.integers(0, 3),
    cost=AMOUNTS.map(str),
    tokens=st.integers(0, 10**18),
    model=st.text(max_size=5),
    key=st.text(max_size=5),
)


@given(SPENT)
def test_a_report_is_the_same_when_it_is_read_again(spent: Spent) -> None:
    assert decode_event(from_json(encode_event(spent))) == spent


@given(st.data())
def test_what_an_action_cost_is_its_own_and_all_below_it_in_any_tree_and_order(data: st.DataObject) -> None:
    """Also what is reported behind an attempt's end, and what is replayed or rolled back meanwhile."""
    size = data.draw(st.integers(1, 12))
    parents = [None, *(data.draw(st.integers(0, child - 1)) for child in range(1, size))]
    asked: list[Event] = [
        ActionAsked(action=f"a{n}", at=float(n), parent="" if above is None else f"a{above}", task=f"t{n % 3}")
        for n, above in enumerate(parents)
    ]
    reports = data.draw(st.lists(st.tuples(st.integers(0, size - 1), AMOUNTS, st.integers(0, 99), st.sampled_from(["", "k"])), max_size=20))
    ends = [
        each
        for n in range(size)
        if data.draw(st.booleans())
        for each in (
            AttemptStarted(action=f"a{n}", at=50.0, number=0, epoch=0),
            AttemptEnded(action=f"a{n}", at=51.0, number=0, status=Status.FAILED, then=Status.FAILED),
        )
    ]
    told: list[Event] = [Spent(action=f"a{n}", at=60.0, number=0, cost=str(cost), tokens=t, key=key) for n, cost, t, key in reports]
    fold = Fold.of([*asked, *data.draw(st.permutations([*ends, *told]))])
    for top in range(size):
        below = {top}
        for child in range(top + 1, size):
            if parents[child] in below:
                below.add(child)
        unkeyed = sum((Fraction(cost) for n, cost, _, key in reports if n in below and not key), Fraction(0))
        keyed = Fraction(fold.cost_below(f"a{top}").cost) - unkeyed
        choices = [{Fraction(cost) for m, cost, _, key in reports if m == n and key} or {Fraction(0)} for n in sorted(below)]
        assert sum(map(min, choices)) <= keyed <= sum(map(max, choices))
        if all(len(choice) == 1 for choice in choices):
            assert keyed == sum(map(min, choices))
        assert fold.costs_of_all().get(f"a{top}", Cost()) == fold.cost_below(f"a{top}")
    assert fold.costs().total == fold.cost_below("a0")
