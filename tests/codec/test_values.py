"""Builtin values come back as they were: type, content, sign and order."""

from __future__ import annotations

import math
import sys
from collections import Counter, OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.codec import INLINE_LIMIT, codec_for, from_json, parts_of, to_json
from holdfast.errors import ResultIncompatible, UnrecordableResult

ANYTHING = codec_for(Any, task="t")


def round_trip(value: Any, annotation: Any = Any) -> Any:
    codec = codec_for(annotation, task="t")
    encoded = codec.encode(value)
    return codec.decode(from_json(to_json(encoded.tree)), encoded.parts)


def same(one: Any, other: Any) -> bool:
    """Equal with types, signs of zero, order of keys; every NaN is one."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (one == other and math.copysign(1, one) == math.copysign(1, other))
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (set, frozenset)):
        return len(one) == len(other) and {(type(item), repr(item)) for item in one} == {(type(item), repr(item)) for item in other}
    return bool(one == other)


surrogates = st.text(st.characters(), max_size=5)
keys = st.one_of(st.none(), st.booleans(), st.integers(), surrogates, st.sampled_from(["$", "$a", "v", "part"]), st.tuples(st.integers()))
zones = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=-3, minutes=30)), timezone(timedelta(1) / 3, "odd"), ZoneInfo("Europe/Berlin")]
)
leaves = st.one_of(
    keys, st.floats(), st.complex_numbers(), st.binary(max_size=5), st.binary(max_size=5).map(bytearray), st.integers(-(10**60), 10**60),
    st.datetimes(timezones=zones), st.dates(), st.times(), st.timedeltas(), st.decimals(allow_nan=False), st.uuids(),
    st.builds(range, st.integers(), st.integers(), st.integers(1)),
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["$", "part", "v", "a"]), inner, max_size=4)
        | st.sets(keys, max_size=4)
        | st.frozensets(keys, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_a_value_of_builtin_types_comes_back_as_it_was(value: Any) -> None:
    assert same(round_trip(value), value)


@given(values)
def test_encoding_again_gives_the_same_bytes(value: Any) -> None:
    assert to_json(ANYTHING.encode(round_trip(value)).tree) == to_json(ANYTHING.encode(value).tree)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -0.0, 5e-324, sys.float_info.max, 0.1 + 0.2, math.inf, -math.inf, math.nan, 2**53 + 1, 2**63, -(2**64), 10**1300,
        10**6000, -(10**6000), "", "\ud800\udc00", "a\x00b", "\u2028", [], {}, (), set(), {"$": 1}, {"$": "tuple", "v": [1]},
        {"$": "bytes", "part": "x"}, {1: 1, "1": 2, 1.5: 3}, {(1, (2,)): {3}}, [(1,), [1]],
        datetime(2020, 10, 25, 2, fold=1),  # noqa: DTZ001
        datetime(2020, 10, 25, 2, tzinfo=ZoneInfo("Europe/Berlin"), fold=1), time(1, tzinfo=UTC), date.min, timedelta.min,
        Decimal("1.10"), Decimal("-0"), Decimal("Infinity"), UUID(int=0), Path("a/../b"), Path(), PurePosixPath("/x"),
        PureWindowsPath("c:\\x"),
        Path("\udcff"), range(3), range(10**30), OrderedDict(b=1, a=2), Counter("aab"), deque([1, (2,)], 3), b"\xff" * 10, bytearray(b"x"),
        complex(-0.0, math.nan), ..., UTC, [[[[[]]]]], [1, 2.0, True, None, "x"], [0.0, math.nan], {"é": 1, "\ud800": 2}, {"é": 1},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_each_odd_value_comes_back_as_it_was(value: Any) -> None:
    back = round_trip(value)
    assert same(back, value)
    if isinstance(value, (datetime, time)):
        assert (back.fold, back.tzinfo) == (value.fold, value.tzinfo)


def test_a_decoded_value_shares_nothing_with_the_tree() -> None:
    tree = {"a": [1.0, [2]]}
    value = ANYTHING.decode(tree)
    value["a"][1].append(3)
    value["a"].append(4)
    assert tree == {"a": [1.0, [2]]}


def test_a_tree_shares_nothing_with_the_value() -> None:
    value = [[1.0], {"a": [2]}]
    tree = ANYTHING.encode(value).tree
    value[0].append(3.0)  # type: ignore[attr-defined]
    assert tree == [[1.0], {"a": [2]}]


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_binaries_are_parts_by_their_digest(kind: type) -> None:
    small, large = kind(b"s" * INLINE_LIMIT), kind(b"l" * (INLINE_LIMIT + 1))
    encoded = ANYTHING.encode({"a": small, "b": [large, large], "part": "no", "c": {"$": 1, "part": "no"}})
    assert list(encoded.parts.values()) == [bytes(large)]
    assert parts_of(encoded.tree) == tuple(encoded.parts)
    back = ANYTHING.decode(from_json(to_json(encoded.tree)), encoded.parts)
    assert same(back["b"], [large, large])
    with pytest.raises(ResultIncompatible, match="was not given"):
        ANYTHING.decode(encoded.tree, {})


class Text(str): ...


class Plain: ...


def deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": (value,)}
    return value


def cyclic() -> Any:
    value: list[Any] = []
    value.append({"k": value})
    return value


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (Plain(), "result", "Plain has no exact form"),
        ([1, {"a": (2, Plain())}], "result[1]['a'][1]", "Plain"),
        ({"items": [{"fp": Text("x")}]}, "result['items'][0]['fp']", "return a plain str"),
        ({1: [Plain()]}, "result[1][0]", "Plain"),
        ({Text("k"): 1}, "result.keys()", "Text"),
        ({1, Plain()}, "result{...}", "Plain"),
        ([int], "result[0]", "type"),
        ([memoryview(b"")], "result[0]", "memoryview"),
        (iter([]), "result", "list_iterator"),
    ],
)
def test_what_would_not_come_back_is_refused_by_its_path(value: Any, path: str, reason: str) -> None:
    with pytest.raises(UnrecordableResult) as caught:
        ANYTHING.encode(value)
    assert (caught.value.task, caught.value.path) == ("t", path)
    assert reason in caught.value.reason


def test_depth_is_kept_up_to_a_limit_and_refused_beyond() -> None:
    assert round_trip(deep(130)) == deep(130)
    for value in (deep(5000), cyclic()):
        with pytest.raises(UnrecordableResult, match="nested more than"):
            ANYTHING.encode(value)


def test_unknown_tags_and_broken_trees_are_incompatible_and_not_data() -> None:
    for tree in (
        {"$": "later"},
        {"$": None},
        {"$": []},
        {"$": "tuple"},
        {"$": "date", "v": "x"},
        {"$": "int", "v": "zz"},
        {"$": "ndarray", "b64": "AA=="},
    ):
        with pytest.raises(ResultIncompatible):
            ANYTHING.decode(tree)


@pytest.mark.parametrize("tree", [1, "é", [1, [2.5, None]], {"a": {"b": True}}, 10**1200, -0.0, 5e-324])
def test_trees_are_compact_json_and_back(tree: Any) -> None:
    data = to_json(tree)
    assert b" " not in data
    assert same(from_json(data), tree)
    assert same(from_json(memoryview(data)), tree)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_keeps_every_float(value: float) -> None:
    assert same(from_json(to_json([value])), [value])


def test_what_is_no_json_is_a_value_error() -> None:
    for data in (b"", b"{", b'{"a":1', b"\xff"):
        with pytest.raises(ValueError):
            from_json(data)
