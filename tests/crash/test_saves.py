"""What a save acknowledged, every later attempt loads: wherever the process is killed, whatever the disk forgets."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from holdfast import Retry, ctx, task
from holdfast.testing import Ledger, Survival, crash_everywhere, power_cuts

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


def hold(survivals: Iterable[Survival[int]]) -> None:
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


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_an_acknowledged_save_is_loaded_wherever_the_process_is_killed(program: object) -> None:
    hold(crash_everywhere(program.call, step=13, ledger=ledger))  # type: ignore[attr-defined]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_an_acknowledged_save_is_loaded_whatever_the_disk_forgets(program: object) -> None:
    hold(power_cuts(program.call, range(25), ledger=ledger))  # type: ignore[attr-defined]


@pytest.mark.campaign
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_an_acknowledged_save_is_loaded_in_a_thousand_histories(program: object) -> None:
    hold(crash_everywhere(program.call, ledger=ledger))  # type: ignore[attr-defined]
    hold(power_cuts(program.call, range(25, 1025), ledger=ledger))  # type: ignore[attr-defined]
