"""Checking: what the static checks see, what they keep quiet about, and that each finding is explained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

import ensemble
from ensemble import Event, emit
from ensemble.event import Emission
from ensemble.score import check, json_schema
from ensemble.score.behaviour import behaviour
from ensemble.score.codes import CODES
from ensemble.score.source import read_text
from tests.score.players_of_shapes import Paid
from tests.score.test_properties import GOOD

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "check-codes.md"
WRONG = Path(__file__).parent / "wrong"


def codes(score: Any, **options: Any) -> list[str]:
    return [f"{finding.code} {finding.path}" for finding in check(ensemble.load(score), **options)]


# The codes


def test_every_code_is_explained_with_cause_and_cure() -> None:
    sections = dict(re.findall(r"^## `([a-z-]+)`\n(.*?)(?=^## |\Z)", DOCS.read_text(), flags=re.M | re.S))

    assert set(sections) == set(CODES)
    for code, text in sections.items():
        assert f"**{CODES[code].severity.capitalize()}.**" in text, code
        assert "Cause:" in text, code
        assert "Cure:" in text, code


def test_every_code_is_given_by_some_wrong_score() -> None:
    """By its own check or load: the texts of the corpus are what these give, so their codes are too."""
    told = {finding.code for path in WRONG.glob("**/*.yaml") if "parts" not in path.parts for finding in found(path)}
    of_files_and_players = {"evolution", "score-file", "event-type", "event-upcast", "player-import", "player-signature"} | {
        "emits-undeclared", "emits-schema", "hears-type", "unknown-field", "endless-cycle", "state-without-key", "state-type",
    }  # fmt: skip

    assert set(CODES) - told - of_files_and_players == set()


def found(path: Path) -> tuple[Any, ...]:
    try:
        return check(ensemble.load(path), imports=False)
    except ensemble.ScoreError as error:
        return error.findings


# Topics


def test_a_score_that_hears_what_it_says_is_silent() -> None:
    assert codes('name: x\nplayers:\n  a: {on: b, emits: [c], play: "m:f"}\n  d: {on: c, play: "m:f"}\n', imports=False) == []


def test_what_is_declared_may_come_from_outside() -> None:
    score = {"name": "x", "events": {"b.*": {}}, "players": {"a": {"on": "b.c", "play": "m:f"}}}

    assert codes(score, imports=False) == []


def test_the_bands_own_events_are_always_said() -> None:
    score = {"name": "x", "events": {"b": {}}, "players": {"a": {"on": ["b", "_band.dead"], "play": "m:f"}}}

    assert codes(score, imports=False) == []


def test_what_a_player_says_when_it_fails_is_said() -> None:
    score = {
        "name": "x",
        "events": {"b": {}, "failed": {}},
        "players": {"a": {"on": "b", "play": "m:f", "on_failure": {"emit": "failed"}}},
    }

    assert codes(score, imports=False) == ["unheard-event events.failed"]


# Silence


def test_a_warning_is_silenced_at_its_place_and_below_and_nowhere_else() -> None:
    score = {
        "name": "x",
        "players": {"a": {"on": "b", "emits": ["c", "d"]}, "ab": {"on": "b", "emits": ["e"]}},
        "silence": [{"code": "unheard-event", "at": "players.a", "reason": "people read it"}],
    }

    assert codes(score, imports=False) == ["no-play players.a", "no-play players.ab", "unheard-event players.ab.emits[0]"]


def test_a_silence_without_a_place_holds_everywhere_and_one_without_a_use_is_told() -> None:
    score = {
        "name": "x",
        "players": {"a": {"on": "b", "emits": ["c"], "play": "m:f"}},
        "silence": [{"code": "unheard-event", "reason": "r"}, {"code": "no-key", "at": "sources.s", "reason": "r"}],
    }

    assert codes(score, imports=False) == ["unused-silence silence[1]"]


# Code that was given


def test_given_callables_take_the_place_of_play() -> None:
    score = {"name": "x", "players": {"a": {"on": "b", "with": {"limit": 1}}, "c": {"on": "b"}}}

    assert codes(score, players={"a": lambda event, limit: None, "c": lambda event, more: None}) == [
        "player-signature players.c.play"
    ]


def speaks() -> Any:
    yield emit("said", 1)
    yield emit("siad", 2)


def test_a_source_says_what_its_emits_allows_or_is_warned_of() -> None:
    def score(**says: Any) -> dict[str, Any]:
        return {"name": "x", "players": {"a": {"on": ">"}}, "sources": {"s": {"play": "m:f", **says}}}

    def told(**says: Any) -> list[str]:
        return codes(score(**says), players={"a": lambda event: None, "s": speaks})

    assert told(emits=["said"]) == ["emits-undeclared sources.s.emits"]
    assert told(emits=["said", "siad"]) == told(emits=["said"], topic="siad") == told() == []


# Nobody there


@pytest.mark.parametrize("players", [{}, {"players": {}}], ids=["left out", "empty"])
def test_a_score_without_players_is_warned_of_unless_it_is_silenced(players: Any) -> None:
    silence = {"silence": [{"code": "no-players", "reason": "other scores join"}]}

    assert codes({"name": "x", **players}) == ["no-players players"]
    assert codes({"name": "x", **players, **silence}) == []


def always(event: Event) -> Emission:
    text = event.data["text"]
    if text:
        return emit("a", text=text)
    return emit("a")


def often(event: Event) -> Emission | None:
    if event.data["n"] > 3:
        return None
    return emit("a", n=event.data["n"])


def through_the_end(event: Event) -> Emission | None:  # type: ignore[return]
    if event.key:
        return emit("a")


def raises(event: Event) -> Emission:
    if not event.key:
        raise ValueError("no key")
    return emit("a")


def yields(event: Event) -> Any:
    n = event.data["n"]
    yield emit("a", n=n)
    if n:
        yield emit("b")


def yields_perhaps(event: Event) -> Any:
    for n in event.data["list"]:
        yield emit("a", n=n)


def unknown(event: Event) -> Any:
    return table[event.key](event)


def typed(event: Event) -> Paid:
    return Paid(event.key)


table = {"a": always, "b": often}


@pytest.mark.parametrize(
    ("call", "is_sure"),
    [
        (always, True), (often, False), (through_the_end, False), (raises, False), (yields, True), (yields_perhaps, False),
        (unknown, False), (typed, True), (print, False), (lambda event: emit("a"), False),
    ],
)  # fmt: skip
def test_a_player_always_answers_only_where_no_way_through_it_is_silent(call: Any, is_sure: bool) -> None:
    assert behaviour(call).always_answers is is_sure


def test_what_a_player_says_is_seen_in_all_functions_of_its_module_that_it_uses() -> None:
    assert {(saying.topic, saying.fields) for saying in behaviour(unknown).says} == {
        ("a", ("text",)), ("a", None), ("a", ("n",)),
    }  # fmt: skip


def ring(**players: tuple[str, list[str]]) -> dict[str, Any]:
    return {"name": "x", "players": {name: {"on": on, "emits": emits} for name, (on, emits) in players.items()}}


def test_players_that_always_answer_each_other_go_round_for_ever() -> None:
    told = check(ensemble.load(ring(p=("b", ["a"]), q=("a", ["b"]))), players={"p": always, "q": yields_b})

    assert [finding.code for finding in told] == ["endless-cycle"]
    assert "p -> q -> p" in str(told[0])


def yields_b(event: Event) -> Any:
    yield emit("b")


@pytest.mark.parametrize(
    "score",
    [
        ring(p=("b", ["a", "out"]), q=("a", ["b"]), o=("out", [])),
        ring(p=("b", ["a"]), q=("a", ["out"]), o=("out", [])),
        {"name": "x", "players": {
            "p": {"on": "b", "emits": ["a"]},
            "q": {"on": {"event": "a", "where": "data.n > 1"}, "emits": ["b"]},
        }},
    ],
    ids=["may say what leads out", "leads out", "listens on a condition"],
)  # fmt: skip
def test_a_circle_with_a_way_out_is_none(score: dict[str, Any]) -> None:
    given = {"p": always, "q": yields_b, "o": lambda event: None}
    told = check(ensemble.load(score), players={name: given[name] for name in score["players"]})

    assert "endless-cycle" not in [finding.code for finding in told]


def test_players_who_may_be_silent_make_no_endless_circle() -> None:
    told = check(ensemble.load(ring(p=("b", ["a"]), q=("a", ["b"]))), players={"p": often, "q": yields_b})

    assert [finding.code for finding in told] == []


# The schema of scores


def test_good_scores_keep_the_schema_of_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    validator = jsonschema_rs.Draft202012Validator(json_schema(), offline=True)

    for source in [GOOD, *map(str, (ROOT / "scores").glob("*.yaml"))]:
        document = ensemble.load(source).document
        assert [error.message for error in validator.iter_errors(document)] == []


def test_the_schema_of_scores_is_a_schema_and_describes_every_key() -> None:
    schema = json_schema()

    jsonschema_rs.meta.validate(schema)
    for name, definition in schema["$defs"].items():
        for key, part in definition.get("properties", {}).items():
            assert "description" in part or "$ref" in part or key == "about", f"{name}.{key}"


STRUCTURE = sorted(path for path in (WRONG / "structure").glob("*.yaml") if path.stem != "store-is-a-text")  # it is no YAML


@pytest.mark.parametrize("path", STRUCTURE, ids=lambda path: path.stem)
def test_an_editor_refuses_by_the_schema_what_loading_refuses_by_structure(path: Path) -> None:
    root, _ = read_text(path.read_text(), str(path))

    assert not jsonschema_rs.Draft202012Validator(json_schema(), offline=True).is_valid(root.value)


class Enriched(msgspec.Struct):
    order_id: str
    customer: dict[str, Any] | None


def test_what_a_typed_player_gets_by_enrichment_is_not_missing() -> None:
    def pay(order: Enriched) -> None: ...

    def keep(event: Event, ctx: Any) -> None: ...

    schema = {"type": "object", "properties": {"order_id": {"type": "string"}}, "additionalProperties": False}
    score: dict[str, Any] = {
        "name": "shop",
        "events": {"order.placed": {"schema": schema}, "user.registered": {}},
        "players": {
            "customers": {"on": "user.registered"},
            "pay": {"on": "order.placed", "enrich": {"customer": "customers[key]"}},
        },
    }
    calls = {"pay": pay, "customers": keep}

    assert codes(score, players=calls) == []
    del score["players"]["pay"]["enrich"]
    assert codes(score, players=calls) == ["hears-type players.pay.on"]
