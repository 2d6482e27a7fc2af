"""Real invoices, odd lines and all: what each becomes, and that none is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ensemble.event import Emission
from ensemble.testing import event
from players.acme_fitness.front import open_door
from players.acme_fitness.money import cents
from tests.players.oracle import read_input
from tests.players.tabletop import context

MONTH = Path(__file__).parents[2] / "scores/data/acme_november_2011.jsonl.gz"


def invoice(number: str, customer: str | None, *items: tuple[str, int, float]) -> dict[str, Any]:
    lines = [{"sku": sku, "description": None, "quantity": n, "unit_price": price} for sku, n, price in items]
    return {"invoice": number, "customer": customer, "country": "EIRE", "time": "2011-11-01T08:16:00Z", "items": lines}


def hear(data: dict[str, Any], ctx: Any | None = None) -> list[Emission]:
    return list(open_door(event("invoice.recorded", data), ctx or context()))


def said(emissions: list[Emission]) -> list[str]:
    return [emission.topic for emission in emissions]


def test_a_sale_fills_a_cart_and_checks_out_under_the_invoices_number() -> None:
    emissions = hear(invoice("573744", "17733", ("21314", 8, 2.1), ("POST", 1, 18.0)))

    assert said(emissions) == ["user.registration.requested", "cart.replaced", "cart.checked_out"]
    assert [item["is_goods"] for item in emissions[1].data["items"]] == [True, False]
    assert emissions[2].data["order_id"] == "573744"


def test_a_customer_registers_with_the_first_invoice_only_and_a_guest_never() -> None:
    ctx = context()
    hear(invoice("573744", "17733", ("21314", 8, 2.1)), ctx)

    assert said(hear(invoice("573750", "17733", ("21314", 8, 2.1)), ctx)) == ["cart.replaced", "cart.checked_out"]
    guest = hear(invoice("573751", None, ("21314", 8, 2.1)))
    assert said(guest) == ["cart.replaced", "cart.checked_out"]
    assert guest[0].data["user_id"] == "guest-573751"


def test_a_credit_note_brings_goods_and_money_back() -> None:
    emissions = hear(invoice("C573750", "16150", ("85159B", -2, 1.95), ("D", -1, 11.84)))

    assert said(emissions) == ["stock.returned", "refund.requested"]
    assert emissions[0].data["quantity"] == 2
    assert emissions[1].data["amount"] == 2 * 195 + 1184


def test_an_invoice_of_nobody_for_nothing_is_a_stock_correction() -> None:
    emissions = hear(invoice("573752", None, ("46000S", -90, 0.0)))

    assert said(emissions) == ["stock.corrected"]
    assert emissions[0].data["quantity"] == -90


def test_a_gift_to_a_customer_is_a_sale_for_nothing() -> None:
    assert said(hear(invoice("578841", "13256", ("84826", 12540, 0.0)))[1:]) == ["cart.replaced", "cart.checked_out"]


def test_no_piece_and_no_penny_of_the_whole_month_is_lost() -> None:
    pieces: Counter[str] = Counter()
    money = 0
    invoices = [line["data"] for line in read_input(MONTH) if line["topic"] == "invoice.recorded"]

    for each in invoices:
        for emission in hear(each):
            data = emission.data
            if emission.topic == "cart.replaced":
                pieces.update({"out": sum(item["quantity"] for item in data["items"])})
                money += sum(item["quantity"] * cents(item["price"]) for item in data["items"])
            elif emission.topic == "stock.returned":
                pieces["back"] += data["quantity"]
            elif emission.topic == "stock.corrected":
                pieces["corrected"] += data["quantity"]
            elif emission.topic == "refund.requested":
                money -= data["amount"]

    items = [(each["invoice"], item) for each in invoices for item in each["items"]]
    services_back = sum(-item["quantity"] for number, item in items if number[0] == "C" and item["sku"][0].isalpha())
    assert len(items) == 84_711
    assert pieces["out"] - pieces["back"] - services_back + pieces["corrected"] == sum(item["quantity"] for _, item in items)
    assert money == sum(item["quantity"] * cents(item["unit_price"]) for _, item in items)


def test_every_event_that_it_says_has_a_card_token_at_most() -> None:
    cards = {hear(invoice("1", str(user), ("21314", 1, 1.0)))[-1].data["card"] for user in range(12_000, 14_000)}

    assert cards == {"tok_visa", "tok_mastercard", "tok_expired", "tok_amex", "tok_eleven_digits", "tok_mistyped"}
