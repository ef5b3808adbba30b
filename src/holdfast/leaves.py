"""What an owner keeps of actions that COMPLETED, where there are many: little, so that a run may have a million rows.

A whole `Record` takes a kilobyte. Of a leaf (an action that asked for nothing) nobody but a reader wants to know more, once it COMPLETED,
than what a replay needs, and most of that is the same for all rows of one `map`. So leaves of one kind share a `Kind`, and each keeps its
value, as JSON. A record is made of them again when it is looked at; one that changes is made whole, and stays so.

History (times, earlier attempts, bars, how often it was replayed) goes: a reader folds the journal itself, and keeps all.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any, Final, NamedTuple

from holdfast.codec import from_json, to_json
from holdfast.costs import Bill
from holdfast.events import ActionAsked
from holdfast.retention import Generation3
from holdfast.rounds import Made
from holdfast.states import Attempt, Packing, Record
from holdfast.status import Status

MANY: Final = 1_000
"""Leaves are packed once their parent has asked for more than so many actions."""

SHARED: Final = frozenset({"attempt", "base", "base_epoch", "parent", "present_try", "round", "skips", "task", "version"})
OWN: Final = frozenset({"bare", "bill", "blob", "first", "inputs", "name", "nth", "occurrence", "value"})
GONE: Final = frozenset({"asked_at", "bars", "barren", "earlier", "failed_in", "failures", "fruitful", "replayed"})
SETTLED: Final = frozenset({"children", "error", "final", "loops", "next_at", "notes", "saved", "set_aside", "spent", "status"})
"""What becomes of each field of a record: shared by its kind, its own, gone; or, of all that are packed, empty or COMPLETED."""


class Kind(NamedTuple):
    """What leaves have in common."""

    parent: str
    task: str
    version: str | None
    number: int
    epoch: int
    present_try: int
    round: int
    skips: bool
    base_epoch: int
    base: Generation3 | None


class _Leaf(NamedTuple):
    """What is a leaf's own. Of most, all but `nth` and `value` are empty."""

    kind: Kind
    nth: int
    value: Any
    first: str = ""
    occurrence: int = 0
    inputs: str = ""
    bare: str = ""
    blob: str = ""


#: A leaf is kept as bytes: which of its parent's calls it is, the number of its kind, and its value, or where it has more, a list, as JSON.
_HEAD: Final = Struct("<II")
_HAS_MORE: Final = 1 << 31


