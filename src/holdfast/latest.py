"""The newest valid result of a task among all runs of a store: what a later run takes for its input where it is given none.

Valid is what COMPLETED and was not rolled back, in the newest incarnation of its run, whether the run itself went on to fail or not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from holdfast.actions.values import read_value
from holdfast.blobs import Blobs
from holdfast.codec import Codec, to_json
from holdfast.errors import ResultIncompatible, RunNotFound
from holdfast.events import ActionAsked, Event
from holdfast.flow import side_by_side
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.journals.reading import Read, read_journal
from holdfast.results import TaskResult, result_of
from holdfast.runs.asked import newest_incarnation
from holdfast.states import Fold, Record
from holdfast.status import Status

#: Runs that are looked at side by side: each is in memory then.
_AT_ONCE: Final = 4

_log = logging.getLogger("holdfast")


class Wanted(Frozen):
    """Whose result is looked for, how it is read, and the schema that it has to follow; "" is any."""

    task: str
    codec: Codec
    schema: str


class _Found(Frozen):
    """A run in which there is such a result, and when its newest one ended."""

    ended_at: float
    run_name: str
    incarnation: Folder


async def latest_result(store: Folder, wanted: Wanted) -> TaskResult[Any] | None:
    """The result that ended last; None, where there is none.

    One that can't be read as what the task returns now is passed over, with a line in the log. Raises: JournalDamaged, JournalTooNew,
    BlobCorrupt, StoreError: what can't be read might be the newest.
    """
    names = [entry.name for entry in await store.list("runs")]
    looked_at = await side_by_side(lambda name: _look(store, name, wanted), names, width=min(_AT_ONCE, len(names) or 1))
    best: tuple[float, TaskResult[Any]] | None = None
    for found in sorted(filter(None, looked_at), key=lambda found: (found.ended_at, found.run_name), reverse=True):
        if best is not None and best[0] >= found.ended_at:
            break
        read = await _newest_readable(store, found, wanted)
        if read is not None and (best is None or read[0] > best[0]):
            best = read
    return best[1] if best is not None else None


async def _look(store: Folder, run_name: str, wanted: Wanted) -> _Found | None:
    try:
        incarnation = await newest_incarnation(store, run_name)
    except RunNotFound:
        return None  # being begun in this very moment
    read = await read_journal(incarnation)
    if not any(isinstance(event, ActionAsked) and event.task == wanted.task for event in _naming(read, wanted.task)):
        return None
    ends = [_ended_at(record) for record in valid(Fold.of(read.events()), wanted)]
    return _Found(max(ends), run_name, incarnation) if ends else None


def _naming(read: Read, task: str) -> Iterator[Event]:
    """The events in which a task's name may stand. A name that JSON can spell in several ways is looked for in all of them."""
    spelled = to_json(task).strip(b'"')
    return read.events_naming(task) if spelled == task.encode("ascii", "replace") else read.events()


async def _newest_readable(store: Folder, found: _Found, wanted: Wanted) -> tuple[float, TaskResult[Any]] | None:
    """Of the valid results of a run that can be read, the one that ended last, and when it did."""
    fold = Fold.of((await read_journal(found.incarnation)).events())
    for record in sorted(valid(fold, wanted), key=_ended_at, reverse=True):
        try:
            payload = await read_value(Blobs(store, sync=True), record, wanted.codec)
        except ResultIncompatible as error:
            text = "run %r: a result of %s is passed over, since it is not what the task returns now: %s"
            _log.warning(text, found.run_name, wanted.task, error)
            continue
        return _ended_at(record), result_of(fold, record, "unknown", payload)
    return None


def valid(fold: Fold, wanted: Wanted) -> list[Record]:
    """The actions of a run whose results count."""
    undone: dict[str, bool] = {"": False}
    return [
        record
        for record in fold.actions.values()
        if record.task == wanted.task
        and record.status is Status.COMPLETED
        and (not wanted.schema or (record.notes is not None and wanted.schema in record.notes.schemas))
        and not _is_undone(fold, record, undone)
    ]  # fmt: skip


def _is_undone(fold: Fold, record: Record, known: dict[str, bool]) -> bool:
    """Whether the action, or one above it, was rolled back, or is about to be: an undo sees to all below."""
    path, name = [], record.name
    while name not in known:
        above = fold.actions.get(name)
        if above is None:
            break
        if above.status in (Status.ROLLING_BACK, Status.ROLLED_BACK) or (above.notes is not None and above.notes.is_undone):
            known[name] = True
            break
        path.append(name)
        name = above.parent
    for passed in path:
        known[passed] = known.get(name, False)
    return known.get(record.name, False)


def _ended_at(record: Record) -> float:
    ended_at = record.attempt.ended_at if record.attempt is not None else None
    return ended_at if ended_at is not None else 0.0
