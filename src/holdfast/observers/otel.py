"""Traces and metrics of runs, by OpenTelemetry (`holdfast[otel]`).

A run is one trace, whatever happens to its processes: the trace's id is the run's random id, or that of the `traceparent` with which the
run was begun. Each process that owned the run has a span of the run in it, linked to that of the owner before. Below it each action has a
span, and in it each attempt. Inside a task the attempt's span is the current one, in `async def` and `def` bodies, so spans that
instrumented libraries make there are its children, and `ctx().custom_context["traceparent"]` is ready to be sent elsewhere.

What was under way in a process that was killed has no span, since spans are sent when they end; what had ended below it has.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from importlib.metadata import version
from typing import Any, Final

from holdfast.clocks import clock
from holdfast.codec import decode_error
from holdfast.contexts import TRACE_KEYS
from holdfast.engines.surrounded import Body
from holdfast.errors import InvalidOption, MissingExtra
from holdfast.events import (
    ActionAsked,
    ActionEnded,
    AttemptEnded,
    AttemptStarted,
    CheckpointSaved,
    Continued,
    Event,
    Messaged,
    Missed,
    Replayed,
    RunOpened,
    Spent,
    WaitBegun,
    Warned,
)
from holdfast.identity import BUILTIN
from holdfast.status import FAILED_STATES, Status

try:
    from opentelemetry import context as otel_context
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags
    from opentelemetry.trace import Status as SpanStatus
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as _missing:
    raise MissingExtra(feature="OpenTelemetry", package="opentelemetry-api", extra="otel") from _missing

REPLAYED_SPANS: Final = 1_000

_LIBRARY: Final = "holdfast"
_TRACES_NOTHING: Final = (trace.NoOpTracer, trace.ProxyTracer)
_PARENTS: Final = TraceContextTextMapPropagator()
_BAGGAGE: Final = W3CBaggagePropagator()
_BAGGAGE_APPLIED: Final = "holdfast.baggage"
_FAILURES: Final = FAILED_STATES | {Status.CRASHED}
_QUIET: Final = frozenset({f"{BUILTIN}now", f"{BUILTIN}uuid", f"{BUILTIN}random"})
_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)


def trace_context() -> dict[str, str]:
    """The present span and baggage, as custom context: `run(main(), custom_context=trace_context())` puts a run into the caller's trace.

    Returns:
        `traceparent`, `tracestate` and `baggage`, as far as there are any. They never count as inputs of a run or of an action.
    """
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {key: value for key, value in carrier.items() if key in TRACE_KEYS}


class OpenTelemetryObserver:
    """Spans for runs, actions and attempts, and metrics of them.

    Spans carry `holdfast.run_name`, `holdfast.run_id`, `holdfast.task`, `holdfast.action`, `holdfast.attempt`, `holdfast.status` and
    `code.function.name`, failed ones `error.type`; errors are recorded in them. Checkpoints, waits, retries, messages, warnings and
    cost are events of spans. Metrics have the attributes `holdfast.task`, `holdfast.status` and, of cost, `holdfast.model` alone, so
    that they stay few.

    Args:
        tracer_provider: By default the global one.
        meter_provider: By default the global one.
        replayed: At most how many actions that were answered from record get a span of no length, in each process. All of them are
            counted, in `holdfast.replayed` of the run's span and in the metric `holdfast.actions.replayed`.

    Raises:
        InvalidOption: `replayed` is no number from 0 up.
    """

    live = True
    """Which run it is, and what is answered from record, are live events."""

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        replayed: int = REPLAYED_SPANS,
    ) -> None:
        given: object = replayed
        if not isinstance(given, int) or isinstance(given, bool) or given < 0:
            raise InvalidOption(option="replayed", value=replayed, reason="give a number from 0 up")
        self._provider = tracer_provider if tracer_provider is not None else trace.get_tracer_provider()
        self._metrics = _Metrics(meter_provider if meter_provider is not None else metrics.get_meter_provider())
        self._replayed = replayed
        self._alone: _RunSpans | None = None

    def for_run(self, opened: RunOpened, /) -> _RunSpans:
        """Who makes the spans of one run. Called in the context of whoever runs it."""
        return _RunSpans(opened, self._provider, self._metrics, self._replayed)

    def on_event(self, event: Event, /) -> None:
        """For events that were kept: there is nobody around whose body a span could be current."""
        if isinstance(event, RunOpened):
            self._alone = self.for_run(event)
        if self._alone is not None:
            self._alone.on_event(event)

    def aclose(self) -> None:
        """End the spans that are open."""
        if self._alone is not None:
            self._alone.aclose()


class _Action:
    """The span of one asking of an action, as far as this process performs it."""

    __slots__ = ("has_ended", "retries_left", "span")

    def __init__(self, span: Span, retries_left: int) -> None:
        self.span = span
        self.retries_left = retries_left
        self.has_ended = False

    def end(self, status: Status, error: BaseException | None, at: int) -> None:
        if not self.has_ended:
            self.has_ended = True
            _close(self.span, status, error, at)


class _Attempt:
    """The span of one attempt. `left_at` is set when its body has ended."""

    __slots__ = ("action", "error", "left_at", "span")

    def __init__(self, action: _Action | None, span: Span) -> None:
        self.action = action
        self.span = span
        self.error: BaseException | None = None
        self.left_at = 0


class _RunSpans:
    """One run in one process. `around` is called on the run's loop, all else in the observer's thread."""

    live = True

    def __init__(self, opened: RunOpened, provider: trace.TracerProvider, metrics: _Metrics, replayed: int) -> None:
        self._opened = opened
        self._metrics = metrics
        self._replayed_left = replayed
        self._replayed = 0
        self._common = {"holdfast.run_name": opened.run_name, "holdfast.run_id": opened.run_id}
        self._tracer = provider.get_tracer(_LIBRARY, version(_LIBRARY))
        self._run = _run_span(opened, provider, self._common)
        self._trace_id = self._run.get_span_context().trace_id
        self._status: Status | None = None
        self._attempts: dict[tuple[str, int], _Attempt] = {}
        self._latest: dict[str, _Attempt] = {}  # by action
        self._begun: dict[str, tuple[str, float]] = {}  # task and begin of the attempts that are under way
        self._given_up: set[tuple[str, int]] = set()
        self._tasks: dict[str, str] = {opened.action: opened.task}
        self._see: dict[type[Event], Callable[[Any], None]] = {
            AttemptStarted: self._attempt_started,
            AttemptEnded: self._attempt_ended,
            ActionEnded: self._action_ended,
            Replayed: self._was_replayed,
            CheckpointSaved: self._saved,
            Spent: self._spent,
            WaitBegun: self._waits,
            Warned: self._warned,
            Messaged: self._messaged,
            Missed: self._missed,
        }

    # on the run's loop

    @contextmanager
    def around(self, body: Body) -> Generator[Mapping[str, str], None, None]:
        """Have the attempt's span be the current one."""
        if body.task in _QUIET:
            yield {}
            return
        outer = self._outer(body)
        attempt = self._begin(body, outer)
        here = trace.set_span_in_context(attempt.span, outer)
        carrier: dict[str, str] = {}
        _PARENTS.inject(carrier, here)
        token = otel_context.attach(here)
        try:
            yield carrier
        except BaseException as error:
            attempt.error = error
            raise
        finally:
            otel_context.detach(token)
            attempt.left_at = _now()

    def _outer(self, body: Body) -> Context:
        """The context around an attempt: that of its parent's body, which may have spans of its own there; of this run in any case."""
        context = otel_context.get_current()
        if body.action.parent is None or trace.get_current_span(context).get_span_context().trace_id != self._trace_id:
            context = trace.set_span_in_context(self._run, context)
        baggage = body.custom_context.get("baggage", "")
        if baggage and otel_context.get_value(_BAGGAGE_APPLIED, context) != baggage:
            context = otel_context.set_value(_BAGGAGE_APPLIED, baggage, _BAGGAGE.extract({"baggage": baggage}, context))
        return context

    def _begin(self, body: Body, outer: Context) -> _Attempt:
        name, at = body.action.name, _now()
        attributes = {**self._common, "holdfast.task": body.task, "holdfast.action": name, "code.function.name": _dotted(body.function)}
        if body.group:
            attributes["holdfast.group"] = "/".join(body.group)
        before = self._latest.get(name)
        action = before.action if before is not None else None
        if body.task.startswith(BUILTIN):
            action, within = None, outer
        else:
            if action is None or action.has_ended or body.retries_left >= action.retries_left:  # it was asked for anew
                action = _Action(self._tracer.start_span(body.task, outer, attributes=attributes, start_time=at), body.retries_left)
            action.retries_left = body.retries_left
            within = trace.set_span_in_context(action.span, outer)
        called = body.task if action is None else f"{body.task} attempt"
        span = self._tracer.start_span(called, within, attributes={**attributes, "holdfast.attempt": body.attempt_number}, start_time=at)
        attempt = _Attempt(action, span)
        self._latest[name] = attempt
        self._attempts[name, body.attempt_number] = attempt
        return attempt

    # in the observer's thread

    def on_event(self, event: Event, /) -> None:
        if isinstance(event, (ActionAsked, Continued)):
            self._tasks[event.action] = event.task
        see = self._see.get(type(event))
        if see is not None:
            see(event)

    def aclose(self) -> None:
        """End all spans that are open: what they are of has no end on record."""
        for attempt in list(self._attempts.values()):
            self._let_go(attempt)
        self._attempts.clear()
        if self._replayed:
            self._run.set_attribute("holdfast.replayed", self._replayed)
        if self._status is not None:
            self._run.set_attribute("holdfast.status", self._status.value)
        self._run.end(_now())

    def _let_go(self, attempt: _Attempt) -> None:
        at = attempt.left_at or _now()
        attempt.span.end(at)
        if attempt.action is not None and not attempt.action.has_ended:
            attempt.action.has_ended = True
            attempt.action.span.end(at)

    def _attempt_started(self, event: AttemptStarted) -> None:
        self._begun[event.action] = self._tasks.get(event.action, ""), event.at

    def _attempt_ended(self, event: AttemptEnded) -> None:
        task, began = self._begun.pop(event.action, (self._tasks.get(event.action, ""), None))
        error = decode_error(event.error) if event.error is not None else None
        attempt = self._attempts.pop((event.action, event.number), None)
        if attempt is not None:
            at = max(_nanoseconds(event.at), attempt.left_at)
            _close(attempt.span, event.status, attempt.error if event.status is Status.FAILED and attempt.error is not None else error, at)
            if attempt.action is not None:
                self._after(attempt.action, event, error, at)
        elif task not in _QUIET and (event.action, event.number) not in self._given_up:
            # it ended before its body began, or with the process that owned it
            ended: dict[str, Any] = {"holdfast.action": event.action, "holdfast.task": task, "holdfast.attempt": event.number}
            self._run.add_event(f"attempt {event.status.value}", ended, _nanoseconds(event.at))
        self._metrics.attempt_ended(event, task, None if began is None else max(event.at - began, 0.0))
        if event.then is not Status.RETRYING:
            self._ended(event.action, event.then, error)

    def _after(self, action: _Action, event: AttemptEnded, error: BaseException | None, at: int) -> None:
        if event.then is Status.RETRYING:
            wait = max(event.next_at - event.at, 0.0) if event.next_at is not None else 0.0
            action.span.add_event("retry", {"holdfast.attempt": event.number + 1, "holdfast.wait_seconds": wait}, at)
        else:
            action.end(event.then, error, at)

    def _action_ended(self, event: ActionEnded) -> None:
        error = decode_error(event.error) if event.error is not None else None
        latest = self._latest.get(event.action)
        if latest is not None and latest.action is not None:
            latest.action.end(event.then, error, _nanoseconds(event.at))
        self._ended(event.action, event.then, error)

    def _ended(self, name: str, status: Status, error: BaseException | None) -> None:
        self._metrics.action_ended(self._tasks.get(name, ""), status)
        if name == self._opened.action:
            self._status = status
            if status in _FAILURES:
                self._run.set_status(SpanStatus(trace.StatusCode.ERROR, _text(error)))
            return
        self._tasks.pop(name, None)
        latest = self._latest.get(name)
        if latest is not None and latest.left_at and (latest.action is None or latest.action.has_ended):
            self._latest.pop(name, None)

    def _was_replayed(self, event: Replayed) -> None:
        self._replayed += 1
        self._metrics.replayed(event.task)
        if self._replayed_left > 0 and event.task not in _QUIET:
            self._replayed_left -= 1
            above = self._latest.get(event.parent)
            within = trace.set_span_in_context(self._run if above is None else above.span)
            attributes = {
                **self._common,
                "holdfast.task": event.task,
                "holdfast.action": event.action,
                "holdfast.status": event.status.value,
                "holdfast.replayed": True,
            }
            at = _nanoseconds(event.at)
            self._tracer.start_span(event.task, within, attributes=attributes, start_time=at).end(at)

    def _saved(self, event: CheckpointSaved) -> None:
        self._metrics.saved(self._tasks.get(event.action, ""), event.size)
        self._note(event.action, "checkpoint", event.at, {"holdfast.checkpoint.size": event.size, "holdfast.attempt": event.generation[1]})

    def _spent(self, event: Spent) -> None:
        self._metrics.spent(event, self._tasks.get(event.action, ""))
        said = {"holdfast.cost": event.cost or "0", "holdfast.tokens": event.tokens, "holdfast.model": event.model}
        self._note(event.action, "cost", event.at, said)

    def _messaged(self, event: Messaged) -> None:
        self._note(event.action, "message", event.at, {"holdfast.type": event.type, "holdfast.text": event.content})

    def _waits(self, event: WaitBegun) -> None:
        topic = {"holdfast.topic": event.topic} if event.topic else {}
        until = {"holdfast.until": event.until} if event.until is not None else {}
        self._note(event.action, "wait", event.at, {**topic, **until})

    def _warned(self, event: Warned) -> None:
        self._note(event.action, "warning", event.at, {"holdfast.category": event.category, "holdfast.text": event.text})

    def _missed(self, event: Missed) -> None:
        """Attempts may have ended without this being told of it."""
        self._metrics.missed(event.count)
        self._run.add_event("missed", {"holdfast.count": event.count}, _nanoseconds(event.at))
        for key, attempt in list(self._attempts.items()):
            if attempt.left_at:
                del self._attempts[key]
                self._let_go(attempt)
                self._given_up.add(key)

    def _note(self, action: str, name: str, at: float, attributes: dict[str, Any]) -> None:
        """An event in the span of the present attempt; in that of the run where there is none."""
        latest = self._latest.get(action)
        if latest is None or not latest.span.is_recording():
            self._run.add_event(name, {"holdfast.action": action, **attributes}, _nanoseconds(at))
        else:
            latest.span.add_event(name, attributes, _nanoseconds(at))


