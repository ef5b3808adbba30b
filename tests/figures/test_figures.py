"""Figures of a run: kept under their display path, whoever drew them, and never the reason that a task fails."""

from __future__ import annotations

import asyncio
import contextlib
import string
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from turns import until

from holdfast import ActionID, Retry, Status, Store, ctx, run, task
from holdfast.errors import (
    ActionEnded,
    AttemptAbandoned,
    FigureBroken,
    FigureNotFound,
    InvalidName,
    NotDurable,
    RunFenced,
    StoreFull,
)
from holdfast.events import AttemptEnded, FigureSaved
from holdfast.figures import display_path
from holdfast.folders.memory import MemoryDisk
from holdfast.journals.reading import read_journal
from holdfast.testing import Clock, Fault, FullDisk, bucket_store, crash_everywhere, memory_store, run_shuffled
from holdfast.testing.crashes import RUN_NAME
from holdfast.testing.places import On

SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"
AT_ONCE = Retry(2, initial_interval=0)
LONG = 30.0

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


def drawn(store: Store, run_name: str = "it") -> dict[str, list[FigureSaved]]:
    """The events of figures by path, in order."""

    async def read() -> dict[str, list[FigureSaved]]:
        found: dict[str, list[FigureSaved]] = {}
        for event in (await read_journal(store.folder.child(f"runs/{run_name}/000000"))).events():
            if isinstance(event, FigureSaved):
                found.setdefault(event.path, []).append(event)
        return found

    return asyncio.run(read())


def keys_of(store: Store) -> list[str]:
    return [entry.name for entry in asyncio.run(store.folder.walk("runs")) if "/figures/" in entry.name]


# keeping


@task
async def draws(path: str = "scans/motor") -> str:
    ctx().figure(path, SVG)
    ctx().figure(path + "-table", "<p>table</p>")
    return ctx().action.name


@task
def draws_in_a_thread(path: str = "scans/motor") -> str:
    ctx().figure(path, SVG)
    ctx().figure(path + "-table", "<p>table</p>")
    name: str = ctx().action.name
    return name


@pytest.mark.parametrize("body", [draws, draws_in_a_thread], ids=["async", "def"])
def test_a_figure_lies_in_the_store_under_its_display_path(body: Any) -> None:
    store = memory_store(disk)
    name = asyncio.run(run(body.call(), run_name="it", store=store))
    assert store.figure_sync("it", "scans/motor") == SVG.encode()
    assert store.figure_sync("it", "scans/motor.svg", action=name) == SVG.encode()
    assert store.figure_sync("it", "scans/motor-table").endswith(b"<p>table</p>")
    (event,) = drawn(store)["scans/motor.svg"]
    assert (event.media_type, event.size) == ("image/svg+xml", len(SVG))
    folder = f"it/000000/actions/{name}/figures/0000000001-000000"
    assert keys_of(store) == [f"{folder}/scans/motor-table.html", f"{folder}/scans/motor.svg"]


@task
async def asks_a_thread() -> str:
    return await draws_in_a_thread.call()


@pytest.mark.parametrize("seed", range(20))
def test_what_a_thread_drew_is_kept_in_whatever_order_the_loop_hears_of_it(seed: int) -> None:
    store = memory_store(disk)
    run_shuffled(lambda: run(asks_a_thread(), run_name="it", store=store), seed)
    assert set(drawn(store)) == {"scans/motor.svg", "scans/motor-table.html"}


@task
async def draws_one_path_thrice() -> None:
    figure = bytearray(b"<svg >1</svg>")
    ctx().figure("one", figure)
    figure[6:7] = b"2"
    await asyncio.sleep(0)
    ctx().figure("one", figure)
    figure[6:7] = b"3"
    ctx().figure("one", figure)
    figure[6:7] = b"4"


def test_of_one_path_the_last_figure_counts_as_it_was_when_it_was_given() -> None:
    store = memory_store(disk)
    asyncio.run(run(draws_one_path_thrice(), run_name="it", store=store))
    assert store.figure_sync("it", "one") == b"<svg >3</svg>"


@task(retries=AT_ONCE)
async def draws_in_each_attempt() -> None:
    ctx().figure("each", f"<p>{ctx().attempt_number}")
    if ctx().attempt_number == 0:
        ctx().figure("first", "<p>only here")
        raise ValueError("once")


def test_attempts_draw_into_folders_of_their_own_and_a_failed_ones_figures_stay() -> None:
    store = memory_store(disk)
    asyncio.run(run(draws_in_each_attempt(), run_name="it", store=store))
    assert store.figure_sync("it", "each").endswith(b"<p>1")
    assert store.figure_sync("it", "first").endswith(b"<p>only here")
    folders = {event.key.split("/figures/")[1].split("/")[0][-7:] for events in drawn(store).values() for event in events}
    assert folders == {"-000000", "-000001"}


