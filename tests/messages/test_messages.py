"""Messages: said in order, by any thread, on record, bounded, and taken back."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Event, Message, MessageType, Retry, Status, ctx, run, task
from holdfast.codec import from_json
from holdfast.errors import ActionEnded, InvalidOption
from holdfast.events import ActionAsked, Messaged, MessagesCleared, decode_event, encode_event
from holdfast.folders.memory import MemoryDisk
from holdfast.messages import CONTENT_BYTES, KEPT, shortened
from holdfast.observers.logs import LogObserver
from holdfast.states import Fold, message_of
from holdfast.testing import crash_everywhere, memory_store, run_shuffled, task_context
from holdfast.testing.places import On

INFO, WARNING, ERROR = MessageType.INFO, MessageType.WARNING, MessageType.ERROR
AT_ONCE = Retry(3, initial_interval=0)

disk = MemoryDisk()
kept: list[Any] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()
    kept.clear()


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


def said(call: Any, **options: Any) -> list[str]:
    try:
        asyncio.run(run(call, run_name="it", store=memory_store(disk), **options))
    except ValueError:
        pass
    return [message.content for message in messages()]


def messages() -> tuple[Message, ...]:
    root = memory_store(disk).state_sync("it").root
    assert root is not None
    return root.messages


@task
async def speaks() -> None:
    ctx().message(INFO, "begun")
    ctx().message(WARNING, "two rows lack a name")
    ctx().message(ERROR, "one row is broken")


@task
def speaks_in_its_thread() -> None:
    ctx().message(INFO, "begun")
    ctx().message(WARNING, "two rows lack a name")
    ctx().message(ERROR, "one row is broken")


@pytest.mark.parametrize("call", [speaks.call, speaks_in_its_thread.call], ids=["async", "def"])
def test_messages_are_kept_in_the_order_in_which_they_were_said(call: Any) -> None:
    recorder = Recorder()
    assert said(call(), observers=[recorder]) == ["begun", "two rows lack a name", "one row is broken"]
    assert [message.type for message in messages()] == [INFO, WARNING, ERROR]
    assert all(message.created_at.tzinfo is UTC for message in messages())
    assert [event.content for event in recorder.events if isinstance(event, Messaged)] == [m.content for m in messages()]
    assert memory_store(disk).result_sync("it").messages == list(messages())


@task
async def takes_back() -> None:
    ctx().clear_messages()
    ctx().message(INFO, "first")
    ctx().clear_messages()
    ctx().clear_messages()
    ctx().message(INFO, "second")


def test_what_is_taken_back_is_gone_and_on_nothing_that_is_no_event() -> None:
    recorder = Recorder()
    assert said(takes_back(), observers=[recorder]) == ["second"]
    assert sum(isinstance(event, MessagesCleared) for event in recorder.events) == 1


@task(retries=AT_ONCE)
async def tries() -> None:
    ctx().message(INFO, f"attempt {ctx().attempt_number}")
    if ctx().attempt_number < 2:
        raise ValueError("again")


@task(retries=AT_ONCE)
async def tries_and_clears() -> None:
    ctx().clear_messages()
    ctx().message(INFO, f"attempt {ctx().attempt_number}")
    if ctx().attempt_number < 2:
        raise ValueError("again")


def test_a_retry_adds_to_what_was_said_before() -> None:
    assert said(tries()) == ["attempt 0", "attempt 1", "attempt 2"]


def test_a_retry_may_take_back_what_was_said_before() -> None:
    assert said(tries_and_clears()) == ["attempt 2"]


@task
async def fails() -> None:
    ctx().message(ERROR, "it will not do")
    raise ValueError("no")


def test_a_failed_attempt_keeps_its_messages_and_a_resume_adds_to_them() -> None:
    assert said(fails()) == ["it will not do"]
    assert said(fails()) == ["it will not do"] * 2


@task
async def talks(count: int) -> None:
    for number in range(count):
        ctx().message(INFO, str(number))


def test_the_newest_are_kept() -> None:
    assert said(talks(KEPT + 20)) == [str(number) for number in range(20, KEPT + 20)]


@task
def threaded() -> None:
    context = ctx()

    def speak(name: int) -> None:
        for number in range(10):
            context.message(INFO, f"{name}-{number}")

    threads = [threading.Thread(target=speak, args=[name]) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_of_one_body_lose_no_message_and_each_keeps_its_order() -> None:
    contents = said(threaded.call())
    assert len(contents) == 80
    for name in range(8):
        assert [content for content in contents if content.startswith(f"{name}-")] == [f"{name}-{number}" for number in range(10)]


@task
async def whole() -> None:
    ctx().message(INFO, "whole begins")
    await asyncio.gather(*(part(number) for number in range(3)))
    ctx().message(INFO, "whole ends")


@task
async def part(number: int) -> None:
    await asyncio.sleep(0)
    ctx().message(INFO, f"part {number}")


@pytest.mark.parametrize("seed", range(5))
def test_an_action_has_its_own_and_a_result_all_below_it_by_time(seed: int) -> None:
    store = memory_store(disk)
    run_shuffled(lambda: run(whole(), run_name="it", store=store), seed=seed)
    assert [message.content for message in messages()] == ["whole begins", "whole ends"]
    contents = [message.content for message in memory_store(disk).result_sync("it").messages]
    assert sorted(contents) == ["part 0", "part 1", "part 2", "whole begins", "whole ends"]
    assert contents[0] == "whole begins"


def test_a_log_has_each_at_its_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "holdfast.events"):
        said(speaks(), observers=[LogObserver()])
    levels = {record.message.rpartition(": ")[2]: record.levelno for record in caplog.records}
    assert levels["begun"] == logging.INFO
    assert levels["two rows lack a name"] == logging.WARNING
    assert levels["one row is broken"] == logging.ERROR


def test_outside_a_run_they_are_said_to_nobody() -> None:
    with task_context():
        ctx().message(INFO, "hello")
        ctx().clear_messages()


@pytest.mark.parametrize(("type", "content"), [("info", "text"), (None, "text"), (1, "text"), (INFO, 3), (INFO, None), (INFO, b"text")])
def test_what_is_no_message_is_refused(type: Any, content: Any) -> None:
    with task_context(), pytest.raises(InvalidOption):
        ctx().message(type, content)


def test_an_attempt_that_ended_says_nothing_more() -> None:
    @task(name="leaks")
    async def leaks() -> None:
        kept.append(ctx())

    said(leaks())
    with pytest.raises(ActionEnded):
        kept[0].message(INFO, "late")
    with pytest.raises(ActionEnded):
        kept[0].clear_messages()


# bounds


@pytest.mark.parametrize(
    ("content", "kept_as"),
    [
        ("", ""),
        ("x" * CONTENT_BYTES, "x" * CONTENT_BYTES),
        ("x" * (CONTENT_BYTES + 5), "x" * CONTENT_BYTES + " [cut: 5 more bytes]"),
        ("é" * 2049, "é" * 2048 + " [cut: 2 more bytes]"),
        ("x" + "é" * 2048, "x" + "é" * 2047 + " [cut: 1 more bytes]"),
        ("\ud800", "\\ud800"),
    ],
    ids=["empty", "at the limit", "over it", "two bytes each", "within a letter", "surrogate"],
)
def test_a_long_message_is_cut_and_says_so(content: str, kept_as: str) -> None:
    assert shortened(content) == kept_as


@given(st.text(st.characters(), max_size=3000))
def test_what_is_kept_is_bounded_and_can_be_written(content: str) -> None:
    assert len(shortened(content).encode()) <= CONTENT_BYTES + 40


def test_a_word_of_a_newer_version_counts_as_INFO() -> None:
    events: list[Event] = [
        ActionAsked(action="a", at=1.0, task="t"),
        Messaged(action="a", at=2.0, type="debug", content="of tomorrow"),
    ]
    notes = Fold.of(decode_event(from_json(encode_event(event))) for event in events).actions["a"].notes
    assert notes is not None
    assert [message_of(event).type for event in notes.messages] == [INFO]


# crashes


@task
async def chatty() -> None:
    for number in range(3):
        ctx().message(INFO, f"before {number}")
        await step(number)
    ctx().clear_messages()
    ctx().message(INFO, "done")


@task
async def step(number: int) -> None:
    ctx().message(INFO, f"step {number}")


@pytest.mark.parametrize("on", ["disk", "bucket"])
def test_killed_anywhere_nothing_is_shown_that_was_not_said_and_at_the_end_what_is_said_last(on: On) -> None:
    killed = 0
    for survival in crash_everywhere(lambda: chatty(), on=on, step=2):
        killed += bool(survival.crashes)
        assert survival.error is None, str(survival)
        state = survival.store.state_sync("program")
        assert state.root is not None
        assert [message.content for message in state.root.messages] == ["done"], str(survival)
        for store in survival.earlier:
            try:
                earlier = store.state_sync("program")
            except LookupError:
                continue
            for action in earlier.actions.values():
                if action.task_name.endswith(":step") and action.status is Status.COMPLETED:
                    assert action.messages != (), str(survival)
    assert killed > 10
