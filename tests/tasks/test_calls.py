"""A call is a coroutine wherever asyncio takes one, and a task a function of its colour."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import warnings
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from holdfast import Call, ctx, run_sync, task
from holdfast.errors import InvalidCall, UnstableInput


@task
async def double(n: int) -> int:
    await asyncio.sleep(0)
    return n * 2


@task
def halve(n: int, *, by: int = 2) -> int:
    return n // by


@task(name="forever")
async def forever() -> None:
    await asyncio.Event().wait()


# where asyncio takes a coroutine


async def by_await() -> Any:
    return [await double(1), await double(2)]


async def by_gather() -> Any:
    return await asyncio.gather(double(1), double(2))


async def by_create_task() -> Any:
    return [await asyncio.create_task(double(1)), await asyncio.get_running_loop().create_task(double(2))]


async def by_task_group() -> Any:
    async with asyncio.TaskGroup() as together:
        tasks = [together.create_task(double(n)) for n in (1, 2)]
    return [t.result() for t in tasks]


async def by_wait_for() -> Any:
    return [await asyncio.wait_for(double(1), 10), await asyncio.wait_for(double(2), None)]


async def by_ensure_future() -> Any:
    return [await asyncio.ensure_future(double(1)), await asyncio.ensure_future(double(2))]


async def by_as_completed() -> Any:
    return sorted([await done for done in asyncio.as_completed([double(1), double(2)])])


async def by_wait() -> Any:
    done, _ = await asyncio.wait([asyncio.create_task(double(n)) for n in (1, 2)])
    return sorted(t.result() for t in done)


async def by_shield() -> Any:
    return [await asyncio.shield(double(1)), await asyncio.shield(double(2))]


async def by_timeout() -> Any:
    async with asyncio.timeout(10):
        return [await double(1), await double(2)]


async def by_run_coroutine_threadsafe() -> Any:
    loop = asyncio.get_running_loop()
    return await asyncio.to_thread(lambda: [asyncio.run_coroutine_threadsafe(double(n), loop).result() for n in (1, 2)])


async def by_start_soon() -> Any:
    found: list[int] = []

    async def keep(n: int) -> None:
        found.append(await double(n))

    async with anyio.create_task_group() as together:
        together.start_soon(double, 1)
        for n in (1, 2):
            together.start_soon(keep, n)
    return sorted(found)


async def by_anyio_cancel_scope() -> Any:
    with anyio.fail_after(10):
        return [await double(1), await double(2)]


WAYS = [
    by_await, by_gather, by_create_task, by_task_group, by_wait_for, by_ensure_future, by_as_completed, by_wait, by_shield, by_timeout,
    by_run_coroutine_threadsafe, by_start_soon, by_anyio_cancel_scope,
]  # fmt: skip
in_a_task = {way: task(way) for way in WAYS}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_call_is_taken_outside_a_run(way: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    assert asyncio.run(way()) == [2, 4]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_call_is_taken_inside_a_run(tmp_path: Path, way: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    assert run_sync(in_a_task[way](), store=tmp_path, run_name="r", durability="flush") == [2, 4]


def test_a_call_is_taken_by_asyncio_run() -> None:
    assert asyncio.run(double(1)) == 2
    with asyncio.Runner() as runner:
        assert runner.run(double(2)) == 4


def test_a_task_is_taken_by_a_blocking_portal() -> None:
    with anyio.from_thread.start_blocking_portal() as portal:
        assert portal.call(double, 1) == 2
        assert portal.start_task_soon(double, 2).result() == 4


def test_a_call_is_awaited_in_the_very_task_that_awaits_it() -> None:
    @task(name="who")
    async def who() -> str:
        current = asyncio.current_task()
        assert current is not None
        return current.get_name()

    async def main() -> str:
        return await asyncio.create_task(who(), name="mine")

    assert asyncio.run(main()) == "mine"


@pytest.mark.parametrize("cancel", [lambda c: asyncio.wait_for(c, 0.01), lambda c: asyncio.gather(c, failing())])
def test_what_gives_up_on_a_call_cancels_it(cancel: Callable[[Any], Any]) -> None:
    ended = []

    @task(name="waits")
    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main() -> None:
        with pytest.raises((TimeoutError, KeyError)):
            await cancel(waits())

    asyncio.run(main())
    assert ended == [True]


async def failing() -> None:
    await asyncio.sleep(0)
    raise KeyError


# a call is used once, and not forgotten


def test_a_call_is_used_once() -> None:
    async def main() -> None:
        call = double(1)
        assert await call == 2
        with pytest.raises(InvalidCall, match=r"double.*used already"):
            await call

    asyncio.run(main())


def test_a_call_never_awaited_warns_with_its_task_and_line() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = (inspect.currentframe() or pytest.fail("no frame")).f_lineno + 1
        double(1)
    (warned,) = caught
    assert issubclass(warned.category, RuntimeWarning)
    assert str(warned.message) == f"call of {double.name} was never awaited"
    assert (warned.filename, warned.lineno) == (__file__, line)


@pytest.mark.parametrize("make", [lambda: double(1), lambda: double.call(1), lambda: halve.call(1), lambda: Counting(1).count(1)])
def test_a_call_closed_or_awaited_does_not_warn(make: Callable[[], Call[Any]]) -> None:
    make().close()
    asyncio.run(make())


def test_a_call_shows_what_it_is() -> None:
    call = double(1)
    assert double.name in repr(call)
    assert __file__ in call.made_at
    assert asyncio.iscoroutine(call)
    assert inspect.isawaitable(call)
    assert isinstance(call, Coroutine)
    call.close()


def test_wrong_arguments_are_refused_in_the_function_s_words() -> None:
    with pytest.raises(TypeError, match=r"double\(\) .*argument"):
        asyncio.run(double(1, 2))  # type: ignore[call-arg]


# colours


@dataclass
class Counting:
    base: int

    @task
    async def count(self, n: int, by: int = 1) -> int:
        return self.base + n * by

    @task
    def count_sync(self, n: int, by: int = 1) -> int:
        return self.base + n * by


class Opaque:
    @task
    async def read(self) -> int:
        return 1


@pytest.mark.parametrize("each", [double, Counting(1).count, Counting.count, double.with_options(retries=1)])
def test_an_async_task_is_a_coroutine_function(each: Any) -> None:
    assert inspect.iscoroutinefunction(each)
    assert asyncio.iscoroutinefunction(each)
    assert callable(each)


@pytest.mark.parametrize("each", [halve, Counting(1).count_sync, Counting.count_sync])
def test_a_def_task_is_none(each: Any) -> None:
    assert not inspect.iscoroutinefunction(each)
    assert not asyncio.iscoroutinefunction(each)


@pytest.mark.parametrize(
    ("each", "parameters"),
    [
        (double, ["n"]), (halve, ["n", "by"]), (Counting.count, ["self", "n", "by"]), (Counting(1).count, ["n", "by"]),
        (Counting(1).count_sync, ["n", "by"]), (double.with_options(name="other"), ["n"]),
    ],
)  # fmt: skip
def test_the_signature_is_the_function_s_and_without_self_where_bound(each: Any, parameters: list[str]) -> None:
    assert list(inspect.signature(each).parameters) == parameters


def test_a_task_has_the_function_s_names_and_docs() -> None:
    @task(name="documented")
    async def documented() -> None:
        """Its doc."""

    assert (documented.__name__, documented.__doc__, documented.__module__) == ("documented", "Its doc.", __name__)
    assert (double.name, double.with_options(version="2").version) == (f"{double.__module__}:double", "2")


def test_a_call_of_either_colour_is_awaited_and_sync_blocks() -> None:
    async def main() -> list[int]:
        return [await double.call(1), await halve.call(4), await halve.call(9, by=3)]

    assert asyncio.run(main()) == [2, 2, 3]
    assert (double.sync(1), halve.sync(4), halve(4), halve(9, by=3)) == (2, 2, 2, 3)


def test_fn_is_the_bare_function() -> None:
    assert asyncio.run(double.fn(1)) == 2
    assert halve.fn(4) == 2
    assert Counting(1).count_sync.fn(2) == 3
    assert asyncio.run(Counting(1).count.fn(2, by=2)) == 5

    @task(name="bare")
    def bare() -> Any:
        return ctx()

    assert bare.fn() is None
    assert bare() is not None


def test_with_options_changes_a_copy() -> None:
    other = double.with_options(retries=2, name="other")
    assert (other.name, other.definition.policy.retry.max_attempts) == ("other", 3)
    assert (double.name.endswith(":double"), double.definition.policy.retry.max_attempts) == (True, 1)
    assert asyncio.run(other(2)) == 4


# methods


def test_a_method_is_called_on_its_object() -> None:
    counting = Counting(10)
    assert asyncio.run(counting.count(1, by=2)) == 12
    assert counting.count_sync(1) == 11
    assert counting.count.sync(1) == 11
    assert asyncio.run(Counting.count(counting, 1)) == 11


def test_self_is_an_input(tmp_path: Path) -> None:
    @task(name="both")
    async def both() -> list[str]:
        calls = []
        for base in (1, 2, 1):
            call = Counting(base).where()
            calls.append(await call)
        return calls

    first, second, again = run_sync(both(), store=tmp_path, run_name="r")
    assert len({first, second, again}) == 3
    only = run_sync(Counting(2).where(), store=tmp_path, run_name="only")
    assert only not in {first, second, again}


async def _where(self: Counting) -> str:
    return str(ctx().action.name)


_where.__qualname__ = "Counting.where"
Counting.where = task(_where)  # type: ignore[attr-defined]


def test_a_self_that_can_t_be_digested_is_refused_by_name_in_a_run_and_taken_outside(tmp_path: Path) -> None:
    assert asyncio.run(Opaque().read()) == 1
    with pytest.raises(UnstableInput, match=r"argument self .*Opaque.*key="):
        run_sync(Opaque().read(), store=tmp_path, run_name="r")


# pickles


def test_tasks_orders_and_capsules_travel_by_name() -> None:
    for each in (double, halve, Counting.count, double.with_options(version="3")):
        back = pickle.loads(pickle.dumps(each))
        assert (type(back), back.name, back.version) == (type(each), each.name, each.version)
        assert back.definition.fn is each.definition.fn
    bound = pickle.loads(pickle.dumps(Counting(5).count))
    assert asyncio.run(bound(1)) == 6
    call = double.call(2)
    order = pickle.loads(pickle.dumps(call.order))
    assert (order.definition.fn, order.args, dict(order.kwargs)) == (double.fn, (2,), {})
    call.close()


def test_the_capsule_of_an_attempt_travels() -> None:
    @task(name="capsule")
    async def capsule() -> Any:
        ctx().action  # noqa: B018 - works the id out
        return ctx()._capsule

    found = asyncio.run(capsule())
    assert pickle.loads(pickle.dumps(found)) == found
