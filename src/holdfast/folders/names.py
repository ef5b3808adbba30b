"""What may be a key: the same rules for every kind of place, so that a store can be copied from one to another."""

from __future__ import annotations

from holdfast.errors import InvalidName

#: Names that begin so are unfinished writes: never listed, and never anybody's key.
TEMPORARY = ".tmp-"

_NAME_BYTES = 255


def check_key(key: str) -> str:
    """Return `key`. Raises: InvalidName."""
    reason = _objection(key)
    if reason is not None:
        raise InvalidName(kind="key", name=key, reason=reason)
    return key


def _objection(key: str) -> str | None:
    """Why `key` can't be a key, or None."""
    parts = key.split("/")
    if "\\" in key or "\0" in key:
        return "it has a backslash or a NUL in it"
    if key.startswith("/"):
        return "it is not relative"
    if "" in parts:
        return "a part of it is empty"
    if "." in parts or ".." in parts:
        return "a part of it is '.' or '..'"
    if any(part.startswith(TEMPORARY) for part in parts):
        return f"names that start with {TEMPORARY!r} are for unfinished writes"
    if any(len(part.encode("utf-8", "surrogatepass")) > _NAME_BYTES for part in parts):
        return f"a part of it is longer than {_NAME_BYTES} bytes"
    return None
