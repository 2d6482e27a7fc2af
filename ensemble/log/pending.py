"""What was decided for all shards of a store together, and may not be in all of their logs yet.

Owns what stands in the store of it: the frames that each shard is to get, and where they are to stand. In a directory that is
one file, `pending`, which is there whole or not at all, while all shards are locked. In an object store, where no lock keeps
anybody out, it is a proposal, and a decision on it (`objects/proposal.py`). Whoever opens a shard to write appends its part
first.

    shard s has its part of what holds    <=>    s.end.seq > part(s).seq
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Frame
from ensemble.log import division
from ensemble.log import frame as frames
from ensemble.log.base import EventLog
from ensemble.log.files import Files, refusal
from ensemble.log.url import place_of

if TYPE_CHECKING:
    from ensemble.log.objects.protocol import Answer, Call, Log
    from ensemble.log.objects.store import Objects

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


def decide(url: str, logs: Sequence[EventLog], decided: Sequence[Sequence[Frame]]) -> None:
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
    data = _encode(_Wire(FORMAT, parts))
    kind, place = place_of(url)
    if kind == "objects":
        _propose(url, logs, data)
        return
    from ensemble.log.fence import refuse_older

    folder = Path(place).absolute()
    for log in logs:  # a lock can be lost: fence.py
        refuse_older(division.place(folder, log.shard, len(logs)) / "shard-0", log.epoch)
    try:
        Files().replace(folder / PENDING, data)
    except OSError as error:
        raise refusal(f"store {url}: what its shards are to get can't be written", error) from error


def complete(url: str, log: EventLog) -> None:
    """Append to a shard that was just opened what it is to get, if it has not. What is proposed, and not decided, is refused.

    Errors: LogCorrupt if that can't be read; Unavailable.
    """
    for name, data in _holding(url):
        parts = _parts(url, name, data)
        part = parts[log.shard] if log.shard < len(parts) else None  # none: the store was divided anew since
        if part is not None and (part.log_id, part.seq) == (log.id, log.end().seq):
            try:
                decided = [frames.decode(each, log.id, log.shard) for each in part.frames]
            except (ValueError, LogCorrupt) as error:
                raise _unreadable(url, name, error) from error
            log.append([log.seal(frame) for frame in decided])


def clear(url: str, logs: Sequence[EventLog]) -> None:
    """Take away what all shards have; these are their logs. What stays says nothing that is not so.

    Errors: Unavailable; LogCorrupt.
    """
    ends = [(log.id, log.end().seq) for log in logs]
    for name, data in _holding(url):
        parts = _parts(url, name, data)
        if all(part.log_id != id_ or part.seq < seq for part, (id_, seq) in zip(parts, ends, strict=False)):
            _remove(url, name)


def _holding(url: str) -> Iterator[tuple[str, bytes]]:
    """What holds, and may not be in all logs yet: under which name it stands in the store, and what stands there."""
    kind, place = place_of(url)
    if kind == "objects":
        from ensemble.log.objects.proposal import Settle, Settled, proposal
        from ensemble.log.objects.store import objects_at

        objects = objects_at(url)
        step: Settle | Settled = Settle()
        while isinstance(step, Settle):
            step = step.told(_tried(objects, step.wants()) if step.phase == "clear" else objects.ask(step))
        for token, data in step.accepted:
            yield objects.path(proposal(token)), data
        return
    path = Path(place).absolute() / PENDING
    try:
        yield PENDING, path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise refusal(f"{path}: can't be read", error) from error


def _remove(url: str, name: str) -> None:
    kind, place = place_of(url)
    if kind == "objects":
        from ensemble.log.objects.store import objects_at

        objects = objects_at(url)
        objects.patiently(lambda: objects.delete(name))
        return
    try:
        (Path(place).absolute() / name).unlink(missing_ok=True)
    except OSError as error:
        raise refusal(f"store {url}: {name} can't be removed", error) from error


def _parts(url: str, name: str, data: bytes) -> list[_Part]:
    """What each shard is to get. LogCorrupt."""
    try:
        wire = _decode(data)
        if wire.format != FORMAT:
            raise ValueError(f"it is of format {wire.format}")
    except (msgspec.DecodeError, ValueError) as error:
        raise _unreadable(url, name, error) from error
    return wire.parts


def _unreadable(url: str, name: str, error: Exception) -> LogCorrupt:
    return LogCorrupt(
        f"{url}/{name}: byte 0: this should be what the shards are to get, and can't be read: {error}; restore it from "
        "a copy of the store, or remove it: then a promotion may be in some shards only"
    )


def _propose(url: str, logs: Sequence[EventLog], data: bytes) -> None:
    from ensemble.log.objects.proposal import Accepted, Propose, Refused
    from ensemble.log.objects.store import objects_at

    objects = objects_at(url)
    parts, ends = _stand(objects, logs)
    step: Propose | Accepted | Refused = Propose(os.urandom(12).hex(), data, ends)
    while isinstance(step, Propose):
        there, phase = objects if step.shard is None else parts[step.shard], step.phase
        try:
            step = step.told(_tried(there, step.wants()) if phase == "withdraw" else there.ask(step))
        except Unavailable as error:
            if phase in ("decide", "compare"):
                raise Unavailable(
                    f"{error}; whether the shards get it is not known now, and is once all of them were opened again: play the "
                    "store and stop it, or do this again"
                ) from error
            raise
    if isinstance(step, Refused):
        raise _taken_over(url, step.shard)


def _tried(objects: Objects, call: Call) -> Answer:
    """The answer to a call after which all is as it should be, whatever comes of it: one that is refused stops nobody."""
    from ensemble.log.objects.protocol import Unknown

    try:
        return objects.call(call)
    except Unavailable:
        return Unknown()


def _stand(objects: Objects, logs: Sequence[EventLog]) -> tuple[list[Objects], tuple[tuple[Log, int], ...]]:
    """Where the objects of each log are, and which entry is next there.

    Errors: Unavailable if somebody began in one of them after who has these logs.
    """
    from ensemble.log.objects.log import read_objects
    from ensemble.log.objects.reading import ObjectReader

    parts, ends = [], []
    for log in logs:
        with closing(read_objects(objects, log.shard)) as there:
            assert isinstance(there, ObjectReader), "what is written is no archive"
            names, number, epoch = there.next_entry()
        if epoch != log.epoch:
            raise _taken_over(objects.where, log.shard)
        parts.append(there.objects)
        ends.append((names, number))
    return parts, tuple(ends)


def _taken_over(url: str, shard: int | None) -> Unavailable:
    which = "one of its shards" if shard is None else f"its shard {shard}"
    return Unavailable(
        f"store {url}: {which} was opened by somebody else meanwhile, and nothing was changed: stop who plays it, and do this "
        "again"
    )
