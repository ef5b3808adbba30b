"""The arguments of a run's root call, as they may be written down for people: plain, small, and without secrets.

They are never read back into a call: what a resume compares are digests. So anything may stand in for a value that is no plain data, and
what is large is cut, with a note that says so.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

from holdfast.codec import to_json
from holdfast.folders.secrets import HIDDEN
from holdfast.frozen import Frozen
from holdfast.runs.masks import is_secret_name, masked, names_a_secret, without

#: Bytes of all parameters together, as JSON.
PARAMETER_BYTES: Final = 64 * 1024

#: Their text says all that they hold.
_SPOKEN: Final = (date, time, timedelta, Decimal, Fraction, complex, UUID, PurePath)
_CUT: Final = "… (cut)"
_LARGEST_INT_BITS: Final = 256
_OWN_REPR: Final[Any] = object.__repr__


class Measure(Frozen):
    """How much is shown: characters of one text and of all, entries of one container, values in all, levels."""

    text: int
    texts: int
    entries: int
    values: int
    depth: int


#: Tried one after the other, until all fits. The last one always does.
_MEASURES: Final = (Measure(4096, 48_000, 100, 1000, 8), Measure(512, 8000, 25, 400, 5), Measure(64, 1500, 10, 60, 3))


def plain_parameters(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the arguments as plain data of at most `PARAMETER_BYTES`, and the secrets that were found by their names.

    Never fails: what can't be looked at is named by its type.
    """
    shown: dict[str, Any] = {}
    secrets: frozenset[str] = frozenset()
    for measure in _MEASURES:
        teller = _Teller(measure)
        shown = teller.mapping(arguments, 0)
        secrets = frozenset(teller.secrets)
        shown = without(secrets, shown)
        if len(to_json(shown)) <= PARAMETER_BYTES:
            break
    return shown, secrets


class _Teller:
    """Tells values, until it has told as much as is allowed."""

    def __init__(self, measure: Measure) -> None:
        self.secrets: set[str] = set()
        self._measure = measure
        self._values = measure.values
        self._texts = measure.texts

    def mapping(self, given: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        return self._named(given.items(), len(given), depth)

    def tell(self, value: Any, depth: int) -> Any:
        """One value, whatever it is."""
        self._values -= 1
        if self._values < 0:
            return _CUT
        try:
            return self._told(value, depth)
        except Exception as error:  # a stranger's property or repr: no run fails for it
            return f"{type(value).__qualname__}, which can't be shown ({type(error).__name__})"

    def _told(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            return self._text(value.name)
        if isinstance(value, int):
            number = int(value)
            return number if number.bit_length() <= _LARGEST_INT_BITS else f"an int of {number.bit_length()} bits"
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return f"{type(value).__name__}, {memoryview(value).nbytes} bytes"
        if _holds_a_secret(value):
            return self._hidden(value)
        if isinstance(value, _SPOKEN):
            return self._text(str(value))
        return self._composed(value, depth)

    def _composed(self, value: Any, depth: int) -> Any:
        if depth >= self._measure.depth:
            return f"{type(value).__qualname__} {_CUT}"
        fields = _fields(value)
        if fields is not None:
            return self._named(fields, len(fields), depth)
        if isinstance(value, dict):
            return self.mapping(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._listed(value, depth)
        return self._represented(value)

    def _named(self, entries: Iterable[tuple[Any, Any]], number: int, depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for name, value in entries:
            if len(shown) >= self._measure.entries or self._values <= 0:
                shown["…"] = f"{number - len(shown)} more {_CUT}"
                break
            word = str.__str__(name) if isinstance(name, str) else str(self.tell(name, depth + 1))
            shown[self._text(word)] = self._given(word, value, depth + 1)
        return shown

    def _listed(self, values: Collection[Any], depth: int) -> list[Any]:
        if len(values) == 2 and isinstance(values, (tuple, list)) and isinstance(values[0], str):  # as headers and options are given
            return [self._text(values[0]), self._given(values[0], values[1], depth + 1)]
        shown: list[Any] = []
        for value in values:
            if len(shown) >= self._measure.entries or self._values <= 0:
                shown.append(f"… {len(values) - len(shown)} more {_CUT}")
                break
            shown.append(self.tell(value, depth + 1))
        return shown

    def _given(self, name: str, value: Any, depth: int) -> Any:
        """What goes by a name. None and a bool under a secret's name tell no secret."""
        if value is None or isinstance(value, bool) or not is_secret_name(name):
            return self.tell(value, depth)
        return self._hidden(value)

    def _hidden(self, value: Any) -> str:
        for text in _texts(value, 0):
            self.secrets.add(text)
        return HIDDEN

    def _represented(self, value: Any) -> str:
        kind = type(value)
        if getattr(kind, "__repr__", None) is _OWN_REPR:  # it says where in memory
            return self._text(kind.__qualname__)
        text = repr(value)
        if names_a_secret(text[: 2 * self._measure.text]):
            return f"{kind.__qualname__}: {HIDDEN}"
        return self._text(text if kind.__name__ in text[:100] else f"{kind.__qualname__}: {text}")

    def _text(self, text: str) -> str:
        room = max(min(self._measure.text, self._texts), 0)
        looked_at = text[: 2 * room]  # what is cut away can't be looked at, so that secrets at the edge are not shown
        whole = masked(str.__str__(looked_at), is_cut=len(looked_at) < len(text))
        shown = whole if len(text) <= room else f"{whole[:room]}… ({len(text)} characters)"
        self._texts -= len(shown)
        return shown.encode("utf-8", "backslashreplace").decode()


def _holds_a_secret(value: Any) -> bool:
    """pydantic's SecretStr, SecretBytes and Secret, and whatever does as they do."""
    return callable(getattr(type(value), "get_secret_value", None))


def _fields(value: Any) -> list[tuple[str, Any]] | None:
    """The named parts of a record; None, where it is none. What its repr hides is hidden."""
    if isinstance(value, BaseModel):
        known = [(name, HIDDEN if not field.repr else getattr(value, name)) for name, field in type(value).model_fields.items()]
        return [*known, *(value.model_extra or {}).items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name, None) if f.repr else HIDDEN) for f in dataclasses.fields(value)]
    if isinstance(value, tuple) and isinstance(getattr(value, "_fields", None), tuple):
        return list(zip(value._fields, value, strict=True))  # type: ignore[attr-defined]
    return None


def _texts(value: Any, depth: int) -> Iterator[str]:
    """The texts of what is hidden, so that they are hidden wherever else they stand."""
    if _holds_a_secret(value):
        value = value.get_secret_value()
    if isinstance(value, str):
        yield str.__str__(value)
    elif isinstance(value, bytes):
        yield value.decode("utf-8", "replace")
    elif depth < 3 and isinstance(value, (dict, list, tuple, set, frozenset)):
        for each, _ in zip(value.values() if isinstance(value, dict) else value, range(100), strict=False):
            yield from _texts(each, depth + 1)
