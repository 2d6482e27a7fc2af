"""All instances of a section, as the shard that leads keeps them: started, shared, lent to one shard, and ended.

Owns how many there are, and who may use which. What the shards report is all that it decides by, and rosters are all that it
says: both are numbered, so that what comes twice or late changes nothing. A leader that is made anew begins with none, since
instances end with the process that made them, and learns from the next reports.

    started and not ended  <=  max        (or as many as a user asked for; those of a player that is being replaced apart)
    sole for a shard  =>  no other shard has anything there
    ended, but for one that is lost  =>  no shard has anything there
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from ensemble.errors import EnsembleError, PlayerError
from ensemble.score.model import Section
from ensemble.stage.inbox import Announce, Item, Role
from ensemble.stage.on_ray import actors
from ensemble.stage.on_ray.cluster import shortage
from ensemble.stage.on_ray.crew import Instances, Place
from ensemble.stage.on_ray.roster import LEADER, Member, Report, Roster
from ensemble.stage.on_ray.scaling import Scaler

SCALED = "_band.section.scaled"
"""The topic of the event that tells of a section that grew or shrank."""
STARTS_MOST = 5
"""How often in a row an instance may fail to start before the band gives up."""
HUNGRY_S = 10.0
"""After how long without a place on the cluster a section says so."""
TEND_S = 0.2
"""How often the size of a section is thought over while there is work."""

log = logging.getLogger("ensemble.stage")


class Hired:
    """One instance, from when it is wanted until it is ended."""

    def __init__(self, id: int, mark: str, now_s: float, actor: Any = None) -> None:
        self.id, self.mark, self.started_s = id, mark, now_s
        self.actor = actor
        """None: it is about to be made."""
        self.pid = 0
        self.is_ready = self.is_spent = self.is_leaving = False
        self.owner: int | None = None
        self.is_sole = False
        self.since = 0
        """The number of the roster that first said that not all may use it."""

    def member(self) -> Member:
        return Member(self.id, self.actor, self.pid, self.mark, self.owner, self.is_sole, self.is_leaving)


class Troupe:
    """The instances of one section. `cast` brings a roster to another shard."""

    def __init__(
        self, place: Place, post: Callable[[Item], None], cast: Callable[[int, Roster], None], porter: Executor
    ) -> None:
        self.lock = threading.RLock()
        """The leader's own crew of the section uses it too: each calls the other."""
        self._now_s, self._epoch = place.now_s, place.epoch
        self._post, self._cast, self._porter = post, cast, porter
        self._hired: dict[int, Hired] = {}
        self._reports: dict[int, Report] = {}
        self._asked: dict[int, None] = {}
        """The shards that need an instance of their own, in the order in which they said so."""
        self._number = 0
        self._is_changed = True
        self._last_id = place.epoch << 24  # no two leaders give the same
        self._failed_starts = 0
        self._not_before_s = 0.0
        self._has_complained = False
        self._is_over = False
        self._error = ""
        self._ending: dict[int, Hired] = {}
        """Those that close what they hold, and are ended then."""
        self._is_gone = threading.Condition(self.lock)

    def play(self, role: Role, plan: bytes, mark: str, local: Instances) -> None:
        """Have instances of this plan from now on. Those of another go when no shard plays by theirs any more."""
        with self.lock:
            self._role, self._plan, self._mark, self._local = role, plan, mark, local
            self._name = role.spec.name
            self._scaler = Scaler(role.spec.section)
            self._is_over, self._is_changed = False, True
            for player in self._hired.values():
                if player.mark == mark:
                    self._send_off(player)

    @property
    def is_over(self) -> bool:
        """Whether the section is played no more by the leader."""
        return self._is_over

    # What the shards say

    def take(self, report: Report) -> bool:
        """What a shard reports; False if it is older than what is known."""
        with self.lock:
            known = self._reports.get(report.shard)
            if known is not None and report.at <= known.at:
                return False
            self._reports[report.shard] = report
            for id in report.lost:  # those of another leader are unknown here: no two give the same
                self._lose(id)
            for id in report.spent:
                if id in self._hired and not self._hired[id].is_spent:
                    self._hired[id].is_spent = True
                    self._send_off(self._hired[id])
            if not report.is_suspicious or report.is_closed:
                self._asked.pop(report.shard, None)
            elif report.mark == self._mark:
                self._asked.setdefault(report.shard)
            return True

    def _lose(self, id: int) -> None:
        player = self._hired.pop(id, None)
        if player is not None:
            self._is_changed = True
            self._end(player)

    def scale(self, count: int | None) -> None:
        self._scaler.fixed = count

    # Growing and shrinking

    def tend(self, now_s: float) -> float | None:
        """Have as many as there should be. When to look again though nothing happens; None: no need."""
        with self.lock:
            ours = [report for report in self._reports.values() if report.mark == self._mark]
            lag = sum(report.lag for report in ours)
            services = [report.service_s for report in ours if report.service_s]
            if services:
                self._scaler.service_s = sum(services) / len(services)
            if not self._is_over:
                self._resize(lag, max((report.slowest_s for report in ours), default=0.0), now_s)
                self._lend(now_s, lag)
            self._retire()
            self._end_who_may_go()
            self._make_sole()
            self._tell_all()
            self._complain(now_s)
            return now_s + TEND_S if lag else self._scaler.due_s(lag, len(self._there()), now_s)

    def _there(self) -> list[Hired]:
        return [player for player in self._hired.values() if not player.is_leaving and player.mark == self._mark]

    def _has_place(self) -> bool:
        """Whether one more may be started. Those that leave have their place until they are gone."""
        most = self._role.spec.section.max if self._scaler.fixed is None else self._scaler.fixed
        return sum(player.mark == self._mark for player in self._hired.values()) < most

    def _resize(self, lag: int, slowest_s: float, now_s: float) -> None:
        there = self._there()
        target = self._scaler.target(lag, len(there), now_s, slowest_s)
        if lag and target and self._scaler.fixed is None:  # those that are lent hear for one shard only
            target = max(target, min(self._role.spec.section.max, 1 + sum(player.owner is not None for player in there)))
        for player in list(self._hired.values()):
            if target > len(there) and player.is_leaving and not player.is_spent and player.mark == self._mark:
                player.is_leaving = False
                self._is_changed = True
                there.append(player)
        if target > len(there) and now_s >= self._not_before_s:
            for _ in range(target - len(there)):
                if self._has_place():
                    self._start(now_s, lag)
        elif target < len(there):
            before = self._ready_count()
            there.sort(key=lambda player: (player.is_ready, player.owner is not None, self._busy_count(player)))
            for player in there[: len(there) - target]:
                self._send_off(player)
            if self._ready_count() < before:
                self._tell_scaled(before, self._ready_count(), lag)

    def _ready_count(self) -> int:
        return sum(player.is_ready for player in self._there())

    def _busy_count(self, player: Hired) -> int:
        return sum(player.id in report.busy for report in self._reports.values())

    def _send_off(self, player: Hired) -> None:
        if not player.is_leaving:
            player.is_leaving, player.since = True, self._number + 1
            self._is_changed = True

    def _retire(self) -> None:
        """Let those go of which no shard knows the code any more."""
        marks = {report.mark for report in self._reports.values() if not report.is_closed}
        if not self._is_over:
            marks.add(self._mark)
        for player in self._hired.values():
            if player.mark not in marks:
                self._send_off(player)

    def _end_who_may_go(self) -> None:
        for player in [player for player in self._hired.values() if player.is_leaving and self._is_free(player)]:
            del self._hired[player.id]
            self._is_changed = True
            self._ending[player.id] = player
            if player.is_ready and not player.is_spent:
                self._porter.submit(self._close, player)
            else:
                self._end(player)

    def _is_free(self, player: Hired, of: int | None = None) -> bool:
        """Whether no shard, but for one, has anything with an instance that they may not use."""
        if not player.is_ready:
            return True  # nobody has been told of it
        if of != LEADER and not self._local.has_nothing_of_ours(player.id):
            return False
        return all(
            report.seen >= (self._epoch, player.since) and player.id not in report.finishing
            for shard, report in self._reports.items()
            if shard not in (LEADER, of) and not report.is_closed
        )

    # Lending

    def _lend(self, now_s: float, lag: int) -> None:
        """Let shards that look for an event that kills have an instance each to themselves, as far as there are some."""
        for player in self._hired.values():
            if player.owner is not None and player.owner not in self._asked:
                player.owner, player.is_sole, self._is_changed = None, False, True
        for shard in self._asked:
            there = self._there()
            if any(player.owner == shard for player in there):
                continue
            free = [player for player in there if player.owner is None]
            ready = sorted((player for player in free if player.is_ready), key=self._busy_count)
            starting = [player for player in free if not player.is_ready]
            others_wait = any(r.lag for r in self._reports.values() if r.shard not in self._asked and r.mark == self._mark)
            if ready and (len(ready) > 1 or not others_wait):
                self._lend_one(ready[0], shard)
            elif starting:
                self._lend_one(starting[0], shard)
            elif self._has_place() and now_s >= self._not_before_s:
                self._lend_one(self._start(now_s, lag), shard)
            elif ready:
                self._lend_one(ready[0], shard)

    def _lend_one(self, player: Hired, shard: int) -> None:
        player.owner, player.is_sole, player.since = shard, False, self._number + 1
        self._is_changed = True

    def _make_sole(self) -> None:
        for player in self._hired.values():
            if player.owner is not None and not player.is_sole and player.is_ready and self._is_free(player, player.owner):
                player.is_sole = self._is_changed = True

    # Telling

    def _tell_all(self) -> None:
        if not self._is_changed:
            return
        self._is_changed = False
        self._number += 1
        for shard in {LEADER, *self._reports}:
            self.tell(shard)

    def tell(self, shard: int) -> None:
        """Tell a shard who is there."""
        with self.lock:
            members = [player.member() for player in self._hired.values() if player.is_ready]
            if shard == LEADER:
                self._local.told(Roster(self._name, (self._epoch, self._number), members, self._epoch))
            else:
                known = self._reports[shard].at[0]
                self._cast(shard, Roster(self._name, (self._epoch, self._number), members, known, self._error))

    def has_news(self, report: Report) -> bool:
        """Whether the shard that reports goes by another roster than the latest."""
        return report.seen != (self._epoch, self._number)

    def _tell_scaled(self, before: int, after: int, lag: int, took_ms: int | None = None) -> None:
        told: dict[str, Any] = {"player": self._name, "from": before, "to": after, "lag": lag}
        told["service_ms"] = round(1000 * self._scaler.service_s, 3)
        if took_ms is not None:
            told["took_ms"] = took_ms
        self._post(Announce(SCALED, self._name, told))

    def _complain(self, now_s: float) -> None:
        """Say once that no node can give what an instance needs, and go on waiting."""
        hungry = [each for each in self._hired.values() if not each.is_ready and now_s - each.started_s > HUNGRY_S]
        if hungry and not self._has_complained:
            self._has_complained = True
            self._porter.submit(self._tell_shortage, self._role.spec.section)

    def _tell_shortage(self, section: Section) -> None:
        """Not in the loop's thread, nor under the lock: Ray is asked, and may take its time."""
        try:
            told = shortage(section)
        except Exception as error:
            told = f"an instance waits for a place, and Ray does not say what the nodes have: {actors.cause(error)}"
        with self.lock:
            is_hungry = any(not each.is_ready for each in self._hired.values())
        if is_hungry:
            log.warning("player %s: %s", self._name, told)

    # Starting and ending

    def _new(self, now_s: float, actor: Any = None) -> Hired:
        self._last_id += 1
        player = self._hired[self._last_id] = Hired(self._last_id, self._mark, now_s, actor)
        return player

    def _start(self, now_s: float, lag: int) -> Hired:
        player = self._new(now_s)
        self._porter.submit(self._make, player, self._role, self._plan, lag)
        return player

    def _make(self, player: Hired, role: Role, plan: bytes, lag: int) -> None:
        """Make the actor of an instance. Not in the loop's thread, which would hand out nothing meanwhile."""
        with self.lock:
            if player.id not in self._hired:
                return
        try:
            player.actor = actors.make(role, plan)
            is_ready = player.actor.ready.remote().future()
        except Exception as error:
            is_ready = concurrent.futures.Future()
            is_ready.set_exception(error)
        is_ready.add_done_callback(lambda done: self._is_ready(player, lag, done))

    def join(self, actor: Any, started_s: float, is_ready: Any) -> None:
        """Have an instance that was started already, from when it is ready on."""
        with self.lock:
            player = self._new(started_s, actor)
        is_ready.add_done_callback(lambda done: self._is_ready(player, 0, done))

    def _is_ready(self, player: Hired, lag: int, done: Any) -> None:
        error = done.exception()
        now_s = self._now_s()
        with self.lock:
            if player.id not in self._hired:
                return  # it was let go before it was ready: that it ended is no failure to start
            if error is None:
                self._failed_starts = 0
                self._has_complained = False
                before = self._ready_count()
                player.is_ready, player.pid = True, done.result()["pid"]
                self._is_changed = True
                self._tell_scaled(before, before + 1, lag, took_ms=round(1000 * (now_s - player.started_s)))
                self._tell_all()
            else:
                self._start_failed(player, error, now_s)
        self._local.stir()

    def _start_failed(self, player: Hired, error: BaseException, now_s: float) -> None:
        del self._hired[player.id]
        told = getattr(error, "cause", error)
        self._failed_starts += 1
        self._not_before_s = now_s + 0.1 * 2**self._failed_starts
        if isinstance(told, EnsembleError):
            self._give_up(told)
        elif self._failed_starts >= STARTS_MOST:
            why = actors.cause(error)
            self._give_up(PlayerError(f"player {self._name}: its instances can't be started on the cluster: {why}"))
        else:
            log.warning("player %s: an instance did not start: %s", self._name, actors.cause(error))

    def _give_up(self, error: EnsembleError) -> None:
        """There will be no instances: no shard can go on."""
        self._error, self._is_changed = str(error), True
        self._post(error)

    def _close(self, player: Hired) -> None:
        """Let an instance that has nothing in flight free what it holds, and end it."""
        player.actor.close.remote().future().add_done_callback(lambda _: self._end(player))

    def _end(self, player: Hired) -> None:
        """End an actor. Not in this thread: it may be one of Ray's own, in which a call to Ray waits for itself."""
        self._porter.submit(self._kill, player)

    def _kill(self, player: Hired) -> None:
        actors.end(player.actor)
        with self.lock:
            self._ending.pop(player.id, None)
            self._is_gone.notify_all()

    def leave(self, local: Instances) -> None:
        """The leader's own crew is closed: unless another has taken its place, the section is played no more."""
        with self.lock:
            if self._local is not local:
                return
            self._is_over = True
            self._reports.pop(LEADER, None)
            for id in local.given_up:
                if id in self._hired:
                    self._hired[id].is_spent = True  # it is busy, and can't be asked to close what it holds
            self.tend(self._now_s())

    def close(self, until_s: float) -> None:
        """End all of them: each when what it has from other shards is done, if that is before a moment."""
        with self._is_gone:
            self._is_gone.wait_for(lambda: not self._hired and not self._ending, max(0.0, until_s - self._now_s()))
            left = [player.actor for player in (*self._hired.values(), *self._ending.values())]
            self._hired, self._ending = {}, {}
        self._porter.submit(lambda: actors.end(*left)).result()
