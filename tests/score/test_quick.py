"""A condition that is made quick says what the library says, whatever the data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.score import quick as quick_
from ensemble.score.condition import condition, parse
from ensemble.score.quick import Unsure, quick
from ensemble.testing import event
from tests.effort import some

NAMES = ("data", "key", "topic")
WHOLE = st.sampled_from([0, 1, 2, -1, 150, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63 + 5])
FRACTIONS = st.floats() | st.sampled_from([0.0, 1.0, 2.5])
VALUES: Any = st.recursive(
    st.none() | st.booleans() | WHOLE | FRACTIONS | st.text("ab", max_size=2) | st.binary(max_size=1),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)
DATA = st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=3) | VALUES

PATHS = st.sampled_from(["data.x", "data.y", "data.x.y", "data.x.y.z", "data", "key"])
LITERALS = st.sampled_from(["0", "1", "2", "150", "2.5", "1.0", "'a'", '"ab"', "true", "false", "null", "9007199254740993"])
TERMS = PATHS | LITERALS | st.builds(lambda path: f"size({path})", PATHS)
SUMS = TERMS | st.builds(lambda a, sign, b: f"{a} {sign} {b}", TERMS, st.sampled_from("+-*"), TERMS)
ATOMS = st.one_of(
    st.builds(lambda a, sign, b: f"{a} {sign} {b}", SUMS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), SUMS),
    st.builds(lambda a, b: f"{a} in [{b}, 2]", PATHS, st.sampled_from(["1", "'a'", "2.5", "-1"])),
    st.builds(lambda path: f"has({path})", st.sampled_from(["data.x", "data.x.y", "data.y"])),
    st.builds(lambda path, call: f"{path}.{call}('a')", PATHS, st.sampled_from(["startsWith", "endsWith", "contains"])),
    PATHS, LITERALS,
)  # fmt: skip
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(lambda a, sign, b: f"({a}) {sign} ({b})", inner, st.sampled_from(["&&", "||"]), inner),
        st.builds(lambda a: f"!({a})", inner),
        st.builds(lambda a, b, c: f"{a} && {b} || {c}", inner, inner, inner),
    ),
    max_leaves=4,
)


def by_the_library(text: str, names: dict[str, Any]) -> bool:
    try:
        return parse(text).execute(names) is True
    except Exception:
        return False


def held_equal(text: str, data: Any) -> None:
    made = quick(text, NAMES)
    if made is None:
        return
    names = {"data": data, "key": "ab", "topic": "t"}
    try:
        got = made[0](names)
    except KeyError:
        if made[1]:
            assert not by_the_library(text, names)
        return
    except (Unsure, TypeError):
        return
    assert got is by_the_library(text, names)


@settings(max_examples=some(1000), deadline=None)
@given(CONDITIONS, DATA)
def test_what_is_decided_quickly_is_what_the_library_says(text: str, data: Any) -> None:
    held_equal(text, data)


@pytest.mark.parametrize(
    ("name", "wrong", "text", "data"),
    [
        ("_same", lambda a, b: a == b, "data.x == 1", {"x": True}),
        ("_check_numbers", lambda a, b: None, "data.x < 2", {"x": True}),
        ("_alike", lambda a, b: None, "data.x + 1 == 2.5", {"x": 1.5}),
        ("_truth", bool, "data.x || data.y", {"x": 1, "y": False}),
    ],
)
def test_a_planted_bug_is_found(name: str, wrong: Any, text: str, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held_equal(text, data)

    monkeypatch.setattr(quick_, name, wrong)
    monkeypatch.setitem(quick_._HELP, name, wrong)

    with pytest.raises(AssertionError):
        held_equal(text, data)


@pytest.mark.parametrize(
    "text", ["data.total > 100", "data.a == 'x' && !has(data.b)", "data.n in [1, 2] || key.startsWith('o')"]
)
def test_the_common_part_is_made_quick(text: str) -> None:
    assert quick(text, NAMES) is not None


@pytest.mark.parametrize(
    "text",
    ["data.items.exists(i, i.n == 3)", "data.a[0] == 1", "data.x / 2 == 1", "data.x > 1 ? true : false", "'a\\n' == key"],
)
def test_what_has_more_in_it_is_left_to_the_library(text: str) -> None:
    assert quick(text, NAMES) is None
    assert condition(text)(event("a", {"items": [{"n": 3}], "a": [1], "x": 2})) is by_the_library(
        text, {"data": {"items": [{"n": 3}], "a": [1], "x": 2}, "key": ""}
    )
