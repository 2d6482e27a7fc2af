"""A section on the stage: what the broker knows of it, its instances, and the pace at which they hear.

Owns when a section looks at the log, and how large its batches are. All of it runs in the loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ensemble.broker.section import Section
from ensemble.broker.words import Outcome
from ensemble.event import Event
from ensemble.listening import lookups
from ensemble.player import Work
from ensemble.stage.inbox import Role
from ensemble.stage.tape import Tape
from ensemble.stage.workers import Workers

WINDOW = 4096
"""How many events are taken off the log ahead of being heard, at the least."""
LOOKS_MOST = 256
"""Frames that are looked through in one turn."""
KEPT = 0.8
"""How much of what a section knows of its service time it still believes after the next batch."""
SPREAD_LEAST = 0.1
"""How much the sizes of batches must differ, as a share of their mean, to tell what is fixed in their cost."""


LANE_MOST = 8
"""Events of one key that an asynchronous player is given at a time: they wait for each other, and take up room meanwhile."""


class Pace(msgspec.Struct):
    """How many events a batch should have: as many as are heard in a moment, so that nobody waits long.

    It starts small, since nobody knows yet how long an event takes, and follows the measured service time:

        took = fixed + each * count

    A batch that costs much whatever its size does not get smaller for it: half of its time may be what is fixed.
    """

    most: int
    limit: float = 8
    moment_s: float = 0.02
    fixed_s: float = 0.0
    _weight: float = 0.0
    _count: float = 0.0
    _took_s: float = 0.0
    _count_count: float = 0.0
    _count_took: float = 0.0

    def __post_init__(self) -> None:
        self.limit = min(self.limit, self.most)

    def learn(self, count: int, took_s: float) -> None:
        """A batch of so many events took so long. The latest ones count most."""
        self._weight = KEPT * self._weight + 1
        share = 1 / self._weight
        self._count += share * (count - self._count)
        self._took_s += share * (took_s - self._took_s)
        self._count_count += share * (count * count - self._count_count)
        self._count_took += share * (count * took_s - self._count_took)
        spread = self._count_count - self._count**2
        if spread > (SPREAD_LEAST * self._count) ** 2:  # batches of one size don't tell what is fixed: it stays as it was
            each_s = (self._count_took - self._count * self._took_s) / spread
            self.fixed_s = min(self._took_s, max(0.0, self._took_s - each_s * self._count))
        each_s = (self._took_s - self.fixed_s) / self._count
        fits = max(self.moment_s - self.fixed_s, self.fixed_s) / each_s if each_s > 0 else self.most
        self.limit = max(1.0, min(self.most, fits, max(8, 4 * self.limit)))


class Seat:
    """One section's place. `is_paced` is False under a manual clock: batches must not follow the machine's speed."""

    def __init__(
        self,
        section: Section,
        role: Role,
        workers: Workers,
        tape: Tape,
        load: Callable[[], int],
        tables: Callable[[str], Mapping[str, bytes]],
        *,
        is_paced: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.section = section
        self.workers = workers
        self.load = load
        """How many events there are to deal with; those that are held are not among them."""
        self.is_leaving = False
        """Whether it is handed nothing more, since another player takes its place."""
        self._tape = tape
        self._tables = tables
        """What a player of this name remembers by key, encoded."""
        self._reads, self._enrich = role.spec.reads, lookups(role.spec)
        self._monotonic = monotonic
        self._batch = max(1, role.spec.section.batch)
        self._linger_s = role.spec.section.linger_us / 1e6 if is_paced else 0.0
        self._lingers_until: float | None = None
        self._lane_most = LANE_MOST if is_paced and role.is_async else None
        self._is_whole = role.hears_batches or self._linger_s > 0
        """Whether a batch is all that waits: who hears many events in one call, or waits for more, wants them together."""
        self._pace = Pace(self._batch) if is_paced and not role.is_async and not self._is_whole else None

    def can_look(self, durable_end: int) -> bool:
        """Whether there is something to look at, and room for it."""
        section = self.section
        return section.ready_count < WINDOW and not section.away and (bool(section.reopened) or section.next < durable_end)

    def look(self, durable_end: int) -> None:
        """Look at what is durable, a window of it."""
        section = self.section
        for _ in range(LOOKS_MOST):
            if not self.can_look(durable_end):
                return
            if section.reopened:
                frame = self._tape.at(section.reopened[0])
                offsets = []
                while section.reopened and frame.first <= section.reopened[0] < frame.end:
                    offsets.append(section.reopened.popleft())
                if not offsets:  # retention took it: of a section that was away, or as of a place long ago
                    section.pass_over(section.reopened.popleft())
                    continue
                assert frame.rows is not None
                section.look_again(frame.rows, offsets)
            else:
                frame = self._tape.at(section.next)
                section.look(frame.rows, frame.end)

    def can_play(self) -> bool:
        """Whether a batch could be handed out now."""
        return not self.is_leaving and self.section.has_work and self.workers.room() > 0 and not self._lingers()

    def _lingers(self) -> bool:
        """Whether it waits a little for more events to hear together."""
        if not self._linger_s or self.section.ready_count >= self._batch:
            return False
        now_s = self._monotonic()
        if self._lingers_until is None:
            self._lingers_until = now_s + self._linger_s
        return now_s < self._lingers_until

    @property
    def wake_s(self) -> float | None:
        """When it stops to linger, by the monotonic clock."""
        return self._lingers_until

    def play(self, now_us: int) -> bool:
        """Hand out one batch; False if there is none."""
        self._lingers_until = None
        batch = self.section.take(min(self._limit(), self.workers.room()), now_us, self._lane_most)
        if batch is None:
            return False
        events, refs, roots = self._tape.events(batch.offsets)
        work = Work(batch, events, refs, roots, self.section.state.table)
        if self._reads or self._enrich:
            look_up(work, self._reads, self._enrich, self._tables)
        self.workers.start(work)
        return True

    def _limit(self) -> int:
        """How many events the next batch may have."""
        limit = self._batch if self._pace is None else int(self._pace.limit)
        spread = self.workers.spread
        if spread > 1 and not self._is_whole:  # leave some for the other instances
            limit = min(limit, max(1, self.section.ready_count // spread))
        return limit

    def came_back(self, outcome: Outcome) -> None:
        """Learn from a batch how long the next should be."""
        if self._pace is not None and outcome.took_s and outcome.count:
            self._pace.learn(outcome.count, outcome.took_s)


def look_up(
    work: Work,
    reads: Sequence[str],
    enrich: Mapping[str, tuple[str, Callable[[Event], str | None]]],
    tables: Callable[[str], Mapping[str, bytes]],
) -> None:
    """Give along what other players remember now: they go on writing while this batch is heard."""
    lanes = dict.fromkeys(work.batch.keys)
    known = {name: tables(name) for name in reads}
    work.reads = {name: {lane: table[lane] for lane in lanes if lane in table} for name, table in known.items()}
    for field, (player, key) in enrich.items():
        table = tables(player)
        column: list[bytes | None] = [None] * len(work.events)
        if table:
            # Views: what is decoded for the key is not what the player gets.
            keys = [key(event.view()) for event in work.events]
            column = [None if at is None else table.get(at) for at in keys]
        work.enriched = {**work.enriched, field: column}
