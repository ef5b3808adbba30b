"""What makes a pipeline, and what is refused where it is defined."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import STAGE_NAME_MAX_LENGTH, Retry, RetryPolicy, Stage, StageState, TaskOptions, parallel, pipeline, run, stage, task
from holdfast.errors import InvalidOption, InvalidPipeline, InvalidTask
from holdfast.folders.memory import MemoryDisk
from holdfast.testing.stores import memory_store


class State(StageState[Any]):
    number: int = 0


class Other(StageState[Any]):
    pass


async def body(state: State, earlier: Mapping[str, State]) -> None: ...


async def undo(state: State) -> None: ...


one: Any = stage(name="one")(body)
two: Any = stage(name="two")(body)
inner: Any = pipeline("inner", [one])


@task
async def a_task(state: State, earlier: Any) -> None: ...


class Subclass(Stage[State]):
    async def execute(self, state: State, earlier: Mapping[str, State]) -> None: ...


class Retried(Subclass):
    options: TaskOptions = {"retries": 3}  # noqa: RUF012


class Renamed(Subclass):
    options: TaskOptions = {"name": "other"}  # noqa: RUF012


REFUSED: list[tuple[str, Any, dict[str, Any], str]] = [
    ("", [one], {}, "its name takes a str that is not empty"),
    ("p", [], {}, "at least one stage"),
    ("p", "one", {}, "a list of stages"),
    ("p", one, {}, "a list of stages"),
    ("p", [one, parallel()], {}, "a parallel.* is empty"),
    ("p", [parallel(parallel())], {}, "a parallel.* is empty"),
    ("p", [one, one], {}, "two stages are named 'one'; give one of them @stage"),
    ("p", [one, parallel(two, stage(name="one")(body))], {}, "two stages are named 'one'"),
    ("p", [stage(name="x" * 151)(body)], {}, "has 151 characters, and may have 150"),
    ("p", [stage(name="x:undo")(body)], {}, "ends with ':undo'"),
    ("p", [body], {}, "is no stage; decorate it with @stage"),
    ("p", [a_task], {}, "is no stage; a task or pipeline is called in the body of a stage"),
    ("p", [one, inner], {}, "is no stage; a task or pipeline is called in the body of a stage"),
    ("p", [Subclass], {}, "is a class; put an instance"),
    ("p", [stage(retries=3)(body)], {}, "has retries=, which stages don't take: retry_policy= and max_attempts= of the pipeline"),
    ("p", [stage(retries=Retry(3))(body)], {}, "has retries="),
    ("p", [Retried()], {}, "'Retried' has retries="),
    ("p", [Renamed()], {}, "set its attribute `name`"),
    ("p", [stage(key=lambda *_: "k")(body)], {}, "the identity of a stage is its name"),
    ("p", [stage(rollback=a_task)(body)], {}, "write undo="),
    ("p", [one], {"max_attempts": 0}, "a whole number from 1 up"),
    ("p", [one], {"max_attempts": -1, "retry_policy": RetryPolicy.STAGE}, "a whole number from 1 up"),
    ("p", [one], {"max_attempts": True, "retry_policy": RetryPolicy.STAGE}, "a whole number from 1 up"),
    ("p", [one], {"max_attempts": 2.0, "retry_policy": RetryPolicy.STAGE}, "a whole number from 1 up"),
    ("p", [one], {"max_attempts": 2}, "by which a stage is tried once"),
    ("p", [one], {"max_attempts": 2, "retry_policy": "STAGE"}, "choose one of"),
    ("p", [one, two], {"retry_policy": RetryPolicy.GLOBAL}, "for 2 stages: .* could never finish; give at least 2"),
    ("p", [one, parallel(two, Subclass())], {"retry_policy": RetryPolicy.GLOBAL, "max_attempts": 2}, "max_attempts=2 for 3 stages"),
]


@pytest.mark.parametrize(("name", "stages", "options", "reason"), REFUSED)
def test_what_makes_no_pipeline_is_refused_where_it_is_defined(name: str, stages: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidPipeline, match=reason) as caught:
        pipeline(name, stages, **options)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("options", [{"retry_policy": RetryPolicy.GLOBAL, "max_attempts": 2}, {"retry_policy": RetryPolicy.STAGE}, {}])
def test_the_smallest_numbers_that_make_sense_are_taken(options: dict[str, Any]) -> None:
    assert pipeline("p", [one, two], **options).name == "p"


@pytest.mark.parametrize("what", [lambda state, earlier: None, 3, "body", a_task, Mapping])
def test_what_can_be_no_stage_is_refused_where_it_is_decorated(what: Any) -> None:
    with pytest.raises(InvalidTask):
        stage(what)


def test_a_class_without_execute_or_that_needs_arguments_is_refused() -> None:
    class Without: ...

    class Needs:
        def __init__(self, url: str) -> None: ...

        async def execute(self, state: State, earlier: Mapping[str, State]) -> None: ...

    class Plain:
        def execute(self, state: State, earlier: Mapping[str, State]) -> None: ...

    refused: list[tuple[Any, str]] = [(Without, "async def execute"), (Plain, "async def execute"), (Needs, "derive it from Stage")]
    for kind, reason in refused:
        with pytest.raises(InvalidTask, match=reason):
            stage(kind)


def test_an_undo_that_is_no_async_function_is_refused() -> None:
    with pytest.raises(InvalidTask, match="undo"):
        stage(undo=lambda state: None)(body)  # type: ignore[arg-type, return-value]


def test_functions_that_take_something_else_are_refused_where_they_are_decorated() -> None:
    async def of_a_state(state: State) -> None: ...

    async def of_both(state: State, earlier: Mapping[str, State]) -> None: ...

    class OfAState:
        async def execute(self, state: State) -> None: ...

    refused: list[Any] = [of_a_state, OfAState]
    for what in refused:
        with pytest.raises(InvalidTask, match="state, earlier"):
            stage(what)
    undos: list[Any] = [of_both, task(name="undo.of.both")(of_both)]
    for undo in undos:
        with pytest.raises(InvalidTask, match=r"async def undo\(state\)"):
            stage(undo=undo)(body)
    taken: list[Any] = [of_a_state, task(name="undo.of.a.state")(of_a_state)]
    for undo in taken:
        assert stage(undo=undo)(body).name == "body"


def test_an_unknown_option_is_refused_where_it_is_given() -> None:
    with pytest.raises(InvalidOption, match="there is no such option"):
        stage(retires=3)  # type: ignore[call-overload]
    with pytest.raises(InvalidOption):
        stage(timeout=-1)


def test_a_stage_is_named_by_its_function_its_class_or_its_option() -> None:
    class Named:
        name = "by itself"

        async def execute(self, state: State, earlier: Mapping[str, State]) -> None: ...

    assert stage(body).name == "body"
    assert one.name == "one"
    assert stage(Named).name == "by itself"
    assert Subclass().name == "Subclass"
    assert stage(Subclass).name == "Subclass"
    assert stage(name="s")(Subclass).name == "s"
    assert repr(one) == "<stage one>"
    assert one.__name__ == "body"


def test_a_stages_own_function_is_called_as_it_is() -> None:
    assert asyncio.run(one.execute(State(), {})) is None


def test_a_pipeline_that_is_called_wrongly_says_so_as_a_function_does() -> None:
    for wrong in ((), (State(), 3)):
        with pytest.raises(TypeError, match=r"inner\(\)"):
            asyncio.run(run(inner(*wrong), run_name="it", store=memory_store(MemoryDisk())))


def test_a_group_is_no_stage_to_be_executed() -> None:
    with pytest.raises(InvalidTask, match="put it into the list of a pipeline"):
        parallel(one, two).execute(State(), {}).send(None)


@given(names=st.lists(st.text(max_size=160), max_size=5))
def test_any_text_names_a_stage_that_is_unique_not_empty_and_not_too_long(names: list[str]) -> None:
    good = bool(names) and len(set(names)) == len(names) and all(0 < len(name) <= STAGE_NAME_MAX_LENGTH for name in names)
    good = good and not any(name.endswith(":undo") for name in names)

    class Any_(Subclass):  # noqa: N801
        def __init__(self, name: str) -> None:
            self.name = name

    try:
        made = pipeline("p", [Any_(name) for name in names])
    except InvalidPipeline:
        assert not good
    else:
        assert good
        assert list(made.plan.planned) == names  # type: ignore[attr-defined]


@given(name=st.text(min_size=1, max_size=STAGE_NAME_MAX_LENGTH).filter(lambda name: not name.endswith(":undo")))
def test_a_stage_of_any_name_runs_and_is_found_by_it(name: str) -> None:
    class Any_(Subclass):  # noqa: N801
        def __init__(self) -> None:
            self.name = name

    assert pipeline("any", [Any_()]).sync(State()).stage_name == name


# the class of its states


async def of_another(state: Other, earlier: Mapping[str, Other]) -> None: ...


def test_stages_of_two_state_classes_make_no_pipeline() -> None:
    mixed: Any = [one, stage(of_another)]
    with pytest.raises(InvalidPipeline, match=r"its stages take \w+ and \w+; all stages of a pipeline have one"):
        pipeline("p", mixed).sync(State())


class Wider(State):
    more: int = 0


async def of_wider(state: Wider, earlier: Mapping[str, Wider]) -> None: ...


async def of_any(state: StageState[Any], earlier: Mapping[str, StageState[Any]]) -> None: ...


def test_the_most_derived_class_that_stages_name_is_the_pipelines() -> None:
    several: Any = [one, stage(of_wider), stage(of_any)]
    assert type(pipeline("p", several).sync(Wider(more=1))) is Wider


def test_a_state_of_another_class_is_refused_before_a_stage_begins() -> None:
    for wrong in (Wider(), Other(), 3):
        given_: Any = wrong
        with pytest.raises(InvalidPipeline, match="its state class is State, and it was called with"):
            inner.sync(given_)


def test_stages_for_any_state_take_the_class_that_the_pipeline_is_called_with() -> None:
    loose: Any = pipeline("p", [stage(of_any)])
    assert type(loose.sync(Wider(more=1))) is Wider


def test_a_class_that_no_annotation_can_be_resolved_to_is_that_of_the_call() -> None:
    class Local(StageState[Any]):
        here: int = 1

    @stage
    async def local(state: Local, earlier: Mapping[str, Local]) -> None:
        state.here += 1

    assert pipeline("p", [local]).sync(Local()).here == 2
    with pytest.raises(InvalidPipeline, match="class of its state is not known"):
        pipeline("p", [local]).sync(3)  # type: ignore[arg-type]
