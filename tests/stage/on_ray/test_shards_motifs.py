"""Motifs of several events in a band of several shards: whoever hears a match, and wherever, has what it is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Match, emit

SHARDS = 3
PAIR = {"seq": [{"event": "came", "as": "first"}, {"event": "came", "as": "second"}]}


def hear(match: Any, ctx: Any) -> Any:
    assert isinstance(match, Match)
    assert [event.data["n"] for event in match.events] == [match["first"].data["n"], match["second"].data["n"]]
    assert {(event.topic, event.key[:2]) for event in match.events} == {("came", "k-")}
    ctx.state["count"] = ctx.state.get("count", 0) + 1
    return emit("told", n=[event.data["n"] for event in match.events], ids=[event.id for event in match.events])


EACH = pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")


@pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")
@pytest.mark.parametrize(
    ("motif", "says"),
    [
        pytest.param(PAIR, {}, marks=EACH),
        ({**PAIR, "by": "card"}, {}),  # its matches have the key of another shard
        pytest.param(PAIR, {"order": "all"}, marks=EACH),
    ],
    ids=["key", "by", "order-all"],
)
def test_a_match_that_is_heard_in_another_shard_has_its_events_and_labels(
    cluster: None, tmp_path: Path, motif: dict[str, Any], says: dict[str, Any]
) -> None:
    section = {"max": 1, "cpus": 0.1}
    score = {
        "ensemble": 1,
        "name": "pairs",
        "players": {"hear": {"on": motif, "emits": ["told"], "section": section, **says}},
        "stage": {"kind": "ray", "shards": SHARDS},
    }
    with ensemble.open(score, store=str(tmp_path / "store"), players={"hear": hear}) as band:
        for number in range(24):
            band.publish("came", {"card": str(number % 4), "n": number}, key=f"k-{number % 6}", id=f"id-{number}")
        band.settle(60)

        told = [event.data for event in band.events("told")]
        matches = list(band.events("_band.motif.hear"))
        counts = sum(state["count"] for _, state in band.table("hear").items())
        dead = [letter.error for letter in band.dead()]
    assert dead == []
    assert len(told) == len(matches) == counts
    assert len(told) >= 8
    numbers = [number for each in told for number in each["n"]]
    assert len(set(numbers)) == len(numbers), "each event is in one match"
    assert all(each["ids"] == [f"id-{number}" for number in each["n"]] for each in told)
