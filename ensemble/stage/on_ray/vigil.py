"""Instances that are late, that hang, or that still hear what the process of the shard before this one gave them.

Owns what they are asked beside what they hear, and how long they may take to answer. What follows from it the crew does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol

from ensemble.stage.inbox import Role
from ensemble.stage.on_ray.actors import beside
from ensemble.stage.on_ray.hand import Flight, Hand
from ensemble.stage.on_ray.roster import Moment

LATE_S = 0.1
"""How long an instance may hear a batch, if that is more than it was to take, before it gets no other behind it."""
PASSED_BY_MOST_S = 1.0
"""How long an instance that another shard has is given nothing, at the most, before it is tried again."""
ASK_S = 0.2
"""How long an instance may hear a batch before it is asked whether it still runs, and how long after that it is asked again;
and how often it is asked whether it still hears what the process of the shard before this one gave it."""
GRACE_S = 2.0
"""How much longer than the timeout of one call an instance may be silent when it is asked, and how much longer than those of
all its events it may take, before it counts as hanging."""
LETTING_GO_S = 5.0
"""How long an instance may go on with what the process of the shard before this one gave it."""


class Crew(Protocol):
    """Who is told what was found. Each is called with the lock of the crew."""

    def died(self, hand: Hand, error: BaseException) -> None:
        """It is dead, or as good as dead."""
        ...

    def give_up(self, hand: Hand) -> None:
        """It is to be ended, and counts as one that hears until it is dead."""
        ...

    def give_back(self, hand: Hand, flight: Flight) -> None:
        """It has not begun this batch, and never will."""
        ...

    def arrive(self) -> None:
        """It hears nothing any more that the process before this one gave it."""
        ...


class Vigil:
    """Looks after the instances of one crew. `sender` is who it is to them."""

    def __init__(
        self, crew: Crew, role: Role, sender: Moment, lock: threading.RLock, porter: Executor, now_s: Callable[[], float]
    ) -> None:
        self._crew, self._role, self._sender = crew, role, sender
        self._lock, self._porter, self._now_s = lock, porter, now_s

    def look_after(self, hand: Hand, now_s: float, *, is_late: bool) -> None:
        """See to one instance. Called with the crew's lock, in the loop's thread."""
        timeout_us = self._role.spec.timeout_us
        if not hand.is_clear:
            self._ask_whether_clear(hand, now_s)
        elif hand.flights:
            if timeout_us is not None:
                self._end_what_hangs(hand, now_s, timeout_us / 1e6)
            if is_late and not self._role.is_async and not hand.is_asked_back and self._role.spec.section.max > 1:
                waiting = list(hand.flights)[1 if hand.is_private else 0 :]
                if waiting:
                    self.ask_back(hand, waiting)

    def _ask_whether_clear(self, hand: Hand, now_s: float) -> None:
        """Have an instance refuse what the process before this one gave it, and see whether it still hears some of that."""
        if hand.asked_s is None:
            hand.asked_s = now_s
        elif now_s - hand.looked_s < ASK_S:
            return
        elif now_s - hand.asked_s > LETTING_GO_S:
            self._crew.give_up(hand)
        hand.looked_s = now_s
        answer = beside(hand.actor.clear, self._role).remote(self._sender).future()
        answer.add_done_callback(partial(self._is_clear_now, hand))

    def _is_clear_now(self, hand: Hand, done: Any) -> None:
        with self._lock:
            if done.exception() is None and done.result():
                hand.is_clear, hand.asked_s = True, None
                self._crew.arrive()

    def _end_what_hangs(self, hand: Hand, now_s: float, timeout_s: float) -> None:
        """Give up an instance that does not even answer that a call took too long. Its event is found as that of a dead one.

        A call that holds the interpreter's lock keeps all of its process silent, and may do so for as long as its timeout.
        Where others have something there too, only the instance knows for how long it has been hearing something from here.
        """
        most_s = GRACE_S + timeout_s * sum(len(flight.work.batch) for flight in hand.flights)
        for_s = now_s - hand.flights[0].began_s if hand.is_private else hand.hears_ours_s
        is_silent = hand.asked_s is not None and now_s - hand.asked_s > timeout_s + GRACE_S
        if is_silent or for_s > most_s:
            self._crew.died(hand, TimeoutError(f"it took longer than its timeout of {timeout_s:g} s, and did not answer"))
        elif hand.asked_s is None and now_s - max(hand.head_s, hand.answered_s) > ASK_S:
            hand.asked_s = now_s
            answer = beside(hand.actor.hears, self._role).remote().future()
            answer.add_done_callback(partial(self._said_what_it_hears, hand, now_s))

    def _said_what_it_hears(self, hand: Hand, asked_s: float, done: Any) -> None:
        if done.exception() is not None:
            return  # it died, and all that it had comes back
        sender, number, for_s = done.result() or (None, 0, 0.0)
        with self._lock:
            hand.asked_s, hand.answered_s = None, asked_s
            is_ours = sender == self._sender and bool(hand.flights) and number == hand.flights[0].number
            hand.hears_ours_s = for_s if is_ours else 0.0

    def ask_back(self, hand: Hand, flights: Sequence[Flight]) -> None:
        """Have an instance give back what it has not begun."""
        hand.is_asked_back = True
        numbers = [flight.number for flight in flights]
        self._porter.submit(self._take_back, hand, numbers)

    def _take_back(self, hand: Hand, numbers: list[int]) -> None:
        answer = beside(hand.actor.take_back, self._role).remote(self._sender, numbers).future()
        answer.add_done_callback(partial(self._came_back_untried, hand))

    def _came_back_untried(self, hand: Hand, done: Any) -> None:
        if done.exception() is not None:
            return  # it died, and all that it had comes back
        numbers = set(done.result())
        with self._lock:
            hand.is_asked_back = False
            untried = [flight for flight in hand.flights if flight.number in numbers]
            for flight in untried:
                self._crew.give_back(hand, flight)
            if untried and not hand.flights:  # what it hears for so long is another shard's
                hand.passed_by_s = min(PASSED_BY_MOST_S, 2 * hand.passed_by_s or LATE_S)
                hand.passed_by_until_s = self._now_s() + hand.passed_by_s
