"""The newest valid result of a task, among all runs of a store: what a later run takes where it is given nothing."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from holdfast import Status, TaskResult, ctx, run, task
from holdfast.codec import codec_for
from holdfast.errors import InvalidOption, JournalDamaged, UnrecordableResult
from holdfast.events import ActionAsked, ActionEnded, AttemptEnded, AttemptStarted, Event
from holdfast.folders.memory import MemoryDisk
from holdfast.latest import Wanted, valid
from holdfast.states import Fold
from holdfast.testing import Clock, bucket_store, memory_store
from holdfast.testing.stores import ROOT

disk = MemoryDisk()


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()


class Calibration(BaseModel):
    gain: float


class Strange:
    """Nothing that can be recorded."""


@task
async def calibrate(gain: float, schemas: str = "") -> Calibration:
    if schemas:
        ctx().implements(schemas)
    if gain < 0:
        ctx().summary("no")
        raise ValueError("no gain")
    return Calibration(gain=gain)


@task
async def measure(gain: float) -> float:
    return (await calibrate(gain)).gain


@task
async def fails_later(gain: float) -> None:
    await calibrate(gain)
    raise ValueError("later")


@task
async def other() -> int:
    return 1


@task
async def uses() -> None:
    async def newest() -> float | None:
        latest = await memory_store(disk).latest_result(calibrate)
        return latest.payload.gain if latest is not None and latest.payload is not None else None

    ctx().summary(f"gain {await ctx().record(newest)}")
    raise ValueError("after that")


@task
async def undo() -> None: ...


@task
async def undoable(gain: float) -> Calibration:
    await ctx().on_rollback(undo)
    return await calibrate(gain)


def ran(call: Any, name: str, **options: Any) -> None:
    with suppress(ValueError):
        asyncio.run(run(call, run_name=name, store=memory_store(disk), **options))


def gain(**options: Any) -> float | None:
    latest = memory_store(disk).latest_result_sync(calibrate, **options)
    return latest.payload.gain if latest is not None and latest.payload is not None else None


# which


def test_an_empty_store_has_none() -> None:
    assert gain() is None
    assert memory_store(disk).latest_result_sync("calibrate") is None


def test_it_is_the_one_that_ended_last_whatever_its_run_is_called() -> None:
    ran(calibrate(1.0), "z")
    ran(calibrate(2.0), "a")
    assert gain() == 2.0
    ran(measure(3.0), "m")
    assert gain() == 3.0


def test_an_inner_action_counts_as_a_root_does_also_where_its_run_failed_later() -> None:
    ran(fails_later(4.0), "a")
    assert gain() == 4.0


def test_a_failed_one_is_passed_over() -> None:
    ran(calibrate(1.0), "a")
    ran(calibrate(-1.0), "b")
    assert gain() == 1.0


def test_only_the_newest_incarnation_of_a_run_counts() -> None:
    ran(calibrate(1.0), "a")
    ran(calibrate(2.0), "a", resume="restart")
    assert gain() == 2.0
    ran(other(), "a", resume="restart")
    assert gain() is None


def test_one_that_was_rolled_back_is_passed_over_with_all_below_it() -> None:
    ran(calibrate(1.0), "a")
    ran(undoable(2.0), "b")
    assert gain() == 2.0
    memory_store(disk).rollback_sync("b")
    assert gain() == 1.0
    assert memory_store(disk).latest_result_sync(undoable) is None


def test_runs_in_which_the_task_never_occurs_do_not_matter() -> None:
    ran(calibrate(1.0), "a")
    ran(other(), "b")
    assert gain() == 1.0


def test_a_task_whose_name_is_part_of_anothers_is_not_mistaken_for_it() -> None:
    @task(name="calibrate")
    async def short() -> int:
        return 1

    ran(calibrate(1.0), "a")
    assert memory_store(disk).latest_result_sync(short) is None
    ran(short(), "b")
    assert memory_store(disk).latest_result_sync("calibrate") is not None


@pytest.mark.parametrize("name", ["kalibrieren für Ångström", 'a "quoted" task', "back\\slash", "tab\there", "日本語"])
def test_a_task_is_found_whatever_its_name_is(name: str) -> None:
    named = other.with_options(name=name)
    ran(named(), "a")
    found = memory_store(disk).latest_result_sync(name)
    assert found is not None
    assert found.payload == 1
    assert memory_store(disk).latest_result_sync(named) == found


def test_clocks_decide_which_is_newest() -> None:
    with Clock(datetime(2033, 1, 1, tzinfo=UTC)).use():
        ran(calibrate(1.0), "ahead")
    ran(calibrate(2.0), "now")
    assert gain() == 1.0


# with a schema


def test_with_a_schema_only_what_follows_it_counts() -> None:
    ran(calibrate(1.0, "gain;linear"), "a")
    ran(calibrate(2.0, "gain"), "b")
    ran(calibrate(3.0), "c")
    assert (gain(), gain(schema="gain"), gain(schema=" linear "), gain(schema="quadratic")) == (3.0, 2.0, 1.0, None)


@pytest.mark.parametrize("schema", ["", "a;b", 3])
def test_one_schema_is_asked_for(schema: Any) -> None:
    with pytest.raises(InvalidOption):
        gain(schema=schema)


# as what


def test_a_task_gets_what_it_returns_and_a_name_gets_plain_data() -> None:
    ran(measure(1.5), "a")
    store = memory_store(disk)
    by_task, by_name = store.latest_result_sync(calibrate), store.latest_result_sync(calibrate.name)
    assert by_task is not None
    assert by_name is not None
    assert (by_task.payload, by_name.payload) == (Calibration(gain=1.5), {"gain": 1.5})
    assert (by_task.task_name, by_task.status) == (calibrate.name, Status.COMPLETED)


def test_one_that_the_task_no_longer_returns_is_passed_over_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    @task(name=calibrate.name)
    async def changed() -> int:
        return 7

    ran(changed(), "a")
    ran(calibrate(1.0), "b")
    ran(calibrate(2.0), "c")
    with caplog.at_level(logging.WARNING, "holdfast"):
        latest = memory_store(disk).latest_result_sync(changed)
    assert latest is not None
    assert latest.payload == 7
    assert ["'c'" in line or "'b'" in line for line in caplog.messages] == [True, True]


def test_an_older_one_of_the_same_run_is_taken_where_the_newest_can_not_be_read() -> None:
    @task(name="either")
    async def either(number: int) -> Any:
        return number if number < 2 else f"number {number}"

    @task(name="both")
    async def both() -> None:
        for number in range(4):
            await either(number)

    @task(name="either")
    async def only_numbers(number: int) -> int:
        return number

    ran(both(), "a")
    latest = memory_store(disk).latest_result_sync(only_numbers)
    assert latest is not None
    assert latest.payload == 1


def test_a_result_of_another_version_counts() -> None:
    ran(calibrate.with_options(version="1")(1.0), "a")
    latest = memory_store(disk).latest_result_sync(calibrate.with_options(version="2"))
    assert latest is not None
    assert latest.payload == Calibration(gain=1.0)


@pytest.mark.parametrize("given", [3, None, calibrate.fn])
def test_a_task_or_its_name_is_asked_for(given: Any) -> None:
    with pytest.raises(InvalidOption, match="task"):
        memory_store(disk).latest_result_sync(given)


def test_a_task_that_can_return_nothing_recordable_has_no_result_to_ask_for() -> None:
    @task(name="strange")
    async def strange() -> Strange:
        return Strange()

    with pytest.raises(UnrecordableResult):
        memory_store(disk).latest_result_sync(strange)


# for what


def test_it_is_the_default_input_of_a_later_run() -> None:
    @task(name="refine")
    async def refine(before: Calibration | None) -> Calibration:
        return Calibration(gain=before.gain * 2 if before is not None else 1.0)

    async def day(number: int) -> float:
        store = memory_store(disk)
        before: TaskResult[Calibration] | None = await store.latest_result(refine)
        return (await run(refine(before.payload if before is not None else None), run_name=f"day-{number}", store=store)).gain

    assert [asyncio.run(day(number)) for number in range(4)] == [1.0, 2.0, 4.0, 8.0]


def test_a_task_of_the_run_that_asks_gets_the_same_answer_however_often_the_run_goes_on() -> None:
    @task(name="newest gain")
    async def newest_gain() -> float:
        before = await memory_store(disk).latest_result(calibrate)
        return before.payload.gain if before is not None and before.payload is not None else 1.0

    @task(name="main")
    async def main() -> float:
        return (await calibrate(await newest_gain() * 2)).gain

    for _ in range(3):  # the second and third time the newest is the run's own
        assert asyncio.run(run(main(), run_name="monday", store=memory_store(disk))) == 2.0
    assert asyncio.run(run(main(), run_name="tuesday", store=memory_store(disk))) == 4.0


def test_a_body_that_asks_gets_the_same_answer_after_a_crash_by_recording_it() -> None:
    ran(calibrate(1.0), "a")
    ran(uses(), "u")
    ran(calibrate(2.0), "b")
    ran(uses(), "u")
    used = memory_store(disk).result_sync("u")
    assert (used.status, used.summary, used.attempts) == (Status.FAILED, "gain 1.0", 2)


# errors


def test_a_run_that_can_not_be_read_is_an_error_since_its_result_might_be_the_newest() -> None:
    ran(calibrate(1.0), "a")
    ran(calibrate(2.0), "b")
    store = memory_store(disk)
    (segment,) = asyncio.run(store.folder.list("runs/b/000000/journal"))
    asyncio.run(store.folder.put(f"runs/b/000000/journal/{segment.name}", b"no journal\n" * 20))
    with pytest.raises(JournalDamaged):
        gain()


def test_a_run_that_is_being_begun_is_passed_over() -> None:
    ran(calibrate(1.0), "a")
    for folder in (f"{ROOT}/runs/b", f"{ROOT}/runs/b/000000"):
        disk.make_folder(folder)
    assert gain() == 1.0


def test_many_runs_in_a_bucket_are_looked_at() -> None:
    store = bucket_store()

    async def many() -> tuple[float | None, float | None]:
        for number in range(12):
            await run(calibrate(float(number), "even" if number % 2 == 0 else ""), run_name=f"r{number}", store=store)
        every, even = await store.latest_result(calibrate), await store.latest_result(calibrate, schema="even")
        return every.payload.gain if every and every.payload else None, even.payload.gain if even and even.payload else None

    assert asyncio.run(many()) == (11.0, 10.0)


# what is valid


def begun(name: str, parent: str = "root") -> list[Event]:
    return [ActionAsked(action=name, at=1.0, parent=parent, task=name), AttemptStarted(action=name, at=1.0, number=0, epoch=1)]


def done(name: str, end: Status = Status.COMPLETED, then: Status | None = None, number: int = 0) -> list[Event]:
    return [AttemptEnded(action=name, at=2.0, number=number, status=end, then=then or end)]


def rolls(name: str, to: Status = Status.ROLLING_BACK, *remains: str) -> list[Event]:
    return [ActionEnded(action=name, at=3.0, then=to, remains=remains)]


ROOT_BEGUN = begun("root", "")
FAILED = Status.FAILED
VALID: dict[str, tuple[list[Event], bool]] = {
    "under way": ([*ROOT_BEGUN, *begun("t")], False),
    "COMPLETED": ([*ROOT_BEGUN, *begun("t"), *done("t")], True),
    "FAILED": ([*ROOT_BEGUN, *begun("t"), *done("t", FAILED)], False),
    "waits for a retry": ([*ROOT_BEGUN, *begun("t"), *done("t", FAILED, Status.RETRYING)], False),
    "COMPLETED at last": (
        [
            *ROOT_BEGUN,
            *begun("t"),
            *done("t", FAILED, Status.RETRYING),
            AttemptStarted(action="t", at=1.0, number=1, epoch=1),
            *done("t", number=1),
        ],
        True,
    ),
    "its parent FAILED": ([*ROOT_BEGUN, *begun("t"), *done("t"), *done("root", FAILED)], True),
    "asked anew": ([*ROOT_BEGUN, *begun("t"), *done("t"), ActionAsked(action="t", at=3.0, parent="root", task="t")], False),
    "rolled back": ([*ROOT_BEGUN, *begun("t"), *done("t"), *rolls("t"), *rolls("t", Status.ROLLED_BACK)], False),
    "being rolled back from above": ([*ROOT_BEGUN, *begun("t"), *done("t"), *done("root"), *rolls("root")], False),
    "being rolled back from far above": (
        [*ROOT_BEGUN, *begun("between"), *begun("t", "between"), *done("t"), *done("between"), *done("root"), *rolls("root")],
        False,
    ),
    "rolled back in part from above": (
        [*ROOT_BEGUN, *begun("t"), *done("t"), *done("root"), *rolls("root"), *rolls("root", FAILED, "what remains")],
        False,
    ),
    "its sibling is rolled back": ([*ROOT_BEGUN, *begun("s"), *begun("t"), *done("s"), *done("t"), *rolls("s")], True),
}


@pytest.mark.parametrize("case", VALID)
def test_valid_is_what_COMPLETED_and_was_not_rolled_back(case: str) -> None:
    events, is_valid = VALID[case]
    fold = Fold.of(events)
    assert bool(valid(fold, Wanted("t", codec_for(Any, task="t"), ""))) is is_valid
