"""Who sees a bound value: each promise of isolation is one test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import anyio
import anyio.to_thread
import pytest

from holdfast import Context, contextual_run, ctx, custom_context, get_custom_context, group, task
from holdfast.errors import InvalidContext, InvalidName


@task
async def seen() -> dict[str, str]:
    return dict(get_custom_context())


@task
def seen_in_a_thread() -> dict[str, str]:
    return dict(get_custom_context())


# outside a task


def test_outside_a_task_there_is_no_context() -> None:
    assert ctx() is None
    assert get_custom_context() == {}


def test_what_is_given_out_is_read_only() -> None:
    with custom_context(a="1"):
        values: Any = get_custom_context()
    with pytest.raises(TypeError):
        values["a"] = "2"
    with pytest.raises(TypeError):
        get_custom_context()["b"] = "2"  # type: ignore[index]
    assert get_custom_context() == {}


def test_what_the_body_is_given_is_read_only() -> None:
    @task
    async def body() -> None:
        ctx().custom_context["a"] = "2"

    with custom_context(a="1"), pytest.raises(TypeError):
        asyncio.run(body())


# blocks


def test_blocks_nest_override_and_restore() -> None:
    with custom_context(a="1", b="1"):
        with custom_context(b="2", c="2"):
            assert get_custom_context() == {"a": "1", "b": "2", "c": "2"}
        assert get_custom_context() == {"a": "1", "b": "1"}
    assert get_custom_context() == {}


def test_an_exception_in_the_block_leaves_what_was_before() -> None:
    with custom_context(a="1"):
        with pytest.raises(KeyError), custom_context(a="2"):
            raise KeyError
        assert get_custom_context() == {"a": "1"}


@pytest.mark.parametrize(("value", "kind"), [(1, "int"), (None, "NoneType"), (b"x", "bytes")])
def test_a_value_that_is_no_str_is_refused_at_entry_and_named(value: Any, kind: str) -> None:
    block = custom_context(good="1", tenant=value)
    with pytest.raises(InvalidContext, match=f"tenant=.*{kind}.*str\\(value\\)"), block:
        pytest.fail("entered")
    assert get_custom_context() == {}


def test_a_block_can_be_entered_again_and_inside_itself() -> None:
    block = custom_context(a="1")
    with block, custom_context(a="2"):
        with block:
            assert get_custom_context() == {"a": "1"}
        assert get_custom_context() == {"a": "2"}
    assert get_custom_context() == {}


def test_one_block_entered_by_two_tasks_at_once_leaves_both_as_they_were() -> None:
    block = custom_context(shared="1")

    async def one(name: str, barrier: asyncio.Barrier) -> None:
        with custom_context(own=name):
            await barrier.wait()
            with block:
                await barrier.wait()
                assert get_custom_context() == {"own": name, "shared": "1"}
                await barrier.wait()
            assert get_custom_context() == {"own": name}
        assert get_custom_context() == {}

    async def main() -> None:
        barrier = asyncio.Barrier(2)
        await asyncio.gather(one("a", barrier), one("b", barrier))

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_group_takes_a_name(name: Any) -> None:
    with pytest.raises(InvalidName, match="group"):
        group(name)


def test_groups_nest_into_a_path() -> None:
    with group("shards"), group("3"):
        assert Context.current().group == ("shards", "3")
    assert Context.current().group == ()


# callers and called


def test_a_child_sees_what_its_parent_bound_and_the_parent_not_what_the_child_bound() -> None:
    @task
    async def child() -> dict[str, str]:
        block = custom_context(child="1")
        block.__enter__()
        return dict(get_custom_context())

    @task(name="parent")
    async def parent() -> tuple[dict[str, str], dict[str, str]]:
        with custom_context(parent="1"):
            return await child(), dict(get_custom_context())

    assert asyncio.run(parent()) == ({"parent": "1", "child": "1"}, {"parent": "1"})


def test_what_a_body_leaves_bound_ends_with_it() -> None:
    @task
    async def body() -> None:
        custom_context(left="1").__enter__()

    async def main() -> None:
        call = body()
        await call  # in this very task
        assert get_custom_context() == {}
        assert ctx() is None

    asyncio.run(main())


def test_siblings_under_gather_do_not_see_each_other() -> None:
    async def main() -> list[dict[str, str]]:
        barrier = asyncio.Barrier(3)

        async def branch(n: int) -> dict[str, str]:
            with custom_context(branch=str(n)):
                await barrier.wait()
                return await seen()

        return await asyncio.gather(*(branch(n) for n in range(3)))

    assert asyncio.run(main()) == [{"branch": "0"}, {"branch": "1"}, {"branch": "2"}]


def test_a_call_sees_what_is_bound_where_it_is_made_and_not_where_it_is_awaited() -> None:
    async def main() -> dict[str, str]:
        with custom_context(made="1"):
            call = seen()
        with custom_context(awaited="1"):
            return await call

    assert asyncio.run(main()) == {"made": "1"}


def test_a_call_keeps_the_group_in_which_it_is_made() -> None:
    async def main() -> tuple[str, ...]:
        with group("made"):
            call = seen()
        with group("awaited"):
            await call
        return call.context.group

    assert asyncio.run(main()) == ("made",)


def test_the_group_around_a_call_is_not_the_group_of_its_calls() -> None:
    @task
    async def body() -> tuple[str, ...]:
        return Context.current().group

    async def main() -> tuple[str, ...]:
        with group("outer"):
            return await body()

    assert asyncio.run(main()) == ()


# threads


def test_asyncio_to_thread_carries_the_context_over() -> None:
    async def main() -> dict[str, str]:
        with custom_context(a="1"):
            return dict(await asyncio.to_thread(get_custom_context))

    assert asyncio.run(main()) == {"a": "1"}


def test_anyio_to_thread_carries_the_context_over() -> None:
    async def main() -> dict[str, str]:
        with custom_context(a="1"):
            return dict(await anyio.to_thread.run_sync(get_custom_context))

    assert asyncio.run(main()) == {"a": "1"}


def test_what_a_thread_binds_stays_in_the_thread() -> None:
    def leave() -> None:
        custom_context(thread="1").__enter__()

    async def main() -> None:
        await asyncio.to_thread(leave)
        assert get_custom_context() == {}

    asyncio.run(main())


def test_a_bare_thread_starts_without_context() -> None:
    found: list[dict[str, str]] = []
    with custom_context(a="1"):
        thread = threading.Thread(target=lambda: found.append(dict(get_custom_context())))
        thread.start()
        thread.join()
    assert found == [{}]


def test_a_def_task_sees_what_is_bound_where_it_is_called() -> None:
    with custom_context(a="1"):
        assert seen_in_a_thread() == {"a": "1"}
        assert asyncio.run(seen_in_a_thread.call()) == {"a": "1"}


def test_a_def_task_called_in_a_def_body_sees_what_the_body_bound() -> None:
    @task(name="outer")
    def outer() -> dict[str, str]:
        with custom_context(inner="1"):
            return seen_in_a_thread()

    with custom_context(outer="1"):
        assert outer() == {"outer": "1", "inner": "1"}


# groups of tasks


def test_an_asyncio_task_group_passes_on_what_is_bound_where_each_task_is_made() -> None:
    async def main() -> list[dict[str, str]]:
        tasks = []
        async with asyncio.TaskGroup() as together:
            for n in range(2):
                with custom_context(n=str(n)):
                    tasks.append(together.create_task(seen()))
        return [t.result() for t in tasks]

    assert asyncio.run(main()) == [{"n": "0"}, {"n": "1"}]


def test_an_anyio_task_group_passes_on_what_is_bound_where_each_task_is_started() -> None:
    async def main() -> list[dict[str, str]]:
        found: list[dict[str, str]] = []

        async def note() -> None:
            found.append(await seen())

        async with anyio.create_task_group() as together:
            for n in range(2):
                with custom_context(n=str(n)):
                    together.start_soon(note)
        return sorted(found, key=lambda values: values["n"])

    assert asyncio.run(main()) == [{"n": "0"}, {"n": "1"}]


# nodes


def test_a_node_is_put_in_force_by_with_and_taken_away() -> None:
    with Context.current().replace(custom_context={"a": "1"}, group=("g",)):
        assert get_custom_context() == {"a": "1"}
        assert Context.current().group == ("g",)
    assert (get_custom_context(), Context.current().group) == ({}, ())


def test_a_node_is_entered_again_by_nested_blocks() -> None:
    node = Context.current().replace(custom_context={"a": "1"})
    with node:
        with custom_context(b="1"):
            with node:
                assert get_custom_context() == {"a": "1"}
                with node:
                    assert get_custom_context() == {"a": "1"}
                assert get_custom_context() == {"a": "1"}
            assert get_custom_context() == {"a": "1", "b": "1"}
        assert get_custom_context() == {"a": "1"}
    assert get_custom_context() == {}


def test_a_node_is_entered_by_two_tasks_at_once() -> None:
    node = Context.current().replace(custom_context={"shared": "1"})

    async def one(name: str, barrier: asyncio.Barrier) -> None:
        with custom_context(own=name):
            await barrier.wait()
            with node:
                await barrier.wait()
                assert get_custom_context() == {"shared": "1"}
                await barrier.wait()
            assert get_custom_context() == {"own": name}

    async def main() -> None:
        barrier = asyncio.Barrier(2)
        await asyncio.gather(one("a", barrier), one("b", barrier))

    asyncio.run(main())


def test_a_node_is_left_as_it_was_by_an_exception() -> None:
    node = Context.current().replace(custom_context={"a": "1"})
    with custom_context(b="1"):
        with pytest.raises(KeyError), node:
            raise KeyError
        assert get_custom_context() == {"b": "1"}


def test_a_changed_copy_leaves_the_node_alone() -> None:
    before = Context.current()
    assert before.replace(raw_data_path="/x").raw_data_path == "/x"
    assert before.raw_data_path is None
    with pytest.raises(AttributeError):
        before.raw_data_path = "/y"  # type: ignore[misc]


# generators


def test_a_block_around_a_yield_restores_what_it_can_when_the_generator_is_closed_elsewhere() -> None:
    async def stream() -> AsyncIterator[int]:
        with custom_context(a="1"):
            yield 1
            yield 2

    async def main() -> None:
        generator = stream()
        with custom_context(before="1"):
            assert await asyncio.create_task(anext_of(generator)) == 1
            await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
            assert get_custom_context() == {"before": "1"}

    asyncio.run(main())


async def anext_of(generator: AsyncIterator[int]) -> int:
    return await anext(generator)


def test_a_generator_that_leaks_a_value_takes_it_back_when_it_is_closed() -> None:
    def stream() -> Iterator[int]:
        with custom_context(a="1"):
            yield 1

    generator = stream()
    next(generator)
    assert get_custom_context() == {"a": "1"}  # Python gives a generator no context of its own
    generator.close()  # type: ignore[attr-defined]
    assert get_custom_context() == {}


@pytest.mark.parametrize("make", [lambda: custom_context(a="1"), lambda: group("a"), lambda: Context().replace(group=("a",))])
def test_leaving_a_block_in_another_context_never_raises_and_changes_nothing_there(make: Any) -> None:
    block = make()
    copy_context().run(block.__enter__)
    with custom_context(here="1"):
        block.__exit__(None, None, None)
        assert get_custom_context() == {"here": "1"}
    assert Context.current().group == ()


def test_blocks_of_two_generators_left_out_of_order_never_raise() -> None:
    def stream(name: str) -> Iterator[int]:
        with custom_context(**{name: "1"}):
            yield 1

    def both() -> None:
        first, second = stream("first"), stream("second")
        next(first)
        next(second)
        first.close()  # type: ignore[attr-defined]
        assert get_custom_context() == {}
        second.close()  # type: ignore[attr-defined]

    copy_context().run(both)
    assert get_custom_context() == {}


# contextual_run


def test_contextual_run_hides_what_is_set_inside() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="outside")

    async def inside(value: str, *, twice: bool) -> str:
        variable.set(value * 2 if twice else value)
        custom_context(left="1").__enter__()
        return variable.get()

    async def main() -> None:
        with custom_context(a="1"):
            assert await contextual_run(inside, "x", twice=True) == "xx"
            assert variable.get() == "outside"
            assert get_custom_context() == {"a": "1"}

    asyncio.run(main())


def test_contextual_run_shows_what_is_set_outside_and_passes_errors_on() -> None:
    async def inside() -> None:
        assert get_custom_context() == {"a": "1"}
        raise KeyError("inside")

    async def main() -> None:
        with custom_context(a="1"), pytest.raises(KeyError, match="inside"):
            await contextual_run(inside)

    asyncio.run(main())


def test_contextual_run_takes_a_task() -> None:
    async def main() -> dict[str, str]:
        with custom_context(a="1"):
            return await contextual_run(seen)

    assert asyncio.run(main()) == {"a": "1"}


def test_contextual_run_cancelled_cancels_what_is_inside() -> None:
    async def main() -> bool:
        began, ended = asyncio.Event(), asyncio.Event()

        async def inside() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        outer = asyncio.create_task(contextual_run(inside))
        await began.wait()
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        return ended.is_set()

    assert asyncio.run(main())
