"""A finished part of a log, written anew: it says what was there, and holds what is left (docs/log-format.md, "A pack").

Owns the bytes: a head with the statement and an index of blocks, the state at its end where the log begins there, and blocks of
frames and of what is left of frames, compressed or not. A pack never changes; what is written anew gets another name.

    head.begin <= items in order <= head.end, by seq, offset and time
    item i+1.seq = item i.seq + 1            (of a pack that is past, or of which the log begins: >=)
    item i+1.prev = hash of item i           where nothing lies between them
"""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias
from zlib import crc32

import msgspec

from ensemble.errors import LogCorrupt, OffsetError
from ensemble.event import Frame
from ensemble.log.base import Position, Removal
from ensemble.log.chain import follow
from ensemble.log.files import open_to_read, refusal
from ensemble.log.frame import Header, decode, peek
from ensemble.log.remnant import decode_remnant, is_remnant, peek_remnant
from ensemble.log.segment import Damage

FORMAT = 2
MARKER = b"\x9d\xce"
HEAD_BYTES = 11
"""Marker, checksum and length: what is read first."""
CHECKED_FROM = 6
BLOCK_BYTES = 256 * 1024
"""How much a block holds before it is compressed, but for its last frame."""
LEVEL = 3
"""Of zstd: what it takes longer beyond buys little on frames."""
REMOVALS_MOST = 100
"""Statements of one pack; the oldest of more are summed up."""
SUFFIX = ".pack"


