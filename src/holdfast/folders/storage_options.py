"""What a user passes to a filesystem beside its URL: which names there are, and what is ours to set."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Hashable, Mapping
from hashlib import blake2b
from typing import Any, Final, NoReturn

from holdfast.errors import InvalidOption
from holdfast.folders.secrets import HIDDEN

#: Each of them would bind a filesystem to another loop, or hide what others write.
OURS: Final = ("asynchronous", "loop", "skip_instance_cache", "use_listings_cache", "listings_expiry_time", "max_paths", "fs")

_UNEXPECTED: Final = re.compile(r"(?:unexpected keyword argument|got multiple values for (?:keyword )?argument) '(\w+)'")


def check_options(what: str, options: Mapping[str, Any], known: Collection[str] | None = None, also: str = "") -> None:
    """Refuse what is ours to set, and, where it is known what there is, what nobody reads.

    Args:
        what: Who reads the options, for the message.
        options: As given.
        known: Names that are read; None where nobody knows.
        also: A pattern of further names that are read.

    Raises: InvalidOption, which shows no value: it may be a secret under a name with a slip in it.
    """
    for name in options:
        if name in OURS:
            raise InvalidOption(option=name, value=_shown(options[name]), reason="Holdfast sets it itself")
        if known is not None and name not in known and not (also and re.fullmatch(also, name)):
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]}=?" if near else ""
            raise InvalidOption(option=name, value=_shown(options[name]), reason=f"{what} has no such option{meant}")


def names_taken(*kinds: type[Any]) -> frozenset[str]:
    """Which keywords their constructors take by name."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = {
        name
        for kind in kinds
        for name, parameter in inspect.signature(kind.__init__).parameters.items()  # a metaclass may hide the signature of the class
        if parameter.kind in by_name
    }
    return frozenset(taken - {"self", *OURS})


def place_of(kind: str, bucket: str, options: Mapping[str, Any]) -> Hashable:
    """What is equal for one bucket of one server, as far as options say; of secrets among them only a digest is kept."""
    return kind, bucket, blake2b(repr(sorted(options.items())).encode(), digest_size=16).digest()


def refused_by(what: str, error: TypeError, options: Mapping[str, Any]) -> NoReturn:
    """Say in our words that a constructor did not take an option. Raises: InvalidOption; or the error itself, if it is another."""
    found = _UNEXPECTED.search(str(error))
    if found is None or found[1] not in options:
        raise error
    raise InvalidOption(option=found[1], value=_shown(options[found[1]]), reason=f"{what} has no such option") from error


def _shown(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) or value is None else HIDDEN
