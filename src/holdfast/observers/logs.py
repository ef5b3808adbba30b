"""Runs in the logs of a program: an observer that writes a line for what a person would want to know, and a filter for all other lines.

The filter puts the running task into every record, whoever writes it::

    handler = logging.StreamHandler()
    handler.addFilter(TaskFilter())
    handler.setFormatter(logging.Formatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])

Add it to handlers, not to loggers: a logger's filter does not see the records of the loggers below it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from holdfast.clocks import instant
from holdfast.codec import decode_error
from holdfast.contexts import ctx, get_custom_context
from holdfast.events import (
    ActionAsked,
    ActionEnded,
    AttemptEnded,
    AttemptStarted,
    CheckpointSaved,
    CheckpointsSetAside,
    Continued,
    Event,
    Messaged,
    MessagesCleared,
    Missed,
    Replayed,
    RunOpened,
    WaitBegun,
    Warned,
)
from holdfast.messages import MessageType, type_of
from holdfast.status import Status

FORMAT: Final = "%(asctime)s %(levelname)-7s %(run)s %(action)s #%(attempt)s [%(context)s] %(name)s: %(message)s"
"""A line with all that `TaskFilter` adds: `run`, `action`, `attempt` and `context`, each `-` outside a task."""

NOTHING: Final = "-"
_ADDED: Final = ("run", "action", "attempt", "context", "custom_context")

_LEVELS: Final = {
    Status.COMPLETED: logging.INFO,
    Status.RETRYING: logging.WARNING,
    Status.STOPPED: logging.INFO,
    Status.CRASHED: logging.WARNING,
    Status.CANCELLED: logging.WARNING,
    Status.FAILED: logging.ERROR,
    Status.TIMED_OUT: logging.ERROR,
}

_MESSAGE_LEVELS: Final = {MessageType.INFO: logging.INFO, MessageType.WARNING: logging.WARNING, MessageType.ERROR: logging.ERROR}


class TaskFilter(logging.Filter):
    """Adds the running task to every record, and refuses none.

    The attributes are str: `run` (its name), `action` (its id in the run), `attempt` (its number) and `context` (custom context, as
    `key=value` sorted by key); each is `-` where there is none. `custom_context` holds the same as a dict, for structured formatters.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if all(hasattr(record, name) for name in _ADDED):  # it is of a LogObserver's, in whose thread nothing runs
            return True
        running, values = ctx(), dict(get_custom_context())
        record.run = running.action.run_name if running is not None else NOTHING
        record.action = running.action.name if running is not None else NOTHING
        record.attempt = str(running.attempt_number) if running is not None else NOTHING
        record.context = _pairs(values)
        record.custom_context = values
        return True


