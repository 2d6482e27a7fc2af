"""The instances of a section, with actors that are none: they come, go and die as a test says, with no Ray."""

from __future__ import annotations

import time
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from ensemble import testing
from ensemble.broker import Batch, Outcome
from ensemble.errors import EnsembleError
from ensemble.player import Work
from ensemble.score import load
from ensemble.stage.inbox import Announce, Item, Role
from ensemble.stage.on_ray import crew
from ensemble.stage.on_ray.crew import SCALED, Hand, Instances


class FakeCall:
    """A method of an actor: what it answers comes when the test says."""

    def __init__(self) -> None:
        self.asked: list[Future[Any]] = []

    def options(self, **given: Any) -> FakeCall:
        return self

    def remote(self, *given: Any) -> FakeCall:
        self.asked.append(Future())
        return self

    def future(self) -> Future[Any]:
        return self.asked[-1]


class FakeActor:
    def __init__(self) -> None:
        self.ready, self.hear, self.watch, self.close, self.runs = (FakeCall() for _ in range(5))
        self.is_killed = False

    def comes(self, pid: int) -> None:
        self.ready.future().set_result({"pid": pid})

    def dies(self, why: str = "The actor died unexpectedly before finishing this task.") -> None:
        """Ray fails each call to it that has not come back."""
        for call in (self.ready, self.hear, self.watch, self.close, self.runs):
            for asked in call.asked:
                if not asked.done():
                    asked.set_exception(RuntimeError(why))


class AtOnce(Executor):
    """A thread that is none: what it is to do is done at once."""

    def submit(self, call: Any, /, *given: Any, **named: Any) -> Any:
        call(*given, **named)


