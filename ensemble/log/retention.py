"""Retention: which events go, by which rule, and the log made smaller by that (docs/size.md).

Owns the rules and what they come to. Where what is left stands, and how it is put in place, is the log's own (`Packing`).

    a part that is gone over holds nothing from `needs.floor` on
    of a part that is past       stay the rows that are needed
    of another part              stay the rows that are needed, those of topics without a rule, and those that a rule spares
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ensemble.broker.needs import Needs
from ensemble.broker.state import State
from ensemble.event import REMOVED, Frame
from ensemble.log.base import EventLog, Packed, Packing, Part, Refused, Removal, Taken
from ensemble.score.model import Retain, Score
from ensemble.score.units import duration_text

if TYPE_CHECKING:
    from ensemble.log.archive import Archive

WORTH = 0.2
"""The share of a part's rows that must go by the rules of topics for it to be written anew, while a band plays."""


class Rules:
    """What a score says of the past. `shards`: over how many logs its sizes are spread."""

    def __init__(self, score: Score, shards: int = 1) -> None:
        self.whole = score.retain
        self.archive = score.retain.archive if score.retain is not None else ""
        """The url of the place to which all goes before it is taken, as the score has it; empty: it is gone then."""
        self.compress = score.store.compress == "zstd"
        self.shards = shards
        self._score = score
        self.has_topics = any(spec.retain is not None or spec.compact for spec in score.events.values())
        self._known: dict[str, TopicRule | None] = {}

    @property
    def is_any(self) -> bool:
        return self.whole is not None or self.compress or self.has_topics

    def of(self, topic: str) -> TopicRule | None:
        """What holds for a topic beside what holds for all; the band's own topics have no rule."""
        if topic not in self._known:
            spec = None if topic.startswith("_") else self._score.event_spec(topic)
            has_rule = spec is not None and (spec.retain is not None or spec.compact)
            self._known[topic] = TopicRule(topic, spec.retain, spec.compact) if spec is not None and has_rule else None
        return self._known[topic]


class TopicRule(NamedTuple):
    topic: str
    retain: Retain | None
    is_compact: bool


class Census(NamedTuple):
    """What a part holds."""

    rows: int
    topics: Mapping[str, tuple[int, int]]
    """Topic -> how many events, and how many bytes of data."""


PartKey = tuple[int, int, bool]
"""What tells a part from all others, and from what it was before it was written anew."""


def _key(part: Part) -> PartKey:
    return part.seq, part.size, part.is_packed


