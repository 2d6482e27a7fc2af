"""All motifs of several events that a shard listens for, and how far each has come.

Owns how a match becomes an event: a row of the frame that completed it. A motif is *live* when it hears each frame as it is
made; one that is new, or was away, first catches up with the log, and what it hears there is said in frames of its own.

What a motif hears is a function of the frames that it was fed, so nothing of its progress is recorded but where it is: after a
crash it is fed the frames since its partial matches were last kept, silently, and is where it was.

Invariants:
    a frame holds the matches of every live motif that its events, and its time, complete
    fed(motif) = [.., state.end)  if it is live, else  [.., state.motifs[name].position)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ensemble.broker.matching.matcher import Match, Matcher
from ensemble.broker.matching.pattern import Pattern
from ensemble.broker.matching.reorder import Reordered
from ensemble.broker.state import MotifState, State
from ensemble.broker.words import Motive
from ensemble.event import Frame, Ref, Rows, encode
from ensemble.motif import document

OVERFLOW = "_band.motif.overflow"
"""The topic of the event that tells that a motif had too many partial matches."""
LATE = "_band.motif.late"
"""The topic of the event that tells that events came too late for a motif that goes by their own time."""
CAUGHT_UP_MOST = 4096
"""Events that a motif which trails is fed in one turn, at the least."""


Lift = Callable[[str, bytes, int], tuple[bytes, int]]
"""Topic, data and version -> data and version."""


class Ear:
    """One motif, listened for."""

    def __init__(self, name: str, topic: str, pattern: Pattern) -> None:
        self.name, self.topic, self.pattern = name, topic, pattern
        self.matcher: Matcher | Reordered = Reordered(pattern) if pattern.how.time == "event" else Matcher(pattern)
        self.fed = 0
        """The offset up to which it has heard."""
        self.is_live = False
        self.level = 0
        """How many motifs stand below it that it hears the matches of."""
        self.told = self.told_late = 0
        """How many partial matches it has said that it gave up, and how many events that they came too late."""

    @property
    def late(self) -> int:
        return self.matcher.late if isinstance(self.matcher, Reordered) else 0


class Listening:
    """The motifs of a shard."""

    def __init__(self, state: State, log_id: str, shard: int, source: str) -> None:
        self._state = state
        self._log_id, self._shard, self._source = log_id, shard, source
        self._ears: dict[str, Ear] = {}
        self._live: list[Ear] = []
        """Those that are live, those first whose matches others hear."""
        self.lift: Lift | None = None
        """What brings data that was kept to the version that its topic has now."""
        self.lift_rows: Callable[[Rows], Rows] | None = None
        """The same for what is being said: a timer may have been set under an older score."""

    @property
    def is_on(self) -> bool:
        """Whether anything is listened for."""
        return bool(self._live)

    # Which

    def want(self, motives: Mapping[str, Motive], frames: Callable[[int], Iterable[Frame]], first: int) -> dict[str, list[Any]]:
        """Listen for these from here on, and for no others. What there is to record of it (the mark `motif`).

        `frames` reads the log from an offset on, up to `first`: what was heard there before is heard again, silently.
        """
        marks: dict[str, list[Any]] = {}
        known = self._state.motifs
        for name in [name for name in self._ears if name not in motives]:
            self.keep(name)
            del self._ears[name]
        for name, motif in known.items():
            if motif.is_live and name not in motives:
                marks[name] = [None, motif.topic, first, False]
        said = frozenset(motive.topic for motive in motives.values())
        for name, motive in motives.items():
            before = known.get(name)
            written = document(motive.motif)
            ear = self._ears.get(name)
            if ear is not None and before is not None and before.document == written and before.topic == motive.topic:
                continue
            ear = self._ears[name] = Ear(name, motive.topic, Pattern(motive.motif, motive.topic, said))
            if before is not None and before.document == written and before.topic == motive.topic:
                self._recall(ear, before, frames, first)
            else:
                begin = first if before is not None or motive.begin is None else motive.begin
                ear.fed, ear.is_live = min(begin, first), begin >= first
                marks[name] = [written, motive.topic, ear.fed, ear.is_live]
        self._sort()
        return marks

    def _sort(self) -> None:
        by_topic: dict[str, list[Ear]] = {}
        for ear in self._ears.values():
            by_topic.setdefault(ear.topic, []).append(ear)

        def level(ear: Ear) -> int:
            below = [other for topic in ear.pattern.needs() if topic != ear.topic for other in by_topic.get(topic, ())]
            return max((level(other) + 1 for other in below), default=0)

        for ear in self._ears.values():
            ear.level = level(ear)
        self._live = sorted((ear for ear in self._ears.values() if ear.is_live), key=lambda ear: ear.level)

    def _recall(self, ear: Ear, before: MotifState, frames: Callable[[int], Iterable[Frame]], first: int) -> None:
        """Bring a motif to where it was: from what was kept of it, and from what it heard since."""
        until = first if before.is_live else before.position
        if before.partial:
            ear.told, ear.told_late, kept = msgspec.msgpack.decode(before.partial, strict=False)
            ear.matcher.load(kept if self.lift is None else relifted(kept, self.lift))
        ear.fed = before.partial_at
        ear.is_live = before.is_live
        if ear.fed < until:
            for frame in frames(ear.fed):
                if frame.first >= until:
                    break
                self._feed(ear, frame)

    def recall_all(self) -> None:
        """Go on from the partial matches as the state has them, which were written down just now."""
        for name, ear in self._ears.items():
            anew = self._ears[name] = Ear(name, ear.topic, ear.pattern)
            before = self._state.motifs[name]
            self._recall(anew, before, lambda offset: (), before.partial_at)
        self._sort()

    def keep(self, name: str) -> None:
        """Write the partial matches of a motif down in the state, for a snapshot."""
        ear, motif = self._ears[name], self._state.motifs[name]
        motif.partial = encode([ear.told, ear.told_late, ear.matcher.dump()])
        motif.partial_at = self._state.end if ear.is_live else ear.fed

    @property
    def names(self) -> Collection[str]:
        """The motifs that are listened for."""
        return self._ears.keys()

    def ear(self, name: str) -> Ear:
        return self._ears[name]

    def keep_all(self) -> None:
        for name in self._ears:
            self.keep(name)

    # Live

    def join(self, frame: Frame) -> None:
        """Add to a frame that is being made what is heard with it."""
        base = frame.rows
        made = self.hear(frame, frame.first + (0 if base is None else len(base)))
        if made:
            frame.rows = joined([*([] if base is None else [base]), *made])

    def hear(self, frame: Frame, end: int) -> list[Rows]:
        """What the live motifs hear with a frame, and what they lost, as rows that have the offsets from `end` on."""
        time_us, base = frame.time_us, frame.rows
        if self.lift_rows is not None and base is not None:
            base = self.lift_rows(base)
        heard: list[tuple[Ear, Match]] = sorted(
            ((ear, match) for ear in self._live for match in ear.matcher.advance(time_us)), key=lambda each: each[1].at_us
        )
        batches = [] if base is None else [base]
        if heard:
            batches.append(self._said(heard, end, time_us))
        for level in range(1 + max((ear.level for ear in self._live), default=0)):
            listening = [ear for ear in self._live if ear.level == level]
            for batch in list(batches):
                found = [
                    (row, order, ear, match)
                    for order, ear in enumerate(listening)
                    for row, match in ear.matcher.hear(batch, 0, time_us)
                ]
                if found:
                    found.sort(key=lambda each: each[:2])
                    first = end + sum(len(rows) for rows in batches if rows is not base)
                    batches.append(self._said([(ear, match) for _, _, ear, match in found], first, time_us))
        overflow = self._losses(end + sum(len(rows) for rows in batches if rows is not base), time_us)
        if overflow is not None:
            batches.append(overflow)
        return batches if base is None else batches[1:]

    def _losses(self, first: int, time_us: int) -> Rows | None:
        """Tell what was given up, or came too late: the first time, and then whenever it is twice as much."""
        told: list[tuple[str, str, dict[str, Any]]] = []
        for ear in self._live:
            if ear.matcher.given_up > 2 * ear.told:
                ear.told = ear.matcher.given_up
                told.append((OVERFLOW, ear.topic, {"motif": ear.topic, "given_up": ear.told, "most": ear.pattern.how.most}))
            if ear.late > 2 * ear.told_late:
                ear.told_late = ear.late
                told.append((LATE, ear.topic, {"motif": ear.topic, "left_out": ear.late}))
        if not told:
            return None
        return Rows(
            self._log_id, self._shard, first, time_us, [OVERFLOW, LATE], [int(topic == LATE) for topic, _, _ in told],
            [key for _, key, _ in told], [encode(data) for _, _, data in told], [self._source], 0,
        )  # fmt: skip

    def is_due(self, now_us: int) -> bool:
        """Whether time alone may complete a match by now."""
        due_us = self.due_us()
        return due_us is not None and due_us <= now_us

    def due_us(self) -> int | None:
        """The next moment at which time alone may complete a match."""
        moments = [ear.matcher.due_us() for ear in self._live if ear.pattern.tells_time]
        return min((moment for moment in moments if moment is not None), default=None)

    # The past

    @property
    def is_behind(self) -> bool:
        """Whether a motif has to catch up with the log."""
        return len(self._live) < len(self._ears)

    def behind(self) -> int | None:
        """The offset from which on a motif has to hear the log next; None: all are live."""
        return min((ear.fed for ear in self._ears.values() if not ear.is_live), default=None)

    def catch_up(self, frames: Iterator[Frame]) -> tuple[Rows | None, dict[str, list[Any]]]:
        """Let the motif that is furthest behind hear some of the log. What it heard, and what there is to record of it.

        `frames` begin with the one that holds the offset `behind()`.
        """
        ear = min((ear for ear in self._ears.values() if not ear.is_live), key=lambda ear: (ear.fed, ear.level))
        heard: list[tuple[Ear, Match]] = []
        count = 0
        end = self._state.end
        while ear.fed < end and count < CAUGHT_UP_MOST:
            frame = next(frames)
            heard += [(ear, match) for match in self._feed(ear, frame)]
            count += frame.count
        marks: dict[str, list[Any]] = {}
        if ear.fed >= end:
            ear.is_live = True
            self._sort()
        if heard or ear.is_live:
            marks[ear.name] = [None, ear.topic, ear.fed, ear.is_live]
        return (self._said(heard, end, -1) if heard else None), marks

    def _feed(self, ear: Ear, frame: Frame) -> list[Match]:
        """Let a motif hear a frame of the log."""
        assert frame.rows is not None
        matcher = ear.matcher
        heard = matcher.advance(frame.time_us)
        heard += [match for _, match in matcher.hear(frame.rows, max(0, ear.fed - frame.first), frame.time_us)]
        ear.fed = frame.end
        return heard

    # Matches as events

    def _said(self, heard: Sequence[tuple[Ear, Match]], first: int, time_us: int) -> Rows:
        topics = list(dict.fromkeys(ear.topic for ear, _ in heard))
        extras: dict[int, dict[str, Any]] = {}
        for row, (_, match) in enumerate(heard):
            extras[row] = {"causes": match.offsets, "root": match.root}
            if match.at_us != time_us:
                extras[row]["time_us"] = match.at_us
        return Rows(
            self._log_id,
            self._shard,
            first,
            time_us,
            topics,
            0 if len(topics) == 1 else [topics.index(ear.topic) for ear, _ in heard],
            [match.key for _, match in heard],
            [encode({"labels": match.labels} if match.labels else {}) for _, match in heard],
            [self._source],
            0,
            extras=extras,
        )


def joined(batches: Sequence[Rows]) -> Rows:
    """Rows that follow each other, as one; the first may be answers, all others are matches and what the band says."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    topics: dict[str, int] = {}
    sources: dict[str, int] = {}
    topic_ix: list[int] = []
    source_ix: list[int] = []
    keys: list[str] = []
    data: list[bytes] = []
    extras: dict[int, dict[str, Any]] = {}
    causes: list[Ref] | None = None if first.causes is None else []
    roots: list[Ref] | None = None if first.causes is None else []
    for rows in batches:
        n = len(rows)
        _extend(topic_ix, topics, rows.topics, rows.topic_ix, n)
        _extend(source_ix, sources, rows.sources, rows.source_ix, n)
        if rows.extras:
            extras.update({len(keys) + row: extra for row, extra in rows.extras.items()})
        keys.extend(rows.keys)
        data.extend(rows.data)
        if causes is not None and roots is not None:
            causes.extend(
                rows.causes if rows.causes is not None else [(rows.parts(ix) or [first.first])[-1] for ix in range(n)]
            )
            roots.extend(rows.roots if rows.roots is not None else [rows.root(ix) for ix in range(n)])
    return Rows(
        first.log_id, first.shard, first.first, first.time_us,
        list(topics), topic_ix if len(topics) > 1 else 0, keys, data,
        list(sources), source_ix if len(sources) > 1 else 0,
        causes, roots, extras or None, versions=first.versions,
    )  # fmt: skip


def _extend(column: list[int], known: dict[str, int], names: Sequence[str], ix: int | Sequence[int], n: int) -> None:
    number = [known.setdefault(name, len(known)) for name in names]
    column.extend([number[ix]] * n if isinstance(ix, int) else [number[each] for each in ix])


def relifted(kept: Any, lift: Lift) -> Any:
    """Partial matches as they were dumped, the events that they keep lifted: bytes are there in events alone."""
    if isinstance(kept, dict):
        return {key: relifted(each, lift) for key, each in kept.items()}
    if not isinstance(kept, list):
        return kept
    if len(kept) in (4, 5) and isinstance(kept[3], bytes):
        time_us, key, topic, payload, version = (*kept, 1)[:5]
        return [time_us, key, topic, *lift(topic, payload, version)]
    if len(kept) in (6, 7) and isinstance(kept[4], bytes):
        at_us, offset, topic, key, payload, root, version = (*kept, 1)[:7]
        payload, version = lift(topic, payload, version)
        return [at_us, offset, topic, key, payload, root, version]
    return [relifted(each, lift) for each in kept]
