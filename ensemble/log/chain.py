"""The order of frames: which frame may follow which.

Owns the rules of the chain, for sealing and for checking alike. Knows no file.

    position(n+1) = (seq + 1, first + count, SHA-256 of frame n, time_us)
"""

from __future__ import annotations

from hashlib import sha256

from ensemble.errors import LogCorrupt
from ensemble.event import Frame
from ensemble.log.base import Position
from ensemble.log.frame import Header, encode


class Chain:
    """Where the next frame to be sealed goes. Used by one thread."""

    def __init__(self, at: Position, epoch: int) -> None:
        self.at = at
        self.epoch = epoch

    def seal(self, frame: Frame) -> bytes:
        """Number, chain and encode. See `EventLog.seal`."""
        at = self.at
        if frame.first != at.offset:
            raise ValueError(f"a frame that begins at offset {frame.first} can't follow; the log ends at {at.offset}")
        if frame.time_us < at.time_us:
            raise ValueError(f"a frame of time {frame.time_us} can't follow one of time {at.time_us}")
        frame.epoch, frame.seq, frame.prev = self.epoch, at.seq, at.hash
        data = encode(frame)
        self.at = Position(at.seq + 1, frame.end, sha256(data).digest(), frame.time_us)
        return data


def follow(at: Position, header: Header, data: bytes) -> Position:
    """The place after a frame that is at this place.

    Errors: LogCorrupt if it does not belong there.
    """
    if header.seq != at.seq:
        raise LogCorrupt(f"frame {at.seq} should be here, frame {header.seq} is")
    if header.prev != at.hash:
        raise LogCorrupt(f"frame {header.seq} does not hold the hash of the frame before it: a frame was changed or lost")
    if header.first != at.offset:
        raise LogCorrupt(f"frame {header.seq} begins with offset {header.first}, offset {at.offset} is next")
    if header.time_us < at.time_us:
        raise LogCorrupt(f"frame {header.seq} is of time {header.time_us}, before the frame before it ({at.time_us})")
    return Position(header.seq + 1, header.end, sha256(data).digest(), header.time_us)
