"""Timelines: every hearing at its time on its player's stave, nothing written over anything, time never going back."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

import ensemble
from ensemble.event import microseconds
from ensemble.testing import ManualClock
from tests.visualize.geometry import labels
from visualize.overview import overview
from visualize.picture import Block, Picture, Stroke
from visualize.svg import svg
from visualize.timeline import Axis, short, timeline, timeline_of_chain, timeline_of_key


def charge(order: ensemble.Event, ctx: ensemble.Context) -> Any:
    if ctx.attempt < order.data["tries"]:
        raise ValueError("the bank does not answer")
    return ensemble.emit("payment.captured")


PLAYERS: dict[str, Callable[..., Any]] = {
    "payment": charge,
    "shipping": lambda event: [ensemble.emit("parcel.sent"), ensemble.emit("parcel.lost", after="2h")],
    "mail": lambda event: None,
}
SCORE = {
    "ensemble": 1,
    "name": "shop",
    "players": {
        "payment": {"on": "order.placed", "emits": ["payment.captured"], "retry": {"attempts": 3, "first": "20s", "jitter": 0}},
        "shipping": {"on": "payment.captured", "emits": ["parcel.sent", "parcel.lost"]},
        "mail": {"on": ["parcel.*", "payment.captured"]},
    },
}


@pytest.fixture
def band() -> Iterator[ensemble.Band]:
    """A shop whose order o-1 went through at the third attempt, and whose o-9 is a dead letter."""
    clock = ManualClock()
    with ensemble.open(SCORE, store="memory:", players=PLAYERS, clock=clock) as band:
        for key, tries in (("o-1", 3), ("o-2", 1), ("o-9", 9)):
            band.publish("order.placed", {"tries": tries}, key=key)
            clock.advance(seconds=1)
            band.settle()
        clock.advance(minutes=5)
        band.settle()
        clock.advance(hours=3)
        band.settle()
        yield band


def parts(picture: Picture, kind: str) -> list[Any]:
    return [part for part in picture.parts if part.kind == kind]


def overlapping(picture: Picture) -> list[tuple[str, str]]:
    rooms = [(label.text, label.room) for label in labels(picture)]
    return [(a, b) for i, (a, one) in enumerate(rooms) for b, two in rooms[:i] if one.overlaps(two)]


def test_each_player_has_a_stave_and_each_hearing_is_on_it_once(band: ensemble.Band) -> None:
    picture = timeline_of_key(band.history(), "o-1")

    assert [part.title for part in parts(picture, "stave")] == ["outside", "payment", "shipping", "mail"]
    drawn = Counter(part.id.partition(":")[0] for part in (*parts(picture, "hearing"), *parts(picture, "said")))
    assert drawn == {"outside": 1, "payment": 1, "shipping": 1, "mail": 3}
    assert max(Counter(part.id for part in picture.parts if part.id).values()) == 1


def test_each_attempt_has_a_bar_of_its_own_and_a_dashed_wait_before_it(band: ensemble.Band) -> None:
    picture = timeline_of_key(band.history(), "o-1")

    row = next(part for part in parts(picture, "hearing") if part.id.startswith("payment:"))
    bars = [mark.fill for mark in row.marks if isinstance(mark, Block) and mark.fill in ("work", "retry")]
    waits = [mark for mark in row.marks if isinstance(mark, Stroke) and mark.dash]
    assert bars == ["retry", "retry", "work"]
    assert len(waits) == 2
    assert "attempt 3: heard; waited 30 s" in row.title
    assert "the bank does not answer" in row.title


def test_what_was_said_leads_to_each_who_heard_it(band: ensemble.Band) -> None:
    picture = timeline_of_key(band.history(), "o-1")

    arrows = Counter(part.title for part in parts(picture, "arrow"))

    assert arrows == {
        "order.placed\noutside → payment": 1,
        "payment.captured\npayment → shipping": 1,
        "payment.captured\npayment → mail": 1,
        "parcel.sent\nshipping → mail": 1,
        "parcel.lost\nshipping → mail": 1,
    }


def test_a_timer_leads_from_when_it_was_set_to_when_it_was_due(band: ensemble.Band) -> None:
    picture = timeline_of_key(band.history(), "o-1")

    assert [part.title for part in parts(picture, "timer")] == ["parcel.lost, 2 h later"]


def test_a_chain_is_drawn_from_its_cause_to_its_last_effect(band: ensemble.Band) -> None:
    sent = next(band.events("parcel.sent", key="o-2"))

    picture = timeline_of_chain(band.history(), band.why(sent.id))

    assert {part.id for part in (*parts(picture, "hearing"), *parts(picture, "said"))} >= {f"mail:{sent.id}"}
    assert any(label.text == "order.placed" for label in labels(picture))


def test_a_dead_letter_is_told_apart_from_a_failure(band: ensemble.Band) -> None:
    picture = timeline_of_key(band.history(), "o-9")

    row = next(part for part in parts(picture, "hearing") if part.id.startswith("payment:"))
    assert "attempt 3: dead" in row.title
    assert any(isinstance(mark, Block) and mark.fill == "page" and mark.line == "retry" for mark in row.marks)


@pytest.mark.parametrize("key", ["o-1", "o-2", "o-9"])
def test_no_text_is_written_over_another_and_none_leaves_the_page(band: ensemble.Band, key: str) -> None:
    picture = timeline_of_key(band.history(), key)

    assert overlapping(picture) == []
    assert all(label.room.x >= 0 and label.room.right <= picture.width for label in labels(picture))


def test_of_nothing_a_sentence_is_drawn(band: ensemble.Band) -> None:
    picture = timeline_of_key(band.history(), "o-77")

    assert [label.text for label in labels(picture)] == ["Nothing was said: key o-77."]


def test_time_never_goes_back_on_an_axis() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        times = [chance.randrange(10 ** chance.randint(1, 12)) for _ in range(chance.randint(1, 50))]

        axis = Axis(times, 1000)

        places = [axis.at(moment) for moment in sorted(times)]
        assert places == sorted(places), f"seed {seed}"
        assert all(0 <= place <= 1000.001 for place in places), f"seed {seed}"
        halves = [axis.at((a + b) // 2) for a, b in zip(sorted(times), sorted(times)[1:], strict=False)]
        assert all(a <= mid <= b for a, mid, b in zip(places, halves, places[1:], strict=False)), f"seed {seed}"


def test_a_long_gap_is_shortened_and_the_rest_gets_its_room() -> None:
    axis = Axis([0, 10, 20, 30, 40, 50, 10_000_000], 1000)

    assert [gap for _, _, gap in axis.cuts] == [9_999_950]
    assert axis.at(50) > 600


def test_five_thousand_events_are_drawn_within_five_seconds() -> None:
    with ensemble.open(
        SCORE, store="memory:", players={**PLAYERS, "shipping": lambda event: ensemble.emit("parcel.sent")}
    ) as band:
        band.publish_many([{"tries": 0}] * 1_667, topic="order.placed")
        band.settle(timeout=60)
        past = band.history()
    assert len(past.events) > 5_000
    began_s = time.process_time()  # whatever else the machine does

    text = svg(timeline(past, past.events, "all"))

    assert time.process_time() - began_s < 5
    ElementTree.fromstring(text)


def test_an_overview_has_three_charts_a_player(band: ensemble.Band) -> None:
    picture = overview(band.history(), "shop")

    assert [part.id for part in parts(picture, "player")] == ["player:payment", "player:shipping", "player:mail"]
    assert parts(picture, "player")[0].title == "payment: 2 heard, 5 failed, 1 dead, lag 0"
    assert overlapping(picture) == []
    for part in parts(picture, "player"):
        assert sum(isinstance(mark, Block) for mark in part.marks) == 3


def test_lags_are_told_over_time(band: ensemble.Band) -> None:
    past = band.history()

    assert [time_us for time_us, _ in past.lags] == sorted(time_us for time_us, _ in past.lags)
    assert max(lag["payment"] for _, lag in past.lags if "payment" in lag) >= 1
    assert past.lags[-1][1] == {"payment": 0, "shipping": 0, "mail": 0}
    assert past.lags[0][0] <= microseconds(past.events[0].written_at)


@pytest.mark.parametrize(
    ("us", "told"), [(0, "0 µs"), (999, "999 µs"), (1_500, "1.5 ms"), (61_000_000, "1.02 min"), (86_400_000_000, "1 d")]
)
def test_durations_are_short(us: int, told: str) -> None:
    assert short(us) == told


def test_a_match_stands_on_the_stave_of_motifs_under_what_made_it_whole() -> None:
    score = {**SCORE, "players": {"both": {"on": {"all": ["a.said", "b.said"]}}}}
    with ensemble.open(score, store="memory:", players={"both": lambda match: None}) as band:
        for topic in ("a.said", "b.said"):
            band.publish(topic, key="k")
        band.settle(timeout=10)

        picture = timeline_of_key(band.history(), "k")

    assert [part.title for part in parts(picture, "stave")] == ["outside", "motifs", "both"]
    assert sorted(part.title for part in parts(picture, "arrow")) == [
        "_band.motif.both\nmotifs → both",
        "_band.motif.both\noutside → motifs",
    ]
