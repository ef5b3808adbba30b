"""Print the reference of public names, made from the code: python docs/generate_api.py > docs/api.md"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum

import holdfast

GROUPS = {
    "Tasks and calls": ("task", "Task", "AsyncTask", "SyncTask", "Call", "TaskOptions", "Retry", "Timeout", "Rate"),
    "Runs": ("run", "run_sync", "start", "RunHandle", "RunOptions"),
    "Stores, and what they tell of a run": ("Store", "RunSummary", "RunState", "ActionState", "AttemptState", "ActionID"),
    "Inside a task": ("ctx", "TaskContext", "custom_context", "get_custom_context", "group", "Context", "contextual_run", "Bar", "track"),
    "Checkpoints": ("Checkpoint", "Generation", "Retention", "latest_checkpoint"),
    "Stages": ("stage", "parallel", "pipeline", "RetryPolicy", "Stage", "StageState", "StageStateHistoryEntry", "stage_states"),
    "Rows": ("map", "records", "Records", "Record", "RecordStatus", "SimpleRecordsResult", "Stats"),
    "Cost and budgets": ("Budget", "Price", "Cost", "Costs"),
    "Results": ("TaskResult", "DescribedRun", "Figure", "Message", "MessageType"),
    "Statuses": (
        "Status", "StageStatus", "ACTIVE_STATES", "INACTIVE_STATES", "CANCELABLE_STATES", "RESUMABLE_STATES", "STAGE_NAME_MAX_LENGTH",
    ),
    "Events and errors": ("Event", "Observer", "Told", "HoldfastError", "NonRetryable"),
}  # fmt: skip
SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Example|Yields)::?$")
CONSTANTS = {
    "ACTIVE_STATES": "Statuses in which something moves, or waits for its turn.",
    "INACTIVE_STATES": "Statuses from which nothing moves by itself.",
    "CANCELABLE_STATES": "Statuses that a cancel can follow.",
    "RESUMABLE_STATES": "Statuses of a run that the same line continues.",
    "STAGE_NAME_MAX_LENGTH": "Characters that a stage's name may have.",
}


def main() -> None:
    print("# API\n")
    print("<!-- Printed by docs/generate_api.py; change the docstrings instead. -->\n")
    print("Everything that `holdfast` exports. Errors and warnings are in `holdfast.errors`, drawn as a tree at the end; events are in")
    print("`holdfast.events`, observers in `holdfast.observers`, and what tests need in `holdfast.testing`.\n")
    named = {name for names in GROUPS.values() for name in names}
    groups = {**GROUPS, "More": tuple(sorted(set(holdfast.__all__) - named))}
    for title, names in groups.items():
        present = [name for name in names if name in holdfast.__all__]
        if present:
            print(f"## {title}\n")
            for name in present:
                print("\n".join(entry(name)), end="\n\n")
    print("## All errors\n\n```text\n" + tree() + "\n```")


def entry(name: str) -> Iterator[str]:
    public = getattr(holdfast, name)
    if name in CONSTANTS:
        yield f"### `{name}`\n"
        yield f"{CONSTANTS[name]} {words(public)}"
    elif isinstance(public, type) and public.__name__ != name:
        yield f"### `{name}`\n"
        yield f"The same as `{public.__name__}`."
    elif isinstance(public, type):
        yield from class_entry(name, public)
    else:
        colour = "async " if inspect.iscoroutinefunction(public) else ""
        yield f"### `{name}`\n\n```text\n{colour}{name}{signature(public)}\n```\n"
        yield from prose(public)


def words(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(f"`{member.value}`" for member in sorted(value, key=list(holdfast.Status).index))
    return f"`{value!r}`"


def class_entry(name: str, public: type) -> Iterator[str]:
    takes_arguments = "__init__" in vars(public) and not issubclass(public, (Enum, BaseException)) and name not in INTERNAL
    yield f"### `{name}`\n"
    if takes_arguments:
        yield f"```text\n{name}{signature(public).removesuffix(' -> None')}\n```\n"
    yield from prose(public)
    if bases := [f"`{base.__name__}`" for base in public.__mro__[1:] if is_public(base)]:
        yield f"\nHas all that {' and '.join(bases)} has."
    if issubclass(public, Enum):
        yield "\nMembers: " + ", ".join(f"`{member.name}`" for member in public)
    if annotations := typed_options(public):
        yield "\n" + "\n".join(f"- `{option}: {kind}`" for option, kind in annotations.items())
    for attribute in [found for found in members(public) if found not in NOT_FOR_USERS.get(name, ())]:
        value = inspect.getattr_static(public, attribute)
        function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if isinstance(value, property) and first_line(value):
            yield f"\n**`.{attribute}`**: {first_line(value)}"
        elif inspect.isfunction(function) and function.__doc__:
            colour = "async " if inspect.iscoroutinefunction(function) else ""
            yield f"\n**`{colour}.{attribute}{signature(function, bound=not isinstance(value, staticmethod))}`**\n"
            yield from prose(function)


#: Made by Holdfast and never by its users, so how they are made is nobody's business.
INTERNAL = {
    "ActionID", "ActionState", "AsyncTask", "AttemptState", "Bar", "Call", "Checkpoint", "Context", "Event", "Generation",
    "Observer", "RunHandle", "RunState", "RunSummary", "SyncTask", "Task", "TaskContext",
}  # fmt: skip

#: For other parts of the package.
NOT_FOR_USERS = {"Call": {"order", "scope", "take"}}


def members(public: type) -> list[str]:
    """What a class adds to what its users know from its base classes, in the order of its source."""
    if issubclass(public, (BaseException, tuple)):
        return [name for name in vars(public) if not name.startswith("_") and callable(getattr(public, name, None))]
    own = [vars(base) for base in public.__mro__ if base.__module__.startswith("holdfast") and (base is public or not is_public(base))]
    return list(dict.fromkeys(name for names in reversed(own) for name in names if not name.startswith("_")))


def is_public(cls: type) -> bool:
    return cls.__name__ in holdfast.__all__


def typed_options(public: type) -> dict[str, str]:
    """The keys of a TypedDict, and the fields of a dataclass whose docstring doesn't tell of them."""
    if hasattr(public, "__total__"):
        return {option: str(getattr(kind, "__forward_arg__", kind)) for option, kind in public.__annotations__.items()}
    if is_dataclass(public) and not re.search(r"^(Attributes|Args):$", inspect.getdoc(public) or "", flags=re.MULTILINE):
        return {field.name: str(field.type) for field in fields(public)}
    return {}


