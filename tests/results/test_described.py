"""What a run was given, and where and with what it began: written once, in run.json, without secrets."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from holdfast import DescribedRun, Event, Status, Store, ctx, run, task
from holdfast.codec import from_json, to_json
from holdfast.errors import JournalDamaged
from holdfast.folders.memory import MemoryDisk
from holdfast.identity import source_digest
from holdfast.runs.described import ENVIRONMENT, Beginning
from holdfast.runs.parameters import PARAMETER_BYTES, plain_parameters
from holdfast.testing import bucket_store, memory_store

disk = MemoryDisk()


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    global disk
    disk = MemoryDisk()
    for name in (*ENVIRONMENT, "HOLDFAST_DESCRIBE_ENV"):
        monkeypatch.delenv(name, raising=False)


@task
async def main(count: int, *names: str, url: str = "s3://bucket", **options: Any) -> int:
    return count


@task
async def fails(count: int) -> None:
    ctx().summary("so far")
    raise ValueError("no")


class Told:
    """An observer that says who it is."""

    def __init__(self, says: Any = "an observer of https://me:hunter2@host") -> None:
        self.says = says

    def on_event(self, event: Event, /) -> None: ...

    def describe(self) -> Any:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Untold:
    """An observer that does not."""

    def on_event(self, event: Event, /) -> None: ...


def described(call: Any, **options: Any) -> DescribedRun:
    with suppress(ValueError):
        asyncio.run(run(call, run_name="it", store=memory_store(disk), **options))
    return memory_store(disk).describe_sync("it")


def run_json(store: Store) -> bytes:
    return asyncio.run(store.folder.get("runs/it/000000/run.json"))


def test_it_has_the_result_and_the_arguments_by_name() -> None:
    found = described(main(3, "a", "b", depth={"x": [1, None]}))
    assert found.parameters == {"count": 3, "names": ["a", "b"], "url": "s3://bucket", "options": {"depth": {"x": [1, None]}}}
    assert found.result == memory_store(disk).result_sync("it")
    assert (found.result.payload, found.engine, found.observers, found.poll_seconds) == (3, "local", [], 0.25)


def test_a_failed_run_is_described_as_any_other() -> None:
    found = described(fails(3))
    assert (found.result.status, found.result.summary, found.parameters) == (Status.FAILED, "so far", {"count": 3})


def test_it_is_written_once_and_says_how_the_run_began_however_often_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    first = described(fails(3))
    before = run_json(memory_store(disk))
    monkeypatch.setenv("TZ", "Europe/Berlin")
    second = described(fails(3), observers=[Untold()])
    assert run_json(memory_store(disk)) == before
    assert (second.environment, second.observers, second.result.attempts) == (first.environment, [], 2)


def test_versions_are_those_of_the_packages_the_platform_and_the_code() -> None:
    found = described(main(3))
    assert found.versions["python"] == platform.python_version()
    assert found.versions["pydantic"] == pydantic.VERSION
    assert found.versions["platform"].startswith(platform.system())
    assert found.versions["source"] == source_digest(main.fn)
    assert found.versions["holdfast"]


def test_the_source_is_that_of_the_code_that_ran_last() -> None:
    @task(name="changes")
    async def before() -> None:
        raise ValueError("before")

    @task(name="changes")
    async def after() -> None:
        raise ValueError("after")

    described(before())
    with pytest.warns(Warning, match="changed"):
        found = described(after())
    assert found.versions["source"] == source_digest(after.fn)


def test_observers_are_told_of_by_what_they_say_or_by_their_type() -> None:
    found = described(main(3), observers=[Told(), Untold(), Told(3), Told(ValueError("who?"))])
    kind = f"{__name__}.Told"
    assert found.observers == ["an observer of https://me:***@host", f"{__name__}.Untold", kind, kind]


def test_an_owner_in_an_object_store_looks_as_often_as_it_beats() -> None:
    store = bucket_store()
    asyncio.run(run(main(3), run_name="it", store=Store.on(store.folder, lease=12)))
    assert store.describe_sync("it").poll_seconds == 2.0


# the environment


def test_only_names_on_the_list_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("UNLISTED", "unlisted-7f3a")
    found = described(main(3))
    assert {name: value for name, value in found.environment.items() if name.isupper()} == {"OMP_NUM_THREADS": "4"}
    assert (found.environment["pid"], found.environment["folder"]) == (str(os.getpid()), str(Path.cwd()))
    assert set(found.environment) == {"OMP_NUM_THREADS", "host", "pid", "cpus", "executable", "folder"}
    assert b"unlisted-7f3a" not in run_json(memory_store(disk))


def test_further_names_are_listed_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_DESCRIBE_ENV", "BEAM, RUN ,,MISSING,MY_TOKEN,DB_URL")
    for name, value in {"BEAM": "4", "RUN": "12", "MY_TOKEN": "hunter2", "DB_URL": "pg://me:hunter2@h"}.items():
        monkeypatch.setenv(name, value)
    found = described(main(3))
    assert {name: value for name, value in found.environment.items() if name.isupper()} == {
        "BEAM": "4", "RUN": "12", "MY_TOKEN": "***", "DB_URL": "pg://me:***@h",
    }  # fmt: skip
    assert b"hunter2" not in run_json(memory_store(disk))


def test_a_long_value_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_NAME", "x" * 100_000)
    assert len(described(main(3)).environment["SLURM_JOB_NAME"]) == 1024


def test_a_working_directory_that_is_gone_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert described(main(3)).environment["folder"] == "?"


# secrets


@settings(max_examples=20, deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, blacklist_categories=["Cs", "Cc", "Zs"]), min_size=4, max_size=20))
def test_no_secret_stands_in_run_json(text: str) -> None:
    secret = f"Zq7{text}7qZ"
    store = memory_store()
    call = main(1, f"see {secret}", url=f"pg://me:{secret}@host/db", password=secret, headers={"Authorization": f"Bearer {secret}"})
    asyncio.run(run(call, run_name="it", store=store, observers=[Told(f"to {secret}")]))
    written = run_json(store)
    for form in (secret, repr(secret)[1:-1], to_json(secret).decode()[1:-1]):
        assert form.encode() not in written


def test_in_an_encrypted_store_it_is_encrypted(tmp_path: Path) -> None:
    store = Store(tmp_path, encryption_key=bytes(32))
    asyncio.run(run(main(3, "filed-7f3a"), run_name="it", store=store))
    assert store.describe_sync("it").parameters["names"] == ["filed-7f3a"]
    (file,) = tmp_path.glob("runs/it/*/run.json")
    assert b"filed-7f3a" not in file.read_bytes()


# parameters


class Mode(Enum):
    FAST = 1


class Level(int, Enum):
    HIGH = 3


class Model(BaseModel):
    size: int = 1
    when: datetime | None = None


class Strange:
    pass


class Loud:
    def __repr__(self) -> str:
        return "loud " * 1000


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Lazy:
    def __init__(self) -> None:
        self.asked = False

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no database here")


def the_same(value: Any) -> tuple[Any, Any]:
    return value, value


SHOWN: dict[str, tuple[Any, Any]] = {
    "None": the_same(None),
    "bool": the_same(True),
    "int": the_same(-7),
    "large int": (1 << 5000, "an int of 5001 bits"),
    "float": the_same(0.1),
    "infinity": (float("-inf"), "-inf"),
    "not a number": (float("nan"), "nan"),
    "str": the_same("é ✓"),
    "lone surrogate": ("\udcff", "\\udcff"),
    "bytes": (b"abc", "bytes, 3 bytes"),
    "Decimal": (Decimal("1.50"), "1.50"),
    "UUID": (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "datetime": (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
    "timedelta": (timedelta(minutes=1), "0:01:00"),
    "path": (PurePosixPath("/a/b"), "/a/b"),
    "complex": (1j, "1j"),
    "Enum": (Mode.FAST, "FAST"),
    "int Enum": (Level.HIGH, "HIGH"),
    "list": the_same([1, [2, "x"]]),
    "tuple": ((1, 2, 3), [1, 2, 3]),
    "set": ({1}, [1]),
    "dict": ({1: "a", (2, 3): None, None: 4}, {"1": "a", "[2, 3]": None, "None": 4}),
    "model": (Model(when=datetime(2026, 1, 2, tzinfo=UTC)), {"size": 1, "when": "2026-01-02 00:00:00+00:00"}),
    "array": (np.zeros(2), "ndarray: array([0., 0.])"),
    "object": (Strange(), "Strange"),
    "class": (Model, f"ModelMetaclass: {Model!r}"),
    "broken": (Broken(), "Broken, which can't be shown (RuntimeError)"),
    "lazy": (Lazy(), "Lazy"),
    "long list": (list(range(103)), [*range(100), "… 3 more … (cut)"]),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_a_parameter_is_shown_plainly_or_by_its_type(kind: str) -> None:
    given, shown = SHOWN[kind]
    assert plain_parameters({"given": given})[0] == {"given": shown}


def test_a_long_text_is_cut_and_says_how_long_it_was() -> None:
    shown = plain_parameters({"text": "x" * 100_000})[0]["text"]
    assert shown == "x" * 4096 + "… (100000 characters)"


def test_a_long_repr_is_cut() -> None:
    shown = plain_parameters({"loud": Loud()})[0]["loud"]
    assert shown.startswith("Loud: loud loud")
    assert len(shown) < 4200


def test_what_contains_itself_is_cut() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert "(cut)" in str(plain_parameters({"circle": circle})[0])


HUGE: dict[str, Mapping[str, Any]] = {
    "many texts": {"docs": ["some text " * 100] * 10_000},
    "wide and deep": {"d": {str(i): {str(j): {str(k): "\x00" * 50 for k in range(30)} for j in range(30)} for i in range(30)}},
    "many names": {f"name {n}": n for n in range(100_000)},
    "long names": {"d": {"\x00" * 10_000 + str(n): 1 for n in range(100)}},
    "many of control": {"text": "\x01" * 1_000_000, "more": ["\x02" * 5000] * 100},
}


@pytest.mark.parametrize("case", HUGE)
def test_however_much_is_given_little_is_written(case: str) -> None:
    shown, _ = plain_parameters(HUGE[case])
    assert 100 < len(to_json(shown)) <= PARAMETER_BYTES
    assert "cut" in str(shown) or "characters)" in str(shown)


def test_arguments_that_do_not_fit_are_for_the_attempt_to_refuse() -> None:
    keyed = main.with_options(key=lambda *args, **kwargs: "k")
    call: Any = keyed
    assert Beginning.of(call().take(), (), 0.25).parameters == {}


# run.json of other versions


def rewritten(change: Any) -> None:
    """Write run.json as another version would have."""
    store = memory_store(disk)
    record = from_json(run_json(store))
    del record["check"]
    change(record)
    body = to_json(record)
    check = blake2b(body, digest_size=16).hexdigest().encode()
    asyncio.run(store.folder.put("runs/it/000000/run.json", b'{"check":"%b",%b' % (check, body[1:])))


def as_of_old(record: dict[str, Any]) -> None:
    del record["beginning"]
    record["versions"] = {"holdfast": "0.0.9", "python": "3.11.0"}


def test_a_run_of_an_older_version_is_described_as_far_as_it_says() -> None:
    described(main(3))
    rewritten(as_of_old)
    found = memory_store(disk).describe_sync("it")
    assert (found.parameters, found.environment, found.engine, found.observers, found.poll_seconds) == ({}, {}, "", [], 0.0)
    assert found.versions == {"holdfast": "0.0.9", "python": "3.11.0", "source": source_digest(main.fn)}
    assert found.result.payload == 3


def test_a_run_of_an_older_version_goes_on() -> None:
    described(fails(3))
    rewritten(as_of_old)
    assert described(fails(3)).result.attempts == 2


def test_what_a_newer_version_adds_is_passed_over() -> None:
    def as_of_new(record: dict[str, Any]) -> None:
        record["beginning"]["weather"] = "fine"
        record["beyond"] = [1]

    before = described(main(3))
    rewritten(as_of_new)
    assert memory_store(disk).describe_sync("it") == before


@pytest.mark.parametrize("said", [3, [1], {"observers": 3}, {"poll_seconds": "often"}, {"parameters": 3}])
def test_a_beginning_that_nobody_writes_so_is_damage(said: Any) -> None:
    described(main(3))
    rewritten(lambda record: record.update(beginning=said))
    with pytest.raises(JournalDamaged):
        memory_store(disk).describe_sync("it")
