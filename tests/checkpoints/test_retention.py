"""Which generations stay: a decision, tested as one, and then seen in a store."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Retention, Retry, ctx, run, task
from holdfast.errors import InvalidOption
from holdfast.retention import Saved, kept, may_be_passed_over, metric_of

NAN = float("nan")


def line(*metrics: float | None, attempt: int = 0, first: int = 1) -> list[Saved]:
    """One save after the other, in one attempt."""
    return [Saved((1, attempt, n), first + n, metric) for n, metric in enumerate(metrics)]


@pytest.mark.parametrize(
    ("retention", "saved", "stay"),
    [
        (Retention(2), line(None, None, None), [1, 2]),
        (Retention(1), line(None, None, None), [2]),
        (Retention(5), line(None, None), [0, 1]),
        (Retention(1, every=2), line(*[None] * 7), [1, 3, 5, 6]),
        (Retention(2, every=1), line(*[None] * 4), [0, 1, 2, 3]),
        (Retention(1, best=("loss", "min")), line(3.0, 1.0, 2.0), [1, 2]),
        (Retention(1, best=("loss", "max")), line(3.0, 1.0, 2.0), [0, 2]),
        (Retention(1, best=("loss", "min")), line(1.0, 1.0, 2.0), [1, 2]),
        (Retention(1, best=("loss", "min")), line(None, 2.0, None), [1, 2]),
        (Retention(1, best=("loss", "min")), line(None, None, None), [2]),
        (Retention(1, best=("loss", "max")), line(math.inf, 2.0, -math.inf), [0, 2]),
        (Retention(1, every=3, best=("loss", "min")), line(0.5, 2.0, 3.0, 4.0, 5.0), [0, 2, 4]),
    ],
)
def test_what_any_rule_wants_stays(retention: Retention, saved: list[Saved], stay: list[int]) -> None:
    assert sorted(order[2] for order in kept(retention, saved)) == stay


def test_a_place_in_the_line_that_was_saved_twice_is_kept_once() -> None:
    twice = [*line(*[None] * 4), *line(*[None] * 3, attempt=1, first=4)]  # the second attempt loaded the third save
    assert kept(Retention(1, every=2), twice) == {(1, 0, 1), (1, 1, 0), (1, 1, 2)}


metrics = st.none() | st.floats(allow_nan=False)
saves = st.lists(
    st.builds(Saved, st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 5)), st.integers(1, 12), metrics),
    unique_by=lambda each: each.order,
)
retentions = st.builds(
    lambda last, every, best: Retention(last, every=every, best=best),
    st.integers(1, 4),
    st.none() | st.integers(1, 4),
    st.none() | st.tuples(st.just("loss"), st.sampled_from(["min", "max"])),
)


@given(retentions, saves)
def test_the_newest_always_stay_and_nothing_else_is_named(retention: Retention, saved: list[Saved]) -> None:
    orders = sorted(each.order for each in saved)
    stay = kept(retention, saved)
    assert set(orders[-retention.last :]) <= stay <= set(orders)


@given(retentions, saves)
def test_deleting_step_by_step_never_loses_what_is_wanted_in_the_end(retention: Retention, saved: list[Saved]) -> None:
    """A save is looked at once, with what is left then: the best of all, and each newest in step, are still there."""
    left: dict[tuple[int, int, int], Saved] = {}
    for each in sorted(saved, key=lambda each: each.order):
        left[each.order] = each
        left = {order: left[order] for order in kept(retention, left.values())}
    assert set(left) == kept(retention, saved)


@given(retentions, saves, st.data())
def test_what_is_passed_over_would_not_have_stayed(retention: Retention, saved: list[Saved], data: st.DataObject) -> None:
    """It is left out beside a newer one, which takes its place among the newest: nothing else changes but for that place."""
    if len(saved) < 2:
        return
    ordered = sorted(saved, key=lambda each: each.order)
    at = data.draw(st.integers(0, len(ordered) - 2))
    if may_be_passed_over(retention, ordered[at], ordered[at + 1]):
        without = kept(retention, [*ordered[:at], *ordered[at + 1 :]])
        newest = {each.order for each in ordered[-retention.last :]}
        assert kept(retention, ordered) - newest <= without


@pytest.mark.parametrize(
    ("retention", "older", "newer", "passed_over"),
    [
        (Retention(), (1, None), (2, None), True),
        (Retention(every=2), (1, None), (2, None), True),
        (Retention(every=2), (2, None), (3, None), False),
        (Retention(best=("loss", "min")), (1, 0.5), (2, 0.4), False),
        (Retention(best=("loss", "min")), (1, 0.5), (2, None), False),
        (Retention(best=("loss", "min")), (1, 0.5), (2, 0.5), True),
        (Retention(best=("loss", "min")), (1, None), (2, 0.5), True),
    ],
)
def test_a_waiting_save_is_passed_over_only_where_no_rule_could_want_it(
    retention: Retention, older: tuple[int, float | None], newer: tuple[int, float | None], passed_over: bool
) -> None:
    assert may_be_passed_over(retention, Saved((0, 0, 0), *older), Saved((0, 0, 0), *newer)) is passed_over


@pytest.mark.parametrize(
    ("metadata", "metric"),
    [
        ({"loss": 2}, 2.0),
        ({"loss": 0.5}, 0.5),
        ({"loss": Decimal("0.5")}, 0.5),
        ({"loss": Fraction(1, 2)}, 0.5),
        ({"loss": np.float32(0.5)}, 0.5),
        ({"loss": 10**400}, math.inf),
        ({"loss": -(10**400)}, -math.inf),
        ({"loss": -math.inf}, -math.inf),
        ({"loss": NAN}, None),
        ({"loss": Decimal("sNaN")}, None),
        ({"loss": True}, None),
        ({"loss": "0.5"}, None),
        ({"loss": None}, None),
        ({"accuracy": 1.0}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_metric_is_a_number_or_it_is_none(metadata: Mapping[str, Any], metric: float | None) -> None:
    assert metric_of(Retention(best=("loss", "min")), metadata) == metric
    assert metric_of(Retention(), metadata) is None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Retention(0), "last=0: .*from 1 up"),
        (lambda: Retention(True), "last=True"),
        (lambda: Retention(1.5), "last=1.5"),  # type: ignore[arg-type]
        (lambda: Retention(every=0), "every=0: .*from 1 up"),
        (lambda: Retention(best="loss"), "best='loss': .*min"),  # type: ignore[arg-type]
        (lambda: Retention(best=("loss", "least")), "best="),  # type: ignore[arg-type]
        (lambda: Retention(best=("", "min")), "best="),
        (lambda: task(keep="all")(Path), "keep='all': .*from 1 up"),  # type: ignore[call-overload]
    ],
)
def test_what_it_can_not_be_is_refused_with_the_argument_named(make: Any, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        make()


def test_it_is_a_value() -> None:
    assert Retention(2, every=10, best=("loss", "min")) == Retention(every=10, best=("loss", "min"))
    assert hash(Retention()) == hash(Retention(2))
    assert repr(Retention(3, best=("loss", "max"))) == "Retention(3, best=('loss', 'max'))"
    assert pickle.loads(pickle.dumps(Retention(3, every=2))) == Retention(3, every=2)


@task(keep=Retention(1, every=3, best=("loss", "min")))
async def trains() -> list[tuple[int, float]]:
    for loss in [0.9, 0.2, 0.5, 0.4, 0.3, 0.6, 0.7]:
        await ctx().checkpoint.save(b"w" * 70_000, metadata={"loss": loss})
    return [(found.n, found.metadata["loss"]) for found in await ctx().checkpoint.history()]


def test_a_task_says_how_its_generations_are_kept(tmp_path: Path) -> None:
    assert asyncio.run(run(trains(), run_name="it", store=tmp_path)) == [(1, 0.2), (2, 0.5), (5, 0.6), (6, 0.7)]


@task(keep=Retention(1, best=("loss", "min")), retries=Retry(3, initial_interval=0))
async def trains_on() -> list[float]:
    for n, loss in enumerate([[0.9, 0.2, 0.5], [0.4, 0.3], [0.7]][ctx().attempt_number]):
        await ctx().checkpoint.save(n, metadata={"loss": loss})
    if ctx().attempt_number < 2:
        raise ConnectionError
    return [found.metadata["loss"] for found in await ctx().checkpoint.history()]


def test_the_best_of_earlier_attempts_counts_and_stays(tmp_path: Path) -> None:
    assert asyncio.run(run(trains_on(), run_name="it", store=tmp_path)) == [0.2, 0.7]


@task(version="1", keep=1)
async def of_a_version() -> list[int]:
    for n in range(2):
        await ctx().checkpoint.save(n)
    return [found.n for found in await ctx().checkpoint.history()]


def test_generations_of_another_version_neither_count_nor_go(tmp_path: Path) -> None:
    two = of_a_version.with_options(version="2")
    assert asyncio.run(run(of_a_version(), run_name="it", store=tmp_path)) == [1]
    assert asyncio.run(run(two(), run_name="it", store=tmp_path)) == [1]
    assert len(list(tmp_path.rglob("checkpoints/*.json"))) == 2


def test_a_manifest_that_cannot_be_read_neither_counts_nor_goes(tmp_path: Path) -> None:
    asyncio.run(run(of_a_version(), run_name="it", store=tmp_path))
    (manifest,) = tmp_path.rglob("checkpoints/*.json")
    manifest.write_bytes(b"?")
    two = of_a_version.with_options(version="2")
    assert asyncio.run(run(two(), run_name="it", store=tmp_path)) == [1]
    assert manifest.read_bytes() == b"?"
