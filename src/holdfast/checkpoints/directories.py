"""Directories as lists of files, folders and links. Nothing is written, or linked, outside of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from holdfast.checkpoints.generations import File
from holdfast.errors import (
    CheckpointCorrupt,
    InvalidName,
)


def scan(source: Path) -> list[File]:
    """The entries of a directory, sorted. Raises: InvalidName for a link that leads out, or a thing that is no file."""
    found: list[File] = []
    for folder, names, files in os.walk(source):
        here = Path(folder)
        for name in sorted([*names, *files]):
            path = here / name
            relative = path.relative_to(source).as_posix()
            mode = path.lstat().st_mode
            if path.is_symlink():
                check_link(source, path)
                found.append(File(relative, 0o777, link=os.readlink(path)))
            elif path.is_dir():
                found.append(File(relative, mode & 0o777, is_folder=True))
            elif path.is_file():
                found.append(File(relative, mode & 0o777))
            else:
                raise InvalidName(
                    kind="the checkpoint path",
                    name=os.fspath(path),
                    reason="a checkpoint holds files, directories and links, and this is neither",
                )
    return sorted(found, key=lambda entry: entry.path)


def safe_parts(path: str) -> tuple[str, ...]:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts:
        raise CheckpointCorrupt(where=path, reason=f"the path {path!r} leads out of the directory")
    return parts


def check_link(root: Path, path: Path) -> None:
    """A link has to stay inside the directory, through whatever other links it goes. Raises: InvalidName."""
    link = os.readlink(path)
    if os.path.isabs(link) or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise InvalidName(
            kind="the checkpoint path", name=os.fspath(path), reason=f"it is a link that leads out of the directory, to {link!r}"
        )


def make_links(target: Path, files: Iterable[File]) -> None:
    """Make the links of a restored directory: last, so that nothing is written through one. Raises: CheckpointCorrupt."""
    links = {target.joinpath(*safe_parts(found.path)): found.link for found in files if found.link is not None}
    for place, link in links.items():
        os.symlink(link, place)
    try:
        for place in links:
            check_link(target, place)
    except InvalidName as error:
        raise CheckpointCorrupt(where=error.name, reason=error.reason) from error


def copy_of(source: Path, target: Path) -> Path:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)
    return target
