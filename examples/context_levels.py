"""`custom_context` through three levels of tasks, and into a fan-out: a request id and a tenant that nobody passes on.

python examples/context_levels.py --tenant arxiv
"""

import argparse
import asyncio
import logging
import sys

import holdfast as hf
from holdfast import custom_context, get_custom_context, group, task
from holdfast.observers.logs import TaskFilter

log = logging.getLogger("fetching")


@task
async def fetch(page: int) -> str:
    """Level three: sees what was bound on every level above."""
    log.info("page %d", page)
    return " ".join(f"{key}={value}" for key, value in sorted(get_custom_context().items()))


@task
async def crawl(source: str, pages: int) -> list[str]:
    """Level two: binds the source for its own calls, and for nobody else's."""
    with custom_context(source=source):
        seen = await asyncio.gather(*(fetch(page) for page in range(pages)))
    assert "source" not in get_custom_context()
    return seen


@task
async def nightly(sources: list[str], pages: int) -> dict[str, list[str]]:
    """Level one: two fan-outs side by side, each with a priority of its own."""
    with custom_context(priority="high"), group("first"):
        first = crawl(sources[0], pages)  # a call belongs where it is made ...
    with custom_context(priority="low"):
        others = [crawl(source, pages) for source in sources[1:]]
    seen = await asyncio.gather(first, *others)  # ... not where it is awaited
    return dict(zip(sources, seen, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Custom context through three levels.")
    parser.add_argument("--store", help="a folder; by default $HOLDFAST_STORE, else .holdfast")
    parser.add_argument("--tenant", default="arxiv")
    options = parser.parse_args()

    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(TaskFilter())
    handler.setFormatter(logging.Formatter("%(run)s attempt %(attempt)s [%(context)s] %(message)s"))
    logging.getLogger("fetching").addHandler(handler)
    logging.getLogger("fetching").setLevel(logging.INFO)

    call = nightly(["papers", "news", "blogs"], pages=2)
    seen = asyncio.run(hf.run(call, run_name=f"context-{options.tenant}", store=options.store, custom_context={"tenant": options.tenant}))
    for source, values in seen.items():
        print(f"{source}: {values[0]}")


if __name__ == "__main__":
    main()