@task
async def draws_twice() -> list[str]:
    return [await draws("first"), await draws("second")]


def test_a_replayed_action_keeps_the_figures_that_it_drew() -> None:
    store = memory_store(disk)
    asyncio.run(run(draws_twice(), run_name="it", store=store))
    before = drawn(store)
    asyncio.run(run(draws_twice(), run_name="it", store=store))
    assert drawn(store) == before
    assert set(before) == {"first.svg", "first-table.html", "second.svg", "second-table.html"}


def test_figures_of_an_encrypted_store_are_encrypted_and_read_with_its_key(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    store = Store(tmp_path, encryption_key=b"k" * 32)
    asyncio.run(run(draws(), run_name="it", store=store))
    assert store.figure_sync("it", "scans/motor") == SVG.encode()
    (path,) = tmp_path.rglob("motor.svg")
    assert SVG.encode() not in path.read_bytes()
    store.aclose_sync()


def test_figures_lie_in_an_object_store_as_well() -> None:
    store = bucket_store()
    with Clock().use():
        asyncio.run(run(draws(), run_name="it", store=store))
        assert store.figure_sync("it", "scans/motor") == SVG.encode()


# reading


@task
async def draws_alike() -> list[ActionID]:
    return [await draws_as("a", "<p>older"), await draws_as("b", "<p>newer")]


@task
async def draws_as(which: str, figure: str) -> ActionID:
    ctx().figure("same", figure)
    ctx().figure("both", SVG)
    ctx().figure("both", "<p>")
    return ctx().action


def test_of_two_actions_figures_under_one_path_the_newest_is_shown_unless_one_is_named() -> None:
    store = memory_store(disk)
    ids = asyncio.run(run(draws_alike(), run_name="it", store=store))
    assert store.figure_sync("it", "same").endswith(b"newer")
    assert store.figure_sync("it", "same", action=ids[0].name).endswith(b"older")


def test_what_is_not_there_or_means_two_figures_is_an_error_that_names_what_there_is() -> None:
    store = memory_store(disk)
    asyncio.run(run(draws_alike(), run_name="it", store=store))
    with pytest.raises(LookupError, match=r"no figure under 'gone'; there are 'both.html', 'both.svg', 'same.html'"):
        store.figure_sync("it", "gone")
    with pytest.raises(FigureNotFound, match=r"2 figures under 'both'; there are 'both.html', 'both.svg'"):
        store.figure_sync("it", "both")
    with pytest.raises(FigureNotFound, match="there are none at all"):
        store.figure_sync("it", "both.svg", action="nobody")
    with pytest.raises(LookupError, match="no run 'other'"):
        store.figure_sync("other", "both")


# paths


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "a//b", "/a", "a/", ".", "..", "a/../b", "a/./b", "...", "a\\b", "C:\\x", "a\0b", "a b", "ä", "~", "-x", ".tmp-1"),
        *("/".join("abcdefghi"), "x" * 129, "/".join(["x" * 128] * 5), None, 3, b"a", Path("a")),
    ],
)
def test_a_path_that_can_not_be_a_path_of_every_store_fails_whoever_gives_it(path: Any) -> None:
    @task(name="gives_a_path")
    async def gives() -> None:
        with pytest.raises(InvalidName, match="figure path"):
            ctx().figure(path, SVG)

    store = memory_store(disk)
    asyncio.run(run(gives(), run_name="it", store=store))
    assert keys_of(store) == []
    with pytest.raises(InvalidName):
        display_path(path)


@given(st.text(alphabet=string.ascii_letters + "./\\-_~\0 ü:%", max_size=40))
def test_no_display_path_leads_out_of_the_folder_of_its_attempt(path: str) -> None:
    try:
        shown = display_path(path)
    except InvalidName:
        return
    assert shown == path
    parts = path.split("/")
    assert all(part and set(part) - {"."} and part[0].isalnum() for part in parts)
    assert not set(path) & set("\\\0 ü:%~")
    assert str(Path("/base", path)) == f"/base/{path}"


# broken ones


class Broken:
    def _repr_html_(self) -> str:
        raise ZeroDivisionError("while it was drawn")


@task
async def draws_what_is_broken() -> str:
    ctx().figure("broken", Broken())
    ctx().figure("unknown", object())
    ctx().figure("good", SVG)
    return "done"


@task
def draws_what_is_broken_in_a_thread() -> str:
    ctx().figure("broken", Broken())
    ctx().figure("unknown", object())
    ctx().figure("good", SVG)
    return "done"


