"""Rows of a table through a service that is paid for each answer, and that is slow, busy or broken now and then. Kill it when you like.

python examples/classify_rows.py --die-after 200                    # SIGKILL when 200 rows are answered
python examples/classify_rows.py --budget 0.08                      # goes on, and stops when that much is spent
python examples/classify_rows.py                                    # goes on to the end: each row is paid once
python examples/classify_rows.py --without-keys --die-after 200     # what happens where nobody tells a retry from a new question
python examples/classify_rows.py --without-keys

The table is the Wisconsin breast cancer data set, which comes with scikit-learn: 569 biopsies, of each 30 measurements and what it was.
The service is `paid_service.py`. It keeps a ledger of what it charged, and the last lines compare that with what we have on record.
"""

import argparse
import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import httpx
from paid_service import Ledger, started
from pydantic import BaseModel, ValidationError
from sklearn.datasets import load_breast_cancer

import holdfast as hf
from holdfast import Budget, RecordStatus, Retry, Status, Store, ctx, records, task
from holdfast.errors import BudgetSpent
from holdfast.observers.terminal import TerminalObserver

CONCURRENCY = 16

# What is another thing in each process is no input: the same line would not be the same.
service: httpx.AsyncClient
with_keys = True
die_after: int | None = None

Label = Literal["benign", "malignant"]


@dataclass(frozen=True)
class Biopsy:
    row: int
    values: dict[str, float]


class Answer(BaseModel):
    label: Label


class Busy(Exception):
    """The service has no time for us. The next attempt waits for `retry_after` seconds, as it asks us to."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class NoAnswer(Exception):
    """What came is none, and may be one the next time."""


@task(retries=Retry(8, initial_interval=0.05), timeout=30)
async def classify(biopsy: Biopsy) -> Label:
    """Ask the service. Whatever goes wrong is raised, and so retried; what it charged for that is on record all the same."""
    headers = {"Idempotency-Key": ctx().idempotency_key} if with_keys else {}
    answer = await service.post("/", json={"row": biopsy.row, "values": biopsy.values}, headers=headers)
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise Busy(float(answer.headers["Retry-After"]))
    if answer.is_error:
        raise NoAnswer(f"{answer.status_code} {answer.reason_phrase}")
    ctx().add_cost(
        answer.headers["X-Cost"],
        tokens_in=int(answer.headers["X-Tokens-In"]),
        tokens_out=int(answer.headers["X-Tokens-Out"]),
        key="answer" if with_keys else None,  # charged once over all attempts, since the service knows them by their key
    )
    try:
        return Answer.model_validate_json(answer.content).label
    except ValidationError:
        raise NoAnswer(f"garbage: {answer.content!r}") from None


@task
async def classify_all(count: int) -> str:
    biopsies, truth = table(count)
    done = right = 0
    answered = records(classify, biopsies, concurrency=CONCURRENCY)
    async for row in answered:
        right += row.status is RecordStatus.SUCCESS and row.value == truth[row.index]
        done += 1
        if done == die_after:
            os.kill(os.getpid(), signal.SIGKILL)
    summary = answered.summary
    ctx().summary(f"{summary.success_count} of {summary.total_count} rows answered, {right} as the pathologist says")
    return summary.message or "no row is lost"


def table(count: int) -> tuple[list[Biopsy], list[Label]]:
    """It is read in the body, by each process anew. A row that has changed is another call, and is never given the old answer."""
    data = load_breast_cancer()
    biopsies = [Biopsy(n, dict(zip(map(str, data.feature_names), map(float, values), strict=True))) for n, values in enumerate(data.data)]
    truth: list[Label] = ["benign" if target else "malignant" for target in data.target]
    return biopsies[:count], truth[:count]


# the program


async def program(options: argparse.Namespace, url: str) -> int:
    global service
    budget = Budget(cost=options.budget) if options.budget is not None else None
    async with Store(options.store) as store, httpx.AsyncClient(base_url=url, timeout=None) as service:
        try:
            lost = await hf.run(
                classify_all(options.rows), run_name=options.run_name, store=store, budget=budget, observers=[TerminalObserver()]
            )
        except BudgetSpent as spent:
            print(f"stopped: {spent}")
        else:
            print(f"{(await store.result(options.run_name)).summary}; {lost}")
        state = await store.state(options.run_name)
    stats = state.stats
    print(f"processed: {stats.processed} of {stats.total}, {stats.skipped} skipped; the run is {state.status.value}")
    print(f"cost: {state.cost} for {state.tokens:,} tokens; saved by answers from record: {state.saved}")
    compare(Ledger(options.ledger).charges(), state.cost)
    return 0 if state.status is Status.COMPLETED else 1


def compare(charges: list[tuple[int, Decimal]], cost: Decimal) -> None:
    """What the service says that it charged, beside what we have on record."""
    charged, rows = sum((price for _, price in charges), Decimal(0)), {row for row, _ in charges}
    print(f"the service's ledger: {charged} for {len(charges)} answers to {len(rows)} rows; unknown to us: {charged - cost or 0}")


def main() -> None:
    global die_after, with_keys
    parser = argparse.ArgumentParser(description="Classify the rows of a table by a paid service.")
    parser.add_argument("--store", help="a folder; by default $HOLDFAST_STORE, else .holdfast")
    parser.add_argument("--run-name", help="by default classify, or classify-without-keys")
    parser.add_argument("--ledger", help="the service's SQLite file; by default named as the run")
    parser.add_argument("--rows", type=int, default=569, help="how many of the 569")
    parser.add_argument("--budget", help="stop when so much is spent")
    parser.add_argument("--die-after", type=int, metavar="N", help="kill the process when N rows are answered")
    parser.add_argument("--without-keys", action="store_true", help="send no idempotency keys, and count each answer that comes")
    options = parser.parse_args()
    die_after, with_keys = options.die_after, not options.without_keys
    options.run_name = options.run_name or ("classify" if with_keys else "classify-without-keys")
    options.ledger = options.ledger or f"{options.run_name}.sqlite"
    with started(options.ledger) as url:
        sys.exit(asyncio.run(program(options, url)))


if __name__ == "__main__":
    main()
