"""Progress for whoever watches: right sums, few lines, and a terminal left as it was."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from holdfast.errors import MissingExtra
from holdfast.events import AttemptEnded, AttemptStarted, Event, Replayed, RunOpened, Ticked, WaitBegun
from holdfast.observers.picture import Picture
from holdfast.observers.sums import amount, duration
from holdfast.observers.terminal import TerminalObserver
from holdfast.status import Status
from holdfast.testing.conformance_observers import CALLS, EXPECTED, observed

MANY = 100_000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def opened(recorded: int = 0) -> Event:
    return RunOpened(action="ROOT", at=0.0, run_name="nightly", task="main", store="s", is_new=not recorded, recorded=recorded)


def tick(action: str, n: float, total: float | None, bar: str = "files") -> Event:
    return Ticked(action=action, at=0.0, bar=bar, n=n, total=total)


def ended(action: str, status: Status, then: Status | None = None) -> Event:
    return AttemptEnded(action=action, at=0.0, number=0, status=status, then=then or status)


def started(action: str) -> Event:
    return AttemptStarted(action=action, at=0.0, number=1, epoch=1)


SUMS: dict[str, tuple[Sequence[Event], str]] = {
    "a bar shows where it stands": ([tick("A", 1, 10), tick("A", 2, 10)], "2/10"),
    "bars of one name are added up": ([tick("A", 1, 10), tick("B", 5, 10)], "6/20"),
    "a total that grows counts as it is": ([tick("A", 1, 10), tick("A", 2, 12)], "2/12"),
    "a new attempt begins at nothing": (
        [tick("A", 4, 10), ended("A", Status.FAILED, Status.RETRYING), started("A"), tick("A", 1, 10)],
        "1/10",
    ),
    "what is done stays done": ([tick("A", 10, 10), ended("A", Status.COMPLETED), tick("B", 1, 10)], "11/20"),
    "without a total only the number is shown": ([tick("A", 4, None), tick("B", 1, 10)], "5"),
    "halves are shown as such": ([tick("A", 0.5, 2)], "0.5/2"),
}


@pytest.mark.parametrize(("events", "shown"), SUMS.values(), ids=SUMS)
def test_sums(events: Sequence[Event], shown: str) -> None:
    picture = Picture()
    for event in events:
        picture.see(event)
    assert amount(picture.bars["files"]) == shown


def test_what_went_otherwise_is_counted() -> None:
    picture = Picture()
    assert picture.counts() == "0 actions done"
    events = [opened(), ended("A", Status.FAILED, Status.RETRYING), ended("A", Status.COMPLETED), ended("B", Status.FAILED)]
    for event in [*events, Replayed(action="C", at=0.0, task="t", status=Status.COMPLETED), ended("ROOT", Status.COMPLETED)]:
        picture.see(event)
    assert picture.counts() == "1 actions done, 1 from record, 1 retry, 1 failed"
    assert picture.status is Status.COMPLETED


def test_the_topics_that_are_waited_for_are_named() -> None:
    picture = Picture()
    for name, topic in (("A", "work"), ("B", "config"), ("C", "work"), ("D", "")):
        picture.see(WaitBegun(action=name, at=0.0, topic=topic))
    assert picture.counts() == "0 actions done, waits for config, work"
    for name in "ABC":
        picture.see(ended(name, Status.COMPLETED))
    assert picture.counts() == "3 actions done"
    for n in range(9):
        picture.see(WaitBegun(action=str(n), at=0.0, topic=f"t{n}"))
    assert picture.counts() == "3 actions done, waits for t0, t1, t2, ..."


@pytest.mark.parametrize(("seconds", "shown"), [(-1, "0:00"), (0, "0:00"), (7.9, "0:07"), (754, "12:34"), (3723, "1:02:03")])
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def show(stream: io.StringIO, events: Callable[[], Sequence[Event]]) -> str:
    async def main() -> None:
        observer = TerminalObserver(stream)
        for event in events():
            observer.on_event(event)
        await observer.aclose()

    asyncio.run(main())
    return stream.getvalue()


STEERING = re.compile(r"\x1b\[(\d*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


def screen_of(written: str) -> list[str]:
    """What a person sees at the end: the lines, where each overwrites what stood there before."""
    lines, row = [""], 0
    for found in STEERING.finditer(re.sub(r"\x1b\[[0-9;]*m", "", written)):
        text, count, verb = found[0], found[1], found[2]
        if verb == "A":
            row -= int(count or 1)
        elif verb == "K":
            lines[row] = ""
        elif text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif text != "\r" and verb is None:
            lines[row] += text
    return [line.rstrip() for line in lines]


def many() -> Sequence[Event]:
    return [opened(), *(tick("ROOT", n + 1, MANY) for n in range(MANY)), ended("ROOT", Status.COMPLETED)]


def test_a_hundred_thousand_steps_are_a_dozen_plain_lines() -> None:
    lines = show(io.StringIO(), many).splitlines()
    assert lines[0] == "nightly: started"
    assert [line.split(" (")[1] for line in lines[1:11]] == [f"{tenth * 10} %)" for tenth in range(1, 11)]
    assert lines[11].startswith("nightly: COMPLETED after ")
    assert len(lines) == 12


def test_a_hundred_thousand_steps_are_a_few_frames_on_a_terminal() -> None:
    shown = show(Terminal(), many)
    assert shown.count("\r") < 1000
    assert "100,000/100,000" in shown
    assert shown.endswith("\n")


def test_a_live_line_never_hides_the_cursor_since_a_killed_process_could_not_give_it_back() -> None:
    assert "\x1b[?25l" not in show(Terminal(), many)


def test_what_a_program_prints_goes_where_it_would_go_without_the_view(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()

    def events() -> Sequence[Event]:
        return [opened(), tick("A", 1, 2)]

    async def main() -> None:
        observer = TerminalObserver(terminal)
        for event in events():
            observer.on_event(event)
        print("a result, for a pipe")
        await observer.aclose()

    asyncio.run(main())
    assert capsys.readouterr().out == "a result, for a pipe\n"
    assert "for a pipe" not in terminal.getvalue()


def test_a_resumed_run_says_what_is_on_record() -> None:
    assert show(io.StringIO(), lambda: [opened(recorded=1234)]).startswith("nightly: started, 1,234 actions on record\n")


def test_without_any_bar_done_actions_are_counted() -> None:
    shown = show(Terminal(), lambda: [opened(), ended("A", Status.COMPLETED), ended("B", Status.COMPLETED)])
    assert "2 actions done" in shown


def test_markup_in_names_is_shown_as_it_is() -> None:
    assert "[red]x[/]" in show(Terminal(), lambda: [opened(), tick("A", 1, 2, bar="[red]x[/]")])


def test_a_run_of_tasks_is_shown_by_the_names_of_their_bars() -> None:
    stream = io.StringIO()
    observed([TerminalObserver(stream)])
    assert f"observed: squares 1/{CALLS} (20 %)" in stream.getvalue()
    assert "observed: COMPLETED after 0:0" in stream.getvalue()
    assert "2 retries, 1 failed" in stream.getvalue()


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"TERM": "unknown"}, {"CI": "true"}])
def test_where_lines_can_not_be_drawn_over_they_are_written_one_by_one(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shown = show(Terminal(), lambda: [opened(), tick("A", 1, 2)])
    assert shown.startswith("nightly: started\nnightly: files 1/2 (50 %)")
    assert "\x1b" not in shown


def test_plain_lines_go_through_a_stream_of_any_encoding() -> None:
    raw = io.BytesIO()
    observer = TerminalObserver(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    for event in (opened(), tick("A", 1, 2, bar="übrig")):
        observer.on_event(event)
    assert raw.getvalue().splitlines()[1].startswith(b"nightly: ?brig 1/2 (50 %)")


def test_not_quite_all_is_not_a_hundred_percent() -> None:
    assert "files 199/200 (99 %)" in show(io.StringIO(), lambda: [opened(), tick("A", 199, 200)])


def test_what_a_program_logs_stands_above_the_view_and_its_handlers_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, elsewhere = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    log = logging.getLogger("tests.above")
    log.propagate = False
    handlers: list[logging.StreamHandler[Any]] = [logging.StreamHandler(terminal), logging.StreamHandler(elsewhere)]
    for handler in handlers:
        log.addHandler(handler)
    observer = TerminalObserver()
    for event in (opened(), tick("A", 1, 2)):
        observer.on_event(event)
    log.warning("of the program's own")
    assert handlers[0].stream is not terminal
    assert handlers[1].stream is elsewhere
    asyncio.run(observer.aclose())
    assert handlers[0].stream is terminal
    assert elsewhere.getvalue() == "of the program's own\n"
    screen = screen_of(terminal.getvalue())
    assert screen.index("of the program's own") < min(place for place, line in enumerate(screen) if "nightly" in line)


def test_several_views_on_one_terminal_are_one() -> None:
    async def main() -> None:
        first, second = TerminalObserver(terminal), TerminalObserver(terminal)
        first.on_event(opened())
        second.on_event(RunOpened(action="ROOT", at=0.0, run_name="hourly", task="main", store="s", is_new=True, recorded=0))
        first.on_event(ended("ROOT", Status.COMPLETED))
        await first.aclose()
        await second.aclose()

    terminal = Terminal()
    asyncio.run(main())
    screen = screen_of(terminal.getvalue())
    assert [line.split("  ")[0] for line in screen if line] == ["✓ nightly", "● hourly"]


def test_lines_that_a_narrower_terminal_broke_are_drawn_over() -> None:
    def paint(width: int) -> int:
        """How many lines up it went for that."""
        terminal.seek(terminal.truncate(0))
        screen._console.width = width
        screen._painter._paint()
        return terminal.getvalue().count("\x1b[1A")

    terminal = Terminal()
    observer = TerminalObserver(terminal)
    screen: Any = observer._screen
    for event in (opened(), tick("A", 1, 2, bar="b" * 200), tick("A", 1, 2, bar="c" * 200)):
        observer.on_event(event)
    paint(100)  # three lines, two of them more than fifty columns wide, and the empty one
    assert (paint(100), paint(50), paint(50)) == (3, 5, 3)
    asyncio.run(observer.aclose())


FORKED = """
import io, os, sys, asyncio, logging
class Terminal(io.StringIO):
    def isatty(self): return True
