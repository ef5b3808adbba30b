"""From what a user writes as `store=` to a `Folder`.

Kinds of places are loaded by name when the first of them is opened, so that importing Holdfast loads neither fsspec nor aiofiles.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from holdfast.errors import InvalidOption, StoreInvalid
from holdfast.folders.local import LocalFolder
from holdfast.folders.protocol import Folder
from holdfast.folders.threads import at_once

#: At least two letters: one letter and a colon is a Windows drive.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
#: Below it lies everything that a store in memory holds, so that its folder can be created and removed like any other.
_MEMORY_ROOT = "/store"


def open_folder(url: str | os.PathLike[str], *, encryption_key: object = None, **options: Any) -> Folder:
    """Open the folder that a store lives in. Nothing is read or created yet.

    Args:
        url: a path, a `file:` URL, `memory:` or `memory://name` (within one process the same disk each time).
        encryption_key: what `sealing.Keys` takes; by default `$HOLDFAST_ENCRYPTION_KEY`, and without that nothing is encrypted.
        options: what the kind of place takes beside its URL; paths and `memory:` take nothing.

    Raises:
        StoreInvalid: for what can't be a store, or can't be one in this version.
        InvalidOption: for an option that nobody reads, or that can't have that value.
        MissingExtra: it needs a package that is not installed.
    """
    folder = _open(url, options)
    key = encryption_key if encryption_key is not None else os.environ.get("HOLDFAST_ENCRYPTION_KEY") or None
    return folder if key is None else import_module("holdfast.folders.encrypted").EncryptedFolder(folder, key)


def _open(url: str | os.PathLike[str], options: Mapping[str, Any]) -> Folder:
    given: Any = url  # whatever an untyped caller gives
    text = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(text, str):
        raise StoreInvalid(where=repr(url), reason="it takes a path or a URL")
    scheme = _scheme_of(url)
    if scheme not in ("", "file", "memory"):
        raise StoreInvalid(where=text, reason=_why_not(scheme))
    for option, value in options.items():
        raise InvalidOption(option=option, value=value, reason=f"a store at {text} takes no options")
    if scheme == "memory":
        return _open_memory(text)
    return _open_path(text if scheme == "" else _path_of(text))


def _scheme_of(url: str | os.PathLike[str]) -> str:
    found = _SCHEME.match(url) if isinstance(url, str) else None
    return "" if found is None else found[1].lower()


def _open_path(text: str) -> Folder:
    if text == "" or "\0" in text:
        raise StoreInvalid(where=repr(text), reason="it is not a path")
    path = Path(os.path.abspath(os.path.expanduser(text)))
    return LocalFolder(import_module("holdfast.folders.disk").OsDisk(), path.as_posix(), path.as_uri())


def _path_of(url: str) -> str:
    rest = url.partition(":")[2]
    if rest.startswith("//"):
        host, slash, below = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise StoreInvalid(where=url, reason=f"{host!r} stands where a host would; write file:///{host}/... or the plain path")
        rest = slash + below
    path = unquote(rest)
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path


def _open_memory(url: str) -> Folder:
    rest = url.partition(":")[2]
    name, _, below = rest.removeprefix("//").partition("/")
    disk = import_module("holdfast.folders.memory").named(unquote(name))
    folder = LocalFolder(disk, _MEMORY_ROOT, f"memory://{quote(unquote(name))}" if name else "memory:", run=at_once)
    return folder.child(unquote(below)) if below else folder


def _why_not(scheme: str) -> str:
    import difflib  # both for the message only

    from fsspec.registry import known_implementations

    works = "a path, file: and memory: work"
    if scheme in known_implementations:
        return f"this version keeps runs in file: and memory: stores only, {scheme}: and other object stores come next"
    near = difflib.get_close_matches(scheme, ["file", "memory", *known_implementations], n=1)
    meant = f"; did you mean {near[0]}:?" if near else ""
    return f"nobody knows the scheme {scheme}:; {works}, and ./{scheme}:... is a path{meant}"
