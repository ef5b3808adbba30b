"""What came of a task: one record for every status, read from the store, whoever ran it and wherever it lies."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from holdfast import (
    DescribedRun,
    Message,
    MessageType,
    Retry,
    Status,
    Store,
    TaskResult,
    Timeout,
    ctx,
    custom_context,
    group,
    run,
    start,
    task,
)
from holdfast.errors import ActionNotFound, BlobCorrupt, BlockingCall, HoldfastError, RunNotFound
from holdfast.events import ActionAsked, AttemptEnded, AttemptStarted, Event, FigureSaved
from holdfast.folders.memory import MemoryDisk
from holdfast.results import result_of
from holdfast.states import Fold
from holdfast.testing import MemoryBucket, bucket_store, memory_store
from holdfast.views import LargeValue, OpaqueValue

LARGE = "x" * 200_000

disk = MemoryDisk()
begun = asyncio.Event()


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk, begun
    disk, begun = MemoryDisk(), asyncio.Event()


class Peaks(BaseModel):
    count: int
    places: list[float] = []


@task
async def find(count: int) -> Peaks:
    ctx().summary(f"{count} peaks")
    ctx().implements("peaks")
    return Peaks(count=count)


@task
async def main(count: int) -> Peaks:
    found = await find(count)
    ctx().summary("all found")
    return found


@task
async def large() -> str:
    return LARGE


@task
async def fails() -> None:
    ctx().summary("so far")
    raise ValueError("no")


@task(timeout=Timeout(attempt=0.01))
async def hangs() -> None:
    await asyncio.Event().wait()


@task
async def waits() -> None:
    ctx().summary("waiting")
    begun.set()
    await asyncio.Event().wait()


def ran(call: Any, **options: Any) -> TaskResult[Any]:
    with suppress(ValueError, TimeoutError, HoldfastError):
        asyncio.run(run(call, run_name="it", store=memory_store(disk), **options))
    return memory_store(disk).result_sync("it")


# every status


def test_a_COMPLETED_run_gives_its_payload_by_value() -> None:
    result = ran(main(3))
    assert (result.task_name, result.status, result.summary, result.payload) == (
        main.name,
        Status.COMPLETED,
        "all found",
        {"count": 3, "places": []},
    )
    assert (result.attempts, result.is_complete, result.messages, result.figures, result.cost) == (1, True, [], [], Decimal(0))
    assert result.started_at is not None
    assert result.ended_at is not None
    assert timedelta() <= result.ended_at - result.started_at < timedelta(minutes=1)
    assert result.started_at.tzinfo is UTC


def test_a_FAILED_run_has_a_result_without_a_payload() -> None:
    result = ran(fails.with_options(retries=Retry(3, initial_interval=0))())
    assert (result.status, result.payload, result.summary, result.attempts, result.is_complete) == (Status.FAILED, None, "so far", 3, False)
    assert result.ended_at is not None


def test_a_run_that_TIMED_OUT_says_so() -> None:
    result = ran(hangs())
    assert (result.status, result.is_complete, result.attempts) == (Status.TIMED_OUT, False, 1)


@pytest.mark.parametrize(("verb", "status"), [("stop", Status.STOPPED), ("cancel", Status.CANCELLED)])
def test_a_run_that_was_ended_says_how_and_keeps_its_summary(verb: str, status: Status) -> None:
    async def ended_early() -> TaskResult[Any]:
        store = memory_store(disk)
        handle = await start(waits(), run_name="it", store=store)
        await begun.wait()
        under_way = await store.result("it")
        assert (under_way.status, under_way.summary, under_way.ended_at, under_way.attempts) == (Status.RUNNING, "", None, 1)
        await getattr(handle, verb)()
        return await store.result("it")

    result = asyncio.run(ended_early())
    assert (result.status, result.summary, result.payload) == (status, "waiting", None)
    assert result.ended_at is not None


def test_a_killed_run_is_shown_as_CRASHED_without_an_end_and_without_a_summary(tmp_path: Path) -> None:
    program = """
        import asyncio, os, signal, sys
        from holdfast import ctx, run, task

        @task(name="killed")
        async def killed() -> None:
            ctx().summary("never on record")
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(run(killed(), run_name="it", store=sys.argv[1]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], check=False, capture_output=True)
    assert done.returncode < 0
    result = Store(tmp_path).result_sync("it")
    assert (result.task_name, result.status, result.summary, result.attempts) == ("killed", Status.CRASHED, "", 1)
    assert result.started_at is not None
    assert result.ended_at is None


def test_a_run_whose_root_is_not_on_record_has_a_result() -> None:
    asyncio.run(run(main(3), run_name="it", store=memory_store(disk)))
    store = memory_store(disk)
    for entry in asyncio.run(store.folder.list("runs/it/000000/journal")):
        asyncio.run(store.folder.delete(f"runs/it/000000/journal/{entry.name}"))
    result = store.result_sync("it")
    assert (result.task_name, result.status, result.attempts, result.started_at) == (main.name, Status.CRASHED, 0, None)


