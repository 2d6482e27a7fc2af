"""A log up to a place in it: what was there then.

Owns where a moment lies in a log, and the reading half of a log that ends there. Every frame is read from the log itself; what
it has beyond the place is not there for who reads this.

    frames(cut) = frames(log)[: cut.end().seq]
    of an offset o:  every frame before the one that holds o, and no other
    of a time t:     every frame with time_us < t, and no other
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import takewhile

from ensemble.errors import InvalidEvent, OffsetError, Unavailable
from ensemble.event import Frame, microseconds
from ensemble.log.base import LogReader, Position, Snapshot
from ensemble.log.layer import Layer

OFFSET_DIGITS = 18
"""More than any offset has: what is longer is a slip, and may be too long for a number at all."""
FORMS = "a place is an offset (12), a time (2011-11-01T08:16:00Z), or the id of an event"


def read_place(given: object, what: str = "", *, ids: bool = False) -> int | tuple[int] | str:
    """What is asked for: an offset; a time, in microseconds, in a tuple; or, where `ids` are known too, the id of an event.

    Shapes: digits alone are an offset. `what` names the argument in what is raised: `since=`.
    Errors: TypeError if it is none of these; InvalidEvent if it is no time. Whether an offset is there is not looked at.
    """
    if isinstance(given, bool) or not isinstance(given, int | datetime | str):
        text = "), or an event's id (str)" if ids else ", or RFC 3339 text)"
        raise TypeError(
            f"{what}{given!r:.80} is no place in a log; give an offset (int), a time (datetime, with a time zone{text}"
        )
    if isinstance(given, str) and given.isdecimal() and len(given) <= OFFSET_DIGITS:
        return int(given)
    if isinstance(given, int):
        return given
    try:
        return (microseconds(given),)
    except InvalidEvent as error:
        if ids and isinstance(given, str) and "has no time zone" not in str(error):
            return given
        raise


def place_of_offset(log: LogReader, offset: int) -> Position:
    """The place before the frame that holds the event with this offset; of the next offset, the end.

    Errors: OffsetError if it lies past the end.
    """
    begin, end = log.begin(), log.end()
    if not begin.offset <= offset <= end.offset:
        has = f"has the offsets {begin.offset} to {end.offset - 1}" if end.offset > begin.offset else "has no events"
        gone = ", what was before was removed" if begin.offset else ""
        raise OffsetError(
            f"log {log.name!r}: there was no moment before event {offset}; it {has}{gone}, and {end.offset} stands for now"
        )
    return end if offset == end.offset else _before(log, log.frame_at(offset))


def place_of_time(log: LogReader, time_us: int) -> Position:
    """The place after the last frame that was written before a time. It reads some twenty frames, however long the log is."""
    begin, end = log.begin(), log.end()
    if end.seq == begin.seq or end.time_us < time_us:
        return end
    low, high = begin.seq, end.seq - 1  # frames before `low` are earlier, the frame `high` is not
    while low < high:
        middle = (low + high) // 2
        if next(log.frames(middle)).time_us < time_us:
            low = middle + 1
        else:
            high = middle
    return _before(log, next(log.frames(low)))


def _before(log: LogReader, frame: Frame) -> Position:
    begin = log.begin()
    if frame.seq <= begin.seq:
        return begin
    return Position(frame.seq, frame.first, frame.prev, next(log.frames(frame.seq - 1)).time_us)


def goes_through(log: LogReader, at: Position) -> bool:
    """Whether a log has come to this place, and was at it. It reads one frame."""
    end = log.end()
    if at.seq >= end.seq:
        return at == end
    return next(log.frames(at.seq)).prev == at.hash


class CutLog(Layer):
    """A log as it was at a place. Closing it leaves the log open. Who is forgotten is so in the past, too."""

    def __init__(self, log: LogReader, end: Position) -> None:
        super().__init__(log)
        self._end = end
        self._is_closed = False

    def end(self) -> Position:
        self._refuse_closed()
        return self._end

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        return self._until(self._log.frames(seq)) if seq < self.end().seq else iter(())

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        end = self.end().offset
        if not 0 <= offset <= end:
            raise OffsetError(f"log {self.name!r}: offset {offset} lies outside; there were the offsets 0 to {end - 1} then")
        return self._until(self._log.rows(offset)) if offset < end else iter(())

    def frame_at(self, offset: int) -> Frame:
        end = self.end().offset
        if not 0 <= offset < end:
            raise OffsetError(f"log {self.name!r}: there was no event {offset} then; there were the offsets 0 to {end - 1}")
        return self._log.frame_at(offset)

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        seq = self.end().seq
        return self._log.snapshot(seq if upto is None else min(seq, upto))

    def requests(self) -> Mapping[str, int]:
        """None: what the store was asked for since says nothing of then."""
        return {}

    def close(self) -> None:
        self._is_closed = True

    def _until(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        return takewhile(lambda frame: frame.seq < self._end.seq, frames)

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise Unavailable(f"log {self.name!r} as it was then was closed; ask for it again")
