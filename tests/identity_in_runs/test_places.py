"""Which call is which, in a run and on resume."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Store, ctx, custom_context, get_custom_context, run_sync, task
from holdfast.errors import AmbiguousKey, CodeChanged, ContextChanged, DuplicateTask, InvalidOption, UnstableInput

RAN: list[Any] = []
PROGRAM: dict[str, Callable[[], Any]] = {}


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


class Interrupted(Exception):
    """Stands for whatever ends a run early."""


@task
async def main(name: str) -> Any:
    """Runs the program of a test: its code may differ from one run to the next, as a user's does between two starts."""
    return await PROGRAM[name]()


def begin(store: Path, program: Callable[[], Any], **options: Any) -> Any:
    PROGRAM["p"] = program
    return run_sync(main("p"), store=store, run_name="r", durability="flush", **options)


def interrupt(store: Path, program: Callable[[], Any], **options: Any) -> None:
    async def interrupted() -> None:
        await program()
        raise Interrupted

    with pytest.raises(Interrupted):
        begin(store, interrupted, **options)


def ran() -> list[Any]:
    found = list(RAN)
    RAN.clear()
    return found


@task
async def step(n: Any) -> Any:
    RAN.append(n)
    return n


@task(key=lambda n, key: key)
async def keyed(n: Any, key: str) -> Any:
    RAN.append(n)
    return f"{n} {key}"


@task
async def draw() -> int:
    RAN.append("draw")
    return len(RAN)


@task
async def tenants() -> str:
    RAN.append(get_custom_context().get("tenant"))
    return get_custom_context().get("tenant", "")


# resuming


def test_what_is_recorded_is_not_run_again(tmp_path: Path) -> None:
    async def program() -> Any:
        return [await step(n) for n in (1, None, "", 0)]

    interrupt(tmp_path, program)
    assert ran() == [1, None, "", 0]
    assert begin(tmp_path, program) == [1, None, "", 0]
    assert ran() == []


def test_equal_calls_are_distinct_and_come_back_in_the_order_they_were_made(tmp_path: Path) -> None:
    async def program() -> Any:
        return [await draw(), await draw(), await draw()]

    interrupt(tmp_path, program)
    assert begin(tmp_path, program) == [1, 2, 3]
    assert ran() == ["draw"] * 3


def test_one_and_one_point_zero_and_true_are_three_calls(tmp_path: Path) -> None:
    async def program() -> Any:
        return [await step(n) for n in (1, 1.0, True)]

    interrupt(tmp_path, program)
    found = begin(tmp_path, program)
    assert [type(n) for n in found] == [int, float, bool]
    assert len(ran()) == 3


def test_a_call_inserted_before_others_does_not_shift_them(tmp_path: Path) -> None:
    async def before() -> Any:
        return [await step(1), await draw(), await step(2)]

    async def after() -> Any:
        return [await step(0), await step(1), await step(9), await draw(), await step(2)]

    interrupt(tmp_path, before)
    ran()
    assert begin(tmp_path, after) == [0, 1, 9, 2, 2]
    assert ran() == [0, 9]


def test_calls_in_any_order_get_their_own_results(tmp_path: Path) -> None:
    async def forth() -> Any:
        return await asyncio.gather(*(step(n) for n in range(6)))

    async def back() -> Any:
        return await asyncio.gather(*(step(n) for n in reversed(range(6))))

    interrupt(tmp_path, forth)
    ran()
    assert begin(tmp_path, back) == [5, 4, 3, 2, 1, 0]
    assert ran() == []


def test_completed_calls_that_a_resume_never_asks_for_are_orphaned(tmp_path: Path) -> None:
    async def before() -> Any:
        return [await step(1), await step(2), await step(3)]

    async def after() -> Any:
        return await step(2)

    interrupt(tmp_path, before)
    begin(tmp_path, after)
    state = Store(tmp_path).state_sync("r")
    assert sorted(state.actions[name].result for name in state.orphaned) == [1, 3]


