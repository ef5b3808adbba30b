"""`python -m benchmarks`: each promise beside its limit, as a Markdown table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import costs, fanout, large_files, large_objects, object_stores, stages, steps, watched
from benchmarks.beside_peers import compare
from benchmarks.rows import ROUNDS, Line, Scale
from benchmarks.tables import how_taken, promises, write_between

ROWS = {
    row.name: row
    for row in (
        *steps.ROWS,
        *fanout.ROWS,
        *stages.ROWS,
        *costs.ROWS,
        *watched.ROWS,
        *large_files.ROWS,
        *object_stores.ROWS,
        *large_objects.ROWS,
    )
}


def main() -> None:
    options = _options()
    scale = Scale(rounds=3 if options.quick else options.rounds, share=0.1 if options.quick else 1.0, long=options.long)
    lines: list[Line] = []
    for name in options.rows or ([] if options.only_peers else ROWS):
        print(f"{name} ...", file=sys.stderr, flush=True)
        lines += ROWS[name].measure(scale)
    parts = [promises(lines)] if lines else []
    if options.peers is not None:
        parts.append(compare(options.peers, scale.rounds, scale.of(500)))
    text = "\n\n".join([*parts, how_taken(scale)])
    print(text)
    if options.readme:
        write_between(Path("README.md"), text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", choices=[[], *ROWS], help=f"which rows: {', '.join(ROWS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, three rounds")
    parser.add_argument("--only-peers", action="store_true", help="no rows but those named")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--long", action="store_true", help="also what takes minutes: a million finished steps")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="also the peers that are installed for this interpreter")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md, between its markers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
