"""Ids: those that publishers give, those that the log makes, and those that two CloudEvents share."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble import Band, Event, InvalidEvent, Reader, emit
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("ids and causes are told apart by the broker and the reader, on every stage the same")

TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01"


def cloud(id: str, source: str = "/s", **more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": id, "source": source, "type": "said", "data": {"from": source}, **more}


def reaction(holder: Band | Reader, id: str) -> list[Any]:
    return [answer.event.data for answer in holder.why(id).tree.said]


def test_why_ends_where_events_say_that_they_caused_themselves_or_each_other(stand: Stand) -> None:
    band = stand.play()
    band.publish_many([cloud("a", causationid="a"), cloud("p", causationid="q"), cloud("q", causationid="p")])

    assert [event.id for event in band.why("a").causes] == []
    assert [event.id for event in band.why("p").causes] == ["q"]
    assert [event.id for event in band.why("q").causes] == ["p"]
    assert [answer.event.id for answer in band.why("p").tree.said] == ["q"]


def test_answers_to_two_events_that_share_an_id_are_told_apart(stand: Stand) -> None:
    def hear(event: Event) -> Any:
        return [emit("answered", event.source), emit("later", event.source, after="1s")]

    def fail(event: Event) -> None:
        raise ValueError(event.source)

    parts = {
        "hear": part(hear, "said", emits=["answered", "later"]),
        "fail": part(fail, "said", retry={"attempts": 1}, on_failure={"emit": "failed"}),
    }
    clock = ManualClock()
    band = stand.play(parts, clock=clock)
    band.publish_many([cloud("1", "/one"), cloud("1", "/two"), cloud("1", "/three")])
    band.settle()
    clock.advance(seconds=2)

    for offset, source in enumerate(("/one", "/two", "/three")):
        one, two, three = reaction(band, f"{band.id}-{offset}")
        assert (one, two["error"], three) == (source, f"ValueError: {source}", source)
    assert reaction(band, "1")[0] == "/one"
    for event in band.events("answered"):
        assert [cause.source for cause in band.why(event.id).causes] == [event.data]


def test_a_cause_that_a_cloud_event_names_is_rather_one_of_its_own_source(stand: Stand) -> None:
    band = stand.play()
    band.publish_many([cloud("1", "/one"), cloud("1", "/two"), cloud("2", "/two", causationid="1")])

    assert [cause.source for cause in band.why("2").causes] == ["/two"]
    assert reaction(band, f"{band.id}-0") == []
    assert reaction(band, f"{band.id}-1") == [{"from": "/two"}]


def test_dead_letters_that_share_an_id_are_heard_again_together_or_by_their_place(stand: Stand) -> None:
    heard: list[str] = []
    is_mended: list[bool] = []

    def hear(event: Event) -> None:
        if not is_mended:
            raise ValueError("no")
        heard.append(event.source)

    band = stand.play({"hear": part(hear, "said", retry={"attempts": 1})}, clock=ManualClock())
    band.publish_many([cloud("1", source) for source in ("/one", "/two", "/three")])
    band.settle()
    is_mended.append(True)

    assert band.retry_dead(id=f"{band.id}-1") == 1
    band.settle()
    assert heard == ["/two"]
    assert band.retry_dead(id="1") == 2
    band.settle()
    assert heard == ["/two", "/one", "/three"]
    assert band.retry_dead(id="1") == 0


@pytest.mark.parametrize("offset", ["0", "1", "99", "007"])
def test_a_publisher_can_not_give_an_id_that_the_log_makes(stand: Stand, offset: str) -> None:
    band = stand.play()
    band.publish("said", "first")

    with pytest.raises(InvalidEvent, match=r"id '.*-\d+' is one that this band itself gives; choose another"):
        band.publish("said", id=f"{band.id}-{offset}")
    with pytest.raises(InvalidEvent, match=r"item 1: .* is one that this band itself gives"):
        band.publish_many([cloud(f"{band.id}-{offset}")])

    band.publish("said", id=f"{band.id}-x")
    band.publish("said", id=f"other-{offset}")


def test_a_publishers_trace_goes_on_in_what_is_said_later_and_in_what_is_said_on_failure(stand: Stand) -> None:
    def later(event: Event) -> Any:
        return emit("later", 1, after="1s")

    def fail(event: Event) -> None:
        raise ValueError

    once = {"attempts": 1}
    parts = {
        "later": part(later, "said", emits=["later"]),
        "fail": part(fail, "said", retry=once, on_failure={"emit": "failed"}),
        "die": part(fail, "said", retry=once),
        "hear": part(lambda event: None, "later"),
    }
    clock = ManualClock()
    band = stand.play(parts, clock=clock)
    band.publish_many([cloud("1", traceparent=TRACE)])
    band.settle()

    band = stand.play(parts, clock=clock)
    clock.advance(seconds=2)

    events = [*band.events(), *band.events("_band.dead")]
    assert {event.topic for event in events} == {"said", "later", "failed", "_band.dead"}
    assert {event.traceparent.split("-")[1] for event in events} == {"ab" * 16}


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "9999-12-31T23:59:59Z"])
def test_a_time_that_no_calendar_has_in_utc_is_refused(stand: Stand, time: str) -> None:
    band = stand.play()

    with pytest.raises(InvalidEvent, match="beyond the calendar"):
        band.publish("said", time=time)

    band.publish("said", time="9999-12-30T23:59:59Z")
    band.publish("said", time="0001-01-03T00:00:00+12:00")
    assert [event.cloudevent()["time"] for event in band.events()] == ["9999-12-30T23:59:59Z", "0001-01-02T12:00:00Z"]
