"""Events keep the version in which they were said, and are heard in that of today (docs/evolution.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

import ensemble
from ensemble import Event, InvalidEvent, ScoreError, emit
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("on Ray the same is shown by tests/conformance/test_evolution.py")

HERE = __name__


def to_2(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"total": data["cents"] / 100, "user": data.get("user")}


def to_3(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, "currency": "EUR"}


def explodes(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"total": 100 / data["cents"]}


def forgets(data: Mapping[str, Any]) -> None:
    dict(data)["total"] = 1


def wrong(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"total": "much"}


def said(version: int, *upcast: str, **more: Any) -> dict[str, Any]:
    entry = {"version": version, "upcast": [f"{HERE}:{name}" for name in upcast], **more}
    return {"ordered": {key: value for key, value in entry.items() if value}}


def see(event: Event, ctx: Any) -> None:
    ctx.state["seen"] = [*ctx.state.get("seen", []), [event.version, event.data]]


SEE = {"see": part(see, "ordered")}


def seen(band: Any, key: str = "a") -> list[Any]:
    states: list[Any] = band.table("see")[key]["seen"]
    return states


def test_what_was_said_before_is_heard_in_the_version_of_now_by_who_comes_later(stand: Stand) -> None:
    band = stand.play()
    band.publish("ordered", {"cents": 250}, key="a")
    band = stand.play(events=said(2, "to_2"))
    band.publish("ordered", {"total": 3.5, "user": "u"}, key="a")

    band = stand.play(SEE, events=said(3, "to_2", "to_3"))
    band.publish("ordered", {"total": 1, "user": "u", "currency": "USD"}, key="a")
    band.settle(30)

    assert seen(band) == [
        [3, {"total": 2.5, "user": None, "currency": "EUR"}],
        [3, {"total": 3.5, "user": "u", "currency": "EUR"}],
        [3, {"total": 1, "user": "u", "currency": "USD"}],
    ]


def test_a_reader_tells_what_was_said_and_in_which_version_unless_it_is_to_lift(stand: Stand) -> None:
    stand.play().publish("ordered", {"cents": 250}, key="a")
    band = stand.play(events=said(2, "to_2"))
    band.publish("ordered", {"total": 3.5}, key="a")

    with stand.reader() as reader:
        for half in (band, reader):
            assert [(event.version, event.data) for event in half.events("ordered")] == [
                (1, {"cents": 250}),
                (2, {"total": 3.5}),
            ]
            lifted = [(event.version, event.data) for event in half.events("ordered", lifted=True)]
            assert lifted == [(2, {"total": 2.5, "user": None}), (2, {"total": 3.5})]
        first, second = (event.cloudevent() for event in reader.events("ordered"))
    assert "dataschema" not in first
    assert second["dataschema"] == "ensemble:ordered:2"


class Ordered(msgspec.Struct):
    total: float
    user: str | None = None


def typed(order: Ordered, ctx: Any) -> None:
    ctx.state["seen"] = [*ctx.state.get("seen", []), order.total]


async def later(event: Event, ctx: Any) -> None:
    ctx.state["seen"] = [*ctx.state.get("seen", []), event.data["total"]]


@pytest.mark.parametrize("call", [typed, later])
def test_typed_and_asynchronous_players_hear_lifted_data(stand: Stand, call: Any) -> None:
    stand.play().publish_many({"topic": "ordered", "key": "a", "data": {"cents": n}} for n in (100, 200))

    band = stand.play({"see": part(call, "ordered")}, events=said(2, "to_2"))
    band.settle(30)

    assert seen(band) == [1.0, 2.0]


def test_whole_batches_are_lifted_and_others_of_the_frame_are_not_touched(stand: Stand) -> None:
    heard: list[Any] = []

    def all_of(events: list[Event]) -> None:
        heard.extend((event.topic, event.data) for event in events)

    stand.play().publish_many({"topic": topic, "key": "a", "data": {"cents": 100}} for topic in ("ordered", "paid", "ordered"))
    stand.play({"all": part(all_of, ["ordered", "paid"])}, events=said(2, "to_2")).settle(30)

    order = {"total": 1.0, "user": None}
    assert heard == [("ordered", order), ("paid", {"cents": 100}), ("ordered", order)]


def test_conditions_lanes_lookups_and_keys_of_state_see_lifted_data(stand: Stand) -> None:
    def remember(event: Event, ctx: Any) -> None:
        ctx.state["name"] = event.data["name"]

    def charge(event: Event, ctx: Any) -> None:
        ctx.state["seen"] = [*ctx.state.get("seen", []), [event.data["total"], event.data["who"]]]

    band = stand.play({"users": part(remember, "known")})
    band.publish("known", {"name": "Ella"}, key="u-1")
    band.publish_many({"topic": "ordered", "key": "a", "data": {"cents": n, "user": "u-1"}} for n in (100, 900))
    band.settle(30)

    parts = {
        "users": part(remember, "known"),
        "see": part(charge, {"event": "ordered", "where": "data.total > 5.0"}, by="user", enrich={"who": "users[data.user]"}),
    }
    band = stand.play(parts, events=said(2, "to_2"))
    band.settle(30)

    assert dict(band.table("see").items()) == {"u-1": {"seen": [[9.0, {"name": "Ella"}]]}}


def test_motifs_hear_lifted_events_and_their_matches_have_them(stand: Stand) -> None:
    def matched(match: ensemble.Match, ctx: Any) -> None:
        ctx.state["seen"] = [[event.version, event.data["total"]] for event in match.events]

    stand.play().publish_many({"topic": "ordered", "key": "a", "data": {"cents": n}} for n in (100, 300))

    rising = {
        "seq": [{"event": "ordered", "as": "a"}, {"event": "ordered", "as": "b", "where": "b.data.total > 2.0 * a.data.total"}]
    }
    band = stand.play({"see": part(matched, rising)}, events=said(2, "to_2"))
    band.settle(30)

    assert band.table("see")["a"]["seen"] == [[2, 1.0], [2, 3.0]]


def test_what_a_motif_keeps_in_a_snapshot_is_lifted_when_it_wakes(stand: Stand) -> None:
    def matched(match: ensemble.Match, ctx: Any) -> None:
        ctx.state["n"] = len(match.events)

    def rising(field: str) -> Any:
        where = f"data.total > a.data.{field}"
        return {"seq": [{"event": "ordered", "as": "a"}, {"event": "paid", "where": where}]}

    band = stand.play({"see": part(matched, rising("total"))})
    band.publish("ordered", {"cents": 250}, key="a")
    band.settle(30)
    stand.leave()  # which keeps a snapshot, with the half match in it

    band = stand.play({"see": part(matched, rising("total"))}, events=said(2, "to_2"))
    band.publish("paid", {"total": 3.0}, key="a")
    band.settle(30)

    assert band.table("see")["a"] == {"n": 2}


@pytest.mark.parametrize(
    ("upcast", "why"),
    [
        (
            "explodes",
            "ordered: upcast from version 1: tests.band.test_evolution:explodes raised ZeroDivisionError: division by zero",
        ),
        ("forgets", "tests.band.test_evolution:forgets gave None; let it return the data"),
        (
            "wrong",
            "tests.band.test_evolution:wrong gave what it can't be: ordered: data.total: expected a number, found 'much'",
        ),
    ],
)
@pytest.mark.parametrize("call", [see, typed])
def test_an_upcaster_that_fails_makes_a_dead_letter_that_names_it(stand: Stand, call: Any, upcast: str, why: str) -> None:
    stand.play().publish_many({"topic": "ordered", "key": key, "data": {"cents": n}} for key, n in (("a", 0), ("b", 50)))

    schema = {"type": "object", "properties": {"total": {"type": "number"}}}
    band = stand.play({"see": part(call, "ordered")}, events=said(2, upcast, schema=schema))
    band.settle(30)

    letter = band.dead()[0]
    assert letter.event.key == "a"
    assert why in letter.error
    assert letter.attempts == 1, "another attempt would fail as well"
    if upcast == "explodes":
        assert len(band.dead()) == 1, "others are heard"
    with pytest.raises(InvalidEvent, match="upcast"):
        _ = next(band.events("ordered", key="a", lifted=True)).data
    assert next(band.events("ordered", key="a")).data == {"cents": 0}


def test_a_dead_letter_is_heard_again_in_the_version_of_now(stand: Stand) -> None:
    def picky(event: Event) -> None:
        raise ensemble.Reject("not yet")

    band = stand.play({"see": part(picky, "ordered")})
    band.publish("ordered", {"cents": 250}, key="a")
    band.settle(30)

    band = stand.play(SEE, events=said(2, "to_2"))
    band.retry_dead()
    band.settle(30)

    assert seen(band) == [[2, {"total": 2.5, "user": None}]]
    assert band.dead() == []


def test_players_timers_and_answers_of_failures_say_in_the_version_of_their_score(stand: Stand) -> None:
    clock = ManualClock()

    def answer(event: Event) -> Any:
        if event.data == 13:
            raise ensemble.Reject("thirteen")
        return [emit("ordered", cents=100), emit("ordered", cents=200, after="1h")]

    events = {**said(1), "failed": {"version": 7}}
    parts = {"it": part(answer, "asked", emits=["ordered"], on_failure={"emit": "failed"})}
    band = stand.play(parts, events=events, clock=clock)
    band.publish("asked", 1, key="a")
    band.publish("asked", 13, key="a")
    band.settle()
    assert [event.version for event in band.events("failed")] == [7]

    newer = {**said(2, "to_2"), "failed": {"version": 7}}
    band = stand.play({**parts, **SEE}, events=newer, clock=clock)
    clock.advance(hours=1)  # the timer was set in version 1
    band.settle()

    assert [event.version for event in band.events("ordered")] == [1, 1]
    assert seen(band) == [[2, {"total": 1.0, "user": None}], [2, {"total": 2.0, "user": None}]]


def test_a_motif_hears_what_a_timer_of_before_says_as_of_now(stand: Stand) -> None:
    def remind(event: Event) -> Any:
        return emit("ordered", cents=200, after="1h")

    def matched(match: ensemble.Match, ctx: Any) -> None:
        ctx.state["totals"] = [event.data["total"] for event in match.events]

    clock, parts = ManualClock(), {"remind": part(remind, "asked", emits=["ordered"])}
    band = stand.play(parts, clock=clock)
    band.publish("asked", 1, key="a")
    band.settle()

    twice = {"seq": [{"event": "ordered", "where": "data.total > 1.0"}, "paid"]}
    band = stand.play({**parts, "see": part(matched, twice)}, events={**said(2, "to_2"), "paid": {}}, clock=clock)
    clock.advance(hours=1)
    band.publish("paid", {"total": 2}, key="a")
    band.settle()

    assert band.table("see")["a"] == {"totals": [2.0, 2]}


def test_a_table_is_rebuilt_from_lifted_events(stand: Stand) -> None:
    stand.play().publish("ordered", {"cents": 250}, key="a")
    band = stand.play(SEE, events=said(2, "to_2"))
    band.settle(30)

    with band.rebuild("see") as rebuilding:
        assert rebuilding.compare().is_same


def test_a_table_is_rebuilt_though_conditions_and_lanes_go_by_other_fields_since(stand: Stand) -> None:
    def total(event: Event, ctx: Any) -> None:
        ctx.state["sum"] = ctx.state.get("sum", 0) + (event.data["cents"] / 100 if event.version == 1 else event.data["total"])

    def when(field: str, least: str) -> Any:
        return {"see": part(total, {"event": "ordered", "where": f"data.{field} > {least}"}, by="user")}

    band = stand.play(when("cents", "100"))
    band.publish_many({"topic": "ordered", "key": str(n), "data": {"cents": 50 * n, "user": "u"}} for n in range(6))
    band.settle(30)
    band = stand.play(when("total", "1.0"), events=said(2, "to_2"))
    band.publish_many({"topic": "ordered", "key": str(n), "data": {"total": 0.5 * n, "user": "u"}} for n in range(6))
    band.settle(30)
    assert band.table("see")["u"] == {"sum": 12.0}

    with band.rebuild("see") as rebuilding:
        compared = rebuilding.compare()
    assert (compared.heard, compared.is_same) == (6, True), compared


# Before anything plays


def test_a_version_from_which_nothing_lifts_is_refused_with_how_many_events_there_are(stand: Stand) -> None:
    stand.play().publish_many({"topic": "ordered", "key": "a", "data": {"cents": n}} for n in range(3))

    with pytest.raises(
        ScoreError, match=r"has 3 events of ordered in version 1, and nothing lifts from version 1; write upcast"
    ):
        stand.play(SEE, events=said(2))

    band = stand.play(SEE, events=said(2), breaking=True)
    band.settle(30)
    assert len(band.dead()) == 3
    assert "there is no upcast: from version 1" in band.dead()[0].error


def test_a_score_of_before_is_refused_where_the_store_has_later_versions(stand: Stand) -> None:
    stand.play(events=said(2)).publish("ordered", {"total": 1}, key="a")

    with pytest.raises(ScoreError, match=r"has 1 events of ordered in version 2, and here it has version 1; write version: 2"):
        stand.play(SEE, events={"ordered": {"about": "as it was"}})


def test_a_schema_that_is_broken_under_its_version_is_refused_and_one_that_only_grows_is_not(stand: Stand) -> None:
    def schema(**more: Any) -> dict[str, Any]:
        return {"ordered": {"schema": {"type": "object", "properties": {"cents": {"type": "integer"}}, **more}}}

    stand.play(events=schema()).publish("ordered", {"cents": 1}, key="a")
    stand.play(SEE, events=schema(properties={"cents": {"type": "number"}, "user": {"type": "string"}}))

    with pytest.raises(ScoreError) as refused:
        stand.play(SEE, events=schema(required=["user"]))
    assert "what the store has of ordered may not fit it any more" in str(refused.value)
    assert "data.cents was number, and is integer now" in str(refused.value)
    assert "Write version: 2 and upcast:" in str(refused.value)

    assert "data.user is required now, and may be missing in what was said" in str(refused.value)

    stand.play(SEE, events=schema(required=["user"]), breaking=True).settle(30)


class Was(msgspec.Struct):
    total: int


class Is(msgspec.Struct):
    total: str


def test_the_schemas_of_types_are_recorded_too(stand: Stand) -> None:
    stand.play(events={"ordered": {"type": f"{HERE}:Was"}}).publish("ordered", {"total": 1}, key="a")

    with pytest.raises(ScoreError, match=r"data\.total was integer, and is string now"):
        stand.play(SEE, events={"ordered": {"type": f"{HERE}:Is"}})


def test_a_band_that_plays_changes_over_to_another_version_if_that_lifts_what_was_said(stand: Stand) -> None:
    band = stand.play(SEE)
    band.publish("ordered", {"cents": 250}, key="a")
    band.settle(30)
    stage: Any = band._stage
    document = dict(band.score.document)

    with pytest.raises(ScoreError, match="nothing lifts from version 1"):
        stage.rescore({**document, "events": said(2)}, stage._roles, ["see"])
    assert band.status().sections["see"].heard == 1
    assert [frame.marks for frame in stand.frames() if "events" in frame.marks.get("score", {})] == []

    stage.rescore({**document, "events": said(2, "to_2")}, stage._roles, ["see"])
    band.publish("ordered", {"cents": 350}, key="a")  # by one who does not know yet
    band.settle(30)
    assert seen(band) == [[1, {"cents": 250}], [2, {"total": 3.5, "user": None}]]


def test_what_was_never_said_may_change_as_it_likes(stand: Stand) -> None:
    stand.play(events={"ordered": {"type": f"{HERE}:Was"}}).publish("other", 1)

    band = stand.play(SEE, events={"ordered": {"type": f"{HERE}:Is"}})
    band.settle(30)

    assert [event.topic for event in band.events()] == ["other"]
    assert band.dead() == []


# The score


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"version": 3, "upcast": {"1": "a:b"}}, "it lifts from version 1, and not from version 2"),
        ({"version": 2, "upcast": ["a:b", "a:c"]}, "there is no version 2 to lift from: ordered has version 2"),
        ({"version": 2, "upcast": {"x": "a:b"}}, "there is no version x to lift from"),
        ({"version": 2, "upcast": ["nowhere"]}, "'nowhere' is not module:name"),
        ({"version": 0}, "0 is not a whole number from 1 to 1000000"),
        ({"version": 2, "upcast": [f"{HERE}:nothing"]}, "has no 'nothing'"),
    ],
)
def test_a_wrong_version_or_upcast_is_told_with_its_place(entry: dict[str, Any], why: str) -> None:
    with pytest.raises(ScoreError) as told:
        ensemble.open({"name": "test", "events": {"ordered": entry}}, store="memory:")
    assert why in str(told.value)
    assert "events" in str(told.value)
