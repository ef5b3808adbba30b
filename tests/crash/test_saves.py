"""What a save acknowledged, every later attempt loads: wherever the process is killed, whatever the disk forgets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from servers.fixtures import Server

from holdfast import Retry, ctx, task
from holdfast.folders.objects import ObjectFolder
from holdfast.testing import Ledger, Survival, crash_everywhere, power_cuts
from holdfast.testing.places import On, RemotePlace

ledger = Ledger()
ROUNDS = 5
LARGE = 70_000  # beside its manifest, not in it


@task(keep=2)
async def saves() -> int:
    """It saves before it calls anything: nothing but the save itself makes its attempt durable."""
    loaded = await ctx().checkpoint.load(int) or 0
    ledger.ran(f"loaded {loaded}")
    for n in range(loaded + 1, ROUNDS + 1):
        await ctx().checkpoint.save(n)
        ledger.got(f"saved {n}")
    return await ctx().checkpoint.load(int) or 0


@task(retries=Retry(max_attempts=ROUNDS + 1))
async def saves_and_fails() -> int:
    """Each attempt saves once, in the background, and fails."""
    loaded = await ctx().checkpoint.load(bytes)
    done = len(loaded) // LARGE if loaded is not None else 0
    ledger.ran(f"loaded {done}")
    if done == ROUNDS:
        return done
    await ctx().checkpoint.save(bytes(LARGE * (done + 1)), wait=False)
    await ctx().checkpoint.flush()
    ledger.got(f"saved {done + 1}")
    raise ValueError("and again")


def made(folder: Path, count: int) -> Path:
    folder.mkdir()
    for part in range(count):
        (folder / str(part)).write_bytes(bytes([part]) * 10)
    return folder


@task
async def saves_folders() -> int:
    restored = await ctx().checkpoint.load()
    loaded = len(list(restored.iterdir())) if restored is not None else 0
    ledger.ran(f"loaded {loaded}")
    for n in range(loaded + 1, ROUNDS + 1):
        await ctx().checkpoint.save(made(ctx().checkpoint.path / f"made-{n}", n))
        ledger.got(f"saved {n}")
    return ROUNDS


PROGRAMS = [saves, saves_and_fails, saves_folders]


def hold(survivals: Iterable[Survival[int]]) -> int:
    """Hold a program to the law, and return how many times it was killed."""
    count = 0
    for survival in survivals:
        assert survival.value == ROUNDS, f"{survival}: {survival.error!r}"
        saved = seen = 0
        for entry in survival.entries:
            verb, number = entry.what.split()
            n = int(number)
            if verb == "saved":
                saved = n
            else:
                assert saved <= n <= seen + 1, f"{survival}: {n} was loaded, and {saved} had been saved"
            seen = n
        count += len(survival.crashes)
    return count


@pytest.mark.parametrize("on", ["disk", "bucket"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_an_acknowledged_save_is_loaded_wherever_the_process_is_killed(program: Any, on: On) -> None:
    assert hold(crash_everywhere(program.call, step=13, on=on, ledger=ledger)) > 5


@pytest.mark.parametrize("on", ["disk", "bucket"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_an_acknowledged_save_is_loaded_whatever_is_forgotten_or_late(program: Any, on: On) -> None:
    assert hold(power_cuts(program.call, range(15), on=on, ledger=ledger)) > 15


@pytest.mark.campaign
@pytest.mark.parametrize("on", ["disk", "bucket"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_an_acknowledged_save_is_loaded_in_many_histories(program: Any, on: On, record_property: Any) -> None:
    histories = range(25, 1025 if on == "disk" else 325)
    killed = hold(crash_everywhere(program.call, on=on, late_by=(1, 2, 4, 7, 12, 20), ledger=ledger))
    killed += hold(power_cuts(program.call, histories, on=on, ledger=ledger))
    record_property(f"tried: killed while saving, {on} in memory", killed)


@pytest.mark.campaign
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_an_acknowledged_save_is_loaded_from_s3(program: Any, moto: Server, record_property: Any) -> None:
    def folder(path: str) -> ObjectFolder:
        found = moto.folder(f"saves-{program.__name__}/{path}")
        assert isinstance(found, ObjectFolder)
        return found

    killed = hold(crash_everywhere(program.call, step=3, late_by=[3], on=RemotePlace(folder), ledger=ledger))
    record_property("tried: killed while saving, S3", killed)
