"""Motifs of several events: each match is an event of the log, heard once, whatever dies and whenever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ensemble import Band, Event, Match, Reject, emit
from tests.conformance.home import at_home
from tests.conformance.stand import Stand, eventually, part, said

BOTH = {"all": ["paid", "packed"]}
THREE = {"seq": [{"event": "placed", "as": "first"}, "paid", {"event": "packed", "as": "last"}]}


class Ear:
    """Notes the matches that it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = at_home([])

    def hear(self, match: Match) -> None:
        self.heard.append((match.key, [event.data for event in match.events]))

    def hear_all(self, matches: list[Match]) -> None:
        self.heard += [(match.key, [event.data for event in match.events]) for match in matches]

    def hear_labels(self, match: Match) -> None:
        self.heard.append((match["first"].data, match["last"].topic, "third" in match))


def come(band: Band, *topics: str, key: str = "ann", first: int = 0) -> None:
    for number, topic in enumerate(topics, first):
        band.publish(topic, number, key=key)


def test_a_player_hears_a_match_with_its_events_in_whichever_order_they_came(stand: Stand) -> None:
    ear = Ear()
    band = stand.play({"ship": part(ear.hear, BOTH)})

    come(band, "paid", "packed")
    come(band, "packed", "paid", key="bob")
    come(band, "paid", key="eve")
    band.settle(30)

    assert sorted(ear.heard) == [("ann", [0, 1]), ("bob", [0, 1])]
    assert band.status().sections["ship"].lag == 0


def test_a_match_knows_its_events_by_their_labels(stand: Stand) -> None:
    ear = Ear()
    band = stand.play({"tell": part(ear.hear_labels, THREE)})

    come(band, "placed", "paid", "packed")
    band.settle(30)

    assert ear.heard == [(0, "packed", False)]


def test_a_player_of_whole_batches_hears_many_matches_at_once(stand: Stand) -> None:
    ear = Ear()
    band = stand.play({"ship": part(ear.hear_all, BOTH)})

    band.publish_many({"topic": topic, "key": f"k{n}", "data": n} for topic in ("paid", "packed") for n in range(50))
    band.settle(30)

    assert sorted(ear.heard) == sorted((f"k{n}", [n, n]) for n in range(50))


@pytest.mark.one_shard("the frames, and the ids, of one log")
def test_a_match_is_in_the_frame_that_completed_it_with_its_parts_as_causes(stand: Stand) -> None:
    band = stand.play({"ship": part(Ear().hear, BOTH)})

    come(band, "paid", "packed")
    band.settle(30)

    [frame] = [frame for frame in stand.frames() if said(frame, "packed")]
    [match] = said(frame, "_band.motif.ship")
    assert match.key == "ann"
    assert match._rows.parts(match._ix) == [0, 1]
    assert match.causationid == f"{band.id}-1"
    assert match.correlationid == f"{band.id}-0"


def answer(match: Match) -> Any:
    return emit("shipped", match.key)


@pytest.mark.one_shard("the frames, and the ids, of one log")
def test_why_walks_through_a_match_to_all_of_its_parts_and_on_to_what_came_of_it(stand: Stand) -> None:
    band = stand.play({"ship": part(answer, BOTH, emits=["shipped"])})
    first = band.publish("paid", 0, key="ann")
    band.publish("other", 0, key="ann")
    band.publish("packed", 1, key="ann")
    band.settle(30)

    [shipped] = band.events("shipped")
    back, forth = band.why(shipped.id), band.why(first.id)

    assert [event.topic for event in back.causes] == ["paid", "packed", "_band.motif.ship"]
    [match] = forth.tree.said
    assert match.event.topic == "_band.motif.ship"
    assert [each.event.topic for each in match.said] == ["shipped"]
    [heard] = band.events("_band.motif.>")
    assert isinstance(heard, Match)
    assert [event.topic for event in heard.events] == ["paid", "packed"]


class Topics:
    def __init__(self) -> None:
        self.heard: list[str] = at_home([])

    def hear(self, event: Event) -> None:
        self.heard.append(event.topic)


def test_a_motif_without_a_name_is_heard_by_its_player_alone_and_one_with_a_name_by_all(stand: Stand) -> None:
    topics, ear, other = Topics(), Ear(), Ear()
    band = stand.play(
        {
            "all": part(topics.hear, ">"),
            "own": part(ear.hear, BOTH),
            "ship": part(other.hear, "ready"),
        },
        motifs={"ready": BOTH},
    )

    come(band, "paid", "packed")
    band.settle(30)

    assert sorted(topics.heard) == ["packed", "paid", "ready"]
    assert ear.heard == other.heard == [("ann", [0, 1])]


def test_a_motif_may_be_made_of_the_matches_of_another(stand: Stand) -> None:
    topics = Topics()
    band = stand.play(
        {"end": part(topics.hear, {"seq": ["ready", "shipped"]}), "see": part(topics.hear, "ready")},
        motifs={"ready": BOTH},
    )

    come(band, "shipped", "paid", "packed", "shipped")
    band.settle(30)

    assert sorted(topics.heard) == ["_band.motif.end", "ready"]
    [match] = band.events("_band.motif.end")
    assert isinstance(match, Match)
    assert [event.topic for event in match.events] == ["ready", "shipped"]


