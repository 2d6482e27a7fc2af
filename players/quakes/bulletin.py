"""The week's bulletin: one list for the whole world, so it is heard in one lane (`order: all`)."""

from __future__ import annotations

from ensemble import Context, Event


def write(event: Event, ctx: Context) -> None:
    said = event.data
    line = f"M{said['mw']} {said['place']}"
    if event.topic == "sequence.overtaken":
        line += f"; the M{said['foreshock_mw']} before it was a foreshock"
    ctx.state.setdefault(event.topic, []).append(line)
