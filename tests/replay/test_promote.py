"""Promoting appends corrections and sets tables: nothing that was written is changed or lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Event, emit, takes
from ensemble.errors import EnsembleError, Unavailable
from ensemble.replay import promote, replay
from tests.replay.test_replay import PLAYERS, SHOP, dearer, play

FIXED = {**PLAYERS, "price": dearer}


def events(store: str, pattern: str = ">") -> list[tuple[str, str, Any]]:
    with ensemble.read(store) as reader:
        return [(event.id, event.topic, event.data) for event in reader.events(pattern)]


def sums(store: str) -> dict[str, int]:
    with ensemble.read(store) as reader:
        return {key: state["sum"] for key, state in reader.table("tally").items()}


def test_tables_become_right_and_every_event_stays(store: str) -> None:
    play(store, range(9))
    before = events(store)
    made = replay(SHOP, 0, store=store, calls=FIXED)
    assert made.take is not None

    done = promote(store, made.take)

    assert sums(store) == {"k0": 9, "k1": 112, "k2": 15}
    assert events(store) == before
    assert (done.corrections, done.states, done.parent) == (3, 1, "main")


def test_a_correction_says_what_was_and_what_is_and_is_found_from_what_it_corrects(store: str) -> None:
    play(store, range(9))
    wrong = next(each for each in events(store, "priced") if each[2] == {"n": 4})
    made = replay(SHOP, 0, store=store, calls=FIXED)
    assert made.take is not None

    promote(store, made.take)

    with ensemble.read(store) as reader:
        corrected = [event for event in reader.events("_band.corrected") if event.causationid == wrong[0]]
        [told] = [event.data for event in corrected]
        assert corrected[0].id in [each.event.id for each in reader.why(wrong[0]).tree.said]
    assert (told["take"], told["kind"], told["player"]) == (made.take, "different", "price")
    assert told["was"] == {"id": wrong[0], "topic": "priced", "key": "k1", "data": {"n": 4}}
    assert told["now"]["data"] == {"n": 104}


def test_a_rebuilt_table_does_not_undo_what_was_corrected(store: str) -> None:
    play(store, range(9))
    made = replay(SHOP, 0, store=store, calls=FIXED)
    assert made.take is not None
    promote(store, made.take)

    with ensemble.open(SHOP, store=store, players=FIXED) as band:
        rebuilding = band.rebuild("tally", FIXED["tally"])
        assert rebuilding.compare().undone == ("k1",)
        assert "of the keys that differ 1 were corrected" in str(rebuilding.compare())
        with pytest.raises(EnsembleError, match="replay instead"):
            rebuilding.switch()
        rebuilding.close()

    assert sums(store) == {"k0": 9, "k1": 112, "k2": 15}


def test_players_go_on_from_what_was_corrected(store: str) -> None:
    play(store, range(9))
    made = replay(SHOP, 0, store=store, calls=FIXED)
    assert made.take is not None
    promote(store, made.take)

    play(store, [10], players=FIXED)

    assert sums(store)["k1"] == 122


def test_who_listens_for_corrections_hears_them_and_nobody_else(store: str) -> None:
    heard: list[str] = []
    play(store, range(9))
    made = replay(SHOP, 0, store=store, calls=FIXED)
    assert made.take is not None
    promote(store, made.take)
    document = {**SHOP, "players": {**SHOP["players"], "mend": {"on": "_band.corrected"}, "spy": {"on": ">"}}}
    spied: list[str] = []
    listening = {"mend": lambda event: heard.append(event.data["player"]), "spy": lambda event: spied.append(event.topic)}

    play(store, [], document, {**FIXED, **listening})

    assert sorted(heard) == ["price", "tally", "tally"]
    assert "_band.corrected" not in spied and spied


def test_it_is_refused_where_the_parent_has_moved_on_in_what_it_rests_on(store: str) -> None:
    play(store, range(9))
    made = replay(SHOP, 0, store=store, calls=FIXED)
    assert made.take is not None
    play(store, [1], players=FIXED)
    before, table = events(store), sums(store)

    with pytest.raises(Unavailable, match="main has moved on since take 'replay-1' was made from it: tally of 'k1'") as refused:
        promote(store, made.take)

    assert "replay again" in str(refused.value)
    assert (events(store), sums(store)) == (before, table)
    again = replay(SHOP, 0, store=store, calls=FIXED)
    assert again.take is not None
    promote(store, again.take)
    assert sums(store)["k1"] == 113


def test_what_else_the_parent_has_said_since_does_not_matter(store: str) -> None:
    play(store, range(9))
    made = replay(SHOP, 0, store=store, calls=FIXED)
    assert made.take is not None
    play(store, [3], players=FIXED)

    promote(store, made.take)

    assert sums(store) == {"k0": 12, "k1": 112, "k2": 15}


def test_it_is_done_once(store: str) -> None:
    play(store, range(9))
    made = replay(SHOP, 0, store=store, calls=FIXED)
    assert made.take is not None
    promote(store, made.take)

    with pytest.raises(Unavailable, match="was promoted already: its corrections are in main from offset"):
        promote(store, made.take)


# Promoted before


def dearest(event: Event) -> Any:
    """Says the same as `dearer` of the fourth, and another price of the fifth."""
    return emit("priced", n=event.data["n"] + {4: 100, 5: 50}.get(event.data["n"], 0))


def summed(event: Event, ctx: Any) -> Any:
    """As `tally`, but says nothing that every take has its own of."""
    ctx.state["sum"] = ctx.state.get("sum", 0) + event.data["n"]
    return emit("tallied", sum=ctx.state["sum"])


PLAIN = {**PLAYERS, "tally": summed}


def of_five(event: Event) -> Any:
    return emit("priced", n=event.data["n"] + (50 if event.data["n"] == 5 else 0))


def corrections(store: str) -> list[tuple[str, str, Any, Any]]:
    with ensemble.read(store) as reader:
        told = [event.data for event in reader.events("_band.corrected")]
    return [
        (each["kind"], each["player"], *(next(iter(each[side]["data"].values())) for side in ("was", "now"))) for each in told
    ]  # fmt: skip


def promoted(store: str, **players: Any) -> Any:
    made = replay(SHOP, 0, store=store, calls={**PLAIN, **players})
    assert made.take is not None
    return promote(store, made.take)


def test_what_was_corrected_before_is_not_corrected_again(store: str) -> None:
    play(store, range(9), players=PLAIN)
    promoted(store, price=dearer)
    before = events(store)

    with pytest.raises(Unavailable, match="says nothing otherwise than main, as it was corrected by the promotion of replay-1"):
        promoted(store, price=dearer)

    assert events(store) == before
    assert sums(store) == {"k0": 9, "k1": 112, "k2": 15}


def test_a_second_fix_corrects_what_the_first_did_not(store: str) -> None:
    play(store, range(9), players=PLAIN)
    promoted(store, price=dearer)

    done = promoted(store, price=dearest)

    assert corrections(store)[3:] == [
        ("different", "price", 5, 55), ("different", "tally", 7, 57), ("different", "tally", 15, 65),
    ]  # fmt: skip
    assert (done.corrections, done.states) == (3, 1)
    assert sums(store) == {"k0": 9, "k1": 112, "k2": 65}


def test_what_is_as_it_was_recorded_after_all_is_corrected_back(store: str) -> None:
    play(store, range(9), players=PLAIN)
    promoted(store, price=dearer)

    promoted(store, price=of_five)

    assert sorted(corrections(store)[3:]) == [
        ("different", "price", 5, 55), ("different", "tally", 7, 57), ("different", "tally", 15, 65),
        ("restored", "price", 104, 4), ("restored", "tally", 105, 5), ("restored", "tally", 112, 12),
    ]  # fmt: skip
    assert sums(store) == {"k0": 9, "k1": 12, "k2": 65}
    promoted(store, price=dearer)
    assert sums(store) == {"k0": 9, "k1": 112, "k2": 15}


def test_a_take_from_before_another_was_promoted_that_corrects_the_same_is_refused(store: str) -> None:
    play(store, range(9), players=PLAIN)
    first, second = (replay(SHOP, 0, store=store, calls={**PLAIN, "price": call}).take for call in (dearer, dearest))
    assert first is not None and second is not None
    promote(store, first)
    before = events(store), sums(store)

    told = r"main has moved on .*: replay-1 was promoted, and corrects 3 of the same events"
    with pytest.raises(Unavailable, match=told) as refused:
        promote(store, second)

    assert "replay again" in str(refused.value)
    assert (events(store), sums(store)) == before
    promoted(store, price=dearest)
    assert sums(store) == {"k0": 9, "k1": 112, "k2": 65}


def test_a_replay_that_takes_as_recorded_what_was_corrected_is_refused(store: str) -> None:
    play(store, range(9), players=PLAIN)
    promoted(store, price=dearer)
    before = events(store), sums(store)
    calls = {**PLAIN, "audit": lambda event, ctx: ctx.state.update(seen=-1)}
    some = replay(SHOP, 0, store=store, players=["audit"], calls=calls)
    assert some.take is not None

    with pytest.raises(Unavailable, match=r"takes what price, tally said as it was recorded.* replay audit, price, tally"):
        promote(store, some.take)

    assert (events(store), sums(store)) == before


def test_after_a_promotion_a_replay_from_there_differs_in_nothing(store: str) -> None:
    play(store, range(9))
    made = replay(SHOP, 0, store=store, calls=FIXED)
    assert made.take is not None
    done = promote(store, made.take)
    play(store, range(20, 30), players=FIXED)

    assert not replay(SHOP, done.offset + done.corrections, store=store, calls=FIXED)


def test_what_was_played_for_itself_can_be_promoted_while_the_parent_stands_still(store: str) -> None:
    play(store, range(3))
    takes.new(store, "mine")
    with ensemble.open(SHOP, store=store, take="mine", players=PLAYERS) as band:
        band.publish("ordered", {"n": 50}, key="k1")
        band.settle(10)

    promote(store, "mine")

    assert sums(store)["k1"] == 51


def test_nothing_to_promote_is_said(store: str) -> None:
    play(store, range(3))
    takes.new(store, "same")

    with pytest.raises(Unavailable, match="says nothing otherwise than main"):
        promote(store, "same")
    with pytest.raises(Unavailable, match="main is the trunk"):
        promote(store, "main")


def test_what_is_played_is_not_promoted(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    play(store, range(6))
    made = replay(SHOP, 0, store=store, calls=FIXED)
    assert made.take is not None

    with ensemble.open(SHOP, store=store, players=PLAYERS), pytest.raises(Unavailable, match="main can't be corrected now"):
        promote(store, made.take)
    with (
        ensemble.open(SHOP, store=store, take=made.take, players=PLAYERS),
        pytest.raises(Unavailable, match="can't be promoted now"),
    ):
        promote(store, made.take)


def test_motifs_that_wait_go_on_over_a_promotion(store: str) -> None:
    document = {
        **SHOP,
        "players": {**SHOP["players"], "pair": {"on": {"all": ["ordered", "shipped"], "within": "1h"}, "emits": ["paired"]}},
    }
    players = {**PLAYERS, "pair": lambda match: emit("paired", of=len(match.events))}
    play(store, range(9), document, players)
    made = replay(document, 0, store=store, calls={**players, "price": dearer})
    assert made.take is not None
    promote(store, made.take)

    with ensemble.open(document, store=store, players=players) as band:
        band.publish("shipped", {}, key="k1")
        band.settle(10)
        found: list[Event] = list(band.events("paired"))

    assert [event.key for event in found] == ["k1"]


def test_what_is_personal_is_in_no_correction_and_can_be_forgotten_in_all_takes(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    document = {
        **SHOP,
        "events": {
            "ordered": {"personal": {"subject": "who", "fields": ["name"]}},
            "priced": {"personal": {"subject": "who", "fields": ["name"]}},
        },
    }

    def named(event: Event) -> Any:
        return emit("priced", n=1, who=event.data["who"], name=event.data["name"])

    def renamed(event: Event) -> Any:
        return emit("priced", n=2, who=event.data["who"], name=event.data["name"] + "!")

    with ensemble.open(document, store=store, players={**PLAYERS, "price": named}) as band:
        band.publish("ordered", {"who": "ella", "name": "SECRET"}, key="k")
        band.settle(10)
    made = replay(document, 0, store=store, calls={**PLAYERS, "price": renamed})
    assert made.take is not None
    promote(store, made.take)

    with ensemble.read(store) as reader:
        assert all("data" not in event.data["was"] for event in reader.events("_band.corrected"))
    assert not [path for path in Path(store).rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
    assert ensemble.forget(store, "ella") >= 1
    for take in ("main", made.take):
        with ensemble.read(store, take=take) as reader:
            assert all("SECRET" not in str(event.data) for event in reader.events())
