"""Whole runs in an encrypted store: nothing to be read without the key, nothing wrong with it, whatever happens to the bytes."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest

import holdfast as hf
from holdfast import Status, Store, ctx, custom_context, task
from holdfast.errors import (
    BlobCorrupt,
    CheckpointCorrupt,
    InvalidOption,
    JournalDamaged,
    NotEncrypted,
    StoreEncrypted,
    StoreError,
    StoreFull,
    WrongKey,
)
from holdfast.folders.ciphers import MAGIC, Keys
from holdfast.folders.encrypted import EncryptedFolder
from holdfast.folders.protocol import Folder
from holdfast.testing import FullDisk, Ledger, MemoryDisk, Survival, crash_everywhere, crashes, power_cuts
from holdfast.testing.buckets import MemoryBucket, bucket_folder
from holdfast.testing.lives import Life
from holdfast.testing.places import BucketPlace, DiskPlace, Point
from holdfast.testing.stores import memory_folder

R = TypeVar("R")

KEY, OTHER = bytes(range(32)), os.urandom(32)
BIG = 70_000  # bytes: a blob
FILED = "filed-7f3a " * 10_000
LEASE = 0.02  # seconds, after which nobody waits for an owner whose last heartbeat was damaged
#: Each is somewhere in what a run keeps.
SECRETS = ("input-7f3a", "result-7f3a", "saved-7f3a", "filed-7f3a", "meta-7f3a", "bound-7f3a", "failed-7f3a", "blob-7f3a")


class Declined(Exception):
    pass


@pytest.fixture(autouse=True)
def _no_key_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLDFAST_ENCRYPTION_KEY", raising=False)


# a program that keeps something of every kind

interrupted = False
ledger = Ledger()


@task
async def secret_step(given: str) -> str:
    ledger.ran(given)
    return f"result-7f3a of {given}"


@task
async def large(given: str) -> str:
    return given * (BIG // len(given))


@task
async def declined() -> None:
    raise Declined("failed-7f3a")


@task
async def files() -> None:
    """What is left to load where it was interrupted: a directory, or the file before it."""
    saved = await ctx().checkpoint.load()
    if saved is None:
        folder = ctx().checkpoint.path / "folder"
        folder.mkdir()
        (folder / "filed-7f3a.txt").write_text(FILED)
        await ctx().checkpoint.save(folder / "filed-7f3a.txt", metadata={"of": "meta-7f3a"})
        await ctx().checkpoint.save(folder)
    else:
        assert (saved / "filed-7f3a.txt" if saved.is_dir() else saved).read_text() == FILED
    if interrupted:
        raise RuntimeError("out of the way")


@task
async def program(given: str) -> list[Any]:
    saved = await ctx().checkpoint.load(dict[str, str])
    with custom_context(tenant="bound-7f3a"):
        first = await secret_step(given)
        ledger.got(given)
    size = len(await large("blob-7f3a"))
    try:
        await declined()
    except Declined as error:
        reason = str(error)
    if saved is None:
        await ctx().checkpoint.save({"state": "saved-7f3a"}, metadata={"of": "meta-7f3a"})
        await ctx().checkpoint.save({"state": "saved-7f3a"})
    await asyncio.gather(files(), files())
    return [first, size, reason, (saved or {"state": "saved-7f3a"})["state"]]


RIGHT = ["result-7f3a of input-7f3a", BIG // 9 * 9, "failed-7f3a", "saved-7f3a"]


def live(store: Store, *, interrupt: bool = False) -> list[Any]:
    global interrupted
    interrupted = interrupt
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hf.errors.HoldfastWarning)
        return asyncio.run(hf.run(program("input-7f3a"), run_name="r", store=store, durability="flush", handle_signals=False))


def live_in(folder: Folder, *, interrupt: bool = False) -> Exception | None:
    """Run it, hold its result to be right, and return what it raised."""
    try:
        assert live(Store.on(folder, lease=LEASE), interrupt=interrupt) == RIGHT
    except AssertionError:
        raise
    except Exception as error:
        return error
    return None


class Disk:
    """A local folder, to be opened with a key and looked at without."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "store"

    def plain(self) -> Folder:
        return Store(self.root).folder

    def opened(self, *keys: bytes) -> Folder:
        return EncryptedFolder(self.plain(), keys or KEY)

    def objects(self) -> dict[str, bytes]:
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def restore(self, objects: dict[str, bytes]) -> None:
        shutil.rmtree(self.root)
        for name, data in objects.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(data)


class Bucket:
    """The same, of objects in memory."""

    def __init__(self, _: Path) -> None:
        self.bucket = MemoryBucket()

    def plain(self) -> Folder:
        return bucket_folder(self.bucket)

    def opened(self, *keys: bytes) -> Folder:
        return EncryptedFolder(self.plain(), keys or KEY)

    def objects(self) -> dict[str, bytes]:
        return {name: each.data for name, each in self.bucket.objects.items()}

    def restore(self, objects: dict[str, bytes]) -> None:
        self.bucket.objects.clear()
        for name, data in objects.items():
            asyncio.run(self.bucket.put(name, data))


