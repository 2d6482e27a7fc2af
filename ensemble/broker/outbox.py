"""What one shard has for another, and how it gets there exactly once.

Owns the parcel, which is how events travel between shards, and the questions of whose an event is. What leaves a shard lies in
its own log first (mark `out`, in the frame of what it came of) and stays in `State.outbox` until the other shard has it; the
other takes parcels by their numbers, and records up to where (mark `in`) in the frame that holds their events.

Invariants, for a shard a with parcels to b:
    the numbers of a's parcels to b have no gap
    b.inbox[a] = number of a's first parcel that b does not have
    a.outbox[b].first <= b.inbox[a] <= a.outbox[b].next
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import msgspec

from ensemble.broker.words import Publication, Said
from ensemble.event import Event, Match, Past, Ref, Rows, id_at
from ensemble.motif import matches

FORWARDED = "_band.by."
"""What begins the topic of a copy that is there for one section: of an event of a key that another shard has."""


def shard_of(key: str, shards: int) -> int:
    """The shard that a key belongs to. Never to change: what is in a log lies where this says."""
    return crc32(key.encode()) % shards if shards > 1 else 0


def forwarded_topic(section: str) -> str:
    return FORWARDED + section


def listens(pattern: str, topic: str) -> bool:
    """Whether a pattern asks for a topic. Copies are for one section: no other asks for them, whatever its pattern."""
    return pattern == topic if topic.startswith(FORWARDED) else matches(pattern, topic)


class Parcel(msgspec.Struct, array_like=True, gc=False):
    """Events of one source on their way to another shard, in columns as in `Said`; what they point to has its id."""

    source: str
    topics: list[str]
    topic_ix: int | list[int]
    keys: list[str]
    data: list[bytes]
    causes: list[str] | None = None
    roots: list[str] | None = None
    extras: dict[int, dict[str, Any]] | None = None
    versions: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(cls, entry: Any) -> Parcel:
        """A parcel as it stands in a mark: as such in a frame that was made here, as a list in one that was read."""
        return entry if isinstance(entry, Parcel) else msgspec.convert(entry, Parcel)

    @property
    def size(self) -> int:
        """Bytes that it takes up, about."""
        return sum(map(len, self.data)) + 60 * len(self.keys)

    def topic(self, row: int) -> str:
        """The topic of one of its events."""
        ix = self.topic_ix
        return self.topics[ix if isinstance(ix, int) else ix[row]]

    def publication(self) -> Publication:
        """Its events, to be said where it has arrived."""
        return Publication(
            Said(self.topics, self.topic_ix, self.keys, self.data, self.causes, self.roots, self.extras, self.versions),
            self.source,
        )


class Outbox(msgspec.Struct):
    """What is on its way to one shard."""

    next: int = 0
    """The number of the next parcel."""
    parcels: dict[int, Parcel] = {}
    """Those that may not have arrived yet, by number."""


def split(said: Said, shard: int, shards: int) -> tuple[Said | None, dict[int, Said], Sequence[int] | None]:
    """What of it belongs to this shard, what to others, and where each event goes; None: all of it stays.

    What the band itself says stays where it is said.
    """
    if shards == 1:
        return said, {}, None
    homes = [crc32(key.encode()) % shards for key in said.keys]
    ours = [topic.startswith("_band.") for topic in said.topics]
    if any(ours):
        ix = said.topic_ix
        homes = [shard if ours[ix if isinstance(ix, int) else ix[row]] else home for row, home in enumerate(homes)]
    if all(home == shard for home in homes):
        return said, {}, None
    rows: dict[int, list[int]] = {}
    for row, home in enumerate(homes):
        rows.setdefault(home, []).append(row)
    parts = {home: said.pick(chosen) for home, chosen in rows.items()}
    return parts.pop(shard, None), parts, homes


def parcel(said: Said, source: str, log_id: str, past: Past = ()) -> Parcel:
    """Events that were said in one log, or take, to be said in another. `past` as in `Rows`."""
    extras = None
    if said.extras:
        extras = {row: _named(extra, log_id, past) for row, extra in said.extras.items()}
    ix = said.topic_ix
    return Parcel(
        source,
        list(said.topics),
        ix if isinstance(ix, int) else list(ix),
        list(said.keys),
        list(said.data),
        _names(said.causes, log_id, past),
        _names(said.roots, log_id, past),
        extras,
        said.versions,
    )


def _names(refs: Sequence[Ref] | None, log_id: str, past: Past) -> list[str] | None:
    return None if refs is None else [ref if isinstance(ref, str) else id_at(past, log_id, ref) for ref in refs]


def _named(extra: dict[str, Any], log_id: str, past: Past) -> dict[str, Any]:
    """What a row has of its own, for another log: an offset there means nothing."""
    cause = extra.get("cause")
    return {**extra, "cause": id_at(past, log_id, cause)} if isinstance(cause, int) else extra


def copies(
    events: Sequence[Event],
    section: str,
    source: str,
    tried: Mapping[int, tuple[int, int]],
    letters: Mapping[int, Event],
) -> Parcel:
    """Events as a section of another shard hears them: each with all that it had where it was said.

    Shapes: `tried` has the attempts at some so far, `letters` what tells of those that are held; both by their offsets here.
    """
    return Parcel(
        source,
        [forwarded_topic(section)],
        0,
        [event.key for event in events],
        [event.payload for event in events],
        extras={
            row: {**_identity(event), **_plight(event, tried.get(event.offset), letters.get(event.offset))}
            for row, event in enumerate(events)
        },
    )


def _plight(event: Event, tried: tuple[int, int] | None, letter: Event | None) -> dict[str, Any]:
    """How far an event's section has come with it."""
    if letter is not None:
        own = letter._rows.extra(letter._ix, "letter")  # it was held as a copy before
        return {"letter": own or [letter.payload, letter._rows.time_us, letter.shard, letter.offset]}
    return {} if tried is None else {"tried": list(tried)}


def _identity(event: Event) -> dict[str, Any]:
    rows, ix = event._rows, event._ix
    time_us = rows.extra(ix, "time_us")
    same: dict[str, Any] = {
        "as": event.id,
        "at": rows.extra(ix, "at") or [event.shard, event.offset],
        "topic": event.topic,
        "time_us": rows.time_us if time_us is None else time_us,
        "source": event.source,
        "correlationid": event.correlationid,
    }
    if event.version != 1:
        same["version"] = event.version
    if event.causationid is not None:
        same["causationid"] = event.causationid
    if (born := rows.born(ix)) != event.id:
        same["born"] = born
    if isinstance(event, Match):  # they lie here, and whoever hears it there can't look them up
        same["parts"] = [
            [part.offset, part._rows.time_us, part.key, part.payload, _identity(part.view())] for part in event.events
        ]
    given = rows.extra(ix, "traceparent")
    return {**same, "traceparent": given} if given else same


def is_copy(rows: Rows, ix: int) -> bool:
    """Whether a row is there for one section only, and the event itself lies in another shard."""
    return rows.filed(ix).startswith(FORWARDED)


def sizes(outboxes: Mapping[int, Outbox]) -> int:
    """Bytes that are on their way."""
    return sum(each.size for box in outboxes.values() for each in box.parcels.values())
