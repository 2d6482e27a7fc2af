"""A replay tells what today's code says otherwise about yesterday's events, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Event, Reject, emit, takes
from ensemble.errors import OffsetError, ScoreError, Unavailable
from ensemble.log import takes as kept
from ensemble.replay import promote, replay
from ensemble.resharding import reshard
from ensemble.stage.begin import recover
from ensemble.testing import ManualClock


def score(**players: Any) -> dict[str, Any]:
    return {"ensemble": 1, "name": "shop", "players": players}


SHOP = score(
    price={"on": "ordered", "emits": ["priced", "free"], "retry": {"attempts": 3, "first": "1ms"}},
    tally={"on": "priced", "emits": ["tallied"]},
    audit={"on": ["priced", "tallied"], "order": "all", "emits": ["audited"]},
)


def price(event: Event) -> Any:
    return emit("priced", n=event.data["n"])


def tally(event: Event, ctx: Any) -> Any:
    ctx.state["sum"] = ctx.state.get("sum", 0) + event.data["n"]
    return emit("tallied", sum=ctx.state["sum"], at=ctx.now.isoformat(), token=ctx.token, of=event.id)


def audit(event: Event, ctx: Any) -> None:
    ctx.state["seen"] = ctx.state.get("seen", 0) + 1
    ctx.state["last"] = event.topic


PLAYERS: dict[str, Callable[..., Any]] = {"price": price, "tally": tally, "audit": audit}


def play(store: str, numbers: Any = range(6), document: Any = None, players: Any = None, keys: int = 3) -> None:
    with ensemble.open(document or SHOP, store=store, players=players or PLAYERS) as band:
        for number in numbers:
            band.publish("ordered", {"n": number}, key=f"k{number % keys}")
        band.settle(10)


def places(store: str) -> list[int]:
    with ensemble.read(store) as reader:
        return [event.offset for event in reader.events("ordered")]


# Nothing differs


@pytest.mark.parametrize("since", [0, 1, 7])
def test_unchanged_code_over_unchanged_events_differs_in_nothing(store: str, since: int) -> None:
    play(store, range(50))

    made = replay(SHOP, since, store=store, calls=PLAYERS)

    assert not made and made.take is None and not made.unsteady
    assert [each.name for each in takes.listed(store)] == ["main"]
    assert made.difference.same == made.upto - made.since


def failing(event: Event, ctx: Any) -> Any:
    number = event.data["n"]
    if number % 5 == 0:
        raise Reject("never")
    if number % 3 == 0 and ctx.attempt < 3:
        raise ValueError(f"not at attempt {ctx.attempt}")
    return emit("priced", n=number, attempt=ctx.attempt)


def test_failures_retries_and_dead_letters_are_as_they_were(store: str) -> None:
    players = {**PLAYERS, "price": failing}
    play(store, range(30), players=players)

    assert not replay(SHOP, 0, store=store, calls=players)


class Summing:
    """Hears whole batches: what it says depends on where these began and ended."""

    def __call__(self, events: list[Event]) -> Any:
        return [emit("free", count=len(events), sum=sum(event.data["n"] for event in events))]


async def asked(event: Event) -> Any:
    return emit("priced", n=event.data["n"])


@pytest.mark.parametrize("call", [Summing, asked])
def test_batches_and_coroutines_are_heard_as_they_were(store: str, call: Any) -> None:
    players = {**PLAYERS, "price": call}
    play(store, range(200), players=players)

    assert not replay(SHOP, 0, store=store, calls=players)


LATER = score(
    price={"on": "ordered", "emits": ["reminded", "priced"]},
    remind={"on": "reminded", "emits": ["shouted"]},
    pair={"on": {"all": ["ordered", "priced"], "within": "1h"}, "emits": ["paired"]},
)


def remind_later(event: Event) -> Any:
    return [emit("priced", n=1), emit("reminded", n=event.data["n"], after="5ms")]


def test_timers_and_motifs_are_as_they_were(store: str) -> None:
    players = {
        "price": remind_later,
        "remind": lambda event: emit("shouted", n=event.data["n"]),
        "pair": lambda match: emit("paired", of=[each.id for each in match.events]),
    }
    with ensemble.open(LATER, store=store, players=players) as band:
        for number in range(5):
            band.publish("ordered", {"n": number}, key=f"k{number}")
        stream = band.tail("shouted", since=0)
        for _ in range(5):
            next(stream)
        band.settle(10)

    assert not replay(LATER, 0, store=store, calls=players)


# Something differs


def dearer(event: Event) -> Any:
    return emit("priced", n=event.data["n"] + (100 if event.data["n"] == 4 else 0))


def test_what_differs_is_told_by_player_and_key(store: str) -> None:
    play(store, range(9))

    made = replay(SHOP, 0, store=store, calls={**PLAYERS, "price": dearer})

    assert made.difference.counts() == {
        "price": {"new": 0, "gone": 0, "different": 1},
        "tally": {"new": 0, "gone": 0, "different": 2},
    }
    [change] = made.difference.of("price").events
    assert change.was is not None and change.now is not None
    assert (change.key, change.was.data, change.now.data) == ("k1", {"n": 4}, {"n": 104})
    assert [(each.player, each.key, each.was["sum"], each.now["sum"]) for each in made.difference.tables] == [
        ("tally", "k1", 12, 112)
    ]
    assert made.take == "replay-1"


def test_what_is_as_it_was_keeps_its_id_in_the_take(store: str) -> None:
    play(store, range(9))

    made = replay(SHOP, 0, store=store, calls={**PLAYERS, "price": dearer})

    with ensemble.read(store) as main, ensemble.read(store, take=made.take) as take:
        before = {event.id: (event.topic, event.key, event.data) for event in main.events()}
        after = {event.id: (event.topic, event.key, event.data) for event in take.events()}
    assert len(after) == len(before)
    assert all(before[each] == after[each] for each in before.keys() & after.keys())
    assert len(before.keys() - after.keys()) == 3


def test_a_timer_that_fired_late_since_nobody_played_fires_then_again(store: str) -> None:
    document = score(
        price={"on": "ordered", "emits": ["reminded", "priced"]}, remind={"on": "reminded", "emits": ["shouted"]}
    )
    players = {"price": remind_later, "remind": lambda event: emit("shouted", n=event.data["n"])}
    clock = ManualClock()
    for number in range(2):
        with ensemble.open(document, store=store, players=players, clock=clock) as band:
            band.publish("ordered", {"n": number}, key=f"k{number}")
            band.settle()
        clock.advance(minutes=1)
    with ensemble.open(document, store=store, players=players, clock=clock) as band:
        band.settle()

    def once_more(event: Event) -> Any:
        return [*remind_later(event), *([emit("priced", n=2)] if event.key == "k0" else [])]

    made = replay(document, 0, store=store, calls={**players, "price": once_more})

    assert made.difference.counts() == {"price": {"new": 1, "gone": 0, "different": 0}}
    with ensemble.read(store) as main, ensemble.read(store, take=made.take) as take:
        for topic in ("reminded", "shouted"):
            then, now = ([(event.id, event.time) for event in each.events(topic)] for each in (main, take))
            assert now == then


def test_the_take_adds_up_to_what_was_played_into_it(store: str) -> None:
    play(store, range(40))
    made = replay(SHOP, 3, store=store, calls={**PLAYERS, "price": dearer})

    with ensemble.read(store, take=made.take) as reader:
        log = reader._shards[0].log
        folded = type(recover(log))()
        for frame in log.frames():
            folded.apply(frame)
        kept = recover(log)

    for state in (folded, kept):
        for motif in state.motifs.values():
            motif.partial, motif.partial_at = b"", 0
    assert folded == kept


def test_a_replayed_take_is_played_on(store: str) -> None:
    play(store, range(6))
    made = replay(SHOP, 0, store=store, calls={**PLAYERS, "price": dearer})

    with ensemble.open(SHOP, store=store, take=made.take, players=PLAYERS) as band:
        band.publish("ordered", {"n": 1000}, key="k1")
        band.settle(10)
        assert band.table("tally")["k1"] == {"sum": 1 + 104 + 1000}
        assert all(each.lag == 0 for each in band.status().sections.values())


def test_what_is_said_only_now_is_heard_and_what_is_said_no_more_is_not(store: str) -> None:
    def other(event: Event) -> Any:
        if event.data["n"] == 2:
            return None
        return [emit("priced", n=event.data["n"])] * (2 if event.data["n"] == 5 else 1)

    play(store, range(6))

    made = replay(SHOP, 0, store=store, calls={**PLAYERS, "price": other})

    assert made.difference.counts() == {
        "price": {"new": 1, "gone": 1, "different": 0},
        "tally": {"new": 1, "gone": 1, "different": 1},
    }
    assert {each.key: each.now["sum"] for each in made.difference.tables if each.player == "tally"} == {"k2": 10}


def test_a_failure_that_was_mended_is_heard(store: str) -> None:
    def broken(event: Event) -> Any:
        if event.data["n"] in (1, 4):
            raise Reject("no such price")
        return price(event)

    play(store, range(6), players={**PLAYERS, "price": broken})

    made = replay(SHOP, 0, store=store, calls=PLAYERS)

    assert made.difference.counts()["tally"] == {"new": 2, "gone": 0, "different": 0}
    with ensemble.read(store, take=made.take) as reader:
        assert reader.dead() == []
        assert reader.table("tally")["k1"] == {"sum": 5}


def test_what_fails_only_now_is_tried_again_and_ends_as_a_dead_letter(store: str) -> None:
    tries: list[int] = []

    def breaks(event: Event, ctx: Any) -> Any:
        if event.data["n"] == 1:
            tries.append(ctx.attempt)
            raise ValueError("no more")
        return price(event)

    play(store, range(6))

    made = replay(SHOP, 0, store=store, calls={**PLAYERS, "price": breaks})

    assert sorted(set(tries)) == [1, 2, 3]
    with ensemble.read(store, take=made.take) as reader:
        [letter] = reader.dead()
        assert letter.attempts == 3
        assert reader.table("tally")["k1"] == {"sum": 4}


def test_only_those_that_are_named_play(store: str) -> None:
    called: list[str] = []

    def never(event: Event, ctx: Any) -> None:
        called.append(event.id)

    play(store, range(9))

    made = replay(SHOP, 0, store=store, calls={"price": dearer, "tally": never, "audit": never}, players=["price"])

    assert not called
    assert made.difference.counts() == {"price": {"new": 0, "gone": 0, "different": 1}}
    assert not made.difference.tables


def test_a_muted_player_says_again_what_it_said(store: str) -> None:
    charged: list[Any] = []

    def charge(event: Event, ctx: Any) -> Any:
        charged.append(event.data["n"])
        return emit("priced", n=event.data["n"] * random.random())

    document = score(
        price={"on": "ordered", "emits": ["priced"], "outside": "mute"}, tally={"on": "priced", "emits": ["tallied"]}
    )
    play(store, range(6), document, {"price": charge, "tally": tally})
    charged.clear()

    def rounded(event: Event, ctx: Any) -> Any:
        ctx.state["sum"] = ctx.state.get("sum", 0) + round(event.data["n"])

    made = replay(document, 0, store=store, calls={"price": charge, "tally": rounded})

    assert not charged and not made.unsteady
    assert made.difference.counts() == {"tally": {"new": 0, "gone": 6, "different": 0}}


def test_a_player_that_is_not_deterministic_is_named(store: str) -> None:
    def dice(event: Event) -> Any:
        return emit("priced", n=random.random())

    play(store, range(6), players={**PLAYERS, "price": dice})

    made = replay(SHOP, 0, store=store, calls={**PLAYERS, "price": dice})

    assert list(made.unsteady) == ["price"]


def test_a_new_player_hears_what_is_replayed(store: str) -> None:
    play(store, range(6))
    document = score(**SHOP["players"], count={"on": "ordered", "emits": ["counted"]})

    made = replay(document, places(store)[3], store=store, calls={**PLAYERS, "count": lambda event: emit("counted")})

    assert made.difference.counts() == {"count": {"new": 3, "gone": 0, "different": 0}}


def test_main_may_be_played_meanwhile(store: str) -> None:
    play(store, range(6))
    with ensemble.open(SHOP, store=store, players=PLAYERS) as band:
        made = replay(SHOP, 0, store=store, calls={**PLAYERS, "price": dearer})
        band.publish("ordered", {"n": 7}, key="k1")
        band.settle(10)
        assert band.table("tally")["k1"] == {"sum": 1 + 4 + 7}
    assert made.take is not None


def test_a_replay_of_a_replay_holds_today_against_it(store: str) -> None:
    play(store, range(6))
    changed = {**PLAYERS, "price": dearer}
    first = replay(SHOP, 0, store=store, calls=changed)

    assert not replay(SHOP, 0, store=f"{store}#{first.take}", calls=changed)
    back = replay(SHOP, 0, store=f"{store}#{first.take}", calls=PLAYERS)

    assert back.parent == first.take
    assert back.difference.counts()["price"] == {"new": 0, "gone": 0, "different": 1}


# What is wrong


def test_wrong_questions_are_answered_with_what_to_ask(store: str) -> None:
    play(store, range(2))

    with pytest.raises(ScoreError, match="the score has no such player; did you mean 'price'"):
        replay(SHOP, 0, store=store, calls=PLAYERS, players=["prise"])
    with pytest.raises(OffsetError, match="there was no moment before event 999"):
        replay(SHOP, 999, store=store, calls=PLAYERS)
    with pytest.raises(OffsetError, match="there is no event 'x-1'"):
        replay(SHOP, "x-1", store=store, calls=PLAYERS)
    takes.new(store, "mine")
    with pytest.raises(Unavailable, match="there is a take 'mine' already"):
        replay(SHOP, 0, store=store, calls=PLAYERS, take="mine")


def test_a_replay_that_breaks_off_leaves_no_take(store: str) -> None:
    play(store, range(6))

    def stop(at: int, end: int) -> None:
        if at > end - 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        replay(SHOP, 0, store=store, calls={**PLAYERS, "price": dearer}, progress=stop)

    assert [each.name for each in takes.listed(store)] == ["main"]


def test_the_take_of_a_replay_that_was_killed_is_told_and_not_promoted(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    play(store, range(6))

    def stop(at: int, end: int) -> None:
        if at > end - 2:
            raise RuntimeError("killed")

    monkeypatch.setattr(kept, "remove", lambda store, take: None)  # who is killed removes nothing
    with pytest.raises(RuntimeError, match="killed"):
        replay(SHOP, 0, store=store, calls={**PLAYERS, "price": dearer}, progress=stop)

    with pytest.raises(Unavailable, match="broken off; drop it"):
        promote(store, "replay-1")


def test_a_notebook_shows_what_differs_as_tables(store: str) -> None:
    play(store, range(9))
    made = replay(SHOP, 0, store=store, calls={**PLAYERS, "price": dearer})

    shown = made._repr_mimebundle_()["text/html"]

    assert "into the take <b>replay-1</b>" in shown
    assert "{&#x27;n&#x27;: 104}" in shown and "<td" in shown
    assert "nothing differs" in replay(SHOP, 0, store=store, calls=PLAYERS).difference._repr_mimebundle_()["text/html"]
    assert repr(made).startswith("Replay(") and len(repr(made)) < 400


# Motifs


def test_a_match_of_the_same_events_is_what_it_was_though_something_before_it_is_not(store: str) -> None:
    """What rests on it, and is muted, says again what it said then."""
    document = score(
        price={"on": "ordered", "emits": ["priced"]},
        pay={"on": "ordered", "emits": ["paid"]},
        pack={"on": "ordered", "emits": ["packed"]},
        ship={"on": {"all": [{"event": "paid", "as": "money"}, "packed"]}, "emits": ["shipped"], "outside": "mute"},
        count={"on": "shipped"},
    )

    def says(topic: str) -> Callable[[Event], Any]:
        return lambda event: emit(topic, n=event.data["n"])

    def ship(match: Any, ctx: Any) -> Any:
        return emit("shipped", n=match["money"].data["n"], token=ctx.token)

    def shipped(event: Event, ctx: Any) -> None:
        ctx.state["n"] = ctx.state.get("n", 0) + 1

    calls: dict[str, Any] = {"price": price, "pay": says("paid"), "pack": says("packed"), "ship": ship, "count": shipped}
    play(store, document=document, players=calls)

    made = replay(document, 0, store=store, take="other", calls=calls | {"price": lambda event: emit("priced", n=-1)})

    assert made.difference.counts() == {"price": {"new": 0, "gone": 0, "different": 6}}
    assert made.difference.tables == []
    with ensemble.read(store) as was, ensemble.read(store, take="other") as now:
        for topic in ("_band.motif.ship", "shipped"):
            assert sorted(event.id for event in was.events(topic)) == sorted(event.id for event in now.events(topic))


@pytest.mark.parametrize("shards", [1, 3])
def test_what_was_heard_before_a_division_is_not_replayed_and_said_to_be_unknown(tmp_path: Path, shards: int) -> None:
    store = str(tmp_path / "store")
    calls = {**PLAYERS, "price": lambda event: emit("priced", n=event.data["n"] + 1)}
    play(store)
    reshard(store, 2)
    reshard(store, shards)

    with pytest.raises(Unavailable, match=r"divided anew .*replay from there on: --from ") as told:
        replay(SHOP, 0, store=store, calls=calls)

    after = datetime.fromisoformat(str(told.value).rpartition("--from ")[2])
    if shards == 1:
        play(store, range(6, 9))
        made = replay(SHOP, after, store=store, calls=calls)
        assert made.difference.counts()["price"]["different"] == 3


@pytest.mark.parametrize(
    ("players", "error", "wrong"),
    [
        ("price", TypeError, r"players='price': who plays anew is a list of names, as \["),
        (5, TypeError, "players=5: who plays anew is a list of names"),
        ([5], TypeError, r"players=\[5\]: the name of a player is a str"),
        ([], ScoreError, r"players=\[\]: nobody is named who plays anew; name one, or leave it out for all"),
    ],
)
def test_who_plays_anew_is_a_list_of_names(store: str, players: Any, error: type[Exception], wrong: str) -> None:
    play(store)

    with pytest.raises(error, match=wrong):
        replay(SHOP, 0, players=players, store=store, calls=PLAYERS)