class Block(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    seq: int
    first: int
    """Number and offset with which its first item begins."""
    place: int
    """The byte of the file at which it begins, counted from the end of the head."""
    size: int
    whole: int
    """Bytes when it is not compressed."""
    crc: int
    """Of its bytes as they stand in the file."""


class Head(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What stands before the blocks."""

    crc: int
    length: int
    format: int
    log_id: str
    shard: int
    begin: Position
    end: Position
    epoch: int
    """Of its last frame."""
    is_past: bool
    """Whether the log begins after it."""
    removals: list[Removal]
    compression: str
    state: Block | None
    """The broker's state at its end, if the log begins there."""
    blocks: list[Block]


class Item(NamedTuple):
    """A frame, or what is left of one."""

    header: Header
    data: bytes
    after: Position


_decoder = msgspec.msgpack.Decoder(Head)

Read: TypeAlias = Callable[[int, int], bytes]
"""Bytes from a place on, so many of them; fewer where there are no more."""


class Source(Protocol):
    """Where the bytes of a pack are. Any thread."""

    @property
    def path(self) -> Path | str:
        """What it is called in errors."""
        ...

    @property
    def size(self) -> int: ...

    def open(self) -> AbstractContextManager[Read]:
        """Read on, whatever takes its place meanwhile. Gone if it is there no more; Unavailable."""
        ...


class MemorySource(NamedTuple):
    """Bytes in memory."""

    path: str
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def open(self) -> AbstractContextManager[Read]:
        return nullcontext(lambda place, size: self.data[place : place + size])


class FileSource:
    """A file."""

    def __init__(self, path: Path) -> None:
        """Errors: Gone; Unavailable."""
        self.path = path
        with open_to_read(path) as fd:
            self.size = os.fstat(fd).st_size

    @contextmanager
    def open(self) -> Iterator[Read]:
        """Who reads is told where it can't be read. Errors: Gone; Unavailable."""
        with open_to_read(self.path) as fd:

            def read(place: int, size: int) -> bytes:
                try:
                    return os.pread(fd, size, place)
                except OSError as error:
                    raise refusal(f"{self.path}: byte {place} can't be read", error) from error

            yield read


def name_of(seq: int, generation: int) -> str:
    return f"{seq:020d}.{generation}{SUFFIX}"


class Pack:
    """One pack, its head read. Any thread may read it."""

    end_seq: int
    is_empty = False
    gap = 0

    def __init__(self, source: Source, log_id: str, shard: int) -> None:
        """Errors: Gone if it is there no more; Damage."""
        self.path = path = source.path
        self._source = source
        self.whole = source.size
        with source.open() as read:
            length = int.from_bytes(read(0, HEAD_BYTES)[7:], "big")
            data = read(0, min(length, self.whole))
        self.head = self._parsed(data, length)
        self._from = length
        self.seq = self.head.begin.seq
        if (self.head.log_id, self.head.shard) != (log_id, shard):
            raise Damage(path, 0, f"this pack is of log {self.head.log_id}, shard {self.head.shard}")
        last = self.head.blocks[-1] if self.head.blocks else self.head.state
        if last is not None and self._from + last.place + last.size != self.whole:
            raise Damage(path, self.whole, f"{self._from + last.place + last.size:,} bytes should be here, {self.whole:,} are")
        self.end_seq = self.head.end.seq

    def _parsed(self, data: bytes, length: int) -> Head:
        if not data.startswith(MARKER) or len(data) != length or crc32(data[CHECKED_FROM:]) != int.from_bytes(data[2:6], "big"):
            raise Damage(self.path, 0, "the head of this pack is damaged")
        try:
            head = _decoder.decode(data)
        except msgspec.DecodeError as error:
            raise Damage(
                self.path, 0, f"its checksum holds, but it is not written as the head of a pack is: {error}"
            ) from error
        if head.format != FORMAT or head.compression not in ("", "zstd"):
            why = f"it has format {head.format}, compression {head.compression!r}; this version knows {FORMAT}, and zstd"
            raise Damage(self.path, 0, f"{why}; use the version of Ensemble that wrote it")
        return head

    @property
    def first(self) -> int:
        """The offset with which it begins."""
        return self.head.begin.offset

    @property
    def begin(self) -> Position:
        return self.head.begin

    @property
    def end(self) -> Position:
        return self.head.end

    @property
    def is_past(self) -> bool:
        return self.head.is_past

    def data(self) -> bytes:
        """All of its bytes. Gone."""
        with self._source.open() as read:
            return read(0, self.whole)

    def state(self) -> bytes | None:
        """The broker's state at its end. Damage."""
        block = self.head.state
        if block is None:
            return None
        with self._source.open() as read:
            return self._block(read, block)

    def items(self, seq: int = 0, offset: int = 0) -> Iterator[Item]:
        """What it holds, in order, each checked against the one before it, from the block on that may hold this place.

        Errors: Gone; Damage.
        """
        blocks = self.head.blocks
        start = max(
            0,
            bisect_right(blocks, seq, key=lambda block: block.seq) - 1,
            bisect_right(blocks, offset, key=lambda block: block.first) - 1,
        )
        at = None if start else self.head.begin
        with self._source.open() as read:
            for ix in range(start, len(blocks)):
                block = blocks[ix]
                for item in self._items(self._block(read, block), at):
                    at = item.after
                    yield item
        if at is not None:
            self._refuse_gap(at, self.head.end, "its end")

    def _block(self, read: Read, block: Block) -> bytes:
        data = read(self._from + block.place, block.size)
        if len(data) != block.size or crc32(data) != block.crc:
            raise Damage(self.path, self._from + block.place, "a block of this pack is damaged: its checksum fails")
        if not self.head.compression:
            return data
        try:
            return decompress(data, block.whole)
        except ValueError as error:
            raise Damage(self.path, self._from + block.place, error) from error

    def _items(self, data: bytes, at: Position | None) -> Iterator[Item]:
        place = 0
        while place < len(data):
            try:
                if is_remnant(data, place):
                    header, digest = peek_remnant(data, place)
                else:
                    header, digest = peek(data, place), b""
                piece = data[place : place + header.length]
                at = self._before(at, header)
                after = follow(at, header, piece)
            except LogCorrupt as error:
                raise Damage(self.path, self._from, error) from error
            at = after._replace(hash=digest) if digest else after
            yield Item(header, piece, at)
            place += max(header.length, 1)

    def _before(self, at: Position | None, header: Header) -> Position:
        """What this item must follow: the one before it, or what is said of a place where frames went."""
        here = Position(header.seq, header.first, header.prev, header.time_us)
        if at is None:
            return here
        if header.seq == at.seq:
            return at
        self._refuse_gap(at, here, f"frame {header.seq}")
        return here

    def _refuse_gap(self, at: Position, to: Position, what: str) -> None:
        if at == to:
            return
        is_gap = self.head.is_past and at.seq < to.seq and at.offset <= to.offset and at.time_us <= to.time_us
        if not is_gap:
            raise Damage(self.path, self._from, f"{what} does not follow frame {at.seq - 1}: frames were changed or lost")

    def why_gone(self, offset: int) -> str:
        """When, and by which rule, retention took what lay at an offset."""
        found = [each for each in self.head.removals if each.first <= offset < each.end]
        told = [f"{each.rule} on {_day(each.at_us)}" for each in found]
        return "retention took it: " + (", or ".join(dict.fromkeys(told)) or "nothing says by which rule")


class FilePack(Pack):
    """One in a file, whose name says where it begins and which of those that begin there it is."""

    path: Path

    def __init__(self, path: Path, log_id: str, shard: int) -> None:
        """Errors: Gone if it is there no more; Damage."""
        seq, _, generation = path.name.removesuffix(SUFFIX).partition(".")
        if len(seq) != 20 or not (seq.isdecimal() and generation.isdecimal()):
            raise Damage(path, 0, "a pack is called by the 20 digits of its first frame and the number of its writing")
        super().__init__(FileSource(path), log_id, shard)
        self.generation = int(generation)
        if self.seq != int(seq):
            raise Damage(path, 0, f"this pack begins with frame {self.seq}, and is called after another")


def gone(where: object, offset: int, pack: Pack | None, begin: int) -> OffsetError:
    """What is said of an event that was in a pack and is not any more, in a log that begins at this offset now."""
    why = "it was never there" if pack is None else pack.why_gone(offset)
    return OffsetError(f"log {where}: there is no event {offset} any more: {why}; the log begins at offset {begin:,} now")


def decode_item(item: Item, log_id: str, shard: int) -> Frame:
    """The frame that an item is, or what is left of it. LogCorrupt."""
    if is_remnant(item.data):
        return decode_remnant(item.data, log_id, shard)
    return decode(item.data, log_id, shard, is_checked=True)  # its block's checksum held


class PackWriter:
    """A pack that is being made: in memory, since it is put in its place whole."""

    def __init__(self, *, compress: bool) -> None:
        self._compress = compress
        self._open: list[bytes] = []
        self._size = 0
        self._at = (0, 0)
        self._blocks: list[Block] = []
        self._out: list[bytes] = []
        self._place = 0

    def add(self, seq: int, first: int, data: bytes) -> None:
        """A frame, or what is left of one."""
        if not self._open:
            self._at = (seq, first)
        self._open.append(data)
        self._size += len(data)
        if self._size >= BLOCK_BYTES:
            self._end_block()

    def _end_block(self) -> None:
        if self._open:
            self._blocks.append(self._put(*self._at, b"".join(self._open)))
            self._open, self._size = [], 0

    def _put(self, seq: int, first: int, whole: bytes) -> Block:
        data = compress(whole) if self._compress else whole
        self._out.append(data)
        block = Block(seq, first, self._place, len(data), len(whole), crc32(data))
        self._place += len(data)
        return block

    def finish(
        self,
        log_id: str,
        shard: int,
        begin: Position,
        end: Position,
        epoch: int,
        removals: Sequence[Removal],
        state: bytes | None,
    ) -> bytes:
        """All of the file. With a state the log begins at its end."""
        self._end_block()
        past = state is not None
        kept = self._put(end.seq, end.offset, state) if state is not None else None
        if kept is not None:  # before the blocks, as the format has it
            self._out.insert(0, self._out.pop())
            for block in self._blocks:
                block.place += kept.size
            kept.place = 0
        compression = "zstd" if self._compress else ""
        head = Head(0, 0, FORMAT, log_id, shard, begin, end, epoch, past, summed(removals), compression, kept, self._blocks)
        rest = msgspec.msgpack.encode(head)[3:]  # `MARKER`, checksum and length replace the marker and the two zeros
        body = b"\xce" + (HEAD_BYTES + len(rest)).to_bytes(4, "big") + rest
        return b"".join((MARKER, crc32(body).to_bytes(4, "big"), body, *self._out))


def summed(removals: Sequence[Removal]) -> list[Removal]:
    """The same statements, the oldest as one where there are too many."""
    many = sorted(removals, key=lambda each: (each.at_us, each.first))
    if len(many) <= REMOVALS_MOST:
        return many
    old, new = many[: 1 - REMOVALS_MOST], many[1 - REMOVALS_MOST :]
    rules = "; ".join(dict.fromkeys(rule for each in old for rule in each.rule.split("; ")))
    first, end = min(each.first for each in old), max(each.end for each in old)
    return [Removal(rules, old[-1].at_us, first, end, sum(each.rows for each in old)), *new]


def compress(data: bytes) -> bytes:
    """The bytes of a zstd frame."""
    return _zstd().compress(data, LEVEL)  # type: ignore[no-any-return]


def decompress(data: bytes, size: int) -> bytes:
    """What such bytes say, which must be so many. ValueError."""
    zstd = _zstd()
    try:
        out: bytes = zstd.decompress(data)
    except zstd.ZstdError as error:
        raise ValueError(f"a block can't be unpacked: {error}") from error
    if len(out) != size:
        raise ValueError(f"a block has {len(out):,} bytes when it is unpacked, it should have {size:,}")
    return out


def _zstd() -> Any:
    """Python's own from 3.14 on. Imported when something is compressed."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _day(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).isoformat().replace("+00:00", "Z")
