"""What one shard has for another: it goes out with what it came of, arrives once, and is heard where its lane is."""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec
import pytest

from ensemble.broker import Later, Listener, Policy
from ensemble.broker.outbox import Parcel, copies, parcel, shard_of, sizes, split
from ensemble.broker.state import fits, lag, said
from ensemble.errors import Unavailable
from ensemble.event import Event, Match, Rows, brought_along, decode, encode
from ensemble.score.model import RetryPolicy
from ensemble.testing import event, match
from tests.broker.several import Shards, carried, words

HOLD = Policy(RetryPolicy(attempts=1), "hold")
TWICE = Policy(RetryPolicy(attempts=2, first_us=1000, jitter=0))


def key_in(shard: int, shards: int = 2, not_: str = "") -> str:
    """A key, or a lane, that belongs to a shard."""
    return next(key for n in count() if shard_of(key := f"k{n}", shards) == shard and key != not_)


HERE, THERE = key_in(0), key_in(1)


def by_lane(event: Event) -> str:
    return str(event.data["lane"])


def two(policy: Policy | None = None, **more: Any) -> Shards:
    """Two shards with a section `by`, which hears `said` by a value in its data."""
    return Shards(2, {"by": Listener([("said", None)], by=by_lane)}, {"by": policy} if policy else None, **more)


def topics(events: list[Event]) -> list[str]:
    return [event.topic for event in events]


# Whose an event is


def test_a_key_belongs_to_one_shard_always() -> None:
    assert [shard_of("o-1", shards) for shards in (1, 2, 3, 4, 1024)] == [0, 0, 2, 2, 986]  # never to change


def test_what_the_band_says_stays_where_it_is_said() -> None:
    ours, others, homes = split(words(("_band.dead", THERE, 1), ("said", THERE, 2), ("said", HERE, 3)), 0, 2)

    assert homes == [0, 1, 0]
    assert ours is not None
    assert list(ours.keys) == [THERE, HERE]
    assert {shard: list(each.keys) for shard, each in others.items()} == {1: [THERE]}


def test_what_all_belongs_here_is_not_looked_at_twice() -> None:
    whole = words(("said", HERE, 1), ("said", HERE, 2))

    assert split(whole, 0, 2) == (whole, {}, None)
    assert split(words(("said", THERE, 1)), 0, 1)[2] is None


# Going out, and coming in


def test_what_belongs_to_another_shard_goes_there_and_has_no_offset_here() -> None:
    band = Shards(2, {})

    offsets = band.publish(0, words(("said", HERE, 1), ("said", THERE, 2), ("said", HERE, 3)))
    band.settle()

    assert offsets == [0, -1, 1]
    assert [(event.key, event.data) for event in band.said(0)] == [(HERE, 1), (HERE, 3)]
    assert [(event.key, event.data, event.source) for event in band.said(1)] == [(THERE, 2, "/test")]


def test_nothing_goes_before_it_is_durable_and_a_crash_takes_it_back() -> None:
    band = Shards(2, {})
    band.publish(0, words(("said", THERE, 1)))

    assert band.sendable(0, 1) == {}
    band.crash(0)
    band.settle()

    assert band.said(1) == []
    assert band.brokers[0].state.outbox == {}


def test_a_parcel_that_comes_again_is_there_once() -> None:
    band = Shards(2, {})
    for n in range(3):
        band.publish(0, words(("said", THERE, n)))
    band.flush(0)
    sent = list(band.sendable(0, 1).values())
    answers: list[int] = []

    band.deliver(0, 1, 0, sent[:2], answers.append)
    band.deliver(0, 1, 0, sent, answers.append)
    assert answers == []  # nothing is answered that a crash could lose
    band.flush(1)
    band.deliver(0, 1, 1, sent[1:], answers.append)

    assert answers == [2, 3, 3]
    assert [event.data for event in band.said(1)] == [0, 1, 2]


