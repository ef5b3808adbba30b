"""The bars of one attempt: moved by any thread of its body, told live, recorded now and then, remembered by saves, put back by loads.

Every move is told to observers as soon as what happened before it is durable. The journal gets the values at most once in `EVERY_SECONDS`
while they move, and always the last ones before the attempt's outcome: after a kill, a reader sees what was at most so much earlier. Bars
belong to an attempt. Each begins with none, since its body begins anew; `checkpoint.load` puts back those of the save, since the body goes
on from there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from holdfast.actions.runtime import Runtime
from holdfast.bridge import running_loop
from holdfast.clocks import clock
from holdfast.contexts import DEFAULT_TOTAL
from holdfast.events import Progressed, Ticked
from holdfast.progress import Bar, BarValues, advance, check_bar, merged, put_back, tracked

EVERY_SECONDS: Final = 1.0


class Bars:
    """What one attempt showed of its progress.

    Args:
        runtime: The run.
        action: The name of the attempt's action.
        on_loop: Has work done on the run's loop, in its turn.
    """

    def __init__(self, runtime: Runtime, action: str, on_loop: Callable[[Callable[[], None]], None]) -> None:
        self._runtime = runtime
        self._action = action
        self._on_loop = on_loop
        self._lock = threading.RLock()  # on the loop a move is recorded at once
        self._bars: dict[str, Bar] = {}
        self._at_work: dict[str, int] = {}  # items of `track` that the body has in hand, by bar
        self._tracked: set[str] = set()  # bars that a `track` of this attempt moves or has moved
        self._tracks: dict[str, int] = {}  # how many `track`s are under way, by bar
        self._put_back: set[str] = set()  # bars that a load put back, and no `track` has moved since
        self._recorded_at = clock().monotonic()
        self._is_dirty = False  # something is shown that is not recorded
        self._is_watched = False  # the timer runs, or is about to
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._on_their_way = 0  # moves by threads that are not told yet

    # moving

    def advance(self, name: str, step: float, total: float | None) -> Bar:
        """One step of a bar. Raises: InvalidOption."""
        with self._lock:
            known = self._known(name)
            given = None if known is not None and total is DEFAULT_TOTAL else total
            bar = advance(known, step, given, clock().now())
            self._show(name, bar)
        return bar

    def track(self, name: str, total: float | None, left: int | None) -> Track:
        """Have a bar follow items: `total` in all, of which `left` are to come, as far as that is known. Raises: InvalidOption."""
        with self._lock:
            known = self._known(name)
            if known is not None and self._tracks.get(name):
                bar = merged(known, tracked(None, left if total is None else total, left, clock().now()))
            else:
                bar = self._tracked_alone(name, known, total, left)
            self._tracks[name] = self._tracks.get(name, 0) + 1
            self._tracked.add(name)
            self._put_back.discard(name)
            self._show(name, bar)
        return Track(self, name)

    def _tracked_alone(self, name: str, known: Bar | None, total: float | None, left: int | None) -> Bar:
        if name in self._tracked:  # it is used anew, for other items
            known = None
        is_going_on = name in self._put_back and left is not None and known is not None and (known.total or 0) >= left
        if total is None and not is_going_on:
            total = left
        return tracked(known, total, left, clock().now())

    def take(self, name: str, change: int) -> None:
        """Note that the body has so many more, or fewer, items in hand."""
        with self._lock:
            self._at_work[name] = self._at_work.get(name, 0) + change

    def leave(self, name: str, *, is_at_end: bool) -> None:
        """A loop is over. A bar without a total has reached it with the last loop that follows it, where that is at its items' end."""
        with self._lock:
            left = self._tracks[name] = self._tracks[name] - 1
            bar = self._bars.get(name)
            if is_at_end and not left and bar is not None and bar.total is None:
                self._show(name, advance(bar, 0, bar.n, clock().now()))

    # saves

    def values(self) -> Mapping[str, BarValues]:
        """What a save remembers. The items in hand count as done: a save made for one is loaded to go on behind it."""
        with self._lock:
            at_work = self._at_work
            return {name: (bar.n + at_work.get(name, 0), *bar.values[1:]) for name, bar in self._bars.items()}

    def rewind(self, values: Mapping[str, BarValues]) -> None:
        """Put the bars back as a save remembers them."""
        with self._lock:
            now = clock().now()
            gone = [(name, advance(bar, -bar.n, None, now)) for name, bar in self._bars.items() if name not in values]
            for name, bar in [*gone, *((name, put_back(bar, now)) for name, bar in values.items())]:
                self._show(name, bar)
            for name, _ in gone:
                del self._bars[name]
            self._tracked.clear()
            self._put_back = set(values)

    # recording

    def close(self) -> Progressed | None:
        """The last values, where they are not recorded yet. Nothing is recorded after that."""
        with self._lock:
            self._is_closed = True
            last = self._event() if self._is_dirty else None
            self._is_dirty = False
        if self._timer is not None:
            self._timer.cancel()
        return last

    def _known(self, name: Any) -> Bar | None:
        bar = self._bars.get(name) if isinstance(name, str) else None
        if bar is None:
            check_bar(name, len(self._bars))
        return bar

    def _show(self, name: str, bar: Bar) -> None:
        self._bars[name] = bar
        if (tell := self._runtime.tell) is not None:
            self._tell(tell, Ticked(action=self._action, at=bar.updated_at, bar=name, n=bar.n, total=bar.total))
        if not self._runtime.durable or self._is_closed:
            return
        self._is_dirty = True
        if not self._is_watched or clock().monotonic() - self._recorded_at >= EVERY_SECONDS:
            self._is_watched = True
            self._on_loop(self._look)

    def _tell(self, tell: Callable[[Ticked], None], tick: Ticked) -> None:
        """At once on the loop, but behind what threads of the body have told before."""
        is_here = running_loop() is self._runtime.loop
        if is_here and not self._on_their_way:
            tell(tick)
            return
        self._on_their_way += 1
        if is_here:
            self._runtime.loop.call_soon(self._tell_in_turn, tell, tick)
        else:
            self._on_loop(lambda: self._tell_in_turn(tell, tick))

    def _tell_in_turn(self, tell: Callable[[Ticked], None], tick: Ticked) -> None:
        with self._lock:
            self._on_their_way -= 1
        tell(tick)

    def _look(self) -> None:
        """Record the values, or see to it that they are recorded when it is time."""
        if self._is_closed or self._runtime.lost is not None:
            return
        left = self._recorded_at + EVERY_SECONDS - clock().monotonic()
        if left <= 0:
            self._record()
        elif self._timer is None:
            self._timer = self._runtime.loop.call_later(left, self._record)

    def _record(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with self._lock:
            self._recorded_at = clock().monotonic()
            event = self._event() if self._is_dirty else None
            self._is_dirty = self._is_watched = False
        if event is not None and not self._is_closed and self._runtime.lost is None:
            self._runtime.append(event)

    def _event(self) -> Progressed:
        return Progressed(action=self._action, at=clock().now(), bars={name: bar.values for name, bar in self._bars.items()})


class Track:
    """A bar that follows the items of one `track`."""

    __slots__ = ("_bars", "_has_item", "_is_over", "_name")

    def __init__(self, bars: Bars, name: str) -> None:
        self._bars = bars
        self._name = name
        self._has_item = False
        self._is_over = False

    def take(self) -> None:
        """An item goes to the body."""
        self._has_item = True
        self._bars.take(self._name, 1)

    def done(self) -> None:
        """The body asks for the next one, so that it is done with this one."""
        self._let_go()
        self._bars.advance(self._name, 1, None)

    def finish(self) -> None:
        """There are no more items: where nobody knew how many there would be, these are all."""
        self._end(is_at_end=True)

    def leave(self) -> None:
        """The body goes away, whether it has an item in hand or not."""
        self._let_go()
        self._end(is_at_end=False)

    def _let_go(self) -> None:
        if self._has_item:
            self._has_item = False
            self._bars.take(self._name, -1)

    def _end(self, *, is_at_end: bool) -> None:
        if not self._is_over:
            self._is_over = True
            self._bars.leave(self._name, is_at_end=is_at_end)
