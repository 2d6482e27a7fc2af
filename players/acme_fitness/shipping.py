"""Shipping: one parcel and one tracking number an order, whatever dies in between.

Asynchronous, since it mostly waits for the carrier: many parcels wait at once, and order by key holds all the same.
"""

from __future__ import annotations

from ensemble import Context, Emission, emit
from players.acme_fitness.events import Shipment, ShipmentRequested
from players.acme_fitness.providers import Carrier


async def ship(asked: ShipmentRequested, ctx: Context, *, delivery: str = "0s", flaky: float = 0.0) -> list[Emission]:
    """`delivery`: how long a parcel is on its way. "0s" says that it has arrived together with that it was sent."""
    carrier = Carrier(float(flaky))
    number = await carrier.fetch(asked.order_id, asked.delivery, idempotency_key=ctx.token, attempt=ctx.attempt)
    after = None if delivery == "0s" else delivery  # with `after` a timer in the log says it, and survives a restart
    return [
        emit("shipment.sent", Shipment(asked.order_id, number, "shipped - pending delivery")),
        emit("shipment.delivered", Shipment(asked.order_id, number, "delivered"), after=after),
    ]