out, err = sys.stdout, sys.stderr
sys.stdout, sys.stderr = Terminal(), Terminal()
handler = logging.StreamHandler()
logging.getLogger().addHandler(handler)
from holdfast.events import RunOpened
from holdfast.observers.terminal import TerminalObserver
terminals = sys.stdout, sys.stderr
opened = RunOpened(action="A", at=0.0, run_name="nightly", task="t", store="s", is_new=True, recorded=0)
observer = TerminalObserver()
observer.on_event(opened)
assert sys.stdout is not terminals[0] and handler.stream is not terminals[1]
observer._screen._painter._painting.acquire()  # as the painter's thread may have, which the child does not have
observer._screen._changing.acquire()
child = os.fork()
if child == 0:
    assert (sys.stdout, sys.stderr, handler.stream) == (*terminals, terminals[1])
    terminals[1].truncate(0)
    again = TerminalObserver()
    again.on_event(opened)
    asyncio.run(again.aclose())
    os._exit(0 if "nightly" in terminals[1].getvalue() and sys.stderr is terminals[1] else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=out)
out.flush()
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system")
def test_a_forked_child_writes_as_before_the_view_and_may_have_one_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


def test_a_view_that_can_not_be_drawn_is_said_and_harms_no_run(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(Terminal):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError("whoever looked went away")

    with caplog.at_level(logging.WARNING, "holdfast"):
        assert observed([TerminalObserver(Gone())]) == EXPECTED
    assert "whoever looked went away" in caplog.text


def test_on_a_terminal_without_rich_the_error_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(MissingExtra, match=r"pip install 'holdfast\[rich\]'"):
        TerminalObserver(Terminal())


def test_plain_lines_need_no_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert "nightly" in show(io.StringIO(), lambda: [opened()])
