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
    """Orders: of three one is never paid, one is packed before it is paid, one is paid and never packed."""
    lines = [
        *(("order.placed", number) for number in range(ORDERS)),
        *(("order.packed", number) for number in range(ORDERS) if number % 3 == 1),
        *(("payment.captured", number) for number in range(ORDERS) if number % 3),
    ]
    path.write_text("".join(json.dumps({"topic": topic, "key": f"o-{number}"}) + "\n" for topic, number in lines))