def test_a_run_that_asks_for_everything_orphans_nothing(tmp_path: Path) -> None:
    async def program() -> Any:
        return [await step(1), await draw(), await ctx().random()]

    interrupt(tmp_path, program)
    begin(tmp_path, program)
    assert Store(tmp_path).state_sync("r").orphaned == ()


# refusals


def test_one_key_for_two_inputs_is_ambiguous_in_one_run(tmp_path: Path) -> None:
    async def program() -> Any:
        assert await keyed(1, "k") == "1 k"
        return await keyed(2, "k")

    with pytest.raises(AmbiguousKey, match=r"keyed: key 'k' .*tell them apart"):
        begin(tmp_path, program)
    assert ran() == [1]


def test_one_key_for_two_inputs_is_ambiguous_on_resume(tmp_path: Path) -> None:
    async def before() -> Any:
        return await keyed(1, "k")

    async def after() -> Any:
        return await keyed(2, "k")

    interrupt(tmp_path, before)
    with pytest.raises(AmbiguousKey, match=r"keyed: key 'k'"):
        begin(tmp_path, after)
    assert ran() == [1]


def test_a_key_makes_inputs_without_a_digest_usable(tmp_path: Path) -> None:
    async def program() -> Any:
        return (await keyed(threading.Lock(), "k"))[-1]

    interrupt(tmp_path, program)
    assert begin(tmp_path, program) == "k"
    assert len(ran()) == 1


def test_a_key_has_to_be_a_str(tmp_path: Path) -> None:
    async def program() -> Any:
        return await keyed(1, 5)  # type: ignore[arg-type]

    with pytest.raises(InvalidOption, match="key=5: it has to return a str"):
        begin(tmp_path, program)


def test_two_functions_of_one_name_are_refused_with_both_places(tmp_path: Path) -> None:
    @task(name="same")
    async def first() -> int:
        return 1

    @task(name="same")
    async def second() -> int:
        return 2

    async def program() -> Any:
        return await first() + await second()

    with pytest.raises(DuplicateTask, match=rf"'same' .*{Path(__file__).name}:\d+.*{Path(__file__).name}:\d+.*name="):
        begin(tmp_path, program)


def test_one_function_with_two_policies_is_one_task(tmp_path: Path) -> None:
    async def program() -> Any:
        return await step(1) + await step.with_options(retries=2, timeout=60)(2)

    assert begin(tmp_path, program) == 3


def test_an_input_without_a_digest_is_refused_with_its_path_and_the_remedy(tmp_path: Path) -> None:
    async def program() -> Any:
        return await step({"items": [1, {"lock": threading.Lock()}]})

    with pytest.raises(UnstableInput, match=r"step: argument n\['items'\]\[1\]\['lock'\] .*lock.*@task\(key="):
        begin(tmp_path, program)
    assert ran() == []


# version and code


def test_another_version_runs_again_and_reuses_its_children(tmp_path: Path) -> None:
    @task(name="versioned", version="1")
    async def versioned() -> int:
        RAN.append("versioned")
        return int(await step(1)) + int(await step(2))

    async def program(version: str) -> Any:
        return await versioned.with_options(version=version)()

    interrupt(tmp_path, lambda: program("1"))
    assert ran() == ["versioned", 1, 2]
    interrupt(tmp_path, lambda: program("1"))
    assert ran() == []
    assert begin(tmp_path, lambda: program("2")) == 3
    assert ran() == ["versioned"]


def test_another_version_of_the_root_runs_again_and_reuses_its_children(tmp_path: Path) -> None:
    async def program() -> Any:
        RAN.append("root")
        return await step(1)

    assert begin(tmp_path, program) == 1
    assert ran() == ["root", 1]
    PROGRAM["p"] = program
    assert run_sync(main.with_options(version="2")("p"), store=tmp_path, run_name="r") == 1
    assert ran() == ["root"]


def made(n: int) -> Any:
    """One task in two versions of its code."""
    scope: dict[str, Any] = {"task": task, "RAN": RAN, "__name__": __name__}
    exec(f"async def work():\n    RAN.append('work')\n    return {n}\n", scope)  # as an edited file would define it
    return task(name="work")(scope["work"])


