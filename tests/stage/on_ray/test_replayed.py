"""A store in three shards that was played on Ray, replayed and promoted here, and played on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Event, emit
from ensemble.replay import promote, replay
from tests.replay.sharded import tables

KEYS = [f"k{n}" for n in range(9)]
LIGHT = {"section": {"max": 2, "cpus": 0.1}}
SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": "replayed",
    "players": {
        "price": {"on": "ordered", "emits": ["priced"], "retry": {"attempts": 2, "first": "1ms"}, **LIGHT},
        "tally": {"on": "priced", "by": "data.to", "emits": ["tallied"], **LIGHT},
        "audit": {"on": ["ordered", "tallied"], "order": "all", "section": {"cpus": 0.1}},
    },
    "stage": {"kind": "ray", "shards": 3},
}


def price(event: Event, ctx: Any) -> Any:
    number = event.data["n"]
    if number % 5 == 4 and ctx.attempt == 1:
        raise ValueError("not yet")
    return emit("priced", n=number, to=KEYS[number % 7], key=KEYS[number % 4])


def dearer(event: Event, ctx: Any) -> Any:
    number = event.data["n"]
    return emit("priced", n=1000, to=KEYS[1], key=KEYS[2]) if number == 8 else price(event, ctx)


def tally(event: Event, ctx: Any) -> Any:
    ctx.state["sum"] = ctx.state.get("sum", 0) + event.data["n"]
    return emit("tallied", sum=ctx.state["sum"], token=ctx.token)


def audit(event: Event, ctx: Any) -> None:
    ctx.state["seen"] = ctx.state.get("seen", 0) + 1


PLAYERS = {"price": price, "tally": tally, "audit": audit}


@pytest.mark.patience(240)
@pytest.mark.everywhere("tests/replay/test_shards.py replays several shards without Ray")
def test_what_was_played_in_three_shards_is_replayed_promoted_and_played_on(cluster: None, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with ensemble.open(SCORE, store=store, players=PLAYERS) as band:
        for numbers in (range(20), range(20, 60)):
            band.publish_many({"topic": "ordered", "key": KEYS[n % 9], "data": {"n": n}} for n in numbers)
            band.settle(60)

    same = replay(SCORE, 0, store=store, calls=PLAYERS)
    changed = replay(SCORE, 0, store=store, calls={**PLAYERS, "price": dearer})
    assert changed.take is not None
    right = tables(f"{store}#{changed.take}")
    done = promote(store, changed.take)

    assert not same and same.shards == 3, same.difference.events
    assert changed.difference.counts()["price"] == {"new": 0, "gone": 0, "different": 1}
    assert len(changed.difference.of("tally").events) > 1
    assert (tables(store), done.corrections) == (right, len(changed.difference.events))
    with ensemble.open(SCORE, store=store, players={**PLAYERS, "price": dearer}) as band:
        before = band.table("tally")[KEYS[1]]["sum"]
        band.publish("ordered", {"n": 8}, key=KEYS[0])
        band.settle(60)
        assert band.table("tally")[KEYS[1]]["sum"] == before + 1000
