"""numpy and pandas values as trees: arrays as .npy, tables as parquet.

Neither package is imported here. A value to be written has imported its own; a recorded one imports what it needs. Pickles are refused
on both ways: reading a store must not run code from it.
"""

from __future__ import annotations

import base64
import importlib
import io
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from holdfast.codec.refusals import Refused, Unreadable
from holdfast.codec.tagged import TAG, Family, Parts, Sink, binary_of, name_of, tag, untag
from holdfast.errors import MissingExtra


def is_from(package: str, *names: str) -> Callable[[type], bool]:
    """Whether a class is, or derives from, one of a package's classes, without importing the package."""

    def matches(kind: type) -> bool:
        return any(base.__name__ in names and base.__module__.partition(".")[0] == package for base in kind.__mro__)

    return matches


is_array: Callable[[type], bool] = is_from("numpy", "ndarray")
is_numpy_scalar: Callable[[type], bool] = is_from("numpy", "generic")
is_table: Callable[[type], bool] = is_from("pandas", "DataFrame", "Series")


def _package(name: str, feature: str) -> Any:
    try:
        return sys.modules.get(name) or importlib.import_module(name)
    except ImportError as error:
        extra = "numpy" if name == "numpy" else "pandas"
        raise MissingExtra(feature=feature, package=name, extra=extra) from error


def _exact(value: Any, *names: str) -> None:
    if type(value).__name__ not in names:
        raise Refused(f"{name_of(type(value))} would come back as a plain {names[0]}; return a plain {names[0]}")


# numpy


def _write_array(value: Any, sink: Sink, _depth: int) -> Any:
    _exact(value, "ndarray")
    numpy = sys.modules["numpy"]
    form = numpy.lib.format
    kind = value.dtype
    if kind.hasobject:
        raise Refused("a numpy array of objects can't be recorded; return a list, or give it a plain dtype")
    if kind.names and form.descr_to_dtype(form.dtype_to_descr(kind)) != kind:
        raise Refused(f"the dtype {kind} does not survive in a .npy file; return its fields as arrays")
    buffer = io.BytesIO()
    numpy.save(buffer, value, allow_pickle=False)
    return {TAG: "ndarray", **sink.binary(buffer.getbuffer())}


def _read_array(tree: Mapping[str, Any], parts: Parts) -> Any:
    return _package("numpy", "a recorded array").load(io.BytesIO(binary_of(tree, parts)), allow_pickle=False)


def _write_scalar(value: Any, _sink: Sink, _depth: int) -> Any:
    if value.dtype.kind not in "biufcmMSU":
        raise Refused(f"a numpy scalar of dtype {value.dtype} can't be recorded; return value.item()")
    return {TAG: "numpy", "dtype": value.dtype.str, "b64": base64.b64encode(value.tobytes()).decode()}


def _read_scalar(tree: Mapping[str, Any], _parts: Parts) -> Any:
    numpy = _package("numpy", "a recorded numpy scalar")
    kind, data = numpy.dtype(tree["dtype"]), base64.b64decode(tree["b64"])
    return numpy.ndarray((), kind, data)[()] if data else numpy.zeros((), kind)[()]


# pandas: a table is its axes, its attrs and its columns. Columns of objects are written cell by cell, categories as codes beside what
# they stand for, all others together as one parquet file.

_AXIS_PREFIX: Final = "i"
_COLUMN_PREFIX: Final = "c"


class _Shelf:
    """The columns that will share a parquet file, and how each column is found again."""

    def __init__(self, sink: Sink, depth: int) -> None:
        self.sink = sink
        self.depth = depth
        self.stored: dict[str, Any] = {}

    def place(self, name: str, cells: Any) -> Any:
        kind = str(cells.dtype)
        if kind == "object":
            return {"cells": tag(cells.tolist(), self.sink, self.depth)}
        if kind == "category":
            self.stored[name] = cells.codes
            kinds = _Shelf(self.sink, self.depth)  # they have a length of their own, so they are a file of their own
            spec = kinds.place("k", cells.categories.array)
            return {"codes": name, "kinds": spec, "file": _parquet(kinds.stored, self.sink), "ordered": bool(cells.ordered)}
        self.stored[name] = cells
        return {"stored": name}

    def axis(self, prefix: str, index: Any) -> Any:
        names = tag(list(index.names), self.sink, self.depth)
        if hasattr(index, "start") and hasattr(index, "step"):
            return {"range": [index.start, index.stop, index.step], "names": names}
        if hasattr(index, "levels"):
            levels = [self.place(f"{prefix}{at}", index.get_level_values(at).array) for at in range(index.nlevels)]
            return {"levels": levels, "names": names}
        return {"index": self.place(f"{prefix}0", index.array), "names": names, "freq": getattr(index, "freqstr", None)}


