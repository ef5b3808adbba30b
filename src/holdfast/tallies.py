"""How far a run has come, in numbers: its rows, or where it has none, its actions.

Rows are the calls of `map` and `records`. A row counts as *processed* once it is at its end, however that came out: it COMPLETED, it failed
and was passed over (*skipped*), or it failed and ended its `map` (*failed*). So a run of which all rows are done shows 100 %, also where
some were skipped; who was skipped is another number. A row that was cancelled, stopped, crashed or undone is not processed.

How many rows a stream will have nobody knows before its end. As long as it goes on, no remaining time is told, and it is never at 100 %.

Where a run has no rows, every action counts, the root too, but for what `ctx()` records and what undoes: then 100 % means that all is done
that was asked for. How much a body will still ask for nobody knows, so that such a percentage may go back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from holdfast.frozen import Frozen
from holdfast.identity import BUILTIN
from holdfast.states import Fold, Notes, Record
from holdfast.status import FAILED_STATES, Status


class Stats(Frozen):
    """How far a run has come.

    Attributes:
        total: Rows in all: as many as were asked for, or as the items are, where they have a length.
        processed: Rows at their end: COMPLETED, failed or skipped.
        failed: Of these, rows whose failure ended what asked for them.
        skipped: Of these, rows that failed and were passed over.
        percent: Of `processed` in `total`: from 0.0, where nothing is done, to 100.0, which means all done. Less, as long as more items may
            follow.
        rows_per_second: Processed, over `elapsed_seconds`. 0.0 as long as nothing can be said.
        elapsed_seconds: For how long the run was worked on, without what lies between a crash or stop and the next process.
        remaining_seconds: Until all is processed, at that rate. 0.0 when it is; None when nothing can be said, as of a stream before its
            end, or where the run COMPLETED and left rows undone.
    """

    total: int
    processed: int
    failed: int
    skipped: int
    percent: float
    rows_per_second: float
    elapsed_seconds: float
    remaining_seconds: float | None


def stats_of(
    total: int, completed: int, failed: int, skipped: int, elapsed_seconds: float, *, is_over: bool, is_open: bool = False
) -> Stats:
    """The statistics of so many rows. Pure.

    Args:
        total: Rows known of. Where more are at their end, these are all.
        completed: Rows that COMPLETED.
        failed: Rows whose failure ended what asked for them.
        skipped: Rows that failed and were passed over.
        elapsed_seconds: For how long the run was worked on.
        is_over: Whether the run COMPLETED: then nothing is left to do, also where there never was anything.
        is_open: Whether more rows may follow, nobody knows how many.
    """
    processed = completed + failed + skipped
    total = max(total, processed)
    left = total - processed
    rate = processed / elapsed_seconds if elapsed_seconds > 0 else 0.0
    is_done = not left and not is_open and (processed > 0 or is_over)
    at_least = total + (is_open and not left)  # one more, that is
    remaining = left / rate if rate > 0 and not is_open and not is_over else None
    return Stats(
        total=total,
        processed=processed,
        failed=failed,
        skipped=skipped,
        percent=100.0 if is_done else 100.0 * processed / at_least if at_least else 0.0,
        rows_per_second=rate,
        elapsed_seconds=max(elapsed_seconds, 0.0),
        remaining_seconds=0.0 if is_done else remaining,
    )


def tally(fold: Fold) -> Stats:
    """The statistics of a run, as it stands on record."""
    root = fold.actions.get(fold.root)
    is_over = root is not None and root.status is Status.COMPLETED
    completed = failed = skipped = total = 0
    is_open = False
    for counted, may_follow, members in _families(fold):
        found = 0
        is_open = is_open or may_follow
        for record in members:
            found += 1
            completed += record.status is Status.COMPLETED
            skipped += record.status in FAILED_STATES and record.skips
            failed += record.status in FAILED_STATES and not record.skips
        total += max(found, counted)
    return stats_of(total, completed, failed, skipped, fold.worked.seconds, is_over=is_over, is_open=is_open)


def _families(fold: Fold) -> Iterator[tuple[int, bool, Iterable[Record]]]:
    """Rows that an action asks for of one task, with how many there are in all, as far as that is known, and whether more may follow."""
    asking = [record for record in fold.actions.values() if record.notes is not None and _has_rows(record.notes)]
    if not asking:
        steps = (record for record in fold.actions.values() if record.name not in fold.undos and not record.task.startswith(BUILTIN))
        yield 0, False, steps
    for asker in asking:
        rows = list(asker.notes.rows.values()) if asker.notes is not None else []
        for task in dict.fromkeys(task for task, _ in rows):
            totals = [total for of, total in rows if of == task]
            may_follow = None in totals and asker.status is not Status.COMPLETED
            yield sum(total or 0 for total in totals), may_follow, (row for row in fold.children_of(asker.name) if row.task == task)


def _has_rows(notes: Notes) -> bool:
    return any(total != 0 for _, total in notes.rows.values())
