"""The log's promises, and the frame that it keeps.

Owns `Frame`, `Position` and the `EventLog` protocol. Knows nothing of files, brokers or scores.

A log is a sequence of frames; frame n+1 holds the hash of frame n. Offsets number the events:
    frame.first + len(frame.rows) = next frame.first         (no gaps, frames without events allowed)
    frame.seq + 1                 = next frame.seq
    frame.time_us                <= next frame.time_us
    frame.epoch                  <= next frame.epoch
Promises of every log, which the conformance suite holds each one to:
    1. What `append` returned from is there after any crash of the process (and, where `sync`, of the machine).
    2. A frame is there whole or not at all; a torn tail is cut back to the last whole frame, and said.
    3. What is damaged before the tail raises LogCorrupt naming file and offset. Nothing is skipped.
    4. One writer: opening for writing raises the epoch, and what holds an older epoch can't append (Unavailable).
    5. Readers need no lock, disturb nobody, and see frames in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ensemble.event import Frame

__all__ = ["GENESIS", "EventLog", "Frame", "LogReader", "Position", "Snapshot"]

GENESIS = bytes(32)
"""The hash that the first frame holds of the frame before it."""


class Position(NamedTuple):
    """A place between two frames: what the next one will be."""

    seq: int
    offset: int
    hash: bytes
    time_us: int


class Snapshot(NamedTuple):
    """The broker's state as of a place in the log."""

    at: Position
    state: bytes


class LogReader(Protocol):
    """The reading half of a log: what `ensemble.read` needs. Any thread, any process, any time."""

    @property
    def id(self) -> str:
        """The log's identity: made when the log is made, the prefix of its events' ids."""
        ...

    @property
    def name(self) -> str:
        """The band's name, as it was when the log was made."""
        ...

    @property
    def shard(self) -> int: ...

    def end(self) -> Position:
        """The place after the last whole frame that can be seen now."""
        ...

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        """All frames from number `seq` on to the end as of now. LogCorrupt where one is damaged."""
        ...

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        """The frames that hold events, from the one that holds `offset` on, to the end as of now.

        Errors: OffsetError if offset lies past the end; LogCorrupt.
        """
        ...

    def snapshot(self) -> Snapshot | None:
        """The newest whole snapshot; a damaged one is passed over for the one before it."""
        ...

    def close(self) -> None: ...


class EventLog(LogReader, Protocol):
    """The writing half. `seal` is called by one thread; `append` and `save` by one other, in the order of sealing."""

    @property
    def epoch(self) -> int: ...

    @property
    def notes(self) -> Sequence[str]:
        """What recovery did, in sentences for the user (a torn tail that was cut); empty as a rule."""
        ...

    def seal(self, frame: Frame) -> bytes:
        """Number and chain the frame and give its bytes. Pure but for the chain; never blocks."""
        ...

    def append(self, sealed: Sequence[bytes]) -> None:
        """Write sealed frames; returns once they are durable. Blocks. May be called with many: one group commit.

        Errors: Unavailable if the store refuses (full disk, newer epoch, read-only): then none of these frames may
        be taken for durable, the tail was cut back where possible, and the log takes no more.
        """
        ...

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot of what has been appended. Atomic; older ones are dropped, the newest two stay."""
        ...
