"""The instances of a section on Ray, as the loop sees them: each an actor that is handed batches.

Owns which instance gets a batch, what happens when one dies, and starting and ending them as `scaling.py` says. Two batches
are in flight an instance, so that it never waits for the next; never one call an event. Who is late with one gets no second,
and the second that he has is taken back, since others could hear it meanwhile.

When the process of an instance dies, what it was hearing is under suspicion: those events come back and are handed out in
halves, until the one that kills stands alone. Only that one is charged with an attempt; who was merely waiting is not. An
instance that dies while it has nothing is let go at once, so that no batch is sent to it and charged with its death.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any

from ensemble.broker.words import Failure, Outcome
from ensemble.errors import EnsembleError, PlayerError
from ensemble.player import Work
from ensemble.stage.inbox import Announce, Item, Role, Wake
from ensemble.stage.on_ray.cluster import cause_of_no_environment, shortage
from ensemble.stage.on_ray.instance import AsyncInstanceActor, InstanceActor
from ensemble.stage.on_ray.plan import Plan
from ensemble.stage.on_ray.scaling import Scaler
from ensemble.stage.on_ray.wire import pack_work, unpack_outcome
from ensemble.stage.workers import Workers

IN_FLIGHT = 2
"""Batches an instance has at a time: one that it hears, one that waits for it."""
SCALED = "_band.section.scaled"
"""The topic of the event that tells of a section that grew or shrank."""
WATCH = "watch"
"""The name that a thread beside the one that hears has with Ray: the call that waits there ends only with the process."""
STARTS_MOST = 5
"""How often in a row an instance may fail to start before the band gives up."""
HUNGRY_S = 10.0
"""After how long without a place on the cluster a section says so."""
TEND_S = 0.2
"""How often the size of a section is thought over while there is work."""
LATE_S = 0.1
"""How long an instance may hear a batch, if that is more than it was to take, before it gets no other behind it."""
ASK_S = 0.2
"""How long an instance may hear a batch before it is asked whether it still runs, and how long after that it is asked again."""
GRACE_S = 2.0
"""How much longer than the timeout of one call an instance may be silent when it is asked, and how much longer than those of
all its events it may take, before it counts as hanging."""
UNKNOWN = "temporarily unavailable"
"""What Ray says of an actor that it has lost, and of which it has not heard within a second that its process died: so it is
where a node is lost, which takes Ray ten seconds and more to find out, and on a node that is very busy."""
SPARED_MOST = 3
"""How often an event that was alone with an instance that was lost so is not charged with it."""

INLINE_BYTES = 90_000
"""Bytes of a batch or an outcome that travel inside Ray's own call. What is larger goes through its object store: measured,
0.7 ms there and back for up to 100 kB inside the call, 3.2 ms and more through the store."""
SMALL_BYTES = 500
"""Events up to this size go in batches that stay inside the call; for larger ones fewer, larger batches cost less."""

BESIDE = "beside"
"""The group of calls that an instance answers while it hears."""

log = logging.getLogger("ensemble.stage")
NOTHING = 1 << 30


class Hand:
    """One instance: its actor, and the batches that it has."""

    def __init__(self, now_s: float, actor: Any = None) -> None:
        self.actor = actor
        """None: it is about to be made."""
        self.flights: deque[Flight] = deque()
        self.started_s = now_s
        self.idle_since_s = now_s
        self.is_ready = False
        self.is_leaving = False
        self.is_asked_back = False
        """Whether it was asked to give back what waits behind the batch that it hears."""
        self.asked_s: float | None = None
        """Since when it owes an answer to whether it still runs."""
        self.answered_s = now_s
        self.sent = 0
        self.pid = 0

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


class Instances:
    """The workers of one section: actors, as many as there is work for."""

    def __init__(
        self, role: Role, plan: bytes, post: Callable[[Item], None], aio: asyncio.AbstractEventLoop, porter: Executor
    ) -> None:
        self._role, self._plan, self._post, self._aio, self._porter = role, plan, post, aio, porter
        self._scaler = Scaler(role.spec.section)
        self._lock = threading.RLock()
        self._hands: list[Hand] = []
        self._suspects: set[int] = set()
        self._spared: dict[int, int] = {}
        """Suspects -> how often they went free because the cause was not known."""
        self._limit = NOTHING
        self._bytes_each = 150.0
        """How many bytes of a batch, or of its outcome, an event takes up."""
        self._most = max(1, role.spec.section.batch)
        """Events that an asynchronous instance has at once."""
        self._failed_starts = 0
        self._not_before_s = 0.0
        self._has_complained = False
        self._is_closing = False

    # What the loop asks

    overlaps = True

    @property
    def count(self) -> int:
        return sum(1 for hand in self._hands if hand.is_ready)

    @property
    def pids(self) -> list[int]:
        """The processes of those that are ready, each on its node."""
        with self._lock:
            return [hand.pid for hand in self._hands if hand.is_ready]

    @property
    def spread(self) -> int:
        return max(1, len(self._hands), min(self._role.spec.section.max, 4))

    def room(self) -> int:
        with self._lock:
            hand = self._free()
            if hand is None:
                return 0
            limit = self._limit
            if self._bytes_each <= SMALL_BYTES:
                limit = min(limit, int(INLINE_BYTES / self._bytes_each))
            return min(limit, self._most - hand.waiting) if self._role.is_async else limit

    def start(self, work: Work) -> None:
        now_s = time.monotonic()
        flight = Flight(work, now_s)
        with self._lock:
            hand = self._free()
            if hand is None:  # there was room when it was asked, and the instance died since
                self._post(self._given_back(flight, RuntimeError(), is_charged=False))
                return
            if not hand.flights:
                hand.idle_since_s = now_s
            hand.flights.append(flight)
            flight.number = hand.sent
            hand.sent += 1
        batch = pack_work(work)
        self._weigh(len(batch), len(work.batch))
        if self._role.is_async:
            asyncio.run_coroutine_threadsafe(self._collect(hand, flight, hand.actor.hear.remote(batch)), self._aio)
        else:
            future = hand.actor.hear.remote(batch, flight.number).future()
            future.add_done_callback(lambda done: self._came_back(hand, flight, done))

    def _weigh(self, size: int, count: int) -> None:
        """Learn how large events are; what grows counts at once, what shrinks slowly."""
        each = size / max(1, count)
        self._bytes_each = each if each > self._bytes_each and count > 10 else 0.9 * self._bytes_each + 0.1 * min(each, 10_000)

    def _free(self) -> Hand | None:
        """The instance that has least to do and may have more."""
        now_s = time.monotonic()
        free = [hand for hand in self._hands if hand.is_ready and not hand.is_leaving and self._may_have_more(hand, now_s)]
        return min(free, key=lambda hand: hand.waiting if self._role.is_async else len(hand.flights), default=None)

    def _may_have_more(self, hand: Hand, now_s: float) -> bool:
        if not hand.flights:
            return True
        if self._suspects:
            return False
        if self._role.is_async:  # all its events wait at once: one that hangs holds up no other
            return hand.waiting < self._most
        if len(hand.flights) >= IN_FLIGHT or not self._scaler.service_s:
            return False
        return not self._is_late(hand, now_s)

    def _is_late(self, hand: Hand, now_s: float) -> bool:
        expected_s = self._scaler.service_s * len(hand.flights[0].work.batch)
        return now_s - hand.head_s > max(LATE_S, 4 * expected_s)

    # What comes back: in threads of Ray's

    def _came_back(self, hand: Hand, flight: Flight, done: Any) -> None:
        error = done.exception()
        if error is not None:
            self._died(hand, error)
            return
        answer = done.result()
        if not answer:
            return  # it was taken back before it began
        try:
            outcome, is_spent = unpack_outcome(answer, flight.work)
            self._weigh(len(answer), outcome.count)
        except Exception as broken:
            self._died(hand, broken)
            return
        self._take(hand, flight, outcome)
        if is_spent:
            self._let_go(hand, is_spent=True)

    async def _collect(self, hand: Hand, flight: Flight, answers: Any) -> None:
        """The outcomes of an asynchronous instance, as they come."""
        try:
            async for answer in answers:
                outcome, is_spent = unpack_outcome(await answer, flight.work)
                hand.is_leaving |= is_spent
                self._take(hand, flight, outcome)
        except Exception as error:
            self._died(hand, error)

    def _take(self, hand: Hand, flight: Flight, outcome: Outcome) -> None:
        with self._lock:
            if hand not in self._hands:
                return  # it was given up, and what it had came back already
            flight.left.difference_update(outcome.heard)
            flight.left.difference_update(failure.offset for failure in outcome.failures)
            flight.left.difference_update(offset for offset, _ in outcome.skipped)
            if not flight.left:
                hand.flights.remove(flight)
                hand.idle_since_s = time.monotonic()
            self._clear(outcome.heard)
            self._clear([failure.offset for failure in outcome.failures])
            self._scaler.learn(outcome.count, outcome.took_s)
            self._post(outcome)

    def _clear(self, offsets: Sequence[int]) -> None:
        """These are under suspicion no more."""
        if self._suspects:
            self._suspects.difference_update(offsets)
            for offset in offsets:
                self._spared.pop(offset, None)
            if not self._suspects:
                self._limit = NOTHING

    def _died(self, hand: Hand, error: BaseException) -> None:
        """An instance is gone. What it was hearing comes back."""
        with self._lock:
            if hand not in self._hands:
                return
            self._hands.remove(hand)
            flights = list(hand.flights)
            hand.flights.clear()
            running = flights if self._role.is_async else flights[:1]
            left = [offset for flight in running for offset in flight.left]
            is_alone = len(left) == 1 and not _is_no_fault(error) and not self._is_spared(left[0], error)
            for flight in flights:
                self._post(self._given_back(flight, error, is_charged=is_alone and flight in running))
            if is_alone:
                self._clear(left)
            elif left and not _is_no_fault(error):
                self._suspects.update(left)
                self._limit = max(1, min(self._limit, len(left) // 2))
            if not self._is_closing:
                log.warning("player %s: an instance died: %s", self._role.spec.name, _cause(error))
        self._end(hand)
        self._post(Wake())

    def _is_spared(self, offset: int, error: BaseException) -> bool:
        """Whether this event goes free, though its instance is gone: nobody knows yet whether its process died, or its node."""
        if UNKNOWN not in str(error) or self._spared.get(offset, 0) >= SPARED_MOST:
            return False
        self._spared[offset] = self._spared.get(offset, 0) + 1
        return True

    def _end(self, hand: Hand) -> None:
        """End an actor. Not in this thread: it may be one of Ray's own, in which a call to Ray waits for itself."""
        self._porter.submit(_kill, hand)

    def _given_back(self, flight: Flight, error: BaseException, *, is_charged: bool) -> Outcome:
        """What came of a batch whose instance died: nothing, but for the one event that is charged with it."""
        batch, events = flight.work.batch, flight.work.events
        rows = [row for row, offset in enumerate(batch.offsets) if offset in flight.left]
        failures, skipped = [], []
        for row in rows:
            if is_charged:
                name = self._role.spec.name
                why = f"InstanceDied: the process of player {name} died while it heard this event: {_cause(error)}"
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

    # Growing and shrinking

    def tend(self, now_s: float, load: Callable[[], int]) -> float | None:
        if self._is_closing:
            return None
        waiting = load()
        with self._lock:
            self._end_what_hangs(now_s)
            self._ask_back(now_s)
            there = [hand for hand in self._hands if not hand.is_leaving]
            target = self._scaler.target(waiting, len(there), now_s, self._slowest_s(now_s))
            if target > len(there) and now_s >= self._not_before_s:
                for _ in range(target - len(there)):
                    self._start_one(now_s, waiting)
            elif target < len(there):
                self._end_some(there, len(there) - target, waiting)
            self._complain(now_s)
            due_s = self._scaler.due_s(waiting, len(there), now_s)
        return now_s + TEND_S if waiting else due_s

    def _slowest_s(self, now_s: float) -> float:
        """How long an event takes at the least, by those that are being heard: nothing is learned of one that hangs."""
        if self._role.is_async:
            return 0.0
        busy = [hand for hand in self._hands if hand.flights]
        return max(((now_s - hand.head_s) / len(hand.flights[0].work.batch) for hand in busy), default=0.0)

    def scale(self, count: int | None) -> None:
        """Have so many instances from now on; None: as the load says again."""
        self._scaler.fixed = count
        self._post(Wake())

    def _start_one(self, now_s: float, lag: int) -> None:
        hand = Hand(now_s)
        self._hands.append(hand)
        self._porter.submit(self._make, hand, lag)

    def _make(self, hand: Hand, lag: int) -> None:
        """Make the actor of an instance. Not in the loop's thread, which would hand out nothing meanwhile."""
        with self._lock:
            if hand not in self._hands:
                return
        try:
            hand.actor = _actor(self._role, self._plan)
            is_ready = hand.actor.ready.remote().future()
        except Exception as error:
            is_ready = concurrent.futures.Future()
            is_ready.set_exception(error)
        is_ready.add_done_callback(lambda done: self._is_ready(hand, lag, done))

    def join(self, hand: Hand, is_ready: Any) -> None:
        """Have an instance that was started already, from when it is ready on."""
        self._hands.append(hand)
        is_ready.add_done_callback(lambda done: self._is_ready(hand, 0, done))

    def _is_ready(self, hand: Hand, lag: int, done: Any) -> None:
        error = done.exception()
        now_s = time.monotonic()
        with self._lock:
            if hand not in self._hands:
                return  # it was let go before it was ready: that it ended is no failure to start
            if error is None:
                self._failed_starts = 0
                self._has_complained = False
                hand.is_ready, hand.pid, hand.idle_since_s = True, done.result()["pid"], now_s
                before = self.count - 1
                self._tell_scaled(before, before + 1, lag, took_ms=round(1000 * (now_s - hand.started_s)))
                self._porter.submit(self._watch, hand)
            else:
                self._start_failed(hand, error, now_s)
        self._post(Wake())

    def _watch(self, hand: Hand) -> None:
        """Hear of the death of an instance though it has nothing to hear. Not in a thread of Ray's, as `_end`."""
        watch = hand.actor.watch
        if not self._role.is_async:
            watch = watch.options(concurrency_group=WATCH)
        watch.remote().future().add_done_callback(lambda done: self._died(hand, done.exception()))

    def _start_failed(self, hand: Hand, error: BaseException, now_s: float) -> None:
        self._hands.remove(hand)
        if self._is_closing:
            return
        told = getattr(error, "cause", error)
        self._failed_starts += 1
        self._not_before_s = now_s + 0.1 * 2**self._failed_starts
        if isinstance(told, EnsembleError):
            self._post(told)
        elif self._failed_starts >= STARTS_MOST:
            name = self._role.spec.name
            self._post(PlayerError(f"player {name}: its instances can't be started on the cluster: {_cause(error)}"))
        else:
            log.warning("player %s: an instance did not start: %s", self._role.spec.name, _cause(error))

    def _end_some(self, there: list[Hand], count: int, lag: int) -> None:
        """Let the instances that have least to do finish, and go."""
        leaving = sorted(there, key=lambda hand: (hand.is_ready, len(hand.flights)))[:count]
        before = self.count
        for hand in leaving:
            if not hand.flights:
                self._let_go(hand)
            else:
                hand.is_leaving = True
        for hand in [hand for hand in self._hands if hand.is_leaving and not hand.flights]:
            self._let_go(hand)
        after = self.count - sum(hand.is_leaving for hand in self._hands)
        if after < before:
            self._tell_scaled(before, after, lag)

    def _let_go(self, hand: Hand, *, is_spent: bool = False) -> None:
        """End an instance that has nothing in flight, or of which nothing is expected any more."""
        with self._lock:
            if hand not in self._hands:
                return
            self._hands.remove(hand)
            for flight in hand.flights:
                self._post(self._given_back(flight, RuntimeError(), is_charged=False))
        if hand.is_ready and not hand.flights and not is_spent:
            hand.actor.close.remote().future().add_done_callback(lambda _: self._end(hand))
        else:
            self._end(hand)
        self._post(Wake())

    def _end_what_hangs(self, now_s: float) -> None:
        """End instances that do not even answer that a call took too long. Their event is found as that of a dead one.

        A call that holds the interpreter's lock keeps all of its process silent, and may do so for as long as its timeout.
        """
        for hand in [hand for hand in self._hands if hand.is_leaving and not hand.flights]:
            self._let_go(hand)
        timeout_us = self._role.spec.timeout_us
        if timeout_us is None:
            return
        timeout_s = timeout_us / 1e6
        for hand in [hand for hand in self._hands if hand.flights]:
            is_silent = hand.asked_s is not None and now_s - hand.asked_s > timeout_s + GRACE_S
            if is_silent or now_s - hand.flights[0].began_s > self._most_s(hand, timeout_s):
                self._died(hand, TimeoutError(f"it took longer than its timeout of {timeout_s:g} s, and did not answer"))
            elif hand.asked_s is None and now_s - max(hand.head_s, hand.answered_s) > ASK_S:
                self._ask_whether_it_runs(hand, now_s)

    @staticmethod
    def _most_s(hand: Hand, timeout_s: float) -> float:
        return GRACE_S + timeout_s * sum(len(flight.work.batch) for flight in hand.flights)

    def _ask_whether_it_runs(self, hand: Hand, now_s: float) -> None:
        hand.asked_s = now_s
        runs = hand.actor.runs
        if not self._role.is_async:
            runs = runs.options(concurrency_group=BESIDE)
        runs.remote().future().add_done_callback(lambda _: self._runs(hand, now_s))

    def _runs(self, hand: Hand, asked_s: float) -> None:
        with self._lock:
            hand.asked_s, hand.answered_s = None, asked_s

    def _ask_back(self, now_s: float) -> None:
        """Have instances that are late give back what waits behind the batch that they hear."""
        if self._role.is_async or self._role.spec.section.max < 2:
            return
        for hand in self._hands:
            if len(hand.flights) > 1 and not hand.is_asked_back and self._is_late(hand, now_s):
                hand.is_asked_back = True
                numbers = [flight.number for flight in list(hand.flights)[1:]]
                answer = hand.actor.take_back.options(concurrency_group=BESIDE).remote(numbers).future()
                answer.add_done_callback(partial(self._came_back_untried, hand))

    def _came_back_untried(self, hand: Hand, done: Any) -> None:
        if done.exception() is not None:
            return  # it died, and all that it had comes back
        numbers = set(done.result())
        with self._lock:
            hand.is_asked_back = False
            untried = [flight for flight in hand.flights if flight.number in numbers]
            for flight in untried:
                hand.flights.remove(flight)
                self._post(self._given_back(flight, RuntimeError(), is_charged=False))

    def _tell_scaled(self, before: int, after: int, lag: int, took_ms: int | None = None) -> None:
        told: dict[str, Any] = {"player": self._role.spec.name, "from": before, "to": after, "lag": lag}
        told["service_ms"] = round(1000 * self._scaler.service_s, 3)
        if took_ms is not None:
            told["took_ms"] = took_ms
        self._post(Announce(SCALED, self._role.spec.name, told))

    def _complain(self, now_s: float) -> None:
        """Say once that no node can give what an instance needs, and go on waiting."""
        hungry = [hand for hand in self._hands if not hand.is_ready and now_s - hand.started_s > HUNGRY_S]
        if hungry and not self._has_complained:
            self._has_complained = True
            log.warning("player %s: %s", self._role.spec.name, shortage(self._role.spec.section))

    def close(self) -> None:
        import ray

        self._is_closing = True
        with self._lock:
            hands, self._hands = self._hands, []
        closed = [hand.actor.close.remote() for hand in hands if hand.is_ready and not hand.flights]
        if closed:
            ray.wait(closed, num_returns=len(closed), timeout=5)
        self._porter.submit(_kill, *hands).result()


