"""What a player may know beside the event: state, token, now, attempt, log, settings."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from ensemble import Context, Event, emit
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("what ctx tells is made by the same code on every stage")

ONCE = {"attempts": 1}


def test_state_is_kept_by_key_between_events_and_openings(stand: Stand) -> None:
    def count(event: Event, ctx: Context) -> None:
        ctx.state["seen"] = [*ctx.state.get("seen", []), event.data]

    for start in (0, 4):
        band = stand.play({"count": part(count, "said")})
        band.publish_many({"topic": "said", "key": f"k-{n % 2}", "data": n} for n in range(start, start + 4))
        band.settle(30)

    assert dict(band.table("count")) == {"k-0": {"seen": [0, 2, 4, 6]}, "k-1": {"seen": [1, 3, 5, 7]}}


def test_state_that_is_changed_deep_inside_is_kept(stand: Stand) -> None:
    def keep(event: Event, ctx: Context) -> None:
        ctx.state.setdefault("lines", {}).setdefault(event.data, []).append(1)

    band = stand.play({"keep": part(keep, "said")})
    band.publish_many(["a", "b", "a"], topic="said")
    band.settle(30)

    assert band.table("keep")[""] == {"lines": {"a": [1, 1], "b": [1]}}


def test_state_can_be_replaced(stand: Stand) -> None:
    def keep(event: Event, ctx: Context) -> None:
        ctx.state = {"last": event.data}

    band = stand.play({"keep": part(keep, "said")})
    band.publish_many([1, 2, 3], topic="said")
    band.settle(30)

    assert band.table("keep")[""] == {"last": 3}


def test_two_players_have_two_tables(stand: Stand) -> None:
    def keep(event: Event, ctx: Context, *, name: str) -> None:
        ctx.state["name"] = name

    band = stand.play({name: part(keep, "said", with_={"name": name}) for name in ("one", "two")})
    band.publish("said", key="k")
    band.settle(30)

    assert [band.table(name)["k"] for name in ("one", "two")] == [{"name": "one"}, {"name": "two"}]


def test_state_follows_by_instead_of_the_key(stand: Stand) -> None:
    def count(event: Event, ctx: Context) -> None:
        ctx.state["n"] = ctx.state.get("n", 0) + 1

    band = stand.play({"count": part(count, "said", by="user.id")})
    band.publish_many({"topic": "said", "key": f"o-{n}", "data": {"user": {"id": n % 2}}} for n in range(10))
    band.settle(30)

    assert dict(band.table("count")) == {"0": {"n": 5}, "1": {"n": 5}}


@pytest.mark.parametrize(("says", "words"), [({"order": "none"}, "order: none"), ({}, "whole batches")])
def test_asking_for_state_where_there_can_be_none_is_the_players_failure(
    stand: Stand, says: dict[str, Any], words: str
) -> None:
    def one(event: Event, ctx: Context) -> None:
        ctx.state["n"] = 1

    def many(events: list[Event], ctx: Context) -> None:
        ctx.state["n"] = 1

    band = stand.play({"keep": part(one if says else many, "said", retry=ONCE, **says)})
    band.publish("said")
    band.settle(30)

    [letter] = band.dead()
    assert words in letter.error


def test_now_is_the_brokers_time_in_utc(stand: Stand) -> None:
    clock = ManualClock("2026-03-01T10:00:00Z")
    told: list[datetime] = []
    band = stand.play({"look": part(lambda event, ctx: told.append(ctx.now), "said")}, clock=clock)

    band.publish("said")
    band.settle()
    clock.advance(hours=5)
    band.publish("said")
    band.settle()

    assert told == [datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in (10, 15)]


def test_attempts_count_from_one(stand: Stand) -> None:
    told: list[int] = []

    def fail(event: Event, ctx: Context) -> None:
        told.append(ctx.attempt)
        raise ValueError

    band = stand.play({"fail": part(fail, "said", retry={"attempts": 3, "first": "1ms"})})
    band.publish("said")
    band.settle(30)

    assert told == [1, 2, 3]


def test_log_is_named_after_the_player(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    band = stand.play({"chatty": part(lambda event, ctx: ctx.log.warning("heard %s", event.data), "said")})

    with caplog.at_level(logging.WARNING):
        band.publish("said", 7)
        band.settle(30)

    assert [(record.name, record.getMessage()) for record in caplog.records] == [("ensemble.player.chatty", "heard 7")]


def test_settings_and_live_can_be_read_from_it_too(stand: Stand) -> None:
    told: list[Any] = []
    band = stand.play(
        {"look": part(lambda event, ctx, **_: told.append((dict(ctx.settings), ctx.live)), "said", with_={"x": 1})}
    )
    band.publish("said")
    band.settle(30)

    assert told == [({"x": 1}, True)]


def test_each_listener_gets_data_of_its_own(stand: Stand) -> None:
    heard: list[Any] = []

    def spoil(event: Event) -> None:
        event.data["total"] = -1

    band = stand.play(
        {"spoil": part(spoil, "said"), "look": part(lambda event: heard.append(event.data["total"]), "said")}
    )
    band.publish_many([{"total": n} for n in range(5)], topic="said")
    band.settle(30)

    assert sorted(heard) == [0, 1, 2, 3, 4]
    assert [event.data["total"] for event in band.events()] == [0, 1, 2, 3, 4]


def test_a_player_can_not_publish_while_it_hears(stand: Stand) -> None:
    bands: list[Any] = []
    band = stand.play({"echo": part(lambda event: bands[0].publish("echoed"), "said", retry=ONCE)})
    bands.append(band)

    band.publish("said")
    band.settle(30)

    [letter] = band.dead()
    assert "emit(" in letter.error
    assert list(band.events("echoed")) == []


def test_emit_after_says_it_that_much_later(stand: Stand) -> None:
    clock = ManualClock()
    band = stand.play(
        {"later": part(lambda event: emit("reminded", event.data, after="90s"), "said", emits=["reminded"])}, clock=clock
    )
    said = band.publish("said", 1, key="k")
    band.settle()

    clock.advance(seconds=89)
    assert list(band.events("reminded")) == []
    clock.advance(seconds=1)

    [event] = band.events("reminded")
    assert (event.key, event.data, event.causationid, event.source) == ("k", 1, said.id, "/test/later")
    assert event.time == clock.now()
