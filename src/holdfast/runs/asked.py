"""What a run was asked for: its name, its incarnations, and run.json, which is written once."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, Literal

from holdfast.clocks import clock, instant
from holdfast.codec import from_json, to_json
from holdfast.contexts import Budget
from holdfast.errors import (
    InvalidName,
    JournalDamaged,
    JournalTooNew,
    ObjectMissing,
    RunNotFound,
    StoreEncrypted,
)
from holdfast.folders.ciphers import is_encrypted
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.identity import check_name
from holdfast.journals.writing import Flush
from holdfast.runs.described import Beginning
from holdfast.runs.presence import LEASE_SECONDS
from holdfast.telling import Observer

Resume = Literal["auto", "never", "must", "restart", "takeover"]

FORMAT: Final = "1.0"

_INCARNATION = re.compile(r"\d{6}")


class Options(Frozen):
    """What `run(...)` was told, checked."""

    run_name: str | None = None
    resume: Resume = "auto"
    observers: tuple[Observer, ...] = ()
    sync: bool = True
    custom_context: Mapping[str, str] | None = None
    budget: Budget | None = None
    raw_data_path: str | None = None
    grace: float = 30.0
    flush: Flush = Flush()
    lease: float = LEASE_SECONDS
    allow_unfenced: bool = False


class Asked(Frozen):
    """The root call as it is written down in run.json, once.

    `inputs` is what is compared, `arguments` say which of them differs. `beginning` is for people, and compared with nothing. `begun_with`
    is the context in run.json, where another one was given now; it is not written.
    """

    run_name: str
    run_id: str
    task: str
    inputs: str
    arguments: Mapping[str, str]
    context: Mapping[str, str]
    root: str
    created: float
    version: str | None
    beginning: Beginning = Beginning()
    begun_with: Mapping[str, str] | None = None

    def to_json(self) -> bytes:
        body = to_json(
            {
                "holdfast": FORMAT,
                "run_name": self.run_name,
                "run_id": self.run_id,
                "task": self.task,
                "inputs": self.inputs,
                "arguments": dict(self.arguments),
                "context": dict(self.context),
                "root": self.root,
                "created": self.created,
                "version": self.version,
                "versions": dict(self.beginning.versions),
                "beginning": self.beginning.to_record(),
            }
        )
        return b'{"check":"%b",%b' % (_check(body), body[1:])


def _check(body: bytes) -> bytes:
    """What run.json says of itself: it is believed wherever a run is opened, so a flipped byte must not change it unseen."""
    return blake2b(body, digest_size=16).hexdigest().encode()


async def read_asked(incarnation: Folder) -> Asked:
    """Read run.json. Raises: ObjectMissing, JournalDamaged, JournalTooNew; StoreEncrypted, NotEncrypted, WrongKey."""
    data, where = await incarnation.get("run.json"), f"{incarnation.url}/run.json"
    if is_encrypted(data):
        raise StoreEncrypted(where=where)
    try:
        record = from_json(data)
        found = str(record["holdfast"])
        if int(found.partition(".")[0]) > int(FORMAT.partition(".")[0]):
            raise JournalTooNew(where=where, found=found, known=FORMAT)
        if _check(b"{" + data.partition(b",")[2]).decode() != record["check"]:
            raise ValueError("it does not match its digest")
        return Asked(
            run_name=record["run_name"],
            run_id=record["run_id"],
            task=record["task"],
            inputs=record["inputs"],
            arguments=record["arguments"],
            context=record["context"],
            root=record["root"],
            created=record["created"],
            version=record["version"],
            beginning=Beginning.from_record(record),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JournalDamaged(where=where, segment=0, offset=0, reason="run.json can't be read") from error


async def incarnations(store: Folder, run_name: str) -> list[str]:
    """The incarnations of a run, oldest first."""
    return [entry.name for entry in await store.list(f"runs/{run_name}") if entry.is_folder and _INCARNATION.fullmatch(entry.name)]


async def newest_incarnation(store: Folder, run_name: str) -> Folder:
    """The incarnation that is the run. Raises: InvalidName, RunNotFound."""
    check_name("run_name", run_name)
    for found in reversed(await incarnations(store, run_name)):
        folder = store.child(f"runs/{run_name}/{found}")
        if await folder.stat("run.json") is not None:
            return folder
    raise RunNotFound(run_name=run_name, store=store.url)


async def check_beginning(store: Folder, run_name: str) -> None:
    """Whether a new run may begin here under this name.

    Names that differ in case alone are one name on some stores, so they are refused on all. And a store has one set of keys, since its
    runs share blobs: so one that is there already has to be readable with ours, or with none.

    Raises: InvalidName; StoreEncrypted, NotEncrypted, WrongKey; StoreError.
    """
    names = [entry.name for entry in await store.list("runs")]
    for name in names:
        if name != run_name and name.lower() == run_name.lower():
            raise InvalidName(kind="run_name", name=run_name, reason=f"there is a run {name!r}, which differs in case alone")
    for name in names[-1:]:
        with contextlib.suppress(InvalidName, RunNotFound, ObjectMissing, JournalDamaged, JournalTooNew):  # it is not ours to complain
            await read_asked(await newest_incarnation(store, name))


def new_name(task: str) -> str:
    """A readable, sortable, unique name for a run."""
    return f"{instant(clock().now()):%Y%m%d-%H%M%S}-{slug_of(task)}-{secrets.token_hex(3)}"


def slug_of(task: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", task.rpartition(":")[2].rpartition(".")[2] or task).strip("-")[:40] or "run"
