"""Dead letters as warnings of the logger `ensemble.dead`, so that nobody has to ask whether there are any.

Owns how often: the first few at once, then the sum of what came meanwhile. Called in the loop only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ensemble import whereabouts
from ensemble.broker.failure import DEAD
from ensemble.event import Frame, decode

AT_ONCE = 5
"""How many are told one by one before the rest is summed up."""
SUM_EVERY_S = 10.0
"""How long, at the least, between two sums; then some are told one by one again."""

log = logging.getLogger("ensemble.dead")


class Deaths:
    """Tells of the dead letters in frames, not of each where there are many."""

    def __init__(self, name: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._now_s = now_s
        self._told = self._untold = 0
        self._since_s = now_s()

    def tell(self, frame: Frame) -> None:
        """Tell of those that a frame has."""
        if "dead" not in frame.marks or frame.rows is None:
            return
        now_s = self._now_s()
        if now_s - self._since_s >= SUM_EVERY_S:
            self.sum_up()
            self._told, self._since_s = 0, now_s
        rows = frame.rows
        for ix in range(len(rows)):
            if rows.topic(ix) != DEAD:
                continue
            if self._told >= AT_ONCE:
                self._untold += 1
                continue
            self._told += 1
            event = rows.event(ix)
            data = decode(event.payload)
            place = whereabouts.in_traceback(data["traceback"])
            log.warning(
                "%s: player %s could not hear %s (%s): %s%s; band.dead() has the traceback",
                self._name,
                data["player"],
                event.causationid,
                data["topic"],
                data["error"],
                f" at {place}" if place else "",
            )

    def sum_up(self) -> None:
        """Tell how many were not told one by one."""
        if self._untold:
            more = "more event became a dead letter" if self._untold == 1 else "more events became dead letters"
            log.warning("%s: %d %s; band.dead() lists them", self._name, self._untold, more)
            self._untold = 0
