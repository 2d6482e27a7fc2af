"""A run of groups looked at all at once: whether they are whole, and follow each other, as nearly all do.

Owns speed, and no judgement: where anything is not as it should be it stops before that group, and who asked looks closely
there (`recovery.check_group`), which has the rules and the words. What it passes has been held to all of them.

    every byte of what it passes is covered: by a group's checksum, a frame's checksum and hash, or compared
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from hashlib import sha256
from struct import Struct
from zlib import crc32

from ensemble.log.base import Position
from ensemble.log.frame import CHECKED_FROM, HEADER_BYTES
from ensemble.log.group import RECORD_BYTES, peek_record

FIELDS = Struct(">HIBIBQBQBQBIBQH32s")
"""A frame's header as it is in `frame.HEADER`, where two markers stand together as one."""

LARGE_BYTES = 2048
"""A frame from this size on is not copied to be hashed."""


def glance(
    data: bytes,
    byte: int,
    at: Position,
    epoch: int,
    end_seq: int | None,
    seqs: Collection[int],
    passed: Callable[[Position], None],
    bytes_: Collection[int],
    ended: Callable[[int], None],
) -> tuple[int, Position, int]:
    """Pass all groups that are whole and right, from the one that begins at this byte on, to frame `end_seq` or the last one.

    Shapes: `at` and `epoch` are of the frame before; `passed` is told of each place before a frame in `seqs`, `ended` of each
            byte in `bytes_` at which a group ends. What comes back: where it stopped, the place there, and the epoch of the
            frame before.
    """
    view, size, unpack = memoryview(data), len(data), FIELDS.unpack_from
    seq, offset, hash_, time_us = at
    while seq != end_seq:
        record = peek_record(data, byte)
        if record is None or (record.seq, record.first) != (seq, offset):
            break
        place, goes_on = byte + RECORD_BYTES, record.end_seq
        stop = place + record.length
        if stop > size:
            break
        inside: list[Position] = []
        number, first, digest, time, age = seq, offset, hash_, time_us, epoch
        last = stop - HEADER_BYTES
        while number < goes_on and place <= last:
            a, length, b, crc, c, of, d, frame, e, begin, f, count, g, when, h, prev = unpack(data, place)
            end = place + length
            if (
                prev != digest or frame != number or begin != first or when < time or of < age
                or a != 0x9ACE or b != 0xCE or c != 0xCF or d != 0xCF or e != 0xCF or f != 0xCE or g != 0xCF or h != 0xC420
                or length < HEADER_BYTES
            ):  # fmt: skip
                break
            if length < LARGE_BYTES:
                if crc32(data[place + CHECKED_FROM : end]) != crc:
                    break
                digest = sha256(data[place:end]).digest()
            else:
                if crc32(view[place + CHECKED_FROM : end]) != crc:
                    break
                digest = sha256(view[place:end]).digest()
            number += 1
            first += count
            time, age, place = when, of, end
            if number in seqs:
                inside.append(Position(number, first, digest, time))
        if place != stop or number != goes_on:
            break
        byte, seq, offset, hash_, time_us, epoch = stop, number, first, digest, time, age
        for each in inside:
            passed(each)
        if byte in bytes_:
            ended(byte)
    return byte, Position(seq, offset, hash_, time_us), epoch
