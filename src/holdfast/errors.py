"""Everything that Holdfast raises, in one tree.

Absence, passing failure, corruption and refusal are different types. Each error is built from keyword facts, keeps them as attributes,
pickles, and says what to do. Each derives also from the builtin that people already catch. Names carry no suffix.

::

    HoldfastError
    ├── NonRetryable                       raise it (or a subclass) in a task: no retry, now or on resume
    ├── TaskError                          how an action ended
    │   ├── TaskTimedOut                   (TimeoutError)
    │   ├── ReceiveTimedOut                (TimeoutError) no value came in time
    │   ├── ReceivedInvalid                (ValueError) a value came that is not of the type that was asked for
    │   ├── OutcomeUnknown                 on_crash="fail": it began, and nobody knows how it ended
    │   ├── CrashLoop                      it crashed its process too often, without progress
    │   ├── AttemptsSpent                  a stage that may not begin: RetryPolicy.GLOBAL has no execution left
    │   ├── UndoMissing                    (ImportError) the task of a recorded undo is not found here
    │   ├── RollbackIncomplete             not everything could be undone
    │   └── RemoteFailure                  a recorded exception whose type can't be rebuilt here
    ├── FileChanged                        (RuntimeError) a file that was to be saved changed while it was read
    ├── RunError                           a run can't be had, or ended early
    │   ├── RunStopped, RunCancelled
    │   │   └── BudgetSpent                a budget has no room for another attempt
    │   ├── RunExists, RunNotFound         (FileExistsError, LookupError)
    │   ├── ActionNotFound                 (LookupError)
    │   ├── RunBusy, RunFenced             another owner is at work, or took over
    │   ├── RunRolledBack
    │   ├── InputsChanged                  (ValueError)
    │   └── FigureNotFound                 (LookupError)
    ├── IdentityError                      a call has no stable place in its run
    │   ├── UnstableInput                  (TypeError)
    │   ├── AmbiguousKey, DuplicateTask    (ValueError)
    │   └── AmbiguousLoop                  (RuntimeError)
    ├── ValueNotKept                       a value that would not come back as it was
    │   ├── UnrecordableResult             (TypeError)
    │   ├── ResultIncompatible             (ValueError) recorded, and no longer valid for this code
    │   ├── StateDamaged, StateTooNew      (ValueError) text that is no RunState, or that of a newer version
    │   └── LargeState                     (LookupError) a stage's state lies in a blob, which a reader did not read
    ├── Misuse                             the calling code has to change
    │   ├── InvalidTask, InvalidCall       (TypeError)
    │   ├── InvalidOption, InvalidName     (ValueError)
    │   ├── InvalidPipeline                (ValueError)
    │   ├── InvalidContext                 (TypeError)
    │   ├── NestedRun                      (ValueError)
    │   ├── BlockingCall, NoLoop           (RuntimeError)
    │   ├── ActionEnded, AttemptAbandoned  (RuntimeError)
    │   ├── IllegalMove                    (ValueError)
    │   ├── ForgottenAwait                 (RuntimeError)
    │   ├── NoRawDataPath                  (LookupError)
    │   └── MissingExtra                   (ImportError)
    └── StoreError                         (OSError) the store said no, or can't be believed
        ├── ObjectMissing, ObjectExists    (FileNotFoundError, FileExistsError)
        ├── StoreUnavailable, StoreFull
        ├── StorePermission                (PermissionError)
        ├── StoreInvalid, StoreUnfenced    (ValueError)
        ├── WrongKey, StoreEncrypted, NotEncrypted
        ├── JournalDamaged, JournalTooNew
        ├── InboxDamaged                   a value that was sent can't be read
        └── CheckpointCorrupt, CheckpointForeign, BlobCorrupt

    HoldfastWarning (UserWarning): NotDurable, CodeChanged, LeftRunning, Unrebuildable, DoubtfulReuse, CheckpointFallback, ContextChanged,
    FigureBroken, CleanupFailed, RowsChanged, BudgetWarning
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any, ClassVar


class HoldfastError(Exception):
    """Base of all errors. `facts` are keyword arguments, kept as attributes; `template` is the message that they fill."""

    template: ClassVar[str] = ""

    def __init__(self, **facts: Any) -> None:
        self.facts: Mapping[str, Any] = facts
        for name, value in facts.items():
            setattr(self, name, value)
        super().__init__(self.template.format(**facts))

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.facts))


def _rebuild(kind: type[HoldfastError], facts: dict[str, Any]) -> HoldfastError:
    return kind(**facts)


class NonRetryable(HoldfastError):
    """Raise it, or a subclass of it, in a task's body: the failure is final, in this run and in every resume."""

    def __init__(self, *args: object) -> None:
        self.facts: Mapping[str, Any] = {}
        Exception.__init__(self, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, self.__dict__


# how an action ended


class TaskError(HoldfastError):
    """How an action ended, where its body did not say so itself."""


class TaskTimedOut(TaskError, TimeoutError):
    """An attempt, or all attempts together, took longer than the task's `Timeout` allows."""

    template = "{task}: {what} timeout of {seconds:g} s passed (attempt {attempt})"
    task: str
    what: str
    seconds: float
    attempt: int


class ReceiveTimedOut(TaskError, TimeoutError):
    """Nobody sent a value to the topic before the `timeout` of `ctx().receive` passed."""

    template = "no value came for topic {topic!r} within {seconds:g} s; `Store.send({run_name!r}, {topic!r}, value)` sends one"
    run_name: str
    topic: str
    seconds: float


class ReceivedInvalid(TaskError, ValueError):
    """A value came that is not valid as the type that `ctx().receive` was asked for. It is used up, and nobody else gets it."""

    template = (
        "value {number} of topic {topic!r} is not valid as {expected}: {reason}; it is used up: have a valid one sent, "
        "or receive what is really sent"
    )
    topic: str
    number: int
    expected: str
    reason: str


class OutcomeUnknown(TaskError):
    """A task with `on_crash="fail"` began once, and nobody recorded how that ended."""

    template = (
        "{task}: its attempt {attempt} began and was {status} before an outcome was recorded; on_crash='fail' forbids another. "
        "Find out from the outside system what happened, then take another run_name, or resume='restart'"
    )
    task: str
    attempt: int
    status: str


class CrashLoop(TaskError):
    """The last `crashes` attempts each ended with their process, and none of them got anything recorded."""

    template = (
        "{task}: {crashes} attempts in a row ended with their process, and none recorded anything. "
        "Look for what kills it (memory, a native crash); run the same line again to try anew"
    )
    task: str
    crashes: int


class AttemptsSpent(TaskError):
    """A stage was not begun, since the stages of its pipeline have taken all executions that `RetryPolicy.GLOBAL` allows them together."""

    template = (
        "{stage} was not begun: the stages of {pipeline} have taken all {max_attempts} executions of RetryPolicy.GLOBAL, in which each "
        "execution counts, also a successful one. Run the same line again, which reuses what COMPLETED and begins with all of them anew; "
        "or raise max_attempts"
    )
    pipeline: str
    stage: str
    max_attempts: int


class UndoMissing(TaskError, ImportError):
    """A rollback has to run an undo whose task is neither defined in this process nor found by importing it."""

    template = (
        "the undo {task} is not found by importing {function}; define it at the top of a module that can be imported here, "
        "then roll back again"
    )
    task: str
    function: str


class RollbackIncomplete(TaskError):
    """A rollback ended, and `remains` lists what it could not undo."""

    template = "{task} is not wholly rolled back; what remains: {listed}. See to it, then call Store.rollback({run_name!r}) again"
    task: str
    run_name: str
    listed: str
    remains: tuple[str, ...]


class RemoteFailure(TaskError):
    """A recorded exception whose type can't be rebuilt here: its type name, message and traceback as text."""

    template = "{type_name}: {message}"
    type_name: str
    message: str
    traceback_text: str


# runs


class RunError(HoldfastError):
    """A run can't be had, or ended before its result."""

    run_name: str


class RunStopped(RunError):
    """The run was asked to stop, and kept everything recorded. The same line goes on."""

    template = "run {run_name!r} was stopped ({reason}); run the same line again to go on"
    reason: str


class BudgetSpent(RunStopped):
    """A budget has no room for another attempt. Attempts at work were let finish, and everything recorded is kept.

    `limit` and `spent` are of what `of` names: cost, tokens, seconds or executions. `need` is what another attempt would have been held
    for, "" where that is not known. `run_name` is "" outside a run, where nothing can be gone on with.
    """

    template = "{where}{budget} allows {of} {limit}, {spent} of it is spent{beside}; raise that limit{then}"
    budget: str
    of: str
    limit: str
    spent: str
    need: str

    def __init__(self, **facts: Any) -> None:
        need = facts.setdefault("need", "")
        facts.setdefault("reason", f"{facts['budget']} is spent")
        facts["beside"] = f", and another attempt needs {need}" if need else ""
        facts["where"] = f"run {facts['run_name']!r} was stopped: " if facts["run_name"] else ""
        facts["then"] = ", and run the same line again to go on" if facts["run_name"] else ""
        super().__init__(**facts)


class RunCancelled(RunError):
    """The run was cancelled by its handle, or by `Store.cancel`."""

    template = "run {run_name!r} was cancelled; run the same line again to start its root anew"


class RunExists(RunError, FileExistsError):
    """`resume="never"`, and there is a run of this name."""

    template = "run {run_name!r} exists already ({status}); take another run_name, or another `resume` than 'never'"
    status: str


class RunNotFound(RunError, LookupError):
    """There is no run of this name in the store."""

    template = "there is no run {run_name!r} in {store}; `holdfast.Store({store!r}).runs()` lists them"
    store: str


class ActionNotFound(RunError, LookupError):
    """There is no action of this name on record in the run."""

    template = "there is no action {action!r:.140} in run {run_name!r}; `Store.state({run_name!r}).actions` lists them by name"
    action: str


class RunBusy(RunError):
    """A live owner is at work on this run."""

    template = (
        "run {run_name!r} is being run by process {pid} on {host} since {started}; wait for it, stop it with "
        "`Store.stop({run_name!r})`, or take over with resume='takeover'"
    )
    pid: int
    host: str
    started: str


class RunFenced(RunError):
    """Another owner took this run over: nothing of what this one still does is recorded."""

    template = "run {run_name!r} was taken over by another owner (journal segment {segment}); this process no longer records anything"
    segment: int


class RunRolledBack(RunError):
    """The run, or the action of it that is asked for, was rolled back, and can't go on. How it had failed, if it did, is the cause."""

    template = "{task} in run {run_name!r} was rolled back; take another run_name, or resume='restart'"
    task: str


class InputsChanged(RunError, ValueError):
    """A run of this name was begun with other inputs, another task or another context."""

    template = "run {run_name!r} was begun with another {what}: {was} then, {now} now; take another run_name, or resume='restart'"
    what: str
    was: str
    now: str


class FigureNotFound(RunError, LookupError):
    """The run has no such figure, or more than one that the path may stand for."""

    template = "run {run_name!r} has {found} under {path!r}; {there}"
    path: str
    found: str
    there: str


# identity


class IdentityError(HoldfastError):
    """A call has no stable place in its run."""


class UnstableInput(IdentityError, TypeError):
    """An argument has no canonical digest."""

    template = (
        "{task}: argument {argument} has no stable digest ({reason}); pass plain data, a dataclass or a pydantic model, "
        "or name the call yourself with @task(key=lambda ...: str)"
    )
    task: str
    argument: str
    reason: str


class AmbiguousKey(IdentityError, ValueError):
    """Two different inputs under one `key`."""

    template = "{task}: key {key!r:.140} stands for two different inputs; make the key tell them apart"
    task: str
    key: str


class DuplicateTask(IdentityError, ValueError):
    """Two functions of one name in one run."""

    template = "two functions in this run are named {task!r} ({first} and {second}); give one of them @task(name=...)"
    task: str
    first: str
    second: str


class AmbiguousLoop(IdentityError, RuntimeError):
    """A call equal to one from before the loaded checkpoint turned out to be a later round of a loop."""

    template = (
        "{task}: after the checkpoint was loaded, an equal call was answered from record, and now comes again behind another save: "
        "it is a round of a loop, and the earlier answer belonged to another round. What was saved since is set aside. "
        "Run the same line again; to rule it out, pass the round's index, or call inside `with group(f'round-{{i}}')`"
    )
    task: str


# values


class ValueNotKept(HoldfastError):
    """A value that would not come back as it was."""


class UnrecordableResult(ValueNotKept, TypeError):
    """A value, or an annotation, that can't be recorded and read back as the same."""

    template = "{task}: {path} can't be recorded: {reason}"
    task: str
    path: str
    reason: str


class ResultIncompatible(ValueNotKept, ValueError):
    """A recorded value no longer validates as what the code now declares."""

    template = "{task}: the recorded value is not valid as {expected}: {reason}; change version= to run it again, or restore the annotation"
    task: str
    expected: str
    reason: str


class StateDamaged(ValueNotKept, ValueError):
    """Text that is no state of a run, or no whole one."""

    template = "this is not what RunState.to_json wrote ({reason}); read the run again, with Store.state"
    reason: str


class StateTooNew(ValueNotKept, ValueError):
    """A state of a run that a newer major version wrote."""

    template = "the state is of format {found}, which is newer than {known}, which this Holdfast reads; update holdfast"
    found: str
    known: str


class LargeState(ValueNotKept, LookupError):
    """A stage's state that is too large for the journal was not read with it."""

    template = "{stage}: its state is too large for the journal, and was not read with the run (blob {digest}); read it in a later stage"
    stage: str
    digest: str


# misuse


class Misuse(HoldfastError):
    """The calling code has to change."""


class InvalidTask(Misuse, TypeError):
    """What was decorated can't be a task."""

    template = "{what} can't be a task: {reason}"
    what: str
    reason: str


class InvalidCall(Misuse, TypeError):
    """What was given is not a fresh Call."""

    template = "{verb} takes a fresh call, such as {verb}(main(...)), but got {got}"
    verb: str
    got: str


class InvalidOption(Misuse, ValueError):
    """An option has a value that it can't have."""

    template = "{option}={value!r:.200}: {reason}"
    option: str
    value: object
    reason: str


class InvalidName(Misuse, ValueError):
    """A name that can't stand in a path, or an existing name in another spelling."""

    template = "{kind} {name!r:.140} is not usable: {reason}"
    kind: str
    name: str
    reason: str


class InvalidPipeline(Misuse, ValueError):
    """Stages, names or numbers that make no pipeline, or a state that is none of its."""

    template = "pipeline {pipeline!r:.200}: {reason}"
    pipeline: object
    reason: str


class InvalidContext(Misuse, TypeError):
    """A custom context value that is not a str."""

    template = "custom_context({key}=...) takes a str, but got {type_name}; write {key}=str(value)"
    key: str
    type_name: str


class NestedRun(Misuse, ValueError):
    """`run`, `run_sync` or `start` inside a task."""

    template = "{verb}(...) inside the task {task}: a run has no runs inside; await the call itself"
    verb: str
    task: str


class BlockingCall(Misuse, RuntimeError):
    """A call that would block the event loop of a run."""

    template = "{task}: called on the event loop of a run, it would block that loop; write `await {instead}(...)`"
    task: str
    instead: str


class NoLoop(Misuse, RuntimeError):
    """No asyncio event loop is running in this thread."""

    template = "{what} needs a running asyncio event loop{found}; {remedy}"
    what: str
    found: str
    remedy: str


class ActionEnded(Misuse, RuntimeError):
    """Something was asked of an attempt that has ended."""

    template = "{what}: the attempt of {task} that it belongs to has ended; await what a task starts before it returns"
    what: str
    task: str


class AttemptAbandoned(Misuse, RuntimeError):
    """This attempt could not be stopped in time, and nothing that it does counts any more."""

    template = "{what}: this attempt of {task} was abandoned; what it still does is not recorded. End it"
    what: str
    task: str


class IllegalMove(Misuse, ValueError):
    """A status was to follow another that it can't follow."""

    template = "{what} that is {status} can't become {to} by {move!r}: that leads to {allowed}; docs/status.md has the table"
    what: str
    status: str
    move: str
    to: str
    allowed: str


class ForgottenAwait(Misuse, RuntimeError):
    """A `checkpoint.save(...)` was never awaited."""

    template = "{task}: checkpoint.save(...) at {where} was never awaited, so nothing was saved; write `await`, or save_sync in a def task"
    task: str
    where: str


class FileChanged(HoldfastError, RuntimeError):
    """What was to be saved changed each time that it was read, so that no one moment of it could be had."""

    template = "{path} changed while it was read, {tries} times; save it when nobody writes to it, or save a copy of it"
    path: str
    tries: int


class NoRawDataPath(Misuse, LookupError):
    """An ephemeral run without a raw data path."""

    template = "no raw_data_path: outside a run there is no folder for raw data; set Context.raw_data_path, or start the call with `run`"


class MissingExtra(Misuse, ImportError):
    """A feature that needs an extra, which is not installed."""

    template = "{feature} needs {package}, which is not installed; pip install 'holdfast[{extra}]'"
    feature: str
    package: str
    extra: str


# the store


class StoreError(HoldfastError, OSError):
    """The store said no, or what it holds can't be believed."""

    code: ClassVar[int | None] = None

    def __init__(self, **facts: Any) -> None:
        super().__init__(**facts)
        self.errno: int | None = self.code


class ObjectMissing(StoreError, FileNotFoundError):
    """There is no such object in the folder."""

    template = "{where} does not exist"
    code: ClassVar[int | None] = errno.ENOENT
    where: str


class ObjectExists(StoreError, FileExistsError):
    """An exclusive creation found the name taken."""

    template = "{where} exists already"
    code: ClassVar[int | None] = errno.EEXIST
    where: str


class StoreUnavailable(StoreError):
    """The store can't be reached or read just now."""

    template = "{where}: {reason}; nothing recorded is lost: run the same line again when the store answers"
    code: ClassVar[int | None] = errno.EIO
    where: str
    reason: str


class StoreFull(StoreError):
    """No space or quota is left."""

    template = "{where}: no space left; nothing recorded is lost: free some space and run the same line again"
    code: ClassVar[int | None] = errno.ENOSPC
    where: str


class StorePermission(StoreError, PermissionError):
    """The store refuses to be read or written."""

    template = "{where}: permission denied ({reason}); check owner and mode of the folder, or choose another store"
    code: ClassVar[int | None] = errno.EACCES
    where: str
    reason: str


class StoreInvalid(StoreError, ValueError):
    """What was named can't be a store."""

    template = "{where} can't be a store: {reason}"
    where: str
    reason: str


class StoreUnfenced(StoreError):
    """The store has no exclusive creation, so two owners could not be told apart."""

    template = "{where}: {reason}; choose another store, or pass allow_unfenced=True and make sure that only one process uses it"
    where: str
    reason: str


class WrongKey(StoreError):
    """It is encrypted with another key than those that were given. Keys are named by their ids."""

    template = "{where}: {reason}; open the store with the key that it was written with, and while keys change with both: (new, old)"
    where: str
    reason: str


class StoreEncrypted(StoreError):
    """It is encrypted, and no key was given."""

    template = "{where} is encrypted; open the store with its key: Store(..., encryption_key=...), or $HOLDFAST_ENCRYPTION_KEY"
    where: str


class NotEncrypted(StoreError):
    """A key was given, and this was written without one."""

    template = (
        "{where} is not encrypted (or its beginning is overwritten), and the store was opened with a key; "
        "open it without, or take another folder for what is to be encrypted"
    )
    where: str


class JournalDamaged(StoreError):
    """A journal frame is invalid, and valid ones lie behind it."""

    template = (
        "{where}: damaged at byte {offset} of segment {segment} ({reason}); restore the file from a copy, "
        "or begin anew with resume='restart'"
    )
    where: str
    segment: int
    offset: int
    reason: str


class JournalTooNew(StoreError):
    """Written by a newer major version."""

    template = "{where}: format version {found} is newer than {known}, which this Holdfast reads; update holdfast"
    where: str
    found: str
    known: str


class InboxDamaged(StoreError):
    """A value that was sent to a run can't be read. It is used up: whoever receives next gets the one after it."""

    template = "{where}: value {number} of topic {topic!r} can't be read ({reason}); it is used up: have it sent again"
    where: str
    topic: str
    number: int
    reason: str


class CheckpointCorrupt(StoreError):
    """Generations exist, and none of them can be believed."""

    template = "{where}: no valid generation ({reason}); restore one from a copy, or change the task's version= to begin without"
    where: str
    reason: str


class CheckpointForeign(StoreError):
    """A manifest is of a format that this Holdfast does not read."""

    template = (
        "{where}: format {found}, and this Holdfast reads {known}; use the version of holdfast that wrote it, "
        "or change the task's version= to begin without"
    )
    where: str
    found: str
    known: str


class BlobCorrupt(StoreError):
    """A large value is gone, or its bytes are not what its name says."""

    template = "{where}: {reason}; restore it from a copy, or change the version= of the task whose result it is to run it again"
    where: str
    reason: str


# warnings


class HoldfastWarning(UserWarning):
    """Base of all warnings."""


class NotDurable(HoldfastWarning):
    """Something durable was asked of an ephemeral run."""


class CodeChanged(HoldfastWarning):
    """A resumed run meets a task whose code changed."""


class LeftRunning(HoldfastWarning):
    """A body returned while actions that it had begun still ran."""


class Unrebuildable(HoldfastWarning):
    """An exception was recorded whose type can't be rebuilt on resume."""


class DoubtfulReuse(HoldfastWarning):
    """After a load, a call was answered from before the save, and could be a round of a loop."""


class CheckpointFallback(HoldfastWarning):
    """A corrupt generation was passed over for an older, valid one."""


class ContextChanged(HoldfastWarning):
    """A call would have been answered from record but for its custom context."""


class FigureBroken(HoldfastWarning):
    """A figure could not be drawn, or not be kept."""


class CleanupFailed(HoldfastWarning):
    """What an attempt did on its way out (its own clean-up, a hook of `on_exit`) failed, or did not end in time."""


class RowsChanged(HoldfastWarning):
    """The items of a `map` are not those that an earlier attempt had: what differs or is new runs, and gets no old answer."""


class BudgetWarning(HoldfastWarning):
    """A budget has spent one of the fractions that its `warn_at` names."""


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def translate_os_error(error: OSError, where: str | os.PathLike[str]) -> StoreError:
    """The one border between the operating system's errors and ours. `ENOENT` and `EEXIST` are absence and refusal, not failure."""
    place = os.fspath(where)
    if isinstance(error, StoreError):
        return error
    if error.errno == errno.ENOENT:
        return ObjectMissing(where=place)
    if error.errno == errno.EEXIST:
        return ObjectExists(where=place)
    if error.errno in _FULL:
        return StoreFull(where=place)
    if error.errno in _REFUSED:
        return StorePermission(where=place, reason=os.strerror(error.errno or 0))
    if error.errno in (errno.ENOTDIR, errno.EISDIR):
        return StoreInvalid(where=place, reason="a file stands where a folder has to be, or the other way; name another place")
    return StoreUnavailable(where=place, reason=error.strerror or str(error) or type(error).__name__)
