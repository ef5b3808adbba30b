"""Events as lines of JSON, for whatever reads logs: one object for each event, appended as it is told.

Every line has the fields of `COMMON`, null where there is nothing to say, and then the event's own. What a task was given and what it
returned is left out, unless it is asked for: results, arguments of undos, custom context and baggage, summaries.

A line is one for every reader: what only some take for the end of a line (U+0085, U+2028, U+2029) is escaped, and a line that was torn when
a process was killed or a disk was full does not spoil the next one.
"""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from functools import cache
from os import PathLike
from pathlib import Path
from typing import IO, Any, Final, Protocol

from holdfast.codec import decode_error
from holdfast.errors import InvalidOption
from holdfast.events import ActionAsked, CheckpointSaved, Continued, Event, RunOpened, Ticked, Unknown
from holdfast.status import Status

COMMON: Final = (
    "time", "event", "run_name", "run_id", "action", "task", "parent", "attempt", "status", "error", "live", "replayed",
)  # fmt: skip
"""What every line has. `time` is ISO 8601 with its offset, `error` an object of `type` and `text`; `run_name` to `parent` are str,
`attempt` is an int from 0, `status` a word: that of the attempt which ended, or of the action where none was under way."""

VALUES: Final = frozenset({"value", "context", "summary", "record"})
"""Fields that may hold what a task was given or returned."""

AGAIN_SECONDS: Final = 1.0
"""So often it is looked whether the file is still the one at its path."""

_TOLD_OTHERWISE: Final = frozenset({"action", "at", "task", "parent", "number", "status", "error", "run_name", "run_id"})
_GO_ON: Final = frozenset({Status.RETRYING, Status.ROLLING_BACK})
"""What an end may lead to of which more will be told."""


class JsonLinesObserver:
    """Appends one JSON object a line for each event of a run.

    Several runs may write into one file, also from several processes on one machine: each line is written by one call, at the file's end.
    When the file is moved away, as log rotation does it, a new one is begun at its path.

    Args:
        where: A path, whose folder is there; or an open file, of text or of bytes, which is flushed after each line and never closed.
        values: Whether to write also what tasks were given and returned, as it is recorded.
        progress: Whether to write every move of a bar (`ticked`), too. The last values are written in any case.

    Raises:
        InvalidOption: `where` is neither.
        OSError: The file can't be opened for writing.
    """

    live = True
    """Which run it is, and what is answered from record, are live events."""

    def __init__(self, where: str | PathLike[str] | IO[str] | IO[bytes], *, values: bool = False, progress: bool = False) -> None:
        self._out: _Out
        if isinstance(where, (str, PathLike)):
            path = os.fspath(where)
            if "://" in path:
                raise InvalidOption(option="where", value=path, reason="it takes a path of this machine, since it appends to a file")
            file = self._out = _File(Path(path).absolute())
            file.open()
            file.close()
        elif callable(getattr(where, "write", None)):
            self._out = _Stream(where)
        else:
            raise InvalidOption(option="where", value=where, reason="it takes a path or an open file")
        self._values, self._progress = values, progress
        self._lines = _Lines(self._out, values=values, progress=progress)

    def for_run(self, opened: RunOpened, /) -> _Lines:
        """Who writes the lines of one run."""
        return _Lines(self._out.again(), values=self._values, progress=self._progress)

    def on_event(self, event: Event, /) -> None:
        self._lines.on_event(event)

    async def aclose(self) -> None:
        """Close what was opened."""
        self._lines.aclose()


