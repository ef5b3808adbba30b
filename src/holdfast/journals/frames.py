"""How a segment of the journal looks, byte by byte. Pure functions; no I/O.

A segment is one header line, then frames. A frame is one header line and the lines of its events, written as one group::

    {"holdfast": "1.0", "segment": 2, "epoch": 2, "owner": "…", "previous": 1, …, "started": 1763770000.0, "check": "…"}
    {"frame": 0, "length": 57, "prev": "…", "digest": "…", "seals": [[1, 4711, "…"]]}
    {"e": "attempt_started", "action": "…", "at": 1763770000.1, "number": 1, "epoch": 2}

`check` is a digest of what stands before it on its line. `prev` is the digest of the frame before (of the header line, for the first), so
frames can be neither dropped, moved nor swapped unseen.
`seals` in a segment's first frame record the valid length and last digest of every older segment: bytes behind them are never read.

In an object store nothing grows: a segment is one object with one frame, or, where its owner took over, with none. Its header says how many
(`"frames"`), so that an object which lost its end is damage, and no torn write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from holdfast.codec import from_json, to_json
from holdfast.errors import JournalDamaged, JournalTooNew, StoreEncrypted
from holdfast.events import Event, decode_event
from holdfast.folders.ciphers import is_encrypted
from holdfast.frozen import Frozen

MAJOR, MINOR = 1, 0
#: Bytes of lines, at least, that are read at one time.
PIECE: Final = 1 << 18
_FRAME_START = b'{"frame":'
_CHECK = b',"check":"'


class Seal(Frozen):
    """The recorded end of a segment: everything up to `length` is valid and ends with the frame of `digest`."""

    segment: int
    length: int
    digest: str


class Header(Frozen):
    """Who opened a segment. `process` is when that process began; `frames` how many there are in it, where it was written whole."""

    segment: int
    epoch: int
    owner: str
    previous: int
    host: str
    pid: int
    boot: str
    started: float
    process: str = ""
    frames: int | None = None

    def to_line(self) -> bytes:
        return checked_line({"holdfast": f"{MAJOR}.{MINOR}", **self.to_record()})

    def digest(self) -> str:
        """What the first frame behind it names as the one before."""
        return header_digest(self.to_line())

    def to_record(self) -> dict[str, Any]:
        record = {
            "segment": self.segment,
            "epoch": self.epoch,
            "owner": self.owner,
            "previous": self.previous,
            "host": self.host,
            "pid": self.pid,
            "boot": self.boot,
            "started": self.started,
            "process": self.process,
        }
        return record if self.frames is None else {**record, "frames": self.frames}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Header:
        """Raises: ValueError, KeyError, TypeError."""
        return cls(
            segment=int(record["segment"]),
            epoch=int(record["epoch"]),
            owner=str(record["owner"]),
            previous=int(record["previous"]),
            host=str(record["host"]),
            pid=int(record["pid"]),
            boot=str(record["boot"]),
            started=float(record["started"]),
            process=str(record.get("process", "")),
            frames=int(record["frames"]) if "frames" in record else None,
        )


class Frame(Frozen):
    """One group of events as found: its place, and the digest that the next frame names.

    `payload` is a part of the segment, and no copy of it: a long journal is in memory once while it is read, and goes as a whole.
    """

    index: int
    end: int
    digest: str
    seals: tuple[Seal, ...]
    payload: memoryview

    def events(self) -> Iterator[Event]:
        return events_of(bytes(self.payload))

    def events_with(self, word: bytes) -> Iterator[Event]:
        """The events whose line contains `word`."""
        return events_with(bytes(self.payload), word)

    def lines(self) -> list[bytes]:
        """Of its events, without their ends."""
        return bytes(self.payload).split(b"\n")[:-1]


class Segment(Frozen):
    """A segment as read: what is valid of it, and what the next frame has to go on from."""

    header: Header
    frames: tuple[Frame, ...]
    length: int
    digest: str

    def seal(self) -> Seal:
        return Seal(self.header.segment, self.length, self.digest)


def events_of(lines: bytes) -> Iterator[Event]:
    """The events of these lines, each of which has its end. They are read a piece at a time: there may be millions."""
    start = 0
    while start < len(lines):
        end = lines.find(b"\n", start + PIECE) + 1 or len(lines)
        for record in from_json(b"[" + b",".join(lines[start:end].split(b"\n")[:-1]) + b"]"):
            yield decode_event(record)
        start = end


def events_with(lines: bytes, word: bytes) -> Iterator[Event]:
    """Those whose line contains `word`, quickly where there is none."""
    found = lines.find(word)
    while found >= 0:
        end = lines.index(b"\n", found)
        yield decode_event(from_json(lines[lines.rfind(b"\n", 0, found) + 1 : end]))
        found = lines.find(word, end)


def segment_key(number: int) -> str:
    return f"journal/{number:020}.jsonl"


def checked_line(record: Mapping[str, Any]) -> bytes:
    """A header's line: the record, and the digest of it, so that a changed byte shows before there is a frame that names it."""
    body = to_json(record)[:-1]
    return b'%b%b%b"}\n' % (body, _CHECK, _check(body))


def _check(body: bytes) -> bytes:
    return blake2b(body, digest_size=8).hexdigest().encode()


def header_digest(line: bytes) -> str:
    return blake2b(line, digest_size=16).hexdigest()


