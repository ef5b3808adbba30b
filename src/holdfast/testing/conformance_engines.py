"""The laws that every engine keeps. An engine passes by inheriting them::

    class TestMyEngine(EngineConformance):
        async def make(self) -> Engine:
            return MyEngine(...)

Engines are asked directly, through the seam: an order, a capsule, and the link of an attempt in an ephemeral run.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from holdfast.actions.asking import ask
from holdfast.actions.runtime import Runtime
from holdfast.actions.saves import Saves
from holdfast.actions.scopes import Scope
from holdfast.actions.undoing import roll_back
from holdfast.attempts import Abandoned, Ended, Error, Outcome, Value
from holdfast.clocks import clock
from holdfast.contexts import ctx, custom_context, get_custom_context
from holdfast.engines.protocol import Engine
from holdfast.orders import Capsule, Order
from holdfast.tasks import task

_begun = threading.Event()
_release = threading.Event()


@task(name="conformance.describe")
async def describe(word: str) -> tuple[str, int, str]:
    """An `async def` body that says as what it runs."""
    with custom_context(inside="yes"):
        return word, ctx().attempt_number, get_custom_context()["tenant"]


@task(name="conformance.describe_in_thread")
def describe_in_thread(word: str) -> tuple[str, int, str]:
    """A `def` body that says as what it runs."""
    with custom_context(inside="yes"):
        return word, ctx().attempt_number, get_custom_context()["tenant"]


@task(name="conformance.refuse")
async def refuse() -> None:
    """A body that raises."""
    raise KeyError("nothing here")


@task(name="conformance.wait")
async def wait() -> None:
    """A body that waits for ever."""
    _begun.set()
    await asyncio.get_running_loop().create_future()


@task(name="conformance.block")
def block() -> None:
    """A `def` body that ends only when it is released."""
    _begun.set()
    _release.wait()


class EngineConformance:
    """Override `make`."""

    async def make(self) -> Engine:
        """Return a new engine; it is closed after the law."""
        raise NotImplementedError

    def test_a_body_s_value_is_its_outcome_in_both_colours(self) -> None:
        async def law(engine: Engine) -> None:
            for body in (describe, describe_in_thread):
                assert await _ran(engine, body.definition, ("kelp",)) == Value(("kelp", 3, "arxiv"))

        self._hold(law)

    def test_what_a_body_binds_is_not_seen_by_whoever_asked(self) -> None:
        async def law(engine: Engine) -> None:
            for body in (describe, describe_in_thread):
                await _ran(engine, body.definition, ("kelp",))
                assert get_custom_context() == {}
                assert ctx() is None

        self._hold(law)

    def test_a_body_s_exception_is_an_outcome_and_no_exception(self) -> None:
        async def law(engine: Engine) -> None:
            outcome = await _ran(engine, refuse.definition, ())
            assert isinstance(outcome, Error)
            assert isinstance(outcome.error, KeyError)

        self._hold(law)

    def test_a_cancelled_async_body_has_ended_when_its_outcome_comes(self) -> None:
        async def law(engine: Engine) -> None:
            assert isinstance(await _cancelled(engine, wait.definition), Ended)

        self._hold(law)

    def test_a_body_that_can_t_be_stopped_is_abandoned_at_once(self) -> None:
        async def law(engine: Engine) -> None:
            assert isinstance(await _cancelled(engine, block.definition), Abandoned)

        try:
            self._hold(law)
        finally:
            _release.set()

    def test_a_paused_body_that_has_no_slot_is_not_paused_twice(self) -> None:
        async def law(engine: Engine) -> None:
            assert engine.pause(_link(engine, describe.definition, ()).capsule or _nothing()) is False

        self._hold(law)

    def _hold(self, law: Callable[[Engine], Coroutine[Any, Any, None]]) -> None:
        _begun.clear()
        _release.clear()

        async def held() -> None:
            engine = await self.make()
            try:
                await law(engine)
            finally:
                await engine.aclose()

        asyncio.run(held())


def _link(engine: Engine, definition: Any, args: tuple[Any, ...]) -> Scope:
    runtime = Runtime(run_name="conformance", run_id="0", engine=engine, ask=ask, roll_back=roll_back, started_at=clock().now(), grace=0.0)
    scope = Scope(runtime, None, Order(definition, args, {}), 3, 0, Saves(None), None)
    scope.capsule = Capsule(
        ownership=runtime.ownership,
        action=None,
        attempt_number=3,
        max_attempts=1,
        retries_left=0,
        version=None,
        raw_data_path=None,
        raw_data_base=None,
        custom_context={"tenant": "arxiv"},
        counted_context={},
        group=(),
        deadline=None,
    )
    return scope


def _nothing() -> Capsule:
    raise AssertionError("a link has a capsule")


async def _ran(engine: Engine, definition: Any, args: tuple[Any, ...]) -> Outcome:
    scope = _link(engine, definition, args)
    return await engine.run(scope.order, scope.capsule or _nothing(), scope)


async def _cancelled(engine: Engine, definition: Any) -> Outcome:
    """Begin a body, cancel it once it is under way, and return its outcome."""
    running = asyncio.create_task(_ran(engine, definition, ()))
    await asyncio.to_thread(_begun.wait)
    running.cancel()
    return await running