@pytest.mark.parametrize("body", [draws_what_is_broken, draws_what_is_broken_in_a_thread], ids=["async", "def"])
def test_a_broken_figure_is_a_recorded_warning_and_never_a_failure(body: Any) -> None:
    store = memory_store(disk)
    with pytest.warns(FigureBroken) as caught:
        assert asyncio.run(run(body.call(), run_name="it", store=store)) == "done"
    assert len(caught) == 2
    recorded = store.state_sync("it").warnings
    assert len(recorded) == 2
    assert "'broken' is not kept: ZeroDivisionError: while it was drawn" in recorded[0]
    assert "'unknown' is not kept: TypeError: nobody knows how to draw a builtins.object" in recorded[1]
    assert set(drawn(store)) == {"good.svg"}


@task
async def draws_a_folder_over_a_file() -> str:
    ctx().figure("a.svg", SVG)
    await ctx().now()
    ctx().figure("a.svg/b", SVG)
    return "done"


def test_a_figure_that_the_store_refuses_is_a_recorded_warning() -> None:
    store = memory_store(disk)
    with pytest.warns(FigureBroken, match=r"'a.svg/b.svg' is not kept: StoreInvalid"):
        assert asyncio.run(run(draws_a_folder_over_a_file(), run_name="it", store=store)) == "done"
    assert set(drawn(store)) == {"a.svg"}
    assert store.state_sync("it").status is Status.COMPLETED


def test_a_store_that_takes_no_figures_takes_the_outcome() -> None:
    store = bucket_store([Fault("put", "*/figures/*", every=1)])
    with Clock().use(), pytest.warns(FigureBroken) as caught:
        asyncio.run(run(draws(), run_name="it", store=store))
    assert len(caught) == 2
    assert "StoreUnavailable" in str(caught[0].message)


@task(timeout=1.0)
async def draws_in_time(how: str) -> str:
    ctx().figure("one", SVG)
    await asyncio.sleep(0)
    ctx().figure("two", SVG)
    if how == "fails":
        raise KeyError("it")
    return "done"


@pytest.mark.parametrize("how", ["returns", "fails"])
def test_a_store_that_hangs_over_figures_makes_no_timeout_of_what_has_ended(how: str) -> None:
    store = bucket_store([Fault("put", "*/figures/*", slow=LONG)])

    async def main() -> str:
        return await run(draws_in_time(how), run_name="it", store=store, grace=4)

    with pytest.warns(FigureBroken, match="it was not written in time") as caught, contextlib.suppress(KeyError):
        assert run_shuffled(main, seed=1) == "done"
    assert len(caught) == 2
    state = store.state_sync("it")
    assert state.root is not None
    assert [attempt.abandoned for attempt in state.root.attempts] == [False]
    assert state.status is (Status.FAILED if how == "fails" else Status.COMPLETED)


@task
async def draws_after_the_other() -> str:
    did.append("began")
    if len(did) == 1:
        await until(lambda: did.count("began") == 2)
    ctx().figure("same", f"<p>{len(did)}")
    did.append("drawn")
    return "done"


def test_a_fenced_owner_changes_nothing_of_what_is_shown() -> None:
    async def main() -> None:
        first = asyncio.create_task(run(draws_after_the_other(), run_name="it", store=memory_store(disk), handle_signals=False))
        await until(lambda: did)
        second = run(draws_after_the_other(), run_name="it", store=memory_store(disk), resume="takeover", handle_signals=False)
        assert await second == "done"
        with pytest.raises(RunFenced):
            await first

    asyncio.run(main())
    store = memory_store(disk)
    assert did.count("drawn") == 2
    assert [key.rpartition("/figures/")[2] for key in keys_of(store)] == ["0000000001-000000/same.html", "0000000002-000001/same.html"]
    assert len(drawn(store)["same.html"]) == 1
    assert "0000000002-" in drawn(store)["same.html"][0].key


@task
async def draws_much() -> str:
    ctx().figure("large", b"\0" * 1_000_000)
    return "done"


def test_a_disk_that_is_full_ends_the_run_only_where_nothing_can_be_recorded() -> None:
    full = FullDisk(disk, after_bytes=200_000)
    with pytest.warns(FigureBroken, match="StoreFull"), pytest.raises(StoreFull):
        asyncio.run(run(draws_much(), run_name="it", store=memory_store(full)))
    full.free()
    store = memory_store(full)
    assert asyncio.run(run(draws_much(), run_name="it", store=store)) == "done"
    assert len(store.figure_sync("it", "large")) == 1_000_000


