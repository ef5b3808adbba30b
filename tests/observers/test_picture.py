"""What is shown of a run: one row for each task and place, however often it was called, and no more than fits."""

from __future__ import annotations

import asyncio
import io
import re
from decimal import Decimal

import pytest

from holdfast import MessageType, Retry, ctx, group, map, records, run, task
from holdfast.events import (
    ActionAsked,
    ActionEnded,
    AttemptEnded,
    AttemptStarted,
    Continued,
    Event,
    Messaged,
    MessagesCleared,
    Missed,
    Replayed,
    RowsCounted,
    RowsSeen,
    RunOpened,
    Ticked,
    Warned,
)
from holdfast.observers.drawing import printable
from holdfast.observers.picture import Picture
from holdfast.observers.sums import amount
from holdfast.observers.terminal import PLAIN_AT_ONCE, TerminalObserver
from holdfast.observers.tree import DEEPEST, GROUPS_KEPT, Branch, shown_branches
from holdfast.status import Status
from holdfast.testing import MemoryDisk, memory_store


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def opened(name: str = "nightly") -> Event:
    return RunOpened(action="ROOT", at=0.0, run_name=name, task="main", store="s", is_new=True, recorded=0)


def asked(action: str, task: str = "t", parent: str = "ROOT", group: tuple[str, ...] = ()) -> Event:
    return ActionAsked(action=action, at=0.0, task=task, parent=parent, group=group)


def began(action: str, number: int = 0) -> Event:
    return AttemptStarted(action=action, at=0.0, number=number, epoch=1)


def ended(action: str, then: Status = Status.COMPLETED, number: int = 0) -> Event:
    status = Status.FAILED if then is Status.RETRYING else then
    return AttemptEnded(action=action, at=0.0, number=number, status=status, then=then)


def seen(*events: Event) -> Picture:
    picture = Picture()
    for event in (opened(), asked("ROOT", "main", ""), began("ROOT"), *events):
        picture.see(event)
    return picture


def tree(picture: Picture) -> list[str]:
    """The branches as text, indented by their depth."""
    return [f"{'  ' * (branch.depth - 1)}{branch.name}: {branch.said()}" for branch in list(picture.tree.walk())[1:]]


def test_actions_of_one_task_are_one_branch() -> None:
    events = [event for n in range(5) for event in (asked(str(n)), began(str(n)), ended(str(n)))]
    assert tree(seen(*events, asked("x"), began("x"), asked("y"))) == ["t: 5 done, 1 running, 1 waiting"]


def test_tasks_stand_below_those_that_asked_for_them_and_below_groups() -> None:
    picture = seen(asked("a", "load"), began("a"), asked("b", "parse", "a", ("shards", "one")), began("b"), asked("c", "report"))
    assert tree(picture) == ["load: 1 running", "  shards: ", "    one: ", "      parse: 1 running", "report: 1 waiting"]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([ended("a", Status.FAILED)], "1 failed"),
        ([ended("a", Status.TIMED_OUT)], "1 failed"),
        ([ended("a", Status.CANCELLED)], "1 cancelled"),
        ([ended("a", Status.STOPPED)], "1 stopped"),
        ([ended("a", Status.RETRYING)], "1 waiting, 1 retry"),
        ([ended("a", Status.RETRYING), began("a", 1)], "1 running, 1 retry"),
        ([ended("a", Status.RETRYING), began("a", 1), ended("a", number=1)], "1 done, 1 retry"),
        ([ended("a", Status.RETRYING), ActionEnded(action="a", at=0.0, then=Status.CANCELLED)], "1 cancelled, 1 retry"),
        ([ended("a", Status.FAILED), asked("a"), began("a", 1), ended("a", number=1)], "1 done, 1 failed"),
    ],
)
def test_a_branch_says_how_its_actions_fared(events: list[Event], said: str) -> None:
    assert tree(seen(asked("a"), began("a"), *events)) == [f"t: {said}"]


def test_what_is_answered_from_record_or_goes_on_is_at_its_place() -> None:
    picture = seen(
        Replayed(action="a", at=0.0, task="t", status=Status.COMPLETED, parent="ROOT", group=("g",)),
        Continued(action="b", at=0.0, task="t", parent="ROOT", group=("g",)),
        began("b", 3),
    )
    assert tree(picture) == ["g: ", "  t: 1 running, 1 from record"]


def test_a_task_that_calls_itself_is_one_branch() -> None:
    events = [event for n in range(100) for event in (asked(f"{n + 1}", "t", f"{n}" if n else "ROOT"), began(f"{n + 1}"))]
    assert tree(seen(*events)) == ["t: 100 running"]


