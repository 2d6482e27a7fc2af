"""What a shard knows, as a fold over its frames.

Owns the durable state and `apply`, the only code that changes it: live, on recovery, and for whoever reads a log.
Must not know how decisions are made. The marks that it reads are described in docs/broker.md.

Invariants, for a section s and any offset o that concerns it:
    o < s.position and o not in s.open   =>  o was heard, or is a dead letter
    s.open  is a subset of  [0, s.position),  s.unasked  of  s.open
    s.held  is a subset of  s.dead, and its offsets are not yet passed
    lag(s) = events said under s.patterns - s.passed + len(s.open)
    s.keep_us > 0   =>  s.expires has the keys of s.table, ascending by their moments
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from ensemble.broker.outbox import FORWARDED, Outbox, Parcel, listens
from ensemble.event import REMOVED, Frame, Rows

Patterns = tuple[str, ...]
"""What a section listens for, whatever its conditions."""

SENT_MOST = 2_000
"""Publications whose tokens are remembered: they are sent again within seconds, or never."""


class SectionState(msgspec.Struct):
    """How far one section has come: a watermark, and the exceptions below it."""

    position: int = 0
    """Every offset below has been dealt with, except those in `open`."""
    passed: int = 0
    """Events under the section's topics that lie below `position`."""
    patterns: Patterns = ()
    """The section's topics."""
    open: set[int] = msgspec.field(default_factory=set)
    unasked: set[int] = msgspec.field(default_factory=set)
    """Those in `open` of which nobody has asked yet whether they concern the section: in a store that was divided anew."""
    attempts: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)
    """Offset -> attempts made so far, and when the next is due (microseconds since 1970)."""
    dead: dict[int, int] = msgspec.field(default_factory=dict)
    """Offset of a dead letter -> offset of the `_band.dead` event that tells of it."""
    held: set[int] = msgspec.field(default_factory=set)
    """Dead letters whose key waits for them (`on_failure: hold`)."""
    table: dict[str, bytes] = msgspec.field(default_factory=dict)
    """Key -> the player's state, encoded."""
    keep_us: int = 0
    """How long a key's state stays after it was last written; 0: for ever."""
    expires: dict[str, int] = msgspec.field(default_factory=dict)
    """Key -> when its state goes (microseconds since 1970), the next one first. Empty where state stays for ever."""
    heard: int = 0
    emitted: int = 0
    failed: int = 0


class Timer(msgspec.Struct, array_like=True):
    """An event that is to be said later."""

    due_us: int
    topic: str
    key: str
    data: bytes
    cause: int | str
    root: int | str
    source: str
    extras: dict[str, Any] | None = None


class MotifState(msgspec.Struct):
    """How far a motif of several events has been listened for."""

    document: Any = None
    """The motif, as a score writes it."""
    topic: str = ""
    """That of its matches."""
    position: int = 0
    """Where it goes on, unless it is live."""
    is_live: bool = False
    """Whether it hears each frame as it is made."""
    partial: bytes = b""
    """Its partial matches as of offset `partial_at`; later ones follow from the log."""
    partial_at: int = 0


