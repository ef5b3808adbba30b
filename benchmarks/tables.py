"""Lines as Markdown, how they were taken, and their place in the README."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.rows import Line, Scale

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
_HOLDS = {True: "yes", False: "**no**", None: ""}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def promises(lines: Iterable[Line]) -> str:
    head = ("", "promised", "found", "Holdfast", "limit", "holds")
    return table(head, ((line.what, line.promise, line.found, line.ours, line.limit, _HOLDS[line.holds]) for line in lines))


def how_taken(scale: Scale) -> str:
    """One paragraph: machine, Python, filesystem, method."""
    times = f"medians of {scale.rounds} rounds" if scale.rounds > 1 else "one round"
    part = "" if scale.share == 1 else f" A quick look: {scale.share:.0%} of the full size."
    machine = f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}"
    return (
        f"Taken {datetime.now(UTC):%Y-%m-%d} with `python -m benchmarks`: Holdfast {version('holdfast')} on {machine}, stores on"
        f" {_filesystem(Path.cwd())}; {times}, both sides of a row interleaved in one run; a ratio is the median of the rounds'"
        f" ratios.{part}"
    )


def _filesystem(path: Path) -> str:
    try:
        found = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no GNU stat here
        return "an unknown filesystem"
    return found.replace("ext2/ext3", "ext4")


def write_between(readme: Path, text: str) -> None:
    """Put `text` between the markers of the README. Raises: ValueError, where they are missing."""
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme} has no {BEGIN} … {END}")
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
