"""What was played, hearing by hearing: who heard which event when, how long it waited and worked, and how that ended.

Owns the reading of marks for those who look back (timelines, traffic). It folds the same frames by the same `State.apply` as
those who play, and writes nothing. Must not know how anything is shown.

Invariants, for a hearing h of an event e:
    e.written_at <= h.began_at <= h.ended_at       (waiting lies before `began_at`, work between the two)
    attempts of one event by one player count from 1 without a gap, unless it was heard again as a dead letter
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from ensemble.broker.outbox import is_copy
from ensemble.broker.state import SectionState, State, fits, lag
from ensemble.event import REMOVED, Event, Frame, Rows
from ensemble.log.base import LogReader
from ensemble.log.cut import read_place
from ensemble.motif import leaves, matches

Place = tuple[int, int]
"""Where an event lies: its shard, and its offset there."""


SAMPLES = 200
"""How often a history tells the lag, from the first frame to the last."""


class Hearing(msgspec.Struct, frozen=True):
    """One time that a player heard an event."""

    player: str
    place: Place
    """Of the event."""
    began_us: int | None
    """When it was handed to the player; None where the log does not tell (it tells of whole batches only)."""
    ended_us: int
    """When the outcome was written."""
    attempt: int
    outcome: Literal["heard", "failed", "dead"]
    error: str = ""
    due_us: int | None = None
    """When it is tried again."""


class TimerSet(msgspec.Struct, frozen=True):
    """An event that was to be said later."""

    topic: str
    key: str
    cause: int | str
    set_us: int
    due_us: int


class SectionThen(msgspec.Struct, frozen=True):
    """How a section stood."""

    lag: int
    heard: int
    emitted: int
    failed: int
    dead: int


class History(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, up to a moment."""

    events: Sequence[Event]
    speakers: Mapping[Place, str]
    """Who said an event: a player or a source. What was published from outside has none."""
    hearings: Sequence[Hearing]
    parts: Mapping[Place, Sequence[Place]]
    """What a match was made of."""
    timers: Sequence[TimerSet]
    sections: Mapping[str, SectionThen]
    topics: Mapping[str, int]
    begin_us: int
    until_us: int
    """When the first frame was written, and the last."""
    lags: Sequence[tuple[int, Mapping[str, int]]]
    """The lag of each section, some hundred times from beginning to end."""


def history(logs: Sequence[LogReader], until: int | datetime | None = None) -> History:
    """What was played into these logs, the shards of a band.

    Units: `until` is an offset (in each shard) or a time; it is not included. None: to the end as of now.
    """
    stop = None if until is None else read_place(until, "until=")
    assert not isinstance(stop, str)
    folded = [_Fold(log, shard, stop) for shard, log in enumerate(logs)]
    sections: dict[str, SectionThen] = {}
    topics: dict[str, int] = {}
    for fold in folded:
        fold.run()
        for topic, count in fold.state.topics.items():
            topics[topic] = topics.get(topic, 0) + count
        for name, section in fold.state.sections.items():
            now = SectionThen(lag(fold.state, name), section.heard, section.emitted, section.failed, len(section.dead))
            before = sections.get(name)
            sections[name] = now if before is None else _together(before, now)
    events = [event for fold in folded for event in fold.own_events()]
    hearings = [hearing for fold in folded for hearing in fold.hearings]
    return History(
        events=events if len(folded) == 1 else sorted(events, key=lambda event: event.written_at),
        speakers={place: name for fold in folded for place, name in fold.speakers.items()},
        hearings=hearings if len(folded) == 1 else _at_home(hearings, events, folded),
        parts={place: parts for fold in folded for place, parts in fold.parts.items()},
        timers=[timer for fold in folded for timer in fold.timers],
        sections=sections,
        topics=topics,
        begin_us=min((fold.begin_us for fold in folded if fold.begin_us), default=0),
        until_us=max((fold.state.time_us for fold in folded), default=0),
        lags=_lags_together([fold.lags for fold in folded]),
    )


def _together(a: SectionThen, b: SectionThen) -> SectionThen:
    return SectionThen(*(getattr(a, name) + getattr(b, name) for name in SectionThen.__struct_fields__))