class LogObserver:
    """One line in a log for each event that a person would want to know of.

    Ends are INFO, WARNING (a retry is due, a crash was found) or ERROR (failed, timed out); warnings of the run are WARNING; starts,
    checkpoints and answers from record are DEBUG. That a run is opened is DEBUG too where the logger `holdfast`, which says so in any case,
    stands above this one. Each record carries what `TaskFilter` gives: `context` is that of the run.

    Args:
        logger: Where to write; by default the logger `holdfast.events`.
    """

    live = True
    """Which run it is, and what is answered from record, are live events."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._log = logger if logger is not None else logging.getLogger("holdfast.events")
        self._run = NOTHING
        self._context: dict[str, str] = {}
        self._opens = logging.DEBUG if self._log.name.startswith("holdfast.") and self._log.propagate else logging.INFO
        self._tasks: dict[str, str] = {}
        self._write: dict[type[Event], Callable[[Any], None]] = {
            RunOpened: self._opened,
            ActionAsked: self._asked,
            Continued: self._asked,
            AttemptStarted: self._started,
            AttemptEnded: self._attempt_ended,
            ActionEnded: self._action_ended,
            CheckpointSaved: self._saved,
            CheckpointsSetAside: self._set_aside,
            Replayed: self._replayed,
            WaitBegun: self._waits,
            Warned: self._warned,
            Missed: self._missed,
            Messaged: self._messaged,
            MessagesCleared: self._messages_cleared,
        }

    def for_run(self, opened: RunOpened, /) -> LogObserver:
        """Another one for the same log: names are known for one run."""
        return LogObserver(self._log)

    def on_event(self, event: Event, /) -> None:
        write = self._write.get(type(event))
        if write is not None:
            write(event)

    def _line(self, level: int, event: Event, text: str, *values: object, attempt: int | None = None) -> None:
        if self._log.isEnabledFor(level):
            known = {
                "run": self._run,
                "action": event.action or NOTHING,
                "attempt": NOTHING if attempt is None else str(attempt),
                "context": _pairs(self._context),
                "custom_context": self._context,
            }
            shown = [_one_line(value) if isinstance(value, str) else value for value in values]
            self._log.log(level, text, *shown, extra=known)

    def _name(self, event: Event) -> str:
        return self._tasks.get(event.action, event.action)

    def _opened(self, event: RunOpened) -> None:
        self._run, self._context = event.run_name, dict(event.context)
        self._tasks[event.action] = event.task
        how = "new" if event.is_new else f"continued, {event.recorded} actions on record"
        self._line(self._opens, event, "%s: run of %s in %s: %s", event.run_name, event.task, event.store, how)

    def _asked(self, event: ActionAsked | Continued) -> None:
        self._tasks[event.action] = event.task

    def _started(self, event: AttemptStarted) -> None:
        self._line(logging.DEBUG, event, "%s: attempt %d started", self._name(event), event.number, attempt=event.number)

    def _attempt_ended(self, event: AttemptEnded) -> None:
        self._end(event, _why(event), event.number)

    def _action_ended(self, event: ActionEnded) -> None:
        self._end(event, _why(event), None)

    def _end(self, event: AttemptEnded | ActionEnded, why: str, attempt: int | None) -> None:
        level = _LEVELS.get(event.then, logging.INFO)
        self._line(level, event, "%s: %s%s", self._name(event), event.then.value, why, attempt=attempt)
        if event.then is not Status.RETRYING:
            self._tasks.pop(event.action, None)

    def _saved(self, event: CheckpointSaved) -> None:
        self._line(logging.DEBUG, event, "%s: checkpoint saved, %d bytes", self._name(event), event.size, attempt=event.generation[1])

    def _set_aside(self, event: CheckpointsSetAside) -> None:
        self._line(logging.WARNING, event, "%s: checkpoints set aside, since they rest on a doubtful answer", self._name(event))

    def _replayed(self, event: Replayed) -> None:
        self._line(logging.DEBUG, event, "%s: %s, from record", event.task, event.status.value)

    def _waits(self, event: WaitBegun) -> None:
        """For a value somebody may have to be asked; a sleep ends by itself."""
        level, what = (logging.INFO, f"waits for a value of topic {event.topic!r}") if event.topic else (logging.DEBUG, "waits")
        until = "" if event.until is None else f" until {instant(event.until).isoformat(timespec='seconds')}"
        self._line(level, event, "%s: %s%s", self._name(event), what, until)

    def _messaged(self, event: Messaged) -> None:
        self._line(_MESSAGE_LEVELS[type_of(event.type)], event, "%s: %s", self._name(event), event.content)

    def _messages_cleared(self, event: MessagesCleared) -> None:
        self._line(logging.DEBUG, event, "%s: took its messages back", self._name(event))

    def _warned(self, event: Warned) -> None:
        self._line(logging.WARNING, event, "%s: %s: %s", self._name(event), event.category, event.text)

    def _missed(self, event: Missed) -> None:
        self._line(logging.WARNING, event, "%d events came too fast to be written here", event.count)


def _pairs(values: Mapping[str, str]) -> str:
    return _one_line(" ".join(f"{key}={value}" for key, value in sorted(values.items()))) or NOTHING


def _one_line(text: str) -> str:
    """Messages and errors come from anywhere: none begins a line that looks like another event, or steers a terminal."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _why(event: AttemptEnded | ActionEnded) -> str:
    """The error of an end, and when the next attempt is due, to be put behind its status."""
    if event.error is None:
        return ""
    error = decode_error(event.error)
    wait = f", again in {max(event.next_at - event.at, 0):.1f} s" if isinstance(event, AttemptEnded) and event.next_at is not None else ""
    return f"{wait}: {type(error).__name__}: {error}"
