"""Measures all quakes on one scale, the moment magnitude, and finds the cell of each.

It hears whole batches, as a player does whose work is cheap for many at once: a model on a GPU, a service that takes a
hundred questions in one request. One answer an event, in the same order; where one can't be answered, the engine finds
out which by halving the batch.
"""

from __future__ import annotations

from datetime import datetime
from math import floor

from ensemble import Event
from players.quakes.events import Quake

TO_MW = {"mb": (0.85, 1.03), "mb_lg": (0.85, 1.03)}
"""Slope and shift by scale, for body-wave magnitudes; the other scales are close to Mw where they are used.

Source: E. M. Scordilis, Journal of Seismology 10 (2006), 225-236, equation 5; from 3.5 to 6.2.
"""


class Measure:
    def __init__(self, degrees: int = 5) -> None:
        """`degrees`: the side of a cell. A sequence that crosses the border of a cell is seen as two."""
        self._degrees = degrees

    def __call__(self, events: list[Event]) -> list[Quake]:
        return [self.measured(event) for event in events]

    def measured(self, event: Event) -> Quake:
        said = event.data
        return Quake(
            id=said["id"],
            cell=cell(said["latitude"], said["longitude"], self._degrees),
            time=datetime.fromisoformat(said["time"]),
            mw=moment_magnitude(said["magnitude"], said["scale"]),
            latitude=said["latitude"],
            longitude=said["longitude"],
            depth_km=said["depth_km"],
            place=said["place"],
            network=said["network"],
            felt=said["felt"],
        )


def moment_magnitude(magnitude: float, scale: str) -> float:
    slope, shift = TO_MW.get(scale, (1.0, 0.0)) if magnitude >= 3.5 else (1.0, 0.0)
    return round(slope * magnitude + shift, 2)


def cell(latitude: float, longitude: float, degrees: int) -> str:
    south, west = floor(latitude / degrees) * degrees, floor(longitude / degrees) * degrees
    return f"{abs(south)}{'N' if south >= 0 else 'S'} {abs(west)}{'E' if west >= 0 else 'W'}"
