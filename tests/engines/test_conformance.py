"""Every engine passes the laws of engines."""

from __future__ import annotations

from holdfast.engines.local import LocalEngine
from holdfast.engines.protocol import Engine
from holdfast.testing.conformance_engines import EngineConformance


class TestLocalEngine(EngineConformance):
    async def make(self) -> Engine:
        return LocalEngine()


class TestLocalEngineWithOneSlot(EngineConformance):
    async def make(self) -> Engine:
        return LocalEngine(slots=1)
