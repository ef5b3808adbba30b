"""A loop that fails now and then, and goes on from the index that it saved: as `async def` and as `def`.

python examples/checkpoint_loop.py --iterations 10 --fail-every 3
"""

import argparse
import asyncio
from dataclasses import dataclass

import holdfast as hf
from holdfast import Retry, ctx, task

AT_ONCE = Retry(max_attempts=100, initial_interval=0)


class Unlucky(Exception):
    """What goes wrong every few iterations."""


@dataclass
class State:
    next_index: int = 0
    total: int = 0


def step(state: State, began_at: int, fail_every: int) -> State:
    """One iteration. It fails at every `fail_every`-th index, unless the attempt began there."""
    index = state.next_index
    if index > began_at and index % fail_every == 0:
        raise Unlucky(f"at {index}")
    return State(index + 1, state.total + index)


@task(retries=AT_ONCE)
async def add_up(iterations: int, fail_every: int) -> int:
    state = await ctx().checkpoint.load(State) or State()
    print(f"async: attempt {ctx().attempt_number} begins at {state.next_index}", flush=True)
    began_at = state.next_index
    while state.next_index < iterations:
        state = step(state, began_at, fail_every)
        await ctx().checkpoint.save(state)
    return state.total


@task(retries=AT_ONCE)
def add_up_in_a_thread(iterations: int, fail_every: int) -> int:
    state = ctx().checkpoint.load_sync(State) or State()
    print(f"def: attempt {ctx().attempt_number} begins at {state.next_index}", flush=True)
    began_at = state.next_index
    while state.next_index < iterations:
        state = step(state, began_at, fail_every)
        ctx().checkpoint.save_sync(state)
    return state.total


def main() -> None:
    parser = argparse.ArgumentParser(description="Add up 0, 1, 2, ... with a checkpoint in each iteration.")
    parser.add_argument("--store", help="a folder; by default $HOLDFAST_STORE, else .holdfast")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--fail-every", type=int, default=3)
    options = parser.parse_args()
    for name, call in {
        "loop-async": add_up(options.iterations, options.fail_every),
        "loop-def": add_up_in_a_thread.call(options.iterations, options.fail_every),
    }.items():
        total = asyncio.run(hf.run(call, run_name=name, store=options.store))
        print(f"{name}: {total}")


if __name__ == "__main__":
    main()
