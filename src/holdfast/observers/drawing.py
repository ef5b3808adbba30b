"""A picture as lines of styled text that fit into a width and a height. Pure: it needs neither a terminal nor rich.

A line is a list of spans, each a text and the name of a style. What is said never hangs on colour alone: every branch of the tree has a
mark for how it fares. Where a terminal's encoding has no such marks, ASCII stands for them, so that nothing is wider than it was reckoned.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from holdfast.frozen import Frozen
from holdfast.messages import MessageType
from holdfast.observers.picture import Picture, short
from holdfast.observers.sums import Sum, amount, duration, left, speed
from holdfast.observers.tree import Branch, shown_branches
from holdfast.status import Status

BARS_SHOWN: Final = 8
BAR_WIDTH: Final = 32
BAR_AT_LEAST: Final = 8
BRANCHES_AT_LEAST: Final = 3
BRANCHES_AT_MOST: Final = 24
HEADS_AT_MOST: Final = 3

Span: TypeAlias = tuple[str, str]
Line: TypeAlias = list[Span]

_STYLES: Final = {MessageType.INFO: "dim", MessageType.WARNING: "yellow", MessageType.ERROR: "red"}
_SUSPENDED: Final = frozenset({Status.STOPPED, Status.CRASHED, Status.CANCELLED, Status.ROLLED_BACK, Status.ROLLING_BACK})
_GAP: Final = "  "
#: Signs that Unicode 16 made wide: this Python may know an older one, and the terminal a newer.
_WIDE_SINCE_16: Final = tuple(
    "".join(map(chr, range(first, last + 1)))
    for first, last in ((0x2630, 0x2637), (0x268A, 0x268F), (0x4DC0, 0x4DFF), (0x1D300, 0x1D356), (0x1D360, 0x1D376))
)


class Marks(Frozen):
    """What stands for how something fares, and what lines are made of."""

    done: str
    failed: str
    running: str
    waiting: str
    reused: str
    stopped: str
    fork: str
    last: str
    down: str
    full: str
    half: str
    rest: str
    cut: str


MARKS: Final = Marks("✓", "✗", "●", "○", "↺", "■", "├─ ", "└─ ", "│  ", "━", "╸", "─", "…")
ASCII_MARKS: Final = Marks("+", "x", "*", "o", "=", "#", "|- ", "`- ", "|  ", "#", "#", ".", "~")


def marks_for(encoding: str | None) -> Marks:
    """The marks that an encoding has."""
    try:
        "".join(getattr(MARKS, field.name) for field in Marks.__fields__).encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return ASCII_MARKS
    return MARKS


def printable(text: str, encoding: str | None = None) -> str:
    """Without what would steer the terminal, or what its encoding does not have: names and messages come from anywhere."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    if encoding is None or text.isascii():
        return text
    try:
        return text.encode(encoding, "replace").decode(encoding)
    except LookupError:
        return text.encode("ascii", "replace").decode()


