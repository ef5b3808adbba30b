"""How a run comes along, for whoever watches: live lines on a terminal, a few plain lines elsewhere.

What `ctx().progress(name, total=...)` says is added up by name over all actions of the run. On a terminal the picture is drawn a few
times a second from what is known then, so that it costs the same for ten actions and for a million.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import Any, Final, Protocol, TextIO

from holdfast.clocks import clock
from holdfast.errors import MissingExtra
from holdfast.events import AttemptEnded, AttemptStarted, Event, Replayed, RunOpened, Ticked, WaitBegun
from holdfast.status import Status

FRAMES_PER_SECOND: Final = 8
PLAIN_STEPS: Final = 10
PLAIN_SECONDS: Final = 10.0
BARS_SHOWN: Final = 5
TOPICS_SHOWN: Final = 3
BAR_WIDTH: Final = 32

_ENDS: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.TIMED_OUT})


@dataclass(slots=True)
class _Sum:
    """The bars of one name, added up."""

    n: float = 0
    total: float = 0
    is_open: bool = False

    def add(self, n: float, total: float | None, sign: int) -> None:
        self.n += sign * n
        self.total += sign * (total or 0)
        self.is_open = self.is_open or total is None

    @property
    def share(self) -> float | None:
        """From 0 to 1. None without a total."""
        return min(self.n / self.total, 1.0) if self.total > 0 and not self.is_open else None


class Picture:
    """What is shown of a run, from its events. Plain numbers: drawing is for others."""

    run_name: str
    root: str
    recorded: int
    began_at: float
    done: int
    reused: int
    retries: int
    failed: int

    def __init__(self) -> None:
        self.run_name = ""
        self.root = ""
        self.recorded = 0
        self.began_at = clock().now()
        self.done = 0
        self.reused = 0
        self.retries = 0
        self.failed = 0
        self.status: Status | None = None
        self.bars: dict[str, _Sum] = {}
        self.awaited: dict[str, str] = {}  # topics, by who waits
        self._of_action: dict[str, dict[str, tuple[float, float | None]]] = {}

    def see(self, event: Event) -> None:
        match event:
            case Ticked():
                self._tick(event)
            case AttemptEnded():
                self._end(event)
            case AttemptStarted():
                self._forget(event.action)
            case Replayed():
                self.reused += 1
            case WaitBegun() if event.topic:
                self.awaited[event.action] = event.topic
            case RunOpened():
                self.run_name, self.root, self.recorded, self.began_at = event.run_name, event.action, event.recorded, event.at
            case _:
                pass

    def _tick(self, event: Ticked) -> None:
        total = self.bars.setdefault(event.bar, _Sum())
        mine = self._of_action.setdefault(event.action, {})
        if event.bar in mine:
            total.add(*mine[event.bar], -1)
        mine[event.bar] = (event.n, event.total)
        total.add(event.n, event.total, 1)

    def _forget(self, action: str) -> None:
        """A new attempt has bars of its own."""
        for bar, values in self._of_action.pop(action, {}).items():
            self.bars[bar].add(*values, -1)

    def _end(self, event: AttemptEnded) -> None:
        self.awaited.pop(event.action, None)
        if event.then is Status.RETRYING:
            self.retries += 1
        elif event.action == self.root:
            self.status = event.then
        elif event.then is Status.COMPLETED:
            self.done += 1
        elif event.then in _ENDS:
            self.failed += 1
        if event.then is Status.COMPLETED:
            self._of_action.pop(event.action, None)  # what it reached stays in the sums

    def counts(self) -> str:
        """What went otherwise than once and well, and what is waited for; without any bar, also how many actions are done."""
        said = [] if self.bars else [f"{self.done:,} actions done"]
        if self.reused:
            said.append(f"{self.reused:,} from record")
        if self.retries:
            said.append(f"{self.retries:,} {'retry' if self.retries == 1 else 'retries'}")
        if self.failed:
            said.append(f"{self.failed:,} failed")
        if self.awaited:
            topics = sorted(set(self.awaited.values()))
            said.append(f"waits for {', '.join(topics[:TOPICS_SHOWN])}{', ...' if len(topics) > TOPICS_SHOWN else ''}")
        return ", ".join(said)


def amount(bar: _Sum) -> str:
    """`812/1,790`, or `812` without a total."""
    return _number(bar.n) if bar.share is None else f"{_number(bar.n)}/{_number(bar.total)}"


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:,.1f}"


def duration(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Face(Protocol):
    def changed(self, picture: Picture) -> None: ...

    def close(self, picture: Picture) -> None: ...


class TerminalObserver:
    """Shows a run's progress: one live line for each bar on a terminal, plain lines at every tenth elsewhere.

    Args:
        stream: Where to write; by default stderr as it is now.

    Raises:
        MissingExtra: `stream` is a terminal, and rich is not installed.
    """

    live = True
    """Bars move by live events."""

    def __init__(self, stream: TextIO | None = None) -> None:
        out: TextIO = stream or sys.stderr or io.StringIO()  # a program without a console has no stderr
        self._picture = Picture()
        self._face: _Face = _LiveLines(out, self._picture) if out.isatty() else _PlainLines(out)

    def on_event(self, event: Event, /) -> None:
        self._picture.see(event)
        self._face.changed(self._picture)

    async def aclose(self) -> None:
        """Show the last state, and leave the terminal as it was."""
        self._face.close(self._picture)


class _PlainLines:
    """A line when a bar passes another tenth, or, where there is nothing to count up to, now and then; and one at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._tenths: dict[str, int] = {}
        self._said_at = clock().now()
        self._opened = False

    def changed(self, picture: Picture) -> None:
        if not self._opened and picture.run_name:
            self._opened = True
            known = f", {picture.recorded:,} actions on record" if picture.recorded else ""
            self._say(f"{picture.run_name}: started{known}")
        for name, bar in picture.bars.items():
            share = bar.share
            tenth = int(share * PLAIN_STEPS) if share is not None else 0
            if tenth > self._tenths.get(name, 0):
                self._tenths[name] = tenth
                self._say(f"{picture.run_name}: {name} {amount(bar)} ({100 * (share or 0):.0f} %){_behind(picture)}")
        if clock().now() - self._said_at >= PLAIN_SECONDS:
            bars = ", ".join(f"{name} {amount(bar)}" for name, bar in picture.bars.items())
            self._say(f"{picture.run_name}: {bars or picture.counts()}, {duration(clock().now() - picture.began_at)}")

    def close(self, picture: Picture) -> None:
        if self._opened:
            ended = picture.status.value if picture.status is not None else "ended"
            self._say(f"{picture.run_name}: {ended} after {duration(clock().now() - picture.began_at)}{_behind(picture)}")

    def _say(self, line: str) -> None:
        self._said_at = clock().now()
        self._stream.write(f"{line}\n")
        self._stream.flush()