class Retention:
    """One log, kept small. It remembers what it counted, so that it counts nothing twice. Used by one thread.

    `is_rehearsal`: nothing will be put in its place, so nothing is archived either.
    """

    def __init__(self, log: EventLog, rules: Rules, *, is_rehearsal: bool = False) -> None:
        self._log = log
        self._rules = rules
        self._archive: Archive | None = None
        self._told = ""
        if rules.archive:
            from ensemble.log.archive import Archive, told

            archive = Archive(rules.archive, log, rules.shards)
            self._archive = None if is_rehearsal else archive
            self._told = told(archive.url)
        self._census: dict[PartKey, Census] = {}
        self._newest: dict[tuple[str, str], int] = {}
        """Of topics that are compacted: topic and key -> offset of the newest event."""
        self._counted = 0
        """Up to which offset `_newest` has counted."""
        self._live: dict[str, list[int]] = {}
        """Topic that is compacted -> the offsets of its newest events, ascending."""
        self._vain: dict[PartKey, int] = {}
        """Parts of which all that might go is needed -> how many events these were."""

    @property
    def archive(self) -> str:
        """The url of the archive; empty if there is none."""
        return self._archive.url if self._archive is not None else ""

    def end(self) -> None:
        """Have no more archived than the part that is on its way. Any thread."""
        if self._archive is not None:
            self._archive.is_ending = True

    def pack(self, needs: Needs, now_us: int, *, worth: float = WORTH) -> Iterator[Packed]:
        """Write anew what the rules say, one after the other: durable beside the log.

        Before the next is asked for it is to be put in its place, once what it lost is said in the log; or dropped. What it
        lost is in the archive by then, where the rules name one; where that refuses, nothing is taken.
        Errors: Unavailable; LogCorrupt.
        """
        packing = self._log.packing()
        if packing is None or not self._rules.is_any:
            return
        parts = [part for part in packing.parts() if part.end <= needs.floor]
        if packing.has_takes():  # which may need what this log needs no more
            yield from self._compress(packing, parts)
            return
        try:
            yield from self._take(packing, parts, needs, now_us, worth)
        except Refused:
            yield from self._compress(packing, [part for part in packing.parts() if part.end <= needs.floor])
            raise

    def _take(self, packing: Packing, parts: Sequence[Part], needs: Needs, now_us: int, worth: float) -> Iterator[Packed]:
        count, removals = self._past(packing, parts, now_us)
        has_lost = count > 0
        if count:
            self._keep(packing, parts[count - 1])
            yield self._pack_past(packing, parts[:count], removals, needs)
            parts = parts[count:]
        elif parts and parts[0].is_past:
            parts = parts[1:]
        if self._rules.has_topics:
            self._count(packing, parts)
        tail = self._tail(parts) if self._sized() else {}
        for part in reversed(parts):  # the newest first: what is too much is the oldest
            one = self._pack_part(packing, part, needs, now_us, tail, worth)
            if one is not None:
                has_lost = has_lost or bool(one.removals)
                yield one
        if has_lost:
            packing.sweep()

    def _keep(self, packing: Packing, part: Part) -> None:
        """Have all of the log in the archive, up to the end of a part of which something goes. Refused."""
        if self._archive is not None:
            self._archive.keep(packing, part.end_seq)

    def _compress(self, packing: Packing, parts: Sequence[Part]) -> Iterator[Packed]:
        for part in parts if self._rules.compress else ():
            if not part.is_packed:
                yield packing.pack([part], None, compress=True)

    # The past

    def _past(self, packing: Packing, parts: Sequence[Part], now_us: int) -> tuple[int, list[Removal]]:
        """How many of these the log is to begin after, and why; none if it begins where it did."""
        whole = self._rules.whole
        known = 1 if parts and parts[0].is_past else 0
        if whole is None:
            return 0, []
        aged = known
        while whole.time_us is not None and aged < len(parts) and packing.until_us(parts[aged]) < now_us - whole.time_us:
            aged += 1
        count = aged
        if whole.size is not None:
            size = self._log.size_bytes() - sum(part.size for part in parts[:aged])
            while count < len(parts) and size > whole.size // self._rules.shards:
                size -= parts[count].size
                count += 1
        removals = [
            Removal(rule + self._told, now_us, parts[lo].first, parts[hi - 1].end, 0)
            for rule, lo, hi in (
                (f"retain: {{time: {duration_text(whole.time_us or 0)}}}", known, aged),
                (f"retain: {{size: {whole.size}B}}", aged, count),
            )
            if lo < hi
        ]
        return (count if removals else 0), removals

    def _pack_past(self, packing: Packing, parts: Sequence[Part], removals: Sequence[Removal], needs: Needs) -> Packed:
        base = self._log.base()
        state = State() if base is None else State.load(base.state)
        begin = 0 if base is None else base.at.seq
        gone = [0] * len(removals)

        def choose(frame: Frame) -> Taken:
            if frame.seq >= begin:
                state.apply(frame)
            kept = [] if frame.rows is None else [o - frame.first for o in needs.between(frame.first, frame.end)]
            kept = [ix for ix in kept if frame.rows is not None and frame.rows.filed(ix) != REMOVED]
            for ix, removal in enumerate(removals):
                if removal.first <= frame.first and frame.end <= removal.end and frame.count:
                    gone[ix] += frame.count - sum((frame.removed or {}).values()) - len(kept)
                    break
            return Taken(kept, has_marks=False)

        def said() -> list[Removal]:
            return [removal._replace(rows=rows) for removal, rows in zip(removals, gone, strict=True)]

        return packing.pack(parts, choose, said, state=state.dump, compress=self._rules.compress)

    # Topics

    def _sized(self) -> bool:
        return self._rules.has_topics and any(
            rule is not None and rule.retain is not None and rule.retain.size is not None
            for census in self._census.values()
            for rule in map(self._rules.of, census.topics)
        )

    def _count(self, packing: Packing, parts: Sequence[Part]) -> None:
        """Count what the parts hold, and find the newest event of each key where that alone is kept."""
        known = {_key(part): part for part in parts}
        self._census = {key: census for key, census in self._census.items() if key in known}
        for key, part in known.items():
            if key not in self._census:
                self._census[key] = _census(packing.frames(part))
        for frame in self._log.rows(min(self._counted, self._log.end().offset)):
            self._note(frame)
            self._counted = frame.end
        self._live = {}
        for (topic, _), offset in self._newest.items():
            self._live.setdefault(topic, []).append(offset)
        for offsets in self._live.values():
            offsets.sort()

    def _note(self, frame: Frame) -> None:
        rows = frame.rows
        assert rows is not None
        rules = [self._rules.of(topic) for topic in rows.topics]
        compact = [rule is not None and rule.is_compact for rule in rules]
        if any(compact):
            for ix, key in enumerate(rows.keys):
                topic = rows.topic_ix if isinstance(rows.topic_ix, int) else rows.topic_ix[ix]
                if compact[topic]:
                    self._newest[rows.topics[topic], key] = frame.first + ix

    def _tail(self, parts: Sequence[Part]) -> dict[str, int]:
        """Topic -> bytes of what is newer than all of these parts."""
        end = parts[-1].end if parts else self._log.begin().offset
        return {topic: size for topic, (_, size) in _census(self._log.rows(end)).topics.items()}

    def _pack_part(
        self, packing: Packing, part: Part, needs: Needs, now_us: int, newer: dict[str, int], worth: float
    ) -> Packed | None:
        """Write a part anew if that is worth it. `newer` has the bytes of each topic that are newer; this part's are added."""
        key = _key(part)
        census = self._census.get(key)
        verdicts: dict[str, str] = {}
        """Topic -> the rule by which all of its events here go."""
        compact: set[str] = set()
        may_go = 0
        for topic, (rows, size) in census.topics.items() if census is not None else ():
            rule = self._rules.of(topic)
            if rule is None:
                continue
            verdict = self._verdict(packing, rule, part, now_us, newer.get(topic, 0))
            newer[topic] = newer.get(topic, 0) + size
            if verdict:
                verdicts[topic] = verdict
                may_go += rows
            elif rule.is_compact:
                compact.add(topic)
                live = self._live.get(topic, [])
                may_go += rows - (bisect_left(live, part.end) - bisect_left(live, part.first))
        is_worth = census is not None and may_go > worth * census.rows and self._vain.get(key) != may_go
        if not is_worth:
            if self._rules.compress and not part.is_packed:
                return packing.pack([part], None, compress=True)
            return None
        self._keep(packing, part)
        packed = self._without(packing, part, needs, now_us, verdicts, compact)
        if packed.removals or (self._rules.compress and not part.is_packed):
            return packed
        packing.drop(packed)
        self._vain[key] = may_go
        return None

    def _verdict(self, packing: Packing, rule: TopicRule, part: Part, now_us: int, newer: int) -> str:
        """The rule by which all events of a topic go from a part; empty if none says so."""
        retain = rule.retain
        if retain is None:
            return ""
        if retain.time_us is not None and packing.until_us(part) < now_us - retain.time_us:
            return f"events.{rule.topic}.retain: {{time: {duration_text(retain.time_us)}}}"
        if retain.size is not None and newer >= retain.size // self._rules.shards:
            return f"events.{rule.topic}.retain: {{size: {retain.size}B}}"
        return ""

    def _without(
        self,
        packing: Packing,
        part: Part,
        needs: Needs,
        now_us: int,
        verdicts: Mapping[str, str],
        compact: set[str],
    ) -> Packed:
        gone: dict[str, int] = {}
        newest = self._newest

        def choose(frame: Frame) -> Taken | None:
            rows = frame.rows
            if rows is None or not any(topic in verdicts or topic in compact for topic in rows.topics):
                return None
            needed = set(needs.between(frame.first, frame.end))
            kept: list[int] = []
            lost = 0
            for ix, key in enumerate(rows.keys):
                topic, offset = rows.filed(ix), frame.first + ix
                if topic == REMOVED:
                    continue
                rule = verdicts.get(topic)
                if rule is None and topic in compact and newest[topic, key] > offset:
                    rule = f"events.{topic}.compact"
                if rule is None or offset in needed:
                    kept.append(ix)
                else:
                    gone[rule] = gone.get(rule, 0) + 1
                    lost += 1
            return Taken(kept, has_marks=True) if lost else None

        def said() -> list[Removal]:
            return [Removal(rule + self._told, now_us, part.first, part.end, rows) for rule, rows in gone.items()]

        return packing.pack([part], choose, said, compress=self._rules.compress)


