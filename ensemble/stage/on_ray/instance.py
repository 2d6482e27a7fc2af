"""One instance of a player, in a process of its own.

Owns hearing a batch that came over the wire, and ending a call that takes too long. It keeps nothing: all that it is made of
is in the plan, all that came of a batch is in its answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from ensemble.broker.words import Outcome
from ensemble.player import GivenUp, Hearing, Instance, Player, Work
from ensemble.stage.on_ray import precedence
from ensemble.stage.on_ray.claims import Claims, bring, is_elsewhere
from ensemble.stage.on_ray.memory import Bound
from ensemble.stage.on_ray.plan import Plan, check_versions, player_of
from ensemble.stage.on_ray.wire import Shared, pack_outcome, unpack_work
from ensemble.stage.workers import Watch, lanes_of, timed

Sender = tuple[int, int]
"""A shard, and the epoch of its log."""

PATIENCE_S = 0.05
"""How often a call that is limited in time is looked at, at the least."""


class InstanceActor:
    """An instance of a player that is no coroutine: batches one after the other.

    `take_back`, `clear` and `hears` are called beside them, in a group of their own: all else runs on one and the same thread.
    A *sender* is a shard and the epoch of its log: a shard that was made anew has a new one, and wants to hear no more of what
    the process before it sent.
    """

    def __init__(self, plan: bytes, name: str) -> None:
        self._plan = Plan.load(plan)
        self._name = name
        self._instance: Instance | None = None
        self._timeout_s: float | None = None
        self._claims = Claims(self._plan.url, self._plan.called)
        self._memory = Bound()
        self._turn = threading.Lock()
        self._epochs: dict[int, int] = {}
        self._begun: dict[Sender, int] = {}
        self._taken_back: set[tuple[Sender, int]] = set()
        self._now: tuple[Sender, int, float] | None = None
        """Which batch is being heard, and since when."""

    def ready(self) -> dict[str, Any]:
        """Build the instance; where it runs comes back. PlayerError if it can't be built there."""
        check_versions(self._plan, "the cluster")
        player = player_of(self._plan, self._name)
        _log_by_player(player)
        self._timeout_s = None if player.spec.timeout_us is None else player.spec.timeout_us / 1e6
        self._instance = player.build()
        precedence.take(is_shard=False)
        return {"pid": os.getpid()}

    def watch(self) -> None:
        """Never returns: who waits for it learns when this process is gone."""
        threading.Event().wait()

    def hear(self, batch: bytes, sender: Sender, number: int, *along: Shared) -> bytes:
        """The outcome of a batch; nothing if it was taken back. A sender numbers its batches as it sends them."""
        assert self._instance is not None, "an instance is built before it hears"
        with self._turn:
            if (sender, number) in self._taken_back or sender[1] < self._epochs.get(sender[0], 0):
                self._taken_back.discard((sender, number))
                return b""
            self._begun[sender] = number
            self._now = sender, number, time.monotonic()
        try:
            work = unpack_work(batch, along, self._claims.of(sender[0]))
            self._memory.set()
            if self._timeout_s is None:
                outcome, is_spent = timed(self._instance.hear, work), False
            else:
                outcome, is_spent = self._hear_in_time(self._instance, work, self._timeout_s)
            return pack_outcome(outcome, work, is_spent=is_spent or _ran_out_of_memory(outcome))
        finally:
            self._now = None

    def _hear_in_time(self, instance: Instance, work: Work, timeout_s: float) -> tuple[Outcome, bool]:
        """Hear on a thread. If a call takes too long it fails, the rest of the batch comes back, and the instance is spent.

        A call about several events is made again for halves of them, by an instance that is not stuck.
        """
        watch = Watch()
        hearing = Hearing(instance, work, watch.guard(instance.call))
        hear: Callable[[], Outcome] = hearing.hear
        is_spent = False
        while True:
            outcome = self._in_time(hear, watch, timeout_s)
            if outcome is not None:
                return outcome, is_spent
            is_spent = True
            error = TimeoutError(f"player {self._name} took longer than its timeout of {timeout_s:g} s")
            if not hearing.give_up(error):
                return hearing.outcome(work.batch.keys, len(work.batch)), True
            watch = Watch()
            self._instance = instance.player.build()
            hear = partial(hearing.go_on, watch.guard(self._instance.call))

    def _in_time(self, hear: Callable[[], Outcome], watch: Watch, timeout_s: float) -> Outcome | None:
        """What comes of hearing on a thread of its own; None if a call took too long."""
        outcomes: list[Outcome] = []
        errors: list[BaseException] = []
        is_done = threading.Event()

        def run() -> None:
            began_s = time.perf_counter()
            try:
                outcome = hear()
                outcome.took_s = time.perf_counter() - began_s
                outcomes.append(outcome)
            except GivenUp:
                pass
            except BaseException as error:
                errors.append(error)
            finally:
                is_done.set()

        threading.Thread(target=run, name=f"ensemble-{self._name}", daemon=True).start()
        while not is_done.wait(min(timeout_s, PATIENCE_S)):
            if watch.give_up(timeout_s, time.monotonic()):
                return None
        if errors:
            raise errors[0]
        return outcomes[0]

    def take_back(self, sender: Sender, numbers: list[int]) -> list[int]:
        """Those of these batches that have not begun, and now never will."""
        with self._turn:
            free = [number for number in numbers if number > self._begun.get(sender, -1)]
            self._taken_back.update((sender, number) for number in free)
        return free

    def clear(self, sender: Sender) -> bool:
        """Refuse what the processes before this sender sent; whether none of it is being heard."""
        shard, epoch = sender
        with self._turn:
            self._epochs[shard] = max(epoch, self._epochs.get(shard, 0))
            return self._now is None or self._now[0][0] != shard or self._now[0][1] >= epoch

    def hears(self) -> tuple[Sender, int, float] | None:
        """Which batch is being heard, and for how long already. That it answers at all says that this process can run."""
        now = self._now
        return None if now is None else (now[0], now[1], time.monotonic() - now[2])

    def close(self) -> None:
        """Let it free what it holds."""
        precedence.give_back()
        if self._instance is not None:
            self._instance.close()


