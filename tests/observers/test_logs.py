"""Runs in logs: the filter's values in every record, and one line for what a person would want to know."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from holdfast import Retry, Store, ctx, custom_context, run, task
from holdfast.codec import encode_error
from holdfast.events import AttemptEnded, Messaged, WaitBegun
from holdfast.observers.logs import FORMAT, LogObserver, TaskFilter
from holdfast.status import Status
from holdfast.testing.conformance_observers import CALLS, observed

log = logging.getLogger("tests.observed")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the logger `tests.observed` writes, with all that the filter adds."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(TaskFilter())
    handler.setFormatter(logging.Formatter("%(run)s|%(action)s|%(attempt)s|%(context)s|%(levelname)s|%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield stream
    log.removeHandler(handler)


@task(retries=Retry(2, initial_interval=0))
async def speak() -> str:
    log.info("async")
    if ctx().attempt_number == 0:
        raise ConnectionError
    return str(ctx().action.name)


@task
def speak_in_a_thread() -> str:
    log.info("def")
    return str(ctx().action.name)


@task
async def talk() -> list[str]:
    with custom_context(topic="weather", language="en"):
        return [await speak(), await speak_in_a_thread.call()]


def test_a_record_names_run_action_attempt_and_context_in_both_colours(written: io.StringIO) -> None:
    async def main() -> list[str]:
        async with Store("memory://talks") as store:
            return await run(talk(), run_name="small-talk", store=store, custom_context={"tenant": "acme"})

    first, second = asyncio.run(main())
    bound = "language=en tenant=acme topic=weather"
    assert written.getvalue().splitlines() == [
        f"small-talk|{first}|0|{bound}|INFO|async",
        f"small-talk|{first}|1|{bound}|INFO|async",
        f"small-talk|{second}|0|{bound}|INFO|def",
    ]


def test_outside_a_task_a_record_says_so(written: io.StringIO) -> None:
    log.info("alone")
    with custom_context(tenant="acme"):
        log.info("bound")
    assert written.getvalue().splitlines() == ["-|-|-|-|INFO|alone", "-|-|-|tenant=acme|INFO|bound"]


def test_the_format_that_ships_names_all_that_the_filter_adds() -> None:
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "said", None, None)
    assert TaskFilter().filter(record)
    assert logging.Formatter(FORMAT).format(record).endswith("INFO    - - #- [-] a: said")
    assert vars(record)["custom_context"] == {}


def lines(written: io.StringIO, level: str) -> list[str]:
    return [line.rpartition("|")[2] for line in written.getvalue().splitlines() if f"|{level}|" in line]


def test_an_observed_run_has_one_line_for_what_one_would_want_to_know(written: io.StringIO) -> None:
    observed([LogObserver(log)], store="memory://logged")
    info, warnings, errors = lines(written, "INFO"), lines(written, "WARNING"), lines(written, "ERROR")
    assert info[0].startswith("observed: run of conformance.root in memory:")
    assert info[0].endswith(": new")
    assert sorted(info[1:]) == ["conformance.root: COMPLETED"] + ["conformance.square: COMPLETED"] * CALLS
    assert sorted(warnings) == [f"conformance.square: RETRYING, again in 0.0 s: ConnectionError: {n} is odd" for n in (1, 3)]
    assert errors == ["conformance.refuse: FAILED: ValueError: 100 % {wrong} [bold]%s"]
    assert all(line.split("|")[0] in ("observed", "-") for line in written.getvalue().splitlines())


def test_the_filter_leaves_a_line_of_the_observer_as_it_is(written: io.StringIO) -> None:
    async def main() -> str:
        async with Store("memory://quiet") as store:
            return await run(speak(), run_name="quiet", store=store, custom_context={"tenant": "acme"}, observers=[LogObserver(log)])

    action = asyncio.run(main())
    shown = written.getvalue().splitlines()
    assert f"quiet|{action}|1|tenant=acme|INFO|tests.observers.test_logs:speak: COMPLETED" in shown
    assert {line.split("|")[0] for line in shown} == {"quiet"}


def test_that_a_run_is_opened_is_said_once_where_the_loggers_have_the_same_handlers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        observed([LogObserver()], store="memory://once")
    assert [record.name for record in caplog.records if record.getMessage().endswith(": new")] == ["holdfast"]


def test_an_end_of_an_action_that_nobody_named_goes_by_its_id(written: io.StringIO) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    LogObserver(log).on_event(AttemptEnded(action="ABCD", at=at, number=0, status=Status.CRASHED, then=Status.CRASHED))
    assert written.getvalue().endswith("|WARNING|ABCD: CRASHED\n")


def test_a_wait_for_a_value_is_said_with_its_topic_and_deadline(written: io.StringIO) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    observer = LogObserver(log)
    for event in (WaitBegun(action="A", at=at, until=at + 60, topic="config"), WaitBegun(action="B", at=at, topic="go")):
        observer.on_event(event)
    assert lines(written, "INFO") == [
        "A: waits for a value of topic 'config' until 2026-01-01T00:01:00+00:00",
        "B: waits for a value of topic 'go'",
    ]


def test_what_a_message_or_an_error_says_is_one_line_and_steers_no_terminal(written: io.StringIO) -> None:
    observer = LogObserver(log)
    odd = "no rows\n2026-01-01 ERROR forged\r\x1b[2J\u2028\u202e\ud800 naïve"
    error, _ = encode_error(ValueError(odd), task="t")
    observer.on_event(Messaged(action="a", at=0.0, type="info", content=odd))
    observer.on_event(AttemptEnded(action="a", at=0.0, number=0, status=Status.FAILED, then=Status.FAILED, error=error))
    lines = written.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() and line.endswith(" naïve") for line in lines)
    assert r"a: no rows\n2026-01-01 ERROR forged\r\x1b[2J\u2028\u202e\ud800" in lines[0]


def test_a_value_of_the_custom_context_begins_no_line(written: io.StringIO) -> None:
    with custom_context(tenant="x\n2026-01-01 ERROR forged"):
        log.info("here")
    assert written.getvalue().splitlines() == [r"-|-|-|tenant=x\n2026-01-01 ERROR forged|INFO|here"]
