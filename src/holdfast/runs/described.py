"""What run.json says of a run for people: what it was given, where it began, and with what. Written once, and never read back into it.

Of the environment only names on a short list are written, and those that `$HOLDFAST_DESCRIBE_ENV` names, separated by commas.
"""

from __future__ import annotations

import inspect
import os
import platform
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import pydantic

from holdfast.folders.secrets import HIDDEN
from holdfast.frozen import Frozen
from holdfast.orders import Order
from holdfast.runs.masks import is_secret_name, masked, without
from holdfast.runs.parameters import plain_parameters
from holdfast.runs.revisions import revision_of
from holdfast.telling import Observer

#: Names the further variables that are written.
DESCRIBE_ENV: Final = "HOLDFAST_DESCRIBE_ENV"
ENVIRONMENT: Final = (
    "TZ", "LANG", "LC_ALL", "VIRTUAL_ENV", "CONDA_DEFAULT_ENV", "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
    "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID", "SLURM_STEP_ID", "SLURM_PROCID", "PBS_JOBID", "LSB_JOBID", "AWS_BATCH_JOB_ID", "HOSTNAME", "POD_NAME",
    "POD_NAMESPACE", "NODE_NAME",
)  # fmt: skip
_LONGEST: Final = 1024
_VARIABLES_AT_MOST: Final = 100
_OBSERVERS_AT_MOST: Final = 100

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Beginning(Frozen):
    """How a run was begun. A run of an older version says less.

    Attributes:
        parameters: The root call's arguments, as plain data.
        environment: Variables (in capitals) and facts about the process, which began it.
        versions: Of packages, Python, the platform, and the code's repository.
        engine: Where attempts execute.
        observers: Who was told of events.
        poll_seconds: Between two looks of the owner for what others ask of it.
    """

    parameters: Mapping[str, Any] = _NOTHING
    environment: Mapping[str, str] = _NOTHING
    versions: Mapping[str, str] = _NOTHING
    engine: str = ""
    observers: tuple[str, ...] = ()
    poll_seconds: float = 0.0

    @classmethod
    def of(cls, order: Order, observers: tuple[Observer, ...], poll_seconds: float) -> Self:
        """That of a run which begins now. Never fails."""
        parameters, secrets = plain_parameters(_arguments(order))
        return cls(
            parameters=parameters,
            environment=without(secrets, dict(_environment())),
            versions=_versions(order.definition.fn),
            engine="local",
            observers=tuple(without(secrets, [_named(observer) for observer in observers[:_OBSERVERS_AT_MOST]])),
            poll_seconds=poll_seconds,
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """What run.json says. Raises: TypeError, ValueError, where it is not what was written there."""
        said = record.get("beginning", _NOTHING)
        return cls(
            parameters=dict(said.get("parameters", _NOTHING)),
            environment=dict(said.get("environment", _NOTHING)),
            versions=dict(record.get("versions", _NOTHING)),
            engine=str(said.get("engine", "")),
            observers=tuple(said.get("observers", ())),
            poll_seconds=float(said.get("poll_seconds", 0.0)),
        )

    def to_record(self) -> dict[str, Any]:
        """All but the versions, which have had a place of their own from the first format on."""
        return {
            "parameters": dict(self.parameters),
            "environment": dict(self.environment),
            "engine": self.engine,
            "observers": list(self.observers),
            "poll_seconds": self.poll_seconds,
        }


def _arguments(order: Order) -> Mapping[str, Any]:
    try:
        return order.definition.signature.bind(order.args, order.kwargs)
    except TypeError:  # they don't fit: that is for the attempt to say
        return _NOTHING


def _environment() -> Iterator[tuple[str, str]]:
    asked_for = [name.strip() for name in os.environ.get(DESCRIBE_ENV, "").split(",")]
    for name in [name for name in dict.fromkeys([*ENVIRONMENT, *asked_for]) if name in os.environ][:_VARIABLES_AT_MOST]:
        yield name, HIDDEN if is_secret_name(name) else _short(os.environ[name])
    yield "host", socket.gethostname()
    yield "pid", str(os.getpid())
    yield "cpus", str(os.cpu_count() or "?")
    yield "executable", sys.executable or "?"
    yield "folder", _working_directory()


def _working_directory() -> str:
    try:
        return _short(str(Path.cwd()))
    except OSError:  # it was deleted
        return "?"


def _short(text: str) -> str:
    shown = masked(text[: 2 * _LONGEST], is_cut=len(text) > 2 * _LONGEST)[:_LONGEST]
    return shown.encode("utf-8", "backslashreplace").decode()


def _versions(fn: Callable[..., Any]) -> dict[str, str]:
    revision = _revision(fn)
    return {**_fixed_versions(), **({"git": revision} if revision is not None else {})}


@cache
def _fixed_versions() -> Mapping[str, str]:
    """What does not change while a process lives."""
    return {
        "holdfast": installed_version("holdfast"),
        "python": platform.python_version(),
        "pydantic": pydantic.VERSION,
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _revision(fn: Callable[..., Any]) -> str | None:
    """Of the repository that the function's file is in, else of the one around the working directory."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    file = Path(code.co_filename) if code is not None else None
    try:
        found = revision_of(file.resolve().parent) if file is not None and file.is_file() else None
        return found if found is not None else revision_of(Path.cwd())
    except OSError:
        return None


def _named(observer: Observer) -> str:
    """What an observer says of itself (`describe()`), or else its type."""
    kind = f"{type(observer).__module__}.{type(observer).__qualname__}"
    describe = getattr(observer, "describe", None)
    try:
        said = describe() if callable(describe) else kind
    except Exception:  # an observer can't fail a run
        return kind
    return _short(said) if isinstance(said, str) else kind
