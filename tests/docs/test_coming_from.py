"""Whoever comes from another system finds each of its names: these are all that the source pages have, read off by hand."""

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
    "Ondine": {
        "ExecutionContext": (
            "session_id",
            "pipeline_id",
            "start_time",
            "end_time",
            "current_stage_index",
            "last_processed_row",
            "total_rows",
            "accumulated_cost",
            "accumulated_tokens",
            "intermediate_data",
            "failed_rows",
            "skipped_rows",
            "observers",
            "observer_dispatcher",
            "trace_id",
            "span_id",
            "update_stage",
            "update_row",
            "add_cost",
            "notify_progress",
            "get_progress",
            "get_stats",
            "to_checkpoint",
            "from_checkpoint",
            "to_dict",
            "from_dict",
        ),
        "ProcessingStats": ("total_rows", "processed_rows", "failed_rows", "skipped_rows", "rows_per_second", "total_duration_seconds"),
        "beside": (
            "ExecutionObserver",
            "on_progress_update",
            "ObserverDispatcher",
            "CostTracker(input_per_1k, output_per_1k)",
            "LLMInvocationStage",
        ),
    },
    "LUTE": {
        "classes": ("TaskParameters", "Task", "Executor"),
        "TaskResult": ("task_name", "task_status", "summary", "payload", "impl_schemas"),
        "TaskStatus": ("PENDING", "RUNNING", "COMPLETED", "FAILED", "STOPPED", "CANCELLED", "TIMEDOUT"),
        "DescribedAnalysis": ("task_result", "task_parameters", "task_env", "poll_interval", "communicator_desc"),
        "ElogSummaryPlots": ("display_name", "figures", "pn.Tabs", "hv.Image", "plt.Figure"),
    },
    "Openfabric": {
        "Ray": ("progress(name, step, total)", "message(message_type, content)", "clear_messages"),
        "MessageType": ("INFO", "ERROR", "WARNING"),
        "State": ("status", "started_at"),
        "StateStatus": ("UNKNOWN", "STARTING", "RUNNING", "CRASHED", "PENDING_CONFIG"),
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


def test_nothing_that_the_sources_have_is_still_to_come() -> None:
    assert "not yet" not in PAGE.read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bhf\.(\w+)", PAGE.read_text(encoding="utf-8")))))
def test_what_it_says_to_write_is_there(name: str) -> None:
    assert name in holdfast.__all__


def test_the_old_words_of_these_systems_are_read() -> None:
    for word in NAMES["EleanorAI"]["StageStatus"] + NAMES["LUTE"]["TaskStatus"] + NAMES["Openfabric"]["StateStatus"]:
        assert holdfast.Status.parse(word) in holdfast.Status
    for number, word in enumerate(NAMES["LUTE"]["TaskStatus"]):
        assert holdfast.Status.parse(number) is holdfast.Status.parse(word)
