"""What is shown of a run: one row for each task and place, however often it was called, and no more than fits."""

from __future__ import annotations

import asyncio
import io
import re
from decimal import Decimal

import pytest

from holdfast import MessageType, Retry, ctx, group, run, task
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
    RunOpened,
    Ticked,
    Warned,
)
from holdfast.observers.drawing import printable
from holdfast.observers.picture import DEEPEST, GROUPS_KEPT, Picture, Row, shown_rows
from holdfast.observers.terminal import PLAIN_AT_ONCE, TerminalObserver
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
    """The rows as text, indented by their depth."""
    return [f"{'  ' * (row.depth - 1)}{row.name}: {row.said()}" for row in list(picture.rows.walk())[1:]]


def test_actions_of_one_task_are_one_row() -> None:
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
        ([ended("a", Status.CANCELLED)], ""),
        ([ended("a", Status.STOPPED)], ""),
        ([ended("a", Status.RETRYING)], "1 waiting, 1 retry"),
        ([ended("a", Status.RETRYING), began("a", 1)], "1 running, 1 retry"),
        ([ended("a", Status.RETRYING), began("a", 1), ended("a", number=1)], "1 done, 1 retry"),
        ([ended("a", Status.RETRYING), ActionEnded(action="a", at=0.0, then=Status.CANCELLED)], "1 retry"),
        ([ended("a", Status.FAILED), asked("a"), began("a", 1), ended("a", number=1)], "1 done, 1 failed"),
    ],
)
def test_a_row_says_how_its_actions_fared(events: list[Event], said: str) -> None:
    assert tree(seen(asked("a"), began("a"), *events)) == [f"t: {said}"]


def test_what_is_answered_from_record_or_goes_on_is_at_its_place() -> None:
    picture = seen(
        Replayed(action="a", at=0.0, task="t", status=Status.COMPLETED, parent="ROOT", group=("g",)),
        Continued(action="b", at=0.0, task="t", parent="ROOT", group=("g",)),
        began("b", 3),
    )
    assert tree(picture) == ["g: ", "  t: 1 running, 1 from record"]


def test_a_task_that_calls_itself_is_one_row() -> None:
    events = [event for n in range(100) for event in (asked(f"{n + 1}", "t", f"{n}" if n else "ROOT"), began(f"{n + 1}"))]
    assert tree(seen(*events)) == ["t: 100 running"]


def test_what_is_deep_is_added_to_the_deepest_row_that_is_shown() -> None:
    groups = tuple(f"g{n}" for n in range(DEEPEST + 3))
    rows = list(seen(asked("a", group=groups), began("a")).rows.walk())
    assert max(row.depth for row in rows) == DEEPEST
    assert sum(row.running for row in rows[1:]) == 1


def test_a_run_that_goes_on_after_a_crash_is_not_shown_as_crashed() -> None:
    picture = seen(ended("ROOT", Status.CRASHED))
    assert picture.status is Status.CRASHED
    picture.see(began("ROOT", 1))
    assert picture.status is None


def test_of_a_hundred_thousand_groups_few_rows_are_kept() -> None:
    picture = seen()
    for n in range(100_000):
        for event in (asked(f"{n}", group=(f"round-{n}",)), began(f"{n}"), ended(f"{n}")):
            picture.see(event)
    rows = list(picture.rows.walk())
    assert len(rows) <= 2 * GROUPS_KEPT + 5
    assert sum(row.done for row in rows) == picture.done == 100_000
    assert len(picture._live) == 1


def test_times_and_random_numbers_of_ours_are_no_rows() -> None:
    picture = seen(asked("a", "holdfast:now"), began("a"), ended("a"))
    assert (tree(picture), picture.done) == ([], 0)


def many_rows() -> Row:
    rows = Row("", is_group=False, above=None)
    for n in range(30):
        row = rows.child(f"g{n}", is_group=True).child("t", is_group=False)
        row.done = 1
        row.failed = n == 17
        row.running = n in (11, 12)
    return rows


def test_what_failed_or_runs_is_shown_first_with_what_stands_above_it() -> None:
    shown, left_out = shown_rows(many_rows(), 6)
    assert [row.name for row in shown] == ["g11", "t", "g12", "t", "g17", "t"]
    assert left_out == len(list(many_rows().walk())) - 1 - 6


@pytest.mark.parametrize("at_most", [0, 1, 2, 5, 100])
def test_no_more_rows_are_shown_than_fit(at_most: int) -> None:
    shown, left_out = shown_rows(many_rows(), at_most)
    assert len(shown) <= at_most
    assert len(shown) + left_out == len(list(many_rows().walk())) - 1


def test_time_left_is_reckoned_from_where_a_bar_was_first_seen() -> None:
    picture = seen()
    for at, n in ((100.0, 500), (110.0, 510), (120.0, 520)):
        picture.see(Ticked(action="ROOT", at=at, bar="rows", n=n, total=1000))
    assert picture.bars["rows"].remaining_seconds == pytest.approx(480.0)
    picture.see(Ticked(action="ROOT", at=130.0, bar="rows", n=100, total=1000))  # an older checkpoint was loaded
    assert picture.bars["rows"].remaining_seconds is None
    picture.see(Ticked(action="ROOT", at=140.0, bar="rows", n=200, total=1000))
    assert picture.bars["rows"].remaining_seconds == pytest.approx(80.0)


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
