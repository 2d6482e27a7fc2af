"""What only several quakes tell. Each player hears a motif of the score, complete; the broker has waited and counted.

`aftershocks` sorts quakes by distance, which no motif can: it keeps the sequences itself. These go by region and time alone.
"""

from __future__ import annotations

from ensemble import Match
from players.quakes.events import AftershocksCounted, CalmNoted, SwarmNoted


def note_swarm(swarm: Match) -> SwarmNoted:
    quakes = swarm["quakes"]
    return SwarmNoted(swarm.key, len(quakes), quakes[0].time, quakes[-1].time, max(quake.data["magnitude"] for quake in quakes))


def count_aftershocks(train: Match) -> AftershocksCounted:
    main, after = train["main"].data, train["after"]
    strongest = max(quake.data["magnitude"] for quake in after)
    return AftershocksCounted(train.key, main["id"], main["magnitude"], len(after), strongest)


def note_calm(calm: Match) -> CalmNoted:
    main = calm["main"].data
    return CalmNoted(calm.key, main["id"], main["magnitude"])
