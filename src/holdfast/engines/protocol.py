"""What an engine is asked for."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from holdfast.attempts import Outcome
from holdfast.contexts import Link
from holdfast.orders import Capsule, Order


class Engine(Protocol):
    """Executes attempts. It neither retries nor times out: that is the near side's."""

    def run(self, order: Order, capsule: Capsule, link: Link) -> Coroutine[Any, Any, Outcome]:
        """Run one attempt to its outcome. A coroutine function.

        Cancelled, it stops the body and gives `Ended`; where the body can't be stopped, `Abandoned`, at once.
        """
        ...

    def pause(self, capsule: Capsule) -> bool:
        """The attempt's body waits for actions: give its slot back, if it has one. Called on the loop."""
        ...

    async def proceed(self, capsule: Capsule) -> None:
        """The body of a paused attempt is about to go on: take a slot again. Called on the loop."""
        ...

    async def aclose(self) -> None: ...
