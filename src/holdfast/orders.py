"""What of a call travels to where it runs: the order (what to do) and the capsule (as which attempt).

Both are frozen and picklable. A function travels as the name under which its task is imported, never by value.
"""

from __future__ import annotations

import importlib
from base64 import b32encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple
from weakref import WeakValueDictionary

from holdfast.codec import Codec, codec_for
from holdfast.errors import InvalidTask
from holdfast.frozen import Frozen
from holdfast.identity import Signature, module_name
from holdfast.retention import Retention
from holdfast.retries import Rate, Retry, Timeout


class ActionID(Frozen):
    """The place of an action in its run.

    Attributes:
        name: 16 base32 characters, equal in every run that makes the same call at the same place.
        run_name: The run.
        parent: The action that asked for it; None for the root.
    """

    name: str
    run_name: str
    parent: ActionID | None


class Policy(Frozen):
    """What `@task(...)` says about attempts and recording.

    `rollback` undoes what COMPLETED. What only a pipeline and its stages have: `rolls_back`, that its whole subtree is undone when it
    fails for good; `shares_attempts`, that `retry.max_attempts` bounds what all calls of its parent's present try spend together.
    """

    name: str
    version: str | None = None
    retry: Retry = Retry()
    timeout: Timeout = Timeout()
    key: Callable[..., str] | None = None
    context_keys: tuple[str, ...] | None = None
    concurrency: Rate | int | None = None
    codec: Literal["auto", "pickle"] = "auto"
    keep: Retention = Retention()
    on_crash: Literal["rerun", "fail"] = "rerun"
    rollback: Definition | None = None
    rolls_back: bool = False
    shares_attempts: bool = False


class Definition:
    """A function made a task: the function, and what was worked out about it once.

    `annotation` gives the return annotation; it is asked when a codec is first needed, since what it names may be defined later.
    """

    __slots__ = ("__weakref__", "_codec", "annotation", "bound_cells", "fn", "home", "is_async", "policy", "signature")

    annotation: Callable[[], Any]
    bound_cells: bool
    fn: Callable[..., Any]
    home: tuple[str, str]
    is_async: bool
    policy: Policy
    signature: Signature

    def __init__(
        self,
        fn: Callable[..., Any],
        policy: Policy,
        *,
        is_async: bool,
        signature: Signature,
        annotation: Callable[[], Any],
        bound_cells: bool,
    ) -> None:
        self.fn = fn
        self.policy = policy
        self.is_async = is_async
        self.signature = signature
        self.annotation = annotation
        self.bound_cells = bound_cells
        self._codec: Codec | None = None
        self.home = (str(getattr(fn, "__module__", "")), str(getattr(fn, "__qualname__", "")))

    def with_policy(self, policy: Policy) -> Definition:
        return Definition(
            self.fn, policy, is_async=self.is_async, signature=self.signature, annotation=self.annotation, bound_cells=self.bound_cells
        )

    @property
    def function(self) -> str:
        """`module:qualname`, by which another process imports it."""
        return f"{module_name(self.home[0])}:{self.home[1]}"

    def result_codec(self) -> Codec:
        """How results are recorded. Raises: UnrecordableResult, where the return annotation can't be."""
        if self._codec is None:
            self._codec = codec_for(self.annotation(), task=self.policy.name, pickle=self.policy.codec == "pickle")
        return self._codec

    def __reduce__(self) -> tuple[Any, ...]:
        return _definition_at, (*self.home, self.policy)


MADE: Final = "<made>"
"""In place of a path to a task that no variable holds, such as a stage's: what follows is the name under which it was made known."""

_known: WeakValueDictionary[str, Definition] = WeakValueDictionary()


def make_known(definition: Definition) -> None:
    """Have a task found by its name, for as long as it is there. Of two with one name the later one is."""
    _known[definition.policy.name] = definition


def find_definition(task: str, function: str) -> Definition | None:
    """The task of this name that `function` (`module:qualname`) is, here or once its module is imported; else any of this name; else None.

    Raises: what importing its module raises.
    """
    if (known := _known.get(task)) is not None and known.function == function:
        return known
    module, _, qualname = function.partition(":")
    try:
        imported: Any = importlib.import_module(module)
    except Exception:
        if known is None:
            raise
        return known  # it has moved
    for part in qualname.split("."):
        imported = getattr(imported, part, None)
    definition = getattr(imported, "definition", None)
    return definition if isinstance(definition, Definition) and definition.policy.name == task else _known.get(task)


def is_found(definition: Definition) -> bool:
    """Whether whoever looks for this task by its name finds it as it is. One that was changed by `with_options` has to have its own."""
    known = _known.get(definition.policy.name)
    return known is None or known.fn is not definition.fn or known.policy == definition.policy


def _definition_at(module: str, qualname: str, policy: Policy) -> Definition:
    """Find the task again where it was defined. Raises: InvalidTask."""
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    definition = getattr(found, "definition", None) or _known.get(qualname.partition(f"{MADE}.")[2])
    if not isinstance(definition, Definition):
        raise InvalidTask(what=f"{module}:{qualname}", reason="no task is found there; a task that travels has to be importable")
    return definition if definition.policy == policy else definition.with_policy(policy)


class Order(NamedTuple):
    """What to do: a task and its arguments. A tuple, as is `Capsule`: both are made for every attempt, in a third of a dataclass's time."""

    definition: Definition
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Ownership(NamedTuple):
    """What all attempts have in common that one owner of a run begins."""

    epoch: int
    is_resumed: bool
    durable: bool
    run_id: str
    run_started_at: float
    run_url: str | None = None


class Capsule(NamedTuple):
    """As which attempt to do it, and with what around it. Instants are POSIX seconds; `deadline` is of the attempt.

    Raw data lie at `raw_data_path`, where that is said for this very attempt, else below `raw_data_base`, else in the run's folder.
    """

    ownership: Ownership
    action: ActionID | None
    attempt_number: int
    max_attempts: int
    retries_left: int
    version: str | None
    raw_data_path: str | None
    raw_data_base: str | None
    custom_context: Mapping[str, str]
    counted_context: Mapping[str, str]
    group: tuple[str, ...]
    deadline: float | None

    @property
    def fencing_token(self) -> str:
        """Grows as text with every owner and every attempt."""
        return f"{self.ownership.epoch:010}-{self.attempt_number:06}"


def idempotency_key(run_id: str, action: str) -> str:
    """Name an action to outside systems: the run's random id makes it different in every other run and incarnation."""
    return b32encode(blake2b(f"{run_id}/{action}".encode(), digest_size=20).digest()).decode().lower()


def with_policy(policy: Policy, **changes: Any) -> Policy:
    """A changed copy."""
    return replace(policy, **changes)


def keys_of(context_keys: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names of counted context keys, sorted; None counts them all."""
    return None if context_keys is None else tuple(sorted(set(context_keys)))
