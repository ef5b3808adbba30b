"""Telling which rows are not as they were when the same `map` was asked for before."""

from __future__ import annotations

from typing import Final

from holdfast.actions.scopes import Scope
from holdfast.clocks import clock
from holdfast.errors import RowsChanged
from holdfast.events import RowsCounted, RowsSeen
from holdfast.fanout.outcomes import counted, places, spans_of
from holdfast.fingerprints import WIDTH, Changes, changes

#: Rows in a block, the first ones being smaller, so that little is forgotten of a process that dies early.
BLOCK: Final = 1_000
FIRST_BLOCKS: Final = (8, 64, 512)


class Watch:
    """The rows of one `map` or `records` in a durable attempt: noted in blocks, and compared with what an earlier attempt had.

    How many rows there will be, where that is known, goes on record at once. A `map` is known by its task, its group, the saves before
    it, and how many such came before.
    """

    __slots__ = ("_action", "_before", "_before_total", "_block", "_counted", "_now", "_place", "_scope", "_seen", "_task")

    def __init__(self, scope: Scope, task: str, group: tuple[str, ...], total: int | None) -> None:
        assert scope.runtime.state is not None
        among = f"{task} {'/'.join(group)} {scope.rounds.ordinal}".replace("  ", " ")
        self._scope = scope
        self._task = task
        self._action = scope.identify().name
        self._place = f"{among}.{scope.rounds.next(f'rows of {among}')}"
        known = scope.runtime.state.rows.get(self._action, {}).get(self._place)
        self._before = bytes(known.prints) if known is not None else None
        self._before_total = known.total if known is not None else None
        self._now = bytearray()  # only where there is something to compare it with
        self._block: list[str] = []
        self._seen = 0
        self._counted = total
        scope.runtime.append(RowsCounted(action=self._action, at=clock().now(), place=self._place, task=task, total=total))

    def see(self, name: str) -> None:
        """The next row is at the place of this name."""
        self._block.append(name[:WIDTH])
        self._seen += 1
        if len(self._block) == BLOCK or self._seen in FIRST_BLOCKS:
            self._note(None)

    def end(self, *, ended: bool) -> None:
        """There are no more rows, and `ended` says whether for the items have ended. Warn of what changed.

        Raises: RowsChanged, where warnings are errors.
        """
        scope, runtime = self._scope, self._scope.runtime
        if scope.ended or scope.abandoned or runtime.lost is not None or runtime.stop is not None:
            return
        self._note(self._seen if ended else None)
        before, now = self._before, bytes(self._now)
        self._before, self._now = None, bytearray()
        if before is not None:
            found = changes(before, now, before_ended=self._before_total is not None, ended=ended)
            if found:
                runtime.warn(self._action, RowsChanged, f"{self._task}: {_text(found)}")

    def _note(self, total: int | None) -> None:
        prints, self._block = "".join(self._block), []
        first = self._seen - len(prints) // WIDTH
        if self._before is not None:
            self._now += prints.encode()
            is_known = self._before.startswith(prints.encode(), first * WIDTH)
            if is_known and (total is None or total == self._before_total):
                if total == self._counted:
                    return
                first, prints = self._seen, ""  # how many there were is news: this time nobody knew it beforehand
        if prints or total is not None:
            event = RowsSeen(action=self._action, at=clock().now(), place=self._place, first=first, prints=prints, total=total)
            self._scope.runtime.append(event)


def _text(found: Changes) -> str:
    said: list[str] = []
    if found.differing:
        count = len(found.differing)
        what = "row" if count == 1 else "rows"
        said.append(f"{what} {_named(found.differing)} {'differs' if count == 1 else 'differ'} from what was there")
    if found.new:
        said.append(f"{counted(len(found.new))} {'is' if len(found.new) == 1 else 'are'} new: {_named(found.new)}")
    if found.gone:
        said.append(f"{counted(len(found.gone))} that stood at {_named(found.gone)} {'is' if len(found.gone) == 1 else 'are'} gone")
    follows = "; the others are given from record" if found.differing or found.new else ""
    return ", ".join(said) + follows


def _named(numbers: tuple[int, ...]) -> str:
    return places(spans_of(numbers), len(numbers))
