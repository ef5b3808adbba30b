"""What a run's tasks inherit, and where they keep raw data."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import Context, ctx, custom_context, get_custom_context, group, run, run_sync, task
from holdfast.errors import NoRawDataPath


@task
async def seen() -> dict[str, str]:
    return dict(get_custom_context())


@task
async def asks() -> dict[str, str]:
    with custom_context(own="1"):
        return await seen()


@task
async def raw() -> list[str]:
    return [ctx().raw_data_path, ctx().action.name]


@task
async def raw_twice() -> list[list[str]]:
    return [await raw(), [ctx().raw_data_path, ctx().action.name]]


@task
async def raw_under(path: str) -> list[str]:
    with Context.current().replace(raw_data_path=path):
        return await raw()


@task
def fails_once(flag: str) -> dict[str, str]:
    if not Path(flag).exists():
        Path(flag).touch()
        raise RuntimeError("the first time")
    return seen.sync()


def test_what_is_bound_outside_a_run_is_inherited_inside(tmp_path: Path) -> None:
    with custom_context(outside="1"):
        assert run_sync(asks(), store=tmp_path, run_name="r") == {"outside": "1", "own": "1"}


def test_the_context_of_a_run_is_inherited_and_overrides_what_is_bound_outside(tmp_path: Path) -> None:
    with custom_context(outside="1", both="1"):
        found = run_sync(asks(), store=tmp_path, run_name="r", custom_context={"both": "2", "given": "2"})
    assert found == {"outside": "1", "both": "2", "given": "2", "own": "1"}


def test_a_resume_that_gives_no_context_restores_the_run_s(tmp_path: Path) -> None:
    def once(**options: Any) -> Any:
        return run_sync(fails_once.call(str(tmp_path / "flag")), store=tmp_path, run_name="r", **options)

    with pytest.raises(RuntimeError, match="the first time"):
        once(custom_context={"tenant": "a"})
    assert once() == {"tenant": "a"}


def test_a_run_begun_by_to_thread_inherits_what_is_bound_there(tmp_path: Path) -> None:
    async def main() -> Any:
        with custom_context(outside="1"):
            return await asyncio.to_thread(lambda: run_sync(seen(), store=tmp_path, run_name="r"))

    assert asyncio.run(main()) == {"outside": "1"}


def test_a_run_leaves_nothing_bound(tmp_path: Path) -> None:
    async def main() -> None:
        await run(asks(), store=tmp_path, run_name="r", custom_context={"given": "1"})
        assert (ctx(), dict(get_custom_context())) == (None, {})

    asyncio.run(main())


# raw data


def test_in_a_run_without_a_path_raw_data_lies_beside_the_action(tmp_path: Path) -> None:
    (path, name), (own_path, own_name) = run_sync(raw_twice(), store=tmp_path, run_name="r")
    base = (tmp_path / "runs" / "r" / "000000").as_uri()
    assert path == f"{base}/actions/{name}/raw"
    assert own_path == f"{base}/actions/{own_name}/raw"


def test_below_a_run_s_path_each_action_has_its_own(tmp_path: Path) -> None:
    (path, name), (own_path, own_name) = run_sync(raw_twice(), store=tmp_path, run_name="r", raw_data_path="/data/")
    assert (path, own_path) == (f"/data/{name}", f"/data/{own_name}")


def test_a_context_s_path_counts_before_the_run_s(tmp_path: Path) -> None:
    path, name = run_sync(raw_under("mem://other"), store=tmp_path, run_name="r", raw_data_path="/data")
    assert path == f"mem://other/{name}"


def test_a_path_bound_outside_the_run_is_inherited(tmp_path: Path) -> None:
    with Context.current().replace(raw_data_path="/outer"):
        path, name = run_sync(raw(), store=tmp_path, run_name="r")
    assert path == f"/outer/{name}"


def test_outside_a_run_a_context_s_path_serves_and_without_one_the_error_says_what_to_do() -> None:
    with Context.current().replace(raw_data_path="/outer"):
        path, name = asyncio.run(raw())
    assert path == f"/outer/{name}"
    with pytest.raises(NoRawDataPath, match=r"Context.*raw_data_path.*`run`"):
        asyncio.run(raw())


def test_groups_are_part_of_a_place(tmp_path: Path) -> None:
    @task(name="grouped")
    async def grouped() -> list[str]:
        names = [(await raw())[1]]
        for path in (("a",), ("a", "b"), ("b", "a")):
            with group(path[0]):
                if len(path) == 1:
                    names.append((await raw())[1])
                    continue
                with group(path[1]):
                    names.append((await raw())[1])
        return names

    first = run_sync(grouped(), store=tmp_path, run_name="one")
    assert len(set(first)) == 4
    assert run_sync(grouped(), store=tmp_path, run_name="two") == first


def test_trace_keys_are_the_present_process_s_and_never_compared(tmp_path: Path) -> None:
    def once(parent: str, **options: Any) -> Any:
        with custom_context(traceparent=parent):
            return run_sync(fails_once.call(str(tmp_path / "flag")), store=tmp_path, run_name="r", **options)

    with pytest.raises(RuntimeError, match="the first time"):
        once("00-a", custom_context={"tenant": "x"})
    assert once("00-b") == {"tenant": "x", "traceparent": "00-b"}
