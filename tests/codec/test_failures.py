"""Exceptions come back as themselves, or as a RemoteFailure that tells what they were."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.error
from email.message import Message
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import errors
from holdfast.codec import decode_error, encode_error, from_json, to_json


class OddInit(Exception):
    def __init__(self, where: str, *, code: int) -> None:
        super().__init__(f"{where}: {code}")
        self.where, self.code = where, code


class Forwarding(Exception):
    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class DiskError(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(5, "broken", path)
        self.path = path


class Both(ValueError, KeyError): ...


class Declined(errors.NonRetryable):
    def __init__(self, code: int) -> None:
        super().__init__(f"declined {code}")
        self.code = code


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Client: ...


def raised(fn: Any, *args: Any) -> BaseException:
    try:
        fn(*args)
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def local_error() -> Exception:
    class Local(Exception): ...

    return Local("x")


def with_state() -> Exception:
    error = ValueError("x")
    error.code, error.client = (1, 2), Client()  # type: ignore[attr-defined]
    return error


def back(error: BaseException) -> tuple[BaseException, bool]:
    tree, rebuildable = encode_error(error, task="t")
    return decode_error(from_json(to_json(tree))), rebuildable


@pytest.mark.parametrize(
    "error",
    [
        ValueError(), ValueError("a", 1, (2, {3})), KeyError("k"), OddInit("here", code=3), Forwarding(4, "x"), DiskError("/x"), Both("q"),
        raised(json.loads, "{"), raised(b"\xff".decode), raised(__import__, "nowhere.at.all"), raised(open, "/nowhere/at/all"),
        OSError(2, "x"),
        OSError("only"), OSError(), TimeoutError("x"), StopIteration(3), ValueError("\ud800"), AttributeError("x", name="n"),
        SyntaxError("m", ("f", 1, 2, "text")), UnicodeDecodeError("utf8", b"x" * 100_000, 0, 1, "r"), subprocess.CalledProcessError(1,
        ["a"], b"o"),
        errors.RunBusy(run_name="r", pid=1, host="h", started="s"), errors.StoreFull(where="x"), errors.NonRetryable("no"), Declined(5),
        errors.TaskTimedOut(task="t", what="attempt", seconds=1.5, attempt=0), errors.RemoteFailure(type_name="a:B", message="m",
        traceback_text="t"),
        errors.UnrecordableResult(task="t", path="p", reason="r"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_exception_comes_back_as_itself(error: BaseException) -> None:
    found, rebuildable = back(error)
    assert rebuildable
    assert type(found) is type(error)
    assert (str(found), found.args) == (str(error), error.args)
    assert {name: value for name, value in vars(found).items() if name != "__holdfast_traceback__"} == vars(error)
    for name in ("filename", "errno", "name", "code", "value", "lineno", "start"):
        assert getattr(found, name, None) == getattr(error, name, None)


@given(st.lists(st.one_of(st.none(), st.integers(), st.text(st.characters()), st.binary(), st.tuples(st.booleans())), max_size=4))
def test_any_plain_args_come_back(args: list[Any]) -> None:
    found, rebuildable = back(RuntimeError(*args))
    assert rebuildable
    assert found.args == tuple(args)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (local_error(), "x"),
        (SystemExit(3), "3"),
        (KeyboardInterrupt(), ""),
        (asyncio.CancelledError("why"), "why"),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), "g (1 sub-exception)"),
        (ValueError(Client), "Client"),
        (Unspeakable(1), "(Unspeakable without a readable message)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_rebuilt_says_so_and_comes_back_as_a_remote_failure(error: BaseException, message: str) -> None:
    found, rebuildable = back(error)
    assert not rebuildable
    assert isinstance(found, errors.RemoteFailure)
    assert type(error).__qualname__ in found.type_name
    assert message in found.message
    assert type(error).__name__ in found.traceback_text


def test_an_exception_without_its_module_is_a_remote_failure() -> None:
    tree, _ = encode_error(ValueError("x"), task="t")
    found = decode_error({**tree, "type": "no_such_module:Gone"})
    assert isinstance(found, errors.RemoteFailure)
    assert (found.type_name, found.message) == ("no_such_module:Gone", "x")


@pytest.mark.parametrize(
    "odd",
    [None, 3, "x", [], {}, {"type": 3, "notes": 5}, {"type": "builtins:ValueError"}, {"type": "builtins:ValueError", "how": "odd",
    "args": []},
     {"type": "os:getcwd", "how": "call", "args": [], "state": {}, "attributes": {}}, {"type": "builtins:int", "how": "call", "args": []},
     {"cause": 3, "context": {"cause": None}}, {"type": "a" * 1000}, {"type": "", "message": None}],
    ids=str,
)  # fmt: skip
def test_an_odd_record_is_a_remote_failure_and_raises_nothing(odd: Any) -> None:
    assert isinstance(decode_error(odd), errors.RemoteFailure)


def chained() -> BaseException:
    try:
        try:
            {}["k"]
        except KeyError as error:
            raise ValueError("v") from error
    except ValueError as error:
        error.add_note("a note")
        return error


def test_notes_chain_and_traceback_come_along() -> None:
    found, _ = back(chained())
    assert found.__notes__ == ["a note"]
    assert isinstance(found.__cause__, KeyError)
    assert found.__context__ is found.__cause__
    assert found.__suppress_context__
    assert "in chained" in found.__holdfast_traceback__  # type: ignore[attr-defined]
    assert "KeyError: 'k'" in found.__holdfast_traceback__  # type: ignore[attr-defined]


def test_a_context_without_a_cause_stays_one() -> None:
    def fail() -> None:
        try:
            {}["k"]
        except KeyError:
            raise ValueError("v")  # noqa: B904

    found, _ = back(raised(fail))
    assert isinstance(found.__context__, KeyError)
    assert (found.__cause__, found.__suppress_context__) == (None, False)


def test_the_traceback_of_the_first_time_is_kept_when_a_rebuilt_exception_is_recorded_again() -> None:
    once, _ = back(chained())
    twice, _ = back(once)
    assert twice.__holdfast_traceback__ == once.__holdfast_traceback__  # type: ignore[attr-defined]
    assert twice.__notes__ == ["a note"]


def test_cycles_and_long_chains_are_cut() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    found, _ = back(one)
    assert found.__cause__ is not None
    assert found.__cause__.__cause__ is None
    last = ValueError(0)
    for n in range(1, 100):
        following = ValueError(n)
        following.__cause__ = last
        last = following
    found, _ = back(last)
    depth = 0
    while found.__cause__ is not None:
        found, depth = found.__cause__, depth + 1
    assert depth == 8


def test_a_group_comes_back_with_its_members() -> None:
    found, rebuildable = back(ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [KeyError("x"), Declined(2)])]))
    assert rebuildable
    assert repr(found) == "ExceptionGroup('g', [ValueError(1), ExceptionGroup('h', [KeyError('x'), Declined('declined 2')])])"


def test_a_member_that_cannot_be_rebuilt_leaves_the_group_a_group() -> None:
    found, rebuildable = back(ExceptionGroup("g", [local_error(), ValueError(1)]))
    assert not rebuildable
    assert isinstance(found, ExceptionGroup)
    assert [type(member) for member in found.exceptions] == [errors.RemoteFailure, ValueError]


def test_attributes_that_have_no_form_are_left_behind() -> None:
    found, rebuildable = back(with_state())
    assert rebuildable
    assert found.code == (1, 2)  # type: ignore[attr-defined]
    assert not hasattr(found, "client")


def test_foreign_exceptions_with_odd_constructors_come_back() -> None:
    error = urllib.error.HTTPError("http://x", 404, "not found", Message(), None)
    found, rebuildable = back(error)
    assert rebuildable
    assert isinstance(found, urllib.error.HTTPError)
    assert (found.code, str(found)) == (404, str(error))
    error.close()
