"""What can't be a task, and options that a task can't have: refused where they are written, with the remedy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast import Rate, Retry, Timeout, task
from holdfast.errors import InvalidOption, InvalidTask


async def plain(x: int = 0) -> int:
    return x


def numbers() -> Any:
    yield 1


async def numbers_later() -> Any:
    yield 1


class Thing: ...


class Functor:
    async def __call__(self) -> None: ...


def closing() -> Callable[[], Any]:
    tenant, limit = "a", 3

    def work() -> Any:
        return tenant, limit

    return work


def classmethod_over_a_task() -> None:
    class Kind:
        @classmethod
        @task(name="t")
        def make(cls) -> None: ...

    Kind.make()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: task(numbers), r"numbers.*generator.*return a list"),
        (lambda: task(numbers_later), r"numbers_later.*generator.*return a list"),
        (lambda: task(functools.partial(numbers), name="n"), "generator"),  # type: ignore[call-overload]
        (lambda: task(classmethod(plain)), "a classmethod.*plain function or method"),  # type: ignore[arg-type]
        (lambda: task(staticmethod(plain)), "a staticmethod.*plain function or method"),
        (classmethod_over_a_task, "make, a @classmethod,.*make it a method"),
        (lambda: task(Thing), "Thing.*a task is a function"),
        (lambda: task(3), "3.*a task is a function"),  # type: ignore[call-overload]
        (lambda: task("name"), "name.*a task is a function"),  # type: ignore[call-overload]
        (lambda: task(lambda: 1), "lambda.*no name of its own.*name="),
        (lambda: task(functools.partial(plain, 1)), "no name of its own.*name="),
        (lambda: task(closing()), "closes over limit, tenant.*name="),
        (lambda: task(task(plain)), "task already.*with_options"),
        (lambda: task(Functor()), "a task is a function"),
        (lambda: task(Functor(), name="n"), "a task is a function"),  # type: ignore[call-overload]
    ],
)  # fmt: skip
def test_what_can_t_be_a_task_is_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(InvalidTask, match=says):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: task(name="lambda")(lambda: 1),
        lambda: task(name="partial")(functools.partial(plain, 1)),
        lambda: task(name="closing")(closing()),
        lambda: task()(plain),
        lambda: task(plain),
    ],
)
def test_with_a_name_they_can(make: Callable[[], Any]) -> None:
    assert make().name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retry": 3}, "retry=3: there is no such option; .*retries"),
        ({"retries": -1}, "retries=-1: .*at least 0"),
        ({"retries": 1.5}, "retries=1.5: .*whole number"),
        ({"retries": True}, "retries=True: .*whole number"),
        ({"timeout": 0}, "=0: give seconds above 0"),
        ({"timeout": -1}, "=-1: give seconds above 0"),
        ({"timeout": float("nan")}, "finite"),
        ({"timeout": timedelta(0)}, "seconds above 0"),
        ({"timeout": "60"}, "='60': give seconds as a number"),
        ({"name": ""}, "name='': .*not empty"),
        ({"name": None}, "name=None: .*str"),
        ({"version": 2}, "version=2: .*str"),
        ({"key": "id"}, "key='id': .*function"),
        ({"context_keys": "tenant"}, r"context_keys='tenant': .*\('tenant',\)"),
        ({"context_keys": (1,)}, "context_keys=.*names"),
        ({"context_keys": range(1)}, "context_keys=.*names"),
        ({"context_keys": 3}, "context_keys=3.*names"),
        ({"concurrency": 0}, "concurrency=0: .*from 1 up"),
        ({"concurrency": True}, "concurrency=True"),
        ({"concurrency": "3"}, "concurrency='3'.*Rate"),
        ({"codec": "json"}, "codec='json': choose one of auto, pickle"),
        ({"codec": []}, r"codec=\[\]: choose one of auto, pickle"),
        ({"keep": 0}, "keep=0: .*from 1 up"),
        ({"on_crash": "retry"}, "on_crash='retry': choose one of rerun, fail"),
    ],
    ids=str,
)
def test_an_option_that_it_can_t_have_is_refused_before_the_function_is_seen(options: dict[str, Any], says: str) -> None:
    for refused in (lambda: task(**options), lambda: task(plain).with_options(**options)):
        with pytest.raises(InvalidOption, match=says):
            refused()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Retry(0), "max_attempts=0: give at least 1"),
        (lambda: Timeout(attempt=0), "attempt=0: give seconds above 0"),
        (lambda: Timeout(total=-1), "total=-1: give seconds above 0"),
        (lambda: Rate(0), "count=0: give at least 1"),
        (lambda: Rate(1, per=0), "per=0: give seconds above 0"),
        (lambda: Rate(1, concurrency=0), "concurrency=0: give at least 1"),
    ],
)
def test_a_policy_that_can_t_be_is_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        make()


def test_a_static_method_over_a_task_is_fine() -> None:
    class Kind:
        @staticmethod
        @task(name="static")
        def work(n: int) -> int:
            return n + 1

    assert Kind.work(1) == 2
    assert Kind().work(1) == 2


def test_context_keys_may_come_from_any_iterable() -> None:
    assert task(plain).with_options(context_keys=iter(("b", "a", "b"))).definition.policy.context_keys == ("a", "b")  # type: ignore[typeddict-item]
