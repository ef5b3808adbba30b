"""Bad input: a clear error that says what to do instead, and nothing lost."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from holdfast import Status, Store, ctx, custom_context, run, run_sync, start, task
from holdfast.errors import (
    HoldfastError,
    InputsChanged,
    InvalidCall,
    InvalidContext,
    InvalidName,
    InvalidOption,
    NestedRun,
    NoLoop,
    RunBusy,
    RunExists,
    RunNotFound,
    StoreInvalid,
    UnrecordableResult,
    UnstableInput,
)

RAN: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


@dataclass
class Loose:
    handle: object


@dataclass
class Item:
    fp: object


@dataclass
class Result:
    items: list[Item]


@task
async def good(n: int = 1) -> int:
    RAN.append("good")
    return n


@task
def good_def(n: int = 1) -> int:
    RAN.append("good_def")
    return n


@task
async def takes(value: Any) -> None:
    RAN.append("takes")


@task
async def gives(what: str) -> Any:
    RAN.append("gives")
    return VALUES[what]


@task
async def gives_results() -> Result:
    return Result([Item(1), Item(2), Item(3), Item(threading.Lock())])


@task
async def gives_text() -> int:
    return "x"  # type: ignore[return-value]


@task
async def annotated_with_a_callable() -> Callable[[], int]:
    RAN.append("annotated")
    return lambda: 1


@task
async def annotated_with_an_open_file() -> threading.Thread:
    RAN.append("annotated")
    return threading.current_thread()


async def plain() -> int:
    return 1


VALUES: dict[str, Any] = {"lock": threading.Lock(), "deep": {"rows": [1, {"key": threading.Lock()}]}, "loose": [Loose(1)]}


def used() -> Any:
    call = good()
    asyncio.run(call)
    RAN.clear()
    return call


# what a run is given

OTHERS: list[tuple[str, Callable[[], Any], str]] = [
    ("a result", lambda: 1, r"1; a def task, called plainly, gives its result, so write run_sync\(main\.call\("),
    ("None", lambda: None, r"None; .*main\.call\("),
    ("a task", lambda: good, r"the task .*good itself; call it"),
    ("a def task", lambda: good_def, r"the task .*good_def itself; call it"),
    ("a plain coroutine", plain, r"a plain coroutine of plain; decorate the function with @task"),
    ("a function", lambda: plain, r"the function plain; decorate it with @task, and call it"),
    ("a used call", used, r"a call of .*good that was used already; call the task again"),
]


@pytest.mark.parametrize(("make", "says"), [row[1:] for row in OTHERS], ids=[row[0] for row in OTHERS])
def test_a_run_takes_a_fresh_call(tmp_path: Path, make: Callable[[], Any], says: str) -> None:
    with pytest.raises(InvalidCall, match=rf"run_sync takes a fresh call, such as run_sync\(main\(\.\.\.\)\), but got {says}"):
        run_sync(make(), store=tmp_path, run_name="r")
    assert list(tmp_path.iterdir()) == []
    for verb in (run, start):
        with pytest.raises(InvalidCall, match=rf"^{verb.__name__} takes"):  # type: ignore[attr-defined]
            asyncio.run(verb(make(), store=tmp_path, run_name="r"))  # type: ignore[operator]


OPTIONS: list[tuple[dict[str, Any], type[HoldfastError], str]] = [
    ({"name": "x"}, InvalidOption, "name='x': there is no such option; there are run_name, store"),
    ({"resume": "yes"}, InvalidOption, "resume='yes': choose one of auto, never, must, restart, takeover"),
    ({"resume": None}, InvalidOption, "resume=None: choose one of"),
    ({"durability": "none"}, InvalidOption, "durability='none': choose 'fsync' or 'flush'"),
    ({"grace": -1}, InvalidOption, "grace=-1: give seconds from 0 up"),
    ({"grace": "1"}, InvalidOption, "grace='1': give seconds as a number"),
    ({"raw_data_path": 3}, InvalidOption, "raw_data_path=3: it takes a path or a URL"),
    ({"observers": 3}, InvalidOption, "observers=3: it takes a list"),
    ({"observers": [print]}, InvalidOption, r"observers=<.*print>: an observer has a method on_event\(event\)"),
    ({"custom_context": {"tenant": 1}}, InvalidContext, r"tenant=.*takes a str, but got int; write tenant=str\(value\)"),
    ({"custom_context": "tenant"}, InvalidOption, "custom_context='tenant': it takes a dict"),
    ({"custom_context": {1: "x"}}, InvalidOption, "custom_context={1: 'x'}: it takes a dict of names"),
    ({"run_name": "a/b"}, InvalidName, "run_name 'a/b' .*holds '/'.*'a-b' would do"),
    ({"run_name": ".."}, InvalidName, r"run_name '\.\.' .*begins with '\.', and has to begin with a letter or a digit"),
    ({"run_name": "a b"}, InvalidName, "run_name 'a b' .*holds ' '.*'a-b' would do"),
    ({"run_name": " "}, InvalidName, "holds ' '"),
    ({"run_name": ""}, InvalidName, "it is empty"),
    ({"run_name": "x" * 10_000}, InvalidName, "it has 10000 characters, and may have 128; 'x{128}' would do"),
    ({"run_name": 3}, InvalidName, "run_name 3 .*a str, not int"),
    ({"store": "s4://bucket/x"}, StoreInvalid, "s4://bucket/x can't be a store: nobody knows the scheme s4:"),
    ({"store": "memry:"}, StoreInvalid, "nobody knows the scheme memry:.*did you mean memory:"),
    ({"store": "file://host/x"}, StoreInvalid, r"write file:///host/\.\.\. or the plain path"),
    ({"store": ""}, StoreInvalid, "'' can't be a store: it is not a path"),
    ({"store": 3}, StoreInvalid, "3 can't be a store: it takes a path or a URL"),
    ({"store": b"x"}, StoreInvalid, "b'x' can't be a store: it takes a path or a URL"),
]


@pytest.mark.parametrize(("options", "error", "says"), OPTIONS, ids=[str(row[0])[:40] for row in OPTIONS])
def test_an_option_that_it_can_t_have_is_refused_before_anything_happens(
    tmp_path: Path, options: dict[str, Any], error: type[HoldfastError], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        run_sync(good(), **{"store": tmp_path, "run_name": "r", **options})
    assert RAN == []
    assert list(tmp_path.iterdir()) == []
    assert len(str(caught.value)) < 600


def test_names_that_differ_in_case_alone_are_one_name(tmp_path: Path) -> None:
    run_sync(good(), store=tmp_path, run_name="Nightly")
    with pytest.raises(InvalidName, match=r"'nightly' .*there is a run 'Nightly', which differs in case alone"):
        run_sync(good(), store=tmp_path, run_name="nightly")
    assert run_sync(good(), store=tmp_path, run_name="Nightly") == 1
    assert RAN == ["good"]


def test_another_spelling_that_the_store_takes_for_the_same_is_refused(tmp_path: Path) -> None:
    run_sync(good(), store=tmp_path, run_name="Nightly")
    (tmp_path / "runs" / "Nightly").rename(tmp_path / "runs" / "nightly")  # what a store without cases would find under that name
    with pytest.raises(InvalidName, match=r"'nightly' .*the run's name is spelled 'Nightly'"):
        run_sync(good(), store=tmp_path, run_name="nightly")
    assert RAN == ["good"]


@pytest.mark.parametrize("verb", ["state_sync", "stop_sync", "cancel_sync"])
def test_reading_and_steering_refuse_what_is_no_name_and_what_is_not_there(tmp_path: Path, verb: str) -> None:
    store = Store(tmp_path)
    with pytest.raises(InvalidName, match=r"'\.\./x'"):
        getattr(store, verb)("../x")
    with pytest.raises(RunNotFound, match=r"no run 'nightly' in file:.*runs\(\)` lists them"):
        getattr(store, verb)("nightly")


# the store


@pytest.mark.parametrize("below", ["", "x"])
def test_a_store_that_is_a_file_is_refused_and_the_file_left_alone(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(StoreInvalid, match=r"file.* can't be a store: a file stands where a folder has to be.*name another place"):
        run_sync(good(), store=file / below if below else file, run_name="r")
    assert (file.read_text(), RAN) == ("mine", [])


READ_ONLY = """
import os, sys
import holdfast as hf
@hf.task(name="good")
async def good() -> int: return 1
def once(store): return hf.run_sync(good(), store=store, run_name="r")
once(sys.argv[1])  # imports all that a run needs
if os.getuid() == 0:  # a mode refuses root nothing: go on as nobody
    os.setgid(65534); os.setuid(65534)