class State(msgspec.Struct):
    """All that a shard's broker knows durably."""

    end: int = 0
    """The next offset."""
    frames: int = 0
    time_us: int = 0
    """When the last frame was made; time never goes back."""
    topics: dict[str, int] = msgspec.field(default_factory=dict)
    """Topic -> how many events were said under it."""
    versions: dict[str, dict[int, int]] = msgspec.field(default_factory=dict)
    """Topic -> how many of its events were said in which version of its schema, where that is not 1."""
    sections: dict[str, SectionState] = msgspec.field(default_factory=dict)
    seen: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    """Id that a publisher gave (`dedupe_key`) -> offset and time; oldest first."""
    sent: dict[str, tuple[int, dict[int, int] | list[int]]] = msgspec.field(default_factory=dict)
    """Token of a publication -> when it came, and its offsets (a run as first -> count); oldest first."""
    places: dict[str, Any] = msgspec.field(default_factory=dict)
    """Source -> how far it has been read."""
    outbox: dict[int, Outbox] = msgspec.field(default_factory=dict)
    """Shard -> what is on its way there."""
    inbox: dict[int, int] = msgspec.field(default_factory=dict)
    """Shard -> the number of its first parcel that is not here yet."""
    timers: dict[int, Timer] = msgspec.field(default_factory=dict)
    timers_set: int = 0
    """How many timers were ever set: the number of the next."""
    motifs: dict[str, MotifState] = msgspec.field(default_factory=dict)
    """The motifs of several events that are or were listened for."""
    score: dict[str, Any] | None = None
    """The document of the score that was played last."""
    plan: bytes = b""
    """What the stage needs to begin again in another process, where it needs more than the score."""
    dedupe_us: int = 86_400_000_000
    """How long an id is remembered."""
    dedupe_most: int = 200_000
    """How many are, at the most."""
    gone: int = 0
    """The offset before which retention may have taken events."""

    def apply(self, frame: Frame) -> None:
        """Fold one frame in. The frames must come in order and without a gap."""
        assert frame.first == self.end, f"frame begins at {frame.first}, the log ends at {self.end}"
        marks = frame.marks
        self.time_us = frame.time_us
        self.end = frame.end
        self.frames += 1
        if frame.rows is not None:
            self._count(frame)
        for name, fold in FOLDS.items():
            if name in marks:
                fold(self, marks[name], frame)

    def section(self, name: str) -> SectionState:
        return self.sections.setdefault(name, SectionState())

    def sent_at(self, token: str) -> Sequence[int] | None:
        """The offsets of the publication with this token; None if it is not remembered."""
        known = self.sent.get(token)
        if known is None:
            return None
        where = known[1]
        if isinstance(where, list):
            return where
        ((first, count),) = where.items()
        return range(first, first + count)

    def dump(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @classmethod
    def load(cls, data: bytes) -> State:
        return msgspec.msgpack.decode(data, type=cls)

    def _count(self, frame: Frame) -> None:
        rows, topics = frame.rows, self.topics
        assert rows is not None
        if isinstance(rows.topic_ix, int):
            topic = rows.topics[rows.topic_ix]
            topics[topic] = topics.get(topic, 0) + len(rows)
        else:
            column = list(rows.topic_ix)
            for ix, topic in enumerate(rows.topics):
                if count := column.count(ix):  # rows that were picked out of others may have none of a topic
                    topics[topic] = topics.get(topic, 0) + count
        if frame.removed is not None:  # what retention took was said all the same
            topics.pop(REMOVED, None)
            for topic, count in frame.removed.items():
                topics[topic] = topics.get(topic, 0) + count
                version = 1 if rows.versions is None else rows.versions.get(topic, 1)
                if version != 1:
                    counts = self.versions.setdefault(topic, {})
                    counts[version] = counts.get(version, 0) + count
        odd = rows.odd
        if rows.versions is not None or (odd and any("version" in extra for extra in odd.values())):
            self._count_versions(rows)
        if odd:
            for row, extra in odd.items():
                if "id" in extra:
                    key = dedupe_key(extra)
                    self.seen.pop(key, None)  # one that is said anew is the youngest again
                    self.seen[key] = (frame.first + row, frame.time_us)
                elif "tried" in extra or "letter" in extra:
                    self._take_over(rows.filed(row).removeprefix(FORWARDED), frame.first + row, extra)
        self._forget(frame.time_us)

    def _count_versions(self, rows: Rows) -> None:
        if not rows.odd and isinstance(rows.topic_ix, int):  # the rule
            topic = rows.topics[rows.topic_ix]
            said = {(topic, rows.version(0)): len(rows)}
        else:
            said = Counter((rows.filed(row), rows.version(row)) for row in range(len(rows)))
        for (topic, version), count in said.items():
            if version != 1:
                counts = self.versions.setdefault(topic, {})
                counts[version] = counts.get(version, 0) + count

    def versions_of(self, topic: str) -> dict[int, int]:
        """How many events of a topic were said in which version."""
        later = self.versions.get(topic, {})
        first = self.topics.get(topic, 0) - sum(later.values())
        return {1: first, **later} if first > 0 else dict(later)

    def _take_over(self, name: str, offset: int, extra: dict[str, Any]) -> None:
        """A copy came with what its section had done about it in the shard that it comes from."""
        section = self.section(name)
        if "letter" in extra:  # it tells of itself: its letter lies elsewhere
            section.dead[offset] = offset
            section.held.add(offset)
        else:
            attempts, due_us = extra["tried"]
            section.attempts[offset] = (attempts, due_us)

    def _forget(self, now_us: int) -> None:
        """Drop the ids that have left the dedupe window. By the frame's time, so that a replay drops the same."""
        seen = self.seen
        while seen:
            oldest = next(iter(seen))
            if len(seen) <= self.dedupe_most and seen[oldest][1] + self.dedupe_us > now_us:
                break
            del seen[oldest]


@lru_cache(maxsize=10_000)
def fits(patterns: Patterns, topic: str) -> bool:
    """Whether events of a topic may concern whoever listens for these patterns."""
    return any(listens(pattern, topic) for pattern in patterns)


def said(state: State, patterns: Patterns) -> int:
    """How many events were said under these patterns."""
    return sum(count for topic, count in state.topics.items() if fits(patterns, topic))


def lag(state: State, name: str) -> int:
    """Events under a section's topics that it has not yet dealt with, those among them that its conditions will pass over."""
    section = state.sections[name]
    return said(state, section.patterns) - section.passed + len(section.open)


def dedupe_key(extra: dict[str, Any]) -> str:
    """What two events share that are one: the id, within the CloudEvents source where there is one."""
    key: str = extra["id"]
    return f"{extra['source']} {key}" if "source" in extra else key


def _joined(state: State, mark: dict[str, list[Any]], frame: Frame) -> None:
    for name, (position, passed, patterns) in mark.items():
        state.sections[name] = SectionState(position=position, passed=passed, patterns=tuple(patterns))


def _turned(state: State, mark: dict[str, list[Any]], frame: Frame) -> None:
    for name, (passed, patterns) in mark.items():
        section = state.section(name)
        section.passed, section.patterns = passed, tuple(patterns)


def _scored(state: State, mark: dict[str, Any], frame: Frame) -> None:
    state.score = mark


def _planned(state: State, mark: bytes, frame: Frame) -> None:
    state.plan = mark


def _deduped(state: State, mark: list[int], frame: Frame) -> None:
    state.dedupe_us, state.dedupe_most = mark
    state._forget(frame.time_us)


def _kept(state: State, mark: dict[str, int], frame: Frame) -> None:
    """A section keeps its state for another time from here on; what was written before counts from then, if that is known."""
    for name, keep_us in mark.items():
        section = state.section(name)
        if not keep_us:
            section.expires = {}
        elif section.keep_us:
            longer_us = keep_us - section.keep_us
            section.expires = {key: due_us + longer_us for key, due_us in section.expires.items()}
        else:
            section.expires = dict.fromkeys(section.table, frame.time_us + keep_us)
        section.keep_us = keep_us


def _again(state: State, mark: dict[str, list[int]], frame: Frame) -> None:
    for name, offsets in mark.items():
        section = state.section(name)
        for offset in offsets:
            section.dead.pop(offset, None)
            if offset in section.held:
                section.held.discard(offset)
            else:
                section.open.add(offset)


def _heard(state: State, mark: dict[str, list[Any]], frame: Frame) -> None:
    for name, (position, passed, opened, closed, retried, heard, emitted, _began) in mark.items():
        section = state.section(name)
        section.position = position
        section.passed += passed
        section.heard += heard
        section.emitted += emitted
        if opened:
            section.open.update(opened)
        if closed:
            section.open.difference_update(closed)
            if section.unasked:
                section.unasked.difference_update(closed)
        for offset in retried:
            section.attempts.pop(offset, None)


def _failed(state: State, mark: dict[str, list[list[Any]]], frame: Frame) -> None:
    for name, failures in mark.items():
        section = state.section(name)
        section.failed += len(failures)
        for offset, attempt, due_us, _error in failures:
            if due_us >= 0:
                section.attempts[offset] = (attempt, due_us)


def _dead(state: State, mark: dict[str, list[list[Any]]], frame: Frame) -> None:
    for name, letters in mark.items():
        section = state.section(name)
        for offset, row, held in letters:
            section.dead[offset] = frame.first + row
            section.attempts.pop(offset, None)
            if held:
                section.held.add(offset)


def _wrote(state: State, mark: dict[str, dict[str, bytes | None]], frame: Frame) -> None:
    for name, writes in mark.items():
        section = state.section(name)
        table = section.table
        table.update(writes)  # type: ignore[arg-type]
        for key in [key for key, value in writes.items() if value is None]:
            del table[key]
        if section.keep_us:
            _written(section, writes, frame.time_us + section.keep_us)


def _written(section: SectionState, writes: dict[str, bytes | None], due_us: int) -> None:
    """Frames' times never go back, so what is written last expires last."""
    expires = section.expires
    for key, value in writes.items():
        expires.pop(key, None)
        if value is not None:
            expires[key] = due_us


def _expiring(state: State, mark: dict[str, dict[str, int]], frame: Frame) -> None:
    for name, moments in mark.items():
        expires = state.section(name).expires
        for key, due_us in moments.items():
            expires.pop(key, None)
            expires[key] = due_us


def _expired(state: State, mark: dict[str, list[str]], frame: Frame) -> None:
    for name, keys in mark.items():
        section = state.section(name)
        for key in keys:
            del section.table[key], section.expires[key]


def _sent(state: State, mark: dict[str, Any], frame: Frame) -> None:
    sent = state.sent
    for token, where in mark.items():
        sent[token] = (frame.time_us, where)
    while len(sent) > SENT_MOST:
        del sent[next(iter(sent))]


def _placed(state: State, mark: dict[str, Any], frame: Frame) -> None:
    state.places.update(mark)


def _fired(state: State, mark: list[int], frame: Frame) -> None:
    for number in mark:
        del state.timers[number]


def _later(state: State, mark: list[list[Any]], frame: Frame) -> None:
    for fields in mark:
        state.timers[state.timers_set] = Timer(*fields)
        state.timers_set += 1


def _went_out(state: State, mark: dict[int, list[Any]], frame: Frame) -> None:
    for shard, parcels in mark.items():
        box = state.outbox.setdefault(shard, Outbox())
        for each in parcels:
            box.parcels[box.next] = Parcel.of(each)
            box.next += 1


def _arrived(state: State, mark: dict[int, int], frame: Frame) -> None:
    """What the shards there have taken in, as they said."""
    for shard, first in mark.items():
        parcels = state.outbox[shard].parcels
        for number in [number for number in parcels if number < first]:
            del parcels[number]


def _came_in(state: State, mark: dict[int, int], frame: Frame) -> None:
    state.inbox.update(mark)


def _carried(state: State, mark: dict[str, list[Any]], frame: Frame) -> None:
    for name, (position, passed, patterns, open_, unasked, attempts, letters, held, *counts) in mark.items():
        section = state.section(name)
        section.position, section.passed, section.patterns = position, passed, tuple(patterns)
        section.open, section.unasked = set(open_), set(unasked)
        section.attempts = {offset: (made, due_us) for offset, made, due_us in attempts}
        section.dead = dict(letters)
        section.held = set(held)
        section.heard, section.emitted, section.failed = counts


def _motif(state: State, mark: dict[str, list[Any]], frame: Frame) -> None:
    for name, (document, topic, position, is_live, *partial) in mark.items():
        motif = state.motifs.get(name)
        if motif is None or document is not None:
            motif = state.motifs[name] = MotifState(document, topic, partial_at=position)
        motif.position, motif.is_live = position, is_live
        if partial:
            [motif.partial] = partial


def _removed(state: State, mark: list[list[Any]], frame: Frame) -> None:
    state.gone = max(state.gone, *(end for _, _, _, end, *_ in mark))


FOLDS: dict[str, Callable[[State, Any, Frame], None]] = {
    "carried": _carried,
    "joined": _joined,
    "turned": _turned,
    "kept": _kept,
    "score": _scored,
    "plan": _planned,
    "dedupe": _deduped,
    "again": _again,
    "heard": _heard,
    "failed": _failed,
    "dead": _dead,
    "wrote": _wrote,
    "expiring": _expiring,
    "expired": _expired,
    "sent": _sent,
    "place": _placed,
    "fired": _fired,
    "later": _later,
    "out": _went_out,
    "arrived": _arrived,
    "in": _came_in,
    "motif": _motif,
    "removed": _removed,
}
"""Mark -> how it changes the state, in the order in which they are folded."""
