"""What another score would break is told by player, field and reason; what it only changes, too."""

from __future__ import annotations

from typing import Any

import pytest

import ensemble
from ensemble.score.behaviour import behaviour
from ensemble.score.diff import Diff, diff
from tests.score import players_that_read as players

HERE = "tests.score.players_that_read"
TOTAL: dict[str, Any] = {"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}, "note": {}}}


def score(schema: Any = TOTAL, *, play: str = "by_name", entry: Any = None, **says: Any) -> ensemble.Score:
    return ensemble.load(
        {
            "name": "shop",
            "events": {"ordered": {"schema": schema, **(entry or {})}, "paid": {}},
            "players": {"it": {"on": "ordered", "play": f"{HERE}:{play}", **says}},
        }
    )


def without(name: str) -> dict[str, Any]:
    properties = {each: what for each, what in TOTAL["properties"].items() if each != name}
    return {"type": "object", "required": [each for each in TOTAL["required"] if each != name], "properties": properties}


def told(found: Diff) -> list[str]:
    return [str(each) for each in found.breaks]


def test_the_same_score_breaks_nothing_and_changes_nothing() -> None:
    assert diff(score(), score()) == Diff((), ())


@pytest.mark.parametrize(
    ("play", "says", "reason"),
    [
        ("by_name", {}, "tests/score/players_that_read.py:13 asks for it"),
        ("Asks", {}, "tests/score/players_that_read.py:36 asks for it"),
        ("typed", {}, "Order has it"),
        ("nothing_seen", {"by": "total"}, "by: goes by total"),
        ("nothing_seen", {"on": {"event": "ordered", "where": "data.total > 5.0"}}, "where: asks for data.total"),
        ("nothing_seen", {"enrich": {"x": "it2[data.total]"}}, "enrich: x is looked up by data.total"),
    ],
)
def test_a_field_that_is_gone_breaks_who_asks_for_it(play: str, says: Any, reason: str) -> None:
    found = diff(score(play=play, **says), score(without("total"), play=play, **says))

    assert told(found) == [f"players.it: data.total of ordered is not there any more, and {reason}"]


def test_it_breaks_nobody_who_does_not_ask_for_it() -> None:
    found = diff(score(play="nothing_seen"), score(without("total"), play="nothing_seen"))

    assert found.is_compatible
    assert found.changes == ("events[ordered]: data.total is not there any more",)


def test_a_field_that_may_be_missing_hurts_who_can_not_do_without() -> None:
    optional = {**TOTAL, "required": []}
    note = {**TOTAL, "required": ["total", "note"]}

    assert told(diff(score(), score(optional)))[0].startswith("players.it: data.total of ordered may be missing now, and")
    assert diff(score(note), score()).is_compatible, "it asks for the note with .get"


def test_what_was_said_before_and_may_not_fit_breaks_whoever_hears_it_unless_it_is_lifted() -> None:
    narrower = {**TOTAL, "properties": {"total": {"type": "integer"}, "note": {}}}

    [broken] = diff(score(play="nothing_seen"), score(narrower, play="nothing_seen")).breaks
    assert (broken.player, broken.topic, broken.field) == ("it", "ordered", "data.total")
    assert "was number, and is integer now: what was said before may not fit; raise version: and write upcast:" in broken.reason
    lifted = score(narrower, play="nothing_seen", entry={"version": 2, "upcast": [f"{HERE}:typed"]})
    assert diff(score(play="nothing_seen"), lifted).is_compatible


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({}, {"version": 2}, "ordered has version 2 now, and nothing lifts what was said in version 1: write upcast:"),
        ({"version": 3}, {"version": 2}, "ordered has version 2, and had version 3: what was said since can't be heard"),
    ],
)
def test_versions_that_can_not_be_lifted_break_who_hears_the_event(before: Any, after: Any, reason: str) -> None:
    assert told(diff(score(entry=before), score(entry=after))) == [f"players.it: {reason}"]


