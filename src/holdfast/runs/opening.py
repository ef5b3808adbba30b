"""Opening a run: find it or begin it, answer from record where it is finished, else become its owner."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from holdfast.actions.asking import rolled_back_error
from holdfast.actions.decisions import Replay, Undone, asked
from holdfast.actions.places import digest_of, digests_of
from holdfast.actions.values import read_value
from holdfast.blobs import Blobs
from holdfast.clocks import clock
from holdfast.codec import Codec
from holdfast.contexts import TRACE_KEYS, Context
from holdfast.errors import (
    HoldfastError,
    InputsChanged,
    InvalidName,
    InvalidOption,
    ObjectExists,
    ObjectMissing,
    RunExists,
    RunNotFound,
    StoreError,
)
from holdfast.folders.fencing import check_fence_once
from holdfast.folders.protocol import Folder
from holdfast.frozen import Frozen
from holdfast.identity import action_name, check_name
from holdfast.journals.frames import Header
from holdfast.journals.owning import confirm, take_over
from holdfast.journals.reading import Read, read_journal
from holdfast.orders import Order
from holdfast.runs.asked import (
    Asked,
    Options,
    check_beginning,
    incarnations,
    new_name,
    newest_incarnation,
    read_asked,
    slug_of,
)
from holdfast.runs.controls import send_control
from holdfast.runs.described import Beginning
from holdfast.runs.owned import Root, Run
from holdfast.runs.presence import approach, poll_seconds
from holdfast.states import Fold, Record
from holdfast.status import Status
from holdfast.topics import send

UNFINISHED_LOOKED_AT: Final = 20
"""A run without a name looks at so many earlier ones of its task for unfinished runs of the same call."""

_log = logging.getLogger("holdfast")


class Finished(Frozen):
    """The run has its result on record."""

    value: Any
    folder: Folder

    async def send(self, topic: str, value: object) -> None:
        """Leave a value that nobody will receive, as any that comes too late. Raises: as `topics.send`."""
        await send(self.folder, topic, value)


async def open_run(order: Order, context: Context, store: Folder, options: Options) -> Run | Finished:
    """Find or begin the run, and become its owner.

    Raises: RunExists, RunNotFound, RunBusy, RunFenced, RunRolledBack, InputsChanged, InvalidName, UnstableInput, UnrecordableResult, and
        what the store raises.
    """
    definition = order.definition
    codec = definition.result_codec()
    run_name = options.run_name if options.run_name is not None else new_name(definition.policy.name)
    check_name("run_name", run_name)
    asked_now = _asked(order, context, run_name, options)
    folder, known, is_new = await _find_or_begin(store, asked_now, order, options)
    read = await read_journal(folder) if not is_new else Read.nothing()
    finished = await _finished(folder, store, known, _root_of(read, known), order, codec)
    if finished is not None and await confirm(folder, read, sync=options.sync):
        _log.info("run %r in %s: from record", run_name, store.url)
        return finished
    if not is_new:
        await _check_fence(store, options)  # not before: whoever may only read gets what is on record
    run, newest = await _own(Root(order, context), known, folder, store, read, options)
    done = run.state.completed
    run.announce(store.url, is_new=is_new, recorded=done)
    try:
        if folder.logs is None and options.resume == "takeover" and newest is not None:
            await _tell_fenced(folder, run_name, newest.epoch, run.runtime.epoch)
        await run.adopt()
        record = run.state.actions.get(known.root)
        finished = await _finished(folder, store, known, record, order, codec)  # a fenced owner may have ended it a moment ago
    except BaseException:
        await run.close()
        raise
    if finished is not None:
        await run.close()
        _log.info("run %r in %s: from record", run_name, store.url)
        return finished
    hint = await _unfinished_hint(store, asked_now) if options.run_name is None else ""
    _log.info("run %r in %s: %s%s", run_name, store.url, "new" if is_new else f"continued, {done} actions on record", hint)
    return run


async def open_to_undo(folder: Folder, known: Asked, store: Folder, options: Options) -> Run | None:
    """Become the owner of a run, to roll it back. None, where it is rolled back already. Raises: RunBusy, RunFenced, StoreError."""
    read = await read_journal(folder)
    if _is_rolled_back(_root_of(read, known)):
        return None
    await _check_fence(store, options)
    run, _ = await _own(None, known, folder, store, read, options)
    try:
        await run.adopt()
        is_done = _is_rolled_back(run.state.actions.get(known.root))
    except BaseException:
        await run.close()
        raise
    if is_done:  # by an owner that ended a moment ago
        await run.close()
    return None if is_done else run


def _root_of(read: Read, known: Asked) -> Record | None:
    return Fold.of(read.events_of(known.root)).actions.get(known.root)


def _is_rolled_back(root: Record | None) -> bool:
    return root is not None and root.status is Status.ROLLED_BACK


async def _own(root: Root | None, known: Asked, folder: Folder, store: Folder, read: Read, options: Options) -> tuple[Run, Header | None]:
    """Take the run over. Returns also who owned it before. Raises: RunBusy, RunFenced, StoreError."""
    presence = await approach(folder, known.run_name, read.newest, force=options.resume == "takeover", lease=options.lease)
    try:
        journal, read = await take_over(folder, known.run_name, read, sync=options.sync, flush=options.flush, begun=presence.begin)
        return Run(root, known, folder, store, journal, read, presence, options), read.newest
    except BaseException:
        try:
            await presence.end()
        finally:
            presence.drop()
        raise


async def _check_fence(store: Folder, options: Options) -> None:
    if not options.allow_unfenced:
        await check_fence_once(store)


async def _tell_fenced(folder: Folder, run_name: str, epoch: int, segment: int) -> None:
    """So that an idle owner need not wait for its next group to find out."""
    try:
        await send_control(folder, "fenced", epoch, segment=segment)
    except StoreError as error:
        _log.warning("run %r: its owner before can't be told just now that it is fenced: %s", run_name, error)


async def _unfinished_hint(store: Folder, begun: Asked) -> str:
    """Name earlier runs of the same call, begun without a name and not COMPLETED: somebody may have meant to go on with one."""
    alike = re.compile(rf"\d{{8}}-\d{{6}}-{re.escape(slug_of(begun.task))}-[0-9a-f]{{6}}")
    names = [e.name for e in await store.list("runs") if alike.fullmatch(e.name) and e.name != begun.run_name]

    async def is_one(name: str) -> bool:
        try:
            incarnation = await newest_incarnation(store, name)
            known = await read_asked(incarnation)
            return (known.task, known.inputs) == (begun.task, begun.inputs) and not await _is_over(incarnation, known)
        except HoldfastError:
            return False  # what can't be read now is no hint

    looked_at = names[-UNFINISHED_LOOKED_AT:]
    unfinished = [repr(name) for name, found in zip(looked_at, await asyncio.gather(*map(is_one, looked_at)), strict=True) if found]
    if not unfinished:
        return ""
    return f"; unfinished runs of the same call: {', '.join(unfinished)} (pass one as run_name to go on with it)"


async def _is_over(incarnation: Folder, known: Asked) -> bool:
    record = _root_of(await read_journal(incarnation), known)
    return record is not None and record.status in (Status.COMPLETED, Status.ROLLED_BACK)


def _asked(order: Order, context: Context, run_name: str, options: Options) -> Asked:
    policy = order.definition.policy
    key = policy.key(*order.args, **order.kwargs) if policy.key is not None else None
    if key is not None and not isinstance(key, str):
        raise InvalidOption(option="key", value=key, reason="it has to return a str")
    digest = b"d" + digest_of(order) if key is None else b"k" + key.encode("utf-8", "surrogatepass")
    inputs, arguments = (digest[1:].hex(), digests_of(order)) if key is None else (f"key {key}", {})
    bound = {**context.custom_context, **(options.custom_context or {})}
    root = action_name("", policy.name, digest, (), (), 0)
    return Asked(run_name, secrets.token_hex(16), policy.name, inputs, arguments, bound, root, clock().now(), policy.version)


async def _find_or_begin(store: Folder, wanted: Asked, order: Order, options: Options) -> tuple[Folder, Asked, bool]:
    """Return the incarnation, what it was asked for, and whether it was begun just now."""
    run_name, resume = wanted.run_name, options.resume
    following = 0
    for number in reversed(await incarnations(store, run_name)):
        folder = store.child(f"runs/{run_name}/{number}")
        try:
            known = await read_asked(folder)
        except ObjectMissing:
            continue  # its creator died between the folder and run.json, or is about to write it: whoever does so first begins the run
        if known.run_name != run_name:
            raise InvalidName(kind="run_name", name=run_name, reason=f"the run's name is spelled {known.run_name!r}")
        if resume == "never":
            raise RunExists(run_name=run_name, status=f"incarnation {number}")
        if resume == "restart":
            following = int(number) + 1
            break
        return folder, _compared(known, wanted), False
    else:
        if resume == "must":
            raise RunNotFound(run_name=run_name, store=store.url)
        await check_beginning(store, run_name)
    await _check_fence(store, options)
    folder = store.child(f"runs/{run_name}/{following:06}")
    wanted = replace(wanted, beginning=Beginning.of(order, options.observers, poll_seconds(folder, options.lease)))
    try:
        await folder.create("run.json", wanted.to_json())
    except ObjectExists:  # somebody begins it in this very moment: theirs counts
        if resume == "never":
            raise RunExists(run_name=run_name, status="begun just now by another process") from None
        return folder, _compared(await read_asked(folder), wanted), False
    return folder, wanted, True


def _compared(known: Asked, wanted: Asked) -> Asked:
    """Raises: InputsChanged, naming what differs."""
    if known.task != wanted.task:
        raise InputsChanged(run_name=known.run_name, what="task", was=known.task, now=wanted.task)
    if known.inputs != wanted.inputs:
        what, was, now = _differing(known, wanted)
        raise InputsChanged(run_name=known.run_name, what=what, was=was, now=now)
    was_bound, now_bound = _compared_context(known.context), _compared_context(wanted.context)
    for key in sorted({*was_bound, *now_bound}) if now_bound else ():
        if was_bound.get(key) != now_bound.get(key):
            what, was, now = f"custom context {key}", repr(was_bound.get(key)), repr(now_bound.get(key))
            raise InputsChanged(run_name=known.run_name, what=what, was=was, now=now)
    traces = {key: value for key, value in wanted.context.items() if key in TRACE_KEYS}
    return replace(known, context={**known.context, **traces}, begun_with=known.context)


def _compared_context(bound: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in bound.items() if key not in TRACE_KEYS}


def _differing(known: Asked, wanted: Asked) -> tuple[str, str, str]:
    """Name the first argument that differs; values are not kept, so their digests stand for them."""
    if not (known.arguments and wanted.arguments):
        return "input", known.inputs, wanted.inputs
    for name in sorted({*known.arguments, *wanted.arguments}):
        was, now = known.arguments.get(name), wanted.arguments.get(name)
        if was != now:
            return f"argument {name}", _short(was), _short(now)
    return "input", _short(known.inputs), _short(wanted.inputs)


def _short(digest: str | None) -> str:
    return "none" if digest is None else f"digest {digest[:8]}"


async def _finished(folder: Folder, store: Folder, known: Asked, record: Record | None, order: Order, codec: Codec) -> Finished | None:
    """The root's result, where it is on record: without taking the run over, and without looking at the rest of it.

    Raises: RunRolledBack.
    """
    decision = asked(record, None, order.definition.policy)
    if isinstance(decision, Undone) and record is not None:
        raise rolled_back_error(known.run_name, record)
    if record is None or not isinstance(decision, Replay):
        return None
    return Finished(await read_value(Blobs(store, sync=True), record, codec), folder)
