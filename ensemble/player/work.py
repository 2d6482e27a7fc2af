"""A batch as a player's instance gets it: events, and what goes along with them.

Owns shapes only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar

import msgspec

from ensemble.broker.section import Batch
from ensemble.event import Event, Ref

hearing_of: ContextVar[str | None] = ContextVar("ensemble_hearing_of", default=None)
"""The log whose events a player hears in this thread or task. What it publishes there would not be part of its frame."""


class Work(msgspec.Struct):
    """A batch with its events.

    Shapes: one entry of `events`, `refs` (how an answer names it) and `roots` (of its chain) an event of the batch. `table`
            is the player's state by lane, encoded. `reads` are other players' tables, as far as it has these lanes; `enriched`
            is field -> what was looked up for each event, encoded.
    """

    batch: Batch
    events: Sequence[Event]
    refs: Sequence[Ref]
    roots: Sequence[Ref]
    table: Mapping[str, bytes]
    reads: Mapping[str, Mapping[str, bytes]] = {}
    enriched: Mapping[str, Sequence[bytes | None]] = {}
    is_live: bool = True
    """Whether what is done outside counts."""
