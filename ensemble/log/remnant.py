"""A frame that lost rows, as bytes: what is left of it, and the hash that it had (docs/log-format.md, "A pack").

Owns encoding and decoding. Why rows went is retention's; that the hash holds is the chain's to say.

    count(remnant)                         = count(frame)             (offsets never change)
    rows that are left + sum(removed)      = count(frame)
    row i of decode(remnant)               = row i of the frame, or a row of the topic REMOVED
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import msgspec

from ensemble.errors import LogCorrupt
from ensemble.event import REMOVED, Frame, Ref, Rows, encode
from ensemble.log.frame import CHECKED_FROM, HEADER, HEADER_BYTES, VERSIONS, Columns, Header, columns_of, rows_of

MARKER = b"\x9d\xce"
"""How every one begins: an array of thirteen whose first entry is a 32-bit integer."""

HASH_FROM = HEADER_BYTES + 2
HASH_TO = HASH_FROM + 32
NOTHING = encode(None)


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    length: int
    crc: int
    epoch: int
    seq: int
    first: int
    count: int
    time_us: int
    prev: bytes
    hash: bytes
    removed: dict[str, int]
    kept: list[int]
    columns: Columns | None
    marks: dict[str, Any] | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Wire)


def is_remnant(data: bytes | memoryview, at: int = 0) -> bool:
    """Whether one begins here, and no frame."""
    return bytes(data[at : at + 1]) == MARKER[:1]


def encode_remnant(frame: Frame, digest: bytes, kept: Sequence[int], *, has_marks: bool) -> bytes:
    """What is left of a frame when of its rows only these are kept. `digest` is the hash of the frame when it was whole."""
    removed: dict[str, int] = dict(frame.removed or {})
    rows = frame.rows
    columns: Columns | None = None
    if rows is not None:
        staying = set(kept)
        for ix in range(len(rows)):
            topic = rows.filed(ix)
            if ix not in staying and topic != REMOVED:
                removed[topic] = removed.get(topic, 0) + 1
        if kept:
            columns = columns_of(rows.pick(kept))
            columns.topics = [topic for topic in columns.topics if topic != REMOVED]  # the last, which no row that stays has
    body = b"\xc4\x20" + digest + _encoder.encode(removed) + _encoder.encode(list(kept)) + _encoder.encode(columns)
    marks = frame.marks if has_marks else None
    if rows is not None and rows.versions:  # without it the rows that are left can't be read
        marks = {**(marks or {}), VERSIONS: rows.versions}
    body += _encoder.encode(marks)
    head = bytearray(HEADER_BYTES)
    HEADER.pack_into(
        head, 0,
        MARKER[0], 0xCE, HEADER_BYTES + len(body), 0xCE, 0, 0xCF, frame.epoch, 0xCF, frame.seq, 0xCF, frame.first,
        0xCE, frame.count, 0xCF, frame.time_us, 0xC4, 0x20, frame.prev,
    )  # fmt: skip
    head[7:11] = crc32(body, crc32(memoryview(head)[CHECKED_FROM:])).to_bytes(4, "big")
    return bytes(head) + body


def peek_remnant(data: bytes | memoryview, at: int = 0) -> tuple[Header, bytes]:
    """The header of the frame that it was, and that frame's hash.

    Errors: LogCorrupt if none begins there.
    """
    if len(data) - at < HASH_TO:
        raise LogCorrupt(f"what is left of a frame has at least {HASH_TO} bytes, {max(0, len(data) - at)} are there")
    marker, _, length, _, crc, _, epoch, _, seq, _, first, _, events, _, time_us, _, _, prev = HEADER.unpack_from(data, at)
    if marker != MARKER[0]:
        raise LogCorrupt("no frame, nor what is left of one, begins here")
    return Header(length, crc, epoch, seq, first, events, time_us, prev), bytes(data[at + HASH_FROM : at + HASH_TO])


def decode_remnant(data: bytes | memoryview, log_id: str, shard: int) -> Frame:
    """The frame with the rows that are left of it, each in its place.

    Errors: LogCorrupt if its checksum fails or these bytes are none.
    """
    header, _ = peek_remnant(data)
    if header.length != len(data) or crc32(memoryview(data)[CHECKED_FROM:]) != header.crc:
        raise LogCorrupt("what is left of a frame is damaged: its checksum fails")
    try:
        wire = _decoder.decode(data)
        rows = _spread(wire, log_id, shard) if wire.count else None
        if rows is not None and wire.marks:
            rows.versions = wire.marks.get(VERSIONS)
    except (msgspec.DecodeError, ValueError, IndexError) as error:
        raise LogCorrupt(f"the checksum holds, but it is not written as what is left of a frame is: {error}") from error
    return Frame(wire.first, wire.time_us, rows, wire.marks or {}, wire.epoch, wire.seq, wire.prev, wire.removed or None)


def _spread(wire: _Wire, log_id: str, shard: int) -> Rows:
    """The rows that are left, with rows of the topic REMOVED between them. ValueError."""
    n, kept = wire.count, wire.kept
    if len(kept) + sum(wire.removed.values()) != n or any(not 0 <= ix < n for ix in kept):
        raise ValueError(f"of {n} events {len(kept)} are left and {sum(wire.removed.values())} went")
    if wire.columns is None:
        return Rows(log_id, shard, wire.first, wire.time_us, [REMOVED], 0, [""] * n, [NOTHING] * n, [""], 0)
    left = rows_of(wire.columns, len(kept), wire.first, wire.time_us, log_id, shard)
    none = len(left.topics)
    topic_ix, keys, data, source_ix = [none] * n, [""] * n, [NOTHING] * n, [0] * n
    # A row that is gone answers itself: so it hangs on no other event's tree.
    causes: list[Ref] | None = None if left.causes is None else list(range(wire.first, wire.first + n))
    roots: list[Ref] | None = None if left.roots is None else list(range(wire.first, wire.first + n))
    for row, ix in enumerate(kept):
        topic_ix[ix] = left.topic_ix if isinstance(left.topic_ix, int) else left.topic_ix[row]
        source_ix[ix] = left.source_ix if isinstance(left.source_ix, int) else left.source_ix[row]
        keys[ix], data[ix] = left.keys[row], left.data[row]
        if causes is not None and left.causes is not None:
            causes[ix] = left.causes[row]
        if roots is not None and left.roots is not None:
            roots[ix] = left.roots[row]
    extras = None if left.extras is None else {kept[row]: extra for row, extra in left.extras.items()}
    return Rows(
        log_id, shard, wire.first, wire.time_us, [*left.topics, REMOVED], topic_ix, keys, data, left.sources, source_ix,
        causes, roots, extras,
    )  # fmt: skip