def test_a_shard_that_lost_what_it_took_takes_it_again() -> None:
    band = Shards(2, {})
    band.publish(0, words(("said", THERE, 1)))
    band.flush(0)
    band.deliver(0, 1, 0, list(band.sendable(0, 1).values()), lambda number: pytest.fail("it was not durable"))

    band.crash(1)
    band.settle()

    assert [event.data for event in band.said(1)] == [1]


def test_a_shard_whose_answer_was_lost_sends_again_after_a_crash() -> None:
    band = Shards(2, {})
    band.publish(0, words(("said", THERE, 1)))
    band.flush(0)
    band.deliver(0, 1, 0, list(band.sendable(0, 1).values()), lambda number: None)
    band.flush(1)

    band.crash(0)

    assert list(band.sendable(0, 1)) == [0]
    band.settle()
    assert [event.data for event in band.said(1)] == [1]
    assert sizes(band.brokers[0].state.outbox) == 0


def test_parcels_are_numbered_on_over_frames_and_crashes() -> None:
    band = Shards(2, {})
    for n in range(2):
        band.publish(0, words(("said", THERE, n)))
    band.flush(0)
    band.publish(0, words(("said", THERE, "lost")))
    band.crash(0)
    band.publish(0, words(("said", THERE, 2)))
    band.flush(0)

    assert list(band.sendable(0, 1)) == [0, 1, 2]
    band.settle()
    assert [event.data for event in band.said(1)] == [0, 1, 2]


def test_parcels_before_those_that_come_must_be_there() -> None:
    band = Shards(2, {})
    missing = parcel(words(("said", THERE, 1)), "/test", "log0")

    with pytest.raises(Unavailable) as refused:
        band.brokers[1].accept(0, 4, [missing], 1)

    assert str(refused.value) == (
        "shard 1 has the parcels of shard 0 up to number 0, and is sent those from 4 on: its log log1 has lost its end, or is "
        "another; restore it from a copy of the store"
    )


def test_an_id_is_remembered_where_its_event_lies() -> None:
    band = Shards(2, {})
    for number in (0, 1, 0):
        band.publish(number, words(("said", THERE, number), ids={0: "i"}))
        band.settle()

    assert [event.id for event in band.said(1)] == ["i"]


def test_an_answer_that_changes_shard_keeps_its_cause_and_its_chain() -> None:
    band = Shards(2, {"play": Listener([("said", None)])})
    band.publish(0, words(("said", HERE, 1)))
    band.flush(0)
    batch = band.take(0, "play")
    assert batch is not None

    answer = words(("answer", THERE, 2), causes=[0], roots=[0])
    answer.extras = {0: {"traceparent": "t", "cause": 0}}
    band.hear(0, batch, answer)
    band.settle()

    [event] = [event for event in band.said(1) if event.topic == "answer"]
    assert (event.causationid, event.correlationid, event.source) == ("log0-0", "log0-0", "/band/play")
    assert event._rows.extras == {0: {"traceparent": "t", "cause": "log0-0"}}  # an offset would mean another event there


def test_what_is_published_and_what_is_answered_come_in_frames_of_their_own() -> None:
    band = Shards(2, {"play": Listener([("said", None)])})
    band.publish(0, words(("said", HERE, 1), ("said", THERE, 2)))
    band.flush(0)
    batch = band.take(0, "play")
    assert batch is not None
    band.hear(0, batch, words(("answer", THERE, 3), causes=[0], roots=[0]))

    band.settle()

    assert [(event.data, event.causationid) for event in band.said(1)] == [(2, None), (3, "log0-0")]


def test_a_timer_says_its_event_where_its_key_belongs() -> None:
    band = Shards(2, {"play": Listener([("said", None)])})
    band.publish(0, words(("said", HERE, 1)))
    band.flush(0)
    batch = band.take(0, "play")
    assert batch is not None
    band.hear(0, batch, later=[Later(500, "alarm", THERE, encode(1), 0, 0)])

    band.settle()

    assert (topics(band.said(0)), topics(band.said(1))) == (["said"], ["alarm"])


# Sections of several shards


