"""Snapshots of the broker's state, one file each (docs/log-format.md, "A snapshot").

Owns their bytes, and which are kept. What the state means is the broker's; whether the log still fits is recovery's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from ensemble.log.base import Position, Snapshot
from ensemble.log.files import Files, refusal

FORMAT = 1
KEPT = 2
HEAD = b"\x9a\xce"
CHECKED_FROM = 6


class Extent(NamedTuple):
    """How much of a segment lay before a snapshot: frame with which it begins, offset, bytes."""

    seq: int
    first: int
    size: int


class Kept(NamedTuple):
    """A snapshot as it was read, and the segments that it knows.

    `begins` is the frame with which the group begins that stands where the last extent ends.
    """

    path: Path
    snapshot: Snapshot
    extents: Sequence[Extent]
    begins: int


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    crc: int
    format: int
    log_id: str
    seq: int
    offset: int
    hash: bytes
    time_us: int
    extents: list[Extent]
    begins: int
    state: bytes


_decoder = msgspec.msgpack.Decoder(_Wire)


def folder_of(shard: Path) -> Path:
    return shard / "snapshots"


def save(shard: Path, log_id: str, snapshot: Snapshot, extents: Sequence[Extent], begins: int, files: Files) -> None:
    """Write one whole, then drop the oldest. OSError if the disk refuses; then those before it are still there."""
    seq, offset, hash_, time_us = snapshot.at
    wire = _Wire(0, FORMAT, log_id, seq, offset, hash_, time_us, list(extents), begins, snapshot.state)
    body = msgspec.msgpack.encode(wire)[2:]  # `HEAD` and the checksum replace the marker and the 0
    files.replace(folder_of(shard) / f"{seq:020d}.snap", HEAD + crc32(body).to_bytes(4, "big") + body)
    begun = folder_of(shard).glob("*.tmp")  # by a writer that died there
    for path in [*_newest_first(shard)[KEPT:], *begun]:
        files.remove(path)


def whole(shard: Path, log_id: str, passed_over: list[Path] | None = None) -> Iterator[Kept]:
    """All snapshots of this log whose checksum holds, newest first. The paths of the others go to `passed_over`."""
    for path in _newest_first(shard):
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # a reader may come late: the writer drops the oldest
            continue
        except OSError as error:
            raise refusal(f"{path}: can't be read", error) from error
        kept = _parse(path, data, log_id)
        if kept is not None:
            yield kept
        elif passed_over is not None:
            passed_over.append(path)


def _parse(path: Path, data: bytes, log_id: str) -> Kept | None:
    crc = int.from_bytes(data[2:CHECKED_FROM], "big")
    if not data.startswith(HEAD) or crc32(memoryview(data)[CHECKED_FROM:]) != crc:
        return None
    try:
        wire = _decoder.decode(data)
    except msgspec.DecodeError:
        return None
    if wire.format != FORMAT or wire.log_id != log_id or (wire.seq and not wire.extents):
        return None
    at = Position(wire.seq, wire.offset, wire.hash, wire.time_us)
    return Kept(path, Snapshot(at, wire.state), wire.extents, wire.begins)


def _newest_first(shard: Path) -> list[Path]:
    try:
        return sorted((path for path in folder_of(shard).iterdir() if path.suffix == ".snap"), reverse=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise refusal(f"{folder_of(shard)}: can't be read", error) from error
