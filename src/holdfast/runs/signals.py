"""SIGTERM and Ctrl-C, as a run takes them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, cast

from holdfast.actions.runtime import StopRequest
from holdfast.runs.owned import Run
from holdfast.status import Status


class Signals:
    """SIGTERM and Ctrl-C stop a run: in the main thread only, over default handlers only, restored after. A second one ends the grace.

    `asyncio.run` takes Ctrl-C itself, and cancels its main task: there only the second one is ours to see.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._taken: list[signal.Signals] = []
        self._runners: Callable[[int, FrameType | None], Any] | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._take(signal.SIGTERM, StopRequest(Status.STOPPED, "SIGTERM"))
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._take(signal.SIGINT, StopRequest(Status.STOPPED, "Ctrl-C", KeyboardInterrupt()))
        elif _is_a_runners(handler := signal.getsignal(signal.SIGINT)):
            self._runners = cast("Callable[[int, FrameType | None], Any]", handler)
            signal.signal(signal.SIGINT, self._pass_on)

    def _take(self, number: signal.Signals, stop: StopRequest) -> None:
        try:
            asyncio.get_running_loop().add_signal_handler(number, self._ask, stop)
        except (NotImplementedError, RuntimeError):  # a loop, or a system, without signals
            return
        self._taken.append(number)

    def _ask(self, stop: StopRequest) -> None:
        if self._run.runtime.stop is None:
            self._run.request(stop)
        else:
            self._run.hurry()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self._run.runtime.stop is not None:
            self._run.runtime.loop.call_soon_threadsafe(self._run.hurry)
        if self._runners is not None:
            self._runners(number, frame)

    def __exit__(self, *exc: object) -> None:
        loop = asyncio.get_running_loop()
        for number in self._taken:
            loop.remove_signal_handler(number)
        if self._runners is not None:
            signal.signal(signal.SIGINT, self._runners)


def _is_a_runners(handler: object) -> bool:
    """Whether a handler of Ctrl-C is the one that `asyncio.run` installs."""
    return isinstance(handler, partial) and isinstance(getattr(handler.func, "__self__", None), asyncio.Runner)
