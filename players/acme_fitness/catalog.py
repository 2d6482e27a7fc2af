"""The catalogue: a table of products for the shop window, a fold over what is said about them."""

from __future__ import annotations

from ensemble import Context, Event
from players.acme_fitness.money import cents


def show(event: Event, ctx: Context) -> None:
    product = event.data
    if event.topic == "product.listed":
        ctx.state.update(name=product["name"], price=cents(product["price"]), tags=product.get("tags", []))
        ctx.state.setdefault("is_available", False)  # the stock says when there is some
    elif event.topic == "stock.ran_out":
        ctx.state["is_available"] = False
    elif event.topic == "stock.came_in":
        ctx.state["is_available"] = True
