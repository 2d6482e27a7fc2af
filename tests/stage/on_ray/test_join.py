"""Scores that join a band and leave it again: what the plan has afterwards, and what does not go together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ensemble.errors import ScoreError, Unavailable
from ensemble.score import load
from ensemble.stage.on_ray.join import added, carried, joined, left
from ensemble.stage.on_ray.plan import Kind, Plan

SHOP: dict[str, Any] = {
    "ensemble": 1,
    "name": "shop",
    "events": {"order.placed": {"key": "order_id"}},
    "players": {"pay": {"on": "order.placed", "emits": ["order.paid"]}},
}
LOYALTY: dict[str, Any] = {
    "ensemble": 1,
    "name": "loyalty",
    "events": {"order.placed": {"key": "order_id"}, "points.given": {"key": "user_id"}},
    "motifs": {"paid": {"event": "order.paid"}},
    "players": {"points": {"on": "order.paid", "emits": ["points.given"]}},
}


def plan(document: dict[str, Any], **given: Any) -> Plan:
    players = document.get("players", {})
    return Plan(
        document,
        "/store",
        calls={name: name.encode() for name in players},
        kinds={name: Kind(is_async=name == "points") for name in players},
        run="the run",
        **given,
    )


def join(band: Plan, document: dict[str, Any]) -> tuple[Plan, list[str]]:
    return joined(band, load(document), plan(document))


def test_who_joins_brings_players_and_events_and_only_these_are_new() -> None:
    both, new = join(plan(SHOP), LOYALTY)

    assert new == ["points"]
    assert set(both.document["players"]) == {"pay", "points"}
    assert set(both.document["events"]) == {"order.placed", "points.given"}
    assert both.document["name"] == "shop"
    assert both.calls == {"pay": b"pay", "points": b"points"}
    assert both.kinds["points"].is_async
    assert both.joined["loyalty"]["events"] == ["points.given"], "what was there before is not its own"
    assert (both.url, both.run) == ("/store", "the run")


def test_who_leaves_takes_its_own_along_and_nothing_else() -> None:
    both, _ = join(plan(SHOP), LOYALTY)

    alone, changed = left(both, "loyalty")

    assert alone == plan(SHOP)
    assert changed == []
    with pytest.raises(KeyError, match=r"no score 'loyalty' has joined; those that have: none"):
        left(alone, "loyalty")


def test_one_more_player_joins_by_itself_and_takes_the_place_of_the_one_of_its_name() -> None:
    band, _ = join(plan(SHOP), LOYALTY)
    new = plan({**SHOP, "players": {"ship": {"on": "order.paid"}}})
    new.folders = {"ship": "/new"}

    more = added(band, "ship", new)
    alone = plan({**SHOP, "players": {"ship": {"on": "order.placed", "play": "shop:ship"}}})
    alone.calls = {}
    again = added(more, "ship", alone)

    assert set(more.document["players"]) == {"pay", "points", "ship"}
    assert (more.calls["ship"], more.folders["ship"], more.joined) == (b"ship", "/new", band.joined)
    assert again.document["players"]["ship"]["on"] == "order.placed"
    assert set(again.calls) == {"pay", "points"}, "its code is what play: names"
    with pytest.raises(ScoreError):
        added(band, "ship", plan({**SHOP, "players": {"ship": {"on": "order..paid"}}}))


def test_who_joins_again_takes_its_own_place() -> None:
    both, _ = join(plan(SHOP), LOYALTY)
    newer = {**LOYALTY, "players": {"stars": {"on": "order.paid"}}}

    again, new = join(both, newer)

    assert new == ["stars"]
    assert set(again.document["players"]) == {"pay", "stars"}
    assert set(again.calls) == {"pay", "stars"}


@pytest.mark.parametrize(
    ("kind", "theirs", "clash"),
    [
        ("players", {"pay": {"on": "order.placed"}}, "players.pay: the band shop has another already"),
        ("events", {"order.placed": {"key": "user_id"}}, "events.order.placed: the band shop has another already"),
        ("sources", {"till": {"every": "24h", "topic": "till.closed"}}, "sources.till: the band shop has another already"),
        ("motifs", {"big": {"event": "order.placed"}}, "motifs.big: the band shop has another already"),
    ],
)
def test_nothing_of_the_one_may_have_the_name_of_something_of_the_other(kind: str, theirs: dict[str, Any], clash: str) -> None:
    mine = {"till": {"every": "1h", "topic": "till.closed"}}
    shop = {**SHOP, "sources": mine, "motifs": {"big": {"event": "order.placed", "where": "data.total > 100"}}}

    with pytest.raises(ScoreError, match=clash):
        join(plan(shop), {"ensemble": 1, "name": "other", kind: theirs})


def test_a_score_is_changed_with_those_that_have_joined_staying() -> None:
    called = ["band:shop:0", "band:shop:1"]
    both, _ = join(plan(SHOP, shards=2, called=called), LOYALTY)
    newer = {**SHOP, "players": {"pay": {"on": "order.placed", "emits": ["order.paid", "order.refused"]}}}

    changed = carried(both, msgspec.structs.replace(plan(newer, shards=2), run="another run"))

    assert changed.run == "the run", "the band is the same for as long as it is up"
    assert changed.called == called, "and so are its shards"
    assert changed.document["players"]["pay"] == newer["players"]["pay"]
    assert set(changed.document["players"]) == {"pay", "points"}
    assert changed.calls["points"] == b"points"
    assert left(changed, "loyalty")[0] == plan(newer, shards=2, called=called)


def test_a_changed_score_that_has_a_player_of_one_that_joined_is_refused() -> None:
    both, _ = join(plan(SHOP), LOYALTY)

    with pytest.raises(ScoreError, match=r"players\.points: the band shop has another already"):
        carried(both, plan({**SHOP, "players": {"points": {"on": "order.placed"}}}))


def test_a_band_of_the_same_name_with_another_store_is_another_band_and_is_refused() -> None:
    theirs = msgspec.structs.replace(plan(SHOP), url="/other/store")

    with pytest.raises(Unavailable, match=r"band shop is up and keeps its log in /store; .* /other/store: .*another name"):
        carried(plan(SHOP), theirs)
