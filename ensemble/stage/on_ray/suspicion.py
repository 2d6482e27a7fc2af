"""Which events may have killed the instance that heard them, and how that is found out.

Owns the halving. What an instance had when it died is under suspicion; it is handed out in batches of half the size, until the
one that kills stands alone. Knows no Ray.

    limit = NOTHING  <=>  nothing is under suspicion
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTHING = 1 << 30
SPARED_MOST = 3
"""How often an event that was alone with an instance that was lost for a reason that nobody knows is not charged with it."""


class Suspicion:
    """What is under suspicion in one section."""

    def __init__(self) -> None:
        self.limit = NOTHING
        """How many events may go together."""
        self._offsets: set[int] = set()
        self._spared: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._offsets)

    def fall_on(self, offsets: Sequence[int]) -> None:
        """An instance died with these: next they go in halves."""
        if offsets:
            self._offsets.update(offsets)
            self.limit = max(1, min(self.limit, len(offsets) // 2))

    def clear(self, offsets: Iterable[int]) -> None:
        """These were heard, or found out."""
        if not self._offsets:
            return
        for offset in offsets:
            self._offsets.discard(offset)
            self._spared.pop(offset, None)
        if not self._offsets:
            self.limit = NOTHING

    def spare(self, offset: int) -> bool:
        """Whether an event that was alone goes free, since nobody knows whether the process died, or its node."""
        spared = self._spared.get(offset, 0)
        self._spared[offset] = min(SPARED_MOST, spared + 1)
        return spared < SPARED_MOST
