# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false, reportUnusedExpression=false
"""What type checkers see of costs and budgets. Never run: read by mypy and pyright (test_types.py)."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, assert_type

import holdfast as hf
from holdfast import ActionState, Budget, Context, Cost, Costs, Price, RunState, TaskContext, TaskResult, task


@task
async def ask(prompt: str) -> str:
    return prompt


async def reports(context: TaskContext) -> None:
    assert_type(context.add_cost("0.1"), None)
    assert_type(
        context.add_cost(Price("0.15", Decimal("0.60")).of(1200, 300), tokens_in=1200, tokens_out=300, model="small", key="a"), None
    )
    context.add_cost(0.1)  # type: ignore[arg-type]
    context.add_cost("0.1", 5)  # type: ignore[misc, call-arg, unused-ignore]
    context.add_cost("0.1", tokens=1.5)  # type: ignore[arg-type]
    assert_type(Price("0.15").of(tokens_in=3), Decimal)
    Price(0.15)  # type: ignore[arg-type]


async def budgets() -> None:
    budget = Budget(cost="10", tokens=1_000_000, seconds=timedelta(hours=1), executions=500, reserve=Decimal("0.02"), warn_at=[0.5, 0.9])
    assert_type(await hf.run(ask("a"), budget=budget), str)
    assert_type(await hf.run(ask("a"), budget=None), str)
    with Budget(seconds=60) as entered:
        assert_type(entered, None)
        assert_type(Context.current().budgets, tuple[Budget, ...])
        assert_type(budget.spent, Cost)
    Budget("10")  # type: ignore[misc, call-arg, unused-ignore]
    Budget(cost=10)  # type: ignore[arg-type]
    await hf.run(ask("a"), budget="10")  # type: ignore[arg-type, typeddict-item, unused-ignore]


def states(state: RunState, action: ActionState, result: TaskResult[Any]) -> None:
    assert_type(state.cost, Decimal)
    assert_type(state.saved, Decimal)
    assert_type(state.tokens, int)
    assert_type(state.costs, Costs)
    assert_type(state.costs.by_model, Mapping[str, Cost])
    assert_type(state.costs.by_task["ask"].tokens_in, int)
    assert_type(state.costs["ask", "small"].cost, Decimal)
    assert_type(action.cost, Decimal)
    assert_type(action.tokens, int)
    assert_type(result.cost, Decimal)
