"""Outside any run."""

from __future__ import annotations

import secrets
from typing import Any

from holdfast.actions.asking import ask
from holdfast.actions.decisions import ANEW
from holdfast.actions.performing import Action
from holdfast.actions.runtime import Runtime
from holdfast.actions.undoing import roll_back
from holdfast.clocks import clock
from holdfast.contexts import Context
from holdfast.engines.local import LocalEngine
from holdfast.orders import Order


async def ephemeral(order: Order, context: Context, call: object) -> Any:
    """Run a call at once: context, retries, timeouts and checkpoints work, and nothing is kept."""
    order.definition.result_codec()  # what can't be recorded is refused before it begins
    runtime = Runtime(
        run_name="ephemeral",
        run_id=secrets.token_hex(8),
        engine=LocalEngine(),
        ask=ask,
        roll_back=roll_back,
        started_at=clock().now(),
        grace=30.0,
    )
    action = Action(runtime, None, order, context, None, None, ANEW)
    try:
        value = await action.begin(call)
    finally:
        await runtime.let_go()
        await runtime.engine.aclose()
    if runtime.lost is not None:
        raise runtime.lost
    return value
