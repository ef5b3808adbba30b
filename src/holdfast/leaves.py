"""What an owner keeps of actions that COMPLETED, where there are many: little, so that a run may have a million rows.

A whole `Record` takes a kilobyte. Of a leaf (an action that asked for nothing) nobody but a reader wants to know more, once it COMPLETED,
than what a replay needs, and most of that is the same for all rows of one `map`. So leaves of one kind share a `Kind`, and each keeps its
value. A record is made of them again when it is looked at; one that changes is made whole, and stays so.

History (times, earlier attempts, bars, how often it was replayed) goes: a reader folds the journal itself, and keeps all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from holdfast.codec import from_json, to_json
from holdfast.costs import Bill
from holdfast.events import ActionAsked
from holdfast.rounds import Made
from holdfast.states import Attempt, Generation3, Packing, Record
from holdfast.status import Status

MANY: Final = 1_000
"""Leaves are packed once their parent has asked for more than so many actions."""

SHARED: Final = frozenset({"attempt", "base", "base_epoch", "parent", "present_try", "round", "skips", "task", "version"})
OWN: Final = frozenset({"bare", "bill", "blob", "first", "inputs", "name", "occurrence", "value"})
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


class _More(NamedTuple):
    """What few leaves have."""

    first: str
    occurrence: int
    inputs: str
    bare: str
    blob: str


class _Leaf:
    """What is kept of most of them."""

    __slots__ = ("kind", "name", "value")

    kind: Kind
    name: str
    value: Any

    def __init__(self, name: str, kind: Kind, value: Any) -> None:
        self.name = name
        self.kind = kind
        self.value = value

    def more(self) -> _More | None:
        return None


class _RareLeaf(_Leaf):
    """What is kept of those that have more."""

    __slots__ = ("_more",)

    def __init__(self, name: str, kind: Kind, value: Any, more: _More) -> None:
        super().__init__(name, kind, value)
        self._more = more

    def more(self) -> _More | None:
        return self._more


class Leaves(Packing):
    """The actions of a run by name: whole records, and leaves."""

    def __init__(self) -> None:
        self.whole: dict[str, Record] = {}
        self._leaves: dict[str, _Leaf] = {}
        self._kinds: dict[Kind, Kind] = {}
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
        kind = self._kinds.setdefault(kind, kind)
        value = to_json(record.value) if isinstance(record.value, (dict, list)) else record.value
        if record.occurrence or record.inputs or record.blob or record.bare != record.name:
            more = _More(record.first, record.occurrence, record.inputs, record.bare, record.blob)
            self._leaves[record.name] = _RareLeaf(record.name, kind, value, more)
        else:
            self._leaves[record.name] = _Leaf(record.name, kind, value)
        if record.bill is not None:
            self.bills[record.name] = record.bill
        del self.whole[record.name]

    def thaw(self, name: str) -> Record | None:
        """The record of an action, whole from now on."""
        record = self.whole.get(name)
        if record is None and (leaf := self._leaves.pop(name, None)) is not None:
            record = self.whole[name] = _record(leaf, self.bills.pop(name, None))
        return record

    def made(self, name: str) -> Made | None:
        leaf = self._leaves.get(name)
        if leaf is None:
            return None
        more = leaf.more()
        return Made(name, name, 0, leaf.kind.round) if more is None else Made(name, more.first, more.occurrence, leaf.kind.round)

    def those_with_context(self) -> Iterator[Record]:
        """COMPLETED actions of which other places differ only in counted context."""
        yield from (record for record in self.whole.values() if record.status is Status.COMPLETED and record.bare != record.name)
        yield from (_record(leaf, None) for leaf in self._leaves.values() if (more := leaf.more()) is not None and more.bare != leaf.name)

    def text_of(self, name: str) -> str:
        known = self._leaves.get(name) or self.whole.get(name)
        return known.name if known is not None else name

    def __getitem__(self, name: str) -> Record:
        record = self.whole.get(name)
        return record if record is not None else _record(self._leaves[name], self.bills.get(name))

    def get(self, name: str, default: Any = None) -> Any:
        record = self.whole.get(name)
        if record is None and (leaf := self._leaves.get(name)) is not None:
            return _record(leaf, self.bills.get(name))
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


def _record(leaf: _Leaf, bill: Bill | None) -> Record:
    kind, more = leaf.kind, leaf.more()
    asked = ActionAsked(
        action=leaf.name,
        at=0.0,
        parent=kind.parent,
        task=kind.task,
        version=kind.version,
        first=more.first if more is not None else "",
        occurrence=more.occurrence if more is not None else 0,
        round=kind.round,
        inputs=more.inputs if more is not None else "",
        bare=more.bare if more is not None else "",
        skips=kind.skips,
    )
    record = Record(asked)
    record.attempt = attempt = Attempt(kind.number, kind.epoch, 0.0, Status.PENDING)
    attempt.status = record.status = Status.COMPLETED
    attempt.ended_at = 0.0
    record.present_try, record.base_epoch, record.base = kind.present_try, kind.base_epoch, kind.base
    record.value = from_json(leaf.value) if isinstance(leaf.value, bytes) else leaf.value
    record.blob = more.blob if more is not None else ""
    record.bill = bill
    return record
