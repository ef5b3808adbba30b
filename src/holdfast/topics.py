"""Values on their way to a run: `inbox/<topic>/<k>.json` in its folder, created exclusively by anyone, read by the run's owner.

`k` counts from 0 up without gaps: a sender tries the number behind the greatest that it sees, and where that is taken meanwhile, the next.
Nothing is ever deleted or replaced, so a number once seen stays taken, and the owner finds the next value by its name, without a listing.

A value is one JSON object. `id` is random, so that two equal values are two, and a sender whose answer was lost knows its own bytes again;
`check` is the digest of all that follows it. Plain data are in the tagged form of `codec`; models, dataclasses and enum members by their
JSON form, since who receives may know them by another name: what comes is validated as the type that is asked for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import math
import re
import secrets
import threading
from hashlib import blake2b
from typing import Any, Final, Protocol
from weakref import WeakSet

from pydantic import BaseModel

from holdfast.clocks import clock
from holdfast.codec import codec_for, from_json, to_json
from holdfast.codec.refusals import Refused
from holdfast.codec.tagged import Sink, tag
from holdfast.codec.typed import json_form
from holdfast.errors import (
    InboxDamaged,
    JournalTooNew,
    NotEncrypted,
    ObjectExists,
    ResultIncompatible,
    StoreEncrypted,
    UnrecordableResult,
)
from holdfast.folders.ciphers import is_encrypted
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.identity import check_name

INBOX: Final = "inbox"
FORMAT: Final = "1.0"

_NAME = re.compile(r"(\d{12})\.json")


class Entry(Frozen):
    """A value that was sent; or, where it can't be read, the error that whoever receives it gets."""

    topic: str
    number: int
    value: Any
    error: InboxDamaged | None = None

    @property
    def place(self) -> str:
        """What names it in a run's record."""
        return f"{self.topic}/{self.number}"


def entry_key(topic: str, number: int) -> str:
    """Where an entry lies in its run's folder."""
    return f"{INBOX}/{topic}/{number:012}.json"


def check_topic(topic: str) -> str:
    """Return `topic`, if it can be one. None begins with an underscore. Raises: InvalidName."""
    return check_name("topic", topic)


async def send(incarnation: Folder, topic: str, value: object) -> None:
    """Leave a value for whoever receives from a topic of this run, and return once it is durable.

    Raises:
        InvalidName: That can't be a topic.
        UnrecordableResult: The value would not arrive as it is.
        StoreUnavailable: It may have been sent, or not.
        StoreFull, StorePermission: The store refuses it.
    """
    check_topic(topic)
    data = written(topic, value)
    taken = [int(match[1]) for entry in await incarnation.list(f"{INBOX}/{topic}") if (match := _NAME.fullmatch(entry.name))]
    number = max(taken, default=-1) + 1
    while True:
        try:
            await incarnation.create(entry_key(topic, number), data)
            break
        except ObjectExists:  # somebody else's: our own bytes count as created
            number += 1
    with _changing:
        listeners = list(_listening.get(incarnation.url, ()))
    for listener in listeners:
        listener.hear(topic)


class Listener(Protocol):
    """Who wants to hear of what this process sends to a run."""

    def hear(self, topic: str) -> None:
        """Something was sent to `topic`. Called from any thread."""
        ...


_listening: Final[dict[str, WeakSet[Listener]]] = {}
_changing: Final = threading.Lock()


def listen(incarnation: Folder, listener: Listener) -> None:
    """Have a listener told, for as long as it lives, of what this process sends to a run. Another store of the same name tells it too."""
    with _changing:
        for url in [url for url, listeners in _listening.items() if not listeners]:
            del _listening[url]
        _listening.setdefault(incarnation.url, WeakSet()).add(listener)


async def read(incarnation: Folder, topic: str, number: int) -> Entry:
    """Read an entry, once more where it seems damaged.

    Raises: ObjectMissing, where it was not sent yet; JournalTooNew, StoreEncrypted, WrongKey, StoreError.
    """
    with contextlib.suppress(InboxDamaged):
        return await _read(incarnation, topic, number)
    try:
        return await _read(incarnation, topic, number)
    except InboxDamaged as error:
        return Entry(topic, number, None, error)


async def _read(incarnation: Folder, topic: str, number: int) -> Entry:
    key = entry_key(topic, number)
    where = f"{incarnation.url}/{key}"
    try:
        return Entry(topic, number, value_in(await incarnation.get(key), topic, where))
    except (ValueError, KeyError, TypeError, RecursionError, NotEncrypted, ResultIncompatible) as error:
        raise InboxDamaged(where=where, topic=topic, number=number, reason=" ".join(str(error).split())[:200]) from error


# one entry


def written(topic: str, value: object) -> bytes:
    """The bytes of a new entry. Raises: UnrecordableResult."""
    try:
        tree = tag(_plain(value), Sink(limit=math.inf))
    except Refused as refused:
        path = "".join(f"[{step!r}]" for step in refused.steps)
        raise UnrecordableResult(task=f"send to topic {topic!r}", path=f"value{path}", reason=refused.reason) from refused.__cause__
    except RecursionError:
        reason = "it is nested too deeply, or contains itself"
        raise UnrecordableResult(task=f"send to topic {topic!r}", path="value", reason=reason) from None
    body = to_json({"holdfast": FORMAT, "id": secrets.token_hex(16), "topic": topic, "sent": clock().now(), "value": tree})
    return b'{"check":"%b",%b' % (_check(body), body[1:])


def value_in(data: bytes, topic: str, where: str) -> Any:
    """The value in an entry's bytes, as plain data.

    Raises: ValueError, KeyError, TypeError, ResultIncompatible, where it is damaged; JournalTooNew, StoreEncrypted.
    """
    if is_encrypted(data):
        raise StoreEncrypted(where=where)
    record = from_json(data)
    if _check(b"{" + data.partition(b",")[2]).decode() != record["check"]:
        raise ValueError("it does not match its digest")
    found = str(record["holdfast"])
    if int(found.partition(".")[0]) > int(FORMAT.partition(".")[0]):
        raise JournalTooNew(where=where, found=found, known=FORMAT)
    if record["topic"] != topic:
        raise ValueError(f"it was sent to topic {record['topic']!r}, and names that differ in case alone are one in this store")
    return codec_for(Any, task=f"topic {topic!r}").decode(record["value"])


def _check(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).hexdigest().encode()


def _plain(value: Any) -> Any:
    """The same with JSON forms for what has no tagged one. Raises: Refused."""
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    kind: Any = type(value)
    if issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind):
        return json_form(value)
    if kind in (list, tuple):
        return kind([_below(step, item) for step, item in enumerate(value)])
    if kind is dict:
        return {key: _below(key, item) for key, item in value.items()}
    return value


def _below(step: object, item: Any) -> Any:
    try:
        return _plain(item)
    except Refused as refused:
        raise refused.below(step) from refused.__cause__
