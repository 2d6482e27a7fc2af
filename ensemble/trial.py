"""A motif tried on the recorded past: what would have been heard, had it been listened for. Nothing is played or written.

Owns the trial: the frames of a log are fed to the motif, and to those that it names, as a shard would have done. Matches that
the log holds of these are passed over, so that it does not matter whether they were listened for then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ensemble.broker.matching import Listening
from ensemble.broker.state import State
from ensemble.event import Event, Frame, Match, Rows
from ensemble.listening import motif_topic, motives
from ensemble.log.base import LogReader
from ensemble.motif import Topic, alternatives, leaves
from ensemble.score import Score, load
from ensemble.score.lifts import Lifts
from ensemble.score.model import RECORD
from ensemble.score.vocabulary import Vocabulary

PLAYER = "tried"
VIRTUAL = 1 << 48
"""Matches that are no events of the log have offsets from here on."""


def tried(score: Score, motif: Any) -> Score:
    """A score that does nothing but to listen for a motif: a name that the score knows, or what may stand under `on:`.

    Errors: ScoreError if it is no motif.
    """
    if isinstance(motif, str) and motif in score.players:
        motif = score.document["players"][motif]["on"]
    document = {
        **{kind: what for kind, what in score.document.items() if kind in ("ensemble", "name", "events", "motifs", RECORD)},
        "players": {PLAYER: {"on": motif}},
    }
    made = load(document)
    on = made.players[PLAYER].on
    simple = leaves(on)
    named = [leaf for leaf in simple or () if leaf.pattern in made.motifs]
    if simple is not None and not named:  # each event is a match
        document["players"][PLAYER]["on"] = {"count": motif, "times": 1}
        made = load(document)
    return made


class Trial:
    """A motif on its way through the log of a shard. `count` says how many events it was fed."""

    def __init__(self, score: Score, log: LogReader) -> None:
        self.count = 0
        self._log = log
        self._lift = Lifts(Vocabulary(score)).frame if any(spec.version != 1 for spec in score.events.values()) else None
        self._state = State()
        self._listening = Listening(self._state, log.id, log.shard, f"/{score.name}")
        wanted = motives(score)
        self._listening.want(wanted, lambda offset: (), 0)
        self._topics = frozenset(motive.topic for motive in wanted.values())
        parts = alternatives(score.players[PLAYER].on)
        self._heard = {part.pattern if isinstance(part, Topic) else motif_topic(PLAYER) for part in parts}
        self._next = VIRTUAL
        self._made: dict[int, Event] = {}
        """Offset -> a match that is no event of the log."""

    def hear(self, since: int, until_us: int) -> Iterator[Match]:
        """What would have been heard from an offset on, up to a moment."""
        frames = self._log.rows(since)
        for frame in frames if self._lift is None else map(self._lift, frames):
            rows = _without(frame, self._topics, since)
            if rows is not None:
                self.count += len(rows)
                yield from self._feed(frame.time_us, rows)
        yield from self._feed(until_us, None)

    def _feed(self, time_us: int, rows: Rows | None) -> Iterator[Match]:
        frame = Frame(self._next if rows is None else rows.first, time_us, rows, {})
        for each in self._listening.hear(frame, self._next):
            self._next += len(each)
            for ix in range(len(each)):
                event = each.event(ix)
                if not each.parts(ix):
                    continue
                parts = sorted((self._part(offset) for offset in each.parts(ix)), key=_place)
                match = Match(each, ix, msgspec.UNSET, parts)
                self._made[event.offset] = match
                if event.topic in self._heard:
                    yield match

    def _part(self, offset: int) -> Event:
        if offset in self._made:
            return self._made[offset]
        frame = self._log.frame_at(offset)
        assert frame.rows is not None
        return frame.rows.event(offset - frame.first)


def _place(event: Event) -> tuple[int, bool]:
    """Where an event stands in the order of the log; a match that is none of its events, after the last of its parts."""
    is_made = event.offset >= VIRTUAL
    while isinstance(event, Match) and event.offset >= VIRTUAL:
        event = event.events[-1]
    return event.offset, is_made


def _without(frame: Frame, topics: frozenset[str], since: int) -> Rows | None:
    """The events of a frame from an offset on, but for the matches of these motifs."""
    rows = frame.rows
    assert rows is not None
    lo = max(0, since - frame.first)
    if not topics & set(rows.topics):
        return rows.between(lo, len(rows))
    ixs = [ix for ix in range(lo, len(rows)) if rows.topic(ix) not in topics]
    return rows.pick(ixs) if ixs else None


def told(match: Match) -> Mapping[str, Any]:
    """A match as `--json` writes it."""
    return {
        "time": match.time,
        "key": match.key,
        "events": [
            {"topic": event.topic, "offset": event.offset, "id": event.id, "data": event.data} for event in match.events
        ],
        "labels": {
            label: [each.id for each in found] if isinstance(found, list) else found.id for label, found in match.labels.items()
        },
    }
