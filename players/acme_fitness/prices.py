"""A day with a bug: whoever buys a dozen pieces of an article gets that article cheaper (docs/what-if.md).

`by_the_dozen` was written in the morning, `by_the_dozen_mended` in the evening. Either takes the place of `cart:keep`.
"""

from __future__ import annotations

from typing import Any

from ensemble import Context, Emission, Event, emit
from players.acme_fitness import cart

DOZEN = 12


def by_the_dozen(event: Event, ctx: Context) -> Emission | None:
    """The bug: one dozen makes all of the cart cheaper."""
    asked = cart.keep(event, ctx)
    if asked is None or asked.topic != "order.requested":
        return asked
    items = asked.data["items"]
    if any(item["quantity"] >= DOZEN for item in items):
        items = [cheaper(item) for item in items]
    return priced(asked, items)


def by_the_dozen_mended(event: Event, ctx: Context) -> Emission | None:
    asked = cart.keep(event, ctx)
    if asked is None or asked.topic != "order.requested":
        return asked
    return priced(asked, [cheaper(item) if item["quantity"] >= DOZEN else item for item in asked.data["items"]])


def cheaper(item: dict[str, Any]) -> dict[str, Any]:
    """The same for ten per cent less; parts of a cent are given away."""
    return {**item, "price": item["price"] * 90 // 100}


def priced(asked: Emission, items: list[dict[str, Any]]) -> Emission:
    total = sum(item["quantity"] * item["price"] for item in items)
    return emit("order.requested", {**asked.data, "items": items, "total": total})
