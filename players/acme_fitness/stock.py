"""Stock by product: pieces are available, then reserved for an order, then taken with its parcel or released.

After each event: available >= 0, reserved >= 0, and available + reserved + taken = came_in.
`came_in` is what was listed, returned and found, less what was written off. `missing` is what a stock-taking should
have written off but could not, since it had been promised to customers before.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from ensemble import Context, Emission, Event, emit

EMPTY = {"available": 0, "reserved": 0, "taken": 0, "came_in": 0, "missing": 0}


def keep(event: Event, ctx: Context, *, spare: int = 0) -> Iterator[Emission]:
    """`spare`: pieces beyond what is listed; with many of them no order runs short."""
    said, product = event.data, event.data["product_id"]
    stock = ctx.state
    if not stock:
        stock.update(EMPTY)
    before = stock["available"]
    match event.topic:
        case "product.listed":
            come_in(stock, said["stock"] + int(spare))
        case "stock.returned":
            come_in(stock, said["quantity"])
        case "stock.corrected":
            lost = max(-said["quantity"] - stock["available"], 0)
            stock["missing"] += lost
            come_in(stock, said["quantity"] + lost)
        case "stock.requested":
            is_short = said["quantity"] > stock["available"]
            if not is_short:
                move(stock, "available", "reserved", said["quantity"])
            yield emit(
                "stock.short" if is_short else "stock.reserved",
                order_id=said["order_id"],
                product_id=product,
                quantity=said["quantity"],
            )
        case "stock.released":
            move(stock, "reserved", "available", said["quantity"])
        case "stock.taken":
            move(stock, "reserved", "taken", said["quantity"])
    if before > 0 and stock["available"] == 0:
        yield emit("stock.ran_out", product_id=product)
    elif before == 0 and stock["available"] > 0:
        yield emit("stock.came_in", product_id=product)


def come_in(stock: MutableMapping[str, int], quantity: int) -> None:
    stock["available"] += quantity
    stock["came_in"] += quantity


def move(stock: MutableMapping[str, int], source: str, target: str, quantity: int) -> None:
    stock[source] -= quantity
    stock[target] += quantity
