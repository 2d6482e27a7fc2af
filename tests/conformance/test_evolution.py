"""Events of older versions are lifted for who hears them, on every stage and store (docs/evolution.md)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ensemble import Event, Match, emit
from tests.conformance.stand import Stand, part

HERE = __name__
NOW = {"ordered": {"version": 2, "upcast": [f"{HERE}:to_2"]}}


def to_2(data: Any) -> Any:
    return {"total": 100 / data["cents"], "user": data["user"]}


def note(event: Event, ctx: Any) -> None:
    ctx.state["seen"] = [*ctx.state.get("seen", []), [event.version, event.data["total"]]]


class Ordered(msgspec.Struct):
    total: float
    user: str


def note_typed(order: Ordered, ctx: Any) -> None:
    ctx.state["seen"] = [*ctx.state.get("seen", []), [2, order.total]]


@pytest.mark.parametrize("call", [note, note_typed])
def test_what_was_said_in_version_1_is_heard_in_version_2_by_the_lane_of_now(stand: Stand, call: Any) -> None:
    band = stand.play()
    orders = [(f"o-{n}", {"cents": 25 * n, "user": f"u-{n % 2}"}) for n in range(1, 9)]
    band.publish_many({"topic": "ordered", "key": key, "data": data} for key, data in orders)
    band = stand.play({"note": part(call, "ordered", by="user")}, events=NOW)
    band.publish("ordered", {"total": 0.25, "user": "u-1"}, key="o-9")
    band.settle(30)

    seen = {user: sorted(state["seen"]) for user, state in band.table("note").items()}  # of several orders none comes first
    assert seen == {
        "u-0": sorted([2, 100 / (25 * n)] for n in (2, 4, 6, 8)),
        "u-1": sorted([[2, 0.25], *([2, 100 / (25 * n)] for n in (1, 3, 5, 7))]),
    }
    assert [event.version for event in band.events("ordered")] == [1] * 8 + [2]
    with stand.reader() as reader:
        assert [event.version for event in reader.events("ordered")] == [1] * 8 + [2]


def say_again(event: Event) -> Any:
    return emit("ordered", total=event.data, user="u"), emit("ordered", total=event.data, user="u", key="elsewhere")


def test_what_players_say_has_the_version_of_their_score_wherever_it_is_said(stand: Stand) -> None:
    band = stand.play({"it": part(say_again, "asked", emits=["ordered"]), "note": part(note, "ordered")}, events=NOW)
    band.publish_many({"topic": "asked", "key": f"k-{n}", "data": n} for n in range(4))
    band.settle(30)

    assert [event.version for event in band.events("ordered")] == [2] * 8
    assert sorted(band.table("note")["elsewhere"]["seen"]) == [[2, n] for n in range(4)]


def test_an_upcaster_that_raises_makes_a_dead_letter_that_names_it_and_harms_nobody_else(stand: Stand) -> None:
    band = stand.play()
    band.publish_many({"topic": "ordered", "key": f"o-{n}", "data": {"cents": n, "user": "u"}} for n in range(3))
    band = stand.play({"note": part(note, "ordered")}, events=NOW)
    band.settle(30)

    [letter] = band.dead()
    assert letter.event.key == "o-0"
    assert f"ordered: upcast from version 1: {HERE}:to_2 raised ZeroDivisionError" in letter.error
    assert set(band.table("note")) == {"o-1", "o-2"}


def matched(match: Match, ctx: Any) -> None:
    ctx.state["totals"] = [event.data["total"] for event in match.events]


def test_a_motif_and_its_match_have_lifted_events(stand: Stand) -> None:
    band = stand.play()
    band.publish_many({"topic": "ordered", "key": "o", "data": {"cents": cents, "user": "u"}} for cents in (100, 25))
    falling = {"seq": [{"event": "ordered", "as": "a"}, {"event": "ordered", "where": "data.total > a.data.total"}]}
    band = stand.play({"it": part(matched, falling)}, events=NOW)
    band.settle(30)

    assert band.table("it")["o"] == {"totals": [1.0, 4.0]}
