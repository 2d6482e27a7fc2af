"""The week's bulletin: one list for the whole world, so it is heard in one lane (`order: all`)."""

from __future__ import annotations

from ensemble import Context, Event

LINES = {
    "sequence.begun": "M{mw} {place}",
    "sequence.overtaken": "M{mw} {place}; the M{foreshock_mw} before it was a foreshock",
    "warning.issued": "M{mw} {place}",
    "swarm.noted": "{region}: {quakes} quakes from {began:%d %b %H:%M} to {ended:%H:%M}, up to M{strongest}",
    "aftershocks.counted": "{region}: M{magnitude}, then {aftershocks} within half a day, up to M{strongest}",
    "calm.noted": "{region}: M{magnitude}, then nothing strong for a day",
}


def write(event: Event, ctx: Context) -> None:
    ctx.state.setdefault(event.topic, []).append(LINES[event.topic].format(**event.data))
