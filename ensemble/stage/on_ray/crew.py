"""The instances of a section on Ray, as the loop of a shard sees them: each an actor that is handed batches.

Owns which instance gets a batch, and what happens when one dies. It goes by the roster of the shard that leads, which starts
and ends them (`troupe`). Two batches of a shard are in flight an instance, so that it never waits for the next; never one call
an event. Who is late with one gets no second, and what waits for him is taken back, since others could hear it meanwhile.

When the process of an instance dies, what it had is under suspicion, and only an event that was alone there is charged. A band
of several shards shares its instances: what another shard had there may have killed it as well. So nobody is charged there:
what is under suspicion is heard on an instance that this shard has to itself, until it is cleared or found out.

    an event is charged  =>  nothing else was in flight with the instance that died
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol

from ensemble.broker.words import Outcome
from ensemble.errors import PlayerError
from ensemble.event import Rows
from ensemble.player import Work
from ensemble.stage.inbox import Item, Role, Wake
from ensemble.stage.on_ray import actors
from ensemble.stage.on_ray.actors import WATCH, beside, cause, is_no_fault, is_unreadable
from ensemble.stage.on_ray.hand import Flight, Hand, given_back
from ensemble.stage.on_ray.roster import Member, Moment, Report, Roster
from ensemble.stage.on_ray.scaling import Service
from ensemble.stage.on_ray.shelf import INLINE_BYTES, Shelf
from ensemble.stage.on_ray.suspicion import Suspicion
from ensemble.stage.on_ray.vigil import ASK_S, LATE_S, Vigil
from ensemble.stage.on_ray.wire import pack_work, unpack_outcome

IN_FLIGHT = 2
"""Batches that a shard has with an instance at a time: one that it hears, one that waits for it."""
REST_S = 0.01
"""How long all is well after it was looked at, unless something happens: the loop asks each turn, and looking takes 20 µs."""
WANTED_S = 1.0
"""How long after the loop wanted to hand something out a section still counts as having something under suspicion to hear."""

SMALL_BYTES = 500
"""Events up to this size go in batches that stay inside the call; for larger ones fewer, larger batches cost less."""

log = logging.getLogger("ensemble.stage")


class Desk(Protocol):
    """The way of a section to who leads."""

    def report(self, report: Report, now_s: float, *, is_waiting: bool) -> float | None:
        """Tell what there is to do and what is known. When to tell again though nothing happens comes back; None: no need.

        `is_waiting` says that the section can't go on until the leader does something.
        """
        ...

    def scale(self, count: int | None) -> None:
        """Have so many instances from now on; None: as the load says again."""
        ...

    def left(self, instances: Instances, last: Report) -> None:
        """The section is played no more, or by another in its place. `last` is what there is to report then."""
        ...


class Place(Protocol):
    """Where a crew stands among the shards."""

    shard: int
    shards: int
    epoch: int
    """Of this shard's log."""

    now_s: Callable[[], float]
    """The clock by which `tend` is called."""

    def next_number(self) -> int:
        """The number of a report."""
        ...


