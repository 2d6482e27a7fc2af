"""Shipping: one parcel and one tracking number an order, whatever dies in between.

It hears the motif `ready-to-ship`, paid and reserved in whichever order, and does not know who says either.

Asynchronous, since it mostly waits for the carrier: many parcels wait at once, and order by key holds all the same.
"""

from __future__ import annotations

from ensemble import Context, Emission, Match, emit
from players.acme_fitness.events import Shipment
from players.acme_fitness.providers import Carrier


async def ship(ready: Match, ctx: Context, *, delivery: str = "0s", flaky: float = 0.0) -> list[Emission]:
    """`delivery`: how long a parcel is on its way. "0s" says that it has arrived together with that it was sent."""
    carrier = Carrier(float(flaky))
    order_id = ready.key
    number = await carrier.fetch(order_id, ready["paid"].data["delivery"], idempotency_key=ctx.token, attempt=ctx.attempt)
    after = None if delivery == "0s" else delivery  # with `after` a timer in the log says it, and survives a restart
    return [
        emit("shipment.sent", Shipment(order_id, number, "shipped - pending delivery")),
        emit("shipment.delivered", Shipment(order_id, number, "delivered"), after=after),
    ]
