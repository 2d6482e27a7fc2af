"""One instance as a shard knows it, and the batches that it has from there.

Owns what is remembered of them, and what comes of a batch whose instance is gone. Guarded by the crew's lock.
"""

from __future__ import annotations

from collections import deque

from ensemble.broker.words import Failure, Outcome
from ensemble.player import Work
from ensemble.stage.on_ray.actors import cause
from ensemble.stage.on_ray.roster import Member


class Hand:
    """One instance, as this shard knows it, and the batches that it has from here."""

    def __init__(self, member: Member, now_s: float) -> None:
        self.id, self.actor, self.pid = member.id, member.actor, member.pid
        self.flights: deque[Flight] = deque()
        self.idle_since_s = now_s
        self.is_open = False
        """Whether it may have more from here."""
        self.is_private = False
        """Whether nobody else has anything there."""
        self.is_spent = False
        self.is_clear = True
        """Whether it hears nothing that the process before this one gave it."""
        self.is_asked_back = False
        """Whether it was asked to give back what waits behind the batch that it hears."""
        self.asked_s: float | None = None
        """Since when it owes an answer to what it hears."""
        self.answered_s = now_s
        self.hears_ours_s = 0.0
        """For how long it had been hearing a batch from here, as it last answered."""
        self.looked_s = 0.0
        self.passed_by_s = self.passed_by_until_s = 0.0
        """For how long, and until when, it gets nothing from here, since it gave all back: somebody else has it."""
        self.sent = 0

    @property
    def waiting(self) -> int:
        """How many events it has that have not come back."""
        return sum(len(flight.left) for flight in self.flights)

    @property
    def head_s(self) -> float:
        """Since when it has been hearing the batch that it hears."""
        return max(self.idle_since_s, self.flights[0].began_s)


class Flight:
    """A batch on its way through an instance."""

    def __init__(self, work: Work, now_s: float) -> None:
        self.work = work
        self.number = 0
        """The number of the batch among those of its instance."""
        self.left = set(work.batch.offsets)
        """What has not come back yet."""
        self.began_s = now_s
        self.frames: list[int] = []
        """The frames that go along, by their first offsets."""


def given_back(flight: Flight, error: BaseException | None = None) -> Outcome:
    """What came of a batch whose instance is gone: nothing; with an error, its one event is charged with that."""
    batch, events = flight.work.batch, flight.work.events
    rows = [row for row, offset in enumerate(batch.offsets) if offset in flight.left]
    failures, skipped = [], []
    for row in rows:
        if error is not None:
            name = batch.section
            why = f"InstanceDied: the process of player {name} died while it heard this event: {cause(error)}"
            failures.append(
                Failure(
                    batch.offsets[row], events[row].key, batch.keys[row], events[row].topic,
                    flight.work.refs[row], flight.work.roots[row], why, "",
                )
            )
        else:
            skipped.append((batch.offsets[row], batch.keys[row]))
    return Outcome(
        batch.section, len(rows), [batch.keys[row] for row in rows], (), None, batch.began_us,
        failures=failures, skipped=skipped,
    )  # fmt: skip