Place: TypeAlias = Disk | Bucket


@pytest.fixture(params=[Disk, Bucket])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    made: Place = request.param(tmp_path)
    return made


def begin(folder: Folder, *, interrupt: bool) -> None:
    error = live_in(folder, interrupt=interrupt)
    assert isinstance(error, RuntimeError) if interrupt else error is None, error


# what is seen without the key


@pytest.mark.parametrize("interrupt", [False, True])
def test_nothing_of_a_run_can_be_read_in_the_bytes_of_its_store(place: Place, interrupt: bool) -> None:
    begin(place.opened(), interrupt=interrupt)
    objects = place.objects()
    kinds = {name.partition("/")[0] if not name.startswith("runs/") else name.split("/")[3] for name in objects}
    assert {"blobs", "run.json", "journal", "actions"} <= kinds
    forbidden = [*SECRETS, "secret_step", "Declined", '"pid"', '"host"', '"e":', 'holdfast":']
    forbidden += [base64.b64encode(secret.encode()).decode()[:10] for secret in SECRETS]
    forbidden += [secret.encode().hex() for secret in SECRETS]
    for name, data in objects.items():
        assert data == b"" or data.startswith(MAGIC), name
        for word in forbidden:
            assert word.encode() not in data, (name, word)


def test_the_key_is_nowhere_in_the_store(place: Place) -> None:
    begin(place.opened(), interrupt=False)
    forms = (KEY, KEY[:8], KEY[-8:], KEY.hex().encode(), base64.b64encode(KEY), base64.urlsafe_b64encode(KEY))
    for name, data in place.objects().items():
        assert not any(form in data or form in name.encode() for form in forms), name


def test_the_same_run_again_writes_nothing_alike(tmp_path: Path) -> None:
    one, other = Disk(tmp_path / "a"), Disk(tmp_path / "b")
    assert live_in(one.opened()) is live_in(other.opened()) is None
    blobs = [name for name in one.objects() if name.startswith("blobs/")]
    assert blobs
    for name in blobs:
        assert name in other.objects(), "a blob is named by its plain content"
        assert one.objects()[name][24:] != other.objects()[name][24:]


# keys


def test_a_finished_run_is_answered_from_record_with_its_key(place: Place) -> None:
    assert live_in(place.opened()) is None
    before = place.objects()
    assert live_in(place.opened()) is None
    assert {name for name in place.objects() if "owner" not in name} == {name for name in before if "owner" not in name}


@pytest.mark.parametrize("interrupt", [False, True])
def test_another_key_or_none_is_refused_by_every_verb_and_changes_nothing(place: Place, interrupt: bool) -> None:
    begin(place.opened(), interrupt=interrupt)
    before = place.objects()
    for folder, error in ((place.opened(OTHER), WrongKey), (place.plain(), StoreEncrypted)):
        store = Store.on(folder)
        verbs: tuple[Callable[[], object], ...] = (
            lambda store=store: live(store),  # type: ignore[misc]
            store.runs_sync,
            lambda store=store: store.state_sync("r"),  # type: ignore[misc]
            lambda store=store: store.stop_sync("r"),  # type: ignore[misc]
            lambda store=store: store.cancel_sync("r"),  # type: ignore[misc]
            store.gc_sync,
            lambda store=store: hf.run_sync(large("x"), run_name="another", store=store),  # type: ignore[misc]
        )
        for verb in verbs:
            with pytest.raises(error):
                verb()
    assert place.objects() == before


def test_a_store_that_is_not_encrypted_is_refused_with_a_key_and_left_alone(place: Place) -> None:
    assert live_in(place.plain()) is None
    before = place.objects()
    store = Store.on(place.opened())
    verbs: tuple[Callable[[], object], ...] = (
        lambda: live(store),
        lambda: store.state_sync("r"),
        lambda: hf.run_sync(large("x"), run_name="another", store=store),
    )
    for verb in verbs:
        with pytest.raises(NotEncrypted):
            verb()
    assert place.objects() == before


def test_while_keys_change_old_runs_go_on_and_what_is_new_needs_the_new_key_alone(place: Place) -> None:
    assert isinstance(live_in(place.opened(OTHER), interrupt=True), RuntimeError)
    before = set(place.objects())
    assert live_in(place.opened(KEY, OTHER)) is None
    keys = Keys(KEY)
    for name, data in place.objects().items():
        if name not in before and data:
            keys.decrypt(data, name, name)
    assert isinstance(live_in(place.opened(KEY)), WrongKey)
    assert isinstance(live_in(place.opened(OTHER)), StoreError)
    assert Store.on(place.opened(OTHER, KEY)).state_sync("r").status is Status.COMPLETED


