"""The ACME shop without motifs of several events: a store that was listened to for such can't be divided anew yet."""

from __future__ import annotations

from typing import Any

import ensemble
from ensemble import Context, Emission, Event
from ensemble.testing import match
from players.acme_fitness import shipping
from tests.faults.test_killed_again_and_again import SCORE


async def ship(paid: Event, ctx: Context, *, delivery: str = "0s", flaky: float = 0.0) -> list[Emission]:
    """An order is paid only after it was reserved, so that alone says as much."""
    ready = match("ready-to-ship", paid, labels={"paid": 0})
    return await shipping.ship(ready, ctx, delivery=delivery, flaky=flaky)


def document() -> dict[str, Any]:
    whole = dict(ensemble.load(SCORE).document)
    motifs = whole.pop("motifs")
    players = {name: spec for name, spec in whole["players"].items() if str(spec["on"]) not in motifs}
    shipper = {**whole["players"]["shipping"], "play": f"{__name__}:ship", "on": "order.paid"}
    return {**whole, "players": {**players, "shipping": shipper}}
