"""What is put around a log that is opened: data beside it (`blobs.py`), people who can be forgotten (`forgetting`).

Owns how a log is to be opened for writing (`Terms`), and which layers that, and what lies in its store, ask for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ensemble.log.base import EventLog, LogReader

if TYPE_CHECKING:
    from ensemble.log.blobs import Blobs
    from ensemble.log.forgetting.ring import Ring
    from ensemble.log.objects.store import Objects
    from ensemble.score.personal import Personal

RING = "keys.ring"
"""The file in the folder of a store that has the keys of those who can be forgotten."""

BLOBS = "blobs"
"""The folder in a store that has the data which is too large for its frames."""


CHANGES_TAKES = "changes its takes"
"""What a store is held for while a take is dropped or left: others are told to wait."""


class Terms(NamedTuple):
    """How a log is to be opened for writing: see `ensemble.log.open_log`."""

    name: str = ""
    durability: Literal["disk", "memory"] = "disk"
    id: str | None = None
    create: bool = True
    shard: int = 0
    shards: int = 1
    personal: Personal | None = None
    blob_above: int | None = None
    takes_over: bool = True
    doing: str = ""
    """What a directory is held for, if not to be played."""


def layered(log: EventLog, terms: Terms, blobs: Blobs | None, ring: Ring | None) -> EventLog:
    """The log with what is around it: large data beside it, and around that the keys, so that what lies there is encrypted."""
    if blobs is not None:
        from ensemble.log.blobs import ClaimLog

        log = ClaimLog(log, blobs, terms.blob_above)
    if ring is not None:
        from ensemble.log.forgetting import ForgettingLog

        log = ForgettingLog(log, ring, terms.personal)
    return log


def ring_to_write(terms: Terms, place: Path | Objects, log_id: str) -> Ring | None:
    """The keys of a log, if there are some at this place or are to be."""
    return _ring(place, log_id, is_writer=True) if terms.personal is not None or _has_ring(place) else None


def readable(log: LogReader, place: Path | Objects) -> LogReader:
    """The log in which people can be forgotten, if it has a key ring at this place; else the log itself."""
    if not _has_ring(place):
        return log
    from ensemble.log.forgetting import ForgettingReader

    return ForgettingReader(log, _ring(place, log.id))


def _has_ring(place: Path | Objects) -> bool:
    if isinstance(place, Path):
        return (place / RING).exists()
    from ensemble.log.forgetting.object_ring import has_ring

    return has_ring(place)


def _ring(place: Path | Objects, log_id: str, *, is_writer: bool = False) -> Ring:
    if isinstance(place, Path):
        from ensemble.log.forgetting.ring import FileRing

        return FileRing(place / RING, is_writer=is_writer)
    from ensemble.log.forgetting.object_ring import ObjectRing

    return ObjectRing(place, log_id, is_writer=is_writer)
