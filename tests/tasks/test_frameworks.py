"""Frameworks take a task for the function that it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import ctx, run, task

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")
background = pytest.importorskip("starlette.background")
responses = pytest.importorskip("starlette.responses")

NOTED: list[Any] = []


@task
async def double(n: int) -> int:
    await asyncio.sleep(0)
    return n * 2


@task
def halve(n: int) -> int:
    return n // 2


@task
async def note(what: str) -> None:
    NOTED.append((what, ctx() is not None))


@task
def note_in_a_thread(what: str) -> None:
    NOTED.append((what, ctx() is not None))


@task
async def whole(n: int) -> list[int]:
    return [await double(n), await halve.call(n)]


def client(*routes: tuple[str, Callable[..., Any]]) -> Any:
    app = fastapi.FastAPI()
    for path, route in routes:
        app.get(path)(route)
    return testclient.TestClient(app)


def test_an_async_task_is_a_route() -> None:
    with client(("/double", double)) as http:
        assert http.get("/double", params={"n": "21"}).json() == 42
        assert http.get("/double", params={"n": "x"}).status_code == 422


def test_a_def_task_is_a_route() -> None:
    with client(("/halve", halve)) as http:
        assert http.get("/halve", params={"n": "42"}).json() == 21


def test_a_route_calls_tasks_of_both_colours() -> None:
    async def route(n: int) -> list[int]:
        return [await double(n), await halve.call(n), halve(n), double.sync(n)]

    def route_in_a_thread(n: int) -> list[int]:
        return [halve(n), double.sync(n)]

    with client(("/async", route), ("/def", route_in_a_thread)) as http:
        assert http.get("/async", params={"n": "4"}).json() == [8, 2, 2, 8]
        assert http.get("/def", params={"n": "4"}).json() == [2, 8]


def test_a_route_runs_a_call_durably(tmp_path: Path) -> None:
    async def route(n: int) -> list[int]:
        return await run(whole(n), run_name=f"n{n}", store=tmp_path)

    with client(("/run", route)) as http:
        assert [http.get("/run", params={"n": "4"}).json() for _ in range(2)] == [[8, 2], [8, 2]]


@pytest.mark.parametrize("noting", [note, note_in_a_thread])
def test_a_task_is_a_background_task(noting: Any) -> None:
    NOTED.clear()

    async def route() -> Any:
        return responses.JSONResponse("ok", background=background.BackgroundTask(noting, "done"))

    async def with_fastapi_s(tasks: fastapi.BackgroundTasks) -> str:
        tasks.add_task(noting, "too")
        return "ok"

    with_fastapi_s.__annotations__["tasks"] = fastapi.BackgroundTasks
    with client(("/", route), ("/more", with_fastapi_s)) as http:
        assert http.get("/").json() == "ok"
        assert http.get("/more").json() == "ok"
    assert NOTED == [("done", True), ("too", True)]


def test_a_task_is_a_dependency() -> None:
    async def route(doubled: int = fastapi.Depends(double)) -> int:
        return doubled

    with client(("/", route)) as http:
        assert http.get("/", params={"n": "3"}).json() == 6


# pytest-asyncio


@pytest.mark.asyncio
async def test_a_test_awaits_calls() -> None:
    assert await asyncio.gather(double(1), halve.call(4)) == [2, 2]


@pytest.mark.asyncio
@task
async def test_a_task_is_a_test() -> None:
    assert ctx().attempt_number == 0
    assert await double(2) == 4


@pytest.mark.asyncio
@pytest.mark.parametrize("n", [1, 2])
@task(retries=1)
async def test_a_task_is_a_test_with_parameters(n: int, tmp_path: Path) -> None:
    assert await double(n) == 2 * n
    assert isinstance(tmp_path, Path)


@pytest.mark.anyio
async def test_a_test_of_anyio_s_plugin_awaits_calls(anyio_backend_name: str) -> None:
    assert anyio_backend_name == "asyncio"
    assert await double(1) == 2


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
