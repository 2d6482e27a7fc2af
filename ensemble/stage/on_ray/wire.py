"""What travels between the actors of the Ray stage, as bytes.

Owns the shapes on the wire; knows no Ray. The events of a batch travel in the log's own form, a frame of columns, so that a
sealed frame can stand in for them as it is. Large data is only named, as there: who looks at it fetches it.

    unpack_work(pack_work(work)) hears as work does
    unpack_outcome(pack_outcome(outcome, work), work) = outcome
    unpack_frame(pack_frame(frame)) = frame
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pickle import PickleBuffer
from typing import Any

import msgspec

from ensemble.broker.section import Batch
from ensemble.broker.words import Failure, Later, Outcome, Publication, Said
from ensemble.event import Event, Frame, Match, Past, Picked, Ref, Rows, brought_along, written_in
from ensemble.log import frame as frames
from ensemble.log.blobs import Claim, Fetch, bare, whole
from ensemble.player import Work

_encode = msgspec.msgpack.Encoder().encode


class Shared:
    """A frame of the log that is put into the cluster's memory once; who reads it there gets no copy of it."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Shared, (PickleBuffer(self.data),)


Share = Callable[[Rows, Sequence[int]], int | None]
"""Have the frame shared of which these rows are: its number among those that go along; None: the rows go in the batch."""


class _Piece(msgspec.Struct, array_like=True, gc=False):
    """Rows of one frame of the log."""

    frame: bytes
    """They, as a frame of their own; empty where the whole frame goes along."""
    offsets: list[int] | None
    """Where they are not one run."""
    of: int = -1
    """The number of the frame among those that go along."""
    lo: int = 0
    hi: int = 0
    """Of a frame that goes along: the run of its rows."""


class _Batch(msgspec.Struct, array_like=True, gc=False):
    section: str
    log_id: str
    shard: int
    pieces: list[_Piece]
    lanes: list[str] | str | None
    """None: the events' keys."""
    attempts: dict[int, int]
    began_us: int
    table: dict[str, bytes]
    parts: list[_Piece] = []
    """The events that matches among them are made of."""
    reads: dict[str, dict[str, bytes]] = {}
    enriched: dict[str, list[bytes | None]] = {}
    past: Past = ()
    """Of a take: whose the events are that lie before its own."""


class _Outcome(msgspec.Struct, array_like=True, gc=False):
    count: int
    keys: list[str] | None
    heard: list[int] | None
    topics: list[str]
    topic_ix: int | list[int]
    said_keys: list[str] | None
    data: list[bytes]
    causes: list[Ref] | None
    roots: list[Ref] | None
    extras: dict[int, dict[str, Any]] | None
    wrote: dict[str, bytes | None]
    later: list[Later]
    failures: list[Failure]
    skipped: list[tuple[int, str]]
    took_s: float
    is_spent: bool
    versions: dict[str, int] | None


_read_batch = msgspec.msgpack.Decoder(_Batch).decode
_read_outcome = msgspec.msgpack.Decoder(_Outcome).decode


def _nowhere(claim: Claim) -> bytes:
    raise AssertionError(f"event {claim.offset} names large data, and nobody said where it is")


# Batches


def pack_work(work: Work, share: Share = lambda rows, ixs: None) -> bytes:
    """A batch with its events, and the state of the lanes that it touches. What is shared of them is only named."""
    events = work.events
    pieces: list[_Piece] = []
    lo, count = 0, len(events)
    latest = events[0]._rows  # in a take, of those that know most logs before them: all others are of one of these
    while lo < count:
        rows = events[lo]._rows
        if len(rows.past) > len(latest.past):
            latest = rows
        hi = lo + 1
        if isinstance(work.batch.offsets, range) and events[-1]._rows is rows:
            hi = count  # a run between two rows of one frame is all of that frame
        while hi < count and events[hi]._rows is rows:
            hi += 1
        ixs = [event._ix for event in events[lo:hi]]
        rows = bare(rows)
        pieces.append(_piece(rows, ixs, share(rows, ixs)))
        lo = hi
    lanes = work.batch.keys
    is_by_key = len(pieces) == 1 and lanes == [event.key for event in events]
    table = work.table
    return _encode(
        _Batch(
            work.batch.section,
            latest.log_id,
            latest.shard,
            pieces,
            None if is_by_key else list(lanes),
            work.batch.attempts,
            work.batch.began_us,
            {lane: table[lane] for lane in dict.fromkeys(lanes) if lane in table} if table else {},
            _parts(events),
            work.reads,  # type: ignore[arg-type]
            work.enriched,  # type: ignore[arg-type]
            latest.past,
        )
    )


