"""When a group is written that nobody waits for, and what of one stays in memory that was."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from holdfast.events import Event, Warned
from holdfast.folders.opening import open_folder
from holdfast.journals.owning import take_over
from holdfast.journals.reading import read_journal
from holdfast.journals.writing import Flush, Journal
from holdfast.testing.loops import VirtualLoop, run_in

INTERVAL = 0.1


def note(text: str) -> Event:
    return Warned(action="a", at=1.0, category="Note", text=text)


class QuickPen:
    """Keeps when each line was given to it. All of it counts a little later."""

    epoch = 1

    def __init__(self) -> None:
        self.written: list[float] = []
        self.groups = 0

    def write(self, lines: Sequence[bytes], done: Callable[[BaseException | None], None]) -> None:
        loop = asyncio.get_running_loop()
        self.groups += 1
        self.written += [loop.time()] * len(lines)
        loop.call_later(0.001, done, None)

    async def look(self) -> None: ...

    def stop(self) -> None: ...


@pytest.mark.parametrize("seed", range(20))
def test_what_nobody_waits_for_is_written_within_the_interval_whatever_others_waited_for(seed: int) -> None:
    async def law() -> None:
        dice, pen, appended = random.Random(seed), QuickPen(), list[float]()
        journal, loop = Journal("r", pen, Flush(interval=INTERVAL)), asyncio.get_running_loop()
        for _ in range(60):
            appended.append(loop.time())
            journal.append(note("it"))
            if dice.random() < 0.4:
                await journal.barrier()
            await asyncio.sleep(dice.choice([0.0, 0.03, 0.07, 0.25]))
        await asyncio.sleep(2 * INTERVAL)
        waited = [written - then for then, written in zip(appended, pen.written, strict=True)]
        assert max(waited) <= INTERVAL + 0.002, "one group may be under way"
        journal.abandon()

    run_in(VirtualLoop(), law)


def test_a_later_event_waits_for_company_as_long_as_any() -> None:
    async def law() -> None:
        pen = QuickPen()
        journal, loop = Journal("r", pen, Flush(interval=INTERVAL)), asyncio.get_running_loop()
        await journal.commit(note("is waited for"))
        await asyncio.sleep(INTERVAL / 2)
        began = loop.time()
        journal.append(note("first"))
        await asyncio.sleep(INTERVAL * 0.9)
        journal.append(note("second"))
        await asyncio.sleep(INTERVAL)
        assert pen.groups == 2
        assert [round(written - began, 3) for written in pen.written[1:]] == [INTERVAL, INTERVAL]
        journal.abandon()

    run_in(VirtualLoop(), law)


def test_what_was_written_is_not_kept(tmp_path: Path) -> None:
    async def law() -> None:
        folder = open_folder(str(tmp_path)).child("runs/it/000000")
        journal, _ = await take_over(folder, "it", await read_journal(folder), sync=False)
        await journal.commit(note("the first one"))
        tracemalloc.start()
        try:
            await journal.commit(note("x" * 5_000_000))
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < 1_000_000
        finally:
            tracemalloc.stop()
        await journal.aclose()

    asyncio.run(law())
