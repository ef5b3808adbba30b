"""What a body says of its own result: a summary, and the schemas that the result follows.

Nothing is recorded while the body runs: the last word counts, and goes into the journal just before the attempt's end. So a failed attempt
keeps what it said, and one that went down with its process does not.
"""

from __future__ import annotations

from typing import Any, Final

from holdfast.errors import InvalidOption
from holdfast.frozen import Frozen

#: A summary is a text to be read, not a place for data.
SUMMARY_BYTES: Final = 64 * 1024
SCHEMA_LENGTH: Final = 255
SCHEMAS_AT_MOST: Final = 1000
SEPARATOR: Final = ";"


class Said(Frozen):
    """All that one attempt said so far; `summary` is None, where it gave none."""

    summary: str | None = None
    schemas: tuple[str, ...] = ()


def with_summary(said: Said | None, text: Any) -> Said:
    """The same with another summary. Raises: InvalidOption."""
    if not isinstance(text, str):
        reason = "it takes a str; data belongs into the result, which is the payload"
        raise InvalidOption(option="summary", value=text, reason=reason)
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > SUMMARY_BYTES:
        reason = f"it takes at most {SUMMARY_BYTES} bytes, and this has {size}; return what is large, or save it as a figure or a file"
        raise InvalidOption(option="summary", value=text, reason=reason)
    return Said(text, said.schemas if said is not None else ())


def with_schemas(said: Said | None, *given: Any) -> Said:
    """The same with further schemas, each once. Raises: InvalidOption."""
    before = said if said is not None else Said()
    schemas = tuple(dict.fromkeys((*before.schemas, *schema_names(*given))))
    if len(schemas) > SCHEMAS_AT_MOST:
        raise InvalidOption(option="implements", value=len(schemas), reason=f"a result follows at most {SCHEMAS_AT_MOST} schemas")
    return Said(before.summary, schemas)


def schema_names(*given: Any) -> tuple[str, ...]:
    """Schema names as they are kept: `"a;b"` is two, spaces around a name go, each stands once, where it first stood.

    Raises: InvalidOption, where one is no str, empty, or longer than 255 characters.
    """
    names: dict[str, None] = {}
    for each in given:
        if not isinstance(each, str):
            raise InvalidOption(option="implements", value=each, reason="the name of a schema is a str")
        for name in map(str.strip, each.split(SEPARATOR)):
            if not name:
                raise InvalidOption(option="implements", value=each, reason="there is a schema without a name in it")
            if len(name) > SCHEMA_LENGTH:
                raise InvalidOption(option="implements", value=name, reason=f"the name of a schema has at most {SCHEMA_LENGTH} characters")
            names[name] = None
    return tuple(names)


def schema_name(given: Any) -> str:
    """The name of one schema. Raises: InvalidOption."""
    names = schema_names(given)
    if len(names) != 1:
        raise InvalidOption(option="schema", value=given, reason="it takes the name of one schema")
    return names[0]