def _parts(events: Sequence[Event]) -> list[_Piece]:
    """The events that matches are made of, each once, frame by frame; but for those that a copy has with it."""
    matches = [event for event in events if isinstance(event, Match) and event._rows.parts(event._ix)]
    found = {part.offset: part for match in matches for part in match.events}
    pieces: list[_Piece] = []
    rows: Rows | None = None
    ixs: list[int] = []
    for _, part in sorted(found.items()):
        if part._rows is not rows:
            if rows is not None:
                pieces.append(_piece(rows, ixs))
            rows, ixs = part._rows, []
        ixs.append(part._ix)
    return [*pieces, _piece(rows, ixs)] if rows is not None else pieces


def _piece(rows: Rows, ixs: Sequence[int], of: int | None = None) -> _Piece:
    rows = bare(rows)
    if of is not None:
        is_run = ixs[-1] - ixs[0] + 1 == len(ixs) and all(a < b for a, b in pairwise(ixs))
        return _Piece(b"", None if is_run else [rows.first + ix for ix in ixs], of, ixs[0], ixs[-1] + 1)
    if ixs[-1] - ixs[0] + 1 == len(ixs) and all(a < b for a, b in pairwise(ixs)):
        chosen = rows.between(ixs[0], ixs[-1] + 1)
        return _Piece(frames.encode(Frame(chosen.first, chosen.time_us, chosen, {})), None)
    picked = rows.pick(ixs)
    return _Piece(frames.encode(Frame(picked.first, picked.time_us, picked, {})), list(picked.offsets))


def shared(rows: Rows) -> Shared:
    """A frame as it is shared: its rows, as the log has them."""
    return Shared(frames.encode(Frame(rows.first, rows.time_us, rows, {})))


def unpack_work(data: bytes, along: Sequence[Shared] = (), fetch: Fetch = _nowhere) -> Work:
    """The batch, as a player's instance hears it, with the frames that go along. `fetch` gets what is large in it."""
    wire = _read_batch(data)
    events: list[Event] = []
    offsets: Sequence[int] = ()
    refs: list[Ref] = []
    roots: list[Ref] = []
    has_own_ids = False
    for piece in wire.pieces:
        rows, where = _unpacked(piece, wire, along, fetch)
        offsets = where if not offsets else [*offsets, *where]
        has_own_ids = has_own_ids or rows.extras is not None
        events.extend(Event(rows, ix) for ix in range(len(rows)))
    if wire.parts or any(event._rows.extra(event._ix, "parts") for event in events if event._rows.extras is not None):
        parts: dict[int, Event] = {}
        for piece in wire.parts:
            rows, where = _unpacked(piece, wire, along, fetch)
            parts.update((offset, rows.event(ix)) for ix, offset in enumerate(where))
        events = [_whole(event, parts) for event in events]
    if has_own_ids:
        refs = [event._rows.ref(event._ix) for event in events]
    roots = [event._rows.root(event._ix) for event in events]
    lanes = [event.key for event in events] if wire.lanes is None else wire.lanes
    batch = Batch(wire.section, offsets, lanes, wire.attempts, wire.began_us)
    return Work(batch, events, refs or offsets, roots, wire.table, wire.reads, wire.enriched)


def _unpacked(piece: _Piece, wire: _Batch, along: Sequence[Shared], fetch: Fetch) -> tuple[Rows, Sequence[int]]:
    """The rows of a piece, and their offsets."""
    is_whole = piece.of >= 0
    rows = frames.decode(along[piece.of].data if is_whole else piece.frame, wire.log_id, wire.shard, is_checked=True).rows
    assert rows is not None, "a batch has events"
    rows.log_id, rows.past = written_in(wire.past, wire.log_id, rows.first)
    if is_whole:
        chosen, where = _chosen(piece, rows)
        return whole(chosen, fetch), where
    if piece.offsets is None:
        return whole(rows, fetch), range(rows.first, rows.first + len(rows))
    return whole(Picked(**msgspec.structs.asdict(rows), offsets=piece.offsets), fetch), piece.offsets


def _chosen(piece: _Piece, rows: Rows) -> tuple[Rows, Sequence[int]]:
    """The rows of a piece, and their offsets, out of a whole frame."""
    if piece.offsets is None:
        return rows.between(piece.lo, piece.hi), range(rows.first + piece.lo, rows.first + piece.hi)
    return rows.pick([offset - rows.first for offset in piece.offsets]), piece.offsets