class AsWritten(str):
    """An annotation as it stands in the source, without quotes around it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def signature(function: object, *, bound: bool = False) -> str:
    found = inspect.signature(function)  # type: ignore[arg-type]
    parameters = [p.replace(annotation=as_written(p.annotation)) for p in list(found.parameters.values())[int(bound) :]]
    return str(found.replace(parameters=parameters, return_annotation=as_written(found.return_annotation)))


def as_written(annotation: object) -> object:
    return AsWritten(annotation) if isinstance(annotation, str) else annotation


def first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ")


def prose(public: object) -> Iterator[str]:
    """A docstring as Markdown: sections become lists, examples blocks."""
    section = ""
    code: list[str] = []
    for line in (inspect.getdoc(public) or "").splitlines():
        if section == "Example" and (not line or line.startswith("    ")):
            code.append(line.removeprefix("    "))
        elif (heading := SECTION.match(line)) is not None:
            section = heading[1]
            if code:
                yield f"{block(code)}\n"
            code = []
            yield f"{section}:\n"
        elif section and re.match(r" {4}\S", line):
            term, colon, rest = line.strip().partition(": ")
            yield f"- `{term}`: {rest}" if colon and " " not in term.replace(", ", "") else f"- {line.strip()}"
        elif section and line.startswith(" " * 8):
            yield f"  {line.strip()}"
        else:
            yield line
    if code:
        yield block(code)


def block(code: list[str]) -> str:
    text = "\n".join(code).strip("\n")
    return f"```{'text' if text.startswith('>>>') else 'python no-run'}\n{text}\n```"


def tree() -> str:
    lines = (inspect.getdoc(holdfast.errors) or "").splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines[lines.index("::") + 2 :])


if __name__ == "__main__":
    main()
