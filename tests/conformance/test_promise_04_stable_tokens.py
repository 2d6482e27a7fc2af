"""Promise 4. `ctx.token` is the same on every run of the same event by the same player, and differs otherwise."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ensemble import Event, Reject
from tests.conformance.home import at_home
from tests.conformance.stand import Stand, part


class Till:
    """Notes the tokens that it is given, by event."""

    def __init__(self, fails_until: int = 1) -> None:
        self._charged: list[tuple[str, str]] = at_home([])
        self._fails_until = fails_until

    @property
    def tokens(self) -> dict[str, list[str]]:
        return {id: [token for other, token in self._charged if other == id] for id, _ in self._charged}

    def charge(self, event: Event, ctx: Any) -> None:
        self._charged.append((event.id, ctx.token))
        if ctx.attempt < self._fails_until:
            raise ConnectionError("no answer")

    async def charge_later(self, event: Event, ctx: Any) -> None:
        self.charge(event, ctx)


def test_a_token_stays_the_same_from_attempt_to_attempt(stand: Stand) -> None:
    till = Till(fails_until=3)
    band = stand.play({"charge": part(till.charge, "order.placed", retry={"attempts": 3, "first": "1ms"})})

    band.publish("order.placed", key="o-1")
    band.settle(30)

    [tokens] = till.tokens.values()
    assert len(tokens) == 3
    assert len(set(tokens)) == 1


def test_every_event_has_a_token_of_its_own_with_every_player(stand: Stand) -> None:
    one, two = Till(), Till()
    band = stand.play({"one": part(one.charge, "order.placed"), "two": part(two.charge_later, "order.placed")})

    for _ in range(10):
        band.publish("order.placed", key="o-1")
    band.settle(30)

    tokens = [token for till in (one, two) for tokens in till.tokens.values() for token in tokens]
    assert len(tokens) == len(set(tokens)) == 20
    assert all(isinstance(token, str) and len(token) >= 16 and token.isascii() for token in tokens)


def test_a_token_stays_the_same_when_the_band_was_killed_before_the_effect_was_written(stand_on_disk: Stand) -> None:
    before, after = Till(), Till()
    killed: list[Stand] = at_home([])

    def charge(event: Event, ctx: Any) -> None:
        before.charge(event, ctx)
        killed.append(stand_on_disk.as_if_killed())

    band = stand_on_disk.play({"charge": part(charge, "order.placed")})
    band.publish("order.placed", key="o-1")
    band.settle(30)

    killed[0].play({"charge": part(after.charge, "order.placed")}).settle(30)
    killed[0].leave()

    assert before.tokens == after.tokens


def test_a_token_stays_the_same_when_a_dead_letter_is_heard_again_after_reopening(stand: Stand) -> None:
    till, mended = Till(fails_until=99), Till()
    band = stand.play({"charge": part(till.charge, "order.placed", retry={"attempts": 1})})
    band.publish("order.placed", key="o-1")
    band.settle(30)

    band = stand.play({"charge": part(mended.charge, "order.placed", retry={"attempts": 1})})
    band.retry_dead()
    band.settle(30)

    assert till.tokens == mended.tokens
    assert band.dead() == []


def test_a_token_does_not_change_with_the_settings_of_the_player(stand: Stand) -> None:
    tokens: list[str] = at_home([])

    def charge(event: Event, ctx: Any, *, currency: str) -> None:
        tokens.append(ctx.token)
        raise Reject("no")

    for currency in ("EUR", "GBP"):
        band = stand.play({"charge": part(charge, "order.placed", with_={"currency": currency})})
        if currency == "EUR":
            band.publish("order.placed", key="o-1")
        else:
            band.retry_dead("charge")
        band.settle(30)

    assert len(tokens) == 2
    assert len(set(tokens)) == 1


# Whole batches


class Order(msgspec.Struct):
    number: int


@pytest.mark.parametrize("is_typed", [False, True], ids=["events", "structs"])
@pytest.mark.parametrize(("batch", "poison"), [(1, None), (3, None), (10, None), (10, 4)])
def test_an_event_of_a_batch_has_the_token_that_it_has_alone_wherever_the_batch_begins_and_however_it_is_halved(
    stand: Stand, batch: int, poison: int | None, is_typed: bool
) -> None:
    alone: dict[int, str] = at_home({})
    together: list[tuple[int, str]] = at_home([])

    def one(event: Event, ctx: Any) -> None:
        alone[event.data["number"]] = ctx.token
        assert ctx.token_of(event) == ctx.token
        raise Reject("not now")

    def many(orders: list[Any], ctx: Any) -> None:
        numbers = [order.number if is_typed else order.data["number"] for order in orders]
        for number, order in zip(numbers, orders, strict=True):
            together.append((number, ctx.token_of(order)))
        if poison in numbers:
            raise ValueError(poison)

    many.__annotations__["orders"] = list[Order] if is_typed else list[Event]
    band = stand.play({"charge": part(one, "order.placed")})
    band.publish_many([{"number": n} for n in range(10)], topic="order.placed")
    band.settle(30)
    band = stand.play({"charge": part(many, "order.placed", retry={"attempts": 1}, section={"batch": batch})})
    band.retry_dead()
    band.settle(30)

    assert len(alone) == 10
    assert set(together) == set(alone.items())


def test_a_typed_player_of_one_event_may_ask_for_its_token_either_way(stand: Stand) -> None:
    told: list[str] = at_home([])

    def charge(order: Order, ctx: Any) -> None:
        told.extend([ctx.token, ctx.token_of(order)])

    band = stand.play({"charge": part(charge, "order.placed")})
    band.publish("order.placed", {"number": 1})
    band.settle(30)

    assert len(told) == 2
    assert len(set(told)) == 1


def test_a_whole_batch_has_no_one_token_and_says_what_to_use(stand: Stand) -> None:
    def charge(events: list[Event], ctx: Any) -> None:
        raise AssertionError(ctx.token)

    band = stand.play({"charge": part(charge, "order.placed", retry={"attempts": 1})})
    band.publish("order.placed")
    band.settle(30)

    [letter] = band.dead()
    assert letter.error == (
        "PlayerError: player charge hears whole batches, which have no one token: it would change with where a batch begins; "
        "use ctx.token_of(event) for each event"
    )


def test_what_was_not_heard_in_this_call_has_no_token(stand: Stand) -> None:
    before: list[Event] = []

    def charge(event: Event, ctx: Any) -> None:
        before.append(event)
        ctx.token_of(before[0])

    band = stand.play({"charge": part(charge, "order.placed", retry={"attempts": 1}, order="all")})
    band.publish("order.placed", 1)
    band.publish("order.placed", 2)
    band.settle(30)

    [letter] = band.dead()
    assert letter.event.data == 2
    assert "ctx.token_of(Event('order.placed'" in letter.error
