"""Words for the present owner of a run, left in its inbox: it is named by its epoch, and later owners pass them over."""

from __future__ import annotations

import secrets
import time
from typing import Final, Literal, TypeAlias

from holdfast.codec import to_json
from holdfast.folders.protocol import Folder

#: No topic begins with an underscore.
CONTROLS: Final = "inbox/_control"

Verb: TypeAlias = Literal["stop", "cancel", "fenced"]


async def send_control(incarnation: Folder, verb: Verb, epoch: int, *, segment: int = 0) -> None:
    """Leave word, and return once it is durable. Raises: StoreError."""
    name = f"{time.time_ns():020}-{secrets.token_hex(4)}.json"
    await incarnation.create(f"{CONTROLS}/{name}", to_json({"verb": verb, "epoch": epoch, "segment": segment}))
