"""What observers are told, and what they can't do to a run."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

from holdfast import Retry, Store, ctx, task, telling
from holdfast.errors import InvalidOption
from holdfast.events import ActionAsked, AttemptEnded, AttemptStarted, Event, Missed, Replayed, RunOpened, Ticked, encode_event
from holdfast.journals import writing
from holdfast.journals.reading import read_journal
from holdfast.launch import run
from holdfast.observers.picture import Picture
from holdfast.runs.asked import newest_incarnation
from holdfast.testing.conformance_observers import CALLS, EXPECTED, Blocker, Raiser, Recorder, by_action, observed, patience, square


def journal(store: Path) -> list[Event]:
    async def read() -> list[Event]:
        async with Store(store) as opened:
            return list((await read_journal(await newest_incarnation(opened.folder, "observed"))).events())

    return asyncio.run(read())


def test_an_observer_is_told_of_every_recorded_event_in_the_order_of_the_journal(tmp_path: Path) -> None:
    recorder = Recorder()
    observed([recorder], str(tmp_path / "s"))
    assert [event for event in recorder.events if not event.live] == journal(tmp_path / "s")


def test_an_event_is_told_when_it_can_be_read_from_the_store(tmp_path: Path) -> None:
    class Reader:
        def __init__(self) -> None:
            self.unread: list[Event] = []
            self.read = 0

        def on_event(self, event: Event, /) -> None:
            if not event.live:
                written = b"".join(path.read_bytes() for path in sorted(tmp_path.rglob("*.jsonl")))
                self.read += 1
                if encode_event(event) not in written:
                    self.unread.append(event)

    reader = Reader()
    observed([reader], str(tmp_path / "s"))
    assert reader.unread == []
    assert reader.read > 3 * CALLS


def test_the_first_thing_told_is_which_run_it_is(tmp_path: Path) -> None:
    recorder = Recorder()
    observed([recorder], str(tmp_path / "s"))
    opened = recorder.events[0]
    assert isinstance(opened, RunOpened)
    assert (opened.run_name, opened.task, opened.is_new, opened.recorded) == ("observed", "conformance.root", True, 0)


def test_progress_is_told_live_and_never_recorded(tmp_path: Path) -> None:
    recorder = Recorder()
    observed([recorder], str(tmp_path / "s"))
    ticks = [event for event in recorder.events if isinstance(event, Ticked) and event.bar == "squares"]
    assert len(ticks) == CALLS + CALLS // 2
    assert not any(event.live for event in journal(tmp_path / "s"))


@task
async def asks_who_ends_badly() -> None:
    await ends_badly()


@task
async def ends_badly() -> None:
    for number in range(3):
        await square(number)
    raise ValueError


@task
async def ticks_at_once(number: int) -> int:
    for _ in range(3):
        ctx().progress("steps", total=3)
    await asyncio.to_thread(lambda: ctx().progress("steps", 0))
    ctx().progress("steps", 0)
    if ctx().attempt_number == 0 and number == 1:
        raise ConnectionError
    return number


@task
def ticks_in_a_thread(number: int) -> int:
    for _ in range(3):
        ctx().progress("steps", total=3)
    return number


@task
async def all_tick() -> int:
    numbers = await asyncio.gather(*(ticks_at_once.with_options(retries=Retry(2, initial_interval=0))(number) for number in range(20)))
    return sum(numbers) + await ticks_in_a_thread.call(1)


def test_live_events_of_an_action_stand_where_they_happened_among_those_that_are_recorded(tmp_path: Path) -> None:
    async def main() -> None:
        async with Store(tmp_path / "s") as store:
            assert await run(all_tick(), run_name="observed", store=store, observers=[recorder]) == 191

    recorder = Recorder()
    asyncio.run(main())
    under_way: dict[str, float] = {}
    for event in recorder.events:
        if isinstance(event, AttemptStarted):
            under_way[event.action] = 0
        elif isinstance(event, AttemptEnded):
            assert under_way.pop(event.action) in (0, 3)
        elif isinstance(event, Ticked):
            assert under_way[event.action] <= event.n
            under_way[event.action] = event.n
    picture = Picture()
    for event in recorder.events:
        picture.see(event)
    assert (picture.bars["steps"].n, picture.bars["steps"].total) == (63, 63)


def test_what_is_answered_from_record_is_told_behind_the_asking_of_its_parent(tmp_path: Path) -> None:
    async def main() -> None:
        async with Store(tmp_path / "s") as store:
            for recorder in recorders:
                with pytest.raises(ValueError, match=r"^$"):
                    await run(asks_who_ends_badly(), run_name="observed", store=store, observers=[recorder])

    recorders = [Recorder(), Recorder()]
    asyncio.run(main())
    asked: set[str] = set()
    for event in recorders[1].events:
        if isinstance(event, ActionAsked):
            asked.add(event.action)
        elif isinstance(event, Replayed):
            assert event.parent in asked


def test_live_events_that_a_slow_store_holds_back_are_bounded_and_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(writing, "LIVE_AT_MOST", 5)
    recorder = Recorder()
    observed([recorder], str(tmp_path / "s"))
    ticks = sum(isinstance(event, Ticked) for event in recorder.events)
    assert ticks + sum(event.count for event in recorder.events if isinstance(event, Missed)) == CALLS + CALLS // 2 + 1


def test_live_events_are_told_to_those_alone_that_ask_for_them() -> None:
    class Quiet(Recorder):
        live = False

    quiet, recorder = Quiet(), Recorder()
    observed([quiet, recorder])
    assert [type(event) for event in quiet.events] == [type(event) for event in recorder.events if not event.live]


def test_an_answer_from_record_is_told_live() -> None:
    async def run_twice() -> None:
        async with Store("memory://told-of-replays") as store:
            for recorder in recorders:
                with pytest.raises(ValueError, match=r"^$"):
                    await run(ends_badly(), run_name="observed", store=store, observers=[recorder])

    recorders = [Recorder(), Recorder()]
    asyncio.run(run_twice())
    replayed = [[event.task for event in recorder.events if isinstance(event, Replayed)] for recorder in recorders]
    assert replayed == [[], ["conformance.square"] * 3]


def test_an_action_has_its_events_from_asked_to_ended() -> None:
    recorder = Recorder()
    observed([recorder])
    for events in by_action(recorder.events).values():
        kinds = [event.kind for event in events if event.kind not in ("task_seen", "warned")]
        assert kinds[0] == "action_asked"
        assert kinds[-1] == "attempt_ended"


def test_an_observer_that_always_raises_is_logged_once_and_told_on(caplog: pytest.LogCaptureFixture) -> None:
    raiser = Raiser()
    with caplog.at_level(logging.WARNING, "holdfast"):
        assert observed([raiser]) == EXPECTED
    assert raiser.told > CALLS
    assert sum("failed; it is told of further events" in line for line in caplog.messages) == 1
    assert f"failed at {raiser.told + 1}" in caplog.messages[-1]


def test_what_a_blocking_observer_missed_is_counted(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "QUEUE_LENGTH", 2)
    blocker, recorder = Blocker(), Recorder()
    try:
        with patience(0.05), caplog.at_level(logging.WARNING, "holdfast"):
            assert observed([blocker]) == EXPECTED
    finally:
        blocker.free.set()
    monkeypatch.undo()
    observed([recorder])
    found = re.search(r"missed (\d+) events, failed at 0, and was still at work at the end", caplog.messages[-1])
    assert found is not None
    assert len(recorder.events) - int(found[1]) == 1  # the one that it is still at


def test_blocking_observers_are_waited_for_all_at_once() -> None:
    blockers = [Blocker() for _ in range(40)]
    seconds = 0.25
    began = time.monotonic()
    try:
        with patience(seconds):
            assert observed(blockers) == EXPECTED
        assert time.monotonic() - began < len(blockers) * seconds / 4
    finally:
        for blocker in blockers:
            blocker.free.set()


def test_an_async_observer_that_never_returns_is_given_up_and_its_thread_ends() -> None:
    class Sleeper:
        def __init__(self) -> None:
            self.told = 0

        async def on_event(self, event: Event, /) -> None:
            self.told += 1
            await asyncio.Event().wait()

    sleeper = Sleeper()
    with patience(0.05):
        assert observed([sleeper]) == EXPECTED
    for thread in threading.enumerate():
        if thread.name == "holdfast-observer":
            thread.join(10)
            assert not thread.is_alive()
    assert sleeper.told == 1


def test_the_end_of_an_observer_is_awaited_before_the_run_returns() -> None:
    recorder = Recorder()
    observed([recorder])
    assert recorder.is_closed
    assert isinstance(recorder.events[-1], AttemptEnded)


def test_a_class_in_the_place_of_an_observer_is_refused_with_the_fix() -> None:
    with pytest.raises(InvalidOption, match=r"write Recorder\(\)"):
        observed([Recorder])  # type: ignore[list-item]


def test_a_class_that_is_an_observer_itself_is_taken() -> None:
    class Counter:
        told: ClassVar[int] = 0

        @classmethod
        def on_event(cls, event: Event, /) -> None:
            cls.told += 1

    assert observed([Counter]) == EXPECTED
    assert Counter.told > CALLS


def test_what_has_no_on_event_is_refused() -> None:
    with pytest.raises(InvalidOption, match="on_event"):
        observed([object()])  # type: ignore[list-item]
