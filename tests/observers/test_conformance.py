"""The observers that ship keep the laws."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.events import Event
from holdfast.observers.jsonlines import JsonLinesObserver
from holdfast.observers.logs import LogObserver
from holdfast.observers.terminal import TerminalObserver
from holdfast.telling import Observer
from holdfast.testing.conformance_observers import ObserverConformance

pytestmark = pytest.mark.filterwarnings("ignore:observer")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestLogs(ObserverConformance):
    def make(self) -> Observer:
        return LogObserver(logging.getLogger("conformance"))


class TestTerminal(ObserverConformance):
    made: list[TerminalObserver]

    @pytest.fixture(autouse=True)
    def _lines_end(self) -> Iterator[None]:
        self.made = []
        yield
        for observer in self.made:
            asyncio.run(observer.aclose())  # a live line left open would keep the stream

    def make(self) -> Observer:
        self.made.append(TerminalObserver(Terminal()))
        return self.made[-1]


class TestPlainLines(ObserverConformance):
    def make(self) -> Observer:
        return TerminalObserver(io.StringIO())


class TestJsonLines(ObserverConformance):
    def make(self) -> Observer:
        return JsonLinesObserver(io.StringIO())


class TestJsonLinesOfAFile(ObserverConformance):
    @pytest.fixture(autouse=True)
    def _somewhere(self, tmp_path: Path) -> None:
        self.path = tmp_path / "events.jsonl"

    def make(self) -> Observer:
        return JsonLinesObserver(self.path, values=True, progress=True)


class Counting:
    """An async observer of somebody else's."""

    def __init__(self) -> None:
        self.told = 0

    async def on_event(self, event: Event, /) -> None:
        self.told += 1


class TestAsync(ObserverConformance):
    def make(self) -> Observer:
        return Counting()
