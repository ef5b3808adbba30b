"""What a checkpoint needs of the attempt that it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from holdfast.checkpoints.generations import Generation
from holdfast.progress import BarValues
from holdfast.retention import Generation3, Retention


class Keeper(Protocol):
    """What a checkpoint needs of the attempt that it belongs to."""

    number: int

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def task_name(self) -> str: ...

    @property
    def version(self) -> str | None: ...

    @property
    def epoch(self) -> int: ...

    @property
    def retention(self) -> Retention: ...

    @property
    def sync(self) -> bool: ...

    @property
    def newest(self) -> Generation3 | None: ...

    def check(self, what: str) -> None:
        """Raise ActionEnded or AttemptAbandoned, where this attempt may no longer do anything."""
        ...

    def may_load(self, generation: Generation3) -> bool:
        """False for what a fenced owner wrote behind our back, and for what was set aside."""
        ...

    def pinned(self) -> Generation3 | None:
        """A generation that retention has to keep."""

    async def before_delete(self) -> None:
        """Return when the last save is on record: whoever owns the run next may load it, and needs nothing older. Raises: RunFenced."""
        ...

    async def before_save(self) -> None:
        """Return when the attempt's start is durable, and the calls that it has under way."""
        ...

    def begin_save(self) -> tuple[int, Sequence[str]]:
        """Return the ordinal of the save in its line, and which calls are asked for and not yet answered."""
        ...

    def bars_shown(self) -> Mapping[str, BarValues]:
        """The attempt's bars as they are now."""
        ...

    def rewind(self, bars: Mapping[str, BarValues]) -> None:
        """Put the attempt's bars back."""
        ...

    def saved(self, generation: Generation) -> None: ...

    def note_loaded(self, generation: Generation, ordinal: int, undelivered: Sequence[str]) -> None: ...

    def warn(self, category: type[Warning], text: str) -> None: ...
