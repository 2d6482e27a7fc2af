"""An event is a valid CloudEvent 1.0; ids, causes, correlation and trace context travel along a chain by themselves."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest

from ensemble import Event, InvalidEvent, emit
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("what a band says of an event is the same wherever it plays")

RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(;.*)?")


def breaches(event: dict[str, Any]) -> list[str]:
    """What CloudEvents 1.0.2, its JSON format and the extensions that we use do not allow in an event."""
    wrong = []
    for name in ("id", "source", "specversion", "type"):
        if not isinstance(event.get(name), str) or not event[name]:
            wrong.append(f"{name} is required and must be text that is not empty")
    if event.get("specversion") != "1.0":
        wrong.append("specversion must be 1.0")
    for name, value in event.items():
        if name in ("data", "data_base64"):
            continue
        if not re.fullmatch(r"[a-z0-9]+", name):
            wrong.append(f"attribute name {name!r} must be lower-case letters and digits")
        if len(name) > 20:
            wrong.append(f"attribute name {name!r} should not be longer than 20 characters")
        if not isinstance(value, (str, bool, int)):
            wrong.append(f"{name} must be a string, boolean or integer, it is {value!r}")
        if isinstance(value, str) and (not value or any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in value)):
            wrong.append(f"{name} must not be empty or hold control characters")
        if isinstance(value, int) and not isinstance(value, bool) and not -(2**31) <= value < 2**31:
            wrong.append(f"{name} must fit 32 bits")
    if "source" in event and (re.search(r"[\s<>\"{}|\\^`]", str(event["source"])) or urlsplit(str(event["source"])) is None):
        wrong.append("source must be a URI-reference")
    if "time" in event and not RFC3339.fullmatch(str(event["time"])):
        wrong.append("time must be RFC 3339")
    if "dataschema" in event and not urlsplit(str(event["dataschema"])).scheme:
        wrong.append("dataschema must be a URI")
    if "datacontenttype" in event and not MEDIA_TYPE.fullmatch(str(event["datacontenttype"])):
        wrong.append("datacontenttype must be a media type")
    if "data" in event and "data_base64" in event:
        wrong.append("data and data_base64 exclude each other")
    if "traceparent" in event and not TRACEPARENT.fullmatch(str(event["traceparent"])):
        wrong.append("traceparent must be as W3C Trace Context has it")
    try:
        json.dumps(event, allow_nan=False)
    except (TypeError, ValueError) as error:
        wrong.append(f"it must be JSON: {error}")
    return wrong


def chain(stand: Stand) -> Any:
    """asked -> answered, answered -> thanked twice."""
    return stand.play(
        {
            "answer": part(lambda event: [emit("answered", 1), emit("answered", 2)], "asked", emits=["answered"]),
            "thank": part(lambda event: emit("thanked", event.data), "answered", emits=["thanked"]),
            "fail": part(fail, "thanked", retry={"attempts": 1}),
        }
    )


def fail(event: Event) -> None:
    raise ValueError("no")


def test_every_event_is_a_valid_cloudevent(stand: Stand) -> None:
    band = chain(stand)
    band.publish("asked", {"who": "Zoë", "when": [1, 2.5, None, True]}, key="k-1")
    band.publish("asked", None)
    band.publish("asked", 7, id="web 1/ü", time="2011-11-01T08:16:00Z")
    band.publish("lone", b"bytes", key="é")
    band.publish("dated", datetime(2026, 1, 1, tzinfo=UTC))
    band.publish_many(
        [
            {
                "specversion": "1.0",
                "id": "1",
                "source": "https://shop.example/carts?x=1",
                "type": "asked",
                "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            }
        ]
    )
    band.settle(30)

    events = [*band.events(), *band.events("_band.dead")]

    assert len(events) == 4 * 5 + 2 + 4 * 2
    assert {event.id: breaches(event.cloudevent()) for event in events} == {event.id: [] for event in events}


def test_these_tests_can_fail_a_wrong_cloudevent_is_seen() -> None:
    wrong = {"specversion": "1.1", "id": "", "source": "a b", "Type": "x", "time": "yesterday", "traceparent": "00-0-0-01"}

    assert len(breaches(wrong)) >= 7


def test_a_cloudevent_has_the_attributes_that_the_event_has(stand: Stand) -> None:
    band = chain(stand)
    asked = band.publish("asked", {"x": 1}, key="k-1")
    band.settle(30)
    event = next(iter(band.events("answered")))

    told = event.cloudevent()

    assert told["specversion"] == "1.0"
    assert (told["id"], told["type"], told["source"]) == (event.id, "answered", "/test/answer")
    assert told["subject"] == told["partitionkey"] == "k-1"
    assert told["sequence"] == f"{event.offset:020d}"
    assert told["causationid"] == told["correlationid"] == asked.id
    assert told["datacontenttype"] == "application/json"
    assert told["data"] == 1


def test_an_event_without_a_key_or_a_cause_leaves_these_attributes_out(stand: Stand) -> None:
    band = stand.play()
    band.publish("said", 1)

    [event] = band.events()

    assert {"subject", "partitionkey", "causationid"} & event.cloudevent().keys() == set()


def test_a_cloudevent_that_was_given_comes_out_as_it_came_in(stand: Stand) -> None:
    given = {
        "specversion": "1.0",
        "id": "A-1",
        "source": "/shop/web",
        "type": "order.placed",
        "subject": "o-1",
        "time": "2026-03-01T12:00:00.123456Z",
        "correlationid": "visit-9",
        "causationid": "click-7",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "data": {"total": 1},
    }
    band = stand.play()
    band.publish_many([given])

    [event] = band.events()
    told = event.cloudevent()

    kept = ("specversion", "id", "source", "type", "subject", "time", "correlationid", "causationid", "data")
    assert {name: told[name] for name in kept} == {name: given[name] for name in kept}
    assert told["traceparent"].split("-")[1] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_what_comes_out_can_go_in_again(stand: Stand) -> None:
    band = chain(stand)
    band.publish("asked", {"x": [1, None]}, key="k")
    band.settle(30)
    told = [event.cloudevent() for event in band.events()]

    other = Stand(stand.setup, stand.folder)
    copy = other.play()
    copy.publish_many(json.loads(json.dumps(told)))

    again = [event.cloudevent() for event in copy.events()]
    other.leave()
    for name in ("id", "source", "type", "subject", "time", "correlationid", "data"):
        assert [event[name] for event in again] == [event[name] for event in told]
    assert [event.get("causationid") for event in again] == [event.get("causationid") for event in told]


# Along a chain


def test_ids_are_unique_and_say_where_the_event_lies(stand: Stand) -> None:
    band = chain(stand)
    band.publish_many(range(100), topic="asked")
    band.settle(30)

    events = list(band.events())

    assert len({event.id for event in events}) == len(events)
    assert all(event.id == f"{band.id}-{event.offset}" for event in events)


def test_a_chain_shares_its_root_and_its_trace_and_each_event_names_its_cause(stand: Stand) -> None:
    band = chain(stand)
    asked = [band.publish("asked", number, key=f"k-{number}") for number in range(5)]
    band.settle(30)

    by_id = {event.id: event for event in [*band.events(), *band.events("_band.dead")]}

    roots = {receipt.id for receipt in asked}
    for event in by_id.values():
        if event.id in roots:
            assert (event.causationid, event.correlationid) == (None, event.id)
            continue
        assert event.causationid is not None
        cause = by_id[event.causationid]
        assert event.correlationid == cause.correlationid
        assert event.traceparent.split("-")[1] == cause.traceparent.split("-")[1]
        assert event.key == cause.key
        assert cause.offset < event.offset
    assert {event.correlationid for event in by_id.values()} == roots
    assert len({event.traceparent.split("-")[1] for event in by_id.values()}) == 5


def test_every_event_is_a_span_of_its_own(stand: Stand) -> None:
    band = chain(stand)
    band.publish("asked")
    band.settle(30)

    spans = [event.traceparent.split("-")[2] for event in band.events()]

    assert len(set(spans)) == len(spans) == 5
    assert all(TRACEPARENT.fullmatch(event.traceparent) for event in band.events())


def test_a_trace_that_came_from_outside_goes_on_along_the_chain(stand: Stand) -> None:
    band = chain(stand)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    band.publish_many(
        [
            {
                "specversion": "1.0",
                "id": "1",
                "source": "/shop",
                "type": "asked",
                "correlationid": "visit-9",
                "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
            }
        ]
    )
    band.settle(30)

    assert {event.correlationid for event in band.events()} == {"visit-9"}
    assert {event.traceparent.split("-")[1] for event in band.events()} == {trace}


def test_an_id_that_the_publisher_gave_is_the_cause_and_the_root_of_what_follows(stand: Stand) -> None:
    band = chain(stand)
    band.publish("asked", id="web-1")
    band.settle(30)

    assert {event.causationid for event in band.events("answered")} == {"web-1"}
    assert {event.correlationid for event in band.events()} == {"web-1"}
    assert [each.event.topic for each in band.why("web-1").tree.said] == ["answered", "answered"]
    assert band.why(next(iter(band.events("thanked"))).id).causes[0].id == "web-1"


# Time


@pytest.mark.parametrize(
    ("time", "told"),
    [
        ("2011-11-01T08:16:00Z", "2011-11-01T08:16:00Z"),
        ("2011-11-01T10:16:00+02:00", "2011-11-01T08:16:00Z"),
        ("2011-11-01T08:16:00.25Z", "2011-11-01T08:16:00.250000Z"),
        (datetime(2011, 11, 1, 8, 16, tzinfo=UTC), "2011-11-01T08:16:00Z"),
        (datetime(2011, 11, 1, 10, 16, tzinfo=timezone(timedelta(hours=2))), "2011-11-01T08:16:00Z"),
    ],
)
def test_the_time_that_the_publisher_says_is_kept_beside_the_brokers(stand: Stand, time: Any, told: str) -> None:
    band = stand.play()
    before = datetime.now(UTC)

    band.publish("said", time=time)

    [event] = band.events()
    assert event.cloudevent()["time"] == told
    assert before - timedelta(seconds=1) <= event.written_at <= datetime.now(UTC) + timedelta(seconds=1)


@pytest.mark.parametrize("time", ["yesterday", "2011-11-01", datetime(2011, 11, 1), 1320135360, "2011-11-01T08:16:00"])
def test_a_time_that_is_none_is_refused(stand: Stand, time: Any) -> None:
    band = stand.play()

    with pytest.raises(InvalidEvent, match="time"):
        band.publish("said", time=time)

    assert band.status().events == 0


# Why


def test_why_gives_the_causes_from_the_root_and_the_tree_of_what_followed(stand: Stand) -> None:
    band = chain(stand)
    asked = band.publish("asked", key="k")
    band.settle(30)
    answered = list(band.events("answered"))

    whole, part_of = band.why(asked.id), band.why(answered[1].id)

    assert (whole.event.id, whole.causes) == (asked.id, ())
    assert whole.tree.player is None
    assert [(each.event.topic, each.player, len(each.said)) for each in whole.tree.said] == [("answered", "answer", 1)] * 2
    assert [each.said[0].event.data for each in whole.tree.said] == [1, 2]
    assert [each.said[0].player for each in whole.tree.said] == ["thank"] * 2
    assert [event.topic for event in part_of.causes] == ["asked"]
    assert [each.event.topic for each in part_of.tree.said] == ["thanked"]
    last = band.why(part_of.tree.said[0].event.id)
    assert [event.topic for event in last.causes] == ["asked", "answered"]


def test_why_shows_a_dead_letter_as_what_followed(stand: Stand) -> None:
    band = chain(stand)
    band.publish("asked")
    band.settle(30)
    thanked = next(iter(band.events("thanked")))

    [dead] = band.why(thanked.id).tree.said

    assert (dead.event.topic, dead.player) == ("_band.dead", "fail")


def test_why_of_a_very_long_chain_is_no_trouble(stand: Stand) -> None:
    band = stand.play(
        {"count": part(lambda event: emit("n", event.data + 1) if event.data < 1500 else None, "n", emits=["n"])}
    )
    first = band.publish("n", 0)
    band.settle(60)

    chain_of = band.why(first.id)
    depth, here = 0, chain_of.tree
    while here.said:
        [here] = here.said
        depth += 1

    assert depth == 1500
    assert len(band.why(here.event.id).causes) == 1500


def test_why_of_an_unknown_event_says_so(stand: Stand) -> None:
    from ensemble import OffsetError

    band = stand.play()

    for id_ in ("nobody", f"{band.id}-7", ""):
        with pytest.raises(OffsetError, match="there is no event"):
            band.why(id_)
