"""Promise 4. `ctx.token` is the same on every run of the same event by the same player, and differs otherwise."""

from __future__ import annotations

from typing import Any

from ensemble import Event
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
    from ensemble import Reject

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
