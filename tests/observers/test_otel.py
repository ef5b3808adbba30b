"""Runs as traces: one for each run, whatever happens to its processes; and spans of bodies where they belong."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from holdfast import MessageType, Retry, Store, ctx, custom_context, group, run, start, task
from holdfast.errors import InvalidOption
from holdfast.events import Missed, Replayed, RunOpened
from holdfast.observers.otel import OpenTelemetryObserver, trace_context
from holdfast.status import Status
from holdfast.telling import Observer, Told
from holdfast.testing import MemoryDisk, memory_store, no_backoff
from holdfast.testing.conformance_observers import EXPECTED, ObserverConformance, observed

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-01"


class Traced:
    """A provider whose spans can be looked at."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracer = self.provider.get_tracer("somebody's library")

    def observer(self, **options: Any) -> OpenTelemetryObserver:
        return OpenTelemetryObserver(tracer_provider=self.provider, meter_provider=self.meters, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: (span.start_time or 0, -(span.end_time or 0)))

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def parents(self) -> dict[str, set[str | None]]:
        """Of each name of spans, the names of their parents."""
        names = {span.context.span_id: span.name for span in self.spans}
        found: dict[str, set[str | None]] = {}
        for span in self.spans:
            found.setdefault(span.name, set()).add(names.get(span.parent.span_id) if span.parent is not None else None)
        return found

    def trace_ids(self) -> set[int]:
        return {span.context.trace_id for span in self.spans}

    def metrics(self) -> dict[str, dict[tuple[Any, ...], Any]]:
        """Of each metric, its values (of a histogram, its counts) by attributes."""
        data = self.reader.get_metrics_data()
        assert data is not None
        found: dict[str, dict[tuple[Any, ...], Any]] = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            for point in metric.data.data_points:
                value = getattr(point, "value", None)
                by_attributes = found.setdefault(metric.name, {})
                by_attributes[tuple((point.attributes or {}).values())] = value if value is not None else getattr(point, "count", None)
        return found


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.meters.shutdown()


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def act(call: Any, observer: Observer, store: Store, **options: Any) -> Any:
    return run(call, run_name=options.pop("run_name", "it"), store=store, observers=[observer], **options)


_tracer = trace.NoOpTracer()


@task(name="leaf", retries=Retry(2, initial_interval=0))
async def leaf(number: int) -> str:
    with LIBRARY[0].start_as_current_span("in leaf"):
        if number == 1 and ctx().attempt_number == 0:
            raise ConnectionError("no answer")
    return str(ctx().custom_context["traceparent"])


@task(name="branch")
def branch(number: int) -> str:
    with LIBRARY[0].start_as_current_span("in branch"):
        return leaf.sync(number)


@task(name="tree")
async def tree(end: str = "well") -> list[str]:
    with group("leaves"):
        found = list(await asyncio.gather(leaf(0), leaf(1)))
    with LIBRARY[0].start_as_current_span("in tree"):
        found.append(await branch.call(2))
    await ctx().checkpoint.save({"found": len(found)})
    await ctx().now()
    if end == "badly" and not ctx().is_resumed:
        raise ValueError("it ends badly")
    return found


LIBRARY: list[trace.Tracer] = [_tracer]


@pytest.fixture(autouse=True)
def _library(traced: Traced) -> Iterator[None]:
    LIBRARY[0] = traced.tracer
    yield
    LIBRARY[0] = _tracer


def test_spans_form_the_tree_of_the_run_with_those_of_libraries_inside(traced: Traced) -> None:
    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            await act(tree(), traced.observer(), store)

    asyncio.run(main())
    assert traced.parents() == {
        "run tree": {None},
        "tree": {"run tree"},
        "tree attempt": {"tree"},
        "leaf": {"tree attempt", "in branch"},
        "leaf attempt": {"leaf"},
        "in leaf": {"leaf attempt"},
        "in tree": {"tree attempt"},
        "branch": {"in tree"},
        "branch attempt": {"branch"},
        "in branch": {"branch attempt"},
    }
    assert len(traced.trace_ids()) == 1


