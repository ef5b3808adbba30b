"""How often stages are tried: NONE, STAGE and GLOBAL, in a pure decision, in pipelines, side by side, and over crashes."""

from __future__ import annotations

import asyncio
import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import Any, Literal

import pytest

from holdfast import RetryPolicy, Stage, StageState, Status, Store, ctx, parallel, pipeline, run, stage_states, start, task
from holdfast.actions.shares import Share, Shares
from holdfast.errors import AttemptsSpent, RunStopped
from holdfast.folders.memory import MemoryDisk
from holdfast.retries import Again, GiveUp, Retry, attempts_left, decide
from holdfast.testing.clocks import Clock, no_backoff
from holdfast.testing.crashes import Ledger, crash_everywhere
from holdfast.testing.loops import run_shuffled
from holdfast.testing.stores import memory_store

NONE, STAGE, GLOBAL = RetryPolicy
EXECUTED = {Status.COMPLETED, Status.FAILED, Status.TIMED_OUT}

disk = MemoryDisk()
did: list[Any] = []
ledger = Ledger()


@pytest.fixture(autouse=True)
def _anew() -> None:
    global disk
    disk = MemoryDisk()
    did.clear()


class State(StageState[Any]):
    case: int = 0


class Failing(Stage[State]):
    """Fails so many executions. Attempts that crashed are none."""

    def __init__(self, name: str, failures: int) -> None:
        self.name = name
        self.failures = failures

    async def execute(self, state: State, earlier: Mapping[str, State]) -> None:
        did.append(self.name)
        ledger.ran(self.name)
        await asyncio.sleep(0)
        if sum(line.end_status is Status.FAILED for line in state.history) < self.failures:
            raise ConnectionError(self.name)
        ledger.got(self.name)


# the decision


@pytest.mark.parametrize(
    ("policy", "max_attempts", "failures", "executions", "left"),
    [
        (NONE, 1, 0, 0, 1),
        (NONE, 1, 0, 7, 1),  # what the others did does not count
        (NONE, 1, 1, 1, 0),
        (STAGE, 3, 0, 0, 3),
        (STAGE, 3, 1, 9, 2),
        (STAGE, 3, 2, 2, 1),
        (STAGE, 3, 3, 3, 0),
        (STAGE, 3, 4, 4, 0),
        (STAGE, 1, 0, 0, 1),
        (STAGE, 1, 1, 1, 0),
        (GLOBAL, 3, 0, 0, 3),
        (GLOBAL, 3, 0, 2, 1),  # also a successful execution takes one
        (GLOBAL, 3, 2, 2, 1),
        (GLOBAL, 3, 0, 3, 0),
        (GLOBAL, 3, 0, 4, 0),  # a lower max_attempts than when it began
    ],
)
def test_how_many_executions_may_still_begin(policy: RetryPolicy, max_attempts: int, failures: int, executions: int, left: int) -> None:
    assert attempts_left(policy, max_attempts, failures, executions) == left


@pytest.mark.parametrize(
    ("failures", "left", "again"),
    [(1, None, True), (2, None, True), (3, None, False), (1, 0, False), (3, 1, True), (9, 5, True)],
)
def test_what_others_took_decides_where_it_is_given_and_the_failures_where_it_is_not(failures: int, left: int | None, again: bool) -> None:
    assert isinstance(decide(Retry(3), ConnectionError(), failures, 0.0, left), Again if again else GiveUp)


def test_the_wait_grows_with_the_failures_of_the_stage_and_not_with_what_others_took() -> None:
    retry = Retry(9, jitter=False)
    assert decide(retry, ConnectionError(), 1, 0.0, 5) == Again(1.0)
    assert decide(retry, ConnectionError(), 3, 0.0, 1) == Again(4.0)


@pytest.mark.parametrize(
    ("ends", "taken"),
    [
        ([], 0),
        ([Status.COMPLETED], 1),
        ([Status.FAILED], 1),
        ([Status.TIMED_OUT], 1),
        ([Status.CANCELLED], 0),
        ([Status.STOPPED], 0),
        ([Status.FAILED, Status.FAILED, Status.COMPLETED], 3),
        ([Status.FAILED, Status.STOPPED], 1),
        ([Status.TIMED_OUT, Status.CANCELLED], 1),
    ],
)
def test_only_an_execution_keeps_its_share(ends: Sequence[Status], taken: int) -> None:
    shares = Shares(9, 0)
    share = Share(shares, pipeline="p", stage="s")
    for number, status in enumerate(ends):
        if number < len(ends) - 1:
            share.take()  # a retry was decided
        share.ended(status)
    share.give_back()
    share.give_back()
    assert shares.taken == taken