def _lags_together(lags: Sequence[Sequence[tuple[int, Mapping[str, int]]]]) -> list[tuple[int, dict[str, int]]]:
    """Those of all shards, summed: of each shard, as it was last told."""
    told: list[Mapping[str, int]] = [{} for _ in lags]
    found = []
    samples = [(time_us, shard, of) for shard, each in enumerate(lags) for time_us, of in each]
    for time_us, shard, of in sorted(samples, key=lambda each: each[0]):
        told[shard] = of
        names = dict.fromkeys(name for each in told for name in each)
        found.append((time_us, {name: sum(each.get(name, 0) for each in told) for name in names}))
    return found


def _at_home(hearings: Sequence[Hearing], events: Sequence[Event], folded: Sequence[_Fold]) -> list[Hearing]:
    """What a shard heard for another is told of the event itself, not of its copy."""
    homes = {event.id: (event.shard, event.offset) for event in events}
    copies = {place: homes[id] for fold in folded for place, id in fold.copies.items() if id in homes}
    return [msgspec.structs.replace(each, place=copies.get(each.place, each.place)) for each in hearings]


class _Fold:
    """One shard's log, folded frame by frame."""

    def __init__(self, log: LogReader, shard: int, until: int | tuple[int] | None) -> None:
        self._log = log
        self._shard = shard
        self._until = until
        base = log.base()
        self.state = State() if base is None else State.load(base.state)
        self._first = 0 if base is None else base.at.offset
        """The offset with which the log begins: what retention took is not told of."""
        self.copies: dict[Place, str] = {}
        """Events that lie here only to be heard here -> their ids."""
        self.speakers: dict[Place, str] = {}
        self.parts: dict[Place, Sequence[Place]] = {}
        self.hearings: list[Hearing] = []
        self.timers: list[TimerSet] = []
        self.begin_us = 0
        self.lags: list[tuple[int, dict[str, int]]] = []
        self._events: list[Event] = []
        self._topics: list[str] = []
        """The topic of each offset from the first on, as the section's patterns see it."""
        self._conditions: Mapping[str, Callable[[Event], bool]] = _conditions(self.state.score) if self.state.score else {}
        self._tried: dict[tuple[str, int], int] = {}
        """Attempts that failed, by player and offset."""

    def run(self) -> None:
        step_us = 0
        for frame in self._log.frames():
            if self._is_beyond(frame):
                break
            if not self.begin_us:
                self.begin_us = frame.time_us
                step_us = max(1, (self._log.end().time_us - frame.time_us) // SAMPLES)
            self._see(frame)
            self.state.apply(frame)
            if not self.lags or frame.time_us >= self.lags[-1][0] + step_us:
                self._sample()
        if self.begin_us:
            self._sample()

    def _sample(self) -> None:
        self.lags.append((self.state.time_us, {name: lag(self.state, name) for name in self.state.sections}))

    def _is_beyond(self, frame: Frame) -> bool:
        if self._until is None:
            return False
        if isinstance(self._until, int):
            return frame.first >= self._until
        return frame.time_us >= self._until[0]

    def _see(self, frame: Frame) -> None:
        rows = frame.rows
        if rows is not None:
            self._said(rows, frame.marks.get("place", {}))
        marks = frame.marks
        if "score" in marks:
            self._conditions = _conditions(marks["score"])
        for name, offsets in marks.get("again", {}).items():
            for offset in offsets:
                self._tried.pop((name, offset), None)
        dead = {(name, each[0]) for name, letters in marks.get("dead", {}).items() for each in letters}
        failed = marks.get("failed", {})
        for name, mark in marks.get("heard", {}).items():
            self._heard(name, mark, frame, {each[0] for each in failed.get(name, ())})
        for name, failures in failed.items():
            began = marks["heard"][name][7] if name in marks.get("heard", {}) else None
            for offset, attempt, due_us, error in failures:
                self._tried[name, offset] = attempt
                outcome: Literal["failed", "dead"] = "dead" if due_us < 0 or (name, offset) in dead else "failed"
                due = due_us if due_us >= 0 else None
                self._add(name, offset, began, frame, attempt, outcome, str(error), due)
        for fields in marks.get("later", ()):
            due_us, topic, key, _data, cause = fields[:5]
            self.timers.append(TimerSet(topic, key, cause, frame.time_us, due_us))

    def own_events(self) -> list[Event]:
        """The events that were said here."""
        return [
            event for event in self._events if self._is_there(event.offset) and (self._shard, event.offset) not in self.copies
        ]

    def _is_there(self, offset: int) -> bool:
        return offset >= self._first and self._topics[offset - self._first] != REMOVED

    def _said(self, rows: Rows, places: Mapping[str, Any]) -> None:
        source = next(iter(places)) if len(places) == 1 else None
        column = rows.topic_ix
        for row in range(len(rows)):
            event = rows.event(row)
            self._events.append(event)
            self._topics.append(rows.topics[column if isinstance(column, int) else column[row]])
            place = (self._shard, event.offset)
            if is_copy(rows, row):
                self.copies[place] = event.id
            if parts := rows.parts(row):
                self.parts[place] = [(self._shard, offset) for offset in parts if self._is_there(offset)]
            speaker = event.source.split("/")[2] if event.source.count("/") == 2 and rows.causes is not None else source
            if speaker is not None:
                self.speakers[place] = speaker

    def _heard(self, name: str, mark: Sequence[Any], frame: Frame, failed: set[int]) -> None:
        """The events that the mark says were heard: those that it passes or closes, without what failed or was passed over."""
        position, _passed, opened, closed, _retried, count, _emitted, began = mark
        section = self.state.sections.get(name, SectionState())
        if not count:
            return
        still_open = set(opened)
        topics, first = self._topics, self._first
        passing = range(max(section.position, first), min(position, first + len(topics)))
        passed = [offset for offset in passing if fits(section.patterns, topics[offset - first]) and offset not in still_open]
        candidates = [o for o in (*passed, *closed) if o not in failed and o not in section.dead]
        if len(candidates) > count:  # some were passed over by a condition
            holds = self._conditions.get(name)
            if holds is not None:
                candidates = [o for o in candidates if o < first or holds(self._events[o - first])]
        for offset in candidates[:count]:
            self._add(name, offset, began, frame, self._tried.get((name, offset), 0) + 1, "heard", "", None)

    def _add(
        self, name: str, offset: int, began: int | None, frame: Frame, attempt: int,
        outcome: Literal["heard", "failed", "dead"], error: str, due: int | None,
    ) -> None:  # fmt: skip
        at = (self._shard, offset)
        if self._is_there(offset):
            self.hearings.append(Hearing(name, at, began or None, frame.time_us, attempt, outcome, error, due))


def _conditions(document: Mapping[str, Any]) -> dict[str, Callable[[Event], bool]]:
    """Whether a player hears an event, of the players that listen with a condition, by the score that was played."""
    from ensemble.errors import ScoreError
    from ensemble.score import load

    try:
        score = load(document)
    except ScoreError:  # of another version: then who heard what is told less exactly
        return {}
    found = {}
    for name, player in score.players.items():
        parts = leaves(player.on) or ()
        if any(part.where is not None for part in parts):
            found[name] = _holds([(part.pattern, part.where) for part in parts])
    return found


def _holds(parts: Sequence[tuple[str, str | None]]) -> Callable[[Event], bool]:
    from ensemble.score.condition import condition

    ready = [(pattern, None if where is None else condition(where)) for pattern, where in parts]

    def holds(event: Event) -> bool:
        return any(matches(pattern, event.topic) and (test is None or test(event)) for pattern, test in ready)

    return holds


def failures(logs: Sequence[LogReader], events: Sequence[Event]) -> dict[Place, dict[str, list[str]]]:
    """How often players failed at these events: an event's place -> player -> the error of each attempt.

    It costs what was written from the first of them on.
    """
    wanted = {(event.shard, event.offset) for event in events}
    found: dict[Place, dict[str, list[str]]] = {}
    for shard in {shard for shard, _ in wanted}:
        first = min(offset for at, offset in wanted if at == shard)
        for frame in logs[shard].frames(logs[shard].frame_at(first).seq):
            for name, failed in frame.marks.get("failed", {}).items():
                for offset, _attempt, _due_us, error in failed:
                    if (shard, offset) in wanted:
                        found.setdefault((shard, offset), {}).setdefault(name, []).append(str(error))
    return found


def hearings_by_place(past: History) -> dict[Place, list[Hearing]]:
    """An event's place -> how it was heard, in order."""
    found: dict[Place, list[Hearing]] = {}
    for hearing in past.hearings:
        found.setdefault(hearing.place, []).append(hearing)
    return found