def test_spans_say_which_action_and_attempt_they_are_of_and_how_it_ended(traced: Traced) -> None:
    async def main() -> Any:
        async with memory_store(MemoryDisk()) as store:
            await act(tree(), traced.observer(), store)
            return await store.state("it")

    state = asyncio.run(main())
    for span in traced.named("leaf") + traced.named("branch") + traced.named("tree"):
        said = attributes(span)
        assert said["holdfast.action"] in state.actions
        assert (said["holdfast.task"], said["holdfast.run_name"], said["holdfast.status"]) == (span.name, "it", "COMPLETED")
        assert said["code.function.name"] == f"{__name__}.{span.name}"
        assert span.status.status_code is StatusCode.OK
    tries = [
        (attributes(span)["holdfast.attempt"], attributes(span)["holdfast.status"], span.status.status_code)
        for span in traced.named("leaf attempt")
    ]
    assert sorted(tries) == [
        (0, "COMPLETED", StatusCode.OK),
        (0, "COMPLETED", StatusCode.OK),
        (0, "FAILED", StatusCode.ERROR),
        (1, "COMPLETED", StatusCode.OK),
    ]
    failed = next(span for span in traced.named("leaf attempt") if span.status.status_code is StatusCode.ERROR)
    (event,) = failed.events
    assert event.name == "exception"
    assert (event.attributes or {})["exception.type"] == "ConnectionError"
    assert "raise ConnectionError" in str((event.attributes or {})["exception.stacktrace"])
    assert [event.name for event in traced.named("tree attempt")[0].events] == ["checkpoint"]
    assert [event.name for span in traced.named("leaf") for event in span.events] == ["retry"]


def test_every_span_lies_within_its_parent(traced: Traced) -> None:
    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            await act(tree(), traced.observer(), store)

    asyncio.run(main())
    by_id = {span.context.span_id: span for span in traced.spans}
    for span in traced.spans:
        if span.parent is not None and not span.name.startswith("in "):  # those of libraries go by another clock
            above = by_id[span.parent.span_id]
            if not above.name.startswith("in "):
                assert (above.start_time or 0) <= (span.start_time or 0) <= (span.end_time or 0) <= (above.end_time or 0)


def test_the_trace_parent_of_a_task_is_its_attempt(traced: Traced) -> None:
    async def main() -> list[str]:
        async with memory_store(MemoryDisk()) as store:
            found: list[str] = await act(tree(), traced.observer(), store)
            return found

    found = asyncio.run(main())
    ids = {f"{span.context.trace_id:032x}-{span.context.span_id:016x}" for span in traced.named("leaf attempt")}
    assert {parent[3:52] for parent in found} <= ids


def test_a_run_that_is_continued_goes_on_in_the_same_trace_linked_to_the_owner_before(traced: Traced) -> None:
    async def main() -> str:
        async with memory_store(MemoryDisk()) as store:
            with pytest.raises(ValueError, match="badly"):
                await act(tree("badly"), traced.observer(), store)
            await act(tree("badly"), traced.observer(), store)
            return (await store.describe("it")).result.task_name

    assert asyncio.run(main()) == "tree"
    first, second = traced.named("run tree")
    assert len(traced.trace_ids()) == 1
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert (first.links, first.status.status_code, second.status.status_code) == ((), StatusCode.ERROR, StatusCode.UNSET)
    assert (attributes(first)["holdfast.status"], attributes(second)["holdfast.status"]) == ("FAILED", "COMPLETED")
    replayed = [span.name for span in traced.spans if attributes(span).get("holdfast.replayed") is True]
    assert sorted(replayed) == ["branch", "leaf", "leaf"]
    assert attributes(second)["holdfast.replayed"] >= 3
    attempts = [attributes(span)["holdfast.attempt"] for span in traced.named("tree attempt")]
    assert attempts == [0, 1]


def test_two_runs_have_two_traces_also_of_one_observer_at_once(traced: Traced) -> None:
    async def main() -> None:
        observer = traced.observer()
        async with memory_store(MemoryDisk()) as store:
            await asyncio.gather(*(act(tree(), observer, store, run_name=name) for name in ("a", "b")))

    asyncio.run(main())
    assert len(traced.trace_ids()) == 2
    for name in ("a", "b"):
        ids = {span.context.trace_id for span in traced.spans if attributes(span).get("holdfast.run_name") == name}
        assert len(ids) == 1
    assert traced.parents()["leaf"] == {"tree attempt", "in branch"}


