"""What `pip install holdfast` gives to pytest: fixtures made of `holdfast.testing`.

It stands beside the package and not in it, because to import a part of a package is to import the package: a pytest that starts where
Holdfast happens to be installed loads none of it. Each fixture loads what it needs when a test first asks for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

if TYPE_CHECKING:
    from holdfast import Store, TaskContext
    from holdfast.testing import Clock, FaultyBucket

R = TypeVar("R")

#: Orders in which a test that asks for a seed is run, where nobody says how many.
SEEDS: Final = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("holdfast", "Holdfast: orders of tasks")
    group.addoption("--holdfast-seeds", type=int, default=SEEDS, metavar="N", help=f"how many orders to try (default: {SEEDS})")
    group.addoption("--holdfast-seed", type=int, default=None, metavar="SEED", help="try this order alone, which a failure named")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "holdfast_seed" in metafunc.fixturenames:
        option = metafunc.config.option
        seeds = range(option.holdfast_seeds) if option.holdfast_seed is None else [option.holdfast_seed]
        metafunc.parametrize("holdfast_seed", seeds, ids=[f"seed-{seed}" for seed in seeds])


@pytest.fixture
def holdfast_store() -> Store:
    """A new store in memory."""
    store: Store = _testing().memory_store()
    return store


@pytest.fixture
def holdfast_bucket() -> FaultyBucket:
    """A new object store in memory, which fails as it is told by `holdfast_bucket.add(Fault(...))`."""
    kit = _testing()
    bucket: FaultyBucket = kit.FaultyBucket(kit.MemoryBucket())
    return bucket


@pytest.fixture
def holdfast_bucket_store(holdfast_bucket: FaultyBucket) -> Store:
    """A store on `holdfast_bucket`."""
    store: Store = _testing().bucket_store(bucket=holdfast_bucket)
    return store


@pytest.fixture
def holdfast_clock() -> Generator[Clock]:
    """Virtual time, in force during the test."""
    clock: Clock = _testing().Clock()
    with clock.use():
        yield clock


@pytest.fixture
def holdfast_no_backoff() -> Generator[None]:
    """During the test, retries follow at once."""
    with _testing().no_backoff():
        yield


@pytest.fixture
def holdfast_ctx() -> Callable[..., AbstractContextManager[TaskContext]]:
    """`task_context`: `with holdfast_ctx(attempt_number=2, checkpoint=41):`, in an async test as well as in a plain one."""
    task_context: Callable[..., AbstractContextManager[TaskContext]] = _testing().task_context
    return task_context


@pytest.fixture
def holdfast_shuffled(holdfast_seed: int) -> Callable[[Callable[[], Coroutine[Any, Any, R]]], R]:
    """Runs `main()` in an order of its tasks that the seed chooses, in virtual time. A test that asks for it runs once for each seed."""
    run_shuffled = _testing().run_shuffled

    def run(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        value: R = run_shuffled(main, holdfast_seed)
        return value

    return run


def _testing() -> Any:
    return importlib.import_module("holdfast.testing")
