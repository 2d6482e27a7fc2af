"""Entries, segments, packs, snapshots and the manifest of a log of objects, as bytes (docs/object-log.md, "Bytes")."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import manifest as manifests
from ensemble.log.base import Fork, Position, Snapshot, begin_of
from ensemble.log.checked import check_of, written
from ensemble.log.division import Division
from ensemble.log.objects.protocol import BLOCK, Entry, Held, Log, Segment

FORMAT = 1
PACKED = 2
"""The format of what is only where packs are: an older version refuses it."""
CHECKED_FROM = 6

PACK_HEAD = struct.Struct(">BBIBQBQBI")
"""What stands before a pack: an array of four, its checksum, the first block, the one after the last, the pack's length."""


class Blocks(NamedTuple):
    """Where the blocks of a log begin: number of the first frame, its offset, bytes of all groups before it. A row a block."""

    seqs: list[int]
    firsts: list[int]
    sizes: list[int]


class Kept(NamedTuple):
    """A snapshot as it was read. The log goes on from entry `number`, whose first frame is `begins`.

    `epoch` is that of the entry before it; 0 if it is not known. `blocks` are those that begin before it, and `size` the bytes
    of all groups before it. The blocks before block `merged` need no merging any more.
    """

    snapshot: Snapshot
    number: int
    begins: int
    epoch: int
    merged: int
    size: int
    blocks: Blocks
    requests: dict[str, int]
    """What the writers of the log have asked of the store so far, by kind."""
    holder: bytes
    """What the beginning of the writer says that kept it."""
    has_packs: bool = False
    """Whether there were packs in the log."""


class Manifest(NamedTuple):
    id: str
    name: str
    shard: int
    block: int
    fork: Fork | None = None
    """Where it leaves its parent, where it is a take."""
    store: str = ""
    """Of an archive: see `ensemble.log.manifest.Manifest`."""

    @property
    def archive(self) -> manifests.Manifest:
        """The same as archives in folders have it."""
        return manifests.Manifest(self.id, self.name, self.shard, None, self.store)

    @property
    def log(self) -> Log:
        return Log(self.id, self.block)

    @property
    def begin(self) -> Position:
        """The place before its first frame."""
        return begin_of(self.id, self.shard, self.fork)


