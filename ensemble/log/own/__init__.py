"""What is kept at a url itself: its log, in as many shards as it has, by the kind of store that the url names.

Owns which kinds there are, and what each must answer (`Own`). Knows a take's own log, not what it goes on from. A kind is
imported when one of it is asked for.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar, Protocol

from ensemble.errors import Unavailable
from ensemble.log.base import EventLog, Fork, LogReader
from ensemble.log.own.layers import BLOBS, CHANGES_TAKES, RING, Terms
from ensemble.log.url import place_of

if TYPE_CHECKING:
    from ensemble.log.blobs import Blobs
    from ensemble.log.pending import Board

__all__ = ["BLOBS", "CHANGES_TAKES", "RING", "Own", "Terms", "new_id", "own_at", "with_keys"]

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Of a log's id: 32 characters without those that are taken for each other."""


class Own(Protocol):
    """What every kind of store answers of what is kept at one url.

    Errors: Unavailable; LogCorrupt.
    """

    keeps_out_retention: ClassVar[bool]
    """Whether nothing is taken from its logs while a take is made of it."""

    def open(self, terms: Terms, fork: Fork | None = None) -> EventLog:
        """One of its logs, to write. `fork` is where a new one leaves its parent."""
        ...

    def read(self, shard: int) -> LogReader:
        """One of its logs, to read only."""
        ...

    def count(self) -> int | None:
        """How many shards it has, or is to have; None: there is nothing."""
        ...

    def blobs(self, shard: int) -> Blobs | None:
        """Where a shard puts what is large; None: where only its own process can get it."""
        ...

    def archived(self) -> str:
        """The url of the store whose archive is kept here; empty: none is."""
        ...

    def fork(self) -> Fork | None:
        """Where it leaves its parent, by the manifest of its first shard alone: the rest may be damaged.

        None: it is no take, or that shard was never begun.
        """
        ...

    def shut(self, *, is_take: bool, by_hand: str) -> AbstractContextManager[None]:
        """Keep everybody from playing it meanwhile; it may be damaged, or never finished.

        `by_hand` says how whoever asks is helped where it can't be known that nobody plays it.
        """
        ...

    def with_keys(self, archive: LogReader) -> LogReader:
        """An archive of it, with the keys that lie here."""
        ...

    def board(self) -> Board:
        """Where that stands which all of its shards are to get together."""
        ...


def own_at(url: str) -> Own:
    """Errors: Unavailable if this version knows no such kind of store."""
    kind, place = place_of(url)
    if kind == "memory":
        from ensemble.log.own.memory import OwnInMemory

        return OwnInMemory(url, place)
    if kind == "objects":
        from ensemble.log.own.objects import OwnInObjects

        return OwnInObjects(url)
    from ensemble.log.own.directory import OwnInDirectory

    return OwnInDirectory(url, place)


def with_keys(archive: LogReader, store: str) -> LogReader:
    """An archive, with the keys that lie beside its log, in the store at this url: where that is not, nothing personal can be
    read."""
    from ensemble.log.forgetting import ForgettingReader
    from ensemble.log.forgetting.ring import AbsentRing

    own = own_at(store)
    try:
        return ForgettingReader(archive, AbsentRing(store)) if own.count() is None else own.with_keys(archive)
    except Unavailable as error:
        return ForgettingReader(archive, AbsentRing(store, str(error)))


def new_id() -> str:
    """What a new log is called."""
    return "".join(ALPHABET[byte % 32] for byte in os.urandom(12))
