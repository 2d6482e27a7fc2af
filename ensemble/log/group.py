"""The group record as bytes: what one commit made durable together begins with one (docs/log-format.md).

record.seq    = seq of the first frame behind it
record.length = the bytes of all its frames
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from ensemble.log.frame import peek

RECORD = Struct(">BBIBIBQBQBI")
RECORD_BYTES = RECORD.size
MARKER = b"\x95\xce"
"""How every record begins."""

CHECKED_FROM = 11

BYTES_MAX = 1 << 30
"""What is appended together and is longer goes in several groups. The format allows four times as much."""


class Record(NamedTuple):
    length: int
    seq: int
    first: int
    frames: int

    @property
    def end_seq(self) -> int:
        """The number of the frame after the group."""
        return self.seq + self.frames


def groups_of(sealed: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Sealed frames as groups that a record can hold, in order; a frame that is larger alone."""
    start = 0
    while start < len(sealed):
        stop, size = start, 0
        while stop < len(sealed) and (stop == start or size + len(sealed[stop]) <= BYTES_MAX):
            size += len(sealed[stop])
            stop += 1
        yield sealed[start:stop]
        start = stop


def encode_record(sealed: Sequence[bytes]) -> bytes:
    """The record that goes before these frames."""
    header = peek(sealed[0])
    head = bytearray(RECORD_BYTES)
    fields = (0x95, 0xCE, sum(map(len, sealed)), 0xCE, 0, 0xCF, header.seq, 0xCF, header.first, 0xCE, len(sealed))
    RECORD.pack_into(head, 0, *fields)
    head[7:11] = _crc(head).to_bytes(4, "big")
    return bytes(head)


def peek_record(data: bytes | bytearray | memoryview, at: int = 0) -> Record | None:
    """The record that begins at byte `at`; None if no whole one does."""
    if len(data) - at < RECORD_BYTES:
        return None
    a, b, length, c, crc, d, seq, e, first, f, frames = RECORD.unpack_from(data, at)
    if (a, b, c, d, e, f) != (0x95, 0xCE, 0xCE, 0xCF, 0xCF, 0xCE) or not frames:
        return None
    if crc != _crc(memoryview(data)[at : at + RECORD_BYTES]) or length < frames:
        return None
    return Record(length, seq, first, frames)


def _crc(record: bytearray | memoryview) -> int:
    """Of all but the marker, the checksum itself and its marker: the length, which a frame's checksum finds wrong, too."""
    return crc32(record[CHECKED_FROM:], crc32(record[1:6]))