def test_a_broken_figure_fails_no_task_even_where_warnings_are_errors_and_is_on_record() -> None:
    store = memory_store(disk)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(run(draws_what_is_broken(), run_name="it", store=store))
    assert len(store.state_sync("it").warnings) == 2


# when an attempt is over


@task
async def leaves_its_context() -> None:
    did.append(ctx())


def test_a_figure_of_an_ended_attempt_is_refused() -> None:
    store = memory_store(disk)
    asyncio.run(run(leaves_its_context(), run_name="it", store=store))
    with pytest.raises(ActionEnded):
        did[0].figure("late", SVG)  # type: ignore[attr-defined]
    assert keys_of(store) == []


@task(timeout=0.3, retries=AT_ONCE)
def draws_too_late() -> str:
    if ctx().attempt_number == 0:
        ctx().figure("same", "<p>the abandoned one's")
        did.append(ctx())
        release.wait(LONG)
        try:
            ctx().figure("same", "<p>late")
        except AttemptAbandoned:
            did.append("refused")
        release.set()
        return "late"
    ctx().figure("same", "<p>the second one's")
    release.set()
    return "in time"


def test_an_abandoned_thread_changes_nothing_of_what_is_shown() -> None:
    store = memory_store(disk)

    async def main() -> None:
        assert await run(draws_too_late.call(), run_name="it", store=store) == "in time"
        for _ in range(10_000):
            if "refused" in did:
                break
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert did[1:] == ["refused"]
    assert store.figure_sync("it", "same").endswith(b"the second one's")


def test_what_an_attempt_drew_is_named_before_its_outcome() -> None:
    store = memory_store(disk)
    asyncio.run(run(draws(), run_name="it", store=store))

    async def kinds() -> list[type]:
        events = (await read_journal(store.folder.child("runs/it/000000"))).events()
        return [type(event) for event in events if isinstance(event, (FigureSaved, AttemptEnded))]

    assert asyncio.run(kinds()) == [FigureSaved, FigureSaved, AttemptEnded]


# crashes


@task
async def draws_and_goes_on() -> str:
    ctx().figure("one", SVG)
    await ctx().now()
    ctx().figure("two", SVG)
    return "done"


@pytest.mark.parametrize("on", ["disk", "bucket"])
def test_wherever_it_is_killed_every_figure_that_is_named_is_there_and_whole(on: On) -> None:
    count = 0
    for survival in crash_everywhere(draws_and_goes_on, on=on, step=1 if on == "disk" else 2):
        count += 1
        assert survival.value == "done", survival
        assert asyncio.run(shown_in(survival.store)) == {"one.svg": SVG.encode(), "two.svg": SVG.encode()}, survival
        for found in survival.earlier:
            assert set(asyncio.run(shown_in(found)).values()) <= {SVG.encode()}, survival
    assert count > 10


async def shown_in(store: Store) -> dict[str, bytes]:
    if not await store.folder.list(f"runs/{RUN_NAME}/000000/journal"):
        return {}
    events = (await read_journal(store.folder.child(f"runs/{RUN_NAME}/000000"))).events()
    return {event.path: await store.figure(RUN_NAME, event.path) for event in events if isinstance(event, FigureSaved)}


# ephemeral


@task
async def draws_badly() -> None:
    ctx().figure("../out", SVG)


def test_outside_a_run_a_figure_is_checked_and_not_kept() -> None:
    with pytest.warns(NotDurable, match=r"drew a figure outside a run: .* write run\(draws\(\.\.\.\), run_name='\.\.\.'\)"):
        asyncio.run(draws())
    with pytest.warns(NotDurable, match=r"run\(draws_in_a_thread\.call\("):
        draws_in_a_thread()
    with pytest.warns(FigureBroken), pytest.warns(NotDurable):
        asyncio.run(draws_what_is_broken())
    with pytest.raises(InvalidName):
        asyncio.run(draws_badly())


# gc, size


@task
async def draws_what_looks_like_ours() -> None:
    ctx().figure("checkpoints/0000000001-000000-000000.blobs", b'{"no": "manifest"}')
    ctx().figure("actions/x/checkpoints/0000000001-000000-000000.blobs", b'{"no": "manifest"}')
    ctx().figure("journal/00000000000000000001", b"[1]")
    ctx().figure("ab" * 32, b"\0")


def test_figures_count_in_the_size_of_their_run_and_gc_leaves_them() -> None:
    store = memory_store(disk)
    asyncio.run(run(draws_what_looks_like_ours(), run_name="it", store=store))
    before, keys = store.size_sync("it"), keys_of(store)
    assert len(keys) == 4
    assert before >= sum(len(store.figure_sync("it", path)) for path in drawn(store))
    store.gc_sync()
    assert keys_of(store) == keys
    assert store.size_sync("it") == before