def test_the_key_comes_by_option_or_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = base64.urlsafe_b64encode(KEY)
    assert live(Store(tmp_path, encryption_key=text)) == RIGHT
    with pytest.raises(StoreEncrypted, match="HOLDFAST_ENCRYPTION_KEY"):
        live(Store(tmp_path))
    monkeypatch.setenv("HOLDFAST_ENCRYPTION_KEY", text.decode())
    assert live(Store(tmp_path)) == RIGHT
    assert asyncio.run(hf.run(program("input-7f3a"), run_name="r", store=tmp_path)) == RIGHT
    with pytest.raises(WrongKey):
        live(Store(tmp_path, encryption_key=OTHER))
    monkeypatch.setenv("HOLDFAST_ENCRYPTION_KEY", "not a key")
    with pytest.raises(InvalidOption) as caught:
        Store(tmp_path)
    assert "not a key" not in str(caught.value)


def test_a_store_never_shows_its_key(tmp_path: Path) -> None:
    store = Store(tmp_path, encryption_key=KEY)
    shown = f"{store!r} {store.folder!r} {vars(store)} {vars(store.folder)}"
    assert not any(form in shown for form in (KEY.hex(), repr(KEY)[2:-1], base64.b64encode(KEY).decode()))


def test_a_run_that_was_moved_to_another_name_is_damaged_there(tmp_path: Path) -> None:
    place = Disk(tmp_path)
    assert live_in(place.opened()) is None
    (tmp_path / "store" / "runs" / "r").rename(tmp_path / "store" / "runs" / "s")
    with pytest.raises(JournalDamaged):
        Store.on(place.opened()).state_sync("s")


def test_a_store_that_was_moved_is_the_same_store(tmp_path: Path) -> None:
    place = Disk(tmp_path)
    assert live_in(place.opened()) is None
    (tmp_path / "store").rename(tmp_path / "moved")
    assert live(Store(tmp_path / "moved", encryption_key=KEY)) == RIGHT


# damage


def spots(size: int) -> Iterator[int]:
    """Offsets in the header of the first record, in its text, in its tag, and in the last record."""
    yield from sorted({at for at in (0, 8, 16, 24, 32, 50, size // 2, size - 1) if 0 <= at < size})


@pytest.mark.slow
@pytest.mark.parametrize("interrupt", [False, True])
def test_a_flipped_byte_in_any_object_is_named_or_mended_and_never_a_wrong_result(place: Place, interrupt: bool) -> None:
    begin(place.opened(), interrupt=interrupt)
    whole = place.objects()
    for name, data in whole.items():
        for at in spots(len(data)):
            place.restore({**whole, name: data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]})
            error = live_in(place.opened())
            if isinstance(error, RuntimeError):  # the end of the run was torn off, and with it that this failure was its last word
                error = live_in(place.opened())
            assert error is None or isinstance(error, (JournalDamaged, CheckpointCorrupt, BlobCorrupt)), (name, at, error)


# crashes


class Encrypted:
    """A place on which programs keep their runs encrypted."""

    def __init__(self, inside: crashes.Place) -> None:
        self.inside = inside
        self.ways = inside.ways

    def fresh(self) -> Encrypted:
        return Encrypted(self.inside.fresh())

    def begin(self, point: Point | None) -> tuple[Store, Life]:
        store, life = self.inside.begin(point)
        return Store.on(EncryptedFolder(store.folder, KEY)), life

    def play(self, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        return self.inside.play(main)

    def left(self, power_cut: random.Random | None = None) -> Encrypted:
        return Encrypted(self.inside.left(power_cut))

    def seen(self) -> Encrypted:
        return Encrypted(self.inside.seen())

    def settle(self) -> None:
        self.inside.settle()

    @property
    def store(self) -> Store:
        return Store.on(EncryptedFolder(self.inside.store.folder, KEY))


def hold(survivals: Iterable[Survival[list[Any]]]) -> int:
    """Hold a program to the laws, and return how many were killed."""
    count = 0
    for survival in survivals:
        assert survival.value == RIGHT, f"{survival}: {survival.error!r}"
        assert ledger.again == [], survival
        assert isinstance(survival.place, Encrypted)
        with pytest.raises(StoreEncrypted):
            survival.place.inside.store.state_sync(crashes.RUN_NAME)
        count += 1
    return count


@pytest.mark.slow
@pytest.mark.parametrize("inside", [DiskPlace, BucketPlace])
def test_killed_anywhere_it_gives_the_right_result_and_repeats_nothing(inside: type[DiskPlace | BucketPlace]) -> None:
    global interrupted
    interrupted = False
    assert hold(crash_everywhere(lambda: program("input-7f3a"), on=Encrypted(inside()), ledger=ledger, step=5)) > 20


@pytest.mark.parametrize("room", [*range(0, 20_000, 1_900), 60_000, 120_000])
def test_a_disk_that_fills_up_anywhere_leaves_a_run_to_go_on_with(room: int) -> None:
    disk = MemoryDisk()
    assert isinstance(live_in(EncryptedFolder(memory_folder(FullDisk(disk, after_bytes=room)), KEY)), StoreFull)
    assert live_in(EncryptedFolder(memory_folder(disk), KEY)) is None


@pytest.mark.slow
def test_whatever_the_disk_forgets_it_gives_the_right_result_and_repeats_nothing() -> None:
    global interrupted
    interrupted = False
    assert hold(power_cuts(lambda: program("input-7f3a"), range(40), on=Encrypted(DiskPlace()), ledger=ledger)) == 40
