"""What talks to the outside does so once, with the event's token, and fails loudly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from ensemble import Match
from ensemble.testing import event, match
from players.acme_fitness import mail
from players.acme_fitness.catalog import show
from players.acme_fitness.events import (
    CardValidated,
    PaymentRequested,
    RefundRequested,
    RegistrationRequested,
    Shipment,
    UserRefused,
    UserRegistered,
)
from players.acme_fitness.payment import Payment, refund
from players.acme_fitness.providers import ProviderError, fail_sometimes
from players.acme_fitness.shipping import ship
from players.acme_fitness.users import register
from tests.players.tabletop import context, finish


def pay(card: str | None, *, rules: str = "A", ctx: Any = None, flaky: float = 0) -> CardValidated:
    return Payment(rules=rules, flaky=flaky)(PaymentRequested("o-1", total=1999, card=card), ctx or context())


@pytest.mark.parametrize(
    ("rules", "card", "message", "code"),
    [
        ("A", None, "missing card info", "-1"),
        ("A", "tok_unknown", "missing card info", "-1"),
        ("A", "tok_no_cvv", "payment data is incomplete", "-1"),
        ("A", "tok_eleven_digits", "not a valid card number", "-2"),
        ("A", "tok_visa_13", "not a valid card number", "-2"),
        ("A", "tok_amex", "not a valid card number", "-2"),
        ("A", "tok_expired", "card is expired", "-3"),
        ("A", "tok_twelve_digits", "card is expired", "-3"),
        ("B", "tok_expired", "error", "-1"),
        ("B", "tok_mistyped", "error", "-1"),
        ("B", "tok_jcb", "error", "-1"),
    ],
)
def test_a_bad_card_is_answered_with_the_rules_own_words(rules: str, card: str | None, message: str, code: str) -> None:
    answer = pay(card, rules=rules)

    assert (answer.success, answer.status, answer.message, answer.transaction_id) == (False, 400, message, code)


@pytest.mark.parametrize(("rules", "card"), [("A", "tok_visa"), ("A", "tok_mistyped"), ("B", "tok_amex"), ("B", "tok_visa_13")])
def test_a_good_card_is_charged_the_total(rules: str, card: str) -> None:
    answer = pay(card, rules=rules)

    assert (answer.success, answer.status, answer.amount) == (True, 200, 1999)
    assert answer.message == {"A": "transaction successful", "B": "success"}[rules]


def test_the_day_of_the_event_decides_whether_a_card_is_expired() -> None:
    assert pay("tok_visa", ctx=context(now=datetime(2035, 12, 1, tzinfo=UTC))).success
    assert pay("tok_visa", ctx=context(now=datetime(2035, 12, 2, tzinfo=UTC))).message == "card is expired"


def test_run_twice_for_one_event_the_bank_sees_one_transaction() -> None:
    assert pay("tok_visa", ctx=context(token="t")) == pay("tok_visa", ctx=context(token="t"))
    assert pay("tok_visa", ctx=context(token="t")) != pay("tok_visa", ctx=context(token="u"))


def test_rules_that_there_are_not_are_refused_when_the_player_is_built() -> None:
    with pytest.raises(ValueError, match="no card rules 'C'; choose one of A, B"):
        Payment(rules="C")


def test_a_closed_bank_charges_nobody() -> None:
    payment = Payment()

    payment.close()

    with pytest.raises(ProviderError):
        payment(PaymentRequested("o-1", total=1999, card="tok_visa"), context())


def test_a_flaky_provider_fails_for_its_share_of_events_the_same_ones_each_time_and_never_at_the_fourth_attempt() -> None:
    def fails(share: float, key: str, attempt: int) -> bool:
        try:
            fail_sometimes(share, key, attempt)
        except ProviderError:
            return True
        return False

    first = [fails(0.3, f"key-{n}", 1) for n in range(1000)]

    assert 250 < sum(first) < 350
    assert first == [fails(0.3, f"key-{n}", 1) for n in range(1000)]
    assert first != [fails(0.3, f"key-{n}", 2) for n in range(1000)]
    assert not any(fails(0.3, f"key-{n}", 4) for n in range(1000))
    assert all(fails(1, f"key-{n}", 9) for n in range(10))
    assert not any(fails(0, f"key-{n}", 1) for n in range(1000))


def ready(order_id: str, delivery: str) -> Match:
    paid = event("order.paid", {"order_id": order_id, "user_id": "han", "delivery": delivery}, key=order_id)
    return match("ready-to-ship", event("order.reserved", {"order_id": order_id}, key=order_id), paid, labels={"paid": 1})


def test_a_parcel_has_one_tracking_number_on_its_way_and_at_the_door() -> None:
    sent, delivered = finish(ship(ready("o-1", "tractor"), context()))

    assert (sent.topic, delivered.topic) == ("shipment.sent", "shipment.delivered")
    assert isinstance(sent.data, Shipment)
    assert sent.data.tracking_number == delivered.data.tracking_number
    assert (sent.data.status, delivered.data.status) == ("shipped - pending delivery", "delivered")
    assert delivered.after is None


def test_a_delivery_that_takes_its_time_is_left_to_a_timer() -> None:
    _, delivered = finish(ship(ready("o-1", "tractor"), context(), delivery="30s"))

    assert delivered.after == "30s"


def test_a_refund_pays_the_amount_back_once() -> None:
    asked = RefundRequested("C1", "17733", "EIRE", 1574)

    answer = refund(asked, context(token="t"))

    assert (answer.order_id, answer.amount) == ("C1", 1574)
    assert answer == refund(asked, context(token="t"))


def test_a_name_is_registered_once_and_the_second_is_told_why() -> None:
    ctx: Any = context()

    assert register(RegistrationRequested("walter", email="walter@acmefitness.com"), ctx) == UserRegistered(
        "walter", "walter@acmefitness.com"
    )
    assert register(RegistrationRequested("walter"), ctx) == UserRefused("walter", "the name walter is taken")
    assert ctx.state["email"] == "walter@acmefitness.com"


def test_the_shop_window_shows_prices_in_cents_and_whether_there_is_any() -> None:
    ctx: Any = context()
    product = {"product_id": "mat", "name": "Yoga Mat", "price": "62.50", "stock": 2, "tags": ["mat"]}

    show(event("product.listed", product), ctx)
    assert ctx.state == {"name": "Yoga Mat", "price": 6250, "tags": ["mat"], "is_available": False}

    show(event("stock.came_in", {"product_id": "mat"}), ctx)
    assert ctx.state["is_available"]

    show(event("stock.ran_out", {"product_id": "mat"}), ctx)
    assert not ctx.state["is_available"]


def test_a_letter_is_sent_once_and_not_in_a_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    letters: list[tuple[str, str, str]] = []
    monkeypatch.setattr(mail, "send", posting(letters))
    cancelled = event("order.cancelled", {"order_id": "o-1", "user_id": "han", "country": "USA", "reason": "out of stock"})

    finish(mail.write(cancelled, context(token="t")))
    finish(mail.write(cancelled, context(token="t", live=False)))

    assert letters == [("han", "Your order o-1 was cancelled: out of stock.", "t")]


def posting(letters: list[tuple[str, str, str]]) -> Callable[..., Any]:
    async def send(to: str, letter: str, *, idempotency_key: str) -> None:
        letters.append((to, letter, idempotency_key))

    return send
