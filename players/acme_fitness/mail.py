"""Mail to customers: hears what concerns them and says nothing itself. It could be added or taken away at any time."""

from __future__ import annotations

from ensemble import Context, Event

LETTERS = {
    "user.registered": "Welcome to ACME Fitness!",
    "user.refused": "We could not register you: {reason}.",
    "checkout.refused": "We could not take your order {order_id}: {reason}.",
    "customer.reminded": "There is something left in your cart.",
    "customer.suspected": "Your card was declined for the orders {orders}; please call us.",
    "order.overdue": "Your order {order_id} takes longer than it should; we look after it.",
    "order.completed": "Your order {order_id} has arrived.",
    "order.cancelled": "Your order {order_id} was cancelled: {reason}.",
}


async def write(event: Event, ctx: Context) -> None:
    letter = LETTERS[event.topic].format(**event.data)
    if ctx.live:  # not in a rehearsal
        await send(event.data["user_id"], letter, idempotency_key=ctx.token)
    ctx.log.debug("to %s: %s", event.data["user_id"], letter)


async def send(to: str, letter: str, *, idempotency_key: str) -> None:
    """Hand a letter to the mail provider. This one pretends."""
