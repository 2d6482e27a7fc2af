"""A log in which people can be forgotten: what is personal is encrypted on its way in, decrypted on its way out
(docs/forget.md).

Owns the layer around any log. What lies where in a frame and in the broker's state is `places.py`'s, the bytes are
`cipher.py`'s, the keys `ring.py`'s.
In memory, on this side of it, all is plain; hashes and checksums, on the other, are of what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ensemble.errors import Unavailable
from ensemble.event import Frame
from ensemble.log.base import EventLog, LogReader, Packed, Packing, Part, Removal, Snapshot, Taken
from ensemble.log.blobs import Claimed
from ensemble.log.branch import BranchLog
from ensemble.log.forgetting.places import Decrypting, Encrypting
from ensemble.log.forgetting.ring import Ring
from ensemble.log.layer import Layer
from ensemble.score.personal import Personal


class ForgettingReader(Layer):
    """The reading half."""

    def __init__(self, log: LogReader, ring: Ring) -> None:
        super().__init__(log)
        self.ring = ring
        self._decrypting = Decrypting(ring)

    def base(self) -> Snapshot | None:
        self.ring.refresh()
        kept = self._log.base()
        return None if kept is None else Snapshot(kept.at, self._decrypting.state(kept.state))

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        self.ring.refresh()
        return map(self._decrypting.frame, self._log.frames(seq))

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        self.ring.refresh()
        return map(self._decrypting.frame, self._log.rows(offset))

    def frame_at(self, offset: int) -> Frame:
        self.ring.refresh()
        return self._decrypting.frame(self._log.frame_at(offset))

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        self.ring.refresh()
        kept = self._log.snapshot(upto)
        return None if kept is None else Snapshot(kept.at, self._decrypting.state(kept.state))

    def forgotten(self) -> int:
        self.ring.refresh()
        return self.ring.ended


class ForgettingLog(ForgettingReader):
    """The writing half. `personal` says what is to be encrypted; None: nothing new is."""

    def __init__(self, log: EventLog, ring: Ring, personal: Personal | None = None) -> None:
        super().__init__(log, ring)
        self._writing = log
        self._look_up: Callable[[int], Frame] = self.frame_at
        self.encrypt(personal)

    def encrypt(self, personal: Personal | None) -> None:
        """Encrypt by these rules from here on."""
        self._decrypting.ruled = frozenset() if personal is None else frozenset(personal.states)
        self._encrypting = Encrypting(self.ring, personal, self._event_at, self._decrypting.orphans)

    def look_through(self, frame_at: Callable[[int], Frame]) -> None:
        """Find events at which players failed by this: of a take they may lie in the past."""
        self._look_up = frame_at

    def _event_at(self, offset: int) -> Frame:
        return self._look_up(offset)

    @property
    def epoch(self) -> int:
        return self._writing.epoch

    @property
    def notes(self) -> Sequence[str]:
        return self._writing.notes

    def hidden(self, frame: Frame) -> Frame:
        """The frame as it is kept: what is personal in it encrypted. Its keys are durable."""
        kept = self._encrypting.frame(frame)
        self.ring.sync()
        return kept

    def seal(self, frame: Frame) -> bytes:
        kept = self._encrypting.frame(frame)
        sealed = self._writing.seal(kept)
        frame.epoch, frame.seq, frame.prev = kept.epoch, kept.seq, kept.prev
        if kept is not frame and kept.rows is not None and isinstance(kept.rows.data, Claimed):
            frame.rows = self._decrypting.rows(kept.rows)  # as `ClaimLog.seal` leaves it, and what is in it is decrypted again
        return sealed

    def append(self, sealed: Sequence[bytes]) -> None:
        self.ring.sync()  # first: a frame whose key a crash has lost could never be read
        self._writing.append(sealed)

    def save(self, snapshot: Snapshot) -> None:
        state = self._encrypting.state(snapshot.state)
        self.ring.sync()
        self._writing.save(Snapshot(snapshot.at, state))

    def packing(self) -> Packing | None:
        packing = self._writing.packing()
        return None if packing is None else ForgettingPacking(packing, self._encrypting, self._decrypting, self.ring)

    def forget(self, subject: str) -> int:
        """Destroy all keys of a subject; how many there were. What is in memory elsewhere stays there."""
        return self.ring.destroy(subject)

    def forget_in(self, state: bytes, subject: str) -> tuple[int, bytes]:
        """The same, and the broker's state after that: as whoever opens the log next would find it."""
        kept = self._encrypting.state(state)
        count = self.ring.destroy(subject)
        return count, self._decrypting.state(kept)


class ForgettingPacking:
    """Parts are packed as they are kept; who decides what stays, and folds the state, sees them decrypted."""

    def __init__(self, packing: Packing, encrypting: Encrypting, decrypting: Decrypting, ring: Ring) -> None:
        self._packing, self._encrypting, self._decrypting = packing, encrypting, decrypting
        self._ring, self._ended = ring, ring.ended
        self.parts, self.put, self.drop, self.sweep = packing.parts, packing.put, packing.drop, packing.sweep
        self.until_us, self.has_takes, self.home = packing.until_us, packing.has_takes, packing.home
        self.copy, self.carry = packing.copy, packing.carry

    def frames(self, part: Part) -> Iterator[Frame]:
        return map(self._decrypting.frame, self._packing.frames(part))

    def pack(
        self,
        parts: Sequence[Part],
        choose: Callable[[Frame], Taken | None] | None,
        removals: Callable[[], Sequence[Removal]] = tuple,
        *,
        state: Callable[[], bytes] | None = None,
        compress: bool = False,
    ) -> Packed:
        decrypted = None if choose is None else lambda frame: choose(self._decrypting.frame(frame))
        encrypted = None if state is None else lambda: self._encrypted(state())
        return self._packing.pack(parts, decrypted, removals, state=encrypted, compress=compress)

    def _encrypted(self, state: bytes) -> bytes:
        """A state that was folded from what was read since this was made. Unavailable if somebody was forgotten since."""
        kept = self._encrypting.state(state)
        if self._ring.ended != self._ended:  # what they said was encrypted with a new key just now
            raise Unavailable("somebody was forgotten while a part of the log was written anew; it is gone over again")
        self._ring.sync()
        return kept


def forgetting_of(log: EventLog) -> ForgettingLog | None:
    """What of a log people can be forgotten in: of a take its own part; None: nothing in it is personal."""
    own = log.own if isinstance(log, BranchLog) else log
    return own if isinstance(own, ForgettingLog) else None
