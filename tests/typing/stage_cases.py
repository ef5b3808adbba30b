# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false, reportUnusedExpression=false
"""What type checkers see of stages and pipelines. Never run: read by mypy and pyright (test_types.py)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, assert_type

from pydantic import BaseModel

import holdfast as hf
from holdfast import (
    AsyncTask,
    Call,
    RetryPolicy,
    Stage,
    StageState,
    StageStateHistoryEntry,
    Status,
    parallel,
    pipeline,
    stage,
    stage_states,
)


class Report(BaseModel):
    rows: int


class OrderState(StageState[Report]):
    order_id: int


class OtherState(StageState[Report]):
    pass


Seen = Mapping[str, OrderState]


@stage
async def extract(state: OrderState, earlier: Seen) -> Report:
    assert_type(state.result, Report | None)
    assert_type(earlier["extract"].order_id, int)
    return Report(rows=1)


@stage(timeout=30, version="2", name="check")
async def validate(state: OrderState, earlier: Seen) -> None: ...


async def refund(state: OrderState) -> None: ...


@stage(undo=refund, concurrency=3)
async def charge(state: OrderState, earlier: Seen) -> Report | None: ...


@stage
async def of_another(state: OtherState, earlier: Mapping[str, OtherState]) -> None: ...


class Ship(Stage[OrderState]):
    def __init__(self, to: str) -> None:
        self.to = to

    async def execute(self, state: OrderState, earlier: Seen) -> Report | None: ...

    async def rollback(self, state: OrderState) -> None: ...


class Pack:
    async def execute(self, state: OrderState, earlier: Seen) -> None: ...


assert_type(extract, Stage[OrderState])
assert_type(validate, Stage[OrderState])
assert_type(charge, Stage[OrderState])
assert_type(stage(Pack), Stage[OrderState])
assert_type(stage(timeout=3)(Pack), Stage[OrderState])
assert_type(parallel(extract, Ship("Rome")), Stage[OrderState])

orders = pipeline("orders", [extract, parallel(validate, charge), Ship("Rome")], retry_policy=RetryPolicy.GLOBAL, max_attempts=9)
assert_type(orders, AsyncTask[[OrderState], OrderState])


async def calls(state: hf.RunState) -> None:
    assert_type(orders(OrderState(order_id=1)), Call[OrderState])
    assert_type(await orders(OrderState(order_id=1)), OrderState)
    assert_type(await hf.run(orders(OrderState(order_id=1)), run_name="it"), OrderState)
    assert_type(orders.sync(OrderState(order_id=1)), OrderState)
    read = stage_states(state, orders)
    assert_type(read, Mapping[str, OrderState])
    line = read["extract"].history[0]
    assert_type(line, StageStateHistoryEntry)
    assert_type((line.attempt, line.end_status, line.begin_ts, line.message), tuple[int, Status, datetime, str])
    orders(OtherState())  # type: ignore[arg-type]
    orders(OrderState(order_id=1), 3)  # type: ignore[call-arg]
    pipeline("p", [extract, of_another])  # type: ignore[arg-type]
    pipeline("p", [extract], max_attempts="3")  # type: ignore[arg-type]
    anything: StageState[Any] = read["extract"]
    assert_type(anything.attempts, int)
