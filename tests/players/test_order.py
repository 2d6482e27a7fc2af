"""An order moves forward only, and ends once."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from ensemble.event import Emission
from ensemble.testing import event
from players.acme_fitness.order import follow
from tests.players.tabletop import context

ITEMS = [
    {"item_id": "mat", "name": "", "quantity": 2, "price": 6250, "is_goods": True},
    {"item_id": "mat", "name": "", "quantity": 1, "price": 6000, "is_goods": True},
    {"item_id": "bike", "name": "", "quantity": 1, "price": 49999, "is_goods": True},
    {"item_id": "POST", "name": "", "quantity": 1, "price": 1000, "is_goods": False},
]
TOTAL = 2 * 6250 + 6000 + 49999 + 1000
REQUEST = {
    "user_id": "han",
    "country": "USA",
    "delivery": "tractor",
    "card": "tok_visa",
    "items": ITEMS,
    "total": TOTAL,
}
GOOD = {"success": True, "status": 200, "message": "transaction successful", "amount": TOTAL, "transaction_id": "t"}
BAD = {"success": False, "status": 400, "message": "card is expired", "amount": 0, "transaction_id": "-3"}
ROAD = ["order.requested", "order.reserved", "payment.card.validated", "shipment.sent", "shipment.delivered"]
DATA: dict[str, dict[str, Any]] = {
    "order.requested": REQUEST,
    "payment.card.validated": GOOD,
    "order.short": {"short": ["bike"]},
}


def hear(ctx: Any, topic: str, data: dict[str, Any] | None = None) -> list[Emission]:
    data = DATA.get(topic, {}) if data is None else data
    return list(follow(event(topic, {"order_id": "o-1", **data}, key="o-1"), ctx))


def on_the_road(*topics: str) -> Any:
    ctx = context()
    for topic in topics:
        hear(ctx, topic)
    return ctx


def said(emissions: list[Emission]) -> list[str]:
    return [emission.topic for emission in emissions]


def test_a_good_order_goes_from_placed_to_delivered() -> None:
    ctx, seen = context(), []

    for topic in ROAD:
        hear(ctx, topic)
        seen.append(ctx.state["status"])

    assert seen == ["placed", "reserved", "paid", "shipped", "delivered"]


def test_stock_is_asked_for_once_a_product_and_never_for_services() -> None:
    asked = [emission.data for emission in hear(context(), "order.requested") if emission.topic == "stock.requested"]

    assert [(one["product_id"], one["quantity"]) for one in asked] == [("mat", 3), ("bike", 1)]


def test_a_total_that_is_not_the_carts_is_refused_before_anything_is_reserved() -> None:
    emissions = hear(context(), "order.requested", {**REQUEST, "total": 10000})

    assert said(emissions) == ["order.cancelled"]
    assert emissions[0].data["reason"] == "the total 100.00 is not the cart's 694.99"


def test_one_short_product_releases_the_others_and_cancels() -> None:
    emissions = hear(on_the_road("order.requested"), "order.short")

    assert said(emissions) == ["stock.released", "order.cancelled"]
    assert (emissions[0].data["product_id"], emissions[0].data["quantity"]) == ("mat", 3)


@pytest.mark.parametrize(
    ("topic", "data", "reason", "declined"),
    [
        ("payment.card.validated", BAD, "payment refused: card is expired", ["card.declined"]),
        ("payment.failed", {"error": "ProviderError: no answer", "attempts": 5}, "payment is down", []),
    ],
)
def test_an_order_that_is_not_paid_releases_everything_and_cancels(
    topic: str, data: dict[str, Any], reason: str, declined: list[str]
) -> None:
    emissions = hear(on_the_road("order.requested", "order.reserved"), topic, data)

    assert said(emissions) == [*declined, "stock.released", "stock.released", "order.cancelled"]
    assert emissions[-1].data["reason"] == reason


def test_the_stock_is_taken_when_the_parcel_leaves() -> None:
    emissions = hear(on_the_road(*ROAD[:3]), "shipment.sent")

    assert [(one.topic, one.data["quantity"]) for one in emissions] == [("stock.taken", 3), ("stock.taken", 1)]


def test_an_event_that_is_late_or_repeated_changes_nothing() -> None:
    every = [*ROAD, "order.short", "payment.failed"]
    for length in range(1, len(ROAD) + 1):
        expected = ROAD[length] if length < len(ROAD) else None
        for topic in every:
            ctx = on_the_road(*ROAD[:length])
            before = dict(ctx.state)
            if (
                topic != expected
                and not (length == 1 and topic == "order.short")
                and not (length == 2 and topic == "payment.failed")
            ):
                assert (hear(ctx, topic), ctx.state) == ([], before), (length, topic)


def test_in_whatever_order_its_events_come_an_order_has_at_most_one_outcome() -> None:
    for topics in permutations([*ROAD, "order.short", "payment.failed"], 7):
        ctx, outcomes = context(), []
        for topic in topics:
            outcomes += [one for one in said(hear(ctx, topic)) if one in ("order.completed", "order.cancelled")]
        assert len(outcomes) <= 1, topics
