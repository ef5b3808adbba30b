"""How a run comes along, for whoever watches: a live view on a terminal, a few plain lines elsewhere.

The view has a line for the run, a tree of its groups and tasks (one row each, however often it was called), the bars of
`ctx().progress(name, total=...)` added up by name with the time that is left, and the last messages and warnings. It is drawn a few times a
second at most, and so seldom that drawing takes no more than `SHARE` of a processor: ten actions cost what a million cost.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, Protocol, TextIO

from holdfast.clocks import clock
from holdfast.errors import MissingExtra
from holdfast.events import Event, RunOpened
from holdfast.messages import MessageType
from holdfast.observers.picture import Picture, Row, Sum, amount, duration, left, shown_rows

__all__ = ["Picture", "TerminalObserver", "amount", "duration"]

FRAMES_PER_SECOND: Final = 8
SHARE: Final = 0.02
PLAIN_STEPS: Final = 10
PLAIN_SECONDS: Final = 10.0
PLAIN_AT_ONCE: Final = 30
PLAIN_PER_SECOND: Final = 1.0
BARS_SHOWN: Final = 8
BAR_WIDTH: Final = 32
NARROW: Final = 60
NARROWEST: Final = 30
ROWS_AT_LEAST: Final = 3
ROWS_AT_MOST: Final = 24

_STYLES: Final = {MessageType.INFO: "", MessageType.WARNING: "yellow", MessageType.ERROR: "red"}


class _Screen(Protocol):
    """Where pictures of runs are shown: of several at once, where runs share an observer."""

    def changed(self, picture: Picture, event: Event) -> None: ...

    def closed(self, picture: Picture) -> None: ...


class TerminalObserver:
    """Shows a run's progress: a live view on a terminal, plain lines at every tenth elsewhere.

    Given to several runs at once, it shows all of them, one below the other.

    Args:
        stream: Where to write; by default stderr as it is now.

    Raises:
        MissingExtra: `stream` is a terminal, and rich is not installed.
    """

    live = True
    """Bars move by live events."""

    def __init__(self, stream: TextIO | None = None) -> None:
        out: TextIO = stream or sys.stderr or io.StringIO()  # a program without a console has no stderr
        self._screen: _Screen = _LiveScreen(out) if out.isatty() else _PlainLines(out)
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
        self.tenths: dict[str, int] = {}
        self.at = clock().now()


class _PlainLines:
    """A line when a bar passes another tenth, for a message, and now and then where nothing else is said; and one at the end.

    No more than `PLAIN_AT_ONCE` at once, and then `PLAIN_PER_SECOND`; how many were left out is said with the next.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
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
        if event.kind == "ticked":
            self._passed(picture, said, getattr(event, "bar", ""))
        elif event.kind in ("messaged", "warned") and picture.messages:
            _, kind, who, text = picture.messages[-1]
            first = next(iter(text.splitlines()), "")
            self._say(said, f"{picture.run_name}: {kind.value}: {_short(who) + ': ' if who else ''}{first}")
        if clock().now() - said.at >= PLAIN_SECONDS:
            bars = ", ".join(f"{name} {amount(bar)}" for name, bar in picture.bars.items())
            self._say(said, f"{picture.run_name}: {bars or picture.counts()}, {duration(clock().now() - picture.began_at)}")

    def _passed(self, picture: Picture, said: _Said, name: str) -> None:
        bar = picture.bars.get(name)
        share = bar.share if bar is not None else None
        if bar is None or share is None:
            return
        tenth = int(share * PLAIN_STEPS)
        if tenth > said.tenths.get(name, 0):
            said.tenths[name] = tenth
            rest = left(bar)
            self._say(
                said, f"{picture.run_name}: {name} {amount(bar)} ({100 * share:.0f} %{', ' + rest if rest else ''}){_behind(picture)}"
            )

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
            self._stream.write(f"{printable(line)}{more}\n")
            self._stream.flush()


def _behind(picture: Picture) -> str:
    counts = picture.counts()
    return f", {counts}" if counts else ""


# on a terminal


