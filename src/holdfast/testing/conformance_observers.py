"""The laws that every observer keeps, and what is kept for it. An observer passes by inheriting them::

    class TestMyObserver(ObserverConformance):
        def make(self) -> Observer:
            return MyObserver(...)

The run under each law has successes, a failure that is retried, one that is handled, a checkpoint, progress and a warning. It goes by the
real engine and a store in memory.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Any

from holdfast import telling
from holdfast.contexts import ctx, group
from holdfast.events import Event, Missed, Unknown
from holdfast.launch import run, start
from holdfast.retries import Retry
from holdfast.stores import Store
from holdfast.tasks import task
from holdfast.telling import Observer

CALLS = 5
EXPECTED = sum(number * number for number in range(CALLS))


@task(name="conformance.square", retries=Retry(2, initial_interval=0))
async def square(number: int) -> int:
    ctx().progress("squares", total=CALLS)
    if number % 2 and ctx().attempt_number == 0:
        raise ConnectionError(f"{number} is odd")
    await ctx().checkpoint.save({"number": number})
    return number * number


@task(name="conformance.refuse")
def refuse(why: str) -> None:
    raise ValueError(why)


@task(name="conformance.ends_badly")
async def ends_badly() -> None:
    await square(2)
    with group("again"):
        await square(3)
    raise LookupError("it ends badly")


@task(name="conformance.root")
async def root() -> int:
    try:
        await refuse.call("100 % {wrong} [bold]%s")
    except ValueError:
        ctx().progress("refusals", total=None)
    return sum(await asyncio.gather(*(square(number) for number in range(CALLS))))


class Recorder:
    """Told of everything, and keeps it."""

    is_closed: bool

    live = True

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_closed = False

    def on_event(self, event: Event, /) -> None:
        self.events.append(event)

    async def aclose(self) -> None:
        self.is_closed = True


class Raiser:
    """Fails at every event, and at its end."""

    told: int

    live = True

    def __init__(self) -> None:
        self.told = 0

    def on_event(self, event: Event, /) -> None:
        self.told += 1
        raise RuntimeError("an observer's own trouble")

    async def aclose(self) -> None:
        raise RuntimeError("an observer's own trouble")


class Blocker:
    """Never returns from its first event, until it is freed."""

    free: threading.Event

    live = True

    def __init__(self) -> None:
        self.free = threading.Event()

    def on_event(self, event: Event, /) -> None:
        self.free.wait()


@contextmanager
def patience(seconds: float) -> Generator[None, None, None]:
    """Have runs wait so long for their observers at the end."""
    before = telling.CLOSE_SECONDS
    telling.CLOSE_SECONDS = seconds  # type: ignore[misc]
    try:
        yield
    finally:
        telling.CLOSE_SECONDS = before  # type: ignore[misc]


def observed(observers: Iterable[Observer], store: str | None = None) -> int:
    """Run the program to its end, and return its result."""

    async def main() -> int:
        async with Store(store or f"memory://observed-{secrets.token_hex(4)}") as opened:
            return await run(root(), run_name="observed", store=opened, observers=observers)

    return asyncio.run(main())


def observed_side_by_side(observers: Iterable[Observer], runs: int = 2) -> list[int]:
    """Run the program several times at once, under the eyes of the same observers, and return all results."""

    async def main() -> list[int]:
        async with Store(f"memory://observed-{secrets.token_hex(4)}") as store:
            names = [f"observed-{number}" for number in range(runs)]
            return await asyncio.gather(*(run(root(), run_name=name, store=store, observers=observers) for name in names))

    return asyncio.run(main())


def by_action(events: Iterable[Event]) -> dict[str, list[Event]]:
    """The events that are recorded, not live, of each action in the order in which they came."""
    found: dict[str, list[Event]] = {}
    for event in events:
        if not event.live:
            found.setdefault(event.action, []).append(event)
    return found


class ObserverConformance:
    """Inherit, and say how to make an observer."""

    def make(self) -> Observer:
        raise NotImplementedError

    def test_a_run_under_its_eyes_gives_the_same_result(self) -> None:
        assert observed([self.make()]) == EXPECTED

    def test_it_takes_every_event_without_an_error(self) -> None:
        recorder, observer = Recorder(), self.make()
        observed([recorder])
        for event in recorder.events:
            _tell(observer, event)

    def test_it_takes_events_of_actions_that_it_never_heard_of(self) -> None:
        recorder = Recorder()
        observed([recorder])
        for event in recorder.events:
            _tell(self.make(), event)

    def test_it_passes_over_events_of_a_newer_version(self) -> None:
        _tell(self.make(), Unknown(action="A" * 16, at=0.0, record={"e": "of_tomorrow"}))

    def test_it_does_not_keep_another_observer_from_its_events(self) -> None:
        alone, beside = Recorder(), Recorder()
        observed([alone])
        observed([self.make(), beside])
        assert {name: [type(e) for e in events] for name, events in by_action(alone.events).items()} == {
            name: [type(e) for e in events] for name, events in by_action(beside.events).items()
        }

    def test_it_is_told_all_beside_one_that_always_raises_and_one_that_blocks_for_ever(self) -> None:
        blocker, raiser, recorder = Blocker(), Raiser(), Recorder()
        try:
            with patience(0.5):
                assert observed([blocker, self.make(), raiser, recorder]) == EXPECTED
        finally:
            blocker.free.set()
        assert raiser.told == len(recorder.events)

    def test_it_can_be_given_to_several_runs_at_once_and_again_to_later_ones(self) -> None:
        observer, recorder = self.make(), Recorder()
        assert observed_side_by_side([observer]) == [EXPECTED] * 2
        assert observed([observer, recorder]) == EXPECTED

    def test_it_fails_at_nothing_that_it_is_told_of(self) -> None:
        async def main() -> list[int]:
            async with Store(f"memory://observed-{secrets.token_hex(4)}") as store:
                told = []
                for _ in range(2):  # the second time from where the first ended
                    async with await start(ends_badly(), run_name="observed", store=store, observers=[self.make()]) as handle:
                        with suppress(LookupError):
                            await handle.result()
                        told += [told.failed for told in handle.told]
                return told

        assert asyncio.run(main()) == [0, 0]

    def test_it_takes_the_news_that_it_missed_something(self) -> None:
        _tell(self.make(), Missed(action="", at=0.0, count=7))

    def test_it_goes_on_where_what_it_missed_would_have_told_it_more(self) -> None:
        recorder = Recorder()
        observed([recorder])
        for kind in {type(event) for event in recorder.events}:
            observer = self.make()
            for event in recorder.events:
                if type(event) is not kind:
                    _tell(observer, event)

    def test_its_end_can_be_awaited_though_nothing_was_told(self) -> None:
        async def close() -> None:
            aclose: Any = getattr(self.make(), "aclose", None)
            answer = aclose() if aclose is not None else None
            if answer is not None:
                await answer

        asyncio.run(close())


def _tell(observer: Observer, event: Event) -> None:
    answer = observer.on_event(event)
    if answer is not None:
        awaitable = answer

        async def told() -> None:
            await awaitable

        asyncio.run(told())