def width_of(text: str) -> int:
    """How many columns it takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


@lru_cache(4096)
def _width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" or any(char in wide for wide in _WIDE_SINCE_16) else 1


class Drawing:
    """Draws pictures for one terminal.

    Args:
        encoding: Of the terminal.
        now: POSIX seconds.
    """

    def __init__(self, encoding: str | None, now: Callable[[], float]) -> None:
        self._encoding = encoding
        self._now = now
        self._marks = marks_for(encoding)

    def lines(self, picture: Picture, width: int, height: int) -> list[Line]:
        """Of all lines those that fit: the run's, then bars, messages and the tree."""
        head = self._head(picture, width)[: HEADS_AT_MOST if height >= 2 * HEADS_AT_MOST else 1]
        free = max(height - len(head), 0)
        bars = picture.shown_bars()[: min(BARS_SHOWN, free)]
        messages = list(picture.messages)[: free - len(bars)]
        branches = min(BRANCHES_AT_MOST, max(free - 1 - len(bars) - len(messages), BRANCHES_AT_LEAST if free >= BRANCHES_AT_LEAST else 0))
        found = [*head, *(self._tree(picture.tree, width, branches) if branches else ())]
        found += self._bars(bars, width, is_over=picture.status is not None)
        found += [self._message(*message, width) for message in messages]
        return found[:height]

    # the run

    def _head(self, picture: Picture, width: int) -> list[Line]:
        """The run's name and how it stands, and behind it, or below where that is too long, its numbers."""
        mark, style = self._standing(picture.status)
        line: Line = [(f"{mark} ", style), (self._safe(picture.run_name), "bold"), (_GAP + duration(self._seconds(picture)), "dim")]
        if picture.status is not None:
            line.append((_GAP + picture.status.value, style))
        line, heads = self._cut(line, width), list[Line]()
        for place, (fact, of) in enumerate((self._safe(fact), "red" if fact.endswith(" failed") else "") for fact in picture.facts()):
            between = _GAP if place == 0 else ", "
            if _length(line) + len(between) + width_of(fact) > width and _length(line) > len(_GAP):
                heads.append(line)
                line, between = [], _GAP
            line += [(between, "dim"), (fact, of)]
        return [self._cut(found, width) for found in [*heads, line]]

    def _seconds(self, picture: Picture) -> float:
        return (picture.ended_at or self._now()) - picture.began_at

    def _standing(self, status: Status | None) -> Span:
        if status is None:
            return self._marks.running, "cyan"
        if status is Status.COMPLETED:
            return self._marks.done, "bold green"
        return (self._marks.stopped, "bold yellow") if status in _SUSPENDED else (self._marks.failed, "bold red")

    # its groups and tasks

    def _tree(self, tree: Branch, width: int, at_most: int) -> list[Line]:
        shown, left_out = shown_branches(tree, at_most)
        if not shown:
            return []
        names = [self._name(branch, stem) for branch, stem in _stems(shown, self._marks)]
        numbers = _columns(shown)
        wide = max(map(_length, names))
        needed = wide + sum(len(_GAP) + len(column[0]) for column in numbers)
        if needed > width:  # no room for columns: as a list, behind names that are cut
            numbers = [[branch.said() for branch in shown]]
            wide = min(wide, max(width * 3 // 5, 10))
        found: list[Line] = []
        for place, (branch, name) in enumerate(zip(shown, names, strict=True)):
            cells = [column[place] for column in numbers]
            line = self._fill(name, wide) if any(cell.strip() for cell in cells) else name
            found.append(self._cut([*line, *((_GAP + cell, _number_style(cell, branch)) for cell in cells)], width))
        if left_out:
            found.append(self._cut([(f"   {self._marks.cut} {left_out:,} more", "dim")], width))
        return found

    def _name(self, branch: Branch, stem: str) -> Line:
        if branch.is_group:
            return [(stem, "dim"), (self._safe(branch.name), "bold")]
        mark, style = self._faring(branch)
        return [(stem, "dim"), (f"{mark} ", style), (self._safe(short(branch.name)), "")]

    def _faring(self, branch: Branch) -> Span:
        marks = self._marks
        if branch.failed:
            return marks.failed, "red"
        if branch.running:
            return marks.running, "cyan"
        if branch.waiting:
            return marks.waiting, "dim"
        if branch.stopped:
            return marks.stopped, "yellow"
        if branch.done:
            return marks.done, "green"
        return (marks.reused, "green") if branch.reused else (marks.stopped, "dim") if branch.cancelled else (marks.waiting, "dim")

    # its bars

    def _bars(self, bars: Sequence[tuple[str, Sum]], width: int, *, is_over: bool) -> Iterator[Line]:
        if not bars:
            return
        names = [self._cut([(self._safe(name), "")], max(width // 4, 8)) for name, _ in bars]
        amounts = _right(amount(bar) for _, bar in bars)
        shares = _right("" if bar.share is None else f"{bar.percent} %" for _, bar in bars)
        lefts, speeds = _right("" if is_over else left(bar) for _, bar in bars), _right(speed(bar) for _, bar in bars)
        wide = max(map(_length, names))
        columns = [amounts, shares, lefts, speeds]
        while len(columns) > 1 and wide + len(_GAP) + _wide(columns) > width:  # what matters least stands last
            columns.pop()
        room = min(width - len(_GAP) - wide - len(_GAP) - _wide(columns), BAR_WIDTH)
        for place, (name, (_, bar)) in enumerate(zip(names, bars, strict=True)):
            line: Line = [(_GAP, ""), *self._fill(name, wide)]
            if room >= BAR_AT_LEAST:
                line += [(_GAP, ""), *self._filled(bar.share, room)]
            for column in columns:
                line.append((_GAP + column[place], "dim" if column is lefts or column is speeds else ""))
            yield self._cut(line, width)

    def _filled(self, share: float | None, width: int) -> Line:
        if share is None:
            return [(" " * width, "")]
        marks, halves = self._marks, int(share * width * 2)
        full, half = divmod(halves, 2)
        done = marks.full * full + marks.half * half
        return [(done, "green" if share == 1.0 else "cyan"), (marks.rest * (width - full - half), "bright_black")]

    # what was said

    def _message(self, action: str, kind: MessageType, who: str, text: str, width: int) -> Line:
        style = _STYLES[kind]
        said = self._safe(f"{short(who)}: " if who else "")
        return self._cut([(f"{kind.value}: ", style), (said, "dim"), (self._safe(" ".join(text.split())), style.replace("dim", ""))], width)

    # text

    def _safe(self, text: str) -> str:
        return printable(text, self._encoding)

    def _fill(self, line: Line, width: int) -> Line:
        """Just so wide."""
        line = self._cut(line, width)
        return [*line, (" " * (width - _length(line)), "")]

    def _cut(self, line: Line, width: int) -> Line:
        """No wider than that."""
        if _length(line) <= width:
            return line
        found: Line = []
        room = width - len(self._marks.cut)
        for text, style in line:
            kept = _first(text, room)
            found.append((kept, style))
            room -= width_of(kept)
            if kept != text:
                break
        return [*found, (self._marks.cut, "dim")]


def _length(line: Line) -> int:
    return sum(width_of(text) for text, _ in line)


def _first(text: str, width: int) -> str:
    """As much of it as fits."""
    if text.isascii():
        return text[: max(width, 0)]
    taken = 0
    for place, char in enumerate(text):
        taken += _width(char)
        if taken > width:
            return text[:place]
    return text


def _right(texts: Iterable[str]) -> list[str]:
    """All equally wide."""
    found = list(texts)
    wide = max(map(len, found))
    return [text.rjust(wide) for text in found]


def _wide(columns: Sequence[Sequence[str]]) -> int:
    return sum(len(_GAP) + len(column[0]) for column in columns if column[0])


def _columns(branches: Sequence[Branch]) -> list[list[str]]:
    """Of every number that any branch has a column: `351 done`, or blanks where there is none."""
    found: list[list[str]] = []
    for numbers in zip(*(branch.numbers() for branch in branches), strict=True):
        if any(number for number, _ in numbers):
            digits = max(len(f"{number:,}") for number, _ in numbers)
            wide = digits + 1 + max(len(word) for _, word in numbers)
            found.append([f"{number:>{digits},} {word}".ljust(wide) if number else " " * wide for number, word in numbers])
    return found


def _number_style(cell: str, branch: Branch) -> str:
    if "failed" in cell:
        return "red"
    return "" if branch.running and "running" in cell else "dim"


def _stems(branches: Sequence[Branch], marks: Marks) -> Iterator[tuple[Branch, str]]:
    """Each branch with the lines of the tree before it."""
    shown = {id(branch) for branch in branches}
    last: dict[int, int] = {}  # by the branch above: its last branch that is shown
    for branch in branches:
        last[id(branch.above)] = id(branch)
    for branch in branches:
        parts = [marks.last if last[id(branch.above)] == id(branch) else marks.fork]
        above = branch.above
        while above is not None and id(above) in shown:
            parts.append("   " if last[id(above.above)] == id(above) else marks.down)
            above = above.above
        yield branch, "".join(reversed(parts))