class AsyncInstanceActor:
    """An instance of an asynchronous player: many events wait at once, those of one lane one after the other."""

    def __init__(self, plan: bytes, name: str) -> None:
        self._plan = Plan.load(plan)
        self._name = name
        self._instance: Instance | None = None
        self._claims = Claims(self._plan.url, self._plan.called)
        self._epochs: dict[int, int] = {}
        self._hearings: dict[Sender, set[asyncio.Task[Outcome]]] = {}
        self._memory = Bound()

    async def ready(self) -> dict[str, Any]:
        check_versions(self._plan, "the cluster")
        player = player_of(self._plan, self._name)
        _log_by_player(player)
        self._instance = player.build()
        precedence.take(is_shard=False)
        return {"pid": os.getpid()}

    async def watch(self) -> None:
        """As `InstanceActor.watch`."""
        await asyncio.Event().wait()

    async def hear(self, batch: bytes, sender: Sender, number: int, *along: Shared) -> AsyncIterator[bytes]:
        """The outcomes of a batch's lanes, each as soon as it is there."""
        instance = self._instance
        assert instance is not None, "an instance is built before it hears"
        if sender[1] < self._epochs.get(sender[0], 0):
            return
        work = unpack_work(batch, along, self._claims.of(sender[0]))
        self._memory.set()
        timeout_us = instance.player.spec.timeout_us
        timeout_s = None if timeout_us is None else timeout_us / 1e6

        async def hear_lane(lane: str, rows: list[int]) -> Outcome:
            large = [row for row in rows if is_elsewhere(work.events[row])]
            if large:  # to look at it would hold up all the others
                await asyncio.to_thread(bring, work, large)
            hearing = Hearing(instance, work)
            await hearing.later_one_by_one(rows, timeout_s)
            return hearing.outcome([lane], len(rows))

        lanes = lanes_of(work, instance.player.spec.order)
        hearings = [asyncio.create_task(hear_lane(lane, rows)) for lane, rows in lanes]  # begun in the order of the log
        running = self._hearings.setdefault(sender, set())
        running.update(hearings)
        try:
            for next_done in asyncio.as_completed(hearings):
                outcome = await next_done
                yield pack_outcome(outcome, work, is_spent=_ran_out_of_memory(outcome))
        finally:
            running.difference_update(hearings)

    async def clear(self, sender: Sender) -> bool:
        """As `InstanceActor.clear`: what is still being heard is cancelled."""
        shard, epoch = sender
        self._epochs[shard] = max(epoch, self._epochs.get(shard, 0))
        old = [task for (s, e), tasks in self._hearings.items() if s == shard and e < epoch for task in tasks]
        for task in old:
            task.cancel()
        await asyncio.gather(*old, return_exceptions=True)
        return True

    async def hears(self) -> None:
        """That it answers at all says that its event loop does not hang; a call that takes too long it ends itself."""

    async def close(self) -> None:
        precedence.give_back()
        if self._instance is not None:
            self._instance.close()


def _ran_out_of_memory(outcome: Outcome) -> bool:
    """Whether the process may be left with what it took, so that another had better hear what follows."""
    return any("MemoryError" in failure.error.partition(":")[0] for failure in outcome.failures)


class ByPlayer(logging.Formatter):
    """A line of a player's log, with who said it and about which event."""

    def __init__(self, name: str) -> None:
        super().__init__(f"%(levelname)s player {name}, instance {os.getpid()}%(about)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        event_id = getattr(record, "event_id", "")
        record.about = f", event {event_id}" if event_id else ""
        return super().format(record)


def _log_by_player(player: Player) -> None:
    """Let the player's own log lines go to the driver, with who said them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ByPlayer(player.name))
    player.log.addHandler(handler)
    player.log.propagate = False
    if player.log.level == logging.NOTSET:
        player.log.setLevel(logging.INFO)
