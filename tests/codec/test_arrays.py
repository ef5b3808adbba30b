"""numpy and pandas values come back exactly, large ones as parts, or are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from holdfast.codec import codec_for, from_json, parts_of, to_json
from holdfast.errors import UnrecordableResult

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")


@dataclass
class Result:
    array: np.ndarray  # type: ignore[name-defined]
    frame: pd.DataFrame | None = None


def round_trip(value: Any, annotation: Any = Any) -> Any:
    codec = codec_for(annotation, task="t")
    encoded = codec.encode(value)
    assert set(parts_of(encoded.tree)) == set(encoded.parts)
    return codec.decode(from_json(to_json(encoded.tree)), encoded.parts)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3), np.zeros(()), np.zeros((0, 3)), np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(9)[::2],
        np.array(["a", "bb"]), np.array([b"x"]), np.array([np.nan, -0.0, np.inf]), np.zeros(2, ">i4"), np.zeros(2, [("a", "i4"), ("b",
        "f8")]),
        np.array(["2020"], "M8[s]"), np.array([True]), np.array([1 + 2j]), np.zeros(20_000), np.float16(1.5),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}",
)  # fmt: skip
def test_an_array_comes_back_with_dtype_shape_and_content(value: Any) -> None:
    for annotation in (Any, np.ndarray | np.float16):
        back = round_trip(value, annotation)
        assert type(back) is type(value)
        assert (back.dtype, back.shape, back.tobytes()) == (value.dtype, value.shape, value.tobytes())


@pytest.mark.parametrize(
    "value",
    [np.float64(0.1), np.float32(0.1), np.int8(-1), np.uint64(2**64 - 1), np.bool_(True), np.str_("é"), np.str_(""), np.bytes_(b"x"),
     np.datetime64("2020-01-01", "ns"), np.timedelta64(3, "D"), np.complex64(1j)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_numpy_scalar_is_no_python_scalar(value: Any) -> None:
    for annotation in (Any, type(value)):
        back = round_trip([value] if annotation is Any else value, annotation)
        back = back[0] if annotation is Any else back
        assert type(back) is type(value)
        assert (back, back.dtype) == (value, value.dtype)


def base() -> Any:
    return pd.DataFrame(
        {
            "i": [1, 2], "f": [0.1, float("nan")], "s": ["x", None], "c": pd.Categorical(["x", "y"]), "ci": pd.Categorical([3, 4],
            ordered=True),
            "d": pd.to_datetime(["2020", "2021"]), "z": pd.to_datetime(["2020", "2021"]).tz_localize("Europe/Berlin"),
            "n": pd.array([1, None], dtype="Int64"), "b": pd.array([True, None], dtype="boolean"), "o": pd.Series([1, ("x", 2)],
            dtype=object),
            "p": pd.period_range("2020", periods=2, freq="M"), "t": pd.to_timedelta([1, 2], unit="s"), "v": pd.interval_range(0, 2),
        }
    )  # fmt: skip


def with_attrs() -> Any:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"unit": ("m", 2)}
    return frame


TABLES = {
    "all dtypes": base,
    "empty": pd.DataFrame,
    "no rows": lambda: base().iloc[:0],
    "no columns": lambda: pd.DataFrame(index=[1, 2]),
    "text index": lambda: base().set_index("s"),
    "several indexes": lambda: base().set_index(["i", "s", "c"]),
    "time index": lambda: pd.DataFrame({"a": range(3)}, index=pd.date_range("2020", periods=3)),
    "zoned index": lambda: base().set_index("z"),
    "period index": lambda: base().set_index("p"),
    "category index": lambda: base().set_index("c"),
    "named range": lambda: pd.DataFrame({"a": range(3)}, index=pd.RangeIndex(5, 11, 2, name="r")),
    "number columns": lambda: pd.DataFrame(np.zeros((2, 2))),
    "tuple columns": lambda: pd.DataFrame(np.zeros((1, 2)), columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])),
    "mixed columns": lambda: pd.DataFrame([[1, 2]], columns=pd.Index(["a", 1], dtype=object)),
    "equal columns": lambda: pd.DataFrame([[1, 2.5]], columns=["a", "a"]),
    "attrs": with_attrs,
    "large": lambda: pd.DataFrame({"a": np.random.default_rng(0).random(20_000)}),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_comes_back_with_dtypes_labels_and_attrs(name: str) -> None:
    value = TABLES[name]()
    for annotation in (Any, pd.DataFrame):
        back = round_trip(value, annotation)
        pd.testing.assert_frame_equal(back, value, check_exact=True, check_index_type="exact", check_column_type="exact")
        assert back.attrs == value.attrs


@pytest.mark.parametrize(
    "value",
    [pd.Series([1, 2]), pd.Series([1.5], name="x", index=["a"]), pd.Series(["a", None]), pd.Series([], dtype="f8"), pd.Series([1],
    name=("a", 1)),
     pd.Series([1, "a"], dtype=object), pd.Series(pd.Categorical(["b", "a"]))],
    ids=str,
)  # fmt: skip
def test_a_series_comes_back_with_its_name_and_index(value: Any) -> None:
    for annotation in (Any, pd.Series):
        pd.testing.assert_series_equal(round_trip(value, annotation), value, check_exact=True, check_index_type="exact")


def test_arrays_and_tables_stand_inside_containers_and_dataclasses() -> None:
    back = round_trip({"a": np.ones(2)}, dict[str, np.ndarray])
    assert back["a"].tolist() == [1, 1]
    result = round_trip([Result(np.ones(3), pd.DataFrame({"a": [1]}))], list[Result])[0]
    assert (result.array.tolist(), result.frame["a"].tolist()) == ([1, 1, 1], [1])


def test_large_arrays_and_tables_are_parts() -> None:
    rng = np.random.default_rng(0)
    value = {"a": rng.random(10_000), "b": pd.DataFrame({"x": rng.random(10_000)}), "c": np.zeros(3)}
    encoded = codec_for(Any, task="t").encode(value)
    assert len(encoded.parts) == 2
    assert len(to_json(encoded.tree)) < 3000


class Derived(np.ndarray): ...  # type: ignore[misc,name-defined]


class DerivedFrame(pd.DataFrame): ...  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.array([object()]), "array of objects"),
        (np.zeros(2).view(Derived), "return a plain ndarray"),
        (DerivedFrame({"a": [1]}), "return a plain DataFrame"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), "pyarrow can't write it exactly"),
        (pd.DataFrame({"a": pd.Series([1, object()], dtype=object)}), "builtins:object"),
        (pd.Timestamp("2020"), "Timestamp"),
    ],
)
def test_what_would_not_come_back_exactly_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(UnrecordableResult) as caught:
        codec_for(Any, task="t").encode({"k": [value]})
    assert caught.value.path.startswith("result['k'][0]")
    assert reason in caught.value.reason


def test_the_codec_loads_no_array_package_until_a_value_needs_it() -> None:
    program = (
        "import sys, json\nfrom holdfast.codec import codec_for, from_json\n"
        "tree = json.loads(sys.argv[1])\nbefore = 'numpy' in sys.modules\n"
        "print(before, codec_for(__import__('typing').Any, task='t').decode(tree).sum())"
    )
    tree = to_json(codec_for(Any, task="t").encode(np.ones(3)).tree).decode()
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", program, tree],
        env={**os.environ, "PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["False", "3.0"]
