"""Warnings of strong quakes. Asynchronous: many are on their way at once, and one that is slow holds up no other."""

from __future__ import annotations

from ensemble import Context
from players.quakes.events import Quake, WarningIssued


async def warn(quake: Quake, ctx: Context) -> WarningIssued:
    receipt = await broadcast(f"M{quake.mw} {quake.place}", idempotency_key=ctx.token)
    return WarningIssued(quake.id, quake.mw, quake.place, receipt)


async def broadcast(text: str, *, idempotency_key: str) -> str:
    """Hand a text to the warning service; the same key is sent once. This one pretends."""
    return idempotency_key[:8]
