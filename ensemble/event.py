"""Events: immutable facts, as views over the columns in which the log keeps them.

Owns the event, its ids, causes and trace context, their CloudEvents names, and the frame that events are appended in.
Must not know brokers, logs, stages or scores. An `Event` is a row of `Rows`; nothing is decoded or copied until it is
asked for.

Invariants, for row i of `rows`:
    offset(i)        = rows.first + i      (of rows picked out of a frame: as listed)
    id(i)            = the publisher's id if it gave one, else f"{rows.log_id}-{offset(i)}"
    correlationid(i) = id of the event at the root of i's chain; a published event is its own root
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ensemble.errors import InvalidEvent
from ensemble.shown import Shown

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_DAY, LAST_DAY = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
"""Between these a time can be told in any time zone."""

decode = msgspec.msgpack.Decoder().decode
"""Payload bytes to plain Python data (dict, list, str, int, float, bool, None, bytes, datetime)."""

encode = msgspec.msgpack.Encoder().encode
"""Plain Python data, dataclass or Struct to payload bytes. TypeError or OverflowError where it can't."""

UNLIFTED = b"\xc1"
"""How the data begins of an event that could not be lifted to its topic's version: no MessagePack does. The reason follows."""

NESTED_MOST = 200
"""How many levels deep data may be. Decoding takes a level of Python's stack for each, wherever it is decoded."""

_encode_json = msgspec.json.Encoder().encode
_NOT_CONTAINERS = bytes(set(range(256)) - {*range(0x80, 0xA0), *range(0xDC, 0xE0)})
"""All bytes but those with which MessagePack begins an array or a map."""

Ref = int | str
"""How one event points to another: an offset in the same log, or an id where that is not enough."""

Past = tuple[tuple[int, str], ...]
"""The logs that a log goes on from, the oldest first: an offset, and the id of the log in which the events before it lie."""


class Named(Mapping[int, dict[str, Any]]):
    """The extras of rows that have, one after the other, the ids which another log gave its events from an offset on.

    Reads as any other extras do: row -> {as}, and what few rows have beside. Of a replay that is nearly all there is to tell
    of an event, so it is neither made nor written row by row.
    """

    __slots__ = ("count", "first", "log_id", "more", "own")

    def __init__(
        self, log_id: str, first: int, count: int, own: Sequence[int] = (), more: Mapping[int, dict[str, Any]] | None = None
    ) -> None:
        """Row ix has the id of offset `first` + ix there, but for the rows in `own` and those whose id is in `more`."""
        self.log_id = log_id
        self.first = first
        self.count = count
        self.own = frozenset(own)
        self.more: Mapping[int, dict[str, Any]] = more or {}

    def __getitem__(self, ix: int) -> dict[str, Any]:
        more = self.more.get(ix)
        if not 0 <= ix < self.count or (more is None and ix in self.own):
            raise KeyError(ix)
        if more is None:
            return {"as": f"{self.log_id}-{self.first + ix}"}
        return more if ix in self.own or "as" in more or "id" in more else {"as": f"{self.log_id}-{self.first + ix}", **more}

    def __contains__(self, ix: object) -> bool:
        return isinstance(ix, int) and 0 <= ix < self.count and (ix not in self.own or ix in self.more)

    def __iter__(self) -> Iterator[int]:
        return (ix for ix in range(self.count) if ix in self)

    def __len__(self) -> int:
        return self.count - len(self.own - self.more.keys())

    def between(self, lo: int, hi: int) -> Named:
        """The same of rows lo to hi-1."""
        own = [ix - lo for ix in self.own if lo <= ix < hi]
        return Named(self.log_id, self.first + lo, hi - lo, own, _between(self.more, lo, hi))


def _between(extras: Mapping[int, dict[str, Any]], lo: int, hi: int) -> dict[int, dict[str, Any]]:
    return {ix - lo: extra for ix, extra in extras.items() if lo <= ix < hi}


NO_EXTRAS: Mapping[int, dict[str, Any]] = {}