def _behind(picture: Picture) -> str:
    counts = picture.counts()
    return f", {counts}" if counts else ""


class _LiveLines:
    """rich draws the picture anew a few times a second, in a thread of its own; events only change numbers."""

    def __init__(self, stream: TextIO, picture: Picture) -> None:
        try:
            from rich.console import Console
            from rich.live import Live
            from rich.progress_bar import ProgressBar
            from rich.table import Table
        except ImportError as error:
            raise MissingExtra(feature="progress on a terminal", package="rich", extra="rich") from error

        class _Console(Console):
            def show_cursor(self, show: bool = True) -> bool:
                """Leave the cursor alone: a process that is killed could never give it back."""
                return False

        self._bar, self._table = ProgressBar, Table
        self._picture = picture
        console = _Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=FRAMES_PER_SECOND)
        self._started = False

    def changed(self, picture: Picture) -> None:
        if not self._started:
            self._started = True
            self._live.start()

    def close(self, picture: Picture) -> None:
        if self._started:
            self._live.stop()

    def _draw(self) -> Any:
        picture = self._picture
        elapsed = duration(clock().now() - picture.began_at)
        table = self._table.grid(padding=(0, 1))
        for name, bar in list(picture.bars.items())[:BARS_SHOWN]:
            share = bar.share
            done = (
                self._bar(total=1.0, completed=share, width=BAR_WIDTH, complete_style="cyan", finished_style="green")
                if share is not None
                else ""
            )
            table.add_row(picture.run_name, name, done, amount(bar), picture.counts(), elapsed)
        if not picture.bars:
            table.add_row(picture.run_name, picture.counts(), elapsed)
        return table
