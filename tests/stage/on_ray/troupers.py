"""A band's crews with actors that are none, in one process: instances come, go and die as a test says, with no Ray."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from ensemble import testing
from ensemble.broker import Batch, Outcome
from ensemble.player import Work
from ensemble.score import load
from ensemble.stage.inbox import Item, Role
from ensemble.stage.on_ray import actors, troupe
from ensemble.stage.on_ray.crew import Instances
from ensemble.stage.on_ray.hiring import RayCrew
from ensemble.stage.on_ray.peers import Peers
from ensemble.stage.on_ray.plan import Plan
from ensemble.stage.on_ray.wire import pack_outcome, unpack_work

DIED = "The actor died unexpectedly before finishing this task."
KILLED = "The actor is dead because it was killed by `ray.kill`."
ORPHANED = "The actor is dead because its owner has died."


class FakeCall:
    """A method of an actor: what it answers comes when the test says, unless `at_once` answers."""

    def __init__(self, actor: FakeActor, at_once: Callable[..., Any] | None = None) -> None:
        self._actor, self._at_once = actor, at_once
        self.asked: list[Future[Any]] = []
        self.given: list[tuple[Any, ...]] = []

    def options(self, **given: Any) -> FakeCall:
        return self

    def remote(self, *given: Any) -> FakeAnswer:
        answer: Future[Any] = Future()
        self.asked.append(answer)
        self.given.append(given)
        if self._actor.is_dead:
            answer.set_exception(RuntimeError(self._actor.died_of))
        elif self._at_once is not None:
            answer.set_result(self._at_once(*given))
        return FakeAnswer(answer)

    def future(self) -> Future[Any]:
        return self.asked[-1]


class FakeAnswer:
    def __init__(self, answer: Future[Any]) -> None:
        self._answer = answer

    def future(self) -> Future[Any]:
        return self._answer


class FakeActor:
    """An instance: it hears what it was sent, one batch after the other, when the test says."""

    def __init__(self, mark: bytes = b"") -> None:
        self.plan = mark
        self.is_dead = self.is_killed = False
        self.died_of = ""
        self.epochs: dict[int, int] = {}
        self.taken_back: set[tuple[Any, int]] = set()
        self.at = 0
        """The number of the batch that it hears, or hears next, among all that it was sent."""
        self.is_hearing = False
        self.ready, self.watch = FakeCall(self), FakeCall(self)
        self.hear = FakeCall(self)
        self.close = FakeCall(self, lambda: None)
        self.clear = FakeCall(self, self._clear)
        self.take_back = FakeCall(self, self._take_back)
        self.hears = FakeCall(self, lambda: (*self.hear.given[self.at][1:], 0.0) if self.is_hearing else None)

    def comes(self, pid: int) -> None:
        self.ready.future().set_result({"pid": pid})

    def dies(self, why: str = DIED) -> None:
        """Ray fails each call to it that has not come back."""
        self.is_dead, self.died_of = True, why
        for call in (self.ready, self.hear, self.watch, self.close, self.clear, self.take_back, self.hears):
            for asked in call.asked:
                if not asked.done():
                    asked.set_exception(RuntimeError(why))

    def flying(self) -> list[tuple[int, int]]:
        """Shard and offset of each event that is with it, as far as anybody can know."""
        there = []
        for at, ((data, sender, number), asked) in enumerate(zip(self.hear.given, self.hear.asked, strict=True)):
            if not asked.done() and (self._takes(sender, number) or (self.is_hearing and at == self.at)):
                there += [(sender[0], offset) for offset in unpack_work(data).batch.offsets]
        return there

    def hearing(self) -> list[tuple[int, int]]:
        """Shard and offset of each event of the batch that it hears."""
        if self.is_dead or not self.is_hearing:
            return []
        data, sender, _ = self.hear.given[self.at]
        return [(sender[0], offset) for offset in unpack_work(data).batch.offsets]

    def begins(self) -> list[tuple[int, int]]:
        """Take the next batch; the shard and offset of each of its events."""
        while self.at < len(self.hear.given):
            _, sender, number = self.hear.given[self.at]
            if self._takes(sender, number):
                self.is_hearing = True
                return self.hearing()
            self.hear.asked[self.at].set_result(b"")
            self.at += 1
        return []

    def _takes(self, sender: tuple[int, int], number: int) -> bool:
        return (sender, number) not in self.taken_back and sender[1] >= self.epochs.get(sender[0], 0)

    def ends(self) -> None:
        """Answer that all of the batch was heard."""
        self.at, self.is_hearing = self.at + 1, False
        self.answers(self.at - 1)

    def answers(self, at: int) -> None:
        work = unpack_work(self.hear.given[at][0])
        batch = work.batch
        heard = Outcome(batch.section, len(batch), batch.keys, batch.offsets, None, batch.began_us, took_s=0.001 * len(batch))
        self.hear.asked[at].set_result(pack_outcome(heard, work))

    def _clear(self, sender: tuple[int, int]) -> bool:
        self.epochs[sender[0]] = max(sender[1], self.epochs.get(sender[0], 0))
        now = self.hear.given[self.at][1] if self.is_hearing else (-1, 0)
        return bool(now[0] != sender[0] or now[1] >= sender[1])

    def _take_back(self, sender: tuple[int, int], numbers: list[int]) -> list[int]:
        later = self.hear.given[self.at + self.is_hearing :]
        free = [number for _, each, number in later if each == sender and number in numbers]
        self.taken_back.update((sender, number) for number in free)
        return free


class AtOnce(Executor):
    """A thread that is none: what it is to do is done at once."""

    def submit(self, call: Any, /, *given: Any, **named: Any) -> Any:
        done: Future[Any] = Future()
        done.set_result(call(*given, **named))
        return done


class Post(Peers):
    """What the crews tell each other: it stays here until the test brings it."""

    def __init__(self, number: int, shards: int, letters: list[tuple[int, Any]]) -> None:
        super().__init__([str(shard) for shard in range(shards)], number)
        self._letters = letters

    def call(self, number: int, verb: str, *given: Any) -> Any:
        assert verb == "crew"
        self._letters.append((number, given[0]))


class Stand:
    """A band of a section of one player, with the crew of each shard."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shards: int = 1, timeout: str | None = None, **section: Any) -> None:
        self.now_s = 1000.0
        self.actors: list[FakeActor] = []
        self.letters: list[tuple[int, Any]] = []
        self.told: list[list[Item]] = [[] for _ in range(shards)]
        monkeypatch.setattr(actors, "make", self._make)
        monkeypatch.setattr(actors, "end", self._end)
        monkeypatch.setattr(troupe, "shortage", lambda section: f"it needs {section.cpus:g} CPU")
        player: dict[str, Any] = {"on": "a.b", "section": {"max": 8, **section}}
        if timeout is not None:
            player["timeout"] = timeout
        document = {"ensemble": 1, "name": "s", "players": {"p": player}}
        self.role, self.plan = Role(load(document).players["p"]), Plan(document, "memory:").dump()
        self.epochs = [0] * shards
        self.crews: list[RayCrew] = []
        self.sections: list[Instances] = []
        for shard in range(shards):
            self.open(shard)

    def open(self, shard: int) -> None:
        """Open a shard, the first time or anew: in a process that knows of nothing."""
        self.epochs[shard] += 1
        no_loop: Any = None
        crew = RayCrew(self.plan, no_loop, Post(shard, len(self.epochs), self.letters), lambda: self.now_s)
        crew._porter, crew._crier, crew.epoch = AtOnce(), AtOnce(), self.epochs[shard]  # type: ignore[assignment]
        self.told[shard] = []
        instances: Any = crew.hire(self.role, self.told[shard].append, lambda outcome: None)
        self.crews[shard : shard + 1], self.sections[shard : shard + 1] = [crew], [instances]

    def _make(self, role: Role, plan: bytes) -> FakeActor:
        self.actors.append(FakeActor(plan))
        return self.actors[-1]

    def _end(self, *ended: FakeActor | None) -> None:
        for actor in ended:
            if actor is not None:
                actor.is_killed = True
                actor.dies(KILLED)

    def alive(self) -> list[FakeActor]:
        return [actor for actor in self.actors if not actor.is_dead]

    def tend(self, *lags: int, after_s: float = 0.0) -> None:
        """Let some time pass, have all shards tend with so much to do, and bring what they tell each other until they rest."""
        self.now_s += after_s
        for _ in range(6):
            for shard, section in enumerate(self.sections):
                lag = lags[shard] if shard < len(lags) else 0
                section.tend(self.now_s, lambda lag=lag: lag)  # type: ignore[misc]
            self.bring()

    def bring(self) -> None:
        while self.letters:
            shard, told = self.letters.pop(0)
            self.crews[shard].hear(told)


def work(*offsets: int) -> Work:
    events = [testing.event("a.b", key=f"k{offset}", offset=offset) for offset in offsets]
    return Work(Batch("p", list(offsets), [event.key for event in events], {}, 0), events, offsets, offsets, {})
