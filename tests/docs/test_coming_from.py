"""Whoever comes from another system finds each of its names: these are all that the two source pages have, read off by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import holdfast

PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"

NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "EleanorAI": {
        "module": (
            "ACTIVE_STATES",
            "CANCELABLE_STATES",
            "INACTIVE_STATES",
            "STAGE_NAME_MAX_LENGTH",
            "STAGE_RESULT",
            "TaskEngine",
            "BaseStage",
        ),
        "BaseStageState": ("attempts", "history", "model_config", "result", "stage_name", "status", "task_id"),
        "RecordStatus": ("ERROR", "SUCCESS", "UNPROCESSED"),
        "RetryPolicy": ("GLOBAL", "NONE", "STAGE"),
        "SimpleRecordsResult": ("fail_count", "message", "success_count", "total_count", "unprocessed_count"),
        "StageStateHistoryEntry": ("attempt", "begin_status", "begin_ts", "end_status", "end_ts", "message", "run_time_seconds"),
        "StageStatus": ("CANCELED", "COMPLETE", "CREATED", "ERROR", "RETRY", "RUNNING", "UNBOUND"),
    },
    "LUTE": {
        "classes": ("TaskParameters", "Task", "Executor"),
        "TaskResult": ("task_name", "task_status", "summary", "payload", "impl_schemas"),
        "TaskStatus": ("PENDING", "RUNNING", "COMPLETED", "FAILED", "STOPPED", "CANCELLED", "TIMEDOUT"),
        "DescribedAnalysis": ("task_result", "task_parameters", "task_env", "poll_interval", "communicator_desc"),
        "ElogSummaryPlots": ("display_name", "figures", "pn.Tabs", "hv.Image", "plt.Figure"),
    },
}
CASES = [(system, of, name) for system, classes in NAMES.items() for of, names in classes.items() for name in names]


def tables(system: str) -> list[list[str]]:
    """The first cells of each of a system's tables, where its own names stand."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {system}\n")[2].partition("\n## ")[0]
    parts = [part.strip().splitlines() for part in section.split("\n\n")]
    return [[line.split("|")[1] for line in part] for part in parts if part[0].startswith("|")]


@pytest.mark.parametrize(("system", "of", "name"), CASES)
def test_each_name_of_the_other_system_is_on_the_left_of_the_table_of_its_class(system: str, of: str, name: str) -> None:
    named = [set(re.findall(r"`([^`]+)`", " ".join(cells))) for cells in tables(system)]
    of_class = [names for names, cells in zip(named, tables(system), strict=True) if f"`{of}`" in cells[0]] if of[0].isupper() else named
    assert name in set[str]().union(*of_class), f"{of}.{name}"


def test_what_the_page_says_is_not_there_yet_is_not_there() -> None:
    left = [line.split("|")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|") and "**not yet**" in line]
    named = {found for row in left for found in re.findall(r"`(\w+)`", row)}
    assert named & set(holdfast.__all__) <= {"MessageType"}  # of messages there is the type already, and nobody who says one


def test_the_old_words_of_both_systems_are_read() -> None:
    for word in NAMES["EleanorAI"]["StageStatus"] + NAMES["LUTE"]["TaskStatus"]:
        assert holdfast.Status.parse(word) in holdfast.Status
    for number, word in enumerate(NAMES["LUTE"]["TaskStatus"]):
        assert holdfast.Status.parse(number) is holdfast.Status.parse(word)