class Rows(msgspec.Struct, gc=False):
    """Events in columns, as one frame holds them.

    Shapes: `keys` and `data` have one entry a row, and so has each other column that is a sequence; where
            `topic_ix` or `source_ix` is an int it stands for every row.
    Units:  `time_us` is the broker's time in microseconds since 1970, UTC, for every row.
    """

    log_id: str
    shard: int
    first: int
    time_us: int
    topics: list[str]
    topic_ix: int | Sequence[int]
    keys: Sequence[str]
    data: Sequence[bytes]
    sources: list[str]
    source_ix: int | Sequence[int]
    causes: Sequence[Ref] | None = None
    """The event that each row was said in answer to; None: every row was published from outside."""
    roots: Sequence[Ref] | None = None
    """The first event of each row's chain; None: every row is its own root."""
    extras: Mapping[int, dict[str, Any]] | None = None
    """What few rows have: row -> {id, source, time_us, traceparent, causationid, correlationid, cause (an offset, or a name)}.

    What was in another log before has the id that it had there (as), and the name that it got there where its id is another
    (born). A copy of what lies in another shard has its place there too (at), and its topic; a match its events (parts).
    A match has the offsets of its parts (causes), and the root of the first (root). What was said in another version than the
    others of its topic has that (version).
    """
    versions: dict[str, int] | None = None
    """Topic -> the version of its schema in which these rows were said, where it is not 1."""
    past: Past = ()
    """Of a take: whose the events are that lie before its own."""

    def __len__(self) -> int:
        return len(self.keys)

    def offset(self, ix: int) -> int:
        return self.first + ix

    def topic(self, ix: int) -> str:
        if self.extras is not None and (given := self.extra(ix, "topic")) is not None:
            return str(given)
        return self.filed(ix)

    def filed(self, ix: int) -> str:
        """The topic under which it lies here: a copy has another as an event."""
        column = self.topic_ix
        return self.topics[column if type(column) is int else column[ix]]  # type: ignore[index]

    def version(self, ix: int) -> int:
        """The version of its topic's schema that a row's data has."""
        if self.extras is not None and (given := self.extra(ix, "version")) is not None:
            return int(given)
        return 1 if self.versions is None else self.versions.get(self.filed(ix), 1)

    def source(self, ix: int) -> str:
        given = self.extra(ix, "source")
        if given is not None:
            return str(given)
        column = self.source_ix
        return self.sources[column if type(column) is int else column[ix]]  # type: ignore[index]

    @property
    def odd(self) -> Mapping[int, dict[str, Any]]:
        """What few rows have beside an id that is one of a run: without going through all of these."""
        extras = self.extras
        return NO_EXTRAS if extras is None else extras.more if type(extras) is Named else extras

    @property
    def numbering(self) -> tuple[str, int]:
        """The log which gave these rows their ids, and the offset of the first there; but for what is odd."""
        extras = self.extras
        return (extras.log_id, extras.first) if type(extras) is Named else (self.log_id, self.first)

    def with_odd(self, odd: Mapping[int, dict[str, Any]]) -> Mapping[int, dict[str, Any]] | None:
        """These extras in place of what is odd; ids that are a run stay."""
        extras = self.extras
        if type(extras) is Named:
            return Named(extras.log_id, extras.first, extras.count, tuple(extras.own), odd)
        return odd or None

    def extra(self, ix: int, name: str) -> Any:
        """What a row has of this name, which is not `as`; None if it has none."""
        if self.extras is None:
            return None
        row = self.odd.get(ix)
        return None if row is None else row.get(name)

    def id(self, ix: int) -> str:
        return self.given_id(ix) or f"{self.log_id}-{self.offset(ix)}"

    def ids(self) -> list[str]:
        """The ids of all rows, in order."""
        n, extras = len(self), self.extras
        if extras is None:
            return _run_of_ids(self.log_id, self.offset(0), n) if type(self) is Rows else [self.id(ix) for ix in range(n)]
        if type(extras) is not Named:
            return [self.id(ix) for ix in range(n)]
        named = _run_of_ids(extras.log_id, extras.first, n)
        for ix in (*extras.own, *extras.more):
            named[ix] = self.id(ix)
        return named

    def given_id(self, ix: int) -> str | None:
        """The id that it had before it came to this log; None if it got its id here."""
        if self.extras is None or ix not in self.extras:
            return None
        extra = self.extras[ix]
        return extra.get("id") or extra.get("as")

    def born(self, ix: int) -> str:
        """The name that it got where it was written first. No other event has it, and it never changes."""
        extra = None if self.extras is None else self.extras.get(ix)
        given = None if extra is None else extra.get("born") or extra.get("as")
        return given or f"{self.log_id}-{self.offset(ix)}"

    def name(self, ref: Ref) -> str:
        """The id that a reference stands for."""
        return ref if isinstance(ref, str) else id_at(self.past, self.log_id, ref)

    def names(self, refs: Sequence[Ref]) -> list[str]:
        """The ids that references of these rows stand for."""
        if isinstance(refs, range) and (not self.past or refs.start >= self.past[-1][0]):
            return _run_of_ids(self.log_id, refs.start, len(refs))
        return [ref if type(ref) is str else self.name(ref) for ref in refs]

    def ref(self, ix: int) -> Ref:
        """How an answer to row ix names it."""
        given = self.given_id(ix)
        return self.offset(ix) if given is None else given

    def refs(self, lo: int, hi: int) -> Sequence[Ref]:
        """How answers name rows lo to hi-1, which lie one after the other."""
        extras = self.extras
        if extras is None:
            return range(self.offset(lo), self.offset(lo) + hi - lo)
        if type(extras) is not Named:
            return [self.ref(ix) for ix in range(lo, hi)]
        named: list[Ref] = [*_run_of_ids(extras.log_id, extras.first + lo, hi - lo)]
        for ix in (*extras.own, *extras.more):
            if lo <= ix < hi:
                named[ix - lo] = self.ref(ix)
        return named

    def root(self, ix: int) -> Ref:
        """What events said in answer to row ix keep as their root."""
        if self.roots is not None:
            return self.roots[ix]
        root: Ref | None = self.extra(ix, "root")
        if root is not None:
            return root
        return self.extra(ix, "correlationid") or self.given_id(ix) or self.offset(ix)

    def parts(self, ix: int) -> Sequence[int]:
        """The offsets of the events that a match is made of; none for any other event."""
        extra = self.odd.get(ix)
        offsets: Sequence[int] = () if extra is None else extra.get("causes", ())
        return offsets

    def event(self, ix: int) -> Event:
        return Event(self, ix)

    def between(self, lo: int, hi: int) -> Rows:
        """Rows lo to hi-1, as rows of their own."""
        if lo == 0 and hi == len(self):
            return self
        return Rows(
            self.log_id,
            self.shard,
            self.first + lo,
            self.time_us,
            self.topics,
            self.topic_ix if isinstance(self.topic_ix, int) else self.topic_ix[lo:hi],
            self.keys[lo:hi],
            self.data[lo:hi],
            self.sources,
            self.source_ix if isinstance(self.source_ix, int) else self.source_ix[lo:hi],
            None if self.causes is None else self.causes[lo:hi],
            None if self.roots is None else self.roots[lo:hi],
            self.extras.between(lo, hi) if type(self.extras) is Named else _between(self.odd, lo, hi) or None,
            self.versions,
            self.past,
        )

    def pick(self, ixs: Sequence[int]) -> Picked:
        """These rows, ascending, as rows of their own; each keeps its offset."""
        extras = self.extras
        return Picked(
            self.log_id,
            self.shard,
            self.first,
            self.time_us,
            self.topics,
            self.topic_ix if isinstance(self.topic_ix, int) else [self.topic_ix[ix] for ix in ixs],
            [self.keys[ix] for ix in ixs],
            [self.data[ix] for ix in ixs],
            self.sources,
            self.source_ix if isinstance(self.source_ix, int) else [self.source_ix[ix] for ix in ixs],
            None if self.causes is None else [self.causes[ix] for ix in ixs],
            None if self.roots is None else [self.roots[ix] for ix in ixs],
            None if extras is None else {new: extras[ix] for new, ix in enumerate(ixs) if ix in extras} or None,
            self.versions,
            self.past,
            offsets=[self.offset(ix) for ix in ixs],
        )


