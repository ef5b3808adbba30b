"""What an action's attempts know about its saves: which ones earlier owners left, and which is the newest that may be loaded."""

from __future__ import annotations

from typing import Final

from holdfast.actions.runtime import Runtime
from holdfast.checkpoints import newest_generation, newest_of_version
from holdfast.folders.protocol import Folder
from holdfast.retention import Generation3
from holdfast.states import Record


class Saves:
    """What an action's attempts in this ownership know about its checkpoints.

    `base` is the newest generation of earlier owners that existed when the action was first begun by this one: what a fenced owner
    writes later is newer than that by its name at most, never read. `newest` is the newest that may be loaded.
    """

    __slots__ = ("base", "newest")

    base: Generation3 | None
    newest: Generation3 | None

    def __init__(self, base: Generation3 | None) -> None:
        self.base = base
        self.newest = base


UNSAVED: Final = Saves(None)
"""Shared by all that never saved: replaced, never changed."""


async def saves_of(runtime: Runtime, record: Record, version: str | None) -> Saves:
    """What is known of the saves of an action on record, of which an attempt of that `version` is about to be begun."""
    saves = Saves(await newest_save(runtime, record))
    if (base := saves.base) is not None and (record.version is not None or version is not None):
        saves.newest = await newest_of_version(_folder(runtime, record), version, lambda found: found <= base)
    return saves


async def newest_save(runtime: Runtime, record: Record) -> Generation3 | None:
    """The newest generation of earlier owners that this one may load; what they write from now on is not read."""
    if record.number < 0 or runtime.folder is None:
        return None
    if record.base_epoch == runtime.epoch:
        newest = record.saved.generation if record.saved is not None else None
        return max((g for g in (record.base, newest) if g is not None), default=None)
    spans = record.set_aside

    def may_load(found: Generation3) -> bool:
        known = found[0] == record.base_epoch or (record.base is not None and found <= record.base)
        return known and not any(since <= found <= until for since, until in spans)

    return await newest_generation(_folder(runtime, record), may_load)


def _folder(runtime: Runtime, record: Record) -> Folder:
    return runtime.some_folder().child(f"actions/{record.name}/checkpoints")
