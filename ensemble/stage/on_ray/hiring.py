"""Who plays in a shard on the cluster: the crew that its loop hires from, and its way to the crews of the other shards.

Owns the post between crews. It is told in threads of its own, so that neither the loop nor Ray waits for it; what can't be
brought is not brought again, since all is told anew while it is needed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from ensemble.broker.words import Outcome
from ensemble.errors import EnsembleError, Unavailable
from ensemble.stage.inbox import Item, Role
from ensemble.stage.on_ray import actors
from ensemble.stage.on_ray.crew import Instances
from ensemble.stage.on_ray.peers import Peers
from ensemble.stage.on_ray.plan import Plan
from ensemble.stage.on_ray.roster import LEADER, Report, Roster, mark_of
from ensemble.stage.on_ray.shelf import Shelf
from ensemble.stage.on_ray.troupe import HUNGRY_S, TEND_S, Troupe
from ensemble.stage.workers import Workers

AGAIN_S = 1.0
"""How often who can't go on without the leader tells it so again."""
LEAVING_S = 30.0
"""How long the leader waits for what the other shards finish."""

Told = Report | Roster


class RayCrew:
    """`aio` is the event loop that the section's loop has for coroutines."""

    def __init__(
        self,
        plan: bytes,
        aio: asyncio.AbstractEventLoop,
        peers: Peers,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        """What the instances are made from that are hired from now on."""
        self.epoch = 0
        """Of the shard's log, once it is open."""
        self.shard, self.shards = peers.number, len(peers)
        self.now_s = now_s
        self.sections: dict[str, Instances] = {}
        self._aio = aio
        self._peers = peers
        self._numbers = itertools.count(1)
        self._troupes: dict[str, Troupe] = {}
        self._porter = ThreadPoolExecutor(1, "ensemble-porter")
        """Who makes and ends actors, one after the other: Ray takes 1 ms for it, and hundreds where the machine is busy."""
        self._crier = ThreadPoolExecutor(1, "ensemble-crier")
        """Who speaks to the other shards."""
        self._shelf = Shelf(actors.put, lambda: len(self.sections) > 1)
        self._unsent: dict[tuple[int, str], Told] = {}
        self._sending = threading.Lock()
        self._auditioned: dict[str, tuple[Any, float, Any]] = {}

    def forget(self) -> None:
        """Keep no copy of what the log said."""
        self._shelf.forget()

    def next_number(self) -> int:
        return next(self._numbers)

    @property
    def leads(self) -> bool:
        return self.shard == LEADER

    def audition(self, roles: Iterable[Role]) -> None:
        """Start the first instance of each of these, all at once, and see whether they can be built. The leader does.

        PlayerError if one can't; then none is left. One that finds no place in `HUNGRY_S` is not waited for.
        """
        if not self.leads:
            return
        for role in roles:
            actor = actors.make(role, self.plan)
            self._auditioned[role.spec.name] = actor, self.now_s(), actor.ready.remote().future()
        until = self.now_s() + HUNGRY_S
        for _, _, is_ready in self._auditioned.values():
            try:
                is_ready.result(max(0.0, until - self.now_s()))
            except (concurrent.futures.TimeoutError, TimeoutError):
                continue
            except Exception as error:
                told = getattr(error, "cause", error)
                if isinstance(told, EnsembleError):
                    self._dismiss()
                    raise told from None

    def _dismiss(self) -> None:
        while self._auditioned:
            actors.end(self._auditioned.popitem()[1][0])

    def hire(self, role: Role, post: Callable[[Item], None], post_now: Callable[[Outcome], None]) -> Workers:
        name = role.spec.name
        mark = mark_of(Plan.load(self.plan), name)
        if not self.leads:
            instances = Instances(role, mark, self, Following(self), post, self._aio, self._porter, self._shelf)
            self.sections[name] = instances
            instances.stir()  # so that the leader hears of it, though there is nothing to do
            return instances
        troupe = self._troupes.get(name)
        if troupe is None:
            troupe = self._troupes[name] = Troupe(self, post, self.send, self._porter)
        instances = Instances(role, mark, self, Leading(self, troupe), post, self._aio, self._porter, self._shelf, troupe.lock)
        troupe.play(role, self.plan, mark, instances)
        self.sections[name] = instances
        if name in self._auditioned:
            troupe.join(*self._auditioned.pop(name))
        return instances

    # Between the shards

    def send(self, shard: int, told: Told) -> None:
        """Tell another shard. What was to be told before of the same section, and was not yet, is old."""
        with self._sending:
            is_first = not self._unsent
            self._unsent[shard, told.section] = told
        if is_first:
            self._crier.submit(self._send_all)

    def _send_all(self) -> None:
        with self._sending:
            unsent, self._unsent = self._unsent, {}
        by_shard: dict[int, list[Told]] = {}
        for (shard, _), told in unsent.items():
            by_shard.setdefault(shard, []).append(told)
        for shard, all_told in by_shard.items():
            try:
                self._peers.call(shard, "crew", all_told)
            except Unavailable:  # it is not there yet: it asks when it is
                continue

    def hear(self, all_told: Iterable[Told]) -> None:
        """What another shard tells. Doesn't block."""
        for told in all_told:
            if isinstance(told, Report):
                self._take(told)
            elif told.section in self.sections:
                self.sections[told.section].told(told)

    def _take(self, report: Report) -> None:
        troupe = self._troupes.get(report.section)
        if troupe is None or not troupe.take(report):
            return
        if troupe.has_news(report):
            troupe.tell(report.shard)
        if troupe.is_over:
            troupe.tend(self.now_s())
        elif (instances := self.sections.get(report.section)) is not None:
            instances.stir()

    def close(self) -> None:
        self._dismiss()
        until_s = self.now_s() + (LEAVING_S if self.shards > 1 else 5.0)
        for troupe in self._troupes.values():
            troupe.close(until_s)
        self._troupes = {}  # who tells them something now comes too late
        self._crier.shutdown()
        self._porter.shutdown()


class Leading:
    """The way of a section to who leads, where that is this shard."""

    def __init__(self, crew: RayCrew, troupe: Troupe) -> None:
        self._crew, self._troupe = crew, troupe

    def report(self, report: Report, now_s: float, *, is_waiting: bool) -> float | None:
        self._troupe.take(report)
        return self._troupe.tend(now_s)

    def scale(self, count: int | None) -> None:
        self._troupe.scale(count)

    def left(self, instances: Instances, last: Report) -> None:
        if self._crew.sections.get(last.section) is instances:
            del self._crew.sections[last.section]
        self._troupe.leave(instances)


class Following:
    """The way of a section to who leads, where that is another shard.

    A call at the most each `TEND_S`, but for what is urgent.
    """

    def __init__(self, crew: RayCrew) -> None:
        self._crew = crew
        self._last: Report | None = None
        self._was_waiting = False
        self._sent_s = 0.0

    def report(self, report: Report, now_s: float, *, is_waiting: bool) -> float | None:
        last = self._last
        since_s = now_s - self._sent_s
        is_new = last is None or msgspec.structs.replace(report, at=last.at) != last
        is_urgent = last is None or _urgent(report) != _urgent(last) or (is_waiting and not self._was_waiting)
        if is_urgent or (is_new and since_s >= TEND_S) or (is_waiting and since_s >= AGAIN_S):
            self._last, self._was_waiting, self._sent_s = report, is_waiting, now_s
            self._crew.send(LEADER, report)
            is_new = False
        if report.lag or is_new:
            return now_s + TEND_S
        return now_s + AGAIN_S if is_waiting else None

    def scale(self, count: int | None) -> None:
        raise Unavailable(f"shard {LEADER} says how many instances there are; ask it")

    def left(self, instances: Instances, last: Report) -> None:
        if self._crew.sections.get(last.section) is instances:
            del self._crew.sections[last.section]
            self._crew.send(LEADER, msgspec.structs.replace(last, is_closed=True))


def _urgent(report: Report) -> tuple[Any, ...]:
    return report.seen, report.finishing, report.lost, report.spent, report.is_suspicious
