"""The shapes of what the players of the quakes score say."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class Quake(Struct, frozen=True):
    """An earthquake, measured on one scale wherever and by whomever."""

    id: str
    cell: str
    """The square of the map that it lies in, "20N 120E": its south-west corner."""
    time: datetime
    mw: float
    latitude: float
    longitude: float
    depth_km: float
    place: str
    network: str
    felt: int


class SequenceBegun(Struct, frozen=True):
    """A strong quake that is no aftershock of another."""

    id: str
    cell: str
    mw: float
    place: str


class AftershockNoted(Struct, frozen=True):
    id: str
    cell: str
    mw: float
    main: str
    km: float
    hours: float


class SequenceOvertaken(Struct, frozen=True):
    """A stronger quake in the same place: what was thought to be the main shock was a foreshock."""

    id: str
    cell: str
    mw: float
    place: str
    foreshock: str
    foreshock_mw: float


class SwarmNoted(Struct, frozen=True):
    """Many quakes within a short time, none of which is a main shock."""

    region: str
    quakes: int
    began: datetime
    ended: datetime
    strongest: float


class AftershocksCounted(Struct, frozen=True):
    """What came within half a day of a great quake."""

    region: str
    main: str
    magnitude: float
    aftershocks: int
    strongest: float


class CalmNoted(Struct, frozen=True):
    """After a strong quake there was none for a day."""

    region: str
    main: str
    magnitude: float


class WarningIssued(Struct, frozen=True):
    id: str
    mw: float
    place: str
    receipt: str