def _whole(event: Event, parts: Mapping[int, Event]) -> Event:
    """The event; a match with what it is made of."""
    offsets = event._rows.parts(event._ix)
    if along := brought_along(event._rows, event._ix):
        return Match(event._rows, event._ix, msgspec.UNSET, along)
    if not offsets:
        return event
    return Match(event._rows, event._ix, msgspec.UNSET, [parts[offset].view() for offset in offsets])


# Outcomes


def pack_outcome(outcome: Outcome, work: Work, *, is_spent: bool = False) -> bytes:
    """What came of a batch or of a part of it. What the broker can tell from the batch itself is left out.

    `is_spent` says that the instance is of no more use: a call of it never came back.
    """
    said, batch = outcome.said, work.batch
    is_whole = outcome.keys is batch.keys
    causes = None if said is None or said.causes is work.refs else list(said.causes or ())
    keys = None
    if said is not None and not (causes is None and said.keys == [event.key for event in work.events]):
        keys = list(said.keys)
    return _encode(
        _Outcome(
            outcome.count,
            None if is_whole else list(outcome.keys),
            None if outcome.heard is batch.offsets else list(outcome.heard),
            [] if said is None else said.topics,
            0 if said is None else said.topic_ix if isinstance(said.topic_ix, int) else list(said.topic_ix),
            keys,
            [] if said is None else list(said.data),
            causes,
            None if causes is None or said is None else list(said.roots or ()),
            None if said is None or said.extras is None else dict(said.extras),
            outcome.wrote,
            list(outcome.later),
            list(outcome.failures),
            list(outcome.skipped),
            outcome.took_s,
            is_spent,
            None if said is None else said.versions,
        )
    )


def unpack_outcome(data: bytes, work: Work) -> tuple[Outcome, bool]:
    """The outcome of this batch, and whether the instance is spent."""
    wire = _read_outcome(data)
    batch = work.batch
    said = None
    if wire.data:
        said = Said(
            wire.topics,
            wire.topic_ix,
            [event.key for event in work.events] if wire.said_keys is None else wire.said_keys,
            wire.data,
            work.refs if wire.causes is None else wire.causes,
            work.roots if wire.causes is None else wire.roots,
            wire.extras,
            wire.versions,
        )
    outcome = Outcome(
        batch.section,
        wire.count,
        batch.keys if wire.keys is None else wire.keys,
        batch.offsets if wire.heard is None else wire.heard,
        said,
        batch.began_us,
        wire.wrote,
        wire.later,
        wire.failures,
        wire.skipped,
        wire.took_s,
    )
    return outcome, wire.is_spent


# Frames of the log, as who reads it from afar gets them


class _Frame(msgspec.Struct, array_like=True, gc=False):
    frame: bytes
    removed: dict[str, int] | None


_read_frame = msgspec.msgpack.Decoder(_Frame).decode


def pack_frame(frame: Frame) -> bytes:
    """A frame with all that reading it gives: as bytes of a frame alone it would not say what retention took."""
    if frame.rows is not None:
        frame = msgspec.structs.replace(frame, rows=bare(frame.rows))
    return _encode(_Frame(frames.encode(frame), frame.removed))


def unpack_frame(data: bytes, log_id: str, shard: int, fetch: Fetch) -> Frame:
    """The same frame. `fetch` gets what is large in it."""
    wire = _read_frame(data)
    frame = frames.decode(wire.frame, log_id, shard)
    frame.removed = wire.removed
    if frame.rows is not None:
        frame.rows = whole(frame.rows, fetch)
    return frame


# Publications


class _Publication(msgspec.Struct, array_like=True, gc=False):
    topics: list[str]
    topic_ix: int | list[int]
    keys: list[str]
    data: list[bytes]
    extras: dict[int, dict[str, Any]] | None
    source: str
    token: str | None
    versions: dict[str, int] | None


_read_publication = msgspec.msgpack.Decoder(_Publication).decode


def pack_publication(publication: Publication) -> bytes:
    said = publication.said
    assert publication.place is None, "sources speak where their shard is"
    return _encode(
        _Publication(
            said.topics,
            said.topic_ix if isinstance(said.topic_ix, int) else list(said.topic_ix),
            list(said.keys),
            list(said.data),
            None if said.extras is None else dict(said.extras),
            publication.source,
            publication.token,
            said.versions,
        )
    )


def unpack_publication(data: bytes) -> Publication:
    wire = _read_publication(data)
    said = Said(wire.topics, wire.topic_ix, wire.keys, wire.data, extras=wire.extras, versions=wire.versions)
    return Publication(said, wire.source, token=wire.token)