def _write_table(value: Any, sink: Sink, depth: int) -> Any:
    _exact(value, "DataFrame", "Series")
    pandas = sys.modules["pandas"]
    _package("pyarrow", "recording a DataFrame")
    framed = type(value).__name__ == "DataFrame"
    frame = value if framed else value.to_frame(name="value")
    shelf, labels = _Shelf(sink, depth + 2), _Shelf(sink, depth + 2)
    tree = {
        TAG: "dataframe" if framed else "series",
        "index": shelf.axis(_AXIS_PREFIX, frame.index),
        "columns": [shelf.place(f"{_COLUMN_PREFIX}{at}", frame.iloc[:, at].array) for at in range(frame.shape[1])],
        "labels": labels.axis(_AXIS_PREFIX, frame.columns) if framed else tag(value.name, sink, depth + 1),
        "attrs": tag(dict(value.attrs), sink, depth + 1),
        "file": _parquet(shelf.stored, sink),
        "label_file": _parquet(labels.stored, sink),
    }
    _must_survive(pandas, value, tree, sink)
    return tree


def _parquet(columns: Mapping[str, Any], sink: Sink) -> Any:
    if not columns:
        return None
    buffer = io.BytesIO()
    try:
        sys.modules["pandas"].DataFrame(dict(columns)).to_parquet(buffer, engine="pyarrow", index=False)
    except (ValueError, TypeError, NotImplementedError, OverflowError) as error:  # pyarrow's errors are ValueErrors
        raise Refused(f"pyarrow can't write it exactly ({error})") from error
    return {TAG: "bytes", **sink.binary(buffer.getbuffer())}


def _must_survive(pandas: Any, value: Any, tree: Any, sink: Sink) -> None:
    check = pandas.testing.assert_frame_equal if tree[TAG] == "dataframe" else pandas.testing.assert_series_equal
    strict = {"check_column_type": "exact"} if tree[TAG] == "dataframe" else {}
    try:
        back = _read_table(tree, sink.parts)
        check(back, value, check_exact=True, check_index_type="exact", check_flags=True, **strict)
    except (AssertionError, ValueError, TypeError, Unreadable) as error:
        reason = " ".join(str(error).split())
        raise Refused(f"it would not come back from parquet as it is ({reason}); make dtypes and labels plain") from error


def _read_table(tree: Mapping[str, Any], parts: Parts) -> Any:
    pandas = _package("pandas", "a recorded DataFrame")
    stored, labels = _stored(pandas, tree["file"], parts), _stored(pandas, tree["label_file"], parts)
    index = _read_axis(pandas, tree["index"], stored, parts)
    columns = [_read_column(pandas, spec, stored, parts) for spec in tree["columns"]]
    if tree[TAG] == "series":
        table = pandas.Series(columns[0], index=index, name=untag(tree["labels"], parts), copy=False)
    else:
        table = pandas.DataFrame(dict(enumerate(columns)), index=index)
        table.columns = _read_axis(pandas, tree["labels"], labels, parts)
    table.attrs = untag(tree["attrs"], parts)
    return table


def _stored(pandas: Any, file: Any, parts: Parts) -> Any:
    if file is None:
        return None
    _package("pyarrow", "a recorded DataFrame")
    return pandas.read_parquet(io.BytesIO(untag(file, parts)), engine="pyarrow")


def _read_column(pandas: Any, spec: Mapping[str, Any], stored: Any, parts: Parts) -> Any:
    if "cells" in spec:
        cells = untag(spec["cells"], parts)
        column = sys.modules["numpy"].empty(len(cells), dtype=object)
        column[:] = cells
        return column
    if "codes" in spec:
        kinds = _read_column(pandas, spec["kinds"], _stored(pandas, spec["file"], parts), parts)
        return pandas.Categorical.from_codes(stored[spec["codes"]].to_numpy(), pandas.Index(kinds), ordered=spec["ordered"])
    return stored[spec["stored"]].array


def _read_axis(pandas: Any, spec: Mapping[str, Any], stored: Any, parts: Parts) -> Any:
    names = untag(spec["names"], parts)
    if "range" in spec:
        return pandas.RangeIndex(*spec["range"], name=names[0])
    if "levels" in spec:
        levels = [_read_column(pandas, level, stored, parts) for level in spec["levels"]]
        return pandas.MultiIndex.from_arrays(levels, names=names)
    cells = _read_column(pandas, spec["index"], stored, parts)
    index = pandas.Index(cells, name=names[0], dtype=object if "cells" in spec["index"] else None)
    if spec.get("freq") is not None and type(index).__name__ in ("DatetimeIndex", "TimedeltaIndex"):
        index.freq = spec["freq"]
    return index


FAMILIES: Final = (
    Family(is_array, _write_array, {"ndarray": _read_array}),
    Family(is_numpy_scalar, _write_scalar, {"numpy": _read_scalar}),
    Family(is_table, _write_table, {"dataframe": _read_table, "series": _read_table}),
)
