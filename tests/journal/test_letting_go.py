"""A journal that is let go leaves nobody waiting."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.errors import RunStopped
from holdfast.events import Warned
from holdfast.folders.opening import open_folder
from holdfast.journals.owning import take_over
from holdfast.journals.reading import read_journal

NOTE = Warned(action="a", at=1.0, category="HoldfastWarning", text="it")


def test_whoever_waits_for_a_journal_that_is_let_go_is_told_at_once() -> None:
    async def law() -> None:
        folder = open_folder("memory://let-go").child("runs/it/000000")
        journal, _ = await take_over(folder, "it", await read_journal(folder), sync=True)
        under_way = asyncio.create_task(journal.commit(NOTE))
        await asyncio.sleep(0)  # it is with the writer now
        queued = asyncio.create_task(journal.commit(NOTE))
        await asyncio.sleep(0)
        journal.abandon()
        for waiting in (under_way, queued):
            with pytest.raises(RunStopped):
                await asyncio.wait_for(waiting, 10)
        with pytest.raises(RunStopped):
            await journal.commit(NOTE)

    asyncio.run(law())
