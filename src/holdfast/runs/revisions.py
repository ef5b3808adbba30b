"""Which revision of a git repository code comes from: read from the repository's own files, without starting git.

Whether there are changes that are not committed is not looked at.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Final

_REVISION: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
#: A HEAD names a branch; a branch may be a name for another.
_HOPS: Final = 5


def revision_of(place: Path) -> str | None:
    """The revision that is checked out around `place`, a file or folder; None where there is no repository, or no commit."""
    with suppress(OSError, ValueError):  # a repository that can't be read says nothing, and no run fails for it
        for folder in (place, *place.parents):
            git = folder / ".git"
            if git.exists():
                return _head(_folder(git))
    return None


def _folder(git: Path) -> Path:
    """The repository's folder; a worktree and a submodule have a file that says where it is."""
    if git.is_dir():
        return git
    word, _, where = git.read_text().strip().partition(":")
    if word != "gitdir":
        raise ValueError("it is no .git file")
    return git.parent / where.strip()


def _head(folder: Path) -> str | None:
    common = _common(folder)
    name = "HEAD"
    for _ in range(_HOPS):
        said = _said(folder, name) or _said(common, name) or _packed(common, name)
        if not said.startswith("ref:"):
            return said if _REVISION.fullmatch(said) else None
        name = said.removeprefix("ref:").strip()
        if not name.startswith("refs/") or ".." in name:
            return None
    return None


def _common(folder: Path) -> Path:
    """Where the branches are: of a worktree, in the repository that it belongs to."""
    said = _said(folder, "commondir")
    return folder / said if said else folder


def _said(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text().strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


def _packed(common: Path, name: str) -> str:
    """Many branches lie in one file, a line each: the revision and the name."""
    found = re.search(rf"^(\S+) {re.escape(name)}$", _said(common, "packed-refs"), re.MULTILINE)
    return found[1] if found is not None else ""