class _LiveScreen:
    """rich draws the pictures anew a few times a second, in a thread of its own; events only change numbers."""

    def __init__(self, stream: TextIO) -> None:
        try:
            from rich.console import Console, Group
            from rich.live import Live
            from rich.progress_bar import ProgressBar
            from rich.table import Table
            from rich.text import Text
        except ImportError as error:
            raise MissingExtra(feature="progress on a terminal", package="rich", extra="rich") from error

        class _Console(Console):
            def show_cursor(self, show: bool = True) -> bool:
                """Leave the cursor alone: a process that is killed could never give it back."""
                return False

        self._group, self._live_type, self._drawing = Group, Live, _Drawing(ProgressBar, Table, Text)
        self._console = _Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._changing = threading.Lock()
        self._pictures: list[Picture] = []
        self._painter: _Painter | None = None

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
                painter.print_above(self._console, self._group(*self._drawing.lines(picture, self._console.width, ROWS_AT_MOST)))
            else:
                painter.close()
                self._pictures.clear()
                self._painter = None

    def _draw(self) -> Any:
        pictures = list(self._pictures)
        each = max((self._console.height - 1) // max(len(pictures), 1), 2)
        parts: list[Any] = []
        for picture in pictures:
            parts += list(self._drawing.lines(picture, self._console.width, each))
        return self._group(*parts)


class _Painter:
    """Repaints in a thread of its own: as often as may be, and no oftener than `SHARE` of a processor pays for."""

    def __init__(self, live: Any) -> None:
        self._live = live
        self._over = threading.Event()
        self._painting = threading.Lock()
        live.start()
        self._thread = threading.Thread(target=self._run, name="holdfast-painter", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = 1 / FRAMES_PER_SECOND
        while not self._over.wait(pause):
            began = time.thread_time()
            with self._painting:
                if not self._over.is_set():
                    self._live.refresh()
            pause = max(1 / FRAMES_PER_SECOND, (time.thread_time() - began) / SHARE)

    def print_above(self, console: Any, lines: Any) -> None:
        with self._painting:
            console.print(lines)

    def close(self) -> None:
        with self._painting:
            self._over.set()
            self._live.stop()


class _Drawing:
    """A picture as lines for rich, to fit into a width and a height."""

    def __init__(self, progress_bar: Any, table: Any, text: Any) -> None:
        self._bar, self._table, self._text = progress_bar, table, text

    def lines(self, picture: Picture, width: int, height: int) -> Iterator[Any]:
        """Of all lines those that fit: the run's, then bars, rows and messages."""
        yield self._head(picture)
        bars = list(picture.bars.items())[: min(BARS_SHOWN, max(height - 1, 0))]
        messages = list(picture.messages)[: max(height - 1 - len(bars), 0)]
        rows = min(ROWS_AT_MOST, max(height - 2 - len(bars) - len(messages), ROWS_AT_LEAST if height > ROWS_AT_LEAST else 0))
        if picture.rows.below and rows:
            yield self._tree(picture.rows, width, rows)
        if bars:
            yield self._bars(bars, width)
        for _, kind, who, text in messages:
            yield self._line(f"{kind.value}: {_short(who) + ': ' if who else ''}{' '.join(text.split())}", _STYLES[kind])

    def _line(self, line: str, style: str = "") -> Any:
        return self._text(printable(line), style=style, no_wrap=True, overflow="ellipsis")

    def _head(self, picture: Picture) -> Any:
        status = picture.status
        style = "bold" if status is None else "bold green" if status.value == "COMPLETED" else "bold red"
        head = self._line("")
        head.append(printable(picture.run_name), style=style)
        head.append(f"  {duration(clock().now() - picture.began_at)}", style="dim")
        if status is not None:
            head.append(f"  {status.value}", style=style)
        counts = printable(picture.counts())
        if counts:
            head.append(f"  {counts}", style="red" if picture.failed else "")
        return head

    def _tree(self, rows: Row, width: int, at_most: int) -> Any:
        shown, left_out = shown_rows(rows, at_most)
        table = self._table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(width * 3 // 5, 10))
        table.add_column(no_wrap=True, overflow="ellipsis")
        for row in shown:
            shown_name = f"[{row.name}]" if row.is_group else _short(row.name)
            name = self._line("  " * row.depth + shown_name, "cyan" if row.is_group else "")
            table.add_row(name, self._text(row.said(), style="red" if row.failed else "dim" if not row.running else ""))
        if left_out:
            table.add_row(self._text(f"  ... {left_out:,} more", style="dim"), "")
        return table

    def _bars(self, bars: list[tuple[str, Sum]], width: int) -> Any:
        table = self._table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(width // 4, 8))
        for _ in range(4):
            table.add_column(no_wrap=True, overflow="ellipsis")
        for name, bar in bars:
            share = bar.share
            cells = [self._line(f"  {name}")]
            if width >= NARROW:  # else the numbers need the place
                cells.append(self._filled(share, min(BAR_WIDTH, width // 4)))
            cells.append(self._text(amount(bar)))
            if width >= NARROWEST:
                cells.append(self._text("" if share is None else f"{100 * share:.0f} %"))
            table.add_row(*cells, self._text(left(bar), style="dim"))
        return table

    def _filled(self, share: float | None, width: int) -> Any:
        if share is None:
            return ""
        return self._bar(total=1.0, completed=share, width=width, complete_style="cyan", finished_style="green")


def printable(text: str) -> str:
    """Without what would steer the terminal: names and messages come from anywhere."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def _short(task: str) -> str:
    """A task's name without its module: the tree says where it belongs."""
    return task.rpartition(":")[2] or task
