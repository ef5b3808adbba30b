"""Values by annotation: what it promises comes back, and what it can't is refused where a person still can act."""

from __future__ import annotations

import asyncio
import enum
import threading
import typing
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from inspect import Signature
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, computed_field

from holdfast.codec import codec_for, from_json, to_json
from holdfast.errors import ResultIncompatible, UnrecordableResult


class Colour(enum.Enum):
    RED = (1, 2)
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Item:
    name: str
    fp: float = 0.0
    colour: Colour = Colour.BLUE
    tags: list[str] = field(default_factory=list)


@dataclass
class Special(Item):
    more: int = 0


@dataclass(frozen=True)
class Batch:
    items: list[Item]
    at: datetime | None = None


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    batch: Batch
    pair: tuple[int, ...] = ()
    aliased: int = Field(default=1, alias="theAlias")
    anything: Any = None

    @computed_field
    def twice(self) -> int:
        return self.aliased * 2


class SubModel(Model):
    extra_field: int = 0


class Stateful(BaseModel):
    x: int
    _hidden: int = PrivateAttr(default=0)


class Counted:
    """A dataclass in all but its equality."""


@dataclass(eq=False)
class Remembering:
    x: int

    def __post_init__(self) -> None:
        self.history: list[int] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remembering) and (self.x, self.history) == (other.x, other.history)

    __hash__ = None  # type: ignore[assignment]


class Row(NamedTuple):
    key: str
    score: float


class Options(TypedDict, total=False):
    depth: typing.Required[int]
    rows: list[Row]


class Plain: ...


UserId = NewType("UserId", int)
ITEM = Item("a", 1.5, Colour.RED, ["x"])
MODEL = Model(batch=Batch([ITEM], datetime(2020, 1, 1, tzinfo=UTC)), pair=(1, 2), theAlias=5, anything=(1, {2}), new="field")


def round_trip(value: Any, annotation: Any, **options: Any) -> Any:
    codec = codec_for(annotation, task="t", **options)
    encoded = codec.encode(value)
    return codec.decode(from_json(to_json(encoded.tree)), encoded.parts)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 1), (float, 1.5), (float, 3), (float, True), (float, float("inf")), (None, None), (bool, False), (str, "\ud800"), (bytes,
        b"\xff"),
        (list[int], [1, 2]), (list[float], [1, 2.5]), (dict[str, list[float]], {"$a": [0.5]}), (dict[tuple[int, int], str], {(1, 2): "x"}),
        (tuple[int, str], (1, "a")), (tuple[int, ...], (1, 2, 3)), (tuple[()], ()), (set[int], {1, 2}), (int | None, None),
        (list[int | str | None], [1, "a", None]), (dict[str, Any], {"a": (1, {2})}), (Any, (1,)), (object, {"a": (1,)}),
        (Signature.empty, (1,)),
        (list, [(1,)]), (dict, {1: 2}), (Path, Path("a")), (Literal["a", 1], 1), (UserId, UserId(3)), (Annotated[int, Field(gt=0)], 3),
        (Annotated[int, []], 3), (Item, ITEM), (list[Item], [ITEM]), (dict[str, Item], {"k": ITEM}), (Item | None, ITEM),
        (Item | Model, MODEL),
        (tuple[Item, ...], (ITEM,)), (Batch, Batch([ITEM])), (Model, MODEL), (Colour, Colour.RED), (Level, Level.LOW), (str | Colour,
        Colour.BLUE),
        (str | Colour, "blue"), (dict[Colour, int], {Colour.RED: 1}), (set[Colour], {Colour.RED}), (Row, Row("a", 0.5)),
        (list[Row], [Row("a", 0.5)]), (Options, {"depth": 1, "rows": [Row("a", 0.5)]}), (list[Options], [{"depth": 2}]),
        (Options | None, None),
        (Sequence[int], [1]), (Sequence[int], (1,)), (Mapping[str, Item], {"a": ITEM}), (Item, Item("a", float("nan"))), (Remembering,
        Remembering(1)),
        (Exception, KeyError("x")), (list[Exception], [ValueError(1, "a")]),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_comes_back_as_what_it_was(annotation: Any, value: Any) -> None:
    back = round_trip(value, annotation)
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    if not isinstance(value, float) and "nan" not in repr(value) and "Exc" not in str(annotation):
        assert back == value


def remembering() -> Remembering:
    value = Remembering(1)
    value.history.append(5)
    return value


def hiding() -> Stateful:
    value = Stateful(x=1)
    value._hidden = 7
    return value


