"""The picking list: waits until the stock of every product of an order has answered, then says how it stands.

It keeps two small values an order, where the order itself may have hundreds of lines: state is read and written for
each event, so a player that hears many events does well to keep little.
"""

from __future__ import annotations

from ensemble import Context, Emission, Event, emit


def collect(event: Event, ctx: Context) -> Emission | None:
    order, said = ctx.state, event.data
    if event.topic == "order.placed":
        order.update(waiting=said["products"], short=[])
    else:
        order["waiting"] -= 1
        if event.topic == "stock.short":
            order["short"].append(said["product_id"])
    if order["waiting"] > 0:
        return None
    short = sorted(order["short"])
    order.clear()  # an empty state is gone: the table does not grow with every order ever placed
    if short:
        return emit("order.short", order_id=said["order_id"], short=short)
    return emit("order.reserved", order_id=said["order_id"])
