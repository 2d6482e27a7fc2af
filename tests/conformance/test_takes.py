"""A take is played on every stage as a log of its own that has its parent's past (docs/takes.md)."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble import Event, Match, emit, takes
from tests.conformance.home import at_home
from tests.conformance.stand import Stand, part


def hear(event: Event, ctx: Any) -> Any:
    ctx.state["sum"] = ctx.state.get("sum", 0) + event.data
    return emit("heard", of=event.id, cause=event.causationid, sum=ctx.state["sum"], token=ctx.token)


def together(events: list[Event]) -> Any:
    return emit("together", [event.id for event in events])


PLAYED_SELDOM = pytest.mark.everywhere("on Ray it takes seconds; tests/takes says the same of one process")

SHOP = {"hear": part(hear, "came", emits=["heard"]), "together": part(together, "came", emits=["together"])}


def publish(band: Any, *numbers: int, key: str = "k") -> list[str]:
    return [band.publish("came", number, key=key).id for number in numbers]


def test_what_was_said_before_a_take_and_in_it_is_heard_as_one_log_with_the_ids_that_each_has(stand_on_disk: Stand) -> None:
    stand = stand_on_disk
    band = stand.play()
    before = publish(band, 1, 2)
    stand.leave()
    takes.new(stand.url, "what-if")
    band = stand.play(take="what-if")
    inside = publish(band, 10, 20)

    band = stand.play(SHOP, take="what-if")  # who plays now hears what lies on both sides of the joint
    band.settle(30)

    heard = [event.data for event in band.events("heard")]
    assert [(each["of"], each["sum"]) for each in heard] == list(zip([*before, *inside], [1, 3, 13, 33], strict=True))
    assert [event.causationid for event in band.events("heard")] == [*before, *inside]
    assert [id for event in band.events("together") for id in event.data] == [*before, *inside]
    assert len({id.rpartition("-")[0] for id in [*before, *inside]}) == 2
    assert band.table("hear")["k"] == {"sum": 33}
    assert [answer.event.topic for answer in band.why(before[0]).tree.said if answer.event.topic == "heard"] == ["heard"]
    assert [cause.id for cause in band.why(next(band.events("heard")).id).causes] == [before[0]]
    stand.leave()
    with stand.reader() as main:
        assert [event.id for event in main.events()] == before


@PLAYED_SELDOM
def test_an_event_of_the_past_has_the_same_token_in_a_take_as_in_its_parent(stand_on_disk: Stand) -> None:
    stand = stand_on_disk
    publish(stand.play(), 1, 2, 3)
    stand.leave()
    takes.new(stand.url, "what-if")
    tokens = {}

    for take in ("main", "what-if"):
        band = stand.play(SHOP, take=take)
        band.settle(30)
        tokens[take] = [event.data["token"] for event in band.events("heard")]

    assert tokens["main"] == tokens["what-if"]
    assert len(set(tokens["main"])) == 3


def matched(match: Match) -> Any:
    return emit("matched", {label: match[label].id for label in match.labels})


@PLAYED_SELDOM
def test_a_match_has_events_from_before_the_take_and_from_it(stand_on_disk: Stand) -> None:
    stand = stand_on_disk
    motif = {"seq": [{"event": "came", "as": "first"}, {"event": "gone", "as": "last"}]}
    parts = {"match": part(matched, motif, emits=["matched"])}
    band = stand.play(parts)
    [before] = publish(band, 1)
    stand.leave()
    takes.new(stand.url, "what-if")

    band = stand.play(parts, take="what-if")
    inside = band.publish("gone", key="k").id
    band.settle(30)

    assert [event.data for event in band.events("matched")] == [{"first": before, "last": inside}]


def pretend(event: Event, ctx: Any) -> Any:
    return emit("charged", live=f"pretended, {ctx.live}")


@pytest.mark.parametrize(
    ("says", "charged", "told"),
    [
        pytest.param(None, [], [False], id="left-out", marks=PLAYED_SELDOM),
        pytest.param("mute", [], [], id="mute", marks=PLAYED_SELDOM),
        pytest.param("allow", [1], [True], id="allow", marks=PLAYED_SELDOM),
        pytest.param({"stub": f"{__name__}:pretend"}, [], ["pretended, False"], id="stub"),
    ],
)
def test_what_is_done_outside_is_not_done_in_a_take_that_is_not_current(
    stand_on_disk: Stand, says: Any, charged: list[int], told: list[Any]
) -> None:
    stand, did = stand_on_disk, at_home([])

    async def charge(event: Event, ctx: Any) -> Any:  # asynchronous, as its stand-ins are not
        if ctx.live:
            did.append(event.data)
        return emit("charged", live=ctx.live)

    publish(stand.play(), 1)
    stand.leave()
    takes.new(stand.url, "what-if")
    given = {} if says is None else {"outside": says}

    band = stand.play({"charge": part(charge, "came", emits=["charged"], **given)}, take="what-if")
    band.settle(30)

    assert band.status().sections["charge"].heard == 1
    assert [event.data["live"] for event in band.events("charged")] == told
    assert list(did) == charged


@PLAYED_SELDOM
def test_after_a_rollback_the_take_is_played_live_and_main_is_not(stand_on_disk: Stand) -> None:
    stand = stand_on_disk
    lives = {"charge": part(live, "came", emits=["charged"])}
    publish(stand.play(), 1)
    stand.leave()
    takes.rollback(stand.url, 0 if stand.shards == 1 else None)

    for take, said in ((None, True), ("main", False)):
        band = stand.play(lives, take=take)
        publish(band, 2)
        band.settle(30)
        assert {event.data["live"] for event in band.events("charged")} == {said}
        assert band.name == "test"


def live(event: Event, ctx: Any) -> Any:
    return emit("charged", live=ctx.live)


@PLAYED_SELDOM
def test_a_take_is_played_beside_main_each_by_itself(stand_on_disk: Stand) -> None:
    stand = stand_on_disk
    band = stand.play(SHOP)
    publish(band, 1)
    band.settle(30)
    stand.leave()
    takes.new(stand.url, "what-if")
    other = Stand(stand.setup, stand.folder, stand.url, stand.shards)

    main, there = stand.play(SHOP), other.play(SHOP, take="what-if")
    publish(main, 100)
    publish(there, 1000)
    main.settle(30)
    there.settle(30)

    assert (main.table("hear")["k"], there.table("hear")["k"]) == ({"sum": 101}, {"sum": 1001})
    assert [event.data for event in main.events("came")] == [1, 100]
    assert [event.data for event in there.events("came")] == [1, 1000]
    other.leave()
