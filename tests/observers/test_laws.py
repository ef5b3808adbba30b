"""Whatever an observer does, the work neither waits for it nor fails by it; and what it is told is in order, or counted as missing."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from holdfast import start, task, telling
from holdfast.events import AttemptEnded, Event, Missed, Replayed, RunOpened
from holdfast.launch import run
from holdfast.runs.owned import Run
from holdfast.status import Status
from holdfast.telling import Observer, Told
from holdfast.testing import MemoryDisk, memory_store, run_shuffled
from holdfast.testing.conformance_observers import EXPECTED, Recorder, by_action, observed, patience, root, square

ENDINGS: list[type[BaseException]] = [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError]


@pytest.fixture
def free() -> threading.Event:
    return threading.Event()


@pytest.fixture(autouse=True)
def _threads_end(free: threading.Event) -> Iterator[None]:
    yield
    free.set()


class Misbehaving:
    """Does what it is told to at each event."""

    def __init__(self, at_event: Callable[[], object], *, is_async: bool) -> None:
        self.told = 0
        self._at_event = at_event
        if is_async:
            self.on_event = self._on_event_async  # type: ignore[method-assign,assignment]

    def on_event(self, event: Event, /) -> None:
        self.told += 1
        self._at_event()

    async def _on_event_async(self, event: Event, /) -> None:
        self.told += 1
        self._at_event()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("error", ENDINGS)
def test_whatever_it_raises_is_counted_and_it_is_told_on(error: type[BaseException], is_async: bool) -> None:
    def fail() -> None:
        raise error

    async def main() -> tuple[Told, ...]:
        async with memory_store(MemoryDisk()) as store:
            handle = await start(root(), run_name="observed", store=store, observers=[observer, Recorder()])
            assert await handle.result() == EXPECTED
            return handle.told

    observer = Misbehaving(fail, is_async=is_async)
    told, beside = asyncio.run(main())
    assert (told.events, told.failed, told.missed, told.has_ended) == (observer.told, observer.told, 0, True)
    assert (beside.failed, beside.missed, beside.has_ended) == (0, 0, True)


@pytest.mark.parametrize("is_async", [False, True])
def test_one_that_blocks_its_thread_for_ever_stalls_neither_the_run_nor_its_loop(is_async: bool, free: threading.Event) -> None:
    async def main() -> tuple[Told, ...]:
        async with memory_store(MemoryDisk()) as store:
            handle = await start(root(), run_name="observed", store=store, observers=[observer, recorder])
            assert await handle.result() == EXPECTED
            return handle.told

    observer, recorder = Misbehaving(free.wait, is_async=is_async), Recorder()
    with patience(0.1):
        told, beside = asyncio.run(main())
    assert (told.events, told.failed, told.has_ended) == (1, 0, False)
    assert beside.events == len(recorder.events)
    assert beside.has_ended


@pytest.mark.parametrize("is_async", [False, True])
def test_an_end_that_never_comes_is_waited_for_no_longer_than_all_may_take(is_async: bool, free: threading.Event) -> None:
    class Clinging(Recorder):
        async def aclose(self) -> None:
            if is_async:
                await asyncio.Event().wait()
            free.wait()

    clinging, began = Clinging(), time.monotonic()
    with patience(0.2):
        assert observed([clinging, Clinging(), Recorder()]) == EXPECTED
    assert time.monotonic() - began < 5
    assert isinstance(clinging.events[-1], AttemptEnded)


def test_whoever_is_cancelled_while_observers_end_waits_no_longer_for_them_and_hears_of_it(free: threading.Event) -> None:
    has_ended = threading.Event()

    class SeesTheEnd(Recorder):
        def aclose(self) -> None:  # type: ignore[override]
            has_ended.set()

    async def main() -> float:
        async with memory_store(MemoryDisk()) as store:
            watched: list[Observer] = [SeesTheEnd(), Misbehaving(free.wait, is_async=False)]
            running = asyncio.create_task(run(root(), run_name="observed", store=store, observers=watched))
            assert await asyncio.to_thread(has_ended.wait, 30)
            began = time.monotonic()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert await run(root(), run_name="observed", store=store, resume="must") == EXPECTED
            return time.monotonic() - began

    with patience(60):
        assert asyncio.run(main()) < 20


def test_an_end_may_be_sync_or_async_and_comes_after_all_events_in_the_same_thread() -> None:
    class Ending(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.threads: set[int] = set()

        def on_event(self, event: Event, /) -> None:
            assert not self.is_closed
            self.threads.add(threading.get_ident())
            super().on_event(event)

    class Sync(Ending):
        def aclose(self) -> None:  # type: ignore[override]
            self.threads.add(threading.get_ident())
            self.is_closed = True

    class Async(Ending):
        async def aclose(self) -> None:
            self.threads.add(threading.get_ident())
            self.is_closed = True

    endings = [Sync(), Async()]
    observed(endings)
    assert [(ending.is_closed, len(ending.threads)) for ending in endings] == [(True, 1), (True, 1)]
    assert threading.get_ident() not in endings[0].threads | endings[1].threads


@pytest.mark.parametrize("length", [1, 2, 7])
def test_what_is_missed_is_told_where_it_is_missing(length: int, monkeypatch: pytest.MonkeyPatch, free: threading.Event) -> None:
    class Late(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.has_begun, self.has_caught_up = threading.Event(), threading.Event()

        def on_event(self, event: Event, /) -> None:
            super().on_event(event)
            self.has_begun.set()
            if len(self.events) == 1:
                free.wait()
            if len(self.events) == 1 + length:
                self.has_caught_up.set()

    monkeypatch.setattr(telling, "QUEUE_LENGTH", length)
    late = Late()
    channel = telling.Channel(late)
    events = [Replayed(action=f"{number}", at=0.0, task="t", status=Status.COMPLETED) for number in range(40)]
    for number, event in enumerate(events):
        channel.offer(event)
        if number == 0:
            assert late.has_begun.wait(10)
        if number == 20:
            free.set()
            assert late.has_caught_up.wait(10)
    channel.close()
    channel.wait(10)
    gaps = [event.count for event in late.events if isinstance(event, Missed)]
    told = [event for event in late.events if not isinstance(event, Missed)]
    assert sum(gaps) == channel.missed > 0
    assert len(told) + sum(gaps) == len(events)
    numbers = iter(range(40))
    for found in late.events:  # each gap is exactly as long as is said, and nothing is told twice
        if isinstance(found, Missed):
            for _ in range(found.count):
                next(numbers)
        else:
            assert found.action == str(next(numbers))


def test_a_queue_keeps_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch, free: threading.Event) -> None:
    monkeypatch.setattr(telling, "QUEUE_LENGTH", 5)
    channel = telling.Channel(Misbehaving(free.wait, is_async=False))
    for number in range(1000):
        channel.offer(AttemptEnded(action=str(number), at=0.0, number=0, status=Status.COMPLETED, then=Status.COMPLETED))
    assert channel._queue.qsize() <= 5
    assert channel.missed >= 994
    channel.give_up()
    channel.close()


def test_a_burst_is_kept_for_one_that_goes_on_and_passed_over_for_one_that_is_stuck(
    free: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    burst = [Replayed(action=f"{number}", at=0.0, task="t", status=Status.COMPLETED) for number in range(3 * telling.STUCK_LENGTH)]
    going, stuck = Recorder(), Recorder()
    channel, other = telling.Channel(going), telling.Channel(stuck)
    for event in burst:
        channel.offer(event)
    channel.close()
    channel.wait(30)
    assert (going.events, channel.missed) == (burst, 0)
    monkeypatch.setattr(stuck, "on_event", lambda event: free.wait())
    monkeypatch.setattr(telling, "STUCK_SECONDS", -1.0)
    for event in burst:
        other.offer(event)
    assert other.missed >= len(burst) - telling.STUCK_LENGTH - 1
    other.give_up()
    other.close()


def test_a_failure_is_logged_once_with_its_traceback_and_the_sums_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise LookupError("its own trouble")

    with caplog.at_level(logging.WARNING, "holdfast"):
        observed([Misbehaving(fail, is_async=False)])
    first, last = [record for record in caplog.records if record.name == "holdfast"]
    assert first.exc_info is not None
    assert first.exc_info[0] is LookupError
    assert "missed 0 events, failed at" in last.getMessage()


def test_what_an_async_observer_began_goes_on_between_its_events() -> None:
    class Batching:
        """Writes behind, in a task of its own."""

        def __init__(self) -> None:
            self.waiting: asyncio.Queue[Event] | None = None
            self.written: list[Event] = []

        async def on_event(self, event: Event, /) -> None:
            if self.waiting is None:
                self.waiting = asyncio.Queue()
                self.writing = asyncio.create_task(self._write(self.waiting))
            self.waiting.put_nowait(event)

        async def _write(self, waiting: asyncio.Queue[Event]) -> None:
            while True:
                self.written.append(await waiting.get())
                waiting.task_done()

        async def aclose(self) -> None:
            assert self.waiting is not None
            await self.waiting.join()
            self.writing.cancel()

    batching, recorder = Batching(), Recorder()
    observed([batching, recorder])
    assert batching.written == [event for event in recorder.events if not event.live]


class EndsItsLoop:
    """Brings down the loop in which it is told."""

    live = True

    def __init__(self, how: Callable[[], Awaitable[None]]) -> None:
        self.events: list[Event] = []
        self.is_closed = False
        self._how = how

    async def on_event(self, event: Event, /) -> None:
        self.events.append(event)
        await self._how()

    async def aclose(self) -> None:
        self.is_closed = True


async def exits_in_a_task_of_its_own() -> None:
    async def leave() -> None:
        raise SystemExit

    task = asyncio.create_task(leave())
    await asyncio.sleep(0)
    task.exception()


async def waits_for_a_task_that_is_interrupted() -> None:
    async def leave() -> None:
        raise KeyboardInterrupt

    await asyncio.create_task(leave())


async def stops_its_loop() -> None:
    asyncio.get_running_loop().stop()


async def cancels_who_tells_it() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


ENDS_OF_LOOPS = [exits_in_a_task_of_its_own, waits_for_a_task_that_is_interrupted, stops_its_loop, cancels_who_tells_it]


@pytest.mark.parametrize("how", ENDS_OF_LOOPS)
def test_one_that_ends_its_loop_is_counted_and_told_on_in_another_and_those_behind_it_miss_nothing(
    how: Callable[[], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> tuple[Told, ...]:
        async with memory_store(MemoryDisk()) as store:
            handle = await start(root(), run_name="observed", store=store, observers=[ending, recorder])
            assert await handle.result() == EXPECTED
            return handle.told

    ending, recorder = EndsItsLoop(how), Recorder()
    with caplog.at_level(logging.ERROR, "asyncio"):
        told, beside = asyncio.run(main())
    assert (told.events, told.missed, told.has_ended, told.failed > 0) == (len(recorder.events), 0, True, True)
    assert ending.events == recorder.events
    assert ending.is_closed
    assert (beside.failed, beside.missed, beside.has_ended) == (0, 0, True)
    assert "Event loop is closed" not in caplog.text


def test_what_still_waits_for_one_that_is_given_up_is_missed_and_not_kept(free: threading.Event) -> None:
    async def main() -> tuple[Told, ...]:
        async with memory_store(MemoryDisk()) as store:
            handle = await start(root(), run_name="observed", store=store, observers=[stuck, recorder])
            await handle.result()
            return handle.told

    stuck, recorder = Misbehaving(free.wait, is_async=False), Recorder()
    stuck.live = True  # type: ignore[attr-defined]
    with patience(0.1):
        told, beside = asyncio.run(main())
    assert (told.events, told.missed, told.has_ended) == (1, beside.events - 1, False)


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, GeneratorExit, ValueError])
@pytest.mark.parametrize("where", ["for_run", "around", "begin of around", "end of around"])
def test_whatever_it_raises_on_the_runs_own_loop_is_counted_and_the_run_goes_on(where: str, error: type[BaseException]) -> None:
    class Surround:
        def __enter__(self) -> None:
            if where == "begin of around":
                raise error

        def __exit__(self, *exc: object) -> None:
            if where == "end of around":
                raise error

    class Raising(Recorder):
        def for_run(self, opened: RunOpened) -> Recorder:
            if where == "for_run":
                raise error
            return self

        def around(self, body: object) -> Surround:
            if where == "around":
                raise error
            return Surround()

    async def main() -> tuple[Told, ...]:
        async with memory_store(MemoryDisk()) as store:
            handle = await start(root(), run_name="observed", store=store, observers=[Raising(), Recorder()])
            assert await handle.result() == EXPECTED
            return handle.told

    told, beside = asyncio.run(main())
    assert told.failed >= 1
    assert (beside.failed, beside.missed, beside.has_ended) == (0, 0, True)


def test_large_outcomes_fill_a_queue_before_many_small_ones_do(monkeypatch: pytest.MonkeyPatch, free: threading.Event) -> None:
    def told(value: str) -> int:
        channel = telling.Channel(Misbehaving(free.wait, is_async=False))
        for number in range(5_000):
            channel.offer(AttemptEnded(action=f"{number}", at=0.0, number=0, status=Status.COMPLETED, then=Status.COMPLETED, value=value))
        kept = channel._queue.qsize()
        channel.give_up()
        return kept

    monkeypatch.setattr(telling, "QUEUE_BYTES", 10 << 20)
    assert told("small") > 4_900
    assert 100 < told("x" * 50_000) < 300


def test_one_who_iterates_over_events_and_falls_behind_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    every: list[Event] = []

    async def main() -> list[Event]:
        async with memory_store(MemoryDisk()) as store:
            handle = await start(root(), run_name="observed", store=store)
            assert isinstance(handle._opened, Run)
            handle._opened.listen(every.append)
            arriving = handle.events()
            taken = [await anext(arriving)]
            await handle.result()
            return taken + [event async for event in arriving]

    monkeypatch.setattr(telling, "QUEUE_LENGTH", 8)
    taken = asyncio.run(main())
    missed = [event.count for event in taken if isinstance(event, Missed)]
    behind = next(place for place, event in enumerate(taken) if isinstance(event, Missed))
    assert behind in (8, 9)
    first = every.index(taken[0])
    assert taken[:behind] == every[first : first + behind]
    assert first + behind + missed[0] == len(every)


class ForEach:
    """Gives each run a recorder of its own."""

    live = True

    def __init__(self) -> None:
        self.of_runs: dict[str, Recorder] = {}

    def for_run(self, opened: RunOpened) -> Recorder:
        return self.of_runs.setdefault(opened.run_name, Recorder())

    def on_event(self, event: Event, /) -> None:
        raise AssertionError("it is told by those of its runs")


def test_an_observer_of_two_runs_at_once_can_keep_them_apart_and_they_share_nothing() -> None:
    shared, alone = ForEach(), ForEach()

    async def main(names: list[str], observer: ForEach) -> None:
        async with memory_store(MemoryDisk()) as store:
            await asyncio.gather(*(run(root(), run_name=name, store=store, observers=[observer]) for name in names))

    asyncio.run(main(["first", "second"], shared))
    asyncio.run(main(["alone"], alone))
    expected = {name: [e.kind for e in events] for name, events in by_action(alone.of_runs["alone"].events).items()}
    for name in ("first", "second"):
        recorder = shared.of_runs[name]
        opened = recorder.events[0]
        assert isinstance(opened, RunOpened)
        assert opened.run_name == name
        assert {action: [e.kind for e in events] for action, events in by_action(recorder.events).items()} == expected
        assert recorder.is_closed
    ids = [recorder.events[0].run_id for recorder in shared.of_runs.values() if isinstance(recorder.events[0], RunOpened)]
    assert len(set(ids)) == 2


def test_an_observer_given_twice_to_one_run_is_told_twice() -> None:
    twice, once = Recorder(), Recorder()
    observed([twice, twice])
    observed([once])
    assert len(twice.events) == 2 * len(once.events)


def test_one_that_can_not_begin_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    class Unfit(Recorder):
        def for_run(self, opened: RunOpened) -> Recorder:
            raise OSError("no place to write")

    unfit, recorder = Unfit(), Recorder()
    with caplog.at_level(logging.WARNING, "holdfast"):
        assert observed([unfit, recorder]) == EXPECTED
    assert unfit.events == []
    assert f"missed {len(recorder.events)} events, failed at 1" in caplog.text
    assert "no place to write" in caplog.text


def test_flags_say_what_is_live_and_what_was_done_before() -> None:
    @task(name="laws.twice")
    async def twice() -> None:
        await square(2)
        raise ValueError

    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            for recorder in recorders:
                with pytest.raises(ValueError, match=r"^$"):
                    await run(twice(), run_name="observed", store=store, observers=[recorder])

    recorders = [Recorder(), Recorder()]
    asyncio.run(main())
    first, second = (recorder.events for recorder in recorders)
    assert not any(event.is_replay for event in first)
    replays = [event for event in second if event.is_replay]
    assert [(type(event), event.live) for event in replays] == [(Replayed, True)]
    assert isinstance(replays[0], Replayed)
    opened, again = first[0], second[0]
    assert isinstance(opened, RunOpened)
    assert isinstance(again, RunOpened)
    assert replays[0].parent == opened.action
    assert opened.run_id == again.run_id
    assert (opened.owned_before, again.owned_before) == (None, opened.epoch)


def test_order_holds_for_each_action_in_any_order_of_the_work() -> None:
    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            assert await run(root(), run_name="observed", store=store, observers=[recorder]) == EXPECTED

    for seed in range(5):
        recorder = Recorder()
        run_shuffled(main, seed=seed)
        for events in by_action(recorder.events).values():
            kinds = [event.kind for event in events if event.kind not in ("task_seen", "warned")]
            assert kinds[0] == "action_asked"
            assert kinds[-1] == "attempt_ended"
            begun = [kind for kind in kinds if kind in ("attempt_started", "attempt_ended")]
            assert begun == ["attempt_started", "attempt_ended"] * (len(begun) // 2)


def test_a_run_leaves_no_thread_of_an_observer_behind() -> None:
    before = set(threading.enumerate())
    observed([Recorder(), Recorder()])
    assert not [thread.name for thread in set(threading.enumerate()) - before if thread.name == "holdfast-observer"]


STUCK = """
import asyncio, sys, threading, time
import holdfast as hf
from holdfast import telling
telling.CLOSE_SECONDS = 0.2

class Stuck:
    def on_event(self, event):
        threading.Event().wait()

class StuckAsync:
    async def on_event(self, event):
        threading.Event().wait()

class StuckInAThreadOfItsOwn:
    async def on_event(self, event):
        await asyncio.to_thread(threading.Event().wait)

class StuckAtItsEnd:
    def on_event(self, event): ...
    def aclose(self):
        threading.Event().wait()

@hf.task(name="main")
async def main() -> str:
    return "ended"

async def both():
    async with hf.Store("memory://stuck") as store:
        return await hf.run(main(), run_name="a", store=store, observers=[Stuck(), StuckAsync(), StuckInAThreadOfItsOwn(), StuckAtItsEnd()])

print(asyncio.run(both()))
"""


def test_a_process_ends_though_observers_hang() -> None:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(STUCK)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
