"""An order in four stages over a SQLite database. Where one of them fails for good, what the others did is undone, newest first.

python examples/orders.py --order 1                                   # extract, validate, charge, ship
python examples/orders.py --order 2 --die-in-charge                   # killed as soon as the bank has the money
python examples/orders.py --order 2                                   # goes on, and pays once
python examples/orders.py --order 3 --declined --die-in-rollback      # the card is declined, and the process killed as it undoes
python examples/orders.py --order 3 --declined                        # goes on undoing
python examples/orders.py --order 1 --take-back                       # undo all of an order that was shipped
"""

import argparse
import asyncio
import os
import signal
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager

from pydantic import BaseModel

import holdfast as hf
from holdfast import NonRetryable, RetryPolicy, StageState, Store, ctx, pipeline, stage, stage_states, task
from holdfast.errors import RunRolledBack

# For the demonstration. They are no inputs, so that a command line with them and one without are the same run.
die_in_charge = die_in_rollback = False

TABLES = {
    "orders": "order_id INTEGER PRIMARY KEY, item TEXT, cents INTEGER",
    "reservations": "order_id INTEGER PRIMARY KEY, item TEXT",
    "holds": "order_id INTEGER PRIMARY KEY, cents INTEGER",
    "charges": "key TEXT PRIMARY KEY, order_id INTEGER, cents INTEGER",
    "parcels": "order_id INTEGER PRIMARY KEY, item TEXT",
}


class Declined(NonRetryable):
    """The card's bank said no. To ask it again would not help, so no attempt follows."""


class Shipped(BaseModel):
    parcel: str
    paid_cents: int


class OrderState(StageState[Shipped]):
    """What all stages know of an order: what was asked for, and what each stage found out."""

    database: str
    order_id: int
    card: str
    item: str | None = None
    cents: int = 0


Earlier = Mapping[str, OrderState]


@contextmanager
def opened(path: str) -> Generator[sqlite3.Connection]:
    """A transaction: what it changes is there as a whole, or not at all."""
    with closing(sqlite3.connect(path)) as database, database:
        for table, columns in TABLES.items():
            database.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
        yield database


def remove(path: str, table: str, order_id: int) -> None:
    """What every undo here comes down to. Done twice, it is done: there is nothing left to delete."""
    with opened(path) as database:
        gone = database.execute(f"DELETE FROM {table} WHERE order_id = ?", (order_id,)).rowcount
    print(f"  undo: {table}: " + (f"{gone} deleted" if gone else "nothing there any more"), flush=True)


# the stages, each with what undoes it


async def forget(state: OrderState) -> None:
    remove(state.database, "orders", state.order_id)


@stage(undo=forget)
async def extract(state: OrderState, earlier: Earlier) -> None:
    state.item, state.cents = f"book-{state.order_id}", 1999
    with opened(state.database) as database:  # OR IGNORE: an attempt that was killed may have been here
        database.execute("INSERT OR IGNORE INTO orders VALUES (?, ?, ?)", (state.order_id, state.item, state.cents))
    print(f"  extract: {state.item} for {state.cents} cents", flush=True)


async def put_back(state: OrderState) -> None:
    remove(state.database, "reservations", state.order_id)
    if die_in_rollback:  # the effect is undone, and nobody has noted it: this undo will run once more
        os.kill(os.getpid(), signal.SIGKILL)


@stage(undo=put_back)
async def validate(state: OrderState, earlier: Earlier) -> None:
    item = earlier["extract"].item
    with opened(state.database) as database:
        database.execute("INSERT OR IGNORE INTO reservations VALUES (?, ?)", (state.order_id, item))
    print(f"  validate: {item} is reserved", flush=True)


@task
async def release(database: str, order_id: int) -> None:
    remove(database, "holds", order_id)


async def pay_back(state: OrderState) -> None:
    remove(state.database, "charges", state.order_id)