class _Metrics:
    """The instruments, made once for an observer."""

    def __init__(self, provider: metrics.MeterProvider) -> None:
        meter = provider.get_meter(_LIBRARY, version(_LIBRARY))
        self._actions = meter.create_counter("holdfast.actions", "{action}", "Actions that ended, by task and status")
        self._replayed = meter.create_counter("holdfast.actions.replayed", "{action}", "Actions that were answered from record")
        self._attempts = meter.create_histogram(
            "holdfast.attempt.duration", "s", "How long attempts took", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._retries = meter.create_counter("holdfast.retries", "{attempt}", "Attempts that are to be followed by another")
        self._saves = meter.create_counter("holdfast.checkpoint.size", "By", "Bytes of saved checkpoints")
        self._cost = meter.create_counter("holdfast.cost", "1", "What attempts reported, in the program's own currency, by task and model")
        self._tokens = meter.create_counter("holdfast.tokens", "{token}", "Tokens that attempts reported, by task and model")
        self._missed = meter.create_counter("holdfast.observer.missed", "{event}", "Events that came too fast to be told")

    def attempt_ended(self, event: AttemptEnded, task: str, seconds: float | None) -> None:
        if seconds is not None:
            self._attempts.record(seconds, {"holdfast.task": task, "holdfast.status": event.status.value})
        if event.then is Status.RETRYING:
            self._retries.add(1, {"holdfast.task": task})

    def action_ended(self, task: str, status: Status) -> None:
        self._actions.add(1, {"holdfast.task": task, "holdfast.status": status.value})

    def replayed(self, task: str) -> None:
        self._replayed.add(1, {"holdfast.task": task})

    def saved(self, task: str, size: int) -> None:
        self._saves.add(size, {"holdfast.task": task})

    def spent(self, event: Spent, task: str) -> None:
        of = {"holdfast.task": task, "holdfast.model": event.model}
        if event.cost:
            self._cost.add(float(event.cost), of)
        if event.tokens:
            self._tokens.add(event.tokens, of)

    def missed(self, count: int) -> None:
        self._missed.add(count)


# the run's span, and its place in a trace


class _Ids:
    """Gives the next span made in this thread the ids that were chosen for it, and any other what the provider's own generator gives."""

    def __init__(self, of_provider: Any) -> None:
        self._of_provider = of_provider
        self._chosen = threading.local()

    def choose(self, trace_id: int, span_id: int) -> None:
        self._chosen.ids = trace_id, span_id

    def generate_trace_id(self) -> int:
        return int(self._chosen.ids[0])

    def generate_span_id(self) -> int:
        return int(self._chosen.ids[1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of_provider, name)


def _run_span(opened: RunOpened, provider: trace.TracerProvider, common: Mapping[str, str]) -> Span:
    """Begin the span of this process's ownership of a run.

    Where the provider is the SDK's, the span's ids are chosen, so that the next owner knows what to link to. Any other gets a parent that
    stands for the run and is never sent, which puts all into one trace just as well. Where nothing is traced there is no such parent: it
    would have every service that a body calls begin traces of which nobody has the root.
    """
    tracer: Any = copy.copy(provider.get_tracer(f"{_LIBRARY}.runs", version(_LIBRARY)))
    begun_in = trace.get_current_span(_PARENTS.extract(dict(opened.context), Context())).get_span_context()
    trace_id = begun_in.trace_id if begun_in.is_valid else _trace_id(opened.run_id)
    own = _span_id(opened, opened.epoch)
    links = list(_links(opened, trace_id, begun_in))
    parent = NonRecordingSpan(begun_in) if begun_in.is_valid else None
    if hasattr(tracer, "id_generator"):
        ids = _Ids(tracer.id_generator)
        ids.choose(trace_id, own)
        tracer.id_generator = ids
    elif parent is None and not isinstance(tracer, _TRACES_NOTHING):
        parent = NonRecordingSpan(SpanContext(trace_id, _span_id(opened, None), True, TraceFlags(TraceFlags.SAMPLED)))
    context = trace.set_span_in_context(parent, Context()) if parent is not None else Context()
    attributes: dict[str, Any] = {
        **common,
        "holdfast.task": opened.task,
        "holdfast.epoch": opened.epoch,
        "holdfast.is_resumed": not opened.is_new,
        "holdfast.recorded": opened.recorded,
    }
    span: Span = tracer.start_span(f"run {opened.task}", context, attributes=attributes, links=links, start_time=_now())
    return span


def _links(opened: RunOpened, trace_id: int, begun_in: SpanContext) -> Iterator[trace.Link]:
    """To the owner before, to what opened the run now, and to the span that is current here: each once."""
    seen = {begun_in.span_id}
    if opened.owned_before is not None:
        before = SpanContext(trace_id, _span_id(opened, opened.owned_before), True, TraceFlags(TraceFlags.SAMPLED))
        yield trace.Link(before, {"holdfast.link": "owned_before"})
    now_in = trace.get_current_span(_PARENTS.extract(dict(opened.trace), Context())).get_span_context()
    for found in (now_in, trace.get_current_span().get_span_context()):
        if found.is_valid and found.span_id not in seen:
            seen.add(found.span_id)
            yield trace.Link(found, {"holdfast.link": "opened_in"})


def _trace_id(run_id: str) -> int:
    """A run's id is 16 random bytes, as a trace's is."""
    try:
        found = int(run_id, 16)
    except ValueError:
        found = 0
    return found if 0 < found < 1 << 128 else int.from_bytes(blake2b(run_id.encode(), digest_size=16).digest(), "big")


def _span_id(opened: RunOpened, epoch: int | None) -> int:
    digest = blake2b(f"{opened.run_id}/{'run' if epoch is None else epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1


# small things


def _close(span: Span, status: Status, error: BaseException | None, at: int) -> None:
    span.set_attribute("holdfast.status", status.value)
    if status in _FAILURES:
        span.set_attribute("error.type", status.value.lower() if error is None else _type_name(error))
        if error is not None:
            _record(span, error, at)
        span.set_status(SpanStatus(trace.StatusCode.ERROR, _text(error)))
    elif status is Status.COMPLETED:
        span.set_status(SpanStatus(trace.StatusCode.OK))
    span.end(at)


def _record(span: Span, error: BaseException, at: int) -> None:
    try:
        span.record_exception(error, timestamp=at)
    except Exception:  # it can't say what it is
        span.add_event("exception", {"exception.type": _type_name(error)}, at)


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException | None) -> str | None:
    if error is None:
        return None
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # as above
        return type(error).__name__


def _dotted(function: str) -> str:
    """`module.qualname`, as `code.function.name` has it."""
    return function.replace(":", ".", 1)


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)


def _now() -> int:
    return _nanoseconds(clock().now())
