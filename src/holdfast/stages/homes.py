"""Where a pipeline and its stages are found again in another process: under the variable of a module that holds the pipeline.

The variable is bound after the pipeline was made, so it is looked for when it is first needed. A stage's name is any text; what can't
stand in a dotted name is quoted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any
from urllib.parse import quote


class Home:
    """Where a pipeline was made, and under which name it is found."""

    __slots__ = ("_variable", "file", "fn", "line", "module", "name")

    file: str
    fn: Callable[..., Any] | None
    line: int
    module: str
    name: str

    def __init__(self, name: str, frame: FrameType) -> None:
        self.name = name
        self.module = str(frame.f_globals.get("__name__", ""))
        self.file = frame.f_code.co_filename
        self.line = frame.f_lineno
        self.fn = None
        self._variable = ""

    def pipeline(self) -> tuple[str, str]:
        """The module, and its variable that holds the pipeline; where there is none, the pipeline's name, under which nothing is found."""
        if not self._variable:
            self._variable = self._held() or ""
        return self.module, self._variable or self.name

    def stage(self, name: str) -> tuple[str, str]:
        """Where one of its stages is found."""
        module, variable = self.pipeline()
        return module, f"{variable}.stages.{quoted(name)}"

    def undo(self, name: str) -> tuple[str, str]:
        """Where the undo of one of its stages is found."""
        module, stage = self.stage(name)
        return module, f"{stage}.undo"

    def _held(self) -> str | None:
        module = sys.modules.get(self.module)
        for name, value in list(vars(module).items()) if module is not None else ():
            definition = getattr(value, "definition", None)
            if definition is not None and getattr(definition, "fn", None) is self.fn:
                return name
        return None


class Names:
    """Stages as attributes, by their quoted names."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known

    def __getattr__(self, name: str) -> Any:
        for known, found in self._known.items():
            if quoted(known) == name:
                return found
        raise AttributeError(name)


def quoted(name: str) -> str:
    """A stage's name as a part of a dotted name."""
    return quote(name, safe=" ").replace(".", "%2E")