def test_a_run_that_was_rolled_back_has_no_payload() -> None:
    asyncio.run(run(main(3), run_name="it", store=memory_store(disk)))
    store = memory_store(disk)
    store.rollback_sync("it")
    result = store.result_sync("it")
    assert (result.status, result.payload, result.is_complete) == (Status.ROLLED_BACK, None, False)


def test_the_newest_incarnation_is_the_run() -> None:
    ran(main(3))
    assert ran(main(4), resume="restart").payload == {"count": 4, "places": []}


def test_a_run_that_goes_on_counts_all_its_attempts_from_the_first_on() -> None:
    first, second = ran(fails()), ran(fails())
    assert (first.attempts, second.attempts, second.started_at) == (1, 2, first.started_at)


# inner actions


def test_every_action_of_a_run_has_a_result() -> None:
    ran(main(3))
    store = memory_store(disk)
    results = {action.task_name: store.result_sync("it", action=name) for name, action in store.state_sync("it").actions.items()}
    assert results[find.name].summary == "3 peaks"
    assert results[find.name].schemas == ["peaks"]
    assert results[main.name] == store.result_sync("it")


def test_an_action_that_is_not_on_record_is_an_error() -> None:
    ran(main(3))
    with pytest.raises(ActionNotFound, match="aaaa") as refused:
        memory_store(disk).result_sync("it", action="aaaa")
    assert isinstance(refused.value, LookupError)


def test_a_run_that_does_not_exist_is_an_error() -> None:
    for read in (memory_store(disk).result_sync, memory_store(disk).describe_sync):
        with pytest.raises(RunNotFound):
            read("it")


# where it lies


def stores(tmp_path: Path) -> dict[str, Callable[[], Store]]:
    bucket = MemoryBucket()
    return {
        "memory": lambda: memory_store(disk),
        "bucket": lambda: bucket_store(bucket=bucket),
        "disk": lambda: Store(tmp_path / "plain"),
        "encrypted": lambda: Store(tmp_path / "secret", encryption_key=bytes(range(32))),
    }


@pytest.mark.parametrize("kind", ["memory", "bucket", "disk", "encrypted"])
def test_a_large_payload_is_read_from_every_kind_of_store(tmp_path: Path, kind: str) -> None:
    opened = stores(tmp_path)[kind]

    async def there_and_back() -> tuple[Any, Any, Any]:
        async with opened() as store:
            await run(large(), run_name="it", store=store)
            latest = await store.latest_result(large)
            return (await store.result("it")).payload, latest.payload if latest else None, (await store.describe("it")).result.payload

    assert asyncio.run(there_and_back()) == (LARGE, LARGE, LARGE)


def test_a_payload_whose_blob_is_damaged_is_an_error_and_not_absence() -> None:
    asyncio.run(run(large(), run_name="it", store=memory_store(disk)))
    store = memory_store(disk)
    (folder,) = asyncio.run(store.folder.list("blobs"))
    (blob,) = asyncio.run(store.folder.list(f"blobs/{folder.name}"))
    asyncio.run(store.folder.put(f"blobs/{folder.name}/{blob.name}", b"other"))
    with pytest.raises(BlobCorrupt):
        store.result_sync("it")


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_payload_that_was_pickled_is_read_by_its_task_alone(size: int) -> None:
    @task(name="pickled", codec="pickle")
    async def pickled(size: int) -> complex | list[complex]:
        return [3j] * size if size > 1 else 3j

    asyncio.run(run(pickled(size), run_name="it", store=memory_store(disk)))
    store = memory_store(disk)
    result = store.result_sync("it")
    assert (result.status, store.describe_sync("it").result) == (Status.COMPLETED, result)
    assert isinstance(store.state_sync("it").result, OpaqueValue if size == 1 else LargeValue)
    assert isinstance(result.payload, OpaqueValue)
    assert "pickle" in result.payload.reason
    latest = store.latest_result_sync(pickled)
    assert latest is not None
    assert latest.payload == ([3j] * size if size > 1 else 3j)


def test_the_portals_own_loop_is_not_blocked() -> None:
    from holdfast.bridge import portal_loop, wait_for_loop

    async def blocks() -> None:
        memory_store(disk).result_sync("it")

    with pytest.raises(BlockingCall, match=r"store\.result"):
        wait_for_loop(blocks(), portal_loop())


# as a model


def test_it_goes_through_JSON_and_comes_back() -> None:
    result = ran(main(3))
    assert TaskResult[dict[str, Any]].model_validate_json(result.model_dump_json()) == result
    typed = memory_store(disk).latest_result_sync(main)
    assert typed is not None
    back = TaskResult[Peaks].model_validate_json(typed.model_dump_json())
    assert back.payload == typed.payload == Peaks(count=3)
    described = memory_store(disk).describe_sync("it")
    assert DescribedRun.model_validate_json(described.model_dump_json()) == described