def test_a_section_hears_an_event_in_the_shard_of_its_lane_once() -> None:
    band = two()
    heard: list[tuple[int, str, Any]] = []

    def play(number: int, batch: Any) -> None:
        heard.extend((number, event.topic, event.data["n"]) for event in band.events(number, batch))
        band.hear(number, batch)

    for n, (key, lane) in enumerate([(HERE, HERE), (HERE, THERE), (THERE, HERE), (THERE, THERE)]):
        band.publish(0, words(("said", key, {"n": n, "lane": lane})))
    band.settle(play)

    assert sorted(heard) == [(0, "said", 0), (0, "said", 2), (1, "said", 1), (1, "said", 3)]
    assert [band.brokers[number].lag("by") for number in (0, 1)] == [0, 0]
    assert [lag(band.brokers[number].state, "by") for number in (0, 1)] == [0, 0]


def test_a_copy_is_the_event_in_all_that_a_player_sees() -> None:
    band = two()
    band.publish(0, words(("said", HERE, {"lane": THERE}), ids={0: "mine"}))
    band.flush(0)
    band.look(0)
    band.forward(0, "by")
    band.flush(0)
    band.now += 5_000_000
    band.exchange()

    [event], [copy] = band.said(0), band.copies(1)

    seen = ("id", "topic", "key", "data", "time", "source", "causationid", "correlationid", "traceparent")
    assert {name: getattr(copy, name) for name in seen} == {name: getattr(event, name) for name in seen}
    assert copy._rows.extra(0, "at") == [0, 0]
    assert copy._rows.born(0) == event._rows.born(0) == "log0-0"  # and so its players get one token
    assert copy.written_at > event.written_at


def test_the_copy_of_a_match_has_the_events_along_that_it_is_made_of() -> None:
    first, last = (
        event("paid", {"n": 1}, key="ann", id="p-1"),
        event("packed", {"n": 2}, key="ann", time="2026-01-02T00:00:00Z"),
    )
    heard = match("ready", first, last, labels={"paid": 0, "packed": 1})

    one = copies([heard], "ship", "/band/ship", {}, {})
    for _ in range(2):  # and as it is copied again
        [arrived] = carried([one])
        said = arrived.publication().said
        rows = Rows("log1", 1, 70, 5, said.topics, 0, said.keys, said.data, ["/band/ship"], 0, extras=said.extras)
        copy = Match(rows, 0, msgspec.UNSET, brought_along(rows, 0))
        one = copies([copy], "ship", "/band/ship", {}, {})

    seen = ("id", "topic", "key", "data", "time", "source", "offset", "written_at")
    assert [[getattr(part, name) for name in seen] for part in copy.events] == [
        [getattr(part, name) for name in seen] for part in heard.events
    ]
    assert (copy["paid"].data, copy["packed"].topic, copy.id) == ({"n": 1}, "packed", heard.id)
    assert brought_along(first._rows, 0) == []


def test_only_the_section_that_it_is_for_hears_a_copy() -> None:
    band = Shards(
        2,
        {"by": Listener([("said", None)], by=by_lane), "band": Listener([("_band.>", None)], order="none")},
    )
    band.publish(0, words(("said", HERE, {"lane": THERE})))

    band.settle()

    assert band.copies(1)
    assert [each.state.sections["band"].heard for each in band.brokers] == [0, 0]
    assert said(band.brokers[1].state, ("_band.>",)) == 0
    assert fits(("_band.by.by",), "_band.by.by")


def test_a_section_hears_the_dead_letters_of_a_key_in_one_shard() -> None:
    """They are said wherever the lane was in which the event died."""
    band = Shards(
        2,
        {"by": Listener([("said", None)], by=by_lane), "sad": Listener([("_band.dead", None)])},
        {"by": Policy(RetryPolicy(attempts=1))},
    )
    told: list[tuple[int, str]] = []

    def play(number: int, batch: Any) -> None:
        if batch.section == "sad":
            told.extend((number, event.key) for event in band.events(number, batch))
            band.hear(number, batch)
        else:
            band.hear(number, batch, fails=batch.offsets)

    band.publish(0, words(("said", HERE, {"lane": HERE}), ("said", HERE, {"lane": THERE})))
    band.settle(play)

    assert [topics(band.said(number)) for number in (0, 1)] == [["said", "said", "_band.dead"], ["_band.dead"]]
    assert told == [(0, HERE), (0, HERE)]