class Instances:
    """The workers of one section in one shard."""

    overlaps = True

    def __init__(
        self,
        role: Role,
        mark: str,
        place: Place,
        desk: Desk,
        post: Callable[[Item], None],
        aio: asyncio.AbstractEventLoop,
        porter: Executor,
        shelf: Shelf,
        lock: threading.RLock | None = None,
    ) -> None:
        self.mark = mark
        self._role, self._place, self._desk, self._post, self._aio, self._porter = role, place, desk, post, aio, porter
        self._lock = lock or threading.RLock()
        self._shelf = shelf
        self._sender = place.shard, place.epoch
        self._vigil = Vigil(self, role, self._sender, self._lock, porter, place.now_s)
        self._hands: dict[int, Hand] = {}
        self._lost: set[int] = set()
        """Those that died, until the roster is without them."""
        self._service = Service()
        self._suspicion = Suspicion()
        self._wanted_s = 0.0
        """When the loop last had something to hand out."""
        self._seen: Moment = (0, 0)
        self._has_arrived = place.shard == 0
        """Whether nobody hears any more what the process before this one handed out. Those that the leader has are all new."""
        self._bytes_each = 150.0
        """How many bytes of a batch, or of its outcome, an event takes up."""
        self._most = max(1, role.spec.section.batch)
        """Events that an asynchronous instance has at once from here."""
        self._rests_until_s = 0.0
        self._again_s: float | None = None
        self._had_lag = False
        self._is_closing = False
        self.given_up: list[int] = []
        """Once it is closed: the instances that still had something then."""

    # What the loop asks

    @property
    def count(self) -> int:
        return len(self._hands)

    @property
    def pids(self) -> list[int]:
        """The processes of those that are ready, each on its node."""
        with self._lock:
            return [hand.pid for hand in self._hands.values()]

    @property
    def spread(self) -> int:
        return max(1, len(self._hands), min(self._role.spec.section.max, 4))

    def room(self) -> int:
        with self._lock:
            hand = self._free()
            if hand is None:
                return 0
            limit = self._suspicion.limit
            if self._bytes_each <= SMALL_BYTES:
                limit = min(limit, int(INLINE_BYTES / self._bytes_each))
            return min(limit, self._most - hand.waiting) if self._role.is_async else limit

    def start(self, work: Work) -> None:
        now_s = self._place.now_s()
        flight = Flight(work, now_s)
        with self._lock:
            hand = self._free()
            if hand is None:  # there was room when it was asked, and the instance died since
                self._post(given_back(flight))
                return
            if not hand.flights:
                hand.idle_since_s = now_s
            hand.flights.append(flight)
            flight.number = hand.sent
            hand.sent += 1
        along: list[Any] = []
        batch = pack_work(work, partial(self._share, flight, along))
        self._weigh(INLINE_BYTES if along else len(batch), len(work.batch))
        call = hand.actor.hear.remote(batch, self._sender, flight.number, *along)
        if self._role.is_async:
            asyncio.run_coroutine_threadsafe(self._collect(hand, flight, call), self._aio)
        else:
            call.future().add_done_callback(lambda done: self._came_back(hand, flight, done))

    def _share(self, flight: Flight, along: list[Any], rows: Rows, ixs: Sequence[int]) -> int | None:
        ref = self._shelf.ref(rows, ixs)
        if ref is None:
            return None
        flight.frames.append(rows.first)
        along.append(ref)
        return len(along) - 1

    @property
    def _shares(self) -> bool:
        return self._place.shards > 1

    def _weigh(self, size: int, count: int) -> None:
        """Learn how large events are; what grows counts at once, what shrinks slowly."""
        each = size / max(1, count)
        self._bytes_each = each if each > self._bytes_each and count > 10 else 0.9 * self._bytes_each + 0.1 * min(each, 10_000)

    def _free(self) -> Hand | None:
        """The instance that has least to do and may have more; of several, each shard prefers others."""
        now_s = self._wanted_s = self._place.now_s()
        if not self._has_arrived:
            return None
        hands = list(self._hands.values())
        at = len(hands) * self._place.shard // self._place.shards
        free = [hand for hand in hands[at:] + hands[:at] if self._may_have_more(hand, now_s)]
        return min(free, key=self._burden, default=None)

    def _burden(self, hand: Hand) -> tuple[bool, int]:
        return hand.passed_by_s > 0, hand.waiting if self._role.is_async else len(hand.flights)

    def _may_have_more(self, hand: Hand, now_s: float) -> bool:
        if not hand.is_open:
            return False
        if self._suspicion and not hand.is_private:
            return False
        if not hand.flights:
            return now_s >= hand.passed_by_until_s
        if self._suspicion:
            return False
        if self._role.is_async:  # all its events wait at once: one that hangs holds up no other
            return hand.waiting < self._most
        if len(hand.flights) >= IN_FLIGHT or not self._service.each_s:
            return False
        return not self._is_late(hand, now_s)

    def _is_late(self, hand: Hand, now_s: float) -> bool:
        """Whether it takes longer than it was to; where others may have something there, theirs as well."""
        expected_s = self._service.each_s * len(hand.flights[0].work.batch)
        turns = 1 if hand.is_private else self._place.shards
        return now_s - hand.head_s > turns * max(LATE_S, 4 * expected_s)

    # What comes back: in threads of Ray's

    def _came_back(self, hand: Hand, flight: Flight, done: Any) -> None:
        error = done.exception()
        if error is not None:
            self._failed(hand, flight, error)
            return
        answer = done.result()
        if not answer:
            return  # it was taken back before it began
        try:
            outcome, is_spent = unpack_outcome(answer, flight.work)
            self._weigh(len(answer), outcome.count)
        except Exception as broken:
            self.died(hand, broken)
            return
        self._take(hand, flight, outcome)
        if is_spent:
            self._spend(hand)

    async def _collect(self, hand: Hand, flight: Flight, answers: Any) -> None:
        """The outcomes of an asynchronous instance, as they come."""
        try:
            async for answer in answers:
                outcome, is_spent = unpack_outcome(await answer, flight.work)
                self._take(hand, flight, outcome)
                if is_spent:
                    self._spend(hand)
        except Exception as error:
            self._failed(hand, flight, error)

    def _failed(self, hand: Hand, flight: Flight, error: BaseException) -> None:
        """A batch did not come back. Most often its instance is gone; or it could not read what went along."""
        if not flight.frames or not is_unreadable(error):
            self.died(hand, error)
            return
        self._shelf.could_not_read(flight.frames)
        with self._lock:
            self.give_back(hand, flight)

    def give_back(self, hand: Hand, flight: Flight) -> None:
        """Have a batch that this instance did not hear handed out again."""
        if flight in hand.flights:
            hand.flights.remove(flight)
            self._post(given_back(flight))

    def give_up(self, hand: Hand) -> None:
        """Have the leader end it. Until Ray says that it is dead, it may be hearing."""
        self._lost.add(hand.id)

    def _take(self, hand: Hand, flight: Flight, outcome: Outcome) -> None:
        with self._lock:
            if self._hands.get(hand.id) is not hand:
                return  # it was given up, and what it had came back already
            flight.left.difference_update(outcome.heard)
            flight.left.difference_update(failure.offset for failure in outcome.failures)
            flight.left.difference_update(offset for offset, _ in outcome.skipped)
            if not flight.left:
                hand.flights.remove(flight)
                hand.idle_since_s, hand.hears_ours_s, hand.passed_by_s = self._place.now_s(), 0.0, 0.0
            self._suspicion.clear(outcome.heard)
            self._suspicion.clear([failure.offset for failure in outcome.failures])
            self._service.learn(outcome.count, outcome.took_s)
            self._post(outcome)

    def _spend(self, hand: Hand) -> None:
        """An instance is of no more use: a call never came back, or it has no more memory. What it has not begun comes back."""
        with self._lock:
            hand.is_spent, hand.is_open = True, False
            if hand.flights and not hand.is_asked_back and not self._role.is_async:
                self._vigil.ask_back(hand, list(hand.flights))
        self.stir()

    def died(self, hand: Hand, error: BaseException) -> None:
        """An instance is gone. What it had comes back."""
        with self._lock:
            if self._hands.get(hand.id) is not hand:
                return
            del self._hands[hand.id]
            self._lost.add(hand.id)
            self.arrive()
            self._give_back_all(hand, error, is_known=is_no_fault(error) and not (self._shares and "ray.kill" in str(error)))
            if not self._is_closing:
                log.warning("player %s: an instance died: %s", self._role.spec.name, cause(error))
        self.stir()

    def _give_back_all(self, hand: Hand, error: BaseException, *, is_known: bool) -> None:
        """What an instance had that is gone. `is_known`: nothing of it is at fault."""
        flights = list(hand.flights)
        hand.flights.clear()
        running = flights if self._role.is_async else flights[:1]
        left = [offset for flight in running for offset in flight.left]
        is_certain = hand.is_private and len(flights) == 1 and len(left) == 1  # the answer of one before it may be lost
        is_alone = is_certain and not is_known and not (actors.UNKNOWN in str(error) and self._suspicion.spare(left[0]))
        for flight in flights:
            self._post(given_back(flight, error if is_alone else None))
        if is_alone:
            self._suspicion.clear(left)
        elif not is_known:
            self._suspicion.fall_on(left)

    # What the leader says, and what it is told

    def told(self, roster: Roster) -> None:
        """Go by this roster from here on."""
        with self._lock:
            if roster.at <= self._seen or self._is_closing:
                return  # it came twice, or late
            if self._shares and roster.known != self._place.epoch:
                return  # it was meant for the process before this one
            is_first, is_other_leader = self._seen == (0, 0), roster.at[0] != self._seen[0]
            self._seen = roster.at
            if roster.error:
                self._post(PlayerError(roster.error))
            members = {member.id: member for member in roster.members}
            self._lost &= members.keys()
            for hand in [hand for hand in self._hands.values() if hand.id not in members and hand.is_clear]:
                del self._hands[hand.id]  # with something in flight: another shard saw it hang, or the leader is gone
                gone = RuntimeError("another shard found it dead or hanging")
                self._give_back_all(hand, gone, is_known=is_other_leader)
            for member in roster.members:
                if member.id not in self._lost:
                    self._go_by(member, is_clear=not is_first or self._has_arrived)
            self.arrive()
        self.stir()

    def _go_by(self, member: Member, *, is_clear: bool) -> None:
        hand = self._hands.get(member.id)
        if hand is None:
            hand = self._hands[member.id] = Hand(member, self._place.now_s())
            hand.is_clear = is_clear
            self._porter.submit(self._watch, hand)
        is_ours = member.owner is None or member.owner == self._place.shard
        hand.is_open = is_ours and member.mark == self.mark and not member.is_leaving and not hand.is_spent
        hand.is_private = not self._shares or (member.owner == self._place.shard and member.is_sole)

    def _watch(self, hand: Hand) -> None:
        """Hear of the death of an instance though it has nothing to hear.

        Not in a thread of Ray's, in which a call to Ray waits for itself.
        """
        watch = beside(hand.actor.watch, self._role, WATCH)
        watch.remote().future().add_done_callback(lambda done: self.died(hand, done.exception()))

    def arrive(self) -> None:
        """Begin to hand out, if nobody hears any more what the process before this one did."""
        if not self._has_arrived and self._seen != (0, 0) and all(hand.is_clear for hand in self._hands.values()):
            self._has_arrived = True
            self.stir()

    def has_nothing_of_ours(self, id: int) -> bool:
        """Whether this shard has nothing in flight with an instance."""
        hand = self._hands.get(id)
        return hand is None or not hand.flights

    def stir(self) -> None:
        """Something happened: look at the instances in the next turn."""
        self._rests_until_s = 0.0
        self._post(Wake())

    def tend(self, now_s: float, load: Callable[[], int]) -> float | None:
        if self._is_closing:
            return None
        lag = load()
        if now_s < self._rests_until_s and bool(lag) == self._had_lag:
            return min(self._again_s or self._rests_until_s, self._rests_until_s)
        self._rests_until_s, self._had_lag = now_s + REST_S, bool(lag)
        with self._lock:
            for hand in list(self._hands.values()):
                self._vigil.look_after(hand, now_s, is_late=bool(hand.flights) and self._is_late(hand, now_s))
            report = self._report(lag, now_s)
            again_s = self._desk.report(report, now_s, is_waiting=self._is_waiting(report))
            self._again_s = again_s if self._has_arrived else min(again_s or now_s + ASK_S, now_s + ASK_S)
            return self._again_s

    def _report(self, lag: int, now_s: float) -> Report:
        hands = self._hands.values()
        return Report(
            self._role.spec.name,
            self._place.shard,
            (self._place.epoch, self._place.next_number()),
            self.mark,
            self._seen if self._has_arrived else (0, 0),
            lag,
            self._service.each_s,
            self._slowest_s(now_s),
            frozenset(hand.id for hand in hands if hand.flights),
            frozenset(hand.id for hand in hands if hand.flights and not hand.is_open),
            frozenset(self._lost),
            frozenset(hand.id for hand in hands if hand.is_spent),
            self._shares and self._is_suspicious(now_s),
        )

    def _is_waiting(self, report: Report) -> bool:
        """Whether the section can't go on until the leader does something."""
        if self._lost or report.spent or not self._has_arrived:
            return True
        return bool(report.lag) and not any(
            hand.is_open and (hand.is_private or not self._suspicion) for hand in self._hands.values()
        )

    def _is_suspicious(self, now_s: float) -> bool:
        """Whether something under suspicion could be heard now: what waits for its next attempt must not keep an instance."""
        if not self._suspicion:
            return False
        return now_s - self._wanted_s < WANTED_S or any(hand.is_private and hand.flights for hand in self._hands.values())

    def _slowest_s(self, now_s: float) -> float:
        """How long an event takes at the least, by those that are being heard: nothing is learned of one that hangs."""
        if self._role.is_async:
            return 0.0
        busy = [hand for hand in self._hands.values() if hand.flights and (hand.is_private or self._is_late(hand, now_s))]
        return max(((now_s - hand.head_s) / len(hand.flights[0].work.batch) for hand in busy), default=0.0)

    def scale(self, count: int | None) -> None:
        """Have so many instances from now on; None: as the load says again."""
        self._desk.scale(count)
        self.stir()

    def close(self) -> None:
        with self._lock:
            self._is_closing = True
            self.given_up = [hand.id for hand in self._hands.values() if hand.flights]
            self._hands = {}
            last = self._report(0, self._place.now_s())
        self._desk.left(self, last)
