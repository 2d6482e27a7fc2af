"""What two logs that share a past say differently since: event by event, and table by table.

Owns the pairing. An event that has the same id on both sides is the same event. The others are paired by what they answer, who
says them, and which of the answers they are; ids say nothing there. Must not know how either log came to be.

    events since then, on the one side  = same + different + gone
    events since then, on the other     = same + different + new
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ensemble.broker.failure import DEAD
from ensemble.broker.state import State
from ensemble.event import Event, Named, Rows, decode
from ensemble.log.base import LogReader, Position
from ensemble.shown import Shown

Kind = Literal["new", "gone", "different"]
Key = tuple[str, str, int]


class Change(msgspec.Struct, frozen=True):
    """An event that is not the same on both sides."""

    kind: Kind
    player: str
    """Who said it; empty: it came from outside, or the band itself says it."""
    was: Event | None
    now: Event | None

    def apart(self) -> tuple[Any, Any]:
        """The data on both sides without what they have in common; None where there is no event."""
        if self.was is None or self.now is None:
            return tuple(None if each is None else each.data for each in (self.was, self.now))  # type: ignore[return-value]
        return _apart(self.was.data, self.now.data)

    @property
    def topic(self) -> str:
        return self._one.topic

    @property
    def key(self) -> str:
        return self._one.key

    @property
    def _one(self) -> Event:
        one = self.now if self.now is not None else self.was
        assert one is not None
        return one


class TableChange(msgspec.Struct, frozen=True):
    """What a player remembers of a key, where it is not the same on both sides; None: nothing."""

    player: str
    key: str
    was: Any
    now: Any

    def apart(self) -> tuple[Any, Any]:
        """Both without what they have in common."""
        return _apart(self.was, self.now)


class Difference(msgspec.Struct, Shown, frozen=True, kw_only=True):
    """All of it. It draws itself in a notebook."""

    same: int
    """Events that are the same on both sides."""
    events: Sequence[Change]
    tables: Sequence[TableChange]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.events or self.tables)

    def counts(self) -> dict[str, dict[Kind, int]]:
        """By player how many events are new, gone and different."""
        found: dict[str, dict[Kind, int]] = {}
        for change in self.events:
            of = found.setdefault(change.player, {"new": 0, "gone": 0, "different": 0})
            of[change.kind] += 1
        return found

    def __repr__(self) -> str:
        told = ", ".join(f"{name or 'from outside'}: {each}" for name, each in self.counts().items())
        return f"Difference({self.same:,} the same; {told or 'no events'}; {len(self.tables):,} keys of tables)"

    def of(self, player: str) -> Difference:
        """What differs in what one player says and remembers."""
        return Difference(
            same=self.same,
            events=[change for change in self.events if change.player == player],
            tables=[change for change in self.tables if change.player == player],
        )


class Parting(msgspec.Struct, frozen=True):
    """One shard of two logs: the same up to a place, and what each is from there on."""

    was: LogReader
    now: LogReader
    states: tuple[State, State]
    """What each adds up to at its end."""
    since: Position
    upto: tuple[Position, Position]


def difference(partings: Sequence[Parting]) -> Difference:
    """What two takes say differently since they parted, shard by shard and from place to place."""
    by_key: dict[Key, Event] = {}
    counts: Counter[tuple[str, str]] = Counter()
    loose: list[Event] = []
    lately: list[Event] = []
    same = 0
    for parting in partings:
        there = _Ids(parting)
        for rows in _rows(parting.now, parting.since, parting.upto[1]):
            there.add(rows)
        here = _Ids(parting)
        for rows in _rows(parting.was, parting.since, parting.upto[0]):
            here.add(rows)
            told, others = _told_of(rows, there)
            same += told - len(others)
            for event in others:
                key = _key(event, {}, counts)
                if key[0]:
                    by_key[key] = event
                else:
                    loose.append(event)
        for rows in _rows(parting.now, parting.since, parting.upto[1]):
            lately += _told_of(rows, here)[1]
    counts.clear()
    renamed: dict[str, str] = {}
    changes: list[tuple[tuple[int, int, int], Change]] = []
    for event in _in_turn(lately):
        at = (event._rows.time_us, event.shard, event.offset)
        key = _key(event, renamed, counts)
        pair = by_key.pop(key, None) if key[0] else None
        if pair is None:
            changes.append((at, Change("new", _player(event), None, event)))
            continue
        renamed[event.id] = pair.id
        if _is_same(pair, event):
            same += 1
        else:
            changes.append((at, Change("different", _player(event), pair, event)))
    changes.sort(key=lambda each: each[0])
    gone = [Change("gone", _player(event), event, None) for event in (*loose, *by_key.values())]
    remembered = [change for parting in partings for change in tables(*parting.states)]
    return Difference(same=same, events=[*(change for _, change in changes), *gone], tables=remembered)


def tables(was: State, now: State) -> list[TableChange]:
    """What the players remember differently."""
    found = []
    for name in dict.fromkeys([*was.sections, *now.sections]):
        before = was.sections[name].table if name in was.sections else {}
        after = now.sections[name].table if name in now.sections else {}
        if before == after:
            continue
        for key in dict.fromkeys([*before, *after]):
            old, new = before.get(key), after.get(key)
            if old != new and (old is None or new is None or decode(old) != decode(new)):
                found.append(TableChange(name, key, *(None if each is None else decode(each) for each in (old, new))))
    return found


def _rows(log: LogReader, since: Position, upto: Position) -> Iterator[Rows]:
    """The rows of a log from one place to another."""
    for frame in log.rows(since.offset):
        if frame.first >= upto.offset:
            return
        assert frame.rows is not None
        yield frame.rows


class _Ids:
    """The ids of events. Those that a log has given, one after the other, take a byte each, and are asked for by the run."""

    def __init__(self, parting: Parting) -> None:
        logs = (parting.was, parting.now)
        self._begin, self._end = parting.since.offset, max(place.offset for place in parting.upto)
        self._runs = {log_id: bytearray() for log in logs for log_id in (log.id, *(before for _, before in log.past))}
        self._names: set[str] = set()

    def add(self, rows: Rows) -> None:
        """Have the ids of these rows, too."""
        odd, (log_id, first) = _odd(rows), rows.numbering
        bits = self._run(log_id, first, len(rows))
        if bits is None:
            odd = range(len(rows))
        else:
            lo = first - self._begin
            before = bytes(bits[lo + ix] for ix in odd)
            bits[lo : lo + len(rows)] = b"\1" * len(rows)
            for ix, bit in zip(odd, before, strict=True):
                bits[lo + ix] = bit
        for ix in odd:
            self._add(rows.id(ix))

    def lacking(self, rows: Rows) -> Sequence[int]:
        """The rows whose ids are not there, ascending."""
        odd, (log_id, first) = _odd(rows), rows.numbering
        bits = self._run(log_id, first, len(rows))
        if bits is None:
            return [ix for ix in range(len(rows)) if not self._has(rows.id(ix))]
        lo = first - self._begin
        run = bits[lo : lo + len(rows)]
        for ix in odd:
            run[ix] = self._has(rows.id(ix))
        return [ix for ix, bit in enumerate(run) if not bit] if run.count(0) else ()

    def _run(self, log_id: str, first: int, count: int) -> bytearray | None:
        """What is known of a log's ids, long enough for these; None: they are kept by name."""
        bits = self._runs.get(log_id)
        if bits is None or first < self._begin or first + count > self._end:
            return None
        lacking = first + count - self._begin - len(bits)
        if lacking > 0:
            bits.extend(bytes(lacking))
        return bits

    def _place(self, id_: str) -> tuple[bytearray, int] | None:
        """Where an id is kept that a log has given; None: by name."""
        prefix, _, digits = id_.rpartition("-")
        if prefix not in self._runs or not digits.isdecimal() or str(int(digits)) != digits:
            return None
        bits = self._run(prefix, int(digits), 1)
        return None if bits is None else (bits, int(digits) - self._begin)

    def _add(self, id_: str) -> None:
        place = self._place(id_)
        if place is None:
            self._names.add(id_)
        else:
            place[0][place[1]] = 1

    def _has(self, id_: str) -> bool:
        place = self._place(id_)
        return id_ in self._names if place is None else bool(place[0][place[1]])


