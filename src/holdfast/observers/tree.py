"""The groups and tasks of a run as a tree, with how their actions fare: plain numbers.

It grows with the shape of the program, never with how often a task was called: actions of one task below one place are one branch, a task
that calls itself is one branch too, and of many groups the later ones are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

GROUPS_KEPT: Final = 20
TASKS_KEPT: Final = 200
DEEPEST: Final = 6


class Branch:
    """A group, or all actions of one task below one place."""

    __slots__ = (
        "above", "below", "cancelled", "depth", "done", "failed", "is_group", "name", "retries", "reused", "running", "stopped", "waiting",
    )  # fmt: skip

    above: Branch | None
    cancelled: int
    done: int
    failed: int
    is_group: bool
    name: str
    retries: int
    reused: int
    running: int
    stopped: int
    waiting: int

    def __init__(self, name: str, *, is_group: bool, above: Branch | None) -> None:
        self.name = name
        self.is_group = is_group
        self.above = above
        self.depth: int = 0 if above is None else above.depth + 1
        self.below: dict[tuple[bool, str], Branch] = {}
        self.running = 0
        self.waiting = 0  # asked for, and not begun, or between two attempts
        self.done = 0
        self.reused = 0
        self.retries = 0
        self.failed = 0
        self.stopped = 0
        self.cancelled = 0

    def child(self, name: str, *, is_group: bool) -> Branch:
        found = self.below.get((is_group, name))
        if found is not None:
            return found
        if not is_group and (same := self._among_those_above(name)) is not None:
            return same
        if self.depth >= DEEPEST:
            return self
        if len(self.below) >= (GROUPS_KEPT if is_group else TASKS_KEPT):
            name = "..."
        return self.below.setdefault((is_group, name), Branch(name, is_group=is_group, above=self))

    def _among_those_above(self, name: str) -> Branch | None:
        branch: Branch | None = self
        while branch is not None and (branch.is_group or branch.name != name):
            branch = branch.above
        return branch

    def walk(self) -> Iterator[Branch]:
        """This branch and all below it, in the order in which they came up."""
        yield self
        for branch in list(self.below.values()):
            yield from branch.walk()

    def numbers(self) -> tuple[tuple[int, str], ...]:
        """Its numbers, each with its word, what matters most first."""
        return (
            (self.done, "done"), (self.failed, "failed"), (self.running, "running"), (self.waiting, "waiting"),
            (self.stopped, "stopped"), (self.cancelled, "cancelled"), (self.reused, "from record"),
            (self.retries, "retry" if self.retries == 1 else "retries"),
        )  # fmt: skip

    def said(self) -> str:
        """Its numbers in words."""
        return ", ".join(f"{number:,} {word}" for number, word in self.numbers() if number)


def shown_branches(tree: Branch, at_most: int) -> tuple[list[Branch], int]:
    """The branches below `tree`, as many as fit, each with those above it, and how many are left out. What runs or failed comes first."""
    every = list(tree.walk())[1:]
    if len(every) <= at_most:
        return every, 0
    chosen: dict[int, Branch] = {}
    for branch in sorted((branch for branch in every if not branch.is_group), key=_weight):
        way: list[Branch] = []
        step: Branch | None = branch
        while step is not None and step is not tree and id(step) not in chosen:
            way.append(step)
            step = step.above
        if len(chosen) + len(way) <= at_most:
            chosen.update((id(found), found) for found in way)
    return [branch for branch in every if id(branch) in chosen], len(every) - len(chosen)


def _weight(branch: Branch) -> int:
    return 0 if branch.failed else 1 if branch.running else 2
