"""The players of reminders.yaml, and the file of orders that they are held to."""

from __future__ import annotations

import json
from pathlib import Path

from ensemble import Emission, Match, emit

ORDERS = 300


def remind(unpaid: Match) -> Emission:
    return emit("order.reminded")


def ship(ready: Match) -> Emission:
    return emit("order.shipped", of=[event.topic for event in ready.events])


def write_orders(path: Path) -> None:
    """Orders: of three one is never paid, one is packed before it is paid, one is paid and never packed.

    What belongs to an order lies some hundred lines apart, so that at any moment many wait for something.
    """
    lines = []
    for number in range(ORDERS):
        lines.append((number, "order.placed", number))
        if number % 3 == 1:
            lines.append((number + 50, "order.packed", number))
        if number % 3:
            lines.append((number + 100, "payment.captured", number))
    lines.sort()
    path.write_text("".join(json.dumps({"topic": topic, "key": f"o-{number}"}) + "\n" for _, topic, number in lines))
