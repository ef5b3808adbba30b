"""Runs keep what they need while somebody sweeps, and what they let go of goes."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from typing import Any

import pytest
from sweeps.conftest import Place
from sweeps.test_sweeps import OLD, law, put
from sweeps.worlds import DAY, blobs_in, digest, is_there

from holdfast import Store, ctx, run, task
from holdfast.blobs import Blobs, blob_key
from holdfast.codec import parts_of, to_json
from holdfast.errors import BlobCorrupt, InvalidOption, RunNotFound
from holdfast.events import AttemptEnded, Unknown
from holdfast.intents import write_plans
from holdfast.journals.owning import take_over
from holdfast.journals.reading import read_journal
from holdfast.status import Status
from holdfast.sweeps import MIN_GRACE, SKEW, WORTH_SWEEPING, names_in_event
from holdfast.testing import bucket_store, memory_store, run_shuffled
from holdfast.testing.loops import VirtualLoop, run_in

TEXT, RAW = "x" * 100_000, bytes(range(250)) * 400


@task
async def small_with_a_part(n: int) -> bytes:
    return RAW + bytes([n])


@task
async def large_with_a_part(n: int) -> dict[str, Any]:
    return {"text": TEXT, "raw": RAW + bytes([n]), "n": n}


@task
async def text() -> str:
    return TEXT


@task
async def saves(n: int) -> bytes:
    state = await ctx().checkpoint.load(bytes)
    if state is None:
        state = bytes([n]) * 200_000
        await ctx().checkpoint.save(state)
        raise KeyError("once")
    return state[:10]


@task
async def all_of_them() -> list[Any]:
    found = []
    for body in (small_with_a_part, large_with_a_part):
        found += [await body(n) for n in range(3)]
    try:
        await saves(7)
    except KeyError:
        found.append("saved")
    return [type(each).__name__ for each in found]


@law
async def test_results_and_checkpoints_outlive_any_number_of_sweeps(place: Place) -> None:
    store = Store.on(place.store)
    first = await run(all_of_them(), run_name="it", store=store)
    assert first == ["bytes"] * 3 + ["dict"] * 3 + ["str"]
    stray = await put(place.store, b"stray")
    kept = await blobs_in(place.store) - {stray}
    assert kept
    for _ in range(3):
        place.later(40 * DAY)
        await store.gc()
    assert await blobs_in(place.store) == kept
    assert await run(all_of_them(), run_name="it", store=store) == first
    assert await run(large_with_a_part(2), run_name="alone", store=store) == {"text": TEXT, "raw": RAW + bytes([2]), "n": 2}
    place.later(40 * DAY)
    await store.gc()
    assert await run(large_with_a_part(2), run_name="alone", store=store) == {"text": TEXT, "raw": RAW + bytes([2]), "n": 2}


@law
async def test_a_part_is_read_where_it_was_put_when_its_own_name_was_condemned(place: Place) -> None:
    store = Store.on(place.store)
    part = digest(RAW + bytes([1]))
    for body in (small_with_a_part, large_with_a_part):
        await write_plans(place.store, body.__name__, [part])
        first = await run(body(1), run_name=body.__name__, store=store)
        await place.store.delete(blob_key(part))
        place.later(40 * DAY)
        await store.gc()
        assert await run(body(1), run_name=body.__name__, store=store) == first


@law
async def test_a_large_result_is_read_where_it_was_put_when_its_own_name_was_condemned(place: Place) -> None:
    store = Store.on(place.store)
    whole = digest(to_json(TEXT))
    await write_plans(place.store, "sweeper", [whole])
    assert await run(text(), run_name="it", store=store) == TEXT
    await place.store.delete(blob_key(whole))
    place.later(40 * DAY)
    await store.gc()
    assert await run(text(), run_name="it", store=store) == TEXT


here: list[Any] = []
"""What a body under test may reach: a place, or what else its test put there."""


@task
async def is_swept_meanwhile() -> bool:
    (place,) = here
    one = await large_with_a_part(1)
    await ctx().checkpoint.save(RAW)
    place.later(30 * DAY)
    await Store.on(place.store).gc(grace=0)
    return await ctx().checkpoint.load(bytes) == RAW and one["n"] == 1


@law
async def test_what_a_run_has_under_way_survives_a_sweep_at_any_age(place: Place) -> None:
    here[:] = [place]
    store = Store.on(place.store)
    assert await run(is_swept_meanwhile(), run_name="it", store=store)
    place.later(30 * DAY)
    await store.gc()
    assert await run(is_swept_meanwhile(), run_name="it", store=store)


MUCH = WORTH_SWEEPING * 3 // 5


@task(keep=1)
async def trains() -> list[int]:
    (store,) = here
    sizes = []
    for n in range(8):
        await ctx().checkpoint.save(random.Random(n).randbytes(MUCH))
        await asyncio.sleep(MIN_GRACE + 2 * SKEW)
        sizes.append(await store.size())
    return sizes


def test_a_run_that_saves_much_and_often_takes_what_it_keeps_and_little_more() -> None:
    """With nobody else sweeping."""
    store = bucket_store()
    here[:] = [store]
    sizes = run_in(VirtualLoop(), lambda: run(trains(), run_name="it", store=store))
    assert min(sizes) > MUCH
    assert max(sizes) < 3 * MUCH


@law
async def test_a_store_knows_the_size_of_a_run(place: Place) -> None:
    store = Store.on(place.store)
    await run(large_with_a_part(1), run_name="it", store=store)
    assert len(TEXT) + len(RAW) < await store.size("it") == await store.size()
    await run(large_with_a_part(1), run_name="other", store=store)
    assert await store.size() < await store.size("it") + await store.size("other")
    with pytest.raises(RunNotFound):
        await store.size("nobody")


def test_gc_takes_a_duration_in_either_form() -> None:
    store = memory_store()
    assert store.gc_sync(grace=dt.timedelta(hours=1)) == store.gc_sync(grace=0) == store.gc_sync(dry_run=True) == 0
    assert store.size_sync() == 0
    for grace in (-1.0, float("nan")):
        with pytest.raises(InvalidOption):
            store.gc_sync(grace=grace)


# what events name


def test_an_event_names_its_blob_and_the_parts_of_its_value() -> None:
    names = ["a" * 64, "b" * 64 + "~00ff"]
    value = {"deep": [{"$": "bytes", "part": names[1]}]}
    ended = AttemptEnded(action="x", at=0.0, number=0, status=Status.COMPLETED, then=Status.COMPLETED, value=value, blob=names[0])
    assert set(names_in_event(ended)) == set(names)
    assert set(names_in_event(Unknown(action="x", at=0.0, record={"e": "newer", "where": [{"k": names[1]}]}))) == {names[1]}


@law
async def test_the_parts_of_a_value_that_says_nothing_of_them_are_found_in_its_blob(place: Place) -> None:
    """Events were so, before they named the parts of a blob themselves."""
    store = Store.on(place.store)
    await run(small_with_a_part(1), run_name="it", store=store)
    part = await put(place.store, b"part")
    tree = [{"$": "bytes", "part": part}]
    blob = await put(place.store, to_json(tree))
    folder = place.store.child("runs/it/000000")
    journal, _ = await take_over(folder, "it", await read_journal(folder), sync=True)
    journal.append(AttemptEnded(action="x", at=0.0, number=0, status=Status.COMPLETED, then=Status.COMPLETED, blob=blob))
    await journal.aclose()
    place.later(OLD)
    await store.gc()
    assert await is_there(place.store, part)
    assert await is_there(place.store, blob)
    assert parts_of(tree) == (part,)
    await place.store.put(blob_key(blob), b"{")
    place.later(OLD)
    with pytest.raises(BlobCorrupt):
        await store.gc()


# beside live runs, in any order


@task
async def works() -> list[int]:
    (rng,) = here
    lengths = []
    for n in range(4):
        found = await asyncio.gather(small_with_a_part(n % 2), large_with_a_part(n % 3))
        await asyncio.sleep(rng.random() * 1000)
        await ctx().checkpoint.save(RAW * (n + 1))
        assert await ctx().checkpoint.load(bytes) == RAW * (n + 1)
        lengths.append(len(found[0]))
    return lengths


@pytest.mark.parametrize("seed", range(12))
def test_gc_beside_a_live_run_takes_nothing_from_it(seed: int) -> None:
    async def main() -> None:
        store, rng = bucket_store(), random.Random(seed)
        here[:] = [rng]

        async def sweeps() -> None:
            for _ in range(10):
                await asyncio.sleep(rng.random() * 600)
                await store.gc(grace=0)

        first, _ = await asyncio.gather(run(works(), run_name="it", store=store), sweeps())
        await asyncio.sleep(40 * DAY)
        await store.gc()
        assert await run(works(), run_name="it", store=store) == first
        incarnation = store.folder.child("runs/it/000000")
        names = {name for event in (await read_journal(incarnation)).events() for name in names_in_event(event)}
        assert names
        blobs = Blobs(store.folder, sync=True)
        await blobs.get_all(names)
        await blobs.aclose()

    run_shuffled(main, seed)
