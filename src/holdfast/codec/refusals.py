"""What can't be written or read, and how the place of it is spelled. Private to the package: the codec turns both into public errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast


class Refused(Exception):
    """A part of a value can't be written. Private: the codec turns it into `UnrecordableResult`."""

    def __init__(self, reason: str, steps: tuple[object, ...] = ()) -> None:
        super().__init__(reason, steps)
        self.reason = reason
        self.steps = steps  # keys, indices and names, from the outside in

    def below(self, step: object) -> Refused:
        """The same, seen from one level up."""
        return Refused(self.reason, (step, *self.steps))


class Spelled(str):
    """A step of a path that is written as it is."""

    __slots__ = ()


def spelled(value: Any, steps: Iterable[object]) -> str:
    """Write a path into `value`. Steps that lead nowhere are passed over: a validator's path also names its own alternatives."""
    path = ""
    for step in steps:
        if isinstance(step, Spelled):
            path += step
        elif isinstance(step, str) and not isinstance(value, (dict, list)) and hasattr(value, step):
            path, value = f"{path}.{step}", getattr(value, step)
        elif _has_item(value, step):
            path, value = f"{path}[{step!r}]", cast("Any", value)[step]
    return path


def _has_item(value: Any, step: object) -> bool:
    try:
        value[step]
    except (LookupError, TypeError):
        return False
    return True


class Unreadable(Exception):
    """A recorded tree has no value here. Private: the codec turns it into `ResultIncompatible`."""