class RayCrew:
    """Who plays on the cluster. `aio` is the event loop of the actor that the section's loop lives in."""

    def __init__(self, plan: bytes, aio: asyncio.AbstractEventLoop) -> None:
        self.plan = plan
        """What the instances are made from that are hired from now on."""
        self._aio = aio
        self._porter = ThreadPoolExecutor(1, "ensemble-porter")
        """Who makes and ends actors, one after the other: Ray takes 1 ms for it, and hundreds where the machine is busy."""
        self.sections: dict[str, Instances] = {}
        self._auditioned: dict[str, tuple[Hand, Any]] = {}

    def audition(self, roles: Iterable[Role]) -> None:
        """Start the first instance of each of these, all at once, and see whether they can be built.

        PlayerError if one can't; then none is left. One that finds no place in `HUNGRY_S` is not waited for.
        """
        for role in roles:
            hand = Hand(time.monotonic(), _actor(role, self.plan))
            self._auditioned[role.spec.name] = hand, hand.actor.ready.remote().future()
        until = time.monotonic() + HUNGRY_S
        for _, is_ready in self._auditioned.values():
            try:
                is_ready.result(max(0.0, until - time.monotonic()))
            except (concurrent.futures.TimeoutError, TimeoutError):
                continue
            except Exception as error:
                told = getattr(error, "cause", error)
                if isinstance(told, EnsembleError):
                    self.close()
                    raise told from None

    def hire(self, role: Role, post: Callable[[Item], None], post_now: Callable[[Outcome], None]) -> Workers:
        instances = Instances(role, self.plan, post, self._aio, self._porter)
        self.sections[role.spec.name] = instances
        if role.spec.name in self._auditioned:
            instances.join(*self._auditioned.pop(role.spec.name))
        return instances

    def close(self) -> None:
        while self._auditioned:
            _, (hand, _) = self._auditioned.popitem()
            _kill(hand)


