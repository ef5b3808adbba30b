"""A crash loop is a line of crashes in which nothing at all was recorded: work far below counts for everything above it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast.events import ActionAsked, AttemptEnded, AttemptStarted, CheckpointSaved, Event
from holdfast.states import Fold
from holdfast.status import Status

TREE = {"root": "", "child": "root", "grandchild": "child"}
CRASHES = 12


def life(number: int, progress: list[Event]) -> list[Event]:
    """One owner: everything is asked for and begun, something may become durable, and then the process is gone."""
    events: list[Event] = []
    for name, parent in TREE.items():
        if number == 0:
            events.append(ActionAsked(action=name, at=1.0, parent=parent, task=name))
        events.append(AttemptStarted(action=name, at=1.0, number=number, epoch=number + 1))
    crashed = [AttemptEnded(action=name, at=1.0, number=number, status=Status.CRASHED, then=Status.CRASHED) for name in reversed(TREE)]
    return [*events, *progress, *crashed]


def steps(number: int) -> list[Event]:
    """A further call of the grandchild comes to its end."""
    name = f"step {number}"
    return [
        ActionAsked(action=name, at=1.0, parent="grandchild", task="step"),
        AttemptStarted(action=name, at=1.0, number=0, epoch=number + 1),
        AttemptEnded(action=name, at=1.0, number=0, status=Status.COMPLETED, then=Status.COMPLETED),
    ]


def saved(number: int) -> list[Event]:
    return [CheckpointSaved(action="grandchild", at=1.0, generation=(number + 1, number, 0), size=1, digest="d")]


@pytest.mark.parametrize(("progress", "barren"), [(steps, 0), (saved, 0), (lambda number: [], CRASHES)], ids=["steps", "saves", "nothing"])
def test_what_is_recorded_far_below_is_no_crash_loop_above(progress: Callable[[int], list[Event]], barren: int) -> None:
    fold = Fold()
    for number in range(CRASHES):
        for event in life(number, progress(number)):
            fold.fold(event)
    assert {name: fold.actions[name].barren for name in TREE} == dict.fromkeys(TREE, barren)
