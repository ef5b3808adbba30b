"""The table at the end of `make campaign`: what was tried, how often, for how long, and what it found.

A test says what it tried by `record_property("tried: …", count)`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

MARK = "tried: "


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tried: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0])
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            rows = {name: count for name, count in report.user_properties if name.startswith(MARK)} if report.when == "call" else {}
            for name, count in rows.items():
                row = tried[name.removeprefix(MARK)]
                row[0] += count
                row[1] += report.duration / len(rows)
                row[2] += outcome == "failed"
    if not tried:
        return
    width = max(map(len, tried))
    terminalreporter.section("what was tried")
    terminalreporter.write_line(f"{'':{width}}  {'tried':>8}  {'seconds':>8}  found")
    for name, (count, seconds, failed) in sorted(tried.items()):
        found = "nothing" if not failed else f"{failed:.0f} tests failed"
        terminalreporter.write_line(f"{name:{width}}  {count:8.0f}  {seconds:8.1f}  {found}")