def _actor(role: Role, plan: bytes) -> Any:
    """A new instance, on its way."""
    section = role.spec.section
    options: dict[str, Any] = {"num_cpus": section.cpus, "num_gpus": section.gpus, "max_restarts": 0, "max_task_retries": 0}
    runtime_env = Plan.load(plan).runtime_env
    if runtime_env:
        options["runtime_env"] = runtime_env
    if section.memory:
        options["memory"] = section.memory
    if section.resources:
        options["resources"] = dict(section.resources)
    return _kind(role.is_async).options(**options).remote(plan, role.spec.name)


@functools.cache
def _kind(is_async: bool) -> Any:
    """The class of an actor as Ray knows it. Made once: pickling it takes 7 ms."""
    import ray

    remote: Any = ray.remote
    return remote(AsyncInstanceActor) if is_async else remote(concurrency_groups={WATCH: 1, BESIDE: 1})(InstanceActor)


def _kill(*hands: Hand) -> None:
    """End the actors of these, as far as they were made."""
    import ray

    for hand in hands:
        if hand.actor is not None:
            ray.kill(hand.actor)


def _is_no_fault(error: BaseException) -> bool:
    """Whether an instance died of something that is no fault of what it heard: its node is gone, or it was asked to go.

    Ray tells of it in words only. Of any process that died it says that node deaths are to be prevented, so `node` alone
    means nothing.
    """
    text = str(error)
    return any(words in text for words in ("its node has died", "node was terminated", "ray.kill", "preempted"))


def _cause(error: BaseException) -> str:
    """Why, in one line."""
    if type(error).__name__ == "RuntimeEnvSetupError":
        return cause_of_no_environment(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("Worker") or "reason" in line.lower()), None)
    return (told or (lines or [repr(error)])[0])[:500]
