# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false, reportUnusedExpression=false
"""What type checkers see of rows. Never run: read by mypy and pyright (test_types.py)."""

from collections.abc import AsyncIterator
from typing import assert_type

import holdfast as hf
from holdfast import Rate, Record, Records, RecordStatus, SimpleRecordsResult, task


@task
async def classify(line: str, model: str = "small") -> int:
    return len(line) + len(model)


@task
def measure(line: str) -> float:
    return float(line)


async def lines() -> AsyncIterator[str]:
    yield ""


async def rows() -> None:
    assert_type(await hf.map(classify, ["a"]), list[int])
    assert_type(await hf.map(classify, lines(), on_error="skip", concurrency=Rate(5)), list[int])
    assert_type(await hf.map(classify, {"a": 1}, on_error="collect", group="g"), list[int | Exception])
    assert_type(await hf.map(measure, (line for line in "ab")), list[float])
    found = hf.records(classify, lines(), retry_skipped=True)
    assert_type(found, Records[str, int])
    async for row in found:
        assert_type(row, Record[str, int])
        assert_type(row.index, int)
        assert_type(row.item, str)
        assert_type(row.value, int | None)
        assert_type(row.error, Exception | None)
        assert_type(row.status, RecordStatus)
    async with hf.records(measure, ["a"]) as measured:
        assert_type(await measured.__anext__(), Record[str, float])
        await measured.aclose()
    assert_type(found.summary, SimpleRecordsResult)
    assert_type(found.summary.fail_count, int)
    assert_type(found.summary.message, str | None)
    assert_type(found.summary.is_complete, bool)


async def refused() -> None:
    await hf.map(classify, [1])  # type: ignore[misc]
    await hf.map(classify, ["a"], on_error="ignore")  # type: ignore[call-overload]
    hf.records(len, ["a"])  # type: ignore[arg-type]
