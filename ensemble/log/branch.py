"""The log of a take: its parent's up to where it leaves it, then its own.

Owns the joint of the two; both are logs of any kind, and the parent may itself be a take. Nothing of the parent is written.

    frames  = the parent's before fork.at, then its own        own.begin() = fork.at
    id of an event before fork.at = the parent's;  of one after it = own
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, takewhile

from ensemble.errors import LogCorrupt, OffsetError, Unavailable
from ensemble.event import Frame
from ensemble.log.base import EventLog, Fork, LogReader, Position, Snapshot


class Branch:
    """The reading half.

    Errors: Unavailable if the parent is another log than the one that was left; LogCorrupt if it is not as it was then.
    """

    def __init__(self, own: LogReader, parent: LogReader, fork: Fork) -> None:
        self._own = own
        self._parent = parent
        self.fork: Fork | None = fork
        self._at = fork.at
        self._begins = parent.begin()  # once: while a take stands on it, nothing is taken from it
        self.past = (*parent.past, (fork.at.offset, fork.id))
        self._check_joint(fork)

    def _check_joint(self, fork: Fork) -> None:
        parent, at = self._parent, fork.at
        if parent.id != fork.id:
            raise Unavailable(
                f"take {self.name!r} leaves {fork.take}, whose log was {fork.id} then and is {parent.id} now: that store was "
                "made or divided anew since; restore it from a copy, or drop this take"
            )
        end = parent.end()
        follows = end.hash if end.seq == at.seq else next((frame.prev for frame in parent.frames(at.seq)), None)
        if follows != at.hash:
            raise LogCorrupt(
                f"a take leaves {fork.take} after frame {at.seq - 1}, offset {at.offset}, and what {fork.take} has there is "
                "not what it had then: its end was lost, or it was changed; restore it from a copy of the store"
            )

    @property
    def id(self) -> str:
        return self._own.id

    @property
    def name(self) -> str:
        return self._own.name

    @property
    def shard(self) -> int:
        return self._own.shard

    def begin(self) -> Position:
        return self._begins

    def base(self) -> Snapshot | None:
        return self._parent.base()

    def end(self) -> Position:
        return self._own.end()

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        at = self._at
        own = self._told(self._own.frames(max(seq, at.seq)))
        if seq >= at.seq:
            return own
        return chain(takewhile(lambda frame: frame.seq < at.seq, self._parent.frames(seq)), own)

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        at, begin, end = self._at, self.begin().offset, self.end().offset
        if not 0 <= offset <= end:
            raise OffsetError(f"take {self.name!r}: offset {offset} lies outside; it has the offsets {begin} to {end - 1}")
        offset = max(offset, begin)
        own = self._told(self._own.rows(max(offset, at.offset)))
        if offset >= at.offset:
            return own
        return chain(takewhile(lambda frame: frame.first < at.offset, self._parent.rows(offset)), own)

    def frame_at(self, offset: int) -> Frame:
        if offset < self._at.offset:
            return self._parent.frame_at(offset)
        frame = self._own.frame_at(offset)
        self._tell(frame)
        return frame

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        own = self._own.snapshot(upto)
        if own is not None:
            return own
        return self._parent.snapshot(self._at.seq if upto is None else min(upto, self._at.seq))

    def size_bytes(self) -> int:
        """Of its own frames: those before are its parent's."""
        return self._own.size_bytes()

    def requests(self) -> Mapping[str, int]:
        return self._own.requests()

    def forgotten(self) -> int:
        return self._own.forgotten() + self._parent.forgotten()

    def close(self) -> None:
        self._own.close()
        self._parent.close()

    def _told(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self._tell(frame)
            yield frame

    def _tell(self, frame: Frame) -> None:
        """Let the events of a frame of its own know whose those before are that they point to."""
        if frame.rows is not None:
            frame.rows.past = self.past


class BranchLog(Branch):
    """The writing half: its own log is written."""

    def __init__(self, own: EventLog, parent: LogReader, fork: Fork) -> None:
        super().__init__(own, parent, fork)
        self.own = own

    @property
    def epoch(self) -> int:
        return self.own.epoch

    @property
    def notes(self) -> Sequence[str]:
        return self.own.notes

    def seal(self, frame: Frame) -> bytes:
        sealed = self.own.seal(frame)
        self._tell(frame)  # it is heard as it was made, not as it is read again
        return sealed

    def append(self, sealed: Sequence[bytes]) -> None:
        self.own.append(sealed)

    def save(self, snapshot: Snapshot) -> None:
        self.own.save(snapshot)

    def packing(self) -> None:
        """Takes are kept as they are: they are there to be looked at, and go as a whole."""
        return None
