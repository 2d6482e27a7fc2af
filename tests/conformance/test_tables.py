"""Tables, on every stage and store: typed state, state that expires, and what players look up (docs/tables.md)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import ensemble
from ensemble import Event, emit
from tests.conformance.stand import Stand, eventually, part


class Cart(msgspec.Struct):
    items: dict[str, int] = {}
    total: float = 0.0


CART = {"type": f"{__name__}:Cart"}


def keep(event: Event, ctx: Any) -> None:
    ctx.state.items[event.data["item"]] = event.data["pieces"]
    ctx.state.total += event.data["pieces"] * 2.5


def test_state_of_a_type_is_one_when_a_player_sees_it_and_is_kept(stand: Stand) -> None:
    for pieces in (1, 2):
        band = stand.play({"cart": part(keep, "added", state=CART)})
        band.publish_many({"topic": "added", "key": f"u-{n}", "data": {"item": "mat", "pieces": pieces}} for n in range(3))
        band.settle(30)

    table = band.table("cart", type=Cart)
    assert table["u-0"] == Cart({"mat": 2}, 7.5)
    assert dict(band.table("cart")) == {f"u-{n}": {"items": {"mat": 2}, "total": 7.5} for n in range(3)}
    with stand.reader() as reader:
        assert reader.table("cart", type=Cart) == table


def note(event: Event, ctx: Any) -> None:
    ctx.state["last"] = event.data


def test_state_goes_when_nothing_was_written_for_as_long_as_expire_says(stand: Stand) -> None:
    band = stand.play({"note": part(note, "said", state={"expire": "200ms"}), "all": part(note, "said")})

    band.publish_many({"topic": "said", "key": f"k-{n}", "data": n} for n in range(5))
    band.settle(30)

    eventually(lambda: not band.table("note"), "the end of what was noted")
    assert len(band.table("all")) == 5


def test_state_that_expired_while_nobody_played_goes_on_waking(stand: Stand) -> None:
    parts = {"note": part(note, "said", state={"expire": "100ms"}), "all": part(note, "said")}
    band = stand.play(parts)
    band.publish("said", 1, key="k")
    band.settle(30)
    stand.leave()

    band = stand.play(parts)
    band.settle(30)

    eventually(lambda: not band.table("note"), "the end of what was noted")
    assert dict(band.table("all")) == {"k": {"last": 1}}


def look(event: Event, ctx: Any) -> Any:
    """Tells what another player keeps of this key."""
    return emit("looked", kept=ctx.tables["note"])


def test_a_player_reads_what_another_keeps_of_the_same_key(stand: Stand) -> None:
    band = stand.play({"note": part(note, "said"), "look": part(look, "asked", emits=["looked"], reads=["note"])})
    band.publish_many({"topic": "said", "key": f"k-{n}", "data": n} for n in range(5))
    band.settle(30)

    band.publish_many({"topic": "asked", "key": f"k-{n}", "data": None} for n in range(6))
    band.settle(30)

    told = {event.key: event.data["kept"] for event in band.events("looked")}
    assert told == {"k-5": {}, **{f"k-{n}": {"last": n} for n in range(5)}}


class Order(msgspec.Struct):
    user: str
    customer: dict[str, Any] | None


def charge(event: Event) -> Any:
    return emit("charged", customer=event.data["customer"], payload=ensemble.event.decode(event.payload))


async def charge_later(event: Event) -> Any:
    return charge(event)


def charge_typed(order: Order) -> Any:
    return emit("charged", customer=order.customer, payload={"user": order.user})


def charge_all(events: list[Event]) -> Any:
    return [charge(event) for event in events]


@pytest.mark.parametrize("call", [charge, charge_later, charge_typed, charge_all])
def test_what_a_player_hears_is_enriched_with_what_another_keeps(stand: Stand, call: Any) -> None:
    enrich = {"customer": "customers[data.user]"}
    band = stand.play(
        {
            "customers": part(note, "registered"),
            "charge": part(call, "ordered", emits=["charged"], by="user", enrich=enrich),
        }
    )
    band.publish_many({"topic": "registered", "key": f"u-{n}", "data": n} for n in range(3))
    band.settle(30)

    band.publish_many({"topic": "ordered", "key": f"o-{n}", "data": {"user": f"u-{n}"}} for n in range(4))
    band.settle(30)

    answers = {event.key: event.data for event in band.events("charged")}
    assert {key: data["customer"] for key, data in answers.items()} == {
        "o-3": None,
        **{f"o-{n}": {"last": n} for n in range(3)},
    }
    assert all(data["payload"] == {"user": f"u-{key[2:]}"} for key, data in answers.items())
    assert [event.data for event in band.events("ordered", key="o-1")] == [{"user": "u-1"}], "the log says what was said"


def test_what_is_no_mapping_can_not_be_enriched_and_becomes_a_dead_letter(stand: Stand) -> None:
    says = {"emits": ["charged"], "enrich": {"customer": "customers[key]"}, "retry": {"attempts": 1}}
    band = stand.play({"customers": part(note, "registered"), "charge": part(charge, "ordered", **says)})

    band.publish("ordered", [1, 2], key="o-1")
    band.settle(30)

    assert [letter.event.key for letter in band.dead()] == ["o-1"]
    assert "can't be enriched, since it is no mapping" in band.dead()[0].error


def test_a_range_of_a_table_has_the_keys_that_begin_so_in_order(stand: Stand) -> None:
    band = stand.play({"note": part(note, "said")})
    band.publish_many({"topic": "said", "key": key, "data": 1} for key in ("b-2", "a-1", "b-1", "b", "c-1", ""))
    band.settle(30)

    assert list(band.table("note").range("b-")) == ["b-1", "b-2"]
    assert list(band.table("note").range("")) == ["", "a-1", "b", "b-1", "b-2", "c-1"]
    assert band.table("note").range("z") == {}
