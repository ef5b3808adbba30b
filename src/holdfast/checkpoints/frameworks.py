"""For frameworks that name their own checkpoint files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def latest_checkpoint(
    root: str | os.PathLike[str], glob_pattern: str = "**/last.ckpt", *, key: Callable[[Path], Any] | None = None
) -> Path | None:
    """Return the newest file below `root` that matches, or None: for frameworks that name their own checkpoint files.

    Args:
        root: A local directory, such as one that `checkpoint.load()` gave. One that does not exist holds nothing.
        glob_pattern: As `Path.glob` takes it.
        key: What decides, the greatest wins; the time of modification by default.

    Source of the rule: Flyte SDK, `latest_checkpoint`.
    """
    found: Iterable[Path] = Path(root).glob(glob_pattern)
    return max(found, key=key if key is not None else _modified, default=None)


def _modified(path: Path) -> float:
    return path.stat().st_mtime
