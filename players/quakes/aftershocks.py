"""Main shock or aftershock: the sequences of strong quakes, cell by cell.

A quake is an aftershock if it lies within the distance and the time that a stronger one before it commands. Events of
a cell are heard one at a time and in order, so a quake always meets the ones before it; cells are heard side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from math import asin, cos, radians, sin, sqrt
from typing import Any

from ensemble import Context
from players.quakes.events import AftershockNoted, Quake, SequenceBegun, SequenceOvertaken


def sort(
    quake: Quake, ctx: Context, *, main_from: float = 4.5
) -> Iterator[SequenceBegun | AftershockNoted | SequenceOvertaken]:
    """`main_from`: the magnitude from which a quake can be a main shock."""
    sequences = [sequence for sequence in ctx.state.get("sequences", []) if quake.time < end(sequence)]
    mine = next((sequence for sequence in sequences if distance_km(sequence, quake) <= reach_km(sequence["mw"])), None)
    if mine is None:
        if quake.mw >= main_from:
            sequences.append(begin(quake, foreshocks=0))
            yield SequenceBegun(quake.id, quake.cell, quake.mw, quake.place)
    elif quake.mw <= mine["mw"]:
        mine["aftershocks"] += 1
        km, hours = distance_km(mine, quake), (quake.time - mine["time"]).total_seconds() / 3600
        yield AftershockNoted(quake.id, quake.cell, quake.mw, mine["id"], round(km, 1), round(hours, 2))
    else:
        foreshocks = mine["foreshocks"] + 1 + mine["aftershocks"]
        sequences[sequences.index(mine)] = begin(quake, foreshocks=foreshocks)
        yield SequenceOvertaken(quake.id, quake.cell, quake.mw, quake.place, mine["id"], mine["mw"])
    ctx.state = {"sequences": sequences} if sequences else {}  # an empty state is gone: quiet cells cost nothing


def begin(quake: Quake, *, foreshocks: int) -> dict[str, Any]:
    return {
        "id": quake.id,
        "mw": quake.mw,
        "place": quake.place,
        "time": quake.time,
        "latitude": quake.latitude,
        "longitude": quake.longitude,
        "foreshocks": foreshocks,
        "aftershocks": 0,
    }


def reach_km(mw: float) -> float:
    """How far from a main shock its aftershocks lie at the most.

    Source: J. K. Gardner, L. Knopoff, Bulletin of the Seismological Society of America 64 (1974), 1363-1367, table 1,
            as the line that is usually drawn through it.
    """
    return float(10 ** (0.1238 * mw + 0.983))


def reach_days(mw: float) -> float:
    """How long after a main shock its aftershocks come at the most. Source: as `reach_km`."""
    return float(10 ** (0.032 * mw + 2.7389) if mw >= 6.5 else 10 ** (0.5409 * mw - 0.547))


def end(sequence: Mapping[str, Any]) -> datetime:
    start: datetime = sequence["time"]
    return start + timedelta(days=reach_days(sequence["mw"]))


def distance_km(sequence: Mapping[str, Any], quake: Quake) -> float:
    """Along the earth's surface, by the haversine formula."""
    north, south = radians(sequence["latitude"]), radians(quake.latitude)
    up, along = (south - north) / 2, radians(quake.longitude - sequence["longitude"]) / 2
    return 2 * 6371.0 * asin(sqrt(sin(up) ** 2 + cos(north) * cos(south) * sin(along) ** 2))
