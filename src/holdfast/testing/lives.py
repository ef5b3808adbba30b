"""A process that dies when it is told to.

A killed process is not an error that code could handle: `SimulatedCrash` is no `Exception`, and nothing works after it. What the process
had open is let go of by the kernel, and what it asked of a server before may still be done.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Generator
from typing import Literal

When = Literal["before", "after", "torn", "late"]

_RANDOM_NAME = re.compile(r"\.tmp-[0-9a-f]+")


class SimulatedCrash(BaseException):
    """The process was killed here."""


class Mortal:
    """What lives one life, and shows it."""

    life: Life

    def __init__(self, life: Life) -> None:
        self.life = life

    @property
    def operations(self) -> list[str]:
        """What was begun, in order."""
        return self.life.operations

    @property
    def crashed(self) -> bool:
        return self.life.crashed

    def when_crashed(self, callback: Callable[[], None]) -> None:
        """Have `callback` called in the moment of death, in whichever thread that is."""
        self.life.on_crash = callback

    def alive(self) -> contextlib.AbstractContextManager[None]:
        """A block in which the process does not die. Raises SimulatedCrash, where it has."""
        return self.life.alive()


class Life:
    """The life of one process, which ends at its `at`-th step; with `at=None`, it only counts."""

    operations: list[str]
    crashed: bool
    opened: dict[object, Callable[[], None]]
    on_crash: Callable[[], None]

    def __init__(self, at: int | None = None, when: When = "before") -> None:
        self.operations = []
        self.crashed = False
        self.opened = {}  # what the kernel ends when the process ends
        self.on_crash = lambda: None
        self._at = at
        self._when: When = when
        self._one_at_a_time = threading.RLock()

    @contextlib.contextmanager
    def alive(self) -> Generator[None]:
        """A block in which the process does not die. Raises: SimulatedCrash, where it has."""
        with self._one_at_a_time:
            if self.crashed:
                raise SimulatedCrash
            yield

    def begin(self, verb: str, path: str) -> When | None:
        """Count a step. Returns how the process has to die at it, or None."""
        with self.alive():
            self.operations.append(f"{verb} {_RANDOM_NAME.sub('.tmp-*', path.lstrip('/'))}")
            return self._when if len(self.operations) == self._at else None

    @contextlib.contextmanager
    def step(self, verb: str, path: str, torn: Callable[[], None] | None = None) -> Generator[None]:
        """One blocking operation that changes something. `torn` does half of it. Nothing else is under way in the moment of death."""
        with self._one_at_a_time:
            crash = self.begin(verb, path)
            if crash == "torn" and torn is not None:
                with contextlib.suppress(OSError):  # nothing to do half of
                    torn()
            if crash is not None and crash != "after":
                raise self.kill()
            try:
                yield
            finally:  # also where it failed
                if crash == "after":
                    raise self.kill()

    def end(self, opened: object) -> None:
        """Let go of something. After death that was done already, and nobody is there to see it."""
        with self._one_at_a_time:
            if (let_go := self.opened.pop(opened, None)) is not None:
                let_go()

    def kill(self) -> SimulatedCrash:
        """End it here. Returns what is raised then."""
        with self._one_at_a_time:
            self.crashed = True
            for end in self.opened.values():
                end()
            self.opened.clear()
            self.on_crash()
            return SimulatedCrash(self.operations[-1] if self.operations else "before its first operation")
