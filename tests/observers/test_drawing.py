"""A picture as lines: never wider or more than fit, whatever names and numbers there are, and the same without colour."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.events import ActionAsked, ActionEnded, AttemptEnded, AttemptStarted, Event, Messaged, Replayed, RunOpened, Spent, Ticked
from holdfast.observers.drawing import ASCII_MARKS, MARKS, Drawing, Line, marks_for, printable, width_of
from holdfast.observers.picture import Picture
from holdfast.observers.sums import Sum
from holdfast.status import Status

NOW = 100.0


def seen(*events: Event) -> Picture:
    picture = Picture()
    picture.see(RunOpened(action="ROOT", at=NOW - 65, run_name="nightly", task="m:main", store="s", is_new=True, recorded=0))
    for event in events:
        picture.see(event)
    return picture


def asked(action: str, task: str, parent: str = "ROOT", group: tuple[str, ...] = ()) -> Event:
    return ActionAsked(action=action, at=NOW, parent=parent, task=task, group=group)


def started(action: str) -> Event:
    return AttemptStarted(action=action, at=NOW, number=0, epoch=1)


def ended(action: str, then: Status = Status.COMPLETED) -> Event:
    return AttemptEnded(action=action, at=NOW, number=0, status=Status.FAILED if then is Status.RETRYING else then, then=then)


def texts(lines: Sequence[Line]) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def drawn(picture: Picture, width: int = 100, height: int = 40, encoding: str | None = None) -> list[str]:
    return texts(Drawing(encoding, lambda: NOW).lines(picture, width, height))


def program() -> Picture:
    """Each way in which a row can fare, in groups, with bars and messages."""
    return seen(
        asked("d", "m:download", group=("prepare",)), started("d"), ended("d"),
        asked("t", "m:train", group=("model", "fit")), started("t"),
        Ticked(action="t", at=NOW - 20, bar="epochs", n=1, total=8), Ticked(action="t", at=NOW - 10, bar="epochs", n=3, total=8),
        Ticked(action="t", at=NOW - 20, bar="samples seen", n=100, total=None),
        asked("e", "m:evaluate", group=("model",)),
        asked("b", "m:bad"), started("b"), ended("b", Status.FAILED),
        asked("c", "m:classify"), started("c"), ended("c", Status.RETRYING), started("c"), ended("c"),
        *(event for n in range(12) for event in (asked(f"c{n}", "m:classify"), started(f"c{n}"), ended(f"c{n}"))),
        Replayed(action="o", at=NOW, task="m:old", status=Status.COMPLETED, parent="ROOT"),
        Spent(action="t", at=NOW, number=0, cost="0.25", tokens=1000),
        Messaged(action="t", at=NOW, type="info", content="loss 0.1"),
    )  # fmt: skip


def test_a_picture_is_a_tree_with_marks_and_columns_then_bars_then_messages() -> None:
    assert drawn(program()) == [
        "● nightly  1:05  1 from record, 1 retry, 1 failed, cost 0.2500 for 1,000 tokens",
        "├─ prepare",
        "│  └─ ✓ download   1 done",
        "├─ model",
        "│  ├─ fit",
        "│  │  └─ ● train                     1 running",
        "│  └─ ○ evaluate                                1 waiting",
        "├─ ✗ bad                   1 failed",
        "├─ ✓ classify     13 done                                                 1 retry",
        "└─ ↺ old                                                   1 from record",
        "  epochs        ━━━━━━━━━━━━────────────────────  3/8  37 %  0:25 left  12.0/min",
        "  samples seen                                    100",
        "info: train: loss 0.1",
    ]


def test_where_columns_have_no_room_numbers_are_listed_and_the_run_takes_more_lines() -> None:
    assert drawn(program(), width=44)[:4] == [
        "● nightly  1:05  1 from record, 1 retry",
        "  1 failed, cost 0.2500 for 1,000 tokens",
        "├─ prepare",
        "│  └─ ✓ download  1 done",
    ]
    assert drawn(program(), width=44)[9] == "├─ ✓ classify     13 done, 1 retry"


def test_a_terminal_without_such_marks_gets_others_and_no_escapes() -> None:
    assert marks_for("utf-8") is marks_for(None) is MARKS
    assert marks_for("ascii") is marks_for("latin-1") is marks_for("no-such") is ASCII_MARKS
    assert all(getattr(ASCII_MARKS, field.name).isascii() for field in ASCII_MARKS.__fields__)
    shown = drawn(seen(asked("a", "日本"), Ticked(action="a", at=NOW, bar="übrig", n=1, total=2)), encoding="ascii")
    assert shown[1] == "`- o ??  1 waiting"
    assert shown[2].startswith("  ?brig  ################................  1/2  50 %")
    assert printable("übrig", "latin-1") == "übrig"


MARKED = {
    Status.COMPLETED: "✓",
    Status.FAILED: "✗",
    Status.TIMED_OUT: "✗",
    Status.STOPPED: "■",
    Status.CANCELLED: "■",
}


@pytest.mark.parametrize("status", MARKED)
def test_how_a_run_ended_is_said_in_a_mark_and_a_word(status: Status) -> None:
    assert drawn(seen(started("ROOT"), ended("ROOT", status)))[0].startswith(f"{MARKED[status]} nightly  ")
    assert status.value in drawn(seen(started("ROOT"), ended("ROOT", status)))[0]


def test_what_a_stop_or_a_cancellation_ended_is_said_and_no_time_is_left_when_a_run_is_over() -> None:
    stopped = seen(
        started("ROOT"), asked("a", "m:stopped"), started("a"), asked("b", "m:partly"), started("b"), ended("b"), asked("c", "m:partly"),
        asked("d", "m:given_up"), started("d"), ended("d", Status.CANCELLED),
        Ticked(action="a", at=NOW - 20, bar="files", n=1, total=8), Ticked(action="a", at=NOW - 10, bar="files", n=2, total=8),
        ended("a", Status.STOPPED), ActionEnded(action="c", at=NOW, then=Status.STOPPED), ended("ROOT", Status.STOPPED),
    )  # fmt: skip
    assert drawn(stopped) == [
        "■ nightly  1:05  STOPPED",
        "├─ ■ stopped           1 stopped",
        "├─ ■ partly    1 done  1 stopped",
        "└─ ■ given_up                     1 cancelled",
        "  files  ━━━━━━━━────────────────────────  2/8  25 %    6.0/min",
    ]


@pytest.mark.parametrize(("n", "total", "shown"), [(199, 200, 99), (200, 200, 100), (29, 100, 29), (0, 3, 0), (300, 200, 100)])
def test_a_hundred_percent_means_all(n: float, total: float, shown: int) -> None:
    assert Sum(n=n, total=total).percent == shown


NAMES = st.text(max_size=30)
ACTIONS = st.sampled_from("abcdef")
ENDS = st.sampled_from([Status.COMPLETED, Status.FAILED, Status.RETRYING, Status.STOPPED])
COUNTS = st.integers(0, 10**9)


@st.composite
def asks(draw: st.DrawFn) -> Event:
    return asked(draw(ACTIONS), draw(NAMES), group=tuple(draw(st.lists(NAMES, max_size=3))))


@st.composite
def ticks(draw: st.DrawFn) -> Event:
    return Ticked(action=draw(ACTIONS), at=NOW, bar=draw(NAMES), n=draw(COUNTS), total=draw(st.none() | COUNTS))


@st.composite
def messages(draw: st.DrawFn) -> Event:
    return Messaged(action=draw(ACTIONS), at=NOW, type="error", content=draw(NAMES))


EVENTS = st.lists(asks() | ticks() | messages() | st.builds(started, ACTIONS) | st.builds(ended, ACTIONS, ENDS), max_size=40)


@given(EVENTS, st.integers(10, 200), st.integers(2, 60), st.sampled_from(["utf-8", "ascii", "latin-1", None]))
def test_lines_are_never_wider_or_more_than_fit(events: list[Event], width: int, height: int, encoding: str | None) -> None:
    lines = Drawing(encoding, lambda: NOW).lines(seen(*events), width, height)
    assert len(lines) <= height
    for line in lines:
        text = "".join(part for part, _ in line)
        assert width_of(text) <= width
        assert text.isprintable()
        text.encode(encoding or "utf-8", "surrogatepass" if encoding is None else "strict")


@given(st.text(max_size=50))
@example("\N{COUNTING ROD UNIT DIGIT ONE}")
def test_widths_are_those_that_the_terminal_library_reckons_with(text: str) -> None:
    cells = pytest.importorskip("rich.cells")
    shown = printable(text)
    assert width_of(shown) >= cells.cell_len(shown)


def test_where_rows_are_left_out_that_is_said_in_the_room_there_is() -> None:
    events = [ActionAsked(action=str(number), at=NOW, parent="ROOT", task=f"task {number}") for number in range(9)]
    for width in range(4, 12):
        lines = Drawing(None, lambda: NOW).lines(seen(*events), width, 5)
        assert max(width_of("".join(part for part, _ in line)) for line in lines) <= width
