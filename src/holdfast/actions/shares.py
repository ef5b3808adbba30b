"""Attempts that several actions take from one number: the stages of a pipeline whose `RetryPolicy` is GLOBAL.

Each execution takes one, also a successful one. It is taken before the attempt begins, and that of a retry when the retry is decided: so
actions that run side by side can't overspend together, and one that waits out its backoff finds what it was promised. What did not end as
an execution (cancelled, stopped) is given back. After a crash the count goes on from what the journal says was executed.
"""

from __future__ import annotations

from holdfast.errors import AttemptsSpent
from holdfast.retries import RetryPolicy, attempts_left
from holdfast.states import Fold
from holdfast.status import EXECUTED_STATES, Status


class Shares:
    """What all calls of one attempt may execute together, and how much of it is taken."""

    __slots__ = ("max_attempts", "taken")

    max_attempts: int
    taken: int

    def __init__(self, max_attempts: int, taken: int) -> None:
        self.max_attempts = max_attempts
        self.taken = taken

    @classmethod
    def recorded(cls, max_attempts: int, state: Fold | None, action: str) -> Shares:
        """Those of an action's present attempt, less what its present try has spent already."""
        record = state.actions.get(action) if state is not None else None
        return cls(max_attempts, record.spent if record is not None else 0)

    @property
    def left(self) -> int:
        return attempts_left(RetryPolicy.GLOBAL, self.max_attempts, 0, self.taken)


class Share:
    """What one action holds of them."""

    __slots__ = ("_held", "_shares")

    def __init__(self, shares: Shares, *, pipeline: str, stage: str) -> None:
        """Take one. Raises: AttemptsSpent."""
        if not shares.left:
            raise AttemptsSpent(pipeline=pipeline, stage=stage, max_attempts=shares.max_attempts)
        self._shares = shares
        self._held = 0
        self.take()

    @property
    def left(self) -> int:
        return self._shares.left

    def take(self) -> None:
        """Take one for a further attempt, of which `left` said that it may begin."""
        self._shares.taken += 1
        self._held += 1

    def ended(self, status: Status) -> None:
        """An attempt ended so: an execution keeps what it took."""
        if status in EXECUTED_STATES:
            self._held -= 1

    def give_back(self) -> None:
        """Nothing further begins."""
        self._shares.taken -= self._held
        self._held = 0
