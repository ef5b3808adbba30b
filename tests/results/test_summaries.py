"""What a body says of its result goes on record with its attempt's end, whatever that is, and is that attempt's alone."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Retry, Status, Timeout, ctx, run, task
from holdfast.codec import from_json
from holdfast.errors import ActionEnded, InvalidOption
from holdfast.events import ActionAsked, AttemptEnded, AttemptStarted, Described, Event, decode_event, encode_event
from holdfast.folders.memory import MemoryDisk
from holdfast.journals.snapshots import compacted
from holdfast.states import Fold
from holdfast.summaries import SCHEMAS_AT_MOST, SUMMARY_BYTES, Said, schema_name, schema_names, with_schemas, with_summary
from holdfast.testing import Survival, crash_everywhere, memory_store, run_shuffled, task_context
from holdfast.testing.places import On

AT_ONCE = Retry(3, initial_interval=0)
LONG = 30.0

disk = MemoryDisk()
kept: list[Any] = []
release = threading.Event()


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()
    kept.clear()
    release.clear()


def said_by(call: Any, **options: Any) -> tuple[Status, str, list[str]]:
    try:
        asyncio.run(run(call, run_name="it", store=memory_store(disk), **options))
    except (ValueError, TimeoutError):
        pass
    return shown()


def shown() -> tuple[Status, str, list[str]]:
    result = memory_store(disk).result_sync("it")
    return result.status, result.summary, result.schemas


# said by bodies


@task
async def says() -> int:
    ctx().summary("first")
    ctx().implements("peaks; table ")
    ctx().implements("table", "image")
    ctx().summary("three peaks")
    return 3


@task
def says_in_its_thread() -> int:
    ctx().summary("three peaks")
    ctx().implements("peaks;table")
    return 3


@task
async def says_and_fails() -> None:
    ctx().summary("two of three files read")
    raise ValueError("the third is broken")


@task(timeout=Timeout(attempt=0.01))
async def says_and_hangs() -> None:
    ctx().summary("waiting for the beam")
    await asyncio.Event().wait()


@task(timeout=Timeout(attempt=0.05))
def says_and_blocks() -> None:
    ctx().summary("waiting for the beam")
    release.wait(LONG)


@task(retries=AT_ONCE)
async def says_once() -> int:
    if ctx().attempt_number == 0:
        ctx().summary("the first try")
        ctx().implements("peaks")
        raise ValueError("again")
    return 1


@task
async def says_nothing() -> None:
    return None


@task
async def takes_back() -> None:
    ctx().summary("a mistake")
    ctx().summary("")


def test_the_last_summary_counts_and_schemas_add_up() -> None:
    assert said_by(says()) == (Status.COMPLETED, "three peaks", ["peaks", "table", "image"])


def test_a_def_body_says_it_from_its_thread() -> None:
    assert said_by(says_in_its_thread.call()) == (Status.COMPLETED, "three peaks", ["peaks", "table"])


def test_an_attempt_that_says_nothing_has_no_summary() -> None:
    assert said_by(says_nothing()) == (Status.COMPLETED, "", [])


def test_a_summary_can_be_taken_back() -> None:
    assert said_by(takes_back()) == (Status.COMPLETED, "", [])


def test_a_failed_attempt_keeps_its_summary() -> None:
    assert said_by(says_and_fails()) == (Status.FAILED, "two of three files read", [])


def test_an_attempt_that_timed_out_keeps_its_summary() -> None:
    assert said_by(says_and_hangs()) == (Status.TIMED_OUT, "waiting for the beam", [])


def test_an_abandoned_attempt_keeps_its_summary() -> None:
    try:
        assert said_by(says_and_blocks.call(), grace=0) == (Status.TIMED_OUT, "waiting for the beam", [])
    finally:
        release.set()


def test_a_retry_that_says_nothing_shows_nothing_of_the_attempt_before() -> None:
    assert said_by(says_once()) == (Status.COMPLETED, "", [])


def test_a_resumed_failure_shows_the_summary_of_its_last_attempt() -> None:
    assert said_by(says_and_fails()) == (Status.FAILED, "two of three files read", [])
    assert said_by(says_and_fails()) == (Status.FAILED, "two of three files read", [])
    assert memory_store(disk).result_sync("it").attempts == 2


def test_outside_a_run_it_is_said_to_nobody() -> None:
    assert asyncio.run(_alone()) == 3


async def _alone() -> int:
    return await says()


def test_a_body_under_test_may_say_it() -> None:
    with task_context():
        ctx().summary("fine")
        ctx().implements("peaks")


def test_an_attempt_that_ended_says_nothing_more() -> None:
    @task(name="leaks")
    async def leaks() -> None:
        kept.append(ctx())

    asyncio.run(_awaited(leaks()))
    with pytest.raises(ActionEnded):
        kept[0].summary("late")
    with pytest.raises(ActionEnded):
        kept[0].implements("late")


async def _awaited(call: Any) -> None:
    await call


def test_threads_of_one_body_lose_no_schema_of_each_other() -> None:
    @task(name="threads")
    def speaks() -> None:
        context = ctx()

        def speak(n: int) -> None:
            for i in range(50):
                context.implements(f"{n}-{i}")

        threads = [threading.Thread(target=speak, args=[n]) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    status, _, schemas = said_by(speaks.call())
    assert status is Status.COMPLETED
    assert set(schemas) == {f"{n}-{i}" for n in range(8) for i in range(50)}


@pytest.mark.parametrize("seed", range(5))
def test_siblings_keep_their_own_summaries_in_any_order(seed: int) -> None:
    @task(name="one")
    async def one(n: int) -> int:
        ctx().summary(f"number {n}")
        await asyncio.sleep(0)
        return n

    @task(name="all")
    async def every() -> None:
        await asyncio.gather(*(one(n) for n in range(5)))

    store = memory_store(disk)
    run_shuffled(lambda: run(every(), run_name="it", store=store), seed=seed)
    state = memory_store(disk).state_sync("it")
    assert {action.summary: action.result for action in state.actions.values() if action.task_name == "one"} == {
        f"number {n}": n for n in range(5)
    }


# what is refused


@pytest.mark.parametrize("text", [3, None, {"peaks": 3}, b"three", "x" * (SUMMARY_BYTES + 1), "é" * (SUMMARY_BYTES // 2 + 1)])
def test_a_summary_is_a_text_that_is_not_too_long(text: Any) -> None:
    with task_context(), pytest.raises(InvalidOption, match="summary="):
        ctx().summary(text)


def test_a_summary_may_be_as_long_as_is_said() -> None:
    assert with_summary(None, "x" * SUMMARY_BYTES) == Said("x" * SUMMARY_BYTES)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([], ()),
        (["a"], ("a",)),
        (["a;b"], ("a", "b")),
        ([" a ; b "], ("a", "b")),
        (["b", "a;b", "a"], ("b", "a")),
        (["a b"], ("a b",)),
        (["é;日本"], ("é", "日本")),
        (["x" * 255], ("x" * 255,)),
    ],
)
def test_schemas_are_split_stripped_and_kept_once_in_their_order(given: list[str], names: tuple[str, ...]) -> None:
    assert schema_names(*given) == names


@pytest.mark.parametrize("given", ["", ";", "a;", ";a", "a;;b", " ", "a; ;b", "x" * 256, 3, None, ["a"]])
def test_a_schema_without_a_name_is_refused(given: Any) -> None:
    with task_context(), pytest.raises(InvalidOption, match="implements="):
        ctx().implements(given)


@pytest.mark.parametrize("given", ["a;b", "", 3])
def test_one_schema_is_asked_for_at_a_time(given: Any) -> None:
    with pytest.raises(InvalidOption):
        schema_name(given)


def test_a_result_follows_a_thousand_schemas_and_not_more() -> None:
    said = with_schemas(None, *(str(n) for n in range(SCHEMAS_AT_MOST)))
    assert with_schemas(said, "0") == said
    with pytest.raises(InvalidOption):
        with_schemas(said, "one more")


@given(st.lists(st.text(st.characters(blacklist_characters=";"), min_size=1, max_size=20).filter(lambda name: name.strip())))
def test_said_together_or_one_by_one_schemas_are_the_same(names: list[str]) -> None:
    said = None
    for name in names:
        said = with_schemas(said, name)
    assert (said or Said()).schemas == schema_names(*names)
    assert not names or schema_names(";".join(names)) == schema_names(*names)


# the fold

ASKED = ActionAsked(action="a", at=1.0, task="t")


def started(number: int) -> Event:
    return AttemptStarted(action="a", at=2.0, number=number, epoch=1)


def ended(number: int, status: Status, then: Status | None = None) -> Event:
    return AttemptEnded(action="a", at=3.0, number=number, status=status, then=then if then is not None else status)


def described(summary: str | None, *schemas: str) -> Event:
    return Described(action="a", at=3.0, summary=summary, schemas=schemas)


CASES: dict[str, tuple[list[Event], str, tuple[str, ...]]] = {
    "under way": ([ASKED, started(0)], "", ()),
    "COMPLETED": ([ASKED, started(0), described("one", "s"), ended(0, Status.COMPLETED)], "one", ("s",)),
    "only schemas": ([ASKED, started(0), described(None, "s"), ended(0, Status.COMPLETED)], "", ("s",)),
    "waits for a retry": ([ASKED, started(0), described("one"), ended(0, Status.FAILED, Status.RETRYING)], "one", ()),
    "is tried again": ([ASKED, started(0), described("one"), ended(0, Status.FAILED, Status.RETRYING), started(1)], "", ()),
    "asked anew": ([ASKED, started(0), described("one", "s"), ended(0, Status.COMPLETED), ASKED], "", ()),
    "said anew": (
        [ASKED, started(0), described("one", "s"), ended(0, Status.STOPPED), started(1), described("two"), ended(1, Status.COMPLETED)],
        "two",
        (),
    ),
    "crashed before it said anything": (
        [ASKED, started(0), described("one"), ended(0, Status.STOPPED), started(1), ended(1, Status.CRASHED)],
        "",
        (),
    ),
    "crashed between its word and its end": ([ASKED, started(0), described("one", "s"), ended(0, Status.CRASHED)], "", ()),
    "said after its end": ([ASKED, started(0), ended(0, Status.COMPLETED), described("late")], "", ()),
    "said before its beginning": ([ASKED, described("early")], "", ()),
}


@pytest.mark.parametrize("case", CASES)
def test_the_summary_belongs_to_the_attempt_whose_status_is_shown(case: str) -> None:
    events, summary, schemas = CASES[case]
    notes = Fold.of(events).actions["a"].notes
    assert ((notes.summary, notes.schemas) if notes is not None else ("", ())) == (summary, schemas)


@pytest.mark.parametrize("case", CASES)
def test_a_snapshot_tells_the_same(case: str) -> None:
    events, summary, schemas = CASES[case]
    lines = compacted([encode_event(event) for event in events]).split(b"\n")[:-1]
    notes = Fold.of(decode_event(from_json(line)) for line in lines).actions["a"].notes
    assert ((notes.summary, notes.schemas) if notes is not None else ("", ())) == (summary, schemas)


# crashes


@task
async def part(n: int) -> int:
    ctx().summary(f"part {n}")
    ctx().implements(f"s{n}")
    return n


@task
async def whole() -> int:
    total = await part(1) + await part(2)
    ctx().summary(f"{total} in all")
    return total


def hold(survivals: Any) -> int:
    """At every moment a COMPLETED action has its summary, and one under way or crashed has none."""
    killed = 0
    survival: Survival[int]
    for survival in survivals:
        killed += bool(survival.crashes)
        assert survival.error is None, str(survival)
        for store in (*survival.earlier, survival.store):
            for action in _actions(store):
                says = {1: "part 1", 2: "part 2", 3: "3 in all"}
                expected = says[action.result] if action.status is Status.COMPLETED else ""
                assert action.summary == expected, (str(survival), action)
        assert survival.store.result_sync("program").summary == "3 in all"
    return killed


def _actions(store: Any) -> list[Any]:
    try:
        return list(store.state_sync("program").actions.values())
    except LookupError:
        return []


@pytest.mark.parametrize("on", ["disk", "bucket"])
def test_killed_anywhere_what_is_shown_as_COMPLETED_has_its_summary_and_nothing_else_has_one(on: On) -> None:
    assert hold(crash_everywhere(lambda: whole(), on=on)) > 20
