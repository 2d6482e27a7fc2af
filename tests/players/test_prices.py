"""The day with a bug in its prices: what it did, and what is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ensemble.testing import event
from players.acme_fitness.prices import by_the_dozen, by_the_dozen_mended
from tests.players.tabletop import context


def asked(call: Callable[..., Any], **pieces: int) -> Any:
    ctx = context()
    for name, quantity in pieces.items():
        call(event("cart.item.added", {"user_id": "eric", "item_id": name, "quantity": quantity, "price": "10.05"}), ctx)
    who = {"user_id": "eric", "order_id": "o-1", "country": "USA", "delivery": "UPS/FEDEX", "card": "tok_visa"}
    return call(event("cart.checked_out", who), ctx).data


@pytest.mark.parametrize(
    ("call", "prices"), [(by_the_dozen, {"mat": 904, "band": 904}), (by_the_dozen_mended, {"mat": 904, "band": 1005})]
)
def test_a_dozen_of_an_article_makes_it_cheaper_and_the_bug_all_others_too(call: Callable[..., Any], prices: Any) -> None:
    order = asked(call, mat=12, band=1)

    assert {item["item_id"]: item["price"] for item in order["items"]} == prices
    assert order["total"] == 12 * prices["mat"] + prices["band"]


@pytest.mark.parametrize("call", [by_the_dozen, by_the_dozen_mended])
def test_without_a_dozen_of_anything_prices_are_as_listed(call: Callable[..., Any]) -> None:
    assert asked(call, mat=11, band=1)["total"] == 12 * 1005