def test_a_forwarded_event_is_not_forwarded_again_after_a_crash() -> None:
    band = two()
    band.publish(0, words(("said", HERE, {"lane": THERE})))
    band.flush(0)
    band.look(0)
    band.forward(0, "by")
    band.flush(0)

    band.crash(0)
    band.settle()

    assert len(band.copies(1)) == 1
    assert band.brokers[1].state.sections["by"].heard == 1


def turned(band: Shards, policy: Policy) -> Shards:
    """The same logs, played on by a section that hears by a lane, and not by key."""
    return two(policy, logs=band.logs)


def test_attempts_go_along_with_an_event_whose_lane_came_to_lie_elsewhere() -> None:
    band = Shards(2, {"by": Listener([("said", None)])}, {"by": TWICE})
    band.publish(0, words(("said", HERE, {"lane": THERE})))
    band.flush(0)
    batch = band.take(0, "by")
    assert batch is not None
    band.hear(0, batch, fails=[0])
    band.flush(0)
    band = turned(band, TWICE)
    attempts: list[dict[int, int]] = []

    def play(number: int, batch: Any) -> None:
        attempts.append(batch.attempts)
        band.hear(number, batch)

    band.settle(play)

    assert attempts == [{0: 2}]
    assert [each.state.sections["by"].attempts for each in band.brokers] == [{}, {}]


def test_a_held_event_stays_held_with_its_letter_where_its_lane_came_to_lie() -> None:
    band = Shards(2, {"by": Listener([("said", None)])}, {"by": HOLD})
    band.publish(0, words(("said", HERE, {"lane": THERE})))
    band.flush(0)
    batch = band.take(0, "by")
    assert batch is not None
    band.hear(0, batch, fails=[0])
    band.flush(0)

    band = turned(band, HOLD)
    band.settle(lambda number, batch: pytest.fail("it is held"))
    before, after = (band.brokers[number].state.sections["by"] for number in (0, 1))

    assert (before.dead, before.held, lag(band.brokers[0].state, "by")) == ({}, set(), 0)
    assert (after.dead, after.held) == ({0: 0}, {0})
    [copy] = band.copies(1)
    payload, time_us, shard, offset = copy._rows.extra(0, "letter")
    assert (decode(payload)["error"], time_us, shard, offset) == ("E: no", 1_000_000, 0, 1)

    band.publish(1, words(("said", THERE, {"lane": THERE})))
    band.settle(lambda number, batch: pytest.fail("its lane waits"))
    band.keep(1, band.brokers[1].again("by", [0], band.now))
    order: list[str] = []

    def play(number: int, batch: Any) -> None:
        order.extend(event.key for event in band.events(number, batch))
        band.hear(number, batch)

    band.settle(play)
    assert order == [HERE, THERE]


def test_what_a_copy_was_made_of_keeps_its_place_when_it_is_copied_again() -> None:
    band = two()
    band.publish(0, words(("said", HERE, {"lane": THERE})))
    band.flush(0)
    band.look(0)
    band.forward(0, "by")
    band.flush(0)
    band.exchange()

    again = copies(band.copies(1), "by", "/band/by", {}, {})

    assert again.extras is not None
    assert again.extras[0]["at"] == [0, 0]
    assert again.extras[0]["as"] == "log0-0"


def test_a_parcel_is_as_large_as_what_is_in_it() -> None:
    small, large = (parcel(words(("said", THERE, "x" * n)), "/test", "log0") for n in (1, 1000))

    assert large.size - small.size == pytest.approx(999, abs=3)
    assert isinstance(small, Parcel)
    assert len(small) == 1