def _census(frames: Iterable[Frame]) -> Census:
    topics: dict[str, tuple[int, int]] = {}
    count = 0
    for frame in frames:
        rows = frame.rows
        if rows is None:
            continue
        for ix, data in enumerate(rows.data):
            topic = rows.filed(ix)
            if topic != REMOVED:
                known, size = topics.get(topic, (0, 0))
                topics[topic] = known + 1, size + len(data)
                count += 1
    return Census(count, topics)


def statement(packed: Packed, archive: str = "") -> list[Any]:
    """What the log says of parts that lost something (the mark `removed`), and in which archive it lies, if in any."""
    begin, end = packed.begin, packed.end
    rules = [[each.rule, each.rows] for each in packed.removals]
    said = [begin.seq, end.seq, begin.offset, end.offset, end.hash, packed.sha256, rules]
    return [*said, archive] if archive else said


def said_begin(frames: Iterable[Frame]) -> int:
    """The number of the frame at which the log is to begin, as far as these frames say so, be it done or not; 0 if none does.

    What the rules of topics took is not meant: the log holds all places that it had.
    """
    said = 0
    for frame in frames:
        for _, end_seq, _, _, _, _, rules, *_ in frame.marks.get("removed", ()):
            if any(rule.startswith("retain:") for rule, _ in rules):
                said = max(said, end_seq)
    return said


def trim(
    log: EventLog, rules: Rules, needs: Needs, now_us: int, say: Callable[[list[Any]], None], *, worth: float = 0.0
) -> list[Packed]:
    """Do all that the rules say now. `say` says a statement in the log, durably.

    Errors: Unavailable; LogCorrupt.
    """
    packing = log.packing()
    done: list[Packed] = []
    if packing is not None:
        retention = Retention(log, rules)
        for packed in retention.pack(needs, now_us, worth=worth):
            if packed.removals:
                say(statement(packed, retention.archive))
            packing.put(packed)
            done.append(packed)
    return done
