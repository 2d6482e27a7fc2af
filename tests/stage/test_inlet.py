"""The way in says what is wrong with an event before anything of it is kept."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble import InvalidEvent
from ensemble.motif import LONGEST_TOPIC
from ensemble.score import Score
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.inlet import Inlet, InletBatch, check_topic


@pytest.fixture
def batch() -> InletBatch:
    return Inlet(Vocabulary(Score(name="test")), "/test").batch()


@pytest.mark.parametrize("topic", ["a", "order.placed", "_own.topic", "a-b.c_d.9", "x" * LONGEST_TOPIC])
def test_a_topic_is_tokens_with_dots_between_them(topic: str) -> None:
    check_topic(topic)


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        (7, "is not text"),
        ("order.*", "is a pattern"),
        ("order.>", "is a pattern"),
        ("", "is not a topic"),
        (".a", "is not a topic"),
        ("a..b", "is not a topic"),
        ("a b", "is not a topic"),
        ("a.b\n", "is not a topic"),
        ("x" * (LONGEST_TOPIC + 1), f"at most {LONGEST_TOPIC} characters"),
        ("_band.dead", "only the band itself says"),
    ],
)
def test_what_is_no_topic_is_told_with_what_it_should_be(topic: Any, words: str) -> None:
    with pytest.raises(InvalidEvent, match=words):
        check_topic(topic)


@pytest.mark.parametrize(
    ("field", "hint"), [("dta", "did you mean 'data'? "), ("tpic", "did you mean 'topic'? "), ("zebra", "")]
)
def test_an_unknown_field_is_told_with_the_nearest_that_there_is(batch: InletBatch, field: str, hint: str) -> None:
    with pytest.raises(InvalidEvent) as told:
        batch.add_item({"topic": "said", field: 1})

    assert str(told.value) == f"unknown field {field!r}; {hint}an event has topic, data, key, id and time"
    assert len(batch) == 0


@pytest.mark.parametrize("given", [{"id": ""}, {"id": 7}, {"time": "yesterday"}, {"time": 7}, {"key": 7}])
def test_an_event_that_is_refused_leaves_nothing_behind(batch: InletBatch, given: dict[str, Any]) -> None:
    batch.add("said", 1, key="a", id="i-1")

    with pytest.raises(InvalidEvent):
        batch.add("said", 2, **given)
    batch.add("said", 3, key="b")

    said = batch.said()
    assert (said.keys, len(said.data), said.extras) == (["a", "b"], 2, {0: {"id": "i-1"}})