def _odd(rows: Rows) -> Sequence[int]:
    """The rows whose ids may not follow one another as those of the others do."""
    extras = rows.extras
    if extras is None:
        return ()
    return sorted({*extras.own, *extras.more}) if type(extras) is Named else sorted(extras)


def _told_of(rows: Rows, ids: _Ids) -> tuple[int, list[Event]]:
    """How many events of a frame are compared, and those of them whose ids are not among these.

    What the band says of itself is left out, but for its dead letters.
    """
    told = [not topic.startswith("_band.") or topic == DEAD for topic in rows.topics]
    column = rows.topic_ix
    if all(told):
        return len(rows), [rows.event(ix) for ix in ids.lacking(rows)]
    are_told = [told[column if isinstance(column, int) else column[ix]] for ix in range(len(rows))]
    return sum(are_told), [rows.event(ix) for ix in ids.lacking(rows) if are_told[ix]]


def _in_turn(events: Sequence[Event]) -> Iterator[Event]:
    """These events, each after those of them that it answers."""
    here = {event.id for event in events}
    lacking: list[set[str]] = []
    waiting: dict[str, list[int]] = {}
    for ix, event in enumerate(events):
        lacking.append({cause for cause in _causes(event) if cause in here and cause != event.id})
        for cause in lacking[-1]:
            waiting.setdefault(cause, []).append(ix)
    ready = deque(ix for ix, causes in enumerate(lacking) if not causes)
    while ready:
        event = events[ready.popleft()]
        yield event
        for ix in waiting.pop(event.id, ()):
            lacking[ix].discard(event.id)
            if not lacking[ix]:
                ready.append(ix)


