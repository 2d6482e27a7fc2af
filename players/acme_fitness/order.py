"""Orders: a status that only moves forward, and exactly one outcome each, `order.completed` or `order.cancelled`.

    placed -> reserved -> paid -> shipped -> delivered
       \\         \\-> cancelled (the card was refused, or payment is down)
        \\-> cancelled (something is out of stock)

`STEPS` says which event moves an order on from which status. Anything else is late or repeated, and changes nothing.
Whatever was reserved is either taken (the parcel has left) or released (the order was cancelled).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

from ensemble import Context, Emission, Event, emit
from players.acme_fitness.money import text

State = MutableMapping[str, Any]


def follow(event: Event, ctx: Context) -> Iterable[Emission]:
    order = ctx.state
    step = STEPS.get((order.get("status", "new"), event.topic))
    if step is None:
        ctx.log.info("order %s is %s: %s changes nothing", event.key, order.get("status", "new"), event.topic)
        return ()
    return step(order, event)


def place(order: State, event: Event) -> Iterator[Emission]:
    asked = event.data
    order.update(
        status="placed",
        order_id=asked["order_id"],
        user_id=asked["user_id"],
        country=asked["country"],
        delivery=asked["delivery"],
        card=asked.get("card"),
        total=asked["total"],
        lines={},
    )
    due = sum(item["quantity"] * item["price"] for item in asked["items"])
    if due != asked["total"]:
        yield from cancel(order, f"the total {text(asked['total'])} is not the cart's {text(due)}")
        return
    lines = order["lines"]
    for item in asked["items"]:
        if item["is_goods"]:
            lines[item["item_id"]] = lines.get(item["item_id"], 0) + item["quantity"]
    yield emit("order.placed", order_id=order["order_id"], user_id=order["user_id"], total=due, products=len(lines))
    yield from tell_stock("stock.requested", order, lines)


def pay(order: State, event: Event) -> Iterator[Emission]:
    order["status"] = "reserved"
    yield emit("order.payment.requested", order_id=order["order_id"], card=order["card"], total=order["total"])


def judge_payment(order: State, event: Event) -> Iterator[Emission]:
    answer = event.data
    if not answer["success"]:
        yield emit("card.declined", user_id=order["user_id"], order_id=order["order_id"], message=answer["message"])
        yield from tell_stock("stock.released", order, order["lines"])
        yield from cancel(order, f"payment refused: {answer['message']}")
        return
    order["status"] = "paid"
    yield emit("order.paid", order_id=order["order_id"], user_id=order["user_id"], delivery=order["delivery"])


def give_up_payment(order: State, event: Event) -> Iterator[Emission]:
    yield from tell_stock("stock.released", order, order["lines"])
    yield from cancel(order, "payment is down")


def give_up_stock(order: State, event: Event) -> Iterator[Emission]:
    short = event.data["short"]
    yield from tell_stock("stock.released", order, [product for product in order["lines"] if product not in short])
    yield from cancel(order, "out of stock")


def ship(order: State, event: Event) -> Iterator[Emission]:
    order["status"] = "shipped"
    yield from tell_stock("stock.taken", order, order["lines"])


def complete(order: State, event: Event) -> Iterator[Emission]:
    order["status"] = "delivered"
    yield emit(
        "order.completed",
        order_id=order["order_id"],
        user_id=order["user_id"],
        country=order["country"],
        total=order["total"],
    )


def cancel(order: State, reason: str) -> Iterator[Emission]:
    order.update(status="cancelled", reason=reason)
    yield emit(
        "order.cancelled",
        order_id=order["order_id"],
        user_id=order["user_id"],
        country=order["country"],
        reason=reason,
    )


def tell_stock(topic: str, order: State, products: Iterable[str]) -> Iterator[Emission]:
    """One event a product: stock is kept by product, so each goes to a lane of its own."""
    lines = order["lines"]
    for product in products:
        yield emit(topic, order_id=order["order_id"], product_id=product, quantity=lines[product])


STEPS = {
    ("new", "order.requested"): place,
    ("placed", "order.reserved"): pay,
    ("placed", "order.short"): give_up_stock,
    ("reserved", "payment.card.validated"): judge_payment,
    ("reserved", "payment.failed"): give_up_payment,
    ("paid", "shipment.sent"): ship,
    ("shipped", "shipment.delivered"): complete,
}
