"""The frame as bytes: what docs/log-format.md says, and nothing else.

Owns encoding, decoding, and the header that can be read without decoding the rest. Knows no file and no chain: whether
a frame follows another is `chain.py`'s to say. This is the hot path of the log; figures in docs/performance.md.

    decode(encode(frame)) = frame          (columns equal as sequences; ranges stay ranges)
    len(encode(frame))    = peek(...).length
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from ensemble.errors import LogCorrupt
from ensemble.event import Frame, Named, Ref, Rows

HEADER = Struct(">BBIBIBQBQBQBIBQBB32s")
"""Each field's MessagePack marker and the field, in forced widths."""

HEADER_BYTES = HEADER.size
MARKER = b"\x9a\xce"
"""How every frame begins: an array of ten whose first entry is a 32-bit integer."""

CHECKED_FROM = 11
"""The checksum covers everything from this byte on."""

VERSIONS = "versions"
"""A mark that is about the frame's own events: topic -> the version of its schema, where that is not 1."""

IDS = "ids"
"""Another: they have the ids that a log gave from an offset on; log, offset, and the rows that have none of these."""

BYTES_MAX = 0xFFFF_FFFF


class Header(NamedTuple):
    length: int
    crc: int
    epoch: int
    seq: int
    first: int
    events: int
    time_us: int
    prev: bytes

    @property
    def end(self) -> int:
        """The offset of the first event after the frame."""
        return self.first + self.events


Runs = dict[int, int]


class Columns(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """Events as they are written; of a frame that lost some (remnant.py) those that are left."""

    topics: list[str]
    topic_ix: int | list[int] | Runs
    keys: str | list[str]
    data: list[bytes]
    sources: list[str]
    source_ix: int | list[int] | Runs
    causes: int | str | list[Ref] | Runs | None
    roots: int | str | list[Ref] | Runs | None
    extras: dict[int, dict[str, Any]] | None


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    length: int
    crc: int
    epoch: int
    seq: int
    first: int
    count: int
    time_us: int
    prev: bytes
    columns: Columns | None
    marks: dict[str, Any]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Wire)


def encode(frame: Frame) -> bytes:
    """The bytes of a frame.

    Errors: TypeError, OverflowError or ValueError where its marks or columns can't be written.
    """
    rows = frame.rows if frame.count else None
    body = _encoder.encode(None if rows is None else columns_of(rows))
    body += _encoder.encode(frame.marks if rows is None else marks_of(rows, frame.marks))
    length = HEADER_BYTES + len(body)
    if length > BYTES_MAX:
        raise ValueError(f"a frame of {length:,} bytes is more than the log's format allows ({BYTES_MAX:,})")
    prev = frame.prev
    head = bytearray(HEADER_BYTES)
    HEADER.pack_into(
        head, 0,
        0x9A, 0xCE, length, 0xCE, 0, 0xCF, frame.epoch, 0xCF, frame.seq, 0xCF, frame.first,
        0xCE, frame.count, 0xCF, frame.time_us, 0xC4, 0x20, prev,
    )  # fmt: skip
    crc = crc32(body, crc32(memoryview(head)[CHECKED_FROM:]))
    head[7:11] = crc.to_bytes(4, "big")
    return b"".join((head, body))


def peek(data: bytes | memoryview, at: int = 0) -> Header:
    """The header of the frame that begins at byte `at`. Nothing is checked but its markers.

    Errors: LogCorrupt if no frame begins there.
    """
    if len(data) - at < HEADER_BYTES:
        raise LogCorrupt(f"a frame's header has {HEADER_BYTES} bytes, {max(0, len(data) - at)} are there")
    a, b, length, c, crc, d, epoch, e, seq, f, first, g, events, h, time_us, i, j, prev = HEADER.unpack_from(data, at)
    if (a, b, c, d, e, f, g, h, i, j) != (0x9A, 0xCE, 0xCE, 0xCF, 0xCF, 0xCF, 0xCE, 0xCF, 0xC4, 0x20):
        raise LogCorrupt("no frame begins here: its header's markers are not there")
    return Header(length, crc, epoch, seq, first, events, time_us, prev)


def check(data: bytes | memoryview) -> Header:
    """The header of a frame whose length and checksum hold.

    Errors: LogCorrupt if they don't.
    """
    header = peek(data)
    if header.length != len(data):
        raise LogCorrupt(f"the frame should have {header.length:,} bytes, {len(data):,} are there")
    found = crc32(memoryview(data)[CHECKED_FROM:])
    if found != header.crc:
        raise LogCorrupt(f"the frame's checksum is {found:08x}, it should be {header.crc:08x}")
    return header


