"""The order of frames: which frame may follow which.

Owns the rules of the chain, for sealing and for checking alike. Knows no file.

    position(n+1) = (seq + 1, first + count, SHA-256 of frame n, time_us)
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from ensemble.errors import LogCorrupt
from ensemble.event import Frame
from ensemble.log.base import Position
from ensemble.log.frame import Header, encode, peek


class Chain:
    """Where the next frame to be sealed goes. One thread seals, one other asks for `ends`."""

    def __init__(self, at: Position, epoch: int) -> None:
        self.at = at
        self.epoch = epoch
        self._ends: dict[int, Position] = {}

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
        self._ends[at.seq] = self.at
        return data

    def ends(self, sealed: Sequence[bytes], at: Position) -> list[Position]:
        """The places after these frames, which are the next to be appended after `at`. Each is given once.

        Errors: ValueError if they are not the next, or were not sealed here.
        """
        places = []
        for seq, data in enumerate(sealed, at.seq):
            found = peek(data).seq
            if found != seq or seq not in self._ends:
                raise ValueError(f"frame {found} can't be appended; frame {seq} of this log's own sealing is next")
            places.append(self._ends[seq])
        for seq in range(at.seq, at.seq + len(sealed)):
            del self._ends[seq]
        return places


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
