"""Whatever dies, and whatever letter between shards is lost, late or comes twice: the instances that they share stay in bounds.

    alive <= max
    an event is charged  =>  it was alone with an instance that died
    an event is heard by one instance at a time
    and in the end all is heard, but for what kills
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensemble.broker import Outcome
from tests.effort import some
from tests.stage.on_ray.troupers import DIED, ORPHANED, FakeActor, Stand, work

EVENTS = 12
ATTEMPTS = 2
Event = tuple[int, int]
"""Shard and offset."""


class World(Stand):
    """Shards with events to hear, of which some kill who hears them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shards: int, most: int, killers: set[Event]) -> None:
        self.killers = killers
        self.were_alone: Counter[Event] = Counter()
        self.charged: Counter[Event] = Counter()
        self.done: set[Event] = set()
        self.queues: list[list[int]] = [list(range(EVENTS)) for _ in range(shards)]
        self.unanswered: list[tuple[FakeActor, int]] = []
        self.most = most
        super().__init__(monkeypatch, shards, max=most, idle="5s", cooldown="1s")

    def act(self, kind: str, n: int) -> None:
        getattr(self, f"do_{kind}")(n)
        assert len(self.alive()) <= self.most, "there are never more instances than there may be"
        hearing = Counter(event for actor in self.actors for event in actor.hearing())
        assert all(count == 1 for count in hearing.values()), f"heard twice at a time: {hearing}"

    def actor(self, n: int) -> FakeActor | None:
        alive = self.alive()
        return alive[n % len(alive)] if alive else None

    # What may happen

    def do_turn(self, n: int) -> None:
        """A turn of a shard's loop."""
        shard = n % len(self.queues)
        queue, section = self.queues[shard], self.sections[shard]
        self.hear_of(shard)
        while queue and (room := section.room()):
            count = min(room, 1 + n % 4)
            taken, queue[:] = queue[:count], queue[count:]
            section.start(work(*taken))
            self.hear_of(shard)
        flying = EVENTS - len(queue) - sum(each[0] == shard for each in self.done)
        section.tend(self.now_s, lambda: len(queue) + flying)

    def hear_of(self, shard: int) -> None:
        told, self.told[shard][:] = list(self.told[shard]), []
        back: list[int] = []
        for outcome in told:
            assert not isinstance(outcome, BaseException), outcome
            if not isinstance(outcome, Outcome):
                continue
            self.done.update((shard, offset) for offset in outcome.heard)
            back += [offset for offset, _ in outcome.skipped]
            for failure in outcome.failures:
                event = (shard, failure.offset)
                self.charged[event] += 1
                assert self.charged[event] <= self.were_alone[event], f"{event} was charged, and others were there"
                if self.charged[event] >= ATTEMPTS:
                    self.done.add(event)
                else:
                    back.append(failure.offset)
        self.queues[shard][:0] = sorted(back)

    def do_wait(self, n: int) -> None:
        self.now_s += (0.3, 1.1, 6.0)[n % 3]

    def do_bring(self, n: int) -> None:
        if self.letters:
            shard, told = self.letters.pop(n % len(self.letters))
            self.crews[shard].hear(told)

    def do_lose(self, n: int) -> None:
        if self.letters:
            self.letters.pop(n % len(self.letters))

    def do_double(self, n: int) -> None:
        if self.letters:
            self.letters.append(self.letters[n % len(self.letters)])

    def do_come(self, n: int) -> None:
        starting = [actor for actor in self.alive() if not actor.ready.future().done()]
        if starting:
            starting[n % len(starting)].comes(pid=n)

    def do_hear(self, n: int) -> None:
        """An instance begins to hear, or ends; for some events its process ends."""
        actor = self.actor(n)
        if actor is None or not actor.ready.future().done():
            return
        if not actor.is_hearing:
            actor.begins()
        elif set(actor.hearing()) & self.killers:
            self.die(actor, DIED)
        else:
            actor.ends()

    def do_fall_silent(self, n: int) -> None:
        """An instance ends a batch and begins the next, and its answer is still on its way."""
        actor = self.actor(n)
        if actor is not None and actor.is_hearing and not set(actor.hearing()) & self.killers:
            self.unanswered.append((actor, actor.at))
            actor.at, actor.is_hearing = actor.at + 1, False
            actor.begins()

    def do_answer(self, n: int) -> None:
        """Answers that were on their way arrive."""
        for actor, at in self.unanswered:
            if not actor.hear.asked[at].done():
                actor.answers(at)
        self.unanswered.clear()

    def do_kill(self, n: int) -> None:
        """The process of an instance that is ready is killed: one that can't start several times in a row ends the band."""
        actor = self.actor(n)
        if actor is not None and actor.ready.future().done():
            self.die(actor, DIED)

    def die(self, actor: FakeActor, why: str) -> None:
        there = actor.flying()
        if len(there) == 1:
            self.were_alone[there[0]] += 1
        actor.dies(why)

    def do_restart(self, n: int) -> None:
        """The process of a shard dies, and Ray makes it anew; with the leader die the instances."""
        shard = n % len(self.queues)
        for actor in self.alive() if shard == 0 else ():
            actor.dies(ORPHANED)
        self.open(shard)
        self.queues[shard][:] = [offset for offset in range(EVENTS) if (shard, offset) not in self.done]

    def do_scale(self, n: int) -> None:
        self.sections[0].scale((None, *range(1, self.most + 1))[n % (self.most + 1)])


ACTIONS = ["turn"] * 6 + ["bring"] * 9 + ["hear"] * 6 + ["come"] * 2
ACTIONS += ["wait", "lose", "double", "kill", "restart", "fall_silent", "fall_silent", "answer", "scale"]


@settings(max_examples=some(200), deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shards=st.integers(1, 3), most=st.integers(1, 3), length=st.integers(0, 400), seed=st.integers(0, 1 << 32))
def test_whatever_dies_in_whatever_order(
    monkeypatch: pytest.MonkeyPatch, shards: int, most: int, length: int, seed: int
) -> None:
    chance = Random(seed)
    everything = {(shard, offset) for shard in range(shards) for offset in range(EVENTS)}
    killers = set(chance.sample(sorted(everything), chance.randrange(4)))
    with monkeypatch.context() as patched:
        world = World(patched, shards, most, killers)
        for _ in range(length):
            world.act(chance.choice(ACTIONS), chance.randrange(12))
        world.sections[0].scale(None)
        for _ in range(400):  # nothing more goes wrong from here on
            if world.done == everything:
                break
            for kind in ("turn", "bring", "bring", "bring", "bring", "come", "answer", "hear", "hear"):
                for n in range(max(shards, most)):
                    world.act(kind, 0 if kind == "bring" else n)
            world.now_s += 0.3
        assert world.done == everything
        assert {event for event, count in world.charged.items() if count >= ATTEMPTS} >= killers