def test_what_is_deep_is_added_to_the_deepest_branch_that_is_shown() -> None:
    groups = tuple(f"g{n}" for n in range(DEEPEST + 3))
    branches = list(seen(asked("a", group=groups), began("a")).tree.walk())
    assert max(branch.depth for branch in branches) == DEEPEST
    assert sum(branch.running for branch in branches[1:]) == 1


def test_a_run_that_goes_on_after_a_crash_is_not_shown_as_crashed() -> None:
    picture = seen(ended("ROOT", Status.CRASHED))
    assert picture.status is Status.CRASHED
    picture.see(began("ROOT", 1))
    assert picture.status is None


def test_of_a_hundred_thousand_groups_few_branches_are_kept() -> None:
    picture = seen()
    for n in range(100_000):
        for event in (asked(f"{n}", group=(f"round-{n}",)), began(f"{n}"), ended(f"{n}")):
            picture.see(event)
    branches = list(picture.tree.walk())
    assert len(branches) <= 2 * GROUPS_KEPT + 5
    assert sum(branch.done for branch in branches) == picture.done == 100_000
    assert len(picture._live) == 1


def test_times_and_random_numbers_of_ours_are_no_branches() -> None:
    picture = seen(asked("a", "holdfast:now"), began("a"), ended("a"))
    assert (tree(picture), picture.done) == ([], 0)


def many_branches() -> Branch:
    top = Branch("", is_group=False, above=None)
    for n in range(30):
        branch = top.child(f"g{n}", is_group=True).child("t", is_group=False)
        branch.done = 1
        branch.failed = n == 17
        branch.running = n in (11, 12)
    return top


def test_what_failed_or_runs_is_shown_first_with_what_stands_above_it() -> None:
    shown, left_out = shown_branches(many_branches(), 6)
    assert [branch.name for branch in shown] == ["g11", "t", "g12", "t", "g17", "t"]
    assert left_out == len(list(many_branches().walk())) - 1 - 6


@pytest.mark.parametrize("at_most", [0, 1, 2, 5, 100])
def test_no_more_branches_are_shown_than_fit(at_most: int) -> None:
    shown, left_out = shown_branches(many_branches(), at_most)
    assert len(shown) <= at_most
    assert len(shown) + left_out == len(list(many_branches().walk())) - 1


def test_time_left_is_reckoned_from_where_a_bar_was_first_seen() -> None:
    picture = seen()
    for at, n in ((100.0, 500), (110.0, 510), (120.0, 520)):
        picture.see(Ticked(action="ROOT", at=at, bar="rows", n=n, total=1000))
    assert picture.bars["rows"].remaining_seconds == pytest.approx(480.0)
    picture.see(Ticked(action="ROOT", at=130.0, bar="rows", n=100, total=1000))  # an older checkpoint was loaded
    assert picture.bars["rows"].remaining_seconds is None
    picture.see(Ticked(action="ROOT", at=140.0, bar="rows", n=200, total=1000))
    assert picture.bars["rows"].remaining_seconds == pytest.approx(80.0)


def counted(total: int | None, place: str = "t 0.0", task: str = "t", action: str = "ROOT", at: float = 0.0) -> Event:
    return RowsCounted(action=action, at=at, place=place, task=task, total=total)


def mapped(name: str, *ends: Status, at: float = 1.0, parent: str = "ROOT") -> list[Event]:
    """A row, and how its attempts ended."""
    events = [asked(name, parent=parent)]
    for number, then in enumerate(ends):
        status = Status.FAILED if then is Status.RETRYING else then
        events += [began(name, number), AttemptEnded(action=name, at=at, number=number, status=status, then=then)]
    return events


def reused(name: str, task: str = "t", at: float = 0.0, parent: str = "ROOT") -> Event:
    return Replayed(action=name, at=at, task=task, status=Status.COMPLETED, parent=parent)


