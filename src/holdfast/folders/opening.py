"""From what a user writes as `store=` to a `Folder`.

Kinds of places are loaded by name when the first of them is opened, so that importing Holdfast loads neither fsspec nor aiofiles.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, unquote

from holdfast.errors import InvalidOption, StoreInvalid
from holdfast.folders.addresses import scheme_of, without_password
from holdfast.folders.local import LocalFolder
from holdfast.folders.patience import Patience
from holdfast.folders.protocol import Folder
from holdfast.folders.secrets import HIDDEN
from holdfast.folders.threads import at_once

#: Which room of this package knows a scheme. Every other scheme that fsspec knows is `anywhere`'s.
_ROOMS: Final[Mapping[str, str]] = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
}

#: Below it lies everything that a store in memory holds, so that its folder can be created and removed like any other.
_MEMORY_ROOT: Final = "/store"


def open_folder(url: str | os.PathLike[str], *, encryption_key: object = None, **options: Any) -> Folder:
    """Open the folder that a store lives in. Nothing is read or created yet.

    Args:
        url: A path, a `file:` URL, `memory:` or `memory://name` (within one process the same disk each time), `s3:`, `gs:`, `abfs:`, or
            any other URL that fsspec knows.
        encryption_key: What `ciphers.Keys` takes; by default `$HOLDFAST_ENCRYPTION_KEY`, and without that nothing is encrypted.
        options: For places beyond this machine: `client` is "fsspec", the default, or "obstore"; `deadline` is for how many seconds an
            operation that fails is asked again; all others are the client's own. Paths and `memory:` take nothing.

    Raises:
        StoreInvalid: It can't be a store.
        InvalidOption: Nobody reads an option, or it has a value that it can't have.
        InvalidName: A part of the path can't be one.
        MissingExtra: The package for such places, or the one that encrypts, is not installed.
    """
    folder = _open(url, options)
    key = encryption_key if encryption_key is not None else os.environ.get("HOLDFAST_ENCRYPTION_KEY") or None
    return folder if key is None else import_module("holdfast.folders.encrypted").EncryptedFolder(folder, key)


def _open(url: str | os.PathLike[str], options: Mapping[str, Any]) -> Folder:
    given: Any = url  # whatever an untyped caller gives
    text = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(text, str):
        raise StoreInvalid(where=repr(url), reason="it takes a path or a URL")
    scheme = scheme_of(text) if isinstance(given, str) else ""
    if scheme not in ("", "file", "memory"):
        return _open_elsewhere(scheme, text, options)
    for option in options:  # its value may be a secret
        raise InvalidOption(option=option, value=HIDDEN, reason=f"a store at {text} takes no such option")
    if scheme == "memory":
        return _open_memory(text)
    return _open_path(text if scheme == "" else _path_of(text))


def _open_elsewhere(scheme: str, url: str, options: Mapping[str, Any]) -> Folder:
    theirs = dict(options)
    client = theirs.pop("client", "fsspec")
    patience = _patience(theirs.pop("deadline", None))
    if client not in ("fsspec", "obstore"):
        raise InvalidOption(option="client", value=client, reason="it is 'fsspec' or 'obstore'")
    _refuse_unknown(scheme, url)
    room = "obstore" if client == "obstore" else _ROOMS.get(scheme, "anywhere")
    open_at = cast("Callable[[str, Mapping[str, Any], Patience], Folder]", import_module(f"holdfast.folders.{room}").open_at)
    return open_at(url, theirs, patience)


def _patience(deadline: Any) -> Patience:
    """The policy with `deadline` seconds in all: so that a server that hangs is asked a second time within them."""
    if deadline is None:
        return Patience()
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 < deadline < float("inf"):
        raise InvalidOption(option="deadline", value=deadline, reason="it is a number of seconds above 0")
    return Patience(deadline=float(deadline), one_try=min(Patience().one_try, deadline / 2))


def _refuse_unknown(scheme: str, url: str) -> None:
    """Raises: StoreInvalid, for what fsspec does not know, and for a chain of its filesystems."""
    if "::" in url:
        raise StoreInvalid(
            where=without_password(url),
            reason="it is a chain of filesystems (::), which caches or packs what others have to see at once; name the last place of it",
        )
    if scheme in _ROOMS:
        return
    from fsspec.registry import known_implementations, registry  # only for places that are no room of our own

    if scheme not in known_implementations and scheme not in registry:
        near = difflib.get_close_matches(scheme, ["file", "memory", *known_implementations], n=1)
        meant = f"; did you mean {near[0]}:?" if near else ""
        works = "a path, file:, memory:, s3:, gs:, abfs: and what fsspec knows work"
        shown = without_password(url)
        raise StoreInvalid(where=shown, reason=f"nobody knows the scheme {scheme}:; {works}, and ./{scheme}:... is a path{meant}")


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


def open_ephemeral() -> Folder:
    """A folder in memory without a name: it is gone with the last who knows it."""
    return LocalFolder(import_module("holdfast.folders.memory").MemoryDisk(), _MEMORY_ROOT, "memory:", run=at_once)


def _open_memory(url: str) -> Folder:
    rest = url.partition(":")[2]
    name, _, below = rest.removeprefix("//").partition("/")
    disk = import_module("holdfast.folders.memory").named(unquote(name))
    folder = LocalFolder(disk, _MEMORY_ROOT, f"memory://{quote(unquote(name))}" if name else "memory:", run=at_once)
    return folder.child(unquote(below)) if below else folder
