"""A section whose events are handed out as somebody says, not in turn: for who follows a record of what was heard when.

Owns which of its events are unheard, by lane. Of a lane only the first unheard event can be picked, whatever is asked for:
order by key holds. One batch is in flight at a time.

What is looked at and awaited is kept as it came, in runs: nearly all is picked as it came, too. As soon as something is picked
in another way, what lies before it is put into lanes.

    lanes[k] = the unheard and held offsets of lane k that are in no run, ascending
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ensemble.broker.routing import Heed, Listener
from ensemble.broker.section import Batch, Run, Section
from ensemble.broker.state import SectionState


class Followed(Section):
    """One section. `are_awaited` tells of offsets whether the record has this section hear all of them at its own time."""

    def __init__(
        self,
        name: str,
        state: SectionState,
        listener: Listener,
        are_awaited: Callable[[Sequence[int]], bool],
        owns: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(name, state, listener, overlapping=False, owns=owns)
        self._runs: deque[Run] = deque()
        self.unheard: dict[int, str] = {}
        self.free: dict[int, None] = {}
        """Unheard offsets that the record says nothing of: they are heard as soon as they can be."""
        self.waits: dict[int, int] = {}
        """Unheard offset -> when it is tried again."""
        self._parked: dict[int, str] = {}
        self.lanes: dict[str, deque[int]] = {}
        self._are_awaited = are_awaited

    def _admit(self, heed: Heed) -> None:
        if not heed.offsets:
            return
        attempts, held, runs = self.state.attempts, self.state.held, self._runs
        is_plain = not (attempts or held) or (attempts.keys().isdisjoint(heed.offsets) and held.isdisjoint(heed.offsets))
        if is_plain and (not runs or runs[-1].offsets[-1] < heed.offsets[0]) and self._are_awaited(heed.offsets):
            runs.append(Run(heed.offsets, heed.keys))
            return
        self._spread(heed.offsets[-1])
        for offset, lane in zip(heed.offsets, heed.keys, strict=True):
            if offset in held:
                self._parked[offset] = lane
                self._line_up(offset, lane)
                continue
            if offset in attempts:
                self.waits[offset] = attempts[offset][1]
            self._put(offset, lane)
            if not self._are_awaited((offset,)):
                self.free[offset] = None

    def _spread(self, upto: int) -> None:
        """Put all runs that begin at or before an offset into lanes."""
        while self._runs and self._runs[0].offsets[self._runs[0].at] <= upto:
            run = self._runs.popleft()
            for offset, lane in zip(run.offsets[run.at :], run.keys[run.at :], strict=True):
                self._put(offset, lane)

    def _line_up(self, offset: int, lane: str) -> None:
        if not self.keyed:
            return
        line = self.lanes.setdefault(lane, deque())
        if not line or line[-1] < offset:
            line.append(offset)
        else:  # what comes back, or was reopened
            self.lanes[lane] = deque(sorted([*line, offset]))

    def _put(self, offset: int, lane: str) -> None:
        self.unheard[offset] = lane
        self._line_up(offset, lane)

    def pick(self, wanted: Sequence[int], began_us: int) -> Batch | None:
        """These of its unheard events, in this order, as far as their lanes let them; None if that is none.

        What can't be heard yet, though it was wanted, is free from then on.
        """
        if not wanted:
            return None
        if (batch := self._pick_run(wanted, began_us)) is not None:
            return batch
        self._spread(max(wanted))
        offsets: list[int] = []
        lanes: list[str] = []
        for offset in wanted:
            lane = self.unheard.get(offset)
            if lane is None:
                continue
            if self.keyed:
                line = self.lanes[lane]
                if line[0] != offset:
                    self.free[offset] = None
                    continue
                line.popleft()
                if not line:
                    del self.lanes[lane]
            offsets.append(offset)
            lanes.append(lane)
        if not offsets:
            return None
        attempts = self.state.attempts
        for offset in offsets:
            del self.unheard[offset]
            self.free.pop(offset, None)
            self.waits.pop(offset, None)
        self.flying = len(offsets)
        tried = {offset: attempts[offset][0] + 1 for offset in offsets if offset in attempts} if attempts else {}
        return Batch(self.name, offsets, lanes, tried, began_us)

    def _pick_run(self, wanted: Sequence[int], began_us: int) -> Batch | None:
        """The same where these come next in the runs, and no lane has anything before them; else None, and nothing."""
        lanes: list[str] = []
        ends: list[int] = []
        offsets, at = wanted, 0
        for run in self._runs:
            end = min(len(run.offsets), run.at + len(wanted) - at)
            there, here = run.offsets[run.at : end], wanted[at : at + end - run.at]
            if there != here and list(there) != list(here):
                return None
            lanes += run.keys[run.at : end]
            ends.append(end)
            at += len(there)
            if at == len(wanted) == len(there):
                offsets = there  # of the section's own kind: it knows a run by that
            if at == len(wanted):
                break
        if at < len(wanted) or (self.keyed and not self.lanes.keys().isdisjoint(lanes)):
            return None
        for end in ends:
            run = self._runs[0]
            run.at = end
            if end == len(run.offsets):
                self._runs.popleft()
        self.flying = len(wanted)
        return Batch(self.name, offsets, lanes, {}, began_us)

    def ready(self, now_us: int) -> list[int]:
        """The free events that can be heard now, ascending."""
        return [offset for offset in sorted(self.free) if self.waits.get(offset, 0) <= now_us and self._is_first(offset)]

    def let_free(self, offsets: Sequence[int]) -> None:
        """Those of these that are unheard here are heard as soon as they can be."""
        if offsets:
            self._spread(max(offsets))
            self.free.update(dict.fromkeys(offset for offset in offsets if offset in self.unheard))

    def _is_first(self, offset: int) -> bool:
        return not self.keyed or self.lanes[self.unheard[offset]][0] == offset

    @property
    def due_us(self) -> int | None:
        """None: when something is tried again is for who follows to say."""
        return None

    def settle(
        self,
        keys: Sequence[str],
        count: int,
        *,
        skipped: Sequence[tuple[int, str]] = (),
        waiting: Sequence[tuple[int, str, int]] = (),
        held: Sequence[tuple[int, str]] = (),
    ) -> None:
        self.flying -= count
        for offset, lane in skipped:
            self._put(offset, lane)
            self.free[offset] = None
        for offset, lane, due_us in waiting:
            self._put(offset, lane)
            self.waits[offset] = due_us
        for offset, lane in held:
            self._parked[offset] = lane
            self._line_up(offset, lane)

    def let_go(self, offset: int) -> None:
        lane = self._parked.pop(offset, None)
        if lane is not None:
            self.unheard[offset] = lane
            if not self._are_awaited((offset,)):
                self.free[offset] = None
