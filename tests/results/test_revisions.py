"""The commit that code comes from, read without git, in every way in which git keeps it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from holdfast.runs.revisions import revision_of

ONE, TWO, LONG = "1" * 40, "2" * 40, "a" * 64


def repository(folder: Path, **files: str) -> Path:
    """A folder with a `.git` of these files; `__` stands for a slash, and `_` for a dash."""
    for name, text in files.items():
        file = folder / ".git" / name.replace("__", "/").replace("_", "-")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


CASES: dict[str, tuple[dict[str, str], str | None]] = {
    "a branch": ({"HEAD": "ref: refs/heads/main\n", "refs__heads__main": f"{ONE}\n"}, ONE),
    "no branch": ({"HEAD": f"{ONE}\n"}, ONE),
    "sha256": ({"HEAD": f"{LONG}\n"}, LONG),
    "packed": ({"HEAD": "ref: refs/heads/main", "packed_refs": f"# all\n{TWO} refs/heads/main2\n{ONE} refs/heads/main\n^{TWO}\n"}, ONE),
    "loose before packed": (
        {"HEAD": "ref: refs/heads/main", "refs__heads__main": ONE, "packed_refs": f"{TWO} refs/heads/main\n"}, ONE,
    ),
    "a name for a branch": ({"HEAD": "ref: refs/heads/a", "refs__heads__a": "ref: refs/heads/b\n", "refs__heads__b": ONE}, ONE),
    "no commit yet": ({"HEAD": "ref: refs/heads/main\n"}, None),
    "in a circle": ({"HEAD": "ref: refs/heads/a", "refs__heads__a": "ref: refs/heads/a"}, None),
    "leading out": ({"HEAD": "ref: refs/../../secret"}, None),
    "no reference": ({"HEAD": "ref: /etc/passwd"}, None),
    "no HEAD": ({"config": ""}, None),
    "nonsense": ({"HEAD": "what"}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_repository_says_which_commit_is_checked_out(tmp_path: Path, case: str) -> None:
    files, revision = CASES[case]
    inner = repository(tmp_path / "project", **files) / "src" / "deep"
    inner.mkdir(parents=True)
    assert revision_of(inner) == revision


def test_a_worktree_has_a_HEAD_of_its_own_and_shares_the_branches(tmp_path: Path) -> None:
    main = repository(
        tmp_path / "main", HEAD="ref: refs/heads/main", refs__heads__main=ONE, refs__heads__side=TWO,
        worktrees__side__HEAD="ref: refs/heads/side", worktrees__side__commondir="../..\n",
    )  # fmt: skip
    side = tmp_path / "side"
    side.mkdir()
    (side / ".git").write_text(f"gitdir: {main / '.git' / 'worktrees' / 'side'}\n")
    assert (revision_of(main), revision_of(side)) == (ONE, TWO)


def test_a_submodule_is_found_by_a_relative_path(tmp_path: Path) -> None:
    main = repository(tmp_path / "main", HEAD=ONE, modules__part__HEAD=TWO)
    (main / "part").mkdir()
    (main / "part" / ".git").write_text("gitdir: ../.git/modules/part\n")
    assert revision_of(main / "part") == TWO


@pytest.mark.parametrize("text", ["", "gitdir", "gitdir: nowhere", "\0", "what: is this"])
def test_a_git_file_that_leads_nowhere_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / ".git").write_text(text)
    assert revision_of(tmp_path) is None


def test_a_file_that_is_no_text_says_nothing(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_bytes(b"\xff\xfe")
    assert revision_of(tmp_path) is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_it_is_what_git_itself_says(tmp_path: Path) -> None:
    def git(*words: str, at: Path = tmp_path / "main") -> str:
        command = ["git", "-C", str(at), "-c", "user.name=n", "-c", "user.email=e@example.org", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "main").mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    git("commit", "-q", "--allow-empty", "-m", "two", at=tmp_path / "side")
    for pack in (False, True):
        if pack:
            git("pack-refs", "--all")
        for name in ("main", "side"):
            assert revision_of(tmp_path / name) == git("rev-parse", "HEAD", at=tmp_path / name)
    git("checkout", "-q", "--detach", at=tmp_path / "side")
    assert revision_of(tmp_path / "side") == git("rev-parse", "HEAD", at=tmp_path / "side")
