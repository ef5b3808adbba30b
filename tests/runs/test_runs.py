"""Runs under their names: begun, gone on with, refused, stopped, cancelled, and read while they live elsewhere."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from turns import until

from holdfast import Status, Store, ctx, custom_context, get_custom_context, run, run_sync, start, task
from holdfast.errors import (
    BlobCorrupt,
    InputsChanged,
    RemoteFailure,
    ResultIncompatible,
    RunBusy,
    RunCancelled,
    RunExists,
    RunNotFound,
    RunStopped,
    StoreFull,
    Unrebuildable,
    UnrecordableResult,
)
from holdfast.events import AttemptEnded
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.faults import FullDisk
from holdfast.testing.stores import memory_store

disk = MemoryDisk()
did: list[Any] = []
gate = asyncio.Event()


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk, gate
    disk, gate = MemoryDisk(), asyncio.Event()
    did.clear()


@task
async def step(number: int) -> int:
    did.append(number)
    return number


@task
async def adds(a: int, b: int = 0) -> int:
    return await step(a) + await step(b)


@task
async def waits() -> str:
    await step(1)
    did.append("waits")
    await gate.wait()
    return "done"


@task
async def fails() -> None:
    await step(1)
    did.append("fails")
    raise LookupError("not there")


# beginning and going on


def test_a_COMPLETED_run_gives_its_result_from_record() -> None:
    assert asyncio.run(run(adds(1, 2), run_name="it", store=memory_store(disk))) == 3
    assert asyncio.run(run(adds(1, 2), run_name="it", store=memory_store(disk))) == 3
    assert did == [1, 2]


def test_run_sync_runs_from_plain_code() -> None:
    assert run_sync(adds(1, 2), run_name="it", store=memory_store(disk)) == 3
    assert run_sync(adds(1, 2), run_name="it", store=memory_store(disk)) == 3
    assert did == [1, 2]


def test_run_sync_runs_where_a_loop_is_at_work() -> None:
    async def main() -> int:
        return run_sync(adds(1, 2), run_name="it", store=memory_store(disk))

    assert asyncio.run(main()) == 3


def test_never_refuses_an_existing_run_and_must_a_missing_one() -> None:
    with pytest.raises(RunNotFound):
        asyncio.run(run(adds(1), run_name="it", store=memory_store(disk), resume="must"))
    asyncio.run(run(adds(1), run_name="it", store=memory_store(disk), resume="never"))
    with pytest.raises(RunExists):
        asyncio.run(run(adds(1), run_name="it", store=memory_store(disk), resume="never"))
    assert asyncio.run(run(adds(1), run_name="it", store=memory_store(disk), resume="must")) == 1
    assert did == [1, 0]


def test_restart_begins_a_new_incarnation_beside_the_old_one_also_with_other_inputs() -> None:
    asyncio.run(run(adds(1), run_name="it", store=memory_store(disk)))
    assert asyncio.run(run(adds(2), run_name="it", store=memory_store(disk), resume="restart")) == 2
    assert did == [1, 0, 2, 0]
    assert asyncio.run(run(adds(2), run_name="it", store=memory_store(disk))) == 2, "the newest incarnation is the run"
    assert {entry.name for entry in disk.scan("/store/runs/it")} == {"000000", "000001"}


@pytest.mark.parametrize(
    ("call", "options", "what"),
    [
        (lambda: adds(2), {}, "argument a"),
        (lambda: step(1), {}, "task"),
        (lambda: adds(1), {"custom_context": {"tenant": "b"}}, "custom context tenant"),
        (lambda: adds(1), {"custom_context": {"tenant": "a", "more": "x"}}, "custom context more"),
    ],
    ids=["inputs", "task", "context", "more context"],
)
def test_another_call_under_a_name_is_refused_and_told_what_differs(call: Any, options: dict[str, Any], what: str) -> None:
    asyncio.run(run(adds(1), run_name="it", store=memory_store(disk), custom_context={"tenant": "a"}))
    with pytest.raises(InputsChanged) as caught:
        asyncio.run(run(call(), run_name="it", store=memory_store(disk), **options))
    assert caught.value.what == what


@task
async def tells_context() -> dict[str, str]:
    did.append(dict(get_custom_context()))
    if len(did) == 1:
        raise ConnectionError("the first time")
    return dict(get_custom_context())


def test_run_context_that_is_left_out_is_restored() -> None:
    with pytest.raises(ConnectionError):
        asyncio.run(run(tells_context(), run_name="it", store=memory_store(disk), custom_context={"tenant": "a"}))
    assert asyncio.run(run(tells_context(), run_name="it", store=memory_store(disk))) == {"tenant": "a"}


def test_trace_keys_are_not_compared() -> None:
    for trace in ("one", "two"):
        with custom_context(traceparent=trace):
            asyncio.run(run(adds(1), run_name="it", store=memory_store(disk)))
    assert did == [1, 0]


def test_a_FAILED_run_asks_its_root_anew_and_reuses_what_completed() -> None:
    for _ in range(2):
        with pytest.raises(LookupError, match="not there"):
            asyncio.run(run(fails(), run_name="it", store=memory_store(disk)))
    assert did == [1, "fails", "fails"]
    root = memory_store(disk).state_sync("it").root
    assert root is not None
    assert [a.number for a in root.attempts] == [0, 1]


# names and the line in the log


def test_a_run_without_a_name_gets_one_that_is_readable_sortable_and_unique() -> None:
    for _ in range(3):
        asyncio.run(run(adds(1), store=memory_store(disk)))
    names = [summary.run_name for summary in memory_store(disk).runs_sync()]
    assert len(set(names)) == 3
    assert all("adds" in name and name[:8].isdigit() for name in names)


def test_one_line_in_the_log_says_store_name_and_how_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="holdfast")
    for call in (fails, fails):
        with pytest.raises(LookupError):
            asyncio.run(run(call(), run_name="it", store=memory_store(disk)))
    asyncio.run(run(adds(1), run_name="other", store=memory_store(disk)))
    asyncio.run(run(adds(1), run_name="other", store=memory_store(disk)))
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert all(line.startswith(f"run {name!r} in memory:") for line, name in zip(lines, ("it", "it", "other", "other"), strict=True))
    assert [line.rpartition(": ")[2].partition(",")[0] for line in lines] == ["new", "continued", "new", "from record"]


def test_a_run_without_a_name_mentions_unfinished_runs_of_the_same_call(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="holdfast")
    for _ in range(2):
        with pytest.raises(LookupError):
            asyncio.run(run(fails(), store=memory_store(disk)))
    asyncio.run(run(adds(1), store=memory_store(disk)))
    asyncio.run(run(adds(1), store=memory_store(disk)))
    first, second, third, fourth = (record.getMessage() for record in caplog.records if record.levelno == logging.INFO)
    assert "unfinished" not in first
    name = sorted(summary.run_name for summary in memory_store(disk).runs_sync() if "fails" in summary.run_name)
    assert "unfinished runs of the same call" in second
    assert any(repr(each) in second for each in name)
    assert "unfinished" not in third + fourth, "other calls, and COMPLETED runs, are no business of this one"


# handles


def test_a_handle_waits_at_the_end_of_its_block() -> None:
    async def main() -> None:
        async with await start(adds(1, 2), run_name="it", store=memory_store(disk)) as handle:
            assert handle.run_name == "it"
        assert handle.status is Status.COMPLETED
        assert await handle.result() == 3

    asyncio.run(main())


def test_a_handle_cancels_when_its_block_raised() -> None:
    async def main() -> None:
        handle = await start(waits(), run_name="it", store=memory_store(disk))
        with suppress(KeyError):
            async with handle:
                await until(lambda: "waits" in did)
                raise KeyError("in the block")
        with pytest.raises(RunCancelled):
            await handle.result()
        assert handle.status is Status.CANCELLED

    asyncio.run(main())
    assert memory_store(disk).state_sync("it").status is Status.CANCELLED
    gate.set()
    assert asyncio.run(run(waits(), run_name="it", store=memory_store(disk))) == "done"
    assert did == [1, "waits", "waits"]


def test_a_handle_stops_its_run_and_the_same_line_goes_on() -> None:
    async def main() -> None:
        handle = await start(waits(), run_name="it", store=memory_store(disk))
        await until(lambda: "waits" in did)
        assert handle.status is Status.RUNNING
        await handle.stop()
        with pytest.raises(RunStopped, match="run the same line again"):
            await handle.result()
        assert handle.status is Status.STOPPED

    asyncio.run(main())
    gate.set()
    assert asyncio.run(run(waits(), run_name="it", store=memory_store(disk))) == "done"
    assert did == [1, "waits", "waits"]


def test_a_handles_events_end_with_the_run() -> None:
    async def main() -> list[str]:
        handle = await start(adds(1, 2), run_name="it", store=memory_store(disk))
        return [event.status.value async for event in handle.events() if isinstance(event, AttemptEnded)]

    assert asyncio.run(main()) == ["COMPLETED"] * 3


def test_who_waits_for_a_handles_result_can_be_cancelled_without_harm() -> None:
    async def main() -> str:
        handle = await start(waits(), run_name="it", store=memory_store(disk))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.result(), 0.01)
        gate.set()
        return await handle.result()

    assert asyncio.run(main()) == "done"


def test_cancelling_whoever_awaits_run_stops_it_and_stays_CancelledError() -> None:
    async def main() -> None:
        running = asyncio.create_task(run(waits(), run_name="it", store=memory_store(disk)))
        await until(lambda: "waits" in did)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert memory_store(disk).state_sync("it").status is Status.STOPPED


def test_two_owners_in_one_process_are_refused_by_name_and_process() -> None:
    async def main() -> None:
        async with await start(waits(), run_name="it", store=memory_store(disk)):
            await until(lambda: "waits" in did)
            with pytest.raises(RunBusy, match="takeover"):
                await run(waits(), run_name="it", store=memory_store(disk))
            gate.set()

    asyncio.run(main())


# the store, from elsewhere


OWNER = """
    import asyncio, sys
    from holdfast import run, task

    @task(name="step")
    async def step() -> int:
        return 1

    @task(name="waits")
    async def waits() -> None:
        await step()
        print("ready", flush=True)
        await asyncio.Event().wait()

    try:
        asyncio.run(run(waits(), run_name="it", store=sys.argv[1]))
    except BaseException as error:
        print(type(error).__name__, flush=True)
