"""What a run that ends oddly leaves behind: nothing that is in the way of the next."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.errors import CodeChanged, JournalDamaged


@hf.task
async def answer() -> int:
    return 42


def test_a_run_started_in_the_last_line_of_a_loop_can_be_had_again_at_once(tmp_path: Path) -> None:
    async def last_line() -> None:
        await hf.start(answer(), run_name="it", store=tmp_path)

    asyncio.run(last_line())
    assert asyncio.run(hf.run(answer(), run_name="it", store=tmp_path)) == 42


@pytest.mark.parametrize("word", [b'"run_id":"', b'"root":"', b'"inputs":"', b'"created":', b'"holdfast":"', b'"check":"'])
def test_a_flipped_byte_in_run_json_is_damage(tmp_path: Path, word: bytes) -> None:
    assert asyncio.run(hf.run(answer(), run_name="it", store=tmp_path)) == 42
    file = tmp_path / "runs" / "it" / "000000" / "run.json"
    data = bytearray(file.read_bytes())
    data[data.index(word) + len(word)] ^= 1
    file.write_bytes(data)
    with pytest.raises(JournalDamaged, match=r"run\.json"):
        asyncio.run(hf.run(answer(), run_name="it", store=tmp_path))


def test_a_resume_warns_of_changed_code_of_the_root_too(tmp_path: Path) -> None:
    def version_one(fail: bool) -> hf.AsyncTask[[], int]:
        @hf.task(name="root")
        async def root() -> int:
            raise ConnectionError

        @hf.task(name="root")
        async def repaired() -> int:
            return 1

        return root if fail else repaired

    with pytest.raises(ConnectionError):
        asyncio.run(hf.run(version_one(True)(), run_name="it", store=tmp_path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert asyncio.run(hf.run(version_one(False)(), run_name="it", store=tmp_path)) == 1
    assert [warning.category for warning in caught] == [CodeChanged]
