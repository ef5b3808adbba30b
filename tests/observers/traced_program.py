"""A traced run that kills its process in the middle, once: `python traced_program.py <store> <spans> <marker>`. Spans are JSON lines."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import holdfast as hf
from holdfast.observers.otel import OpenTelemetryObserver


class Lines(SpanExporter):
    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._path.open("a") as out:
            out.writelines(span.to_json(indent=0).replace("\n", "") + "\n" for span in spans)
        return SpanExportResult.SUCCESS


async def sent(number: int) -> None:
    """Observers are told in threads of their own: wait until so many spans have gone out."""
    while len(spans_in(Path(sys.argv[2]))) < number:  # noqa: ASYNC110 - another thread writes them, and tells nobody
        await asyncio.sleep(0.01)


def spans_in(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def die_once(marker: Path) -> None:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@hf.task(name="step")
async def step(number: int) -> int:
    if number == 2:
        await hf.ctx().checkpoint.save(b"begun")  # that this attempt began is on record by then
        await sent(4)  # of the two steps before, and their attempts
        die_once(Path(sys.argv[3]))
    return number


@hf.task(name="main")
async def main() -> int:
    return sum([await step(number) for number in range(4)])


if __name__ == "__main__":
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Lines(sys.argv[2])))
    print(hf.run_sync(main(), run_name="it", store=sys.argv[1], observers=[OpenTelemetryObserver(tracer_provider=provider)]))
