"""The URL of a place beyond this process: what it names, and how it is shown, which is without credentials."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

from holdfast.errors import StoreInvalid
from holdfast.folders.names import check_key
from holdfast.folders.secrets import HIDDEN
from holdfast.frozen import Frozen

#: At least two letters: one letter and a colon is a Windows drive.
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


class Address(Frozen):
    """What a URL names.

    Attributes:
        scheme: In lower case.
        user: What stands before an `@`, without a password.
        password: What stands behind a colon there.
        host: The bucket, container or server; "" where the URL has none.
        path: Below that, decoded, without slashes around it.
    """

    scheme: str
    user: str
    password: str
    host: str
    path: str

    def __repr__(self) -> str:
        return f"Address({self.shown()!r})"

    @property
    def prefix(self) -> str:
        """What the name of each object begins with."""
        return f"{self.path}/" if self.path else ""

    def shown(self) -> str:
        """The URL again, without a password. It opens the same place."""
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}://{user}{self.host}" + (f"/{quote(self.path)}" if self.path else "")


def scheme_of(text: str) -> str:
    """The scheme of a URL in lower case; "" for a path."""
    found = _SCHEME.match(text)
    return "" if found is None else found[1].lower()


def address_of(url: str) -> Address:
    """Read a URL. Raises: StoreInvalid, InvalidName."""
    scheme, _, rest = url.partition(":")
    if "?" in rest or "#" in rest:
        shown = without_password(re.split(r"[?#]", url, maxsplit=1)[0])
        raise StoreInvalid(where=shown, reason="behind ? or # nothing is read; pass options as keywords, and write %3F or %23 in a name")
    netloc, _, path = rest.removeprefix("//").partition("/")
    userinfo, _, host = netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    below = unquote(path).strip("/")
    if below:
        check_key(below)
    return Address(scheme.lower(), unquote(user), unquote(password), unquote(host), below)


def bucket_address(url: str, what: str) -> Address:
    """Read a URL that has to name a bucket, or `what` it is called there. Raises: StoreInvalid, InvalidName."""
    address = address_of(url)
    if not address.host:
        raise StoreInvalid(where=address.shown(), reason=f"it names no {what}; write {address.scheme}://{what}/folder")
    return address


def without_password(url: str) -> str:
    """A URL as it may be shown, whatever else is wrong with it."""
    return re.sub(r"(:(?://)?[^/:@]*):[^/@]*@", rf"\1:{HIDDEN}@", url)
