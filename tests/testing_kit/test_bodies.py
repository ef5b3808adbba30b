"""A body under test sees the attempt that it was promised, and nothing is left behind it."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path

import pytest

from holdfast import Retry, ctx, custom_context, get_custom_context, task
from holdfast.errors import ActionEnded, ForgottenAwait, InvalidContext, InvalidOption, NoRawDataPath, ResultIncompatible
from holdfast.testing import task_context


@task(retries=Retry(max_attempts=4))
async def count(limit: int) -> int:
    done = await ctx().checkpoint.load(int) or 0
    while done < limit:
        done += 1
        await ctx().checkpoint.save(done)
    return done


@task
def count_in_thread(limit: int) -> int:
    done = ctx().checkpoint.load_sync(int) or 0
    while done < limit:
        done += 1
        ctx().checkpoint.save_sync(done)
    return done


@task
async def double(n: int) -> int:
    return 2 * n


@task
def treble(n: int) -> int:
    return 3 * n


@task
async def both(n: int) -> int:
    return sum(await asyncio.gather(double(n), treble.call(n)))


def test_the_context_is_that_of_the_attempt_asked_for() -> None:
    with task_context(
        task=count, attempt_number=2, custom_context={"tenant": "a"}, raw_data_path="s3://raw", run_name="nightly"
    ) as attempt:
        assert ctx() is attempt
        assert (attempt.attempt_number, attempt.max_attempts, attempt.retries_left, attempt.durable) == (2, 4, 1, False)
        assert (attempt.action.run_name, attempt.raw_data_path) == ("nightly", "s3://raw")
        assert get_custom_context() == {"tenant": "a"}
    assert ctx() is None
    assert get_custom_context() == {}


def test_what_is_bound_around_the_block_is_seen_in_it() -> None:
    with custom_context(tenant="a", mode="x"), task_context(custom_context={"mode": "y"}):
        assert get_custom_context() == {"tenant": "a", "mode": "y"}


@pytest.mark.parametrize("payload", [b"state", b"", 41, {"a": [1, 2]}, "text"])
def test_an_earlier_attempts_checkpoint_is_there_to_load(payload: object) -> None:
    async def load() -> object:
        with task_context(attempt_number=2, checkpoint=payload):
            assert ctx().checkpoint.prev_exists()
            return await ctx().checkpoint.load(type(payload))

    assert asyncio.run(load()) == payload
    with task_context(attempt_number=2, checkpoint=payload):
        assert ctx().checkpoint.load_sync(type(payload)) == payload


def test_a_checkpoint_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    with task_context(checkpoint=tmp_path / "model") as attempt:
        assert attempt.attempt_number == 1
        loaded = attempt.checkpoint.load_sync()
        assert loaded is not None
        assert loaded.read_bytes() == b"weights"
    assert not loaded.exists(), "what was restored goes with the attempt"


def test_a_body_goes_on_from_it_in_both_colours() -> None:
    async def go_on() -> tuple[int, int]:
        with task_context(attempt_number=2, checkpoint=41) as attempt:
            result = await count.fn(42)
            return result, len(await attempt.checkpoint.history())

    assert asyncio.run(go_on()) == (42, 2)
    with task_context(attempt_number=2, checkpoint=41) as attempt:
        assert count_in_thread.fn(42) == 42
        assert len(attempt.checkpoint.history_sync()) == 2


def test_without_a_checkpoint_there_is_none() -> None:
    with task_context(attempt_number=3) as attempt:
        assert not attempt.checkpoint.prev_exists()
        assert attempt.checkpoint.load_sync() is None


def test_a_checkpoint_of_another_type_is_refused_as_in_a_run() -> None:
    with task_context(checkpoint="text") as attempt, pytest.raises(ResultIncompatible):
        attempt.checkpoint.load_sync(int)


def test_calls_inside_run_at_once() -> None:
    async def call() -> int:
        with task_context():
            return await both.fn(5) + await double(1)

    assert asyncio.run(call()) == 27
    with task_context():
        assert treble(2) + double.sync(2) == 10


def test_recorded_verbs_work_in_both_colours() -> None:
    async def verbs() -> int:
        with task_context():
            first, second = await ctx().uuid(), await ctx().uuid()
            assert first != second
            assert (await ctx().now()).tzinfo is not None
            return await ctx().record(lambda: 5)

    assert asyncio.run(verbs()) == 5
    with task_context():
        assert ctx().record_sync(lambda: 6) == 6


def test_saving_in_a_test_does_not_warn() -> None:
    with warnings.catch_warnings(), task_context():
        warnings.simplefilter("error")
        ctx().checkpoint.save_sync(1)


def test_contexts_of_two_tests_have_nothing_in_common() -> None:
    with task_context() as one:
        one.checkpoint.save_sync(1)
    with task_context() as other:
        assert other.checkpoint.load_sync(int) is None


def test_after_the_block_the_attempt_has_ended() -> None:
    with task_context() as attempt:
        pass
    with pytest.raises(ActionEnded):
        attempt.checkpoint.save_sync(1)


def test_a_forgotten_await_is_found_at_the_end() -> None:
    async def forget() -> None:
        with task_context() as attempt:
            attempt.checkpoint.save(1)  # type: ignore[unused-coroutine]

    with pytest.raises(ForgottenAwait, match="test_bodies"):
        asyncio.run(forget())


def test_what_the_body_raises_is_raised_as_itself() -> None:
    with pytest.raises(ZeroDivisionError), task_context():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"attempt_number": -1}, InvalidOption),
        ({"attempt_number": 0, "checkpoint": b""}, InvalidOption),
        ({"custom_context": {"n": 1}}, InvalidContext),
    ],
)
def test_an_attempt_that_can_not_be_is_refused(options: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error), task_context(**options):  # type: ignore[arg-type]
        pass


def test_without_a_raw_data_path_asking_for_it_is_an_error() -> None:
    with task_context(), pytest.raises(NoRawDataPath):
        _ = ctx().raw_data_path


def test_two_blocks_in_one_test_nest_and_restore() -> None:
    with task_context(attempt_number=1) as outer:
        with task_context(attempt_number=2) as inner:
            assert ctx() is inner
        assert ctx() is outer