"""


@pytest.mark.parametrize(
    ("verb", "raised", "status"), [("stop", "RunStopped", Status.STOPPED), ("cancel", "RunCancelled", Status.CANCELLED)]
)
def test_a_run_in_another_process_is_read_and_steered_through_the_store(verb: str, raised: str, status: Status, tmp_path: Path) -> None:
    place = tmp_path / "store"
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(OWNER), str(place)], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        store = Store(place)
        state = store.state_sync("it")
        assert (state.status, state.owner) == (Status.RUNNING, "live")
        assert [summary.status for summary in store.runs_sync()] == [Status.RUNNING]
        (place / "runs/it/000000/inbox/_control").mkdir(parents=True)
        (place / "runs/it/000000/inbox/_control/0.json").write_bytes(b"no control at all")
        getattr(store, f"{verb}_sync")("it")
        assert owner.communicate(timeout=60)[0] == f"{raised}\n"
        assert store.state_sync("it").status is status
    finally:
        owner.kill()
        owner.communicate()


def test_a_run_whose_process_was_killed_is_shown_as_CRASHED_and_cancelled_here(tmp_path: Path) -> None:
    place = tmp_path / "store"
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(OWNER), str(place)], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    owner.kill()
    owner.communicate()
    store = Store(place)
    state = store.state_sync("it")
    assert (state.status, state.owner) == (Status.CRASHED, "gone")
    store.stop_sync("it")
    assert store.state_sync("it").status is Status.CRASHED, "nobody is there to be stopped"
    store.cancel_sync("it")
    state = store.state_sync("it")
    assert state.status is Status.CANCELLED
    assert {a.task_name: a.status for a in state.actions.values()} == {"waits": Status.CANCELLED, "step": Status.COMPLETED}


def test_a_run_whose_process_ended_before_its_root_was_on_record_can_be_cancelled() -> None:
    asyncio.run(run(adds(1), run_name="it", store=memory_store(disk)))
    asyncio.run(memory_store(disk).folder.delete_tree("runs/it/000000/journal"))
    memory_store(disk).cancel_sync("it")
    assert memory_store(disk).state_sync("it").status is Status.CANCELLED


def test_cancelling_a_run_that_ended_changes_nothing() -> None:
    asyncio.run(run(adds(1), run_name="it", store=memory_store(disk)))
    memory_store(disk).cancel_sync("it")
    assert memory_store(disk).state_sync("it").status is Status.COMPLETED
    with pytest.raises(RunNotFound):
        memory_store(disk).cancel_sync("no-such-run")


def test_a_disk_that_is_full_fails_the_run_and_with_space_it_goes_on() -> None:
    full = FullDisk(disk, after_bytes=3_000)

    async def main() -> Any:
        return await run(many_steps(), run_name="it", store=memory_store(full))

    with pytest.raises(StoreFull):
        asyncio.run(main())
    before = len(did)
    full.free()
    assert asyncio.run(main()) == 200
    assert len(did) <= 200 + 1, "what was recorded is not run again"
    assert before < 200


@task
async def many_steps() -> int:
    for n in range(200):
        await step(n)
    return 200


# results


@dataclass
class Report:
    rows: list[int]
    name: str


@task
async def gives_report() -> Report:
    did.append("report")
    return Report(list(range(50_000)), "large")


@task
async def gives_array() -> np.ndarray:
    did.append("array")
    return np.arange(100_000)


@task
async def gives_frame() -> pd.DataFrame:
    did.append("frame")
    return pd.DataFrame({"a": range(20_000), "b": ["x"] * 20_000})


@task
async def gives_nothing() -> None:
    did.append("nothing")


@pytest.mark.parametrize("body", [gives_report, gives_array, gives_frame, gives_nothing], ids=lambda body: body.__name__)
def test_results_of_every_size_come_back_from_record(body: Any) -> None:
    first = asyncio.run(run(body(), run_name="it", store=memory_store(disk)))
    again = asyncio.run(run(body(), run_name="it", store=memory_store(disk)))
    assert len(did) == 1
    assert type(again) is type(first)
    if isinstance(first, pd.DataFrame):
        pd.testing.assert_frame_equal(first, again)
    else:
        np.testing.assert_equal(again, first)


def blobs(below: str = "/store/blobs") -> list[str]:
    return [f"{below}/{folder.name}/{entry.name}" for folder in disk.scan(below) for entry in disk.scan(f"{below}/{folder.name}")]


@pytest.mark.parametrize("how", ["flipped", "gone"])
@pytest.mark.parametrize("body", [gives_report, gives_array], ids=lambda body: body.__name__)
def test_a_large_result_that_is_damaged_is_never_believed(body: Any, how: str) -> None:
    asyncio.run(run(body(), run_name="it", store=memory_store(disk)))
    for path in blobs():
        if how == "gone":
            disk.unlink(path)
        else:
            disk.overwrite(path, disk.read(path)[:-1] + b"?")
    with pytest.raises(BlobCorrupt):
        asyncio.run(run(body(), run_name="it", store=memory_store(disk)))
    assert len(did) == 1


def test_a_recorded_result_that_the_code_no_longer_allows_is_refused() -> None:
    @task(name="changes")
    async def before() -> str:
        return "text"

    @task(name="changes")
    async def after() -> int:
        return 1

    asyncio.run(run(before(), run_name="it", store=memory_store(disk)))
    with pytest.raises(ResultIncompatible, match="version="):
        asyncio.run(run(after(), run_name="it", store=memory_store(disk)))


@task
async def cannot_be_recorded() -> Callable[[], int]:
    did.append("ran")
    return lambda: 1


def test_an_annotation_that_cannot_be_recorded_is_refused_before_the_body() -> None:
    with pytest.raises(UnrecordableResult):
        asyncio.run(run(cannot_be_recorded(), run_name="it", store=memory_store(disk)))
    assert did == []


class Odd(Exception):
    """Its __init__ takes what args don't say."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.hint = hint


