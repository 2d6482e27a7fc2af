"""A player's `on:`, `order:` and `by:`, made ready for the broker."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble.listening import listener
from ensemble.motif import Topic
from ensemble.score.model import PlayerSpec
from ensemble.score.vocabulary import key_reader
from ensemble.testing import event


def lane(data: Any, by: str = "n") -> str:
    """The lane of an event with this data, by a path into it."""
    heed = listener(PlayerSpec(name="play", on=Topic("said"), by=by)).heed(event("said", data, key="its-key")._rows)
    return heed.keys[0]


@pytest.mark.parametrize("value", ["a", "", 5, -5, 5.0, 2.5, 1e300, 2**63, True, False, "5", "true"])
def test_a_value_has_the_same_lane_by_a_path_as_by_the_events_own_key(value: Any) -> None:
    assert lane({"n": value}) == key_reader("said", "n")({"n": value})


@pytest.mark.parametrize("data", [{}, {"n": None}, {"m": 1}, [1], "n", None, 7])
def test_an_event_without_the_value_waits_in_the_lane_of_the_nameless(data: Any) -> None:
    assert lane(data) == ""


def test_a_path_leads_through_mappings_and_may_begin_with_data() -> None:
    assert lane({"user": {"id": 7}}, "user.id") == lane({"user": {"id": 7.0}}, "data.user.id") == "7"


def test_what_is_no_text_and_no_number_has_a_lane_too() -> None:
    assert lane({"n": [1, 2]}) == "[1, 2]"
