"""A band in several shards whose score is changed while it is up: each shard goes on from all that it knows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Event, Reject, emit
from ensemble.broker import State
from ensemble.broker.outbox import shard_of
from ensemble.log import read_log
from ensemble.stage.begin import recover
from ensemble.stage.on_ray.plan import Plan
from tests.conformance.stand import Gate, eventually

SHARDS = 3
NAME = "changed"
KEYS = [next(f"k-{n}" for n in range(99) if shard_of(f"k-{n}", SHARDS) == shard) for shard in range(SHARDS)]
SLOW = [next(f"slow-{n}" for n in range(99) if shard_of(f"slow-{n}", SHARDS) == shard) for shard in range(SHARDS)]


def score(**says: Any) -> dict[str, Any]:
    pay = {
        "on": "asked",
        "emits": ["answered"],
        "retry": {"attempts": 3, "first": "1h", "most": "1h", "jitter": 0},
        "section": {"max": 2, "cpus": 0.1},
        **says,
    }
    return {"ensemble": 1, "name": NAME, "players": {"pay": pay}, "stage": {"kind": "ray", "shards": SHARDS}}


def heard_by(who: str) -> Any:
    def pay(event: Event, ctx: Any) -> Any:
        if event.data == "dead" and who == "first":
            raise Reject("not by me")
        if event.data == "wrong":
            raise ValueError("not yet")
        ctx.state["heard"] = [*ctx.state.get("heard", ()), [who, event.data]]
        return emit("answered", {"by": who, "to": event.data})

    return pay


def states(store: str) -> list[State]:
    """What each shard knows, read off its log."""
    found = []
    for shard in range(SHARDS):
        with closing(read_log(store, shard)) as log:
            found.append(recover(log))
    return found


@pytest.fixture
def store(cluster: None, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "store")
    ensemble.down(NAME)


@pytest.mark.patience(240)
@pytest.mark.everywhere("the test after it changes a score in several shards too")
def test_state_dead_letters_and_attempts_of_each_shard_outlive_a_change_of_its_score(store: str) -> None:
    with ensemble.up(score(), store=store, players={"pay": heard_by("first")}) as band:
        for key in KEYS:
            for number, what in enumerate(["fine", "dead"]):
                band.publish("asked", what, key=key, id=f"{key}-{number}")
        for key in SLOW:
            band.publish("asked", "wrong", key=key)
        eventually(lambda: all(state.sections["pay"].failed == 2 for state in states(store)), "the failures in each shard", 60)
        before = states(store)

    with ensemble.up({**score(), "about": "changed"}, store=store, players={"pay": heard_by("second")}) as band:
        assert dict(band.table("pay")) == {key: {"heard": [["first", "fine"]]} for key in KEYS}
        assert sorted(letter.id for letter in band.dead()) == sorted(f"{key}-1" for key in KEYS)
        assert band.retry_dead("pay") == SHARDS
        eventually(lambda: not band.dead(), "the hearing of the dead letters", 60)
        eventually(lambda: len(list(band.events("answered"))) == 2 * SHARDS, "the answers", 60)

        after = states(store)
        table = dict(band.table("pay"))
    assert [state.sections["pay"].attempts for state in after] == [state.sections["pay"].attempts for state in before]
    assert all(made == 1 for state in after for made, _ in state.sections["pay"].attempts.values())
    assert table == {key: {"heard": [["first", "fine"], ["second", "dead"]]} for key in KEYS}
    for old, new in zip(before, after, strict=True):
        assert old.score is not None
        assert "about" not in old.score
        assert new.score == {**old.score, "about": "changed"}
        assert Plan.load(new.plan).document == new.score
        assert Plan.load(new.plan).run == Plan.load(old.plan).run


@pytest.mark.everywhere("tests/cli/test_cluster.py changes a score")
@pytest.mark.patience(240)
def test_a_player_that_comes_and_one_that_goes_do_so_in_each_shard(store: str) -> None:
    both = score()
    both["players"]["see"] = {"on": "asked", "section": {"cpus": 0.1}}
    with ensemble.up(score(), store=store, players={"pay": heard_by("first")}) as band:
        for key in KEYS:
            band.publish("asked", "fine", key=key)
        band.settle(60)

    with ensemble.up(both, store=store, players={"pay": heard_by("second"), "see": print}) as band:
        band.settle(60)
        assert band.status().sections["see"].heard == SHARDS, "it hears the past of each shard"
        assert band.status().sections["pay"].heard == SHARDS, "nobody hears anything twice"
    with ensemble.up(score(), store=store, players={"pay": heard_by("third")}) as band:
        for key in KEYS:
            band.publish("asked", "fine", key=key)
        band.settle(60)

        assert band.status().sections["see"].heard == SHARDS, "it is gone from each shard"
        assert {key: state["heard"] for key, state in dict(band.table("pay")).items()} == {
            key: [["first", "fine"], ["third", "fine"]] for key in KEYS
        }


# Players that wait for something


@pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")
def test_an_async_player_hears_events_of_all_shards_side_by_side_each_once_and_in_the_order_of_its_key(
    cluster: None, tmp_path: Path
) -> None:
    gate = Gate()

    async def hear(event: Event, ctx: Any) -> Any:
        if event.data == 0:
            await asyncio.to_thread(gate.pass_through)
        ctx.state["heard"] = [*ctx.state.get("heard", ()), event.data]
        return emit("heard", event.data, key=f"{event.key}!")  # mostly of another shard

    async def keep(event: Event, ctx: Any) -> None:
        ctx.state["heard"] = [*ctx.state.get("heard", ()), event.data]

    section = {"min": 1, "max": 1, "cpus": 0.1}
    document = {
        "ensemble": 1,
        "name": "waits",
        "players": {
            "hear": {"on": "said", "emits": ["heard"], "section": section},
            "keep": {"on": "heard", "section": section},
        },
        "stage": {"kind": "ray", "shards": SHARDS},
    }
    with ensemble.open(document, store=str(tmp_path / "store"), players={"hear": hear, "keep": keep}) as band:
        for number in range(20):
            for key in KEYS:
                band.publish("said", number, key=key)
        gate.wait_for(SHARDS)  # one instance has an event of each shard at a time
        gate.open()
        band.settle(60)

        assert dict(band.table("hear")) == {key: {"heard": list(range(20))} for key in KEYS}
        assert dict(band.table("keep")) == {f"{key}!": {"heard": list(range(20))} for key in KEYS}
        assert band.status().sections["hear"].failed == 0
