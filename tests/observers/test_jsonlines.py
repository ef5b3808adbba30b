"""Lines of JSON: every event once, in a form that stays, and nothing of values unless it is asked for."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast import Retry, ctx, custom_context, run, task
from holdfast.errors import InvalidOption
from holdfast.events import Missed, RunOpened, Ticked, Unknown, Warned
from holdfast.observers.jsonlines import COMMON, JsonLinesObserver
from holdfast.status import Status
from holdfast.testing import MemoryDisk, memory_store
from holdfast.testing.conformance_observers import CALLS, EXPECTED, Recorder, observed, observed_side_by_side

SECRET = "hunter2-is-my-password"


def parsed(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_every_event_is_a_line_with_all_common_fields(tmp_path: Path) -> None:
    recorder = Recorder()
    assert observed([JsonLinesObserver(tmp_path / "events.jsonl", progress=True), recorder]) == EXPECTED
    lines = parsed((tmp_path / "events.jsonl").read_text())
    assert [line["event"] for line in lines] == [event.kind for event in recorder.events]
    for line, event in zip(lines, recorder.events, strict=True):
        assert tuple(line)[: len(COMMON)] == COMMON
        assert line["action"] == event.action
        assert line["live"] is event.live
        at = datetime.fromisoformat(line["time"])
        assert at.tzinfo is not None
        assert abs((at - event.time).total_seconds()) < 1e-5
        assert line["run_name"] == "observed"
    assert {line["run_id"] for line in lines} == {lines[0]["run_id"]}


def test_an_end_says_task_parent_attempt_status_and_error() -> None:
    out = io.StringIO()
    observed([JsonLinesObserver(out)])
    lines = parsed(out.getvalue())
    root = lines[0]["action"]
    failed = [line for line in lines if line["event"] == "attempt_ended" and line["status"] == "FAILED"]
    assert sorted((line["task"], line["attempt"], line["then"], line["parent"]) for line in failed) == [
        ("conformance.refuse", 0, "FAILED", root),
        *[("conformance.square", 0, "RETRYING", root)] * 2,
    ]
    assert [line["error"] for line in failed if line["task"] == "conformance.refuse"] == [
        {"type": "ValueError", "text": "100 % {wrong} [bold]%s"}
    ]
    assert sum(line["event"] == "checkpoint_saved" and line["attempt"] is not None for line in lines) == CALLS
    assert not any(line["event"] == "ticked" for line in lines)


@task(name="jsonl.keeps_secrets", retries=Retry(2, initial_interval=0))
async def keeps_secrets(secret: str) -> dict[str, str]:
    ctx().summary(secret)
    return {"password": secret}


@task(name="jsonl.secretive")
async def secretive(secret: str) -> str:
    with custom_context(token=secret):
        found = await keeps_secrets(secret)
    return found["password"]


@pytest.mark.parametrize("values", [False, True])
def test_values_are_written_only_where_they_are_asked_for(values: bool) -> None:
    async def main() -> str:
        async with memory_store(MemoryDisk()) as store:
            observers = [JsonLinesObserver(out, values=values)]
            return await run(secretive(SECRET), run_name="it", store=store, observers=observers, custom_context={"key": SECRET})

    out = io.StringIO()
    assert asyncio.run(main()) == SECRET
    assert (SECRET in out.getvalue()) is values
    ended = [line for line in parsed(out.getvalue()) if line["event"] == "attempt_ended"]
    assert [line.get("value") for line in ended] == ([{"password": SECRET}, SECRET] if values else [None, None])


def test_answers_from_record_are_flagged() -> None:
    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            for out in outs:
                with pytest.raises(LookupError):
                    await run(fails_after_one(), run_name="it", store=store, observers=[JsonLinesObserver(out)])

    @task(name="jsonl.fails_after_one")
    async def fails_after_one() -> None:
        await keeps_secrets("x")
        raise LookupError

    outs = [io.BytesIO(), io.BytesIO()]
    asyncio.run(main())
    first, second = (parsed(out.getvalue().decode()) for out in outs)
    assert [line["task"] for line in first if line["replayed"]] == []
    assert [(line["event"], line["task"], line["status"]) for line in second if line["replayed"]] == [
        ("replayed", "jsonl.keeps_secrets", "COMPLETED")
    ]
    assert first[0]["run_id"] == second[0]["run_id"]


@pytest.mark.parametrize("to_file", [True, False])
def test_runs_side_by_side_write_whole_lines_into_one_file(tmp_path: Path, to_file: bool) -> None:
    out, path = io.StringIO(), tmp_path / "events.jsonl"
    observed_side_by_side([JsonLinesObserver(path if to_file else out)], runs=6)
    lines = parsed(path.read_text() if to_file else out.getvalue())
    ended = [line["run_name"] for line in lines if line["event"] == "attempt_ended" and line["parent"] is None]
    assert sorted(ended) == [f"observed-{number}" for number in range(6)]
    assert len({line["run_id"] for line in lines}) == 6


def test_what_is_there_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for _ in range(2):
        observed([JsonLinesObserver(str(path))])
    lines = parsed(path.read_text())
    assert [line["is_new"] for line in lines if line["event"] == "run_opened"] == [True, True]


def test_events_of_a_newer_version_and_gaps_are_lines_too() -> None:
    out = io.StringIO()
    observer = JsonLinesObserver(out)
    observer.on_event(Unknown(action="A", at=0.0, record={"e": "of_tomorrow", "value": SECRET}))
    observer.on_event(Missed(action="", at=0.0, count=3))
    newer, gap = parsed(out.getvalue())
    assert (newer["event"], newer["action"], newer["run_name"]) == ("of_tomorrow", "A", None)
    assert SECRET not in out.getvalue()
    assert (gap["event"], gap["count"], gap["action"]) == ("missed", 3, None)


def test_a_stream_is_never_closed_and_each_line_is_there_at_once() -> None:
    class Buffered(io.BytesIO):
        flushed = 0

        def flush(self) -> None:
            type(self).flushed += 1

    out = Buffered()
    observed([JsonLinesObserver(out)])
    assert not out.closed
    assert Buffered.flushed > out.getvalue().count(b"\n")


def test_a_full_disk_is_counted_and_the_next_line_begins_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    observer = JsonLinesObserver(path)
    event = Missed(action="", at=0.0, count=1)
    observer.on_event(event)
    write = os.write
    monkeypatch.setattr("os.write", lambda descriptor, data: write(descriptor, data[:9]))
    with pytest.raises(OSError, match="9 of the"):
        observer.on_event(event)
    monkeypatch.undo()
    observer.on_event(event)
    first, torn, last = path.read_text().splitlines()
    assert json.loads(first) == json.loads(last)
    assert len(torn) == 9


def test_a_place_that_can_not_be_written_to_is_told_when_the_observer_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        JsonLinesObserver(tmp_path / "nowhere" / "events.jsonl")
    with pytest.raises(InvalidOption, match="a path or an open file"):
        JsonLinesObserver(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="of this machine"):
        JsonLinesObserver("s3://bucket/events.jsonl")


def test_one_whose_file_is_gone_at_the_start_harms_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    observer = JsonLinesObserver(folder / "events.jsonl")
    (folder / "events.jsonl").unlink()
    folder.rmdir()
    with caplog.at_level(logging.WARNING, "holdfast"):
        assert observed([observer]) == EXPECTED
    assert "failed; it is told of further events" in caplog.text


def test_any_text_can_be_read_back() -> None:
    text = '日本 \ud800 \n " \x00 \u2028'
    out, stream = io.BytesIO(), io.StringIO()
    for observer in (JsonLinesObserver(out), JsonLinesObserver(stream)):
        observer.on_event(Warned(action=text, at=0.0, category="c", text=text))
    for written in (out.getvalue().decode(), stream.getvalue()):
        assert written.count("\n") == 1
        line = json.loads(written)
        assert (line["action"], line["text"]) == (text, text)


def test_a_line_is_one_for_every_reader() -> None:
    out = io.BytesIO()
    text = "a\x85b\u2028c\u2029d\x0be\x1cf\x1eg\r\nh"
    JsonLinesObserver(out).on_event(Warned(action="A", at=0.0, category="c", text=text))
    (line,) = out.getvalue().decode().splitlines()
    assert json.loads(line)["text"] == text


def test_numbers_that_json_does_not_have_are_written_by_name() -> None:
    out = io.BytesIO()
    JsonLinesObserver(out, progress=True).on_event(Ticked(action="A", at=0.0, bar="loss", n=float("nan"), total=float("inf")))
    (line,) = parsed(out.getvalue().decode())
    assert (line["n"], line["total"], line["bar"]) == ("NaN", "Infinity", "loss")


def test_a_line_that_a_killed_process_left_torn_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "whole"}\n{"event": "to')
    observed([JsonLinesObserver(path)])
    whole, torn, opened, *_ = path.read_text().splitlines()
    assert (json.loads(whole)["event"], torn, json.loads(opened)["event"]) == ("whole", '{"event": "to', "run_opened")


def test_a_file_that_is_moved_away_is_begun_anew_at_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.observers.jsonlines.AGAIN_SECONDS", -1.0)
    path, event = tmp_path / "events.jsonl", Missed(action="", at=0.0, count=1)
    observer = JsonLinesObserver(path)
    observer.on_event(event)
    path.rename(tmp_path / "events.jsonl.1")
    observer.on_event(event)
    assert path.read_text() == (tmp_path / "events.jsonl.1").read_text()


def test_baggage_is_custom_context_and_written_only_where_values_are() -> None:
    opened = RunOpened(
        action="A",
        at=0.0,
        run_name="r",
        task="t",
        store="s",
        is_new=True,
        recorded=0,
        trace={"traceparent": "00-1", "baggage": f"k={SECRET}"},
    )
    for values in (False, True):
        out = io.StringIO()
        JsonLinesObserver(out, values=values).on_event(opened)
        assert parsed(out.getvalue())[0]["trace"]["traceparent"] == "00-1"
        assert (SECRET in out.getvalue()) is values


def test_statuses_are_words() -> None:
    out = io.StringIO()
    observed([JsonLinesObserver(out)])
    words = {line["status"] for line in parsed(out.getvalue())} - {None}
    assert words <= {status.value for status in Status}