class Stand:
    """A section of up to eight instances, and what it told the loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.actors: list[FakeActor] = []
        self.told: list[Item] = []
        monkeypatch.setattr(crew, "_actor", self._actor)
        monkeypatch.setattr(crew, "_kill", self._kill)
        score = load({"ensemble": 1, "name": "s", "players": {"p": {"on": "a.b", "section": {"max": 8}, "timeout": "1s"}}})
        no_loop: Any = None
        self.instances = Instances(Role(score.players["p"]), b"", self.told.append, no_loop, AtOnce())

    def _actor(self, role: Role, plan: bytes) -> FakeActor:
        self.actors.append(FakeActor())
        return self.actors[-1]

    def _kill(self, *hands: Hand) -> None:
        for hand in hands:
            hand.actor.is_killed = True
            hand.actor.dies()

    def scale(self, count: int, now_s: float) -> None:
        self.instances.scale(count)
        self.instances.tend(now_s, lambda: 0)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Stand:
    return Stand(monkeypatch)


def test_an_instance_that_is_let_go_before_it_is_ready_is_no_failure_to_start(place: Stand) -> None:
    for turn in range(2 * crew.STARTS_MOST):
        place.scale(1, now_s=turn)

        place.scale(0, now_s=turn)

    assert [actor.is_killed for actor in place.actors] == [True] * 2 * crew.STARTS_MOST, "none was held back by those before"
    assert not [told for told in place.told if isinstance(told, EnsembleError)]


def test_an_instance_that_was_let_go_does_not_count_when_it_is_ready_all_the_same(place: Stand) -> None:
    place.scale(1, now_s=0)
    actor = place.actors[0]
    actor.dies = lambda why="": None  # type: ignore[method-assign]
    place.scale(0, now_s=1)

    actor.comes(pid=7)

    assert place.instances.count == 0
    assert not [told for told in place.told if isinstance(told, Announce) and told.topic == SCALED]


def test_an_instance_that_dies_while_it_has_nothing_to_hear_is_replaced(place: Stand) -> None:
    place.scale(1, now_s=0)
    place.actors[0].comes(pid=7)
    assert place.instances.pids == [7]

    place.actors[0].dies()
    place.instances.tend(1, lambda: 0)
    place.actors[1].comes(pid=8)

    assert place.instances.pids == [8], "no batch was sent to the dead one"


def test_an_instance_that_finds_no_place_is_told_of_once_and_waited_for(
    place: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(crew, "HUNGRY_S", 3)
    monkeypatch.setattr(crew, "shortage", lambda section: f"it needs {section.cpus:g} CPU")
    place.scale(1, now_s=0)

    for now_s in range(1, 10):
        place.instances.tend(now_s, lambda: 1)
        assert len(caplog.records) == (now_s > 3)

    assert caplog.messages == ["player p: it needs 1 CPU"]
    place.actors[0].comes(pid=7)
    assert place.instances.pids == [7]


def work(*offsets: int) -> Work:
    events = [testing.event("a.b", key="k", offset=offset) for offset in offsets]
    return Work(Batch("p", list(offsets), ["k"] * len(offsets), {}, 0), events, offsets, offsets, {})


def test_a_batch_for_an_instance_that_died_since_there_was_room_comes_back_untried(place: Stand) -> None:
    place.scale(1, now_s=0)
    place.actors[0].comes(pid=7)
    assert place.instances.room()

    place.actors[0].dies()
    place.instances.start(work(5, 6))

    [outcome] = [told for told in place.told if isinstance(told, Outcome)]
    assert list(outcome.skipped) == [(5, "k"), (6, "k")]
    assert not outcome.failures


def lose(place: Stand, why: str) -> Outcome:
    """Have one event heard by an instance that is lost meanwhile; what came of it."""
    place.scale(1, now_s=len(place.actors))
    place.actors[-1].comes(pid=7)
    place.instances.start(work(5))
    place.actors[-1].dies(why)
    return [told for told in place.told if isinstance(told, Outcome)][-1]


def test_an_event_alone_with_an_instance_whose_process_died_is_charged_with_it(place: Stand) -> None:
    assert [failure.offset for failure in lose(place, "The actor died: Worker exit type: SYSTEM_ERROR").failures] == [5]


@pytest.mark.parametrize("why", ["its node has died", "The actor is temporarily unavailable: RpcError"])
def test_an_event_alone_with_an_instance_whose_node_is_lost_is_not(place: Stand, why: str) -> None:
    outcome = lose(place, why)

    assert not outcome.failures
    assert list(outcome.skipped) == [(5, "k")]


def test_an_event_that_is_there_whenever_an_instance_is_lost_is_charged_in_the_end(place: Stand) -> None:
    charged = [len(lose(place, "The actor is temporarily unavailable").failures) for _ in range(2 * crew.SPARED_MOST + 2)]

    assert charged == 2 * [*[0] * crew.SPARED_MOST, 1]


def begin(place: Stand, count: int) -> tuple[FakeActor, float]:
    """One instance that hears so many events; and when it began."""
    place.scale(1, now_s=0)
    place.actors[0].comes(pid=7)
    began_s = time.monotonic()
    place.instances.start(work(*range(count)))
    return place.actors[0], began_s


def test_an_instance_that_owes_an_answer_for_longer_than_one_call_may_take_is_ended_however_many_events_it_has(
    place: Stand,
) -> None:
    actor, began_s = begin(place, count=500)

    ends = []
    for after_s in (1, 2 + crew.GRACE_S - 0.1, 2 + crew.GRACE_S + 0.1):  # asked after 1 s; it may keep silent for one call
        place.instances.tend(began_s + after_s, lambda: 500)
        ends.append(actor.is_killed)

    assert ends == [False, False, True]
    assert len(actor.runs.asked) == 1
    [outcome] = [told for told in place.told if isinstance(told, Outcome)]
    assert (len(outcome.skipped), outcome.failures) == (500, [])


def test_an_instance_that_answers_may_hear_for_as_long_as_all_its_events_may_take(place: Stand) -> None:
    actor, began_s = begin(place, count=500)

    ends = []
    for number in [*range(1, 400), 501 + crew.GRACE_S]:
        place.instances.tend(began_s + number, lambda: 500)
        if not actor.is_killed:
            actor.runs.asked[-1].set_result(None)
        ends.append(actor.is_killed)

    assert ends == [*[False] * 399, True]