class Local(Exception):
    pass


def the_error(kind: str) -> Exception:
    if kind == "group":
        return ExceptionGroup("several", [ValueError("one"), KeyError("two")])
    if kind == "odd":
        return Odd(7, hint="look there")
    if kind == "local":

        class Hidden(Exception):
            pass

        return Hidden("nobody can import it")
    error = Local("outer")
    error.__cause__ = ValueError("inner")
    error.add_note("a note")
    return error


@task
async def fails_as(kind: str) -> None:
    did.append(kind)
    raise the_error(kind)


@task
async def handles(kind: str) -> str:
    try:
        await fails_as(kind)
    except Exception as error:
        did.append(error)
        await ctx().now()
        images.append(disk.copy())
        return type(error).__name__
    return "no error"


images: list[MemoryDisk] = []


def replayed(kind: str) -> BaseException:
    """The failure as a resumed parent sees it."""
    images.clear()
    asyncio.run(run(handles(kind), run_name="it", store=memory_store(disk)))
    did.clear()
    asyncio.run(run(handles(kind), run_name="it", store=memory_store(images[0])))
    (error,) = did
    assert isinstance(error, BaseException)
    return error


def test_a_recorded_failure_is_rebuilt_with_its_cause_and_notes() -> None:
    error = replayed("plain")
    assert (type(error), str(error)) == (Local, "outer")
    assert isinstance(error.__cause__, ValueError)
    assert "a note" in error.__notes__


def test_a_group_of_failures_is_rebuilt() -> None:
    error = replayed("group")
    assert isinstance(error, ExceptionGroup)
    assert [type(each) for each in error.exceptions] == [ValueError, KeyError]


def test_a_failure_with_an_odd_init_is_rebuilt_or_told() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = replayed("odd")
    if isinstance(error, Odd):
        assert (str(error), error.code, error.hint) == ("code 7", 7, "look there")
    else:
        assert isinstance(error, RemoteFailure)
        assert any(issubclass(each.category, Unrebuildable) for each in caught)


def test_a_failure_that_cannot_be_rebuilt_is_a_RemoteFailure_and_warns_when_it_is_recorded() -> None:
    with pytest.warns(Unrebuildable, match="Hidden"):
        error = replayed("local")
    assert isinstance(error, RemoteFailure)
    assert "nobody can import it" in str(error)
