"""A terminal for views, wherever the tests run."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _terminal_that_can_redraw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
