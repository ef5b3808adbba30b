"""Becoming the owner of a run: who creates the very next segment's name owns it, and the owner before can't go on without that name."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

from holdfast.clocks import clock
from holdfast.errors import ObjectExists, ObjectMissing, RunFenced, StorePermission
from holdfast.folders.protocol import Folder, Log
from holdfast.folders.threads import in_thread
from holdfast.journals.appending import LogPen, create_segment
from holdfast.journals.appending import sync as sync_log
from holdfast.journals.creating import ObjectPen, now_by_both
from holdfast.journals.frames import Header, Seal, parse_header, segment_key
from holdfast.journals.reading import Read, read_journal, segment_sizes
from holdfast.journals.writing import Flush, Journal

Begun: TypeAlias = Callable[[int], Awaitable[None]]

#: Names that an owner at work may take before we get one. Each is a race of two requests.
RACES: Final = 10_000


def boot_id() -> str:
    """Tell one boot of this machine, and one world of process ids in it, from another, where the system says so."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When a living process of this machine began, in the system's words; empty where there is none, or the system does not say."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, *fields = file.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return fields[18] if state not in "ZX" and len(fields) > 18 else ""


def is_gone(header: Header) -> bool:
    """Whether the process that wrote the header is known to have ended: it ran in this boot, and no such process runs now."""
    if sys.platform != "linux" or header.boot == "" or header.boot != boot_id():
        return False
    born = header.process
    return born != "" and process_start(header.pid) != born and not _is_hidden(header.pid)


def is_alive(header: Header) -> bool:
    """Whether the process that wrote the header is known to be there."""
    return header.boot != "" and header.boot == boot_id() and header.process != "" and process_start(header.pid) == header.process


def _is_hidden(pid: int) -> bool:
    """Whether there is such a process, of which the system tells nobody but its user."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return process_start(pid) == ""
    except (OSError, OverflowError):
        return False
    return False


async def take_over(
    folder: Folder,
    run_name: str,
    known: Read,
    *,
    sync: bool,
    flush: Flush | None = None,
    begun: Begun | None = None,
) -> tuple[Journal, Read]:
    """Become the owner: create the very next segment, then read every older one (what changed of it since `known`).

    The caller folds what was read, and appends `AttemptEnded(CRASHED)` for attempts without an end before any new attempt.

    Args:
        folder: The run's.
        run_name: For messages.
        known: What was read of its journal.
        sync: Whether what is written has to survive a power cut.
        flush: When and how much is written at a time.
        begun: Told the epoch as soon as we are the owner: reading may take longer than others wait for a sign of life.

    Raises: RunFenced, where another contender was quicker; JournalDamaged, JournalTooNew, StoreError.
    """
    number = known.newest.segment + 1 if known.newest is not None else 1
    header = Header(
        segment=number,
        epoch=number,
        owner=secrets.token_hex(16),
        previous=number - 1,
        host=socket.gethostname(),
        pid=os.getpid(),
        boot=boot_id(),
        started=clock().now(),
        process=process_start(os.getpid()),
    )
    if folder.logs is not None:
        return await _take_over_logs(folder, run_name, header, known, sync, flush, begun)
    return await _take_over_objects(folder, run_name, replace(header, frames=0 if folder.unfenced is None else None), known, flush, begun)


async def _take_over_logs(
    folder: Folder, run_name: str, header: Header, known: Read, sync: bool, flush: Flush | None, begun: Begun | None
) -> tuple[Journal, Read]:
    log = await create_segment(folder, run_name, header)
    if begun is not None:
        await begun(header.epoch)
    read = await read_journal(folder, below=header.segment, known=known)
    unsealed = _unsealed(read)
    if sync:
        for seal in unsealed:
            await in_thread(partial(sync_log, await _open(folder, seal.segment)))
    return Journal(run_name, LogPen(folder, run_name, header, log, unsealed, sync=sync), flush), read


async def _take_over_objects(
    folder: Folder, run_name: str, header: Header, known: Read, flush: Flush | None, begun: Begun | None
) -> tuple[Journal, Read]:
    began = now_by_both()
    header = await _create_next(folder, run_name, header, known.newest)
    if begun is not None:
        await begun(header.epoch)
    try:
        read = await read_journal(folder, below=header.segment, known=known)
    except ObjectExists as error:  # the name was free because it was deleted
        raise RunFenced(run_name=run_name, segment=header.segment) from error
    line = header.to_line()
    own = Seal(header.segment, len(line), header.digest())
    pen = ObjectPen(
        folder,
        run_name,
        header,
        [*_unsealed(read), own],
        snapshot=read.snapshot,
        behind=read.lines(),
        segments=len(read.segments) + 1,
        epochs=read.epochs,
        began=began,
    )
    return Journal(run_name, pen, flush), read


async def _create_next(folder: Folder, run_name: str, header: Header, before: Header | None) -> Header:
    """Create the next name, and where the owner that we fence is at work and takes it first, the one behind.

    Raises: RunFenced, where it is another contender who takes it.
    """
    for _ in range(RACES):
        key = segment_key(header.segment)
        try:
            await folder.create(key, header.to_line())
            return header
        except ObjectExists as error:
            taken = await _header_of(folder, header.segment)
            if taken is None or before is None or taken.epoch != before.epoch:
                raise RunFenced(run_name=run_name, segment=header.segment) from error
        number = max({header.segment, *await segment_sizes(folder)}) + 1
        header = replace(header, segment=number, epoch=number, previous=number - 1)
    raise RunFenced(run_name=run_name, segment=header.segment)


async def _header_of(folder: Folder, segment: int) -> Header | None:
    key = segment_key(segment)
    try:
        return parse_header(await folder.get(key), f"{folder.url}/{key}", segment)
    except ObjectMissing:
        return None


def _unsealed(read: Read) -> Sequence[Seal]:
    return [segment.seal() for segment in read.segments if segment.header.segment not in read.seals]


async def _open(folder: Folder, segment: int) -> Log:
    assert folder.logs is not None
    return await folder.logs.open_log(segment_key(segment))


async def confirm(folder: Folder, read: Read, *, sync: bool) -> bool:
    """Say whether every later owner will read what was read, as an owner finds out before it acknowledges a group. Raises: StoreError."""
    if folder.logs is None:
        return read.newest is not None  # an object that is there is part of the journal, whoever goes on with it
    if read.newest is None or not read.is_settled:
        return False
    number = read.newest.segment
    if sync:
        with contextlib.suppress(StorePermission):  # who may only read can't make it durable, and gets what is there
            await in_thread(partial(sync_log, await _open(folder, number)))
    return await folder.stat(segment_key(number + 1)) is None
