"""Digests of numpy and pandas values: dtype, shape, labels and content."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import UnstableInput
from holdfast.identity import digest_inputs, digest_value

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")


def frame(**columns: Any) -> Any:
    return pd.DataFrame(columns or {"a": [1, 2], "b": ["x", "y"]})


def distinct() -> list[Any]:
    return [
        np.zeros(3), np.zeros(3, "f4"), np.zeros(3, "i8"), np.zeros((3, 1)), np.zeros(()), np.zeros(0), np.zeros((0, 3)), np.float64(0),
        np.float32(0), np.int64(0), 0.0, 0, [0.0, 0.0, 0.0], np.array(["a"]), np.array(["a", "b"]), np.str_("a"), "a", np.zeros(3, ">f8"),
        np.array([-0.0, 0, 0]), np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2), np.zeros(2, [("a", "i4"), ("b", "f8")]),
        np.zeros(2, [("a", "i4"), ("c", "f8")]), np.datetime64("2020", "s"), np.datetime64("2020", "ms"), np.bool_(True), True,
        np.zeros(10**6), np.ones(10**6), np.array([True]), np.timedelta64(1, "s"),
        frame(), frame(a=[1, 2]), frame(a=[1.0, 2.0]), frame(b=[1, 2]), frame(a=[2, 1]), frame(b=["x", "y"], a=[1, 2]),
        frame().set_index("b"), frame().set_index(["a", "b"]), frame(a=pd.Categorical(["x", "y"])), frame(a=["x", "y"]),
        frame(a=pd.Categorical(["x", "y"], ordered=True)), frame(a=pd.array([1, None], dtype="Int64")), frame(a=[1, float("nan")]),
        frame(a=pd.Series([1, "x"], dtype=object)), frame(a=pd.Series([1, 2], dtype=object)), frame(a=pd.to_datetime(["2020", "2021"])),
        frame(a=pd.to_datetime(["2020", "2021"]).tz_localize("UTC")), pd.Series([1, 2]), pd.Series([1, 2], name="a"), pd.Index([1, 2]),
        pd.Series([1, 2], index=[1, 2]), pd.RangeIndex(2), pd.MultiIndex.from_tuples([(1, "a")]), pd.Timestamp("2020"), pd.NA, pd.NaT,
        pd.Timedelta("1s"), pd.Period("2020", "M"), pd.Interval(0, 1), pd.Series([], dtype=float), pd.DataFrame(), pd.Index([1, 2],
        name="a"),
    ]  # fmt: skip


def test_arrays_and_tables_that_differ_have_different_digests() -> None:
    values = distinct()
    assert len({digest_value(value) for value in values}) == len(values)


def test_layout_in_memory_does_not_count() -> None:
    array = np.arange(6).reshape(2, 3)
    assert digest_value(array) == digest_value(np.asfortranarray(array)) == digest_value(np.arange(12).reshape(2, 6)[:, ::2] // 2)
    large = np.arange(10**6).reshape(1000, 1000)
    assert digest_value(large) == digest_value(np.asfortranarray(large))


def test_a_copy_of_a_table_has_the_same_digest() -> None:
    for value in distinct():
        if hasattr(value, "copy"):
            assert digest_value(value) == digest_value(value.copy())


def test_arrays_of_objects_are_refused() -> None:
    for value in (np.array([object()]), np.ma.masked_array([1], [True])):
        with pytest.raises(UnstableInput) as caught:
            digest_inputs("t", {"x": {"a": [value]}})
        assert caught.value.argument == "x['a'][0]"


def test_a_cell_without_canonical_form_is_refused_by_column() -> None:
    with pytest.raises(UnstableInput) as caught:
        digest_inputs("t", {"x": frame(a=pd.Series([1, object()], dtype=object))})
    assert caught.value.argument == "x['a'][1]"