def _digest(index: int, prev: str, seals: bytes, payload: bytes | memoryview) -> str:
    hashed = blake2b(f"{index} {prev} {len(payload)} ".encode(), digest_size=16)
    hashed.update(seals)
    hashed.update(b"\n")
    hashed.update(payload)
    return hashed.hexdigest()


def _seals_json(seals: Sequence[Seal]) -> bytes:
    return to_json([[s.segment, s.length, s.digest] for s in seals])


def frame(index: int, prev: str, lines: Sequence[bytes], seals: Sequence[Seal] = ()) -> tuple[bytes, str]:
    """Return a group as bytes to append, and its digest."""
    payload = b"\n".join(lines) + b"\n" if lines else b""
    sealed = _seals_json(seals)
    digest = _digest(index, prev, sealed, payload)
    head = b'{"frame":%d,"length":%d,"prev":"%b","digest":"%b","seals":%b}\n' % (
        index, len(payload), prev.encode(), digest.encode(), sealed,
    )  # fmt: skip
    return head + payload, digest


def checked_record(data: bytes, where: str, number: int) -> tuple[dict[str, Any], int]:
    """Read a line that `checked_line` made, and say where it ends. Raises: JournalDamaged, JournalTooNew, StoreEncrypted."""
    if is_encrypted(data):
        raise StoreEncrypted(where=where)
    end = data.find(b"\n")
    line = data[:end] if end >= 0 else data
    try:
        record = from_json(line)
        major = int(str(record["holdfast"]).partition(".")[0])
    except (ValueError, KeyError, TypeError) as error:
        raise JournalDamaged(where=where, segment=number, offset=0, reason="its first line can't be read") from error
    if major > MAJOR:
        raise JournalTooNew(where=where, found=str(record["holdfast"]), known=f"{MAJOR}.{MINOR}")
    body, _, check = line.rpartition(_CHECK)
    if check != _check(body) + b'"}' or end < 0:
        raise JournalDamaged(where=where, segment=number, offset=0, reason="its first line does not match its digest")
    return record, len(line) + 1


def parse_header(data: bytes, where: str, number: int) -> Header:
    """Read a segment's first line. It was created whole, so anything wrong with it is damage. Raises: JournalDamaged, JournalTooNew."""
    record, _ = checked_record(data, where, number)
    try:
        header = Header.of(record)
    except (ValueError, KeyError, TypeError) as error:
        raise JournalDamaged(where=where, segment=number, offset=0, reason="its first line lacks a field") from error
    if header.segment != number:
        raise JournalDamaged(where=where, segment=number, offset=0, reason=f"its first line names segment {header.segment}")
    return header


def _frame_at(data: bytes, offset: int) -> Frame | None:
    """Return the frame that stands whole at `offset`, by its own word, or None."""
    end = data.find(b"\n", offset)
    if end < 0 or not data.startswith(_FRAME_START, offset):
        return None
    try:
        head: dict[str, Any] = from_json(data[offset:end])
        index, length, prev, digest = int(head["frame"]), int(head["length"]), str(head["prev"]), str(head["digest"])
        seals = tuple(Seal(int(s), int(n), str(d)) for s, n, d in head["seals"])
    except (ValueError, KeyError, TypeError):
        return None
    payload = memoryview(data)[end + 1 : end + 1 + length]
    if length < 0 or len(payload) != length or _digest(index, prev, _seals_json(seals), payload) != digest:
        return None
    return Frame(index=index, end=end + 1 + length, digest=digest, seals=seals, payload=payload)


def _prev_at(data: bytes, offset: int) -> str:
    return str(from_json(data[offset : data.find(b"\n", offset)])["prev"])


def _valid_frame_behind(data: bytes, offset: int) -> bool:
    # the newline before it is not looked for: it belongs to the invalid frame, and may be what is wrong with that
    start = data.find(_FRAME_START, offset)
    while start >= 0:
        if _frame_at(data, start) is not None:
            return True
        start = data.find(_FRAME_START, start + 1)
    return False


def parse(data: bytes, where: str, number: int) -> Segment:
    """Read a segment. An invalid last frame is torn, and dropped; one with a valid frame behind it is damage.

    Raises: JournalDamaged, JournalTooNew.
    """
    header = parse_header(data, where, number)
    offset = data.find(b"\n") + 1
    digest = header_digest(data[:offset])
    frames: list[Frame] = []
    while offset < len(data):
        found = _frame_at(data, offset)
        if found is None or found.index != len(frames) or _prev_at(data, offset) != digest:
            if found is not None or _valid_frame_behind(data, offset):
                raise JournalDamaged(where=where, segment=number, offset=offset, reason="an invalid frame with a valid one behind it")
            break
        frames.append(found)
        offset, digest = found.end, found.digest
    if header.frames is not None and (len(frames) != header.frames or offset != len(data)):
        reason = f"it was written whole with {header.frames} frames, and {len(frames)} are valid"
        raise JournalDamaged(where=where, segment=number, offset=offset, reason=reason)
    return Segment(header=header, frames=tuple(frames), length=offset, digest=digest)


def parse_sealed(data: bytes, where: str, seal: Seal) -> Segment:
    """Read a segment up to its recorded end; what lies behind is not looked at. Raises: JournalDamaged, where that end is not there."""
    segment = parse(data[: seal.length], where, seal.segment)
    if segment.seal() != seal:
        raise JournalDamaged(
            where=where,
            segment=seal.segment,
            offset=segment.length,
            reason=f"{seal.length} bytes are on record, and what is valid ends at {segment.length}",
        )
    return segment