def test_no_share_is_taken_of_nothing() -> None:
    shares = Shares(2, 1)
    Share(shares, pipeline="p", stage="s")
    with pytest.raises(AttemptsSpent, match="t was not begun: the stages of p have taken all 2 executions") as caught:
        Share(shares, pipeline="p", stage="t")
    assert shares.taken == 2
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.pipeline, again.stage, again.max_attempts, str(again)) == ("p", "t", 2, str(caught.value))


# in order


def foreseen(policy: RetryPolicy, max_attempts: int, failures: Sequence[int]) -> tuple[str, str]:
    """The executions of stages a, b, c in order, and what becomes of the pipeline. Written as the source says it."""
    executed = ""
    for name, fails in zip("abc", failures, strict=False):
        if policy is GLOBAL and len(executed) >= max_attempts:
            return executed, "spent"
        for own in range(1, 99):
            executed += name
            if own > fails:
                break
            counter = {NONE: 1, STAGE: own, GLOBAL: len(executed)}[policy]
            if policy is NONE or counter >= max_attempts:
                return executed, name
    return executed, "done"


def played(plan: Any, *, durable: bool) -> str:
    try:
        with no_backoff():
            if durable:
                asyncio.run(run(plan(State()), run_name="it", store=memory_store(disk)))
            else:
                plan.sync(State())
    except AttemptsSpent:
        return "spent"
    except ConnectionError as error:
        return str(error)
    return "done"


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize(("policy", "max_attempts"), [(NONE, 1), (STAGE, 1), (STAGE, 2), (STAGE, 3), *((GLOBAL, n) for n in range(3, 8))])
def test_stages_in_order_are_executed_as_often_as_the_policy_says(policy: RetryPolicy, max_attempts: int, durable: bool) -> None:
    global disk
    for failures in product(range(3), repeat=3):
        disk = MemoryDisk()
        did.clear()
        stages = [Failing(name, fails) for name, fails in zip("abc", failures, strict=True)]
        ended = played(pipeline("plan", stages, retry_policy=policy, max_attempts=max_attempts), durable=durable)
        assert ("".join(did), ended) == foreseen(policy, max_attempts, failures), failures


def test_a_resume_of_a_pipeline_that_spent_all_reuses_what_COMPLETED_and_begins_with_all_of_them_anew() -> None:
    plan = pipeline("plan", [Failing("a", 1), Failing("b", 1), Failing("c", 0)], retry_policy=GLOBAL, max_attempts=3)
    assert played(plan, durable=True) == "b"
    assert played(plan, durable=True) == "done"
    assert did == ["a", "a", "b", "b", "c"]


def test_a_try_anew_of_a_pipeline_in_one_process_begins_with_all_of_them_too() -> None:
    plan = pipeline("plan", [Failing("a", 2), Failing("b", 2)], retry_policy=GLOBAL, max_attempts=4)
    assert played(plan.with_options(retries=1), durable=True) == "done"
    assert did == ["a", "a", "a", "b", "b", "b"]


def test_ctx_says_what_holds_under_the_policy() -> None:
    told: list[tuple[int, int]] = []

    class Tells(Failing):
        async def execute(self, state: State, earlier: Mapping[str, State]) -> None:
            told.append((ctx().max_attempts, ctx().retries_left))
            await super().execute(state, earlier)

    for policy, number, expected in [
        (NONE, 1, [(1, 0), (1, 0)]),
        (STAGE, 2, [(2, 1), (2, 1), (2, 0)]),
        (GLOBAL, 5, [(5, 4), (5, 3), (5, 2)]),
    ]:
        told.clear()
        stages = [Tells("a", 0), Tells("b", int(policy is not NONE))]
        played(pipeline("plan", stages, retry_policy=policy, max_attempts=number), durable=False)
        assert told == expected


def test_the_first_wait_of_a_stage_is_short_however_often_others_failed() -> None:
    began: list[tuple[str, float]] = []
    clock = Clock()

    class Timed(Failing):
        async def execute(self, state: State, earlier: Mapping[str, State]) -> None:
            began.append((self.name, clock.now()))
            await super().execute(state, earlier)

    stages = [Timed("first", 5), *(Timed(f"s{number}", 1) for number in range(20))]
    with clock.use():
        asyncio.run(run(pipeline("plan", stages, retry_policy=GLOBAL, max_attempts=46)(State()), run_name="it", store=memory_store(disk)))
    for (name, at), (again, later) in pairwise(began):
        if name == again != "first":
            assert later - at <= 1.0


# side by side