def _run_of_ids(log_id: str, first: int, count: int) -> list[str]:
    """The ids that a log gives events which lie one after the other."""
    begin = f"{log_id}-"
    return [f"{begin}{offset}" for offset in range(first, first + count)]


def id_at(past: Past, log_id: str, offset: int) -> str:
    """The id that the log gave the event at an offset: this log, or that of its past in which it lies."""
    return f"{written_in(past, log_id, offset)[0]}-{offset}"


def written_in(past: Past, log_id: str, offset: int) -> tuple[str, Past]:
    """The log that wrote the event at an offset, this one or one of its past, and the past that it has itself."""
    for ix, (end, before) in enumerate(past):
        if offset < end:
            return before, past[:ix]
    return log_id, past


class Picked(Rows, gc=False):
    """Rows with gaps between them: what was picked out of a frame for one listener."""

    offsets: Sequence[int] = ()

    def offset(self, ix: int) -> int:
        return self.offsets[ix]


class Event(msgspec.Struct, Shown, gc=False, eq=False):
    """What a player hears. Made by the band; tests make one with `ensemble.testing.event(topic, data)`.

    `data` is decoded when first asked for, and each listener gets a copy of its own.
    """

    _rows: Rows
    _ix: int
    _data: Any = msgspec.UNSET

    @property
    def id(self) -> str:
        return self._rows.id(self._ix)

    @property
    def topic(self) -> str:
        return self._rows.topic(self._ix)

    @property
    def key(self) -> str:
        return self._rows.keys[self._ix]

    @property
    def data(self) -> Any:
        data = self._data
        if data is msgspec.UNSET:
            payload = self._rows.data[self._ix]
            try:
                data = self._data = decode(payload)
            except msgspec.DecodeError:
                if (why := unlifted_why(payload)) is None:
                    raise
                raise InvalidEvent(why) from None
        return data

    @property
    def version(self) -> int:
        """The version of its topic's schema that `data` has: players see the score's, readers that in which it was said."""
        return self._rows.version(self._ix)

    @property
    def payload(self) -> bytes:
        """The data as MessagePack, not decoded: as it stands in the log, or as it was lifted for a player."""
        return self._rows.data[self._ix]

    @property
    def time(self) -> datetime:
        """When it happened, as its publisher said, else when the broker wrote it. UTC."""
        time_us = self._rows.extra(self._ix, "time_us")
        return EPOCH + timedelta(microseconds=self._rows.time_us if time_us is None else time_us)

    @property
    def written_at(self) -> datetime:
        """When the broker wrote it. UTC."""
        return EPOCH + timedelta(microseconds=self._rows.time_us)

    @property
    def shard(self) -> int:
        return self._rows.shard

    @property
    def offset(self) -> int:
        return self._rows.offset(self._ix)

    @property
    def source(self) -> str:
        """Who said it: a path, `/band/player`, or `/band` for what was published from outside."""
        return self._rows.source(self._ix)

    @property
    def causationid(self) -> str | None:
        """The id of the event that it answers; None for what was published from outside."""
        rows = self._rows
        if rows.causes is not None:
            return rows.name(rows.causes[self._ix])
        parts = rows.parts(self._ix)
        if parts:
            return rows.name(parts[-1])
        given: str | None = rows.extra(self._ix, "causationid")
        return given

    @property
    def correlationid(self) -> str:
        """The id of the first event of its chain; its own where it began one."""
        return self._rows.name(self._rows.root(self._ix))

    @property
    def forgotten(self) -> bool:
        """Whether something of its data can't be read any more, since whoever it was about was forgotten."""
        return self._rows.extra(self._ix, "forgotten") is not None

    @property
    def traceparent(self) -> str:
        """W3C trace context. A chain shares the trace id; the span id is the event's own."""
        given = self._rows.extra(self._ix, "traceparent")
        trace = given.split("-")[1] if given else digest(self.correlationid, 16)
        return f"00-{trace}-{digest(self.id, 8)}-01"

    def cloudevent(self) -> dict[str, Any]:
        """The event as a CloudEvent 1.0 in its JSON form."""
        out: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.topic,
            "subject": self.key,
            "time": rfc3339(self.time),
            "datacontenttype": "application/json",
            "partitionkey": self.key,
            "sequence": f"{self.offset:020d}",
            "correlationid": self.correlationid,
            "traceparent": self.traceparent,
            "data": msgspec.to_builtins(self.data),
        }
        if not self.key:  # CloudEvents allows no empty attribute
            del out["subject"], out["partitionkey"]
        if self.causationid is not None:
            out["causationid"] = self.causationid
        if self.version != 1:
            out["dataschema"] = f"ensemble:{self.topic}:{self.version}"
        return out

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self.id == other.id

    def __ne__(self, other: object) -> bool:
        # Spelled out: a Struct's own says that any two are unequal.
        return not self == other

    def __hash__(self) -> int:
        return hash(self.id)

    def view(self) -> Event:
        """The same event, its data decoded anew: what one listener does to it is not seen by another."""
        return Event(self._rows, self._ix)

    def __reduce__(self) -> Any:
        """Pickled, it leaves the other rows of its frame behind."""
        return Event, (self._rows.pick([self._ix]), 0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.topic!r}, key={self.key!r}, data={self.data!r}, id={self.id!r})"


