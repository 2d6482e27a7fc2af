"""The log's promises, and the frame that it keeps.

Owns `Position`, `Snapshot`, the `EventLog` protocol, and what it takes to make a log smaller. Knows nothing of files, brokers
or scores. `Frame` is the event module's, named here too since it is what a log is made of.

A log is a sequence of frames; frame n+1 holds the hash of frame n. Offsets number the events:
    frame.first + len(frame.rows) = next frame.first         (no gaps, frames without events allowed)
    frame.seq + 1                 = next frame.seq
    frame.time_us                <= next frame.time_us
    frame.epoch                  <= next frame.epoch
Promises of every log, which the conformance suite holds each one to:
    1. What `append` returned from is there after any crash of the process (and, where `sync`, of the machine).
    2. A group that was appended is there whole or not at all; a torn tail is cut back to the last whole one, and said.
    3. What is damaged before the tail raises LogCorrupt naming file and offset. Nothing is skipped.
    4. One writer: opening for writing raises the epoch, and what holds an older epoch can't append (Unavailable).
    5. Readers need no lock, disturb nobody, and see frames in order.
    6. The writer reads what is durable, from any thread, while it appends from another.
    7. The newest whole snapshot that fits the log comes back; one that is damaged is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ensemble.errors import Unavailable
from ensemble.event import Frame, Past

if TYPE_CHECKING:
    from ensemble.log.blobs import Blobs

__all__ = [
    "Copied", "EventLog", "Fork", "Frame", "LogReader", "Packed", "Packing", "Part", "Position", "Refused", "Removal",
    "Snapshot", "Taken", "begin_of", "genesis",
]  # fmt: skip


def genesis(log_id: str, shard: int) -> bytes:
    """The hash that the first frame holds, there being no frame before it: no other log begins with it."""
    return sha256(f"ensemble/{log_id}/{shard}".encode()).digest()


class Position(NamedTuple):
    """A place between two frames: what the next one will be."""

    seq: int
    offset: int
    hash: bytes
    time_us: int
    """Of the frame before; 0 at the beginning."""


class Fork(NamedTuple):
    """Where a take leaves the log that it goes on from."""

    take: str
    """The take of the same store that it leaves."""
    id: str
    """The id of that log."""
    at: Position

    def entry(self) -> dict[str, Any]:
        """As a manifest has it."""
        seq, offset, hash_, time_us = self.at
        return {"take": self.take, "id": self.id, "seq": seq, "offset": offset, "hash": hash_.hex(), "time_us": time_us}

    @classmethod
    def of(cls, entry: dict[str, Any] | None) -> Fork | None:
        """What `entry` gave."""
        if entry is None:
            return None
        at = Position(entry["seq"], entry["offset"], bytes.fromhex(entry["hash"]), entry["time_us"])
        return cls(entry["take"], entry["id"], at)


def begin_of(log_id: str, shard: int, fork: Fork | None) -> Position:
    """The place before a log's own first frame."""
    return Position(0, 0, genesis(log_id, shard), 0) if fork is None else fork.at


class Snapshot(NamedTuple):
    """The broker's state as of a place in the log."""

    at: Position
    state: bytes


class Part(NamedTuple):
    """A finished part of a log: nobody appends to it any more, and who opens the log does not need it."""

    seq: int
    """Of its first frame."""
    end_seq: int
    first: int
    """The offset with which it begins."""
    end: int
    size: int
    """In bytes, where it is kept."""
    is_past: bool
    """Whether the log begins after it now: only what somebody still needs is there."""
    is_packed: bool
    """Whether it was written anew, and so is as small as it gets while nothing is taken out of it."""


class Removal(NamedTuple):
    """What retention took out, when and why: the statement that stands in its place."""

    rule: str
    at_us: int
    first: int
    end: int
    """It lay between these offsets."""
    rows: int
    """How many events."""


class Taken(NamedTuple):
    """What is to stay of a frame."""

    rows: Sequence[int]
    """By their numbers in the frame, ascending."""
    has_marks: bool


class Packed(NamedTuple):
    """Parts written anew, and not yet in their place."""

    parts: Sequence[Part]
    begin: Position
    end: Position
    sha256: bytes
    """Of all that was written; of a part that lost something the log itself says it, so that it can be proven later."""
    removals: Sequence[Removal]
    """Of this time; none if nothing was taken."""
    size: int
    is_past: bool
    """Whether the log begins after it."""
    name: str
    """What it is going to be called."""
    data: bytes = b""
    """All that was written, where the store gets it only when it is put in its place."""


class Refused(Unavailable):
    """The archive does not take what is to go: so it stays."""


class Copied(NamedTuple):
    """A part as it is, for another place: as the bytes of a pack."""

    begin: Position
    end: Position
    removals: Sequence[Removal]
    """What was taken out of it before."""
    data: bytes


