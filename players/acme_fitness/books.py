"""The books: what each country bought, cancelled and got back, in cents. Its lane is the country (`by: country`)."""

from __future__ import annotations

from ensemble import Context, Event

EMPTY = {"completed": 0, "revenue": 0, "cancelled": 0, "refunds": 0, "refunded": 0}


def enter(event: Event, ctx: Context) -> None:
    book, said = ctx.state, event.data
    if not book:
        book.update(EMPTY)
    match event.topic:
        case "order.completed":
            book["completed"] += 1
            book["revenue"] += said["total"]
        case "order.cancelled":
            book["cancelled"] += 1
        case "payment.refunded":
            book["refunds"] += 1
            book["refunded"] += said["amount"]