class Match(Event, gc=False, eq=False):
    """A motif that was heard: the event that tells of it, with the events that it is made of."""

    _parts: Sequence[Event] | Callable[[Sequence[int]], Sequence[Event]] = ()
    """These events, or what finds them."""

    @property
    def events(self) -> list[Event]:
        """The events that it is made of, in the order of the log."""
        if callable(self._parts):
            self._parts = self._parts(self._rows.parts(self._ix))
        return list(self._parts)

    @property
    def labels(self) -> dict[str, Event | list[Event]]:
        """What the motif gave a label (`as:`), as far as it came: an event, or a list where several may have it."""
        found = {event.offset: event for event in self.events}
        return {
            label: [found[each] for each in at] if isinstance(at, list) else found[at]
            for label, at in decode(self.payload).get("labels", {}).items()
        }

    def __getitem__(self, label: str) -> Any:
        """The event with a label, or the list of those that have it. KeyError where the match has none."""
        labels = self.labels
        if label not in labels:
            raise KeyError(f"the match {self.topic} has no event {label!r}; it has {', '.join(labels) or 'no labels'}")
        return labels[label]

    def __contains__(self, label: object) -> bool:
        return label in self.labels

    def view(self) -> Match:
        parts = self._parts
        return Match(self._rows, self._ix, msgspec.UNSET, parts if callable(parts) else [part.view() for part in parts])

    def __reduce__(self) -> Any:
        return Match, (self._rows.pick([self._ix]), 0, msgspec.UNSET, self.events)