def test_changed_code_warns_once_a_task_and_is_reused(tmp_path: Path) -> None:
    async def program(work: Any) -> Any:
        return [await work(), await work()]

    interrupt(tmp_path, lambda: program(made(1)))
    ran()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert begin(tmp_path, lambda: program(made(2))) == [1, 1]
    (warned,) = [w for w in caught if w.category is CodeChanged]
    assert str(warned.message).startswith("the code of work changed")
    assert "version=" in str(warned.message)
    assert ran() == []


# counted context


@pytest.mark.parametrize(
    ("context_keys", "bound", "reused"),
    [
        (None, {"tenant": "b"}, False),
        (None, {"tenant": "a"}, True),
        (None, {"tenant": "a", "other": "1"}, False),
        (None, {"tenant": "a", "traceparent": "00-1", "tracestate": "x", "baggage": "y"}, True),
        ((), {"tenant": "b"}, True),
        (("other",), {"tenant": "b"}, True),
        (("tenant",), {"tenant": "b"}, False),
        (("tenant",), {"tenant": "a", "other": "1"}, True),
    ],
)
@pytest.mark.filterwarnings("ignore::holdfast.errors.ContextChanged")
def test_context_bound_in_the_run_counts_as_context_keys_says(
    tmp_path: Path, context_keys: tuple[str, ...] | None, bound: dict[str, str], reused: bool
) -> None:
    async def program(**values: str) -> Any:
        with custom_context(**values):
            return await tenants.with_options(context_keys=context_keys)()

    interrupt(tmp_path, lambda: program(tenant="a"))
    ran()
    begin(tmp_path, lambda: program(**bound))
    assert ran() == ([] if reused else [bound["tenant"]])


def test_context_bound_by_an_ancestor_counts_too(tmp_path: Path) -> None:
    async def names() -> Any:
        async def under(tenant: str) -> str:
            with custom_context(tenant=tenant):
                return await through()

        return [await under("a"), await under("b"), await under("a")]

    first, second, again = begin(tmp_path, names)
    assert len({first, second, again}) == 3


@task
async def through() -> str:
    return await place()


@task
async def place() -> str:
    return str(ctx().action.name)


def test_what_a_run_is_started_with_does_not_count(tmp_path: Path) -> None:
    async def program() -> Any:
        return await place()

    found = set()
    for n, options in enumerate(({}, {"custom_context": {"tenant": "a"}})):
        for outside in ({}, {"user": "u"}):
            with custom_context(**outside):
                PROGRAM["p"] = program
                found.add(run_sync(main("p"), store=tmp_path, run_name=f"r{n}{len(outside)}", **options))  # type: ignore[arg-type]
    assert len(found) == 1


def test_a_call_kept_from_its_record_by_context_alone_says_so_once_a_task(tmp_path: Path) -> None:
    async def program(tenant: str) -> Any:
        with custom_context(tenant=tenant):
            return [await tenants(), await tenants()]

    interrupt(tmp_path, lambda: program("a"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert begin(tmp_path, lambda: program("b")) == ["b", "b"]
    (warned,) = [w for w in caught if w.category is ContextChanged]
    assert tenants.name in str(warned.message)
    assert "context_keys=" in str(warned.message)


@pytest.mark.parametrize(("before", "after"), [({}, {"tenant": "b"}), ({"tenant": "a"}, {})])
def test_it_says_so_too_where_a_block_was_added_or_removed(tmp_path: Path, before: dict[str, str], after: dict[str, str]) -> None:
    async def program(values: dict[str, str]) -> Any:
        with custom_context(**values):
            return await tenants()

    interrupt(tmp_path, lambda: program(before))
    with pytest.warns(ContextChanged):
        begin(tmp_path, lambda: program(after))


def test_a_new_call_says_nothing(tmp_path: Path) -> None:
    async def program(*numbers: int) -> Any:
        with custom_context(tenant="a"):
            return [await step(n) for n in numbers]

    interrupt(tmp_path, lambda: program(1))
    assert begin(tmp_path, lambda: program(1, 2)) == [1, 2]  # warnings are errors
