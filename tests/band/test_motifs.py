"""Motifs in a band that plays: players that join it, time that passes, and what a motif that has too much gives up."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import LogCorrupt, Match, emit
from ensemble.resharding import reshard
from ensemble.testing import ManualClock

BOTH = {"all": ["paid", "packed"]}


class Ear:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, match: Match) -> None:
        self.heard.append([event.data for event in match.events])


def score(**players: Any) -> dict[str, Any]:
    return {"ensemble": 1, "name": "test", "players": players}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock("2026-01-01T00:00:00Z")


def test_a_player_that_joins_hears_from_the_start_from_now_or_from_a_time(tmp_path: Path, clock: ManualClock) -> None:
    start, now, since, from_time = Ear(), Ear(), Ear(), datetime.fromisoformat("2026-01-01T00:10:00Z")
    with ensemble.open(score(other={"on": "paid"}), store=str(tmp_path), clock=clock, players={"other": print}) as band:
        for minute in range(3):
            band.publish("paid", minute, key=str(minute))
            band.publish("packed", minute, key=str(minute))
            clock.advance(minutes=10)

        band.add("start", start.hear, on=BOTH)
        band.add("now", now.hear, on=BOTH, from_="now")
        band.add("since", since.hear, on=BOTH, from_=from_time)
        band.publish("paid", 3, key="3")
        band.publish("packed", 3, key="3")
        band.settle()

        assert start.heard == [[0, 0], [1, 1], [2, 2], [3, 3]]
        assert since.heard == [[1, 1], [2, 2], [3, 3]]
        assert now.heard == [[3, 3]]
        assert set(band.status().sections) == {"other", "start", "now", "since"}


def test_a_band_on_threads_takes_in_a_player_while_it_plays(tmp_path: Path) -> None:
    ear, again = Ear(), Ear()
    with ensemble.open(score(), store=str(tmp_path)) as band:
        band.publish("paid", 1, key="ann")
        band.add("ship", ear.hear, on=BOTH)
        band.publish("packed", 2, key="ann")
        band.settle(10)
        assert ear.heard == [[1, 2]]

        band.add("ship", again.hear, on={"seq": ["sent", "seen"]})  # in the place of the other
        band.publish_many([{"topic": topic, "data": topic, "key": "ann"} for topic in ("paid", "packed", "sent", "seen")])
        band.settle(10)

    assert ear.heard == [[1, 2]]
    assert again.heard == [["sent", "seen"]]


def test_a_past_that_can_not_be_read_for_a_new_motif_is_told_to_who_adds_it_and_the_band_plays_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ear, heard = Ear(), list[Any]()

    def unreadable(*_: Any) -> None:
        raise LogCorrupt("store test: byte 0: it is damaged")

    with ensemble.open(score(other={"on": "paid"}), store=str(tmp_path), players={"other": heard.append}) as band:
        with monkeypatch.context() as patched:
            patched.setattr("ensemble.broker.broker.Broker.listen", unreadable)
            with pytest.raises(LogCorrupt, match="it is damaged"):
                band.add("ship", ear.hear, on=BOTH)
        band.publish("paid", 1, key="ann")
        band.settle(10)

    assert [event.data for event in heard] == [1]


def test_three_days_pass_in_a_moment_and_all_that_is_due_comes_in_its_order(tmp_path: Path, clock: ManualClock) -> None:
    told: list[Any] = []

    def tell(match: Match) -> None:
        told.append((match.topic, match.time.isoformat(timespec="minutes")[5:16], len(match.events)))

    def later(event: ensemble.Event) -> Any:
        return emit("late", after="1d")

    players = {
        "absent": {"on": "unpaid"},
        "daily": {"on": "day"},
        "later": {"on": "placed", "emits": ["late"]},
        "late": {"on": {"seq": ["placed", "late"]}},
    }
    document = {
        **score(**players),
        "motifs": {
            "unpaid": {"seq": ["placed", {"not": "paid"}], "within": "36h"},
            "day": {"every": "1d", "of": ["placed", "tick"]},
        },
        "sources": {"clock": {"every": "6h", "topic": "tick", "key": "ann"}},
    }
    calls = {"absent": tell, "daily": tell, "later": later, "late": tell}
    with ensemble.open(document, store=str(tmp_path), clock=clock, players=calls) as band:
        band.publish("placed", 1, key="ann")
        clock.advance(days=3)

    assert told == [
        ("day", "01-02T00:00", 4),
        ("_band.motif.late", "01-02T00:00", 2),
        ("unpaid", "01-02T12:00", 1),
        ("day", "01-03T00:00", 4),
        ("day", "01-04T00:00", 4),
    ]


def test_a_motif_with_too_many_partial_matches_gives_up_the_oldest_and_says_so(tmp_path: Path, clock: ManualClock) -> None:
    ear = Ear()
    motif = {"seq": ["a", "b"], "most": 10}
    with ensemble.open(score(hear={"on": motif}), store=str(tmp_path), clock=clock, players={"hear": ear.hear}) as band:
        for topic in ("a", "b"):
            for number in range(15):
                band.publish(topic, number, key=str(number))
        band.settle()

        told = [event.data for event in band.events("_band.motif.overflow")]

    assert ear.heard == [[number, number] for number in range(5, 15)]
    assert [each["given_up"] for each in told] == [1, 3]
    assert told[0] == {"motif": "_band.motif.hear", "given_up": 1, "most": 10}


def test_a_motif_may_rather_take_in_no_new_ones(tmp_path: Path, clock: ManualClock) -> None:
    ear = Ear()
    motif = {"seq": ["a", "b"], "most": 10, "overflow": "newest"}
    with ensemble.open(score(hear={"on": motif}), store=str(tmp_path), clock=clock, players={"hear": ear.hear}) as band:
        for topic in ("a", "b"):
            for number in range(15):
                band.publish(topic, number, key=str(number))
        band.settle()

    assert ear.heard == [[number, number] for number in range(10)]


def test_events_that_come_too_late_for_their_own_time_are_left_out_and_told_of(tmp_path: Path, clock: ManualClock) -> None:
    ear = Ear()
    motif = {"seq": ["a", "b"], "time": "event"}
    with ensemble.open(score(hear={"on": motif}), store=str(tmp_path), clock=clock, players={"hear": ear.hear}) as band:
        band.publish("a", 1, key="ann", time="2025-01-01T00:02:00Z")
        band.publish("a", 2, key="bob", time="2025-01-01T00:01:00Z")
        band.publish("b", 3, key="ann", time="2025-01-01T00:03:00Z")
        band.publish("b", 4, key="bob", time="2025-01-01T00:04:00Z")
        band.settle()

        assert [event.data["left_out"] for event in band.events("_band.motif.late")] == [1]
    assert ear.heard == [[1, 3]]


def test_a_cron_source_says_one_event_a_moment_and_one_for_all_it_slept_through(tmp_path: Path, clock: ManualClock) -> None:
    document = {**score(), "sources": {"close": {"cron": "0 3 * * *", "topic": "books.close"}}}

    def days(band: ensemble.Band) -> list[Any]:
        return [(event.data["at"][8:16], event.written_at.isoformat()[8:16]) for event in band.events("books.close")]

    with ensemble.open(document, store=str(tmp_path), clock=clock) as band:
        clock.advance(days=2)
        assert days(band) == [("01T03:00", "01T03:00"), ("02T03:00", "02T03:00")]
    clock.advance(days=3, hours=12)

    for _ in range(2):  # opened again there is nothing more to make up for
        with ensemble.open(document, store=str(tmp_path), clock=clock) as band:
            band.settle()
            assert days(band)[2:] == [("06T03:00", "06T12:00")]


def test_cron_is_read_in_the_time_zone_that_is_named(tmp_path: Path) -> None:
    clock = ManualClock("2026-03-28T00:00:00Z")
    document = {**score(), "sources": {"close": {"cron": "0 3 * * *", "zone": "Europe/Vienna", "topic": "close"}}}

    with ensemble.open(document, store=str(tmp_path), clock=clock) as band:
        clock.advance(days=2)

        assert [event.data["at"] for event in band.events("close")] == ["2026-03-28T02:00:00Z", "2026-03-29T01:00:00Z"]


def test_a_half_open_match_is_completed_in_a_store_that_was_divided_anew(tmp_path: Path) -> None:
    store, ear = str(tmp_path / "store"), Ear()
    with ensemble.open(score(hear={"on": BOTH}), store=store, players={"hear": ear.hear}) as band:
        band.publish("paid", 1, key="ann")

    for shards in (2, 1):
        reshard(store, shards)

    with ensemble.open(score(hear={"on": BOTH}), store=store, players={"hear": ear.hear}) as band:
        band.publish("packed", 2, key="ann")
        band.settle(10)
    assert ear.heard == [[1, 2]]


def test_why_tells_of_a_match_whose_parts_lie_at_different_depths_under_the_last_of_them(clock: ManualClock) -> None:
    def says(topic: str) -> Any:
        return lambda event: emit(topic)

    shop = score(
        near={"on": "asked", "emits": "near"},
        way={"on": "asked", "emits": "way"},
        far={"on": "way", "emits": "far"},
        both={"on": {"all": ["near", "far"]}, "emits": "done"},
    )
    calls = {"near": says("near"), "way": says("way"), "far": says("far"), "both": says("done")}
    with ensemble.open(shop, store="memory:", clock=clock, players=calls) as band:
        receipt = band.publish("asked", key="a")
        band.settle()
        tree = band.why(receipt.id).tree

    def told(reaction: Any) -> Any:
        return {reaction.event.topic: [told(each) for each in reaction.said]}

    match: Any = {"_band.motif.both": [{"done": []}]}
    assert told(tree) == {"asked": [{"near": []}, {"way": [{"far": [match]}]}]}