def test_another_key_breaks_who_keeps_state_by_it() -> None:
    assert told(diff(score(play="keeps"), score(play="keeps", entry={"key": "total"}))) == [
        "players.it: ordered: its key was given, and is total now: the state that it keeps goes by the key of before"
    ]
    assert diff(score(play="typed"), score(play="typed", entry={"key": "total"})).is_compatible
    assert not diff(score(play="keeps"), score(play="keeps", by="total")).is_compatible


def test_a_player_that_hears_matches_now_or_did_is_broken() -> None:
    several = {"seq": ["ordered", "paid"]}

    assert told(diff(score(), score(on=several))) == [
        "players.it: on: it hears a match of several events now, and heard single events"
    ]
    assert "heard a match of several events" in told(diff(score(on=several), score()))[0]


def test_a_label_that_is_gone_breaks_who_asks_for_it() -> None:
    labelled = {"seq": [{"event": "ordered", "as": "first"}, "paid"]}
    renamed = {"seq": [{"event": "ordered", "as": "begin"}, "paid"]}

    assert told(diff(score(play="of_a_match", on=labelled), score(play="of_a_match", on=renamed))) == [
        "players.it: on: no event of the motif has the label 'first' any more, and it asks for it"
    ]
    assert diff(score(play="nothing_seen", on=labelled), score(play="nothing_seen", on=renamed)).is_compatible


def test_an_event_that_is_heard_from_now_on_should_have_what_its_player_asks_for() -> None:
    paid = {"events": {"paid": {"schema": {"type": "object", "properties": {"amount": {}}}}}}
    old, new = score(), score(on=["ordered", "paid"])
    new = ensemble.load({**new.document, "events": {**new.document["events"], **paid["events"]}})

    assert "players.it: data.total of paid is not there, and tests/score/players_that_read.py:13 asks for it" in told(
        diff(old, new)
    )


def test_an_event_that_nobody_says_any_more_breaks_who_waits_for_it() -> None:
    def saying(*emits: str) -> ensemble.Score:
        return ensemble.load(
            {
                "name": "shop",
                "players": {
                    "says": {"on": "asked", "play": f"{HERE}:keeps", "emits": list(emits)},
                    "waits": {"on": "told", "play": f"{HERE}:keeps"},
                },
            }
        )

    assert told(diff(saying("told"), saying("other"))) == [
        "players.waits: it hears told, which says does not say any more, nor anybody"
    ]


def test_another_type_of_state_that_does_not_take_what_was_remembered_breaks_its_player() -> None:
    def keeping(name: str) -> ensemble.Score:
        return score(play="keeps", state={"type": f"{HERE}:{name}"})

    assert told(diff(keeping("Small"), keeping("Other"))) == [
        "players.it: state: ctx.state.n was integer, and is string now: what it remembers may not fit"
    ]


def test_what_only_changes_is_listed() -> None:
    new = ensemble.load(
        {
            **score(on={"event": "ordered", "where": "data.total > 1.0"}).document,
            "events": {
                "ordered": {"schema": {**TOTAL, "properties": {**TOTAL["properties"], "more": {}}}},
                "paid": {},
                "new": {},
            },
        }
    )
    assert diff(score(), new) == Diff(
        (), ("events[ordered]: data.more is new", "events[new] is new", "players.it: on: is another")
    )


@pytest.mark.parametrize(
    ("call", "paths"),
    [
        (players.by_name, [("total",), ("note",)]),
        (players.through_a_name, [("customer", "id")]),
        (players.through_a_function, [("rate",)]),
        (players.nothing_seen, []),
        (players.Asks, [("total",)]),
        (players.of_a_match, [("total",)]),
    ],
)
def test_the_fields_that_code_asks_for_are_seen(call: Any, paths: Any) -> None:
    assert [reading.path for reading in behaviour(call).reads] == paths
    assert behaviour(players.of_a_match).labels == ("first",)
