"""How many instances a section should have: a decision of numbers, with no Ray in it.

Owns the rule. Backlog and service time say how many instances would clear what waits within `CLEAR_S`; a section grows to
that at once and shrinks to it only when it has wanted to for its cooldown; with nothing to do for `idle` it goes to `min`.

    min <= wanted <= max          (whatever the load)
    lag > 0  =>  wanted >= 1
"""

from __future__ import annotations

import math

import msgspec

from ensemble.score.model import Section

CLEAR_S = 1.0
"""In how many seconds what waits should be heard."""


class Load(msgspec.Struct, frozen=True):
    """What a section has to do at a moment."""

    lag: int
    """Events that wait or are in flight."""
    service_s: float
    """How long one event takes one instance; 0: not known yet."""
    instances: int
    """Those that are there, and those that are on their way."""
    idle_s: float
    """For how long there has been nothing to do."""


def wanted(section: Section, load: Load) -> int:
    """How many instances the section should have for this load."""
    if load.lag == 0:
        if load.idle_s * 1e6 >= section.idle_us:
            return min(section.min, section.max)
        return max(min(load.instances, section.max), section.min)
    needed = math.ceil(load.lag * load.service_s / CLEAR_S) if load.service_s else load.instances
    return max(1, section.min, min(section.max, needed))


class Service:
    """How long an event takes an instance, as it is learned batch by batch."""

    def __init__(self) -> None:
        self.each_s = 0.0
        """0: not known yet."""

    def learn(self, count: int, took_s: float) -> None:
        """A batch of so many events took so long."""
        if count and took_s > 0:
            each_s = took_s / count
            self.each_s = each_s if not self.each_s else 0.8 * self.each_s + 0.2 * each_s


class Scaler:
    """The rule over time: growing is done at once, shrinking only after the cooldown."""

    def __init__(self, section: Section) -> None:
        self.section = section
        self.fixed: int | None = None
        """How many instances a user asked for by name; None: as the load says."""
        self.service_s = 0.0
        """How long an event takes an instance; 0: not known yet."""
        self._busy_at = 0.0
        self._high_at = 0.0

    def target(self, lag: int, instances: int, now_s: float, slowest_s: float = 0.0) -> int:
        """How many instances there should be now; an event that is being heard has taken `slowest_s` already."""
        if self.fixed is not None:
            return self.fixed
        if lag or not self._busy_at:
            self._busy_at = now_s
        load = Load(lag, max(self.service_s, slowest_s), instances, now_s - self._busy_at)
        target = wanted(self.section, load)
        if target >= instances or not self._high_at:
            self._high_at = now_s
        if target < instances and lag and (now_s - self._high_at) * 1e6 < self.section.cooldown_us:
            return instances
        return target

    def due_s(self, lag: int, instances: int, now_s: float) -> float | None:
        """When to ask again though nothing happens (the same clock); None: no need."""
        if self.fixed is not None or instances <= self.section.min or lag:
            return None
        return self._busy_at + self.section.idle_us / 1e6