@stage(undo=pay_back)
async def charge(state: OrderState, earlier: Earlier) -> None:
    """Hold the money, then take it. A stage that fails half-way is not undone by its `undo=`, which is for what was completed.

    So what undoes the hold is registered before there is one.
    """
    cents = earlier["extract"].cents
    await ctx().on_rollback(release, state.database, state.order_id)
    with opened(state.database) as database:
        database.execute("INSERT OR IGNORE INTO holds VALUES (?, ?)", (state.order_id, cents))
    print(f"  charge: {cents} cents are held on the {state.card} card", flush=True)
    if state.card == "empty":
        raise Declined(f"order {state.order_id}: insufficient funds")
    with opened(state.database) as database:  # like a bank that honours idempotency keys: one key, one charge
        taken = (ctx().idempotency_key, state.order_id, cents)
        database.execute("INSERT OR IGNORE INTO charges VALUES (?, ?, ?)", taken)
        database.execute("DELETE FROM holds WHERE order_id = ?", (state.order_id,))
    if die_in_charge:
        os.kill(os.getpid(), signal.SIGKILL)
    print(f"  charge: {cents} cents are paid", flush=True)


async def call_back(state: OrderState) -> None:
    remove(state.database, "parcels", state.order_id)


@stage(undo=call_back)
async def ship(state: OrderState, earlier: Earlier) -> Shipped:
    item = earlier["extract"].item
    with opened(state.database) as database:
        database.execute("INSERT OR IGNORE INTO parcels VALUES (?, ?)", (state.order_id, item))
    print(f"  ship: {item} is on its way", flush=True)
    return Shipped(parcel=f"parcel-{state.order_id}", paid_cents=earlier["extract"].cents)


orders = pipeline("orders", [extract, validate, charge, ship], retry_policy=RetryPolicy.STAGE, max_attempts=3)


# the program


async def fulfil(store: Store, state: OrderState, run_name: str) -> None:
    try:
        done = await hf.run(orders(state), run_name=run_name, store=store)
    except Declined as declined:
        print(f"declined: {declined}; all is undone")
    except RunRolledBack as error:  # it was undone by an earlier process, or by --take-back
        print(f"rolled back: {error.__cause__ if error.__cause__ is not None else run_name}")
    else:
        assert done.result is not None
        print(f"shipped: {done.result.parcel}, paid {done.result.paid_cents} cents")


async def tell(store: Store, path: str, order_id: int, run_name: str) -> None:
    """What the store knows of each stage, and the database of the order."""
    state = await store.state(run_name)
    print(f"{run_name} is {state.status.value}")
    for name, of_stage in stage_states(state, orders).items():
        history = ", ".join(entry.message for entry in of_stage.history)
        print(f"  {name}: {of_stage.status.value}" + (f" ({history})" if history else ""))
    with opened(path) as database:
        count = {table: database.execute(f"SELECT count(*) FROM {table} WHERE order_id = ?", (order_id,)).fetchone()[0] for table in TABLES}
    print("in the database: " + ", ".join(f"{rows} {table}" for table, rows in count.items()))


async def program(options: argparse.Namespace) -> None:
    run_name = f"order-{options.order}"
    async with Store(options.store) as store:
        if options.take_back:
            await store.rollback(run_name)
        else:
            card = "empty" if options.declined else "good"
            await fulfil(store, OrderState(database=options.database, order_id=options.order, card=card), run_name)
        await tell(store, options.database, options.order, run_name)


def main() -> None:
    global die_in_charge, die_in_rollback
    parser = argparse.ArgumentParser(description="Fulfil an order, or undo it.")
    parser.add_argument("--store", help="a folder; by default $HOLDFAST_STORE, else .holdfast")
    parser.add_argument("--database", default="shop.sqlite", help="a SQLite file")
    parser.add_argument("--order", type=int, default=1)
    parser.add_argument("--declined", action="store_true", help="pay by a card without money")
    parser.add_argument("--take-back", action="store_true", help="undo what the order's run did")
    parser.add_argument("--die-in-charge", action="store_true", help="kill the process once the money is paid")
    parser.add_argument("--die-in-rollback", action="store_true", help="kill the process as it undoes")
    options = parser.parse_args()
    die_in_charge, die_in_rollback = options.die_in_charge, options.die_in_rollback
    asyncio.run(program(options))


if __name__ == "__main__":
    main()
