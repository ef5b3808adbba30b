"""What an observer sets up around a body: seen there, in both colours, and nowhere else; and no harm when it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

from holdfast import Retry, ctx, group, run, task
from holdfast.engines.surrounded import Body
from holdfast.testing import MemoryDisk, memory_store
from holdfast.testing.conformance_observers import EXPECTED, Recorder, observed

seen: ContextVar[str] = ContextVar("seen", default="nothing")
MANY_PARENTS = 40  # more than there are slots for `def` bodies


class Marking(Recorder):
    """Puts a name into a context variable, and binds it as a trace parent."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[Body] = []
        self.ends: list[tuple[str, str]] = []

    @contextmanager
    def around(self, body: Body) -> Iterator[Mapping[str, str]]:
        self.bodies.append(body)
        name = f"{body.task}#{body.attempt_number}"
        token = seen.set(name)
        how = "returned"
        try:
            yield {"traceparent": name}
        except BaseException as error:
            how = type(error).__name__
            raise
        finally:
            self.ends.append((name, how))
            seen.reset(token)


def what_is_seen() -> tuple[str, str]:
    return seen.get(), ctx().custom_context.get("traceparent", "nothing")


@task(name="a_leaf")
async def a_leaf() -> tuple[str, str]:
    return what_is_seen()


@task(name="a_def")
def a_def(number: int) -> list[tuple[str, str]]:
    return [what_is_seen(), a_leaf.sync(), what_is_seen()]


@task(name="fails_once", retries=Retry(2, initial_interval=0))
async def fails_once() -> int:
    if ctx().attempt_number == 0:
        raise LookupError
    return ctx().attempt_number


@task(name="top")
async def top() -> list[tuple[str, str]]:
    with group("leaves"):
        leaf = await a_leaf()
    return [what_is_seen(), leaf, *await a_def.call(1), what_is_seen()]


def test_context_variables_are_seen_in_bodies_of_both_colours_and_by_nobody_else() -> None:
    async def main() -> list[tuple[str, str]]:
        async with memory_store(MemoryDisk()) as store:
            return await run(top(), run_name="it", store=store, observers=[marking])

    marking = Marking()
    found = asyncio.run(main())
    expected = ["top#0", "a_leaf#0", "a_def#0", "a_leaf#0", "a_def#0", "top#0"]
    assert found == [(name, name) for name in expected]
    assert seen.get() == "nothing"
    assert [(body.task, body.group, body.action.parent is None) for body in marking.bodies][:2] == [
        ("top", (), True),
        ("a_leaf", ("leaves",), False),
    ]


def test_it_is_told_how_each_body_ended() -> None:
    @task(name="tries")
    async def tries() -> int:
        return await fails_once()

    async def main() -> int:
        async with memory_store(MemoryDisk()) as store:
            return await run(tries(), run_name="it", store=store, observers=[marking])

    marking = Marking()
    assert asyncio.run(main()) == 1
    assert marking.ends == [("fails_once#0", "LookupError"), ("fails_once#1", "returned"), ("tries#0", "returned")]
    assert [(body.task, body.retries_left) for body in marking.bodies] == [("tries", 0), ("fails_once", 1), ("fails_once", 0)]


def test_many_def_parents_of_def_children_still_give_their_slots_back() -> None:
    @task(name="parents")
    async def parents() -> int:
        return len(await asyncio.gather(*(a_def.call(number) for number in range(MANY_PARENTS))))

    async def main() -> int:
        async with memory_store(MemoryDisk()) as store:
            return await asyncio.wait_for(run(parents(), run_name="it", store=store, observers=[Marking()]), 60)

    assert asyncio.run(main()) == MANY_PARENTS


class FailsToBegin(Recorder):
    def around(self, body: Body) -> None:
        raise RuntimeError("nothing to set up")


class FailsToEnd(Recorder):
    @contextmanager
    def around(self, body: Body) -> Iterator[None]:
        yield None
        raise RuntimeError("nothing to take down")


class BindsWhatCounts(Recorder):
    """What it binds would be another action's id."""

    @contextmanager
    def around(self, body: Body) -> Iterator[Mapping[str, str]]:
        yield {"tenant": "acme"}


@pytest.mark.parametrize("kind", [FailsToBegin, FailsToEnd, BindsWhatCounts])
def test_one_that_fails_is_counted_and_the_bodies_run(kind: type[Recorder], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "holdfast"):
        assert observed([kind(), Marking()]) == EXPECTED
    assert sum("failed; it is told of further events" in line for line in caplog.messages) == 1


def test_what_is_bound_changes_no_action() -> None:
    async def main() -> list[list[str]]:
        found = []
        for observers in ([], [Marking()]):
            async with memory_store(MemoryDisk()) as store:
                await run(top(), run_name="it", store=store, observers=observers)
                state = await store.state("it")
                found.append(sorted(state.actions))
        return found

    without, within = asyncio.run(main())
    assert without == within
