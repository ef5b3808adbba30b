"""A call's arguments, however they are written, and the name of its place."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.identity import Signature, action_name, bind, digest_inputs, free_variables


def plain(x: int, y: str = "a") -> None: ...
def keyword_only(x: int, *, y: str = "a", z: int) -> None: ...
def positional_only(x: int, y: int = 2, /, z: int = 3) -> None: ...
def variadic(x: int, *args: int, y: int = 1, **kwargs: int) -> None: ...
def nothing() -> None: ...
def odd_default(x: Any = lambda: 1, y: "undefined = 3" = object) -> None: ...  # type: ignore[valid-type,syntax]  # noqa: F722


class Thing:
    def method(self, x: int) -> None: ...


FUNCTIONS: list[Callable[..., Any]] = [plain, keyword_only, positional_only, variadic, nothing, Thing.method, Thing().method]
CALLS = [
    (args, kwargs)
    for args in ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))
    for names in itertools.chain.from_iterable(itertools.combinations(("x", "y", "z", "q"), n) for n in range(4))
    for kwargs in [dict.fromkeys(names, 5)]
]


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_binding_takes_what_the_call_takes_and_refuses_in_its_words(fn: Callable[..., Any]) -> None:
    signature = Signature(fn)
    for args, kwargs in CALLS:
        refusal = refusal_of(fn, args, kwargs)
        if refusal is None:
            assert tuple(signature.bind(args, kwargs)) == signature.names
            continue
        with pytest.raises(TypeError) as caught:
            signature.bind(args, kwargs)
        if not hasattr(fn, "__self__"):  # Python counts self among the arguments, and the signature doesn't have it
            assert str(caught.value) == refusal


def refusal_of(fn: Callable[..., Any], args: tuple[int, ...], kwargs: dict[str, int]) -> str | None:
    try:
        fn(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "bound"),
    [
        (plain, (1,), {}, {"x": 1, "y": "a"}),
        (plain, (), {"y": "a", "x": 1}, {"x": 1, "y": "a"}),
        (variadic, (1, 2, 3), {"q": 4}, {"x": 1, "args": (2, 3), "y": 1, "kwargs": {"q": 4}}),
        (variadic, (1,), {}, {"x": 1, "args": (), "y": 1, "kwargs": {}}),
        (positional_only, (1,), {"z": 9}, {"x": 1, "y": 2, "z": 9}),
        (keyword_only, (1,), {"z": 9}, {"x": 1, "y": "a", "z": 9}),
        (odd_default, (), {"y": 1}, {"x": odd_default.__defaults__[0], "y": 1}),  # type: ignore[index]
        (nothing, (), {}, {}),
    ],
)
def test_arguments_come_by_name_with_defaults(fn: Callable[..., Any], args: Any, kwargs: Any, bound: dict[str, Any]) -> None:
    assert bind(Signature(fn), args, kwargs) == bound


def test_a_builtin_without_python_parameters_binds_too() -> None:
    assert Signature(divmod).bind((7, 2), {}) == {"x": 7, "y": 2}


def test_one_call_has_one_digest_however_it_is_written() -> None:
    signature = Signature(plain)
    ways: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((1,), {}),
        ((), {"x": 1}),
        ((1, "a"), {}),
        ((1,), {"y": "a"}),
        ((), {"y": "a", "x": 1}),
    ]
    assert len({digest_inputs("plain", signature.bind(args, kwargs)) for args, kwargs in ways}) == 1


def test_free_variables_are_named_and_empty_cells_are_marked() -> None:
    a, b = 1, [2]

    def closing() -> Any:
        return a, b, late

    found = free_variables(closing)
    assert (found["a"], found["b"]) == (1, [2])
    empty = digest_inputs("t", found)
    late = 3
    assert digest_inputs("t", free_variables(closing)) != empty
    assert free_variables(plain) == {}


def test_a_name_is_sixteen_base32_characters_and_never_changes() -> None:
    assert action_name("", "pkg.mod:index", b"d" + bytes(16), (), (), 0) == "cpj4r7kkcbdfat5h"
    assert action_name("abcdefgh12345678", "m:t", b"kkey", ("shards", "é"), (("a", "1"), ("b", "")), 3) == "b6e5n4fmnqlqkqau"


parts = st.text(alphabet="ab1:", max_size=3)
places = st.tuples(
    parts, parts, st.binary(max_size=3), st.lists(parts, max_size=2).map(tuple),
    st.lists(st.tuples(parts, parts), max_size=2).map(tuple), st.integers(0, 12),
)  # fmt: skip


@given(places, places)
def test_different_places_have_different_names(one: Any, other: Any) -> None:
    assert (action_name(*one) == action_name(*other)) == (one == other)


def test_a_hundred_thousand_calls_collide_nowhere() -> None:
    names = {action_name("p", "m:t", b"d" + n.to_bytes(16, "big"), (), (), occurrence) for n in range(20_000) for occurrence in range(5)}
    assert len(names) == 100_000


@pytest.mark.slow
def test_a_quarter_of_a_million_calls_collide_nowhere() -> None:
    names = {action_name("p", "m:t", b"d" + n.to_bytes(16, "big"), (), (), occurrence) for n in range(50_000) for occurrence in range(5)}
    assert len(names) == 250_000
