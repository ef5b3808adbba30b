"""What nothing names is freed, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sweeps.conftest import Place
from sweeps.worlds import DAY, blobs_in, digest, is_there, manifest, manifest_key, saved

from holdfast.blobs import CHUNK, LARGE, Blobs, blob_key, digest_of
from holdfast.checkpoints.generations import sealed
from holdfast.codec import to_json
from holdfast.errors import CheckpointCorrupt, CheckpointForeign, StoreUnavailable
from holdfast.folders.protocol import Entry, Folder
from holdfast.intents import INTENT_LIFE, INTENTS, PLAN_LIFE, PLAN_LINGER, PLANS, write_plans
from holdfast.sweeps import GRACE, MIN_GRACE, SKEW, size_of, superseded, sweep

HOUR = 3600.0
OLD = GRACE + SKEW + 1


async def put(store: Folder, data: bytes) -> str:
    """Put a value that is never named."""
    blobs = Blobs(store, sync=True)
    name = await blobs.put(data)
    await blobs.aclose()
    return name


def law(test: Callable[[Place], Awaitable[None]]) -> Callable[[Place], None]:
    def run(place: Place) -> None:
        asyncio.run(test(place))  # type: ignore[arg-type]

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


# what goes, and what stays


@law
async def test_what_nothing_names_is_freed_after_the_grace(place: Place) -> None:
    name = await put(place.store, b"forgotten")
    place.later(GRACE - SKEW)
    assert await sweep(place.store) == 0
    place.later(3 * SKEW)
    size = await sweep(place.store, dry_run=True)
    assert size >= len(b"forgotten")
    assert await is_there(place.store, name)
    assert await sweep(place.store) == size
    assert not await is_there(place.store, name)
    assert await sweep(place.store) == 0


@law
async def test_the_grace_is_never_less_than_ten_minutes(place: Place) -> None:
    name = await put(place.store, b"a moment ago")
    place.later(MIN_GRACE - SKEW)
    assert await sweep(place.store, grace=0) == 0
    place.later(3 * SKEW)
    assert await sweep(place.store, grace=0) > 0
    assert not await is_there(place.store, name)


@law
async def test_what_a_manifest_names_stays_for_as_long_as_the_manifest(place: Place) -> None:
    names = set((await saved(place.store, manifest_key("a", 0), b"x", b"y")).values())
    place.later(100 * DAY)
    assert await sweep(place.store) == 0
    assert await blobs_in(place.store) == names
    await place.store.delete(manifest_key("a", 0))
    assert await sweep(place.store) > 0
    assert await blobs_in(place.store) == set()


@law
async def test_what_is_named_twice_stays_until_nobody_names_it(place: Place) -> None:
    first = await saved(place.store, manifest_key("a", 0), b"shared", b"x")
    second = await saved(place.store, manifest_key("b", 0), b"shared", b"y")
    assert first[digest(b"shared")] == second[digest(b"shared")]
    await place.store.delete(manifest_key("a", 0))
    place.later(OLD)
    await sweep(place.store)
    assert await blobs_in(place.store) == set(second.values())


@law
async def test_what_is_found_again_is_as_new(place: Place) -> None:
    for data in (b"small", bytes(LARGE)):
        name = await put(place.store, data)
        place.later(OLD)
        assert await put(place.store, data) == name
        await sweep(place.store)
        assert await is_there(place.store, name)


@law
async def test_a_value_and_a_chunk_that_hold_the_same_are_two_blobs(place: Place) -> None:
    value = await put(place.store, b"both")
    chunk = (await saved(place.store, manifest_key("a", 0), b"both"))[digest(b"both")]
    assert value != chunk
    assert digest_of(value) == digest_of(chunk) == digest(b"both")


@law
async def test_what_is_no_blob_is_left_alone(place: Place) -> None:
    for key in ("blobs/notes.txt", "blobs/ab/README", "elsewhere/x"):
        await place.store.put(key, b"1")
    place.later(100 * DAY)
    assert await sweep(place.store) == 0
    assert await place.store.get("blobs/ab/README") == b"1"


# what is under way


@law
async def test_what_was_put_since_a_live_intent_stays(place: Place) -> None:
    blobs = Blobs(place.store, sync=True)
    before = await put(place.store, b"before")
    place.later(2 * SKEW)
    with blobs.naming() as naming:
        during = await naming.put(b"during")
        place.later(INTENT_LIFE - HOUR)
        assert await sweep(place.store) > 0
        assert not await is_there(place.store, before)
        assert await is_there(place.store, during)
    await blobs.aclose()
    assert await sweep(place.store) > 0
    assert not await is_there(place.store, during)


@law
async def test_an_intent_of_a_dead_process_counts_for_a_day(place: Place) -> None:
    await place.store.put(f"{INTENTS}/dead.1.00ff.0", b"")
    name = await put(place.store, b"half saved")
    place.later(INTENT_LIFE - 1)
    assert await sweep(place.store) == 0
    place.later(2)
    assert await sweep(place.store) > 0
    assert not await is_there(place.store, name)
    assert await place.store.list(INTENTS) == ()


@law
async def test_an_intent_that_can_not_be_read_holds_up_everything(place: Place) -> None:
    name = await put(place.store, b"x")
    place.later(10 * DAY)
    await place.store.put(f"{INTENTS}/of a newer version", b"")
    assert await sweep(place.store) == 0
    assert await is_there(place.store, name)


@law
async def test_a_save_that_stood_still_for_a_day_is_refused_and_leaves_no_manifest(place: Place) -> None:
    async def saved_with(pause_before: float, pause_after: float) -> None:
        async with blobs.saving(lambda: place.store.delete(key)) as saving:
            name, _ = await saving.put(b"x")
            place.later(pause_before)
            await sweep(place.store)
            await saving.assure()
            await place.store.create(key, manifest({digest(b"x"): name}))
            place.later(pause_after)
            await sweep(place.store)

    key, blobs = manifest_key("a", 0), Blobs(place.store, sync=True)
    for before, after in ((2 * DAY, 0.0), (0.0, 2 * DAY)):
        with pytest.raises(StoreUnavailable):
            await saved_with(before, after)
        assert await place.store.stat(key) is None
    await saved_with(DAY / 4, DAY / 8)
    assert await place.store.stat(key) is not None
    await blobs.aclose()


@law
async def test_a_save_that_takes_days_is_spared_from_its_beginning(place: Place) -> None:
    blobs = Blobs(place.store, sync=True)
    names = {}
    async with blobs.saving() as saving:
        for n in range(12):
            names[digest(bytes([n]))] = (await saving.put(bytes([n])))[0]
            place.later(DAY / 3)
            await sweep(place.store)
        await saving.assure()
        await place.store.create(manifest_key("a", 0), manifest(names))
    await blobs.aclose()
    place.later(2 * DAY)
    await sweep(place.store)
    assert await blobs_in(place.store) == set(names.values())


@law
async def test_nothing_is_left_of_what_was_told_to_sweepers(place: Place) -> None:
    await saved(place.store, manifest_key("a", 0), b"x")
    await put(place.store, b"y")
    assert [entry.name for entry in await place.store.walk("gc")] == []
    place.later(OLD)
    await sweep(place.store)
    place.later(PLAN_LINGER + 1)
    await sweep(place.store)
    assert [entry.name for entry in await place.store.walk("gc")] == []


# what is condemned


class Interrupted:
    """Does something of somebody else's just before a look at the plans, once."""

    def __init__(self, store: Folder, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        self._store = store
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def list(self, prefix: str) -> object:
        if prefix == PLANS and (meanwhile := self._meanwhile) is not None:
            self._meanwhile = None
            await meanwhile()
        return await self._store.list(prefix)


@law
async def test_a_name_that_a_sweeper_is_about_to_delete_is_not_shared(place: Place) -> None:
    for data in (b"small", bytes(LARGE)):
        for is_there_already in (False, True):
            if is_there_already:
                await put(place.store, data)
            await write_plans(place.store, f"{len(data)}{is_there_already}", [digest(data)])
            name = await put(place.store, data)
            chunk = (await saved(place.store, manifest_key("a", len(data)), data))[digest(data)]
            for private in (name, chunk):
                assert private not in (digest(data), f"{digest(data)}{CHUNK}")
                assert await Blobs(place.store, sync=True).get(private) == data
            await place.store.delete_tree(PLANS)
            await place.store.delete(manifest_key("a", len(data)))


@law
async def test_a_plan_that_can_not_be_read_may_name_anything(place: Place) -> None:
    await place.store.put(f"{PLANS}/ab-000000.json", b"{")
    assert await put(place.store, b"x") != digest(b"x")


@law
async def test_what_was_just_deleted_is_not_shared_for_a_quarter_of_an_hour(place: Place) -> None:
    """A request to delete it that was given up may still be under way."""
    await put(place.store, b"x")
    place.later(OLD)
    assert await sweep(place.store) > 0
    place.later(PLAN_LINGER - 1)
    await sweep(place.store)
    assert await put(place.store, b"x") != digest(b"x")
    place.later(2)
    await sweep(place.store)
    assert await put(place.store, b"x") == digest(b"x")


@law
async def test_a_sweep_that_ended_early_condemns_no_longer_than_one_that_came_to_its_end(place: Place) -> None:
    class Failing(Interrupted):
        async def delete(self, *keys: str) -> None:
            if keys[0].startswith("blobs/"):
                raise StoreUnavailable(where=keys[0], reason="for a test")
            await self._store.delete(*keys)

    name = await put(place.store, b"x")
    place.later(OLD)
    with pytest.raises(StoreUnavailable):
        await sweep(Failing(place.store))  # type: ignore[arg-type]
    assert await put(place.store, b"x") != name
    place.later(PLAN_LINGER + 1)
    await sweep(place.store)
    assert await put(place.store, b"x") == name


@law
async def test_the_plan_of_a_killed_sweeper_counts_for_a_month(place: Place) -> None:
    await write_plans(place.store, "killed", [digest(b"x")])
    place.later(PLAN_LIFE - 1)
    await sweep(place.store)
    assert await put(place.store, b"x") != digest(b"x")
    place.later(2)
    await sweep(place.store)
    assert await put(place.store, b"x") == digest(b"x")


@law
async def test_who_sleeps_while_a_plan_comes_to_its_end_looks_for_the_blob_again(place: Place) -> None:
    for data in (b"small", bytes(LARGE)):
        await put(place.store, data)
        place.later(OLD)
        await write_plans(place.store, "sweeper", [digest(data)])

        async def sleep(data: bytes = data) -> None:
            """Long enough for a sweeper to delete what was touched, to end, and for the next one to remove its plan."""
            await place.store.delete(blob_key(digest(data)))
            place.later(PLAN_LINGER)
            await place.store.delete_tree(PLANS)

        store: Folder = Interrupted(place.store, sleep)  # type: ignore[assignment]
        name = await put(store, data)
        assert await is_there(place.store, name)


# what can't be read


@law
async def test_nothing_is_deleted_where_a_manifest_can_not_be_read(place: Place) -> None:
    cases = (
        (b"damaged", CheckpointCorrupt),
        (sealed(to_json({"holdfast": "99.0"})), CheckpointForeign),
        (sealed(b"[]"), CheckpointCorrupt),
    )
    for content, error in cases:
        await place.store.put(manifest_key("a", 0), content)
        name = await put(place.store, b"perhaps its")
        place.later(OLD)
        with pytest.raises(error):
            await sweep(place.store)
        assert await is_there(place.store, name)
        await place.store.delete(manifest_key("a", 0))
        assert await sweep(place.store) > 0
        assert not await is_there(place.store, name)


# what crashes leave behind


@law
async def test_what_a_crash_left_unfinished_goes_after_a_day(place: Place) -> None:
    if place.store.logs is None:
        return  # an object store shows whole objects only
    await place.store.put("runs/a/000000/x", b"1")
    disk = place.store._disk  # type: ignore[attr-defined]  # nobody else can see them
    path = f"{place.store._root}/runs/a/000000/.tmp-0123"  # type: ignore[attr-defined]
    disk.write_new(path, b"half").close()
    place.later(DAY - 1)
    assert await sweep(place.store) == 0
    place.later(2)
    assert await sweep(place.store, dry_run=True) == 4
    assert await sweep(place.store) == 4
    assert not disk.exists(path)


@law
async def test_what_a_trial_left_behind_goes(place: Place) -> None:
    await place.store.put(".holdfast-probe-00ff", b"12")
    assert await sweep(place.store) == 0
    place.later(OLD)
    assert await sweep(place.store) >= 2
    assert await place.store.stat(".holdfast-probe-00ff") is None


def runs_with(segments: range, snapshots: dict[int, float], run: str = "runs/a/000000") -> dict[str, Entry]:
    found = {f"{run}/journal/{n:020}.jsonl": 0.0 for n in segments} | {f"{run}/snap/{n:020}.jsonl": at for n, at in snapshots.items()}
    return {key: Entry(key, False, 1, modified) for key, modified in found.items()}


@pytest.mark.parametrize(
    ("segments", "snapshots", "gone"),
    [
        (range(1, 9), {}, []),
        (range(1, 9), {4: 0.0}, []),  # the only one: if it can't be read, the segments are
        (range(1, 9), {2: 0.0, 4: 0.0}, ["journal/1", "journal/2"]),
        (range(1, 9), {2: 0.0, 4: 2 * DAY - 1}, ["journal/1", "journal/2"]),
        (range(1, 9), {2: 1.5 * DAY, 4: 2 * DAY - 1}, []),  # not yet a day old
        (range(3, 9), {2: 0.0, 4: 0.0, 6: 0.0}, ["journal/3", "journal/4", "snap/2"]),
        (range(7, 9), {4: 0.0, 6: 0.0}, []),
    ],
)
def test_segments_go_once_two_snapshots_stand_for_them(segments: range, snapshots: dict[int, float], gone: list[str]) -> None:
    found = superseded(runs_with(segments, snapshots), 2 * DAY)
    short = [f"{folder}/{int(name.removesuffix('.jsonl'))}" for folder, name in (key.split("/")[-2:] for key in found)]
    assert short == gone


def test_segments_of_one_journal_never_go_for_the_snapshots_of_another() -> None:
    action = "runs/a/000000/actions/xyz"
    found = superseded(runs_with(range(1, 9), {2: 0.0, 4: 0.0}) | runs_with(range(1, 9), {}, action), 2 * DAY)
    assert found
    assert not any(key.startswith(action) for key in found)


# sizes


@law
async def test_sizes_count_what_a_run_names_once_and_what_it_shares(place: Place) -> None:
    before = await size_of(place.store)
    assert before == 0
    await saved(place.store, manifest_key("a", 0, run="one"), b"1234", b"shared")
    await saved(place.store, manifest_key("b", 0, run="one"), b"shared")
    await saved(place.store, manifest_key("a", 0, run="two"), b"shared")
    sizes = {digest_of(entry.name.rpartition("/")[2]): entry.size for entry in await place.store.walk("blobs")}
    own = {run: sum(entry.size for entry in await place.store.walk(f"runs/{run}")) for run in ("one", "two")}
    assert await size_of(place.store, "one") == own["one"] + sizes[digest(b"1234")] + sizes[digest(b"shared")]
    assert await size_of(place.store, "two") == own["two"] + sizes[digest(b"shared")]
    assert await size_of(place.store) == sum(own.values()) + sum(sizes.values())
