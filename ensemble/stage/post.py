"""The post between shards: what is durable in the outbox of one is brought to the others, in order, until they have it.

Owns what is on its way. How it travels is given to it (`carry`); it knows no Ray. A parcel may go twice, when an answer was
lost: the other shard knows its number. The loop calls it, and hears through its inbox up to where parcels have arrived.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ensemble.broker.outbox import Outbox, Parcel
from ensemble.errors import EnsembleError

BYTES_MOST = 32 << 20
"""How much may be on its way before the sections here wait."""
BAG_BYTES = 1 << 20
"""How much goes in one call, unless a parcel alone is larger."""
PAUSE_S = 0.2
"""How long after a call that failed it is tried again."""
PATIENCE_S = 10.0
"""For how long a shard may take nothing before that is said: it may be being started, or made anew."""

Carry = Callable[[int, int, Sequence[Parcel]], int]
"""Bring parcels, from this number on, to a shard, and say the number of the first that it does not have. Blocks."""

log = logging.getLogger("ensemble.stage")


class Arrived(msgspec.Struct):
    """A shard has all parcels before a number."""

    shard: int
    first: int


class Post:
    """What goes out of one shard. A thread for each other shard to which something goes."""

    def __init__(self, carry: Carry, post: Callable[[Arrived], None]) -> None:
        self._carry, self._post = carry, post
        self._routes: dict[int, Route] = {}
        self._is_closed = False

    def begin(self, outboxes: Mapping[int, Outbox]) -> None:
        """Send on what the log says is on its way."""
        for shard, box in outboxes.items():
            for number in sorted(box.parcels):
                self.send(shard, number, box.parcels[number])

    def send(self, shard: int, number: int, parcel: Parcel) -> None:
        """Bring a parcel there; it must be durable."""
        route = self._routes.get(shard)
        if route is None:
            route = self._routes[shard] = Route(shard, self._carry, self._post)
        route.send(number, parcel)

    @property
    def is_full(self) -> bool:
        """Whether so much is on its way that there should not be more."""
        return any(route.size > BYTES_MOST for route in self._routes.values())

    @property
    def is_empty(self) -> bool:
        """Whether all has arrived, and the loop was told."""
        return not any(route.waiting for route in self._routes.values())

    def told(self, arrived: Arrived) -> None:
        """The loop knows it now."""
        self._routes[arrived.shard].told(arrived.first)

    def close(self) -> None:
        """Bring nothing more. What has not arrived is in the log."""
        for route in self._routes.values():
            route.close()


class Route:
    """The way to one shard, in order: one call at a time, as many parcels as there are."""

    def __init__(self, shard: int, carry: Carry, post: Callable[[Arrived], None]) -> None:
        self.shard = shard
        self.size = 0
        """Bytes of parcels of which the loop does not know that they have arrived."""
        self._carry, self._post = carry, post
        self._parcels: deque[tuple[int, Parcel, int]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"ensemble-post-{shard}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._parcels)

    def send(self, number: int, parcel: Parcel) -> None:
        with self._changed:
            size = parcel.size
            self.size += size
            self._parcels.append((number, parcel, size))
            self._changed.notify()

    def told(self, first: int) -> None:
        with self._changed:
            while self._parcels and self._parcels[0][0] < first:
                self.size -= self._parcels.popleft()[2]

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _run(self) -> None:
        at, complaint, since_s = 0, "", 0.0
        while True:
            with self._changed:
                while not self._is_closed and not (self._parcels and self._parcels[-1][0] >= at):
                    self._changed.wait()
                if self._is_closed:
                    return
                at = max(at, self._parcels[0][0])
                bag = self._bag(at)
            try:
                first = self._carry(self.shard, at, bag)
            except EnsembleError as error:
                since_s = since_s or time.monotonic()
                if not self._is_closed and time.monotonic() > since_s + PATIENCE_S and str(error) != complaint:
                    complaint = str(error)
                    log.warning("shard %s does not take what is sent to it, it is sent again: %s", self.shard, error)
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed, PAUSE_S)
                continue
            at, complaint, since_s = first, "", 0.0
            self._post(Arrived(self.shard, first))

    def _bag(self, at: int) -> list[Parcel]:
        """The parcels from a number on, as many as one call carries."""
        bag: list[Parcel] = []
        size = 0
        for number, parcel, bytes_ in self._parcels:
            if number < at:
                continue
            size += bytes_
            if bag and size > BAG_BYTES:
                break
            bag.append(parcel)
        return bag