def _key(event: Event, renamed: Mapping[str, str], counts: Counter[tuple[str, str]]) -> Key:
    """What it answers, who says it, and which of these answers it is: among those that have no id in common."""
    of = _cause(event, renamed), _player(event)
    counts[of] += 1
    return (*of, counts[of])


def _cause(event: Event, renamed: Mapping[str, str]) -> str:
    """What it answers, by the id of its pair if it has one; of a match, all that it is made of. Empty: nothing."""
    names = [renamed.get(name, name) for name in _causes(event)]
    return " ".join([event.topic, *names]) if event._rows.parts(event._ix) else "".join(names)


def _causes(event: Event) -> list[str]:
    """The ids of what it answers: of one event, of all that a match is made of, or of none."""
    parts = event._rows.parts(event._ix)
    return [event._rows.name(part) for part in parts] if parts else [event.causationid] if event.causationid else []


def _player(event: Event) -> str:
    """Who said it; empty: it came from outside, or the band itself says it."""
    return event.source.rpartition("/")[2] if event.source.count("/") > 1 else ""


def _is_same(was: Event, now: Event) -> bool:
    if (was.topic, was.key) != (now.topic, now.key):
        return False
    if was.payload == now.payload or was.data == now.data:
        return True
    return was.topic == DEAD and _told(was.data) == _told(now.data)


def _apart(was: Any, now: Any) -> tuple[Any, Any]:
    """Two values without what they have in common: of mappings what differs, of lists of one length with … for the rest."""
    if isinstance(was, dict) and isinstance(now, dict):
        both = [(name, *_apart(was[name], now[name])) for name in was if name in now and was[name] != now[name]]
        return (
            {**{name: a for name, a, _ in both}, **{name: value for name, value in was.items() if name not in now}},
            {**{name: b for name, _, b in both}, **{name: value for name, value in now.items() if name not in was}},
        )
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        a, b = [], []
        for before, after in zip(was, now, strict=True):
            if before != after:
                parts = _apart(before, after)
                a.append(parts[0])
                b.append(parts[1])
            elif not a or a[-1] != "…":
                a.append("…")
                b.append("…")
        return a, b
    return was, now


def _told(letter: Mapping[str, Any]) -> dict[str, Any]:
    """What a dead letter says, but for where: lines of code and offsets are others."""
    return {field: value for field, value in letter.items() if field not in ("traceback", "offset")}
