"""Digests: content and type decide, and nothing else does."""

from __future__ import annotations

import enum
import os
import random
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from holdfast.errors import UnstableInput
from holdfast.identity import Indigestible, digest_inputs, digest_value


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Shade(enum.Enum):
    RED = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    y: int = 0
    more: list[Any] = field(default_factory=list)


@dataclass
class Place:
    x: int
    y: int = 0
    more: list[Any] = field(default_factory=list)


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int


class Text(str):
    pass


class Marked(list[Any]):
    mark: str


class Digested:
    def __init__(self, digest: bytes) -> None:
        self.digest = digest

    def __holdfast_digest__(self) -> bytes:
        return self.digest


Pair = namedtuple("Pair", "a b")


def module_level() -> None: ...


def marked(mark: str) -> Marked:
    value = Marked([1])
    value.mark = mark
    return value


# Everything in one list: no two of them are one value.
DISTINCT: list[Any] = [
    None, True, False, 0, 1, -1, 1.0, 0.0, -0.0, float("nan"), float("inf"), 1j, 1 + 0j, 2**63, 2**64, -(2**70), 10**5000,
    "", "1", "a", "\ud800", "é", b"", b"1", bytearray(b"1"), memoryview(b"1"), [], [1], [1.0], [True], ["1"], [None], [[1]], [1, 2], [12],
    ["ab", "c"], ["a", "bc"], ["a", "b", "c"], [1, "a"], [2**70], [2**70, 1], [0.0], [-0.0], [float("nan")], (), (1,), (1.0,), ((1,),),
    {}, {"a": 1}, {"a": 1.0}, {"a": None}, {"b": 1}, {1: "a"}, {"1": "a"}, {(1, 2): 3}, {"a": {"b": 1}}, {None: 1}, {1.0: "a"},
    set(), {1}, {1, 2}, {"1"}, frozenset(), frozenset({1}), frozenset({frozenset({1})}), Pair(1, 2), (1, 2), Text("a"), Marked([1]),
    marked("x"), marked("y"), OrderedDict(a=1), OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), Counter(a=1), defaultdict(int, a=1),
    defaultdict(list, a=1), deque([1]), deque([1], 3), range(3), range(0, 3, 2), range(1, 3), slice(3), slice(1, 3), ...,
    datetime(2020, 1, 1), datetime(2020, 1, 1, fold=1), datetime(2020, 1, 1, tzinfo=UTC),  # noqa: DTZ001
    datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=1))), date(2020, 1, 1), time(1), time(1, tzinfo=UTC), timedelta(1),
    timedelta(seconds=1), Decimal("1.0"), Decimal("1.00"), Decimal("NaN"), UUID(int=1), UUID(int=2), PurePosixPath("a/b"),
    PurePosixPath("a"), Colour.RED, Colour.BLUE, Shade.RED, Access.READ, Access.READ | Access.WRITE, Access(0), Point(1), Point(2),
    Point(1, 1), Point(1, 0, [1]), Place(1), Model(x=1), Model(x=2), Model(x=1, z=1), int, str, Point, Colour, module_level, len, UTC,
    Digested(b"a"), Digested(b"b"), b"x" * 2**21, b"y" + b"x" * (2**21 - 1), "x" * 2**21,
]  # fmt: skip


def test_values_that_differ_in_type_or_content_have_different_digests() -> None:
    seen: dict[bytes, Any] = {}
    for value in DISTINCT:
        digest = digest_value(value)
        assert digest not in seen, f"{value!r:.80} and {seen[digest]!r:.80}"
        seen[digest] = value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: "a", "b": 2, None: 3}, {None: 3, "b": 2, 1: "a"}),
        ({"b", "a", 1}, {1, "a", "b"}),
        (float("nan"), -float("nan")),
        ([float("nan"), 1.0], [-float("nan"), 1.0]),
        (Path("a/b"), PurePosixPath("a//b")),
        (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=timezone(timedelta(0)))),
        (Counter("ab"), Counter("ba")),
        (Model(x=1, b=1, a=2), Model(x=1, a=2, b=1)),
    ],
)
def test_what_is_equal_but_for_its_order_or_making_has_one_digest(one: Any, other: Any) -> None:
    assert digest_value(one) == digest_value(other)


def test_a_digest_does_not_change_from_one_release_to_the_next() -> None:
    value = {"n": None, "i": [1, 2, 2**70], "f": (0.5, -0.0), "s": {"é", "a"}, 3: b"x", "d": date(2020, 2, 2), "m": [True, "x", 1.5]}
    assert digest_value(value).hex() == "5b77360c3f264563da2d28c5cef53174"


