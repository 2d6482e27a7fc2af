"""Which ids what is said in a take gets: that of the record where it is what it was then, else its own.

Owns that rule, for what is heard, what comes from other shards, timers and matches. What is the pair of what, `pairs.py` tells.

    id(p) = id(e)    if p is paired with e, and topic, key and data are the same
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ensemble.broker.outbox import Parcel, shard_of
from ensemble.broker.words import Outcome, Said
from ensemble.event import NO_EXTRAS, Frame, Named, Ref, Rows
from ensemble.replay.pairs import Pairs
from ensemble.replay.record import Answer, Heard, said_by


class Identities:
    """Of a shard of a take that is being made. What keeps an id has it among its extras."""

    def __init__(self, pairs: Pairs, shard: int, shards: int) -> None:
        self._pairs = pairs
        self._shard = shard
        self._shards = shards

    def home(self, topic: str, key: str) -> int:
        """The shard in which an event belongs."""
        return self._shard if topic.startswith("_band.") else shard_of(key, self._shards)

    def said_again(self, rows: Rows, causes: Sequence[Ref] | None = None, roots: Sequence[Ref] | None = None) -> Said:
        """Recorded rows as what is said now, with the ids that they had."""
        odd = {ix: self.own(rows, ix) for ix in rows.odd}
        named = self._in_line(rows, odd=odd)
        return Said(list(rows.topics), rows.topic_ix, list(rows.keys), list(rows.data), causes, roots, named, rows.versions)

    def _in_line(self, rows: Rows, own: Sequence[int] = (), odd: Mapping[int, dict[str, Any]] = NO_EXTRAS) -> Named:
        """The extras of what is said in line with recorded rows: their ids, but for `own`, and what is `odd` about it."""
        extras, more = rows.extras, dict(odd)
        log_id, first = rows.numbering
        elsewhere = (*rows.odd, *extras.own) if type(extras) is Named else rows.odd
        for ix in set(elsewhere).difference(own):
            more[ix] = {**more.get(ix, {}), **_identity(more.get(ix, {}), rows.id(ix), rows.born(ix))}
        return Named(log_id, first, len(rows), own, more)

    def own(self, rows: Rows, ix: int) -> dict[str, Any]:
        """What a recorded row has of its own, in the take: its id, too."""
        own = dict((rows.extras or {}).get(ix, {}))
        if isinstance(own.get("cause"), int):
            own["cause"] = rows.name(own["cause"])
        return {**own, **_identity(own, rows.id(ix), rows.born(ix))}

    def keep_in_line(self, outcomes: Sequence[Outcome], frame: Frame, heard: Heard) -> bool | None:
        """The same as `keep` where each answer answers what the one in its place did then; None, and nothing, if not.

        That is the rule, and here it is told of whole columns.
        """
        rows, name = frame.rows, heard.batch.section
        made = [outcome.said for outcome in outcomes if outcome.said is not None and len(outcome.said)]
        if heard.failed or "out" in frame.marks or any(outcome.failures for outcome in outcomes):
            return None
        if rows is None:
            return None if made else True
        if len(made) != 1 or rows.causes is None or not isinstance(rows.source_ix, int) or not all(said_by(rows, name)):
            return None
        [said] = made
        if len(said) != len(rows) or said.causes is None:
            return None
        if self._pairs.all_were(said.causes) != rows.names(rows.causes):
            return None
        if self._shards > 1 and any(self.home(topic, key) != self._shard for topic, key in _words(said)):
            return None
        own: Sequence[int] = ()
        topics, then = _topics(said), _topics(rows)
        if said.data != rows.data or said.keys != rows.keys or topics != then:
            columns = zip(said.data, rows.data, said.keys, rows.keys, topics, then, strict=True)
            own = [ix for ix, (a, b, c, d, e, f) in enumerate(columns) if a != b or c != d or e != f]
        said.extras = self._in_line(rows, own, said.odd)
        return not own

    def keep(self, outcomes: Sequence[Outcome], then: Sequence[Answer]) -> bool:
        """Give what is said as it was then the id that it had then. Whether that is all that is said, and all that was."""
        counts: Counter[tuple[str, int]] = Counter()
        before: dict[tuple[str, int], list[Answer]] = {}
        for each in then:
            before.setdefault((each.cause, each.home), []).append(each)
        kept = 0
        for said in (outcome.said for outcome in outcomes):
            if said is not None and said.causes is not None:
                kept += self._keep_of(said, before, counts)
        return kept == len(then) == counts.total()

    def _keep_of(
        self, said: Said, before: Mapping[tuple[str, int], Sequence[Answer]], counts: Counter[tuple[str, int]]
    ) -> int:
        kept = 0
        extras = dict(said.extras or {})
        for row, ((topic, key), ref) in enumerate(zip(_words(said), said.causes or (), strict=True)):
            place = self._pairs.was(ref), self.home(topic, key)
            known, number = before.get(place, ()), counts[place]
            counts[place] = number + 1
            if number < len(known):
                was = known[number]
                if (was.topic, was.key, was.data) == (topic, key, said.data[row]):
                    kept += 1
                    if was.id:  # else it gets it where it arrives
                        extras[row] = {**extras.get(row, {}), **_identity({}, was.id, was.born)}
        said.extras = extras or None
        return kept

    def keep_of_parcels(self, parcels: Sequence[Parcel], then: Rows) -> list[Parcel]:
        """Parcels as they arrive, when these rows did then; what is the same as then has the id that it got there."""
        before: dict[Any, list[int]] = {}
        for ix in range(len(then)):
            before.setdefault(self._pairs.key(then, ix, is_here=False), []).append(ix)
        counts: Counter[Any] = Counter()
        named = []
        for parcel in parcels:
            extras = dict(parcel.extras or {})
            for row in range(len(parcel)):
                own = extras.get(row, {})
                if "as" in own:  # a copy
                    continue
                causes = () if parcel.causes is None else (self._pairs.was(parcel.causes[row]),)
                key = (*causes, "", str(own.get("source", parcel.source)).rpartition("/")[2])
                known, number = before.get(key, ()), counts[key]
                counts[key] += 1
                if number < len(known):
                    ix, word = known[number], (parcel.topic(row), parcel.keys[row], parcel.data[row])
                    if (then.filed(ix), then.keys[ix], then.data[ix]) == word:
                        extras[row] = {**own, **_identity(own, then.id(ix), then.born(ix))}
            named.append(msgspec.structs.replace(parcel, extras=extras or None))
        return named

    def keep_of_timers(self, rows: Rows, then: Rows) -> None:
        """What a timer says as it did then is what it was, and keeps its id."""
        before: dict[Any, list[int]] = {}
        for ix in range(len(then)):
            if not then.parts(ix):
                word = then.filed(ix), then.keys[ix], then.data[ix]
                before.setdefault((self._pairs.key(then, ix, is_here=False), word), []).append(ix)
        same: dict[int, dict[str, Any]] = {}
        for ix in range(len(rows)):
            word = rows.filed(ix), rows.keys[ix], rows.data[ix]
            known = () if rows.parts(ix) else before.get((self._pairs.key(rows, ix, is_here=True), word))
            if known:
                was, own = known.pop(0), rows.odd.get(ix, {})
                same[ix] = {**own, **_identity(own, then.id(was), then.born(was))}
        if same:
            rows.extras = {**(rows.extras or {}), **same}

    def keep_of_matches(self, rows: Rows, recorded: Rows) -> None:
        """A match of the same events is what it was, and keeps its id."""
        if recorded.extras is None or rows.extras is None:
            return
        then = {self._pairs.key(recorded, ix, is_here=False): recorded.id(ix) for ix in recorded.odd if recorded.parts(ix)}
        same = {
            ix: {**extra, "as": id_}
            for ix, extra in rows.odd.items()
            if rows.parts(ix) and (id_ := then.get(self._pairs.key(rows, ix, is_here=True))) is not None
        }
        if same:
            rows.extras = {**(rows.extras or {}), **same}


def _topics(column: Said | Rows) -> list[str]:
    """The topic of each row, as it is filed."""
    topics, ix = column.topics, column.topic_ix
    return [topics[ix]] * len(column) if isinstance(ix, int) else [topics[each] for each in ix]


def _words(said: Said) -> list[tuple[str, str]]:
    """The topic and key of each."""
    return list(zip(_topics(said), said.keys, strict=True))


def _identity(own: Mapping[str, Any], id_: str, born: str) -> dict[str, Any]:
    """What a row needs to have this id in another log, beside what it has of its own."""
    named = {} if "id" in own or "as" in own else {"as": id_}
    return named if born == id_ else {**named, "born": born}
