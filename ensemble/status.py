"""How a band stands, and what became of an event: the answers that a band and a reader give.

Owns shapes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ensemble import whereabouts
from ensemble.event import Event
from ensemble.shown import Shown, data_frame


class SectionStatus(msgspec.Struct, frozen=True):
    """One player's section. All are events, but `instances`."""

    lag: int
    """Not yet dealt with, those in flight, waiting and held among them."""
    heard: int
    emitted: int
    failed: int
    """Attempts that failed."""
    dead: int
    instances: int
    waiting: int
    """Between two attempts."""
    held: int


class SourceStatus(msgspec.Struct, frozen=True):
    place: int
    """Bytes read of its file."""
    total: int | None
    """Bytes of its file; None where that is unknown."""
    said: int
    refused: int
    """Lines that could not be read, or break their schema."""
    done: bool


class Standing(msgspec.Struct, frozen=True):
    """How one shard stands, as its broker tells it."""

    events: int
    frames: int
    topics: Mapping[str, int]
    sections: Mapping[str, SectionStatus]
    sources: Mapping[str, SourceStatus]
    timers: int
    costs: Mapping[str, Any] = {}
    """What the score says of costs."""


class Status(msgspec.Struct, Shown, frozen=True):
    """How a band stands."""

    name: str
    id: str
    url: str
    events: int
    frames: int
    bytes: int | None
    topics: Mapping[str, int]
    sections: Mapping[str, SectionStatus]
    sources: Mapping[str, SourceStatus]
    timers: int
    notes: tuple[str, ...] = ()
    requests: Mapping[str, int] = {}
    """What was asked of an object store to write it, by kind, from its beginning on; empty for other kinds of store."""
    cost: float | None = None
    """What that cost, by the prices in the score's `costs: {requests: ...}`; None without them."""

    def frame(self) -> Any:
        """Its sections as a pandas DataFrame, a row a player."""
        return data_frame([{"player": name, **msgspec.structs.asdict(each)} for name, each in self.sections.items()])


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that a player could not hear, and why."""

    event: Event
    player: str
    attempts: int
    error: str
    traceback: str
    at: datetime
    held: bool

    @property
    def id(self) -> str:
        """The id of the event that failed."""
        return self.event.id

    @property
    def place(self) -> str | None:
        """`file:line` of the player's own code where it failed, as far as the traceback tells."""
        return whereabouts.in_traceback(self.traceback)


class Reaction(msgspec.Struct, frozen=True):
    """An event, who said it, and what was said in answer to it."""

    event: Event
    player: str | None
    said: tuple[Reaction, ...] = ()


class Chain(msgspec.Struct, Shown, frozen=True):
    """Where an event comes from and what it led to."""

    event: Event
    causes: tuple[Event, ...]
    tree: Reaction

    def __str__(self) -> str:
        """As a tree: what led to it line by line, then what it led to, each answer further in."""
        lines = [_line(cause) for cause in self.causes]
        waiting = [(self.tree, 0)]
        while waiting:  # a chain may be longer than Python's stack
            reaction, depth = waiting.pop()
            by = f"  by {reaction.player}" if reaction.player else ""
            lines.append("    " * (depth - 1) + "└── " * bool(depth) + _line(reaction.event) + by)
            waiting += [(answer, depth + 1) for answer in reversed(reaction.said)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Chain({self.event.topic!r}, key={self.event.key!r}, id={self.event.id!r}, {len(self.causes)} before it)"


def _line(event: Event) -> str:
    return f"{event.topic}  {event.key}  {event.id}" if event.key else f"{event.topic}  {event.id}"
