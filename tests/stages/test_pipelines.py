"""Pipelines: stages in order over one typed state, each of them a task."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel, Field

from holdfast import (
    Retry,
    RetryPolicy,
    Stage,
    StageState,
    Status,
    TaskOptions,
    ctx,
    custom_context,
    parallel,
    pipeline,
    run,
    stage,
    stage_states,
    task,
)
from holdfast.errors import CodeChanged, DuplicateTask, InvalidPipeline, LargeState, OutcomeUnknown, TaskTimedOut, UnrecordableResult
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.clocks import no_backoff
from holdfast.testing.stores import memory_store

disk = MemoryDisk()
did: list[Any] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    global disk
    disk = MemoryDisk()
    did.clear()
    broken.clear()
    with no_backoff():
        yield


class Report(BaseModel):
    rows: int


class OrderState(StageState[Report]):
    order_id: int
    notes: list[str] = Field(default=[])


Seen = Mapping[str, OrderState]


@stage
async def extract(state: OrderState, earlier: Seen) -> Report:
    did.append("extract")
    state.notes.append("extracted")
    return Report(rows=state.order_id)


@stage(name="check.all")
async def validate(state: OrderState, earlier: Seen) -> None:
    did.append(("validate", list(earlier)))
    if "validate" in broken:
        raise ValueError("not valid")


@task
async def square(number: int) -> int:
    did.append(("square", number))
    return number * number


class Charge:
    async def execute(self, state: OrderState, earlier: Seen) -> Report:
        did.append(("charge", list(earlier)))
        found = earlier["extract"].result
        assert found is not None
        return Report(rows=await square(found.rows))


charge = stage(Charge)


class Ship(Stage[OrderState]):
    name = "ship"
    options: TaskOptions = {"version": "2"}  # noqa: RUF012

    def __init__(self, to: str) -> None:
        self.to = to

    async def execute(self, state: OrderState, earlier: Seen) -> Report:
        did.append(("ship", list(earlier)))
        state.notes = [self.to]
        return Report(rows=len(earlier))


orders = pipeline("orders", [extract, parallel(validate, charge), Ship("Rome")])


def played(call: Callable[[], Any], **options: Any) -> Any:
    return asyncio.run(run(call(), run_name="it", store=memory_store(disk), **options))


def states() -> Mapping[str, OrderState]:
    return stage_states(memory_store(disk).state_sync("it"), orders)


# order, reuse, names


def test_stages_run_in_order_and_the_last_ones_state_is_returned() -> None:
    state = played(lambda: orders(OrderState(order_id=4)))
    assert did == [
        "extract",
        ("validate", ["extract"]),
        ("charge", ["extract"]),
        ("square", 4),
        ("ship", ["extract", "check.all", "Charge"]),
    ]
    assert (state.stage_name, state.status, state.attempts, state.notes, state.order_id) == ("ship", Status.COMPLETED, 1, ["Rome"], 4)
    assert state.result == Report(rows=3)


def test_a_last_parallel_group_returns_the_state_of_its_last_member() -> None:
    both = pipeline("both", [parallel(extract, parallel(validate))])
    assert played(lambda: both(OrderState(order_id=4))).stage_name == "check.all"


def test_groups_inside_groups_run_side_by_side_and_see_what_was_before_the_outermost() -> None:
    flat = pipeline("flat", [extract, parallel(validate, parallel(charge, Ship("Rome")))])
    played(lambda: flat(OrderState(order_id=4)))
    assert did[1:] == [("validate", ["extract"]), ("charge", ["extract"]), ("ship", ["extract"]), ("square", 4)]


def test_the_action_of_a_stage_is_named_by_its_pipeline_and_itself() -> None:
    played(lambda: orders(OrderState(order_id=4)))
    found = memory_store(disk).state_sync("it")
    assert found.root is not None
    named = [found.actions[name].task_name for name in found.root.children]
    assert named == ["orders/extract", "orders/check.all", "orders/Charge", "orders/ship"]


def test_COMPLETED_stages_are_reused_by_a_resume() -> None:
    broken.add("validate")
    with pytest.raises(ValueError, match="not valid"):
        played(lambda: orders(OrderState(order_id=4)))
    assert states()["extract"].status is Status.COMPLETED
    broken.clear()
    before = len(did)
    assert played(lambda: orders(OrderState(order_id=4))).result == Report(rows=3)
    assert "extract" not in did[before:]
    assert states()["check.all"].attempts == 2


def test_a_stage_added_elsewhere_shifts_no_other() -> None:
    async def count(state: OrderState, earlier: Seen) -> None:
        did.append("count")

    played(lambda: orders(OrderState(order_id=4)))
    before = len(did)
    longer = pipeline("orders", [stage(name="count")(count), extract, charge, validate, Ship("Paris")])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        anew = played(lambda: longer.with_options(version="2")(OrderState(order_id=4)))
    assert did[before:] == ["count"]
    assert anew.notes == ["Rome"], "from record"
    assert [warning.category for warning in caught] == [CodeChanged], "the plan is the code of a pipeline"


def test_another_version_of_a_stage_runs_again_and_the_others_do_not() -> None:
    def plan(version: str) -> Any:
        return pipeline("plan", [extract, stage(name="second", version=version)(body)], retry_policy=RetryPolicy.STAGE, max_attempts=1)

    async def body(state: OrderState, earlier: Seen) -> None:
        did.append(version)
        if version == "1":
            raise LookupError

    version = "1"
    with pytest.raises(LookupError):
        played(lambda: plan("1")(OrderState(order_id=1)))
    version = "2"
    played(lambda: plan("2")(OrderState(order_id=1)))
    assert did == ["extract", "1", "2"]


# what a stage gets


@stage
async def scribbles(state: OrderState, earlier: Seen) -> None:
    did.append(list(state.notes))
    state.notes.append("mine")
    for other in earlier.values():
        other.notes.append("not mine")
    did.append([other.notes for other in earlier.values()])
    if ctx().attempt_number == 0:
        raise ConnectionError


def test_each_attempt_gets_a_copy_of_the_input_and_a_state_that_is_looked_up_is_a_copy() -> None:
    plan = pipeline("plan", [extract, scribbles], retry_policy=RetryPolicy.STAGE, max_attempts=2)
    given = OrderState(order_id=1, notes=["given"])
    state = played(lambda: plan(given))
    assert did == ["extract", ["given"], [["given", "extracted"]], ["given"], [["given", "extracted"]]]
    assert state.notes == ["given", "mine"]
    assert given.notes == ["given"]


@stage
async def keeps(state: OrderState, earlier: Seen) -> None:
    did.append(state)


@stage
async def changes_what_another_left(state: OrderState, earlier: Seen) -> None:
    did[0].notes.append("too late")
    assert earlier["keeps"].notes == []


def test_what_a_body_does_to_its_state_after_it_returned_reaches_no_other_stage() -> None:
    played(lambda: pipeline("plan", [keeps, changes_what_another_left])(OrderState(order_id=1)))


@stage
async def tells(state: OrderState, earlier: Seen) -> None:
    attempt: Any = ctx()
    did.append((state.task_id == attempt.action.parent.name, state.stage_name, state.status, state.attempts, state.result))
    did.append([(line.attempt, line.begin_status, line.end_status, line.message) for line in state.history])
    did.append((attempt.max_attempts, attempt.retries_left))
    if attempt.attempt_number < 2:
        raise ConnectionError("gone")


@pytest.mark.parametrize("durable", [True, False])
def test_a_body_is_told_who_it_is_and_what_became_of_its_earlier_attempts(durable: bool) -> None:
    plan = pipeline("plan", [extract, tells], retry_policy=RetryPolicy.STAGE, max_attempts=3)
    given = OrderState(order_id=1, result=Report(rows=9))
    ended = played(lambda: plan(given)) if durable else plan.sync(given)
    failed = [
        (0, Status.PENDING, Status.FAILED, "ConnectionError: gone"),
        (1, Status.RETRYING, Status.FAILED, "ConnectionError: gone"),
    ]
    assert did[1:] == [
        *((True, "tells", Status.RUNNING, 1, None), [], (3, 2)),
        *((True, "tells", Status.RUNNING, 2, None), failed[:1], (3, 1)),
        *((True, "tells", Status.RUNNING, 3, None), failed, (3, 0)),
    ]
    lines = [(line.attempt, line.begin_status, line.end_status, line.message) for line in ended.history]
    assert lines == [*failed, (2, Status.RETRYING, Status.COMPLETED, "completed")]
    assert all(line.begin_ts.tzinfo is not None and line.end_ts >= line.begin_ts for line in ended.history)


def test_earlier_is_a_mapping_that_knows_only_what_was_before() -> None:
    @stage(name="looks")
    async def looks(state: OrderState, earlier: Seen) -> None:
        did.append((len(earlier), "extract" in earlier, "looks" in earlier, "ship" in earlier, earlier.get("ship"), repr(earlier)))
        with pytest.raises(KeyError):
            earlier["looks"]
        travelled = pickle.loads(pickle.dumps(earlier))
        assert dict(travelled) == dict(earlier)
        assert travelled["extract"] is not travelled["extract"]

    played(lambda: pipeline("plan", [extract, looks, Ship("Rome")])(OrderState(order_id=1)))
    assert did[1] == (1, True, False, False, None, "<states of 1 earlier stages>")


def test_what_a_body_returns_is_the_result_and_returning_None_leaves_what_it_set() -> None:
    @stage(name="sets")
    async def sets(state: OrderState, earlier: Seen) -> None:
        state.result = Report(rows=7)

    assert played(lambda: pipeline("plan", [sets])(OrderState(order_id=1))).result == Report(rows=7)


def test_a_result_of_another_type_than_the_states_fails_the_stage() -> None:
    class Other(BaseModel):
        other: int

    @stage(name="returns another")
    async def another(state: OrderState, earlier: Seen) -> Other:
        return Other(other=1)

    with pytest.raises(UnrecordableResult, match="is no result of OrderState"):
        played(lambda: pipeline("plan", [another])(OrderState(order_id=1)))


# the same at first delivery, at replay, and for a reader


def test_a_state_is_the_same_when_it_is_delivered_first_when_it_is_replayed_and_to_a_reader() -> None:
    first: list[Any] = []

    @stage(name="collects")
    async def collects(state: OrderState, earlier: Seen) -> None:
        first.append(dict(earlier))
        if len(first) == 1:
            raise ConnectionError

    @stage(name="fails once")
    async def fails_once(state: OrderState, earlier: Seen) -> None:
        if ctx().attempt_number == 0:
            raise LookupError("once")

    plan = pipeline("orders", [extract, fails_once, collects], retry_policy=RetryPolicy.STAGE, max_attempts=2)
    ended = played(lambda: plan(OrderState(order_id=1)))
    assert played(lambda: plan(OrderState(order_id=1))) == ended
    read = dict(stage_states(memory_store(disk).state_sync("it"), plan))
    assert first[0] == first[1] == {name: read[name] for name in ("extract", "fails once")}
    assert read["collects"] == ended
    assert [line.message for line in read["fails once"].history] == ["LookupError: once", "completed"]


def test_a_resume_in_another_process_sees_the_same_states() -> None:
    image: list[MemoryDisk] = []
    seen: list[Any] = []

    @stage(name="dies")
    async def dies(state: OrderState, earlier: Seen) -> None:
        seen.append((dict(earlier), state.attempts, [line.end_status for line in state.history]))
        if not image:
            image.append(disk.copy())
            raise ConnectionError

    plan = pipeline("orders", [extract, dies])
    with pytest.raises(ConnectionError):
        played(lambda: plan(OrderState(order_id=1)))
    global disk
    disk = image[0]
    ended = played(lambda: plan(OrderState(order_id=1)))
    assert seen[0][0] == seen[1][0]
    if seen[1][1] == 2:  # its start had become durable
        assert seen[1][2] == [Status.CRASHED]
        assert ended.history[1].begin_status is Status.CRASHED
        assert ended.history[0].message == "crashed"


def test_a_reader_sees_every_stage_also_those_not_begun() -> None:
    broken.add("validate")
    with pytest.raises(ValueError, match="not valid"):
        played(lambda: orders(OrderState(order_id=4)))
    read = states()
    assert list(read) == ["extract", "check.all", "Charge", "ship"]
    assert len(read) == 4
    assert {name: state.status for name, state in read.items()} == {
        "extract": Status.COMPLETED,
        "check.all": Status.FAILED,
        "Charge": Status.CANCELLED,
        "ship": Status.UNBOUND,
    }
    assert (read["ship"].attempts, read["ship"].history, read["ship"].stage_name) == (0, [], "ship")
    assert read["check.all"].history[0].message == "ValueError: not valid"
    assert read["extract"].result == Report(rows=4)


def test_a_reader_says_which_action_where_a_run_has_several_of_a_pipeline() -> None:
    @task(name="twice")
    async def twice() -> None:
        await orders(OrderState(order_id=1))
        await orders(OrderState(order_id=2))

    played(twice)
    found = memory_store(disk).state_sync("it")
    with pytest.raises(InvalidPipeline, match="2 actions of it; say which"):
        stage_states(found, orders)
    assert found.root is not None
    read = [stage_states(found, orders, action=name)["extract"] for name in found.root.children]
    assert [state.result for state in read] == [Report(rows=1), Report(rows=2)]
    with pytest.raises(InvalidPipeline, match="no action of it named nobody"):
        stage_states(found, orders, action="nobody")
    with pytest.raises(InvalidPipeline, match="did not make it"):
        stage_states(found, twice)  # type: ignore[arg-type, type-var]


def test_a_reader_is_told_where_a_state_was_too_large_to_be_read_with_the_run() -> None:
    @stage(name="large")
    async def large(state: OrderState, earlier: Seen) -> None:
        state.notes = ["x" * 100_000]

    plan = pipeline("orders", [large, validate])
    played(lambda: plan(OrderState(order_id=1)))
    read = stage_states(memory_store(disk).state_sync("it"), plan)
    assert read["check.all"].status is Status.COMPLETED
    with pytest.raises(LargeState):
        read["large"]


# as tasks


def test_a_pipeline_runs_outside_a_run_and_from_plain_code() -> None:
    assert orders.sync(OrderState(order_id=4)).result == Report(rows=3)
    assert asyncio.run(orders(OrderState(order_id=4))).notes == ["Rome"]


def test_pipelines_nest_in_stages_and_tasks() -> None:
    @stage(name="inner")
    async def inner(state: OrderState, earlier: Seen) -> Report | None:
        return (await orders(OrderState(order_id=state.order_id))).result

    outer = pipeline("outer", [inner])

    @task(name="all")
    async def all_of() -> list[int]:
        done = await asyncio.gather(*(outer(OrderState(order_id=number)) for number in (2, 3)))
        return [state.result.rows for state in done if state.result is not None]

    assert played(all_of) == [3, 3]
    assert played(all_of) == [3, 3]
    assert did.count("extract") == 2


def test_a_timeout_of_a_stage_is_one_of_its_executions_and_in_its_history() -> None:
    @stage(name="slow", timeout=0.01)
    async def slow(state: OrderState, earlier: Seen) -> None:
        if ctx().attempt_number == 0:
            await asyncio.Event().wait()

    plan = pipeline("plan", [slow], retry_policy=RetryPolicy.STAGE, max_attempts=2)
    told = "TaskTimedOut: plan/slow: attempt timeout of 0.01 s passed (attempt 0)"
    for ended in (played(lambda: plan(OrderState(order_id=1))), plan.sync(OrderState(order_id=1))):
        assert [(line.end_status, line.message) for line in ended.history] == [(Status.TIMED_OUT, told), (Status.COMPLETED, "completed")]
    with pytest.raises(TaskTimedOut):
        plan.with_options(timeout=0.001).sync(OrderState(order_id=1))


def test_on_crash_fail_of_a_stage_holds() -> None:
    image: list[MemoryDisk] = []

    @stage(name="once", on_crash="fail")
    async def once(state: OrderState, earlier: Seen) -> None:
        image.append(disk.copy())

    plan = pipeline("plan", [once], retry_policy=RetryPolicy.STAGE, max_attempts=3)
    played(lambda: plan(OrderState(order_id=1)))
    global disk
    disk = image[0]
    with pytest.raises(OutcomeUnknown):
        played(lambda: plan(OrderState(order_id=1)))
    assert len(image) == 1


def test_what_context_keys_say_counts_for_a_stage() -> None:
    @stage(name="knows", context_keys=())
    async def knows(state: OrderState, earlier: Seen) -> None:
        did.append(("knows", ctx().custom_context["tenant"]))

    plan = pipeline("plan", [knows, extract]).with_options(context_keys=())

    @task(name="each", retries=Retry(2, initial_interval=0))
    async def each() -> None:
        with custom_context(tenant=str(ctx().attempt_number)):
            await plan(OrderState(order_id=1))
        if ctx().attempt_number == 0:
            raise ConnectionError

    played(each)
    assert did == [("knows", "0"), "extract"], "the pipeline itself is answered from record"


travels = pipeline("travels", [extract, validate])


def test_an_order_of_a_stage_travels_by_the_name_of_its_task() -> None:
    planned: Any = travels.plan.planned["check.all"]  # type: ignore[attr-defined]
    order = planned.task(OrderState(order_id=1), {}).take()
    assert pickle.loads(pickle.dumps(order)).definition is planned.definition
    assert pickle.loads(pickle.dumps(travels(OrderState(order_id=1)).take())).definition is travels.definition
    renamed = travels.with_options(name="other")
    assert pickle.loads(pickle.dumps(renamed)).name == "other"


def test_a_pipeline_is_a_coroutine_function_that_says_where_it_was_made() -> None:
    assert inspect.iscoroutinefunction(orders)
    assert list(inspect.signature(orders).parameters) == ["state"]
    assert orders.__code__.co_filename == __file__
    assert orders.__name__ == "orders"


def test_two_pipelines_of_one_name_in_a_run_are_refused() -> None:
    other = pipeline("orders", [extract])

    @task(name="both of them")
    async def both() -> None:
        await orders(OrderState(order_id=1))
        await other(OrderState(order_id=1))

    with pytest.raises(DuplicateTask, match=r"test_pipelines\.py"):
        played(both)