def test_a_run_begun_with_a_trace_parent_belongs_to_that_trace_also_when_another_one_continues_it(traced: Traced) -> None:
    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            with pytest.raises(ValueError, match="badly"):
                await act(tree("badly"), traced.observer(), store, custom_context={"traceparent": GIVEN})
            await act(tree("badly"), traced.observer(), store, custom_context={"traceparent": OTHER})

    asyncio.run(main())
    assert traced.trace_ids() == {int(GIVEN[3:35], 16)}
    first, second = traced.named("run tree")
    assert [span.parent and span.parent.span_id for span in (first, second)] == [int(GIVEN[36:52], 16)] * 2
    assert [link.context.span_id for link in second.links] == [first.context.span_id, int(OTHER[36:52], 16)]


def test_the_helper_carries_the_callers_span_and_baggage_into_the_run_and_its_bodies(traced: Traced) -> None:
    @task(name="otel.reads_baggage")
    def reads_baggage() -> Any:
        return baggage.get_baggage("tenant")

    @task(name="otel.carried")
    async def carried() -> list[Any]:
        with custom_context(baggage="tenant=other"):
            other = await reads_baggage.call()
        return [baggage.get_baggage("tenant"), await reads_baggage.call(), other]

    async def main() -> list[Any]:
        token = attach(baggage.set_baggage("tenant", "acme"))
        try:
            with traced.tracer.start_as_current_span("request"):
                async with memory_store(MemoryDisk()) as store:
                    found: list[Any] = await act(carried(), traced.observer(), store, custom_context=trace_context())
                    return found
        finally:
            detach(token)

    assert asyncio.run(main()) == ["acme", "acme", "other"]
    assert traced.parents()["run otel.carried"] == {"request"}
    assert traced.parents()["otel.carried"] == {"run otel.carried"}


def test_without_the_helper_a_run_has_its_own_trace_and_a_link_to_whoever_began_it(traced: Traced) -> None:
    async def main() -> None:
        with traced.tracer.start_as_current_span("request"):
            async with memory_store(MemoryDisk()) as store:
                await act(tree(), traced.observer(), store)

    asyncio.run(main())
    (request,), (began,) = traced.named("request"), traced.named("run tree")
    assert request.context.trace_id != began.context.trace_id
    assert [link.context.span_id for link in began.links] == [request.context.span_id]
    assert not trace.get_current_span().get_span_context().is_valid


