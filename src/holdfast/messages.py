"""Messages of a task to whoever watches it: typed, with their time."""

from __future__ import annotations

from enum import Enum

from pydantic import AwareDatetime, BaseModel


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