@pytest.mark.parametrize(
    ("annotation", "value", "path", "reason"),
    [
        (Item, Special("a"), "result", "Special would come back as a"),
        (list[Item], [ITEM, Special("a")], "result[1]", "Special would come back as a"),
        (Model, SubModel(batch=Batch([])), "result", "SubModel would come back as a"),
        (Batch, Batch([ITEM, Special("a")]), "result.items[1]", "Special"),
        (Batch, Batch([ITEM, ITEM, ITEM, Item("a", fp=3)]), "result.items[3].fp", "builtins:int would come back as a builtins:float"),
        (Model, Model(batch=Batch([]), anything=[ITEM]), "result.anything[0]", "would come back as a builtins:dict"),
        (Model, Model(batch=Batch([]), anything=[Plain()]), "result.anything[0]", "Plain"),
        (Item, Item("a", tags=[Plain()]), "result.tags[0]", "Plain"),  # type: ignore[list-item]
        (Item, Item(5), "result.name", "Input should be a valid string, and not int"),  # type: ignore[arg-type]
        (Stateful, hiding(), "result._hidden", "7 would come back as 0"),
        (Remembering, remembering(), "result", "unequal"),
        (list[Remembering], [Remembering(1), remembering()], "result[1]", "unequal"),
        (Item, 5, "result", "not what the annotation says"),
        (int, "abc", "result", "str is not valid as int"),
        (None, 1, "result", "int is not valid as None"),
        (int, Level.LOW, "result", "Level"),
        (list[int], [1, Level.LOW], "result[1]", "Level"),
        (Any, ITEM, "result", "annotate the task's result with this type"),
        (Any, [Row("a", 1.0)], "result[0]", "annotate"),
        (dict[str, int], {"a": [1]}, "result", "not valid as dict[str, int]"),
        (Exception, KeyError(Plain()), "result", "can't be rebuilt"),
    ],
)
def test_a_value_that_would_change_is_refused_by_its_path(annotation: Any, value: Any, path: str, reason: str) -> None:
    with pytest.raises(UnrecordableResult) as caught:
        codec_for(annotation, task="t").encode(value)
    assert (caught.value.task, caught.value.path) == ("t", path)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    "annotation",
    [Plain, list[Plain], Plain | None, threading.Lock, type(threading.Lock()), Iterator[int], Generator[int, None, None], Callable[[],
    int], asyncio.Task,
     typing.IO, "Nowhere", [int], 5],
    ids=str,
)  # fmt: skip
def test_an_annotation_that_no_value_survives_is_refused_before_the_body_runs(annotation: Any) -> None:
    with pytest.raises(UnrecordableResult) as caught:
        codec_for(annotation, task="pkg:work")
    assert caught.value.task == "pkg:work"
    assert ";" in caught.value.reason


@pytest.mark.parametrize(
    ("then", "value", "now"),
    [
        (int, 1, list[int]),
        (str, "abc", int),
        (Item, ITEM, Batch),
        (list[Any], ["x"], list[int]),
        (Any, {"name": "a", "fp": "x"}, Item),
        (Colour, Colour.RED, Level),
    ],
)
def test_a_recorded_value_that_is_no_longer_valid_says_so(then: Any, value: Any, now: Any) -> None:
    encoded = codec_for(then, task="t").encode(value)
    with pytest.raises(ResultIncompatible) as caught:
        codec_for(now, task="t").decode(encoded.tree, encoded.parts)
    assert caught.value.task == "t"
    assert "version=" in str(caught.value)


def test_a_field_that_got_a_default_is_no_change() -> None:
    assert codec_for(Item, task="t").decode({"name": "a"}) == Item("a")


@dataclass
class Unforeseen:
    lock: Any
    x: int = 1


class Forgetful:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Forgetful) and self.x == other.x

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, int]:
        return {"x": 0}


def test_pickle_takes_what_only_pickle_can() -> None:
    back = round_trip({"a": Unforeseen(Plain)}, Any, pickle=True)
    assert back == {"a": Unforeseen(Plain)}
    assert isinstance(round_trip(Plain(), Plain, pickle=True), Plain)
    assert round_trip(b"x" * 100_000, Any, pickle=True) == b"x" * 100_000
    for value in (threading.Lock(), lambda: 1, Forgetful(3)):
        with pytest.raises(UnrecordableResult):
            codec_for(Any, task="t", pickle=True).encode(value)


def test_a_pickle_is_read_only_by_a_task_that_asks_for_pickle_and_by_its_python() -> None:
    encoded = codec_for(Any, task="t", pickle=True).encode([1])
    for codec in (codec_for(Any, task="t"), codec_for(Item, task="t"), codec_for(list[int], task="t")):
        with pytest.raises(ResultIncompatible, match="pickle"):
            codec.decode(encoded.tree)
    with pytest.raises(ResultIncompatible, match=r"Python 2\.7"):
        codec_for(Any, task="t", pickle=True).decode({**encoded.tree, "python": [2, 7]})
    assert codec_for(Any, task="t", pickle=True).decode([1]) == [1]
