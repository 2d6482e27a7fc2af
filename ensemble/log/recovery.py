"""What is whole, what is torn and what is damaged: the rules of docs/log-format.md, "Opening a log".

Owns the checking of groups one after another and the decision at the first that is not right. Changes nothing on the
disk: the caller cuts. A group may be cut only if nothing proves that it was durable; the proof is a later group, since
none is begun before the one before it is durable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ensemble.errors import LogCorrupt
from ensemble.log.base import Position
from ensemble.log.chain import follow
from ensemble.log.files import corrupt
from ensemble.log.group import MARKER, RECORD_BYTES, Record
from ensemble.log.pack import Pack
from ensemble.log.pieces import Piece
from ensemble.log.segment import Damage, Window


class Foreign(Damage):
    """What stands here is whole, but does not belong here: no crash does that."""


class Place(NamedTuple):
    """Where to begin to check: a group's record, in the segment with this index.

    `at` is what the frame there must follow; None if that is not known, and then `known` is a later place that is.
    """

    segment: int
    byte: int
    at: Position | None
    known: Position | None = None


class Cut(NamedTuple):
    """What is to be cut from the last segment."""

    byte: int
    length: int
    why: object


class Recovered(NamedTuple):
    at: Position
    epoch: int
    """Of the last frame."""
    cut: Cut | None


def recover(segments: Sequence[Piece], start: Place) -> Recovered:
    """Check all groups from a place on, and note them in their segments.

    Errors: LogCorrupt at what is damaged before the tail.
    """
    at, epoch, cut = start.at, 0, None
    for ix in range(start.segment, len(segments)):
        segment = segments[ix]
        if at is not None and ix > start.segment and segment.seq != at.seq:
            raise corrupt(segment.path, 0, f"the segment with frame {at.seq} is missing before this one")
        if isinstance(segment, Pack):
            at, epoch = _check_pack(segment, at), segment.head.epoch
            continue
        place = start.byte if ix == start.segment else 0
        segment.end_seq = segments[ix + 1].seq if ix + 1 < len(segments) else None
        with Window(segment.path) as window:
            while place < window.stop and (at is None or at.seq != segment.end_seq):
                try:
                    record, at, epoch = check_group(window, place, at, epoch, start.known)
                except Foreign as damage:
                    raise corrupt(damage.path, damage.place, damage.why) from damage
                except Damage as damage:
                    seq = at.seq if at is not None else segment.seq
                    why = "a later segment follows" if segment.end_seq is not None else proof(window, place, seq)
                    if why:
                        raise corrupt(damage.path, damage.place, f"{damage.why}, and {why}") from damage
                    cut = Cut(place, window.stop - place, damage.why)
                    break
                segment.note_group(record, place, window)
                place += RECORD_BYTES + record.length
        segment.whole = place
    if at is None or (start.known is not None and at.seq < start.known.seq):
        assert start.known is not None, "without a snapshot the beginning is known"
        why = f"the log ends here, but a snapshot was kept of frame {start.known.seq}"
        raise corrupt(segments[-1].path, segments[-1].whole, why)
    return Recovered(at, epoch, cut)


def _check_pack(pack: Pack, at: Position | None) -> Position:
    """The place after a pack that is whole. Damage."""
    if at is not None and at != pack.begin:
        raise Damage(pack.path, 0, f"this pack does not follow frame {at.seq - 1}")
    for _ in pack.items():
        pass
    return pack.end


def check_group(
    window: Window, place: int, at: Position | None, epoch: int = 0, known: Position | None = None
) -> tuple[Record, Position, int]:
    """The group that begins here, all its frames checked; the place after it and its last epoch.

    Errors: Foreign if it is whole but does not follow `at`; Damage if it is not whole.
    """
    record = window.record(place)
    if record is None:
        raise Damage(window.path, place, "no whole group begins here")
    stop = place + RECORD_BYTES + record.length
    if stop > window.stop:
        raise Damage(window.path, place, f"a group of {stop - place:,} bytes begins here, {window.stop - place:,} are there")
    byte = place + RECORD_BYTES
    if at is None:
        header = window.header(byte)
        at = Position(record.seq, record.first, header.prev, header.time_us)
    elif (record.seq, record.first) != (at.seq, at.offset):
        why = f"the group of frame {at.seq} at offset {at.offset} should be here, that of frame {record.seq} is"
        raise Foreign(window.path, place, why)
    for _ in range(record.frames):
        if known is not None:
            _refuse_other(window, byte, at, known)
        if byte >= stop:
            raise Foreign(window.path, place, f"the group should have {record.frames} frames")
        header = window.header(byte)
        data = window.frame(byte, header)
        if header.epoch < epoch:
            raise Foreign(window.path, byte, f"frame {header.seq} has epoch {header.epoch}, the one before it {epoch}")
        try:
            at = follow(at, header, data)
        except LogCorrupt as error:
            raise Foreign(window.path, byte, error) from error
        epoch = header.epoch
        byte += header.length
    if known is not None:
        _refuse_other(window, byte, at, known)
    if byte != stop:
        raise Foreign(window.path, place, f"the group's frames end at byte {byte}, the group at {stop}")
    return record, at, epoch


def _refuse_other(window: Window, byte: int, at: Position, known: Position) -> None:
    if at.seq == known.seq and at != known:
        raise Foreign(window.path, byte, f"the frames before frame {at.seq} are not those of which a snapshot was kept")


def proof(window: Window, place: int, seq: int) -> str:
    """Why the bad group at this place must have been durable; empty if nothing says so. It begins with `seq` or later."""
    later = later_group(window, place, seq)
    return "" if later is None else f"the group of frame {later[1].seq} follows at byte {later[0]}"


def later_group(window: Window, place: int, seq: int) -> tuple[int, Record] | None:
    """The next group that seems whole behind the bad one at this place, which begins with `seq` or later."""
    record = window.record(place)
    if record is None:
        place += 1
    else:  # what stands inside of it is payload, which may be anything, a copy of a log too: look behind it
        seq = record.seq
        place += RECORD_BYTES + record.length
    while place < window.stop:
        at = window.at(place, window.stop - place)
        found = window.bytes.find(MARKER, at)
        if found < 0:
            break
        place += found - at
        later = window.record(place)
        if later is not None and later.seq > seq:
            try:
                if window.header(place + RECORD_BYTES).seq == later.seq:
                    return place, later
            except Damage:
                pass
        place += 1
    return None