def test_any_other_provider_keeps_a_run_in_one_trace_too(traced: Traced) -> None:
    class Plain:
        """A tracer of which nothing is known but what the API says."""

        __slots__ = ("_tracer",)

        def __init__(self, tracer: trace.Tracer) -> None:
            self._tracer = tracer

        def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
            return self._tracer.start_span(*args, **kwargs)

    class Provider(trace.TracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
            return Plain(traced.provider.get_tracer(*args, **kwargs))

    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            for _ in range(2):
                try:
                    await act(tree("badly"), OpenTelemetryObserver(tracer_provider=Provider()), store)
                except ValueError:
                    pass

    asyncio.run(main())
    assert len(traced.trace_ids()) == 1
    assert len({span.parent.span_id for span in traced.named("run tree") if span.parent is not None}) == 1


def test_a_retry_is_in_the_span_of_its_action_and_another_asking_in_one_of_its_own(traced: Traced) -> None:
    @task(name="otel.fails", retries=Retry(2, initial_interval=0))
    async def fails() -> None:
        raise LookupError

    @task(name="otel.asks", retries=Retry(2, initial_interval=0))
    async def asks() -> None:
        await fails()

    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            with no_backoff(), pytest.raises(LookupError):
                await act(asks(), traced.observer(), store)

    asyncio.run(main())
    actions = traced.named("otel.fails")
    under = [span.parent.span_id for span in traced.named("otel.fails attempt") if span.parent is not None]
    assert [under.count(action.context.span_id) for action in actions] == [2, 2]


def test_waits_are_spans_and_recorded_times_are_none(traced: Traced) -> None:
    @task(name="otel.waits")
    async def waits() -> None:
        await ctx().sleep(0.01)
        await ctx().now()
        await ctx().random()

    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            await act(waits(), traced.observer(), store)

    asyncio.run(main())
    assert {span.name for span in traced.spans} == {"run otel.waits", "otel.waits", "otel.waits attempt", "holdfast:sleep"}
    assert [event.name for event in traced.named("holdfast:sleep")[0].events] == ["wait"]


def test_a_cancelled_action_is_no_error(traced: Traced) -> None:
    @task(name="otel.hangs")
    async def hangs() -> None:
        await asyncio.Event().wait()

    @task(name="otel.times_out", timeout=0.05)
    async def times_out() -> None:
        await asyncio.Event().wait()

    @task(name="otel.gives_up")
    async def gives_up() -> None:
        hanging = asyncio.ensure_future(hangs())
        with pytest.raises(TimeoutError):
            await times_out()
        hanging.cancel()
        await asyncio.wait({hanging})

    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            await act(gives_up(), traced.observer(), store)

    asyncio.run(main())
    found = {span.name: (attributes(span)["holdfast.status"], span.status.status_code) for span in traced.spans}
    assert found["otel.hangs"] == found["otel.hangs attempt"] == ("CANCELLED", StatusCode.UNSET)
    assert found["otel.times_out"] == found["otel.times_out attempt"] == ("TIMED_OUT", StatusCode.ERROR)


def test_many_answers_from_record_are_counted_and_few_of_them_are_spans(traced: Traced) -> None:
    observer = traced.observer(replayed=3)
    opened = RunOpened(action="R", at=0.0, run_name="it", task="t", store="s", is_new=False, recorded=9, run_id="ab" * 16, epoch=2)
    spans = observer.for_run(opened)
    for number in range(1000):
        spans.on_event(Replayed(action=str(number), at=0.0, task="t", status=Status.COMPLETED, parent="R"))
    spans.aclose()
    assert len(traced.named("t")) == 3
    assert attributes(traced.named("run t")[0])["holdfast.replayed"] == 1000
    assert traced.metrics()["holdfast.actions.replayed"] == {("t",): 1000}


def test_metrics_count_actions_retries_checkpoints_and_what_was_missed(traced: Traced) -> None:
    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            await act(tree(), traced.observer(), store)

    asyncio.run(main())
    observer = traced.observer()
    observer.on_event(RunOpened(action="R", at=0.0, run_name="it", task="t", store="s", is_new=True, recorded=0))
    observer.on_event(Missed(action="", at=0.0, count=5))
    found = traced.metrics()
    assert found["holdfast.actions"] == {
        ("leaf", "COMPLETED"): 3,
        ("branch", "COMPLETED"): 1,
        ("tree", "COMPLETED"): 1,
        ("holdfast:now", "COMPLETED"): 1,
    }
    assert found["holdfast.retries"] == {("leaf",): 1}
    assert found["holdfast.attempt.duration"][("leaf", "FAILED")] == 1
    assert found["holdfast.attempt.duration"][("leaf", "COMPLETED")] == 3
    assert found["holdfast.checkpoint.size"][("tree",)] > 0
    assert found["holdfast.observer.missed"] == {(): 5}


def test_messages_and_cost_are_in_the_spans_of_those_who_reported_them(traced: Traced) -> None:
    @task(name="otel.pays")
    async def pays() -> None:
        ctx().message(MessageType.WARNING, "dear")
        ctx().add_cost("0.25", tokens=12, model="m")

    async def main() -> None:
        async with memory_store(MemoryDisk()) as store:
            await act(pays(), traced.observer(), store)

    asyncio.run(main())
    said = {event.name: dict(event.attributes or {}) for event in traced.named("otel.pays attempt")[0].events}
    assert said == {
        "message": {"holdfast.type": "warning", "holdfast.text": "dear"},
        "cost": {"holdfast.cost": "0.25", "holdfast.tokens": 12, "holdfast.model": "m"},
    }
    found = traced.metrics()
    assert (found["holdfast.cost"], found["holdfast.tokens"]) == ({("otel.pays", "m"): 0.25}, {("otel.pays", "m"): 12})


def test_no_span_is_left_open_where_ends_were_missed(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.telling.QUEUE_LENGTH", 1)
    observed([traced.observer()])
    begun = {span.parent.span_id for span in traced.spans if span.parent is not None}
    assert begun <= {span.context.span_id for span in traced.spans}


@pytest.mark.parametrize("number", [-1, True, "7", 1.5])
def test_a_wrong_number_is_refused(number: Any) -> None:
    with pytest.raises(InvalidOption, match="from 0 up"):
        OpenTelemetryObserver(replayed=number)


@pytest.mark.parametrize("provider", [None, trace.NoOpTracerProvider()])
def test_where_nothing_is_traced_bodies_have_no_trace_parent_but_one_that_was_given(provider: trace.TracerProvider | None) -> None:
    @task(name="found")
    async def found() -> str:
        return ctx().custom_context.get("traceparent", "none")

    async def main() -> list[str]:
        async with memory_store(MemoryDisk()) as store:
            observer = OpenTelemetryObserver(tracer_provider=provider)
            given = {"traceparent": GIVEN}
            return [
                await act(found(), observer, store, run_name="alone"),
                await act(found(), observer, store, run_name="given", custom_context=given),
            ]

    assert asyncio.run(main()) == ["none", GIVEN]


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no word")


@task(name="mute")
async def mute() -> None:
    raise Mute


@pytest.mark.filterwarnings("ignore::holdfast.errors.Unrebuildable")
def test_an_error_that_can_not_say_what_it_is_ends_its_spans_all_the_same(traced: Traced) -> None:
    async def main() -> tuple[Told, ...]:
        async with memory_store(MemoryDisk()) as store:
            handle = await start(mute(), run_name="it", store=store, observers=[traced.observer()])
            with pytest.raises(Mute):
                await handle.result()
            return handle.told

    (told,) = asyncio.run(main())
    assert (told.failed, told.has_ended) == (0, True)
    assert sorted(span.name for span in traced.spans) == ["mute", "mute attempt", "run mute"]
    attempt = traced.named("mute attempt")[0]
    assert attempt.status.status_code is StatusCode.ERROR
    assert str(attributes(attempt)["error.type"]).endswith("Mute")
    assert attempt.events[-1].name == "exception"


def test_without_opentelemetry_the_error_names_the_line_that_installs_it() -> None:
    program = "import sys; sys.modules['opentelemetry'] = None\nimport holdfast.observers.otel"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'holdfast[otel]'" in done.stderr


def test_a_killed_process_and_the_one_after_it_write_one_trace(tmp_path: Path) -> None:
    program = Path(__file__).with_name("traced_program.py")
    command = [sys.executable, str(program), str(tmp_path / "store"), str(tmp_path / "spans"), str(tmp_path / "killed")]
    first, second = (subprocess.run(command, capture_output=True, text=True, timeout=60, check=False) for _ in range(2))
    assert (first.returncode, second.returncode, second.stdout) == (-signal.SIGKILL, 0, "6\n"), second.stderr
    spans = [json.loads(line) for line in (tmp_path / "spans").read_text().splitlines()]
    assert len({span["context"]["trace_id"] for span in spans}) == 1
    (began,) = (span for span in spans if span["name"] == "run main")
    assert began["attributes"]["holdfast.is_resumed"] is True
    assert len(began["links"]) == 1
    assert [event["name"] for event in began["events"]] == ["attempt CRASHED"] * 2
    steps = [span["attributes"].get("holdfast.replayed", False) for span in spans if span["name"] == "step"]
    assert steps == [False, False, True, True, False, False]


class TestSilent(ObserverConformance):
    """With the API alone, nothing is sent, and nothing breaks."""

    def make(self) -> Observer:
        return OpenTelemetryObserver(tracer_provider=trace.NoOpTracerProvider())


class TestSent(ObserverConformance):
    def make(self) -> Observer:
        return Traced().observer()


def test_a_traced_run_gives_what_any_other_gives(traced: Traced) -> None:
    assert observed([traced.observer()]) == EXPECTED
