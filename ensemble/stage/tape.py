"""The frames that were sealed lately, and a way back to older ones in the log; events of older versions are lifted.

Owns which frames stay in memory. A section that keeps up hears from here; one that trails reads its backlog from the log
in windows, so a backlog of any length costs the memory of a window.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from ensemble.errors import OffsetError
from ensemble.event import Event, Frame, Match, Ref, brought_along
from ensemble.log.base import LogReader
from ensemble.score.lifts import Lifts

BYTES_MOST = 16 << 20
"""How much of the tail stays in memory, measured in the log's bytes; decoded it takes about three times as much."""
OLD_MOST = 16
"""How many older frames stay in memory."""


class Tape:
    """Frames by offset. Only frames that hold events are kept."""

    def __init__(self, log: LogReader, lifts: Lifts | None = None) -> None:
        self._log = log
        self._lifts = lifts
        self._firsts: list[int] = []
        self._frames: list[Frame] = []
        self._sizes: list[int] = []
        self._from = 0
        self._bytes = 0
        self._old: dict[int, Frame] = {}

    def keep(self, frame: Frame, size: int) -> None:
        """Remember a frame that was sealed just now; the oldest leave when there is too much."""
        self._firsts.append(frame.first)
        self._frames.append(frame if self._lifts is None else self._lifts.frame(frame))
        self._sizes.append(size)
        self._bytes += size
        while self._bytes > BYTES_MOST and self._from < len(self._firsts) - 1:
            self._bytes -= self._sizes[self._from]
            self._from += 1
        if self._from > 64 and 2 * self._from > len(self._firsts):
            del self._firsts[: self._from], self._frames[: self._from], self._sizes[: self._from]
            self._from = 0

    def forget(self) -> None:
        """Keep nothing in memory: what the log says is another than it was. All must have been appended."""
        self._firsts, self._frames, self._sizes, self._old = [], [], [], {}
        self._from = self._bytes = 0

    def lift(self, lifts: Lifts) -> None:
        """From now on events are lifted so. What is remembered is read anew: all of it must have been appended."""
        self._lifts = lifts
        self.forget()

    def at(self, offset: int) -> Frame:
        """The frame that holds an offset; if retention took it, the one after it. It must be sealed here, or appended."""
        if self._from < len(self._firsts) and offset >= self._firsts[self._from]:
            return self._frames[bisect_right(self._firsts, offset, self._from) - 1]
        for frame in self._old.values():
            if frame.first <= offset < frame.end:
                return frame
        try:
            frame = self._log.frame_at(offset)
        except OffsetError:
            frame = next(self._log.rows(offset))
        if self._lifts is not None:
            frame = self._lifts.frame(frame)
        while len(self._old) >= OLD_MOST:
            del self._old[next(iter(self._old))]
        self._old[frame.first] = frame
        return frame

    def event(self, offset: int) -> Event:
        """The event at an offset."""
        frame = self.at(offset)
        assert frame.rows is not None
        return frame.rows.event(offset - frame.first)

    def events(self, offsets: Sequence[int]) -> tuple[list[Event], Sequence[Ref], Sequence[Ref]]:
        """The events at these offsets, and for each how an answer names it and the root of its chain."""
        if isinstance(offsets, range):
            frame = self.at(offsets[0])
            rows = frame.rows
            assert rows is not None
            first, last = offsets[0] - frame.first, offsets[-1] - frame.first
            if offsets[-1] < frame.end:
                events = [Event(rows, ix) for ix in range(first, last + 1)]
                if rows.extras is None:
                    return events, offsets, offsets if rows.roots is None else rows.roots[first : last + 1]
                named = rows.refs(first, last + 1)
                if not rows.odd:
                    return events, named, named if rows.roots is None else rows.roots[first : last + 1]
                self._complete(events)
                return events, named, [rows.root(ix) for ix in range(first, last + 1)]
        events = []
        refs: list[Ref] = []
        roots: list[Ref] = []
        at = 0
        while at < len(offsets):
            frame = self.at(offsets[at])
            rows, lo = frame.rows, frame.first
            assert rows is not None
            begin, end = offsets[at] - lo, min(frame.end - lo, offsets[at] - lo + len(offsets) - at)
            if list(offsets[at : at + end - begin]) == list(range(lo + begin, lo + end)):  # the rule: one after the other
                named = rows.refs(begin, end)
                events += [Event(rows, ix) for ix in range(begin, end)]
                refs += named
                if rows.roots is not None:
                    roots += rows.roots[begin:end]
                else:
                    roots += [rows.root(ix) for ix in range(begin, end)] if rows.odd else named
                at += end - begin
                continue
            while at < len(offsets) and lo <= offsets[at] < frame.end:
                ix = offsets[at] - lo
                events.append(Event(rows, ix))
                refs.append(offsets[at] if rows.extras is None else rows.ref(ix))
                roots.append(rows.root(ix))
                at += 1
        self._complete(events)
        return events, refs, roots

    def _complete(self, events: list[Event]) -> None:
        """Give the matches among these the events that they are made of. Each frame is looked up once, in order."""
        parts = {ix: event._rows.parts(event._ix) for ix, event in enumerate(events) if event._rows.odd}
        for ix in parts:
            if along := brought_along(events[ix]._rows, events[ix]._ix):
                events[ix] = Match(events[ix]._rows, events[ix]._ix, msgspec.UNSET, along)
        offsets = sorted({offset for each in parts.values() for offset in each})
        if not offsets:
            return
        found: dict[int, Event] = {}
        frame = self.at(offsets[0])
        for offset in offsets:
            if not frame.first <= offset < frame.end:
                frame = self.at(offset)
            assert frame.rows is not None
            found[offset] = frame.rows.event(offset - frame.first)
        for ix, each in parts.items():
            if each:
                event = events[ix]
                events[ix] = Match(event._rows, event._ix, msgspec.UNSET, [found[offset].view() for offset in each])
