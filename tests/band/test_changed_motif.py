"""A player whose `on:` is changed between two openings: what it hears, and how far it says that it trails."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble import Event, Reject
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("the same broker turns a section to other topics on every stage")


class Ear:
    """A player that remembers what it heard; it refuses what it is told to."""

    def __init__(self, *refused: Any) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.refused = refused

    def hear(self, event: Event) -> None:
        if event.data in self.refused:
            raise Reject("not yet")
        self.heard.append((event.topic, event.data))


def publish(band: Any, topics: str, first: int = 0) -> None:
    for number, topic in enumerate(topics, first):
        band.publish(topic, number)


def lags(stand: Stand) -> tuple[int, int]:
    """The lag of the player, by the band that plays and by a reader of its log."""
    live = stand._bands[-1].status().sections["hear"].lag
    with stand.reader() as reader:
        return live, reader.status().sections["hear"].lag


def played(stand: Stand, ear: Ear, on: Any, **says: Any) -> Any:
    band = stand.play({"hear": part(ear.hear, on, **says)})
    band.settle(30)
    return band


def test_a_player_that_listens_for_more_hears_it_from_its_place_on(stand: Stand) -> None:
    ear = Ear()
    band = played(stand, ear, ["a"])
    publish(band, "aabbab")
    band.settle(30)

    band = played(stand, ear, ["a", "b"])

    assert lags(stand) == (0, 0)
    publish(band, "ba", 6)
    band.settle(30)
    assert ear.heard == [("a", 0), ("a", 1), ("a", 4), ("b", 6), ("a", 7)]
    assert lags(stand) == (0, 0)


def test_a_player_that_listens_for_other_events_trails_by_those_alone(stand: Stand) -> None:
    ear = Ear()
    publish(played(stand, ear, ["a"]), "aabb")
    for on in (["a", "b"], "b", "c", ["a", "b"], "*", "a"):
        band = played(stand, ear, on)
        assert lags(stand) == (0, 0), on
        publish(band, "abc")
        band.settle(30)
        assert lags(stand) == (0, 0), on


def test_what_waits_above_its_place_is_heard_by_the_new_words(stand: Stand) -> None:
    """A backlog that grew while the player was away."""
    ear = Ear()
    publish(played(stand, ear, "a"), "aa")
    publish(stand.play(), "abcabc", 2)
    ear.heard.clear()

    band = stand.play({"hear": part(ear.hear, ["b", "c"])})
    band.settle(30)

    assert ear.heard == [("b", 3), ("c", 4), ("b", 6), ("c", 7)]
    assert lags(stand) == (0, 0)


def test_a_section_that_nobody_plays_trails_by_what_it_would_hear(stand: Stand) -> None:
    band = played(stand, Ear(), "a")
    publish(band, "aab")
    band.settle(30)  # what is not heard by then is left to who plays next
    publish(stand.play(), "ababa", 3)

    assert lags(stand) == (3, 3)


@pytest.mark.parametrize("on", [["a"], ["a", "b"], "b", "c"])
def test_what_is_held_or_open_below_its_place_stays_its_own(stand: Stand, on: Any) -> None:
    band = played(stand, Ear(1), "a", on_failure="hold")
    for number, key in enumerate("xyyz"):
        band.publish("a", number, key=key)
    band.settle(30)
    assert lags(stand) == (2, 2)

    mended = Ear()
    band = played(stand, mended, on, on_failure="hold")
    live, read = lags(stand)
    assert live == read >= 0
    band.retry_dead()
    band.publish("b", 4)
    band.settle(30)

    assert lags(stand) == (0, 0)


def test_a_reader_and_the_band_agree_where_a_condition_passes_events_over(stand: Stand) -> None:
    band = played(stand, Ear(), {"event": "a", "where": "data > 2"})
    publish(band, "aaaaaa")
    band.settle(30)

    assert lags(stand) == (0, 0)
