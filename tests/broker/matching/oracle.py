"""What a motif means, said a second time: slowly, obviously, and over the whole history at once.

For every event with which a motif can begin, the one match that begins there is looked for in all the events; of these the
first to be complete is heard. Nothing is kept between two questions. The words are those of docs/motifs.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ensemble.event import Event
from ensemble.motif import (
    UNBOUNDED,
    AllOf,
    AnyOf,
    Count,
    Maybe,
    Motif,
    Next,
    Not,
    Seq,
    Topic,
    Window,
    is_soft,
    leaves,
    matches,
    topics,
    walk,
)
from ensemble.score.condition import comparison, condition, names
from ensemble.testing import event as event_of

FOREVER = float("inf")


@dataclass(frozen=True)
class Said:
    """An event of the history; `at` is its place in it."""

    at: int
    time_us: int
    topic: str
    key: str
    data: Any

    def event(self) -> Event:
        return event_of(self.topic, self.data, key=self.key, time=_time(self.time_us), offset=self.at)

    def shown(self) -> dict[str, Any]:
        return {"data": self.data, "key": self.key, "topic": self.topic, "time": _time(self.time_us)}


class Moment(NamedTuple):
    """When something is complete: by a timer, which goes before events of the same time, or with an event."""

    time_us: float
    is_event: int
    at: float


@dataclass(frozen=True)
class Found:
    """A match, or a part of one."""

    moment: Moment
    parts: tuple[tuple[int, str | None], ...]
    labels: Mapping[str, Any] = field(default_factory=dict)

    @property
    def begin(self) -> int:
        return min(at for at, _ in self.parts)


class Heard(NamedTuple):
    key: str
    time_us: float
    offsets: tuple[int, ...]
    labels: tuple[tuple[str, tuple[int, ...]], ...]


def heard(motif: Motif, history: Sequence[Said], now_us: int) -> list[Heard]:
    """All matches in a history as of now, in the order in which they are complete."""
    by = getattr(motif, "by", None)
    named = [said for said in history if any(matches(pattern, said.topic) for pattern in topics(motif))]
    keys = {said.at: said.key if by is None else _value(said, by) for said in named}
    found: list[tuple[Moment, str, int, Heard]] = []
    for key in sorted({key for key in keys.values() if key is not None}):
        events = [said for said in named if keys[said.at] == key]
        for each in _of_key(_Listener(motif, now_us), motif, events):
            parts = sorted(set(each.parts), key=lambda part: (part[0], part[1] or ""))
            labels: dict[str, list[int]] = {}
            for at, label in parts:
                if label is not None:
                    labels.setdefault(label, []).append(at)
            offsets = tuple(sorted({at for at, _ in parts}))
            told = Heard(key, each.moment.time_us, offsets, tuple(sorted((name, tuple(at)) for name, at in labels.items())))
            found.append((each.moment, key, offsets[0], told))
    return [told for *_, told in sorted(found, key=lambda each: (each[0], each[1] if not each[0].is_event else "", each[2]))]


def _of_key(listener: _Listener, motif: Motif, events: Sequence[Said]) -> Iterator[Found]:
    if isinstance(motif, Window) and motif.sliding_us:
        yield from listener.slides(motif, events)
        return
    if motif.how.after == "no-skip" and not isinstance(motif, Window):  # type: ignore[union-attr]
        yield from listener.all(motif, events, 0, {})
        return
    lo: float = 0
    while True:
        found = next(iter(listener.all(motif, events, lo, {})), None)
        if found is None:
            return
        yield found
        lo = _after(found.moment, events)


def _after(moment: Moment, events: Sequence[Said]) -> float:
    """The place from which on events come after a moment."""
    if moment.is_event:
        return moment.at + 1
    return next((said.at for said in events if said.time_us >= moment.time_us), FOREVER)


class _Listener:
    def __init__(self, motif: Motif, now_us: int) -> None:
        self._labels = frozenset(topic.label for topic in walk(motif) if topic.label)
        self._now_us = now_us
        self._top = motif
        self._many = frozenset(_many(motif))

    def all(self, motif: Motif, events: Sequence[Said], lo: float, given: Mapping[str, Any]) -> list[Found]:
        """The match of every event from `lo` on with which one begins, the first to be complete first."""
        found = []
        free: float = lo
        for said in events:
            if said.at >= free:
                one = self.one(motif, events, said, given)
                if one is not None:
                    found.append(one)
                if isinstance(motif, Window) and self._opens(motif, said, given):
                    # One window is open at a time; one that is still open leaves no room for another.
                    free = FOREVER if one is None else _after(one.moment, events)
        return sorted(found, key=lambda each: (each.moment, each.begin))

    def _opens(self, motif: Window, said: Said, given: Mapping[str, Any]) -> bool:
        is_ours = motif is self._top or motif.by is None or _value(said, motif.by) is not None
        return is_ours and self._leaf(motif.of, said, given) is not None

    def one(self, motif: Motif, events: Sequence[Said], said: Said, given: Mapping[str, Any]) -> Found | None:
        """The match that begins with this event, if it is complete by now."""
        if leaves(motif) is not None:
            leaf = self._leaf(motif, said, given)
            if leaf is None:
                return None
            return Found(Moment(said.time_us, 1, said.at), ((said.at, leaf.label),), self._bound(leaf, said, given))
        if isinstance(motif, AnyOf):
            found = [one for part in motif.parts if (one := self.one(part, events, said, given)) is not None]
            return min(found, key=lambda each: each.moment, default=None)
        if motif is not self._top and (by := getattr(motif, "by", None)) is not None:
            value = _value(said, by)
            if value is None:
                return None
            events = [each for each in events if _value(each, by) == value]
        if isinstance(motif, Window):
            return self._window(motif, events, said, given)
        if isinstance(motif, AllOf):
            return self._all(motif, events, said, given)
        assert isinstance(motif, (Seq, Count))
        return self._seq(motif, events, said, given)

    # Single events

    def _leaf(self, motif: Motif, said: Said, given: Mapping[str, Any]) -> Topic | None:
        return next((leaf for leaf in leaves(motif) or () if self._fits(leaf, said, given)), None)

    def _fits(self, leaf: Topic, said: Said, given: Mapping[str, Any]) -> bool:
        if not matches(leaf.pattern, said.topic):
            return False
        if leaf.where is None:
            return True
        if not names(leaf.where, self._labels):
            return condition(leaf.where)(said.event())
        return comparison(leaf.where, self._labels)(said.event(), self._bound(leaf, said, given))

    def _bound(self, leaf: Topic, said: Said, given: Mapping[str, Any]) -> Mapping[str, Any]:
        if leaf.label is None:
            return given
        if leaf.label in self._many:
            return {**given, leaf.label: [*given.get(leaf.label, ()), said.shown()]}
        return {**given, leaf.label: said.shown()}

    # Patterns

    def _seq(self, motif: Seq | Count, events: Sequence[Said], said: Said, given: Mapping[str, Any]) -> Found | None:
        steps, absent = _steps(motif)
        over = Moment(said.time_us + motif.within_us, -1, 0) if motif.within_us else Moment(FOREVER, -1, 0)
        where = motif.where if isinstance(motif, Seq) else None
        ask = None if where is None else comparison(where, self._labels)
        at, count = 0, 0
        parts: tuple[tuple[int, str | None], ...] = ()
        moment = Moment(said.time_us, 0, said.at)
        while True:
            step = steps[at]
            awaited = [at] if count < step.most else []
            if count >= step.least:
                for j in range(at + 1, len(steps)):
                    awaited.append(j)
                    if steps[j].least:
                        break
            lo = _after(moment, events) if count else said.at
            may_end = count >= step.least and all(each.least == 0 for each in steps[at + 1 :])
            without = absent if may_end and absent is not None else None
            if count >= step.least and at + 1 < len(steps):
                without = steps[at + 1].without
            is_next = count >= step.least and at + 1 < len(steps) and steps[at + 1].is_next
            chosen: tuple[Moment, int, Found] | None = None
            for j in awaited:
                n = count + 1 if j == at else 1
                is_last = n == steps[j].most and j == len(steps) - 1 and absent is None
                if not count or (is_next and j == at + 1):
                    first = next((each for each in events if each.at >= lo), None)
                    one = None if first is None else self.one(steps[j].part, events, first, given)
                    found = [] if one is None else [one]
                else:
                    found = self.all(steps[j].part, events, lo, given)
                for each in found:
                    if is_last and ask is not None and not ask(None, each.labels):
                        continue
                    if chosen is None or each.moment < chosen[0]:
                        chosen = (each.moment, j, each)
                    break
            gone = next(iter(self.all(without, events, lo, given)), None) if without is not None else None
            if chosen is None or not chosen[0] < over:
                if gone is not None and gone.moment < over:
                    return None
                if may_end and over.time_us <= self._now_us and (ask is None or ask(None, given)):
                    return Found(Moment(over.time_us, 0, -1), parts, given)
                return None
            if gone is not None and gone.moment < chosen[0]:
                return None
            moment, j, part = chosen
            count = count + 1 if j == at else 1
            at = j
            parts += part.parts
            given = part.labels
            if count == steps[at].most and at == len(steps) - 1 and absent is None:
                return Found(moment, parts, given)

    def _all(self, motif: AllOf, events: Sequence[Said], said: Said, given: Mapping[str, Any]) -> Found | None:
        over = Moment(said.time_us + motif.within_us, -1, 0) if motif.within_us else Moment(FOREVER, -1, 0)
        ask = None if motif.where is None else comparison(motif.where, self._labels)
        inner = [part.part if isinstance(part, Maybe) else part for part in motif.parts]
        needed = {i for i, part in enumerate(motif.parts) if not isinstance(part, Maybe)}
        candidates = {i: self.all(part, events, said.at, given) for i, part in enumerate(inner)}
        there: dict[int, Found] = {}
        for moment in sorted({each.moment for found in candidates.values() for each in found}):
            if not moment < over:
                return None
            fresh = {
                i: next(each for each in found if each.moment == moment)
                for i, found in candidates.items()
                if i not in there and any(each.moment == moment for each in found)
            }
            labels = dict(given)
            for _, each in sorted({**there, **fresh}.items()):
                labels.update(each.labels)
            if needed <= {*there, *fresh}:
                if ask is not None and not ask(None, labels):
                    continue
                parts = tuple(part for _, each in sorted({**there, **fresh}.items()) for part in each.parts)
                made = Found(moment, parts, labels)
                return made if made.begin == said.at else None
            there |= fresh
        return None

    def _window(self, motif: Window, events: Sequence[Said], said: Said, given: Mapping[str, Any]) -> Found | None:
        if self._leaf(motif.of, said, given) is None:
            return None
        taken = [each for each in events if each.at >= said.at and self._leaf(motif.of, each, given) is not None]
        if motif.gap_us:
            end = min(said.time_us + motif.gap_us, said.time_us + (motif.within_us or motif.gap_us))
            for each in taken:
                if each.time_us < end:
                    end = each.time_us + motif.gap_us
                    if motif.within_us:
                        end = min(end, said.time_us + motif.within_us)
        else:
            assert motif.every_us is not None
            end = (said.time_us // motif.every_us + 1) * motif.every_us
        if end > self._now_us:
            return None
        taken = [each for each in taken if each.time_us < end]
        labels = given
        for each in taken:
            leaf = self._leaf(motif.of, each, given)
            assert leaf is not None
            labels = self._bound(leaf, each, labels)
        return Found(Moment(end, 0, -1), tuple((each.at, self._leaf(motif.of, each, given).label) for each in taken), labels)  # type: ignore[union-attr]

    def slides(self, motif: Window, events: Sequence[Said]) -> Iterator[Found]:
        """All windows that hold an event, told every so often."""
        assert motif.every_us is not None
        assert motif.sliding_us is not None
        taken = [(said, leaf) for said in events if (leaf := self._leaf(motif.of, said, {})) is not None]
        if not taken:
            return
        end = (taken[0][0].time_us // motif.every_us + 1) * motif.every_us
        while end <= self._now_us:
            inside = [(said, leaf) for said, leaf in taken if end - motif.sliding_us <= said.time_us < end]
            if inside:
                yield Found(Moment(end, 0, -1), tuple((said.at, leaf.label) for said, leaf in inside))
            end += motif.every_us


class _Step(NamedTuple):
    part: Motif
    least: int
    most: float
    without: Motif | None
    is_next: bool


def _steps(motif: Seq | Count) -> tuple[list[_Step], Motif | None]:
    """What comes one after the other, and what must not come at the end."""
    if isinstance(motif, Count):
        return [_Step(motif.of, motif.times, _most(motif), None, False)], None
    steps: list[_Step] = []
    without: Motif | None = None
    for part in motif.parts:
        if isinstance(part, Not):
            without = part.part
            continue
        is_next = isinstance(part, Next)
        inner = part.part if isinstance(part, (Next, Maybe)) else part
        steps.append(_step(inner, without, is_maybe=isinstance(part, Maybe), is_next=is_next))
        without = None
    return steps, without


def _step(part: Motif, without: Motif | None, *, is_maybe: bool, is_next: bool) -> _Step:
    if isinstance(part, Count) and not is_maybe and (is_soft(part) or (part.within_us is None and part.by is None)):
        return _Step(part.of, part.times, _most(part), without, is_next)
    return _Step(part, 0 if is_maybe else 1, 1, without, is_next)


def _most(motif: Count) -> float:
    return motif.times if motif.most is None else FOREVER if motif.most == UNBOUNDED else motif.most


def _value(said: Said, path: str) -> str | None:
    value = said.data
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return None if value is None else str(value)


def _time(time_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)


def _many(motif: Motif, *, is_many: bool = False) -> Iterator[str]:
    """The labels that several events may have."""
    if isinstance(motif, Topic):
        if is_many and motif.label is not None:
            yield motif.label
    elif isinstance(motif, (Count, Window)):
        yield from _many(motif.of, is_many=True)
    else:
        for part in motif.parts if isinstance(motif, (AnyOf, AllOf, Seq)) else (motif.part,):
            yield from _many(part, is_many=is_many)
