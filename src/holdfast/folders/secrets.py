"""What a message may not say: credentials that were given for a store, wherever a client quotes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

#: Stands where a secret stood.
HIDDEN: Final = "***"

#: What a secret may be called, somewhere in its name.
SECRET_NAME: Final = re.compile(r"key|secret|token|pass|sas|cred|connection|auth|cookie|signature", re.IGNORECASE)
_SIGNED: Final = re.compile(r"(?i)\b(sig|signature|x-amz-signature|x-amz-security-token|x-goog-signature|accountkey|token)=[^&\s'\";]+")
_USERINFO: Final = re.compile(r"(://[^/@:\s]*):[^/@\s]+@")
#: Shorter ones would blot out words.
_SHORTEST: Final = 4
_LONGEST_MESSAGE: Final = 300
#: Behind it obstore prints its own records.
_DEBUGGING: Final = "\n\nDebug source:"


def secrets_in(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts in `options` that go by a secret's name, however deep."""
    return tuple(_texts(options, secret=False))


def without(secrets: Sequence[str], error: BaseException) -> str:
    """What an error says, in one line without secrets: those given, and whatever has the form of one."""
    said = " ".join(f"{type(error).__name__}: {error}".partition(_DEBUGGING)[0].split())
    for secret in secrets:
        said = said.replace(secret, HIDDEN)
    said = _USERINFO.sub(rf"\1:{HIDDEN}@", _SIGNED.sub(rf"\1={HIDDEN}", said))
    return said[:_LONGEST_MESSAGE]


def _texts(value: Any, *, secret: bool) -> Iterator[str]:
    match value:
        case str():
            if secret and len(value) >= _SHORTEST:
                yield value
        case Mapping():
            for name, each in value.items():
                yield from _texts(each, secret=secret or bool(SECRET_NAME.search(str(name))))
        case list() | tuple():
            for each in value:
                yield from _texts(each, secret=secret)
        case _:
            pass
