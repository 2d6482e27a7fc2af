"""The vocabulary: what may be said, and what is told to whom says it otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

import ensemble
from ensemble.errors import InvalidEvent, ScoreError
from ensemble.score.vocabulary import Vocabulary
from tests.score.players_of_shapes import Declined, Placed

TYPES = "tests.score.players_of_shapes"


class Refund(BaseModel):
    order_id: str
    cents: int


def vocabulary(events: dict[str, Any]) -> Vocabulary:
    return Vocabulary(ensemble.load({"name": "words", "events": events}))


SCHEMA = {
    "type": "object",
    "required": ["order_id"],
    "properties": {
        "order_id": {"type": "string"},
        "total": {"type": "number"},
        "at": {"type": "string", "format": "date-time"},
        "kind": {"enum": ["sale", "gift"]},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}},
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"total": 1}, "order.placed: data: 'order_id' is missing; it has 'total'"),
        ({"order_id": 7}, "order.placed: data.order_id: expected a string, found 7"),
        ({"order_id": "a", "kind": "gft"}, "order.placed: data.kind: expected one of ['sale', 'gift'], found 'gft'"),
        ({"order_id": "a", "extra": 1}, "order.placed: data: 'extra' is not expected there"),
        ({"order_id": "a", "lines": [{"n": 1}, {"n": 0}]}, "order.placed: data.lines.1.n: 0 is less than the minimum of 1"),
        (["a"], "order.placed: data: expected an object, found ['a']"),
        (None, "order.placed: data: expected an object, found None"),
        ({"order_id": "a", "at": "noon"}, 'order.placed: data.at: "noon" is not a "date-time"'),
    ],
)
def test_data_that_breaks_its_schema_is_refused_with_the_field_and_what_was_expected(data: Any, told: str) -> None:
    check = vocabulary({"order.placed": {"schema": SCHEMA}}).word("order.placed").check

    assert check is not None
    with pytest.raises(InvalidEvent) as caught:
        check(data)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    "data",
    [
        {"order_id": "a", "total": 1.5, "kind": "sale"},
        {"order_id": "a", "at": datetime(2026, 1, 1, tzinfo=UTC)},
        Placed("a", 3),
    ],
)
def test_data_that_keeps_its_schema_is_let_in_whatever_holds_it(data: Any) -> None:
    check = vocabulary({"order.placed": {"schema": SCHEMA}}).word("order.placed").check

    assert check is not None
    check(data)


def test_data_that_can_not_be_written_is_refused() -> None:
    check = vocabulary({"order.placed": {"schema": SCHEMA}}).word("order.placed").check

    assert check is not None
    with pytest.raises(InvalidEvent, match=r"^order.placed: data can't be written"):
        check({"order_id": object()})


@pytest.mark.parametrize(
    ("type_", "good", "instance", "bad", "told"),
    [
        (
            "Placed",
            {"order_id": "a", "total": 1},
            Placed("a"),
            {"order_id": "a", "total": "1"},
            "data.total: expected int, found str",
        ),
        ("Declined", {"order_id": "a", "reason": "x"}, Declined("a", "x"), {"order_id": "a"}, "missing required field reason"),
        ("Shipped", {"order_id": "a"}, {"order_id": "b"}, {"order_id": None}, "data.order_id: expected str, found null"),
    ],
)
def test_typed_events_take_instances_as_they_are_and_plain_data_that_fits(
    type_: str, good: Any, instance: Any, bad: Any, told: str
) -> None:
    check = vocabulary({"a": {"type": f"{TYPES}:{type_}"}}).word("a").check

    assert check is not None
    check(good)
    check(instance)
    with pytest.raises(InvalidEvent, match=told):
        check(bad)


def test_pydantic_models_are_types_too() -> None:
    word = vocabulary({"a": {"type": f"{__name__}:Refund"}}).word("a")

    assert word.check is not None
    assert word.type is Refund
    word.check({"order_id": "a", "cents": 5})
    word.check(Refund(order_id="a", cents=5))
    with pytest.raises(InvalidEvent, match=r"^a: data.cents: .*, found 'many'"):
        word.check({"order_id": "a", "cents": "many"})


@pytest.mark.parametrize(
    ("path", "data", "key"),
    [
        ("order_id", {"order_id": "o-1"}, "o-1"),
        ("data.order_id", {"order_id": "o-1"}, "o-1"),
        ("order.id", {"order": {"id": 7}}, "7"),
        ("n", {"n": 1.0}, "1"),
        ("n", {"n": 1.5}, "1.5"),
        ("n", {"n": True}, "true"),
        ("order_id", Placed("o-2"), "o-2"),
    ],
)
def test_a_key_is_read_out_of_data_as_text(path: str, data: Any, key: str) -> None:
    read = vocabulary({"a": {"key": path}}).word("a").key

    assert read is not None
    assert read(data) == key


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"other": 1}, "a: its key, data.order.id, is missing; data has 'other'"),
        ({"order": None}, "a: its key, data.order.id, is missing; data has 'order'"),
        ({"order": {"id": [1]}}, "a: its key, data.order.id, is a list, [1]; a key is text or a number"),
        ([1], "a: its key, data.order.id, is missing; data has nothing"),
        (None, "a: its key, data.order.id, is missing; data has nothing"),
        ("text", "a: its key, data.order.id, is missing; data has nothing"),
    ],
)
def test_a_key_that_is_not_there_is_told_by_its_path(data: Any, told: str) -> None:
    read = vocabulary({"a": {"key": "order.id"}}).word("a").key

    assert read is not None
    with pytest.raises(InvalidEvent) as caught:
        read(data)
    assert str(caught.value) == told


def test_what_an_entry_leaves_out_comes_from_the_wildcards_the_most_specific_first() -> None:
    words = vocabulary(
        {
            ">": {"key": "any", "schema": {"type": "object"}},
            "user.>": {"key": "below"},
            "user.*": {"key": "user_id"},
            "user.left": {"key": "who", "about": "gone"},
        }
    )

    def key(topic: str) -> str:
        read = words.word(topic).key
        assert read is not None
        return read({"any": "any", "below": "below", "user_id": "user_id", "who": "who"})

    assert [key(topic) for topic in ("user.left", "user.came", "user.name.changed", "order.placed")] == [
        "who", "user_id", "below", "any",
    ]  # fmt: skip
    check = words.word("user.left").check
    assert check is not None
    with pytest.raises(InvalidEvent):
        check("no object")
    assert words.word("_band.dead").check is None


def test_undeclared_topics_may_be_said_unchecked_and_a_word_is_made_once() -> None:
    words = vocabulary({"a": {"key": "id"}})

    assert words.word("b").check is None
    assert words.word("b").key is None
    assert words.word("a") is words.word("a")


def test_a_type_that_can_not_be_imported_stops_at_once() -> None:
    with pytest.raises(ScoreError, match=r"events\[a\].type: there is no module nowhere"):
        vocabulary({"a": {"type": "nowhere:Thing"}})


def test_what_passes_a_typed_check_can_be_written() -> None:
    check = vocabulary({"a": {"type": f"{TYPES}:Placed"}}).word("a").check

    assert check is not None
    check({"order_id": "a"})
    assert msgspec.msgpack.encode(Placed("a"))
