"""Bars on record: now and then while they move, always the last value before an outcome, and never more than happened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from holdfast import Bar, Budget, Event, MessageType, Retry, Status, Timeout, ctx, run, start, task
from holdfast.errors import ActionEnded, BudgetSpent, BudgetWarning, InvalidOption
from holdfast.events import ActionAsked, AttemptEnded, AttemptStarted, Progressed, Ticked
from holdfast.folders.memory import MemoryDisk
from holdfast.journals.reading import read_journal
from holdfast.progress import BARS_AT_MOST
from holdfast.runs.asked import newest_incarnation
from holdfast.states import Fold
from holdfast.testing import Clock, crash_everywhere, memory_store, run_shuffled, task_context
from holdfast.testing.places import On

LONG = 30.0

disk = MemoryDisk()
release = threading.Event()
kept: list[Any] = []


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    global disk
    disk = MemoryDisk()
    release.clear()
    kept.clear()
    yield
    release.set()


class Recorder:
    live = True

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def recorded(call: Any, **options: Any) -> Recorder:
    recorder = Recorder()
    try:
        asyncio.run(run(call, run_name="it", store=memory_store(disk), observers=[recorder], **options))
    except (ValueError, TimeoutError):
        pass
    return recorder


def bars(run_name: str = "it") -> dict[str, tuple[float, float | None]]:
    root = memory_store(disk).state_sync(run_name).root
    assert root is not None
    return {name: (bar.n, bar.total) for name, bar in root.progress.items()}


# how often


@task
async def steps(count: int, seconds: float) -> None:
    for _ in range(count):
        ctx().progress(total=count)
        await ctx().sleep(seconds)


@pytest.mark.parametrize(("count", "seconds", "at_most"), [(100, 0.1, 11), (20, 1.0, 21), (5, 60.0, 6)])
def test_while_it_moves_a_bar_goes_on_record_about_once_a_second(count: int, seconds: float, at_most: int) -> None:
    with Clock().use():
        recorder = recorded(steps(count, seconds))
    events = recorder.of(Progressed)
    assert at_most // 2 <= len(events) <= at_most
    instants = [event.at for event in events]
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(instants[:-1]))
    assert bars() == {"default": (count, count)}


@task
async def hurries() -> None:
    for _ in range(1000):
        ctx().progress(total=1000)


def test_what_is_over_within_a_second_goes_on_record_once() -> None:
    recorder = recorded(hurries())
    assert [event.bars["default"][:2] for event in recorder.of(Progressed)] == [(1000, 1000)]
    assert len(recorder.of(Ticked)) == 1000


@task
async def moves_once_and_waits() -> None:
    ctx().progress("files", 3, total=10)
    await asyncio.sleep(5)


def test_what_moved_once_is_on_record_a_second_later_while_the_body_waits() -> None:
    store = memory_store(disk)

    async def program() -> list[Event]:
        await run(moves_once_and_waits(), run_name="it", store=store)
        read = await read_journal(await newest_incarnation(store.folder, "it"))
        return list(read.events())

    events = run_shuffled(program, seed=1)
    [started] = [event for event in events if isinstance(event, AttemptStarted)]
    [progressed] = [event for event in events if isinstance(event, Progressed)]  # and not again at the end
    assert progressed.bars["files"][:2] == (3, 10)
    assert 0.9 <= progressed.at - started.at <= 1.5


def test_a_body_without_bars_records_none() -> None:
    @task(name="none")
    async def none() -> None:
        return None

    assert recorded(none()).of(Progressed) == []


# the last value


@task
async def fails() -> None:
    ctx().progress(step=3, total=10)
    raise ValueError("no more")


@task(timeout=Timeout(attempt=0.03))
async def hangs() -> None:
    ctx().progress(step=3, total=10)
    await asyncio.Event().wait()


@task(timeout=Timeout(attempt=0.05))
def blocks() -> None:
    ctx().progress(step=3, total=10)
    release.wait(LONG)


ENDS: dict[str, tuple[Any, dict[str, Any]]] = {"fails": (fails.call, {}), "hangs": (hangs.call, {}), "blocks": (blocks.call, {"grace": 0})}


@pytest.mark.parametrize("how", ENDS)
def test_the_last_value_stands_before_the_outcome_whatever_that_is(how: str) -> None:
    call, options = ENDS[how]
    recorder = recorded(call(), **options)
    kinds = [type(event) for event in recorder.events if isinstance(event, (Progressed, AttemptEnded))]
    assert kinds == [Progressed, AttemptEnded]
    assert bars() == {"default": (3, 10)}


@task
async def leaves() -> None:
    try:
        ctx().progress(step=3, total=10)
        begun.set()
        await asyncio.Event().wait()
    finally:
        ctx().progress(step=1)
        ctx().message(MessageType.INFO, "leaving")


async def _cancelled() -> None:
    async with await start(leaves(), run_name="it", store=memory_store(disk)) as handle:
        await begun.wait()
        await handle.cancel()


async def _stopped() -> None:
    async with await start(leaves(), run_name="it", store=memory_store(disk)) as handle:
        await begun.wait()
        await handle.stop()


async def _left_by_who_awaits_it() -> None:
    awaiting = asyncio.create_task(run(leaves(), run_name="it", store=memory_store(disk)))
    await begun.wait()
    awaiting.cancel()
    await asyncio.wait([awaiting])


async def _out_of_time() -> None:
    with pytest.raises(TimeoutError):
        await run(leaves.with_options(timeout=Timeout(total=0.03))(), run_name="it", store=memory_store(disk))


@pytest.mark.parametrize("how", [_cancelled, _stopped, _left_by_who_awaits_it, _out_of_time])
def test_what_a_body_shows_and_says_on_its_way_out_is_on_record(how: Any) -> None:
    global begun
    begun = asyncio.Event()
    asyncio.run(how())
    root = memory_store(disk).state_sync("it").root
    assert root is not None
    assert (root.progress["default"].n, [message.content for message in root.messages]) == (4, ["leaving"])


begun = asyncio.Event()


@task
async def spends() -> None:
    for _ in range(5):
        ctx().progress(total=5)
        await pays()


@task
async def pays() -> None:
    ctx().add_cost("1")


def test_where_a_budget_is_spent_the_last_value_is_on_record() -> None:
    with pytest.raises(BudgetSpent), pytest.warns(BudgetWarning):
        asyncio.run(run(spends(), run_name="it", store=memory_store(disk), budget=Budget(cost="2")))
    assert bars() == {"default": (3, 5)}


@task
async def parent() -> None:
    await asyncio.gather(*(child(n) for n in range(5)))


@task
async def child(n: int) -> None:
    for _ in range(n):
        ctx().progress("parts", total=n)
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(5))
def test_siblings_have_bars_of_their_own_in_any_order(seed: int) -> None:
    store = memory_store(disk)
    run_shuffled(lambda: run(parent(), run_name="it", store=store), seed=seed)
    state = memory_store(disk).state_sync("it")
    shown = sorted(bar.n for action in state.actions.values() for bar in action.progress.values())
    assert shown == [1, 2, 3, 4]


# threads


@task
def threaded() -> None:
    context = ctx()

    def work() -> None:
        for _ in range(500):
            context.progress("steps", total=4000)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_of_one_body_lose_no_step() -> None:
    recorder = recorded(threaded.call())
    assert bars() == {"steps": (4000, 4000)}
    assert [tick.n for tick in recorder.of(Ticked)] == list(range(1, 4001))


# what belongs to an attempt


@task(retries=Retry(3, initial_interval=0))
async def again() -> None:
    ctx().progress("tries", total=3)
    if ctx().attempt_number < 2:
        raise ValueError("again")


def test_each_attempt_begins_with_no_bars() -> None:
    recorded(again())
    assert bars() == {"tries": (1, 3)}


ASKED = ActionAsked(action="a", at=1.0, task="t")


def started(number: int) -> Event:
    return AttemptStarted(action="a", at=2.0, number=number, epoch=1)


def ended(number: int, status: Status, then: Status | None = None) -> Event:
    return AttemptEnded(action="a", at=3.0, number=number, status=status, then=then if then is not None else status)


def at(n: float) -> Event:
    return Progressed(action="a", at=2.5, bars={"default": (n, 10, 2.0, 2.5)})


CASES: dict[str, tuple[list[Event], float | None]] = {
    "nothing moved": ([ASKED, started(0)], None),
    "under way": ([ASKED, started(0), at(1), at(2)], 2),
    "crashed": ([ASKED, started(0), at(2), ended(0, Status.CRASHED)], 2),
    "waits for a retry": ([ASKED, started(0), at(2), ended(0, Status.FAILED, Status.RETRYING)], 2),
    "tried again": ([ASKED, started(0), at(2), ended(0, Status.FAILED, Status.RETRYING), started(1)], None),
    "resumed": ([ASKED, started(0), at(2), ended(0, Status.CRASHED), started(1), at(5)], 5),
    "rewound": ([ASKED, started(0), at(7), at(3)], 3),
    "moved after its end": ([ASKED, started(0), at(2), ended(0, Status.COMPLETED), at(9)], 2),
}


@pytest.mark.parametrize("case", CASES)
def test_the_bars_that_are_shown_are_those_of_the_last_attempt(case: str) -> None:
    events, n = CASES[case]
    found = Fold.of(events).actions["a"].bars
    assert (found["default"][0] if found is not None else None) == n


# what is refused


def test_a_bar_is_returned_and_outside_a_run_it_is_nobodys() -> None:
    with task_context():
        bar = ctx().progress("files", 2, total=8)
    assert isinstance(bar, Bar)
    assert (bar.n, bar.total, bar.percent) == (2, 8, 25.0)


@pytest.mark.parametrize("name", ["", "x" * 256, 3, None, ["a"]])
def test_a_bar_has_a_name(name: Any) -> None:
    with task_context(), pytest.raises(InvalidOption, match="name="):
        ctx().progress(name)


def test_an_action_has_so_many_bars_and_not_more() -> None:
    with task_context():
        for number in range(BARS_AT_MOST):
            ctx().progress(str(number))
        ctx().progress("0")
        with pytest.raises(InvalidOption, match="at most"):
            ctx().progress("one more")


def test_a_refused_step_changes_nothing() -> None:
    with task_context():
        ctx().progress(step=5)
        with pytest.raises(InvalidOption):
            ctx().progress(step=float("nan"))
        assert ctx().progress(step=0).n == 5


def test_an_attempt_that_ended_shows_nothing_more() -> None:
    @task(name="leaks")
    async def leaks() -> None:
        kept.append(ctx())

    recorded(leaks())
    with pytest.raises(ActionEnded):
        kept[0].progress()


# crashes

ROUNDS = 6


@task
async def slow() -> int:
    for number in range(ROUNDS):
        await one(number)
        ctx().progress("rounds", total=ROUNDS)
        await ctx().sleep(2)
    return ROUNDS


@task
async def one(number: int) -> int:
    return number


@pytest.mark.parametrize("on", ["disk", "bucket"])
def test_killed_anywhere_what_is_on_record_never_goes_beyond_what_happened(on: On) -> None:
    killed = 0
    with Clock().use():
        for survival in crash_everywhere(lambda: slow(), on=on, step=3):
            killed += bool(survival.crashes)
            assert survival.error is None, str(survival)
            for store in survival.earlier:
                _hold(store)
            assert _hold(survival.store) == ROUNDS, str(survival)
    assert killed > 10


def _hold(store: Any) -> float:
    try:
        state = store.state_sync("program")
    except LookupError:
        return 0
    done = sum(action.task_name.endswith(":one") and action.status is Status.COMPLETED for action in state.actions.values())
    shown = [action.progress["rounds"].n for action in state.actions.values() if "rounds" in action.progress]
    assert len(shown) <= 1
    assert not shown or shown[0] <= done
    return float(shown[0]) if shown else 0
