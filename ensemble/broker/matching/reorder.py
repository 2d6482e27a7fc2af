"""Event time: events in the order of the times that their publishers gave, held back until no earlier one is awaited.

Owns the watermark: the latest time seen under the motif's topics, less its `lateness`. What is earlier than that when it comes
is late, and left out. Time passes for the motif with the watermark, and never by a clock.

Invariants:
    events are passed on with ascending times; of one time, in the order of the log
    every event that is passed on has  time <= watermark;  every event that waits has  time > watermark
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Any

from ensemble.broker.matching.matcher import Match, Matcher
from ensemble.broker.matching.pattern import Pattern
from ensemble.event import Rows

Waiting = tuple[int, int, str, str, bytes, Any, int]
"""Time, offset, topic, key, payload, root and version of an event that is held back."""


class Reordered:
    """A matcher that goes by event time."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.late = 0
        """How many events were left out."""
        self._matcher = Matcher(pattern)
        self._high_us: int | None = None
        self._waiting: list[Waiting] = []

    @property
    def open(self) -> int:
        return self._matcher.open

    @property
    def given_up(self) -> int:
        return self._matcher.given_up

    def hear(self, rows: Rows, lo: int, time_us: int) -> list[tuple[int, Match]]:
        """See `Matcher.hear`; what is heard with a row may be of events long before it."""
        heard: list[tuple[int, Match]] = []
        if not any(self.pattern.judge(topic) for topic in rows.topics):
            return heard
        for row in range(lo, len(rows)):
            topic = rows.topics[rows.topic_ix if isinstance(rows.topic_ix, int) else rows.topic_ix[row]]
            if self.pattern.judge(topic) is None:
                continue
            own_us = rows.extra(row, "time_us")
            at_us = rows.time_us if own_us is None else int(own_us)
            watermark_us = self._watermark_us()
            if watermark_us is not None and at_us < watermark_us:
                self.late += 1
                continue
            own = (at_us, rows.offset(row), topic, rows.keys[row], rows.data[row], rows.root(row), rows.version(row))
            heappush(self._waiting, own)
            self._high_us = at_us if self._high_us is None else max(self._high_us, at_us)
            heard += [(row, match) for match in self._pass_on(rows)]
        return heard

    def _watermark_us(self) -> int | None:
        return None if self._high_us is None else self._high_us - self.pattern.how.lateness_us

    def _pass_on(self, rows: Rows) -> list[Match]:
        """Pass on what the watermark has come up to, and the watermark itself."""
        watermark_us = self._watermark_us()
        assert watermark_us is not None
        heard: list[Match] = []
        while self._waiting and self._waiting[0][0] <= watermark_us:
            at_us, offset, topic, key, payload, root, version = heappop(self._waiting)
            one = Rows(
                rows.log_id, rows.shard, offset, at_us, [topic], 0, [key], [payload], rows.sources[:1], 0,
                extras={0: {"root": root}}, versions=None if version == 1 else {topic: version},
            )  # fmt: skip
            heard += self._matcher.advance(at_us)
            heard += [match for _, match in self._matcher.hear(one, 0, at_us)]
        return heard + self._matcher.advance(watermark_us)

    def advance(self, now_us: int) -> list[Match]:
        """The broker's time says nothing to it."""
        return []

    def due_us(self) -> int | None:
        return None

    # Moving

    @property
    def matcher(self) -> Matcher:
        return self._matcher

    @property
    def waiting(self) -> Sequence[Waiting]:
        """What is held back."""
        return self._waiting

    @property
    def high_us(self) -> int | None:
        """The latest time seen."""
        return self._high_us

    def take_over(self, waiting: Sequence[Waiting], high_us: int | None, late: int) -> None:
        """Have what others of this motif held back, and go by the latest time that any of them has seen."""
        self._waiting += waiting
        heapify(self._waiting)
        self.late += late
        if high_us is not None:
            self._high_us = high_us if self._high_us is None else max(self._high_us, high_us)

    def dump(self) -> Any:
        return [self.late, self._high_us, sorted(self._waiting), self._matcher.dump()]

    def load(self, fields: Any) -> Reordered:
        self.late, self._high_us, waiting, matcher = fields
        self._waiting = [(*each, 1)[:7] for each in waiting]  # those of before had no version
        heapify(self._waiting)
        self._matcher.load(matcher)
        return self