def decode(data: bytes | memoryview, log_id: str, shard: int = 0, *, is_checked: bool = False) -> Frame:
    """The frame that these bytes are. `is_checked`: `check` has been called on them already.

    Errors: LogCorrupt if the checksum fails or the bytes are no frame.
    """
    if not is_checked:
        check(data)
    try:
        wire = _decoder.decode(data)
        columns = wire.columns
        if columns is None:
            if wire.count:
                raise ValueError(f"{wire.count} events are announced, there are none")
            rows = None
        else:
            rows = rows_of(columns, wire.count, wire.first, wire.time_us, log_id, shard)
            rows.versions = wire.marks.get(VERSIONS)
            if IDS in wire.marks:
                rows.extras = _named(wire.marks.pop(IDS), wire.count, rows.extras)
    except (msgspec.DecodeError, ValueError) as error:
        raise LogCorrupt(f"the frame's checksum holds, but it is not written as a frame is: {error}") from error
    return Frame(wire.first, wire.time_us, rows, wire.marks, wire.epoch, wire.seq, wire.prev)


def marks_of(rows: Rows, marks: Mapping[str, Any]) -> Mapping[str, Any]:
    """A frame's marks as they are written: with what is told of all of its events."""
    if rows.versions:
        marks = {**marks, VERSIONS: rows.versions}
    if type(rows.extras) is Named:
        named = rows.extras
        marks = {**marks, IDS: [named.log_id, named.first, sorted(named.own)]}
    return marks


# Columns, out


def columns_of(rows: Rows) -> Columns:
    """Events as they are written. ValueError."""
    n = len(rows.keys)
    keys = rows.keys
    data = rows.data if isinstance(rows.data, (list, tuple)) else list(rows.data)  # some may lie elsewhere
    if len(data) != n:
        raise ValueError(f"{n} keys, but {len(data)} payloads")
    return Columns(
        rows.topics,
        _out(rows.topic_ix, n),
        keys[0] if n > 1 and keys[0] == keys[-1] and _is_constant(keys) else keys,  # type: ignore[arg-type]
        data,  # type: ignore[arg-type]
        rows.sources,
        _out(rows.source_ix, n),
        None if rows.causes is None else _out(rows.causes, n),
        None if rows.roots is None else _out(rows.roots, n),
        dict(rows.odd) or None if type(rows.extras) is Named else rows.extras,  # type: ignore[arg-type]
    )


def _out(column: int | Sequence[Ref], n: int) -> Any:
    """A column in its shortest form."""
    if type(column) is int:
        return column
    assert not isinstance(column, int)
    if len(column) != n:
        raise ValueError(f"{n} keys, but {len(column)} entries in another column")
    if type(column) is range:
        return {column.start: n} if column.step == 1 else list(column)
    if column[0] == column[-1] and _is_constant(column):
        return column[0]
    return column if isinstance(column, (list, tuple)) else list(column)


def _is_constant(column: Sequence[Any]) -> bool:
    return column.count(column[0]) == len(column)


# Columns, in


def rows_of(columns: Columns, n: int, first: int, time_us: int, log_id: str, shard: int) -> Rows:
    """The events that stand in columns: n of them, of a frame that begins at offset `first`. ValueError."""
    keys = columns.keys
    if isinstance(keys, str):
        keys = [keys] * n
    if not n or len(keys) != n or len(columns.data) != n:
        raise ValueError(f"{n} events are announced, there are {len(keys)} keys and {len(columns.data)} payloads")
    return Rows(
        log_id,
        shard,
        first,
        time_us,
        columns.topics,
        _index(columns.topic_ix, n, len(columns.topics)),
        keys,
        columns.data,
        columns.sources,
        _index(columns.source_ix, n, len(columns.sources)),
        _refs(columns.causes, n),
        _refs(columns.roots, n),
        columns.extras,
    )


def _named(mark: Any, n: int, extras: Mapping[int, dict[str, Any]] | None) -> Named:
    """The extras of events that have the ids of another log. ValueError."""
    try:
        log_id, first, own = mark
        return Named(str(log_id), int(first), n, own, extras)
    except TypeError as error:
        raise ValueError(f"the mark {IDS} is a log, an offset and rows; it is {mark!r:.80}") from error


def _index(column: int | list[int] | Runs, n: int, size: int) -> int | Sequence[int]:
    values: int | Sequence[int] = _run(column, n) if isinstance(column, dict) else column
    lowest, highest = (values, values) if isinstance(values, int) else (min(values), max(values))
    if lowest < 0 or highest >= size or (not isinstance(values, int) and len(values) != n):
        raise ValueError(f"an index column does not fit {n} events and {size} names")
    return values


def _refs(column: int | str | list[Ref] | Runs | None, n: int) -> Sequence[Ref] | None:
    if column is None:
        return None
    if isinstance(column, dict):
        return _run(column, n)
    if not isinstance(column, list):
        return [column] * n
    if len(column) != n:
        raise ValueError(f"{n} events are announced, a column of references has {len(column)}")
    return column


def _run(column: Mapping[int, int], n: int) -> range:
    ((start, count),) = column.items()
    if count != n:
        raise ValueError(f"{n} events are announced, a run has {count}")
    return range(start, start + n)
