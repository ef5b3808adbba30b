"""What a deleted generation alone held goes soon, behind the run's work, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sweeps.conftest import Place
from sweeps.test_sweeps import law, put
from sweeps.worlds import DAY, blobs_in, digest, is_there, manifest_key, on_bucket, saved

from holdfast.blobs import Blobs
from holdfast.folders.protocol import Folder
from holdfast.intents import FENCED_LIFE, INTENTS
from holdfast.sweeps import MIN_GRACE, SKEW, WORTH_SWEEPING, Broom
from holdfast.testing.buckets import MemoryBucket
from holdfast.testing.loops import VirtualLoop, run_in

OLD = MIN_GRACE + SKEW + 1


async def dropped(store: Folder, *contents: bytes) -> tuple[Broom, Mapping[str, str]]:
    """A generation that was saved and deleted, and who is to sweep after it."""
    names = await saved(store, manifest_key("a", 0), *contents)
    await store.delete(manifest_key("a", 0))
    broom = Broom(store, run_id="r", epoch=2)
    broom.drop(list(names.values()))
    return broom, names


@law
async def test_what_was_dropped_goes_when_it_is_ten_minutes_old(place: Place) -> None:
    broom, _ = await dropped(place.store, b"x", b"y")
    assert await broom.sweep() == 0
    place.later(OLD)
    assert await broom.sweep() > 0
    assert await blobs_in(place.store) == set()
    assert await broom.sweep() == 0


@law
async def test_what_another_generation_names_stays(place: Place) -> None:
    broom, names = await dropped(place.store, b"x", b"y")
    await saved(place.store, manifest_key("b", 0, run="other"), b"x")
    place.later(OLD)
    await broom.sweep()
    assert await blobs_in(place.store) == {names[digest(b"x")]}


@law
async def test_what_was_not_dropped_is_left_to_gc(place: Place) -> None:
    stray = await put(place.store, b"x")
    broom, names = await dropped(place.store, b"x")
    place.later(OLD)
    await broom.sweep()
    assert await blobs_in(place.store) == {stray}
    assert stray not in names.values()


@law
async def test_what_somebody_is_about_to_name_stays(place: Place) -> None:
    broom, names = await dropped(place.store, b"x")
    place.later(OLD)
    blobs = Blobs(place.store, sync=True)
    async with blobs.saving() as saving:
        name, _ = await saving.put(b"x")
        place.later(OLD)
        assert await broom.sweep() == 0
        assert await is_there(place.store, name)
    await blobs.aclose()
    place.later(OLD)
    assert await broom.sweep() > 0
    assert not await is_there(place.store, names[digest(b"x")])


@law
async def test_a_former_owner_of_the_run_holds_it_up_for_an_hour_and_others_for_a_day(place: Place) -> None:
    for holder, life in (("r.1", FENCED_LIFE), ("r.2", DAY), ("other.1", DAY)):
        await place.store.put(f"{INTENTS}/{holder}.00ff.0", b"")
        broom, _ = await dropped(place.store, b"x")
        place.later(life - 1)
        assert await broom.sweep() == 0
        place.later(2)
        assert await broom.sweep() > 0


def test_sweeping_waits_until_it_is_worth_it_and_then_happens_by_itself() -> None:
    async def main() -> None:
        store = on_bucket(MemoryBucket())
        names = await saved(store, manifest_key("a", 0), b"x")
        more = await saved(store, manifest_key("a", 1), b"y")
        await store.delete(manifest_key("a", 0), manifest_key("a", 1))
        broom = Broom(store, run_id="r", epoch=1)
        broom.drop(list(names.values()), WORTH_SWEEPING // 2)
        await asyncio.sleep(DAY)
        assert await blobs_in(store) == {*names.values(), *more.values()}
        broom.drop(list(more.values()), WORTH_SWEEPING // 2)
        await asyncio.sleep(2 * OLD)
        assert await blobs_in(store) == set()
        await broom.aclose()

    run_in(VirtualLoop(), main)


def test_a_sweep_that_can_not_be_made_harms_nobody_and_is_made_later() -> None:
    async def main() -> None:
        store = on_bucket(MemoryBucket())
        broom, _ = await dropped(store, b"x")
        await store.put(manifest_key("b", 0), b"damaged")
        broom.drop([digest(b"none")], WORTH_SWEEPING)
        await asyncio.sleep(2 * OLD)
        assert len(await blobs_in(store)) == 1
        await store.delete(manifest_key("b", 0))
        broom.drop([digest(b"none")], WORTH_SWEEPING)
        await asyncio.sleep(2 * OLD)
        assert await blobs_in(store) == set()
        await broom.aclose()

    run_in(VirtualLoop(), main)


def test_a_broom_ends_with_its_run() -> None:
    async def main() -> None:
        store = on_bucket(MemoryBucket())
        broom, _ = await dropped(store, b"x")
        broom.drop([digest(b"none")], WORTH_SWEEPING)
        await broom.aclose()
        await asyncio.sleep(DAY)
        assert len(await blobs_in(store)) == 1

    run_in(VirtualLoop(), main)
