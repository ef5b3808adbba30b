"""The state of a stage: strict on writing, tolerant on reading, with a schema that is pinned."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from holdfast import STAGE_NAME_MAX_LENGTH, StageState, StageStateHistoryEntry, Status, pipeline, run, stage, stage_states
from holdfast.codec import codec_for
from holdfast.folders.memory import MemoryDisk
from holdfast.stages.states import Facts, copied, emptied, filled, recorded_as, returned_as
from holdfast.testing.stores import memory_store


class Report(BaseModel):
    rows: int


class OrderState(StageState[Report]):
    order_id: int
    tags: list[str] = Field(default=[])


LINE: dict[str, Any] = {
    "attempt": 0,
    "begin_status": Status.PENDING,
    "end_status": Status.FAILED,
    "begin_ts": datetime(2030, 1, 1, tzinfo=UTC),
    "end_ts": datetime(2030, 1, 2, tzinfo=UTC),
    "run_time_seconds": 86400.0,
    "message": "ValueError: no",
}


def test_a_state_begins_with_the_sources_defaults() -> None:
    assert StageState[Report]().model_dump() == {
        "task_id": "",
        "stage_name": "",
        "status": Status.UNBOUND,
        "attempts": 0,
        "history": [],
        "result": None,
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": -1},
        {"stage_name": "x" * (STAGE_NAME_MAX_LENGTH + 1)},
        {"status": "DONE"},
        {"unknown": 1},
        {"result": 3},
        {"history": [{**LINE, "attempt": -1}]},
        {"history": [{**LINE, "begin_ts": datetime(2030, 1, 1)}]},  # noqa: DTZ001
        {"history": [{**LINE, "more": 1}]},
        {"history": [{key: value for key, value in LINE.items() if key != "message"}]},
    ],
)
def test_a_state_that_is_made_is_strict(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StageState[Report](**wrong)
    if "history" not in wrong and "unknown" not in wrong:
        state: Any = StageState[Report]()
        with pytest.raises(ValidationError):
            setattr(state, *next(iter(wrong.items())))


def test_the_longest_name_is_taken() -> None:
    assert len(StageState[Report](stage_name="x" * STAGE_NAME_MAX_LENGTH).stage_name) == 150


def test_a_state_makes_the_round_trip_through_json() -> None:
    state = OrderState(order_id=1, history=[StageStateHistoryEntry(**LINE)], result=Report(rows=2), status=Status.COMPLETED)
    assert OrderState.model_validate_json(state.model_dump_json()) == state


SCHEMA = {
    "$defs": {
        "Report": {
            "properties": {"rows": {"title": "Rows", "type": "integer"}},
            "required": ["rows"],
            "title": "Report",
            "type": "object",
        },
        "StageStateHistoryEntry": {
            "additionalProperties": False,
            "properties": {
                "attempt": {"minimum": 0, "title": "Attempt", "type": "integer"},
                "begin_status": {"$ref": "#/$defs/Status"},
                "end_status": {"$ref": "#/$defs/Status"},
                "begin_ts": {"format": "date-time", "title": "Begin", "type": "string"},
                "end_ts": {"format": "date-time", "title": "End", "type": "string"},
                "run_time_seconds": {"title": "Run time", "type": "number"},
                "message": {"title": "Message", "type": "string"},
            },
            "required": ["attempt", "begin_status", "end_status", "begin_ts", "end_ts", "run_time_seconds", "message"],
            "title": "StageStateHistoryEntry",
            "type": "object",
        },
        "Status": {"enum": [*Status.__members__], "title": "Status", "type": "string"},
    },
    "additionalProperties": False,
    "properties": {
        "task_id": {"default": "", "title": "Task ID", "type": "string"},
        "stage_name": {"default": "", "maxLength": 150, "title": "Stage name", "type": "string"},
        "status": {"$ref": "#/$defs/Status", "default": "UNBOUND"},
        "attempts": {"default": 0, "minimum": 0, "title": "Attempts", "type": "integer"},
        "history": {"default": [], "items": {"$ref": "#/$defs/StageStateHistoryEntry"}, "title": "History", "type": "array"},
        "result": {"anyOf": [{"$ref": "#/$defs/Report"}, {"type": "null"}], "default": None},
    },
    "title": "StageState[Report]",
    "type": "object",
}


def undescribed(schema: Any) -> Any:
    """Without texts for people, and without what pydantic's versions spell differently: a field that is a reference, and its title."""
    if isinstance(schema, list):
        return [undescribed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    bare = {key: undescribed(value) for key, value in schema.items() if key != "description" or not isinstance(value, str)}
    bare = {**bare.pop("allOf")[0], **bare} if "allOf" in bare else bare
    return {key: value for key, value in bare.items() if key != "title" or not ("$ref" in bare or "anyOf" in bare)}


def test_the_schema_of_a_state_is_what_others_read_it_by() -> None:
    found = undescribed(StageState[Report].model_json_schema())
    assert json.loads(json.dumps(found)) == SCHEMA


# on record


def test_what_events_tell_is_not_recorded_with_a_stage() -> None:
    codec = codec_for(recorded_as(OrderState), task="t")
    state = OrderState(order_id=1, tags=["a"], result=Report(rows=2))
    assert codec.encode(state).tree == {"order_id": 1, "tags": ["a"], "result": {"rows": 2}}
    assert codec.decode(codec.encode(state).tree) == state


def test_a_pipelines_state_is_recorded_whole() -> None:
    codec = codec_for(returned_as(OrderState), task="t")
    state = OrderState(order_id=1, attempts=1, history=[StageStateHistoryEntry(**LINE)], status=Status.COMPLETED, stage_name="s")
    assert codec.decode(codec.encode(state).tree) == state


def test_a_record_with_fields_that_this_code_does_not_know_is_read() -> None:
    stages, pipelines = codec_for(recorded_as(OrderState), task="t"), codec_for(returned_as(OrderState), task="t")
    assert stages.decode({"order_id": 1, "tags": [], "result": None, "priority": 3}) == OrderState(order_id=1)
    tree = pipelines.encode(OrderState(order_id=1, history=[StageStateHistoryEntry(**LINE)])).tree
    tree["priority"] = 3
    tree["history"][0]["host"] = "there"
    assert pipelines.decode(tree) == OrderState(order_id=1, history=[StageStateHistoryEntry(**LINE)])


async def writes(state: OrderState, earlier: Mapping[str, OrderState]) -> Report:
    return Report(rows=1)


def test_code_without_a_new_field_resumes_a_run_of_code_with_it() -> None:
    disk = MemoryDisk()
    seen: list[Any] = []

    class Newer(OrderState):
        priority: int = 3

    async def wrote(state: Newer, earlier: Mapping[str, Newer]) -> Report:
        return Report(rows=1)

    async def stops(state: Newer, earlier: Mapping[str, Newer]) -> None:
        raise ConnectionError

    async def goes_on(state: OrderState, earlier: Mapping[str, OrderState]) -> None:
        seen.append(earlier["first"])

    newer = pipeline("orders", [stage(name="first")(wrote), stage(name="second")(stops)])
    older = pipeline("orders", [stage(name="first")(writes), stage(name="second")(goes_on)])
    key = {"key": lambda state: str(state.order_id)}  # the input has a field less too
    with pytest.raises(ConnectionError):
        asyncio.run(run(newer.with_options(**key)(Newer(order_id=1)), run_name="it", store=memory_store(disk)))  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="code of"):
        asyncio.run(run(older.with_options(**key)(OrderState(order_id=1)), run_name="it", store=memory_store(disk)))  # type: ignore[arg-type]
    assert seen[0].result == Report(rows=1)
    assert dict(stage_states(memory_store(disk).state_sync("it"), older))["first"] == seen[0]


