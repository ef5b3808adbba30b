"""Directories as lists of files, folders and links. Nothing is written, or linked, outside of them."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from holdfast.checkpoints.generations import File
from holdfast.errors import CheckpointCorrupt, InvalidName, InvalidOption
from holdfast.files import Changed, Stat

#: The directory itself, among its entries.
ITSELF: Final = "."
#: The one file that a payload is, where it is no directory.
PAYLOAD: Final = "payload"
#: As many links as Linux follows on one way.
_LINKS: Final = 40
#: What looking at something that was listed answers where it is gone, or no folder or link any more.
_OTHERWISE_NOW = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EINVAL})


def scan(source: Path) -> list[File]:
    """The entries of a directory, or the one file that `source` is, as they stand now, sorted by path. Blocks.

    Raises:
        InvalidName: A link leads out, or something is no file, folder or link.
        Changed: Something went away, or became something else, in this very moment.
        OSError: It is not there, or can't be looked at.
    """
    root = os.fspath(source)
    found = os.stat(root)  # a link to what is saved is followed; one inside of it is kept
    if stat.S_ISREG(found.st_mode):
        return [_entry("payload", found)]
    if not stat.S_ISDIR(found.st_mode):
        raise _neither(root)
    return sorted([_entry(ITSELF, found), *_below(root, root, "")], key=lambda entry: entry.path)


def _below(root: str, folder: str, prefix: str) -> Iterator[File]:
    try:
        with os.scandir(folder) as entries:
            for each in entries:
                path = f"{prefix}{each.name}"
                if each.is_symlink():
                    yield File(path, 0o777, link=check_link(root, path))
                elif each.is_dir(follow_symlinks=False):
                    yield _entry(path, each.stat(follow_symlinks=False))
                    yield from _below(root, each.path, f"{path}/")
                else:
                    yield _entry(path, _of_file(each))
    except OSError as error:
        if error.errno not in _OTHERWISE_NOW:
            raise
        raise Changed(error.filename or folder) from error


def _of_file(listed: os.DirEntry[str]) -> os.stat_result:
    found = listed.stat(follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode):
        raise Changed(listed.path)
    if not stat.S_ISREG(found.st_mode):
        raise _neither(listed.path)
    return found


def _entry(path: str, found: os.stat_result) -> File:
    mode = stat.S_IMODE(found.st_mode) & 0o777
    if stat.S_ISDIR(found.st_mode):
        return File(path, mode, mtime_ns=found.st_mtime_ns, is_folder=True)
    return File(path, mode, found.st_size, found.st_mtime_ns, stat=Stat.of(found))


def _neither(path: str) -> InvalidName:
    reason = "a checkpoint holds files, directories and links, and this is neither"
    return InvalidName(kind="the checkpoint path", name=path, reason=reason)


def check_link(root: str, path: str) -> str:
    """Return where the link at `path` in the directory `root` leads. Raises: InvalidName, where that is out; OSError.

    It has to stay inside at each step, through whatever other links it goes: one that leads out and in again by the directory's name
    would lead elsewhere from where it is restored.
    """
    link = os.readlink(os.path.join(root, path))
    at, ahead, links = path.split("/")[:-1], [link], 0
    while ahead:
        step = ahead.pop()
        if os.path.isabs(step) or (step == ".." and not at):
            reason = f"it is a link that leads out of the directory, to {link!r}"
            raise InvalidName(kind="the checkpoint path", name=os.path.join(root, path), reason=reason)
        if "/" in step:
            ahead += reversed(step.split("/"))
        elif step == "..":
            at.pop()
        elif step not in ("", "."):
            place = os.path.join(root, *at, step)
            if links < _LINKS and os.path.islink(place):  # more are a circle, which leads nowhere
                links += 1
                ahead.append(os.readlink(place))
            else:
                at.append(step)
    return link


# restoring


def place_of(target: Path, path: str) -> Path:
    """Where an entry of a manifest belongs. Raises: CheckpointCorrupt, where that would be outside of `target`."""
    if path == ITSELF:
        return target
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\0" in path:
        raise CheckpointCorrupt(where=path, reason=f"the path {path!r} leads out of the directory")
    return target.joinpath(*parts)


def make_folders(target: Path, files: Iterable[File]) -> None:
    """Make the directory and all folders in it, open to ourselves until `settle` gives them their modes. Blocks."""
    target.mkdir()
    for found in files:
        place = place_of(target, found.path)
        (place if found.is_folder else place.parent).mkdir(parents=True, exist_ok=True)


def settle(target: Path, files: Sequence[File]) -> None:
    """Make the links, last, so that nothing is written through one; then give all the rest its mode and times, inner ones first. Blocks.

    Raises: CheckpointCorrupt, where a link leads out.
    """
    links = [(place_of(target, found.path), found.link) for found in files if found.link is not None]
    for place, link in links:
        os.symlink(link, place)
    try:
        for place, _ in links:
            check_link(os.fspath(target), place.relative_to(target).as_posix())
    except InvalidName as error:
        raise CheckpointCorrupt(where=error.name, reason=error.reason) from error
    for found in sorted(files, key=_depth, reverse=True):
        if found.link is None:
            _dress(place_of(target, found.path), found)


def _depth(found: File) -> int:
    return 0 if found.path == ITSELF else 1 + found.path.count("/")


def _dress(place: Path, found: File) -> None:
    if found.mode is not None:
        os.chmod(place, found.mode & 0o777)
    if found.mtime_ns is not None:
        os.utime(place, ns=(found.mtime_ns, found.mtime_ns))


def remove(path: Path) -> None:
    """Remove a file or a directory of our own, also one whose restored modes forbid it. Blocks."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        path.chmod(0o700)
        for folder, names, _ in os.walk(path):
            for place in (os.path.join(folder, name) for name in names):
                if not os.path.islink(place):
                    os.chmod(place, 0o700)
        shutil.rmtree(path, ignore_errors=True)