def brought_along(rows: Rows, ix: int) -> list[Event]:
    """The events that a match of another shard is made of, which came along with its copy; none for any other row."""
    return [
        Rows(
            rows.log_id, own["at"][0], offset, time_us, [own["topic"]], 0, [key], [payload], [own["source"]], 0, extras={0: own}
        ).event(0)
        for offset, time_us, key, payload, own in rows.extra(ix, "parts") or ()
    ]  # fmt: skip


REMOVED = "_band.removed"
"""The topic under which a row reads that retention took: its place stays, with an empty key and None as data."""


class Frame(msgspec.Struct):
    """One atomic append: the events said in one step, and everything else that changed with them.

    `marks` are the changes of the broker's state by name (see docs/broker.md); they are plain MessagePack
    data to the log. `epoch`, `seq` and `prev` are set when the log seals the frame.
    """

    first: int
    time_us: int
    rows: Rows | None
    marks: dict[str, Any]
    epoch: int = 0
    seq: int = 0
    prev: bytes = bytes(32)
    removed: dict[str, int] | None = None
    """Topic -> how many of its rows retention took; these read as rows of the topic REMOVED."""

    @property
    def count(self) -> int:
        return 0 if self.rows is None else len(self.rows)

    @property
    def end(self) -> int:
        """The offset of the first event after this frame."""
        return self.first + self.count


