"""How a run comes along, for whoever watches: a live view on a terminal, a few plain lines elsewhere.

The view has a line for the run, a tree of its groups and tasks (one line each, however often it was called), a bar for the rows of each
task that `map` or `records` calls, the bars of `ctx().progress(name, total=...)` added up by name, all with the time that is left, and the
last messages and warnings. It is drawn a few times a second at most, and so seldom that drawing takes no more than `SHARE` of a processor:
ten actions cost what a million cost.

While it is there, what the program prints and logs stands above it. The cursor is left as it is, on an empty line below, so that a process
that is killed leaves the terminal as a shell wants it.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol, TextIO
from weakref import WeakValueDictionary

from holdfast.clocks import clock
from holdfast.errors import MissingExtra
from holdfast.events import Event, RunOpened
from holdfast.observers.drawing import BRANCHES_AT_MOST, Drawing, Line, printable, width_of
from holdfast.observers.picture import Picture, short
from holdfast.observers.sums import Sum, amount, duration, left

FRAMES_PER_SECOND: Final = 8
SHARE: Final = 0.02
PLAIN_STEPS: Final = 10
PLAIN_SECONDS: Final = 10.0
PLAIN_AT_ONCE: Final = 30
PLAIN_PER_SECOND: Final = 1.0
_log = logging.getLogger("holdfast")


class _Screen(Protocol):
    """Where pictures of runs are shown: of several at once, where runs share an observer."""

    def changed(self, picture: Picture, event: Event) -> None: ...

    def closed(self, picture: Picture) -> None: ...


class TerminalObserver:
    """Shows a run's progress: a live view on a terminal, plain lines at every tenth elsewhere.

    Given to several runs at once, it shows all of them, one below the other; so do several of them on one terminal. Plain lines are also
    written where `TERM` says that the terminal can do no more (`dumb`), and where `CI` is set. `NO_COLOR` is heeded.

    Args:
        stream: Where to write; by default stderr as it is now.

    Raises:
        MissingExtra: `stream` is a terminal, and rich is not installed.
    """

    live = True
    """Bars move by live events."""

    def __init__(self, stream: TextIO | None = None) -> None:
        out: TextIO = stream or sys.stderr or io.StringIO()  # a program without a console has no stderr
        out = getattr(out, "rich_proxied_file", out)  # what stands there while a view is drawn
        self._screen: _Screen = _screens.of(out) if _is_terminal(out) and _can_redraw(os.environ) else _PlainLines(out)
        self._alone: _View | None = None

    def for_run(self, opened: RunOpened, /) -> _View:
        """Who shows one run."""
        return _View(self._screen)

    def on_event(self, event: Event, /) -> None:
        if self._alone is None:
            self._alone = _View(self._screen)
        self._alone.on_event(event)

    async def aclose(self) -> None:
        """Show the last state, and leave the terminal as it was."""
        if self._alone is not None:
            self._alone.aclose()
            self._alone = None


class _View:
    """One run on a screen."""

    live = True

    def __init__(self, screen: _Screen) -> None:
        self._screen = screen
        self._picture = Picture()

    def on_event(self, event: Event, /) -> None:
        self._picture.see(event)
        self._screen.changed(self._picture, event)

    def aclose(self) -> None:
        self._screen.closed(self._picture)


# without a terminal


class _Said:
    """What was said of one picture."""

    def __init__(self) -> None:
        self.is_opened = False
        self.tenths: dict[int, int] = {}  # of each bar, by its id
        self.at = clock().now()


class _PlainLines:
    """A line when a bar passes another tenth, for a message, and now and then where nothing else is said; and one at the end.

    No more than `PLAIN_AT_ONCE` at once, and then `PLAIN_PER_SECOND`; how many were left out is said with the next.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None)
        self._saying = threading.Lock()
        self._said: dict[int, _Said] = {}
        self._allowance = float(PLAIN_AT_ONCE)
        self._allowed_at = time.monotonic()
        self._left_out = 0

    def changed(self, picture: Picture, event: Event) -> None:
        said = self._said.get(id(picture))
        if said is None:
            said = self._said[id(picture)] = _Said()
        if not said.is_opened and picture.run_name:
            said.is_opened = True
            known = f", {picture.recorded:,} actions on record" if picture.recorded else ""
            self._say(said, f"{picture.run_name}: started{known}", is_needed=True)
        if picture.moved is not None:
            self._passed(picture, said, *picture.moved)
        elif event.kind in ("messaged", "warned") and picture.messages:
            _, kind, who, text = picture.messages[-1]
            first = next(iter(text.splitlines()), "")
            self._say(said, f"{picture.run_name}: {kind.value}: {short(who) + ': ' if who else ''}{first}")
        if clock().now() - said.at >= PLAIN_SECONDS:
            bars = ", ".join(f"{name} {amount(bar)}" for name, bar in picture.shown_bars())
            self._say(said, f"{picture.run_name}: {bars or picture.counts()}, {duration(clock().now() - picture.began_at)}")

    def _passed(self, picture: Picture, said: _Said, name: str, bar: Sum) -> None:
        share = bar.share
        if share is None:
            return
        tenth = int(share * PLAIN_STEPS)
        if tenth < said.tenths.get(id(bar), 0):  # there is more to do than was known
            said.tenths[id(bar)] = tenth
        if tenth > said.tenths.get(id(bar), 0):
            said.tenths[id(bar)] = tenth
            rest = left(bar)
            self._say(said, f"{picture.run_name}: {name} {amount(bar)} ({bar.percent} %{', ' + rest if rest else ''}){_behind(picture)}")

    def closed(self, picture: Picture) -> None:
        said = self._said.pop(id(picture), None)
        if said is not None and said.is_opened:
            ended = picture.status.value if picture.status is not None else "ended"
            line = f"{picture.run_name}: {ended} after {duration(clock().now() - picture.began_at)}{_behind(picture)}"
            self._say(said, line, is_needed=True)

    def _say(self, said: _Said, line: str, *, is_needed: bool = False) -> None:
        said.at = clock().now()
        with self._saying:
            now = time.monotonic()
            self._allowance = min(self._allowance + (now - self._allowed_at) * PLAIN_PER_SECOND, float(PLAIN_AT_ONCE))
            self._allowed_at = now
            if self._allowance < 1 and not is_needed:
                self._left_out += 1
                return
            self._allowance = max(self._allowance - 1, 0)
            more, self._left_out = f" [{self._left_out:,} lines left out before]" if self._left_out else "", 0
            self._stream.write(f"{printable(line, self._encoding)}{more}\n")
            self._stream.flush()


