"""What two logs that share a past say differently since: event by event, and table by table.

Owns the pairing. An event that has the same id on both sides is the same event. The others are paired by what they answer, who
says them, and which of the answers they are; ids say nothing there. Must not know how either log came to be.

    events since then, on the one side  = same + different + gone
    events since then, on the other     = same + different + new
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ensemble.broker.failure import DEAD
from ensemble.broker.state import State
from ensemble.event import Event, Rows, decode
from ensemble.log.base import LogReader, Position
from ensemble.replay.record import ids
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


def difference(
    was: LogReader, now: LogReader, states: tuple[State, State], since: Position, upto: tuple[Position, Position]
) -> Difference:
    """What two logs that are the same before frame `since` say differently from there to `upto`, each to its own.

    Shapes: `states` is what each adds up to there.
    """
    shared = {id_ for rows in _rows(now, since, upto[1]) for id_ in ids(rows)}
    kept: set[str] = set()
    by_key: dict[Key, Event] = {}
    counts: Counter[tuple[str, str]] = Counter()
    loose: list[Event] = []
    for event in _others(was, since, upto[0], shared, kept):
        key = _key(event, {}, counts)
        if key[0]:
            by_key[key] = event
        else:
            loose.append(event)
    same = len(kept)
    counts.clear()
    renamed: dict[str, str] = {}
    changes: list[Change] = []
    for event in _others(now, since, upto[1], kept, set()):
        key = _key(event, renamed, counts)
        pair = by_key.pop(key, None) if key[0] else None
        if pair is None:
            changes.append(Change("new", _player(event), None, event))
            continue
        renamed[event.id] = pair.id
        if _is_same(pair, event):
            same += 1
        else:
            changes.append(Change("different", _player(event), pair, event))
    changes += [Change("gone", _player(event), event, None) for event in (*loose, *by_key.values())]
    return Difference(same=same, events=changes, tables=tables(*states))


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


def _others(log: LogReader, since: Position, upto: Position, shared: set[str], kept: set[str]) -> Iterator[Event]:
    """The events whose ids are not shared; those that are go to `kept`.

    What the band says of itself is left out, but for its dead letters.
    """
    for rows in _rows(log, since, upto):
        told = [not topic.startswith("_band.") or topic == DEAD for topic in rows.topics]
        column = rows.topic_ix
        for ix, id_ in enumerate(ids(rows)):
            if told[column if isinstance(column, int) else column[ix]]:
                if id_ in shared:
                    kept.add(id_)
                else:
                    yield rows.event(ix)


def _key(event: Event, renamed: Mapping[str, str], counts: Counter[tuple[str, str]]) -> Key:
    """What it answers, who says it, and which of these answers it is: among those that have no id in common."""
    of = _cause(event, renamed), _player(event)
    counts[of] += 1
    return (*of, counts[of])


def _cause(event: Event, renamed: Mapping[str, str]) -> str:
    """What it answers, by the id of its pair if it has one; of a match, all that it is made of. Empty: nothing."""
    parts = event._rows.parts(event._ix)
    if parts:
        names = [event._rows.name(part) for part in parts]
        return " ".join([event.topic, *(renamed.get(name, name) for name in names)])
    cause = event.causationid or ""
    return renamed.get(cause, cause)


def _player(event: Event) -> str:
    """Who said it; empty: it came from outside, or the band itself says it."""
    return event.source.rpartition("/")[2] if event.source.count("/") > 1 else ""


def _is_same(was: Event, now: Event) -> bool:
    if (was.topic, was.key) != (now.topic, now.key):
        return False
    if was.payload == now.payload or was.data == now.data:
        return True
    return was.topic == DEAD and _told(was.data) == _told(now.data)


def _told(letter: Mapping[str, Any]) -> dict[str, Any]:
    """What a dead letter says, but for where: lines of code and offsets are others."""
    return {field: value for field, value in letter.items() if field not in ("traceback", "offset")}
