"""A run's state as text and back: all that it shows, exactly, whatever happened in the run."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import MessageType, Retry, RunState, Status, Timeout, ctx, custom_context, group, map, mementos, run, task
from holdfast.codec import codec_for, encode_error
from holdfast.costs import Cost
from holdfast.errors import RemoteFailure, StateDamaged, StateTooNew, UnrecordableResult
from holdfast.events import (
    ActionAsked,
    ActionEnded,
    AttemptEnded,
    AttemptStarted,
    CheckpointSaved,
    CheckpointsSetAside,
    Described,
    Event,
    FigureSaved,
    Messaged,
    MessagesCleared,
    Progressed,
    RowsCounted,
    RowsSeen,
    Spent,
    TaskSeen,
    UndoRegistered,
    WaitBegun,
    Warned,
)
from holdfast.folders.memory import MemoryDisk
from holdfast.frozen import Frozen
from holdfast.stages import Stage, StageState, pipeline, stage, stage_states
from holdfast.states import Fold
from holdfast.testing import memory_store
from holdfast.views import fold_of, state_of

KEPT = {name for name, shape in mementos.SHAPES.items() if not issubclass(shape.kind, Frozen)}
TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=1", "baggage": "user=7"}


def shown(value: Any) -> Any:
    """All that a view shows, in a form that can be compared: an error by what it is made of."""
    if isinstance(value, BaseException):
        chain = [value.__cause__, value.__context__]
        return type(value), str(value), shown(list(value.args)), getattr(value, "__notes__", None), [shown(each) for each in chain]
    if isinstance(value, Frozen):
        return type(value).__name__, {name: shown(getattr(value, name)) for name, *_ in value.__fields__}
    if isinstance(value, Mapping):
        return {key: shown(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [shown(each) for each in value]
    if isinstance(value, datetime):
        assert value.utcoffset() is not None
    return type(value), value


def kept(record: Any) -> Any:
    """All that a fold keeps, also what no view shows."""
    if type(record).__name__ in KEPT:
        return {name: kept(getattr(record, name)) for name in type(record).__slots__}
    if isinstance(record, Fold):
        return {name: kept(value) for name, value in vars(record).items() if name[0] != "_"}
    if isinstance(record, Mapping):
        return [(key, kept(each)) for key, each in record.items()]
    if isinstance(record, (list, tuple)):
        return type(record), [kept(each) for each in record]
    return type(record), record


def comes_back(state: RunState) -> RunState:
    text = state.to_json()
    back = RunState.from_json(text)
    assert shown(back) == shown(state)
    assert kept(fold_of(back)) == kept(fold_of(state))
    assert back.stats == state.stats
    assert back.to_json() == text
    assert json.loads(text)["holdfast"] == "1.0"
    return back


# real runs


class Declined(Exception):
    def __init__(self, order: int, *, why: str) -> None:
        super().__init__(order)
        self.why = why


@task(name="undo")
async def undo(order: int) -> None: ...


@task(retries=Retry(2, initial_interval=0))
async def part(number: int) -> dict[str, Any]:
    ctx().progress("parts", 0.5, total=2)
    ctx().message(MessageType.WARNING, f"part {number}")
    ctx().summary("a part")
    ctx().add_cost("0.25", tokens_in=100, tokens_out=20, model="small", key=f"part {number}")
    ctx().implements("peaks;table")
    await ctx().checkpoint.save({"number": number}, metadata={"loss": 0.5})
    await ctx().on_rollback(undo, number)
    if ctx().attempt_number == 0:
        raise ValueError("once")
    return {"number": number, "data": b"\x00\xff", "when": await ctx().now()}


@task
async def declined(order: int) -> None:
    ctx().progress()
    raise Declined(order, why="no funds") from KeyError("card")


@task(timeout=Timeout(attempt=0.01))
async def slow() -> None:
    await asyncio.Event().wait()


@task
async def rows(n: int) -> int:
    if n == 2:
        raise ValueError("no row")
    return n


@task
async def everything() -> list[Any]:
    with group("parts"), custom_context(tenant="x"):
        found = await asyncio.gather(part(1), part(2))
    for call in (declined(7), slow()):
        try:
            await call
        except (Declined, TimeoutError):
            pass
    await map(rows, range(4), on_error="skip")
    ctx().figure("motor", b"<svg/>")
    return [*found, "x" * 100_000, None]


def test_a_real_run_comes_back_as_it_is() -> None:
    store = memory_store(MemoryDisk())
    asyncio.run(run(everything(), run_name="it", store=store, custom_context={"tenant": "y", **TRACE}))
    state = store.state_sync("it")
    assert state.custom_context == {"tenant": "y", **TRACE}
    back = comes_back(state)
    assert back.status is Status.COMPLETED
    assert back.started_at == state.started_at
    errors = [action.error for action in back.actions.values() if isinstance(action.error, Declined)]
    assert [error.why for error in errors] == ["no funds"]
    assert [type(error.__cause__) for error in errors] == [KeyError]


@task
async def fails() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("owner", ["live", "gone", "unknown"])
def test_a_run_that_failed_or_has_no_owner_comes_back_as_it_is(owner: Any) -> None:
    store = memory_store(MemoryDisk())
    with pytest.raises(ValueError, match="no"):
        asyncio.run(run(fails(), run_name="it", store=store))
    state = store.state_sync("it")
    comes_back(state)
    begun = Fold.of([ActionAsked(action="r", at=5.0, task="t"), AttemptStarted(action="r", at=6.0, number=0, epoch=1)])
    crashed = comes_back(state_of(begun, "it", "t", 5.0, owner, {}))
    assert crashed.owner == owner
    assert crashed.status is (Status.CRASHED if owner == "gone" else Status.RUNNING)


def test_a_run_that_only_was_asked_for_comes_back() -> None:
    state = comes_back(state_of(Fold(), "it", "t", 5.25, "gone", TRACE))
    assert (state.root, state.custom_context) == (None, TRACE)


class Order(StageState[Any]):
    amount: int = 0


@stage
async def extract(state: Order, earlier: Mapping[str, Order]) -> None:
    return None


def test_the_stages_of_a_run_can_be_read_from_it() -> None:
    first: Stage[Order] = extract
    orders = pipeline("orders", [first])
    store = memory_store(MemoryDisk())
    asyncio.run(run(orders(Order(task_id="a", amount=3)), run_name="it", store=store))
    state = store.state_sync("it")
    assert stage_states(RunState.from_json(state.to_json()), orders) == stage_states(state, orders)


def test_an_error_of_a_type_that_is_not_found_is_kept_as_it_was_recorded() -> None:
    tree, _ = encode_error(ValueError("odd"), task="t")
    tree["type"] = "gone.module:Gone"
    events: list[Event] = [
        ActionAsked(action="r", at=1.0, task="t"),
        AttemptStarted(action="r", at=2.0, number=0, epoch=1),
        AttemptEnded(action="r", at=3.0, number=0, status=Status.FAILED, then=Status.FAILED, error=tree),
    ]
    back = comes_back(state_of(Fold.of(events), "it", "t", 1.0, "gone", {}))
    assert isinstance(back.error, RemoteFailure)
    assert fold_of(back).actions["r"].error == tree


# any run

NAMES = st.sampled_from(["r", "a", "b", "c"])
TIMES = st.floats(1e9, 2e9)
WORDS = st.text(max_size=8)
ENDS = st.sampled_from([Status.COMPLETED, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.STOPPED, Status.CRASHED])
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
GENERATIONS = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
ERRORS = st.builds(lambda text: encode_error(ValueError(text), task="t")[0], WORDS)


def events_of(draw: Any) -> Event:
    action, at, number = draw(NAMES), draw(TIMES), draw(st.integers(0, 3))
    status = draw(ENDS)

    def words() -> tuple[str, ...]:
        return tuple(draw(st.lists(WORDS, max_size=2)))

    kinds: list[Any] = [
        lambda: ActionAsked(action=action, at=at, task=draw(WORDS), parent="" if action == "r" else "r", version=draw(st.none() | WORDS)),
        lambda: AttemptStarted(action=action, at=at, number=number, epoch=1, base=draw(st.none() | GENERATIONS)),
        lambda: AttemptEnded(
            action=action,
            at=at,
            number=number,
            status=status,
            then=status,
            value=draw(TREES) if status is Status.COMPLETED else None,
            error=draw(ERRORS) if status is Status.FAILED else None,
            received=draw(st.sampled_from(["", "t/1", "t/2"])),
        ),
        lambda: ActionEnded(action=action, at=at, then=draw(st.sampled_from(list(Status))), remains=words()),
        lambda: CheckpointSaved(action=action, at=at, generation=draw(GENERATIONS), size=3, digest=draw(WORDS)),
        lambda: CheckpointsSetAside(action=action, at=at, since=draw(GENERATIONS), until=draw(GENERATIONS), first=draw(WORDS)),
        lambda: Progressed(action=action, at=at, bars={draw(WORDS): (draw(st.floats(0, 9)), draw(st.none() | st.floats(0, 9)), at, at)}),
        lambda: Messaged(action=action, at=at, type=draw(st.sampled_from(["info", "error", "new"])), content=draw(WORDS)),
        lambda: MessagesCleared(action=action, at=at),
        lambda: RowsCounted(action=action, at=at, place=draw(WORDS), task=draw(WORDS), total=draw(st.none() | st.just(number))),
        lambda: RowsSeen(
            action=action, at=at, place=draw(WORDS), first=number, prints="abcdef" * number, total=draw(st.none() | st.just(9))
        ),
        lambda: Spent(action=action, at=at, number=number, cost="0.10", tokens=number, model=draw(WORDS), key=draw(WORDS)),
        lambda: Described(action=action, at=at, summary=draw(st.none() | WORDS), schemas=words()),
        lambda: FigureSaved(action=action, at=at, path=draw(WORDS), key=draw(WORDS), media_type="image/png", size=3),
        lambda: UndoRegistered(action=action, at=at, attempt=number, name="u", task="t", function="m:f", value=draw(TREES)),
        lambda: WaitBegun(action=action, at=at, until=draw(st.none() | TIMES), topic=draw(st.sampled_from(["", "t"]))),
        lambda: TaskSeen(action=action, at=at, task=draw(WORDS), function="m:f", source=draw(WORDS)),
        lambda: Warned(action=action, at=at, category="UserWarning", text=draw(WORDS)),
    ]
    return cast("Event", draw(st.sampled_from(kinds))())


@st.composite
def runs(draw: Any) -> RunState:
    events = [ActionAsked(action="r", at=1.0, task="t"), *(events_of(draw) for _ in range(draw(st.integers(0, 25))))]
    owner: Any = draw(st.sampled_from(["live", "gone", "unknown"]))
    return state_of(Fold.of(events), draw(WORDS), draw(WORDS), draw(TIMES), owner, draw(st.dictionaries(WORDS, WORDS, max_size=3)))


@settings(max_examples=200, deadline=None)
@given(runs())
def test_any_run_comes_back_as_it_is(state: RunState) -> None:
    comes_back(state)


SCALARS: Any = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.builds(lambda: 10**4200)
    | st.floats()
    | st.decimals()
    | st.text(st.characters())
    | st.binary()
    | st.uuids()
    | st.datetimes(timezones=st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone))
    | st.datetimes(timezones=st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu")]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers() | st.binary(), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(VALUES, VALUES)
def test_any_value_that_can_be_recorded_comes_back_in_its_type(value: Any, fact: Any) -> None:
    codec = codec_for(Any, task="t")
    try:
        recorded = codec.encode(value)
    except UnrecordableResult:  # two keys that are one, and the like
        return
    error, _ = encode_error(ValueError(fact), task="t")
    events: list[Event] = [
        ActionAsked(action="r", at=1.0, task="t"),
        AttemptStarted(action="r", at=2.0, number=0, epoch=1),
        AttemptEnded(action="r", at=3.0, number=0, status=Status.FAILED, then=Status.RETRYING, error=error),
        AttemptStarted(action="r", at=4.0, number=1, epoch=1),
        AttemptEnded(action="r", at=5.0, number=1, status=Status.COMPLETED, then=Status.COMPLETED, value=recorded.tree),
    ]
    text = state_of(Fold.of(events), "it", "t", 1.0, "gone", {}).to_json()
    back = RunState.from_json(text)
    assert back.to_json() == text
    assert type(back.result) is type(value) or recorded.parts
    assert codec.encode(back.result).tree == recorded.tree
    assert back.root is not None
    assert isinstance(back.root.attempts[0].error, Exception)


def test_many_keys_of_one_action_come_back() -> None:
    spent = [Spent(action="r", at=3.0, number=0, cost="0.1", key=f"key {number}") for number in range(50)]
    begun: list[Event] = [ActionAsked(action="r", at=1.0, task="t"), AttemptStarted(action="r", at=2.0, number=0, epoch=1)]
    assert comes_back(state_of(Fold.of([*begun, *spent]), "it", "t", 1.0, "gone", {})).cost == Decimal("5.0")


# what may be read


SCHEMA = """
Attempt: abandoned=False before=PENDING ended_at=None epoch=0 error=None number=0 started_at=0.0 status=RUNNING unknown=False
Bill: _at_hand=0 _number=-1 keys=() lines=() saved=0
Cost: cost=0 tokens=0 tokens_in=0 tokens_out=0
Fingerprints: prints= total=None
Fold: actions largest orphaned received root rows saved sources undos warnings worked
Notes: awaiting=0 figures=() is_undone=False messages=() remains=() rows={} schemas=() summary= topic= undone_below=False undos=[] \
until=None
Record: asked_at=0.0 attempt=None bare= barren=0 bars=None base=None base_epoch=0 bill=None blob= children=None earlier=() error=None \
failed_in=None failures=0 final=False first= fruitful=False inputs= loops=() name= next_at=None notes=None nth=0 occurrence=0 parent= \
present_try=0 replayed=0 round=0 saved=None set_aside=() skips=False spent=0 status=PENDING task= value=None version=None
Undo: action= attempts=(0,) blob= context={} function= is_due=True name= result=(None, '') task= value=None
Worked: _before=0.0 _began=0.0 epoch=-1 until=0.0
"""


def test_what_version_1_writes_stays_as_it_is() -> None:
    """A field may be added here, with a default that says what older text means. Anything else needs another major `FORMAT`."""

    def said(default: Any) -> str:
        if isinstance(default, Cost):
            return str(default.cost)
        return default.value if isinstance(default, Status) else default.decode() if isinstance(default, bytearray) else str(default)

    lines = [f"{kind}: {' '.join(f'{name}={said(it)}' for name, it in shape.defaults.items())}" for kind, shape in mementos.SHAPES.items()]
    lines.append(f"Fold: {' '.join(sorted(['actions', *mementos.FOLD]))}")
    assert sorted(lines) == SCHEMA.strip().splitlines()


def test_all_that_a_fold_keeps_is_written() -> None:
    for kind, shape in mementos.SHAPES.items():
        names = [field.name for field in shape.kind.__fields__] if issubclass(shape.kind, Frozen) else shape.kind.__slots__
        assert set(shape.defaults) == set(names), kind
    assert {"actions", *mementos.FOLD} == {name for name in vars(Fold()) if name[0] != "_"}


def memento() -> dict[str, Any]:
    events: list[Event] = [
        ActionAsked(action="r", at=1.0, task="t"),
        ActionAsked(action="a", at=1.0, task="t", parent="r"),
        AttemptStarted(action="r", at=2.0, number=0, epoch=1),
        Messaged(action="r", at=2.0, type="info", content="begun"),
    ]
    tree: dict[str, Any] = json.loads(state_of(Fold.of(events), "it", "t", 1.0, "gone", {}).to_json())
    return tree


def test_what_a_newer_minor_version_adds_is_passed_over() -> None:
    tree = memento()
    tree["holdfast"] = "1.7"
    tree["more"] = {"new": 1}
    tree["fold"]["more"] = {"new": [1]}
    tree["fold"]["actions"][0]["more"] = {"new": 1}
    assert shown(RunState.from_json(json.dumps(tree))) == shown(RunState.from_json(json.dumps(memento())))


def test_what_an_older_minor_version_did_not_have_is_at_its_default() -> None:
    tree = memento()
    del tree["fold"]["actions"][0]["notes"]
    tree["fold"].pop("warnings")
    state = RunState.from_json(json.dumps(tree))
    assert state.root is not None
    assert (state.root.messages, state.warnings) == ((), ())


def test_a_newer_major_version_is_refused_with_both_versions_named() -> None:
    with pytest.raises(StateTooNew, match=r"2\.0.*1\.0"):
        RunState.from_json(json.dumps({**memento(), "holdfast": "2.0"}))


def damaged() -> dict[str, Any]:
    def without(*path: str) -> dict[str, Any]:
        tree = memento()
        inner = tree
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        return tree

    def with_action(**changes: Any) -> dict[str, Any]:
        tree = memento()
        tree["fold"]["actions"][0].update(changes)
        return tree

    return {
        "nothing": b"",
        "no JSON": b"{",
        "half of it": json.dumps(memento())[:200],
        "a list": b"[]",
        "a number": b"3",
        "another object": b"{}",
        "no version": json.dumps(without("holdfast")),
        "an odd version": json.dumps({**memento(), "holdfast": "x"}),
        "no fold": json.dumps(without("fold")),
        "no actions": json.dumps(without("fold", "actions")),
        "an odd owner": json.dumps({**memento(), "owner": "me"}),
        "an odd time": json.dumps({**memento(), "started_at": "then"}),
        "an endless time": json.dumps({**memento(), "started_at": 1e300}),
        "odd bytes": b"\xff\xfe",
        "an odd status": json.dumps(with_action(status={"status": "LOST"})),
        "a status that is none": json.dumps(with_action(status="RUNNING")),
        "a name that is none": json.dumps(with_action(name=3)),
        "an odd kind": json.dumps(with_action(notes={"Unheard": {}})),
        "an endless sum": json.dumps({**memento(), "fold": {**memento()["fold"], "saved": {"decimal": "1E+999999"}}}),
        "a sum that is none": json.dumps({**memento(), "fold": {**memento()["fold"], "saved": {"decimal": "x"}}}),
        "an action below itself": json.dumps(with_action(parent="r", children={"list": ["a", "r"]})),
        "a circle of actions": json.dumps(with_action(parent="a")),
        "another's child": json.dumps(with_action(parent="", children={"list": ["r"]})),
        "a bar of words": json.dumps(with_action(bars={"dict": [["rows", {"tuple": ["1", None, 1.0, 1.0]}]]})),
        "an instant that is none": json.dumps(with_action(attempt={"Attempt": {"started_at": 1e12}})),
        "a message that is none": json.dumps(with_action(notes={"Notes": {"messages": {"tuple": [{"event": {"e": "warned"}}]}}})),
        "a child that is not there": json.dumps(with_action(children={"list": ["zz"]})),
        "actions that are none": json.dumps({**memento(), "fold": {**memento()["fold"], "actions": [3]}}),
        "an odd list": json.dumps({**memento(), "fold": {**memento()["fold"], "orphaned": 3}}),
    }


@task
async def small() -> int:
    ctx().progress("rows", total=3)
    ctx().message(MessageType.INFO, "begun")
    ctx().add_cost("0.25", key="k")
    ctx().figure("motor", b"<svg/>")
    await ctx().checkpoint.save(1)
    await ctx().on_rollback(undo, 1)
    return len(await map(rows, range(3), on_error="skip"))


def inside(tree: Any) -> list[tuple[Any, Any]]:
    """Every place in it."""
    places = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    return [(tree, key) for key, _ in places] + [place for _, value in places for place in inside(value)]


@pytest.fixture(scope="module")
def written() -> bytes:
    store = memory_store(MemoryDisk())
    asyncio.run(run(small(), run_name="it", store=store, custom_context=TRACE))
    return store.state_sync("it").to_json()


ODD: list[Any] = [
    None, True, -1, 3.5, 1e300, 10**400, "", "r", [], {}, {"tuple": []}, {"list": [1]}, {"dict": []}, {"dict": [[[], 1]]}, {"event": {}},
    {"event": {"e": "messaged"}}, {"event": {"e": "new", "action": "r"}}, {"Cost": {}}, {"Record": {}}, {"decimal": "NaN"},
    {"bytearray": "\u1234"},
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_text_that_was_tampered_with_is_refused_or_can_be_looked_at(written: bytes, data: st.DataObject) -> None:
    tree = json.loads(written)
    places = inside(tree)
    where, key = places[data.draw(st.integers(0, len(places) - 1))]
    where[key] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    try:
        state = RunState.from_json(json.dumps(tree))
    except (StateDamaged, StateTooNew):
        return
    shown(state)
    assert 0 <= state.stats.percent <= 100
    comes_back(state)


@pytest.mark.parametrize("how", damaged())
def test_damaged_text_is_refused(how: str) -> None:
    with pytest.raises(StateDamaged):
        RunState.from_json(damaged()[how])


GOLDEN = (
    '{"holdfast":"1.0","run_name":"it","task_name":"t","started_at":1.0,"owner":"gone","custom_context":{"traceparent":"00-1"},'
    '"fold":{"root":"r","actions":['
    '{"asked_at":1.0,"attempt":{"Attempt":{"before":{"status":"PENDING"},"ended_at":4.0,"epoch":1,"number":0,"started_at":2.0,'
    '"status":{"status":"COMPLETED"}}},"bare":"r","base_epoch":1,"bars":{"dict":[["rows",{"tuple":[3.0,4.0,2.0,3.0]}]]},"first":"r",'
    '"name":"r","notes":{"Notes":{"messages":{"tuple":[{"event":{"e":"messaged","action":"r","at":2.5,"type":"warning",'
    '"content":"odd"}}]}}},"present_try":0,"status":{"status":"COMPLETED"},"task":"t","value":7}]}}'
)


def test_what_the_first_version_wrote_can_be_read() -> None:
    state = RunState.from_json(GOLDEN)
    assert (state.status, state.result, state.custom_context) == (Status.COMPLETED, 7, {"traceparent": "00-1"})
    assert state.root is not None
    assert [(message.type, message.content) for message in state.root.messages] == [(MessageType.WARNING, "odd")]
    assert state.root.progress["rows"].percent == 75.0
    assert [attempt.status for attempt in state.root.attempts] == [Status.COMPLETED]


def test_a_hundred_thousand_actions_take_seconds() -> None:
    """No timed test: ten thousand, and a bound that only something far from linear would pass."""
    events: list[Event] = [ActionAsked(action="r", at=1.0, task="t")]
    for number in range(10_000):
        name = f"action-{number}"
        events += [
            ActionAsked(action=name, at=1.0, task="t", parent="r"),
            AttemptStarted(action=name, at=2.0, number=0, epoch=1),
            AttemptEnded(action=name, at=3.0, number=0, status=Status.COMPLETED, then=Status.COMPLETED, value={"n": number}),
        ]
    state = state_of(Fold.of(events), "it", "t", 1.0, "gone", {})
    begun = time.monotonic()
    back = RunState.from_json(state.to_json())
    assert time.monotonic() - begun < 30
    assert len(back.actions) == 10_001
