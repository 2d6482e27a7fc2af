"""What was decided for all shards of a store together, and may not be in all of their logs yet.

Owns what that says: the frames that each shard is to get, and where they are to stand. How it comes to stand in the store,
whole or not at all, is the business of its kind (`Board`): in a directory a file, while all shards are locked
(`pending_file.py`); in an object store, where no lock keeps anybody out, a proposal, and a decision on it
(`objects/proposing.py`). Whoever opens a shard to write appends its part first.

    shard s has its part of what holds    <=>    s.end.seq > part(s).seq
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from ensemble.errors import LogCorrupt
from ensemble.event import Frame
from ensemble.log import frame as frames
from ensemble.log.base import EventLog

PENDING = "pending"
FORMAT = 1


class Board(Protocol):
    """Where it stands in a store of several shards."""

    where: str
    """The store, for who reads a message."""

    def put(self, data: bytes, logs: Sequence[EventLog]) -> None:
        """From here on it holds, whatever happens. The logs are those of all shards, held.

        Errors: Unavailable if it does not, and never will, but where the sentence says that it may.
        """
        ...

    def holding(self) -> Iterator[tuple[str, bytes]]:
        """What holds, and may not be in all logs yet: under which name it stands in the store, and what stands there.

        Errors: Unavailable; LogCorrupt.
        """
        ...

    def remove(self, name: str) -> None:
        """Errors: Unavailable."""
        ...


class _Part(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    log_id: str
    seq: int
    frames: list[bytes]


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    format: int
    parts: list[_Part]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Wire).decode


def decide(board: Board, logs: Sequence[EventLog], decided: Sequence[Sequence[Frame]]) -> None:
    """Have these frames be in all shards, after what is there now: from here on that is so, whatever happens.

    The logs are those of all shards, held. What is personal stands here encrypted.
    Errors: Unavailable if it is not so, and never will be: somebody else holds a shard by now, or the store refuses. Where an
            object store gives no answer in the end it may be so, and the sentence says that.
    """
    from ensemble.log.forgetting import forgetting_of

    parts = []
    for log, each in zip(logs, decided, strict=True):
        forgetting = forgetting_of(log)
        hidden = each if forgetting is None else [forgetting.hidden(frame) for frame in each]
        parts.append(_Part(log.id, log.end().seq, [frames.encode(frame) for frame in hidden]))
    board.put(_encode(_Wire(FORMAT, parts)), logs)


def complete(board: Board, log: EventLog) -> None:
    """Append to a shard that was just opened what it is to get, if it has not. What is proposed, and not decided, is refused.

    Errors: LogCorrupt if that can't be read; Unavailable.
    """
    for name, data in board.holding():
        parts = _parts(board.where, name, data)
        part = parts[log.shard] if log.shard < len(parts) else None  # none: the store was divided anew since
        if part is not None and (part.log_id, part.seq) == (log.id, log.end().seq):
            try:
                decided = [frames.decode(each, log.id, log.shard) for each in part.frames]
            except (ValueError, LogCorrupt) as error:
                raise _unreadable(board.where, name, error) from error
            log.append([log.seal(frame) for frame in decided])


def clear(board: Board, logs: Sequence[EventLog]) -> None:
    """Take away what all shards have; these are their logs. What stays says nothing that is not so.

    Errors: Unavailable; LogCorrupt.
    """
    ends = [(log.id, log.end().seq) for log in logs]
    for name, data in board.holding():
        parts = _parts(board.where, name, data)
        if all(part.log_id != id_ or part.seq < seq for part, (id_, seq) in zip(parts, ends, strict=False)):
            board.remove(name)


def _parts(where: str, name: str, data: bytes) -> list[_Part]:
    """What each shard is to get. LogCorrupt."""
    try:
        wire = _decode(data)
        if wire.format != FORMAT:
            raise ValueError(f"it is of format {wire.format}")
    except (msgspec.DecodeError, ValueError) as error:
        raise _unreadable(where, name, error) from error
    return wire.parts


def _unreadable(where: str, name: str, error: Exception) -> LogCorrupt:
    return LogCorrupt(
        f"{where}/{name}: byte 0: this should be what the shards are to get, and can't be read: {error}; restore it from "
        "a copy of the store, or remove it: then a promotion may be in some shards only"
    )
