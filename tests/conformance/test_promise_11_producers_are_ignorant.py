"""Promise 11. A new player needs no change of anything else: not of who is heard, nor of what was said."""

from __future__ import annotations

from typing import Any

from ensemble import Event, emit
from tests.conformance.home import at_home
from tests.conformance.stand import Part, Stand, all_of, part


def cook(event: Event) -> Any:
    return emit("dish.ready", event.data)


def serve(event: Event, ctx: Any) -> Any:
    ctx.state["served"] = ctx.state.get("served", 0) + 1
    return emit("dish.served", event.data)


KITCHEN = {
    "cook": part(cook, "dish.ordered", emits=["dish.ready"]),
    "serve": part(serve, "dish.ready", emits=["dish.served"]),
}


def orders(band: Any, start: int = 0) -> None:
    band.publish_many({"topic": "dish.ordered", "key": f"t-{n % 3}", "data": n} for n in range(start, start + 20))
    band.settle(30)


def newcomers(heard: list[Any]) -> dict[str, Part]:
    return {"critic": part(lambda event: heard.append(event.data), "dish.*")}


def test_a_player_that_joins_changes_no_frame_that_was_written_and_hears_all_of_them(stand: Stand) -> None:
    orders(stand.play(KITCHEN))
    stand.leave()
    before = stand.frames()
    heard: list[Any] = at_home([])

    stand.play({**KITCHEN, **newcomers(heard)}).settle(30)
    stand.leave()

    after = stand.frames()
    assert [frame.prev for frame in after[: len(before)]] == [frame.prev for frame in before]
    assert len(heard) == 60
    assert [event.topic for event in all_of(after[len(before) :]) if not event.topic.startswith("_band.")] == []


def test_a_player_that_joins_makes_no_other_hear_anything_twice(stand: Stand) -> None:
    orders(stand.play(KITCHEN))

    band = stand.play({**KITCHEN, **newcomers([])})
    orders(band, start=20)

    sections = band.status().sections
    assert (sections["cook"].heard, sections["serve"].heard, sections["critic"].heard) == (40, 40, 120)
    assert sum(row["served"] for row in band.table("serve").values()) == 40


def test_a_player_that_leaves_is_missed_by_nobody(stand: Stand) -> None:
    heard: list[Any] = at_home([])
    orders(stand.play({**KITCHEN, **newcomers(heard)}))

    band = stand.play(KITCHEN)
    orders(band, start=20)

    assert len(heard) == 60
    assert sum(row["served"] for row in band.table("serve").values()) == 40


def test_the_state_of_a_player_that_is_away_stays_and_can_be_read(stand: Stand) -> None:
    orders(stand.play(KITCHEN))

    band = stand.play({"cook": KITCHEN["cook"]})

    assert sum(row["served"] for row in band.table("serve").values()) == 20


def test_a_publisher_need_not_know_whether_anybody_listens(stand: Stand) -> None:
    band = stand.play(KITCHEN)

    band.publish("weather.changed", "rain")
    band.settle(30)

    assert [event.data for event in band.events("weather.changed")] == ["rain"]
    assert band.dead() == []


def test_what_one_player_says_has_the_same_bytes_whoever_else_listens(stand: Stand) -> None:
    orders(stand.play(KITCHEN))
    alone = [(event.topic, event.key, event.payload) for event in stand.reader().events("dish.served")]

    other = Stand(stand.setup, stand.folder)
    orders(other.play({**KITCHEN, **newcomers([])}))
    together = [(event.topic, event.key, event.payload) for event in other.reader().events("dish.served")]
    other.end()

    assert sorted(alone) == sorted(together)