class _Entry(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    crc: int
    format: int
    epoch: int
    writer: str
    is_begin: bool
    body: bytes


class _Segment(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    crc: int
    format: int
    entries: list[bytes]


class _Snapshot(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    crc: int
    format: int
    log_id: str
    at: tuple[int, int, bytes, int]
    number: int
    begins: int
    epoch: int
    merged: int
    size: int
    blocks: tuple[list[int], list[int], list[int]]
    requests: dict[str, int]
    holder: bytes
    state: bytes


_entries = msgspec.msgpack.Decoder(_Entry)
_segments = msgspec.msgpack.Decoder(_Segment)
_snapshots = msgspec.msgpack.Decoder(_Snapshot)


def encode_entry(entry: Entry) -> bytes:
    return _sealed(_Entry(0, FORMAT, *entry))


def decode_entry(path: str, data: bytes) -> Entry:
    """Errors: LogCorrupt, naming the object."""
    wire = _opened(path, data, _entries)
    return Entry(wire.epoch, wire.writer, wire.is_begin, wire.body)


def encode_segment(segment: Segment) -> bytes:
    return _sealed(_Segment(0, FORMAT if segment else PACKED, [encode_entry(entry) for entry in segment]))


def decode_segment(path: str, data: bytes) -> Segment:
    """Errors: LogCorrupt, naming the object."""
    wire = _opened(path, data, _segments, (FORMAT, PACKED))
    if (wire.format == PACKED) == bool(wire.entries):
        raise LogCorrupt(f"{path}: byte 0: it has {len(wire.entries)} entries, and format {wire.format}")
    return tuple(decode_entry(path, entry) for entry in wire.entries)


def encode_pack(first: int, end: int, pack: bytes) -> bytes:
    """The object of a pack that holds what is left of the blocks from `first` to the one before `end`."""
    head = bytearray(PACK_HEAD.pack(0x94, 0xCE, 0, 0xCF, first, 0xCF, end, 0xC6, len(pack)))
    head[2:CHECKED_FROM] = crc32(memoryview(head)[CHECKED_FROM:]).to_bytes(4, "big")
    return bytes(head) + pack


def decode_pack(path: str, data: bytes) -> Held:
    """Errors: LogCorrupt if its head is damaged, naming the object."""
    return Held(*decode_pack_head(path, data, len(data)), data[PACK_HEAD.size :])


def decode_pack_head(path: str, data: bytes, size: int) -> tuple[int, int]:
    """The blocks that a pack's object of so many bytes holds, from its first bytes: the first, and the one after the last.

    Errors: LogCorrupt, naming the object.
    """
    if len(data) >= PACK_HEAD.size:
        head = data[: PACK_HEAD.size]
        _, _, crc, _, first, _, end, _, length = PACK_HEAD.unpack(head)
        is_written_so = head == PACK_HEAD.pack(0x94, 0xCE, crc, 0xCF, first, 0xCF, end, 0xC6, length)
        if is_written_so and crc32(head[CHECKED_FROM:]) == crc and size == PACK_HEAD.size + length:
            return first, end
    raise LogCorrupt(
        f"{path}: byte 0: the head of this pack is damaged; restore this object from a copy or an older version of it"
    )


def encode_snapshot(log_id: str, kept: Kept) -> bytes:
    (at, state), (seqs, firsts, sizes) = kept.snapshot, kept.blocks
    place = (at.seq, at.offset, at.hash, at.time_us)
    wire = _Snapshot(
        0, PACKED if kept.has_packs else FORMAT, log_id, place, kept.number, kept.begins, kept.epoch, kept.merged, kept.size,
        (seqs, firsts, sizes), kept.requests, kept.holder, state,
    )  # fmt: skip
    return _sealed(wire)


def decode_snapshot(path: str, data: bytes, log_id: str) -> Kept:
    """Errors: LogCorrupt if it is damaged, or another log's."""
    wire = _opened(path, data, _snapshots, (FORMAT, PACKED))
    if wire.log_id != log_id:
        raise LogCorrupt(f"{path}: byte 0: this snapshot is of log {wire.log_id!r}, not of {log_id!r}")
    snapshot, blocks = Snapshot(Position(*wire.at), wire.state), Blocks(*wire.blocks)
    return Kept(
        snapshot, wire.number, wire.begins, wire.epoch, wire.merged, wire.size, blocks, wire.requests, wire.holder,
        wire.format == PACKED,
    )  # fmt: skip


def encode_manifest(manifest: Manifest) -> bytes:
    if manifest.store:
        return manifests.of_archive(manifest.archive)
    entries: dict[str, Any] = {"format": FORMAT, "kind": "objects", **manifest._asdict()}
    fork = entries.pop("fork")
    del entries["store"]
    if fork is not None:
        entries["parent"] = fork.entry()
    return written(entries)


def encode_division(division: Division) -> bytes:
    return written({"format": FORMAT, "kind": "shards", "shards": division.shards, "generation": division.generation})


def decode_manifest(path: str, data: bytes) -> Manifest | Division:
    """What a manifest says: which log is here, or into how many shards the store is divided.

    Errors: LogCorrupt if it is damaged; Unavailable if it is of a newer format, or a directory's.
    """
    try:
        entries: Any = json.loads(data)
        if entries.get("kind") == manifests.ARCHIVE:
            known = manifests.parse(path, data)
            return Manifest(known.id, known.name, known.shard, BLOCK, None, known.store)
        if entries.get("format", 0) > FORMAT:  # before the check: a newer format may check otherwise
            raise Unavailable(
                f"store {path}: it has format {entries['format']}, this version of Ensemble knows formats up to {FORMAT}; use "
                "the version of Ensemble that wrote it, or a newer one"
            )
        if "kind" not in entries and "id" in entries:
            raise Unavailable(f"store {path}: this is the copy of a directory store; it can be played as a directory only")
        if entries.pop("check") != check_of(entries):
            raise ValueError("its check does not fit its entries")
        if entries["kind"] == "shards":
            return Division(entries["shards"], entries["generation"])
        fork = Fork.of(entries.get("parent"))
        return Manifest(entries["id"], entries["name"], entries["shard"], entries["block"], fork)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise LogCorrupt(f"{path}: byte 0: the manifest was changed or damaged ({error}); restore it from a copy") from error


def snapshot_path(log_id: str, seq: int) -> str:
    """Where the snapshot of the place before frame `seq` lies."""
    return f"snapshots/{log_id}/{seq:020d}"


def new_manifest(log_id: str, name: str, shard: int, fork: Fork | None = None) -> Manifest:
    return Manifest(log_id, name, shard, BLOCK, fork)


def _sealed(wire: msgspec.Struct) -> bytes:
    """An array whose first entry is the checksum of the others, in a fixed width."""
    data = msgspec.msgpack.encode(wire)
    return data[:1] + b"\xce" + crc32(memoryview(data)[2:]).to_bytes(4, "big") + data[2:]


def _opened(path: str, data: bytes, decoder: msgspec.msgpack.Decoder[Any], formats: Sequence[int] = (FORMAT,)) -> Any:
    if data[1:2] != b"\xce" or crc32(memoryview(data)[CHECKED_FROM:]) != int.from_bytes(data[2:CHECKED_FROM], "big"):
        raise LogCorrupt(
            f"{path}: byte 0: its checksum does not fit; restore this object from a copy or an older version of it"
        )
    try:
        wire = decoder.decode(data)
    except msgspec.DecodeError as error:
        raise LogCorrupt(f"{path}: byte 0: its checksum holds, but it is not written as it should be: {error}") from error
    if wire.format not in formats:
        raise LogCorrupt(f"{path}: byte 0: it has format {wire.format}, this version knows {formats[-1]}")
    return wire