keys = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.tuples(st.integers(), st.text()))
leaves = st.one_of(keys, st.floats(), st.binary())
values = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.frozensets(keys) | st.tuples(inner, inner), max_leaves=20
)


@given(st.dictionaries(keys, values), st.integers())
def test_the_order_in_which_a_dict_was_filled_does_not_count(value: dict[Any, Any], seed: int) -> None:
    items = list(value.items())
    random.Random(seed).shuffle(items)
    assert digest_value(value) == digest_value(dict(items))


@given(values)
def test_a_copy_has_the_same_digest(value: Any) -> None:
    assert digest_value(value) == digest_value(_copied(value))


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {_copied(key): _copied(item) for key, item in value.items()}
    return type(value)(map(_copied, value)) if isinstance(value, (list, tuple, frozenset)) else value


PROGRAM = """
from holdfast.identity import digest_value
import pathlib, dataclasses
value = {"a": {"x", "y", "zz", 1, None, (1, "q")}, frozenset({"k", "l"}): [{"p": 1, "q": {2: 3}}], "t": pathlib.PurePath("a/b"), "c": int}
print(digest_value(value).hex())
"""


def test_a_digest_is_the_same_under_every_hash_seed() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "src"},
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(found) == 1


def nested(make: Callable[[Any], Any], levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = make(value)
    return value


@pytest.mark.parametrize(
    "make",
    [
        lambda inner: [inner],
        lambda inner: (inner, 1),
        lambda inner: {"a": inner},
        lambda inner: {1: inner},
        lambda inner: frozenset({inner}),
        lambda inner: Point(1, 2, [inner]),
        lambda inner: {"a": [({"b": inner},)]},
    ],
)
def test_five_hundred_levels_are_not_too_deep(make: Callable[[Any], Any]) -> None:
    assert digest_value(nested(make, 500)) != digest_value(nested(make, 501))


def cyclic_list() -> Any:
    value: list[Any] = [1]
    value.append({"a": value})
    return value


def cyclic_point() -> Any:
    value = Point(1)
    value.more.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (object(), "x", "object"),
        ([1, object()], "x[1]", "object"),
        ({"items": {"x": object()}}, "x['items']['x']", "object"),
        ((1, Point(1, 2, [{"k": object()}])), "x[1].more[0]['k']", "object"),
        (Model(x=1, items=[object()]), "x.items[0]", "object"),
        (Pair(1, object()), "x.b", "object"),
        ({1: object()}, "x[1]", "object"),
        ({1: {2: [object()]}}, "x[1][2][0]", "object"),
        ({object(): 1}, "x.keys()", "object"),
        ({1, object()}, "x{...}", "object"),
        (lambda: 1, "x", "lambda"),
        ([nested], None, None),
        ((lambda: lambda: 1)(), "x", "lambda"),
        ("".join, "x", "bound"),
        (iter([]), "x", "list_iterator"),
        (cyclic_list(), "x[1]['a']", "contains itself"),
        (cyclic_point(), "x.more[0]", "contains itself"),
    ],
)
def test_what_has_no_canonical_form_is_refused_by_its_path(value: Any, path: str | None, reason: str | None) -> None:
    if path is None or reason is None:
        digest_inputs("t", {"x": value})
        return
    with pytest.raises(UnstableInput) as caught:
        digest_inputs("t", {"x": value})
    assert caught.value.argument == path
    assert reason in caught.value.reason
    assert caught.value.task == "t"
    assert "key=" in str(caught.value)


def test_a_function_or_class_made_inside_a_function_is_refused() -> None:
    def inner() -> None: ...

    class Local: ...

    for value in (inner, Local):
        with pytest.raises(Indigestible, match="inside a function"):
            digest_value(value)


def test_inputs_are_told_apart_by_name_and_not_by_order() -> None:
    assert digest_inputs("t", {"a": 1, "b": 2}) == digest_inputs("t", {"b": 2, "a": 1})
    assert digest_inputs("t", {"a": 1, "b": 2}) != digest_inputs("t", {"a": 2, "b": 1})
    assert digest_inputs("t", {"a": "b", "b": 1}) != digest_inputs("t", {"ab": 1})
    assert len(digest_inputs("t", {})) == 16


def test_the_same_object_twice_is_no_cycle() -> None:
    shared = [object, 1]
    assert digest_value([shared, shared]) == digest_value([[object, 1], [object, 1]])
