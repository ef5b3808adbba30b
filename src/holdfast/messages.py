"""Messages of a task to whoever watches it: typed, with their time, and bounded, since they are for people."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel

from holdfast.errors import InvalidOption

#: The newest ones of an action; older ones go.
KEPT: Final = 100
#: Of one message, in UTF-8; the rest of it is cut, and a note says so.
CONTENT_BYTES: Final = 4096


class MessageType(Enum):
    """How much a message matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Message(BaseModel, frozen=True, defer_build=True):
    """One message.

    Attributes:
        type: How much it matters.
        content: What it says.
        created_at: When it was said, aware.
    """

    type: MessageType
    content: str
    created_at: AwareDatetime


def check_message(type: Any, content: Any) -> None:
    """Raises: InvalidOption."""
    if not isinstance(type, MessageType):
        raise InvalidOption(option="type", value=type, reason=f"it takes one of {', '.join(map(str, MessageType))}")
    if not isinstance(content, str):
        raise InvalidOption(option="content", value=content, reason="a message is a str; data belongs into the result")


def shortened(content: str) -> str:
    """A message as it is kept: at most `CONTENT_BYTES` of it, with a note where something was cut. A lone surrogate is shown, not kept."""
    data = content.encode("utf-8", "backslashreplace")
    if len(data) <= CONTENT_BYTES:
        return data.decode()
    return f"{data[:CONTENT_BYTES].decode(errors='ignore')} [cut: {len(data) - CONTENT_BYTES:,} more bytes]"


def type_of(word: str) -> MessageType:
    """The type that is recorded as this word; one of a newer version counts as INFO."""
    try:
        return MessageType(word)
    except ValueError:
        return MessageType.INFO