def _behind(picture: Picture) -> str:
    counts = picture.counts()
    return f", {counts}" if counts else ""


# on a terminal


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _can_redraw(environment: Mapping[str, str]) -> bool:
    """Whether lines can be drawn over: not on a dumb terminal, and not in the log that a build server keeps of one."""
    return environment.get("TERM", "").lower() not in ("dumb", "unknown") and environment.get("CI", "").lower() in ("", "0", "false")


class _Screens:
    """The live screens of this process, one for each terminal: two would draw over each other."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, _LiveScreen] = WeakValueDictionary()  # by the id of the stream, which each keeps
        self._finding = threading.Lock()
        self._is_heeding_forks = False

    def of(self, stream: TextIO) -> _LiveScreen:
        with self._finding:
            if not self._is_heeding_forks and hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=self._leave_to_parent)
            self._is_heeding_forks = True
            screen = self._known.get(id(stream))
            if screen is None:
                screen = self._known[id(stream)] = _LiveScreen(stream)
            return screen

    def _leave_to_parent(self) -> None:
        """A forked child draws nothing of what its parent draws: no thread paints there, and a lock that one held is never let go."""
        self._finding = threading.Lock()
        for screen in list(self._known.values()):
            screen.leave_to_parent()


_screens: Final = _Screens()


class _LiveScreen:
    """The pictures are drawn anew a few times a second, in a thread of its own; events only change numbers."""

    def __init__(self, stream: TextIO) -> None:
        try:
            from rich.console import Console
            from rich.live import Live
            from rich.segment import Segment, Segments
        except ImportError as error:
            raise MissingExtra(feature="progress on a terminal", package="rich", extra="rich") from error

        class _Console(Console):
            def show_cursor(self, show: bool = True) -> bool:
                """Leave the cursor alone: a process that is killed could never give it back."""
                return False

        self._live_type, self._segment, self._segments = Live, Segment, Segments
        self._stream = stream
        self._console_type = _Console
        self._begin()

    def _begin(self) -> None:
        stream = self._stream
        self._drawing = Drawing(getattr(stream, "encoding", None), lambda: clock().now())
        self._console = self._console_type(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._changing = threading.Lock()
        self._pictures: list[Picture] = []
        self._painter: _Painter | None = None

    def leave_to_parent(self) -> None:
        """Begin anew, in a forked child."""
        if self._painter is not None:
            self._painter.leave_to_parent()
        self._begin()

    def changed(self, picture: Picture, event: Event) -> None:
        if picture not in self._pictures:
            with self._changing:
                self._pictures.append(picture)
                if self._painter is None:
                    live = self._live_type(
                        console=self._console,
                        get_renderable=self._draw,
                        auto_refresh=False,
                        vertical_overflow="crop",
                        redirect_stdout=_is_terminal(sys.stdout),  # else what the program prints belongs into a file or a pipe
                        redirect_stderr=_is_terminal(sys.stderr),
                    )
                    self._painter = _Painter(live)

    def closed(self, picture: Picture) -> None:
        """The last state of a run stays on the terminal, above those that go on."""
        with self._changing:
            painter = self._painter
            if picture not in self._pictures or painter is None:
                return
            if len(self._pictures) > 1:
                self._pictures.remove(picture)
                painter.print_above(self._console, self._rendered([*self._lines(picture, BRANCHES_AT_MOST), []]))
            else:
                self._painter = None
                try:
                    painter.close()
                finally:
                    self._pictures.clear()

    def _lines(self, picture: Picture, height: int) -> list[Line]:
        return self._drawing.lines(picture, self._console.width, height)

    def _draw(self) -> Any:
        pictures = list(self._pictures)
        each = max((self._console.height - 1) // max(len(pictures), 1), 2)
        lines = [line for picture in pictures for line in self._lines(picture, each)]
        if (painter := self._painter) is not None:
            painter.drew(lines, self._console.width)
            lines.append([("", "")])  # for the cursor
        return self._rendered(lines)

    def _rendered(self, lines: list[Line]) -> Any:
        segment, style = self._segment, self._console.get_style
        found: list[Any] = []
        for place, line in enumerate(lines):
            found += [segment.line()] if place else []
            found += [segment(text, style(name) if name else None) for text, name in line]
        return self._segments(found)


class _Painter:
    """Repaints in a thread of its own: as often as may be, and no oftener than `SHARE` of a processor pays for."""

    def __init__(self, live: Any) -> None:
        self._live = live
        self._over = threading.Event()
        self._painting = threading.Lock()
        self._widths: list[int] = []  # of the lines that stand there
        self._width = 0  # of the terminal, when they were drawn
        self._streams = {name: stream for name in ("stdout", "stderr") if _is_terminal(stream := getattr(sys, name))}
        live.start()
        self._handlers = _write_above({id(stream): name for name, stream in self._streams.items()})
        self._thread = threading.Thread(target=self._run, name="holdfast-painter", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = 1 / FRAMES_PER_SECOND
        while not self._over.wait(pause):
            began = time.thread_time()
            try:
                self._paint()
            except Exception:
                _log.exception("the view of runs can't be drawn any more")
                return
            pause = max(1 / FRAMES_PER_SECOND, (time.thread_time() - began) / SHARE)

    def _paint(self) -> None:
        with self._painting:
            if not self._over.is_set():
                self._make_up_for_wrapping()
                self._live.refresh()

    def drew(self, lines: list[Line], width: int) -> None:
        """Take note of what stands on the terminal now."""
        self._widths, self._width = [sum(width_of(text) for text, _ in line) for line in lines], width

    def _make_up_for_wrapping(self) -> None:
        """A terminal that was made narrower has broken our lines into more of them, over all of which is to be drawn."""
        width = self._live.console.width
        drawn: Any = getattr(self._live, "_live_render", None)
        if 0 < width < self._width and getattr(drawn, "_shape", None) is not None:
            drawn._shape = width, sum(max(-(-each // width), 1) for each in self._widths) + 1

    def leave_to_parent(self) -> None:
        """Have the program write as before, in a forked child, where nothing of the view may be touched."""
        for name, stream in self._streams.items():
            setattr(sys, name, stream)
        for handler, before in self._handlers:
            handler.stream = before

    def print_above(self, console: Any, lines: Any) -> None:
        with self._painting:
            console.print(lines)

    def close(self) -> None:
        with self._painting:
            self._over.set()
            try:
                self._make_up_for_wrapping()
                self._live.stop()
            finally:
                for handler, before in self._handlers:
                    handler.setStream(before)


def _write_above(terminals: Mapping[int, str]) -> list[tuple[logging.StreamHandler[Any], Any]]:
    """Have handlers of logs that write to a terminal under a view write above it, and say where they wrote before.

    Args:
        terminals: By the id of what stood there before the view, the name in `sys` of what stands there now.
    """
    loggers = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    handlers = {handler for logger in loggers for handler in getattr(logger, "handlers", ())}
    found: list[tuple[logging.StreamHandler[Any], Any]] = []
    for handler in handlers:
        name = terminals.get(id(getattr(handler, "stream", None)))
        if isinstance(handler, logging.StreamHandler) and name is not None:
            found.append((handler, handler.setStream(getattr(sys, name))))
    return found
