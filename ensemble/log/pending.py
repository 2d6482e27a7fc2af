"""What was decided for all shards of a store together, and may not be in all of their logs yet.

Owns one file of the store, `pending`: the frames that each shard is to get, and where they are to stand. It is there whole or
not at all, which makes it the commit point of what it holds. Whoever opens a shard to write appends its part first.

    shard s has its part    <=>    s.end.seq > part(s).seq
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ensemble.errors import LogCorrupt
from ensemble.event import Frame
from ensemble.log import frame as frames
from ensemble.log.base import EventLog
from ensemble.log.files import Files, refusal
from ensemble.log.url import place_of

PENDING = "pending"
FORMAT = 1


class _Part(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    log_id: str
    seq: int
    frames: list[bytes]


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    format: int
    parts: list[_Part]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Wire).decode


def put(url: str, logs: Sequence[EventLog], decided: Sequence[Sequence[Frame]]) -> None:
    """Have these frames be in all shards, after what is there now: from here on that is so, whatever happens.

    All logs are held. What is personal stands here encrypted. Unavailable if it can't be written: then it is not so.
    """
    from ensemble.log.forgetting import forgetting_of

    parts = []
    for log, each in zip(logs, decided, strict=True):
        forgetting = forgetting_of(log)
        hidden = each if forgetting is None else [forgetting.hidden(frame) for frame in each]
        parts.append(_Part(log.id, log.end().seq, [frames.encode(frame) for frame in hidden]))
    data = _encode(_Wire(FORMAT, parts))
    kind, place = place_of(url)
    if kind == "directory":
        try:
            Files().replace(Path(place).absolute() / PENDING, data)
        except OSError as error:
            raise refusal(f"store {url}: what its shards are to get can't be written", error) from error
        return
    from ensemble.log.objects.store import objects_at

    objects = objects_at(url)
    objects.patiently(lambda: objects.put(PENDING, data))


def clear(url: str) -> None:
    """All shards have it. Where this fails it stays, and says nothing that is not so."""
    kind, place = place_of(url)
    if kind == "directory":
        try:
            (Path(place).absolute() / PENDING).unlink(missing_ok=True)
        except OSError as error:
            raise refusal(f"store {url}: {PENDING} can't be removed", error) from error
        return
    from ensemble.log.objects.store import objects_at

    objects = objects_at(url)
    objects.patiently(lambda: objects.delete(PENDING))


def complete(url: str, log: EventLog) -> None:
    """Append to a shard that was just opened what it is to get, if it has not.

    Errors: LogCorrupt if that can't be read.
    """
    data = _read(url)
    if data is None:
        return
    try:
        wire = _decode(data)
        if wire.format != FORMAT or log.shard >= len(wire.parts):
            raise ValueError(f"it is of format {wire.format}, for {len(wire.parts)} shards")
        part = wire.parts[log.shard]
        decided = [frames.decode(each, log.id, log.shard) for each in part.frames]
    except (msgspec.DecodeError, ValueError, LogCorrupt) as error:
        raise LogCorrupt(
            f"{url}/{PENDING}: byte 0: this should be what the shards are to get, and can't be read: {error}; restore it from "
            "a copy of the store, or remove it: then a promotion may be in some shards only"
        ) from error
    if (part.log_id, part.seq) == (log.id, log.end().seq):
        log.append([log.seal(frame) for frame in decided])


def _read(url: str) -> bytes | None:
    kind, place = place_of(url)
    if kind == "directory":
        try:
            return (Path(place).absolute() / PENDING).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise refusal(f"{Path(place).absolute() / PENDING}: can't be read", error) from error
    from ensemble.log.objects.store import objects_at

    objects = objects_at(url)
    return objects.patiently(lambda: objects.get(PENDING))
