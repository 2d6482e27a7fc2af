"""What of a record became what of the take that follows it: event by event, both ways.

Owns the pairing within a step: what a recorded frame says, and the frames that were made of it. An event has the id of its
pair, unless it came out otherwise; then the two answer the same, and are the same of its answers.

    now(past(o)) = o        for every offset o of the take that has a pair
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ensemble.event import Frame, Named, Ref, Rows, id_at
from ensemble.log.base import LogReader
from ensemble.stage.tape import Tape

Key = tuple[Any, ...]


class Pairs:
    """Of one shard. Before offset `begin` record and take are the same. `names`: id in a take -> that of its pair."""

    def __init__(self, begin: int, record: tuple[LogReader, Tape], take: tuple[LogReader, Tape], names: dict[str, str]) -> None:
        self.begin = begin
        self.names = names
        self.changed: set[int] = set()
        """Offsets in the take of what was said then, too, but otherwise."""
        self._record, self._then_tape = record
        self._take, self._tape = take
        self._there = array("q")
        """Offset in the record, from `begin` on -> in the take; -1: it is not there."""
        self._then = array("q")
        """The other way round."""

    # Places

    def now(self, then: int) -> int:
        """Where the pair of a recorded event lies in the take; -1: nowhere."""
        if then < self.begin:
            return then
        ix = then - self.begin
        return self._there[ix] if ix < len(self._there) else -1

    def all_now(self, offsets: Sequence[int]) -> Sequence[int]:
        """Where the pairs of recorded events lie; those that have none are left out."""
        if isinstance(offsets, range) and offsets.start >= self.begin:
            there = self._there[offsets.start - self.begin : offsets.stop - self.begin]
            if len(there) == len(offsets) and there[0] >= 0:
                run = range(there[0], there[0] + len(there))
                if there == array("q", run):
                    return run
        return [offset for then in offsets if (offset := self.now(then)) >= 0]

    def past(self, offset: int) -> int:
        """Where the pair of an event of the take lies in the record; -1: nowhere."""
        if offset < self.begin:
            return offset
        ix = offset - self.begin
        return self._then[ix] if ix < len(self._then) else -1

    def are_all_paired(self, offsets: range) -> bool:
        """Whether events of the take, from `begin` on, all have pairs."""
        then = self._then[offsets.start - self.begin : offsets.stop - self.begin]
        return len(then) == len(offsets) and not then.count(-1)

    # Names

    def was(self, ref: Ref) -> str:
        """The id of the pair of an event of the take."""
        id_ = ref if isinstance(ref, str) else id_at(self._take.past, self._take.id, ref)
        return self.names.get(id_, id_)

    def all_were(self, refs: Sequence[Ref]) -> list[str]:
        """The same of many."""
        names = self.names
        return [names.get(ref, ref) if type(ref) is str else self.was(ref) for ref in refs]

    def name_then(self, ref: Ref) -> str:
        """The id of a recorded event."""
        return ref if isinstance(ref, str) else id_at(self._record.past, self._record.id, ref)

    def key(self, rows: Rows, ix: int, *, is_here: bool) -> Key:
        """By what an event is known on both sides: what it answers, and who says it; of a match, what it is made of."""
        if parts := rows.parts(ix):
            tape = self._tape if is_here else self._then_tape
            ids = [_id_at(rows, tape, part) for part in parts]
            names = [self.names.get(id_, id_) for id_ in ids] if is_here else ids
            return (*names, rows.topic(ix), rows.keys[ix])
        refs: Sequence[Ref] = [] if rows.causes is None else [rows.causes[ix]]
        named = tuple(self.was(ref) if is_here else self.name_then(ref) for ref in refs)
        return (*named, "", rows.source(ix).rpartition("/")[2])

    # Pairing

    def pair(self, frame: Frame, made: Sequence[Frame]) -> None:
        """Find the pairs of what the frames say that were made of a recorded one."""
        rows = frame.rows
        count = sum(each.count for each in made)
        if rows is None:
            self._then.extend([-1] * count)
            return
        if len(made) == 1 and count == len(rows) and (same := made[0].rows) is not None and _is_in_line(same, rows):
            self._there.extend(range(same.first, same.first + count))
            self._then.extend(range(frame.first, frame.end))
            for ix in same.extras.own if type(same.extras) is Named else ():
                self._change(same.first + ix, rows.id(ix))
            return
        named: dict[tuple[str, str], int] = {}
        others: dict[Key, int] = {}
        counts: Counter[Key] = Counter()
        for each in made:
            if each.rows is not None:
                for ix in range(each.count):
                    key = self.key(each.rows, ix, is_here=True)
                    given = each.rows.given_id(ix)
                    if given is not None:
                        named[given, each.rows.filed(ix)] = each.first + ix
                    else:
                        others[(*key, counts[key])] = each.first + ix
                    counts[key] += 1
        first = made[0].first if made else 0
        then = array("q", [-1] * count)
        counts.clear()
        for ix in range(len(rows)):
            key = self.key(rows, ix, is_here=False)
            id_ = rows.id(ix)
            offset = named.get((id_, rows.filed(ix)), -1)
            if offset < 0:
                offset = others.get((*key, counts[key]), -1)
                if offset >= 0:
                    self._change(offset, id_)
            counts[key] += 1
            self._there.append(offset)
            if offset >= 0:
                then[offset - first] = frame.first + ix
        self._then.extend(then)

    def _change(self, offset: int, id_: str) -> None:
        self.changed.add(offset)
        self.names[id_at(self._take.past, self._take.id, offset)] = id_

    def leave_alone(self, end: int) -> None:
        """What was said up to offset `end` of the take, and was made of no recorded frame, has no pair."""
        self._then.extend([-1] * (end - self.begin - len(self._then)))


def _id_at(rows: Rows, tape: Tape, offset: int) -> str:
    """The id of an event that lies among these rows, or before them."""
    ix = offset - rows.first
    return rows.id(ix) if 0 <= ix < len(rows) else tape.event(offset).id


def _is_in_line(made: Rows, rows: Rows) -> bool:
    """Whether what was made has the ids of recorded rows, one by one, but for what was said in their place otherwise."""
    if type(made.extras) is Named and made.extras.more.keys() <= rows.odd.keys():
        return made.numbering == rows.numbering
    return made.ids() == rows.ids()