# a part of it


def chosen(files: Sequence[File], only: str) -> list[File]:
    """The entries that match `only`, with the folders that lead to them.

    Raises: InvalidOption, where none does.
    """
    matching = {found.path for found in files if found.path != ITSELF and matches(only, found.path)}
    if not matching:
        some = ", ".join(repr(found.path) for found in files if not found.is_folder)[:200] or "none"
        reason = f"nothing in the saved directory matches it; its files: {some}. * stays within a folder, ** goes through folders"
        raise InvalidOption(option="only", value=only, reason=reason)
    above = {parent.as_posix() for path in matching for parent in PurePosixPath(path).parents}
    return [found for found in files if found.path in matching or (found.is_folder and found.path in above)]


def matches(pattern: str, path: str) -> bool:
    """Whether a relative POSIX path matches a glob, part by part; `**` stands for any number of parts, also none.

    >>> [matches("model/**/*.bin", path) for path in ("model/a.bin", "model/x/y/a.bin", "a.bin")]
    [True, True, False]
    """
    return _match(tuple(pattern.split("/")), tuple(path.split("/")))


def _match(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Which beginnings of the pattern match the parts seen so far: `reached` holds their lengths."""
    reached = _through_stars(pattern, {0})
    for part in parts:
        further = {at if pattern[at] == "**" else at + 1 for at in reached if at < len(pattern) and _fits(pattern[at], part)}
        reached = _through_stars(pattern, further)
    return len(pattern) in reached


def _fits(pattern: str, part: str) -> bool:
    return pattern == "**" or fnmatchcase(part, pattern)


def _through_stars(pattern: tuple[str, ...], reached: set[int]) -> set[int]:
    found = set(reached)
    for at in sorted(reached):
        while at < len(pattern) and pattern[at] == "**":
            at += 1
            found.add(at)
    return found
