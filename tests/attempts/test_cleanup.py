"""What attempts do on their way out: they get the grace for it, and what goes wrong there is kept beside the end, never in its place."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from turns import until

from holdfast import AttemptState, Retry, Status, Timeout, ctx, custom_context, get_custom_context, run, start, task
from holdfast.errors import ActionEnded, CleanupFailed, InvalidOption, RunCancelled, RunStopped, TaskTimedOut
from holdfast.folders.memory import MemoryDisk
from holdfast.testing import run_shuffled
from holdfast.testing.stores import memory_store

SHORT = 0.03
LONG = 30.0
AT_ONCE = Retry(2, initial_interval=0)

disk = MemoryDisk()
did: list[object] = []
release = threading.Event()


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    global disk
    disk = MemoryDisk()
    did.clear()
    release.clear()
    yield
    release.set()


def attempts_of(name: str) -> list[AttemptState]:
    state = memory_store(disk).state_sync("it")
    return [attempt for action in state.actions.values() if action.task_name.endswith(f":{name}") for attempt in action.attempts]


def recorded() -> tuple[str, ...]:
    return memory_store(disk).state_sync("it").warnings


# the ways out of an attempt


async def works(how: str) -> None:
    did.append("began")
    try:
        await asyncio.Event().wait()
    finally:
        for _ in range(20):
            await asyncio.sleep(0)
        did.append("cleaned up")
        if how == "raises":
            raise ValueError("in the cleaning up")


@task(name="t:plain")
async def plain(how: str) -> None:
    await works(how)


@task(name="t:plain", timeout=SHORT)
async def limited(how: str) -> None:
    await works(how)


@task(name="t:plain", timeout=Timeout(total=SHORT))
async def limited_in_all(how: str) -> None:
    await works(how)


@task(name="t:plain", timeout=LONG)
async def bounded(how: str) -> None:
    await works(how)


@task
async def fails_beside() -> None:
    await until(lambda: did)
    raise KeyError("the sibling")


@task
async def by_timeout(how: str) -> None:
    with pytest.raises(TaskTimedOut) as caught:
        await limited(how)
    did.append(getattr(caught.value, "__notes__", []))


@task
async def by_total_timeout(how: str) -> None:
    with pytest.raises(TaskTimedOut) as caught:
        await limited_in_all(how)
    did.append(getattr(caught.value, "__notes__", []))


@task
async def by_cancellation(how: str) -> None:
    call = asyncio.create_task(plain(how))
    await until(lambda: did)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@task
async def by_cancellation_of_a_bounded_one(how: str) -> None:
    call = asyncio.create_task(bounded(how))
    await until(lambda: did)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@task
async def by_wait_for(how: str) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(plain(how), SHORT)


async def both(how: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(plain(how))
        tasks.create_task(fails_beside())


@task
async def by_a_sibling_in_a_group(how: str) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await both(how)
    assert [type(error) for error in caught.value.exceptions] == [KeyError]


@task
async def fails_over_a_child(how: str) -> None:
    child = asyncio.create_task(plain(how))
    child.add_done_callback(lambda done: done.cancelled() or done.exception())
    await until(lambda: did)
    raise KeyError("the parent")


@task
async def by_its_parent(how: str) -> None:
    with pytest.raises(KeyError):
        await fails_over_a_child(how)


WAYS: dict[str, tuple[Callable[[str], Awaitable[None]], Status]] = {
    "an attempt's timeout": (by_timeout, Status.TIMED_OUT),
    "a total timeout": (by_total_timeout, Status.TIMED_OUT),
    "cancellation": (by_cancellation, Status.CANCELLED),
    "cancellation of one with a timeout": (by_cancellation_of_a_bounded_one, Status.CANCELLED),
    "wait_for": (by_wait_for, Status.CANCELLED),
    "a failing sibling": (by_a_sibling_in_a_group, Status.CANCELLED),
    "a failing parent": (by_its_parent, Status.CANCELLED),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_bodys_clean_up_may_await(way: str) -> None:
    body, status = WAYS[way]
    asyncio.run(run(body("well"), run_name="it", store=memory_store(disk)))  # type: ignore[arg-type]
    assert did[:2] == ["began", "cleaned up"]
    assert [(attempt.status, attempt.abandoned) for attempt in attempts_of("plain")] == [(status, False)]
    assert recorded() == ()


@pytest.mark.parametrize("way", WAYS)
def test_what_a_clean_up_raises_does_not_take_the_place_of_what_ended_the_attempt(way: str) -> None:
    body, status = WAYS[way]
    with pytest.warns(CleanupFailed, match="t:plain: its clean-up raised ValueError: in the cleaning up"):
        asyncio.run(run(body("raises"), run_name="it", store=memory_store(disk)))  # type: ignore[arg-type]
    assert [(attempt.status, attempt.abandoned) for attempt in attempts_of("plain")] == [(status, False)]
    assert recorded() == ("t:plain: its clean-up raised ValueError: in the cleaning up",)
    if status is Status.TIMED_OUT:
        assert did[-1] == ["besides, on the way out: its clean-up raised ValueError: in the cleaning up"]
        error = attempts_of("plain")[0].error
        assert isinstance(error, TaskTimedOut)
        assert error.__notes__ == did[-1], "on record too"


@task
async def asks_for_plain(how: str) -> None:
    await plain(how)


@pytest.mark.parametrize("body", [plain, bounded, asks_for_plain])
@pytest.mark.parametrize(("verb", "status"), [("stop", Status.STOPPED), ("cancel", Status.CANCELLED)])
@pytest.mark.parametrize("how", ["well", "raises"])
def test_a_run_that_is_ended_gives_its_bodies_the_grace_and_ends_as_it_was_asked_to(body: Any, verb: str, status: Status, how: str) -> None:
    async def main() -> None:
        handle = await start(body(how), run_name="it", store=memory_store(disk))
        await until(lambda: did)
        await getattr(handle, verb)()
        with pytest.raises((RunStopped, RunCancelled)):
            await handle.result()

    if how == "raises":
        with pytest.warns(CleanupFailed):
            asyncio.run(main())
    else:
        asyncio.run(main())
    assert did == ["began", "cleaned up"]
    assert [attempt.status for attempt in attempts_of("plain")] == [status]
    assert len(recorded()) == (how == "raises")


@pytest.mark.parametrize("body", [limited, limited_in_all])
def test_it_is_so_outside_a_run_too(body: Any) -> None:
    with pytest.warns(CleanupFailed), pytest.raises(TaskTimedOut) as caught:
        asyncio.run(body("raises"))
    assert len(caught.value.__notes__) == 1


def test_a_cancelled_call_outside_a_run_stays_cancelled() -> None:
    async def main() -> None:
        call = asyncio.create_task(plain("raises"))
        await until(lambda: did)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    with pytest.warns(CleanupFailed):
        asyncio.run(main())


@task(timeout=SHORT)
async def cleans_up_for_ever() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        while not release.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                did.append("cancelled again")


def test_a_clean_up_that_outlasts_the_grace_is_abandoned() -> None:
    async def main() -> None:
        with pytest.raises(TaskTimedOut):
            await run(cleans_up_for_ever(), run_name="it", store=memory_store(disk), grace=0.05)
        release.set()  # else the loop waits for it

    asyncio.run(main())
    assert [(attempt.status, attempt.abandoned) for attempt in attempts_of("cleans_up_for_ever")] == [(Status.TIMED_OUT, True)]


# what came first


@task
async def ends_slowly() -> None:
    did.append("began")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(4 * SHORT)
        did.append("ended")


@task(timeout=SHORT)
async def fails_before_its_time_is_over() -> None:
    child = asyncio.create_task(ends_slowly())
    child.add_done_callback(lambda done: done.cancelled() or done.exception())
    await until(lambda: did)
    raise ValueError("first")


def test_a_failure_stands_though_the_timeout_passes_while_the_attempt_winds_up() -> None:
    with pytest.raises(ValueError, match="first"):
        run_shuffled(lambda: run(fails_before_its_time_is_over(), run_name="it", store=memory_store(disk)), seed=1)
    assert did == ["began", "ended"]
    assert [attempt.status for attempt in attempts_of("fails_before_its_time_is_over")] == [Status.FAILED]


@task
async def fails_soon() -> None:
    await ctx().now()
    raise ConnectionError("a child")


@task(retries=AT_ONCE)
async def fails_by_a_group_once() -> str:
    did.append(ctx().attempt_number)
    if ctx().attempt_number == 0:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(LONG))
            tasks.create_task(fails_soon())
    return "in the second"


@task
async def survives_a_group() -> str:
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(LONG))
            tasks.create_task(fails_soon())
    except ExceptionGroup:
        pass
    raise ValueError("its own")


@task
async def asks(what: str) -> str:
    return await (fails_by_a_group_once() if what == "retry" else survives_a_group())


@pytest.mark.parametrize("call", [lambda: fails_by_a_group_once(), lambda: asks("retry")])
def test_an_attempt_that_a_group_failed_was_not_cancelled_and_is_tried_again(call: Any) -> None:
    assert asyncio.run(run(call(), run_name="it", store=memory_store(disk))) == "in the second"
    assert did == [0, 1]


@pytest.mark.parametrize("call", [lambda: survives_a_group(), lambda: asks("fail")])
def test_what_a_body_raises_after_a_group_failed_is_its_own_failure(call: Any) -> None:
    with pytest.raises(ValueError, match="its own"):
        asyncio.run(run(call(), run_name="it", store=memory_store(disk)))
    assert [attempt.status for attempt in attempts_of("survives_a_group")] == [Status.FAILED]


@task(timeout=SHORT, retries=AT_ONCE)
async def cleans_up_badly_once() -> str:
    if ctx().attempt_number == 0:
        await works("raises")
    return "in the second"


def test_a_timed_out_attempt_with_a_broken_clean_up_is_tried_again() -> None:
    with pytest.warns(CleanupFailed):
        assert asyncio.run(run(cleans_up_badly_once(), run_name="it", store=memory_store(disk))) == "in the second"
    assert [attempt.status for attempt in attempts_of("cleans_up_badly_once")] == [Status.TIMED_OUT, Status.COMPLETED]


# def bodies


@task
async def never() -> None:
    did.append("waits")
    await asyncio.Event().wait()


@task
def waits_for_a_child() -> None:
    try:
        never.sync()
    finally:
        did.append("cleaned up")
        raise ValueError("in the cleaning up")


def test_a_def_body_whose_child_is_cancelled_with_it_is_STOPPED_whatever_its_clean_up_raises() -> None:
    async def main() -> None:
        handle = await start(waits_for_a_child.call(), run_name="it", store=memory_store(disk))
        await until(lambda: did)
        await handle.stop()

    with pytest.warns(CleanupFailed):
        asyncio.run(main())
    assert did == ["waits", "cleaned up"]
    assert [attempt.status for attempt in attempts_of("waits_for_a_child")] == [Status.STOPPED]


@task
def fails_when_it_is_to_stop() -> None:
    did.append("began")
    while not ctx().stopping:
        time.sleep(0.001)
    raise ValueError("its own")


def test_a_def_body_that_raises_of_its_own_while_the_run_stops_has_FAILED() -> None:
    async def main() -> None:
        handle = await start(fails_when_it_is_to_stop.call(), run_name="it", store=memory_store(disk))
        await until(lambda: did)
        await handle.stop()

    asyncio.run(main())
    assert [attempt.status for attempt in attempts_of("fails_when_it_is_to_stop")] == [Status.FAILED]


# hooks


def note(*what: object) -> None:
    did.append(what[0] if len(what) == 1 else what)


async def note_later(what: object) -> None:
    await asyncio.sleep(0)
    did.append(what)


def register() -> None:
    ctx().on_exit(note, "sync")
    ctx().on_exit(note_later, "async")
    ctx().on_exit(note, "with", "more")
    ctx().on_exit(lambda what: note_later(what), what="awaitable")


ALL = ["awaitable", ("with", "more"), "async", "sync"]


async def leaves(how: str) -> str:
    register()
    if how == "fails":
        raise KeyError("it")
    if how == "hangs":
        await asyncio.Event().wait()
    return "done"


@task(retries=AT_ONCE)
async def fails_once() -> str:
    return await leaves("fails" if ctx().attempt_number == 0 else "returns")


@task(timeout=SHORT)
async def times_out() -> str:
    return await leaves("hangs")


@task
async def is_not_kept() -> str:
    register()
    return object()  # type: ignore[return-value]


@task
def fails_in_a_thread() -> str:
    register()
    raise KeyError("it")


@task
async def returns() -> str:
    return await leaves("returns")


@pytest.mark.parametrize("is_durable", [True, False], ids=["in a run", "outside"])
@pytest.mark.parametrize(
    ("call", "error"),
    [(fails_once.call, None), (times_out.call, TaskTimedOut), (fails_in_a_thread.call, KeyError)],
    ids=["fails", "times out", "def"],
)
def test_hooks_are_called_newest_first_when_an_attempt_does_not_return(
    call: Callable[[], Any], error: type[Exception] | None, is_durable: bool
) -> None:
    def go() -> None:
        if is_durable:
            asyncio.run(run(call(), run_name="it", store=memory_store(disk)))
        else:
            asyncio.run(_awaited(call()))

    if error is None:
        go()
    else:
        with pytest.raises(error):
            go()
    assert did == ALL


async def _awaited(call: Awaitable[object]) -> object:
    return await call


def test_hooks_are_called_where_what_was_returned_can_not_be_kept() -> None:
    with pytest.raises(TypeError):
        asyncio.run(run(is_not_kept(), run_name="it", store=memory_store(disk)))
    assert did == ALL


def test_hooks_are_not_called_when_an_attempt_returns() -> None:
    assert asyncio.run(run(returns(), run_name="it", store=memory_store(disk))) == "done"
    assert did == []


@task
async def hangs_with_hooks() -> None:
    ctx().on_exit(note_later, "hook")
    did.append("began")
    try:
        await asyncio.Event().wait()
    finally:
        did.append("finally")


@task
async def cancels_one_with_hooks() -> None:
    call = asyncio.create_task(hangs_with_hooks())
    await until(lambda: did)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def test_hooks_of_a_cancelled_attempt_come_after_its_own_clean_up_and_before_its_caller_goes_on() -> None:
    asyncio.run(run(cancels_one_with_hooks(), run_name="it", store=memory_store(disk)))
    assert did == ["began", "finally", "hook"]


@pytest.mark.parametrize(("verb", "status"), [("stop", Status.STOPPED), ("cancel", Status.CANCELLED)])
def test_hooks_are_called_when_the_run_is_ended(verb: str, status: Status) -> None:
    async def main() -> None:
        handle = await start(hangs_with_hooks(), run_name="it", store=memory_store(disk))
        await until(lambda: did)
        await getattr(handle, verb)()

    asyncio.run(main())
    assert did == ["began", "finally", "hook"]
    assert [attempt.status for attempt in attempts_of("hangs_with_hooks")] == [status]


@task
async def has_a_child_and_hooks() -> None:
    ctx().on_exit(note, "parent's hook")
    child = asyncio.create_task(hangs_with_hooks())
    child.add_done_callback(lambda done: done.cancelled() or done.exception())
    await until(lambda: did)
    raise KeyError("it")


def test_hooks_are_called_when_the_actions_have_ended_that_the_body_began() -> None:
    with pytest.raises(KeyError):
        asyncio.run(run(has_a_child_and_hooks(), run_name="it", store=memory_store(disk)))
    assert did == ["began", "finally", "hook", "parent's hook"]


def breaks(what: str) -> None:
    raise RuntimeError(what)


async def leaves_the_process() -> None:
    raise SystemExit(3)


async def cancels_itself() -> None:
    raise asyncio.CancelledError


async def leaves_with_broken_hooks(how: str) -> None:
    ctx().on_exit(note, "still called")
    ctx().on_exit(breaks, "one")
    ctx().on_exit(leaves_the_process)
    ctx().on_exit(cancels_itself)
    await leaves_plainly(how)


async def leaves_plainly(how: str) -> None:
    if how == "fails":
        raise KeyError("first")
    await asyncio.Event().wait()


@task(timeout=SHORT)
async def has_broken_hooks(how: str) -> None:
    await leaves_with_broken_hooks(how)


@pytest.mark.parametrize(("how", "kind"), [("fails", KeyError), ("hangs", TaskTimedOut)])
def test_what_hooks_raise_is_recorded_and_noted_on_the_error_and_never_raised_over_it(how: str, kind: type[Exception]) -> None:
    with pytest.warns(CleanupFailed) as warned, pytest.raises(kind) as caught:
        asyncio.run(run(has_broken_hooks(how), run_name="it", store=memory_store(disk)))
    texts = [
        "on_exit cancels_itself raised CancelledError: ",
        "on_exit leaves_the_process raised SystemExit: 3",
        "on_exit breaks raised RuntimeError: one",
    ]
    assert caught.value.__notes__ == [f"besides, on the way out: its {text}" for text in texts]
    assert [warning.partition(": ")[2] for warning in recorded()] == [f"its {text}" for text in texts]
    assert len(warned) == 3
    assert did == ["still called"]
    (attempt,) = attempts_of("has_broken_hooks")
    assert attempt.error is not None
    assert attempt.error.__notes__ == caught.value.__notes__


async def hook_that_looks(seen: list[object]) -> None:
    seen += [ctx().attempt_number, ctx().custom_context["tenant"], get_custom_context()["inner"], ctx().action.name]
    for verb in (never, ctx().now, lambda: ctx().checkpoint.save(1), lambda: ctx().sleep(1)):
        try:
            await verb()
        except ActionEnded:
            seen.append("refused")
    for plain_verb in (lambda: ctx().progress(), lambda: ctx().figure("a", b"x"), lambda: ctx().on_exit(note)):
        try:
            plain_verb()
        except ActionEnded:
            seen.append("refused")


def sync_hook_that_looks(seen: list[object]) -> None:
    seen += [ctx().attempt_number, ctx().custom_context["tenant"], get_custom_context()["inner"], ctx().action.name]
    for verb in (never.sync, ctx().now_sync, lambda: ctx().checkpoint.save_sync(1)):
        try:
            verb()
        except ActionEnded:
            seen.append("refused")


@task
async def is_looked_at() -> None:
    seen: list[object] = []
    did.extend([seen, ctx().action.name])
    with custom_context(inner="here"):
        ctx().on_exit(hook_that_looks if custom_is_async else sync_hook_that_looks, seen)
    raise KeyError("it")


custom_is_async = True


@pytest.mark.parametrize(("is_async", "refusals"), [(True, 7), (False, 3)])
def test_in_a_hook_ctx_is_the_attempts_and_begins_nothing(is_async: bool, refusals: int) -> None:
    global custom_is_async
    custom_is_async = is_async
    with pytest.raises(KeyError), custom_context(tenant="arxiv"):
        asyncio.run(run(is_looked_at(), run_name="it", store=memory_store(disk)))
    seen, name = did
    assert seen == [0, "arxiv", "here", name, *["refused"] * refusals]


@task
async def registers_nonsense() -> None:
    with pytest.raises(InvalidOption, match="hook="):
        ctx().on_exit("no function")  # type: ignore[arg-type]
    did.append(ctx())


def test_what_can_not_be_called_is_no_hook_and_an_ended_attempt_takes_none() -> None:
    asyncio.run(run(registers_nonsense(), run_name="it", store=memory_store(disk)))
    with pytest.raises(ActionEnded):
        did[0].on_exit(note)  # type: ignore[attr-defined]


# hooks and def bodies


@task(timeout=1.0)
def waits_for_a_process(program: str) -> str:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    ctx().on_exit(process.terminate)
    did.append(process)
    try:
        output, _ = process.communicate()
    finally:
        did.append(process.returncode)
    return output.decode()


def test_a_def_body_that_waits_for_a_process_ends_by_a_hook_that_ends_the_process() -> None:
    began = time.monotonic()
    with pytest.raises(TaskTimedOut):
        asyncio.run(run(waits_for_a_process.call("import time; time.sleep(600)"), run_name="it", store=memory_store(disk)))
    assert time.monotonic() - began < LONG
    assert did[1] == -signal.SIGTERM
    (attempt,) = attempts_of("waits_for_a_process")
    assert (attempt.status, attempt.abandoned) == (Status.TIMED_OUT, False), "though it returned something in the end"
    assert recorded() == ()


@task
def asks_a_process() -> str:
    text: str = waits_for_a_process.fn("print('in time')")
    return text


def test_a_process_that_ends_by_itself_is_left_alone() -> None:
    assert asyncio.run(run(asks_a_process.call(), run_name="it", store=memory_store(disk))) == "in time\n"
    assert did[1] == 0


@task(timeout=1.0)
def checks_a_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    ctx().on_exit(process.kill)
    subprocess_ended(process)


def subprocess_ended(process: subprocess.Popen[bytes]) -> None:
    if code := process.wait():
        raise subprocess.CalledProcessError(code, "it")


def test_what_a_def_body_makes_of_its_hooks_is_a_note_and_no_failure_of_its_own() -> None:
    with pytest.raises(TaskTimedOut) as caught:
        asyncio.run(run(checks_a_process.call(), run_name="it", store=memory_store(disk)))
    assert [note.startswith("besides, on the way out: its body raised CalledProcessError") for note in caught.value.__notes__] == [True]
    assert recorded() == ()


@task
def waits_until_released() -> str:
    ctx().on_exit(release.set)
    did.append("began")
    assert release.wait(LONG)
    return "something"


@task
async def cancels_a_thread() -> None:
    call = asyncio.create_task(waits_until_released.call())
    await until(lambda: did)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def test_a_cancelled_def_body_ends_by_its_hook_and_what_it_returns_then_counts_for_nothing() -> None:
    asyncio.run(run(cancels_a_thread(), run_name="it", store=memory_store(disk)))
    assert [(attempt.status, attempt.abandoned) for attempt in attempts_of("waits_until_released")] == [(Status.CANCELLED, False)]


def test_a_stopped_def_body_ends_by_its_hook_long_before_the_grace_is_over() -> None:
    async def main() -> None:
        handle = await start(waits_until_released.call(), run_name="it", store=memory_store(disk), grace=LONG)
        await until(lambda: did)
        await handle.stop()

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < LONG / 2
    assert [(attempt.status, attempt.abandoned) for attempt in attempts_of("waits_until_released")] == [(Status.STOPPED, False)]


@task(timeout=0.3)
def registers_too_late() -> str:
    ctx().on_exit(note, "first")
    while not did:
        time.sleep(0.001)
    ctx().on_exit(release.set)  # while it is ended already
    assert release.wait(LONG)
    return "something"


def test_a_hook_that_a_thread_registers_while_it_is_ended_is_called_at_once() -> None:
    with pytest.raises(TaskTimedOut):
        asyncio.run(run(registers_too_late.call(), run_name="it", store=memory_store(disk)))
    assert release.is_set()


@task(timeout=0.3)
def hangs_in_spite_of_its_hook() -> None:
    ctx().on_exit(note, "called")
    release.wait(LONG)


def test_a_thread_that_its_hooks_do_not_end_is_abandoned_after_the_grace() -> None:
    with pytest.raises(TaskTimedOut):
        asyncio.run(run(hangs_in_spite_of_its_hook.call(), run_name="it", store=memory_store(disk), grace=0.5))
    assert did == ["called"]
    assert [attempt.abandoned for attempt in attempts_of("hangs_in_spite_of_its_hook")] == [True]


# what does not end


@task(timeout=SHORT)
async def deaf(then: str) -> str:
    ctx().on_exit(release.set)
    while not release.is_set():
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            did.append("deaf")
    if then == "raises":
        raise ValueError("since the hook was called")
    return "since the hook was called"


@pytest.mark.parametrize("then", ["returns", "raises"])
def test_hooks_of_a_coroutine_that_does_not_end_are_called_before_it_is_abandoned(then: str) -> None:
    def go() -> None:
        with pytest.raises(TaskTimedOut):
            asyncio.run(run(deaf(then), run_name="it", store=memory_store(disk), grace=0.8))

    if then == "raises":
        with pytest.warns(CleanupFailed, match="since the hook was called"):
            go()
    else:
        go()
    assert did == ["deaf"]
    assert [(attempt.status, attempt.abandoned) for attempt in attempts_of("deaf")] == [(Status.TIMED_OUT, False)]


@task
async def deaf_to_all() -> None:
    ctx().on_exit(note, "hook")
    did.append("began")
    while not release.is_set():
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            pass


@task
async def leaves_a_deaf_child() -> None:
    child = asyncio.create_task(deaf_to_all())
    child.add_done_callback(lambda done: done.cancelled() or done.exception())
    await until(lambda: did)
    raise KeyError("it")


@pytest.mark.parametrize("how", ["stop", "parent"])
def test_hooks_of_what_is_abandoned_are_called_before(how: str) -> None:
    async def main() -> None:
        if how == "parent":
            with pytest.raises(KeyError):
                await run(leaves_a_deaf_child(), run_name="it", store=memory_store(disk), grace=0.8)
        else:
            handle = await start(deaf_to_all(), run_name="it", store=memory_store(disk), grace=0.8)
            await until(lambda: did)
            await handle.stop()
            with pytest.raises(RunStopped):
                await handle.result()
        assert did == ["began", "hook"]
        release.set()
        await asyncio.sleep(0.005)

    asyncio.run(main())
    assert [attempt.abandoned for attempt in attempts_of("deaf_to_all")] == [True]


async def never_ends() -> None:
    await asyncio.Event().wait()


@task
async def has_a_hook_that_hangs() -> None:
    ctx().on_exit(note, "still called")
    ctx().on_exit(never_ends)
    ctx().on_exit(release.wait, LONG)
    raise KeyError("it")


def test_a_hook_that_hangs_leaves_something_of_the_grace_to_the_others() -> None:
    began = time.monotonic()
    with pytest.warns(CleanupFailed) as warned, pytest.raises(KeyError):
        asyncio.run(run(has_a_hook_that_hangs(), run_name="it", store=memory_store(disk), grace=0.9))
    assert time.monotonic() - began < LONG / 2
    assert did == ["still called"]
    assert sum("did not end within its share of the grace" in str(each.message) for each in warned) == 2


@task
async def is_hurried() -> None:
    ctx().on_exit(never_ends)
    ctx().on_exit(note, "called")
    did.append("began")
    await asyncio.Event().wait()


def test_a_second_signal_does_not_wait_for_hooks() -> None:
    async def main() -> None:
        running = asyncio.create_task(run(is_hurried(), run_name="it", store=memory_store(disk), grace=LONG))
        await until(lambda: did)
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: "called" in did)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(RunStopped):
            await running

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < LONG / 2
    assert [attempt.status for attempt in attempts_of("is_hurried")] == [Status.STOPPED]