class _Lines:
    """The lines of one run."""

    live = True

    def __init__(self, out: _Out, *, values: bool, progress: bool) -> None:
        self._out = out
        self._values = values
        self._progress = progress
        self._run: tuple[str | None, str | None] = (None, None)
        self._known: dict[str, tuple[str, str]] = {}  # task and parent, of actions that have not ended

    def on_event(self, event: Event, /) -> None:
        if isinstance(event, Ticked) and not self._progress:
            return
        line = self._line(event)
        self._out.write(_text(line).encode("utf-8", "backslashreplace") + b"\n")  # a lone surrogate becomes JSON's escape for it

    def aclose(self) -> None:
        self._out.close()

    def _line(self, event: Event) -> dict[str, Any]:
        if isinstance(event, RunOpened):
            self._run = event.run_name, event.run_id or None
            self._known[event.action] = event.task, ""
        elif isinstance(event, (ActionAsked, Continued)):
            self._known[event.action] = event.task, event.parent
        task, parent = self._known.get(event.action, (getattr(event, "task", None), getattr(event, "parent", None)))
        then = getattr(event, "then", None)
        line = {
            "time": event.time.isoformat(timespec="microseconds"),
            "event": event.kind,
            "run_name": self._run[0],
            "run_id": self._run[1],
            "action": event.action or None,
            "task": task or None,
            "parent": parent or None,
            "attempt": _attempt(event),
            "status": getattr(event, "status", then),
            "error": _error(getattr(event, "error", None)),
            "live": event.live,
            "replayed": event.is_replay,
        }
        if then is not None and then not in _GO_ON:
            self._known.pop(event.action, None)
        for name, called in _own_fields(type(event), self._values):
            line.setdefault(called, getattr(event, name))
        if isinstance(event, RunOpened) and not self._values:
            line["trace"] = {key: value for key, value in event.trace.items() if key != "baggage"}
        if isinstance(event, Unknown):
            line["event"] = str(event.record.get("e", event.kind))
        return line


@cache
def _own_fields(kind: type[Event], values: bool) -> tuple[tuple[str, str], ...]:
    """The fields that a line has besides the common ones: each with the name that it has there."""
    names = [name for name, *_ in kind.__fields__ if name not in _TOLD_OTHERWISE and (values or name not in VALUES)]
    return tuple((name, "children_replayed" if name == "replayed" else name) for name in names)


def _attempt(event: Event) -> int | None:
    if isinstance(event, CheckpointSaved):
        return event.generation[1]
    return getattr(event, "number", None)


def _error(tree: Mapping[str, Any] | None) -> dict[str, str] | None:
    if not tree:
        return None
    error = decode_error(tree)
    return {"type": type(error).__name__, "text": str(error)}


def _plain(value: object) -> Any:
    """What json does not write by itself."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    return str(value) if isinstance(value, Decimal) else repr(value)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False).encode
_ENDS_OF_LINES: Final = {ord(char): f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}


def _text(line: dict[str, Any]) -> str:
    try:
        text = _encode(line)
    except ValueError:  # JSON has no NaN and no infinity: they become their names
        text = _encode(json.loads(json.dumps(line, default=_plain), parse_constant=str))
    return text if text.isascii() else text.translate(_ENDS_OF_LINES)


# where lines go


class _Out(Protocol):
    def write(self, line: bytes) -> None: ...

    def again(self) -> _Out:
        """For another run."""
        ...

    def close(self) -> None: ...


class _File:
    """A file that is appended to. A line is one write: what others append at the same time stands before it or behind it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._is_torn = False
        self._look_at = 0.0

    def open(self) -> int:
        """Raises: OSError."""
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._is_torn = _is_torn(self._path)
        self._look_at = time.monotonic() + AGAIN_SECONDS
        return self._descriptor

    def write(self, line: bytes) -> None:
        if self._descriptor is not None and time.monotonic() > self._look_at and not self._is_there(self._descriptor):
            self.close()
        descriptor = self._descriptor if self._descriptor is not None else self.open()
        data = b"\n" + line if self._is_torn else line
        written = os.write(descriptor, data)
        self._is_torn = written < len(data)
        if self._is_torn:
            raise OSError(f"{self._path}: {written} of the {len(data)} bytes of a line were written")

    def _is_there(self, descriptor: int) -> bool:
        self._look_at = time.monotonic() + AGAIN_SECONDS
        try:
            return os.path.samestat(self._path.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def again(self) -> _File:
        return _File(self._path)

    def close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def _is_torn(path: Path) -> bool:
    """Whether what is there ends within a line: its writer was killed. Asked only of files, and passed over where it can't be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
    except OSError:
        return False


class _Stream:
    """A file that somebody else opened, for all runs."""

    def __init__(self, stream: IO[str] | IO[bytes]) -> None:
        self._stream: Any = stream
        self._is_text = isinstance(stream, io.TextIOBase) or hasattr(stream, "encoding")
        self._writing = threading.Lock()

    def write(self, line: bytes) -> None:
        with self._writing:
            self._stream.write(line.decode() if self._is_text else line)
            self._flush()

    def again(self) -> _Stream:
        return self

    def close(self) -> None:
        with self._writing:
            if not getattr(self._stream, "closed", False):
                self._flush()

    def _flush(self) -> None:
        flush = getattr(self._stream, "flush", None)
        if flush is not None:
            flush()