MAPPER = [asked("M", "m"), began("M")]
AGAIN = [ended("M", Status.RETRYING), began("M", 1)]
SHOWN: dict[str, tuple[list[Event], str]] = {
    "none is done": ([counted(4)], "0/4"),
    "a row counts at its end": ([counted(4), *mapped("a", Status.COMPLETED), *mapped("b")], "1/4"),
    "also one that failed for good": ([counted(4), *mapped("a", Status.FAILED), *mapped("b", Status.TIMED_OUT)], "2/4"),
    "once, however often it is tried": ([counted(4), *mapped("a", Status.RETRYING, Status.RETRYING, Status.COMPLETED)], "1/4"),
    "not one that was cancelled or stopped": ([counted(4), *mapped("a", Status.CANCELLED), *mapped("b", Status.STOPPED)], "0/4"),
    "nor one of another task": ([counted(4), asked("x", "x"), began("x"), ended("x")], "0/4"),
    "nor one of another action": ([counted(4), *MAPPER, *mapped("a", Status.COMPLETED, parent="M")], "0/4"),
    "what is on record counts": ([counted(4), reused("a"), reused("b"), *mapped("c", Status.COMPLETED)], "3/4"),
    "also where it is told before": ([reused("a"), reused("x", "x"), reused("b"), counted(4), reused("c")], "3/4"),
    "what goes on counts at its end": (
        [Continued(action="a", at=0.0, task="t", parent="ROOT"), counted(4), began("a", 1), ended("a", number=1)],
        "1/4",
    ),
    "two maps of one task are added up": ([counted(4), counted(3, "t 0.1"), *mapped("a", Status.COMPLETED)], "1/7"),
    "a stream has no total": ([counted(None), *mapped("a", Status.COMPLETED)], "1"),
    "until its end": (
        [counted(None), *mapped("a", Status.COMPLETED), RowsSeen(action="ROOT", at=1.0, place="t 0.0", total=2)],
        "1/2",
    ),
    "another attempt asks for its rows anew": (
        [*MAPPER, counted(4, action="M"), *mapped("a", Status.COMPLETED, parent="M"), *AGAIN, reused("a", parent="M"),
         counted(4, action="M"), *mapped("b", Status.COMPLETED, parent="M")],
        "2/4",
    ),
    "until then they stay": ([*MAPPER, counted(4, action="M"), *mapped("a", Status.COMPLETED, parent="M"), *AGAIN], "1/4"),
    "also one that is asked for anew": (
        [*MAPPER, counted(4, action="M"), *mapped("a", Status.COMPLETED, parent="M"), ended("M", Status.FAILED), *MAPPER,
         counted(3, action="M")],
        "0/3",
    ),
    "what is done stays done": (
        [*MAPPER, counted(1, action="M"), *mapped("a", Status.COMPLETED, parent="M"), ended("M"), counted(2), *mapped("b")],
        "1/3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SHOWN)
def test_the_rows_of_a_task_have_a_bar(case: str) -> None:
    events, shown = SHOWN[case]
    assert [(name, amount(bar)) for name, bar in seen(*events).shown_bars()] == [("t", shown)]


def test_without_rows_there_is_no_such_bar() -> None:
    assert seen(*mapped("a", Status.COMPLETED), reused("b")).shown_bars() == []


def test_rows_that_were_on_record_are_no_speed() -> None:
    replays = [reused(f"r{n}", at=0.5) for n in range(90)]
    done = [event for n in range(1, 6) for event in mapped(str(n), Status.COMPLETED, at=float(n))]
    [(_, bar)] = seen(*replays[:40], counted(100, at=0.0), *replays[40:], *done).shown_bars()
    assert (amount(bar), bar.rate, bar.remaining_seconds) == ("95/100", 1.0, 5.0)


@task(name="shop:twice", key=str)
async def twice(n: int) -> int:
    return 2 * n


@task
async def doubled() -> int:
    return len(await map(twice, range(20)))


@pytest.mark.parametrize(("stream", "line"), [(io.StringIO, r"it: twice 20/20 \(100 %"), (Terminal, r"twice.*20/20 .*100 %")])
def test_a_run_of_rows_shows_how_many_are_done_without_any_bar_of_the_program(stream: type[io.StringIO], line: str) -> None:
    shown = stream()
    asyncio.run(run(doubled(), run_name="it", store=memory_store(), observers=[TerminalObserver(shown)]))
    assert re.search(line, shown.getvalue()) is not None


class Watching:
    """The bars at the end of a run."""

    live = True

    def __init__(self) -> None:
        self.picture = Picture()

    def on_event(self, event: Event) -> None:
        self.picture.see(event)

    @property
    def shown(self) -> list[tuple[str, str]]:
        return [(name, amount(bar)) for name, bar in self.picture.shown_bars()]


@task(retries=Retry(2, initial_interval=0))
async def streamed() -> int:
    done = 0
    async for _ in records(twice, range(20), concurrency=3):
        done += 1
        if done == 10 and fail_at:
            fail_at.pop()
            raise ConnectionError
    return done


fail_at: list[int] = []


@pytest.mark.parametrize("failures", [1, 3])
def test_a_task_that_is_tried_again_and_resumed_shows_each_row_once(failures: int) -> None:
    fail_at[:] = [10] * failures
    store = memory_store()
    shown: list[list[tuple[str, str]]] = []
    while fail_at or not shown:
        watching = Watching()
        try:
            asyncio.run(run(streamed(), run_name="it", store=store, observers=[watching]))
        except ConnectionError:
            stats = store.state_sync("it").stats
            assert watching.shown == [("twice", f"{stats.processed}/20")]
        shown.append(watching.shown)
    assert shown[-1] == [("twice", "20/20")]


def test_of_messages_the_last_ones_are_kept_until_they_are_taken_back() -> None:
    picture = seen(
        Warned(action="ROOT", at=0.0, category="CodeChanged", text="other code"),
        *(Messaged(action="ROOT", at=0.0, type="info", content=f"{n}") for n in range(9)),
        asked("a"),
        Messaged(action="a", at=0.0, type="error", content="bad"),
    )
    assert [text for *_, text in picture.messages] == ["7", "8", "bad"]
    picture.see(MessagesCleared(action="ROOT", at=0.0))
    assert [(kind, text) for _, kind, _, text in picture.messages] == [(MessageType.ERROR, "bad")]
    assert "1 warning" in picture.counts()


class Spends:
    """As an event that says what something cost."""

    kind, live, at = "spent", False, 0.0

    def __init__(self, action: str, cost: str, tokens: int = 0, key: str = "") -> None:
        self.action, self.cost, self.tokens, self.key = action, cost, tokens, key


def test_cost_is_added_up_and_a_key_counts_once_over_attempts() -> None:
    picture = seen(asked("a"), began("a"))
    for spent in (Spends("a", "0.10", 5, "k"), Spends("a", "0.10", 5, "k"), Spends("a", "0.05"), Spends("b", "", 7)):
        picture.see(spent)  # type: ignore[arg-type]
    assert (picture.cost, picture.tokens) == (Decimal("0.15"), 12)
    assert "cost 0.1500 for 12 tokens" in picture.counts()


def test_what_was_missed_is_said() -> None:
    assert "7 events not seen" in seen(Missed(action="", at=0.0, count=7)).counts()


def frames(stream: io.StringIO, *events: Event) -> str:
    observer = TerminalObserver(stream)
    for event in events:
        observer.on_event(event)
    asyncio.run(observer.aclose())
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_names_and_messages_do_not_steer_the_terminal() -> None:
    nasty = "\x1b]0;owned\x07\x1b[2J\r\nnext"
    for stream in (Terminal(), io.StringIO()):
        frames(stream, opened(), asked("a", nasty, group=(nasty,)), Messaged(action="a", at=0.0, type="error", content=nasty))
        assert "\x1b]0;" not in stream.getvalue()
        assert "\x1b[2J\r" not in stream.getvalue()
        assert "\x07" not in stream.getvalue()
    assert printable("déjà vu, 日本, 100 %") == "déjà vu, 日本, 100 %"


def test_many_bars_make_no_flood_of_plain_lines() -> None:
    ticks = [Ticked(action="ROOT", at=0.0, bar=f"bar-{n}", n=m, total=10) for n in range(1000) for m in range(11)]
    lines = frames(io.StringIO(), opened(), *ticks, ended("ROOT")).splitlines()
    assert len(lines) <= PLAIN_AT_ONCE + 10
    assert "lines left out before]" in lines[-1]
    assert "COMPLETED after" in lines[-1]


def test_runs_that_share_a_terminal_are_shown_one_below_the_other_and_stay_there() -> None:
    @task(name="picture.leaf", retries=Retry(2, initial_interval=0))
    async def leaf(number: int) -> int:
        ctx().message(MessageType.INFO, f"at {number}")
        return number

    @task(name="picture.both")
    async def both() -> int:
        with group("leaves"):
            return sum(await asyncio.gather(*(leaf(n) for n in range(5))))

    async def main() -> None:
        observer = TerminalObserver(stream)
        async with memory_store(MemoryDisk()) as store:
            await asyncio.gather(*(run(both(), run_name=name, store=store, observers=[observer]) for name in ("first", "second")))
            await run(both(), run_name="third", store=store, observers=[observer])

    stream = Terminal()
    asyncio.run(main())
    shown = stream.getvalue()
    for name in ("first", "second", "third"):
        assert re.search(rf"{name}.*COMPLETED", shown)
    assert "leaves" in shown
    assert "5 done" in shown
    assert shown.endswith("\n")
