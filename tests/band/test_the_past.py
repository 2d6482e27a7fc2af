"""A band as it was at an offset or a time, on every store: what is seen, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import ensemble
from ensemble import Event, InvalidEvent, OffsetError
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("what was is in the log, whoever wrote it")


def tally(event: Event, ctx: Any) -> None:
    ctx.state["n"] = ctx.state.get("n", 0) + event.data
    if event.data == 13:
        raise ensemble.Reject("thirteen")


PARTS = {"tally": part(tally, "said")}


def test_a_table_is_told_as_it_was_before_an_event_and_at_a_time(stand: Stand) -> None:
    clock = ManualClock()
    band = stand.play(PARTS, clock=clock)
    for number in (1, 2, 4):
        band.publish("said", number, key="a")
        band.settle()
        clock.advance(minutes=1)

    assert [dict(band.table("tally", at=offset).items()) for offset in (1, 2, 3)] == [{"a": {"n": n}} for n in (1, 3, 7)]
    times = [clock.now() - timedelta(minutes=minutes) for minutes in (2, 1)]
    assert [band.table("tally", at=time)["a"]["n"] for time in times] == [1, 3]
    assert band.table("tally", at=times[0].isoformat())["a"] == {"n": 1}
    assert band.table("tally", at=clock.now() + timedelta(days=1))["a"] == band.table("tally")["a"] == {"n": 7}


def test_a_table_is_told_as_it_was_before_an_event_by_its_id(stand: Stand) -> None:
    band = stand.play(PARTS)
    for number in (1, 2):
        band.publish("said", number, key="a")
        band.settle(30)
    band.publish("said", 4, key="a", id="mine")
    band.settle(30)

    ids = [event.id for event in band.events("said")]
    assert ids[2] == "mine"
    assert [band.table("tally", at=id)["a"]["n"] for id in ids[1:]] == [1, 3]


def test_the_past_does_not_change_while_the_band_plays_on(stand: Stand) -> None:
    band = stand.play(PARTS)
    band.publish("said", 1, key="a")
    band.settle(30)

    past = band.at(1)
    before = (dict(past.table("tally").items()), past.status(), [event.id for event in past.events()])
    band.publish("said", 5, key="a")
    band.settle(30)

    assert (dict(past.table("tally").items()), past.status(), [event.id for event in past.events()]) == before
    assert list(past.tail(since=0)) == list(past.events()), "nothing comes to it any more"
    past.close()
    assert band.table("tally")["a"] == {"n": 6}, "the band is none the wiser"


def test_dead_letters_and_status_are_told_as_they_were(stand: Stand) -> None:
    band = stand.play(PARTS)
    for number in (1, 13, 2):
        band.publish("said", number, key="a")
        band.settle(30)

    assert [len(band.dead(at=offset)) for offset in (1, 2, 3)] == [0, 0, 1]
    assert [band.status(at=offset).sections["tally"].heard for offset in (1, 3)] == [1, 1]
    assert band.status(at=1).topics == {"said": 1}
    assert band.status(at=1).bytes is None


def test_the_past_is_read_from_the_newest_snapshot_before_it(stand: Stand) -> None:
    for number in (1, 2, 4):
        band = stand.play(PARTS)
        band.publish("said", number, key="a")
        band.settle(30)
        stand.leave()  # which keeps a snapshot; the newest two stay

    with stand.reader() as reader:
        assert [reader.table("tally", at=offset)["a"]["n"] for offset in (1, 2, 3)] == [1, 3, 7]


@pytest.mark.parametrize("place", [4, -1, "99"])
def test_an_offset_past_the_end_is_refused_with_what_there_is(stand: Stand, place: Any) -> None:
    band = stand.play(PARTS)
    band.publish_many({"topic": "said", "key": "a", "data": n} for n in range(3))
    band.settle(30)

    with pytest.raises(OffsetError, match="it has the offsets 0 to 2, and 3 stands for now"):
        band.table("tally", at=place)


def test_a_place_that_is_none_is_refused(stand: Stand) -> None:
    band = stand.play(PARTS)
    band.publish("said", 1, key="a")
    band.settle(30)

    with pytest.raises(OffsetError, match="there is no event 'yesterday'"):
        band.at("yesterday")
    with pytest.raises(InvalidEvent, match="has no time zone"):
        band.at("2026-01-01T00:00:00")
    with pytest.raises(OffsetError, match="has 1 shard, each with offsets of its own, and 2 are given"):
        band.at([1, 1])
    with pytest.raises(KeyError, match="no player 'tally' has played"):
        band.table("tally", at="2001-01-01T00:00:00Z")