def test_a_state_class_that_keeps_unknown_fields_keeps_them() -> None:
    class Loose(OrderState):
        model_config = ConfigDict(extra="allow")

    codec = codec_for(recorded_as(Loose), task="t")
    state = Loose.model_validate({"order_id": 1, "more": [2]})
    assert codec.decode(codec.encode(state).tree) == state


# copies


class Odd(StageState[Report]):
    model_config = ConfigDict(extra="allow", frozen=True)

    first: list[int] = Field(default=[])
    second: list[int] = Field(default=[])
    _private: list[int] = PrivateAttr(default_factory=list)


def test_a_copy_shares_nothing_and_is_equal() -> None:
    shared = [1]
    odd: Any = Odd.model_validate({"more": [3]})
    vars(odd).update(first=shared, second=shared)
    odd._private.append(2)
    made: Any = copied(odd)
    assert made == odd
    assert made.first is made.second, "what was one object is one"
    made.first.append(9)
    made._private.append(9)
    made.more.append(9)
    assert (odd.first, odd._private, odd.more) == ([1], [2], [3])


def test_filled_and_emptied_say_what_events_tell_and_nothing_of_it() -> None:
    line = StageStateHistoryEntry(**LINE)
    state = filled(Odd(first=[1]), "task", "stage", Facts(Status.FAILED, 2, [line]))
    assert (state.task_id, state.stage_name, state.status, state.attempts, state.history) == ("task", "stage", Status.FAILED, 2, [line])
    assert emptied(state) == Odd(first=[1])