class Packing(Protocol):
    """Who writes finished parts of a log anew, so that they take up less. Called by one thread; others append and read on."""

    def parts(self) -> Sequence[Part]:
        """The finished parts, in order. What has come since the newest snapshot but one is not among them.

        Errors: Unavailable; LogCorrupt.
        """
        ...

    def until_us(self, part: Part) -> int:
        """A time than which none of a part's frames is younger. Errors: Unavailable; LogCorrupt."""
        ...

    def frames(self, part: Part) -> Iterator[Frame]:
        """All that is there of a part, checked. Errors: LogCorrupt."""
        ...

    def pack(
        self,
        parts: Sequence[Part],
        choose: Callable[[Frame], Taken | None] | None,
        removals: Callable[[], Sequence[Removal]] = tuple,
        *,
        state: Callable[[], bytes] | None = None,
        compress: bool = False,
    ) -> Packed:
        """Write a part anew, where nobody looks yet; with a state all parts from the first one on, as one.

        `choose` says of each frame in turn what stays; None: all of it, as where there is no `choose`. `removals` and `state`
        are asked after the last.
        With a state the log begins after these parts: then that is the state at their end.
        Errors: Unavailable if the store refuses; LogCorrupt. What was there is unharmed.
        """
        ...

    @property
    def home(self) -> str:
        """The url of the log's own store, beside whose frames its keys lie."""
        ...

    def copy(self, part: Part) -> Copied:
        """All that is there of a part, checked, byte for byte; compressed, unless it is a pack already. LogCorrupt."""
        ...

    def carry(self, part: Part, into: Blobs) -> None:
        """Put what lies beside the log, and is named by a part, into another such place, durably. Unavailable; LogCorrupt."""
        ...

    def put(self, packed: Packed) -> None:
        """Put it in the place of its parts. Whoever reads them is not disturbed.

        What it lost must be said in the log by then, durably. A crash leaves either, whole.
        Errors: Unavailable if the store refuses, another writer has come, or it lost something and a take was made meanwhile.
        """
        ...

    def drop(self, packed: Packed) -> None:
        """Forget about it."""
        ...

    def has_takes(self) -> bool:
        """Whether takes stand on the log: then nothing may be taken out of it."""
        ...

    def sweep(self) -> None:
        """Take away what nothing names any more, after something was put in place. Errors: Unavailable; LogCorrupt."""
        ...


class LogReader(Protocol):
    """The reading half of a log: what `ensemble.read` needs. Any thread, any process, any time.

    The reader of a store sees what has been written; the log of the one who writes (`EventLog`) shows what is durable.
    Each call looks at the log as it is then. An iterator ends where the log ended when it was made.
    """

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

    @property
    def fork(self) -> Fork | None:
        """Of a take: where it leaves its parent; None: it is `main`."""
        ...

    @property
    def past(self) -> Past:
        """The logs that it goes on from, the oldest first; none as a rule."""
        ...

    def begin(self) -> Position:
        """The first place from which on it can be read: retention took what lay before (docs/size.md), or its parent has it."""
        ...

    def base(self) -> Snapshot | None:
        """The state of which the frames from `begin()` on go on; None where that is the empty one of a log's beginning."""
        ...

    def end(self) -> Position:
        """The place after the last whole group that can be seen now."""
        ...

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        """All frames from number `seq` on to the end as of now; none if `seq` lies at or past it.

        Before the place at which the log begins now it is as if that were asked for. Of a frame that lost rows the others
        come: `Frame.removed`.

        Errors: LogCorrupt where one is damaged or does not follow the one before it.
        """
        ...

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        """The frames that hold events, from the one that holds `offset` on, to the end as of now.

        It costs what it reads, wherever it begins. At the end itself there is nothing to come: no frames. Before the place at
        which the log begins now it is as if that were asked for.
        Errors: OffsetError if offset lies past the end; LogCorrupt.
        """
        ...

    def frame_at(self, offset: int) -> Frame:
        """The frame that holds the event with this offset.

        Errors: OffsetError if there is no such event, or retention took it: then it says when, and by which rule; LogCorrupt.
        """
        ...

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        """The newest whole snapshot, of a place before frame `upto` if that is given; a damaged one is passed over."""
        ...

    def forgotten(self) -> int:
        """How many keys of people were destroyed as of now (docs/forget.md); 0 where nobody can be forgotten.

        Who keeps what was read here must read it anew when there are more.
        """
        ...

    def size_bytes(self) -> int:
        """The bytes that the log's frames take up where they are kept."""
        ...

    def requests(self) -> Mapping[str, int]:
        """What its writers have asked of the store, by kind (put, get, head, list, delete); empty where nothing is counted.

        A reader knows them as of a moment not long ago.
        """
        ...

    def close(self) -> None:
        """Let go of the store; again does no harm. What comes after raises Unavailable."""
        ...


class EventLog(LogReader, Protocol):
    """The writing half. `seal` is called by one thread; `append` and `save` by one other, in the order of sealing."""

    @property
    def epoch(self) -> int: ...

    @property
    def notes(self) -> Sequence[str]:
        """What recovery did, in sentences for the user (a torn tail that was cut); empty as a rule."""
        ...

    def seal(self, frame: Frame) -> bytes:
        """Number and chain the frame and give its bytes. Sets `epoch`, `seq` and `prev` in it. Never blocks.

        Errors: TypeError or OverflowError where it can't be written; ValueError where it does not follow the frame
                sealed before it (offset, time). Then nothing has changed, and another may be sealed.
        """
        ...

    def append(self, sealed: Sequence[bytes]) -> None:
        """Write sealed frames as one group; returns once they are durable. Blocks. None at all is nothing to do.

        Errors: Unavailable if the store refuses (full disk, newer epoch, read-only): then none of these frames may
                be taken for durable, the tail was cut back where possible, and the log takes no more.
        """
        ...

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot of what has been appended. Atomic; older ones are dropped, the newest two stay.

        Errors: Unavailable if the store refuses; the log itself is unharmed and goes on.
                ValueError if it is of a place that has not been appended.
        """
        ...

    def packing(self) -> Packing | None:
        """Who makes it take up less, while it is written or not; None: it keeps all as it is, as a take does."""
        ...