def test_it_can_not_be_changed() -> None:
    with pytest.raises(ValidationError):
        ran(main(3)).summary = "better"  # type: ignore[misc]


def test_it_says_its_schema() -> None:
    fields = {
        "task_name", "status", "summary", "payload", "schemas", "figures", "messages", "cost", "attempts", "started_at", "ended_at",
    }  # fmt: skip
    assert set(TaskResult.model_json_schema()["properties"]) == fields
    assert set(TaskResult[Peaks].model_json_schema(mode="serialization")["properties"]) == {*fields, "is_complete"}
    assert set(DescribedRun.model_json_schema()["properties"]) == {
        "result", "parameters", "environment", "versions", "engine", "observers", "poll_seconds",
    }  # fmt: skip


def test_a_message_has_a_type_a_text_and_an_aware_time() -> None:
    message = Message(type=MessageType.WARNING, content="low beam", created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert Message.model_validate_json(message.model_dump_json()) == message
    with pytest.raises(ValidationError):
        Message(type=MessageType.INFO, content="naive", created_at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


# figures


def test_a_figure_is_listed_under_its_display_path_with_its_suffix() -> None:
    @task(name="draws")
    async def draws() -> None:
        ctx().figure("scans/motor", b"\x89PNG\r\n\x1a\n and so on")
        ctx().figure("scans/fit", "<p>a fit</p>")

    assert ran(draws()).figures == ["scans/motor.png", "scans/fit.html"]
    (figure, _) = memory_store(disk).state_sync("it").root.figures  # type: ignore[union-attr]
    assert (figure.path, figure.media_type, figure.size) == ("scans/motor.png", "image/png", 18)


# figures, as the journal tells of them


def asked(name: str, parent: str = "") -> list[Event]:
    return [ActionAsked(action=name, at=1.0, parent=parent, task=name), AttemptStarted(action=name, at=1.0, number=0, epoch=1)]


def figure(name: str, path: str) -> Event:
    return FigureSaved(action=name, at=1.0, path=path, key=f"actions/{name}/{path}", media_type="image/png", size=1)


def test_figures_are_those_of_the_action_and_all_below_it_in_the_order_of_asking_each_path_once() -> None:
    events = [
        *asked("root"),
        *asked("a", "root"),
        *asked("b", "root"),
        *asked("a1", "a"),
        figure("b", "late.png"),
        figure("a1", "deep.png"),
        figure("root", "first.png"),
        figure("b", "deep.png"),
        figure("a", "second.png"),
    ]
    fold = Fold.of(events)

    def figures(name: str) -> list[str]:
        return result_of(fold, fold.actions[name], "live", None).figures

    assert figures("root") == ["first.png", "second.png", "deep.png", "late.png"]
    assert (figures("a"), figures("b")) == (["second.png", "deep.png"], ["late.png", "deep.png"])


def test_a_deep_tree_is_walked_without_recursion() -> None:
    events = asked("0")
    for n in range(1, 5000):
        events += asked(str(n), str(n - 1))
    fold = Fold.of([*events, figure("4999", "deep.png")])
    assert result_of(fold, fold.actions["0"], "live", None).figures == ["deep.png"]


@pytest.mark.parametrize(
    ("status", "then", "owner", "shown", "is_over"),
    [
        (Status.COMPLETED, Status.COMPLETED, "gone", Status.COMPLETED, True),
        (Status.FAILED, Status.RETRYING, "live", Status.RETRYING, False),
        (Status.FAILED, Status.RETRYING, "gone", Status.CRASHED, True),
        (Status.CRASHED, Status.CRASHED, "live", Status.CRASHED, True),
        (Status.FAILED, Status.ROLLING_BACK, "gone", Status.ROLLING_BACK, False),
    ],
)
def test_an_action_has_an_end_once_it_is_not_active(status: Status, then: Status, owner: Any, shown: Status, is_over: bool) -> None:
    fold = Fold.of([*asked("a"), AttemptEnded(action="a", at=2.0, number=0, status=status, then=then)])
    result = result_of(fold, fold.actions["a"], owner, None)
    assert (result.status, result.ended_at is not None) == (shown, is_over)


# what a reader of the state sees


def test_a_states_actions_have_summary_schemas_and_figures() -> None:
    ran(main(3))
    actions = memory_store(disk).state_sync("it").actions.values()
    assert {action.task_name: (action.summary, action.schemas, action.figures) for action in actions} == {
        main.name: ("all found", (), ()),
        find.name: ("3 peaks", ("peaks",), ()),
    }


def test_what_a_result_is_said_of_does_not_change_who_it_is() -> None:
    """Summaries are no part of an identity: equal calls stay equal."""

    @task(name="outer")
    async def outer() -> list[Peaks]:
        with custom_context(beam="1"), group("scan"):
            return [await find(1), await find(1)]

    assert ran(outer()).payload == [{"count": 1, "places": []}] * 2
