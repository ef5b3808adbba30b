"""How long to go on asking a store that fails, and how fast: one policy for every place, with the clients' own retries off.

Pure decisions (`wait_before`), and a bound on operations under way that narrows where a store throttles (`Pace`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from holdfast.folders.protocol import Trouble
from holdfast.frozen import Frozen

WORTH_ASKING_AGAIN: Final = frozenset({Trouble.PASSING, Trouble.THROTTLED})

#: Operations under way at one time, while the store keeps up.
WIDEST: Final = 32
#: So many operations in a row that went well, and one more may be under way.
GOOD_RUN: Final = 16


class Patience(Frozen):
    """When to ask again.

    Attributes:
        deadline: Seconds from the first try, after which no other begins.
        initial: Seconds before the second try …
        longest: … doubled for each further one, up to so many.
        throttled: The same as `initial`, after the store said that it is asked too often.
        one_try: Seconds that one try may take, and …
        bytes_per_second: … how much longer it may take for each byte that it moves.
    """

    deadline: float = 60.0
    initial: float = 0.1
    longest: float = 8.0
    throttled: float = 0.5
    one_try: float = 30.0
    bytes_per_second: float = 64_000.0

    def limit(self, size: int) -> float:
        """Seconds that one try may take."""
        return self.one_try + size / self.bytes_per_second


def wait_before(patience: Patience, trouble: Trouble, tries: int, elapsed: float, jitter: float) -> float | None:
    """Seconds to wait before another try, or None to give up.

    Args:
        patience: The policy.
        trouble: What the last try met.
        tries: How many there were, at least 1.
        elapsed: Seconds since the first began.
        jitter: A number from [0, 1), drawn anew each time.
    """
    if trouble not in WORTH_ASKING_AGAIN:
        return None
    first = patience.throttled if trouble is Trouble.THROTTLED else patience.initial
    ceiling = min(first * 2.0 ** min(tries - 1, 30), patience.longest)
    wait = ceiling * (0.5 + jitter / 2)
    return wait if elapsed + wait < patience.deadline else None


class Pace:
    """How many operations may be under way on one event loop: halved when the store throttles, widened again one by one."""

    width: int

    def __init__(self, widest: int = WIDEST) -> None:
        self.width = self._widest = widest
        self._under_way = 0
        self._good = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        while self._under_way >= self.width:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except BaseException:
                if turn.done() and not turn.cancelled():
                    self._wake()
                raise
        self._under_way += 1

    def leave(self) -> None:
        self._under_way -= 1
        self._wake()

    def went_well(self) -> None:
        self._good += 1
        if self._good >= GOOD_RUN and self.width < self._widest:
            self._good = 0
            self.width += 1
            self._wake()

    def was_throttled(self) -> None:
        self._good = 0
        self.width = max(1, self.width // 2)

    def _wake(self) -> None:
        while self._waiting and self._under_way < self.width:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