class Emission(msgspec.Struct, gc=False, frozen=True):
    """What `emit` makes: an event that a player wants said. The broker gives it its id and its cause."""

    topic: str
    data: Any
    key: str | None = None
    after: str | float | None = None


def emit(
    topic: str, data: Any = None, /, *, key: str | None = None, after: str | float | None = None, **fields: Any
) -> Emission:
    """An event to say, returned or yielded by a player.

    Shapes: its data is `data`, or the keyword `fields` as a mapping; both together are a TypeError, unless data is
            a mapping, which the fields then extend.
    Units:  `after` is a duration ("5m") or seconds: said that much later, by a timer that survives restarts.
    It keeps the key of the event that caused it unless `key` says otherwise.
    """
    if fields:
        if data is None:
            return Emission(topic, fields, key, after)
        if not isinstance(data, Mapping):
            raise TypeError(f"emit({topic!r}, ...): data {data!r} is not a mapping, so fields can't be added to it")
        return Emission(topic, {**data, **fields}, key, after)
    return Emission(topic, data, key, after)


class Receipt(msgspec.Struct, frozen=True):
    """Proof that an event is durable: where it lies in the log."""

    id: str
    shard: int
    offset: int


def digest(text: str, size: int) -> str:
    """A stable hash of a text as 2*size hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()


def unlifted(why: str) -> bytes:
    """What stands for the data of an event that can't be lifted: whoever looks at it gets an InvalidEvent that says why."""
    return UNLIFTED + writable(why).encode()


def unlifted_why(payload: bytes) -> str | None:
    """Why an event could not be lifted, by what stands for its data; None: it is data."""
    return str(payload[1:], "utf-8") if payload[:1] == UNLIFTED else None


def is_utf8(text: str) -> bool:
    """Whether a text can be written: half a surrogate pair can't."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def writable(text: str) -> str:
    """A text as it can be written: what has no UTF-8 is escaped."""
    return text if is_utf8(text) else text.encode(errors="backslashreplace").decode()


def payload_of(data: Any) -> bytes:
    """Data as a payload that everybody can decode.

    Errors: TypeError, OverflowError, ValueError or RecursionError where there is none.
    """
    if type(data) is not dict and hasattr(data, "model_dump"):  # pydantic's
        data = data.model_dump(mode="json")
    payload = encode(data)
    try:
        _encode_json(data)  # which takes plain keys only, and is quicker than decoding
    except Exception:
        try:
            decode(payload)
        except msgspec.DecodeError as error:
            raise ValueError(f"it could not be read again ({error})") from error
    if len(payload) > NESTED_MOST:
        refuse_deep(payload)
    return payload


def refuse_deep(payload: bytes) -> None:
    """Nothing, if it is nested no more than NESTED_MOST levels deep. ValueError."""
    if len(payload.translate(None, _NOT_CONTAINERS)) > NESTED_MOST and _is_deep(payload):
        raise ValueError(f"it is nested more than {NESTED_MOST} levels deep")


def _is_deep(payload: bytes) -> bool:
    level = [decode(payload)]
    for _ in range(NESTED_MOST + 1):
        within = [list(each.values()) if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))]
        if not within:
            return False
        level = [each for some in within for each in some]
    return True


def rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def microseconds(time: datetime | str) -> int:
    """A time (aware datetime, or RFC 3339 text) as microseconds since 1970.

    Errors: InvalidEvent if it is no such time.
    """
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError as error:
            raise InvalidEvent(f"time {time!r} is not RFC 3339; write it as 2011-11-01T08:16:00Z") from error
    if time.tzinfo is None:
        raise InvalidEvent(f"time {time.isoformat()!r} has no time zone; add Z or an offset such as +01:00")
    if not FIRST_DAY < time < LAST_DAY:
        raise InvalidEvent(f"time {time.isoformat()!r} is beyond the calendar in UTC; it lies between the years 1 and 9999")
    return (time - EPOCH) // timedelta(microseconds=1)
