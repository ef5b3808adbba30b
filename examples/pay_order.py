"""Pay an order by card, and by bank transfer where the card is declined. Killed in between, it does not try the card again.

python examples/pay_order.py --order 42 --die-before-shipping    # declined, paid by transfer, killed
python examples/pay_order.py --order 42                          # goes on: ships, and asks nobody for money
"""

import argparse
import asyncio
import os
import signal
import sqlite3
from contextlib import closing

import holdfast as hf
from holdfast import ctx, task

die_before_shipping = False  # for the demonstration; not an input of the task, so that both command lines are the same run


class Declined(Exception):
    """The card's bank said no."""


def ask_bank(ledger: str, way: str, order: int, cents: int) -> None:
    """Stands for a payment service. It notes who asked, and honours idempotency keys: one key, one charge."""
    with closing(sqlite3.connect(ledger)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS requests (way TEXT, order_id INTEGER)")
        database.execute("CREATE TABLE IF NOT EXISTS charges (key TEXT PRIMARY KEY, way TEXT, order_id INTEGER, cents INTEGER)")
        database.execute("INSERT INTO requests VALUES (?, ?)", (way, order))
        if way != "card":
            charge = (ctx().idempotency_key, way, order, cents)
            database.execute("INSERT INTO charges VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", charge)
    print(f"asked for {cents} cents by {way}", flush=True)


@task
def pay_by_card(ledger: str, order: int, cents: int) -> str:
    ask_bank(ledger, "card", order, cents)
    raise Declined(f"order {order}: insufficient funds")


@task(retries=3)
def pay_by_transfer(ledger: str, order: int, cents: int) -> str:
    ask_bank(ledger, "transfer", order, cents)
    return "transfer"


@task
def ship(order: int) -> str:
    if die_before_shipping:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"parcel-{order}"


@task
async def fulfil(ledger: str, order: int, cents: int) -> str:
    try:
        paid = await pay_by_card.call(ledger, order, cents)
    except Declined as declined:  # on resume the recorded failure is raised here again, and the same branch is taken
        print(f"declined: {declined}", flush=True)
        paid = await pay_by_transfer.call(ledger, order, cents)
    parcel = await ship.call(order)
    return f"paid by {paid}, {parcel}"


def main() -> None:
    global die_before_shipping
    parser = argparse.ArgumentParser(description="Pay an order.")
    parser.add_argument("--store", help="a folder; by default $HOLDFAST_STORE, else .holdfast")
    parser.add_argument("--ledger", default="ledger.sqlite", help="a SQLite file: what the bank knows")
    parser.add_argument("--order", type=int, default=42)
    parser.add_argument("--die-before-shipping", action="store_true", help="kill the process after the payment")
    options = parser.parse_args()
    die_before_shipping = options.die_before_shipping
    call = fulfil(options.ledger, options.order, cents=1999)
    print(asyncio.run(hf.run(call, run_name=f"order-{options.order}", store=options.store)))


if __name__ == "__main__":
    main()
