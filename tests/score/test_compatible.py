"""Whether a schema takes what another took is told rightly: each keyword by itself, and against data drawn by chance."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ensemble.score import compatible
from ensemble.score.compatible import changes
from ensemble.score.vocabulary import schema_of
from tests.effort import some


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def required(*names: str, **properties: Any) -> dict[str, Any]:
    return {**of(**properties), "required": list(names)}


CLOSED = {"additionalProperties": False}
TEXT, NUMBER, WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("old", "new", "told", "takes_old", "is_known"),
    [
        (of(a=TEXT), required("a", a=TEXT), "data.a is required now, and may be missing in what was said", False, True),
        (of(), required("a", a=TEXT), "data.a is new, and required", False, True),
        (of(), of(a=TEXT), "data.a is new", True, True),
        (required("a", a=TEXT), of(a=TEXT), "data.a may be missing now", True, False),
        (of(a=TEXT), of(), "data.a is not there any more", True, False),
        ({**of(a=TEXT), **CLOSED}, {**of(), **CLOSED}, "data.a is not allowed any more", False, False),
        (of(a=NUMBER), of(a=WHOLE), "data.a was number, and is integer now", False, True),
        (of(a=WHOLE), of(a=NUMBER), "data.a was integer, and is number now", True, False),
        (of(a=TEXT), of(a=NUMBER), "data.a was string, and is number now", False, False),
        (of(a=TEXT), of(a={"type": ["string", "null"]}), "data.a was string, and is null or string now", True, False),
        (of(a={"enum": ["x", "y"]}), of(a={"enum": ["x"]}), "data.a can't be 'y' any more", False, True),
        (of(a={"enum": ["x"]}), of(a={"enum": ["x", "y"]}), "data.a may be 'y' now", True, False),
        (of(a={"enum": ["x"]}), of(a={}), "data.a may be anything now, not only 'x'", True, False),
        (of(a={}), of(a={"const": 1}), "data.a may only be 1 now", False, True),
        (of(a={"minimum": 1}), of(a={"minimum": 2}), "data.a has minimum: 2, and had 1", False, True),
        (of(a={"minimum": 2}), of(a={"minimum": 1}), "data.a has minimum: 1, and had 2", True, True),
        (of(a={"maxLength": 9}), of(a={}), "data.a has maxLength: none, and had 9", True, True),
        (of(b=of(a=TEXT)), of(b=of(a=NUMBER)), "data.b.a was string, and is number now", False, False),
        (
            of(b={"type": "array", "items": of(a=TEXT)}),
            of(b={"type": "array", "items": required("a", a=TEXT)}),
            "data.b[].a is required now, and may be missing in what was said",
            False,
            True,
        ),
    ],
)
def test_a_change_is_told_with_its_field_and_whom_it_breaks(
    old: Any, new: Any, told: str, takes_old: bool, is_known: bool
) -> None:
    [change] = changes(old, new)

    assert (str(change), change.takes_old, change.is_known) == (told, takes_old, is_known)


@pytest.mark.parametrize("keyword", ["pattern", "format", "multipleOf", "not", "if", "allOf", "propertyNames"])
def test_what_can_not_be_judged_counts_as_breaking_where_it_is_new_or_changed(keyword: str) -> None:
    [change] = changes(of(a={}), of(a={keyword: "x"}))
    assert not change.takes_old
    [change] = changes(of(a={keyword: "x"}), of(a={}))
    assert change.takes_old


def test_words_that_refuse_nothing_are_no_change() -> None:
    assert changes({"title": "a", "x-own": 1, **of(a=TEXT)}, {"description": "b", **of(a={**TEXT, "default": ""})}) == []


class Address(msgspec.Struct):
    street: str
    next: Address | None = None


class Old(msgspec.Struct):
    total: int
    where: Address
    note: str | None = None


class New(msgspec.Struct):
    total: float
    where: Address
    currency: str
    note: str = ""


def test_types_are_compared_by_the_schemas_that_they_make_though_they_hold_themselves() -> None:
    told = [str(change) for change in changes(schema_of(Old) or {}, schema_of(New) or {}) if not change.takes_old]

    assert told == ["data.note was null or string, and is string now", "data.currency is new, and required"]
    assert changes(schema_of(Old) or {}, schema_of(Old) or {}) == []


# Against data

NAMES = ["a", "b"]
leaf = st.one_of(
    st.builds(
        lambda kinds: {"type": kinds},
        st.lists(st.sampled_from(["string", "integer", "number", "null"]), min_size=1, unique=True),
    ),
    st.builds(
        lambda options: {"enum": options}, st.lists(st.sampled_from(["x", "y", 1, None]), min_size=1, max_size=3, unique=True)
    ),
    st.builds(lambda least: {"type": "integer", "minimum": least}, st.integers(0, 2)),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 2)),
    st.just({}),
    st.just({"anyOf": [{"type": "string"}, {"type": "null"}]}),
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda properties, needed, closed: {
            "type": "object",
            "properties": properties,
            "required": needed,
            **({"additionalProperties": False} if closed else {}),
        },
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
        st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
        st.booleans(),
    ) | st.builds(lambda items: {"type": "array", "items": items}, inner)


SCHEMAS = objects(st.recursive(leaf, objects, max_leaves=4))
FIELDS = st.builds(lambda needed, field: required(*needed, a=field), st.sampled_from([(), ("a",), ("b",)]), leaf)
VALUES = st.sampled_from(["", "x", "y", "xyz", 0, 1, 2, 1.5, None])
DATA = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*NAMES, "c"]), inner, max_size=3),
    max_leaves=5,
)


def declared(schema: Any, data: Any) -> Any:
    """Data without fields of which its schema says nothing: that one is declared, and may be missing, is no break."""
    if isinstance(data, list):
        return [declared(schema.get("items", {}), each) for each in data]
    if not isinstance(data, dict) or "properties" not in schema:
        return data
    known = schema["properties"]
    said = {*known, *schema["required"]}
    return {name: declared(known.get(name, {}), each) for name, each in data.items() if name in said}


def check(old: Any, new: Any, data: Any) -> None:
    data = declared(old, data)
    if not jsonschema_rs.Draft202012Validator(old).is_valid(data):
        return
    if all(change.takes_old for change in changes(old, new)):
        assert jsonschema_rs.Draft202012Validator(new).is_valid(data), (old, new, data)


@settings(max_examples=some(400), deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, SCHEMAS, DATA)
def test_data_that_fitted_fits_wherever_no_change_says_that_it_may_not(old: Any, new: Any, data: Any) -> None:
    check(old, new, data)


@pytest.mark.parametrize("bug", ["_types", "_options", "_bounds", "_properties"])
def test_a_kind_of_change_that_is_overlooked_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compatible._Pair, bug, lambda self, old, new, path: iter(()))

    @settings(max_examples=3000, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(FIELDS, FIELDS, VALUES)
    def overlooked(old: Any, new: Any, data: Any) -> None:
        check(old, new, {"a": data})

    with pytest.raises((AssertionError, ExceptionGroup)):
        overlooked()
