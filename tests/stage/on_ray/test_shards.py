"""A band in several shards on Ray: one to who publishes, looks and asks, whatever shard a key belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Event, Match, emit
from ensemble.broker.outbox import shard_of
from ensemble.errors import Unavailable
from ensemble.event import microseconds
from tests.conformance.stand import eventually

SHARDS = 3
KEYS = [f"k-{number}" for number in range(12)]
SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": "divided",
    "events": {"asked": {"key": "key"}, "answered": {"key": "key"}},
    "players": {
        "answer": {"on": "asked", "emits": ["answered"], "section": {"cpus": 0.1}},
        "keep": {"on": "answered", "section": {"cpus": 0.1}},
        "group": {"on": "asked", "by": "group", "section": {"cpus": 0.1}},
        "count": {"on": "asked", "order": "all", "section": {"cpus": 0.1}},
    },
    "stage": {"kind": "ray", "shards": SHARDS},
}


def answer(event: Event) -> Any:
    """To a key of another shard, two times of three."""
    return emit("answered", {"key": f"{event.key}!", "number": event.data["number"]}, key=f"{event.key}!")


def keep(event: Event, ctx: Any) -> None:
    ctx.state["numbers"] = [*ctx.state.get("numbers", ()), event.data["number"]]


def group(event: Event, ctx: Any) -> None:
    if event.data["number"] == -1:
        raise ensemble.Reject("minus one")
    ctx.state["heard"] = [*ctx.state.get("heard", ()), [event.topic, event.key, event.id, event.data["number"]]]


def count(event: Event, ctx: Any) -> None:
    ctx.state["count"] = ctx.state.get("count", 0) + 1


PLAYERS: dict[str, Callable[..., Any]] = {"answer": answer, "keep": keep, "group": group, "count": count}


def questions(first: int, last: int) -> list[dict[str, Any]]:
    return [{"key": KEYS[n % len(KEYS)], "group": f"g-{n % 5}", "number": n} for n in range(first, last)]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def band(cluster: None, store: str) -> Iterator[ensemble.Band]:
    with ensemble.open(SCORE, store=store, players=PLAYERS) as band:
        yield band


def test_the_keys_of_these_tests_belong_to_all_shards() -> None:
    assert {shard_of(key, SHARDS) for key in KEYS} == set(range(SHARDS))
    assert any(shard_of(key, SHARDS) != shard_of(f"{key}!", SHARDS) for key in KEYS)


def test_what_is_said_to_a_key_of_another_shard_is_heard_there_once_and_in_order(band: ensemble.Band) -> None:
    assert band.publish_many(questions(0, 300), topic="asked") == 300
    band.settle(60)

    table = band.table("keep")
    assert {key: table[key]["numbers"] for key in table} == {
        f"{key}!": [n for n in range(300) if KEYS[n % len(KEYS)] == key] for key in KEYS
    }
    assert dict(table.items()) == {key: table[key] for key in table}
    assert len(table) == len(KEYS)


@pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")
def test_by_and_order_all_hear_the_events_of_all_shards_as_they_were_said(band: ensemble.Band) -> None:
    band.publish_many(questions(0, 100), topic="asked")
    band.settle(60)

    heard = {key: state["heard"] for key, state in band.table("group").items()}
    said = {event.id: event for event in band.events("asked")}
    assert sorted(n for each in heard.values() for *_, n in each) == list(range(100))
    for name, events in heard.items():
        for topic, key, id_, number in events:
            assert (topic, key, said[id_].data["group"], said[id_].data["number"]) == ("asked", said[id_].key, name, number)
    assert dict(band.table("count")) == {"": {"count": 100}}


@pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")
def test_one_band_is_seen_whatever_the_shard(band: ensemble.Band, store: str) -> None:
    receipt = band.publish("asked", {"key": "k-1", "group": "g", "number": 1})
    other = next(key for key in KEYS if shard_of(key, SHARDS) != receipt.shard)
    band.publish("asked", {"key": other, "group": "g", "number": -1}, id="mine")
    band.settle(60)

    assert band.event(receipt.id).key == "k-1"
    assert (band.event("mine").key, band.event("mine").shard) == (other, shard_of(other, SHARDS))
    times = [event.written_at for event in band.events()]
    assert times == sorted(times)
    assert sorted(event.key for event in band.events("answered")) == sorted(["k-1!", f"{other}!"])
    [letter] = band.dead()
    assert (letter.id, letter.player, letter.event.topic) == ("mine", "group", "asked")
    [answered] = band.why(receipt.id).tree.said
    assert (answered.event.topic, answered.event.key, answered.player) == ("answered", "k-1!", "answer")
    assert [cause.id for cause in band.why(answered.event.id).causes] == [receipt.id]
    status = band.status()
    assert (status.topics["asked"], status.topics["answered"]) == (2, 2)
    assert {name: section.heard for name, section in status.sections.items()} == {
        "answer": 2, "keep": 2, "group": 1, "count": 2,
    }  # fmt: skip
    assert all(section.lag == 0 for section in status.sections.values())
    with ensemble.read(store) as reader:
        assert [event.id for event in reader.events("asked")] == [receipt.id, "mine"]
        assert dict(reader.table("keep")) == dict(band.table("keep"))


@pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")
def test_looked_back_each_event_was_heard_once_by_each_player_wherever_that_was(band: ensemble.Band) -> None:
    band.publish_many(questions(0, 40), topic="asked")
    band.publish("asked", {"key": "k-1", "group": "g-1", "number": -1}, id="mine")
    band.settle(60)

    past = band.history()

    said = {(event.shard, event.offset): event for event in past.events}
    told = [event.id for event in past.events if not event.topic.startswith("_band")]
    assert sorted(told) == sorted(event.id for event in band.events())
    assert [event.written_at for event in past.events] == sorted(event.written_at for event in past.events)
    for player, topic in {"answer": "asked", "keep": "answered", "group": "asked", "count": "asked"}.items():
        heard = [said[hearing.place] for hearing in past.hearings if hearing.player == player]
        assert sorted(event.id for event in heard) == sorted(event.id for event in band.events(topic)), player
    for hearing in past.hearings:
        assert microseconds(said[hearing.place].written_at) <= (hearing.began_us or hearing.ended_us) <= hearing.ended_us
    [died] = [hearing for hearing in past.hearings if hearing.outcome != "heard"]
    assert (died.player, said[died.place].id, died.error) == ("group", "mine", "Reject: minus one")
    now = band.status().sections
    assert {name: (each.heard, each.dead, each.lag) for name, each in past.sections.items()} == {
        name: (each.heard, each.dead, each.lag) for name, each in now.items()
    }
    assert past.topics["asked"] == 41
    assert all(lag == 0 for lag in past.lags[-1][1].values())


@pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")
def test_dead_letters_are_heard_again_in_the_shard_where_they_died(band: ensemble.Band) -> None:
    for key in KEYS[:3]:
        band.publish("asked", {"key": key, "group": key, "number": -1}, id=f"id-{key}")
    band.settle(60)
    assert {letter.id for letter in band.dead()} == {f"id-{key}" for key in KEYS[:3]}

    assert band.retry_dead("group", id=f"id-{KEYS[0]}") == 1
    band.settle(60)
    assert band.retry_dead("group") == 3
    band.settle(60)

    assert len(band.dead()) == 3
    assert len(list(band.events("_band.dead"))) == 7


@pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")
def test_the_same_id_and_key_twice_is_one_event(band: ensemble.Band) -> None:
    first = band.publish("asked", {"key": "k-1", "group": "g", "number": 1}, id="once")
    again = band.publish("asked", {"key": "k-1", "group": "g", "number": 1}, id="once")

    assert first == again
    assert len(list(band.events("asked"))) == 1


@pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")
def test_tail_goes_on_with_what_comes_in_any_shard(band: ensemble.Band) -> None:
    tail = band.tail("asked", since=0)
    heard = []
    for key in KEYS[:4]:
        band.publish("asked", {"key": key, "group": "g", "number": 1})
        heard.append(next(tail).key)

    assert heard == KEYS[:4]


@pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")
def test_a_source_says_its_events_to_all_shards_once(cluster: None, store: str, tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(f'{{"key": "{KEYS[n % 12]}", "group": "g", "number": {n}}}\n' for n in range(200)))
    score = {**SCORE, "sources": {"file": {"file": str(file), "topic": "asked"}}}

    for _ in range(2):
        with ensemble.open(score, store=store, players=PLAYERS) as band:
            band.settle(60)
            assert {event.shard for event in band.events("asked")} == set(range(SHARDS))
            assert sorted(event.data["number"] for event in band.events("asked")) == list(range(200))


@pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")
def test_what_a_timer_says_reaches_its_shard(cluster: None, store: str) -> None:
    def later(event: Event) -> Any:
        return [emit("answered", {"number": 1}, key=key, after="50ms") for key in KEYS]

    with ensemble.open(SCORE, store=store, players={**PLAYERS, "answer": later}) as band:
        band.publish("asked", {"key": "k", "group": "g", "number": 1})
        eventually(lambda: len(band.table("keep")) == len(KEYS), "the hearing of what timers said")

        assert {event.key: event.shard for event in band.events("answered")} == {key: shard_of(key, SHARDS) for key in KEYS}


@pytest.mark.everywhere("tests/log/test_division.py says it of stores")
def test_a_store_has_as_many_shards_as_it_was_made_with(cluster: None, store: str) -> None:
    with ensemble.open(SCORE, store=store, players=PLAYERS) as band:
        band.publish("asked", {"key": "k", "group": "g", "number": 1})

    with pytest.raises(Unavailable, match=rf"has 3 shards, and 2 are asked for.*ensemble reshard {store} 2"):
        ensemble.open({**SCORE, "stage": {"kind": "ray", "shards": 2}}, store=store, players=PLAYERS)
    with pytest.raises(Unavailable, match="has 3 shards, and one is asked for"):
        ensemble.open(SCORE, stage="solo", store=store, players=PLAYERS)


def total(match: Match, ctx: Any) -> None:
    """In the lane of all, whose shard is another than that of most of the matches."""
    ctx.state[match.key] = [match["asked"].data["number"], [event.topic for event in match.events]]


def whose(match: Match, ctx: Any) -> None:
    ctx.state[match.key] = [event.data["number"] for event in match.events]


@pytest.mark.everywhere("tests/properties/test_shards.py says it without Ray")
def test_a_match_that_is_heard_in_another_shard_is_a_match_there_with_its_events(cluster: None, store: str) -> None:
    score = {
        "ensemble": 1,
        "name": "matched",
        "motifs": {"done": {"all": [{"event": "asked", "as": "asked"}, "answered"]}},
        "players": {
            "total": {"on": "done", "order": "all", "section": {"cpus": 0.1}},
            "whose": {"on": {"count": "asked", "times": 2}, "order": "all", "section": {"cpus": 0.1}},
        },
        "stage": {"kind": "ray", "shards": SHARDS},
    }
    with ensemble.open(score, store=store, players={"total": total, "whose": whose}) as band:
        for topic in ("asked", "answered", "asked"):
            band.publish_many({"topic": topic, "key": key, "data": {"number": n}} for n, key in enumerate(KEYS))
        band.settle(60)

        [done] = band.table("total").values()
        [twice] = band.table("whose").values()
        assert band.dead() == []

    assert done == {key: [n, ["asked", "answered"]] for n, key in enumerate(KEYS)}
    assert twice == {key: [n, n] for n, key in enumerate(KEYS)}