@pytest.mark.parametrize("max_attempts", range(4, 8))
def test_members_of_a_group_never_overspend_together(max_attempts: int) -> None:
    ends = Counter[str]()
    for seed in range(12):
        did.clear()
        stages = [Failing("a", 0), parallel(*(Failing(name, 1) for name in "bcd"))]
        plan = pipeline("plan", stages, retry_policy=GLOBAL, max_attempts=max_attempts)
        store = memory_store(MemoryDisk())

        async def main(plan: Any = plan, store: Store = store) -> str:
            try:
                await run(plan(State()), run_name="it", store=store)
            except (ConnectionError, AttemptsSpent):
                return "failed"
            return "done"

        with no_backoff():
            ends[run_shuffled(main, seed=seed)] += 1
        assert len(did) <= max_attempts
    assert ends == {"done" if max_attempts == 7 else "failed": 12}


def test_a_member_of_a_group_for_which_no_execution_is_left_is_not_begun() -> None:
    plan = pipeline("plan", [Failing("a", 2), parallel(Failing("b", 0), Failing("c", 0))], retry_policy=GLOBAL, max_attempts=4)
    assert played(plan, durable=True) == "spent"
    read = stage_states(memory_store(disk).state_sync("it"), plan)
    assert read["a"].status is Status.COMPLETED
    assert read["b"].status in (Status.COMPLETED, Status.CANCELLED), "it was under way, and nobody waited for it"
    assert (read["c"].status, read["c"].attempts) == (Status.UNBOUND, 0)


# over stops and crashes


def test_a_stop_takes_nothing() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    class Waits(Failing):
        async def execute(self, state: State, earlier: Mapping[str, State]) -> None:
            await super().execute(state, earlier)
            begun.set()
            await gate.wait()

    plan = pipeline("plan", [Failing("a", 1), Waits("b", 0), Failing("c", 0)], retry_policy=GLOBAL, max_attempts=4)

    async def stopped() -> None:
        handle = await start(plan(State()), run_name="it", store=memory_store(disk))
        await begun.wait()
        await handle.stop()
        with pytest.raises(RunStopped):
            await handle.result()

    with no_backoff():
        asyncio.run(stopped())
    gate.set()
    assert played(plan, durable=True) == "done"
    assert did == ["a", "a", "b", "b", "c"]


def executions(store: Store) -> dict[str, int]:
    """How often each stage was executed, by what is on record."""
    return {
        action.task_name.rpartition("/")[2]: sum(attempt.status in EXECUTED for attempt in action.attempts)
        for action in store.state_sync("program").actions.values()
        if "/" in action.task_name
    }


PLANS = {
    "STAGE, enough": (pipeline("stage enough", [Failing("a", 1), Failing("b", 2)], retry_policy=STAGE, max_attempts=3), "done"),
    "STAGE, one too few": (pipeline("stage few", [Failing("a", 1), Failing("b", 2)], retry_policy=STAGE, max_attempts=2), "b"),
    "NONE": (pipeline("none", [Failing("a", 0), Failing("b", 1)]), "b"),
    "GLOBAL, enough": (
        pipeline("global enough", [Failing("a", 1), Failing("b", 1), Failing("c", 0)], retry_policy=GLOBAL, max_attempts=5),
        "done",
    ),
    "GLOBAL, one too few": (
        pipeline("global few", [Failing("a", 1), Failing("b", 1), Failing("c", 0)], retry_policy=GLOBAL, max_attempts=4),
        "spent",
    ),
    "GLOBAL, a group, enough": (
        pipeline("group enough", [parallel(Failing("a", 1), Failing("b", 1)), Failing("c", 0)], retry_policy=GLOBAL, max_attempts=5),
        "done",
    ),
    "GLOBAL, a group, one too few": (
        pipeline("group few", [parallel(Failing("a", 1), Failing("b", 1)), Failing("c", 0)], retry_policy=GLOBAL, max_attempts=4),
        "spent",
    ),
}


@task
async def sees_how(case: str) -> str:
    """What became of a pipeline: on record, so that no later life begins a try anew."""
    try:
        await PLANS[case][0](State())
    except AttemptsSpent:
        return "spent"
    except ConnectionError as error:
        return str(error)
    return "done"


@pytest.mark.parametrize(
    ("case", "on", "step"),
    [*((case, "disk", 1) for case in PLANS), ("GLOBAL, a group, enough", "bucket", 3), ("GLOBAL, one too few", "bucket", 3)],
)
def test_wherever_it_is_killed_a_budget_is_neither_exceeded_nor_lost(case: str, on: Literal["disk", "bucket"], step: int) -> None:
    plan, expected = PLANS[case]
    undisturbed: dict[str, int] | None = None
    with no_backoff():
        for survival in crash_everywhere(lambda: sees_how(case), on=on, step=step, ledger=ledger):
            assert survival.value == expected, survival
            assert survival.error is None, survival
            found = executions(survival.store)
            undisturbed = undisturbed or found
            assert found == undisturbed, survival
    assert undisturbed is not None
    assert sum(undisturbed.values()) <= (plan.plan.max_attempts if "GLOBAL" in case else 99)  # type: ignore[attr-defined]
