"""The front door: turns the invoices of a real shop into what customers and the warehouse do.

An invoice of the data set is one of three things.
- A sale: the customer fills a cart and checks out. Lines that are no goods (postage, bank charges) are only paid.
- A credit note (its number begins with C): goods come back, and money goes back.
- A stock correction (no customer, every price 0: "damaged", "found"): the warehouse writes off or adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zlib import crc32

from ensemble import Context, Emission, Event, emit
from players.acme_fitness.money import cents

CARDS = ["tok_visa"] * 55 + ["tok_mastercard"] * 41 + ["tok_expired", "tok_amex", "tok_eleven_digits", "tok_mistyped"]
"""The data set knows no cards, so each customer is given one of these hundred, always the same."""


def open_door(event: Event, ctx: Context) -> Iterator[Emission]:
    invoice = event.data
    number = invoice["invoice"]
    user = invoice["customer"] or f"guest-{number}"
    if number.startswith("C"):
        yield from take_back(invoice, user)
    elif invoice["customer"] is None and all(item["unit_price"] == 0 for item in invoice["items"]):
        yield from correct_stock(invoice)
    else:
        if invoice["customer"] is not None and not ctx.state:  # invoices are keyed by customer, and so is the state
            ctx.state["known"] = True
            yield emit("user.registration.requested", user_id=user, country=invoice["country"])
        yield from sell(invoice, user)


def sell(invoice: dict[str, Any], user: str) -> Iterator[Emission]:
    items = [
        {
            "item_id": item["sku"],
            "name": item["description"] or "",
            "quantity": item["quantity"],
            "price": item["unit_price"],
            "is_goods": is_goods(item["sku"]),
        }
        for item in invoice["items"]
    ]
    yield emit("cart.replaced", user_id=user, items=items)
    yield emit(
        "cart.checked_out",
        user_id=user,
        order_id=invoice["invoice"],
        country=invoice["country"],
        delivery="UPS/FEDEX",
        card=CARDS[crc32(user.encode()) % len(CARDS)],
    )


def take_back(invoice: dict[str, Any], user: str) -> Iterator[Emission]:
    number = invoice["invoice"]
    for item in invoice["items"]:
        if is_goods(item["sku"]):
            yield emit("stock.returned", order_id=number, product_id=item["sku"], quantity=-item["quantity"])
    amount = -sum(item["quantity"] * cents(item["unit_price"]) for item in invoice["items"])
    yield emit("refund.requested", order_id=number, user_id=user, country=invoice["country"], amount=amount)


def correct_stock(invoice: dict[str, Any]) -> Iterator[Emission]:
    for item in invoice["items"]:
        yield emit("stock.corrected", product_id=item["sku"], quantity=item["quantity"], note=item["description"] or "")


def is_goods(sku: str) -> bool:
    """Articles have numbers; POST, DOT, M, BANK CHARGES and the like are services."""
    return sku[:1].isdigit()