class Leaves(Packing):
    """The actions of a run by name: whole records, and leaves."""

    def __init__(self) -> None:
        self.whole: dict[str, Record] = {}
        self._leaves: dict[str, bytes] = {}
        self._kinds: list[Kind] = []
        self._numbers: dict[Kind, int] = {}
        self.bills: dict[str, Bill] = {}

    @property
    def packed(self) -> int:
        """How many are leaves. All of them are COMPLETED."""
        return len(self._leaves)

    def pack(self, record: Record, parent: Record) -> None:
        """Keep only what a replay of a COMPLETED action needs, where its parent has many and it has nothing of its own below."""
        if parent.children is None or len(parent.children) <= MANY or not _is_leaf(record):
            return
        attempt = record.attempt
        assert attempt is not None
        kind = Kind(
            record.parent,
            record.task,
            record.version,
            attempt.number,
            attempt.epoch,
            record.present_try,
            record.round,
            record.skips,
            record.base_epoch,
            record.base,
        )
        number = self._numbers.setdefault(kind, len(self._kinds))
        if number == len(self._kinds):
            self._kinds.append(kind)
        if record.occurrence or record.inputs or record.blob or record.bare != record.name:
            first, bare = (text if text != record.name else "" for text in (record.first, record.bare))
            more = [record.value, first, record.occurrence, record.inputs, bare, record.blob]
            leaf = _HEAD.pack(record.nth, number | _HAS_MORE) + to_json(more)
        else:
            leaf = _HEAD.pack(record.nth, number) + to_json(record.value)
        self._leaves[record.name] = leaf
        if record.bill is not None:
            self.bills[record.name] = record.bill
        del self.whole[record.name]

    def thaw(self, name: str) -> Record | None:
        """The record of an action, whole from now on."""
        record = self.whole.get(name)
        if record is None and (leaf := self._leaves.pop(name, None)) is not None:
            record = self.whole[name] = _record(name, self._read(leaf), self.bills.pop(name, None))
        return record

    def _read(self, leaf: bytes) -> _Leaf:
        nth, number = _HEAD.unpack_from(leaf)
        value = from_json(leaf[_HEAD.size :])
        if number & _HAS_MORE:
            return _Leaf(self._kinds[number ^ _HAS_MORE], nth, *value)
        return _Leaf(self._kinds[number], nth, value)

    def made(self, name: str) -> Made | None:
        leaf = self._leaves.get(name)
        if leaf is None:
            return None
        _, number = _HEAD.unpack_from(leaf)
        if not number & _HAS_MORE:
            return Made(name, name, 0, self._kinds[number].round)
        known = self._read(leaf)
        return Made(name, known.first or name, known.occurrence, known.kind.round)

    def those_with_context(self) -> Iterator[Record]:
        """COMPLETED actions of which other places differ only in counted context."""
        yield from (record for record in self.whole.values() if record.status is Status.COMPLETED and record.bare != record.name)
        for name, leaf in self._leaves.items():
            if _HEAD.unpack_from(leaf)[1] & _HAS_MORE and (known := self._read(leaf)).bare:
                yield _record(name, known, None)

    def text_of(self, name: str) -> str:
        leaf = self._leaves.get(name)
        if leaf is None:
            whole = self.whole.get(name)
            return whole.name if whole is not None else name
        nth, number = _HEAD.unpack_from(leaf)
        children = self.whole[self._kinds[number & ~_HAS_MORE].parent].children
        assert children is not None
        kept: str = children[nth]
        return kept

    def __getitem__(self, name: str) -> Record:
        record = self.whole.get(name)
        return record if record is not None else _record(name, self._read(self._leaves[name]), self.bills.get(name))

    def get(self, name: str, default: Any = None) -> Any:
        record = self.whole.get(name)
        if record is None and (leaf := self._leaves.get(name)) is not None:
            return _record(name, self._read(leaf), self.bills.get(name))
        return record if record is not None else default

    def __contains__(self, name: object) -> bool:
        return name in self.whole or name in self._leaves

    def __iter__(self) -> Iterator[str]:
        """Parents before their children."""
        yield from self.whole
        yield from self._leaves

    def __len__(self) -> int:
        return len(self.whole) + len(self._leaves)


def _is_leaf(record: Record) -> bool:
    attempt = record.attempt
    if record.status is not Status.COMPLETED or attempt is None or attempt.abandoned or any(a.abandoned for a in record.earlier):
        return False
    return record.children is None and record.notes is None and record.saved is None and not record.set_aside and not record.loops


def _record(name: str, leaf: _Leaf, bill: Bill | None) -> Record:
    kind = leaf.kind
    asked = ActionAsked(
        action=name,
        at=0.0,
        parent=kind.parent,
        task=kind.task,
        version=kind.version,
        first=leaf.first,
        occurrence=leaf.occurrence,
        round=kind.round,
        inputs=leaf.inputs,
        bare=leaf.bare,
        skips=kind.skips,
    )
    record = Record(asked)
    record.attempt = attempt = Attempt(kind.number, kind.epoch, 0.0, Status.PENDING)
    attempt.status = record.status = Status.COMPLETED
    attempt.ended_at = 0.0
    record.present_try, record.base_epoch, record.base = kind.present_try, kind.base_epoch, kind.base
    record.nth, record.value, record.blob = leaf.nth, leaf.value, leaf.blob
    record.bill = bill
    return record
