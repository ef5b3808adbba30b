"""The fixtures give what they say, and a pytest that starts loads nothing of Holdfast."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

PROGRAM = """
import asyncio

import pytest

from holdfast import Retry, Status, ctx, run, task
from holdfast.clocks import clock
from holdfast.errors import StoreUnavailable
from holdfast.testing import Fault


@task(retries=Retry(max_attempts=4, initial_interval=3600, max_interval=36000, jitter=False))
async def flaky():
    if ctx().attempt_number < 2:
        raise ConnectionError
    return ctx().attempt_number


@task
async def count(limit):
    done = await ctx().checkpoint.load(int) or 0
    return limit - done, ctx().attempt_number
"""


def tried(place: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run tests as a user does who has Holdfast installed, and nothing else."""
    (place / "test_program.py").write_text(PROGRAM + tests, encoding="utf-8")
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(SRC)}
    plugins = [
        "-p",
        "pytest_holdfast",
        "-p",
        "pytest_asyncio.plugin",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *plugins, *options, "test_program.py"]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=100, check=False)


def passed(place: Path, tests: str, *options: str) -> str:
    done = tried(place, tests, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_fixtures_give_what_they_say(tmp_path: Path) -> None:
    tests = """
def test_a_store_of_its_own(holdfast_store, holdfast_no_backoff):
    assert asyncio.run(run(flaky(), run_name="r", store=holdfast_store)) == 2
    assert holdfast_store.state_sync("r").status is Status.COMPLETED


def test_which_nobody_else_has(holdfast_store):
    assert holdfast_store.runs_sync() == []


def test_time_that_stands_still(holdfast_clock, holdfast_store):
    assert clock() is holdfast_clock
    asyncio.run(run(flaky(), store=holdfast_store))
    assert holdfast_clock.elapsed == pytest.approx(3 * 3600, rel=0.01)


def test_and_goes_on_afterwards(holdfast_store):
    assert clock().is_real


def test_an_object_store_that_fails(holdfast_clock, holdfast_bucket, holdfast_bucket_store):
    holdfast_bucket.add(Fault("create", "runs/*", applied=True, every=2), Fault("get", times=1))
    assert asyncio.run(run(flaky(), run_name="r", store=holdfast_bucket_store)) == 2
    assert len(holdfast_bucket.injected) > 2
    holdfast_bucket.add(Fault("*"))
    with pytest.raises(StoreUnavailable):
        asyncio.run(run(flaky(), run_name="r", store=holdfast_bucket_store))


def test_a_body_by_itself(holdfast_ctx):
    with holdfast_ctx(checkpoint=41):
        assert asyncio.run(count.fn(42)) == (1, 1)


@pytest.mark.asyncio
async def test_a_body_by_itself_on_a_loop(holdfast_ctx):
    with holdfast_ctx(attempt_number=3, checkpoint=2):
        assert await count.fn(2) == (0, 3)
"""
    assert "7 passed" in passed(tmp_path, tests)


SHUFFLED = """
@pytest.fixture
def balance():
    return {"a": 0}


def test_no_update_is_lost(holdfast_shuffled, balance):
    async def add():
        before = balance["a"]
        await asyncio.sleep(0)
        balance["a"] = before + 1

    async def twice():
        async def later():
            for _ in range(3):
                await asyncio.sleep(0)
            await add()
        await asyncio.gather(add(), later())

    holdfast_shuffled(twice)
    assert balance["a"] == 2
"""


@pytest.mark.slow
def test_a_test_that_asks_for_an_order_is_tried_in_many_and_a_failure_names_its_own(tmp_path: Path) -> None:
    done = tried(tmp_path, SHUFFLED, "--holdfast-seeds=30")
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert 0 < len(failed) < 30, done.stdout
    seed = failed[0].partition("[seed-")[2].partition("]")[0]
    again = tried(tmp_path, SHUFFLED, f"--holdfast-seed={seed}")
    assert "1 failed" in again.stdout
    assert "passed" not in again.stdout


def test_a_pytest_that_starts_loads_nothing_of_holdfast() -> None:
    program = (
        "import sys, pytest_holdfast; print([name for name in sys.modules if name.split('.')[0] in ('holdfast', 'anyio', 'pydantic')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    answer = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_kit_needs_no_pytest() -> None:
    program = "import sys; sys.modules['pytest'] = None; import holdfast.testing"
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    subprocess.run([sys.executable, "-W", "error", "-c", program], env=environment, check=True)