try:
    once(sys.argv[2])
except hf.HoldfastError as error:
    print(type(error).__name__, isinstance(error, PermissionError), error)
"""


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are for their owner alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.name != "posix", reason="modes of folders are POSIX's")
def test_a_read_only_store_is_refused_with_the_place(open_path: Path) -> None:
    store = open_path / "store"
    store.mkdir(mode=0o555)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(open_path / "other"), str(store)],
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.startswith("StorePermission True "), done.stderr
    assert f"{store.as_uri()}/runs" in done.stdout
    assert "permission denied" in done.stdout
    assert "check owner and mode of the folder, or choose another store" in done.stdout
    assert list(store.iterdir()) == []


# the same name, and something else


@task
async def told(docs: list[str], limit: int = 10) -> list[str]:
    RAN.append("told")
    return docs


@pytest.mark.parametrize(
    ("call", "options", "says"),
    [
        (lambda: told(["b"]), {}, "another argument docs: digest .* then, digest .* now"),
        (lambda: told(["a"], limit=3), {}, "another argument limit: digest .* then, digest .* now"),
        (lambda: good(), {}, r"another task: .*told then, .*good now"),
        (lambda: told.with_options(name="told-renamed")(["a"]), {}, r"another task: .*told then, told-renamed now"),
        (lambda: told(["a"]), {"custom_context": {"tenant": "b"}}, "another custom context tenant: 'a' then, 'b' now"),
        (lambda: told(["a"]), {"custom_context": {"tenant": "a", "more": "1"}}, "another custom context more: None then, '1' now"),
    ],
)
def test_other_inputs_context_or_task_under_a_name_are_refused_by_what_differs(
    tmp_path: Path, call: Callable[[], Any], options: dict[str, Any], says: str
) -> None:
    def first() -> Any:
        return run_sync(told(["a"]), store=tmp_path, run_name="r", custom_context={"tenant": "a"})

    assert first() == ["a"]
    with pytest.raises(InputsChanged, match=rf"run 'r' was begun with {says}; take another run_name, or resume='restart'"):
        run_sync(call(), store=tmp_path, run_name="r", **options)
    assert first() == ["a"]  # nothing lost
    assert RAN == ["told"]
    assert run_sync(call(), store=tmp_path, run_name="r", resume="restart", **options)


def test_a_run_that_has_to_be_there_or_must_not_be(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match="no run 'r'"):
        run_sync(good(), store=tmp_path, run_name="r", resume="must")
    run_sync(good(), store=tmp_path, run_name="r")
    with pytest.raises(RunExists, match=r"run 'r' exists already .*another run_name, or another `resume`") as caught:
        run_sync(good(), store=tmp_path, run_name="r", resume="never")
    assert isinstance(caught.value, FileExistsError)
    assert RAN == ["good"]


GATE: dict[str, asyncio.Event] = {}


@task
async def held() -> int:
    GATE["began"].set()
    await GATE["release"].wait()
    return 1


def test_a_second_owner_is_told_who_runs_it(tmp_path: Path) -> None:
    program = (
        "import sys, holdfast as hf\n"
        f"@hf.task(name={held.name!r})\nasync def held() -> int: return 2\n"
        "try: hf.run_sync(held(), store=sys.argv[1], run_name='r')\n"
        "except hf.HoldfastError as error: print(type(error).__name__, error)\n"
    )
    env = {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PATH": os.environ["PATH"]}

    async def main() -> int:
        GATE["began"], GATE["release"] = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(run(held(), store=tmp_path, run_name="r"))
        await GATE["began"].wait()
        with pytest.raises(RunBusy, match=rf"process {os.getpid()} on .* since .*Store\.stop\('r'\)`.*resume='takeover'"):
            await run(held(), store=tmp_path, run_name="r")
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(tmp_path), env=env, stdout=asyncio.subprocess.PIPE
        )  # fmt: skip
        printed, _ = await other.communicate()
        assert printed.decode().startswith(f"RunBusy run 'r' is being run by process {os.getpid()} on ")
        GATE["release"].set()
        return await running

    assert asyncio.run(main()) == 1


def test_a_task_that_is_gone_leaves_what_it_recorded_and_the_run_goes_on(tmp_path: Path) -> None:
    first = True

    @task(name="child")
    async def child() -> int:
        return 1

    @task(name="renamed")
    async def renamed() -> int:
        return 2

    async def program() -> int:
        if first:
            await child()
            raise RuntimeError("interrupted")
        return await renamed()

    root = running(program)
    with pytest.raises(RuntimeError, match="interrupted"):
        run_sync(root(), store=tmp_path, run_name="r")
    first = False
    assert run_sync(root(), store=tmp_path, run_name="r") == 2
    state = Store(tmp_path).state_sync("r")
    assert [state.actions[name].task_name for name in state.orphaned] == ["child"]


PROGRAMS: list[Callable[[], Any]] = []


@task
async def program_of() -> Any:
    return await PROGRAMS[-1]()


def running(program: Callable[[], Any]) -> Any:
    PROGRAMS.append(program)
    return program_of


# inside a task


@task
async def nests(verb: str, store: str) -> Any:
    if verb == "run":
        return await run(good(), store=store, run_name="inner")
    if verb == "start":
        return await start(good(), store=store, run_name="inner")
    return run_sync(good(), store=store, run_name="inner")


@task
def nests_in_a_thread(verb: str, store: str) -> Any:
    return run_sync(good(), store=store, run_name="inner")


@pytest.mark.parametrize(("outer", "verb", "named"), [
    (nests, "run", "run"), (nests, "start", "start"), (nests, "run_sync", "run"), (nests_in_a_thread, "run_sync", "run"),
])  # fmt: skip
@pytest.mark.parametrize("durable", [True, False])
def test_a_run_has_no_runs_inside(tmp_path: Path, outer: Any, verb: str, named: str, durable: bool) -> None:
    call = outer.call(verb, str(tmp_path))
    says = rf"^{named}\(\.\.\.\) inside the task {outer.name}: a run has no runs inside; await the call itself"
    with pytest.raises(NestedRun, match=says):
        run_sync(call, store=tmp_path, run_name="outer") if durable else asyncio.run(call)
    assert RAN == []


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: takes(threading.Lock()), r"takes: argument value has no stable digest .*lock.*dataclass.*@task\(key="),
        (lambda: takes([1, {"a": object()}]), r"argument value\[1\]\['a'\] "),
        (lambda: takes(Loose(lambda: 1)), r"argument value\.handle .*lambda"),
    ],
)
def test_an_input_without_a_digest_is_refused_by_its_place(tmp_path: Path, call: Callable[[], Any], says: str) -> None:
    with pytest.raises(UnstableInput, match=says):
        run_sync(call(), store=tmp_path, run_name="r")
    assert RAN == []


@pytest.mark.parametrize("each", [annotated_with_a_callable, annotated_with_an_open_file])
def test_an_annotation_that_can_t_be_recorded_is_refused_before_the_body(tmp_path: Path, each: Any) -> None:
    with pytest.raises(UnrecordableResult, match=rf"{each.__name__}: its annotation .* can't be recorded: "):
        run_sync(each(), store=tmp_path, run_name="r")
    assert RAN == []


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gives("lock"), r"gives: result can't be recorded: .*lock.*codec='pickle'"),
        (lambda: gives("deep"), r"gives: result\['rows'\]\[1\]\['key'\] can't be recorded: .*lock"),
        (lambda: gives("loose"), r"gives: result\[0\] can't be recorded: .*Loose.*annotate the task's result"),
        (lambda: gives_results(), r"gives_results: result\.items\[3\]\.fp can't be recorded: .*lock"),
        (lambda: gives_text(), r"gives_text: result can't be recorded: .*str is not valid as int; return what the annotation says"),
    ],
)
def test_a_value_that_would_not_come_back_fails_with_the_path_to_the_part(tmp_path: Path, call: Callable[[], Any], says: str) -> None:
    with pytest.raises(UnrecordableResult, match=says):
        run_sync(call(), store=tmp_path, run_name="r")
    assert Store(tmp_path).state_sync("r").status is Status.FAILED


def test_a_context_value_that_is_no_str_is_refused_in_a_body(tmp_path: Path) -> None:
    async def program() -> None:
        with custom_context(tenant=3):  # type: ignore[arg-type]
            await good()

    with pytest.raises(InvalidContext, match="tenant"):
        run_sync(running(program)(), store=tmp_path, run_name="r")
    assert RAN == []


# loops


def test_without_a_loop_the_error_says_what_to_use(tmp_path: Path) -> None:
    with pytest.raises(NoLoop, match=r"await good\(\.\.\.\) needs a running asyncio event loop; use asyncio\.run.*run_sync.*\.sync"):
        good().send(None)
    with pytest.raises(NoLoop, match=r"run\(\.\.\.\) needs a running asyncio event loop"):
        run(good(), store=tmp_path).send(None)


def test_on_trio_s_loop_the_error_names_it_and_blocking_works(tmp_path: Path) -> None:
    trio = pytest.importorskip("trio")

    async def awaits() -> None:
        await good()

    async def runs() -> None:
        await run(good(), store=tmp_path, run_name="r")

    async def blocks() -> list[int]:
        return [good.sync(1), good_def(2)]

    for each in (awaits, runs):
        with pytest.raises(NoLoop, match=r"and this is trio's; Holdfast runs on asyncio: start it with asyncio\.run"):
            trio.run(each)
    assert RAN == []
    assert trio.run(blocks) == [1, 2]


# leaving


@task
async def leaves(how: str, flag: str) -> str:
    await good()
    if not os.path.exists(flag):  # noqa: PTH110, ASYNC240
        open(flag, "x").close()  # noqa: PTH123, ASYNC230
        raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt("mine")}[how]
    return "went on"


@task
def leaves_in_a_thread(how: str, flag: str) -> str:
    good.sync()
    if not Path(flag).exists():
        Path(flag).touch()
        raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt("mine")}[how]
    return "went on"


@pytest.mark.parametrize("each", [leaves, leaves_in_a_thread])
@pytest.mark.parametrize(("how", "kind"), [("exit", SystemExit), ("interrupt", KeyboardInterrupt)])
def test_leaving_the_process_from_a_body_stops_the_run_and_the_same_line_goes_on(
    tmp_path: Path, each: Any, how: str, kind: type[BaseException]
) -> None:
    def once() -> Any:
        return run_sync(each.call(how, str(tmp_path / "flag")), store=tmp_path, run_name="r")

    with pytest.raises(kind) as caught:
        once()
    assert caught.value.args in ((3,), ("mine",))
    assert Store(tmp_path).state_sync("r").status is Status.STOPPED
    assert once() == "went on"
    assert RAN == ["good"]


@pytest.mark.parametrize("each", [leaves, leaves_in_a_thread])
@pytest.mark.parametrize(("how", "kind"), [("exit", SystemExit), ("interrupt", KeyboardInterrupt)])
def test_leaving_the_process_from_a_body_outside_a_run_leaves_it(tmp_path: Path, each: Any, how: str, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        asyncio.run(each.call(how, str(tmp_path / "flag")))
    (tmp_path / "flag").unlink()
    with pytest.raises(kind):
        each.sync(how, str(tmp_path / "flag"))


# what stays


def test_after_every_refusal_the_next_good_line_works(tmp_path: Path) -> None:
    for options in ({"resume": "yes"}, {"observers": [print]}, {"custom_context": {"a": 1}}):
        with pytest.raises(HoldfastError):
            run_sync(good(), store=tmp_path, run_name="r", **options)
    assert run_sync(good(), store=tmp_path, run_name="r") == 1
    (asked,) = tmp_path.glob("runs/r/*/run.json")
    assert json.loads(asked.read_text())["run_name"] == "r"
    assert ctx() is None
