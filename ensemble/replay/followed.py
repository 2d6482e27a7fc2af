"""A section whose events are handed out as somebody says, not in turn: for who follows a record of what was heard when.

Owns which of its events are unheard, by lane. Of a lane only the first unheard event can be picked, whatever is asked for:
order by key holds. One batch is in flight at a time.

    lanes[k] = the unheard and held offsets of lane k, ascending
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from ensemble.broker.routing import Heed, Listener
from ensemble.broker.section import Batch, Section
from ensemble.broker.state import SectionState


class Followed(Section):
    """One section. `is_awaited` tells of an offset whether the record has this section hear it at its own time."""

    def __init__(self, name: str, state: SectionState, listener: Listener, is_awaited: Callable[[int], bool]) -> None:
        super().__init__(name, state, listener, overlapping=False)
        self.unheard: dict[int, str] = {}
        self.free: dict[int, None] = {}
        """Unheard offsets that the record says nothing of: they are heard as soon as they can be."""
        self.waits: dict[int, int] = {}
        """Unheard offset -> when it is tried again."""
        self._parked: dict[int, str] = {}
        self.lanes: dict[str, deque[int]] = {}
        self._is_awaited = is_awaited

    def _admit(self, heed: Heed) -> None:
        attempts, held = self.state.attempts, self.state.held
        for offset, lane in zip(heed.offsets, heed.keys, strict=True):
            if offset in held:
                self._parked[offset] = lane
                self._line_up(offset, lane)
                continue
            if offset in attempts:
                self.waits[offset] = attempts[offset][1]
            self._put(offset, lane)
            if not self._is_awaited(offset):
                self.free[offset] = None

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

    def pick(self, wanted: Iterable[int], began_us: int) -> Batch | None:
        """These of its unheard events, in this order, as far as their lanes let them; None if that is none.

        What can't be heard yet, though it was wanted, is free from then on.
        """
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

    def ready(self, now_us: int) -> list[int]:
        """The free events that can be heard now, ascending."""
        return [offset for offset in sorted(self.free) if self.waits.get(offset, 0) <= now_us and self._is_first(offset)]

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
            if not self._is_awaited(offset):
                self.free[offset] = None