def fail(match: Match) -> None:
    raise Reject("no room")


def test_a_match_that_a_player_can_not_hear_is_a_dead_letter_like_any_other(stand: Stand) -> None:
    band = stand.play({"ship": part(fail, BOTH)})

    come(band, "paid", "packed")
    band.settle(30)

    [letter] = band.dead()
    assert letter.event.topic == "_band.motif.ship"
    assert letter.event.key == "ann"


def test_a_half_open_match_outlives_a_kill_at_every_moment_and_is_heard_once(stand_on_disk: Stand) -> None:
    ear = Ear()
    parts = {"tell": part(ear.hear, THREE)}
    topics = ("placed", "paid", "packed")
    band = stand_on_disk.play(parts)
    shots = []
    for number, topic in enumerate(topics):
        band.publish(topic, number, key="ann")
        shots.append((number, stand_on_disk.as_if_killed()))
    band.settle(30)
    assert ear.heard == [("ann", [0, 1, 2])]

    for number, killed in shots:
        ear.heard.clear()
        for again in range(2):  # killed, and then left in order: both times it goes on
            band = killed.play(parts)
            if not again:
                come(band, *topics[number + 1 :], first=number + 1)
            band.settle(30)
            killed.leave()
        with killed.reader() as reader:
            assert len(list(reader.events("_band.motif.tell"))) == 1
            assert reader.status().sections["tell"].heard == 1
        if number < len(topics) - 1:  # the last may have been heard before the kill
            assert ear.heard == [("ann", [0, 1, 2])]


def test_an_absence_is_noticed_by_a_timer_that_outlives_a_kill_and_fires_once(stand_on_disk: Stand) -> None:
    ear = Ear()
    parts = {"remind": part(ear.hear, {"seq": ["placed", {"not": "paid"}], "within": "700ms"})}
    band = stand_on_disk.play(parts)
    come(band, "placed")
    come(band, "placed", "paid", key="bob")
    [placed] = band.events("placed", key="ann")
    killed = stand_on_disk.as_if_killed()
    stand_on_disk.leave()
    due = placed.time + timedelta(milliseconds=700)
    eventually(lambda: datetime.now(UTC) > due, "the moment, which passes while nobody plays")

    band = killed.play(parts)
    eventually(lambda: ear.heard, "the reminder")
    band = killed.play(parts)
    band.settle(30)

    assert ear.heard == [("ann", [0])]
    [match] = band.events("_band.motif.remind")
    assert (match.time - placed.time).total_seconds() == pytest.approx(0.7)


def test_a_new_motif_hears_the_past_unless_it_says_from_now(stand: Stand) -> None:
    old, new = Ear(), Ear()
    band = stand.play({})
    come(band, "paid", "packed")
    come(band, "paid", key="bob")

    band = stand.play({"old": part(old.hear, BOTH), "new": part(new.hear, BOTH, from_="now")})
    band.settle(30)
    come(band, "packed", key="bob", first=1)
    band.settle(30)

    assert sorted(old.heard) == [("ann", [0, 1]), ("bob", [0, 1])]
    assert new.heard == []


def test_a_player_joins_a_band_that_plays_with_a_motif_whose_half_lies_in_the_past(stand: Stand) -> None:
    other, ear, again = Ear(), Ear(), Ear()
    band = stand.play({"other": part(other.hear, BOTH)})
    come(band, "paid", "packed")
    come(band, "paid", key="bob")
    band.settle(30)

    band.add("new", ear.hear, on=BOTH)
    come(band, "packed", key="bob", first=1)
    band.settle(30)
    assert sorted(ear.heard) == sorted(other.heard) == [("ann", [0, 1]), ("bob", [0, 1])]

    band.add("new", again.hear, on={"seq": ["sent", "seen"]})  # in the place of the one of its name
    come(band, "paid", "packed", "sent", "seen", key="eve")
    band.settle(30)

    assert again.heard == [("eve", [2, 3])]
    assert len(ear.heard) == 2
    assert len(other.heard) == 3
    assert set(band.status().sections) == {"other", "new"}


def test_a_player_that_was_away_misses_no_match(stand: Stand) -> None:
    ear = Ear()
    parts = {"ship": part(ear.hear, BOTH)}
    come(stand.play(parts), "paid")
    come(stand.play({}), "packed", first=1)
    come(stand.play({}), "paid", key="bob")

    band = stand.play(parts)
    come(band, "packed", key="bob", first=1)
    band.settle(30)

    assert sorted(ear.heard) == [("ann", [0, 1]), ("bob", [0, 1])]


def test_a_motif_that_changed_hears_what_the_new_one_asks_for_from_here_on(stand: Stand) -> None:
    ear = Ear()
    band = stand.play({"ship": part(ear.hear, BOTH)})
    come(band, "paid")
    band.settle(30)

    band = stand.play({"ship": part(ear.hear, {"seq": ["paid", "sent"]})})
    come(band, "sent", "paid", "sent", first=1)
    band.settle(30)

    assert ear.heard == [("ann", [2, 3])]
